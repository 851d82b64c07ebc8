//! 128 KiB of a file: which pages are allocated, and the memory behind those that were written.

use std::ops::Range;

use bytes::Bytes;

use super::arena::{Density, PageAddress};
use super::memory::{OutOfMemory, Run, joined};
use super::pages::{CHUNK_PAGES, PageSet};
use super::{CHUNK_SIZE, PAGE};

/// Part of a file's content. Shared between files and trees by `Arc`, and then never changed.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Pages that are charged for.
    allocated: PageSet,
    /// Pages that `SEEK_DATA` finds; of the allocated ones.
    data: PageSet,
    /// Pages whose bytes are in memory; of the data ones. All others read as zeros, and what the
    /// memory holds in their place is unspecified: recycled memory need not be cleared.
    written: PageSet,
    /// The page that the memory begins with.
    first: u32,
    /// Covers every written page.
    memory: Memory,
}

/// The bytes behind a chunk.
#[derive(Debug)]
enum Memory {
    Own(Run),
    /// The caller's, as the tree was given them: read, and never written. Boxed, so that the many chunks that have
    /// their own do not pay for it.
    External(Box<External>),
}

/// A whole chunk of bytes that the caller gave, and all of those, so that chunks that follow each other can be read
/// in one piece.
#[derive(Debug)]
struct External {
    all: Bytes,
    start: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::Own(Run::default())
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(run) => run.bytes(),
            Self::External(bytes) => &bytes.all[bytes.start..bytes.start + CHUNK_SIZE],
        }
    }

    fn own(&self) -> Option<&Run> {
        match self {
            Self::Own(run) => Some(run),
            Self::External(_) => None,
        }
    }

    fn pages(&self) -> u32 {
        self.own().map_or(CHUNK_PAGES, Run::pages)
    }

    fn run_mut(&mut self) -> &mut Run {
        match self {
            Self::Own(run) => run,
            Self::External(_) => {
                unreachable!("a chunk of external bytes is duplicated before it is changed")
            }
        }
    }
}

impl Chunk {
    /// All pages, behind which stand the bytes from `start` on.
    pub fn external(all: Bytes, start: usize) -> Self {
        debug_assert!(start + CHUNK_SIZE <= all.len());
        let pages = PageSet::range(0..CHUNK_PAGES);
        Self {
            allocated: pages,
            data: pages,
            written: pages,
            first: 0,
            memory: Memory::External(Box::new(External { all, start })),
        }
    }

    /// A range over chunks that follow each other in one of the external byte strings.
    pub fn external_in_one_piece<'a>(
        mut chunks: impl Iterator<Item = &'a Self>,
        range: Range<usize>,
    ) -> Option<Bytes> {
        let external = |chunk: &'a Self| match &chunk.memory {
            Memory::External(bytes) => Some(&**bytes),
            Memory::Own(_) => None,
        };
        let first = external(chunks.next()?)?;
        let all_follow = (1..).zip(chunks).all(|(index, chunk)| {
            external(chunk).is_some_and(|next| {
                next.all.as_ptr() == first.all.as_ptr()
                    && next.start == first.start + index * CHUNK_SIZE
            })
        });
        all_follow.then(|| {
            first
                .all
                .slice(first.start + range.start..first.start + range.end)
        })
    }

    /// Whether it has to be [duplicated](Self::duplicate) before it is changed, also where it is not shared.
    pub fn is_external(&self) -> bool {
        matches!(self.memory, Memory::External(_))
    }

    pub fn allocated(&self) -> PageSet {
        self.allocated
    }

    pub fn data(&self) -> PageSet {
        self.data
    }

    pub fn written(&self) -> PageSet {
        self.written
    }

    /// The bytes of a range whose pages are all written.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        let start = self.first as usize * PAGE;
        &self.memory.bytes()[range.start - start..range.end - start]
    }

    /// Bytes from a range of the first chunk on, through the chunks that follow it in the file, when
    /// their memory lies in one piece as well. The range counts from the start of the first.
    pub fn joined<'a>(
        chunks: impl Iterator<Item = &'a Self> + Clone,
        range: Range<usize>,
    ) -> Option<&'a [u8]> {
        if chunks.clone().skip(1).any(|chunk| chunk.first != 0) {
            return None;
        }
        let skipped = chunks.clone().next()?.first as usize * PAGE;
        if chunks.clone().any(Self::is_external) {
            return None;
        }
        joined(
            chunks.filter_map(|chunk| chunk.memory.own()),
            range.start - skipped..range.end - skipped,
        )
    }

    /// Where memory would go on behind this chunk, if it reaches to the chunk's end.
    pub fn memory_behind(&self) -> Option<PageAddress> {
        let run = self.memory.own()?;
        (self.first + run.pages() == CHUNK_PAGES).then(|| run.end())
    }

    fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        let start = self.first as usize * PAGE;
        &mut self.memory.run_mut().bytes_mut()[range.start - start..range.end - start]
    }

    /// Appends a range to `out`, zeros where nothing was written.
    pub fn gather(&self, range: Range<usize>, out: &mut Vec<u8>) {
        for (written, piece) in self.written.pieces(range) {
            if written {
                out.extend_from_slice(self.bytes(piece));
            } else {
                out.resize(out.len() + piece.len(), 0);
            }
        }
    }

    /// Writes at a byte offset; the pages it touches become allocated and written. New memory is
    /// taken at `wish` if it is free there.
    pub fn write(
        &mut self,
        at: usize,
        data: &[u8],
        wish: Option<PageAddress>,
    ) -> Result<(), OutOfMemory> {
        let range = at..at + data.len();
        let pages = PageSet::touching(&range);
        self.cover(pages, wish)?;
        self.clear_edges(&range, pages);
        self.bytes_mut(range).copy_from_slice(data);
        self.allocated = self.allocated.or(pages);
        self.data = self.data.or(pages);
        self.written = self.written.or(pages);
        Ok(())
    }

    /// Zeros what a write leaves over in a first and a last page that were not written before.
    fn clear_edges(&mut self, range: &Range<usize>, pages: PageSet) {
        let hull = pages.hull();
        let head = hull.start as usize * PAGE..range.start;
        let tail = range.end..hull.end as usize * PAGE;
        if !self.written.has(hull.start) {
            self.bytes_mut(head).fill(0);
        }
        if !self.written.has(hull.end - 1) {
            self.bytes_mut(tail).fill(0);
        }
    }

    /// Marks pages as allocated without writing them.
    ///
    /// Those that were so before become data, as tmpfs does: see `SGP_FALLOC` in Linux' mm/shmem.c.
    pub fn allocate(&mut self, pages: PageSet) {
        self.data = self.data.or(self.allocated.and(pages));
        self.allocated = self.allocated.or(pages);
    }

    /// Frees pages.
    pub fn free(&mut self, pages: PageSet) {
        self.forget(pages);
        self.allocated = self.allocated.without(pages);
    }

    /// Makes pages read as zeros and be holes for `SEEK_DATA`, leaving them allocated.
    pub fn forget(&mut self, pages: PageSet) {
        let lost = self.written.and(pages);
        self.data = self.data.without(pages);
        self.written = self.written.without(pages);
        self.release(lost);
    }

    /// Zeros the bytes of a range that were written; allocates nothing.
    pub fn zero(&mut self, range: Range<usize>) {
        for (written, piece) in self.written.pieces(range) {
            if written {
                self.bytes_mut(piece).fill(0);
            }
        }
    }

    /// A chunk with the same pages and its own memory, for a write to `pages`.
    ///
    /// `overwritten` pages are not copied: they read as zeros until they are written.
    pub fn duplicate(&self, pages: PageSet, overwritten: PageSet) -> Result<Self, OutOfMemory> {
        let written = self.written.without(overwritten);
        let window = written.or(pages).hull();
        let density = self.density(&window, pages);
        let memory = self.move_to(window.clone(), density, None, written)?;
        let (allocated, data, first) = (self.allocated, self.data, window.start);
        Ok(Self {
            allocated,
            data,
            written,
            first,
            memory: Memory::Own(memory),
        })
    }

    /// Sees to it that the memory covers `pages`.
    fn cover(&mut self, pages: PageSet, wish: Option<PageAddress>) -> Result<(), OutOfMemory> {
        let now = self.first..self.first + self.memory.pages();
        if PageSet::range(now.clone()).holds(pages) {
            return Ok(());
        }
        let mut window = self.written.or(pages).hull();
        let density = self.density(&window, pages);
        let appends = !now.is_empty() && window.start == now.start && pages.hull().start <= now.end;
        if appends {
            if self.memory.run_mut().extend(window.end - now.end) {
                return Ok(());
            }
            // Something stands behind: with half as much again, appending copies each page twice
            // at most before the chunk is full.
            window.end = window
                .end
                .max(now.end + now.len() as u32 / 2)
                .min(CHUNK_PAGES);
        }
        self.memory = Memory::Own(self.move_to(window.clone(), density, wish, self.written)?);
        self.first = window.start;
        Ok(())
    }

    /// The memory for a window of pages, when `pages` are to be written: dense only where all of
    /// it is charged for, so that holes take no memory.
    fn density(&self, window: &Range<u32>, pages: PageSet) -> Density {
        match self
            .allocated
            .or(pages)
            .holds(PageSet::range(window.clone()))
        {
            true => Density::Dense,
            false => Density::Sparse,
        }
    }

    /// New memory for a window of pages, holding the bytes of `keep`.
    fn move_to(
        &self,
        window: Range<u32>,
        density: Density,
        wish: Option<PageAddress>,
        keep: PageSet,
    ) -> Result<Run, OutOfMemory> {
        let mut memory = Run::new(window.end - window.start, density, wish)?;
        let base = window.start as usize * PAGE;
        for run in keep.runs() {
            let (start, end) = (run.start as usize * PAGE, run.end as usize * PAGE);
            memory.bytes_mut()[start - base..end - base].copy_from_slice(self.bytes(start..end));
        }
        Ok(memory)
    }

    /// Gives back memory that holds nothing written, after `lost` pages were.
    fn release(&mut self, lost: PageSet) {
        if self.written.is_empty() {
            self.memory = Memory::default();
            self.first = 0;
            return;
        }
        let hull = self.written.hull();
        let end = self.first + self.memory.pages();
        if hull.start > self.first || hull.end < end {
            self.memory
                .run_mut()
                .trim(hull.start - self.first, end - hull.end);
            self.first = hull.start;
        }
        for run in lost.and(PageSet::range(hull)).runs() {
            self.memory
                .run_mut()
                .discard(run.start - self.first..run.end - self.first);
        }
    }
}
