//! What of a file is allocated: truncating, allocating, punching, and where data and holes are.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::Chunk;
use super::pages::PageSet;
use super::{CHUNK_BYTES, Content, MAX_SIZE, PAGE, Part, chunk_to_change, part_at, parts};
use crate::store::error::StoreError;
use crate::store::quota::{PAGE_SIZE, Quota};

impl Content {
    /// Sets the size and frees every page past it, also those that `KEEP_SIZE` allocated there when
    /// the size stays the same (as tmpfs does). Growing makes a hole.
    pub fn resize(&mut self, size: u64, quota: &mut Quota) -> Result<(), StoreError> {
        if size > MAX_SIZE {
            return Err(StoreError::TooLarge);
        }
        if size <= self.size {
            // What is left of the last page must read as zeros when the file grows again.
            let page_end = size.next_multiple_of(PAGE_SIZE);
            self.zero_bytes(size..page_end)?;
            self.free(page_end..MAX_SIZE + 1, quota)?;
        }
        self.size = size;
        Ok(())
    }

    /// Makes a range allocated: all of it, or nothing is changed.
    pub fn allocate(
        &mut self,
        range: Range<u64>,
        keep_size: bool,
        quota: &mut Quota,
    ) -> Result<(), StoreError> {
        let pages = range.start / PAGE_SIZE * PAGE_SIZE..range.end.next_multiple_of(PAGE_SIZE);
        let missing = (pages.end - pages.start) / PAGE_SIZE - self.allocated_in(&pages);
        quota.take_pages(missing)?;
        // Unshared first, all of them: what follows cannot fail half-way.
        let unshared = self.each_chunk(pages.clone(), |chunk, bytes| {
            if !chunk.data().holds(PageSet::touching(&bytes)) {
                chunk_to_change(chunk, PageSet::EMPTY)?;
            }
            Ok(())
        });
        unshared.inspect_err(|_| quota.give_pages(missing))?;
        self.pages += missing;
        for Part { index, bytes } in parts(pages) {
            let chunk = self.chunks.get_or_insert_with(index, Arc::default);
            if let Some(chunk) = Arc::get_mut(chunk) {
                chunk.allocate(PageSet::touching(&bytes));
            }
        }
        if !keep_size {
            self.size = self.size.max(range.end);
        }
        Ok(())
    }

    /// Frees the whole pages of a range and zeros its edges; the size stays.
    pub fn punch(&mut self, range: Range<u64>, quota: &mut Quota) -> Result<(), StoreError> {
        self.zero_edges(&range)?;
        self.free(range, quota)
    }

    /// Zeros a range and leaves it allocated. Nothing is changed when it does not fit.
    pub fn zero(
        &mut self,
        range: Range<u64>,
        keep_size: bool,
        quota: &mut Quota,
    ) -> Result<(), StoreError> {
        self.allocate(range.clone(), keep_size, quota)?;
        self.zero_edges(&range)?;
        self.each_chunk(range, |chunk, bytes| {
            let pages = PageSet::within(&bytes);
            if !chunk.data().and(pages).is_empty() {
                chunk_to_change(chunk, pages)?.forget(pages);
            }
            Ok(())
        })
    }

    /// The first byte of data at or after `offset`.
    pub fn seek_data(&self, offset: u64) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let first = part_at(offset, self.size);
        for (index, chunk) in self.chunks.iter_from(first.index) {
            let from = if index == first.index {
                first.bytes.start / PAGE
            } else {
                0
            };
            if let Some(page) = chunk.data().next_in(from as u32) {
                let found = (index * CHUNK_BYTES + u64::from(page) * PAGE_SIZE).max(offset);
                return (found < self.size).then_some(found);
            }
        }
        None
    }

    /// The first hole at or after `offset`; the end of the file counts as one.
    pub fn seek_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let mut at = offset;
        for (index, chunk) in self.chunks.iter_from(offset / CHUNK_BYTES) {
            let start = index * CHUNK_BYTES;
            if start > at {
                break;
            }
            if let Some(page) = chunk.data().next_out(((at - start) / PAGE_SIZE) as u32) {
                at = at.max(start + u64::from(page) * PAGE_SIZE);
                break;
            }
            at = start + CHUNK_BYTES;
        }
        Some(at.min(self.size))
    }

    /// Zeros what is written in the incomplete pages at the ends of a range.
    fn zero_edges(&mut self, range: &Range<u64>) -> Result<(), StoreError> {
        let head_end = range.start.next_multiple_of(PAGE_SIZE).min(range.end);
        let tail_start = (range.end / PAGE_SIZE * PAGE_SIZE).max(head_end);
        self.zero_bytes(range.start..head_end)?;
        self.zero_bytes(tail_start..range.end)
    }

    /// Zeros what is written in a range.
    fn zero_bytes(&mut self, range: Range<u64>) -> Result<(), StoreError> {
        self.each_chunk(range, |chunk, bytes| {
            if !chunk.written().and(PageSet::touching(&bytes)).is_empty() {
                chunk_to_change(chunk, PageSet::EMPTY)?.zero(bytes);
            }
            Ok(())
        })
    }

    /// Frees the whole pages of a range.
    fn free(&mut self, range: Range<u64>, quota: &mut Quota) -> Result<(), StoreError> {
        let mut freed = 0;
        let result = self.each_chunk(range, |chunk, bytes| {
            let gone = chunk.allocated().and(PageSet::within(&bytes));
            if gone == chunk.allocated() {
                *chunk = Arc::default();
            } else if !gone.is_empty() {
                chunk_to_change(chunk, gone)?.free(gone);
            }
            freed += gone.len();
            Ok(())
        });
        self.pages -= freed;
        quota.give_pages(freed);
        result
    }

    /// Calls `change` for each chunk that is there, with the range's bytes in it; drops those that
    /// have no page left.
    fn each_chunk(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(&mut Arc<Chunk>, Range<usize>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut at = range.start;
        while at < range.end {
            let Some((index, _)) = self.chunks.iter_from(at / CHUNK_BYTES).next() else {
                break;
            };
            at = at.max(index * CHUNK_BYTES);
            if at >= range.end {
                break;
            }
            let bytes = part_at(at, range.end).bytes;
            at += bytes.len() as u64;
            let Some(chunk) = self.chunks.get_mut(index) else {
                break;
            };
            change(chunk, bytes)?;
            if chunk.allocated().is_empty() {
                self.chunks.remove(index);
            }
        }
        Ok(())
    }

    /// How many pages of a range are allocated.
    fn allocated_in(&self, range: &Range<u64>) -> u64 {
        let mut count = 0;
        for (index, chunk) in self.chunks.iter_from(range.start / CHUNK_BYTES) {
            let at = range.start.max(index * CHUNK_BYTES);
            if at >= range.end {
                break;
            }
            count += chunk
                .allocated()
                .and(PageSet::touching(&part_at(at, range.end).bytes))
                .len();
        }
        count
    }
}
