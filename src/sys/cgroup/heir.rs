//! Removing a group when we have ended, however that was.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::Entry;
use crate::sys::signals;
use crate::sys::vfork::{close_all_but, dies_with_parent, vfork};

/// How long the processes in it may take to end. They are ended by others.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether they have.
const LOOK: Duration = Duration::from_millis(1);

/// A process that removes the group when this is dropped, and when we have ended. Like a
/// [subreaper](crate::sys::subreaper), it shares our memory while a thread waits for it.
#[derive(Debug)]
pub(super) struct Heir {
    #[expect(dead_code, reason = "held: its end is what the process waits for")]
    lifeline: OwnedFd,
}

impl Heir {
    /// Nothing where there are no descriptors or processes left for it: whoever next makes a group there removes this one.
    pub(super) fn start(entry: &Arc<Entry>) -> Option<Self> {
        let (theirs, lifeline) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let entry = Arc::clone(entry);
        let work = move || {
            // SAFETY: system calls alone.
            let heir = unsafe {
                vfork(0, || {
                    wait_and_remove(theirs.as_fd(), &entry);
                    0
                })
            };
            heir.and_then(|heir| heir.wait()).map(drop)
        };
        let thread = thread::Builder::new().name("cgroup".to_owned());
        thread.spawn(work).ok()?;
        Some(Self { lifeline })
    }
}

/// In the process itself.
fn wait_and_remove(lifeline: BorrowedFd<'_>, entry: &Entry) {
    dies_with_parent(false);
    close_all_but(&[Some(lifeline), Some(entry.parent.as_fd())]);
    while rustix::io::read(lifeline, &mut [0_u8; 1]) == Err(Errno::INTR) {}
    let give_up = Instant::now() + PATIENCE;
    let remove = || rustix::fs::unlinkat(&entry.parent, &*entry.name, AtFlags::REMOVEDIR);
    while remove() == Err(Errno::BUSY) && Instant::now() < give_up {
        // None comes: a pause.
        signals::wait_for(&[Signal::CHILD], Some(LOOK));
    }
}
