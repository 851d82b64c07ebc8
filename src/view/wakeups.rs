//! What is to be called once the lock is released.

use std::fmt;
use std::sync::Arc;

use super::lazy_files::Waiter;

/// Tells a watcher or follower of a change: short, and it neither blocks nor comes back to the view.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that wakeups `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// The wakers and waiters to be called: dropping it calls them. Nearly always empty, and then nothing was allocated.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    wakers: Vec<Waker>,
    waiters: Vec<Waiter>,
}

impl Wakeups {
    pub fn wake(&mut self, waker: &Waker) {
        self.wakers.push(waker.clone());
    }

    pub fn resume(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        self.waiters.extend(waiters);
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        self.wakers.drain(..).for_each(|waker| waker.wake());
        self.waiters.drain(..).for_each(Waiter::resume);
    }
}
