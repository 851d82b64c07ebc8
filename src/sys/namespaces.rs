//! Namespaces held by descriptors, and stepping into them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::launch::Stage;

/// A mount namespace, the user namespace that owns it when it is not our own, and the root
/// directory as seen from here.
///
/// While one of these descriptors is open, every mount inside lives.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) user: Option<OwnedFd>,
    pub(crate) mount: OwnedFd,
    /// setns(2) moves the root to the namespace's own, which in a chroot(2) is not ours.
    pub(crate) root: OwnedFd,
}

impl Namespaces {
    /// Moves the calling process in. Only bare system calls: for a vforked child.
    pub(crate) fn enter(&self) -> Result<(), (Stage, Errno)> {
        if let Some(user) = &self.user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .map_err(|errno| (Stage::JoinUser, errno))?;
        }
        move_into_link_name_space(self.mount.as_fd(), Some(LinkNameSpaceType::Mount))
            .and_then(|()| rustix::process::fchdir(&self.root))
            .and_then(|()| rustix::process::chroot(c"."))
            .map_err(|errno| (Stage::JoinMount, errno))
    }

    /// Which mount namespace this is, for comparing with `/proc/PID/ns/mnt`.
    pub(crate) fn mount_id(&self) -> io::Result<NamespaceId> {
        NamespaceId::of(self.mount.as_fd())
    }
}

/// A namespace's identity (namespaces(7)): good for as long as somebody keeps the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    pub(crate) fn of(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = rustix::fs::fstat(namespace)?;
        Ok(NamespaceId {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Of the namespace that a link such as `/proc/1/ns/mnt` leads to.
    pub(crate) fn at(link: &str) -> io::Result<Self> {
        let stat = rustix::fs::stat(link)?;
        Ok(NamespaceId {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}
