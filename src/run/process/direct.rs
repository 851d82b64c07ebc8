//! Steps as our own children: what a library can do, which has no program of its own to execute.
//!
//! When this process is killed, they live on; only with an init do they end with us.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::StillRunning;
use super::census::Census;
use super::running::{Running, Tracked};
use crate::mount::Place;
use crate::sys::launch::{Launch, LaunchError};
use crate::sys::namespaces::Namespaces;

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
    ) -> Result<Running, LaunchError> {
        // Before: a start returns once the program runs, and a short one may then be over.
        let started = Instant::now();
        let child = Arc::new(Tracked::new(launch.start(namespaces)?, started));
        let mut children = self.children.lock();
        children.retain(|child| !child.is_collected());
        children.push(Arc::clone(&child));
        Ok(Running::direct(child))
    }

    /// Kills the steps and what descends from them, and collects them, so that no zombies stay.
    ///
    /// The steps go last: what loses its parent is a descendant no more.
    pub(super) fn kill_descendants(&self, place: &Place) -> Result<(), StillRunning> {
        let mut children = self.children.lock();
        children.retain(|child| !child.collect());
        for child in children.iter() {
            Census::Descent(child.pid()).kill_all(place)?;
        }
        let steps = children.iter().map(|child| child.pid()).collect();
        Census::Children(steps).kill_all(place)?;
        children.retain(|child| !child.collect());
        Ok(())
    }
}
