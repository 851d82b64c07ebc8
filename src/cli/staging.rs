//! Reading what a tree begins with, which a signal may end at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::signals::Signal;

/// Whether inputs are still being read: until the guard is dropped.
#[derive(Clone, Debug)]
pub struct Staging(Arc<AtomicBool>);

impl Default for Staging {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Staging {
    /// Ends this process if inputs are still being read: a read of a terminal or a FIFO may wait for ever, and there
    /// is nothing yet to undo.
    pub fn end_by(&self, signal: Signal) {
        if self.0.load(Ordering::SeqCst) {
            std::process::exit(signal.exit_code().into());
        }
    }

    /// To be held while inputs are read.
    pub fn guard(self) -> StagingGuard {
        StagingGuard(self)
    }
}

/// Inputs are being read until this is dropped.
#[derive(Debug)]
pub struct StagingGuard(Staging);

impl Drop for StagingGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}
