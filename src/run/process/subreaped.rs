//! Steps without a PID namespace: each under a subreaper of its own, which ends with us.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::members::{self, Members, ROUND};
use super::running::{Patience, Running};
use super::{LAST_PATIENCE, PATIENCE, StillRunning};
use crate::mount::MountPoint;
use crate::sys::launch::{Launch, LaunchError};
use crate::sys::namespaces::Namespaces;
use crate::sys::proc::{self, ProcessHandle, Stuck};
use crate::sys::subreaper::Subreaped;

/// The steps under which something may be left.
#[derive(Debug, Default)]
pub(super) struct Subreapers {
    /// Lock order: held alone.
    steps: Mutex<Vec<Arc<Subreaped>>>,
}

impl Subreapers {
    pub(super) fn start(
        &self,
        launch: &Launch<'_>,
        namespaces: Option<&Namespaces>,
        place: &MountPoint,
        patience: Patience<'_>,
    ) -> Result<Running, LaunchError> {
        let began = Instant::now();
        let started = Subreaped::start(launch, namespaces, |step| {
            // It is not collected before it has executed its program.
            let kill = || {
                let number = step.pid().and_then(Pid::from_raw);
                let _ = number.map(|it| kill_process(it, Signal::KILL));
            };
            members::wait_for_start(step.as_fd(), patience, place, &kill, || step.pid())
        });
        let track = |step| {
            let step = Arc::new(step);
            let mut steps = self.steps.lock();
            steps.retain(|it| !it.is_over());
            steps.push(Arc::clone(&step));
            step
        };
        match started {
            Ok(step) => Ok(Running::subreaped(track(step), began)),
            Err((error, left)) => {
                left.map(track);
                Err(error)
            }
        }
    }

    /// Whether nothing is left below, once all steps have ended.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.lock().iter().all(|it| it.is_over())
    }

    /// The numbers of the subreapers, from which all descends.
    pub(super) fn numbers(&self) -> Vec<i32> {
        let steps = self.steps.lock();
        let left = steps.iter().filter(|it| !it.is_over());
        left.filter_map(|it| it.subreaper()).collect()
    }

    /// Whether a subreaper was killed, so that what it had below it descends from it no more.
    pub(super) fn was_killed(&self) -> bool {
        let now = Instant::now();
        let steps = self.steps.lock();
        steps.iter().any(|it| !it.is_over() && it.has_ended_by(now))
    }

    /// Kills everything below them.
    pub(super) fn end(&self, place: &MountPoint) -> Result<(), StillRunning> {
        let steps = std::mem::take(&mut *self.steps.lock());
        steps.iter().for_each(|it| it.end());
        let until = Instant::now() + PATIENCE;
        for step in &steps {
            if !step.has_ended_by(until) {
                end_by_force(step, place)?;
            }
        }
        Ok(())
    }
}

/// Ends a subreaper that is stopped, or that waits for a program that it is to start, and whatever is below it.
fn end_by_force(step: &Subreaped, place: &MountPoint) -> Result<(), StillRunning> {
    let Some(subreaper) = step.subreaper() else {
        // It never began.
        return Ok(());
    };
    let below = proc::descendants(subreaper).unwrap_or_default().into_iter();
    let held = |pid| ProcessHandle::checked(pid, |pid| proc::descends(pid, subreaper));
    let mut left: Vec<ProcessHandle> = below.filter_map(held).collect();
    left.extend(ProcessHandle::checked(subreaper, |_| {
        !step.has_ended_by(Instant::now())
    }));
    members::abort(place);
    // The subreaper last: what loses it is nobody's to find.
    for process in &left {
        let _ = process.signal(Signal::KILL);
    }
    let give_up = Instant::now() + LAST_PATIENCE;
    let mut stuck = Stuck::default();
    loop {
        left.retain(|it| !it.has_ended());
        let numbers: Vec<i32> = left.iter().map(|it| it.pid).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let below: Vec<i32> = numbers
            .iter()
            .copied()
            .filter(|&it| it != subreaper)
            .collect();
        if stuck.are(&below) || Instant::now() >= give_up {
            return Err(StillRunning::new(place, below));
        }
        std::thread::sleep(ROUND.min(give_up.saturating_duration_since(Instant::now())));
    }
}

impl Subreapers {
    /// What descends from them.
    pub(super) fn members(&self) -> Members {
        Members::Descent(self.numbers())
    }
}
