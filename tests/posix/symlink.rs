//! symlink(2), readlink(2) and following.

use crate::harness::*;

cases! {
    Anyone: tells_its_target, long_targets, refuses_wrong_paths, loops, dangling, follows_directories,
        any_bytes_in_a_target, a_short_buffer_cuts, has_attributes_of_its_own, moves_the_directorys_times,
        forty_in_a_row, replaced_by_another, dotdot_after_a_symlink;
}

fn tells_its_target() {
    see!(symlink("target", "l"));
    see!(readlink("l"));
    see!(facts("l"));
    make("target", "content");
    see!(contents("l"));
    see!(stat_size("l"));
    see!(readlink("target"));
    see!(readlink("."));
    see!(readlink("none"));
    see!(symlink("other", "l"));
    see!(readlink("l"));
}

fn long_targets() {
    for len in [1, 127, 128, 255, 256, 1_000, 4_094, 4_095, 4_096, 5_000] {
        let name = format!("l{len}");
        see!(len, symlink("t".repeat(len), &*name));
        see!(len, readlink(&*name));
        see!(len, facts(&*name));
    }
}

fn refuses_wrong_paths() {
    make("f", "");
    see!(symlink("", "l"));
    see!(symlink("t", ""));
    see!(symlink("t", "none/l"));
    see!(symlink("t", "f/l"));
    see!(symlink("t", "f"));
    see!(symlink("t", "l/"));
    see!(symlink("t", "."));
    see!(symlink("t", "x".repeat(256)));
    see!(names("."));
}

fn loops() {
    symlink("self", "self").unwrap();
    symlink("b", "a").unwrap();
    symlink("a", "b").unwrap();
    see!(open("self", O::RDONLY, 0).err());
    see!(open("a", O::RDONLY, 0).err());
    see!(open("a", O::CREATE | O::RDWR, 0o644).err());
    see!(open("a/f", O::RDONLY, 0).err());
    see!(stat_size("a"));
    see!(facts("a"));
    see!(truncate("a", 0));
    see!(chdir("self"));
    see!(mkdir("a/d", 0o755));
    see!(rename("a/x", "y"));
    see!(unlink("a"));
    see!(open("b", O::RDONLY, 0).err());
}

fn dangling() {
    symlink("none", "l").unwrap();
    see!(stat_size("l"));
    see!(open("l", O::RDONLY, 0).err());
    see!(mkdir("l", 0o755));
    see!(rmdir("l"));
    see!(access("l", rustix::fs::Access::EXISTS));
    see!(chmod("l", 0o600));
    make("none", "now it is there");
    see!(contents("l"));
    see!(unlink("none"));
    see!(contents("l"));
}

fn follows_directories() {
    mkdir("d", 0o755).unwrap();
    symlink("d", "l").unwrap();
    make("l/f", "through the link");
    see!(contents("d/f"));
    see!(names("l"));
    see!(names("l/"));
    see!(mkdir("l/sub", 0o755));
    see!(facts("d"));
    see!(rmdir("l"));
    see!(rmdir("l/sub"));
    see!(facts("l/"));
    see!(unlink("l/f"));
    see!(names("d"));
}

fn any_bytes_in_a_target() {
    for (name, target) in [
        ("a", &b"not utf-8 \xff\xfe"[..]),
        ("b", b"new\nline"),
        ("c", b"//./..//"),
        ("d", b" "),
    ] {
        see!(name, symlink(target, name));
        see!(name, readlink(name));
    }
}

fn a_short_buffer_cuts() {
    symlink("a longer target", "l").unwrap();
    let mut buffer = [0_u8; 8];
    let read = rustix::fs::readlinkat_raw(rustix::fs::CWD, "l", &mut buffer[..]);
    see!(read);
    see!(Bytes(buffer.to_vec()));
}

fn has_attributes_of_its_own() {
    make("f", "content");
    symlink("f", "l").unwrap();
    see!(chmod("l", 0o600));
    see!(facts("f"));
    see!(facts("l"));
    let times = timestamps((100, 1), (200, 2));
    see!(utimens("l", &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW));
    let stat = rustix::fs::lstat("l").unwrap();
    see!((stat.st_mtime, stat.st_mtime_nsec));
    let stat = rustix::fs::lstat("f").unwrap();
    see!("the file's own did not change", stat.st_mtime != 200);
    see!("fchmodat2", fchmod_of_the_link());
}

/// By the system call itself (Linux 6.6): libc's wrapper answers for older kernels.
fn fchmod_of_the_link() -> (i64, i32) {
    const FCHMODAT2: libc::c_long = 452;
    // SAFETY: the path is a C string; the rest are numbers.
    unsafe {
        let result = libc::syscall(
            FCHMODAT2,
            libc::AT_FDCWD,
            c"l".as_ptr(),
            0o600,
            libc::AT_SYMLINK_NOFOLLOW,
        );
        (result, *libc::__errno_location())
    }
}

fn moves_the_directorys_times() {
    mkdir("d", 0o755).unwrap();
    see!(relation_after("d", || symlink("t", "d/l")));
    see!(relation_after("d", || symlink("t", "d/l")));
    see!(relation_after("d", || readlink("d/l")));
    see!(facts("d"));
}

fn forty_in_a_row() {
    make("l0", "at the end of the chain");
    for number in 0..41 {
        symlink(format!("l{number}"), format!("l{}", number + 1)).unwrap();
    }
    see!(followed("l39"));
    see!(followed("l40"));
    see!(followed("l41"));
}

/// Of many attempts the first that finds anything. A mount that another process makes has a walk begin again, and the
/// kernel goes on counting links from where it was (`do_filp_open` and `pick_link`, fs/namei.c): ELOOP for fewer than 40,
/// on any file system.
fn followed(path: &str) -> Result<Bytes> {
    const ATTEMPTS: u32 = 100;
    let mut attempts = (0..ATTEMPTS).map(|_| contents(path));
    attempts
        .find(Result::is_ok)
        .unwrap_or_else(|| contents(path))
}

fn replaced_by_another() {
    make("one", "1");
    make("two", "2");
    symlink("one", "l").unwrap();
    see!(contents("l"));
    symlink("two", "l.new").unwrap();
    see!(rename("l.new", "l"));
    see!(readlink("l"));
    see!(contents("l"));
    see!(unlink("l"));
    see!(symlink("one", "l"));
    see!(contents("l"));
}

fn dotdot_after_a_symlink() {
    mkdir("a", 0o755).unwrap();
    mkdir("a/b", 0o755).unwrap();
    make("a/f", "the target's parent");
    make("f", "the link's parent");
    symlink("a/b", "l").unwrap();
    see!(contents("l/../f"));
    see!(names("l/.."));
}
