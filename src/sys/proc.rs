//! Other processes, as `/proc` tells of them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

/// A process, told to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number in our own PID namespace.
    pub pid: i32,
    /// Its command line with spaces between the words, or its short name in brackets.
    pub command: OsString,
}

impl ProcessInfo {
    pub(crate) fn of(pid: i32) -> Self {
        ProcessInfo {
            pid,
            command: command(pid),
        }
    }
}

/// The numbers of all processes that `/proc` shows.
pub(crate) fn all() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

fn command(pid: i32) -> OsString {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if words.is_empty() {
        let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = name.trim_ascii_end();
        return OsString::from_vec([b"[", name, b"]"].concat());
    }
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    OsString::from_vec(
        words
            .iter()
            .map(|&byte| if byte == 0 { b' ' } else { byte })
            .collect(),
    )
}

/// A process held by a descriptor; the number behind it can no longer come to mean another one.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pid: i32,
    pub(crate) descriptor: OwnedFd,
}

impl Held {
    /// Holds the process with this number if `belongs` is still true of it once it is held.
    ///
    /// When the number has been taken over in between, the descriptor's process is already dead:
    /// a signal to it reaches nobody.
    pub(crate) fn checked(pid: i32, belongs: impl FnOnce(i32) -> bool) -> Option<Self> {
        let descriptor =
            rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        belongs(pid).then_some(Held { pid, descriptor })
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(
            &self.descriptor,
            signal,
        )?)
    }
}

/// The number of the process behind a descriptor (pidfd_open(2)), in our own PID namespace.
pub(crate) fn pid_of(descriptor: BorrowedFd<'_>) -> Option<i32> {
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|&pid| pid > 0)
}

/// The fields of `/proc/PID/stat` (proc_pid_stat(5)) after the name: the first is the third of all.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold spaces and parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The parent of a process and whether it is a zombie.
pub(crate) fn parent(pid: i32) -> Option<(i32, bool)> {
    let fields = stat(pid)?;
    let state = fields.first()?;
    Some((fields.get(1)?.parse().ok()?, state == "Z" || state == "X"))
}

/// The process of a thread (proc_pid_status(5)). Like [`parent`], it waits for nothing that the thread holds.
pub(crate) fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    process.trim().parse().ok()
}

/// What processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    pub(crate) max_rss_bytes: u64,
}

impl Usage {
    /// By a process that runs and those that it waited for; nothing when it is gone. Times are in steps of the
    /// kernel's clock, most often 10 ms.
    pub(crate) fn of(pid: i32) -> Self {
        let fields = stat(pid).unwrap_or_default();
        let tick = |field: usize| {
            // As the man page counts them.
            let ticks: Option<u64> = fields.get(field - 3).and_then(|it| it.parse().ok());
            let per_second = rustix::param::clock_ticks_per_second().max(1);
            Duration::from_nanos(
                ticks
                    .unwrap_or(0)
                    .saturating_mul(1_000_000_000 / per_second),
            )
        };
        Self {
            user_time: tick(14) + tick(16),
            system_time: tick(15) + tick(17),
            max_rss_bytes: most_resident(pid).unwrap_or(0),
        }
    }
}

/// `VmHWM:   1234 kB` (proc_pid_status(5)).
fn most_resident(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

impl std::iter::Sum for Usage {
    /// The times together, and the most memory of one.
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            user_time: sum.user_time + it.user_time,
            system_time: sum.system_time + it.system_time,
            max_rss_bytes: sum.max_rss_bytes.max(it.max_rss_bytes),
        })
    }
}

/// Whether a process has not ended: neither gone nor a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    parent(pid).is_some_and(|(_, is_zombie)| !is_zombie)
}

/// All processes that descend from `ancestor`, zombies left out.
pub(crate) fn descendants(ancestor: i32) -> io::Result<Vec<i32>> {
    let processes: Vec<(i32, i32, bool)> = all()?
        .into_iter()
        .filter_map(|pid| parent(pid).map(|(parent, zombie)| (pid, parent, zombie)))
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for &(pid, its_parent, zombie) in &processes {
            if its_parent == parent {
                parents.push(pid);
                if !zombie {
                    found.push(pid);
                }
            }
        }
    }
    Ok(found)
}

/// Whether a process descends from `ancestor`.
pub(crate) fn descends(pid: i32, ancestor: i32) -> bool {
    ancestors(pid).any(|up| up == ancestor)
}

/// The processes that a process comes from, the nearest first.
pub(crate) fn ancestors(pid: i32) -> impl Iterator<Item = i32> {
    let of = |pid: i32| parent(pid).map(|(up, _)| up);
    std::iter::successors(of(pid), move |&up| of(up))
}
