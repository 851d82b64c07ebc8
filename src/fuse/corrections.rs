//! Telling the kernel, from a thread of its own, what it got wrong about a file.
//!
//! A serving thread must not: the kernel may have to wait for an answer of that very thread.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;

use super::fuser::Notifier;
use super::locality::at_normal_priority;
use crate::store::Ino;

/// Has the kernel forget what it keeps of files, soon. Seldom needed: its thread lives only while there is work.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    notifier: OnceLock<Notifier>,
    /// Lock order: held alone.
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    wrong: BTreeSet<Ino>,
    has_thread: bool,
}

impl Corrections {
    /// From now on it has somebody to tell.
    pub fn tell(&self, notifier: Notifier) {
        // Only ever called once.
        let _ = self.notifier.set(notifier);
    }

    /// The kernel is wrong about this file.
    pub fn note(self: &Arc<Self>, ino: Ino) {
        let mut work = self.work.lock();
        work.wrong.insert(ino);
        if std::mem::replace(&mut work.has_thread, true) {
            return;
        }
        drop(work);
        let corrections = Arc::clone(self);
        at_normal_priority(move || corrections.start_thread());
    }

    fn start_thread(self: Arc<Self>) {
        let corrections = Arc::clone(&self);
        let started = thread::Builder::new()
            .name("notapipe-tell".to_owned())
            .spawn(move || corrections.work());
        if started.is_err() {
            // The next note tries again.
            self.work.lock().has_thread = false;
        }
    }

    fn work(&self) {
        while let Some(ino) = self.next() {
            let told = self.notifier.get().map(|it| it.inode_changed(ino));
            if let Some(Err(error)) = told {
                log::debug!("the kernel could not be told of {ino:?}: {error}");
            }
        }
    }

    fn next(&self) -> Option<Ino> {
        let mut work = self.work.lock();
        let next = work.wrong.pop_first();
        work.has_thread = next.is_some();
        next
    }
}
