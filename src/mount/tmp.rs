//! What the processes in a private mount have for themselves besides it: `/tmp`, `/var/tmp` and other directories for
//! temporary files, `/dev/shm`, and the mount of POSIX message queues.
//!
//! All that is written there lies on one tmpfs with limits of its own. It is mounted where the private mount is going to
//! stand, which hides it. Of a directory that is not empty there is then an overlay (overlayfs, the directory itself is
//! the lower layer), so that what is there can be read and executed; what is mounted in it is read-only there. Where the
//! kernel refuses that, everything in the directory is bound into a new one, read-only: an ordinary user has no overlay
//! of a directory with mounts in it (`clone_private_mount`, fs/namespace.c), and no file system has more than one overlay
//! upon another. Where that is refused too, the directory is as it was.

mod child;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Mode, StatVfsMountFlags, Uid, fstatvfs, statvfs};
use rustix::io::Errno;
use rustix::mount::MountFlags;

pub(super) use self::child::build;
use super::privately::{c_path, c_string};
use crate::store::{Limits, PAGE_SIZE, Resource};
use crate::sys::{mountinfo, proc::read_proc};

const SHARED_MEMORY: &str = "/dev/shm";
const QUEUES: &str = "/dev/mqueue";

/// How many mounts and sockets in a directory are shown in its overlay, of each kind.
const MOST_INNER: usize = 64;
/// What all that needs at most, and the smallest of limits leaves to the tools.
const OWN_INODES: u64 = 1024;
/// Directories of root's that all users write to.
const SHARED_DIRECTORIES: [&str; 4] = [".X11-unix", ".ICE-unix", ".XIM-unix", ".font-unix"];

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
    /// that are to lead to the processes outside, as all sockets do.
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

/// A directory of which there is to be a view.
#[derive(Debug)]
struct View {
    path: CString,
    /// The directory of the tmpfs for what is written, and the one that overlayfs works in.
    upper: CString,
    work: CString,
    mode: Mode,
    /// Only root can give it away.
    owner: Option<(Uid, Gid)>,
    /// nosuid, nodev and noexec as they are there.
    flags: MountFlags,
    /// Mounts, sockets and FIFOs in it, relative to it: an overlay does not show what is mounted in its lower layer, and no
    /// socket or FIFO of that leads anywhere through it (`unix_find_bsd`, net/unix/af_unix.c).
    inner: Vec<CString>,
    /// Directories that are made in the upper layer. When a tool writes in one, it would be copied up, which keeps the
    /// owner, and fails where that is one who is not mapped in a user namespace.
    taken_over: Vec<(CString, Mode)>,
    /// The first of them are mounts, so many.
    mounts: usize,
    /// The view that it lies in. That is enough where all of it can be written to.
    within: Option<usize>,
    /// Its name in the new `/dev/shm`, if it is to be there.
    in_shared_memory: Option<CString>,
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
        let mounts = mountinfo::own().unwrap_or_default();
        let mounts: Vec<_> = mounts.into_iter().map(|line| line.path).collect();
        let reachable = reachable(wanted, &mounts);
        let directories = directories(wanted, &reachable, mount_point, shared_memory.as_deref());
        let mut connecting = sockets();
        let shown = |it: &&PathBuf| directories.iter().any(|(around, _)| it.starts_with(around));
        let named = reachable.iter().filter(shown).filter(|it| connects(it));
        connecting.extend(named.filter_map(|it| it.canonicalize().ok()));
        connecting.sort();
        connecting.dedup();
        let view = |(index, (path, in_shared_memory)): (usize, &(PathBuf, _))| View {
            in_shared_memory: Option::clone(in_shared_memory),
            taken_over: match user_namespace {
                true => to_take_over(index, path, &reachable),
                false => Vec::new(),
            },
            within: directories
                .iter()
                .take(index)
                .position(|(around, _)| path.starts_with(around)),
            ..View::new(index, path, user_namespace, &mounts, &connecting)
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

/// What of [`OwnTmp::reachable`] may be looked at: not what is mounted in one of the directories, which is shown as it is,
/// and whose file system need not answer.
fn reachable(wanted: &OwnTmp, mounts: &[PathBuf]) -> Vec<PathBuf> {
    let mut around: Vec<&Path> = wanted.directories.iter().map(PathBuf::as_path).collect();
    around.push(Path::new(SHARED_MEMORY));
    let is_inner = |mount: &&PathBuf| {
        around
            .iter()
            .any(|it| mount.starts_with(it) && *mount != it)
    };
    let inner: Vec<_> = mounts.iter().filter(is_inner).collect();
    let looked_at = |path: &&PathBuf| !inner.iter().any(|mount| path.starts_with(mount));
    wanted.reachable.iter().filter(looked_at).cloned().collect()
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

/// Where sockets are bound (unix(7)), as far as they have a path.
fn sockets() -> Vec<PathBuf> {
    let text = read_proc("/proc/net/unix").unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    let path = |line: &[u8]| {
        let start = line.windows(2).position(|it| it == b" /")?;
        Some(PathBuf::from(OsStr::from_bytes(&line[start + 1..])))
    };
    lines.filter_map(path).collect()
}

impl View {
    fn new(
        index: usize,
        path: &Path,
        user_namespace: bool,
        mounts: &[PathBuf],
        connecting: &[PathBuf],
    ) -> Self {
        let inside = |inner: &&PathBuf| inner.starts_with(path) && *inner != path;
        let mut mounted: Vec<_> = mounts.iter().filter(inside).collect();
        mounted.sort();
        // With one comes what is mounted in it.
        mounted.dedup_by(|later, earlier| later.starts_with(earlier));
        let shown = |path: &&PathBuf| !mounted.iter().any(|mount| path.starts_with(mount));
        let connecting = connecting
            .iter()
            .filter(inside)
            .filter(shown)
            .filter(|it| connects(it));
        let inner = mounted.iter().copied().take(MOST_INNER);
        let inner = inner.chain(connecting.take(MOST_INNER));
        let inner = inner.filter_map(|inner| inner.strip_prefix(path).ok());
        let metadata = std::fs::metadata(path).ok();
        let is_given = |it: &&std::fs::Metadata| !user_namespace && (it.uid(), it.gid()) != (0, 0);
        let owner = metadata.as_ref().filter(is_given);
        // SAFETY: neither is -1, which is no owner of a file.
        let owner = owner.map(|it| (Uid::from_raw(it.uid()), Gid::from_raw(it.gid())));
        Self {
            inner: inner.map(c_path).collect(),
            mounts: mounted.len().min(MOST_INNER),
            within: None,
            path: c_path(path),
            upper: c_string(format!("upper{index}")),
            work: c_string(format!("work{index}")),
            mode: Mode::from_raw_mode(metadata.map_or(0o1777, |it| it.mode() & 0o7777)),
            owner,
            flags: flags(path),
            taken_over: Vec::new(),
            in_shared_memory: None,
        }
    }
}

/// The directories of other users, and those above them, that a tool may write in: such that all users do, and the way
/// to what the processes are to find.
fn to_take_over(index: usize, view: &Path, reachable: &[PathBuf]) -> Vec<(CString, Mode)> {
    let shared = SHARED_DIRECTORIES.iter().map(|name| view.join(name));
    let inside = reachable.iter().filter(|path| path.starts_with(view));
    let mut found = BTreeMap::new();
    for path in shared.chain(inside.filter_map(|path| path.canonicalize().ok())) {
        for directory in path
            .ancestors()
            .take_while(|it| *it != view && it.starts_with(view))
        {
            let metadata = std::fs::symlink_metadata(directory);
            if let Some(metadata) = metadata.ok().filter(std::fs::Metadata::is_dir) {
                found.insert(directory.to_owned(), metadata);
            }
        }
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    if found
        .values()
        .all(|it| (it.uid(), it.gid()) == (user, group))
    {
        return Vec::new();
    }
    let upper = PathBuf::from(format!("upper{index}"));
    let made = found.into_iter().filter_map(|(directory, metadata)| {
        let inside = upper.join(directory.strip_prefix(view).ok()?);
        Some((
            c_path(&inside),
            Mode::from_raw_mode(metadata.mode() & 0o7777),
        ))
    });
    made.collect()
}

/// Whether a process may be at the other end.
fn connects(path: &Path) -> bool {
    let kind = std::fs::symlink_metadata(path).map(|it| it.file_type());
    kind.is_ok_and(|it| it.is_socket() || it.is_fifo())
}

/// What must not be allowed in a new mount either.
fn flags(path: &Path) -> MountFlags {
    let there = statvfs(path).map_or(StatVfsMountFlags::empty(), |it| it.f_flag);
    let mut flags = MountFlags::empty();
    flags.set(
        MountFlags::NOSUID,
        there.contains(StatVfsMountFlags::NOSUID),
    );
    flags.set(MountFlags::NODEV, there.contains(StatVfsMountFlags::NODEV));
    flags.set(
        MountFlags::NOEXEC,
        there.contains(StatVfsMountFlags::NOEXEC),
    );
    flags
}
