//! What there is in a directory of which there is to be a view, found out before the child exists.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{FileType, Metadata, symlink_metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, Gid, Mode, StatVfsMountFlags, Timespec, Timestamps, Uid, accessat,
    lgetxattr, statvfs,
};
use rustix::mount::MountFlags;

use crate::mount::privately::{c_path, c_string};
use crate::sys::proc::read_proc;

/// How many mounts and other files in a directory are shown in its overlay, of each kind.
const MOST_INNER: usize = 64;
/// How many entries of a directory are looked at.
const MOST_ENTRIES: usize = 512;
/// How deep in a directory a mount may lie for those beside it to be written to.
const MOST_DEPTH: usize = 8;

/// A directory of which there is to be a view.
#[derive(Debug)]
pub(super) struct View {
    pub(super) path: CString,
    /// The directory of the tmpfs for what is written, and the one that overlayfs works in.
    pub(super) upper: CString,
    pub(super) work: CString,
    pub(super) mode: Mode,
    /// Only root can give it away.
    pub(super) owner: Option<(Uid, Gid)>,
    /// nosuid, nodev and noexec as they are there.
    pub(super) flags: MountFlags,
    /// What is shown as it is there, relative to it: an overlay does not show what is mounted in its lower layer. No
    /// socket or FIFO of that leads anywhere through it (`unix_find_bsd`, net/unix/af_unix.c), and in a user namespace no
    /// device does, nor can be executed there what cannot be read (`ovl_open_realfile`, fs/overlayfs/file.c).
    pub(super) inner: Vec<CString>,
    /// The first of them are mounts, so many.
    pub(super) mounts: usize,
    /// The directories between it and those.
    pub(super) ways: Vec<CString>,
    /// Directories that are made in the upper layer, one before those in it. When a tool writes in one, it would be
    /// copied up, which keeps owner, group and ACL, and fails where one of them is not mapped in a user namespace.
    pub(super) taken_over: Vec<TakenOver>,
    /// The view that it lies in. That is enough where all of it can be written to.
    pub(super) within: Option<usize>,
    /// Its name in the new `/dev/shm`, if it is to be there.
    pub(super) in_shared_memory: Option<CString>,
}

#[derive(Debug)]
pub(super) struct TakenOver {
    /// Relative to the view.
    pub(super) path: CString,
    pub(super) mode: Mode,
    pub(super) times: Timestamps,
}

impl View {
    /// `mounts` are all that there are, `candidates` what may have to be shown as it is.
    pub(super) fn new(
        index: usize,
        path: &Path,
        user_namespace: bool,
        mounts: &[PathBuf],
        candidates: &[PathBuf],
    ) -> Self {
        let inside = |inner: &&PathBuf| inner.starts_with(path) && *inner != path;
        let mut mounted: Vec<_> = mounts.iter().filter(inside).collect();
        mounted.sort();
        // With one comes what is mounted in it.
        mounted.dedup_by(|later, earlier| later.starts_with(earlier));
        let in_mount = |path: &PathBuf| mounted.iter().any(|mount| path.starts_with(mount));
        let shown = candidates.iter().filter(inside);
        // The file system of a mount need not answer.
        let shown = shown.filter(|it| !in_mount(it) && is_shown(it, user_namespace));
        let inner = mounted.iter().copied().take(MOST_INNER);
        let inner = inner.chain(shown.take(MOST_INNER));
        let inner = inner.filter_map(|inner| inner.strip_prefix(path).ok());
        let metadata = std::fs::metadata(path).ok();
        let is_given = |it: &&Metadata| !user_namespace && (it.uid(), it.gid()) != (0, 0);
        let owner = metadata.as_ref().filter(is_given);
        // SAFETY: neither is -1, which is no owner of a file.
        let owner = owner.map(|it| (Uid::from_raw(it.uid()), Gid::from_raw(it.gid())));
        Self {
            inner: inner.map(c_path).collect(),
            mounts: mounted.len().min(MOST_INNER),
            ways: ways(path, &mounted),
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

/// The directories between a view and the mounts in it, as far as they are not too deep.
fn ways(view: &Path, mounts: &[&PathBuf]) -> Vec<CString> {
    let inside = mounts.iter().filter_map(|it| it.strip_prefix(view).ok());
    let above = inside.flat_map(|it| it.ancestors().skip(1));
    let mut ways: Vec<_> = above
        .filter(|it| (1..=MOST_DEPTH).contains(&it.components().count()))
        .collect();
    ways.sort();
    ways.dedup();
    ways.into_iter().map(c_path).collect()
}

/// The directories of other users and groups, and those above them, that a tool may write in or below: in the view itself,
/// in what a command names and above it, and such that all users have.
pub(super) fn to_take_over(
    view: &Path,
    reachable: &[PathBuf],
    mounts: &[PathBuf],
) -> Vec<TakenOver> {
    /// Directories of root's that all users write to.
    const SHARED: [&str; 4] = [".X11-unix", ".ICE-unix", ".XIM-unix", ".font-unix"];
    let inside = reachable.iter().filter(|path| path.starts_with(view));
    let mut named: Vec<_> = inside.filter_map(|path| path.canonicalize().ok()).collect();
    named.retain(|path| path.starts_with(view));
    let above = |path: &Path| {
        let ancestors = path.ancestors().take_while(|it| *it != view);
        ancestors.map(Path::to_owned).collect::<Vec<_>>()
    };
    let around = named.iter().map(PathBuf::as_path).chain([view]);
    let entries = around.flat_map(|directory| entries(directory, mounts));
    let entries = entries.filter(|(_, kind)| kind.is_dir());
    let shared = SHARED.iter().map(|name| view.join(name));
    let named = named.iter().flat_map(|path| above(path));
    let mut found = BTreeMap::new();
    for path in entries.map(|(path, _)| path).chain(shared).chain(named) {
        let metadata = symlink_metadata(&path).ok().filter(Metadata::is_dir);
        if metadata.is_some_and(|it| is_not_copied_up(&path, &it)) {
            for directory in above(&path) {
                let metadata = symlink_metadata(&directory);
                found.extend(metadata.ok().map(|it| (directory, it)));
            }
        }
    }
    let taken_over = |(path, metadata): (PathBuf, Metadata)| {
        let time = |seconds, nanoseconds| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
        Some(TakenOver {
            path: c_path(path.strip_prefix(view).ok()?),
            mode: granted(mode, |access| may(&path, access)),
            times: Timestamps {
                last_access: time(metadata.atime(), metadata.atime_nsec()),
                last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
            },
        })
    };
    found.into_iter().filter_map(taken_over).collect()
}

/// Whether a copy of a directory, which keeps owner, group and ACL, cannot be made in our user namespace, where it matters.
fn is_not_copied_up(path: &Path, metadata: &Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let has = |acl| lgetxattr(path, acl, &mut [0_u8; 0][..]).is_ok();
    let is_other = (metadata.uid(), metadata.gid()) != (user, group)
        || has("system.posix_acl_access")
        || has("system.posix_acl_default");
    is_other && may(path, Access::EXEC_OK)
}

/// The mode of a directory that becomes ours, in which we may do what we may do in that with this mode.
pub(super) fn granted(mode: Mode, may: impl Fn(Access) -> bool) -> Mode {
    let rights = [
        (Access::READ_OK, Mode::RUSR),
        (Access::WRITE_OK, Mode::WUSR),
        (Access::EXEC_OK, Mode::XUSR),
    ];
    let ours = rights.into_iter().filter(|(access, _)| may(*access));
    ours.fold(mode - Mode::RWXU, |mode, (_, right)| mode | right)
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Nothing where this is no directory; and no mounts, whose file systems need not answer.
fn entries(directory: &Path, mounts: &[PathBuf]) -> impl Iterator<Item = (PathBuf, FileType)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let entries = entries.take(MOST_ENTRIES).flatten();
    let entries = entries.filter(|it| !mounts.contains(&it.path()));
    entries.filter_map(|it| Some((it.path(), it.file_type().ok()?)))
}

/// What may have to be shown as it is: all sockets, the paths that a command names, and what lies in directories that it
/// names. But no FIFO that it does not name: what is shown as it is cannot be removed, and a tool may make its own.
pub(super) fn candidates<'p>(
    named: impl Iterator<Item = &'p PathBuf>,
    mounts: &[PathBuf],
    user_namespace: bool,
) -> Vec<PathBuf> {
    let mut found = sockets();
    for path in named.filter_map(|it| it.canonicalize().ok()) {
        if user_namespace {
            let inside = entries(&path, mounts)
                .filter(|(_, kind)| !kind.is_dir() && !kind.is_symlink() && !kind.is_fifo());
            found.extend(inside.map(|(path, _)| path));
        }
        found.push(path);
    }
    found.sort();
    found.dedup();
    found
}

/// Whether an overlay, in a user namespace or not, would show another file than it is.
fn is_shown(path: &Path, user_namespace: bool) -> bool {
    symlink_metadata(path).is_ok_and(|it| {
        let kind = it.file_type();
        let is_device = kind.is_char_device() || kind.is_block_device();
        let is_program = kind.is_file() && it.mode() & 0o111 != 0;
        kind.is_socket()
            || kind.is_fifo()
            || user_namespace && is_device
            || user_namespace && is_program && !may(path, Access::READ_OK)
    })
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
