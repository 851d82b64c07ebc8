//! truncate(2) and ftruncate(2).

use crate::harness::*;

cases! {
    Anyone: shrinks_and_frees, grows_by_a_hole, what_was_cut_off_does_not_come_back,
        the_same_size_still_counts_as_a_change, refuses_wrong_sizes, refuses_what_is_no_file,
        needs_a_permission_to_write, follows_symlinks, is_seen_by_open_descriptors, moves_the_times;
}

fn shrinks_and_frees() {
    make("f", vec![b'x'; 20_000]);
    for size in [19_999, 16_384, 8_193, 8_192, 1, 0] {
        see!(size, truncate("f", size));
        see!(size, facts("f"));
        see!(size, contents("f"));
    }
}

fn grows_by_a_hole() {
    make("f", "abc");
    for size in [4, 4_096, 4_097, 1 << 20, 1 << 40] {
        see!(size, truncate("f", size));
        see!(size, facts("f"));
    }
    see!(pread(&reopen("f"), 100, (1 << 40) - 50));
    see!(truncate("f", 5_000));
    see!(contents("f"));
}

fn what_was_cut_off_does_not_come_back() {
    make("f", vec![b'x'; 10_000]);
    see!(contents("f"));
    see!(truncate("f", 5_000));
    see!(truncate("f", 10_000));
    see!(contents("f"));
    let file = reopen("f");
    see!(ftruncate(&file, 100));
    see!(pwrite(&file, "!", 200));
    see!(contents("f"));
}

fn the_same_size_still_counts_as_a_change() {
    make("f", "content");
    see!(relation_after("f", || truncate("f", 7)));
    let file = reopen("f");
    see!(relation_after("f", || ftruncate(&file, 7)));
    see!(facts("f"));
}

fn refuses_wrong_sizes() {
    make("f", "content");
    let file = reopen("f");
    see!(truncate("f", -1));
    see!(ftruncate(&file, -1));
    see!(truncate("f", i64::MIN));
    see!(facts("f"));
}

fn refuses_what_is_no_file() {
    mkdir("d", 0o755).unwrap();
    symlink("none", "dangling").unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(truncate("d", 0));
    see!(truncate("none", 0));
    see!(truncate("dangling", 0));
    see!(truncate("fifo", 0));
    see!(truncate("", 0));
    make("f", "");
    see!(truncate("f/", 0));
    see!(truncate("f/below", 0));
}

fn needs_a_permission_to_write() {
    make("f", "content");
    let reader = open("f", O::RDONLY, 0).unwrap();
    see!(ftruncate(&reader, 0));
    see!(chmod("f", 0o444));
    see!(truncate("f", 3));
    see!(facts("f"));
}

fn follows_symlinks() {
    make("f", "content");
    symlink("f", "l").unwrap();
    see!(truncate("l", 3));
    see!(contents("f"));
    see!(facts("l"));
}

fn is_seen_by_open_descriptors() {
    make("f", vec![b'x'; 10_000]);
    let file = reopen("f");
    see!(read(&file, 5_000));
    see!(truncate("f", 100));
    see!(read(&file, 100));
    see!(facts_of(&file));
    see!(write(&file, "at the old offset"));
    see!(facts_of(&file));
    see!(contents("f"));
}

fn moves_the_times() {
    make("f", "content");
    see!(relation_after("f", || truncate("f", 3)));
    see!(relation_after("f", || truncate("f", 10)));
    see!(relation_after("f", || truncate("f", -1)));
    see!(relation_after("f", || open("f", O::TRUNC | O::WRONLY, 0)));
    see!(relation_after("f", || open("f", O::TRUNC | O::WRONLY, 0)));
    see!(relation_after("f", || open("f", O::WRONLY, 0)));
}
