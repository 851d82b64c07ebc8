//! lseek(2) with SEEK_DATA and SEEK_HOLE.

use libc::{SEEK_DATA, SEEK_HOLE};

use crate::harness::*;

cases! {
    Anyone: a_file_without_holes, an_empty_file, only_a_hole, between_two_islands, after_punching,
        after_allocating, wrong_offsets, of_other_kinds, moves_the_offset, the_map_of_a_file_is_its_copy,
        written_in_a_mapping;
}

fn ask(file: &Fd, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        see!(format!("data from {offset}"), seek(file, offset, SEEK_DATA));
        see!(format!("hole from {offset}"), seek(file, offset, SEEK_HOLE));
    }
}

fn a_file_without_holes() {
    make("f", vec![b'x'; 10_000]);
    ask(&reopen("f"), [0, 1, 4_096, 9_999, 10_000, 10_001, 12_288]);
}

fn an_empty_file() {
    ask(&create("f"), [0, 1, -1]);
}

fn only_a_hole() {
    let file = create("f");
    see!(ftruncate(&file, 1 << 30));
    ask(&file, [0, 4_096, (1 << 30) - 1, 1 << 30]);
}

fn between_two_islands() {
    let file = create("f");
    see!(pwrite(&file, vec![b'x'; 4_096], 8_192));
    see!(pwrite(&file, "y", 40_960));
    see!(ftruncate(&file, 100_000));
    ask(
        &file,
        [
            0, 8_191, 8_192, 10_000, 12_288, 20_000, 40_960, 40_961, 45_056, 99_999, 100_000,
        ],
    );
}

fn after_punching() {
    make("f", vec![b'x'; 40_960]);
    let file = reopen("f");
    see!(fallocate(
        &file,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        8_192,
        8_192
    ));
    ask(&file, [0, 8_192, 10_000, 16_384, 20_000]);
    see!(pwrite(&file, "in the hole", 12_300));
    ask(&file, [0, 8_192, 12_288, 16_384]);
    see!(fallocate(
        &file,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        0,
        100_000
    ));
    ask(&file, [0, 8_192]);
}

fn after_allocating() {
    let file = create("f");
    see!(fallocate(&file, 0, 0, 16_384));
    ask(&file, [0, 4_096]);
    see!(pwrite(&file, "x", 8_192));
    ask(&file, [0, 4_096, 8_192, 12_288]);
}

fn wrong_offsets() {
    make("f", "content");
    let file = reopen("f");
    ask(&file, [-1, i64::MIN, i64::MAX, 7, 8]);
    see!(seek(&file, 0, SEEK_HOLE + 1));
}

fn of_other_kinds() {
    mkdir("d", 0o755).unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    let fifo = open("fifo", O::RDWR, 0).unwrap();
    ask(&fifo, [0]);
}

fn moves_the_offset() {
    let file = create("f");
    see!(pwrite(&file, "data", 8_192));
    see!(seek(&file, 0, SEEK_DATA));
    see!(read(&file, 4));
    see!(seek(&file, 0, SEEK_HOLE));
    see!(read(&file, 4));
    see!(seek(&file, 100_000, SEEK_DATA));
    see!(seek(&file, 0, libc::SEEK_CUR));
}

/// What `cp --sparse` and tar do.
fn the_map_of_a_file_is_its_copy() {
    let file = create("f");
    for at in [0, 3, 4, 5, 17, 31, 32, 33, 63, 64, 100] {
        pwrite(&file, vec![b'a' + at as u8 % 26; 4_096], at * 4_096).unwrap();
    }
    ftruncate(&file, 500_000).unwrap();
    let mut at = 0;
    let mut islands = Vec::new();
    while let Ok(start) = seek(&file, at, SEEK_DATA) {
        at = seek(&file, start, SEEK_HOLE).unwrap();
        islands.push((start, at));
    }
    see!(islands);
}

fn written_in_a_mapping() {
    let file = create("f");
    see!(ftruncate(&file, 40_960));
    let map = Map::shared(&file, 0, 40_960).unwrap();
    map.write(20_480, b"data");
    see!(map.sync());
    ask(&file, [0, 20_480, 24_576]);
    see!(facts("f"));
}
