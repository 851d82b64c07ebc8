//! A step that runs, and how it ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::sys::child::{Child, End, Exit};
use crate::sys::event_fd::EventFd;
use crate::sys::poll;
use crate::sys::proc::{self, Usage};
use crate::sys::subreaper::Subreaped;

/// How a step ended, and what it used, with the processes that it waited for; of a
/// [`StepReport`](crate::StepReport).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepStatus {
    /// How it ended.
    pub exit: Exit,
    /// From its start to its end, or to when a wait noticed the end.
    pub wall_time: Duration,
    /// Processor time in the program.
    pub user_time: Duration,
    /// Processor time in the kernel for it.
    pub system_time: Duration,
    /// The largest resident size of one of its processes: an upper bound, because the kernel counts
    /// from the size of the process that starts the program, which is this one (`fs/exec.c`, `exec_mmap`).
    pub max_rss_bytes: u64,
}

impl StepStatus {
    /// With what processes used that the step did not wait for.
    pub(in crate::run) fn with(self, used: Usage) -> Self {
        Self {
            user_time: self.user_time + used.user_time,
            system_time: self.system_time + used.system_time,
            max_rss_bytes: self.max_rss_bytes.max(used.max_rss_bytes),
            ..self
        }
    }
}

/// What a wait came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The step has ended.
    Ended(StepStatus),
    /// The deadline has passed.
    Deadline,
    /// Somebody called [`Interrupt::raise`].
    Interrupted,
}

/// Ends waits from elsewhere: another thread, or a signal handler ([`raise`](Self::raise) is one
/// write(2)).
///
/// # Examples
///
/// ```
/// use notapipe::{ErrorKind, Interrupt, Job};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let interrupt = Interrupt::new()?;
/// let job = Job::new().interrupt(interrupt.clone()).step(["sleep", "600"]);
/// let ended = std::thread::scope(|scope| {
///     let running = scope.spawn(|| job.run());
///     interrupt.raise();
///     running.join().expect("no panic")
/// });
/// assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
/// assert!(interrupt.is_raised());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Interrupt {
    event: EventFd,
}

impl Interrupt {
    /// One that has not been raised.
    ///
    /// # Errors
    /// eventfd(2) failed.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new()?;
        Ok(Interrupt { event })
    }

    /// Ends every wait that it was given to, now and from now on.
    pub fn raise(&self) {
        self.event.set();
    }

    /// Whether it has been raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.event.is_set()
    }
}

impl AsFd for Interrupt {
    /// Readable once it has been raised.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A child whose end is collected once, by whoever comes first.
#[derive(Debug)]
pub(super) struct Tracked {
    child: Child,
    started: Instant,
    /// Lock order: held alone.
    status: Mutex<Option<StepStatus>>,
}

impl Tracked {
    pub(super) fn new(child: Child, started: Instant) -> Self {
        Tracked {
            child,
            started,
            status: Mutex::new(None),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }

    /// It may have ended meanwhile.
    pub(super) fn kill(&self) {
        let _ = self.child.signal(Signal::KILL);
    }

    pub(super) fn is_collected(&self) -> bool {
        self.status.lock().is_some()
    }

    /// Collects the end if it has come. True when there is nothing more to collect.
    pub(super) fn collect(&self) -> bool {
        !matches!(self.status(), Ok(None))
    }

    fn status(&self) -> io::Result<Option<StepStatus>> {
        let mut status = self.status.lock();
        if status.is_none()
            && let Some(end) = self.child.try_wait()?
        {
            *status = Some(step_status(end, self.started.elapsed()));
        }
        Ok(*status)
    }
}

fn step_status(end: End, wall_time: Duration) -> StepStatus {
    let End {
        exit,
        user_time,
        system_time,
        max_rss_bytes,
    } = end;
    StepStatus {
        exit,
        wall_time,
        user_time,
        system_time,
        max_rss_bytes,
    }
}

/// A step that was started. Dropping it leaves the step running; `Processes` ends it.
#[derive(Debug)]
pub struct Running {
    process: Process,
}

#[derive(Debug)]
enum Process {
    Contained(Arc<Tracked>),
    Subreaped {
        step: Arc<Subreaped>,
        began: Instant,
        status: Option<StepStatus>,
    },
}

/// All that is known of a step which was killed when nobody could wait for it.
fn killed(wall_time: Duration) -> StepStatus {
    let zero = Duration::ZERO;
    let exit = Exit::Signal(Signal::KILL.as_raw());
    StepStatus {
        exit,
        wall_time,
        user_time: zero,
        system_time: zero,
        max_rss_bytes: 0,
    }
}

impl Running {
    pub(super) fn contained(step: Arc<Tracked>) -> Self {
        Running {
            process: Process::Contained(step),
        }
    }

    pub(super) fn subreaped(step: Arc<Subreaped>, began: Instant) -> Self {
        Running {
            process: Process::Subreaped {
                step,
                began,
                status: None,
            },
        }
    }

    /// Its number in our own PID namespace, unless it has been collected.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match &self.process {
            Process::Contained(child) => Some(child.child.pid()),
            Process::Subreaped { step, .. } => proc::pid_of(step.process()?),
        }
    }

    /// What is told of it when it was killed and does not end.
    pub(in crate::run) fn killed(&self) -> StepStatus {
        let began = match &self.process {
            Process::Contained(child) => child.started,
            Process::Subreaped { began, .. } => *began,
        };
        killed(began.elapsed())
    }

    /// Waits for its end. What has ended wins over what is late.
    ///
    /// # Errors
    /// ECHILD before Linux 6.15 when this program ignores SIGCHLD or waits for all children elsewhere: the status is lost
    /// then.
    pub fn wait(
        &mut self,
        deadline: Option<Instant>,
        interrupt: Option<&Interrupt>,
    ) -> io::Result<Waited> {
        loop {
            if let Some(status) = self.status()? {
                return Ok(Waited::Ended(status));
            }
            let patience = Patience {
                deadline,
                interrupt,
            };
            match patience.wait(self.as_fd(), PollFlags::IN)? {
                Woken::Ready => self.collect()?,
                Woken::Deadline => return Ok(Waited::Deadline),
                Woken::Interrupted => return Ok(Waited::Interrupted),
            }
        }
    }

    fn status(&self) -> io::Result<Option<StepStatus>> {
        match &self.process {
            Process::Contained(child) => child.status(),
            Process::Subreaped { status, .. } => Ok(*status),
        }
    }

    fn collect(&mut self) -> io::Result<()> {
        if let Process::Subreaped {
            step,
            began,
            status,
        } = &mut self.process
        {
            let last_word = step.receive()?;
            // Without one, it was killed with its subreaper.
            *status = Some(last_word.map_or_else(
                || killed(began.elapsed()),
                |it| step_status(it.end, it.at.saturating_duration_since(*began)),
            ));
        }
        Ok(())
    }

    /// Sends a signal to the step itself, and not to what it started.
    ///
    /// # Errors
    /// pidfd_send_signal(2) failed; a step that has ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = match &self.process {
            Process::Contained(child) => Some(child.child.as_fd()),
            Process::Subreaped { step, .. } => step.process(),
        };
        let Some(process) = process else {
            return Ok(());
        };
        match rustix::process::pidfd_send_signal(process, signal) {
            Err(Errno::SRCH) => Ok(()),
            result => Ok(result?),
        }
    }

    /// SIGKILL to the step itself.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }
}

impl AsFd for Running {
    /// Readable when the step has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.process {
            Process::Contained(child) => child.child.as_fd(),
            Process::Subreaped { step, .. } => step.as_fd(),
        }
    }
}

pub(super) enum Woken {
    Ready,
    Deadline,
    Interrupted,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::run) struct Patience<'i> {
    pub deadline: Option<Instant>,
    pub interrupt: Option<&'i Interrupt>,
}

impl Patience<'_> {
    pub(super) fn until(deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            interrupt: None,
        }
    }

    /// Waits for `event`. What is ready wins over what is late.
    pub(super) fn wait(self, descriptor: BorrowedFd<'_>, event: PollFlags) -> io::Result<Woken> {
        let mut events = vec![PollFd::from_borrowed_fd(descriptor, event)];
        let interrupt = self.interrupt.map(AsFd::as_fd);
        events.extend(interrupt.map(|it| PollFd::from_borrowed_fd(it, PollFlags::IN)));
        Ok(match poll::wait(&mut events, self.deadline)? {
            false => Woken::Deadline,
            true if !events[0].revents().is_empty() => Woken::Ready,
            true => Woken::Interrupted,
        })
    }

    /// The same, where anything but the event is an error: of the kind `TimedOut` or `Interrupted`.
    pub(super) fn expect(self, descriptor: BorrowedFd<'_>, event: PollFlags) -> io::Result<()> {
        match self.wait(descriptor, event)? {
            Woken::Ready => Ok(()),
            Woken::Deadline => Err(io::ErrorKind::TimedOut.into()),
            Woken::Interrupted => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}
