//! fallocate(2) and posix_fallocate(3).

use libc::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_ZERO_RANGE,
};

use crate::harness::*;

cases! {
    Anyone: grows_with_zeros, keeps_the_size, punches_holes, zeroes_ranges, refuses_the_rest, wrong_ranges,
        refuses_what_is_no_file, needs_a_writer, posix_fallocate_returns_its_error, moves_the_times,
        over_existing_content, past_the_end_then_written, holes_are_seen_in_a_mapping;
}

const PUNCH: i32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

fn grows_with_zeros() {
    let file = create("f");
    see!(fallocate(&file, 0, 0, 10_000));
    see!(facts("f"));
    see!(contents("f"));
    see!(fallocate(&file, 0, 5_000, 100));
    see!(facts("f"));
    see!(fallocate(&file, 0, 20_000, 1));
    see!(facts("f"));
    see!(pwrite(&file, "in the middle", 7_000));
    see!(contents("f"));
}

fn keeps_the_size() {
    let file = create("f");
    see!(write(&file, "content"));
    see!(fallocate(&file, FALLOC_FL_KEEP_SIZE, 0, 100_000));
    see!(facts("f"));
    see!(contents("f"));
    see!(ftruncate(&file, 50_000));
    see!(facts("f"));
    see!(ftruncate(&file, 7));
    see!(facts("f"));
}

fn punches_holes() {
    make("f", vec![b'x'; 30_000]);
    let file = reopen("f");
    for (offset, len) in [
        (4_096, 4_096),
        (10_000, 100),
        (9_000, 10_000),
        (29_000, 100_000),
        (50_000, 10),
        (0, 1),
    ] {
        see!(
            format!("{offset} {len}"),
            fallocate(&file, PUNCH, offset, len)
        );
        see!(format!("{offset} {len}"), facts("f"));
        see!(format!("{offset} {len}"), contents("f"));
    }
    see!(pwrite(&file, "back again", 5_000));
    see!(facts("f"));
    see!(fallocate(&file, PUNCH, 0, 30_000));
    see!(facts("f"));
    see!(contents("f"));
}

fn zeroes_ranges() {
    make("f", vec![b'x'; 10_000]);
    let file = reopen("f");
    let zeroed = fallocate(&file, FALLOC_FL_ZERO_RANGE, 5_000, 10);
    allowed(
        Difference::ZeroRangeWorks,
        "in the file",
        zeroed,
        "Err(Os { code: 95",
        "Ok",
    );
    let zeroed = fallocate(
        &file,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        9_000,
        5_000,
    );
    allowed(
        Difference::ZeroRangeWorks,
        "past the end",
        zeroed,
        "Err(Os { code: 95",
        "Ok",
    );
    see!(stat_size("f"));
    let zeroed = fallocate(&file, FALLOC_FL_ZERO_RANGE, 9_000, 5_000);
    allowed(
        Difference::ZeroRangeWorks,
        "growing",
        zeroed,
        "Err(Os { code: 95",
        "Ok",
    );
    let read = pread(&file, 20, 4_995);
    let (untouched, zeros) = (
        "Ok(\"xxxxxxxxxxxxxxxxxxxx\")",
        r#"Ok("xxxxx\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00xxxxx")"#,
    );
    allowed(
        Difference::ZeroRangeWorks,
        "what is read",
        read,
        untouched,
        zeros,
    );
    allowed(
        Difference::ZeroRangeWorks,
        "the size",
        stat_size("f"),
        "Ok(10000)",
        "Ok(14000)",
    );
}

fn refuses_the_rest() {
    make("f", vec![b'x'; 20_000]);
    let file = reopen("f");
    for mode in [
        FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_UNSHARE_RANGE,
        FALLOC_FL_PUNCH_HOLE,
        PUNCH | FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE,
        0x80,
        1 << 20,
    ] {
        see!(format!("{mode:#x}"), fallocate(&file, mode, 4_096, 4_096));
    }
    see!(facts("f"));
    see!(contents("f"));
}

fn wrong_ranges() {
    let file = create("f");
    for (offset, len) in [
        (-1, 10),
        (0, 0),
        (0, -1),
        (10, -5),
        (i64::MAX, 1),
        (i64::MAX - 10, 10),
        (1, i64::MAX),
    ] {
        if (offset, len) == (i64::MAX - 10, 10) {
            // In range, and more than there is room for in one of the two: a single page.
            continue;
        }
        see!(format!("{offset} {len}"), fallocate(&file, 0, offset, len));
        see!(
            format!("{offset} {len}, a hole"),
            fallocate(&file, PUNCH, offset, len)
        );
    }
    see!(facts("f"));
}

fn refuses_what_is_no_file() {
    mkdir("d", 0o755).unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(fallocate(&open("d", O::RDONLY, 0).unwrap(), 0, 0, 10));
    see!(fallocate(&open("fifo", O::RDWR, 0).unwrap(), 0, 0, 10));
    make("f", "");
    see!(fallocate(&open("f", O::PATH, 0).unwrap(), 0, 0, 10));
}

fn needs_a_writer() {
    make("f", "");
    see!(fallocate(&open("f", O::RDONLY, 0).unwrap(), 0, 0, 10));
    see!(fallocate(
        &open("f", O::WRONLY | O::APPEND, 0).unwrap(),
        0,
        0,
        10
    ));
    see!(fallocate(
        &open("f", O::WRONLY | O::APPEND, 0).unwrap(),
        PUNCH,
        0,
        10
    ));
    see!(facts("f"));
}

fn posix_fallocate_returns_its_error() {
    let file = create("f");
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    for (offset, len) in [
        (0, 5_000),
        (3_000, 6_000),
        (0, 1),
        (0, 0),
        (-1, 1),
        (i64::MAX, 1),
    ] {
        // SAFETY: numbers only.
        see!(format!("{offset} {len}"), unsafe {
            libc::posix_fallocate64(number, offset, len)
        });
        see!(facts("f"));
    }
}

fn moves_the_times() {
    make("f", vec![b'x'; 10_000]);
    let file = reopen("f");
    see!(relation_after("f", || fallocate(&file, 0, 0, 20_000)));
    see!(relation_after("f", || fallocate(&file, 0, 0, 20_000)));
    see!(relation_after("f", || fallocate(
        &file,
        FALLOC_FL_KEEP_SIZE,
        0,
        30_000
    )));
    see!(relation_after("f", || fallocate(&file, PUNCH, 0, 4_096)));
    see!(relation_after("f", || fallocate(&file, PUNCH, 0, 4_096)));
    see!(relation_after("f", || fallocate(&file, 0, 0, 0)));
}

fn over_existing_content() {
    make("f", "in a hole follows: ");
    let file = reopen("f");
    see!(pwrite(&file, "far", 50_000));
    see!(fallocate(&file, 0, 0, 60_000));
    see!(facts("f"));
    see!(contents("f"));
}

fn past_the_end_then_written() {
    let file = create("f");
    see!(fallocate(&file, FALLOC_FL_KEEP_SIZE, 10_000, 10_000));
    see!(facts("f"));
    see!(pwrite(&file, "x", 15_000));
    see!(facts("f"));
    see!(contents("f"));
    see!(ftruncate(&file, 0));
    see!(facts("f"));
}

fn holes_are_seen_in_a_mapping() {
    make("f", vec![b'x'; 12_288]);
    let file = reopen("f");
    let map = Map::shared(&file, 0, 12_288).unwrap();
    map.write(5_000, b"dirty");
    see!(fallocate(&file, PUNCH, 4_096, 4_096));
    see!(map.read(4_090, 12));
    see!(map.read(5_000, 5));
    map.write(5_000, b"again");
    see!(contents("f"));
}
