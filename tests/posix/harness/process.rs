//! More than one process in a case.
//!
//! A case's process has one thread, so that a fork of it may do anything.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::fd::OwnedFd;
use rustix::process::{Pid, WaitOptions, WaitStatus};

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts a child that does `body` and exits.
pub fn fork(body: impl FnOnce()) -> Pid {
    // SAFETY: this process has a single thread, so that no lock is held by one that is gone.
    match unsafe { libc::fork() } {
        0 => {
            let done = catch_unwind(AssertUnwindSafe(body));
            let flushed = std::io::stdout().flush();
            let status = if done.is_ok() && flushed.is_ok() {
                0
            } else {
                101
            };
            // SAFETY: ends the process at once: what the parent set up to run at exit is the parent's.
            unsafe { libc::_exit(status) }
        }
        pid => Pid::from_raw(pid).expect("fork"),
    }
}

/// Waits for a child; panics unless it ended well.
pub fn wait_for(child: Pid) {
    let status = wait(child);
    assert_eq!(status.exit_status(), Some(0), "a child failed: {status:?}");
}

/// Waits for a child; tells by which signal it ended, if it did.
pub fn signal_of_child(child: Pid) -> Option<i32> {
    wait(child).terminating_signal()
}

fn wait(child: Pid) -> WaitStatus {
    let (_, status) = rustix::process::waitpid(Some(child), WaitOptions::empty())
        .expect("waitpid")
        .expect("waitpid without NOHANG waits");
    status
}

/// Does `body` in a child, and waits for it.
pub fn in_child(body: impl FnOnce()) {
    wait_for(fork(body));
}

/// Does `body` as another user, without root's capabilities, and waits for it.
pub fn as_other(id: u32, body: impl FnOnce()) {
    in_child(|| {
        // SAFETY: plain system calls with numbers; one thread, which is the process.
        let became = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(id, id, id) == 0
                && libc::setresuid(id, id, id) == 0
        };
        assert!(became, "become user {id}");
        body();
    });
}

/// Does the same in `count` children at once; each is given its number.
pub fn at_the_same_time(count: usize, body: impl Fn(usize)) {
    // They wait for the line to close, so that none is done before the last has started.
    let (line, start) = rustix::pipe::pipe().expect("pipe");
    let children: Vec<_> = (0..count)
        .map(|number| {
            fork(|| {
                // A copy of the writing end came along; while it is open the line does not close.
                // SAFETY: this child's copy, which nothing else in the child uses.
                unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(&start)) };
                let _ = rustix::io::read(&line, &mut [0_u8]);
                body(number);
            })
        })
        .collect();
    drop(start);
    children.into_iter().for_each(wait_for);
}

/// A signal from one process to another through a pipe.
pub struct PipeSignal {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl PipeSignal {
    pub fn new() -> Self {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        Self { reader, writer }
    }

    /// Lets the other process go on.
    pub fn send(&self) {
        rustix::io::write(&self.writer, b"!").expect("send the signal");
    }

    /// Waits until the other process has sent it.
    pub fn wait(&self) {
        rustix::io::read(&self.reader, &mut [0_u8]).expect("wait for the signal");
    }
}
