//! Following a file while it is written.

use std::collections::BTreeMap;
use std::ops::Range;

use super::observed::NotObserved;
use super::ranges::Ranges;
use super::wakeups::{Waker, Wakeups};
use super::{Locked, State};
use crate::store::{Data, Ino, Kind, StoreError, TreePath};

/// The number of a follower of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FollowId(u64);

/// What there is for a follower at this moment.
#[derive(Debug)]
pub enum Followed {
    /// The next bytes, at least one.
    Data(Data),
    /// Nothing yet. The waker is called when it is worth asking again.
    Wait,
    /// All bytes were given, and no writer is left.
    End,
    /// The mount is gone: the file was never opened for writing, or its writers were cut off.
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Followers {
    last: u64,
    all: BTreeMap<FollowId, Follower>,
}

#[derive(Debug)]
struct Follower {
    target: Target,
    /// All bytes before this were given.
    given: u64,
    rewritten: Ranges,
    waker: Waker,
    /// It was told to wait and was not woken since.
    waits: bool,
}

#[derive(Debug)]
enum Target {
    /// Whatever file has this name when it is opened for writing.
    Name(TreePath),
    File(Ino),
}

impl Follower {
    fn wake(&mut self, wakeups: &mut Wakeups) {
        if std::mem::take(&mut self.waits) {
            wakeups.wake(&self.waker);
        }
    }

    fn follows(&self, ino: Ino) -> bool {
        matches!(self.target, Target::File(its) if its == ino)
    }
}

impl Followers {
    /// Bytes of a file changed, or there are more of them.
    pub fn rewritten(&mut self, ino: Ino, range: Range<u64>, wakeups: &mut Wakeups) {
        for follower in self.all.values_mut().filter(|it| it.follows(ino)) {
            let end = range.end.min(follower.given);
            follower.rewritten.add(range.start.min(end)..end);
            follower.wake(wakeups);
        }
    }

    /// Something else happened to a file.
    pub fn changed(&mut self, ino: Ino, wakeups: &mut Wakeups) {
        let followers = self.all.values_mut();
        followers
            .filter(|it| it.follows(ino))
            .for_each(|it| it.wake(wakeups));
    }

    /// A name may lead to another file, or to one with a writer.
    pub fn names_changed(&mut self, wakeups: &mut Wakeups) {
        let followers = self.all.values_mut();
        followers
            .filter(|it| matches!(it.target, Target::Name(_)))
            .for_each(|it| it.wake(wakeups));
    }

    pub fn wake_all(&mut self, wakeups: &mut Wakeups) {
        self.all.values_mut().for_each(|it| it.wake(wakeups));
    }
}

impl Locked<'_> {
    /// Follows the file of this name, from its first byte, once it has been opened for writing.
    ///
    /// # Errors
    ///
    /// [`NotObserved`].
    pub fn follow(&mut self, path: TreePath, waker: Waker) -> Result<FollowId, NotObserved> {
        let observed = self.state.observed.as_mut().ok_or(NotObserved)?;
        let followers = &mut observed.followers;
        followers.last += 1;
        let id = FollowId(followers.last);
        let follower = Follower {
            target: Target::Name(path),
            given: 0,
            rewritten: Ranges::default(),
            waker,
            waits: false,
        };
        followers.all.insert(id, follower);
        Ok(id)
    }

    /// Up to `len` bytes that were not given yet.
    ///
    /// # Errors
    ///
    /// What the tree refuses, such as to read a directory.
    pub fn read_followed(&mut self, id: FollowId, len: usize) -> Result<Followed, StoreError> {
        let State {
            tree,
            references,
            observed,
            ..
        } = &mut *self.state;
        let Some(observed) = observed else {
            return Ok(Followed::Gone);
        };
        let ended = observed.ended;
        let wait_or = |follower: &mut Follower, gone: Followed| {
            follower.waits = !ended;
            if ended { gone } else { Followed::Wait }
        };
        let Some(follower) = observed.followers.all.get(&id) else {
            return Ok(Followed::Gone);
        };
        let found = match &follower.target {
            Target::File(ino) => Some(*ino),
            Target::Name(path) => match tree.resolve(path.names()) {
                Ok(ino) if tree.attr(ino)?.kind == Kind::Directory => {
                    return Err(StoreError::IsDirectory);
                }
                Ok(ino) => observed.writers(ino).map(|_| ino),
                Err(_) => None,
            },
        };
        let writers = found.and_then(|ino| observed.writers(ino)).unwrap_or(0);
        let follower = observed
            .followers
            .all
            .get_mut(&id)
            .ok_or(StoreError::NotFound)?;
        let Some(ino) = found else {
            return Ok(wait_or(follower, Followed::Gone));
        };
        if matches!(follower.target, Target::Name(_)) {
            follower.target = Target::File(ino);
            references.take(ino);
        }
        let data = tree.read(ino, follower.given, len)?;
        if !data.is_empty() {
            follower.given += data.len() as u64;
            return Ok(Followed::Data(data));
        }
        Ok(match writers {
            0 => Followed::End,
            _ => wait_or(follower, Followed::Gone),
        })
    }

    /// The bytes that were given and changed afterwards.
    pub fn rewritten(&self, id: FollowId) -> Vec<Range<u64>> {
        let observed = self.state.observed.as_ref();
        let follower = observed.and_then(|it| it.followers.all.get(&id));
        follower.map_or(Vec::new(), |it| it.rewritten.to_vec())
    }

    /// Follows it no more.
    pub fn unfollow(&mut self, id: FollowId) {
        let observed = self.state.observed.as_mut();
        let follower = observed.and_then(|it| it.followers.all.remove(&id));
        if let Some(Target::File(ino)) = follower.map(|it| it.target) {
            self.give_back_references(ino, 1);
        }
    }
}
