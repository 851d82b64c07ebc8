//! Directories to mount over, and mounts, held by descriptors and numbers.
//!
//! Another user may own a directory above one, and rename it or put a symlink in its place at any time. So what was
//! looked at is what is mounted over, and what was mounted is what is unmounted: paths lead to neither twice.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat, openat2, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use super::error::{MountError, Operation};
use super::options::{MountOptions, device_options};
use super::privately::{Connection, is_empty, refuse_needed};
use crate::sys::mountinfo::{self, MountLine};

/// A directory that is to be mounted over.
#[derive(Debug)]
pub(super) struct TargetDirectory(OwnedFd);

/// A mount by its numbers, which stay its own wherever its path leads from.
#[derive(Debug, Clone, Copy)]
pub(super) struct MountId {
    pub(super) number: u64,
    pub(super) connection: Connection,
}

impl TargetDirectory {
    /// An existing directory; symlinks on the way to it are followed, this once.
    pub(super) fn given(at: &Path) -> Result<Self, MountError> {
        let failed = |errno: Errno| MountError::system(Operation::FindDirectory, at, errno.into());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = openat(CWD, at, flags, Mode::empty()).map_err(failed)?;
        let kind = FileType::from_raw_mode(fstat(&found).map_err(failed)?.st_mode);
        if kind != FileType::Directory {
            return Err(MountError::NotADirectory {
                path: at.to_owned(),
            });
        }
        let given = Self(found);
        let path = given.path();
        refuse_needed(
            &path.map_err(|error| MountError::system(Operation::FindDirectory, at, error))?,
        )?;
        Ok(given)
    }

    /// A directory that was just made at this path.
    pub(super) fn made(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(CWD, path, flags, Mode::empty())?;
        match fstat(&made)?.st_uid == rustix::process::geteuid().as_raw() {
            true => Ok(Self(made)),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Whether nothing is in it. One that cannot be listed is taken for full.
    pub(super) fn is_empty(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&self.0, c".", flags, Mode::empty()).is_ok_and(|directory| is_empty(&directory))
    }

    /// Where it is now, without symlinks.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Puts a mount from [`new_mount`] on it.
    pub(super) fn cover(&self, mount: OwnedFd) -> Result<(), Errno> {
        let by_descriptors =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, c"", &self.0, c"", by_descriptors)
    }

    /// The mount of ours that another program put on it.
    pub(super) fn covered_by(&self) -> io::Result<MountId> {
        /// Its path is asked for twice, and may have changed in between.
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            let path = self.path()?;
            let top = mountinfo::top_at(&path)?.filter(|line| line.kind.starts_with("fuse"));
            if let Some(line) = top
                && self.path()? == path
            {
                return MountId::of(&line).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
        Err(io::Error::other(
            "the mount is not in /proc/self/mountinfo at the directory that was looked at",
        ))
    }
}

impl MountId {
    pub(super) fn of(line: &MountLine) -> Option<Self> {
        Some(Self {
            number: line.id,
            connection: Connection::parse(&line.device)?,
        })
    }

    /// Of what a descriptor leads to. Asks the kernel's cache only, so that a mount that is not served yet answers.
    pub(super) fn at(directory: impl AsFd, name: &Path) -> Result<Self, Errno> {
        let flags = AtFlags::EMPTY_PATH
            | AtFlags::SYMLINK_NOFOLLOW
            | AtFlags::NO_AUTOMOUNT
            | AtFlags::STATX_DONT_SYNC;
        // These numbers are told without asking, and also of another user's mount (fuse_getattr, fs/fuse/dir.c).
        let there = statx(directory, name, flags, StatxFlags::empty())?;
        Ok(Self {
            number: there.stx_mnt_id,
            connection: Connection {
                major: there.stx_dev_major,
                minor: there.stx_dev_minor,
            },
        })
    }

    /// Where it stands now in our own mount namespace, and whether another mount covers it.
    pub(super) fn find(self) -> io::Result<Option<(MountLine, bool)>> {
        let lines = mountinfo::own()?;
        let device = self.connection.device();
        let ours = |line: &&MountLine| line.id == self.number && line.device == device;
        Ok(lines.iter().find(ours).map(|ours| {
            let on_top = |line: &MountLine| line.parent == ours.id && line.path == ours.path;
            (ours.clone(), lines.iter().any(on_top))
        }))
    }
}

/// A mount without a mount point, of a device that is not served yet. Only root can make one.
pub(super) fn new_mount(options: &MountOptions, device: &OwnedFd) -> Result<OwnedFd, Errno> {
    let context = fsopen(c"fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let checks = options.default_permissions.unwrap_or(true);
    let fd = format!("fd={}", device.as_raw_fd());
    let rest = device_options(options, options.allow_other, checks);
    fsconfig_set_string(&context, c"source", options.source.as_str())?;
    fsconfig_set_string(&context, c"subtype", c"notapipe")?;
    if options.read_only {
        fsconfig_set_flag(&context, c"ro")?;
    }
    for option in [fd.as_str()].into_iter().chain(rest.split(',').skip(1)) {
        match option.split_once('=') {
            Some((name, value)) => fsconfig_set_string(&context, name, value)?,
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, !options.set_user_id);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !options.devices);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.no_exec);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Unmounts the mount of this line. No other: its path is walked once, and what stands there has to be it.
///
/// A mount point itself cannot be renamed in the namespace of its mount (rename(2), EBUSY); only what is above it can.
pub(super) fn unmount_line(line: &MountLine, flags: UnmountFlags) -> Result<(), Errno> {
    let (Some(above), Some(name)) = (line.path.parent(), line.path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let no_links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let above = openat2(CWD, above, directory, Mode::empty(), no_links)?;
    if MountId::at(&above, Path::new(name))?.number != line.id {
        return Err(Errno::STALE);
    }
    let through = Path::new("/proc/self/fd").join(above.as_raw_fd().to_string());
    unmount(through.join(name), flags | UnmountFlags::NOFOLLOW)
}
