//! A job that runs while its caller does something else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::{self, JoinHandle};

#[cfg(feature = "tokio")]
use tokio::io::unix::AsyncFd;

use super::error::Error;
use super::failed::Failed;
use super::job::Job;
use super::outcome::Outcome;
use super::process::Interrupt;
use crate::sys::event_fd::EventFd;
use crate::text::panic_message;

/// A job that was started; see [`Job::start`].
///
/// Dropping it [cancels](Self::cancel) the job and waits for nothing, so that it may be dropped where nothing may block: a
/// thread of the job's ends everything in it. To know that all has ended, cancel it and [`wait`](Self::wait).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let running = notapipe::Job::new().step(["sleep", "600"]).start()?;
/// running.cancel();
/// assert_eq!(running.wait().unwrap_err().kind(), notapipe::ErrorKind::Cancelled);
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # fn main() -> Result<(), notapipe::Error> {
/// let mut running = notapipe::Job::new().step(["true"]).start()?;
/// let outcome = loop {
///     // Something else to do, or an event loop that waits for its descriptor.
///     if let Some(outcome) = running.try_wait() {
///         break outcome?;
///     }
///     std::thread::yield_now();
/// };
/// assert!(outcome.steps()[0].status.exit.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RunningJob {
    interrupt: Interrupt,
    ended: EventFd,
    /// Taken by whoever collects the result.
    thread: Option<JoinHandle<Result<Outcome, Failed>>>,
}

impl RunningJob {
    pub(super) fn start(job: Job, interrupt: Interrupt) -> io::Result<Self> {
        let ended = EventFd::new()?;
        let end = End(ended.clone());
        let thread = thread::Builder::new()
            .name("notapipe-job".to_owned())
            .spawn(move || {
                // Told when this thread is done with the job, also by a panic.
                let _end = end;
                job.run()
            })?;
        Ok(Self {
            interrupt,
            ended,
            thread: Some(thread),
        })
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    ///
    /// As [`Job::run`]; and [`Error::Panicked`] when a closure or reader of the caller's did.
    pub fn wait(mut self) -> Result<Outcome, Failed> {
        self.collect().unwrap_or(Err(Error::Cancelled.into()))
    }

    /// The result, if the job has ended; `None` while it runs, and after the result was taken.
    pub fn try_wait(&mut self) -> Option<Result<Outcome, Failed>> {
        let finished = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        if finished { self.collect() } else { None }
    }

    /// Ends the job, without waiting for it: everything in it is killed, and its result is [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.interrupt.raise();
    }

    /// Waits for the end of the job without blocking the executor. A future that is dropped leaves the job running, so that
    /// another branch of a `select!` can [cancel](Self::cancel) it and wait again. The result is given once.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); and [`Error::Processes`] outside of a tokio runtime with I/O
    /// enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    /// # runtime.block_on(async {
    /// let mut running = notapipe::Job::new().step(["echo", "ceci"]).start()?;
    /// let outcome = running.wait_async().await?;
    /// assert_eq!(outcome.steps()[0].stdout.to_text(), "ceci\n");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub async fn wait_async(&mut self) -> Result<Outcome, Failed> {
        let failed = |source| Error::Processes {
            operation: "wait for",
            source,
        };
        let (ended, interest) = (self.ended.shared(), tokio::io::Interest::READABLE);
        // SAFETY: the descriptor stays open as long as the registration, which holds a share of it.
        let ended = unsafe { AsyncFd::register_with_interest(ended, interest) }
            .map_err(|refused| failed(refused.into()))?;
        ended.readable().await.map_err(failed)?.retain_ready();
        self.collect().unwrap_or(Err(Error::Cancelled.into()))
    }

    fn collect(&mut self) -> Option<Result<Outcome, Failed>> {
        let joined = self.thread.take()?.join();
        Some(joined.unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            Err(Error::Panicked { message }.into())
        }))
    }
}

impl AsFd for RunningJob {
    /// Readable when the job has ended; never read it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Tells the end when it is dropped.
struct End(EventFd);

impl Drop for End {
    fn drop(&mut self) {
        self.0.set();
    }
}
