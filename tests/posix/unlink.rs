//! unlink(2), and the life of a file after its last name.

use crate::harness::*;

cases! {
    Anyone: wrong_paths, refuses_directories, an_open_file_lives_on, the_name_is_free_at_once,
        a_mapped_file_lives_on, a_child_inherits_what_has_no_name, removes_any_kind,
        moves_the_times, needs_no_permission_on_the_file, an_open_directory_lives_on,
        a_working_directory_can_vanish;
}

fn wrong_paths() {
    make("f", "");
    see!(unlink("none"));
    see!(unlink("none/f"));
    see!(unlink("f/below"));
    see!(unlink("f/"));
    see!(unlink(""));
    see!(unlink("."));
    see!(unlink(".."));
    see!(unlink("f"));
    see!(unlink("f"));
}

fn refuses_directories() {
    mkdir("d", 0o755).unwrap();
    see!(unlink("d"));
    see!(unlink("d/"));
    symlink("d", "l").unwrap();
    see!(unlink("l/"));
    see!(unlink("l"));
    see!(names("."));
}

fn an_open_file_lives_on() {
    make("f", "content");
    let file = reopen("f");
    let twin = reopen("f");
    see!(unlink("f"));
    see!(facts_of(&file));
    see!(write(&file, "CON"));
    see!(read(&twin, 100));
    see!(ftruncate(&file, 100_000));
    see!(pwrite(&file, "far", 99_990));
    see!(facts_of(&twin));
    see!(fchmod(&file, 0o600));
    see!(fallocate(&file, 0, 0, 200_000));
    see!(rustix::fs::fsync(&file));
    see!(rustix::fs::futimens(&file, &timestamps((1, 2), (3, 4))));
    drop(twin);
    see!(facts_of(&file));
    see!(pread(&file, 10, 0));
}

fn the_name_is_free_at_once() {
    make("f", "old");
    let old = reopen("f");
    see!(unlink("f"));
    make("f", "new");
    see!(read(&old, 10));
    see!(contents("f"));
    see!(
        "another inode",
        facts("f").unwrap().inode() != facts_of(&old).unwrap().inode()
    );
    see!(rename("f", "g"));
    make("f", "newer");
    see!(contents("f"));
    see!(contents("g"));
}

fn a_mapped_file_lives_on() {
    make("f", vec![b'x'; 8192]);
    let map = Map::shared(reopen("f"), 0, 8192).unwrap();
    see!(unlink("f"));
    see!(map.read(4090, 10));
    map.write(4090, b"still here");
    see!(map.read(4085, 20));
    see!(map.sync());
}

fn a_child_inherits_what_has_no_name() {
    make("f", "content");
    let file = reopen("f");
    see!(unlink("f"));
    in_child(|| {
        see!("the child writes", pwrite(&file, "child", 0));
    });
    see!(pread(&file, 100, 0));
}

fn removes_any_kind() {
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    mknod("socket", libc::S_IFSOCK | 0o644, 0).unwrap();
    symlink("none", "dangling").unwrap();
    see!(unlink("fifo"));
    see!(unlink("socket"));
    see!(unlink("dangling"));
    see!(names("."));
}

fn moves_the_times() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    link("d/f", "d/g").unwrap();
    see!(relation_after("d/f", || unlink("d/g")));
    make("d/g", "");
    see!(relation_after("d", || unlink("d/g")));
    see!(relation_after("d", || unlink("d/none")));
    see!(facts("d"));
}

fn needs_no_permission_on_the_file() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    see!(chmod("d/f", 0o000));
    see!(unlink("d/f"));
    make("d/f", "");
    see!(chmod("d", 0o555));
    see!(unlink("d/f"));
    see!(open("d/new", O::CREATE | O::RDWR, 0o644).err());
    see!(mkdir("d/sub", 0o755));
    see!(chmod("d", 0o666));
    see!(unlink("d/f"));
    see!(facts("d/f"));
    see!(chmod("d", 0o755));
    see!(names("d"));
}

fn an_open_directory_lives_on() {
    mkdir("d", 0o755).unwrap();
    let directory = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    see!(rmdir("d"));
    see!(facts_of(&directory));
    see!(rustix::fs::openat(&directory, "f", O::CREATE | O::RDWR, 0o644.into()).err());
    see!(rustix::fs::mkdirat(&directory, "sub", 0o755.into()));
    see!(rustix::fs::symlinkat("t", &directory, "l"));
    make("f", "");
    see!(rustix::fs::linkat(
        rustix::fs::CWD,
        "f",
        &directory,
        "f",
        rustix::fs::AtFlags::empty()
    ));
    see!(rustix::fs::renameat(rustix::fs::CWD, "f", &directory, "f"));
    see!(rustix::fs::statat(&directory, "none", rustix::fs::AtFlags::empty()).err());
    see!(rustix::fs::openat(&directory, ".", O::RDONLY, 0.into()).map(Fd::from));
    see!(rustix::fs::Dir::read_from(&directory).map(Iterator::count));
    mkdir("d", 0o755).unwrap();
    see!(names("d"));
}

fn a_working_directory_can_vanish() {
    mkdir("d", 0o755).unwrap();
    see!(chdir("d"));
    see!(rmdir("../d"));
    see!(facts("."));
    see!(rustix::process::getcwd(Vec::new()).err());
    see!(open("f", O::CREATE | O::RDWR, 0o644).err());
    see!(facts(".."));
    see!(rmdir("."));
}
