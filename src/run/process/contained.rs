//! Steps in the PID namespace of an init: our own children, which the kernel ends with it, and it with us.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::event::PollFlags;

use super::members::{self, Members, ROUND};
use super::running::{Patience, Running, Tracked};
use super::{LAST_PATIENCE, PATIENCE, StillRunning};
use crate::mount::MountPoint;
use crate::sys::child::Child;
use crate::sys::init::Init;
use crate::sys::launch::{Launch, LaunchError};
use crate::sys::namespaces::Namespaces;
use crate::sys::proc::Stuck;

/// Steps under an init, which several that start processes in one mount may share.
#[derive(Debug)]
pub(super) struct Contained {
    init: Arc<Init>,
    /// Those that were not collected. Lock order: held alone.
    steps: Mutex<Vec<Arc<Tracked>>>,
}

impl Contained {
    pub(super) fn new(init: Arc<Init>) -> Self {
        Self {
            init,
            steps: Mutex::default(),
        }
    }

    pub(super) fn init(&self) -> &Init {
        &self.init
    }

    /// `entered` are the namespaces that the init was made in, if any.
    pub(super) fn start(
        &self,
        launch: &Launch<'_>,
        entered: Option<&Namespaces>,
        place: &MountPoint,
        patience: Patience<'_>,
    ) -> Result<Running, LaunchError> {
        // Before: a start returns once the program runs, and a short one may then be over.
        let began = Instant::now();
        let started = launch.start_in(&self.init, entered, |child, hangs_up| {
            let kill = || drop(child.signal(rustix::process::Signal::KILL));
            members::wait_for_start(hangs_up, patience, place, &kill, || Some(child.pid()))
        });
        let track = |child: Child| {
            let step = Arc::new(Tracked::new(child, began));
            let mut steps = self.steps.lock();
            steps.retain(|step| !step.is_collected());
            steps.push(Arc::clone(&step));
            step
        };
        match started {
            Ok(child) => Ok(Running::contained(track(child))),
            Err((error, left)) => {
                left.map(track);
                Err(error)
            }
        }
    }

    /// Whether nothing is left in the PID namespace, once all steps have ended; false where it is not known.
    pub(super) fn is_empty(&self) -> bool {
        Arc::strong_count(&self.init) == 1 && self.init.has_no_children()
    }

    /// Kills everything in the PID namespace, or only the steps and what descends from them, where others use it.
    pub(super) fn end(&self, is_last: bool, place: &MountPoint) -> Result<(), StillRunning> {
        let mut steps = self.steps.lock();
        steps.retain(|step| !step.collect());
        if !is_last {
            // The steps go last: what loses its parent is a descendant no more.
            for step in steps.iter() {
                Members::Descent(vec![step.pid()]).kill_all(place)?;
            }
        }
        end_steps(&mut steps, is_last.then_some(&self.init), place)
    }
}

/// By descriptor, and so also when there are none left to look into /proc with. The init ends when all have been
/// collected that were in its PID namespace.
fn end_steps(
    steps: &mut Vec<Arc<Tracked>>,
    init: Option<&Arc<Init>>,
    place: &MountPoint,
) -> Result<(), StillRunning> {
    let abort_at = Instant::now() + PATIENCE;
    let give_up_at = abort_at + LAST_PATIENCE;
    let (mut aborted, mut stuck) = (false, Stuck::default());
    loop {
        steps.iter().for_each(|step| step.kill());
        if let Some(init) = init {
            init.kill();
        }
        let until = Patience::until(abort_at.max(Instant::now() + ROUND));
        for step in steps.iter() {
            let _ = until.wait(step.as_fd(), PollFlags::IN);
        }
        steps.retain(|step| !step.collect());
        if steps.is_empty()
            && let Some(init) = init
        {
            let _ = until.wait(init.as_fd(), PollFlags::IN);
        }
        if steps.is_empty() && init.is_none_or(|init| init.has_ended()) {
            return Ok(());
        }
        let mut left: Vec<i32> = steps.iter().map(|step| step.pid()).collect();
        left.extend(init.into_iter().flat_map(|init| init.numbers_here()));
        left.sort_unstable();
        left.dedup();
        if Instant::now() >= give_up_at || aborted && stuck.are(&left) {
            return Err(StillRunning::new(place, left));
        }
        if !std::mem::replace(&mut aborted, true) {
            members::abort(place);
        }
    }
}
