//! Other processes, as `/proc` tells of them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

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

/// The parent of a process and whether it is a zombie, from `/proc/PID/stat`.
pub(crate) fn parent(pid: i32) -> Option<(i32, bool)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold spaces and parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    Some((fields.next()?.parse().ok()?, state == "Z" || state == "X"))
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
    std::iter::successors(parent(pid), |&(up, _)| parent(up)).any(|(up, _)| up == ancestor)
}
