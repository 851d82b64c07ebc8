//! Which memory is in use: regions of 2 MiB, handed out in runs of pages.
//!
//! Pure bookkeeping, over maps of whatever kind; `memory` does what it decides.
//!
//! *Dense* memory is for content that fills it. Its regions, but for the first, are resident as a
//! whole (one huge page, where the system grants it: in a virtual machine that made first writes ten
//! times as fast as faulting 4 KiB pages in), and pages that come back are handed out again as they
//! are. *Sparse* memory is for content with holes; only pages that are touched become resident.
//!
//! Runs are taken from the fullest region that fits, lowest region first, so that regions empty and
//! can be given back to the system. Free pages of regions that are still in use are given back as
//! well once there are more than a few MiB of them.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// Pages in a region: 2 MiB, the size of a huge page.
pub(super) const REGION_PAGES: u32 = 512;
/// Pages of the longest run that is asked for: a chunk.
const LONGEST: u32 = 32;
/// Free pages that may stay resident for the next writes: 8 MiB.
const IDLE_MAX: u32 = 2048;
/// Regions without anything in them that are kept for the next writes.
const EMPTY_MAX: u32 = 2;

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Density {
    /// All of it will be written.
    Dense,
    /// Perhaps only some pages of it: must cost nothing before it is touched.
    Sparse,
}

/// A page of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageAddress {
    pub region: u32,
    pub page: u32,
}

impl PageAddress {
    /// The address some pages further.
    pub fn plus(self, pages: u32) -> Self {
        Self {
            page: self.page + pages,
            ..self
        }
    }
}

#[derive(Debug)]
struct Region<M> {
    map: M,
    density: Density,
    free: Bits,
    /// Dense pages that have memory behind them.
    resident: Bits,
    /// No free run is longer; not always the length of one. At most [`LONGEST`].
    longest: u32,
    /// Whether it stands in the queue of those with idle pages.
    queued: bool,
}

/// All regions.
#[derive(Debug)]
pub(super) struct Arena<M> {
    regions: Vec<Option<Region<M>>>,
    vacant: Vec<u32>,
    /// By density: regions by the longest run that they may have free.
    bins: [[BTreeSet<u32>; LONGEST as usize + 1]; 2],
    /// Pages that are free and resident, in all dense regions.
    idle: u32,
    /// Regions that got idle pages, longest ago first.
    queue: VecDeque<u32>,
    /// Regions that are all free.
    empty: u32,
}

impl<M> Arena<M> {
    pub const fn new() -> Self {
        Self {
            regions: Vec::new(),
            vacant: Vec::new(),
            bins: [const { [const { BTreeSet::new() }; LONGEST as usize + 1] }; 2],
            idle: 0,
            queue: VecDeque::new(),
            empty: 0,
        }
    }

    fn region(&mut self, id: u32) -> &mut Region<M> {
        self.regions[id as usize]
            .as_mut()
            .expect("a region with pages in use is there")
    }

    /// The map of a region that has pages in use.
    pub fn map(&self, address: PageAddress) -> &M {
        let region = self.regions[address.region as usize].as_ref();
        &region.expect("a region with pages in use is there").map
    }

    /// Whether there is a region of this density.
    pub fn has_any(&self, density: Density) -> bool {
        self.bins[density as usize]
            .iter()
            .any(|bin| !bin.is_empty())
    }

    /// Adds a region, whose pages are free, and either all resident or none.
    pub fn add(&mut self, density: Density, map: M, resident: bool) {
        let resident = if resident { Bits::FULL } else { Bits::EMPTY };
        let region = Region {
            map,
            density,
            free: Bits::FULL,
            resident,
            longest: LONGEST,
            queued: false,
        };
        let id = self.vacant.pop().unwrap_or(self.regions.len() as u32);
        if id as usize == self.regions.len() {
            self.regions.push(None);
        }
        self.regions[id as usize] = Some(region);
        self.idle += resident.count();
        self.empty += 1;
        self.bin(density, LONGEST).insert(id);
    }

    fn bin(&mut self, density: Density, longest: u32) -> &mut BTreeSet<u32> {
        &mut self.bins[density as usize][longest as usize]
    }

    /// Takes a run: at `wish` if it is free there, otherwise where it fits best. `None` when a
    /// region must be added first. Tells whether memory is behind all of it already.
    pub fn take(
        &mut self,
        density: Density,
        pages: u32,
        wish: Option<PageAddress>,
    ) -> Option<(PageAddress, bool)> {
        if let Some(wish) = wish
            && self.has_free(density, wish, pages)
        {
            return Some((wish, self.mark(wish, pages)));
        }
        loop {
            let ids = self.bins[density as usize][pages as usize..]
                .iter()
                .find_map(BTreeSet::first);
            let id = *ids?;
            let region = self.region(id);
            match region.free.runs().find(|run| run.end - run.start >= pages) {
                Some(run) => {
                    let address = PageAddress {
                        region: id,
                        page: run.start,
                    };
                    return Some((address, self.mark(address, pages)));
                }
                None => {
                    let longest = region.free.runs().map(|run| run.end - run.start).max();
                    self.rebin(id, longest.unwrap_or(0));
                }
            }
        }
    }

    /// Takes the pages behind a run, if they are free. As [`take`](Self::take), tells of memory.
    pub fn extend(&mut self, address: PageAddress, pages: u32, more: u32) -> Option<bool> {
        let density = self.region(address.region).density;
        let behind = address.plus(pages);
        self.has_free(density, behind, more)
            .then(|| self.mark(behind, more))
    }

    fn has_free(&self, density: Density, address: PageAddress, pages: u32) -> bool {
        let range = address.page..address.page + pages;
        let region = self
            .regions
            .get(address.region as usize)
            .and_then(Option::as_ref);
        range.end <= REGION_PAGES
            && region.is_some_and(|region| region.density == density && region.free.holds(range))
    }

    /// Marks free pages as used; whether all were resident.
    fn mark(&mut self, address: PageAddress, pages: u32) -> bool {
        let range = address.page..address.page + pages;
        let region = self.region(address.region);
        let was_empty = region.free == Bits::FULL;
        let resident = region.resident.count_in(range.clone());
        region.free.clear(range.clone());
        if region.density == Density::Dense {
            region.resident.fill(range);
        }
        let ready = region.density == Density::Sparse || resident == pages;
        self.idle -= resident;
        self.empty -= u32::from(was_empty);
        ready
    }

    /// Gives a run back. Returns the region's map when the system should have it back.
    ///
    /// Sparse memory must have been emptied before.
    pub fn free(&mut self, address: PageAddress, pages: u32) -> Option<M> {
        let region = self.region(address.region);
        region.free.fill(address.page..address.page + pages);
        let merged = region.free.run_around(address.page, LONGEST);
        let longest = region.longest.max(merged);
        let all_free = region.free == Bits::FULL;
        let dense = region.density == Density::Dense;
        let join_queue = dense && !std::mem::replace(&mut region.queued, dense);
        self.rebin(address.region, longest);
        self.idle += if dense { pages } else { 0 };
        if join_queue {
            self.queue.push_back(address.region);
        }
        if !all_free {
            return None;
        }
        self.empty += 1;
        // A kept sparse region costs nothing but saves nothing either.
        (self.empty > EMPTY_MAX || !dense)
            .then(|| self.remove(address.region))
            .flatten()
    }

    fn remove(&mut self, id: u32) -> Option<M> {
        let region = self.regions[id as usize].take()?;
        self.bin(region.density, region.longest).remove(&id);
        self.vacant.push(id);
        self.idle -= region.resident.and(region.free).count();
        self.empty -= 1;
        Some(region.map)
    }

    fn rebin(&mut self, id: u32, longest: u32) {
        let region = self.region(id);
        let density = region.density;
        let before = std::mem::replace(&mut region.longest, longest.min(LONGEST));
        if before != longest.min(LONGEST) {
            self.bin(density, before).remove(&id);
            self.bin(density, longest.min(LONGEST)).insert(id);
        }
    }

    /// Free pages whose memory should go back to the system, if too many are idle.
    pub fn excess(&mut self) -> Option<(&M, Vec<Range<u32>>)> {
        while self.idle > IDLE_MAX {
            let id = self.queue.pop_front()?;
            let Some(region) = self.regions[id as usize].as_mut() else {
                continue;
            };
            region.queued = false;
            let idle = region.free.and(region.resident);
            if idle == Bits::EMPTY {
                continue;
            }
            self.idle -= idle.count();
            let ranges: Vec<_> = idle.runs().collect();
            for range in &ranges {
                region.resident.clear(range.clone());
            }
            return self.regions[id as usize]
                .as_ref()
                .map(|region| (&region.map, ranges));
        }
        None
    }
}

/// A set of the pages of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits([u64; REGION_PAGES as usize / 64]);

impl Bits {
    const EMPTY: Self = Self([0; REGION_PAGES as usize / 64]);
    const FULL: Self = Self([u64::MAX; REGION_PAGES as usize / 64]);

    /// The words that a range touches, with a mask of its bits in each.
    fn masks(range: Range<u32>) -> impl Iterator<Item = (usize, u64)> {
        (range.start / 64..range.end.div_ceil(64)).map(move |word| {
            let start = range.start.max(word * 64) - word * 64;
            let end = range.end.min(word * 64 + 64) - word * 64;
            (word as usize, (u64::MAX >> (64 - (end - start))) << start)
        })
    }

    fn fill(&mut self, range: Range<u32>) {
        Self::masks(range).for_each(|(word, mask)| self.0[word] |= mask);
    }

    fn clear(&mut self, range: Range<u32>) {
        Self::masks(range).for_each(|(word, mask)| self.0[word] &= !mask);
    }

    fn holds(&self, range: Range<u32>) -> bool {
        Self::masks(range).all(|(word, mask)| self.0[word] & mask == mask)
    }

    fn has(&self, page: u32) -> bool {
        self.0[page as usize / 64] >> (page % 64) & 1 == 1
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn count_in(&self, range: Range<u32>) -> u32 {
        Self::masks(range)
            .map(|(word, mask)| (self.0[word] & mask).count_ones())
            .sum()
    }

    fn and(&self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The first page at or after `page` that is in the set (or is not).
    fn next(&self, page: u32, wanted: bool) -> Option<u32> {
        if page >= REGION_PAGES {
            return None;
        }
        let flip = if wanted { 0 } else { u64::MAX };
        let first = page as usize / 64;
        let head = (self.0[first] ^ flip) & (u64::MAX << (page % 64));
        let rest = self.0[first + 1..].iter().map(|word| word ^ flip);
        let mut words = std::iter::once(head).chain(rest).zip(first as u32..);
        words
            .find(|(bits, _)| *bits != 0)
            .map(|(bits, word)| word * 64 + bits.trailing_zeros())
    }

    /// The runs of neighbouring pages.
    fn runs(self) -> impl Iterator<Item = Range<u32>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true)?;
            at = self.next(start, false).unwrap_or(REGION_PAGES);
            Some(start..at)
        })
    }

    /// The length of the run that `page` is in, as far as `limit` matters.
    fn run_around(&self, page: u32, limit: u32) -> u32 {
        let before = (page.saturating_sub(limit)..page)
            .rev()
            .take_while(|page| self.has(*page));
        let end = self.next(page, false).unwrap_or(REGION_PAGES);
        (before.count() as u32 + end - page).min(limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What must always hold.
    fn check(arena: &Arena<u32>, used: &[(PageAddress, u32, Density)]) {
        let (mut idle, mut empty) = (0, 0);
        for (id, region) in arena.regions.iter().enumerate() {
            let Some(region) = region else { continue };
            let mut free = Bits::FULL;
            for (address, pages, density) in used.iter().filter(|(at, ..)| at.region == id as u32) {
                assert!(
                    free.holds(address.page..address.page + pages),
                    "given out twice"
                );
                assert_eq!(*density, region.density);
                free.clear(address.page..address.page + pages);
            }
            assert_eq!(free, region.free);
            let longest = free
                .runs()
                .map(|run| run.end - run.start)
                .max()
                .unwrap_or(0);
            assert!(region.longest >= longest.min(LONGEST));
            let bin = &arena.bins[region.density as usize][region.longest as usize];
            assert!(bin.contains(&(id as u32)));
            idle += free.and(region.resident).count();
            empty += u32::from(free == Bits::FULL);
        }
        assert_eq!(idle, arena.idle);
        assert_eq!(empty, arena.empty);
        let binned: usize = arena.bins.iter().flatten().map(BTreeSet::len).sum();
        assert_eq!(binned, arena.regions.iter().flatten().count());
    }

    proptest! {
        #[test]
        fn no_page_is_given_out_twice_and_the_books_are_right(
            ops in prop::collection::vec((0..4u8, 1..=LONGEST, any::<prop::sample::Index>()), 1..400),
        ) {
            let mut arena = Arena::new();
            let mut used: Vec<(PageAddress, u32, Density)> = Vec::new();
            for (op, pages, which) in ops {
                let density = if pages % 5 == 0 { Density::Sparse } else { Density::Dense };
                match op {
                    0 | 1 => {
                        let neighbour = used.get(which.index(used.len() + 1));
                        let wish = neighbour.map(|(at, len, _)| at.plus(*len));
                        let (address, _) = arena.take(density, pages, wish).unwrap_or_else(|| {
                            arena.add(density, 0, density == Density::Dense && pages % 2 == 0);
                            arena.take(density, pages, None).unwrap()
                        });
                        used.push((address, pages, density));
                    }
                    2 if !used.is_empty() => {
                        let (address, len, _) = used.swap_remove(which.index(used.len()));
                        arena.free(address, len);
                        while let Some((_, ranges)) = arena.excess() { assert!(!ranges.is_empty()) }
                        prop_assert!(arena.idle <= IDLE_MAX);
                    }
                    3 if !used.is_empty() => {
                        let at = which.index(used.len());
                        let (address, len, _) = used[at];
                        let more = pages.min(LONGEST - len);
                        if more > 0 && arena.extend(address, len, more).is_some() {
                            used[at].1 += more;
                        }
                    }
                    _ => {}
                }
                check(&arena, &used);
            }
            for (address, len, _) in used.drain(..) {
                arena.free(address, len);
            }
            check(&arena, &[]);
            prop_assert!(arena.regions.iter().flatten().count() <= EMPTY_MAX as usize);
        }
    }

    #[test]
    fn neighbours_are_taken_in_order() {
        let mut arena = Arena::new();
        arena.add(Density::Dense, (), true);
        let (first, ready) = arena.take(Density::Dense, 32, None).unwrap();
        assert!(ready);
        assert_eq!(
            arena.take(Density::Dense, 32, None),
            Some((first.plus(32), true))
        );
        assert_eq!(
            arena.take(Density::Dense, 8, Some(first.plus(100))),
            Some((first.plus(100), true))
        );
        assert_eq!(arena.extend(first.plus(32), 32, 36), Some(true));
        assert_eq!(arena.extend(first.plus(32), 68, 1), None);
    }
}
