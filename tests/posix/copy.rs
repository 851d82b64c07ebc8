//! copy_file_range(2) and sendfile(2).

use rustix::fs::{copy_file_range, sendfile};

use crate::harness::*;

cases! {
    Anyone: copies_between_files, at_offsets, within_one_file, overlapping_ranges, past_the_end, holes_stay_zeros,
        allocated_data_is_copied_as_data,
        the_copy_is_its_own, wrong_descriptors, large_copies, moves_the_times, onto_more_than_there_is,
        sendfile_to_a_file, sendfile_to_a_pipe, what_is_mapped_is_copied, to_a_file_that_was_cached;
}

fn copies_between_files() {
    make("from", "0123456789");
    let (from, to) = (reopen("from"), create("to"));
    see!(copy_file_range(&from, None, &to, None, 4));
    see!(copy_file_range(&from, None, &to, None, 100));
    see!(copy_file_range(&from, None, &to, None, 100));
    see!(seek(&from, 0, libc::SEEK_CUR));
    see!(seek(&to, 0, libc::SEEK_CUR));
    see!(contents("to"));
    see!(facts("to"));
    see!(copy_file_range(&from, None, &to, None, 0));
}

fn at_offsets() {
    make("from", "0123456789");
    make("to", "..........");
    let (from, to) = (reopen("from"), reopen("to"));
    let (mut read_at, mut write_at) = (3, 5);
    see!(copy_file_range(
        &from,
        Some(&mut read_at),
        &to,
        Some(&mut write_at),
        4
    ));
    see!((read_at, write_at));
    see!(contents("to"));
    let mut far = 10_000;
    see!(copy_file_range(
        &from,
        Some(&mut 0),
        &to,
        Some(&mut far),
        10
    ));
    see!(contents("to"));
    see!(seek(&to, 0, libc::SEEK_CUR));
}

fn within_one_file() {
    make("f", "0123456789");
    let file = reopen("f");
    see!(copy_file_range(
        &file,
        Some(&mut 0),
        &file,
        Some(&mut 10),
        10
    ));
    see!(contents("f"));
    see!(copy_file_range(
        &file,
        Some(&mut 15),
        &file,
        Some(&mut 0),
        5
    ));
    see!(contents("f"));
    let other = reopen("f");
    see!(copy_file_range(
        &file,
        Some(&mut 0),
        &other,
        Some(&mut 30),
        5
    ));
    see!(contents("f"));
}

fn overlapping_ranges() {
    make("f", "0123456789");
    let file = reopen("f");
    see!(copy_file_range(&file, Some(&mut 0), &file, Some(&mut 5), 6));
    see!(copy_file_range(&file, Some(&mut 5), &file, Some(&mut 0), 6));
    see!(copy_file_range(&file, Some(&mut 3), &file, Some(&mut 3), 4));
    see!(copy_file_range(&file, Some(&mut 0), &file, Some(&mut 5), 5));
    see!(contents("f"));
}

fn past_the_end() {
    make("from", "0123456789");
    let (from, to) = (reopen("from"), create("to"));
    see!(copy_file_range(&from, Some(&mut 10), &to, None, 10));
    see!(copy_file_range(&from, Some(&mut 1_000), &to, None, 10));
    see!(copy_file_range(&from, Some(&mut 8), &to, None, 10));
    see!(facts("to"));
    see!(copy_file_range(
        &from,
        Some(&mut 0),
        &to,
        Some(&mut (i64::MAX as u64)),
        10
    ));
    see!(copy_file_range(&from, Some(&mut (1 << 63)), &to, None, 10));
}

fn holes_stay_zeros() {
    let (from, to) = (create("from"), create("to"));
    see!(pwrite(&from, "start", 0));
    see!(pwrite(&from, "end", 200_000));
    see!(write(&to, vec![b'x'; 250_000]));
    let mut copied = 0;
    while copied < 200_003 {
        copied += copy_file_range(
            &from,
            Some(&mut (copied as u64)),
            &to,
            Some(&mut (copied as u64)),
            300_000,
        )
        .unwrap();
    }
    see!(copied);
    see!(contents("to"));
    see!(facts("to").map(|facts| facts.size()));
}

/// What is allocated a second time is data, though nobody wrote it.
fn allocated_data_is_copied_as_data() {
    let (from, to) = (create("from"), create("to"));
    see!(fallocate(&from, 0, 0, 300_000));
    see!(fallocate(&from, 0, 100_000, 60_000));
    see!(seek(&from, 0, libc::SEEK_DATA));
    let (mut read_at, mut write_at) = (102_401, 5_000);
    see!(copy_file_range(
        &from,
        Some(&mut read_at),
        &to,
        Some(&mut write_at),
        50_000
    ));
    see!(facts("to"));
    see!(contents("to"));
}

fn the_copy_is_its_own() {
    make("from", vec![b'x'; 300_000]);
    let (from, to) = (reopen("from"), create("to"));
    see!(copy_file_range(&from, None, &to, None, 300_000));
    see!(pwrite(&to, "changed in the copy", 150_000));
    see!(pwrite(&from, "changed in the original", 100_000));
    see!(contents("from"));
    see!(contents("to"));
    see!(truncate("from", 10));
    see!(unlink("from"));
    see!(contents("to"));
    see!(facts("to"));
}

fn wrong_descriptors() {
    make("f", "content");
    mkdir("d", 0o755).unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    let file = reopen("f");
    let reader = open("f", O::RDONLY, 0).unwrap();
    let writer = open("f", O::WRONLY, 0).unwrap();
    let appending = open("f", O::RDWR | O::APPEND, 0).unwrap();
    let directory = open("d", O::RDONLY, 0).unwrap();
    let fifo = open("fifo", O::RDWR, 0).unwrap();
    let to = create("to");
    see!(copy_file_range(&writer, None, &to, None, 5));
    see!(copy_file_range(&file, None, &reader, None, 5));
    see!(copy_file_range(&to, None, &appending, None, 5));
    see!(copy_file_range(&directory, None, &to, None, 5));
    see!(copy_file_range(&file, None, &directory, None, 5));
    see!(copy_file_range(&fifo, None, &to, None, 5));
    see!(copy_file_range(&file, None, &fifo, None, 5));
    see!(contents("f"));
    see!(facts("to"));
}

fn large_copies() {
    const LEN: usize = 5 << 20;
    let pattern: Vec<u8> = (0..LEN).map(|at| (at * 13 + at / 509) as u8).collect();
    make("from", &pattern);
    let (from, to) = (reopen("from"), create("to"));
    let mut copied = 0;
    while copied < LEN {
        match copy_file_range(&from, None, &to, None, LEN) {
            Ok(0) => break,
            result => copied += result.unwrap(),
        }
    }
    see!(copied);
    see!(contents("to"));
    // At offsets that are no multiples of a page.
    copied = 0;
    while copied < 1_000_000 {
        let (mut read_at, mut write_at) = (12_345 + copied as u64, 54_321 + copied as u64);
        copied += copy_file_range(
            &from,
            Some(&mut read_at),
            &to,
            Some(&mut write_at),
            1_000_000 - copied,
        )
        .unwrap();
    }
    see!(contents("to"));
    see!(facts("to").map(|facts| facts.size()));
}

fn moves_the_times() {
    make("from", "content");
    make("to", "");
    see!(relation_after("to", || copy_file_range(
        reopen("from"),
        None,
        reopen("to"),
        None,
        5
    )));
    see!(relation_after("from", || copy_file_range(
        reopen("from"),
        None,
        reopen("to"),
        None,
        5
    )));
    see!(relation_after("to", || copy_file_range(
        reopen("from"),
        Some(&mut 100),
        reopen("to"),
        None,
        5
    )));
}

fn onto_more_than_there_is() {
    make("from", "short");
    make("to", "a longer content");
    see!(copy_file_range(
        reopen("from"),
        None,
        reopen("to"),
        None,
        1 << 30
    ));
    see!(contents("to"));
}

fn sendfile_to_a_file() {
    make("from", "0123456789");
    let (from, to) = (reopen("from"), create("to"));
    see!(sendfile(&to, &from, None, 4));
    see!(sendfile(&to, &from, Some(&mut 2), 100));
    see!(seek(&from, 0, libc::SEEK_CUR));
    see!(seek(&to, 0, libc::SEEK_CUR));
    see!(contents("to"));
    see!(sendfile(&to, &from, Some(&mut 100), 100));
    let appending = open("to", O::WRONLY | O::APPEND, 0).unwrap();
    see!(sendfile(&appending, &from, None, 1));
}

fn sendfile_to_a_pipe() {
    make("from", vec![b'x'; 10_000]);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    see!(sendfile(&writer, reopen("from"), Some(&mut 5_000), 2_000));
    see!(read(&Fd::from(reader), 10_000));
}

fn what_is_mapped_is_copied() {
    make("from", vec![b'.'; 8_192]);
    let from = reopen("from");
    let map = Map::shared(&from, 0, 8_192).unwrap();
    map.write(4_000, b"dirty in memory");
    let to = create("to");
    see!(copy_file_range(&from, Some(&mut 0), &to, None, 8_192));
    see!(contents("to"));
    // And the other way: a mapping of the target shows what was copied.
    let shown = Map::shared(&to, 0, 8_192).unwrap();
    see!(shown.read(4_000, 15));
    make("third", vec![b't'; 100]);
    see!(copy_file_range(
        reopen("third"),
        Some(&mut 0),
        &to,
        Some(&mut 4_000),
        100
    ));
    see!(shown.read(3_995, 20));
}

fn to_a_file_that_was_cached() {
    make("from", vec![b'n'; 10_000]);
    make("to", vec![b'o'; 10_000]);
    see!(contents("to"));
    see!(copy_file_range(
        reopen("from"),
        Some(&mut 0),
        reopen("to"),
        Some(&mut 3_000),
        5_000
    ));
    see!(contents("to"));
    see!(pread(&reopen("to"), 20, 2_990));
}
