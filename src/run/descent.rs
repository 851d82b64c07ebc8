//! Which step of a pipe a thread belongs to.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::{RecvFlags, SocketType, recv};

use crate::sys::{proc, socket};

/// The processes that the steps of a pipe began with: whatever descends from one belongs to its step.
///
/// A process that has lost its parents before it first touched a file cannot be told, and belongs to none.
#[derive(Clone, Debug)]
pub(super) struct Descent(Option<Arc<Mutex<Roots>>>);

/// Lock order: held alone.
#[derive(Debug, Default)]
struct Roots {
    /// Of the steps that were started, in order.
    processes: Vec<Option<i32>>,
    /// Where the step that is being started announces itself: it may touch files before we learn its number.
    newest: Option<OwnedFd>,
}

impl Default for Descent {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl Descent {
    /// Of steps that nobody tells apart.
    pub fn unasked() -> Self {
        Self(None)
    }

    /// The next step is about to be started: gives it a socket to announce itself on
    /// ([`spawn_announced`](super::process::Processes::spawn_announced)).
    pub fn starting(&self) -> Option<OwnedFd> {
        let roots = self.0.as_ref()?;
        let (ours, theirs) = socket::pair(SocketType::STREAM).ok()?;
        roots.lock().newest = Some(ours);
        Some(theirs)
    }

    /// It was, as this process.
    pub fn started(&self, process: Option<i32>) {
        if let Some(roots) = &self.0 {
            let mut roots = roots.lock();
            roots.processes.push(process);
            roots.newest = None;
        }
    }

    /// The step of a thread that waits for us, and so cannot go meanwhile.
    pub fn step_of(&self, thread: u32) -> Option<usize> {
        let process = proc::process_of(i32::try_from(thread).ok()?)?;
        let ancestors = proc::ancestors(process);
        let line: Vec<i32> = std::iter::once(process).chain(ancestors).collect();
        let roots = self.0.as_ref()?.lock();
        let step = |root: &i32| roots.processes.iter().position(|it| *it == Some(*root));
        line.iter()
            .find_map(step)
            .or_else(|| roots.is_newest(&line).then_some(roots.processes.len()))
    }
}

impl Roots {
    /// Whether the step that is being started is among these processes.
    fn is_newest(&self, line: &[i32]) -> bool {
        let mut number = [0; 4];
        let announced = self.newest.as_ref().is_some_and(|socket| {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            recv(socket, &mut number, flags).is_ok_and(|(_, length)| length == number.len())
        });
        let number = i32::from_ne_bytes(number);
        announced
            && line
                .iter()
                .any(|&pid| proc::own_number(pid) == Some(number))
    }
}
