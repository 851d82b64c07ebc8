//! access(2) and faccessat(2).

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::harness::*;

cases! {
    Anyone: every_mode_of_a_file, every_mode_of_a_directory, wrong_paths, through_symlinks, of_other_kinds,
        of_effective_ids, along_a_path;
    Others: as_owner_group_and_other;
}

const QUESTIONS: [(&str, Access); 8] = [
    ("F", Access::EXISTS),
    ("R", Access::READ_OK),
    ("W", Access::WRITE_OK),
    ("X", Access::EXEC_OK),
    ("RW", Access::READ_OK.union(Access::WRITE_OK)),
    ("RX", Access::READ_OK.union(Access::EXEC_OK)),
    ("WX", Access::WRITE_OK.union(Access::EXEC_OK)),
    (
        "RWX",
        Access::READ_OK
            .union(Access::WRITE_OK)
            .union(Access::EXEC_OK),
    ),
];

fn ask(label: &str, path: &str) {
    for (name, question) in QUESTIONS {
        see!(format!("{label} {name}"), access(path, question));
    }
}

const MODES: [u32; 10] = [
    0o000, 0o100, 0o010, 0o001, 0o200, 0o400, 0o600, 0o755, 0o644, 0o111,
];

fn every_mode_of_a_file() {
    make("f", "");
    for mode in MODES {
        chmod("f", mode).unwrap();
        ask(&format!("{mode:o}"), "f");
    }
}

fn every_mode_of_a_directory() {
    mkdir("d", 0o755).unwrap();
    for mode in MODES {
        chmod("d", mode).unwrap();
        ask(&format!("{mode:o}"), "d");
    }
}

fn wrong_paths() {
    make("f", "");
    ask("none", "none");
    ask("below a file", "f/x");
    ask("empty", "");
    ask("a slash", "f/");
    // SAFETY: a C string; 8 is no access mode.
    see!("a wrong question", unsafe {
        (libc::access(c"f".as_ptr(), 8), *libc::__errno_location())
    });
}

fn through_symlinks() {
    make("f", "");
    chmod("f", 0o500).unwrap();
    symlink("f", "l").unwrap();
    symlink("none", "dangling").unwrap();
    ask("l", "l");
    ask("dangling", "dangling");
    see!(accessat(
        CWD,
        "dangling",
        Access::EXISTS,
        AtFlags::SYMLINK_NOFOLLOW
    ));
    see!(accessat(
        CWD,
        "l",
        Access::WRITE_OK,
        AtFlags::SYMLINK_NOFOLLOW
    ));
}

fn of_other_kinds() {
    mknod("fifo", libc::S_IFIFO | 0o600, 0).unwrap();
    mknod("socket", libc::S_IFSOCK | 0o700, 0).unwrap();
    ask("fifo", "fifo");
    ask("socket", "socket");
}

fn of_effective_ids() {
    make("f", "");
    for mode in MODES {
        chmod("f", mode).unwrap();
        for (name, question) in QUESTIONS {
            see!(
                format!("{mode:o} {name}"),
                accessat(CWD, "f", question, AtFlags::EACCESS)
            );
        }
    }
}

fn along_a_path() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    for mode in [0o000, 0o100, 0o400, 0o600, 0o700] {
        chmod("d", mode).unwrap();
        ask(&format!("{mode:o}"), "d/f");
        see!(format!("{mode:o}"), open("d/f", O::RDONLY, 0).err());
        see!(format!("{mode:o}"), open("d/none", O::RDONLY, 0).err());
    }
    chmod("d", 0o700).unwrap();
}

fn as_owner_group_and_other() {
    make("f", "");
    chown("f", Some(12_345), Some(23_456)).unwrap();
    for mode in [0o700, 0o070, 0o007, 0o077, 0o707, 0o770, 0o421, 0o124] {
        chmod("f", mode).unwrap();
        for user in [12_345, 23_456, 34_567] {
            as_other(user, || {
                ask(&format!("{mode:o} {user}"), "f");
                see!(open("f", O::RDONLY, 0).err());
                see!(open("f", O::WRONLY, 0).err());
            });
        }
    }
}
