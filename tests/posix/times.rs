//! utimensat(2) and the times that calls set.

use rustix::fs::{AtFlags, Timestamps, UTIME_NOW, UTIME_OMIT};

use crate::harness::*;

cases! {
    Anyone: to_the_nanosecond, before_1970, far_in_the_future, now_and_omit, both_now, wrong_values,
        wrong_paths, moves_the_change_time, through_a_descriptor, of_directories_and_links,
        without_a_permission_to_write, survive_a_rename_and_a_link, of_a_new_file_agree,
        a_write_after_setting_moves_on, second_precision_calls;
    Others: a_stranger_may_set_now_if_allowed_to_write;
}

/// Access and modification time, as (seconds, nanoseconds).
fn times(path: &str) -> Result<((i64, i64), (i64, i64))> {
    rustix::fs::lstat(path).map(|stat| {
        (
            (stat.st_atime, stat.st_atime_nsec as i64),
            (stat.st_mtime, stat.st_mtime_nsec as i64),
        )
    })
}

fn set(path: &str, times: &Timestamps) -> Result<()> {
    utimens(path, times, AtFlags::empty())
}

fn to_the_nanosecond() {
    make("f", "");
    for (atime, mtime) in [
        ((0, 0), (0, 0)),
        ((0, 1), (0, 999_999_999)),
        ((1_000_000_000, 123_456_789), (1_234_567_890, 987_654_321)),
        ((1, 0), (2, 2)),
    ] {
        see!(
            format!("{atime:?} {mtime:?}"),
            set("f", &timestamps(atime, mtime))
        );
        see!(times("f"));
    }
}

fn before_1970() {
    make("f", "");
    for seconds in [-1, -2, -86_400, -1_000_000_000, -2_147_483_648] {
        for nanos in [0, 1, 500_000_000, 999_999_999] {
            see!(
                format!("{seconds} {nanos}"),
                set("f", &timestamps((seconds, nanos), (seconds, nanos)))
            );
            see!(times("f"));
        }
    }
}

fn far_in_the_future() {
    make("f", "");
    for seconds in [
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x3_ffff_ffff,
        0x4_0000_0000,
        1 << 40,
        i64::MAX,
    ] {
        see!(seconds, set("f", &timestamps((seconds, 7), (seconds, 9))));
        see!(seconds, times("f"));
    }
    for seconds in [-0x8000_0001, -(1 << 40), i64::MIN + 1, i64::MIN] {
        see!(seconds, set("f", &timestamps((seconds, 7), (seconds, 9))));
        see!(seconds, times("f"));
    }
}

fn now_and_omit() {
    make("f", "");
    let past = timestamps((100, 1), (200, 2));
    let (omit, now) = ((0, UTIME_OMIT), (0, UTIME_NOW));
    let is_past = || times("f").map(|(atime, mtime)| (atime == (100, 1), mtime == (200, 2)));
    for (label, atime, mtime) in [
        ("omit both", omit, omit),
        ("omit atime", omit, (200, 2)),
        ("omit mtime", (100, 1), omit),
        ("now, omit", now, omit),
        ("omit, now", omit, now),
        ("now, a time", now, (200, 2)),
        ("a time, now", (100, 1), now),
    ] {
        set("f", &past).unwrap();
        see!(label, set("f", &timestamps(atime, mtime)));
        see!(label, is_past());
    }
    // Omitting both is nothing at all, also for a time that is no time.
    see!(relation_after("f", || set(
        "f",
        &timestamps((-5, UTIME_OMIT), (1 << 50, UTIME_OMIT))
    )));
}

fn both_now() {
    make("f", "");
    set("f", &timestamps((100, 1), (200, 2))).unwrap();
    see!(relation_after("f", || set(
        "f",
        &timestamps((0, UTIME_NOW), (0, UTIME_NOW))
    )));
    let (atime, mtime) = times("f").unwrap();
    see!("both the same", atime == mtime);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    see!("and about now", (mtime.0 - now).abs() < 100);
}

fn wrong_values() {
    make("f", "");
    for nanos in [-1, 1_000_000_000, i64::from(u32::MAX)] {
        see!(nanos, set("f", &timestamps((0, nanos), (0, 0))));
        see!(nanos, set("f", &timestamps((0, 0), (0, nanos))));
    }
}

fn wrong_paths() {
    symlink("none", "dangling").unwrap();
    make("f", "");
    let past = timestamps((100, 1), (200, 2));
    see!(set("none", &past));
    see!(set("dangling", &past));
    see!(set("f/x", &past));
    see!(set("", &past));
    see!(utimens("dangling", &past, AtFlags::SYMLINK_NOFOLLOW));
    see!(times("dangling"));
}

fn moves_the_change_time() {
    make("f", "");
    see!(relation_after("f", || set(
        "f",
        &timestamps((100, 1), (200, 2))
    )));
    see!(relation_after("f", || set(
        "f",
        &timestamps((100, 1), (200, 2))
    )));
    see!(relation_after("f", || set(
        "f",
        &timestamps((100, 1), (0, UTIME_OMIT))
    )));
}

fn through_a_descriptor() {
    let file = create("f");
    see!(rustix::fs::futimens(&file, &timestamps((100, 1), (200, 2))));
    see!(times("f"));
    drop(file);
    see!(times("f"));
    let reader = open("f", O::RDONLY, 0).unwrap();
    see!(rustix::fs::futimens(
        &reader,
        &timestamps((300, 3), (400, 4))
    ));
    see!(times("f"));
}

fn of_directories_and_links() {
    mkdir("d", 0o755).unwrap();
    symlink("d", "l").unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(set("d", &timestamps((100, 1), (200, 2))));
    see!(utimens(
        "l",
        &timestamps((300, 3), (400, 4)),
        AtFlags::SYMLINK_NOFOLLOW
    ));
    see!(set("fifo", &timestamps((500, 5), (600, 6))));
    see!(times("d"));
    see!(times("l"));
    see!(times("fifo"));
    see!(set("l", &timestamps((700, 7), (800, 8))));
    see!(times("d"));
    // Not its access time: following is an access.
    see!(times("l").map(|(_, mtime)| mtime));
}

fn without_a_permission_to_write() {
    make("f", "");
    see!(chmod("f", 0o400));
    see!(set("f", &timestamps((100, 1), (200, 2))));
    see!(set("f", &timestamps((0, UTIME_NOW), (0, UTIME_NOW))));
    see!(chmod("f", 0o000));
    see!(set("f", &timestamps((100, 1), (200, 2))));
    see!(times("f"));
}

fn survive_a_rename_and_a_link() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    set("f", &timestamps((100, 1), (200, 2))).unwrap();
    see!(rename("f", "d/g"));
    see!(link("d/g", "h"));
    see!(chmod("h", 0o600));
    see!(times("h"));
    see!(times("d/g"));
}

fn of_a_new_file_agree() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    symlink("t", "l").unwrap();
    for name in ["d", "l"] {
        let stat = rustix::fs::lstat(name).unwrap();
        let all = (stat.st_atime, stat.st_atime_nsec) == (stat.st_mtime, stat.st_mtime_nsec)
            && (stat.st_mtime, stat.st_mtime_nsec) == (stat.st_ctime, stat.st_ctime_nsec);
        see!(name, all);
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    see!(
        "about now",
        (rustix::fs::lstat("f").unwrap().st_mtime - now).abs() < 100
    );
}

fn a_write_after_setting_moves_on() {
    let file = create("f");
    set("f", &timestamps((100, 1), (200, 2))).unwrap();
    see!(relation_after("f", || write(&file, "x")));
    set("f", &timestamps((100, 1), (200, 2))).unwrap();
    see!(relation_after("f", || drop(file)));
    see!(times("f"));
}

fn second_precision_calls() {
    make("f", "");
    let times_by_utime = libc::utimbuf {
        actime: 1_000,
        modtime: 2_000,
    };
    // SAFETY: a C string and a struct that outlive the call.
    see!("utime", unsafe {
        libc::utime(c"f".as_ptr(), &times_by_utime)
    });
    see!(times("f"));
    let micros = [
        libc::timeval {
            tv_sec: 3,
            tv_usec: 4,
        },
        libc::timeval {
            tv_sec: 5,
            tv_usec: 999_999,
        },
    ];
    // SAFETY: as above; two values, as the call wants.
    see!("utimes", unsafe {
        libc::utimes(c"f".as_ptr(), micros.as_ptr())
    });
    see!(times("f"));
}

fn a_stranger_may_set_now_if_allowed_to_write() {
    make("f", "");
    for mode in [0o644, 0o666, 0o444] {
        chmod("f", mode).unwrap();
        as_other(12_345, || {
            see!(
                format!("{mode:o} now"),
                set("f", &timestamps((0, UTIME_NOW), (0, UTIME_NOW)))
            );
            see!(
                format!("{mode:o} a time"),
                set("f", &timestamps((1, 1), (2, 2)))
            );
            see!(
                format!("{mode:o} now and omit"),
                set("f", &timestamps((0, UTIME_NOW), (0, UTIME_OMIT)))
            );
        });
    }
}
