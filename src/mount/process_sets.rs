//! The sets of processes that may run in a mount.

use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::sys::init::Init;

/// Counts the sets of processes that may run in a mount, and remembers whether any process is left.
#[derive(Debug, Default)]
pub(super) struct ProcessSets {
    /// Held while one of them ends its processes, so that the last one ends no processes of another. Lock order: before
    /// `MountPoint::state`.
    present: Mutex<Present>,
    /// Whether processes are inside that could not be ended.
    has_unended: AtomicBool,
    /// Counts before and after each start of a process.
    starts: AtomicU64,
    /// What `starts` was when a scan found no process.
    starts_when_empty: AtomicU64,
}

#[derive(Debug, Default)]
struct Present {
    count: usize,
    init: SharedInit,
}

/// The init of all that is started in a mount.
#[derive(Debug, Default)]
pub(crate) struct SharedInit {
    /// Until the last one leaves.
    pub(crate) running: Weak<Init>,
    /// Whether there was one at any time.
    pub(crate) was_made: bool,
}

impl ProcessSets {
    /// `prepare` makes what is to be shared, and one more is there where it succeeds.
    pub(super) fn add<T, E>(
        &self,
        prepare: impl FnOnce(&mut SharedInit) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut present = self.present.lock();
        let prepared = prepare(&mut present.init)?;
        present.count += 1;
        Ok(prepared)
    }

    /// Takes back [`add`](Self::add). `leave` is told whether that was the last set.
    pub(super) fn remove<E>(&self, leave: impl FnOnce(bool) -> Result<(), E>) -> Result<(), E> {
        let mut present = self.present.lock();
        present.count -= 1;
        let left = leave(present.count == 0);
        if left.is_err() {
            self.has_unended.store(true, Ordering::Release);
        }
        left
    }

    pub(super) fn has_unended(&self) -> bool {
        self.has_unended.load(Ordering::Acquire)
    }

    /// Starts a process inside.
    pub(super) fn start<T>(&self, start: impl FnOnce() -> T) -> T {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let started = start();
        self.starts.fetch_add(1, Ordering::SeqCst);
        started
    }

    /// Looks at all processes that are inside, and remembers when there are none.
    pub(super) fn scan(&self, look: impl FnOnce() -> io::Result<Vec<i32>>) -> io::Result<Vec<i32>> {
        let starts = self.starts.load(Ordering::SeqCst);
        let found = look()?;
        if found.is_empty() {
            self.starts_when_empty.store(starts, Ordering::SeqCst);
        }
        Ok(found)
    }

    /// Whether no process can be inside: the last scan found none, and processes come from processes.
    pub(super) fn is_known_empty(&self) -> bool {
        self.starts_when_empty.load(Ordering::SeqCst) == self.starts.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_of_the_starts_before_it() {
        let process_sets = ProcessSets::default();
        assert!(process_sets.is_known_empty());
        process_sets.start(|| assert!(!process_sets.is_known_empty()));
        assert!(!process_sets.is_known_empty());
        assert_eq!(process_sets.scan(|| Ok(vec![7])).unwrap(), [7]);
        assert!(!process_sets.is_known_empty());
        assert_eq!(process_sets.scan(|| Ok(Vec::new())).unwrap(), [0; 0]);
        assert!(process_sets.is_known_empty());
        process_sets.start(|| ());
        assert!(!process_sets.is_known_empty());
    }

    #[test]
    fn a_look_that_meets_a_start_tells_nothing() {
        let process_sets = ProcessSets::default();
        let during_the_look = || {
            process_sets.start(|| ());
            Ok(Vec::new())
        };
        process_sets.scan(during_the_look).unwrap();
        assert!(!process_sets.is_known_empty());
        process_sets.start(|| process_sets.scan(|| Ok(Vec::new())).unwrap());
        assert!(!process_sets.is_known_empty());
    }
}
