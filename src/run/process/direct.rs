//! Steps as our own children: what a library can do, which has no program of its own to execute.
//!
//! When this process is killed, what they started lives on; only with an init does it end with us.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::event::PollFlags;
use rustix::process::{Signal, pidfd_send_signal};

use super::census::{self, Census, ROUND};
use super::running::{Patience, Running, Tracked};
use super::{LAST_PATIENCE, PATIENCE, StillRunning};
use crate::mount::MountPoint;
use crate::sys::child::Child;
use crate::sys::event_fd::EventFd;
use crate::sys::launch::{Launch, LaunchError, Stage};
use crate::sys::namespaces::Namespaces;
use crate::sys::proc::Stuck;
use crate::sys::vfork::{ChildFd, NO_CHILD};

/// By descriptor, and so also when there are none left to look into /proc with.
fn end_steps(steps: &mut Vec<Arc<Tracked>>, place: &MountPoint) -> Result<(), StillRunning> {
    let abort_at = Instant::now() + PATIENCE;
    let give_up_at = abort_at + LAST_PATIENCE;
    let (mut aborted, mut stuck) = (false, Stuck::default());
    loop {
        for step in steps.iter() {
            step.kill();
        }
        let until = abort_at.max(Instant::now() + ROUND);
        for step in steps.iter() {
            let _ = Patience::until(until).wait(step.as_fd(), PollFlags::IN);
        }
        steps.retain(|step| !step.collect());
        let left: Vec<i32> = steps.iter().map(|step| step.pid()).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= give_up_at || aborted && stuck.are(&left) {
            return Err(StillRunning::new(place, left));
        }
        if !std::mem::replace(&mut aborted, true) {
            census::abort(place);
        }
    }
}

/// Starts a program while another thread looks at the clock: this one waits until it is executed, which may be never where
/// it lies on a file system that does not answer. What sleeps uninterruptibly there, and not in the mount, is waited for all
/// the same: the child has our memory.
fn start_within(
    launch: &Launch<'_>,
    namespaces: Option<&Namespaces>,
    place: &MountPoint,
    patience: Patience<'_>,
) -> Result<Child, LaunchError> {
    let failed = |error| LaunchError::new(Stage::Start, error);
    let started = EventFd::new().map_err(failed)?;
    let pidfd = ChildFd::new(NO_CHILD);
    let watch = || {
        let Err(error) = patience.expect(started.as_fd(), PollFlags::IN) else {
            return Ok(());
        };
        let abort_at = Instant::now() + PATIENCE;
        let mut aborted = false;
        loop {
            let number = pidfd.load(Ordering::Acquire);
            if number != NO_CHILD {
                // SAFETY: the child's descriptor is open until this thread has been joined.
                let child = unsafe { BorrowedFd::borrow_raw(number) };
                let _ = pidfd_send_signal(child, Signal::KILL);
            }
            let soon = Patience::until(Instant::now() + ROUND);
            if soon.expect(started.as_fd(), PollFlags::IN).is_ok() {
                return Err(error);
            }
            if Instant::now() >= abort_at && !std::mem::replace(&mut aborted, true) {
                census::abort(place);
            }
        }
    };
    std::thread::scope(|scope| {
        let watching = std::thread::Builder::new().spawn_scoped(scope, watch);
        let child = launch.start_seen(namespaces, &pidfd);
        started.set();
        let watched = watching.map(|it| it.join().unwrap_or(Ok(())));
        match (child, watched) {
            (Ok(child), Ok(Err(error))) => {
                let _ = child.signal(Signal::KILL);
                let _ = child.wait();
                Err(failed(error))
            }
            (Err(_), Ok(Err(error))) => Err(failed(error)),
            // Without a thread for it, it is not watched.
            (child, _) => child,
        }
    })
}

/// The steps that nobody has waited for to the end yet.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Lock order: held alone.
    children: Mutex<Vec<Arc<Tracked>>>,
}

impl Direct {
    pub(super) fn start(
        &self,
        launch: &Launch<'_>,
        namespaces: Option<&Namespaces>,
        place: &MountPoint,
        patience: Patience<'_>,
    ) -> Result<Running, LaunchError> {
        // Before: a start returns once the program runs, and a short one may then be over.
        let started = Instant::now();
        let child = match patience.is_endless() {
            true => launch.start(namespaces)?,
            false => start_within(launch, namespaces, place, patience)?,
        };
        let child = Arc::new(Tracked::new(child, started));
        let mut children = self.children.lock();
        children.retain(|child| !child.is_collected());
        children.push(Arc::clone(&child));
        Ok(Running::direct(child))
    }

    /// The numbers of the steps that have not been collected.
    pub(super) fn steps(&self) -> Vec<i32> {
        let children = self.children.lock();
        let running = children.iter().filter(|child| !child.is_collected());
        running.map(|child| child.pid()).collect()
    }

    /// Kills the steps and what descends from them, and collects them, so that no zombies stay.
    ///
    /// The steps go last: what loses its parent is a descendant no more.
    pub(super) fn kill_descendants(&self, place: &MountPoint) -> Result<(), StillRunning> {
        let mut children = self.children.lock();
        children.retain(|child| !child.collect());
        for child in children.iter() {
            Census::Descent(child.pid()).kill_all(place)?;
        }
        end_steps(&mut children, place)
    }
}
