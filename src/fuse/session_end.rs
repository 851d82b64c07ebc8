//! How a session ends: with its mount, as it should, or before it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// The end of a session, for whoever waits for it among other things.
#[derive(Debug)]
pub struct SessionEnd {
    ended: OwnedFd,
    lost: OwnedFd,
    is_lost: AtomicBool,
    has_ended: AtomicBool,
}

impl SessionEnd {
    pub(super) fn new() -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self {
            ended: event()?,
            lost: event()?,
            is_lost: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Readable when the session has ended, whatever ended it.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Readable when the session is [lost](Self::is_lost).
    pub fn lost(&self) -> BorrowedFd<'_> {
        self.lost.as_fd()
    }

    /// Whether it ended while its mount stood, by a panic or by a request that makes no sense. Everything in the
    /// mount then answers ENOTCONN.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether it has ended: its mount is gone, or answers nobody any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self, lost: bool) {
        self.is_lost.store(lost, Ordering::Release);
        self.has_ended.store(true, Ordering::Release);
        // Only a counter at its maximum could refuse, and that is readable too.
        if lost {
            let _ = rustix::io::write(&self.lost, &1_u64.to_ne_bytes());
        }
        let _ = rustix::io::write(&self.ended, &1_u64.to_ne_bytes());
    }
}
