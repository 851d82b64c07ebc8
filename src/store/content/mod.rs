//! A file's bytes: read, write, truncate, holes, allocated pages; shared until written.
//!
//! A file is a sparse map of 128 KiB chunks. A chunk knows which of its 32 pages are allocated
//! (charged for) and which were written (in memory); its memory grows with what is written, so that
//! a small file costs its pages and appending never copies more than a chunk. Chunks are shared by
//! `Arc` between forks, copies and readers; a write to a shared one copies that chunk.

mod arena;
mod chunk;
mod copy;
mod data;
mod memory;
mod pages;
mod space;

use std::ops::Range;
use std::sync::Arc;

use arena::PageAddress;
use bytes::Bytes;
use chunk::Chunk;
pub use data::Data;
use memory::OutOfMemory;
use pages::PageSet;
use smallvec::SmallVec;

use super::error::StoreError;
use super::quota::{PAGE_SIZE, Quota, Resource};
use super::trie::Trie;

const PAGE: usize = PAGE_SIZE as usize;
const CHUNK_SIZE: usize = 128 * 1024;
const CHUNK_BYTES: u64 = CHUNK_SIZE as u64;
const CHUNK_PAGES: u64 = CHUNK_BYTES / PAGE_SIZE;

/// The largest size of a file: the largest offset that the kernel can express.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// The content of a regular file. Cloning it shares all bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    size: u64,
    /// Allocated pages, also past the end.
    pages: u64,
    /// By offset / 128 KiB. A chunk that is here has at least one allocated page.
    chunks: Trie<Arc<Chunk>>,
}

/// A range's part in one chunk.
struct Part {
    index: u64,
    bytes: Range<usize>,
}

/// Cuts a range of the file at the chunks' boundaries.
fn parts(range: Range<u64>) -> impl Iterator<Item = Part> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let part = part_at(at, range.end);
        at += part.bytes.len() as u64;
        Some(part)
    })
}

/// The first part of a range.
fn part_at(at: u64, end: u64) -> Part {
    let start = (at % CHUNK_BYTES) as usize;
    let len = (end - at).min((CHUNK_SIZE - start) as u64) as usize;
    Part {
        index: at / CHUNK_BYTES,
        bytes: start..start + len,
    }
}

impl Content {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Allocated pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Up to `len` bytes from `offset`; short only at the end.
    pub fn read(&self, offset: u64, len: usize) -> Data {
        let end = offset.saturating_add(len as u64).min(self.size);
        if offset >= end {
            return Data::zeros(0);
        }
        let part = part_at(offset, end);
        if part.bytes.len() as u64 == end - offset {
            return self.read_part(part);
        }
        if let Some(data) = self.read_joined(offset..end) {
            return data;
        }
        let mut gathered = Vec::with_capacity((end - offset) as usize);
        for Part { index, bytes } in parts(offset..end) {
            match self.chunks.get(index) {
                Some(chunk) => chunk.gather(bytes, &mut gathered),
                None => gathered.resize(gathered.len() + bytes.len(), 0),
            }
        }
        Data::from(bytes::Bytes::from(gathered))
    }

    /// Bytes that lie in one chunk: not copied, unless zeros lie between them.
    fn read_part(&self, Part { index, bytes }: Part) -> Data {
        let pages = PageSet::touching(&bytes);
        match self.chunks.get(index) {
            Some(chunk) if chunk.written().holds(pages) => Data::from_chunk(chunk, bytes),
            Some(chunk) if !chunk.written().and(pages).is_empty() => {
                let mut gathered = Vec::with_capacity(bytes.len());
                chunk.gather(bytes, &mut gathered);
                Data::from(bytes::Bytes::from(gathered))
            }
            _ => Data::zeros(bytes.len()),
        }
    }

    /// Bytes over several chunks, not copied, if they are all written and lie in one piece.
    fn read_joined(&self, range: Range<u64>) -> Option<Data> {
        let mut chunks = SmallVec::new();
        for Part { index, bytes } in parts(range.clone()) {
            let chunk = self.chunks.get(index)?;
            if !chunk.written().holds(PageSet::touching(&bytes)) {
                return None;
            }
            chunks.push(Arc::clone(chunk));
        }
        let start = part_at(range.start, range.end).bytes.start;
        Data::from_chunks(chunks, start..start + (range.end - range.start) as usize)
    }

    /// Writes, growing the file; returns how many bytes fit.
    ///
    /// Short at a page's boundary where the limit is met, and at the largest size.
    ///
    /// # Errors
    ///
    /// `TooLarge` or `NoSpace` when not a single byte fits.
    pub fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        quota: &mut Quota,
    ) -> Result<usize, StoreError> {
        if data.is_empty() {
            return Ok(0);
        }
        if offset >= MAX_SIZE {
            return Err(StoreError::TooLarge);
        }
        let end = offset.saturating_add(data.len() as u64).min(MAX_SIZE);
        let mut done = 0;
        for part in parts(offset..end) {
            let wanted = part.bytes.len();
            let fitted = self.write_part(part, &data[done..done + wanted], quota);
            done += fitted;
            if fitted < wanted {
                break;
            }
        }
        if done == 0 {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// Becomes these bytes, which are shared and not copied but for what is left of a last chunk. Must be
    /// empty.
    ///
    /// # Errors
    ///
    /// `NoSpace` when not all of them fit; then it is still empty.
    pub fn lend(&mut self, bytes: &Bytes, quota: &mut Quota) -> Result<(), StoreError> {
        debug_assert!(self.size == 0 && self.pages == 0);
        let len = bytes.len() as u64;
        let (whole, pages) = (len / CHUNK_BYTES, len.div_ceil(PAGE_SIZE));
        if pages > quota.free_pages() {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        quota.take_pages(whole * CHUNK_PAGES)?;
        for index in 0..whole {
            let chunk = Chunk::external(bytes.clone(), (index * CHUNK_BYTES) as usize);
            self.chunks.insert(index, Arc::new(chunk));
        }
        (self.size, self.pages) = (whole * CHUNK_BYTES, whole * CHUNK_PAGES);
        let rest = &bytes[(whole * CHUNK_BYTES) as usize..];
        let written = self.write(whole * CHUNK_BYTES, rest, quota);
        match written {
            Ok(written) if written == rest.len() => Ok(()),
            // The system has no memory: nothing of it stays.
            _ => {
                quota.give_pages(self.pages);
                *self = Self::default();
                Err(StoreError::NoSpace(Resource::Bytes))
            }
        }
    }

    /// Writes into one chunk as much as the limit allows; returns how much that was.
    fn write_part(&mut self, part: Part, data: &[u8], quota: &mut Quota) -> usize {
        let wish = self.memory_before(&part);
        let chunk = self.chunks.get_or_insert_with(part.index, Arc::default);
        let (len, new_pages) = affordable(chunk.allocated(), &part.bytes, quota.free_pages());
        let wrote = len > 0
            && quota.take_pages(new_pages).is_ok()
            && write_chunk(chunk, part.bytes.start, &data[..len], wish)
                // Not charged for what the system refused.
                .inspect_err(|OutOfMemory| quota.give_pages(new_pages))
                .is_ok();
        if wrote {
            self.pages += new_pages;
            return len;
        }
        if chunk.allocated().is_empty() {
            self.chunks.remove(part.index);
        }
        0
    }

    /// Where a chunk's memory would follow on that of the chunk before it, so that both can be read
    /// in one piece.
    fn memory_before(&self, part: &Part) -> Option<PageAddress> {
        let previous = part
            .index
            .checked_sub(1)
            .filter(|_| part.bytes.start == 0)?;
        self.chunks.get(previous)?.memory_behind()
    }
}

/// How many bytes of a write to `bytes` fit when `free` more pages may be allocated, and how many
/// pages those take.
fn affordable(allocated: PageSet, bytes: &Range<usize>, free: u64) -> (usize, u64) {
    let missing = PageSet::touching(bytes).without(allocated);
    if missing.len() <= free {
        return (bytes.len(), missing.len());
    }
    let first_over = missing.runs().flatten().nth(free as usize);
    let end = first_over
        .map_or(bytes.end, |page| page as usize * PAGE)
        .max(bytes.start);
    (
        end - bytes.start,
        PageSet::touching(&(bytes.start..end))
            .without(allocated)
            .len(),
    )
}

/// The chunk for itself, to change it; `lost` pages need not be copied.
fn chunk_to_change(chunk: &mut Arc<Chunk>, lost: PageSet) -> Result<&mut Chunk, OutOfMemory> {
    if !is_own(chunk) {
        *chunk = Arc::new(chunk.duplicate(PageSet::EMPTY, lost)?);
    }
    Ok(Arc::get_mut(chunk).expect("unshared just now"))
}

/// Whether a chunk and its bytes are not shared.
fn is_own(chunk: &mut Arc<Chunk>) -> bool {
    Arc::get_mut(chunk).is_some_and(|chunk| !chunk.is_external())
}

/// Writes into a chunk, unsharing it first.
fn write_chunk(
    chunk: &mut Arc<Chunk>,
    at: usize,
    data: &[u8],
    wish: Option<PageAddress>,
) -> Result<(), OutOfMemory> {
    if !is_own(chunk) {
        // The copy has room for the write, which therefore cannot fail and lose what it overwrites.
        let bytes = at..at + data.len();
        *chunk = Arc::new(chunk.duplicate(PageSet::touching(&bytes), PageSet::within(&bytes))?);
    }
    Arc::get_mut(chunk)
        .expect("unshared just now")
        .write(at, data, wish)
}

impl From<OutOfMemory> for StoreError {
    /// For the tool there is no difference between our limit and the machine's.
    fn from(_: OutOfMemory) -> Self {
        Self::NoSpace(Resource::Bytes)
    }
}
