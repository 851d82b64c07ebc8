//! Who is in a mount: asked of `/proc`, never of the mount itself.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, StatxFlags, statx};

use super::privately::Connection;
use crate::sys::mountinfo;
use crate::sys::namespaces::NamespaceId;
use crate::sys::proc::{self, Whereabouts};
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
        proc::members(|pid| self.whereabouts(pid))
    }

    pub(crate) fn contains(&mut self, pid: i32) -> bool {
        self.others.clear();
        matches!(self.whereabouts(pid), Whereabouts::Inside)
    }

    /// The mount may be gone, and its number be another's.
    pub(crate) fn forget_mount(&mut self) {
        self.device = None;
    }

    fn whereabouts(&mut self, pid: i32) -> Whereabouts {
        let namespace_of = |thread| NamespaceId::at(&format!("/proc/{thread}/ns/mnt"));
        let (mut thread, mut its) = (pid, namespace_of(pid));
        if its.as_ref().is_err_and(is_gone) {
            thread = proc::living_thread(pid);
            its = namespace_of(thread);
        }
        match its {
            Ok(its) if self.is_inside(thread, its) => Whereabouts::Inside,
            Ok(_) => Whereabouts::Outside,
            Err(error) if is_gone(&error) => Whereabouts::Dead,
            // We may not look, or it ended just before its link was followed: both are EACCES (fs/proc/namespaces.c,
            // proc_ns_get_link).
            Err(_) if proc::is_gone(pid) => Whereabouts::Dead,
            Err(_) => Whereabouts::Outside,
        }
    }

    fn is_inside(&mut self, thread: i32, its: NamespaceId) -> bool {
        if its == self.own {
            return false;
        }
        let holds = || {
            self.device
                .as_ref()
                .is_some_and(|device| mountinfo::lists_device(thread, device))
        };
        its == self.namespace || *self.others.entry(its).or_insert_with(holds)
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

/// Where files lie that somebody may write to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within<'w> {
    Mount(Connection),
    /// Below a directory of another file system, by the names that the kernel has for open files.
    Directory(&'w Path),
}

/// A file in there that a process may still write to, as `/proc` names it: open for writing, or
/// mapped shared and writable. One without a name is left out.
pub(crate) fn written_by(pid: i32, within: Within<'_>) -> Option<PathBuf> {
    let thread = proc::living_thread(pid);
    opened_to_write(thread, within).or_else(|| mapped_to_write(thread, within))
}

/// In a mount by the numbers of mounts, since an ordinary user in another user namespace may not even
/// look at a file's attributes.
fn opened_to_write(thread: i32, within: Within<'_>) -> Option<PathBuf> {
    let mounts = match within {
        Within::Mount(connection) => mountinfo::ids_of(thread, &connection.device()),
        Within::Directory(_) => Default::default(),
    };
    let open = std::fs::read_dir(format!("/proc/{thread}/fdinfo")).ok()?;
    open.flatten().find_map(|entry| {
        let info = std::fs::read_to_string(entry.path()).ok()?;
        if !opens_to_write(&info)? {
            return None;
        }
        let link = format!("/proc/{thread}/fd/{}", entry.file_name().to_str()?);
        let file = || named(std::fs::read_link(link).ok()?);
        match within {
            Within::Mount(_) => mounts.contains(&number(&info, "mnt_id:", 10)?).then(file)?,
            Within::Directory(directory) => file().filter(|file| file.starts_with(directory)),
        }
    })
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
fn mapped_to_write(thread: i32, within: Within<'_>) -> Option<PathBuf> {
    let is_ours = |device: &[u8], name: &Path| match within {
        Within::Mount(Connection { major, minor }) => {
            device == format!("{major:02x}:{minor:02x}").as_bytes()
        }
        Within::Directory(directory) => name.starts_with(directory),
    };
    let maps = std::fs::read(format!("/proc/{thread}/maps")).ok()?;
    maps.split(|&byte| byte == b'\n').find_map(|line| {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let permissions = words.nth(1)?;
        let device = words.nth(1)?;
        let name = Path::new(OsStr::from_bytes(words.nth(1)?.trim_ascii_start()));
        let writes = permissions.get(1) == Some(&b'w') && permissions.get(3) == Some(&b's');
        (writes && is_ours(device, name)).then(|| named(name.into()))?
    })
}

/// Nothing when the name has been taken away (proc_pid_fd(5)).
fn named(file: PathBuf) -> Option<PathBuf> {
    let deleted = file.as_os_str().as_bytes().ends_with(b" (deleted)");
    (!deleted).then_some(file)
}

/// Asks for cached attributes only, so that a mount nobody serves does not hold us up.
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
