//! A map from `u64` that is shared until written: cloning it costs one reference count.
//!
//! A radix tree of 6 bits a level whose nodes hold only the slots in use. High bits come first, so
//! that iteration is in order of the keys. A leaf stands as high as it is alone in its range, so
//! that scattered keys (hashes, chunks of sparse files) make no chains; and the root's height grows
//! with the largest key, so that dense keys (inode numbers, cookies) make shallow trees. No walk is
//! deeper than 11 levels, whatever the keys, so recursion over levels is safe.

use std::slice;
use std::sync::Arc;

const BITS: u32 = 6;
/// 11 levels of 6 bits hold 64 bits.
const MAX_LEVELS: usize = 11;

/// A persistent map from `u64` to `T`.
#[derive(Clone, Debug)]
pub(crate) struct Trie<T> {
    root: Option<Slot<T>>,
    /// The root node's level: how far a key is shifted to give its slot. Meaningless without one.
    shift: u32,
}

#[derive(Clone, Debug)]
enum Slot<T> {
    Leaf(u64, T),
    Branch(Arc<Node<T>>),
}

/// Slots in the order of their digits; the bitmap tells which digits are there.
#[derive(Clone, Debug)]
struct Node<T> {
    bitmap: u64,
    slots: Vec<Slot<T>>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            root: None,
            shift: 0,
        }
    }
}

/// The 6 bits of `key` that a node at `shift` looks at.
fn digit(key: u64, shift: u32) -> u32 {
    (key >> shift) as u32 & 63
}

/// The level of the highest bit that is set in `bits`.
fn level(bits: u64) -> u32 {
    (u64::BITS - 1).saturating_sub(bits.leading_zeros()) / BITS * BITS
}

/// Whether a root at `shift` has room for `key`.
fn covers(shift: u32, key: u64) -> bool {
    key.checked_shr(shift + BITS).is_none_or(|above| above == 0)
}

impl<T> Node<T> {
    fn with_one(digit: u32, slot: Slot<T>) -> Self {
        Self {
            bitmap: 1 << digit,
            slots: vec![slot],
        }
    }

    fn has(&self, digit: u32) -> bool {
        self.bitmap & (1 << digit) != 0
    }

    fn slot(&self, digit: u32) -> Option<&Slot<T>> {
        self.has(digit).then(|| &self.slots[self.position(digit)])
    }

    /// Where the slot of `digit` stands, or would stand.
    fn position(&self, digit: u32) -> usize {
        (self.bitmap & ((1 << digit) - 1)).count_ones() as usize
    }

    fn add(&mut self, digit: u32, slot: Slot<T>) {
        let position = self.position(digit);
        if self.slots.len() == self.slots.capacity() {
            // Growing by a quarter wastes less than doubling, and a node never has more than 64.
            self.slots.reserve_exact(1 + self.slots.len() / 4);
        }
        self.slots.insert(position, slot);
        self.bitmap |= 1 << digit;
    }

    fn take(&mut self, digit: u32) -> Slot<T> {
        let slot = self.slots.remove(self.position(digit));
        self.bitmap &= !(1 << digit);
        if self.slots.len() * 4 <= self.slots.capacity() {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        slot
    }
}

impl<T> Trie<T> {
    /// The value at `key`.
    pub fn get(&self, key: u64) -> Option<&T> {
        let mut slot = self.root.as_ref()?;
        let mut shift = self.shift;
        if matches!(slot, Slot::Branch(_)) && !covers(shift, key) {
            return None;
        }
        loop {
            match slot {
                Slot::Leaf(found, value) => return (*found == key).then_some(value),
                Slot::Branch(node) => {
                    let digit = digit(key, shift);
                    if !node.has(digit) {
                        return None;
                    }
                    slot = &node.slots[node.position(digit)];
                    shift = shift.wrapping_sub(BITS); // below the last level there are only leaves
                }
            }
        }
    }

    /// The pairs whose keys are `from` or greater, in order.
    pub fn iter_from(&self, from: u64) -> Iter<'_, T> {
        let mut iter = Iter {
            levels: Default::default(),
            depth: 0,
        };
        let Some(mut slot) = self.root.as_ref() else {
            return iter;
        };
        let mut shift = self.shift;
        if matches!(slot, Slot::Branch(_)) && !covers(shift, from) {
            return iter;
        }
        loop {
            match slot {
                Slot::Leaf(key, _) => {
                    if *key >= from {
                        iter.push(slice::from_ref(slot));
                    }
                    return iter;
                }
                Slot::Branch(node) => {
                    let digit = digit(from, shift);
                    let position = node.position(digit);
                    if !node.has(digit) {
                        iter.push(&node.slots[position..]);
                        return iter;
                    }
                    iter.push(&node.slots[position + 1..]);
                    slot = &node.slots[position];
                    shift = shift.wrapping_sub(BITS);
                }
            }
        }
    }
}

impl<T> Trie<T> {
    /// The keys that only one of the two has, or whose values differ. What both share is not looked at.
    pub fn differences(&self, other: &Self, same: impl Fn(&T, &T) -> bool) -> Vec<u64> {
        let mut keys = Vec::new();
        let roots = (self.root.as_ref(), other.root.as_ref());
        differ(roots, (self.shift, other.shift), &same, &mut keys);
        keys
    }
}

/// Adds the keys in which two slots differ, which stand at these levels.
fn differ<T>(
    slots: (Option<&Slot<T>>, Option<&Slot<T>>),
    shifts: (u32, u32),
    same: &impl Fn(&T, &T) -> bool,
    keys: &mut Vec<u64>,
) {
    let below = |shift: u32| shift.wrapping_sub(BITS);
    match slots {
        (None, None) => {}
        (Some(slot), None) | (None, Some(slot)) => each_leaf(slot, &mut |key, _| keys.push(key)),
        (Some(Slot::Branch(a)), Some(Slot::Branch(b))) if shifts.0 == shifts.1 => {
            if Arc::ptr_eq(a, b) {
                return;
            }
            let mut digits = a.bitmap | b.bitmap;
            while digits != 0 {
                let digit = digits.trailing_zeros();
                digits &= digits - 1;
                let shift = below(shifts.0);
                differ((a.slot(digit), b.slot(digit)), (shift, shift), same, keys);
            }
        }
        // The lower one stands where the higher one has its smallest keys.
        (Some(Slot::Branch(a)), Some(Slot::Branch(_))) if shifts.0 > shifts.1 => {
            for digit in (0..64).filter(|&digit| a.has(digit)) {
                let other = slots.1.filter(|_| digit == 0);
                differ(
                    (a.slot(digit), other),
                    (below(shifts.0), shifts.1),
                    same,
                    keys,
                );
            }
            if !a.has(0) {
                differ((None, slots.1), shifts, same, keys);
            }
        }
        // Equality has no order.
        (Some(Slot::Branch(_)), Some(Slot::Branch(_))) => {
            differ((slots.1, slots.0), (shifts.1, shifts.0), same, keys);
        }
        (Some(Slot::Leaf(key, value)), Some(many)) | (Some(many), Some(Slot::Leaf(key, value))) => {
            let mut met = false;
            each_leaf(many, &mut |there, other| {
                met |= there == *key;
                if there != *key || !same(value, other) {
                    keys.push(there);
                }
            });
            if !met {
                keys.push(*key);
            }
        }
    }
}

fn each_leaf<'t, T>(slot: &'t Slot<T>, visit: &mut impl FnMut(u64, &'t T)) {
    match slot {
        Slot::Leaf(key, value) => visit(*key, value),
        Slot::Branch(node) => {
            for slot in &node.slots {
                each_leaf(slot, visit);
            }
        }
    }
}

impl<T: Clone> Trie<T> {
    /// The value at `key`, to change it; what other clones share on the way is copied.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        // Asked first, so that a miss copies nothing.
        self.get(key)?;
        let mut slot = self.root.as_mut()?;
        let mut shift = self.shift;
        loop {
            match slot {
                Slot::Leaf(_, value) => return Some(value),
                Slot::Branch(node) => {
                    let node = Arc::make_mut(node);
                    let position = node.position(digit(key, shift));
                    slot = &mut node.slots[position];
                    shift = shift.wrapping_sub(BITS);
                }
            }
        }
    }

    /// The value at `key`, made first where there is none.
    pub fn get_or_insert_with(&mut self, key: u64, make: impl FnOnce() -> T) -> &mut T {
        if self.get(key).is_none() {
            self.insert(key, make());
        }
        self.get_mut(key).expect("inserted just now")
    }

    /// Puts `value` at `key`; returns what was there.
    pub fn insert(&mut self, key: u64, value: T) -> Option<T> {
        self.make_room(key);
        let Some(mut slot) = self.root.as_mut() else {
            self.root = Some(Slot::Leaf(key, value));
            return None;
        };
        let mut shift = self.shift;
        let (mut key, mut value) = (key, value);
        loop {
            match slot {
                Slot::Leaf(found, old) if *found == key => {
                    return Some(std::mem::replace(old, value));
                }
                Slot::Leaf(found, _) => {
                    // Two keys in one range: put a chain with the new leaf here, and go on down it
                    // with the old one, which finds its place beside it.
                    let chain = Self::chain(key, value, *found, shift);
                    let Slot::Leaf(pushed, displaced) = std::mem::replace(slot, chain) else {
                        unreachable!("the slot was a leaf")
                    };
                    (key, value) = (pushed, displaced);
                }
                Slot::Branch(node) => {
                    let node = Arc::make_mut(node);
                    let digit = digit(key, shift);
                    if !node.has(digit) {
                        node.add(digit, Slot::Leaf(key, value));
                        return None;
                    }
                    let position = node.position(digit);
                    slot = &mut node.slots[position];
                    shift = shift.wrapping_sub(BITS);
                }
            }
        }
    }

    /// Takes the value at `key` out.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        // Asked first, so that a miss copies nothing.
        self.get(key)?;
        if let Some(Slot::Branch(node)) = &mut self.root {
            let node = Arc::make_mut(node);
            let value = Self::remove_below(node, key, self.shift);
            if let Some(leaf) = Self::lone_leaf(node) {
                self.root = Some(leaf);
            }
            return Some(value);
        }
        match self.root.take() {
            Some(Slot::Leaf(_, value)) => Some(value),
            _ => None,
        }
    }

    /// Removes `key`, which is there, from below `node`.
    fn remove_below(node: &mut Node<T>, key: u64, shift: u32) -> T {
        let digit = digit(key, shift);
        let position = node.position(digit);
        if let Slot::Branch(child) = &mut node.slots[position] {
            let child = Arc::make_mut(child);
            let value = Self::remove_below(child, key, shift - BITS);
            if let Some(leaf) = Self::lone_leaf(child) {
                node.slots[position] = leaf;
            }
            return value;
        }
        match node.take(digit) {
            Slot::Leaf(_, value) => value,
            Slot::Branch(_) => unreachable!("the slot was a leaf"),
        }
    }

    /// The only slot of a node, when that is a leaf, which then belongs one level up.
    fn lone_leaf(node: &mut Node<T>) -> Option<Slot<T>> {
        match node.slots.as_slice() {
            [Slot::Leaf(..)] => node.slots.pop(),
            _ => None,
        }
    }

    /// Branches from `shift` down to where `key` and `other` part, with `key`'s leaf at the end.
    fn chain(key: u64, value: T, other: u64, shift: u32) -> Slot<T> {
        let parting = level(key ^ other);
        let mut slot = Slot::Leaf(key, value);
        for at in (parting..=shift).step_by(BITS as usize) {
            slot = Slot::Branch(Arc::new(Node::with_one(digit(key, at), slot)));
        }
        slot
    }

    /// Raises the root until it covers `key`.
    fn make_room(&mut self, key: u64) {
        match &self.root {
            None => {}
            // Not a node yet: it starts as high as the larger of the two needs.
            Some(Slot::Leaf(found, _)) => self.shift = level(key | found),
            Some(Slot::Branch(_)) => {
                while !covers(self.shift, key) {
                    if let Some(root) = self.root.take() {
                        self.root = Some(Slot::Branch(Arc::new(Node::with_one(0, root))));
                    }
                    self.shift += BITS;
                }
            }
        }
    }
}

/// Pairs of a [`Trie`] in order of their keys.
pub(crate) struct Iter<'a, T> {
    /// What is left to visit on each level; the first stays empty, so that the last pop is safe.
    levels: [slice::Iter<'a, Slot<T>>; MAX_LEVELS + 2],
    depth: usize,
}

impl<'a, T> Iter<'a, T> {
    fn push(&mut self, slots: &'a [Slot<T>]) {
        self.depth += 1;
        self.levels[self.depth] = slots.iter();
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = (u64, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.levels[self.depth].next() {
                Some(Slot::Leaf(key, value)) => return Some((*key, value)),
                Some(Slot::Branch(node)) => self.push(&node.slots),
                None if self.depth == 0 => return None,
                None => self.depth -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Slot, Trie};

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(u64),
        Change(u64),
        Fork,
    }

    /// Dense, clustered, scattered and extreme keys, which meet often enough to be removed again.
    fn key() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0..200u64,
            2 => (0..4u64, 0..64u32).prop_map(|(low, shift)| (1u64 << shift).wrapping_add(low)),
            1 => Just(u64::MAX),
            1 => any::<u64>(),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => key().prop_map(Op::Insert),
            5 => key().prop_map(Op::Remove),
            2 => key().prop_map(Op::Change),
            1 => Just(Op::Fork),
        ]
    }

    fn check(trie: &Trie<u64>, map: &BTreeMap<u64, u64>, from: u64) {
        let pairs: Vec<_> = trie
            .iter_from(0)
            .map(|(key, value)| (key, *value))
            .collect();
        assert_eq!(pairs, map.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
        let rest: Vec<_> = trie.iter_from(from).map(|(key, _)| key).collect();
        assert_eq!(rest, map.range(from..).map(|(k, _)| *k).collect::<Vec<_>>());
        assert_eq!(trie.root.is_none(), map.is_empty());
    }

    proptest! {
        #[test]
        fn behaves_as_a_btreemap_in_every_clone(ops in prop::collection::vec(op(), 0..300)) {
            let mut versions = vec![(Trie::default(), BTreeMap::new())];
            for (step, op) in ops.into_iter().enumerate() {
                let value = step as u64;
                let last = versions.len() - 1;
                let (trie, map) = &mut versions[last];
                match op {
                    Op::Insert(key) => {
                        prop_assert_eq!(trie.insert(key, value), map.insert(key, value));
                    }
                    Op::Remove(key) => prop_assert_eq!(trie.remove(key), map.remove(&key)),
                    Op::Change(key) => {
                        prop_assert_eq!(trie.get(key), map.get(&key));
                        if let Some(found) = trie.get_mut(key) { *found = value; }
                        if let Some(found) = map.get_mut(&key) { *found = value; }
                        check(trie, map, key);
                    }
                    Op::Fork => { let copy = versions[last].clone(); versions.push(copy); }
                }
            }
            for (trie, map) in &versions {
                check(trie, map, 100);
                for (key, value) in map {
                    prop_assert_eq!(trie.get(*key), Some(value));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn differences_are_those_of_the_maps(
            common in prop::collection::vec(op(), 0..200),
            one in prop::collection::vec(op(), 0..40),
            two in prop::collection::vec(op(), 0..40),
        ) {
            fn apply(trie: &mut Trie<u64>, map: &mut BTreeMap<u64, u64>, ops: &[Op], from: u64) {
                for (value, op) in (from..).zip(ops) {
                    match op {
                        Op::Insert(key) | Op::Change(key) => {
                            trie.insert(*key, value % 7);
                            map.insert(*key, value % 7);
                        }
                        Op::Remove(key) => {
                            trie.remove(*key);
                            map.remove(key);
                        }
                        Op::Fork => {}
                    }
                }
            }
            let (mut trie, mut map) = (Trie::default(), BTreeMap::new());
            apply(&mut trie, &mut map, &common, 0);
            let (mut others, mut other_map) = (trie.clone(), map.clone());
            apply(&mut trie, &mut map, &one, 1000);
            apply(&mut others, &mut other_map, &two, 2000);
            let keys = map.keys().chain(other_map.keys());
            let expected: std::collections::BTreeSet<u64> =
                keys.copied().filter(|key| map.get(key) != other_map.get(key)).collect();
            let mut found = trie.differences(&others, |a, b| a == b);
            found.sort_unstable();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_shared_is_not_looked_at() {
        let mut trie = Trie::default();
        for key in 0..100_000u64 {
            trie.insert(key, key);
        }
        let mut other = trie.clone();
        other.insert(77_777, 0);
        let looked = std::cell::Cell::new(0);
        let same = |a: &u64, b: &u64| {
            looked.set(looked.get() + 1);
            a == b
        };
        assert_eq!(trie.differences(&other, same), [77_777]);
        assert!(looked.get() <= 64, "{} values were compared", looked.get());
    }

    #[test]
    fn a_slot_of_pointers_takes_sixteen_bytes() {
        assert_eq!(size_of::<Slot<Arc<u8>>>(), 16);
        assert_eq!(size_of::<Slot<std::num::NonZeroU64>>(), 16);
    }

    #[test]
    fn removing_everything_leaves_nothing() {
        let mut trie = Trie::default();
        for key in 0..10_000u64 {
            trie.insert(key * key, key);
        }
        for key in 0..10_000u64 {
            assert_eq!(trie.remove(key * key), Some(key));
        }
        assert!(trie.root.is_none());
    }

    #[test]
    fn changing_a_clone_copies_only_the_way_to_the_change() {
        let mut trie = Trie::default();
        for key in 0..64 * 64 {
            trie.insert(key, Arc::new(key));
        }
        let mut clone = trie.clone();
        clone.insert(0, Arc::new(7));
        let shared = (0..64 * 64)
            .filter(|&key| Arc::ptr_eq(trie.get(key).unwrap(), clone.get(key).unwrap()));
        assert_eq!(shared.count(), 64 * 64 - 1);
        // The far end stands in a node that both still hold: one count from that node.
        assert_eq!(Arc::strong_count(trie.get(4095).unwrap()), 1);
        assert_eq!(Arc::strong_count(trie.get(1).unwrap()), 2);
    }
}
