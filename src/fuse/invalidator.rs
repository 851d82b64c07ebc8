//! Having the kernel drop what it keeps of a file and got wrong, from a thread of its own.
//!
//! A serving thread must not: the kernel may have to wait for an answer of that very thread.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::locality::start_thread;
use crate::store::Ino;

/// How the kernel is told. It may need answers of ours before it returns.
type Tell = dyn Fn(Ino) -> io::Result<()> + Send + Sync;

/// Has the kernel drop what it keeps of files, soon. Seldom needed: its thread lives only while there is work.
#[derive(Default)]
pub(super) struct Invalidator {
    tell: OnceLock<Box<Tell>>,
    /// Lock order: held alone.
    work: Mutex<Work>,
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Invalidator");
        shown.field("work", &self.work).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Work {
    stale: BTreeSet<Ino>,
    has_thread: bool,
}

impl Invalidator {
    /// To be called once, with what tells the kernel, before anything is invalidated.
    pub fn tell_by(&self, tell: impl Fn(Ino) -> io::Result<()> + Send + Sync + 'static) {
        // The first stays.
        let _ = self.tell.set(Box::new(tell));
    }

    /// The kernel is wrong about this file. Does not wait until it is told.
    pub fn invalidate(self: &Arc<Self>, ino: Ino) {
        let mut work = self.work.lock();
        work.stale.insert(ino);
        if std::mem::replace(&mut work.has_thread, true) {
            return;
        }
        drop(work);
        let (this, refused) = (Arc::clone(self), Arc::clone(self));
        // The next call tries again.
        let failed = move |_: &io::Error| refused.work.lock().has_thread = false;
        start_thread("notapipe-inval", move || this.work(), failed);
    }

    fn work(&self) {
        while let Some(ino) = self.next() {
            let told = self.tell.get().map(|tell| tell(ino));
            if let Some(Err(error)) = told {
                log::debug!("the kernel keeps what it has of {ino:?}: {error}");
            }
        }
    }

    fn next(&self) -> Option<Ino> {
        let mut work = self.work.lock();
        let next = work.stale.pop_first();
        work.has_thread = next.is_some();
        next
    }
}
