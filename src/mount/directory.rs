//! A directory in place of a mount.
//!
//! Only its owner may enter it, unless root lets others in; it is removed with all that is in it when it is dropped, and by a
//! watchdog when we are killed.

use std::cmp::Reverse;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, access, accessat, open, statfs, statvfs,
};

use super::backed::{BackedBy, BackedWanted, Made, Storage};
use super::error::{MountError, Operation};
use super::privately::{self, Files};
use super::watchdog::{self, AlsoRemove, Watchdog};
use crate::store::Limits;

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnedDirectory {
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
    fn rank(&self, wanted_bytes: u64, needed_bytes: u64) -> (bool, bool, bool, u64) {
        let has_room = self.room.bytes > needed_bytes;
        let room = self.room.bytes.min(wanted_bytes);
        (has_room, self.is_tmpfs, !self.no_exec, room)
    }
}

impl OwnedDirectory {
    /// In the best of the parents.
    ///
    /// # Errors
    /// [`MountError::NoTmpfs`], or what the last of them refused.
    fn make(parents: &[PathBuf], wanted_bytes: u64, needed_bytes: u64) -> Result<Self, MountError> {
        let usable = parents.iter().filter_map(|it| Parent::look_at(it));
        let mut usable: Vec<Parent> = usable.collect();
        // Of equal ones the first.
        usable.sort_by_key(|it| Reverse(it.rank(wanted_bytes, needed_bytes)));
        let mut refused = MountError::NoTmpfs {
            tried: parents.to_vec(),
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

impl OwnedDirectory {
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

impl Drop for OwnedDirectory {
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

/// The best of these directories that there is, with room for so many bytes if one has.
///
/// # Errors
/// [`MountError`]; nothing is left of the attempt.
pub(super) fn directory(
    wanted: &BackedWanted<'_>,
    parents: &[PathBuf],
    needed_bytes: u64,
) -> Result<Made, MountError> {
    let directory = OwnedDirectory::make(parents, wanted.limits.bytes, needed_bytes)?;
    let mut host = directory.path.clone();
    let failed = |error| MountError::system(Operation::MakeDirectory, &directory.path, error);
    if wanted.lets_others_in() {
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
    let backed_by = BackedBy {
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
        backed_by,
    })
}
