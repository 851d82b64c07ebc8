//! What the processes in a private mount have for themselves besides it: `/tmp`, `/var/tmp` and other directories for
//! temporary files, `/dev/shm`, and the mount of POSIX message queues.
//!
//! All that is written there lies on one tmpfs with limits of its own. It is mounted where the private mount is going to
//! stand, which hides it. Of a directory that is not empty there is then an overlay (overlayfs, the directory itself is
//! the lower layer), so that what is there can be read and executed; what is mounted in it is read-only there. An ordinary
//! user has no overlay of a directory with mounts in it (`clone_private_mount`, fs/namespace.c), and no file system has
//! more than one overlay upon another: there the directory is a new one with overlays of the directories in it, as far as
//! the kernel allows, and everything else bound into it, read-only; the directories between it and a mount are made in
//! this way too. Where that is refused, the directory is as it was.
//!
//! In a user namespace only one user and one group exist. A file of another's, or one with an ACL that names another, cannot
//! be copied up: to change it fails with EOVERFLOW or EINVAL. Directories like that are ours in the upper layer, as far as
//! they lie in the directory itself or are on the way to what a command names.

mod assembly;
mod child;
mod view;

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::fstatvfs;
use rustix::io::Errno;

pub(super) use self::child::build;
use self::view::View;
use super::privately::{c_path, c_string};
use crate::store::{Limits, PAGE_SIZE, Resource};
use crate::sys::mountinfo;

const SHARED_MEMORY: &str = "/dev/shm";
const QUEUES: &str = "/dev/mqueue";

/// What all that needs at most, and the smallest of limits leaves to the tools.
const OWN_INODES: u64 = 2048;
/// Directories for temporary files that are the own of the processes in a private mount; for
/// [`MountOptions::own_tmp`](super::MountOptions::own_tmp).
///
/// With it, they have IPC objects (ipc_namespaces(7)) and a `/dev/shm` of their own, and their own view of these
/// directories: what is there can be read and executed, and what they write is in RAM, within limits, seen by them
/// alone, and gone with the mount.
///
/// # Examples
///
/// ```
/// use notapipe::Scratch;
/// use notapipe::mount::{MountOptions, OwnTmp};
/// use notapipe::store::Limits;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let limits = Limits { bytes: 16 << 20, inodes: 1_000 };
/// let options = MountOptions { own_tmp: Some(OwnTmp::new(limits)), ..MountOptions::default() };
/// let scratch = Scratch::builder().mount(options).build()?;
/// scratch.run(["sh", "-c", "echo word > /tmp/only-in-there"])?;
/// assert_eq!(scratch.run(["cat", "/tmp/only-in-there"])?.stdout.to_text(), "word\n");
/// assert!(!std::fs::exists("/tmp/only-in-there").unwrap());
/// scratch.unmount()
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnTmp {
    /// The most that is written there, of all processes and in all directories together.
    pub limits: Limits,
    /// The directories; `/tmp` and `/var/tmp` unless said. What is no directory is left out, as are `/` and what
    /// lies in another of them.
    pub directories: Vec<PathBuf>,
    /// Paths that the processes are to find even if they lie in `/dev/shm`, which is empty in there otherwise; and FIFOs
    /// that are to lead to the processes outside, as all sockets do, devices, and programs that can be executed and not
    /// read, also those in a directory that is one of these paths.
    pub reachable: Vec<PathBuf>,
}

impl OwnTmp {
    /// `/tmp` and `/var/tmp`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            directories: ["/tmp", "/var/tmp"].map(PathBuf::from).to_vec(),
            reachable: Vec::new(),
        }
    }
}

/// What is to be made, found out before the child that makes it exists.
#[derive(Debug)]
pub(super) struct Plan {
    /// The data of the tmpfs.
    data: CString,
    /// kernel.shmall, the pages of all System V shared memory.
    shared_pages: CString,
    /// `/dev/shm` without symlinks, where there is one.
    shared_memory: Option<CString>,
    has_queues: bool,
    user_namespace: bool,
    views: Vec<View>,
}

/// What the child has made. The descriptors are in the table that we share with it.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) tmpfs: Option<OwnedFd>,
    shared_memory: bool,
    /// What there was before, one for each view; room is made before the child exists.
    lowers: Vec<Option<OwnedFd>>,
    views: Vec<Result<Shown, Errno>>,
    refused: Option<Errno>,
}

/// How a directory is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    /// Something in it can only be read.
    InPart,
}

/// The directories that are the processes' own.
#[derive(Debug)]
pub(crate) struct OwnDirectories(Vec<PathBuf>);

impl OwnDirectories {
    /// Whether what is written in a directory is the processes' own.
    pub(crate) fn hold(&self, directory: &Path) -> bool {
        self.0.iter().any(|own| directory.starts_with(own))
    }
}

/// What is in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnUsage {
    pub(crate) bytes: u64,
    /// The limit that leaves no more room.
    pub(crate) full: Option<Resource>,
}

impl OwnUsage {
    pub(super) fn of(tmpfs: &OwnedFd) -> Option<Self> {
        let there = fstatvfs(tmpfs).ok()?;
        let full = match (there.f_bfree, there.f_ffree) {
            (0, _) => Some(Resource::Bytes),
            (_, 0) => Some(Resource::Inodes),
            _ => None,
        };
        let bytes = (there.f_blocks - there.f_bfree) * there.f_frsize;
        Some(Self { bytes, full })
    }
}

impl Plan {
    pub(super) fn new(wanted: &OwnTmp, mount_point: &Path, user_namespace: bool) -> Self {
        let shared_memory = std::fs::canonicalize(SHARED_MEMORY).ok();
        let mounts = inner_mounts(wanted);
        let reachable = reachable(wanted, &mounts);
        let directories = directories(wanted, &reachable, mount_point, shared_memory.as_deref());
        let viewed = |it: &&PathBuf| directories.iter().any(|(around, _)| it.starts_with(around));
        let candidates = view::candidates(reachable.iter().filter(viewed), &mounts, user_namespace);
        let view = |(index, (path, in_shared_memory)): (usize, &(PathBuf, _))| View {
            in_shared_memory: Option::clone(in_shared_memory),
            taken_over: match user_namespace {
                true => view::to_take_over(path, &reachable, &mounts),
                false => Vec::new(),
            },
            within: directories
                .iter()
                .take(index)
                .position(|(around, _)| path.starts_with(around)),
            ..View::new(index, path, user_namespace, &mounts, &candidates)
        };
        let views = directories.iter().enumerate().map(view).collect();
        // A limit of 0 would be none at all (tmpfs(5)).
        let bytes = wanted.limits.bytes.clamp(PAGE_SIZE, i64::MAX as u64);
        let inodes = wanted
            .limits
            .inodes
            .saturating_add(OWN_INODES)
            .min(i64::MAX as u64);
        Plan {
            data: c_string(format!("mode=0700,size={bytes},nr_inodes={inodes}")),
            shared_pages: c_string((bytes / PAGE_SIZE).to_string()),
            shared_memory: shared_memory.as_deref().map(c_path),
            has_queues: Path::new(QUEUES).is_dir(),
            user_namespace,
            views,
        }
    }

    /// Where the child puts what it makes.
    pub(super) fn room(&self) -> Made {
        Made {
            lowers: self.views.iter().map(|_| None).collect(),
            views: self.views.iter().map(|_| Err(Errno::CANCELED)).collect(),
            ..Made::default()
        }
    }

    /// What has become of it, told in the log.
    pub(super) fn own_directories(&self, made: &Made) -> OwnDirectories {
        let path = |path: &CString| PathBuf::from(OsStr::from_bytes(path.to_bytes()));
        if let Some(errno) = made.refused {
            log::debug!("no tmpfs, /tmp and /dev/shm are everybody's: {errno}");
        }
        let shared_memory = self.shared_memory.as_ref().filter(|_| made.shared_memory);
        let mut own: Vec<_> = shared_memory.map(path).into_iter().collect();
        for (view, result) in self.views.iter().zip(&made.views) {
            match result {
                Ok(_) => own.push(path(&view.path)),
                Err(errno) => log::debug!("no own view of {:?}: {errno}", view.path),
            }
        }
        OwnDirectories(own)
    }
}

/// What is mounted in the directories, or in those that they are symlinks to.
fn inner_mounts(wanted: &OwnTmp) -> Vec<PathBuf> {
    let around = wanted.directories.iter().map(PathBuf::as_path);
    let around = around.chain([Path::new(SHARED_MEMORY)]);
    let around: Vec<_> = around
        .flat_map(|it| [Some(it.to_owned()), it.canonicalize().ok()])
        .flatten()
        .collect();
    let mounts = mountinfo::own().unwrap_or_default();
    let is_inner = |path: &Path| around.iter().any(|it| path.starts_with(it) && path != it);
    let inner = mounts.iter().filter(|it| is_inner(&it.path));
    let visible = inner.filter(|it| mountinfo::is_visible(&mounts, it));
    visible.map(|it| it.path.clone()).collect()
}

/// What of [`OwnTmp::reachable`] may be looked at: not what is mounted in one of the directories, which is shown as it is,
/// and whose file system need not answer.
fn reachable(wanted: &OwnTmp, mounts: &[PathBuf]) -> Vec<PathBuf> {
    let looked_at = |path: &&PathBuf| !mounts.iter().any(|mount| path.starts_with(mount));
    let mut reachable: Vec<_> = wanted.reachable.iter().filter(looked_at).cloned().collect();
    reachable.sort();
    reachable.dedup();
    reachable
}

/// Existing directories without symlinks, one before those in it, and which of them have to be made in a new `/dev/shm`.
fn directories(
    wanted: &OwnTmp,
    reachable: &[PathBuf],
    mount_point: &Path,
    shared_memory: Option<&Path>,
) -> Vec<(PathBuf, Option<CString>)> {
    let top_of = |path: &Path| -> Option<(PathBuf, CString)> {
        let shared_memory = shared_memory?;
        match path.strip_prefix(shared_memory).ok()?.components().next()? {
            Component::Normal(top) => Some((shared_memory.join(top), c_path(Path::new(top)))),
            _ => None,
        }
    };
    let resolved = |path: &PathBuf| std::fs::canonicalize(path).ok().filter(|it| it.is_dir());
    let mut found = Vec::new();
    for path in wanted.directories.iter().filter_map(resolved) {
        match top_of(&path) {
            Some((top, name)) => found.push((top, Some(name))),
            // It is new and empty, or what lies in it is not to be hidden.
            None if shared_memory.is_some_and(|it| it.starts_with(&path)) => {}
            None if Path::new("/proc").starts_with(&path) => {}
            None => found.push((path, None)),
        }
    }
    let mount_point = mount_point.to_owned();
    // Only a few of them are looked at.
    let in_memory = |path: &&PathBuf| path.starts_with(SHARED_MEMORY);
    for path in reachable.iter().chain([&mount_point]).filter(in_memory) {
        let Ok(path) = std::fs::canonicalize(path) else {
            continue;
        };
        match top_of(&path) {
            Some((top, name)) if top.is_dir() => found.push((top, Some(name))),
            // All of it, then.
            _ => found.extend(shared_memory.map(|all| (all.to_owned(), None))),
        }
    }
    found.sort();
    found.dedup();
    // What is mounted there hides it.
    found.retain(|(path, top)| top.is_some() || !path.starts_with(&mount_point));
    found
}
