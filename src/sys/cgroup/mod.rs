//! A control group of version 2 for what we start (cgroups(7), the kernel's cgroup-v2.rst): limits of all of it
//! together, and what it has used.
//!
//! [`hierarchy`] decides where it is made. Its name says whose it is, `notapipe-PID-COUNT`, and a lock on its directory
//! (flock(2)) that its owner is alive: the lock ends with the owner however that ends, and the next group that is
//! made there removes those that are not locked.
//!
//! A process joins by writing `0` into a descriptor of `cgroup.procs`, before it executes a program ([`launch`]). The
//! kernel asks for the rights of the process that opened the file, so it does not matter which namespaces the process is in by
//! then. clone3(2) with CLONE_INTO_CGROUP would need a start of our own in assembly: without it, the child cannot be
//! given a stack. It would spare what the move waits for, a grace period of the kernel's, once in a while.
//!
//! `memory.oom.group` stays off, although it would end everything at once: the kernel then also kills each process that
//! shares its memory with a member (`__oom_kill_process`), and a child that has not executed its program yet shares ours. A
//! single victim is never such a child (`oom_badness` passes over vforked ones). So the kernel kills one process, and
//! the caller sees it in [`Cgroup::met_memory`] and ends the rest.
//!
//! [`launch`]: super::launch

mod heir;
mod hierarchy;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use self::heir::Heir;
pub(crate) use self::hierarchy::{Bounds, Controllers};
use self::hierarchy::{Level, ParentChoice, choices, directories, own_path};
use super::mountinfo;

const PREFIX: &str = "notapipe-";
/// How long killed processes may take to leave a group that is to be removed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A group, empty until processes join it. Dropping it kills its processes and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    entry: Arc<Entry>,
    #[expect(dead_code, reason = "held, to remove the group when we are killed")]
    heir: Option<Heir>,
    /// Locked as long as we live.
    directory: OwnedFd,
    /// `cgroup.procs`, for joining.
    procs: OwnedFd,
    holds: Controllers,
    bounds: Bounds,
}

impl Cgroup {
    /// Makes one that holds as many of these limits as the system allows us; processor time is counted in any.
    ///
    /// # Errors
    /// No control group may be made.
    pub(crate) fn new(memory_bytes: Option<u64>, processes: Option<u64>) -> io::Result<Self> {
        let wanted = Controllers {
            memory: memory_bytes.is_some(),
            pids: processes.is_some(),
        };
        let levels = levels()?;
        let mut refused = io::Error::other("no control group of version 2 may be written to");
        for choice in choices(&levels, wanted) {
            let dir = &levels[choice.level].dir;
            match Self::new_at(dir, choice, memory_bytes, processes) {
                Ok(made) => return Ok(made),
                Err(errno) => {
                    log::debug!("no control group below {}: {errno}", dir.display());
                    refused = errno.into();
                }
            }
        }
        Err(refused)
    }

    fn new_at(
        dir: &Path,
        choice: ParentChoice,
        memory_bytes: Option<u64>,
        processes: Option<u64>,
    ) -> Result<Self, Errno> {
        let parent = open_directory(CWD, dir)?;
        remove_abandoned(&parent);
        if let Some(names) = choice.enable.to_enable() {
            write(&parent, c"cgroup.subtree_control", &names)?;
        }
        let (entry, directory) = Entry::new(parent)?;
        let entry = Arc::new(entry);
        let carried = choice.carried;
        let bounds = carried.and(Bounds {
            memory_bytes: memory_bytes.filter(|_| choice.holds.memory),
            processes: processes.filter(|_| choice.holds.pids),
            ..Bounds::default()
        });
        let set_up = || {
            // Below a group of threads a child is no place for processes.
            if read(&directory, c"cgroup.type")?.trim() != "domain" {
                return Err(Errno::OPNOTSUPP);
            }
            if let Some(bytes) = bounds.memory_bytes {
                write(&directory, c"memory.max", &bytes.to_string())?;
                match write(&directory, c"memory.swap.max", "0") {
                    // The kernel does not account for swap.
                    Err(Errno::NOENT) | Ok(()) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if let Some(count) = bounds.processes {
                write(&directory, c"pids.max", &count.to_string())?;
            }
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&directory, c"cgroup.procs", flags, Mode::empty())
        };
        match set_up() {
            Ok(procs) => Ok(Self {
                heir: Heir::start(&entry),
                entry,
                directory,
                procs,
                holds: choice.holds,
                bounds,
            }),
            Err(errno) => {
                let _ = entry.remove();
                Err(errno)
            }
        }
    }

    /// Which of the limits it holds.
    pub(crate) fn holds(&self) -> Controllers {
        self.holds
    }

    /// The limits in force: what was asked for, or what bounds ourselves where that is less.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// What a process writes to that joins it.
    pub(crate) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Processor time of all that are or were in it.
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let micros = self.number(c"cpu.stat", "usage_usec")?;
        Ok(Duration::from_micros(micros))
    }

    /// Whether a process in it could not get the memory that it needed.
    pub(crate) fn met_memory(&self) -> io::Result<bool> {
        Ok(self.number(c"memory.events", "oom")? > 0)
    }

    /// Whether a process in it could not start another process or thread.
    pub(crate) fn met_processes(&self) -> io::Result<bool> {
        Ok(self.number(c"pids.events", "max")? > 0)
    }

    /// The number on the line `key NUMBER` of a file.
    fn number(&self, file: &CStr, key: &str) -> io::Result<u64> {
        let text = read(&self.directory, file)?;
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
        found.ok_or_else(|| io::Error::other(format!("no {key} in {}", file.to_string_lossy())))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        while let Err(errno) = self.entry.remove() {
            if errno != Errno::BUSY || Instant::now() >= give_up {
                // The next one made there removes it.
                log::debug!("{:?} is not removed: {errno}", self.entry.name);
                return;
            }
            // Who got away from its job is here all the same. Before Linux 5.14 nothing does that.
            let _ = write(&self.directory, c"cgroup.kill", "1");
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// A group's directory by name.
#[derive(Debug)]
struct Entry {
    parent: OwnedFd,
    name: CString,
}

impl Entry {
    /// Makes a directory under a name that is free, and locks it.
    fn new(parent: OwnedFd) -> Result<(Self, OwnedFd), Errno> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let pid = rustix::process::getpid().as_raw_nonzero();
        for _ in 0..100 {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = CString::new(format!("{PREFIX}{pid}-{count}")).map_err(|_| Errno::INVAL)?;
            match rustix::fs::mkdirat(&parent, &*name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(errno),
            }
            // Another process may just now take it for one that nobody holds.
            if let Some(directory) = locked(&parent, &name)
                && exists(&parent, &name)
            {
                return Ok((Self { parent, name }, directory));
            }
        }
        Err(Errno::EXIST)
    }

    /// Removes it, and what its processes may have made below it.
    ///
    /// # Errors
    /// EBUSY while processes are in it.
    fn remove(&self) -> Result<(), Errno> {
        remove(self.parent.as_fd(), &self.name)
    }
}

/// Depth first, as far as it goes.
fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Processes, or groups below.
        Err(Errno::BUSY) => {}
        Err(errno) => return Err(errno),
    }
    let directory = open_directory(parent, name)?;
    for child in groups(&directory)? {
        remove(directory.as_fd(), &child)?;
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Removes the groups of ours whose owners are gone, and in which no process is left.
fn remove_abandoned(parent: &OwnedFd) {
    let Ok(groups) = groups(parent) else {
        return;
    };
    let ours = groups
        .iter()
        .filter(|name| name.to_bytes().starts_with(PREFIX.as_bytes()));
    for name in ours {
        if let Some(_held) = locked(parent, name) {
            let _ = remove(parent.as_fd(), name);
        }
    }
}

fn exists(parent: &OwnedFd, name: &CStr) -> bool {
    rustix::fs::accessat(parent, name, Access::EXISTS, AtFlags::empty()).is_ok()
}

/// The directory, locked, if no other process holds its lock.
fn locked(parent: &OwnedFd, name: &CStr) -> Option<OwnedFd> {
    let directory = open_directory(parent, name).ok()?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory)
}

/// The groups below one.
fn groups(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Ours and all above it that a mount shows.
fn levels() -> io::Result<Vec<Level>> {
    let membership = std::fs::read_to_string("/proc/self/cgroup")?;
    let absent = || io::Error::other("there are no control groups of version 2");
    let own = own_path(&membership).ok_or_else(absent)?;
    let mounts = mountinfo::own()?;
    let mut mounts = mounts.iter().filter(|mount| mount.kind == "cgroup2");
    let dirs = mounts
        .find_map(|mount| directories(mount, own))
        .ok_or_else(absent)?;
    let level = |(index, dir): (usize, &std::path::PathBuf)| level(dir, index == 0);
    Ok(dirs.iter().enumerate().map_while(level).collect())
}

/// None where it cannot be looked at.
fn level(dir: &Path, is_own: bool) -> Option<Level> {
    let directory = open_directory(CWD, dir).ok()?;
    let text = |file: &CStr| read(&directory, file).ok();
    // The root of all has none.
    let kind = text(c"cgroup.type");
    let is_root = kind.is_none();
    let takes_processes = kind.is_none_or(|kind| kind.trim() == "domain");
    let may_write = |file: &CStr| {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&directory, file, flags, Mode::empty()).is_ok()
    };
    let may_make = || {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&directory, c".", access, AtFlags::EACCESS).is_ok()
    };
    let limit = |file| text(file).and_then(|text| text.trim().parse().ok());
    Some(Level {
        dir: dir.to_owned(),
        // Moving needs the right to write the processes of the ancestor in common.
        is_writable: takes_processes && may_make() && may_write(c"cgroup.procs"),
        can_enable: (is_root || !is_own) && may_write(c"cgroup.subtree_control"),
        offered: Controllers::parse(&text(c"cgroup.controllers")?),
        enabled: Controllers::parse(&text(c"cgroup.subtree_control")?),
        bounds: Bounds {
            memory_bytes: limit(c"memory.max"),
            processes: limit(c"pids.max"),
            others: OTHER_BOUNDS
                .iter()
                .any(|&(file, free)| text(file).is_some_and(|text| !is_free(&text, free))),
        },
    })
}

/// Further limits of a group, and what their files begin with where there is none.
const OTHER_BOUNDS: [(&CStr, &str); 6] = [
    (c"cpu.max", "max"),
    (c"cpuset.cpus", ""),
    (c"cpuset.mems", ""),
    (c"io.max", ""),
    (c"memory.high", "max"),
    (c"memory.swap.max", "max"),
];

fn is_free(text: &str, free: &str) -> bool {
    text.split_ascii_whitespace().next().unwrap_or_default() == free
}

fn open_directory<P: rustix::path::Arg>(at: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

fn read(directory: &OwnedFd, file: &CStr) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, file, flags, Mode::empty())?;
    // The kernel writes all of a file at once, and none of these is longer.
    let mut text = vec![0; 4096];
    let length = rustix::io::read(&file, &mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write(directory: &OwnedFd, file: &CStr, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, file, flags, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}
