//! Namespaces held by descriptors, and stepping into them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::launch::Stage;

/// A mount namespace, perhaps one of IPC objects, the user namespace that owns them when it is not our own, and the root
/// directory as seen from here.
///
/// While one of these descriptors is open, every mount inside lives.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) user: Option<OwnedFd>,
    /// Of a job with IPC objects of its own.
    pub(crate) ipc: Option<OwnedFd>,
    pub(crate) mount: OwnedFd,
    /// setns(2) moves the root to the namespace's own, which in a chroot(2) is not ours.
    pub(crate) root: OwnedFd,
    /// What is written to directories of its own lies there.
    pub(crate) tmpfs: Option<OwnedFd>,
}

impl Namespaces {
    /// Moves the calling process in, and those that it will start into the PID namespace of an init as well, if there is
    /// one, of which this is a descriptor (pidfd_open(2)). Only bare system calls: for a vforked child.
    pub(crate) fn enter(&self, init: Option<BorrowedFd<'_>>) -> Result<(), (Stage, Errno)> {
        if let Some(user) = &self.user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .map_err(|errno| (Stage::JoinUser, errno))?;
        }
        if let Some(ipc) = &self.ipc {
            let kind = Some(LinkNameSpaceType::InterProcessCommunication);
            move_into_link_name_space(ipc.as_fd(), kind)
                .map_err(|errno| (Stage::JoinIpc, errno))?;
        }
        if let Some(init) = init {
            enter_pid_namespace(init)?;
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

/// Has the processes that the calling one starts be in the PID namespace of the one behind this descriptor (pidfd_open(2)).
pub(crate) fn enter_pid_namespace(init: BorrowedFd<'_>) -> Result<(), (Stage, Errno)> {
    move_into_thread_name_spaces(init, ThreadNameSpaceType::PROCESS_ID)
        .map_err(|errno| (Stage::JoinPid, errno))
}

/// A namespace's identity (namespaces(7)): good for as long as the namespace is kept.
///
/// The number of its inode alone, since all namespaces of a kernel are in one file system (nsfs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamespaceId(u64);

impl NamespaceId {
    pub(crate) fn of(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(rustix::fs::fstat(namespace)?.st_ino))
    }

    /// Of the namespace that a link such as `/proc/1/ns/mnt` leads to.
    ///
    /// The text of the link, `mnt:[4026531841]`, takes half as long as what it leads to, and a job's end asks for
    /// that of every process on the machine.
    pub(crate) fn at(link: &str) -> io::Result<Self> {
        let text = rustix::fs::readlink(link, Vec::new())?;
        let number = text.to_str().ok().and_then(|text| {
            let (_, number) = text.split_once(":[")?;
            number.strip_suffix(']')?.parse().ok()
        });
        number.map(Self).ok_or_else(|| {
            let message = format!("{link} is no namespace: {text:?}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_and_what_it_leads_to_are_one_namespace() {
        let opened = std::fs::File::open("/proc/self/ns/mnt").unwrap();
        let told = NamespaceId::at("/proc/self/ns/mnt").unwrap();
        assert_eq!(NamespaceId::of(opened.as_fd()).unwrap(), told);
        assert_ne!(NamespaceId::at("/proc/self/ns/net").unwrap(), told);
        assert!(NamespaceId::at("/proc/self/exe").is_err());
    }
}
