//! A process that we started, held by a descriptor: no number that could come to mean another one.

use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::process::Signal;

/// How a process ended.
///
/// # Examples
///
/// ```
/// use notapipe::Exit;
///
/// assert!(Exit::Code(0).success());
/// assert_eq!(Exit::Code(3).shell_code(), 3);
/// assert_eq!(Exit::Signal(9).shell_code(), 137);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status (0 to 255).
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The status a shell would show: the code, or 128 + the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// How a process ended and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) exit: Exit,
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    pub(crate) max_rss_bytes: u64,
}

impl End {
    /// From what wait4(2) and waitid(2) fill in.
    pub(crate) fn new(exit: Exit, usage: &libc::rusage) -> Self {
        End {
            exit,
            user_time: duration(usage.ru_utime),
            system_time: duration(usage.ru_stime),
            max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }
    }
}

/// A child of ours. Dropping it leaves the process as it is; once that has ended, it is collected when the next child is
/// made, so that none stays a zombie after an error.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    /// Taken when it is dropped.
    pidfd: ManuallyDrop<OwnedFd>,
    is_collected: AtomicBool,
}

/// The children that were dropped before they had ended. Lock order: held alone.
static LEFT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Collects the children that were dropped and have ended since.
pub(crate) fn collect_left() {
    LEFT.lock()
        .retain(|pidfd| matches!(wait_for(pidfd.as_fd(), libc::WNOHANG), Ok(None)));
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: nobody uses it any more.
        let pidfd = unsafe { ManuallyDrop::take(&mut self.pidfd) };
        if !*self.is_collected.get_mut() {
            LEFT.lock().push(pidfd);
        }
    }
}

impl Child {
    pub(crate) fn new(pid: libc::pid_t, pidfd: OwnedFd) -> Self {
        Child {
            pid,
            pidfd: ManuallyDrop::new(pidfd),
            is_collected: AtomicBool::new(false),
        }
    }

    /// For a process that collects all its children, whichever they are ([`wait_any`]).
    pub(crate) fn disown(&self) {
        self.is_collected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Waits for its end and collects it.
    pub(crate) fn wait(&self) -> io::Result<End> {
        loop {
            match self.wait_with(0) {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Collects it if it has ended.
    pub(crate) fn try_wait(&self) -> io::Result<Option<End>> {
        self.wait_with(libc::WNOHANG)
    }

    /// How it ended, if it has, without collecting it: its number stays taken.
    pub(crate) fn peek(&self) -> io::Result<Option<Exit>> {
        let end = self.wait_with(libc::WNOHANG | libc::WNOWAIT)?;
        Ok(end.map(|end| end.exit))
    }

    fn wait_with(&self, flags: i32) -> io::Result<Option<End>> {
        let waited = match wait_for(self.as_fd(), flags) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                self.disown();
                self.collected_by_another().map(Some).ok_or(error)
            }
            waited => waited,
        };
        if flags & libc::WNOWAIT == 0 && matches!(waited, Ok(Some(_))) {
            self.disown();
        }
        waited
    }

    /// How it ended, when the kernel has collected it itself because this program ignores SIGCHLD, or another part of this
    /// program has; nothing before Linux 6.15. What it used is not known then.
    fn collected_by_another(&self) -> Option<End> {
        let mut info = PidfdInfo {
            mask: PidfdInfo::EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: the operation is given a structure of the length that its number holds.
        unsafe { ioctl(self.as_fd(), Updater::<GET_INFO, _>::new(&mut info)) }.ok()?;
        if info.mask & PidfdInfo::EXIT == 0 {
            return None;
        }
        let exit = match info.exit_code & 0x7f {
            0 => Exit::Code(info.exit_code >> 8 & 0xff),
            signal => Exit::Signal(signal),
        };
        let zero = Duration::ZERO;
        Some(End {
            exit,
            user_time: zero,
            system_time: zero,
            max_rss_bytes: 0,
        })
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(self.as_fd(), signal)?)
    }
}

/// waitid(2) as the kernel has it, which unlike the C library's also tells the usage.
fn wait_for(pidfd: BorrowedFd<'_>, flags: i32) -> io::Result<Option<End>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointers are to live structures of the kernel's own layout.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PIDFD,
            pidfd.as_raw_fd(),
            info.as_mut_ptr(),
            libc::WEXITED | libc::__WALL | flags,
            usage.as_mut_ptr(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were zeroed, which is a valid value, and then filled in by the kernel.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: the kernel fills in the fields of SIGCHLD, or leaves all of them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status)
    } else {
        Exit::Signal(status)
    };
    Ok(Some(End::new(exit, &usage)))
}

/// wait4(2) for any child, without waiting.
pub(crate) fn wait_any() -> io::Result<Option<(i32, End)>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live values of the right type.
    let pid = unsafe {
        libc::wait4(
            -1,
            &raw mut status,
            libc::WNOHANG | libc::__WALL,
            usage.as_mut_ptr(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid value, and then filled in by the kernel if a child has ended.
    let usage = unsafe { usage.assume_init() };
    let exit = if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    Ok((pid != 0).then(|| (pid, End::new(exit, &usage))))
}

/// The kernel's `struct pidfd_info`, as it was at first (`include/uapi/linux/pidfd.h`).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    numbers: [u32; 11],
    exit_code: i32,
}

impl PidfdInfo {
    const EXIT: u64 = 1 << 3;
}

/// PIDFD_GET_INFO.
const GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);

impl AsFd for Child {
    /// Readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
