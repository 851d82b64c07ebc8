//! poll(2): waiting for descriptors until a deadline, and asking about one without waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Waits until one of these events has come, or until the deadline; false when that has passed. Signals do not end it.
pub(crate) fn wait(events: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, so that the deadline has passed when the wait is over.
        let timeout =
            left.and_then(|left| Timespec::try_from(left + Duration::from_micros(1)).ok());
        match crate::sync::poll(events, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

/// Waits until one of these descriptors is readable, or until the deadline; false when that has passed.
pub(crate) fn wait_readable<'d>(
    descriptors: impl IntoIterator<Item = BorrowedFd<'d>>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let events = descriptors.into_iter();
    let events = events.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN));
    wait(&mut events.collect::<Vec<_>>(), deadline)
}

/// What of `wanted`, and which errors, the descriptor has at this moment.
pub(crate) fn events_now(descriptor: impl AsFd, wanted: PollFlags) -> io::Result<PollFlags> {
    let mut events = [PollFd::new(&descriptor, wanted)];
    rustix::event::poll(&mut events, Some(&Timespec::default()))?;
    Ok(events[0].revents())
}

/// Whether one of these events, or an error, is there at this moment.
pub(crate) fn is_ready(descriptor: impl AsFd, wanted: PollFlags) -> bool {
    events_now(descriptor, wanted).is_ok_and(|events| !events.is_empty())
}
