//! read, write and their relatives at offsets and in vectors.

use std::io::{IoSlice, IoSliceMut};

use rustix::io::{ReadWriteFlags, preadv, preadv2, pwritev, pwritev2, readv, writev};

use crate::harness::*;

cases! {
    Anyone: reads_stop_at_the_end, a_gap_reads_as_zeros, offsets_are_signed, the_largest_offset,
        the_size_limit_of_the_process, vectors, writing_nothing_changes_nothing,
        overwrites_in_place, one_large_write, pages_and_their_edges, seeks,
        descriptors_share_an_offset_by_dup, a_bad_address, many_small_writes, readers_see_a_writer_grow,
        advice_is_taken, splice_moves_bytes_both_ways;
}

fn reads_stop_at_the_end() {
    make("f", "0123456789");
    let file = reopen("f");
    see!(read(&file, 4));
    see!(read(&file, 100));
    see!(read(&file, 100));
    see!(pread(&file, 100, 9));
    see!(pread(&file, 100, 10));
    see!(pread(&file, 100, 11));
    see!(pread(&file, 100, 1 << 40));
    see!(read(&file, 0));
    see!(pread(&file, 4, 3));
    see!(seek(&file, 0, libc::SEEK_CUR));
}

fn a_gap_reads_as_zeros() {
    let file = create("f");
    see!(pwrite(&file, "end", 10_000));
    see!(facts("f"));
    see!(contents("f"));
    see!(pwrite(&file, "start", 0));
    see!(pwrite(&file, "far", 1 << 30));
    see!(facts("f"));
    see!(pread(&file, 20, (1 << 30) - 10));
    see!(pread(&file, 20, 9_995));
}

fn offsets_are_signed() {
    make("f", "content");
    let file = reopen("f");
    see!(pread(&file, 1, -1));
    see!(pwrite(&file, "x", -1));
    see!(pread(&file, 1, i64::MIN));
    see!(pread(&file, 10, i64::MAX));
    see!(pread(&file, 0, -1));
    see!(contents("f"));
}

fn the_largest_offset() {
    let file = create("f");
    see!(pwrite(&file, "x", i64::MAX));
    see!(pwrite(&file, "xy", i64::MAX - 1));
    see!(facts("f").map(|facts| facts.size()));
    see!(pwrite(&file, "z", i64::MAX - 1));
    see!(pread(&file, 10, i64::MAX - 2));
    see!(facts("f"));
    see!(seek(&file, 0, libc::SEEK_END));
    see!(write(&file, "over"));
    see!(ftruncate(&file, 0));
    see!(ftruncate(&file, i64::MAX));
    see!(facts("f"));
    let appending = open("f", O::WRONLY | O::APPEND, 0).unwrap();
    see!(write(&appending, "over"));
}

fn the_size_limit_of_the_process() {
    let file = create("f");
    let limit = rustix::process::Rlimit {
        current: Some(5_000),
        maximum: None,
    };
    let limited = rustix::process::setrlimit(rustix::process::Resource::Fsize, limit);
    // Lowering a hard limit that is lower than "none" would be refused.
    let limited = limited.or_else(|_| {
        let maximum = rustix::process::getrlimit(rustix::process::Resource::Fsize).maximum;
        let limit = rustix::process::Rlimit {
            current: Some(5_000),
            maximum,
        };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit)
    });
    limited.unwrap();
    // SAFETY: ignoring a signal has no handler that could do wrong.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    see!(pwrite(&file, vec![b'a'; 10_000], 0));
    see!(pwrite(&file, "x", 5_000));
    see!(pwrite(&file, "x", 4_999));
    see!(ftruncate(&file, 5_001));
    see!(ftruncate(&file, 5_000));
    see!(fallocate(&file, 0, 0, 5_001));
    see!(facts("f"));
}

fn vectors() {
    let file = create("f");
    let parts = [
        IoSlice::new(b"one "),
        IoSlice::new(b""),
        IoSlice::new(b"two "),
        IoSlice::new(b"three"),
    ];
    see!(writev(&file, &parts));
    see!(pwritev(&file, &parts, 4096));
    see!(pwritev2(&file, &parts, 20, ReadWriteFlags::APPEND));
    see!(pwritev2(&file, &parts, 40, ReadWriteFlags::DSYNC));
    see!(facts("f"));
    see!(contents("f"));
    let (mut a, mut b) = ([0; 6], [0; 5000]);
    let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    see!(preadv(&file, &mut into, 4090));
    see!(readv(&file, &mut into));
    see!(seek(&file, 0, libc::SEEK_CUR));
    see!(preadv2(&file, &mut into, 0, ReadWriteFlags::HIPRI).is_ok());
    see!((Bytes(a.to_vec()), Bytes(b.to_vec())));
}

fn writing_nothing_changes_nothing() {
    make("f", "content");
    let file = reopen("f");
    see!(relation_after("f", || write(&file, "")));
    see!(relation_after("f", || pwrite(&file, "", 1 << 20)));
    see!(facts("f"));
}

fn overwrites_in_place() {
    make("f", vec![b'.'; 9_000]);
    let file = reopen("f");
    see!(pwrite(&file, "edge of a page", 4_090));
    see!(pwrite(&file, "past the end", 8_995));
    see!(facts("f"));
    see!(contents("f"));
    see!(pread(&file, 30, 4_085));
    see!(pread(&file, 30, 8_990));
}

fn one_large_write() {
    const LEN: usize = 3 << 20;
    let pattern: Vec<u8> = (0..LEN).map(|at| (at * 7 + at / 251) as u8).collect();
    let file = create("f");
    see!(write(&file, &pattern));
    see!(facts("f"));
    see!(contents("f"));
    see!(pread(&file, 1 << 20, 1_000_003));
    let one = pread(&file, LEN, 0).unwrap().0;
    see!("in one read", one == pattern);
}

fn pages_and_their_edges() {
    let file = create("f");
    for (number, at) in [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073]
        .into_iter()
        .enumerate()
    {
        for len in [1, 4095, 4096, 4097] {
            let bytes = vec![b'a' + number as u8; len];
            see!(format!("{len} at {at}"), pwrite(&file, &bytes, at));
        }
        see!(format!("up to {at}"), contents("f"));
    }
    see!(facts("f"));
}

fn seeks() {
    make("f", "0123456789");
    let file = reopen("f");
    see!(seek(&file, 3, libc::SEEK_SET));
    see!(seek(&file, -4, libc::SEEK_CUR));
    see!(seek(&file, -4, libc::SEEK_END));
    see!(read(&file, 2));
    see!(seek(&file, 100, libc::SEEK_END));
    see!(read(&file, 2));
    see!(seek(&file, -11, libc::SEEK_END));
    see!(seek(&file, -1, libc::SEEK_SET));
    see!(seek(&file, i64::MAX, libc::SEEK_SET));
    see!(seek(&file, 1, libc::SEEK_CUR));
    see!(seek(&file, 0, 17));
    see!(facts("f"));
}

fn descriptors_share_an_offset_by_dup() {
    make("f", "0123456789");
    let file = reopen("f");
    let twin = Fd::from(rustix::io::dup(&file).unwrap());
    see!(read(&file, 3));
    see!(read(&twin, 3));
    in_child(|| {
        see!("in a child", read(&file, 2));
    });
    see!(seek(&twin, 0, libc::SEEK_CUR));
}

fn a_bad_address() {
    make("f", "0123456789");
    let file = reopen("f");
    let nowhere = std::ptr::without_provenance_mut::<libc::c_void>(8);
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: the kernel checks the address; nothing is there that could be read or written.
    see!("read", unsafe {
        (libc::read(number, nowhere, 5), *libc::__errno_location())
    });
    // SAFETY: as above.
    see!("write", unsafe {
        (libc::write(number, nowhere, 5), *libc::__errno_location())
    });
    see!(seek(&file, 0, libc::SEEK_CUR));
    see!(contents("f"));
}

fn many_small_writes() {
    let file = create("f");
    let mut total = 0;
    for number in 0..3_000_usize {
        total += write(&file, format!("{number} ")).unwrap();
    }
    see!(total);
    see!(facts("f"));
    see!(contents("f"));
}

fn readers_see_a_writer_grow() {
    let file = create("f");
    let reader = reopen("f");
    for number in 0..50_i64 {
        pwrite(&file, format!("{number:04}"), number * 1_000).unwrap();
        see!(format!("size {number}"), stat_size("f"));
        see!(
            format!("tail {number}"),
            pread(&reader, 100, number * 1_000 - 2 * i64::from(number > 0))
        );
    }
    see!(ftruncate(&file, 7));
    see!(pread(&reader, 100, 0));
}

fn advice_is_taken() {
    use rustix::fs::Advice;
    make("f", vec![b'x'; 100_000]);
    let file = reopen("f");
    for advice in [
        Advice::Sequential,
        Advice::Random,
        Advice::WillNeed,
        Advice::DontNeed,
        Advice::NoReuse,
    ] {
        see!(
            format!("{advice:?}"),
            rustix::fs::fadvise(&file, 0, None, advice)
        );
    }
    see!(contents("f"));
    // SAFETY: numbers only.
    see!("readahead", unsafe {
        libc::readahead(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 100_000)
    });
}

fn splice_moves_bytes_both_ways() {
    use rustix::pipe::{SpliceFlags, pipe, splice};
    make("f", "through a pipe");
    let (from, to) = (reopen("f"), create("g"));
    let (reader, writer) = pipe().unwrap();
    see!(splice(
        &from,
        Some(&mut 8),
        &writer,
        None,
        100,
        SpliceFlags::empty()
    ));
    see!(splice(
        &reader,
        None,
        &to,
        Some(&mut 3),
        100,
        SpliceFlags::empty()
    ));
    see!(contents("g"));
}
