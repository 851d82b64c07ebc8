//! What a job did: its steps, its outputs, what it used.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backing::Backing;
use super::error::Error;
use super::follow::Followed;
use super::limits::{LimitHolders, ResourceLimits};
use super::process::{StepStatus, StillRunning};
#[cfg(feature = "archives")]
use crate::archive::{Format, Pack};
use crate::collect::{self, Found, Wanted};
use crate::fuse::RequestCounts;
use crate::mount::MountError;
use crate::stage::LeftBehind;
use crate::store::{Peak, Resource, Tree, TreePath, Usage};
use crate::view::Touched;

/// What a job left behind when all of its steps succeeded.
///
/// Holds the final tree, whose bytes are shared, not copied: reading an output costs nothing but a
/// reference as long as it lies in one piece.
///
/// # Examples
///
/// ```
/// use notapipe::store::TreePath;
/// use notapipe::{Job, collect};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let outcome = Job::new()
///     .input("in", "b\na\n")
///     .step(["sort", "in", "-o", "out"])
///     .output("out")
///     .run()?;
/// assert_eq!(outcome.output("out").unwrap(), "a\nb\n");
/// assert_eq!(outcome.found()[0].path.to_string(), "out");
/// assert!(outcome.steps()[0].status.exit.success());
///
/// let root = TreePath::root();
/// let names = |tree| collect::list(tree, &root).map(|found| found.len());
/// assert_eq!((names(outcome.staged())?, names(outcome.tree())?), (1, 2));
///
/// assert!(outcome.skipped().is_empty());
/// assert!(outcome.peak().bytes >= outcome.usage().bytes);
/// assert_eq!(outcome.limit_met(), None);
/// match outcome.without_fuse() {
///     Some(why) => println!("in {:?}, as {why}", outcome.backing()),
///     None => assert_eq!(outcome.backing(), notapipe::run::Backing::Fuse),
/// }
/// assert!(outcome.still_running().is_none());
/// assert_eq!(outcome.resource_limits().memory_bytes, None);
/// println!("{:?}, {} requests", outcome.phases().run, outcome.requests().total());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Outcome {
    pub(super) steps: Vec<StepReport>,
    pub(super) steps_not_run: Vec<Vec<OsString>>,
    /// Those that are there.
    pub(super) outputs: Vec<Found>,
    pub(super) staged: Tree,
    pub(super) tree: Tree,
    pub(super) skipped: LeftBehind,
    pub(super) limit_met: Option<Resource>,
    pub(super) tmp_full: Option<Resource>,
    pub(super) requests: Arc<RequestCounts>,
    pub(super) phases: Phases,
    pub(super) followed: Vec<Followed>,
    pub(super) resource_limits: ResourceLimits,
    pub(super) limits_by: LimitHolders,
    pub(super) peak: Peak,
    pub(super) backing: Backing,
    pub(super) without_fuse: Option<MountError>,
    pub(super) still_running: Option<StillRunning>,
}

impl Outcome {
    /// The bytes of an output, or of any other file that the job left, by its path in the mount.
    ///
    /// `None` where there is no such file.
    pub fn output(&self, path: impl AsRef<std::path::Path>) -> Option<Bytes> {
        let path = TreePath::try_from(path.as_ref()).ok()?;
        collect::read(&self.tree, &path).ok()
    }

    /// The outputs that are files, with their bytes, in byte order of their names.
    pub fn outputs(&self) -> impl Iterator<Item = (&TreePath, Bytes)> {
        self.outputs
            .iter()
            .filter_map(|it| Some((&it.path, collect::read(&self.tree, &it.path).ok()?)))
    }

    /// All outputs as one archive.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::archive::Format;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let first = Job::new().step(["touch", "a", "b"]).outputs(["a", "b"]).run()?;
    /// let mut tar = Vec::new();
    /// first.pack(Format::Tar).write(&mut tar)?;
    ///
    /// let second = Job::new().unpack(tar).step(["mv", "a", "c"]).output_changed().run()?;
    /// assert_eq!(second.outputs().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "archives")]
    pub fn pack(&self, format: Format) -> Pack<'_> {
        Pack::new(&self.tree, format).found(self.outputs.clone())
    }

    pub(super) fn take_what_there_is(&mut self, wanted: &[Wanted]) {
        let there = |one: &Wanted| {
            let one = std::slice::from_ref(one);
            collect::select(&self.tree, &self.staged, one).unwrap_or_default()
        };
        self.outputs = wanted.iter().flat_map(there).collect();
    }

    /// The outputs: files, symlinks, and directories for all that is in them; in byte order of their names. Of a job
    /// that failed those that are there, in the order in which they were declared.
    pub fn found(&self) -> &[Found] {
        &self.outputs
    }

    /// One report for each step that was started, in order.
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// Processes of a job that failed which could not be ended: they wait for a file system that does not answer, and end
    /// when it does.
    pub fn still_running(&self) -> Option<&StillRunning> {
        self.still_running.as_ref()
    }

    /// The commands of the steps that were not started, because the job had failed, in order; see
    /// [`Failed`](super::Failed).
    pub fn steps_not_run(&self) -> &[Vec<OsString>] {
        &self.steps_not_run
    }

    /// The tree as the job left it.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree as it was before the first step.
    pub fn staged(&self) -> &Tree {
        &self.staged
    }

    /// FIFOs, sockets and devices in staged directories, which were left behind.
    pub fn skipped(&self) -> &LeftBehind {
        &self.skipped
    }

    /// What the final tree holds, and its limits.
    pub fn usage(&self) -> Usage {
        self.tree.usage()
    }

    /// The most that was held at once, from the first input on.
    pub fn peak(&self) -> Peak {
        self.peak
    }

    /// What the job's files lived in; never [`Backing::Auto`]. See [`Job::backing`](crate::Job::backing).
    pub fn backing(&self) -> Backing {
        self.backing
    }

    /// Why [`Backing::Auto`] was not [`Backing::Fuse`], where it was not; see [`Job::on_backing`](crate::Job::on_backing).
    pub fn without_fuse(&self) -> Option<&MountError> {
        self.without_fuse.as_ref()
    }

    /// The limit that a step ran into, if one did: it then saw ENOSPC, whatever it made of that.
    pub fn limit_met(&self) -> Option<Resource> {
        self.limit_met
    }

    /// The limit that what the steps had written to the job's own `/tmp`, `/var/tmp` and `/dev/shm` filled in the end, if
    /// it did; see [`Job::tmp`](super::Job::tmp).
    pub fn tmp_full(&self) -> Option<Resource> {
        self.tmp_full
    }

    /// How many requests the kernel sent, by kind.
    pub fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    /// What was handed on of the files that were [followed](super::Job::follow), in order.
    pub fn followed(&self) -> &[Followed] {
        &self.followed
    }

    /// What the job's processes could use.
    pub fn resource_limits(&self) -> ResourceLimits {
        self.resource_limits
    }

    /// What held them.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::{LimitHolder, ResourceLimits};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let limits = ResourceLimits {
    ///     files: Some(64),
    ///     ..ResourceLimits::default()
    /// };
    /// let outcome = notapipe::Job::new().resource_limits(limits).step(["true"]).run()?;
    /// assert_eq!(outcome.limits_by().files, Some(LimitHolder::Rlimit));
    /// assert_eq!(outcome.limits_by().memory, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits_by(&self) -> LimitHolders {
        self.limits_by
    }

    /// Where the job's time went.
    pub fn phases(&self) -> Phases {
        self.phases
    }
}

/// Where a job's time went; of an [`Outcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Inputs into the tree.
    pub stage: Duration,
    /// The mount, from the first system call to the answered INIT.
    pub mount: Duration,
    /// The steps, from the first start to the last end.
    pub run: Duration,
    /// Ending what still ran, and the unmount.
    pub unmount: Duration,
}

/// Why a step ended before its own end; see [`Failed`](super::Failed).
///
/// It was killed then, unless it had [time](crate::Job::kill_after) to end: its
/// [exit](StepStatus::exit) tells what it made of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndedBy {
    /// The job's [timeout](crate::Job::timeout).
    Timeout,
    /// Somebody raised the job's [`Interrupt`](super::Interrupt).
    Interrupt,
    /// Another step of its pipe had failed.
    Pipe,
    /// The limit of processor time; see [`StepReport::cpu_limit_met`].
    CpuLimit,
    /// The limit of processes.
    ProcessLimit,
    /// The limit of memory, in a control group.
    MemoryLimit,
    /// A limit of what the job may hold, which was watched where there is no FUSE.
    SizeLimit,
    /// Nobody served the mount any more.
    SessionLost,
    /// Something else that failed the job, such as another step of its pipe that could not be started.
    Failure,
}

/// As reports have it.
impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Interrupt => "interrupt",
            Self::Pipe => "pipe",
            Self::CpuLimit => "cpu",
            Self::ProcessLimit => "processes",
            Self::MemoryLimit => "memory",
            Self::SizeLimit => "size",
            Self::SessionLost => "mount",
            Self::Failure => "failure",
        })
    }
}

impl EndedBy {
    /// What ends the steps of a job that fails with this error.
    pub(super) fn error(error: &Error) -> Self {
        match error {
            Error::Timeout { .. } => Self::Timeout,
            Error::Cancelled => Self::Interrupt,
            Error::TooManyProcesses { .. } => Self::ProcessLimit,
            Error::OverMemory { .. } => Self::MemoryLimit,
            Error::OverLimit { .. } | Error::OverLimitWithTmp { .. } | Error::NoRoom { .. } => {
                Self::SizeLimit
            }
            Error::Mount(MountError::SessionLost { .. } | MountError::Aborted { .. }) => {
                Self::SessionLost
            }
            _ => Self::Failure,
        }
    }
}

/// How one step went.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), notapipe::Error> {
/// let outcome = notapipe::Job::new().step(["sh", "-c", "echo ceci; echo cela >&2"]).run()?;
/// let report = &outcome.steps()[0];
/// assert_eq!((report.stdout.to_text().as_str(), report.stderr.dropped), ("ceci\n", 0));
/// println!("{:?} took {:?}", report.command, report.status.wall_time);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepReport {
    /// Its program and arguments.
    pub command: Vec<OsString>,
    /// How it ended, and what it used.
    pub status: StepStatus,
    /// Why it did not end by itself, if it did not.
    pub ended_by: Option<EndedBy>,
    /// The limit of processor time that ended it, or what it had started, if that is known.
    pub cpu_limit_met: Option<Duration>,
    /// What the kernel asked while it ran; in a pipe, also for those that ran with it.
    pub requests: RequestCounts,
    /// Which files it touched, where opens were seen ([`Profile::Observed`](crate::fuse::Profile::Observed)).
    ///
    /// Each step of a pipe has the list of the whole pipe.
    pub touched: Option<Touched>,
    /// What it wrote to its standard output, where that was captured.
    pub stdout: Captured,
    /// What it wrote to its standard error, where that was captured.
    pub stderr: Captured,
}

/// Output of a step, as far as it was kept; of a [`StepReport`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The last bytes, up to the bound on what is kept.
    pub bytes: Vec<u8>,
    /// How many bytes before them were dropped.
    pub dropped: u64,
}

impl Captured {
    /// Keeps at most `most` of the latest bytes.
    pub(super) fn append(&mut self, bytes: &[u8], most: usize) {
        self.bytes.extend_from_slice(bytes);
        // Cut only when twice the bound is held, so that each byte is moved at most once on
        // average.
        if self.bytes.len() > 2 * most {
            self.cut(most);
        }
    }

    pub(super) fn cut(&mut self, most: usize) {
        let excess = self.bytes.len().saturating_sub(most);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
    }

    /// The text, with anything that is not UTF-8 replaced.
    ///
    /// # Examples
    ///
    /// ```
    /// let captured = notapipe::Captured { bytes: b"caf\xe9".to_vec(), dropped: 0 };
    /// assert_eq!(captured.to_text(), "caf\u{fffd}");
    /// ```
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Captured(\"{}\", {} dropped)",
            self.bytes.escape_ascii(),
            self.dropped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_keeps_the_end_and_counts_the_rest() {
        let mut captured = Captured::default();
        for byte in 0..=99u8 {
            captured.append(&[byte], 10);
        }
        captured.cut(10);
        assert_eq!(captured.bytes, (90..100).collect::<Vec<u8>>());
        assert_eq!(captured.dropped, 90);
    }
}
