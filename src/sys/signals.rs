//! Signals around the birth of a process. Everything here is a bare system call and safe in a
//! [`vfork`](super::vfork)ed child.

use std::ffi::c_int;
use std::ptr;
use std::time::Duration;

use rustix::process::Signal;

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

/// Which signals a program starts with ignored and which held back, as sets in which bit 0 is signal 1
/// (proc_pid_status(5)).
///
/// # Examples
///
/// ```
/// use notapipe::run::InheritedSignals;
///
/// // Taken at the start of a program, before anything changes them.
/// let callers = InheritedSignals::of_this_thread();
/// let job = notapipe::Job::new().inherited_signals(callers).step(["true"]);
/// # job.run().unwrap();
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InheritedSignals {
    pub(crate) ignored: u64,
    pub(crate) blocked: u64,
}

impl InheritedSignals {
    /// What this program ignores, and what the calling thread holds back, at this moment.
    ///
    /// Only system calls: it may be called before `main`. There Rust's runtime has not yet had SIGPIPE ignored.
    #[must_use]
    pub fn of_this_thread() -> Self {
        let blocked = set_mask(!0);
        set_mask(blocked);
        let bits = (1..=HIGHEST_SIGNAL).filter(|&signal| handler(signal) == libc::SIG_IGN);
        let ignored = bits.map(bit).sum();
        Self { ignored, blocked }
    }

    /// For the children of a program that says nothing else: SIGPIPE is not ignored, although Rust's runtime has us ignore
    /// it, and nothing is held back, as with [`std::process::Command`].
    pub(crate) fn for_children() -> Self {
        Self {
            ignored: Self::of_this_thread().ignored & !bit(libc::SIGPIPE),
            blocked: 0,
        }
    }

    /// For an init, which must not be stopped or ended from a terminal, and for which the kernel is to collect what loses
    /// its parent.
    pub(crate) fn of_an_init() -> Self {
        Self {
            ignored: bit(libc::SIGCHLD),
            blocked: !0,
        }
    }

    /// For a shell that must not be stopped or ended from a terminal, and waits for SIGCHLD to come.
    pub(crate) fn all_but_child_blocked() -> Self {
        Self {
            ignored: 0,
            blocked: !bit(libc::SIGCHLD),
        }
    }

    /// Gives every signal its default action, or has it ignored.
    ///
    /// execve(2) gives handlers up, but too late: once signals are let through, one would run in memory that is still ours.
    ///
    /// # Safety
    /// Only in a process of its own: the table of actions must not be shared with ours.
    pub(crate) unsafe fn set_actions(self) {
        for signal in 1..=HIGHEST_SIGNAL {
            let wanted = match self.ignored & bit(signal) {
                0 => libc::SIG_DFL,
                _ => libc::SIG_IGN,
            };
            if handler(signal) != wanted {
                // SAFETY: the caller's promise.
                unsafe { set_handler(signal, wanted) };
            }
        }
    }
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn handler(signal: c_int) -> usize {
    let mut current: KernelAction = [0; 8];
    // SAFETY: `current` is large enough for the kernel's structure on every architecture.
    unsafe { action(signal, ptr::null(), current.as_mut_ptr()) };
    current[0]
}

/// SIG_DFL or SIG_IGN, without flags.
unsafe fn set_handler(signal: c_int, handler: usize) {
    let mut wanted: KernelAction = [0; 8];
    wanted[0] = handler;
    // SAFETY: all other fields are zero, which asks for nothing.
    unsafe { action(signal, wanted.as_ptr(), ptr::null_mut()) };
}

/// Has the ends of our children told and kept for us, also when our parent ignored SIGCHLD, by which the kernel would
/// collect them itself (SA_NOCLDWAIT, sigaction(2)).
///
/// # Safety
/// No other part of this process has to do with SIGCHLD.
pub(crate) unsafe fn expect_children() {
    // SAFETY: no handler, and the caller's promise.
    unsafe { set_handler(libc::SIGCHLD, libc::SIG_DFL) };
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

/// Waits for one of these blocked signals to come; nothing when none came in this time.
pub(crate) fn wait_for(signals: &[Signal], patience: Option<Duration>) -> Option<Signal> {
    let bits = signals.iter().map(|signal| bit(signal.as_raw()));
    let set: KernelSet = bits.fold(0, |set, bit| set | bit);
    let timeout = patience.map(|patience| libc::timespec {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_nsec: patience.subsec_nanos() as libc::c_long,
    });
    // SAFETY: the pointers are to live values, of the sizes that the kernel has; what comes with the signal is not asked for.
    let came = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            ptr::from_ref(&set),
            ptr::null::<libc::siginfo_t>(),
            timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
            size_of::<KernelSet>(),
        )
    };
    let is_it = |signal: &&Signal| libc::c_long::from(signal.as_raw()) == came;
    signals.iter().find(is_it).copied()
}
