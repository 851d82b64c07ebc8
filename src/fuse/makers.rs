//! Threads that make the files that are made on demand.
//!
//! A source may take its time, so it never runs on a thread that serves requests. Whoever reaches for its
//! file is answered when it is done, from here.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::locality::at_normal_priority;
use crate::store::{Ino, Source};
use crate::view::{Reach, View, Waiter};

/// The most sources that are made at the same time in one mount; the others wait for their turn.
const MAX_THREADS: usize = 16;

/// Makes files on threads of its own, which are started on demand and end when nothing is left to make.
#[derive(Debug)]
pub struct Makers {
    view: Arc<View>,
    /// Lock order: held alone.
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    threads: usize,
    waiting: VecDeque<(Ino, Source)>,
}

impl Makers {
    pub(super) fn new(view: Arc<View>) -> Arc<Self> {
        Arc::new(Self {
            view,
            work: Mutex::default(),
        })
    }

    /// Calls `then` when the file is made or has failed: at once if it is neither awaited nor being made,
    /// otherwise on another thread. Does not wait.
    pub fn reach(self: &Arc<Self>, ino: Ino, then: impl FnOnce() + Send + 'static) {
        let reached = self.view.lock().reach(ino, Waiter::new(then));
        match reached {
            Reach::Now(waiter) => waiter.resume(),
            Reach::Later => {}
            Reach::Make(source) => self.make(ino, source),
        }
    }

    fn make(self: &Arc<Self>, ino: Ino, source: Source) {
        let mut work = self.work.lock();
        work.waiting.push_back((ino, source));
        if work.threads == MAX_THREADS {
            return;
        }
        work.threads += 1;
        drop(work);
        let makers = Arc::clone(self);
        at_normal_priority(move || makers.start_thread());
    }

    fn start_thread(self: Arc<Self>) {
        let makers = Arc::clone(&self);
        let started = thread::Builder::new()
            .name("notapipe-source".to_owned())
            .spawn(move || makers.work());
        if let Err(error) = started {
            self.fail_all(&error);
        }
    }

    fn work(&self) {
        while let Some((ino, source)) = self.next() {
            let made = catch_unwind(AssertUnwindSafe(|| self.fill(ino, source)));
            let made = made.unwrap_or_else(|panic| Err(panicked(&*panic)));
            self.view.lock().made(ino, made);
        }
    }

    /// The next file to make; none ends the thread.
    fn next(&self) -> Option<(Ino, Source)> {
        let mut work = self.work.lock();
        let next = work.waiting.pop_front();
        if next.is_none() {
            work.threads -= 1;
        }
        next
    }

    fn fill(&self, ino: Ino, source: Source) -> io::Result<()> {
        let mut offset = 0;
        source.make(&mut |block| {
            // Locked for each block, so that others are served in between.
            self.view.lock().fill(ino, offset, block)?;
            offset += block.len() as u64;
            Ok(())
        })
    }

    /// No thread could be started. Those that run go on, and take what waits; without any nobody would.
    fn fail_all(&self, error: &io::Error) {
        let mut work = self.work.lock();
        work.threads -= 1;
        let failed = match work.threads {
            0 => std::mem::take(&mut work.waiting),
            _ => VecDeque::new(),
        };
        drop(work);
        for (ino, _) in failed {
            let error = io::Error::new(error.kind(), error.to_string());
            self.view.lock().made(ino, Err(error));
        }
    }
}

/// What a panic said, where it said it in words.
fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    io::Error::other(format!("it panicked: {}", text.unwrap_or("without a word")))
}
