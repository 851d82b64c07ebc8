//! A job that failed: why, of which kind, and what there is of it.

use std::error;
use std::fmt;

use super::error::Error;
use super::outcome::Outcome;
#[cfg(feature = "archives")]
use crate::archive::ArchiveError;
use crate::collect::CollectError;
use crate::mount::MountError;
use crate::stage::StageError;
use crate::store::StoreError;

/// A job that failed: why, and what there is of it.
///
/// `?` in a function that returns [`Error`] keeps the error alone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use notapipe::run::EndedBy;
/// use notapipe::{ErrorKind, Job};
///
/// let failed = Job::new()
///     .step(["sh", "-c", "echo begun >&2; exec sleep 600"])
///     .step(["echo", "done"])
///     .timeout(Duration::from_millis(500))
///     .run()
///     .unwrap_err();
/// assert_eq!(failed.kind(), ErrorKind::Timeout);
/// let outcome = failed.outcome.expect("a step has begun");
/// assert_eq!(outcome.steps()[0].ended_by, Some(EndedBy::Timeout));
/// assert_eq!(outcome.steps()[0].stderr.to_text(), "begun\n");
/// assert_eq!(outcome.steps_not_run(), [["echo", "done"]]);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Why it failed.
    pub error: Error,
    /// The job up to there; nothing when it failed before its steps.
    ///
    /// A step that ran when the job failed, at the timeout or otherwise, is among its [steps](Outcome::steps);
    /// [`StepReport::ended_by`](super::StepReport::ended_by) tells what ended it.
    pub outcome: Option<Box<Outcome>>,
}

impl Failed {
    /// What kind of failure it is; as [`Error::kind`].
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl error::Error for Failed {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

/// A job that failed before its steps.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let outcome = None;
        Self { error, outcome }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// What a program that runs jobs for others must tell apart; see [`Error::kind`].
///
/// # Examples
///
/// ```
/// use notapipe::{ErrorKind, Job};
///
/// /// The status of an HTTP response.
/// fn status(kind: ErrorKind) -> u16 {
///     match kind {
///         ErrorKind::Refused | ErrorKind::Input => 400,
///         ErrorKind::StepFailed | ErrorKind::Output => 422,
///         ErrorKind::Limit => 413,
///         ErrorKind::Timeout => 504,
///         ErrorKind::Cancelled => 499,
///         _ => 500,
///     }
/// }
/// let failed = Job::new().step(["true"]).output("made").run().unwrap_err();
/// assert_eq!(status(failed.kind()), 422);
/// let failed = Job::new().input("../up", "").step(["true"]).run().unwrap_err();
/// assert_eq!(status(failed.kind()), 400);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a pattern, an archive or an option that cannot be used, whatever the machine allows.
    Refused,
    /// An input cannot be read or made: its file, its reader, its command or its source failed.
    Input,
    /// The program of a step is not there, or cannot be executed.
    NotStarted,
    /// A step, or a command that takes an output, ended with a status other than 0 or by a signal.
    StepFailed,
    /// The time is over.
    Timeout,
    /// A limit of the caller's was met: of files, memory, processes or processor time. A step that saw ENOSPC and failed by
    /// itself is [`StepFailed`](Self::StepFailed); [`Outcome::limit_met`] tells of it.
    Limit,
    /// An output is missing, is of a kind that cannot be taken, or is still being written.
    Output,
    /// The caller ended it.
    Cancelled,
    /// The machine refuses: no FUSE, no namespaces, no descriptors, no room, no such CPU.
    System,
    /// A fault of notapipe's, or a closure or reader of the caller's that panicked.
    Internal,
}

impl Error {
    /// What kind of failure it is: for programs that answer each kind in another way.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{ErrorKind, Job};
    ///
    /// let failed = Job::new().step(["no-such-tool"]).run().unwrap_err();
    /// assert_eq!(failed.error.kind(), ErrorKind::NotStarted);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } | Self::Pattern { .. } | Self::NotObserved { .. } => {
                ErrorKind::Refused
            }
            Self::Stage(error) => of_stage(error),
            #[cfg(feature = "archives")]
            Self::Archive(error) => of_archive(error),
            Self::Mount(error) => of_mount(error),
            Self::Scratch { error, .. } => of_store(error, ErrorKind::Refused),
            Self::Collect(error) => of_collect(error),
            Self::CommandFailed { role: "input", .. } | Self::Source { .. } => ErrorKind::Input,
            Self::StepFailed {
                cpu_limit: None, ..
            }
            | Self::CommandFailed { .. } => ErrorKind::StepFailed,
            Self::Spawn(error) if error.is_of_the_system() => ErrorKind::System,
            Self::Spawn(_) => ErrorKind::NotStarted,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::StepFailed { .. }
            | Self::TooManyProcesses { .. }
            | Self::OverMemory { .. }
            | Self::OverLimit { .. }
            | Self::OverLimitWithTmp { .. }
            | Self::LostPages { .. } => ErrorKind::Limit,
            Self::StillWritten { .. } | Self::NotLookedAt { .. } => ErrorKind::Output,
            Self::NeedsFuse { .. }
            | Self::Processes { .. }
            | Self::Cpus { .. }
            | Self::CommandNotRun { .. }
            | Self::StillRunning(_)
            | Self::Streams { .. }
            | Self::Wait { .. }
            | Self::NoRoom { .. } => ErrorKind::System,
            Self::Panicked { .. } => ErrorKind::Internal,
        }
    }
}

fn of_store(error: &StoreError, otherwise: ErrorKind) -> ErrorKind {
    match error {
        StoreError::NoSpace(_) => ErrorKind::Limit,
        _ => otherwise,
    }
}

fn of_stage(error: &StageError) -> ErrorKind {
    match error {
        StageError::Read { .. } => ErrorKind::Input,
        StageError::Full { .. } => ErrorKind::Limit,
        StageError::Conflict { .. } => ErrorKind::Refused,
        StageError::Store { error, .. } => of_store(error, ErrorKind::Refused),
        StageError::Interrupted => ErrorKind::Cancelled,
    }
}

#[cfg(feature = "archives")]
fn of_archive(error: &ArchiveError) -> ErrorKind {
    match error {
        ArchiveError::Read { .. } => ErrorKind::Input,
        ArchiveError::Unknown { .. }
        | ArchiveError::Damaged { .. }
        | ArchiveError::Member { .. } => ErrorKind::Refused,
        ArchiveError::Window { .. } => ErrorKind::Limit,
        ArchiveError::Stage(error) => of_stage(error),
        ArchiveError::Collect(error) => of_collect(error),
        ArchiveError::Store { error, .. } => of_store(error, ErrorKind::Output),
        ArchiveError::Write { .. } => ErrorKind::System,
        ArchiveError::Interrupted => ErrorKind::Cancelled,
    }
}

fn of_mount(error: &MountError) -> ErrorKind {
    match error {
        MountError::NotADirectory { .. }
        | MountError::Needed { .. }
        | MountError::NotEmpty { .. }
        | MountError::NotMounted { .. } => ErrorKind::Refused,
        MountError::SessionLost { .. } => ErrorKind::Internal,
        _ => ErrorKind::System,
    }
}

fn of_collect(error: &CollectError) -> ErrorKind {
    match error {
        CollectError::Destination { .. }
        | CollectError::Writer { .. }
        | CollectError::NotPutBack { .. } => ErrorKind::System,
        CollectError::Interrupted => ErrorKind::Cancelled,
        _ => ErrorKind::Output,
    }
}
