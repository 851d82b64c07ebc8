//! statfs(2): what is free goes down by what is written, and comes back.

use rustix::fs::{StatFs, statfs};

use crate::harness::*;

cases! {
    Anyone: falls_by_what_is_written, comes_back_after_the_last_close, an_inode_for_each_name, a_hole_costs_nothing,
        tells_the_same_everywhere;
}

/// Other tests write to the same file systems meanwhile, but none writes as much.
const PAGES: u64 = 8_192;
const NOISE: u64 = 3_000;

fn free() -> u64 {
    statfs(".").unwrap().f_bfree
}

/// Whether `act` makes the free blocks fall by what `expected` says, give or take what others write.
///
/// Tried a few times, as an ordinary user shares tmpfs with the rest of the machine.
fn falls_by(expected: u64, act: impl Fn(), undo: impl Fn()) -> bool {
    (0..20).any(|_| {
        let before = free();
        act();
        let fell = before.saturating_sub(free());
        undo();
        (expected.saturating_sub(NOISE)..=expected + NOISE).contains(&fell)
    })
}

fn fill(path: &str) {
    make(path, vec![b'x'; PAGES as usize * 4_096]);
}

fn falls_by_what_is_written() {
    let unit = statfs(".").unwrap().f_bsize;
    see!(unit);
    see!(falls_by(PAGES, || fill("f"), || unlink("f").unwrap()));
    fill("f");
    // And back: the other way round.
    see!(
        "it comes back",
        falls_by(PAGES, || fill("g"), || truncate("g", 0).unwrap())
    );
}

fn comes_back_after_the_last_close() {
    see!(falls_by(
        PAGES,
        || {
            // Unlinked and still open: it still costs.
            fill("f");
            let file = reopen("f");
            unlink("f").unwrap();
            std::mem::forget(file);
        },
        || {
            // The descriptor that was forgotten is the last one.
            let last = open(".", O::RDONLY, 0).unwrap();
            let number = std::os::fd::AsRawFd::as_raw_fd(&last) - 1;
            // SAFETY: nothing else refers to it.
            unsafe { libc::close(number) };
        }
    ));
}

fn an_inode_for_each_name() {
    const COUNT: u64 = 1_000;
    mkdir("d", 0o755).unwrap();
    let inodes = |stat: StatFs| stat.f_ffree;
    let fell = (0..20).any(|_| {
        let before = inodes(statfs(".").unwrap());
        for number in 0..COUNT {
            make(format!("d/{number}").as_str(), "");
        }
        let fell = before.saturating_sub(inodes(statfs(".").unwrap()));
        for number in 0..COUNT {
            unlink(format!("d/{number}")).unwrap();
        }
        // Other cases make up to 5,000 at once and remove them again.
        (COUNT - 300..COUNT + 300).contains(&fell)
    });
    see!(fell);
}

fn a_hole_costs_nothing() {
    see!(falls_by(
        0,
        || truncate_new("f", 1 << 40),
        || unlink("f").unwrap()
    ));
    truncate_new("f", 1 << 40);
    let file = reopen("f");
    see!(falls_by(
        PAGES,
        || assert!(pwrite(&file, vec![b'x'; PAGES as usize * 4_096], 1 << 39).is_ok()),
        || fallocate(
            &file,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            1 << 39,
            1 << 38
        )
        .unwrap(),
    ));
}

fn truncate_new(path: &str, size: i64) {
    make(path, "");
    truncate(path, size).unwrap();
}

fn tells_the_same_everywhere() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    let all = |stat: StatFs| (stat.f_blocks, stat.f_files, stat.f_bsize, stat.f_namelen);
    let here = all(statfs(".").unwrap());
    see!("of a file", all(statfs("f").unwrap()) == here);
    see!("of a directory", all(statfs("d").unwrap()) == here);
    see!(
        "of a descriptor",
        all(rustix::fs::fstatfs(reopen("f")).unwrap()) == here
    );
    see!(statfs(".").unwrap().f_namelen);
    see!(statfs("none").err());
    let stat = statfs(".").unwrap();
    see!(
        "free is within the whole",
        stat.f_bfree <= stat.f_blocks
            && stat.f_bavail <= stat.f_bfree
            && stat.f_ffree <= stat.f_files
    );
}
