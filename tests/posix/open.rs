//! open(2): what each flag means.

use rustix::fs::{CWD, ResolveFlags};

use crate::harness::*;

cases! {
    Anyone: creates_once_with_excl, takes_off_the_umask, truncates_on_request, truncates_what_was_cached,
        append_ignores_the_offset, directory_only, refuses_directories_for_writing, nofollow,
        a_path_descriptor_cannot_read, direct, synchronous, refuses_names_that_are_not_there,
        creates_a_read_only_file_open_for_writing, opens_through_proc, access_mode_is_kept,
        creates_through_a_dangling_symlink, unnamed_files, resolve_beneath, reopens_see_the_same_file;
}

fn creates_once_with_excl() {
    see!(open("f", O::CREATE | O::EXCL | O::RDWR, 0o640)).unwrap();
    see!(open("f", O::CREATE | O::EXCL | O::RDWR, 0o600).err());
    see!(open("f", O::CREATE | O::RDWR, 0o600)).unwrap();
    see!(facts("f"));
    symlink("f", "l").unwrap();
    see!(open("l", O::CREATE | O::EXCL | O::RDWR, 0o600).err());
    mkdir("d", 0o755).unwrap();
    see!(open("d", O::CREATE | O::EXCL | O::RDWR, 0o600).err());
    see!(open("d", O::CREATE | O::RDWR, 0o600).err());
    see!(open("d/", O::CREATE | O::RDWR, 0o600).err());
    see!(open("new/", O::CREATE | O::RDWR, 0o600).err());
    see!(open("f/", O::RDONLY, 0).err());
    see!(open("f/below", O::CREATE | O::RDWR, 0o600).err());
    see!(names("."));
}

fn takes_off_the_umask() {
    for mask in [0o000, 0o027, 0o777] {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
        for mode in [0o666, 0o7777, 0o000] {
            let (file, dir) = (format!("f{mask:o}.{mode:o}"), format!("d{mask:o}.{mode:o}"));
            see!(file, open(&*file, O::CREATE | O::WRONLY, mode)).unwrap();
            see!(file, mode_of(&*file));
            see!(dir, mkdir(&*dir, mode));
            see!(dir, mode_of(&*dir));
        }
    }
}

fn truncates_on_request() {
    make("f", "twelve bytes");
    see!(open("f", O::TRUNC | O::WRONLY, 0)).unwrap();
    see!(facts("f"));
    make("f", "twelve bytes");
    let early = open("f", O::RDWR, 0).unwrap();
    see!(open("f", O::CREATE | O::TRUNC | O::RDWR, 0o600)).unwrap();
    see!(read(&early, 100));
    see!(write(&early, "new"));
    see!(contents("f"));
    see!(open("f", O::TRUNC | O::RDONLY, 0)).unwrap();
    see!(facts("f"));
}

fn truncates_what_was_cached() {
    make("f", vec![b'x'; 10_000]);
    see!(contents("f"));
    see!(open("f", O::TRUNC | O::WRONLY, 0)).unwrap();
    see!(contents("f"));
    let file = reopen("f");
    see!(pwrite(&file, "end", 9_997));
    see!(contents("f"));
}

fn append_ignores_the_offset() {
    make("f", "one ");
    let file = open("f", O::APPEND | O::RDWR, 0).unwrap();
    see!(write(&file, "two "));
    see!(seek(&file, 0, libc::SEEK_SET));
    see!(write(&file, "three "));
    see!(seek(&file, 0, libc::SEEK_CUR));
    // Linux appends here as well, against POSIX; see BUGS in pwrite(2).
    see!(pwrite(&file, "four ", 0));
    see!(seek(&file, 0, libc::SEEK_CUR));
    see!(contents("f"));
    see!(ftruncate(&file, 2));
    see!(write(&file, "!"));
    see!(contents("f"));
    see!(rustix::fs::fcntl_setfl(&file, O::empty()));
    see!(pwrite(&file, "O", 0));
    see!(rustix::fs::fcntl_setfl(&file, O::APPEND));
    see!(write(&file, "?"));
    see!(contents("f"));
}

fn directory_only() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    symlink("d", "to_d").unwrap();
    see!(open("f", O::DIRECTORY | O::RDONLY, 0).err());
    see!(open("d", O::DIRECTORY | O::RDONLY, 0)).unwrap();
    see!(open("to_d", O::DIRECTORY | O::RDONLY, 0)).unwrap();
    see!(open("to_d", O::DIRECTORY | O::NOFOLLOW | O::RDONLY, 0).err());
    see!(open("new", O::DIRECTORY | O::CREATE | O::RDONLY, 0o644).err());
    see!(open("none", O::DIRECTORY | O::RDONLY, 0).err());
    see!(names("."));
}

fn refuses_directories_for_writing() {
    mkdir("d", 0o755).unwrap();
    for flags in [O::WRONLY, O::RDWR, O::RDWR | O::TRUNC, O::RDONLY | O::TRUNC] {
        see!(format!("{flags:?}"), open("d", flags, 0).err());
    }
    let directory = open("d", O::RDONLY, 0).unwrap();
    see!(read(&directory, 10));
    see!(write(&directory, "x"));
    see!(ftruncate(&directory, 0));
    see!(fallocate(&directory, 0, 0, 1));
    see!(pread(&directory, 10, 0));
    see!(rustix::fs::fsync(&directory));
    see!(rustix::fs::fdatasync(&directory));
}

fn nofollow() {
    make("f", "content");
    symlink("f", "l").unwrap();
    symlink("none", "dangling").unwrap();
    see!(open("l", O::NOFOLLOW | O::RDONLY, 0).err());
    see!(open("f", O::NOFOLLOW | O::RDONLY, 0)).unwrap();
    see!(open("dangling", O::RDONLY, 0).err());
    see!(open("dangling", O::NOFOLLOW | O::CREATE | O::RDWR, 0o644).err());
    let link = see!(open("l", O::NOFOLLOW | O::PATH, 0)).unwrap();
    see!(facts_of(&link));
    see!(rustix::fs::readlinkat(&link, "", Vec::new()));
}

fn a_path_descriptor_cannot_read() {
    make("f", "content");
    let file = see!(open("f", O::PATH, 0)).unwrap();
    see!(read(&file, 1));
    see!(write(&file, "x"));
    see!(ftruncate(&file, 0));
    see!(fchmod(&file, 0o600));
    see!(seek(&file, 0, libc::SEEK_SET));
    see!(facts_of(&file));
    mkdir("d", 0o755).unwrap();
    make("d/inside", "inside");
    let directory = see!(open("d", O::PATH | O::DIRECTORY, 0)).unwrap();
    let inside = rustix::fs::openat(&directory, "inside", O::RDONLY, rustix::fs::Mode::empty());
    see!(read(&Fd::from(inside.unwrap()), 10));
    // Without a permission to read, O_PATH still works.
    see!(chmod("f", 0o000));
    see!(open("f", O::PATH, 0)).unwrap();
}

fn direct() {
    make("f", vec![b'a'; 8192]);
    let file = see!(open("f", O::DIRECT | O::RDWR, 0)).unwrap();
    see!(pread(&file, 4096, 4096));
    see!(pread(&file, 4096, 8192));
    see!(pread(&file, 8192, 4096));
    see!(pwrite(&file, vec![b'b'; 4096], 4096));
    see!(pwrite(&file, vec![b'c'; 4096], 12_288));
    see!(contents("f"));
    // Mixed with the page cache: each sees what the other wrote.
    let buffered = reopen("f");
    see!(pwrite(&buffered, "buffered", 4000));
    see!(pread(&file, 4096, 4096));
    see!(pread(&file, 4096, 0));
    see!(pwrite(&file, vec![b'd'; 4096], 0));
    see!(pread(&buffered, 10, 4090));
    see!(facts("f"));
}

fn synchronous() {
    for (name, flag) in [("sync", O::SYNC), ("dsync", O::DSYNC)] {
        let file = see!(name, open(name, flag | O::CREATE | O::RDWR, 0o644)).unwrap();
        see!(name, write(&file, "content"));
        see!(name, rustix::fs::fsync(&file));
        see!(name, rustix::fs::fdatasync(&file));
        see!(name, contents(name));
    }
    // SAFETY: numbers only.
    let range = |file: &Fd| unsafe {
        libc::sync_file_range(std::os::fd::AsRawFd::as_raw_fd(file), 0, 0, 7)
    };
    see!("sync_file_range", range(&reopen("sync")));
    see!("syncfs", rustix::fs::syncfs(reopen("sync")));
}

fn refuses_names_that_are_not_there() {
    see!(open("none", O::RDONLY, 0).err());
    see!(open("none/f", O::CREATE | O::RDWR, 0o644).err());
    see!(open("", O::RDONLY, 0).err());
    see!(open("", O::CREATE | O::RDWR, 0o644).err());
    make("f", "");
    see!(open("f/f", O::RDONLY, 0).err());
    see!(open("f/.", O::RDONLY, 0).err());
    // A name that was looked for in vain exists the moment it is made.
    see!(facts("later").err());
    make("later", "here");
    see!(facts("later"));
    see!(unlink("later"));
    see!(facts("later").err());
    see!(open("later", O::RDONLY, 0).err());
}

fn creates_a_read_only_file_open_for_writing() {
    let file = see!(open("f", O::CREATE | O::EXCL | O::RDWR, 0o400)).unwrap();
    see!(write(&file, "written by its maker"));
    see!(open("f", O::WRONLY, 0).err());
    see!(open("f", O::RDONLY, 0)).unwrap();
    see!(fchmod(&file, 0o000));
    see!(open("f", O::RDONLY, 0).err());
    see!(write(&file, ", still"));
    see!(pread(&file, 100, 0));
    see!(ftruncate(&file, 10));
    see!(facts("f"));
}

fn opens_through_proc() {
    make("f", "content");
    let file = open("f", O::RDONLY, 0).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    see!("reopen for writing", open(&*path, O::RDWR, 0)).unwrap();
    see!(unlink("f"));
    let again = see!("reopen after unlink", open(&*path, O::RDWR, 0)).unwrap();
    see!(write(&again, "CON"));
    see!(read(&file, 100));
    see!("a new name by linkat", linked(&path));
}

fn linked(path: &str) -> Result<()> {
    rustix::fs::linkat(CWD, path, CWD, "again", rustix::fs::AtFlags::SYMLINK_FOLLOW)
}

fn access_mode_is_kept() {
    make("f", "content");
    let reader = open("f", O::RDONLY, 0).unwrap();
    let writer = open("f", O::WRONLY, 0).unwrap();
    see!(write(&reader, "x"));
    see!(read(&writer, 1));
    see!(ftruncate(&reader, 0));
    see!(ftruncate(&writer, 3));
    see!(fallocate(&reader, 0, 0, 10));
    see!(rustix::fs::fcntl_getfl(&writer).map(|flags| flags & O::RWMODE));
    see!(contents("f"));
}

fn creates_through_a_dangling_symlink() {
    symlink("target", "l").unwrap();
    let file = see!(open("l", O::CREATE | O::RDWR, 0o644)).unwrap();
    see!(write(&file, "through"));
    see!(contents("target"));
    see!(names("."));
    symlink("none/target", "deep").unwrap();
    see!(open("deep", O::CREATE | O::RDWR, 0o644).err());
}

fn unnamed_files() {
    let made = open(".", O::TMPFILE | O::RDWR, 0o600).map(drop);
    allowed(
        Difference::NoTmpfile,
        "O_TMPFILE",
        made,
        "Ok",
        "Err(Os { code: 95",
    );
    see!(names("."));
}

fn resolve_beneath() {
    mkdir("d", 0o755).unwrap();
    make("f", "");
    symlink("../f", "d/up").unwrap();
    let directory = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    // A mount or a rename by another process makes a walk through `..` uncertain: EAGAIN (openat2(2)).
    let within = |path: &str, resolve| {
        loop {
            let mode = rustix::fs::Mode::empty();
            let opened = rustix::fs::openat2(&directory, path, O::RDONLY, mode, resolve);
            if opened.as_ref().err() != Some(&rustix::io::Errno::AGAIN) {
                return opened.map(Fd::from);
            }
        }
    };
    see!(within("up", ResolveFlags::empty())).unwrap();
    see!(within("up", ResolveFlags::BENEATH).err());
    see!(within("up", ResolveFlags::NO_SYMLINKS).err());
    see!(within("up", ResolveFlags::IN_ROOT).err());
    see!(within(".", ResolveFlags::NO_XDEV)).unwrap();
}

fn reopens_see_the_same_file() {
    let first = create("f");
    let second = reopen("f");
    see!(write(&first, "abc"));
    see!(read(&second, 10));
    see!(write(&second, "def"));
    see!(read(&first, 10));
    drop(first);
    see!(contents("f"));
    drop(second);
    see!(contents("f"));
    let same = facts("f").unwrap().inode() == facts_of(reopen("f")).unwrap().inode();
    see!("the same inode", same);
}
