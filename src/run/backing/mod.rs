//! Where a job's files live while its steps run.

mod directory;
mod fuse;
mod moved;
mod take_back;
mod tmpfs;
mod walk;
mod write_out;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, MountOnly};
use super::follow;
use crate::fuse::{Profile, RequestCounts, SessionEnd};
use crate::mount::{BackedBy, BackedWanted, MountError, MountOptions, MountPoint, Visibility};
use crate::scratch::Watch;
use crate::store::{Limits, Peak, Resource, Source, Tree, TreePath};
use crate::view::Touched;

use self::directory::Directory;
use self::fuse::Fuse;
use self::tmpfs::Tmpfs;

/// What a job's files live in while its steps run; for [`Job::backing`](crate::Job::backing).
///
/// Steps, outputs, exit statuses, limits and reports are the same in each. What differs:
///
/// | | [`Fuse`](Self::Fuse) | [`Tmpfs`](Self::Tmpfs) | [`Directory`](Self::Directory) |
/// | --- | --- | --- | --- |
/// | needs | FUSE | namespaces | a directory that can be written in |
/// | limits | enforced | enforced | watched: a job that exceeds one is ended |
/// | path | the same in each run | the same in each run | another in each run, where namespaces are refused |
/// | [`follow`](crate::Job::follow) | told by the file system | looked at every 20 ms | looked at every 20 ms |
/// | [`StepReport::touched`](crate::run::StepReport::touched) | each file | none | none |
/// | [`input_source`](crate::Job::input_source) | when a step asks | refused | refused |
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::Backing;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let outcome = Job::new()
///     .backing(Backing::Tmpfs)
///     .step(["sh", "-c", "echo made > out"])
///     .output("out")
///     .run()?;
/// assert_eq!(outcome.output("out").unwrap(), "made\n");
/// assert_eq!(outcome.backing(), Backing::Tmpfs);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// FUSE where this machine allows it, else a tmpfs, else a directory.
    #[default]
    Auto,
    /// A mount that this process serves.
    Fuse,
    /// A tmpfs of the kernel's in the job's private namespaces, as large as the job's limits.
    Tmpfs,
    /// A directory: of all tmpfs that this process may write to, in the one with the most room; on disk only where none has
    /// room for the inputs.
    Directory,
}

/// How often it is looked whether a limit is met, at least.
const LOOK: Duration = Duration::from_millis(20);
/// How often that is, at most.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
/// No tool fills memory faster, in bytes a millisecond.
const FASTEST_TOOL: u64 = 8 << 20;

/// How soon to look again where there is room for so many bytes.
fn pause(room: u64) -> Duration {
    Duration::from_millis(room / FASTEST_TOOL).clamp(SHORTEST_LOOK, LOOK)
}

/// Looks whether the files of a job, which hold so many bytes, and its own `/tmp` are more than the limit together.
fn check_with_tmp(place: &MountPoint, bytes: u64, limits: Limits) -> Result<(), Error> {
    let tmp_bytes = place.own_usage().map_or(0, |tmp| tmp.bytes);
    match tmp_bytes > 0 && bytes.saturating_add(tmp_bytes) > limits.bytes {
        false => Ok(()),
        true => Err(Error::OverLimitWithTmp {
            bytes,
            tmp_bytes,
            limits,
        }),
    }
}

/// The files of one job, from when its inputs are there until its results are taken.
pub(super) trait JobFiles: fmt::Debug + Send + Sync {
    /// Never [`Backing::Auto`].
    fn backing(&self) -> Backing;

    /// Where the processes of the job are started.
    fn place(&self) -> &Arc<MountPoint>;

    /// What stands in place of a FUSE mount.
    fn backed_by(&self) -> Option<&BackedBy> {
        None
    }

    /// The directory for temporary files, as the steps see it, where `/tmp` is not the job's own.
    fn temporary(&self) -> Option<PathBuf> {
        None
    }

    /// Follows a file, which begins when a step has changed it.
    fn follow(&self, name: &TreePath) -> Result<Box<dyn follow::Source>, Error>;

    /// Looks whether the job holds more than it may; says how soon to look again, if that is needed.
    ///
    /// # Errors
    /// It does: no step may go on.
    fn look(&self) -> Result<Option<Duration>, Error>;

    /// Takes back what is there, when all processes of the job have ended.
    fn end(self: Box<Self>) -> Result<Left, Error>;

    /// The session of a mount that this process serves.
    fn session_end(&self) -> Option<&SessionEnd> {
        None
    }

    /// How many requests the kernel sent; none where nothing is served.
    fn requests(&self) -> Arc<RequestCounts> {
        Arc::default()
    }

    /// Whether an inode has a name, where that is known.
    fn has_name(&self, _ino: u64) -> bool {
        true
    }

    /// Which files were touched since the last call; none where opens are not seen.
    fn take_touched(&self) -> Option<Touched> {
        None
    }

    /// What happens to all files from now on.
    fn watch(&self) -> Result<Watch, Error> {
        let (what, source) = (MountOnly::Events, None);
        Err(Error::NeedsFuse { what, source })
    }

    /// Inputs that are not made yet never will be.
    fn cancel_sources(&self) {}
}

/// What is left of a job's files when they are taken back.
#[derive(Debug)]
pub(super) struct Left {
    /// What the steps were given. Where files were moved, those that the steps have changed are holes in it.
    pub staged: Tree,
    pub tree: Tree,
    pub peak: Peak,
    /// The limit that a step met.
    pub limit_met: Option<Resource>,
    /// The limit that temporary files alone filled.
    pub tmp_full: Option<Resource>,
    /// Files that lost bytes which were written through a memory mapping.
    pub lost_files: Vec<TreePath>,
    /// An input that could not be made: the step that read it saw EIO.
    pub failed_source: Option<Error>,
    /// What the steps wrote may be cut without their having noticed.
    pub shortage: Option<Error>,
    /// How taking down what held the files ended.
    pub closed: Result<(), Error>,
}

/// What a job asks of its files.
#[derive(Debug)]
pub(super) struct Wanted {
    pub backing: Backing,
    pub profile: Profile,
    pub extended_attributes: bool,
    pub events: bool,
    pub mount: MountOptions,
}

impl Wanted {
    fn backed(&self, tree: &Tree) -> BackedWanted<'_> {
        BackedWanted {
            at: self.mount.at.as_deref(),
            allow_other: self.mount.allow_other,
            own_tmp: self.mount.own_tmp.as_ref(),
            limits: tree.usage().limits,
        }
    }

    /// What was asked for that FUSE alone gives.
    fn needs_fuse(&self, sources: &[(TreePath, Source)]) -> Option<MountOnly> {
        let is_private = self.backing == Backing::Tmpfs;
        match self.mount.visibility {
            Visibility::Public => Some(MountOnly::Visibility),
            Visibility::Private if !is_private => Some(MountOnly::Visibility),
            _ if self.events => Some(MountOnly::Events),
            _ => (!sources.is_empty()).then_some(MountOnly::Source),
        }
    }
}

/// Makes the files of a job of what was staged, and tells why they are not in a FUSE mount where they were to be if
/// possible.
pub(super) fn make(
    wanted: &Wanted,
    tree: Tree,
    sources: Vec<(TreePath, Source)>,
) -> Result<(Box<dyn JobFiles>, Option<MountError>), Error> {
    let needs_fuse = wanted.needs_fuse(&sources);
    let needs = |what, source| Error::NeedsFuse { what, source };
    match (wanted.backing, needs_fuse) {
        (Backing::Tmpfs | Backing::Directory, Some(what)) => Err(needs(what, None)),
        (Backing::Tmpfs, None) => {
            let made = MountPoint::tmpfs(&wanted.backed(&tree))?;
            Ok((Box::new(Tmpfs::new(made, tree)?), None))
        }
        (Backing::Directory, None) => Ok((Box::new(Directory::make(wanted, tree)?), None)),
        (Backing::Fuse, _) => Ok((Box::new(Fuse::mount(wanted, tree, sources)?), None)),
        (Backing::Auto, _) => {
            let staged = tree.fork();
            let refused = match Fuse::mount(wanted, tree, sources) {
                Err(Error::Mount(refused)) if refused.lacks_fuse() => refused,
                mounted => return Ok((Box::new(mounted?), None)),
            };
            match needs_fuse {
                Some(what) => Err(needs(what, Some(refused))),
                None => without_fuse(wanted, staged, refused),
            }
        }
    }
}

fn without_fuse(
    wanted: &Wanted,
    staged: Tree,
    refused: MountError,
) -> Result<(Box<dyn JobFiles>, Option<MountError>), Error> {
    match MountPoint::tmpfs(&wanted.backed(&staged)) {
        Ok(made) => return Ok((Box::new(Tmpfs::new(made, staged)?), Some(refused))),
        Err(error) if error.allows_another_way() => {}
        Err(error) => return Err(error.into()),
    }
    match Directory::make(wanted, staged) {
        Err(Error::Mount(MountError::NoTmpfs { .. })) => Err(Error::NeedsFuse {
            what: MountOnly::Place,
            source: Some(refused),
        }),
        made => Ok((Box::new(made?), Some(refused))),
    }
}
