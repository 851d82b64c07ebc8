//! A tmpfs or a directory in place of a mount, where there is no FUSE.
//!
//! Where namespaces are allowed it is a tmpfs in those of the job, which goes with them. Otherwise it is a directory that
//! only its owner may enter, unless root lets others in; it is removed with all that is in it when it is dropped, and by a
//! watchdog when we are killed.

use std::cmp::Reverse;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, access, accessat, open, statfs, statvfs,
};

use super::error::{MountError, Operation};
use super::privately::{self, Files};
use super::tmp::{OwnDirectories, OwnTmp};
use super::watchdog::{self, AlsoRemove, Watchdog};
use crate::store::Limits;
use crate::sys::namespaces::Namespaces;

/// Where the files of a job are that has no mount; for [`Job::on_backing`](crate::Job::on_backing).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedBy {
    /// Their directory, as the steps see it.
    pub directory: PathBuf,
    /// What it lies on.
    pub storage: Storage,
    /// Those that were asked for, or what there is room for if that is less.
    pub limits: Limits,
    /// A program that is made there cannot be executed (the option noexec of mount(8)).
    pub no_exec: bool,
    /// There is no shell that would remove it after a kill -9 of this process.
    pub stays_when_killed: bool,
}

/// What the files of a job lie on that has no mount; of an [`BackedBy`], which [`Job::on_backing`](crate::Job::on_backing)
/// tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// A tmpfs of the job's own, in its namespaces: the kernel holds the limits, and no other process sees it.
    OwnTmpfs,
    /// A directory on a tmpfs that others use as well.
    Tmpfs,
    /// A directory on a disk, as no tmpfs has room for the inputs.
    Disk,
}

/// What is asked for in place of a mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainWanted<'w> {
    pub(crate) kind: PlainKind,
    /// Where a directory may be made.
    pub(crate) parents: &'w [PathBuf],
    /// Where its processes are to see it.
    pub(crate) at: Option<&'w Path>,
    pub(crate) allow_other: bool,
    pub(crate) own_tmp: Option<&'w OwnTmp>,
    pub(crate) limits: Limits,
    /// What it begins with.
    pub(crate) needed_bytes: u64,
}

/// What may stand in place of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainKind {
    Any,
    Tmpfs,
    Directory,
}

/// A directory of ours.
#[derive(Debug)]
pub(crate) struct PlainDirectory {
    path: PathBuf,
    /// Taken when it is dismissed. There is none where there is no shell for it.
    watchdog: Option<Watchdog>,
    parent: Parent,
}

/// A directory in which one may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parent {
    path: PathBuf,
    is_tmpfs: bool,
    no_exec: bool,
    room: Limits,
}

/// What a directory on a file system that others write to as well leaves to them.
const MARGIN_BYTES: u64 = 256 << 10;
const MARGIN_INODES: u64 = 16;

impl Parent {
    /// Nothing where we may not write.
    fn look_at(path: &Path) -> Option<Self> {
        const TMPFS: i128 = 0x0102_1994;
        let path = std::fs::canonicalize(path).ok()?;
        let usable = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, &path, usable, AtFlags::EACCESS).ok()?;
        let there = statvfs(&path).ok()?;
        if there.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return None;
        }
        // Without a limit of its own, a file system has no number of inodes.
        let inodes = match there.f_files {
            0 => u64::MAX,
            _ => there.f_favail,
        };
        let bytes = there.f_bavail.saturating_mul(there.f_frsize);
        Some(Self {
            // The field is of another width on other architectures.
            is_tmpfs: statfs(&path).is_ok_and(|fs| i128::from(fs.f_type) == TMPFS),
            no_exec: there.f_flag.contains(StatVfsMountFlags::NOEXEC),
            room: Limits {
                bytes: bytes.saturating_sub(MARGIN_BYTES.max(bytes / 64)),
                inodes: inodes.saturating_sub(MARGIN_INODES),
            },
            path,
        })
    }

    /// The better the larger: in RAM, as long as the inputs have room there; where programs can be executed; and where
    /// there is the most room, up to what is wanted.
    fn rank(&self, wanted: &PlainWanted<'_>) -> (bool, bool, bool, u64) {
        let has_room = self.room.bytes > wanted.needed_bytes;
        let room = self.room.bytes.min(wanted.limits.bytes);
        (has_room, self.is_tmpfs, !self.no_exec, room)
    }
}

impl PlainDirectory {
    /// In the best of the parents.
    ///
    /// # Errors
    /// [`MountError::NoTmpfs`], or what the last of them refused.
    fn make(wanted: &PlainWanted<'_>) -> Result<Self, MountError> {
        let parents = wanted.parents.iter();
        let mut usable: Vec<Parent> = parents.filter_map(|it| Parent::look_at(it)).collect();
        // Of equal ones the first.
        usable.sort_by_key(|it| Reverse(it.rank(wanted)));
        let mut refused = MountError::NoTmpfs {
            tried: wanted.parents.to_vec(),
        };
        for parent in usable {
            let path = parent.path.clone();
            match Self::make_in(parent) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    refused = MountError::system(Operation::MakeDirectory, &path, error);
                }
            }
        }
        Err(refused)
    }

    fn make_in(parent: Parent) -> io::Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("notapipe-")
            .make_in(&parent.path, |path| {
                DirBuilder::new().mode(0o700).create(path)
            })?
            .into_temp_path()
            .keep()
            .map_err(|error| error.error)?;
        match Watchdog::start(&path, AlsoRemove::Everything, None) {
            Ok(watchdog) => Ok(Self {
                path,
                watchdog: Some(watchdog),
                parent,
            }),
            Err(_) if access(watchdog::SHELL, Access::EXISTS).is_err() => Ok(Self {
                path,
                watchdog: None,
                parent,
            }),
            Err(error) => {
                let _ = std::fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// Lets other users in, as they come into the root of a mount.
    fn open_up(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o755))
    }
}

impl PlainDirectory {
    /// Makes two directories in it, one for what is in none of a job's outputs; gives the other one.
    fn divide(&self) -> io::Result<PathBuf> {
        let make = |name: &str, mode| {
            let path = self.path.join(name);
            std::fs::create_dir(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
            Ok::<_, io::Error>(path)
        };
        make(TEMPORARY, 0o1777)?;
        // Those who may enter one may enter the other.
        let mode = std::fs::metadata(&self.path)?.permissions().mode() & 0o777;
        make("files", mode)
    }
}

/// The directory of a job without namespaces for temporary files, beside the one that its files are in.
pub(crate) const TEMPORARY: &str = "tmp";

impl Drop for PlainDirectory {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => {
                if let Some(watchdog) = self.watchdog.take() {
                    watchdog.dismiss();
                }
            }
            // The watchdog tries once more: it opens up what a tool has closed.
            Err(error) => log::debug!("cannot remove {}: {error}", self.path.display()),
        }
    }
}

/// What stands in place of a mount: where its processes see it, and what holds it.
pub(super) struct Made {
    pub(super) directory: Option<PlainDirectory>,
    pub(super) files: OwnedFd,
    pub(super) inside: Option<Namespaces>,
    pub(super) own: Option<OwnDirectories>,
    pub(super) instead: BackedBy,
}

/// A tmpfs in namespaces of its own, or else the best directory that there is.
///
/// # Errors
/// [`MountError`]; nothing is left of the attempt.
pub(super) fn make(wanted: &PlainWanted<'_>) -> Result<Made, MountError> {
    match wanted.kind {
        PlainKind::Directory => directory(wanted),
        PlainKind::Tmpfs => tmpfs(wanted),
        PlainKind::Any => match tmpfs(wanted) {
            Err(refused) if refused.allows_another_way() => directory(wanted),
            made => made,
        },
    }
}

/// Only root has steps that become another user.
fn lets_others_in(wanted: &PlainWanted<'_>) -> bool {
    wanted.allow_other && rustix::process::geteuid().is_root()
}

fn tmpfs(wanted: &PlainWanted<'_>) -> Result<Made, MountError> {
    let mode = if lets_others_in(wanted) { 0o755 } else { 0o700 };
    let files = Files::Tmpfs(wanted.limits, mode);
    let bound = privately::bind(files, wanted.at, wanted.own_tmp)?;
    Ok(Made {
        directory: None,
        files: bound.files,
        inside: Some(bound.namespaces),
        own: bound.own,
        instead: BackedBy {
            directory: bound.path,
            storage: Storage::OwnTmpfs,
            limits: wanted.limits,
            no_exec: false,
            stays_when_killed: false,
        },
    })
}

fn directory(wanted: &PlainWanted<'_>) -> Result<Made, MountError> {
    let directory = PlainDirectory::make(wanted)?;
    let mut host = directory.path.clone();
    let failed = |error| MountError::system(Operation::MakeDirectory, &directory.path, error);
    if lets_others_in(wanted) {
        directory.open_up().map_err(failed)?;
    }
    let bind = |at| privately::bind(Files::Directory(&directory.path), Some(at), wanted.own_tmp);
    let bound = match (wanted.at, wanted.own_tmp) {
        (None, None) => None,
        (None, Some(_)) => match bind(&directory.path) {
            Err(refused) if refused.allows_another_way() => None,
            bound => Some(bound?),
        },
        (Some(at), _) => Some(bind(at)?),
    };
    if bound.is_none() && wanted.own_tmp.is_some() {
        host = directory.divide().map_err(failed)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let files = open(&host, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let Parent {
        is_tmpfs,
        no_exec,
        room,
        ..
    } = directory.parent;
    let (path, inside, own) = match bound {
        Some(bound) => (bound.path, Some(bound.namespaces), bound.own),
        None => (host, None, None),
    };
    let instead = BackedBy {
        directory: path,
        storage: match is_tmpfs {
            true => Storage::Tmpfs,
            false => Storage::Disk,
        },
        limits: Limits {
            bytes: wanted.limits.bytes.min(room.bytes),
            inodes: wanted.limits.inodes.min(room.inodes),
        },
        no_exec,
        stays_when_killed: directory.watchdog.is_none(),
    };
    Ok(Made {
        directory: Some(directory),
        files,
        inside,
        own,
        instead,
    })
}
