//! Which step of a pipe a thread belongs to.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::sys::proc;

/// The processes that the steps of a pipe began with: whatever descends from one belongs to its step.
///
/// A process that has lost its parents before it first touched a file cannot be told, and belongs to none.
#[derive(Clone, Debug, Default)]
pub(super) struct Descent(Arc<Mutex<Roots>>);

/// Lock order: held alone.
#[derive(Debug, Default)]
struct Roots {
    /// Of the steps that were started, in order.
    processes: Vec<Option<i32>>,
    /// Whether the next one is being started: it may touch files before we learn its number.
    starting: bool,
}

impl Descent {
    /// The next step is about to be started.
    pub fn starting(&self) {
        self.0.lock().starting = true;
    }

    /// It was, as this process.
    pub fn started(&self, process: Option<i32>) {
        let mut roots = self.0.lock();
        roots.processes.push(process);
        roots.starting = false;
    }

    /// The step of a thread that waits for us, and so cannot go meanwhile.
    pub fn step_of(&self, thread: u32) -> Option<usize> {
        let process = proc::process_of(i32::try_from(thread).ok()?)?;
        let ancestors = proc::ancestors(process);
        let line: Vec<i32> = std::iter::once(process).chain(ancestors).collect();
        let roots = self.0.lock();
        let step = |root: &i32| roots.processes.iter().position(|it| *it == Some(*root));
        let of_new = roots.starting.then_some(roots.processes.len());
        line.iter().find_map(step).or(of_new)
    }
}
