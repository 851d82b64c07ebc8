//! Set-user-id and set-group-id bits: who loses them by what.

use rustix::fs::Access;

use crate::harness::*;

cases! {
    Anyone: a_write, a_truncate, opening_with_trunc, an_allocation, a_chown_by_the_owner, a_copy, a_mapped_write,
        reading_changes_nothing, on_directories_they_stay, a_link_and_a_rename_keep_them, writing_nothing_keeps_them;
    Root: a_chown_by_root;
    Others: by_the_owner_in_roots_mount, a_stranger_who_may_write, set_group_id_needs_the_group,
        a_change_of_group_by_the_owner, what_is_set_stays_for_root;
}

const MODES: [u32; 6] = [0o4755, 0o2755, 0o6777, 0o2745, 0o6666, 0o4644];

/// The mode after an act on a file of each set-id mode.
fn each(act: impl Fn(&str)) {
    for mode in MODES {
        let name = format!("f{mode:o}");
        make(&*name, "content");
        chmod(&*name, mode).unwrap();
        act(&name);
        see!(format!("{mode:o}"), mode_of(&*name));
        // As execve(2) would ask.
        see!(format!("{mode:o}"), access(&*name, Access::EXEC_OK));
    }
}

fn writer(name: &str) -> Fd {
    open(name, O::WRONLY, 0).unwrap()
}

fn a_write() {
    each(|name| assert_eq!(write(&writer(name), "x"), Ok(1)));
}

fn a_truncate() {
    each(|name| truncate(name, 3).unwrap());
    say("by a descriptor");
    each(|name| ftruncate(&writer(name), 100).unwrap());
    say("to the same size");
    each(|name| ftruncate(&writer(name), 7).unwrap());
}

fn opening_with_trunc() {
    each(|name| drop(open(name, O::WRONLY | O::TRUNC, 0).unwrap()));
    say("without");
    each(|name| drop(writer(name)));
}

fn an_allocation() {
    each(|name| fallocate(&writer(name), 0, 0, 100).unwrap());
    say("a hole");
    each(|name| {
        fallocate(
            &writer(name),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            0,
            3,
        )
        .unwrap();
    });
}

fn a_chown_by_the_owner() {
    let (me, my_group) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    each(|name| chown(name, Some(me), Some(my_group)).unwrap());
    say("the group only");
    each(|name| chown(name, None, Some(my_group)).unwrap());
    say("nothing");
    each(|name| chown(name, None, None).unwrap());
}

fn a_copy() {
    make("source", "bytes");
    each(|name| {
        let copied = rustix::fs::copy_file_range(reopen("source"), None, writer(name), None, 5);
        assert_eq!(copied, Ok(5));
    });
}

fn a_mapped_write() {
    each(|name| {
        let map = Map::shared(reopen(name), 0, 7).unwrap();
        map.write(0, b"mapped");
        map.sync().unwrap();
    });
}

fn reading_changes_nothing() {
    each(|name| drop(contents(name).unwrap()));
    say("times");
    each(|name| {
        utimens(
            name,
            &timestamps((1, 1), (2, 2)),
            rustix::fs::AtFlags::empty(),
        )
        .unwrap()
    });
}

fn writing_nothing_keeps_them() {
    each(|name| assert_eq!(write(&writer(name), ""), Ok(0)));
}

fn on_directories_they_stay() {
    for mode in [0o4755, 0o2755, 0o6777] {
        let name = format!("d{mode:o}");
        mkdir(&*name, 0o755).unwrap();
        see!(chmod(&*name, mode));
        make(format!("{name}/f").as_str(), "");
        see!(chown(
            &*name,
            None,
            Some(rustix::process::getgid().as_raw())
        ));
        see!(facts(&*name));
    }
}

fn a_link_and_a_rename_keep_them() {
    each(|name| {
        link(name, "other").unwrap();
        rename("other", "another").unwrap();
        unlink("another").unwrap();
    });
}

fn a_chown_by_root() {
    each(|name| chown(name, Some(1), None).unwrap());
    say("the group");
    each(|name| chown(name, None, Some(1)).unwrap());
    say("nothing");
    each(|name| chown(name, None, None).unwrap());
    mkdir("d", 0o755).unwrap();
    see!(chmod("d", 0o6755));
    see!(chown("d", Some(1), Some(1)));
    see!(facts("d"));
}

/// The same as the file's owner, who is not root, in a mount of root's.
fn by_the_owner_in_roots_mount() {
    open_to_all();
    as_other(12_345, || {
        a_write();
        a_truncate();
        opening_with_trunc();
        an_allocation();
        a_copy();
        a_chown_by_the_owner();
        a_mapped_write();
    });
}

/// Lets other users make files here.
fn open_to_all() {
    chmod(".", 0o777).unwrap();
}

/// Files that everybody may write, changed by somebody who does not own them.
fn a_stranger_who_may_write() {
    for mode in [0o4777, 0o2777, 0o6777, 0o2767, 0o6666] {
        let name = format!("f{mode:o}");
        for act in ["write", "truncate", "allocate", "chmod", "read"] {
            make(&*name, "content");
            chmod(&*name, mode).unwrap();
            as_other(12_345, || {
                let done = match act {
                    "write" => write(&writer(&name), "x").map(drop),
                    "truncate" => truncate(&*name, 3),
                    "allocate" => fallocate(&writer(&name), 0, 0, 100),
                    "chmod" => chmod(&*name, 0o777),
                    _ => open(&*name, O::RDONLY, 0).map(drop),
                };
                see!(format!("{mode:o} {act}"), done);
            });
            see!(format!("{mode:o} {act}"), mode_of(&*name));
        }
    }
}

/// chmod(2): the bit is taken off when the owner is not in the file's group.
fn set_group_id_needs_the_group() {
    make("f", "");
    chown("f", Some(12_345), Some(77)).unwrap();
    mkdir("d", 0o755).unwrap();
    chown("d", Some(12_345), Some(77)).unwrap();
    as_other(12_345, || {
        for mode in [0o2755, 0o6755, 0o4755, 0o2644] {
            see!(format!("{mode:o}"), chmod("f", mode));
            see!(format!("{mode:o}"), mode_of("f"));
            see!(format!("{mode:o}"), chmod("d", mode));
            see!(format!("{mode:o}"), mode_of("d"));
        }
    });
}

fn a_change_of_group_by_the_owner() {
    for mode in MODES {
        make("f", "");
        chown("f", Some(12_345), Some(77)).unwrap();
        chmod("f", mode).unwrap();
        as_other(12_345, || {
            see!(format!("{mode:o}"), chown("f", None, Some(12_345)));
            see!(format!("{mode:o}"), mode_of("f"));
            see!(format!("{mode:o} back"), chown("f", None, Some(77)));
            see!(format!("{mode:o} away"), chown("f", Some(1), None));
        });
        see!(format!("{mode:o}"), facts("f"));
        unlink("f").unwrap();
    }
}

fn what_is_set_stays_for_root() {
    for mode in MODES {
        make("f", "content");
        chown("f", Some(12_345), Some(77)).unwrap();
        chmod("f", mode).unwrap();
        see!(write(&writer("f"), "x"));
        see!(truncate("f", 2));
        see!(fallocate(&writer("f"), 0, 0, 10));
        see!(mode, mode_of("f"));
        unlink("f").unwrap();
    }
}
