//! Where on the host an output goes, found out before anything runs.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::CollectError;
use super::host_path::{HostPath, absolute};
use super::stream::Stream;
use super::tree_reader::LINKS_MAX;
use crate::store::{Name, TreePath};

/// What failed while a destination was looked at.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) error: io::Error,
}

impl Problem {
    pub(super) fn new(problem: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self {
            problem: problem.into(),
            error: error.into(),
        }
    }

    /// The error of an output that cannot go there.
    pub(super) fn of(self, name: &TreePath, destination: &Path) -> CollectError {
        CollectError::Destination {
            name: name.clone(),
            destination: destination.to_owned(),
            problem: self.problem,
            error: self.error,
        }
    }
}

/// An absolute path of the host without `..`, for an output.
pub(super) fn host_path(name: &TreePath, path: &Path) -> Result<HostPath, CollectError> {
    absolute(path).map_err(|error| Problem::new("it cannot be a path", error).of(name, path))
}

/// Where an output goes, by what it will turn out to be.
#[derive(Debug)]
pub(super) struct Target {
    /// A file's or symlink's place.
    pub(super) as_file: FileTarget,
    /// A directory's place, into which its entries are merged.
    pub(super) as_directory: Option<PathBuf>,
}

/// A place for a file.
#[derive(Debug)]
pub(super) enum FileTarget {
    /// Absolute, no symlinks in what exists of it. A regular file, or nothing yet.
    Path(PathBuf),
    /// Not replaced but written into.
    Stream(Stream),
    /// A directory stands there, or the output is the root: only a directory can go there.
    DirectoryOnly,
}

impl Target {
    /// Finds where `given` leads for an output called `base` (none for the root).
    ///
    /// As for `cp`, a file goes into a directory that exists, under its own name. Everything goes
    /// into a destination that ends in `/`, which is made when it is missing.
    pub(super) fn locate(given: &Path, base: Option<&Name>) -> Result<Self, Problem> {
        if given.as_os_str().is_empty() {
            return Err(Problem::new("the destination is empty", Errno::NOENT));
        }
        let into = [&b"/"[..], b"/.", b"/.."]
            .iter()
            .any(|e| given.as_os_str().as_bytes().ends_with(e))
            || matches!(given.as_os_str().as_bytes(), b"." | b"..");
        let below = |directory: &Path| {
            base.map(|name| directory.join(std::ffi::OsStr::from_bytes(name.as_bytes())))
        };
        match Resolved::of(given)? {
            Resolved::Stream(stream) => Ok(Self {
                as_file: FileTarget::Stream(stream),
                as_directory: None,
            }),
            Resolved::File(path) if into => {
                Err(Problem::new(format!("{path:?} is a file"), Errno::NOTDIR))
            }
            Resolved::File(path) => Ok(Self {
                as_file: FileTarget::Path(path),
                as_directory: None,
            }),
            Resolved::Absent(path) => {
                let path = if into {
                    below(&path).unwrap_or(path)
                } else {
                    path
                };
                Ok(Self {
                    as_file: FileTarget::Path(path.clone()),
                    as_directory: Some(path),
                })
            }
            Resolved::Directory(directory) => {
                let Some(inside) = below(&directory) else {
                    let as_directory = Some(directory);
                    return Ok(Self {
                        as_file: FileTarget::DirectoryOnly,
                        as_directory,
                    });
                };
                let (as_file, found) = match Resolved::inside(&inside)? {
                    Resolved::Stream(stream) => (FileTarget::Stream(stream), None),
                    Resolved::File(path) => (FileTarget::Path(path), None),
                    Resolved::Absent(path) => (FileTarget::Path(path.clone()), Some(path)),
                    Resolved::Directory(path) => (FileTarget::DirectoryOnly, Some(path)),
                };
                Ok(Self {
                    as_file,
                    as_directory: if into { found } else { Some(directory) },
                })
            }
        }
    }

    /// Refuses what would only fail after the steps have run.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let path = match (&self.as_file, &self.as_directory) {
            (FileTarget::Path(path), _) | (FileTarget::DirectoryOnly, Some(path)) => path,
            (FileTarget::Stream(Stream::Special(path) | Stream::Link(path)), _) => {
                return access(path, Access::WRITE_OK)
                    .map_err(|error| Problem::new("it cannot be written", error));
            }
            _ => return Ok(()),
        };
        let directory = match &self.as_file {
            FileTarget::Path(path) if is_mount_point(path) => {
                return Err(Problem::new(MOUNT_POINT, Errno::BUSY));
            }
            FileTarget::Path(path) => anchor(path),
            _ => path.clone(),
        };
        access(&directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            Problem::new(
                format!("files cannot be made in the directory {directory:?}"),
                error,
            )
        })
    }
}

/// What is mounted cannot be renamed, and nothing can take its place.
pub(super) const MOUNT_POINT: &str = "it is a mount point, which cannot be replaced; mount the directory that holds it \
     instead of the file, or have it written to standard output (-) and redirect that";

/// Of a kernel that tells: Linux 5.8 and later.
pub(super) fn is_mount_point(path: &Path) -> bool {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The nearest directory above `path` that exists.
pub(super) fn anchor(path: &Path) -> PathBuf {
    let mut above = path.ancestors().skip(1);
    above
        .find(|directory| directory.is_dir())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Whether the effective user, whose rights will count, has access.
fn access(path: &Path, wanted: Access) -> Result<(), Errno> {
    match rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS) {
        // A kernel that cannot tell: the real attempt will.
        Err(Errno::NOSYS | Errno::INVAL) => Ok(()),
        told => told,
    }
}

/// What a path of the host leads to when its symlinks are followed.
enum Resolved {
    Absent(PathBuf),
    File(PathBuf),
    Directory(PathBuf),
    Stream(Stream),
}

impl Resolved {
    fn of(given: &Path) -> Result<Self, Problem> {
        // Through components, which takes trailing slashes off.
        let mut path: PathBuf = std::path::absolute(given)
            .map_err(unseen)?
            .components()
            .collect();
        for _ in 0..=LINKS_MAX {
            let Some(link) = Self::without_following(&path)? else {
                let parent = path.parent().unwrap_or(Path::new("/"));
                may_follow(parent, &path)?;
                if let Some(stream) = descriptor(parent, &path).map_err(unseen)? {
                    return Ok(Self::Stream(stream));
                }
                path = parent
                    .join(fs::read_link(&path).map_err(unseen)?)
                    .components()
                    .collect();
                continue;
            };
            return Ok(link);
        }
        Err(unseen(Errno::LOOP))
    }

    /// What stands in a directory that the caller named. A symlink of another user's there, unless that is root, is
    /// replaced like a file: it may lead anywhere.
    fn inside(path: &Path) -> Result<Self, Problem> {
        if let Some(end) = Self::without_following(path)? {
            return Ok(end);
        }
        let link = fs::symlink_metadata(path).map_err(unseen)?;
        match [0, rustix::process::geteuid().as_raw()].contains(&link.uid()) {
            true => Self::of(path),
            false => Ok(Self::File(settle(path)?)),
        }
    }

    /// None for a symlink.
    fn without_following(path: &Path) -> Result<Option<Self>, Problem> {
        let kind = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Self::Absent(settle(path)?)));
            }
            Err(error) => return Err(unseen(error)),
        };
        Ok(if kind.is_symlink() {
            None
        } else if kind.is_dir() {
            Some(Self::Directory(fs::canonicalize(path).map_err(unseen)?))
        } else if kind.is_file() {
            Some(Self::File(settle(path)?))
        } else {
            debug_assert!(
                kind.is_fifo()
                    || kind.is_char_device()
                    || kind.is_block_device()
                    || kind.is_socket()
            );
            Some(Self::Stream(Stream::Special(settle(path)?)))
        })
    }
}

fn unseen(error: impl Into<io::Error>) -> Problem {
    Problem::new("it cannot be looked at", error)
}

/// As the kernel does it with `fs.protected_symlinks` (proc_sys_fs(5)): where all may make symlinks, as in /tmp, only our
/// own and those of the directory's owner are followed.
fn may_follow(parent: &Path, link: &Path) -> Result<(), Problem> {
    const STICKY_FOR_ALL: u32 = 0o1002;
    let (directory, link) = (
        fs::metadata(parent).map_err(unseen)?,
        fs::symlink_metadata(link).map_err(unseen)?,
    );
    let is_ours = link.uid() == rustix::process::geteuid().as_raw();
    if directory.mode() & STICKY_FOR_ALL != STICKY_FOR_ALL
        || is_ours
        || link.uid() == directory.uid()
    {
        return Ok(());
    }
    let problem = "it is a symlink of another user's in a directory where all may write";
    Err(Problem::new(problem, Errno::ACCESS))
}

/// A symlink in /proc, such as `/dev/stdout` leads to, names an open file and not a place.
fn descriptor(parent: &Path, path: &Path) -> io::Result<Option<Stream>> {
    let on_proc = rustix::fs::statfs(parent)?.f_type == libc::PROC_SUPER_MAGIC;
    let is_fd = fs::canonicalize(parent)?
        .file_name()
        .is_some_and(|name| name == "fd");
    if !on_proc || !is_fd {
        return Ok(None);
    }
    let ours = fs::canonicalize("/proc/self/fd").ok() == fs::canonicalize(parent).ok();
    let duplicate = match path.file_name().map(OsStrExt::as_bytes) {
        Some(b"1") if ours => io::stdout().as_fd().try_clone_to_owned()?,
        Some(b"2") if ours => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(Some(Stream::Link(path.to_owned()))),
    };
    Ok(Some(Stream::Descriptor(duplicate)))
}

/// Makes a path canonical as far as it exists.
fn settle(path: &Path) -> Result<PathBuf, Problem> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(unseen(Errno::NOENT));
    };
    let above = anchor(path);
    let missing = parent.strip_prefix(&above).unwrap_or(Path::new(""));
    if missing.components().any(|part| part.as_os_str() == "..") {
        return Err(unseen(Errno::NOENT));
    }
    Ok(fs::canonicalize(above)
        .map_err(unseen)?
        .join(missing)
        .join(name))
}
