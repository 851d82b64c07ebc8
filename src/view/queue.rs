//! Events that wait for a watcher to take them: bounded, and nothing is lost without a word.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::event::Event;
use super::wakeups::{Waker, Wakeups};
use crate::store::{Ino, TreePath};
use crate::sync::Mutex;

/// The most events that wait for one watcher.
pub const MAX_EVENTS: usize = 64 * 1024;
/// The most bytes of paths that wait with them: paths may be long, and a tool chooses them.
pub const MAX_PATH_BYTES: usize = 16 << 20;

/// The events of one watcher that it has not taken yet.
///
/// Of one file, they are in the order in which they happened. So are those of different files, but for
/// writes: one that continues an earlier write of the same file is told together with it, if nothing else
/// happened to that file in between, so that a slow watcher costs no memory for each write of a fast tool.
///
/// At the bound, which is [`MAX_EVENTS`] and [`MAX_PATH_BYTES`], what comes is counted and not kept;
/// [`Event::Lost`] stands where it is missing.
#[derive(Debug)]
pub struct Queue {
    /// Lock order: after the view's; see [`View`](super::View).
    state: Mutex<Waiting>,
    /// Called when there is something to take after there was nothing, and at the end.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// The number of the first entry; they are numbered as they come.
    first: u64,
    /// The number of each file's latest entry, while it waits.
    latest: HashMap<Ino, u64>,
    path_bytes: usize,
    ended: bool,
}

#[derive(Debug)]
struct Entry {
    /// None for events that were lost.
    ino: Option<Ino>,
    path_bytes: usize,
    event: Event,
}

impl Queue {
    pub(super) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            waker,
        })
    }

    /// The event that waits longest, if one does.
    pub fn take(&self) -> Option<Event> {
        self.state.lock().pop()
    }

    /// Whether nothing more will come; what waits can still be taken.
    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Whether nothing waits, and nothing more will come.
    pub fn is_exhausted(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.entries.is_empty()
    }

    pub(super) fn push(&self, ino: Ino, event: &Event, wakeups: &mut Wakeups) {
        let mut state = self.state.lock();
        let was_empty = state.entries.is_empty();
        state.push(ino, event);
        if was_empty {
            wakeups.wake(&self.waker);
        }
    }

    pub(super) fn end(&self, wakeups: &mut Wakeups) {
        self.state.lock().ended = true;
        wakeups.wake(&self.waker);
    }
}

impl Waiting {
    fn push(&mut self, ino: Ino, event: &Event) {
        if self.merge(ino, event) {
            return;
        }
        let path_bytes = event.shared_path().map_or(0, |path| weight(path));
        let full = self.entries.len() >= MAX_EVENTS
            || (self.path_bytes + path_bytes > MAX_PATH_BYTES && !self.entries.is_empty());
        if full {
            return self.count_lost();
        }
        self.latest.insert(ino, self.next());
        self.path_bytes += path_bytes;
        self.entries.push_back(Entry {
            ino: Some(ino),
            path_bytes,
            event: event.clone(),
        });
    }

    /// Tells a write together with the file's latest event, if that is a write that it touches.
    fn merge(&mut self, ino: Ino, event: &Event) -> bool {
        let Event::Written { path, range } = event else {
            return false;
        };
        let latest = self.latest.get(&ino).map(|number| number - self.first);
        let entry = latest.and_then(|index| self.entries.get_mut(index as usize));
        match entry.map(|entry| &mut entry.event) {
            Some(Event::Written {
                path: known_path,
                range: known,
            }) if range.start <= known.end && known.start <= range.end && known_path == path => {
                known.start = known.start.min(range.start);
                known.end = known.end.max(range.end);
                true
            }
            _ => false,
        }
    }

    fn count_lost(&mut self) {
        // No write may be told as older than what is missing here.
        self.latest.clear();
        match self.entries.back_mut().map(|entry| &mut entry.event) {
            Some(Event::Lost { count }) => *count += 1,
            // One more than the bound, which the next one finds here.
            _ => self.entries.push_back(Entry {
                ino: None,
                path_bytes: 0,
                event: Event::Lost { count: 1 },
            }),
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let Entry {
            ino,
            path_bytes,
            event,
        } = self.entries.pop_front()?;
        if let Some(ino) = ino
            && self.latest.get(&ino) == Some(&self.first)
        {
            self.latest.remove(&ino);
        }
        self.first += 1;
        self.path_bytes -= path_bytes;
        if self.entries.is_empty() {
            // What a burst took is given back.
            self.entries.shrink_to(64);
            self.latest.shrink_to(64);
        }
        Some(event)
    }

    /// The number that the next entry gets.
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// What a path takes, roughly: its bytes, and for each name what its sharing costs.
fn weight(path: &TreePath) -> usize {
    path.byte_len() + 31 * path.depth()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ino = Ino(2);
    const B: Ino = Ino(3);

    fn path(text: &str) -> Arc<TreePath> {
        Arc::new(TreePath::parse(text).unwrap())
    }

    fn written(name: &str, range: std::ops::Range<u64>) -> Event {
        Event::Written {
            path: path(name),
            range,
        }
    }

    fn removed(name: &str) -> Event {
        Event::Removed { path: path(name) }
    }

    fn queue_of(events: impl IntoIterator<Item = (Ino, Event)>) -> Waiting {
        let mut queue = Waiting::default();
        for (ino, event) in events {
            queue.push(ino, &event);
        }
        queue
    }

    fn all(mut queue: Waiting) -> Vec<Event> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn adjacent_writes_of_a_file_are_one_event() {
        let queue = queue_of([
            (A, written("a", 0..10)),
            (B, written("b", 0..1)),
            (A, written("a", 10..20)),
            (A, written("a", 5..12)),
            (A, written("a", 30..40)),
            (B, written("b", 1..2)),
        ]);
        let expected = [
            written("a", 0..20),
            written("b", 0..2),
            written("a", 30..40),
        ];
        assert_eq!(all(queue), expected);
    }

    #[test]
    fn a_write_stays_behind_what_else_happened_to_the_file() {
        let events = [
            (A, written("a", 0..10)),
            (A, removed("a")),
            (A, written("a", 10..20)),
        ];
        let expected = events.clone().map(|(_, event)| event);
        assert_eq!(all(queue_of(events)), expected);
    }

    #[test]
    fn a_write_under_another_name_is_another_event() {
        let events = [(A, written("a", 0..10)), (A, written("b", 10..20))];
        let expected = events.clone().map(|(_, event)| event);
        assert_eq!(all(queue_of(events)), expected);
    }

    #[test]
    fn what_was_taken_is_not_merged_into() {
        let mut queue = queue_of([(A, written("a", 0..10))]);
        assert_eq!(queue.pop(), Some(written("a", 0..10)));
        queue.push(A, &written("a", 10..20));
        assert_eq!(all(queue), [written("a", 10..20)]);
    }

    #[test]
    fn what_is_over_the_bound_is_counted_where_it_is_missing() {
        let mut queue = queue_of((0..MAX_EVENTS as u64 + 3).map(|n| (Ino(n), removed("x"))));
        assert_eq!(queue.entries.len(), MAX_EVENTS + 1);
        for _ in 0..2 {
            assert_eq!(queue.pop(), Some(removed("x")));
        }
        queue.push(A, &removed("after"));
        queue.push(B, &removed("over"));
        let rest = all(queue);
        assert_eq!(rest.len(), MAX_EVENTS - 2 + 3);
        let lost = |count| Event::Lost { count };
        assert_eq!(rest[MAX_EVENTS - 2..], [lost(3), removed("after"), lost(1)]);
    }

    #[test]
    fn writes_after_a_loss_are_told_after_it() {
        let filler = (0..MAX_EVENTS as u64).map(|n| (Ino(n + 10), removed("x")));
        let mut queue = queue_of(std::iter::once((A, written("a", 0..1))).chain(filler));
        queue.pop();
        queue.pop();
        queue.push(A, &written("a", 1..2));
        let rest = all(queue);
        assert_eq!(
            rest[MAX_EVENTS - 2..],
            [Event::Lost { count: 1 }, written("a", 1..2)]
        );
    }

    #[test]
    fn long_paths_count_too() {
        let long = vec!["n".repeat(255); 16].join("/");
        let queue = queue_of((0..20_000).map(|n| (Ino(n), removed(&long))));
        assert!(queue.path_bytes <= MAX_PATH_BYTES);
        let kept = queue.entries.len() as u64 - 1;
        let last = all(queue).pop();
        assert_eq!(
            last,
            Some(Event::Lost {
                count: 20_000 - kept
            })
        );
    }
}
