//! Waiting for a descriptor without the interpreter's lock, and with its signals.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use pyo3::{PyResult, Python};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long a wait lasts before signals are looked at all the same. A signal interrupts it at once, unless the system gave it
/// to another thread.
const SLICE: Duration = Duration::from_millis(100);

/// Waits until `descriptor` is readable; false when the deadline has come first.
///
/// # Errors
///
/// What a signal handler of the program raised, as `KeyboardInterrupt`.
pub fn readable(
    py: Python<'_>,
    descriptor: BorrowedFd<'_>,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    loop {
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SLICE, |left| left.min(SLICE));
        match py.detach(|| poll_one(descriptor, slice)) {
            Ok(true) => return Ok(true),
            Ok(false) if left.is_some_and(|left| left <= SLICE) => return Ok(false),
            Ok(false) | Err(Errno::INTR) => py.check_signals()?,
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
}

fn poll_one(descriptor: BorrowedFd<'_>, patience: Duration) -> rustix::io::Result<bool> {
    let mut events = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok();
    Ok(poll(&mut events, patience.as_ref())? > 0)
}

/// When a wait of so many seconds is over: never for `None`, and for more than the clock can count.
pub fn deadline(seconds: Option<f64>) -> Option<Instant> {
    let patience = Duration::try_from_secs_f64(seconds?.max(0.0)).ok()?;
    Instant::now().checked_add(patience)
}
