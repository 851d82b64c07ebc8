//! Memory for content, in runs of whole pages. All unsafe code of the store is here.
//!
//! It comes from anonymous maps of 2 MiB and not from the allocator of the program, which keeps
//! what lies below anything still in use, and which gives a new 4 KiB page at the price of a fault.

use std::ops::Range;
use std::ptr::NonNull;
use std::slice;
use std::sync::OnceLock;

use memmap2::{Advice, Mmap, MmapOptions, MmapRaw, UncheckedAdvice};
use parking_lot::Mutex;

use super::PAGE;
use super::arena::{Arena, Density, PageAddress, REGION_PAGES};

const REGION_SIZE: usize = REGION_PAGES as usize * PAGE;
/// Zeros that can be had without taking memory: more than the kernel asks for at once.
const ZEROS_SIZE: usize = 2 * 1024 * 1024;

/// The memory of all trees: they share content. Nothing else is locked while this is.
static ARENA: Mutex<Arena<Map>> = Mutex::new(Arena::new());

/// The system has no memory left.
#[derive(Debug)]
pub(super) struct OutOfMemory;

/// 2 MiB of memory at a multiple of 2 MiB, without which it could be no huge page.
#[derive(Debug)]
struct Map {
    raw: MmapRaw,
    /// Where the aligned part begins.
    offset: usize,
}

impl Map {
    /// One huge page where `resident`, and small pages as they are needed otherwise.
    fn new(resident: bool) -> Result<Self, OutOfMemory> {
        let map = Self::aligned().ok_or(OutOfMemory)?;
        // Advice, which not every system takes: without it all is only slower.
        if resident {
            let _ = map
                .raw
                .advise_range(Advice::HugePage, map.offset, REGION_SIZE);
            let _ = map.populate(0..REGION_PAGES);
        } else {
            let _ = map
                .raw
                .advise_range(Advice::NoHugePage, map.offset, REGION_SIZE);
        }
        Ok(map)
    }

    /// Newer kernels align large maps themselves. Elsewhere it takes a larger one; what is not
    /// touched of it costs nothing.
    fn aligned() -> Option<Self> {
        [REGION_SIZE, 2 * REGION_SIZE].into_iter().find_map(|size| {
            let map = MmapOptions::new()
                .len(size)
                .no_reserve_swap()
                .map_anon()
                .ok()?;
            let raw = MmapRaw::from(map);
            let offset = raw.as_mut_ptr().align_offset(REGION_SIZE);
            (offset + REGION_SIZE <= size).then_some(Self { raw, offset })
        })
    }

    fn page(&self, page: u32) -> NonNull<u8> {
        let offset = self.offset + page as usize * PAGE;
        // SAFETY: `page` is below REGION_PAGES, so this stays within the map, which is never null.
        unsafe { NonNull::new_unchecked(self.raw.as_mut_ptr().add(offset)) }
    }

    fn bytes_of(&self, pages: &Range<u32>) -> (usize, usize) {
        let len = (pages.end - pages.start) as usize * PAGE;
        (self.offset + pages.start as usize * PAGE, len)
    }

    /// Takes memory for pages in one go, which costs a third of taking it page by page.
    fn populate(&self, pages: Range<u32>) -> std::io::Result<()> {
        let (offset, len) = self.bytes_of(&pages);
        self.raw.advise_range(Advice::PopulateWrite, offset, len)
    }

    /// Gives the memory behind pages back; they read as zeros afterwards.
    ///
    /// # Safety
    ///
    /// There must be no reference into these pages.
    unsafe fn discard(&self, pages: Range<u32>) {
        let (offset, len) = self.bytes_of(&pages);
        // SAFETY: the caller sees to it that no reference sees the bytes change.
        let _ = unsafe {
            self.raw
                .unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len)
        };
    }
}

/// A run of pages of memory, owned. What it holds at first is unspecified.
#[derive(Debug)]
pub(super) struct Run {
    start: NonNull<u8>,
    pages: u32,
    place: PageAddress,
    density: Density,
}

// SAFETY: a run owns its pages as a Box<[u8]> does; the map behind them stays while it lives.
unsafe impl Send for Run {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Run {}

impl Default for Run {
    /// No memory at all.
    fn default() -> Self {
        let (start, place) = (NonNull::dangling(), PageAddress::default());
        Self {
            start,
            pages: 0,
            place,
            density: Density::Dense,
        }
    }
}

impl Run {
    /// Takes memory, behind `wish` if it is free there.
    pub fn new(
        pages: u32,
        density: Density,
        wish: Option<PageAddress>,
    ) -> Result<Self, OutOfMemory> {
        if pages == 0 {
            return Ok(Self::default());
        }
        loop {
            let mut arena = ARENA.lock();
            if let Some((place, ready)) = arena.take(density, pages, wish) {
                let map = arena.map(place);
                if !ready {
                    let _ = map.populate(place.page..place.page + pages);
                }
                return Ok(Self {
                    start: map.page(place.page),
                    pages,
                    place,
                    density,
                });
            }
            // A small job should not wait for a huge page to be cleared.
            let resident = density == Density::Dense && arena.has_any(Density::Dense);
            drop(arena); // a map takes its time, so not under the lock
            let map = Map::new(resident)?;
            ARENA.lock().add(density, map, resident);
        }
    }

    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Where memory behind this run would begin.
    pub fn end(&self) -> PageAddress {
        self.place.plus(self.pages)
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the arena gave these pages to this run alone, in a map that stays while any page
        // of it is in use. They are initialised: anonymous memory is zero, or was written since.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.pages as usize * PAGE) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; the run is borrowed mutably, so there is no other reference.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.pages as usize * PAGE) }
    }

    /// Takes more pages right behind, if they are free.
    pub fn extend(&mut self, more: u32) -> bool {
        if self.pages == 0 {
            return false;
        }
        let mut arena = ARENA.lock();
        let Some(ready) = arena.extend(self.place, self.pages, more) else {
            return false;
        };
        if !ready {
            let end = self.end().page;
            let _ = arena.map(self.place).populate(end..end + more);
        }
        self.pages += more;
        true
    }

    /// Gives the first and the last pages back.
    pub fn trim(&mut self, front: u32, back: u32) {
        let kept = self.pages - front - back;
        give_back(self.place, front, self.density);
        give_back(self.place.plus(front + kept), back, self.density);
        self.place = self.place.plus(front);
        // SAFETY: `front` is not more than the pages of the run, so this stays within it.
        self.start = unsafe { self.start.add(front as usize * PAGE) };
        self.pages = kept;
    }

    /// Gives the memory behind some pages back, but not the pages.
    pub fn discard(&mut self, pages: Range<u32>) {
        let pages = self.place.page + pages.start..self.place.page + pages.end;
        let arena = ARENA.lock();
        // SAFETY: the pages are this run's, which is borrowed mutably.
        unsafe { arena.map(self.place).discard(pages) };
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        give_back(self.place, self.pages, self.density);
    }
}

/// Gives pages back that their run does not use any more, and to the system what is too much.
fn give_back(place: PageAddress, pages: u32, density: Density) {
    if pages == 0 {
        return;
    }
    let mut arena = ARENA.lock();
    if density == Density::Sparse {
        // SAFETY: the pages belong to a run that gives them up, and to no other yet.
        unsafe { arena.map(place).discard(place.page..place.page + pages) };
    }
    let unused = arena.free(place, pages);
    if let Some((map, ranges)) = arena.excess() {
        for range in ranges {
            // SAFETY: the pages are free, and stay so while the arena is locked.
            unsafe { map.discard(range) };
        }
    }
    drop(arena);
    drop(unused); // unmapping takes its time, so not under the lock
}

/// Bytes from the first of `runs` on, when the runs stand one behind the other in one region.
///
/// `None` when they do not, or when `bytes` reaches past them.
pub(super) fn joined<'a>(
    mut runs: impl Iterator<Item = &'a Run>,
    bytes: Range<usize>,
) -> Option<&'a [u8]> {
    let first = runs.next()?;
    let mut end = first.end();
    let mut len = first.bytes().len();
    for run in runs {
        if run.place != end || run.pages == 0 {
            return None;
        }
        end = run.end();
        len += run.bytes().len();
    }
    if bytes.start > bytes.end || bytes.end > len {
        return None;
    }
    // SAFETY: the runs lie one behind the other in the same map, and all are borrowed for 'a; the
    // range is within them.
    Some(unsafe {
        slice::from_raw_parts(
            first.start.as_ptr().add(bytes.start),
            bytes.end - bytes.start,
        )
    })
}

/// This many zeros, if they are not too many. They take no memory: an anonymous map that is only
/// read has the kernel's one page of zeros everywhere.
pub(super) fn zeros(len: usize) -> Option<&'static [u8]> {
    static ZEROS: OnceLock<Option<Mmap>> = OnceLock::new();
    let map = ZEROS.get_or_init(|| {
        let map = MmapOptions::new()
            .len(ZEROS_SIZE)
            .no_reserve_swap()
            .map_anon()
            .ok()?;
        map.make_read_only().ok()
    });
    match map {
        _ if len == 0 => Some(&[]),
        Some(map) => map.get(..len),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Marks every page of a run, so that any other write there is seen.
    fn mark(run: &mut Run, with: u8) {
        run.bytes_mut()
            .chunks_mut(PAGE)
            .for_each(|page| page[..8].fill(with));
    }

    fn is_marked(run: &Run, with: u8) -> bool {
        run.bytes().chunks(PAGE).all(|page| page[..8] == [with; 8])
    }

    /// Takes and gives back more than may stay idle, in an order that leaves gaps everywhere.
    fn churn(seed: u32) {
        let mut random = seed;
        let mut next = move |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        let mut runs: Vec<(Run, u8)> = Vec::new();
        for step in 0..6_000 {
            if step % 2_000 < 1_000 || runs.is_empty() {
                let density = if next(8) == 0 {
                    Density::Sparse
                } else {
                    Density::Dense
                };
                let mut run = Run::new(1 + next(32), density, None).expect("there is memory");
                mark(&mut run, step as u8);
                runs.push((run, step as u8));
            } else {
                let at = next(runs.len() as u32) as usize;
                let (mut run, with) = runs.swap_remove(at);
                assert!(is_marked(&run, with), "somebody else wrote here");
                let before = run.pages();
                if run.extend(1) {
                    run.bytes_mut()[before as usize * PAGE..].fill(with);
                }
                run.trim(1, run.pages() / 2);
                assert!(is_marked(&run, with));
            }
        }
        assert!(runs.iter().all(|(run, with)| is_marked(run, *with)));
    }

    #[test]
    fn nobody_writes_into_memory_of_another() {
        let threads: Vec<_> = (1..5)
            .map(|seed| thread::spawn(move || churn(seed)))
            .collect();
        for thread in threads {
            thread
                .join()
                .expect("the thread found its memory as it left it");
        }
    }

    #[test]
    fn sparse_memory_begins_as_zeros_also_when_it_was_used_before() {
        for _ in 0..100 {
            let mut run = Run::new(32, Density::Sparse, None).expect("there is memory");
            assert!(run.bytes().iter().all(|&byte| byte == 0));
            run.bytes_mut().fill(1);
        }
    }

    #[test]
    fn runs_are_joined_only_in_order() {
        let mut runs: Vec<Run> = Vec::new();
        while runs.len() < 2 {
            let wish = runs.last().map(Run::end);
            let run = Run::new(2, Density::Dense, wish).expect("there is memory");
            if wish.is_some_and(|wish| wish != run.place) {
                runs.clear(); // a test beside this one took it
            }
            runs.push(run);
        }
        mark(&mut runs[0], 1);
        mark(&mut runs[1], 2);
        let bytes = joined(runs.iter(), PAGE..3 * PAGE).expect("they stand side by side");
        assert_eq!((bytes[0], bytes[PAGE], bytes.len()), (1, 2, 2 * PAGE));
        assert!(joined(runs.iter().rev(), PAGE..3 * PAGE).is_none());
        assert!(joined(runs.iter(), PAGE..4 * PAGE + 1).is_none());
    }
}
