//! Signals around the birth of a process. Everything here is a bare system call and safe in a
//! [`vfork`](super::vfork)ed child.

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// A signal set as the kernel has it: 64 bits on every architecture that Rust's Linux std runs on
/// but MIPS, which this crate does not support.
type KernelSet = u64;

/// What the kernel's `struct sigaction` needs at most; the handler is its first word everywhere but
/// on MIPS (`include/linux/signal_types.h`).
type KernelAction = [usize; 8];

const HIGHEST_SIGNAL: c_int = 64;

/// All signals of this thread held back until dropped.
///
/// The C library's own functions spare two signals of its own; a child that shares our memory must
/// not run those handlers either.
pub(crate) struct Blocked {
    before: KernelSet,
}

impl Blocked {
    pub(crate) fn new() -> Self {
        Blocked {
            before: set_mask(!0),
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// Replaces this thread's mask, and returns the one it had.
pub(crate) fn set_mask(mask: u64) -> u64 {
    let mut before: KernelSet = 0;
    // SAFETY: both pointers are to live sets of the size that is passed.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&mask),
            ptr::from_mut(&mut before),
            size_of::<KernelSet>(),
        );
    }
    before
}

/// Gives every signal that has a handler its default action, and SIGPIPE too, which Rust's runtime
/// ignores. Other ignored signals stay ignored (nohup(1) counts on it).
///
/// execve(2) does the same to handlers, but too late: once signals are let through, a handler would
/// run in memory that is still ours.
///
/// # Safety
/// Only in a process of its own: the table of actions must not be shared with ours.
pub(crate) unsafe fn restore_defaults() {
    let default: KernelAction = [libc::SIG_DFL; 8];
    for signal in 1..=HIGHEST_SIGNAL {
        let mut current: KernelAction = [0; 8];
        // SAFETY: `current` is large enough for the kernel's structure on every architecture.
        unsafe { action(signal, ptr::null(), current.as_mut_ptr()) };
        let ignored = current[0] == libc::SIG_IGN && signal != libc::SIGPIPE;
        if current[0] != libc::SIG_DFL && !ignored {
            // SAFETY: all zeroes is the default action without flags.
            unsafe { action(signal, default.as_ptr(), ptr::null_mut()) };
        }
    }
}

/// rt_sigaction(2) itself: the C library refuses its own two signals.
///
/// # Safety
/// As for rt_sigaction(2).
unsafe fn action(signal: c_int, new: *const usize, old: *mut usize) {
    // SAFETY: the caller's promise.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            new,
            old,
            size_of::<KernelSet>(),
        )
    };
}

/// A descriptor that can be read when this blocked signal has come (signalfd(2)).
pub(crate) fn descriptor(signal: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the set is made by the C library before it is used.
    let descriptor = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Takes the signals that have come off such a descriptor.
pub(crate) fn drain(descriptor: &OwnedFd) {
    let mut buffer = [0; size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(descriptor, &mut buffer).is_ok_and(|length| length > 0) {}
}
