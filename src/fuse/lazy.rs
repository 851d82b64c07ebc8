//! Threads that make the files that are made on demand.
//!
//! A source may take its time, so it never runs on a thread that serves requests. A request that needs its file is
//! answered when it is done, on the thread that made it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::locality::start_thread;
use crate::store::{Ino, Source};
use crate::sync::Mutex;
use crate::text::panic_message;
use crate::view::{Demand, View, Waiter};

/// The most sources that are made at the same time in one mount; the others wait until one is done.
const MAX_THREADS: usize = 16;

/// Makes files on threads of its own, which are started on demand and end when nothing is left to make.
#[derive(Debug)]
pub struct Pool {
    view: Arc<View>,
    threads_max: usize,
    /// Lock order: held alone.
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Work {
    threads: usize,
    waiting: VecDeque<(Ino, Source)>,
}

impl Pool {
    pub(super) fn new(view: Arc<View>) -> Arc<Self> {
        Self::of_threads(MAX_THREADS, view)
    }

    fn of_threads(threads_max: usize, view: Arc<View>) -> Arc<Self> {
        Arc::new(Self {
            view,
            threads_max,
            work: Mutex::default(),
        })
    }

    /// Calls `then` when the file is made or has failed: at once if it is neither pending nor being made,
    /// otherwise on another thread. Does not wait.
    pub fn demand(self: &Arc<Self>, ino: Ino, then: impl FnOnce() + Send + 'static) {
        let reached = self.view.lock().demand(ino, Waiter::new(then));
        match reached {
            Demand::Ready(waiter) => waiter.resume(),
            Demand::Waiting => {}
            Demand::Make(source) => self.make(ino, source),
        }
    }

    fn make(self: &Arc<Self>, ino: Ino, source: Source) {
        let mut work = self.work.lock();
        work.waiting.push_back((ino, source));
        if work.threads == self.threads_max {
            return;
        }
        work.threads += 1;
        drop(work);
        let (pool, refused) = (Arc::clone(self), Arc::clone(self));
        let failed = move |error: &io::Error| refused.fail_all(error);
        start_thread("notapipe-source", move || pool.work(), failed);
    }

    fn work(&self) {
        while let Some((ino, source)) = self.next() {
            let made = catch_unwind(AssertUnwindSafe(|| self.fill(ino, source)));
            let made = made.unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                Err(io::Error::other(format!("it panicked: {message}")))
            });
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

    /// No thread could be started. Those that run go on, and take what waits; without any, all that waits has failed.
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

#[cfg(all(test, shuttle))]
mod interleavings {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shuttle::sync::mpsc;

    use super::*;
    use crate::store::NewKind;
    use crate::sync::{interleave, thread};
    use crate::view::tests::{NOW, make, view};

    /// A pool of one thread, so that what waits meets one that ends.
    fn pool() -> Arc<Pool> {
        Pool::of_threads(1, Arc::new(view()))
    }

    fn lazy_file(pool: &Pool, name: &str, source: Source) -> Ino {
        let mut view = pool.view.lock();
        let ino = make(&mut view, Ino::ROOT, name, NewKind::File);
        view.set_source(ino, source, NOW).unwrap();
        ino
    }

    /// Reaches for a file on another thread, and waits there until it is made or cannot be.
    fn demanding(pool: &Arc<Pool>, ino: Ino) -> thread::JoinHandle<()> {
        let pool = Arc::clone(pool);
        thread::spawn(move || {
            let (resume, resumed) = mpsc::channel();
            pool.demand(ino, move || resume.send(()).unwrap());
            resumed.recv().expect("a waiter is resumed");
        })
    }

    #[test]
    fn each_file_is_made_once_for_all_who_reach_for_it() {
        interleave(|| {
            let pool = pool();
            let made = Arc::new(AtomicUsize::new(0));
            let file = |name| {
                let made = Arc::clone(&made);
                let source = Source::new(move || {
                    made.fetch_add(1, Ordering::SeqCst);
                    Ok("content")
                });
                lazy_file(&pool, name, source)
            };
            let files = ["a", "b", "c"].map(file);
            let twice = files.iter().chain(&files);
            let demanding: Vec<_> = twice.map(|&ino| demanding(&pool, ino)).collect();
            demanding.into_iter().for_each(|it| it.join().unwrap());
            for ino in files {
                let content = pool.view.lock().read(ino, 0, 100).unwrap();
                assert_eq!(content.to_vec(), b"content");
            }
            assert_eq!(made.load(Ordering::SeqCst), files.len());
        });
    }

    #[test]
    fn nobody_waits_for_a_source_when_the_mount_has_ended() {
        interleave(|| {
            let pool = pool();
            let (let_go, stuck) = mpsc::channel::<()>();
            let source = Source::new(move || {
                stuck.recv().expect("it is let go");
                Ok("late")
            });
            let ino = lazy_file(&pool, "a", source);
            let demanding = [(); 2].map(|()| demanding(&pool, ino));
            pool.view.end();
            demanding.into_iter().for_each(|it| it.join().unwrap());
            assert!(pool.view.lock().read(ino, 0, 100).is_err());
            // Nobody may have asked for it.
            let _ = let_go.send(());
        });
    }
}
