//! mkfifo(3), and bytes through what it makes.

use crate::harness::*;

cases! {
    Anyone: carries_bytes_between_processes, opens_without_waiting, has_attributes, two_names_one_pipe,
        refuses_wrong_paths, lives_on_after_unlink, holds_what_is_not_read;
}

fn mkfifo(path: &str, mode: u32) -> Result<()> {
    mknod(path, libc::S_IFIFO | mode, 0)
}

fn carries_bytes_between_processes() {
    see!(mkfifo("fifo", 0o644));
    let child = fork(|| {
        let writer = open("fifo", O::WRONLY, 0).unwrap();
        for number in 0..1_000 {
            write(&writer, format!("line {number}\n")).unwrap();
        }
    });
    see!(contents("fifo"));
    wait_for(child);
    see!(facts("fifo"));
}

fn opens_without_waiting() {
    see!(mkfifo("fifo", 0o644));
    see!(open("fifo", O::WRONLY | O::NONBLOCK, 0).err());
    let reader = see!(open("fifo", O::RDONLY | O::NONBLOCK, 0)).unwrap();
    see!(read(&reader, 10));
    let writer = see!(open("fifo", O::WRONLY | O::NONBLOCK, 0)).unwrap();
    see!(read(&reader, 10));
    see!(write(&writer, "content"));
    see!(read(&reader, 3));
    see!(read(&reader, 10));
    drop(writer);
    see!(read(&reader, 10));
    see!(seek(&reader, 0, libc::SEEK_SET));
    see!(pread(&reader, 1, 0));
}

fn has_attributes() {
    see!(mkfifo("fifo", 0o600));
    see!(facts("fifo"));
    see!(chmod("fifo", 0o640));
    see!(utimens(
        "fifo",
        &timestamps((1, 2), (3, 4)),
        rustix::fs::AtFlags::empty()
    ));
    see!(facts("fifo"));
    see!(rename("fifo", "pipe"));
    let both = open("pipe", O::RDWR, 0).unwrap();
    see!(facts_of(&both));
    see!(write(&both, "five!"));
    see!(facts_of(&both));
    see!(ftruncate(&both, 0));
}

fn two_names_one_pipe() {
    mkfifo("a", 0o644).unwrap();
    see!(link("a", "b"));
    let both = open("a", O::RDWR, 0).unwrap();
    let other = open("b", O::RDWR, 0).unwrap();
    see!(write(&both, "content"));
    see!(read(&other, 10));
}

fn refuses_wrong_paths() {
    make("f", "");
    see!(mkfifo("f", 0o644));
    see!(mkfifo("none/fifo", 0o644));
    see!(mkfifo("f/fifo", 0o644));
    see!(mkfifo("", 0o644));
    see!(mkfifo("fifo/", 0o644));
    see!(mkfifo(".", 0o644));
    mkfifo("fifo", 0o000).unwrap();
    see!(mkfifo("fifo", 0o644));
    see!(open("fifo", O::RDWR, 0).err());
}

fn lives_on_after_unlink() {
    mkfifo("fifo", 0o644).unwrap();
    let both = open("fifo", O::RDWR, 0).unwrap();
    see!(write(&both, "content"));
    see!(unlink("fifo"));
    see!(read(&both, 10));
    see!(facts_of(&both));
    mkfifo("fifo", 0o644).unwrap();
    let new = open("fifo", O::RDWR | O::NONBLOCK, 0).unwrap();
    see!(write(&both, "to the old one"));
    see!(read(&new, 10));
}

fn holds_what_is_not_read() {
    mkfifo("fifo", 0o644).unwrap();
    let both = open("fifo", O::RDWR | O::NONBLOCK, 0).unwrap();
    let mut held = 0;
    while let Ok(written) = write(&both, vec![b'x'; 4_096]) {
        held += written;
    }
    see!(held);
    see!(write(&both, "x"));
}
