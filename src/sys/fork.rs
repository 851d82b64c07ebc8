//! A copy of this process that goes its own way without executing a program: fork(2), for a process of one thread.
//!
//! A program with threads gets its children from [`vfork`](super::vfork): in a copy of it, a lock may be held for ever
//! by a thread that the copy does not have.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use rustix::io::FdFlags;

use super::child::Child;
use super::signals::Blocked;

/// The first version of the kernel's `struct clone_args` (`include/uapi/linux/sched.h`), which libc has not on every
/// platform: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size and tls.
type CloneArguments = [u64; 8];

/// The links of a directory without directories in it (`fs/proc/base.c`, `proc_task_getattr`, adds one for each
/// thread).
const LINKS_OF_NO_THREADS: u64 = 2;

/// Whether the calling thread is the only one of this process.
pub(crate) fn has_one_thread() -> bool {
    fs::metadata("/proc/self/task").is_ok_and(|task| task.nlink() == LINKS_OF_NO_THREADS + 1)
}

/// Makes a copy of this process which does `work`, and exits with what that returns; a panic is 101, as in a program.
/// `flags` are further `CLONE_` flags (clone(2)).
///
/// The copy has a mask that blocks every signal, and no exit signal: no SIGCHLD is sent for it and no wait(2) of another
/// part of this program takes it.
///
/// # Errors
/// clone3(2) failed.
///
/// # Safety
/// This process [has one thread](has_one_thread).
pub(crate) unsafe fn fork(flags: c_int, work: impl FnOnce() -> i32) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from((flags | libc::CLONE_PIDFD).unsigned_abs());
    // The rest asks for nothing: no exit signal, and the stack that we are on.
    let arguments: CloneArguments = [flags, ptr::from_mut(&mut pidfd) as u64, 0, 0, 0, 0, 0, 0];
    let blocked = Blocked::new();
    // SAFETY: without CLONE_VM the child has this stack, and everything else, for itself.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of::<CloneArguments>(),
        )
    };
    if pid == 0 {
        let status = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
        // SAFETY: nothing of the process that we are a copy of is to be run at our exit.
        unsafe { libc::_exit(status) }
    }
    drop(blocked);
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor (close-on-exec).
    Ok(Child::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Closes what execve(2) would close, except `kept`.
///
/// # Errors
/// /proc cannot be read.
///
/// # Safety
/// Nothing in this process uses such a descriptor any more.
pub(crate) unsafe fn close_on_exec(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    // Read to the end before one is closed: the directory that is being read is one of them.
    let numbers = fs::read_dir("/proc/self/fd")?
        .map(|entry| {
            Ok(entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok()))
        })
        .collect::<io::Result<Vec<Option<RawFd>>>>()?;
    for number in numbers.into_iter().flatten() {
        // SAFETY: only asked about; what is no descriptor any more is refused.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let would_close =
            rustix::io::fcntl_getfd(descriptor).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
        if would_close && !kept.contains(&number) {
            // SAFETY: the caller's word.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// Replaces the arguments and the environment that this process was started with by `title`, for whoever looks at
/// `/proc/PID/cmdline` and `/proc/PID/environ`; it is cut where they were shorter.
///
/// # Errors
/// /proc cannot be read.
///
/// # Safety
/// Nothing in this process reads its arguments or its environment at the same time, or has a borrow of them.
pub(crate) unsafe fn replace_arguments(title: &[u8]) -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (start, end) = arguments_and_environment(&stat)
        .ok_or_else(|| io::Error::other("/proc/self/stat does not tell where the arguments are"))?;
    let start = ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel's own word for where it put them, on the stack of the first thread; the caller's for that
    // nobody else has them.
    let memory = unsafe { std::slice::from_raw_parts_mut(start, end - start.addr()) };
    let length = title.len().min(memory.len().saturating_sub(1));
    memory[..length].copy_from_slice(&title[..length]);
    memory[length..].fill(0);
    Ok(())
}

/// The addresses of `arg_start` and `env_end` (proc_pid_stat(5), fields 48 and 51).
fn arguments_and_environment(stat: &str) -> Option<(usize, usize)> {
    const FIRST_AFTER_NAME: usize = 3;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let field = |number: usize| {
        let text = after_name.split(' ').nth(number - FIRST_AFTER_NAME)?;
        text.trim_end().parse::<usize>().ok()
    };
    let (start, end) = (field(48)?, field(51)?);
    (start != 0 && start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_several_threads_is_seen() {
        std::thread::scope(|scope| {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || ended.recv());
            assert!(!has_one_thread());
            drop(end);
        });
    }

    #[test]
    fn the_arguments_are_found_whatever_the_name() {
        let numbers: Vec<String> = (4..=52).map(|number| (number * 100).to_string()).collect();
        let stat = format!("7 (a) R (b) S {}\n", numbers.join(" "));
        assert_eq!(arguments_and_environment(&stat), Some((4800, 5100)));
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(arguments_and_environment(&own).is_some());
        assert_eq!(arguments_and_environment("7 (a) R 1 2 3"), None);
        let hidden = format!("7 (a) R {}", vec!["0"; 49].join(" "));
        assert_eq!(arguments_and_environment(&hidden), None);
    }
}
