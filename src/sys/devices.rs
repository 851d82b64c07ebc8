//! The descriptors of `/dev/fuse` that sessions of this process serve.
//!
//! While a child has copies of them, the kernel goes on to wait for answers when this process is dead: the child may wait
//! for its own mount for ever, deaf even to SIGKILL. So it gives them up before anything else.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use parking_lot::Mutex;
use rustix::fs::{FileType, fstat, major, minor};
use rustix::io::{FdFlags, fcntl_getfd};

/// Lock order: held alone.
static SERVED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// A session serves this one from now on.
pub(crate) fn add(number: RawFd) {
    SERVED.lock().push(number);
}

/// Its session has ended.
pub(crate) fn remove(number: RawFd) {
    SERVED.lock().retain(|&it| it != number);
}

/// A device that is served, under any of its sessions' descriptors, until this is dropped.
#[derive(Debug)]
pub(crate) struct Served(RawFd);

impl Served {
    pub(crate) fn new(device: BorrowedFd<'_>) -> Self {
        add(device.as_raw_fd());
        Self(device.as_raw_fd())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        remove(self.0);
    }
}

/// Those that are served at this moment.
pub(crate) fn served() -> Vec<RawFd> {
    SERVED.lock().clone()
}

/// Closes those of a child that has a table of descriptors of its own. Only system calls.
///
/// A number may mean another file by now: only a `/dev/fuse` that execve(2) would close is closed.
pub(crate) fn give_up(served: &[RawFd]) {
    for &number in served {
        // SAFETY: only asked about; what is no descriptor is refused.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_device = fstat(descriptor).is_ok_and(|stat| {
            let kind = FileType::from_raw_mode(stat.st_mode);
            let device = (major(stat.st_rdev), minor(stat.st_rdev));
            kind == FileType::CharacterDevice && device == FUSE
        });
        let is_ours = fcntl_getfd(descriptor).is_ok_and(|it| it.contains(FdFlags::CLOEXEC));
        if is_device && is_ours {
            // SAFETY: the child's own copy, which nothing in it uses.
            unsafe { rustix::io::close(number) };
        }
    }
}

/// Of `include/linux/miscdevice.h`.
const FUSE: (u32, u32) = (10, 229);
