//! mknod(2).
//!
//! Both sides are mounted `nodev`, as `notapipe mount` does by default: root can make device nodes, and
//! nobody can open them. (An ordinary user's tmpfs may allow devices, but such a user makes none.)

use rustix::fs::makedev;

use crate::harness::*;

cases! {
    Anyone: regular_files_and_the_like, devices_need_root, refuses_what_is_no_kind;
    Root: devices_can_be_made_and_not_opened, any_device_number;
}

fn regular_files_and_the_like() {
    see!(mknod("file", libc::S_IFREG | 0o640, 0));
    see!(mknod("plain", 0o600, 0));
    see!(mknod("fifo", libc::S_IFIFO | 0o644, 0));
    see!(mknod("socket", libc::S_IFSOCK | 0o644, 0));
    for name in ["file", "plain", "fifo", "socket"] {
        see!(name, facts(name));
    }
    see!(write(&reopen("file"), "content"));
    see!(mknod("file", libc::S_IFREG | 0o644, 0));
    see!(mknod("with a number", libc::S_IFREG | 0o644, makedev(1, 3)));
    see!(facts("with a number"));
}

fn devices_need_root() {
    if is_root() {
        return say("root may");
    }
    see!(mknod("null", libc::S_IFCHR | 0o666, makedev(1, 3)));
    see!(mknod("disk", libc::S_IFBLK | 0o660, makedev(7, 0)));
    see!(names("."));
}

fn refuses_what_is_no_kind() {
    see!(mknod("d", libc::S_IFDIR | 0o755, 0));
    see!(mknod("l", libc::S_IFLNK | 0o777, 0));
    see!(mknod("x", 0o150_000, 0));
    see!(names("."));
}

fn devices_can_be_made_and_not_opened() {
    see!(mknod("null", libc::S_IFCHR | 0o666, makedev(1, 3)));
    see!(mknod("disk", libc::S_IFBLK | 0o660, makedev(7, 0)));
    see!(facts("null"));
    see!(facts("disk"));
    see!(open("null", O::RDWR, 0).err());
    see!(open("disk", O::RDONLY, 0).err());
    see!(open("null", O::PATH, 0));
    see!(chmod("null", 0o600));
    see!(link("null", "zero"));
    see!(rename("null", "nought"));
    see!(facts("zero"));
    see!(unlink("nought"));
    see!(mknod("zero", libc::S_IFCHR | 0o666, makedev(1, 5)));
}

fn any_device_number() {
    for (major, minor) in [
        (0, 0),
        (1, 255),
        (255, 256),
        (4_095, 1_048_575),
        (5, 1_000_000),
    ] {
        let name = format!("{major}.{minor}");
        see!(
            name,
            mknod(&*name, libc::S_IFCHR | 0o600, makedev(major, minor))
        );
        see!(name, facts(&*name));
    }
}
