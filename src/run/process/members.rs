//! The processes of a job: finding them, and ending all of them.

use std::ffi::CString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::Signal;

use super::running::Patience;
use super::{LAST_PATIENCE, PATIENCE, StillRunning};
use crate::mount::{Membership, MountPoint, ProcessInfo};
use crate::sys::poll;
use crate::sys::proc::{self, IsMember, ProcessHandle, Stuck};

/// How the processes of a job are found without a PID namespace.
#[derive(Debug)]
pub(super) enum Members {
    /// By their mount namespace.
    Namespace(Membership),
    /// By descent from these processes, which adopt those whose parents have ended.
    Descent(Vec<i32>),
    /// By a variable in their environment, unless they changed it.
    Mark(Mark),
}

/// `NAME=VALUE`, the value never used before.
#[derive(Debug, Clone)]
pub(super) struct Mark(CString);

impl Mark {
    pub(super) fn new() -> Self {
        let random = RandomState::new().build_hasher().finish();
        Mark(CString::new(format!("NOTAPIPE_JOB={random:016x}")).unwrap_or_default())
    }

    pub(super) fn variable(&self) -> CString {
        self.0.clone()
    }

    fn is_member(&self, pid: i32) -> IsMember {
        match proc::environment(pid) {
            Ok(text) if self.is_in(&text) => IsMember::Yes,
            Ok(_) => IsMember::No,
            Err(is_member) => is_member,
        }
    }

    fn is_in(&self, environment: &[u8]) -> bool {
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == self.0.as_bytes())
    }
}

impl Members {
    /// Their numbers.
    pub(super) fn numbers(&mut self) -> io::Result<Vec<i32>> {
        match self {
            Members::Namespace(membership) => membership.members(),
            Members::Descent(ancestors) => {
                let below = ancestors.iter().map(|&it| proc::descendants(it));
                Ok(below.collect::<io::Result<Vec<_>>>()?.concat())
            }
            Members::Mark(mark) => proc::members(|pid| mark.is_member(pid)),
        }
    }

    fn contains(&mut self, pid: i32) -> bool {
        match self {
            Members::Namespace(membership) => membership.contains(pid),
            Members::Descent(ancestors) => ancestors.iter().any(|&it| proc::descends(pid, it)),
            Members::Mark(mark) => matches!(mark.is_member(pid), IsMember::Yes),
        }
    }

    /// Kills all members, in rounds until a look finds nobody: what was forked in between is found
    /// by the next. Members that wait for an answer from the mount are freed by aborting it, after a
    /// while.
    pub(super) fn kill_all(mut self, place: &MountPoint) -> Result<(), StillRunning> {
        let abort_at = Instant::now() + PATIENCE;
        let give_up_at = abort_at + LAST_PATIENCE;
        let (mut aborted, mut stuck) = (false, Stuck::default());
        loop {
            let members = match self.numbers() {
                Ok(members) if members.is_empty() => return Ok(()),
                Ok(members) => members,
                Err(error) if Instant::now() >= give_up_at => {
                    log::debug!("the job's processes cannot be found: {error}");
                    return Ok(());
                }
                // For want of descriptors, most often.
                Err(_) => {
                    std::thread::sleep(ROUND);
                    continue;
                }
            };
            if Instant::now() >= give_up_at || aborted && stuck.are(&members) {
                return Err(StillRunning::new(place, members));
            }
            if Instant::now() >= abort_at && !aborted {
                aborted = true;
                abort(place);
                if let Members::Namespace(membership) = &mut self {
                    membership.forget_mount();
                }
            }
            self.kill(&members, abort_at.max(Instant::now() + ROUND));
        }
    }

    /// Sends a signal to all members but some.
    pub(super) fn signal_all(&mut self, signal: Signal, spared: &[i32]) -> io::Result<()> {
        for pid in self.numbers()? {
            if !spared.contains(&pid)
                && let Some(process) = ProcessHandle::checked(pid, |pid| self.contains(pid))
            {
                // It may have ended meanwhile.
                let _ = process.signal(signal);
            }
        }
        Ok(())
    }

    /// Kills them, and waits for their ends until then.
    fn kill(&mut self, members: &[i32], until: Instant) {
        let held: Vec<ProcessHandle> = members
            .iter()
            .filter_map(|&pid| ProcessHandle::checked(pid, |pid| self.contains(pid)))
            .collect();
        for process in &held {
            if let Err(error) = process.signal(Signal::KILL) {
                log::debug!("process {}: not killed: {error}", process.pid);
            }
        }
        wait_for_all(&held, until);
    }
}

/// How long a round waits for stragglers before it looks again, once patience has run out.
pub(super) const ROUND: Duration = Duration::from_millis(50);

/// Waits until a step has executed its program, or ended, which `hangs_up` tells; `kill` kills it. What sleeps
/// uninterruptibly then, as its program lies where nothing answers, is not waited for.
///
/// # Errors
/// Of the kind `TimedOut` or `Interrupted`: patience was at its end. It was killed then.
pub(super) fn wait_for_start(
    hangs_up: BorrowedFd<'_>,
    patience: Patience<'_>,
    place: &MountPoint,
    kill: &dyn Fn(),
    number: impl Fn() -> Option<i32>,
) -> io::Result<()> {
    let Err(error) = patience.expect(hangs_up, PollFlags::IN) else {
        return Ok(());
    };
    let abort_at = Instant::now() + PATIENCE;
    let (mut aborted, mut stuck) = (false, Stuck::default());
    loop {
        kill();
        let soon = Patience::until(Instant::now() + ROUND);
        if soon.expect(hangs_up, PollFlags::IN).is_ok() || aborted && stuck.are(number().as_slice())
        {
            return Err(error);
        }
        if Instant::now() >= abort_at && !std::mem::replace(&mut aborted, true) {
            abort(place);
        }
    }
}

/// Frees whoever waits for an answer from the mount.
pub(super) fn abort(place: &MountPoint) {
    if let Err(error) = place.abort() {
        log::debug!("{}: not aborted: {error}", place.path().display());
    }
}

fn wait_for_all(held: &[ProcessHandle], until: Instant) {
    for process in held {
        let _ = poll::wait_readable([process.descriptor.as_fd()], Some(until));
    }
}

impl StillRunning {
    pub(super) fn new(place: &MountPoint, left: Vec<i32>) -> Self {
        StillRunning {
            path: place.path().to_owned(),
            processes: left.into_iter().map(ProcessInfo::of).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Outside is who is certainly no member: a process that takes up a program or ends may have left a child that is one.
    #[test]
    fn a_member_is_never_taken_for_an_outsider_by_its_mark() {
        let mark = Mark::new();
        let variable = mark.variable();
        let (name, value) = variable.to_str().unwrap().split_once('=').unwrap();
        // Programs whose environment takes the kernel long to pass on, one after another, and many ends.
        let script = r#"
            test $# -gt 60 && exit
            for end in 1 2 3 4 5; do (exit); done
            exec sh -c "$0" "$0" "$@" again"#;
        let filler = (0..5_000).map(|it| (format!("V{it}"), "x".repeat(20)));
        for _ in 0..5 {
            let mut child = Command::new("sh")
                .args(["-c", script, script])
                .envs(filler.clone())
                .env(name, value)
                .spawn()
                .unwrap();
            let pid = child.id().cast_signed();
            loop {
                let ours = proc::descendants(pid).unwrap();
                for pid in ours.into_iter().chain([pid]) {
                    let is_member = mark.is_member(pid);
                    assert!(!matches!(is_member, IsMember::No), "{pid}");
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
            }
        }
    }
}
