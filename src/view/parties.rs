//! Who touched a file, where several are to be told apart.

use std::collections::HashMap;
use std::fmt;

/// Tells to which of several parties a thread belongs, by its id; nothing where that cannot be known.
///
/// It is asked once for each thread, while the thread waits for us: without a lock of the view's, and before anything is
/// done for the thread. An id that the kernel gives to another thread afterwards counts for the first one's party.
pub(super) struct Parties {
    of: Box<dyn Fn(u32) -> Option<usize> + Send>,
    known: HashMap<u32, Option<usize>>,
}

impl Parties {
    pub fn new(of: impl Fn(u32) -> Option<usize> + Send + 'static) -> Self {
        Self {
            of: Box::new(of),
            known: HashMap::new(),
        }
    }

    /// Of a thread; the kernel tells 0 of what it does on its own.
    pub fn of(&mut self, thread: u32) -> Option<usize> {
        let Self { of, known } = self;
        match thread {
            0 => None,
            _ => *known.entry(thread).or_insert_with(|| of(thread)),
        }
    }
}

impl fmt::Debug for Parties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known.fmt(f)
    }
}
