//! An eventfd(2) as a flag that can be waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFlags, eventfd};

use super::poll;
use crate::sync::{read, write};

/// A flag whose descriptor is readable while it is set. Clones share it.
///
/// A thread that is woken by it takes what there is, clears the flag and looks once more, because the flag may have
/// been set for something that came in between.
#[derive(Clone, Debug)]
pub(crate) struct EventFd(Arc<OwnedFd>);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(eventfd(0, flags)?)))
    }

    pub(crate) fn set(&self) {
        // Only a counter at its maximum refuses, and that is readable too.
        let _ = write(&*self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        // Refused when it is not set.
        let _ = read(&*self.0, &mut [0; 8]);
    }

    pub(crate) fn is_set(&self) -> bool {
        poll::is_ready(self, PollFlags::IN)
    }

    /// The descriptor, to be registered with an event loop.
    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
