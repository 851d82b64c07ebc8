//! Who may be inside a mount.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Those who start processes inside, and what they know of these.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    /// How many there are. Held while one of them ends its own processes, so that the last one to leave ends nobody
    /// else's. Lock order: before `Place::standing`.
    count: Mutex<usize>,
    /// Whether processes are inside that could not be ended.
    left_behind: AtomicBool,
    /// Counts before and after each start of a process.
    starts: AtomicU64,
    /// What `starts` was when somebody looked and found nobody.
    starts_when_empty: AtomicU64,
}

impl Tenants {
    pub(super) fn move_in(&self) {
        *self.count.lock() += 1;
    }

    /// Takes back `move_in`. `leave` is told whether that was the last one.
    pub(super) fn move_out<E>(&self, leave: impl FnOnce(bool) -> Result<(), E>) -> Result<(), E> {
        let mut count = self.count.lock();
        *count -= 1;
        let left = leave(*count == 0);
        if left.is_err() {
            self.left_behind.store(true, Ordering::Release);
        }
        left
    }

    pub(super) fn left_somebody_behind(&self) -> bool {
        self.left_behind.load(Ordering::Acquire)
    }

    /// Starts a process inside.
    pub(super) fn start<T>(&self, start: impl FnOnce() -> T) -> T {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let started = start();
        self.starts.fetch_add(1, Ordering::SeqCst);
        started
    }

    /// Looks at all processes that are inside, and remembers when there are none.
    pub(super) fn look(&self, look: impl FnOnce() -> io::Result<Vec<i32>>) -> io::Result<Vec<i32>> {
        let starts = self.starts.load(Ordering::SeqCst);
        let found = look()?;
        if found.is_empty() {
            self.starts_when_empty.store(starts, Ordering::SeqCst);
        }
        Ok(found)
    }

    /// Whether nobody can be inside: nobody was at the last look, and processes come from processes.
    pub(super) fn are_out(&self) -> bool {
        self.starts_when_empty.load(Ordering::SeqCst) == self.starts.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_of_the_starts_before_it() {
        let tenants = Tenants::default();
        assert!(tenants.are_out());
        tenants.start(|| assert!(!tenants.are_out()));
        assert!(!tenants.are_out());
        assert_eq!(tenants.look(|| Ok(vec![7])).unwrap(), [7]);
        assert!(!tenants.are_out());
        assert_eq!(tenants.look(|| Ok(Vec::new())).unwrap(), [0; 0]);
        assert!(tenants.are_out());
        tenants.start(|| ());
        assert!(!tenants.are_out());
    }

    #[test]
    fn a_look_that_meets_a_start_tells_nothing() {
        let tenants = Tenants::default();
        let during_the_look = || {
            tenants.start(|| ());
            Ok(Vec::new())
        };
        tenants.look(during_the_look).unwrap();
        assert!(!tenants.are_out());
        tenants.start(|| tenants.look(|| Ok(Vec::new())).unwrap());
        assert!(!tenants.are_out());
    }
}
