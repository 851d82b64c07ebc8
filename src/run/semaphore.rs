//! A bound on jobs at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::error::Error;
use super::process::Interrupt;
use crate::sys::poll;

/// A bound on the jobs that run at once, shared by them: see [`Job::semaphore`](super::Job::semaphore).
///
/// A job that has to wait has not begun: its [timeout](super::Job::timeout) does not run yet, and its
/// [interrupt](super::Job::interrupt) ends it. Clones are one bound.
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::Semaphore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let two_at_once = Semaphore::new(2)?;
/// let start = |_| Job::new().semaphore(&two_at_once).step(["true"]).start();
/// let jobs: Vec<_> = (0..8).map(start).collect::<Result<_, _>>()?;
/// for job in jobs {
///     job.wait()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore(Arc<OwnedFd>);

impl Semaphore {
    /// So many jobs at once.
    ///
    /// # Errors
    ///
    /// When no descriptor is left (eventfd(2)).
    pub fn new(jobs: u32) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        Ok(Self(Arc::new(eventfd(jobs, flags)?)))
    }

    /// Waits for the job's turn, which ends when the result is dropped.
    pub(super) fn acquire(&self, interrupt: Option<&Interrupt>) -> Result<Permit, Error> {
        let failed = |source| Error::Processes {
            operation: "wait for the turn of",
            source,
        };
        loop {
            if interrupt.is_some_and(Interrupt::is_raised) {
                return Err(Error::Cancelled);
            }
            match rustix::io::read(&*self.0, &mut [0; 8]) {
                Ok(_) => return Ok(Permit(Arc::clone(&self.0))),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
            let ends = [Some(self.0.as_fd()), interrupt.map(AsFd::as_fd)];
            poll::wait_readable(ends.into_iter().flatten(), None).map_err(failed)?;
        }
    }
}

/// One of the jobs that may run.
#[derive(Debug)]
pub(super) struct Permit(Arc<OwnedFd>);

impl Drop for Permit {
    fn drop(&mut self) {
        // A counter that was taken from has room.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}
