//! A child that shares our memory until it executes a program or exits, while the calling thread
//! waits: what posix_spawn(3) does inside.
//!
//! fork(2) copies page tables: 20 ms with a heap of 1 GiB, and in a program with threads the copy
//! may not even allocate. This costs the same whatever our size is.

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::process::{Pid, Signal};

use super::child::{Child, collect_left};
use super::devices;
use super::signals::Blocked;

/// Ample for a few frames of system calls, also without optimisation. Touched lazily.
const STACK_BYTES: usize = 256 * 1024;
/// A page that is not there, below the stack, on every page size up to 64 KiB.
const GUARD_BYTES: usize = 64 * 1024;

/// Runs `body` in a child and returns when the child has executed a program or exited; what `body`
/// returns is the exit status. `flags` are further `CLONE_` flags (clone(2)).
///
/// The child has a mask that blocks every signal, and no exit signal: until it executes a program,
/// no SIGCHLD is sent for it and no wait(2) of another part of this program takes it. It is killed when this process is, until
/// `body` says otherwise ([`dies_with_parent`]), and it has none of the [devices] that this process serves, unless it shares
/// our descriptors.
///
/// # Errors
/// clone(2) or mmap(2) failed.
///
/// # Safety
/// `body` runs in our memory, on another stack, in another process: it may only make system calls
/// and touch what it was given. No allocation, no lock, no panic, no thread-local but errno.
pub(crate) unsafe fn vfork<F: FnMut() -> c_int>(flags: c_int, body: F) -> io::Result<Child> {
    collect_left();
    let mut newborn = Newborn::new(body)?;
    newborn.parent = Some(rustix::process::getpid());
    if flags & libc::CLONE_FILES != 0 {
        newborn.devices = Vec::new();
    }
    let _blocked = Blocked::new();
    // SAFETY: the caller's word; `newborn` outlives the child's use of it, as CLONE_VFORK holds this thread until then.
    unsafe { newborn.start(flags | libc::CLONE_VFORK) }
}

/// A child before it is started: its stack, and what it is to do.
pub(crate) struct Newborn<F> {
    stack: Stack,
    body: F,
    /// Unknown when our own parent is to be its parent too.
    parent: Option<Pid>,
    devices: Vec<RawFd>,
}

impl<F: FnMut() -> c_int> Newborn<F> {
    /// # Errors
    /// mmap(2) failed.
    pub(crate) fn new(body: F) -> io::Result<Self> {
        Ok(Self {
            stack: Stack::new()?,
            body,
            parent: None,
            devices: devices::served(),
        })
    }

    /// Starts it, with every signal blocked as they are in the calling thread. Only a system call: a child of ours may start
    /// one for us (`CLONE_PARENT`). Without `CLONE_VFORK` it runs beside the caller.
    ///
    /// # Errors
    /// clone(2) failed.
    ///
    /// # Safety
    /// As [`vfork`]; and until the child has executed a program or ended, `self` stays where it is, and neither the caller
    /// nor the thread whose child the caller is looks at errno.
    pub(crate) unsafe fn start(&mut self, flags: c_int) -> io::Result<Child> {
        let mut pidfd: RawFd = -1;
        // SAFETY: the caller's word.
        let pid = unsafe {
            libc::clone(
                enter::<F>,
                self.stack.top(),
                flags | libc::CLONE_VM | libc::CLONE_PIDFD,
                ptr::from_mut(self).cast::<c_void>(),
                &raw mut pidfd,
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor (close-on-exec).
        Ok(Child::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }
}

extern "C" fn enter<F: FnMut() -> c_int>(newborn: *mut c_void) -> c_int {
    // SAFETY: `start` passes a pointer to its own, which stays while we use it.
    let newborn = unsafe { &mut *newborn.cast::<Newborn<F>>() };
    dies_with_parent(true);
    if newborn.parent.is_some() && rustix::process::getppid() != newborn.parent {
        // It died before we asked for the signal.
        return 127;
    }
    devices::give_up(&newborn.devices);
    (newborn.body)()
}

/// Whether the calling process is to be killed when the thread that made it ends (PR_SET_PDEATHSIG(2const)).
pub(crate) fn dies_with_parent(dies: bool) {
    let signal = dies.then_some(Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(signal);
}

/// Closes all descriptors of a child but these, of which there are few. It has a table of its own, and uses nothing else in
/// it any more. Only system calls.
pub(crate) fn close_all_but(kept: &[Option<BorrowedFd<'_>>]) {
    let numbers = || {
        kept.iter()
            .flatten()
            .map(|it| it.as_raw_fd().unsigned_abs())
    };
    let mut first = 0;
    // The next one that is kept, each time.
    while let Some(next) = numbers().filter(|&number| number >= first).min() {
        if next > first {
            close_range(first, next - 1, 0);
        }
        first = next + 1;
    }
    close_range(first, u32::MAX, 0);
}

/// close_range(2), in a child that has a table of descriptors of its own.
pub(crate) fn close_range(first: u32, last: u32, flags: c_uint) {
    // SAFETY: nothing in the child uses them any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        let length = GUARD_BYTES + STACK_BYTES;
        // SAFETY: a fresh private mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let stack = Stack { base };
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the upper part of the mapping just made, which nobody uses yet.
        unsafe { mprotect(base.byte_add(GUARD_BYTES), STACK_BYTES, writable)? };
        Ok(stack)
    }

    /// One past the highest byte: stacks grow down on every architecture that Rust's std runs on.
    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(GUARD_BYTES + STACK_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and nobody runs on it any more.
        let _ = unsafe { munmap(self.base, GUARD_BYTES + STACK_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_writes_into_our_memory_and_reports_its_status() {
        let mut seen = 0;
        // SAFETY: one store and a return.
        let child = unsafe {
            vfork(0, || {
                seen = 42;
                7
            })
        }
        .unwrap();
        let end = child.wait().unwrap();
        assert_eq!(end.exit, super::super::child::Exit::Code(7));
        assert_eq!(seen, 42);
    }
}
