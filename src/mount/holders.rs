//! The processes that are in a mount: found in `/proc`, never by asking the mount itself.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, statx};
use rustix::io::Errno;

use super::privately::Connection;
use crate::sys::mountinfo;
use crate::sys::namespaces::NamespaceId;
use crate::sys::proc::{self, IsMember};
use crate::sys::unix_diag;

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Tells whether a process is inside a mount namespace, or inside one that was copied from it and
/// still holds the job's mount.
///
/// Valid only while the namespace is kept, and the mount stands: their numbers may be given to
/// others afterwards.
#[derive(Debug)]
pub(crate) struct Membership {
    own: NamespaceId,
    namespace: NamespaceId,
    /// The job's mount, while it stands.
    device: Option<String>,
    /// What was found out about other namespaces in this look, since their numbers too are given anew. Nearly all
    /// processes share one.
    others: HashMap<NamespaceId, bool>,
}

impl Membership {
    pub(crate) fn new(namespace: NamespaceId, mount: Option<Connection>) -> io::Result<Self> {
        let own = NamespaceId::at("/proc/self/ns/mnt")?;
        Ok(Membership {
            own,
            namespace,
            device: mount.map(Connection::device),
            others: HashMap::new(),
        })
    }

    /// All processes inside.
    pub(crate) fn members(&mut self) -> io::Result<Vec<i32>> {
        self.others.clear();
        proc::members(|pid| self.is_member(pid))
    }

    pub(crate) fn contains(&mut self, pid: i32) -> bool {
        self.others.clear();
        matches!(self.is_member(pid), IsMember::Yes)
    }

    /// The mount may be gone, and its number be another's.
    pub(crate) fn forget_mount(&mut self) {
        self.device = None;
    }

    fn is_member(&mut self, pid: i32) -> IsMember {
        let namespace_of = |thread| NamespaceId::at(&format!("/proc/{thread}/ns/mnt"));
        let (mut thread, mut its) = (pid, namespace_of(pid));
        if its.as_ref().is_err_and(is_gone) {
            thread = proc::living_thread(pid);
            its = namespace_of(thread);
        }
        match its {
            Ok(its) if self.is_inside(thread, its) => IsMember::Yes,
            Ok(_) => IsMember::No,
            Err(error) if is_gone(&error) => IsMember::Ended,
            // We may not look, or it ended just before its link was followed: both are EACCES (fs/proc/namespaces.c,
            // proc_ns_get_link).
            Err(_) if proc::is_gone(pid) => IsMember::Ended,
            // The mounts of every process can be read. Only our own processes are worth the question.
            Err(_) if proc::may_signal(pid) && self.holds_mount(thread) => IsMember::Yes,
            Err(_) => IsMember::No,
        }
    }

    fn is_inside(&mut self, thread: i32, its: NamespaceId) -> bool {
        if its == self.own {
            return false;
        }
        if its == self.namespace {
            return true;
        }
        let known = self.others.get(&its).copied();
        known.unwrap_or_else(|| {
            let holds = self.holds_mount(thread);
            self.others.insert(its, holds);
            holds
        })
    }

    fn holds_mount(&self, thread: i32) -> bool {
        let device = self.device.as_ref();
        device.is_some_and(|device| mountinfo::lists_device(thread, device))
    }
}

/// The processes that have a file or directory of this file system open, mapped or as their
/// working directory, or a socket bound there, as far as we may look.
pub(crate) fn users(connection: Connection) -> io::Result<Vec<i32>> {
    let sockets = unix_diag::bound_in(connection.major, connection.minor);
    let sockets = sockets.unwrap_or_else(|error| {
        log::debug!("sockets cannot be asked for: {error}");
        HashSet::new()
    });
    let mut users = proc::all()?;
    users.retain(|&pid| uses(pid, connection, &sockets));
    Ok(users)
}

fn uses(pid: i32, connection: Connection, sockets: &HashSet<u64>) -> bool {
    let thread = proc::living_thread(pid);
    let links = ["cwd", "root", "exe"].map(|name| format!("/proc/{thread}/{name}"));
    links.iter().any(|link| is_on(link, connection))
        || has_open(thread, connection, sockets)
        || maps(thread, connection)
}

fn has_open(thread: i32, connection: Connection, sockets: &HashSet<u64>) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{thread}/fd")) else {
        return false;
    };
    let is_bound = |link: &Path| {
        let text = std::fs::read_link(link).unwrap_or_default();
        let inode = text.to_str().and_then(|text| {
            text.strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        });
        inode.is_some_and(|inode| sockets.contains(&inode))
    };
    open.flatten().any(|entry| {
        let link = entry.path();
        link.to_str().is_some_and(|text| is_on(text, connection))
            || !sockets.is_empty() && is_bound(&link)
    })
}

/// Where the files lie whose writers are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within<'w> {
    Mount(Connection),
    /// Below a directory of another file system, by the names that the kernel has for open files.
    Directory(&'w Path),
}

/// What a look at a process tells of the files in there.
#[derive(Debug)]
pub(crate) enum Writing {
    Nothing,
    /// It may write to this one, as `/proc` names it: it has it open for writing, or mapped shared and writable.
    To(PathBuf),
    /// It cannot be looked at.
    Unknown,
}

/// Whether a process may still write to a file in there that has a name: without one nothing can be collected.
///
/// `proc` is a /proc in which it has this number. `has_name` tells of inodes of the mount.
pub(crate) fn writing(
    proc: &str,
    pid: i32,
    within: Within<'_>,
    has_name: &dyn Fn(u64) -> bool,
) -> Writing {
    let Some(thread) = proc::living_thread_in(proc, pid) else {
        return Writing::Nothing;
    };
    let process = format!("{proc}/{thread}");
    let look = || match opened_to_write(&process, within, has_name)? {
        None => mapped_to_write(&process, within, has_name),
        found => Ok(found),
    };
    match look() {
        Ok(Some(file)) => Writing::To(file),
        Ok(None) => Writing::Nothing,
        Err(_) if proc::living_thread_in(proc, pid).is_none() => Writing::Nothing,
        Err(error) => {
            log::debug!("process {pid}: not looked at: {error}");
            Writing::Unknown
        }
    }
}

/// A file that is closed meanwhile is not written any more.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if is_gone(&error) => Ok(None),
        result => result.map(Some),
    }
}

fn opened_to_write(
    process: &str,
    within: Within<'_>,
    has_name: &dyn Fn(u64) -> bool,
) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(format!("{process}/fdinfo"))? {
        let entry = entry?;
        let Some(info) = unless_gone(std::fs::read_to_string(entry.path()))? else {
            continue;
        };
        if opens_to_write(&info) != Some(true) {
            continue;
        }
        let link = format!("{process}/fd/{}", entry.file_name().display());
        let Some(file) = unless_gone(std::fs::read_link(&link))? else {
            continue;
        };
        let is_ours = match within {
            // The number of its mount tells nothing: it may be one of any mount namespace.
            Within::Mount(connection) => {
                may_be_on(&link, connection)
                    && number(&info, "ino:", 10).map_or(!seems_deleted(&file), has_name)
            }
            Within::Directory(directory) => {
                file.starts_with(directory)
                    && std::fs::metadata(&link).is_ok_and(|it| it.nlink() > 0)
            }
        };
        if is_ours {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// From `flags: OCTAL` (proc_pid_fdinfo(5)).
fn opens_to_write(info: &str) -> Option<bool> {
    let flags = u32::try_from(number(info, "flags:", 8)?).ok()?;
    let flags = OFlags::from_bits_retain(flags);
    Some(!flags.contains(OFlags::PATH) && flags.intersects(OFlags::WRONLY | OFlags::RDWR))
}

fn number(info: &str, field: &str, radix: u32) -> Option<u64> {
    let value = info.lines().find_map(|line| line.strip_prefix(field))?;
    u64::from_str_radix(value.trim(), radix).ok()
}

/// `ADDRESS rw-s OFFSET MAJOR:MINOR INODE   NAME` (proc_pid_maps(5)).
fn mapped_to_write(
    process: &str,
    within: Within<'_>,
    has_name: &dyn Fn(u64) -> bool,
) -> io::Result<Option<PathBuf>> {
    let is_ours = |device: &[u8], inode: u64, name: &Path| match within {
        Within::Mount(Connection { major, minor }) => {
            device == format!("{major:02x}:{minor:02x}").as_bytes() && has_name(inode)
        }
        // What was removed has no such name any more, or another file has.
        Within::Directory(directory) => {
            let seen_by_it = format!("{process}/root{}", name.display());
            name.starts_with(directory)
                && std::fs::metadata(seen_by_it).is_ok_and(|it| it.ino() == inode)
        }
    };
    let maps = std::fs::read(format!("{process}/maps"))?;
    let writable = maps.split(|&byte| byte == b'\n').find_map(|line| {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let permissions = words.nth(1)?;
        let device = words.nth(1)?;
        let inode = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let name = Path::new(OsStr::from_bytes(words.next()?.trim_ascii_start()));
        let writes = permissions.get(1) == Some(&b'w') && permissions.get(3) == Some(&b's');
        (writes && is_ours(device, inode, name)).then(|| name.to_owned())
    });
    Ok(writable)
}

/// Before Linux 5.14, which tells an open file's inode number, there is only this mark to go by (proc_pid_fd(5)).
fn seems_deleted(file: &Path) -> bool {
    file.as_os_str().as_bytes().ends_with(b" (deleted)")
}

/// Asks for the device alone. Before Linux 5.16, not even that is told of a FUSE mount in another user namespace than ours,
/// and the only one that a process of a job has is ours.
fn may_be_on(link: &str, connection: Connection) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, link, flags, StatxFlags::empty()) {
        Ok(stat) => {
            (stat.stx_dev_major, stat.stx_dev_minor) == (connection.major, connection.minor)
        }
        Err(errno) => errno == Errno::ACCESS,
    }
}

/// Asks for cached attributes only, so that a mount that is not served does not block.
fn is_on(link: &str, connection: Connection) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(CWD, link, flags, StatxFlags::TYPE).is_ok_and(|stat| {
        (stat.stx_dev_major, stat.stx_dev_minor) == (connection.major, connection.minor)
    })
}

/// `ADDRESS PERMISSIONS OFFSET MAJOR:MINOR …` (proc_pid_maps(5)).
fn maps(thread: i32, connection: Connection) -> bool {
    let device = format!("{:02x}:{:02x}", connection.major, connection.minor);
    std::fs::read_to_string(format!("/proc/{thread}/maps")).is_ok_and(|maps| {
        maps.lines()
            .any(|line| line.split(' ').nth(3) == Some(device.as_str()))
    })
}
