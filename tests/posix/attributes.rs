//! stat(2), chmod(2) and chown(2).

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::harness::*;

cases! {
    Anyone: every_mode, through_a_descriptor, changes_move_only_the_change_time, wrong_paths,
        a_stranger_may_not, inode_numbers_stay, blocks_count_pages, statx_tells_the_same,
        by_owner_of_own_ids, is_seen_at_once_through_every_name, an_empty_path;
    Root: owners_of_every_kind, changes_of_owner_move_the_change_time, large_ids;
}

fn every_mode() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    for mode in [
        0o000, 0o644, 0o755, 0o777, 0o1777, 0o2777, 0o4777, 0o7777, 0o1000, 0o107777,
    ] {
        see!(format!("{mode:o}"), chmod("f", mode));
        see!(format!("{mode:o}"), mode_of("f"));
        see!(format!("{mode:o}"), chmod("d", mode));
        see!(format!("{mode:o}"), mode_of("d"));
    }
}

fn through_a_descriptor() {
    let file = create("f");
    see!(fchmod(&file, 0o600));
    see!(facts("f"));
    see!(unlink("f"));
    see!(fchmod(&file, 0o640));
    see!(facts_of(&file));
    mkdir("d", 0o755).unwrap();
    let directory = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    see!(fchmod(&directory, 0o711));
    see!(facts("d"));
}

fn changes_move_only_the_change_time() {
    make("f", "content");
    see!(relation_after("f", || chmod("f", 0o600)));
    see!(relation_after("f", || chmod("f", 0o600)));
    see!(relation_after("f", || chown("f", None, None)));
    see!(relation_after("f", || facts("f")));
    see!(relation_after("f", || contents("f")));
    see!(relation_after("f", || open("f", O::RDWR, 0)));
    see!(relation_after("f", || write(&reopen("f"), "c")));
}

fn wrong_paths() {
    make("f", "");
    symlink("none", "dangling").unwrap();
    see!(chmod("none", 0o600));
    see!(chmod("dangling", 0o600));
    see!(chmod("f/x", 0o600));
    see!(chmod("", 0o600));
    see!(chown("none", None, None));
    see!(facts("f/x").err());
    see!(facts("f/").err());
    see!(facts("").err());
}

fn a_stranger_may_not() {
    // Root may; then the account is that it could.
    make("f", "");
    if is_root() {
        return say("root may do all of this");
    }
    let (me, my_group) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let gave = |label: &str, uid, gid| {
        let changed = chown("f", uid, gid);
        // In a user namespace EINVAL: those ids do not exist there.
        let in_namespace = std::fs::read_to_string("/proc/self/uid_map")
            .is_ok_and(|map| !map.contains("4294967295"));
        if in_namespace {
            allowed(
                Difference::OneUser,
                label,
                changed,
                "Err(Os { code: 1,",
                "Err(Os { code: 22,",
            );
        } else {
            allowed(
                Difference::OneUser,
                label,
                changed,
                "Err(Os { code: 1,",
                "Err(Os { code: 1,",
            );
        }
    };
    gave("to root", Some(0), None);
    gave("to root's group", None, Some(0));
    gave("to somebody", Some(12_345), None);
    see!(chown("f", Some(me), Some(my_group)));
    see!(facts("f"));
}

fn by_owner_of_own_ids() {
    make("f", "");
    let (me, my_group) = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    see!("own ids", chown("f", Some(me), Some(my_group)));
    see!("own group", chown("f", None, Some(my_group)));
    see!("nothing", chown("f", None, None));
    see!(facts("f"));
}

fn inode_numbers_stay() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    let (file, directory) = (facts("f").unwrap().inode(), facts("d").unwrap().inode());
    see!(rename("f", "d/f"));
    see!(chmod("d/f", 0o600));
    see!(pwrite(&reopen("d/f"), "content", 100));
    see!("the file's", facts("d/f").unwrap().inode() == file);
    see!("the directory's", facts("d").unwrap().inode() == directory);
    see!("they differ", file != directory);
}

fn blocks_count_pages() {
    let file = create("f");
    for (at, len) in [
        (0, 1),
        (4_095, 1),
        (4_096, 1),
        (100_000, 10),
        (1 << 32, 4_096),
    ] {
        see!(at, pwrite(&file, vec![b'x'; len], at));
        see!(at, facts_of(&file));
    }
    see!(ftruncate(&file, 4_096));
    see!(facts_of(&file));
}

fn statx_tells_the_same() {
    make("f", vec![b'x'; 5_000]);
    see!(chmod("f", 0o4711));
    let all = StatxFlags::BASIC_STATS;
    let told = rustix::fs::statx(CWD, "f", AtFlags::empty(), all).unwrap();
    see!((
        told.stx_mode,
        told.stx_nlink,
        told.stx_size,
        told.stx_blocks,
        told.stx_blksize
    ));
    see!(
        "what was asked for is told",
        told.stx_mask & all.bits() == all.bits()
    );
    for sync in [AtFlags::STATX_FORCE_SYNC, AtFlags::STATX_DONT_SYNC] {
        let told =
            rustix::fs::statx(CWD, "f", sync, all).map(|told| (told.stx_size, told.stx_mode));
        see!(format!("{sync:?}"), told);
    }
    let stat = rustix::fs::stat("f").unwrap();
    let same = (told.stx_mtime.tv_sec, told.stx_mtime.tv_nsec)
        == (stat.st_mtime, stat.st_mtime_nsec as u32);
    see!("the same time", same);
}

fn is_seen_at_once_through_every_name() {
    make("f", "content");
    link("f", "g").unwrap();
    let file = reopen("g");
    in_child(|| {
        chmod("f", 0o600).unwrap();
        truncate("f", 3).unwrap();
    });
    see!(facts("g"));
    see!(facts_of(&file));
    see!(contents("g"));
}

fn an_empty_path() {
    let file = create("f");
    let told =
        rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH).map(|stat| (stat.st_mode, stat.st_size));
    see!(told);
    see!(rustix::fs::chownat(
        &file,
        "",
        None,
        None,
        AtFlags::EMPTY_PATH
    ));
}

fn owners_of_every_kind() {
    make("file", "");
    mkdir("directory", 0o755).unwrap();
    symlink("file", "symlink").unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    for name in ["file", "directory", "symlink", "fifo"] {
        see!(name, chown(name, Some(1_001), None));
        see!(name, chown(name, None, Some(2_002)));
        see!(name, facts(name));
        see!(name, chown(name, Some(3), Some(4)));
        see!(name, facts(name));
    }
    see!(rustix::fs::chown(
        "symlink",
        Some(rustix::fs::Uid::from_raw(77)),
        None
    ));
    see!(facts("file"));
    see!(facts("symlink"));
}

fn changes_of_owner_move_the_change_time() {
    make("f", "");
    see!(relation_after("f", || chown("f", Some(1), Some(1))));
    see!(relation_after("f", || chown("f", Some(1), None)));
    see!(relation_after("f", || chown("f", None, None)));
}

fn large_ids() {
    make("f", "");
    see!(chown("f", Some(u32::MAX - 1), Some(u32::MAX - 2)));
    see!(facts("f"));
    see!(chown("f", Some(65_536), Some(0x8000_0000)));
    see!(facts("f"));
}
