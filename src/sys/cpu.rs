//! Where threads run, as the scheduler and `/proc` tell of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// How much of a file in `/proc` is read. What is looked for stands within it: names are at most 16 bytes, numbers 20.
const STAT_BYTES: usize = 1024;

/// The number of another thread's CPU, asked for again and again.
#[derive(Debug)]
pub(crate) struct CpuOf {
    stat: File,
}

impl CpuOf {
    /// Of a thread of any process that we may see.
    pub(crate) fn thread(tid: i32) -> io::Result<Self> {
        // Below `task`, because the process' own file adds up the times of all of its threads.
        let stat = File::open(format!("/proc/{tid}/task/{tid}/stat"))?;
        Ok(Self { stat })
    }

    /// Where it runs, or ran last; none when it has ended.
    pub(crate) fn now(&self) -> Option<usize> {
        let mut buffer = [0; STAT_BYTES];
        let len = self.stat.read_at(&mut buffer, 0).ok()?;
        processor(&buffer[..len])
    }
}

/// Field 39 of proc_pid_stat(5). The second is a name in parentheses that may hold spaces and parentheses itself.
fn processor(stat: &[u8]) -> Option<usize> {
    const BEHIND_THE_NAME: usize = 39 - 3;
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
    fields
        .split_ascii_whitespace()
        .nth(BEHIND_THE_NAME)?
        .parse()
        .ok()
}

/// How many threads of the whole machine are running or ready to, asked for again and again.
#[derive(Debug)]
pub(crate) struct Running {
    loadavg: File,
}

impl Running {
    pub(crate) fn of_the_machine() -> io::Result<Self> {
        let loadavg = File::open("/proc/loadavg")?;
        Ok(Self { loadavg })
    }

    /// At this moment, the caller included.
    pub(crate) fn now(&self) -> Option<usize> {
        let mut buffer = [0; 128];
        let len = self.loadavg.read_at(&mut buffer, 0).ok()?;
        running(&buffer[..len])
    }
}

/// The fourth field of proc_loadavg(5): `RUNNING/ALL`.
fn running(loadavg: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(loadavg).ok()?;
    let (running, _all) = text.split_ascii_whitespace().nth(3)?.split_once('/')?;
    running.parse().ok()
}

/// How many CPUs the calling thread may run on.
pub(crate) fn allowed() -> io::Result<(CpuSet, usize)> {
    let set = sched_getaffinity(None)?;
    let count = set.count() as usize;
    Ok((set, count))
}

/// How many CPUs the machine has.
pub(crate) fn online() -> usize {
    // SAFETY: asks for a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1)
}

/// Holds a thread of ours on one CPU.
pub(crate) fn hold(thread: Pid, cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    let_run_on(thread, &set)
}

/// Lets a thread of ours run on these CPUs.
pub(crate) fn let_run_on(thread: Pid, set: &CpuSet) -> io::Result<()> {
    Ok(sched_setaffinity(Some(thread), set)?)
}

/// Has the calling thread run only where nothing else wants to (`SCHED_IDLE`, sched(7)). An ordinary user cannot take
/// that back, and threads that it starts inherit it.
pub(crate) fn yield_to_all_others() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a live value; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_found_behind_any_name() {
        let numbers: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) (b c) S {}\n", numbers.join(" "));
        assert_eq!(processor(stat.as_bytes()), Some(39));
        assert_eq!(processor(b"7 (a"), None);
        assert_eq!(processor(b"7 (a) S 1"), None);
    }

    #[test]
    fn the_running_threads_are_counted() {
        assert_eq!(running(b"0.10 0.20 0.30 3/456 7890\n"), Some(3));
        assert_eq!(running(b"0.10"), None);
        let now = Running::of_the_machine().unwrap().now().unwrap();
        assert!(now >= 1, "this thread runs");
    }

    #[test]
    fn a_thread_that_is_held_is_found_where_it_is_held() -> io::Result<()> {
        let (before, _) = allowed()?;
        let cpu = (0..CpuSet::MAX_CPU)
            .find(|&cpu| before.is_set(cpu))
            .unwrap();
        let this = rustix::thread::gettid();
        hold(this, cpu)?;
        assert_eq!(CpuOf::thread(this.as_raw_nonzero().get())?.now(), Some(cpu));
        let_run_on(this, &before)
    }
}
