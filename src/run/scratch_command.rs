//! Commands in a scratch directory.

use std::time::{Duration, Instant};

use super::error::Error;
use super::limits::ResourceLimits;
use super::outcome::{EndedBy, StepReport};
use super::pipeline::{Bounds, Pipeline};
use super::process::{Interrupt, Processes};
use super::step::Step;
use crate::scratch::Scratch;

impl Scratch {
    /// Runs a command with the root as its working directory, and waits for it.
    ///
    /// Unless the step says otherwise, its output is captured and it reads nothing. When it has
    /// ended, processes that it left behind are ended too. [`command`](Self::command) sets bounds.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] and the like. A status other than 0 is no error here: see
    /// [`StepReport::status`].
    pub fn run(&self, step: impl Into<Step>) -> Result<StepReport, Error> {
        self.command(step).run()
    }

    /// A command to run within bounds of time and resources; see [`ScratchCommand`].
    pub fn command(&self, step: impl Into<Step>) -> ScratchCommand<'_> {
        ScratchCommand {
            scratch: self,
            step: step.into(),
            timeout: None,
            kill_after: None,
            interrupt: None,
            resource_limits: ResourceLimits::default(),
        }
    }
}

/// A command to run in a [`Scratch`], and its bounds; from [`Scratch::command`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use notapipe::run::{EndedBy, ResourceLimits};
/// use notapipe::{Interrupt, Scratch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scratch = Scratch::new()?;
/// let interrupt = Interrupt::new()?;
/// let limits = ResourceLimits {
///     files: Some(64),
///     ..ResourceLimits::default()
/// };
/// let report = scratch
///     .command(["sh", "-c", "ulimit -n; exec sleep 600"])
///     .timeout(Duration::from_millis(500))
///     .kill_after(Duration::from_secs(1))
///     .interrupt(interrupt.clone())
///     .resource_limits(limits)
///     .run()?;
/// assert_eq!(report.stdout.to_text(), "64\n");
/// assert_eq!(report.ended_by, Some(EndedBy::Timeout));
/// # scratch.unmount()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it runs nothing until `run`"]
pub struct ScratchCommand<'s> {
    scratch: &'s Scratch,
    step: Step,
    timeout: Option<Duration>,
    kill_after: Option<Duration>,
    interrupt: Option<Interrupt>,
    resource_limits: ResourceLimits,
}

impl ScratchCommand<'_> {
    /// The most time that it may take, as [`Job::timeout`](super::Job::timeout) has it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The time that it has to end after SIGTERM at the timeout; killed at once unless said.
    pub fn kill_after(mut self, patience: Duration) -> Self {
        self.kill_after = Some(patience);
        self
    }

    /// Lets another thread end it.
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// The most that its processes may use.
    pub fn resource_limits(mut self, limits: ResourceLimits) -> Self {
        self.resource_limits = limits;
        self
    }

    /// Runs it, and waits for it. What its bounds end is in the report: see [`StepReport::ended_by`].
    ///
    /// # Errors
    ///
    /// As [`Scratch::run`]; and [`Error::Timeout`] or [`Error::Cancelled`] when it had not begun.
    pub fn run(mut self) -> Result<StepReport, Error> {
        if let Some(error) = self.step.invalid.take() {
            return Err(error);
        }
        let end = |timeout| Some((Instant::now().checked_add(timeout)?, timeout));
        let bounds = Bounds {
            deadline: self.timeout.and_then(end),
            kill_after: self.kill_after,
            interrupt: self.interrupt.as_ref(),
            session: Some(self.scratch.session_end()),
            files: None,
        };
        let processes = Processes::start_limited(self.scratch.place(), self.resource_limits)
            .map_err(|source| Error::Processes {
                operation: "prepare",
                source,
            })?;
        let requests = self.scratch.requests();
        let ran = match Pipeline::from(self.step).run(&processes, &requests, bounds) {
            Ok(ran) => Ok(ran.reports),
            Err(stopped) => match stopped.end(&processes, &requests) {
                (error, reports) if reports.is_empty() || !is_of_a_bound(&error) => Err(error),
                (_, reports) => Ok(reports),
            },
        };
        processes.end()?;
        // One step, one report.
        Ok(ran?.remove(0))
    }
}

fn is_of_a_bound(error: &Error) -> bool {
    !matches!(
        EndedBy::error(error),
        EndedBy::Failure | EndedBy::SessionLost
    )
}
