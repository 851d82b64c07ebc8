//! Why a job failed.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cpus::Cpus;
use super::outcome::StepReport;
use super::process::{Exit, SpawnError, StillRunning};
#[cfg(feature = "archives")]
use crate::archive::ArchiveError;
use crate::collect::{CollectError, GlobError};
use crate::mount::{MountError, ProcessInfo};
use crate::stage::StageError;
use crate::store::{Limits, PathError, Resource, StoreError, TreePath};
use crate::text::{quoted, shown};

/// Why a job, or a scratch directory, failed: what, on which path or in which step, and what to do.
///
/// Its text says the reason where it has one of our own, in the field `error`; a reason of the system's is its
/// [`source`](std::error::Error::source) and not in the text. So a chain of sources says everything once.
///
/// # Examples
///
/// ```
/// use notapipe::{Error, Exit, Job};
///
/// match Job::new().step(["sh", "-c", "echo of no use >&2; exit 3"]).run() {
///     Err(failed) => {
///         assert!(matches!(failed.error, Error::StepFailed { exit: Exit::Code(3), .. }));
///         assert_eq!(failed.error.to_string(), r#""sh" ended with status 3: of no use"#);
///     }
///     other => panic!("{other:?}"),
/// }
/// let error = Job::new().input("../up", "").step(["true"]).run().unwrap_err();
/// assert_eq!(error.to_string(), r#"the input name "../up" cannot be used: it climbs with `..`"#);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that cannot stand in the mount.
    #[error("the {role} name {name} cannot be used: {error}", name = quoted(name))]
    Name {
        /// Input or output.
        role: &'static str,
        /// The name as it was given.
        name: PathBuf,
        /// What is wrong with it.
        error: PathError,
    },
    /// A pattern for outputs that is none.
    #[error("the pattern {pattern} cannot be used: {error}", pattern = quoted(pattern))]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        error: GlobError,
    },
    /// An input could not be staged.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An archive among the inputs was refused; nothing of it was staged.
    #[cfg(feature = "archives")]
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No mount could be made, or it could not be taken down.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The job has, or may have, another [backing](crate::Job::backing), and asks for what only FUSE gives.
    #[error("{what} needs FUSE")]
    NeedsFuse {
        /// What it asks for.
        what: MountOnly,
        /// Why there is no mount, where one was tried.
        source: Option<MountError>,
    },
    /// The processes' surroundings could not be made or ended.
    #[error("cannot {operation} the job's processes")]
    Processes {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The job could not be bound to the CPUs that it was given.
    #[error("cannot use the CPUs {cpus}")]
    Cpus {
        /// The CPUs.
        cpus: Cpus,
        /// What sched_setaffinity(2) said: EINVAL when none of them is there or may be used.
        source: io::Error,
    },
    /// The command that makes an input, or takes an output, failed.
    #[error(
        "the command for the {role} {name:?} {}: {command}",
        ending(*exit),
        command = quoted(command)
    )]
    CommandFailed {
        /// Input or output.
        role: &'static str,
        /// The file in the mount.
        name: TreePath,
        /// The command, as the shell got it.
        command: OsString,
        /// How it ended.
        exit: Exit,
    },
    /// The command that makes an input, or takes an output, could not be started or spoken to.
    #[error("cannot run the command for the {role} {name:?}, {command}", command = quoted(command))]
    CommandNotRun {
        /// Input or output.
        role: &'static str,
        /// The file in the mount.
        name: TreePath,
        /// The command.
        command: OsString,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that a step started does not go away.
    #[error(transparent)]
    StillRunning(#[from] StillRunning),
    /// A step could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// A step's standard streams could not be opened, or its output not be read.
    #[error("cannot connect the streams of {program}", program = quoted(program))]
    Streams {
        /// The step's program.
        program: OsString,
        /// Why it failed.
        source: io::Error,
    },
    /// A step could not be waited for.
    #[error("cannot wait for {program}", program = quoted(program))]
    Wait {
        /// The step's program.
        program: OsString,
        /// Why it failed.
        source: io::Error,
    },
    /// A file or directory of a mounted tree could not be read or changed.
    #[error("cannot {operation} {path:?}: {error}")]
    Scratch {
        /// What was being done.
        operation: &'static str,
        /// To which file or directory.
        path: TreePath,
        /// Why the tree refused.
        error: StoreError,
    },
    /// The [`Source`](crate::Source) of an input failed, or panicked. The tool that reached for it saw EIO.
    #[error("the source of {path:?} failed: {error}")]
    Source {
        /// The input.
        path: TreePath,
        /// Why it failed.
        error: Arc<io::Error>,
    },
    /// Events were asked for where opens and closes are not seen.
    #[error(
        "cannot {operation}: opens and closes are not seen in this mount; \
         make it with ScratchBuilder::profile(Profile::Observed)"
    )]
    NotObserved {
        /// What was asked for.
        operation: &'static str,
    },
    /// A step ended with a status other than 0, or by a signal.
    #[error("{}", step_ending(program, *exit, *cpu_limit, last_line.as_deref()))]
    StepFailed {
        /// Which of the job's [steps](super::Outcome::steps) it is, from 0. The last that was started, or in a pipe one of
        /// those that ran with it.
        step: usize,
        /// Its program.
        program: OsString,
        /// How it ended.
        exit: Exit,
        /// The limit of processor time that ended it, if that is known.
        cpu_limit: Option<Duration>,
        /// The last line of its standard error, where that was captured: a tool's last words say more than its status.
        last_line: Option<String>,
    },
    /// The job took longer than it may; everything in it was killed.
    #[error("{}the job took longer than {limit:?}", program.iter().map(|it| format!("{} was ended: ", quoted(it))).collect::<String>())]
    Timeout {
        /// The program that ran at that moment; none while inputs were staged.
        program: Option<OsString>,
        /// The limit.
        limit: Duration,
    },
    /// A closure or a reader of the caller's panicked. This job failed; others are not concerned.
    #[error("the job was ended by a panic: {message}")]
    Panicked {
        /// What the panic said; empty where it was not words.
        message: String,
    },
    /// A process that the steps left behind still had a file open for writing, or mapped so, when it had been
    /// waited for; see [`Job::settle`](super::Job::settle).
    #[error(
        "{file} is still being written by {} (process {}), {patience:?} after the steps have ended",
        shown(&.process.command),
        .process.pid,
        file = quoted(file)
    )]
    StillWritten {
        /// Its path in the mount.
        file: PathBuf,
        /// Who writes it.
        process: ProcessInfo,
        /// How long it was waited for.
        patience: Duration,
    },
    /// A process that the steps left behind still ran when it had been waited for, and does not let us see whether it writes:
    /// a program that may be executed and not read, a set-user-ID one, or one that has made itself undumpable (prctl(2)).
    #[error(
        "it cannot be known whether {} (process {}) still writes, {patience:?} after the steps have ended: it runs, and \
         cannot be looked at",
        .process.command.display(), .process.pid
    )]
    NotLookedAt {
        /// The process.
        process: ProcessInfo,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The job had more processes than its [limits](super::ResourceLimits) allow; everything in it was killed.
    #[error("the job was ended: {}", too_many_words(*.count, *.limit))]
    TooManyProcesses {
        /// How many ran at that moment, where we count them. A control group tells only that one more was wanted, and
        /// counts threads as well.
        count: Option<u64>,
        /// How many may.
        limit: u64,
    },
    /// The job's processes needed more memory than its [limits](super::ResourceLimits) allow to all of them together:
    /// the kernel killed one, and then everything in the job was killed.
    #[error(
        "the job was ended: its processes needed more than the memory limit of {}",
        crate::progress::ByteCount(*.limit_bytes)
    )]
    OverMemory {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// Somebody raised the [`Interrupt`](super::Interrupt) of the job.
    #[error("the job was cancelled")]
    Cancelled,
    /// An output is missing, or could not be taken out.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A job without FUSE held more than its limit, which could only be watched there; everything in it was killed.
    #[error(
        "the job was ended: it held more than the limit of {}",
        limit_words(*.resource, *.limits)
    )]
    OverLimit {
        /// Which limit.
        resource: Resource,
        /// The limits in force.
        limits: Limits,
    },
    /// The files of a job and what its tools wrote to `/tmp`, `/var/tmp`, `/dev/shm` and the like were more than its limit
    /// together; everything in it was killed.
    #[error(
        "the job was ended: its files ({}) and what its tools wrote to /tmp, /var/tmp and /dev/shm ({}) are more than the \
         limit of {} together",
        crate::progress::ByteCount(*.bytes),
        crate::progress::ByteCount(*.tmp_bytes),
        crate::progress::ByteCount(.limits.bytes)
    )]
    OverLimitWithTmp {
        /// What its files took.
        bytes: u64,
        /// What the temporary files took.
        tmp_bytes: u64,
        /// The limits in force.
        limits: Limits,
    },
    /// A job without FUSE ran in a directory whose file system had no more room, so that what its steps wrote may be cut.
    #[error(
        "the job was ended: {directory} had room for {} and no more, so that what was written there may be cut",
        limit_words(*.resource, *.room),
        directory = quoted(directory)
    )]
    NoRoom {
        /// Where the steps ran.
        directory: PathBuf,
        /// What was short.
        resource: Resource,
        /// How much there was when the job began.
        room: Limits,
    },
    /// Bytes that a tool wrote through a mapping were lost, because the limit was reached when the
    /// kernel wrote them back. The tool cannot have noticed.
    #[error(
        "{file:?} lost bytes that were written through a memory mapping: the limit of {} is reached",
        crate::progress::ByteCount(.limits.bytes)
    )]
    LostPages {
        /// The file.
        file: TreePath,
        /// The limits in force.
        limits: Limits,
    },
}

/// What only a mount gives a job; of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountOnly {
    /// [`Job::at`](crate::Job::at), where the system refuses namespaces, in which a directory could stand there.
    At,
    /// [`Job::visibility`](crate::Job::visibility).
    Visibility,
    /// [`Job::input_source`](crate::Job::input_source).
    Source,
    /// [`Job::on_event`](crate::Job::on_event).
    Events,
    /// No place for a [directory](crate::run::Backing::Directory) can be written in.
    Place,
}

impl std::fmt::Display for MountOnly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::At => "where namespaces are refused, a job at a path that was asked for",
            Self::Visibility => "a mount that must be private, or public,",
            Self::Source => "an input that is made when a step reaches for it",
            Self::Events => "telling what happens to files",
            Self::Place => "a job where no directory in RAM or on disk can be written in",
        })
    }
}

fn limit_words(resource: Resource, limits: Limits) -> String {
    match resource {
        Resource::Bytes => crate::progress::ByteCount(limits.bytes).to_string(),
        Resource::Inodes => format!("{} files and directories", limits.inodes),
    }
}

fn too_many_words(count: Option<u64>, limit: u64) -> String {
    match count {
        Some(count) => format!("it had {count} processes, and the limit is {limit}"),
        None => {
            format!("it wanted more processes and threads together than the limit of {limit}")
        }
    }
}

fn ending(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

fn step_ending(
    program: &OsString,
    exit: Exit,
    cpu_limit: Option<Duration>,
    last_line: Option<&str>,
) -> String {
    let program = quoted(program);
    match (cpu_limit, last_line) {
        (Some(limit), _) => format!("{program} was killed: the cpu limit of {limit:?}"),
        (None, Some(line)) => format!("{program} {}: {}", ending(exit), shown(line)),
        (None, None) => format!("{program} {}", ending(exit)),
    }
}

impl Error {
    /// That this step of a job failed.
    pub(super) fn step(step: usize, report: &StepReport) -> Self {
        let stderr = report.stderr.to_text();
        let last_line = stderr.trim_end().lines().last().map(str::to_owned);
        Self::StepFailed {
            step,
            program: report.command.first().cloned().unwrap_or_default(),
            exit: report.status.exit,
            cpu_limit: report.cpu_limit_met,
            last_line,
        }
    }
}
