//! A descriptor that is readable while there is something to look at.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;

use crate::sync::{poll, read, write};
use crate::view::Waker;

/// An eventfd(2) that changes ring.
///
/// Whoever is woken by it looks until there is nothing, then silences it and looks once more, because
/// something may have come in between.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    pub fn ring(&self) {
        // Only a counter at its maximum could refuse, and that is readable too.
        let _ = write(&*self.0, &1u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        // Refused when it is silent already.
        let _ = read(&*self.0, &mut [0; 8]);
    }

    /// Rings when it is woken.
    pub fn waker(&self) -> Waker {
        let bell = self.clone();
        Waker::new(move || bell.ring())
    }

    /// The descriptor, to be shared with an event loop.
    #[cfg(feature = "tokio")]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// Waits until it rings, until `other` is readable, or until the deadline; may come back for nothing.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> io::Result<()> {
        let mut events: Vec<_> = [Some(self.as_fd()), other]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, so that the deadline has passed when the wait is over.
        let timeout =
            left.and_then(|left| Timespec::try_from(left + Duration::from_micros(1)).ok());
        match poll(&mut events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
