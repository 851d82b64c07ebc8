//! Who owns what is made: set-group-id directories; and who may remove it: sticky directories.

use rustix::process::geteuid;

use crate::harness::*;

cases! {
    Anyone: a_set_group_id_directory_passes_the_bit_on, a_sticky_directory_of_ones_own;
    Others: new_files_belong_to_their_maker, a_set_group_id_directory_passes_its_group_on,
        a_sticky_directory_protects_from_others, a_sticky_directory_and_rename, set_group_id_on_a_new_file,
        private_directories_keep_others_out, a_hard_link_of_a_strangers_file, effective_and_real_ids,
        supplementary_groups;
}

const ALICE: u32 = 12_345;
const BOB: u32 = 23_456;

fn a_set_group_id_directory_passes_the_bit_on() {
    mkdir("d", 0o755).unwrap();
    see!(chmod("d", 0o2755));
    see!(mkdir("d/sub", 0o755));
    see!(facts("d/sub"));
    make("d/f", "");
    see!(facts("d/f"));
    symlink("t", "d/l").unwrap();
    see!(facts("d/l"));
    see!(mkdir("d/sub/sub", 0o700));
    see!(facts("d/sub/sub"));
    see!(mknod("d/fifo", libc::S_IFIFO | 0o644, 0));
    see!(facts("d/fifo"));
}

fn a_sticky_directory_of_ones_own() {
    mkdir("d", 0o755).unwrap();
    see!(chmod("d", 0o1777));
    make("d/f", "");
    see!(rename("d/f", "d/g"));
    see!(unlink("d/g"));
    see!(rmdir("d"));
}

fn new_files_belong_to_their_maker() {
    chmod(".", 0o777).unwrap();
    as_other(ALICE, || {
        make("f", "");
        mkdir("d", 0o755).unwrap();
        symlink("t", "l").unwrap();
        mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    });
    for name in ["f", "d", "l", "fifo"] {
        see!(name, facts(name));
    }
}

fn a_set_group_id_directory_passes_its_group_on() {
    mkdir("d", 0o755).unwrap();
    see!(chown("d", None, Some(77)));
    see!(chmod("d", 0o2777));
    as_other(ALICE, || {
        make("d/f", "");
        mkdir("d/sub", 0o755).unwrap();
        symlink("t", "d/l").unwrap();
        make("d/sub/f", "");
    });
    for name in ["d/f", "d/sub", "d/l", "d/sub/f"] {
        see!(name, facts(name));
    }
}

fn set_group_id_on_a_new_file() {
    mkdir("d", 0o755).unwrap();
    chown("d", None, Some(77)).unwrap();
    chmod("d", 0o2777).unwrap();
    as_other(ALICE, || {
        // With group execute it would give away the group's rights: taken off.
        for mode in [0o2755, 0o2644, 0o6755, 0o2710, 0o4755] {
            let (file, node, dir) = (
                format!("d/f{mode:o}"),
                format!("d/n{mode:o}"),
                format!("d/d{mode:o}"),
            );
            see!(mode, open(&*file, O::CREATE | O::WRONLY, mode)).unwrap();
            see!(mode, mknod(&*node, libc::S_IFREG | mode, 0));
            see!(mode, mkdir(&*dir, mode));
            see!(mode, (mode_of(&*file), mode_of(&*node), mode_of(&*dir)));
        }
    });
}

/// `d` of root's, sticky, with a file and directories of Alice's in it.
fn sticky_scene() {
    mkdir("d", 0o755).unwrap();
    chmod("d", 0o1777).unwrap();
    as_other(ALICE, || {
        make("d/alice", "hers");
        chmod("d/alice", 0o666).unwrap();
        mkdir("d/alice.d", 0o777).unwrap();
    });
}

fn a_sticky_directory_protects_from_others() {
    sticky_scene();
    as_other(BOB, || {
        see!(unlink("d/alice"));
        see!(rmdir("d/alice.d"));
        make("d/bob", "his");
        see!(unlink("d/bob"));
        see!(open("d/alice", O::RDWR, 0).err());
    });
    as_other(ALICE, || {
        see!(unlink("d/alice"));
        see!(rmdir("d/alice.d"));
    });
    // The owner of the directory may.
    mkdir("e", 0o755).unwrap();
    chmod("e", 0o1777).unwrap();
    chown("e", Some(BOB), None).unwrap();
    as_other(ALICE, || make("e/alice", ""));
    as_other(BOB, || {
        see!(unlink("e/alice"));
    });
    see!(names("d"));
}

fn a_sticky_directory_and_rename() {
    sticky_scene();
    mkdir("open", 0o755).unwrap();
    chmod("open", 0o777).unwrap();
    as_other(BOB, || {
        see!(rename("d/alice", "d/bob"));
        see!(rename("d/alice", "open/bob"));
        make("open/bob", "");
        see!(rename("open/bob", "d/alice"));
        see!(rename_with("open/bob", "d/alice", Rename::EXCHANGE));
        see!(rename("open/bob", "d/bob"));
        see!(rename("d/bob", "d/bob2"));
        see!(rename("d/alice.d", "open/alice.d"));
    });
    as_other(ALICE, || {
        see!(rename("d/alice", "d/alice2"));
        see!(rename("d/alice2", "d/bob2"));
        see!(rename("d/alice2", "open/alice"));
        see!(rename("d/alice.d", "open/alice.d"));
    });
    see!(names("d"));
    see!(names("open"));
}

fn private_directories_keep_others_out() {
    mkdir("d", 0o700).unwrap();
    make("d/f", "secret");
    chmod("d/f", 0o666).unwrap();
    see!(contents("d/f"));
    mkdir("list", 0o711).unwrap();
    make("list/f", "");
    as_other(ALICE, || {
        see!(contents("d/f"));
        see!(names("d"));
        see!(facts("d/f"));
        see!(facts("d/none"));
        see!(facts("d"));
        see!(chdir("d"));
        see!(names("list"));
        see!(facts("list/f"));
        see!(open("list/new", O::CREATE | O::RDWR, 0o644).err());
        see!(chmod("list/f", 0o777));
        see!(truncate("list/f", 0));
    });
}

/// `protected_hardlinks` decides, whatever it is on this machine.
fn a_hard_link_of_a_strangers_file() {
    chmod(".", 0o777).unwrap();
    make("f", "");
    make("writable", "");
    chmod("writable", 0o666).unwrap();
    as_other(ALICE, || {
        see!(link("f", "g"));
        see!(link("writable", "h"));
    });
    see!(facts("f"));
}

fn effective_and_real_ids() {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    make("f", "");
    chmod("f", 0o600).unwrap();
    in_child(|| {
        // SAFETY: a number; one thread.
        let became = unsafe { libc::setresuid(ALICE, u32::MAX, u32::MAX) };
        assert_eq!(became, 0);
        see!(geteuid().is_root());
        // access(2) asks for the real user, open(2) for the effective one.
        see!(access("f", Access::READ_OK));
        see!(accessat(CWD, "f", Access::READ_OK, AtFlags::EACCESS));
        see!(open("f", O::RDONLY, 0).err());
    });
    in_child(|| {
        // SAFETY: as above.
        let became = unsafe { libc::setresuid(u32::MAX, ALICE, u32::MAX) };
        assert_eq!(became, 0);
        see!(access("f", Access::READ_OK));
        see!(accessat(CWD, "f", Access::READ_OK, AtFlags::EACCESS));
        see!(open("f", O::RDONLY, 0).err());
    });
}

fn supplementary_groups() {
    chmod(".", 0o777).unwrap();
    make("f", "group content");
    chown("f", Some(0), Some(77)).unwrap();
    chmod("f", 0o2670).unwrap();
    let as_member = |body: &dyn Fn()| {
        in_child(|| {
            // SAFETY: plain system calls with numbers; one thread.
            let became = unsafe {
                libc::setgroups(1, &77) == 0
                    && libc::setresgid(ALICE, ALICE, ALICE) == 0
                    && libc::setresuid(ALICE, ALICE, ALICE) == 0
            };
            assert!(became);
            body();
        });
    };
    as_member(&|| {
        see!(contents("f"));
        see!(open("f", O::RDWR, 0).err());
        see!(chown("f", None, Some(77)));
        make("own", "");
        see!(chown("own", None, Some(77)));
        see!(chmod("own", 0o2755));
        see!(facts("own"));
        see!(chown("own", None, Some(78)));
    });
    // Without group execute, set-group-id stays for a member who writes.
    chmod("f", 0o2660).unwrap();
    as_member(&|| {
        see!(write(&open("f", O::WRONLY, 0).unwrap(), "x"));
        see!(truncate("f", 3));
    });
    see!(contents("f"));
    allowed(
        Difference::FirstGroupOnly,
        "set-group-id",
        mode_of("f"),
        "Ok(\"2660\")",
        "Ok(\"0660\")",
    );
}
