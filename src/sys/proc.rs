//! Other processes, as `/proc` tells of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::poll;

/// A process, told to a person; of a [`MountError`](crate::mount::MountError) or an [`Error`](crate::Error).
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

/// A file of `/proc`, in one read where it is not long: without a size to go by, it takes nine to come to a kilobyte.
pub(crate) fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(16 << 10);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// The /proc of our own PID namespace. In that of another, processes have other numbers.
pub(crate) const OURS: &str = "/proc";

/// The numbers of all processes that `/proc` shows.
pub(crate) fn all() -> io::Result<Vec<i32>> {
    numbers_in(OURS)
}

/// The numbers of all processes that a /proc shows, or of the threads in a `task` directory.
pub(crate) fn numbers_in(directory: &str) -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in when_possible(|| std::fs::read_dir(directory))? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    Ok(numbers)
}

/// Tries again for a while when there are no descriptors, which is not to be taken for a process that has ended.
fn when_possible<T>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let give_up = Instant::now() + UNSETTLED;
    loop {
        match look() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                    && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            looked => return looked,
        }
    }
}

fn command(pid: i32) -> OsString {
    let thread = living_thread(pid);
    let words = std::fs::read(format!("/proc/{thread}/cmdline")).unwrap_or_default();
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
pub(crate) struct ProcessHandle {
    pub(crate) pid: i32,
    pub(crate) descriptor: OwnedFd,
}

impl ProcessHandle {
    /// Holds the process with this number if `belongs` is still true of it once it is held.
    ///
    /// When the number has been taken over in between, the descriptor's process is already dead:
    /// a signal to it has no effect.
    pub(crate) fn checked(pid: i32, belongs: impl FnOnce(i32) -> bool) -> Option<Self> {
        let descriptor =
            rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        belongs(pid).then_some(ProcessHandle { pid, descriptor })
    }

    /// Whether the process has ended, though its parent may not have collected it.
    pub(crate) fn has_ended(&self) -> bool {
        poll::is_ready(&self.descriptor, PollFlags::IN)
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
    stat_in(OURS, pid)
}

fn stat_in(proc: &str, pid: i32) -> Option<Vec<String>> {
    let path = format!("{proc}/{pid}/stat");
    let stat = when_possible(|| std::fs::read(&path)).ok()?;
    // The name stands in parentheses and may itself hold spaces and parentheses.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The parent of a process and whether it has ended. A process whose first thread has ended while others go on has not,
/// although it looks like a zombie.
pub(crate) fn parent(pid: i32) -> Option<(i32, bool)> {
    let fields = stat(pid)?;
    Some((
        number(&fields, 4)?,
        is_zombie(&fields) && !has_more_threads(&fields),
    ))
}

fn is_zombie(fields: &[String]) -> bool {
    fields
        .first()
        .is_some_and(|state| state == "Z" || state == "X")
}

/// Whether a signal or a debugger has stopped it.
#[cfg(feature = "control")]
pub(crate) fn is_stopped(pid: i32) -> bool {
    let fields = stat(pid).unwrap_or_default();
    fields
        .first()
        .is_some_and(|state| state == "T" || state == "t")
}

/// Whether threads of it are left beside its first.
fn has_more_threads(fields: &[String]) -> bool {
    number(fields, 20).is_some_and(|threads: u32| threads > 1)
}

/// Whether it is a zombie, or about to be one; it has no files and no memory any more, and starts no process.
fn is_ending(fields: &[String]) -> bool {
    /// Of `include/linux/sched.h`.
    const PF_EXITING: u64 = 0x0000_0004;
    is_zombie(fields) || number(fields, 9).is_some_and(|flags: u64| flags & PF_EXITING != 0)
}

/// A thread of a process to ask `/proc` about: the first, whose number is the process's own, or another once that has ended
/// and only others know of files, memory and namespaces.
pub(crate) fn living_thread(pid: i32) -> i32 {
    living_thread_in(OURS, pid).unwrap_or(pid)
}

/// [`living_thread`] in any /proc; none when the process has ended or is about to, and has neither files nor memory any more.
pub(crate) fn living_thread_in(proc: &str, pid: i32) -> Option<i32> {
    match stat_in(proc, pid)? {
        fields if !is_ending(&fields) => Some(pid),
        fields if has_more_threads(&fields) => other_living_thread(proc, pid),
        _ => None,
    }
}

fn other_living_thread(proc: &str, pid: i32) -> Option<i32> {
    let threads = numbers_in(&format!("{proc}/{pid}/task")).ok()?;
    let is_living = |&thread: &i32| stat_in(proc, thread).is_some_and(|fields| !is_ending(&fields));
    threads.into_iter().find(is_living)
}

/// How long a process that was killed may be [stuck](is_stuck) until it is given up.
const STUCK: Duration = Duration::from_millis(500);

/// Tells when processes that were killed are not worth waiting for.
#[derive(Debug, Default)]
pub(crate) struct Stuck {
    since: Option<Instant>,
}

impl Stuck {
    /// Whether all of these have been in uninterruptible sleep for a while: they wait for a file system that does not
    /// answer, and not even SIGKILL ends that.
    pub(crate) fn are(&mut self, killed: &[i32]) -> bool {
        if killed.is_empty() || !killed.iter().copied().all(is_stuck) {
            self.since = None;
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() >= STUCK
    }
}

/// Whether it is in uninterruptible sleep.
fn is_stuck(pid: i32) -> bool {
    stat(living_thread(pid)).is_some_and(|fields| fields.first().is_some_and(|state| state == "D"))
}

/// One of the fields of [`stat`], as the man page counts them.
fn number<N: FromStr>(fields: &[String], field: usize) -> Option<N> {
    fields.get(field - 3)?.parse().ok()
}

/// The number of a process in the PID namespace below ours that it is in.
pub(crate) fn number_below(pid: i32) -> Option<i32> {
    numbers_of(pid).get(1).copied()
}

fn numbers_of(pid: i32) -> Vec<i32> {
    let numbers = status(OURS, pid, "NSpid:").unwrap_or_default();
    let numbers = numbers.split_ascii_whitespace();
    numbers.filter_map(|it| it.parse().ok()).collect()
}

/// When a process was started, in ticks of the kernel's clock.
pub(crate) fn start_time(proc: &str, pid: i32) -> Option<u64> {
    number(&stat_in(proc, pid)?, 22)
}

/// A field of `/proc/PID/status` (proc_pid_status(5)).
fn status(proc: &str, pid: i32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("{proc}/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(value.trim().to_owned())
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
    pub(crate) fn of(proc: &str, pid: i32) -> Self {
        let fields = stat_in(proc, pid).unwrap_or_default();
        let tick = |field: usize| {
            let ticks: u64 = number(&fields, field).unwrap_or(0);
            let per_second = rustix::param::clock_ticks_per_second().max(1);
            Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
        };
        Self {
            user_time: tick(14) + tick(16),
            system_time: tick(15) + tick(17),
            max_rss_bytes: most_resident(proc, pid).unwrap_or(0),
        }
    }
}

/// `VmHWM:   1234 kB` (proc_pid_status(5)).
fn most_resident(proc: &str, pid: i32) -> Option<u64> {
    let kib = status(proc, pid, "VmHWM:")?;
    let kib: u64 = kib.strip_suffix("kB")?.trim_end().parse().ok()?;
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

/// The environment with which a process was started, or what it has put there since (proc_pid_environ(5)).
///
/// # Errors
/// Where the process is, when none can be read: outside only if it has none, or none for us.
pub(crate) fn environment(pid: i32) -> Result<Vec<u8>, IsMember> {
    if let Some(text) = environment_of_thread(pid) {
        return Ok(text);
    }
    let fields = stat(pid).ok_or(IsMember::Ended)?;
    if !is_ending(&fields) {
        return Err(without_environment(&fields));
    }
    if !has_more_threads(&fields) {
        return Err(IsMember::Ended);
    }
    let thread = other_living_thread(OURS, pid).ok_or(IsMember::Unknown)?;
    environment_of_thread(thread).ok_or_else(|| {
        stat(thread).map_or(IsMember::Unknown, |fields| without_environment(&fields))
    })
}

/// In one read(2) unless it is huge: between two of them the process may take up another program, and then the second
/// tells of an end. While a thread ends, this belongs to root (`fs/proc/base.c`, task_dump_owner).
fn environment_of_thread(thread: i32) -> Option<Vec<u8>> {
    const NEARLY_ALL_BYTES: usize = 256 << 10;
    let file = File::open(format!("/proc/{thread}/environ")).ok()?;
    let mut text = Vec::with_capacity(NEARLY_ALL_BYTES);
    while rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)).ok()? > 0 {
        text.reserve(NEARLY_ALL_BYTES);
    }
    (!text.is_empty()).then_some(text)
}

/// Whether a process belongs to the set that goes on and has no environment that can be read.
///
/// While it takes up a program (execve(2)), its memory begins to tell of an environment before that is there, and of the
/// program's code after it (`fs/binfmt_elf.c`, load_elf_binary).
fn without_environment(fields: &[String]) -> IsMember {
    /// A thread of the kernel, which has no memory; of `include/linux/sched.h`.
    const PF_KTHREAD: u64 = 0x0020_0000;
    let number = |field| number(fields, field).unwrap_or(0_u64);
    let (flags, start_code, [env_start, env_end]) = (number(9), number(26), [50, 51].map(number));
    // The latter is also told of whom we may not look into.
    match flags & PF_KTHREAD != 0 || start_code != 0 && env_start == env_end {
        true => IsMember::No,
        false => IsMember::Unknown,
    }
}

/// Whether there is no such process any more, not even a zombie. Quicker than a look at `/proc`.
pub(crate) fn is_gone(pid: i32) -> bool {
    Pid::from_raw(pid)
        .is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Whether this user may send it signals, as to its own processes.
pub(crate) fn may_signal(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Whether a process belongs to the set that is looked for.
pub(crate) enum IsMember {
    Yes,
    No,
    /// The process has ended, whether its parent has collected it or not.
    Ended,
    /// It cannot be told at this moment.
    Unknown,
}

/// How often the processes are listed while some end faster than they can be looked at: a list of a hundred takes well
/// under a millisecond.
const MOST_LOOKS: u32 = 100;
/// How long a process may be unknown: it takes up another program at that moment, which may lie on a slow disk.
const UNSETTLED: Duration = Duration::from_secs(1);

/// All processes that are members. When there is none, none can come: processes come from processes.
///
/// A process that ended between the listing and the look at it may have left a child that the listing does not have
/// yet. So a list without members counts only when all that had ended in it had done so in the list before.
pub(crate) fn members(mut is_member: impl FnMut(i32) -> IsMember) -> io::Result<Vec<i32>> {
    members_by_looks(|pids| {
        let looked_at = pids.into_iter().map(|pid| (pid, is_member(pid)));
        looked_at.collect()
    })
}

/// As [`members`], with one look at all that are listed.
fn members_by_looks(
    mut look: impl FnMut(Vec<i32>) -> Vec<(i32, IsMember)>,
) -> io::Result<Vec<i32>> {
    let give_up = Instant::now() + UNSETTLED;
    let mut dead_before = HashSet::new();
    let mut looks = 0;
    while looks < MOST_LOOKS {
        let (mut members, mut dead) = (Vec::new(), HashSet::new());
        let mut is_settled = true;
        for (pid, is_member) in look(all()?) {
            match is_member {
                IsMember::Yes => members.push(pid),
                IsMember::No => {}
                IsMember::Ended => {
                    dead.insert(pid);
                }
                IsMember::Unknown => is_settled = false,
            }
        }
        if !members.is_empty() || is_settled && dead.is_subset(&dead_before) {
            return Ok(members);
        }
        dead_before = dead;
        if is_settled {
            looks += 1;
        } else if Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        } else {
            break;
        }
    }
    Ok(Vec::new())
}

/// All processes that descend from `ancestor`, without those that have ended; none where that is not the number of a process,
/// since all descend from 0.
pub(crate) fn descendants(ancestor: i32) -> io::Result<Vec<i32>> {
    if ancestor <= 0 {
        return Ok(Vec::new());
    }
    members_by_looks(|pids| {
        let parents = pids.iter().map(|&pid| (pid, parent(pid)));
        let parents: HashMap<i32, Option<(i32, bool)>> = parents.collect();
        let up = |pid: &i32| parents.get(pid).copied().flatten().map(|(up, _)| up);
        let descends = |pid: i32| {
            // Numbers that were given anew in between may look like a ring.
            let mut line = std::iter::successors(up(&pid), up).take(parents.len());
            line.any(|up| up == ancestor)
        };
        let is_member = |pid| match parents[&pid] {
            None | Some((_, true)) => IsMember::Ended,
            Some(_) if descends(pid) => IsMember::Yes,
            Some(_) => IsMember::No,
        };
        pids.iter().map(|&pid| (pid, is_member(pid))).collect()
    })
}

/// What descends from `ancestor` at one look at a /proc, in which it has this number.
pub(crate) fn descendants_in(proc: &str, ancestor: i32) -> io::Result<Vec<i32>> {
    let parent_of = |pid| Some((pid, number::<i32>(&stat_in(proc, pid)?, 4)?));
    let parents: HashMap<i32, i32> = numbers_in(proc)?
        .into_iter()
        .filter_map(parent_of)
        .collect();
    let descends = |pid: i32| {
        let up = |pid: &i32| parents.get(pid).copied();
        let mut line = std::iter::successors(up(&pid), up).take(parents.len());
        line.any(|up| up == ancestor)
    };
    Ok(parents
        .keys()
        .copied()
        .filter(|&pid| descends(pid))
        .collect())
}

/// Whether a process descends from `ancestor`.
pub(crate) fn descends(pid: i32, ancestor: i32) -> bool {
    let parent_of = |pid: i32| parent(pid).map(|(up, _)| up);
    let mut line = std::iter::successors(parent_of(pid), move |&up| parent_of(up));
    ancestor > 0 && line.any(|up| up == ancestor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_told_for_a_while_is_waited_for() {
        let ourselves = rustix::process::getpid().as_raw_pid();
        let mut looks = 0;
        let found = members(|pid| match pid == ourselves {
            false => IsMember::No,
            true => {
                looks += 1;
                match looks > MOST_LOOKS {
                    true => IsMember::Yes,
                    false => IsMember::Unknown,
                }
            }
        });
        assert_eq!(found.unwrap(), [ourselves]);
    }
}
