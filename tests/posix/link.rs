//! link(2): one file, many names.

use rustix::fs::{AtFlags, CWD, linkat};

use crate::harness::*;

cases! {
    Anyone: names_are_equal, refuses_directories, refuses_taken_names, wrong_paths,
        of_a_symlink_itself, of_other_kinds, moves_the_change_time_and_the_directory,
        a_file_without_a_name_gets_none, many_names;
}

fn names_are_equal() {
    make("a", "content");
    see!(link("a", "b"));
    mkdir("d", 0o755).unwrap();
    see!(link("b", "d/c"));
    see!(facts("a"));
    see!(facts("d/c"));
    see!(
        "the same inode",
        facts("a").unwrap().inode() == facts("d/c").unwrap().inode()
    );
    see!(pwrite(&reopen("d/c"), "C", 0));
    see!(chmod("b", 0o600));
    see!(contents("a"));
    see!(facts("a"));
    see!(unlink("a"));
    see!(facts("b"));
    see!(facts("a").err());
    see!(unlink("b"));
    see!(facts("d/c"));
    see!(contents("d/c"));
}

fn refuses_directories() {
    mkdir("d", 0o755).unwrap();
    see!(link("d", "e"));
    see!(link(".", "e"));
    see!(link("d", "d/e"));
    see!(facts("d"));
}

fn refuses_taken_names() {
    make("a", "");
    make("b", "");
    mkdir("d", 0o755).unwrap();
    symlink("none", "dangling").unwrap();
    see!(link("a", "b"));
    see!(link("a", "a"));
    see!(link("a", "d"));
    see!(link("a", "dangling"));
    see!(link("a", "."));
    see!(link("a", ".."));
    see!(facts("a"));
}

fn wrong_paths() {
    make("a", "");
    see!(link("none", "b"));
    see!(link("a", "none/b"));
    see!(link("a", "a/b"));
    see!(link("a/b", "c"));
    see!(link("a", ""));
    see!(link("", "b"));
    see!(link("a", "b/"));
    see!(link("a/", "b"));
    see!(names("."));
}

fn of_a_symlink_itself() {
    make("f", "content");
    symlink("f", "l").unwrap();
    symlink("none", "dangling").unwrap();
    see!(link("l", "m"));
    see!(facts("m"));
    see!(readlink("m"));
    see!(link("dangling", "dangling2"));
    see!(linkat(CWD, "l", CWD, "followed", AtFlags::SYMLINK_FOLLOW));
    see!(facts("followed"));
    see!(linkat(CWD, "dangling", CWD, "no", AtFlags::SYMLINK_FOLLOW));
}

fn of_other_kinds() {
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    mknod("socket", libc::S_IFSOCK | 0o644, 0).unwrap();
    see!(link("fifo", "fifo2"));
    see!(link("socket", "socket2"));
    see!(facts("fifo2"));
    see!(facts("socket2"));
}

fn moves_the_change_time_and_the_directory() {
    make("a", "");
    mkdir("d", 0o755).unwrap();
    see!(relation_after("a", || link("a", "d/b")));
    see!(relation_after("d", || link("a", "d/c")));
    see!(relation_after("d", || link("a", "d/c")));
    see!(relation_after("a", || link("a", "d/c")));
    see!(relation_after("a", || unlink("d/c")));
    see!(relation_after("d", || unlink("d/b")));
}

fn a_file_without_a_name_gets_none() {
    make("f", "content");
    let file = open("f", O::RDONLY, 0).unwrap();
    see!(unlink("f"));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    see!(
        "linkat",
        linkat(CWD, &*path, CWD, "again", AtFlags::SYMLINK_FOLLOW)
    );
    see!(names("."));
}

fn many_names() {
    make("f", "");
    for number in 0..500 {
        link("f", format!("n{number}")).unwrap();
    }
    see!(facts("f"));
    see!(facts("."));
    for number in 0..499 {
        unlink(format!("n{number}")).unwrap();
    }
    see!(facts("f"));
    see!(names("."));
}
