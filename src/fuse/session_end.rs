//! How a session ends: with its mount, as it should, or before it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::PollFlags;

use crate::sys::event_fd::EventFd;
use crate::sys::poll;

/// The end of a session, which can be waited for together with other events.
#[derive(Debug)]
pub struct SessionEnd {
    ended: EventFd,
    is_lost: AtomicBool,
    /// The number of the session's descriptor, which is open for as long as it is here. Lock order: held alone.
    device: Mutex<Option<RawFd>>,
}

impl SessionEnd {
    pub(super) fn new(device: RawFd) -> io::Result<Self> {
        Ok(Self {
            ended: EventFd::new()?,
            is_lost: AtomicBool::new(false),
            device: Mutex::new(Some(device)),
        })
    }

    /// Readable when the session has ended, whatever ended it.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Whether it ended while its mount stood, by a panic or by a request that makes no sense. Everything in the
    /// mount then answers ENOTCONN.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether it has ended, or will at once, as the kernel sends it nothing any more: its mount is gone, or was
    /// aborted and answers ENOTCONN. Asks the kernel, which makes it so before the first request fails.
    pub fn is_over(&self) -> bool {
        self.device.lock().is_none_or(|number| {
            // SAFETY: see the field.
            !is_connected(unsafe { BorrowedFd::borrow_raw(number) })
        })
    }

    pub(super) fn tell(&self, lost: bool) {
        self.is_lost.store(lost, Ordering::Release);
        *self.device.lock() = None;
        self.ended.set();
    }
}

/// Whether the kernel still sends requests: it does until the mount is gone or aborted (fuse_dev_poll,
/// fs/fuse/dev.c).
pub(super) fn is_connected(device: BorrowedFd<'_>) -> bool {
    let events = poll::events_now(device, PollFlags::OUT);
    events.is_ok_and(|events| !events.contains(PollFlags::ERR))
}
