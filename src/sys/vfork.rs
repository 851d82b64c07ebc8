//! A child that shares our memory until it executes a program or exits, while the calling thread
//! waits: what posix_spawn(3) does inside.
//!
//! fork(2) copies page tables: 20 ms with a heap of 1 GiB, and in a program with threads the copy
//! may not even allocate. This costs the same whatever our size is.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

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
    // SAFETY: the caller's promise.
    unsafe { vfork_seen(flags, &ChildFd::new(NO_CHILD), body) }
}

/// The descriptor of a child from its first moment on, for other threads; [`NO_CHILD`] before.
pub(crate) type ChildFd = AtomicI32;
pub(crate) const NO_CHILD: RawFd = -1;

/// The same; `pidfd` tells other threads of the child while this one waits.
///
/// # Errors
/// As [`vfork`].
///
/// # Safety
/// As [`vfork`].
pub(crate) unsafe fn vfork_seen<F: FnMut() -> c_int>(
    flags: c_int,
    pidfd: &ChildFd,
    body: F,
) -> io::Result<Child> {
    let is_ours = flags & libc::CLONE_PARENT == 0;
    // A child of ours that makes one for us has no children, and may take no lock.
    if is_ours {
        collect_left();
    }
    let stack = Stack::new()?;
    let mut newborn = Newborn {
        body,
        parent: is_ours.then(rustix::process::getpid),
        devices: match flags & libc::CLONE_FILES {
            0 => devices::served(),
            _ => Vec::new(),
        },
    };
    let _blocked = Blocked::new();
    // SAFETY: the stack lives until the child has left it, because CLONE_VFORK holds this thread
    // until then; `newborn` and `pidfd` outlive the call for the same reason.
    let pid = unsafe {
        libc::clone(
            enter::<F>,
            stack.top(),
            flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD,
            ptr::from_mut(&mut newborn).cast::<c_void>(),
            pidfd.as_ptr(),
        )
    };
    if pid < 0 {
        let error = io::Error::last_os_error();
        // The kernel may have given one out before it failed.
        pidfd.store(NO_CHILD, Ordering::Release);
        return Err(error);
    }
    // SAFETY: the kernel has just given us this descriptor (close-on-exec).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) };
    Ok(Child::new(pid, pidfd))
}

/// What a child begins with.
struct Newborn<F> {
    body: F,
    /// Unknown when our own parent is to be its parent too.
    parent: Option<Pid>,
    devices: Vec<RawFd>,
}

extern "C" fn enter<F: FnMut() -> c_int>(newborn: *mut c_void) -> c_int {
    // SAFETY: `vfork` passes a pointer to its own and waits while we use it.
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
