//! Directory entries and stable readdir cookies.

use std::hash::BuildHasher;
use std::num::NonZeroU64;

use super::inode::{Ino, Kind};
use super::name::Name;
use super::trie::Trie;

/// A position in a directory that stays valid while entries come and go; for [`Tree::entries`](super::Tree::entries).
///
/// 0 is before the first entry. A new entry gets a cookie greater than all before it; an entry that
/// a rename replaces keeps its cookie, so that a reader sees each name that stays exactly once.
/// The first is 3: 1 and 2 are left to `.` and `..`, which the store does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cookie(pub u64);

/// One entry of a directory; from [`Tree::entries`](super::Tree::entries).
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where to go on after this entry.
    pub cookie: Cookie,
    /// The entry's name.
    pub name: &'a Name,
    /// The inode it names.
    pub ino: Ino,
    /// That inode's kind.
    pub kind: Kind,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub ino: Ino,
    pub kind: Kind,
}

const FIRST_COOKIE: NonZeroU64 = NonZeroU64::new(3).unwrap();

/// The entries of one directory. Cloning it shares them.
///
/// `entries` is the truth, in the order of the cookies. `index` finds a cookie by the name's hash;
/// a name whose hash is taken by another stands at the next free number, as in a hash table with
/// linear probing. With 64 bits and a secret key that hardly ever happens, so no slot pays for it.
/// The hasher is passed in, always the same one, so that not every directory keeps its own.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// The directory that holds this one; the root holds itself.
    pub parent: Ino,
    next_cookie: NonZeroU64,
    len: u64,
    entries: Trie<(Name, Target)>,
    index: Trie<NonZeroU64>,
}

impl Directory {
    pub fn new(parent: Ino) -> Self {
        Self {
            parent,
            next_cookie: FIRST_COOKIE,
            len: 0,
            entries: Trie::default(),
            index: Trie::default(),
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, hasher: &impl BuildHasher, name: &[u8]) -> Option<Target> {
        let (_, cookie) = self.find(hasher, name).ok()?;
        self.entries.get(cookie.get()).map(|(_, target)| *target)
    }

    /// Adds a name that is not there yet.
    pub fn add(&mut self, hasher: &impl BuildHasher, name: Name, target: Target) {
        let Err(free) = self.find(hasher, name.as_bytes()) else {
            unreachable!("the caller looked before")
        };
        let cookie = self.next_cookie;
        self.next_cookie = cookie.checked_add(1).expect("no directory sees 2^64 names");
        self.index.insert(free, cookie);
        self.entries.insert(cookie.get(), (name, target));
        self.len += 1;
    }

    /// Lets a name that is there lead elsewhere; its cookie stays.
    pub fn redirect(&mut self, hasher: &impl BuildHasher, name: &[u8], target: Target) {
        if let Ok((_, cookie)) = self.find(hasher, name)
            && let Some(entry) = self.entries.get_mut(cookie.get())
        {
            entry.1 = target;
        }
    }

    /// Removes a name, if it is there.
    pub fn remove(&mut self, hasher: &impl BuildHasher, name: &[u8]) {
        let Ok((key, cookie)) = self.find(hasher, name) else {
            return;
        };
        self.index.remove(key);
        self.entries.remove(cookie.get());
        self.len -= 1;
        self.close_gap(hasher, key);
    }

    /// The entries after a cookie, in order.
    pub fn entries(&self, after: Cookie) -> impl Iterator<Item = Entry<'_>> {
        let from = after.0.saturating_add(1);
        self.entries
            .iter_from(from)
            .map(|(cookie, (name, target))| Entry {
                cookie: Cookie(cookie),
                name,
                ino: target.ino,
                kind: target.kind,
            })
    }

    /// The entries that an earlier fork of this directory did not have, or that led elsewhere there. Costs
    /// what differs, not what there is.
    pub fn changed_since<'a>(
        &'a self,
        before: &Self,
        hasher: &impl BuildHasher,
    ) -> Vec<(&'a Name, Target)> {
        let cookies = self.entries.differences(&before.entries, |a, b| a == b);
        let now = cookies
            .into_iter()
            .filter_map(|cookie| self.entries.get(cookie));
        // One that went and came again has another cookie.
        let is_new = |name: &Name, target| before.get(hasher, name.as_bytes()) != Some(target);
        now.filter(|(name, target)| is_new(name, *target))
            .map(|(name, target)| (name, *target))
            .collect()
    }

    /// The index key and the cookie of a name, or the key that it would get.
    fn find(&self, hasher: &impl BuildHasher, name: &[u8]) -> Result<(u64, NonZeroU64), u64> {
        let mut key = hasher.hash_one(name);
        while let Some(&cookie) = self.index.get(key) {
            if self
                .entries
                .get(cookie.get())
                .is_some_and(|(found, _)| found.as_bytes() == name)
            {
                return Ok((key, cookie));
            }
            key = key.wrapping_add(1);
        }
        Err(key)
    }

    /// Moves entries that probing put behind a removed key up, so that searches do not stop at it.
    fn close_gap(&mut self, hasher: &impl BuildHasher, mut gap: u64) {
        let mut key = gap.wrapping_add(1);
        while let Some(&cookie) = self.index.get(key) {
            let Some((name, _)) = self.entries.get(cookie.get()) else {
                break;
            };
            let home = hasher.hash_one(name.as_bytes());
            // Movable when its home is not between the gap and where it stands.
            if key.wrapping_sub(home) >= key.wrapping_sub(gap) {
                self.index.remove(key);
                self.index.insert(gap, cookie);
                gap = key;
            }
            key = key.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::{BuildHasherDefault, Hasher};

    use proptest::prelude::*;

    use super::*;

    /// Hashes to the end of the number range, so that probing also wraps around.
    #[derive(Default)]
    struct CollidingHasher(u64);

    impl Hasher for CollidingHasher {
        fn finish(&self) -> u64 {
            u64::MAX - self.0 % 3
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 += bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        }
    }

    fn name(number: u8) -> Name {
        Name::new(&[b'a' + number]).unwrap()
    }

    proptest! {
        #[test]
        fn names_are_found_also_when_their_hashes_meet(
            ops in prop::collection::vec((0..12u8, any::<bool>()), 0..80),
        ) {
            let hasher = BuildHasherDefault::<CollidingHasher>::default();
            let mut directory = Directory::new(Ino::ROOT);
            let mut expected = BTreeMap::new();
            for (step, (number, add)) in ops.into_iter().enumerate() {
                let target = Target { ino: Ino(step as u64), kind: Kind::File };
                let there = expected.contains_key(&number);
                match (add, there) {
                    (true, false) => {
                        directory.add(&hasher, name(number), target);
                        expected.insert(number, target);
                    }
                    (true, true) => {
                        directory.redirect(&hasher, name(number).as_bytes(), target);
                        expected.insert(number, target);
                    }
                    (false, _) => {
                        directory.remove(&hasher, name(number).as_bytes());
                        expected.remove(&number);
                    }
                }
                for number in 0..12 {
                    prop_assert_eq!(
                        directory.get(&hasher, name(number).as_bytes()),
                        expected.get(&number).copied()
                    );
                }
                prop_assert_eq!(directory.len(), expected.len() as u64);
                prop_assert_eq!(directory.entries(Cookie(0)).count(), expected.len());
            }
        }
    }
}
