//! Copying between files without copying bytes, where that can be.

use std::ops::Range;
use std::sync::Arc;

use super::pages::PageSet;
use super::{CHUNK_BYTES, CHUNK_SIZE, Content, MAX_SIZE, part_at};
use crate::store::error::StoreError;
use crate::store::quota::{Quota, Resource};

/// A range of a file that is data throughout, or a hole.
struct Run {
    data: bool,
    bytes: Range<u64>,
}

impl Content {
    /// Copies from `source`, sharing whole chunks where both ranges are aligned; holes stay holes.
    /// Returns how much was copied: up to the end of the source, the limit and the largest size.
    pub fn copy_from(
        &mut self,
        source: &Self,
        from: u64,
        to: u64,
        len: u64,
        quota: &mut Quota,
    ) -> Result<u64, StoreError> {
        let len = len.min(source.size.saturating_sub(from));
        if len == 0 {
            return Ok(0);
        }
        let len = len.min(MAX_SIZE.saturating_sub(to));
        if len == 0 {
            return Err(StoreError::TooLarge);
        }
        let (mut done, mut all) = (0, true);
        while all && done < len {
            let copied;
            (copied, all) = self.copy_piece(source, from + done..from + len, to + done, quota)?;
            done += copied;
        }
        if done == 0 {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.size = self.size.max(to + done);
        Ok(done)
    }

    /// Copies the first piece of a range: a chunk to share, or what is data or a hole throughout.
    /// Tells how much, and whether that was all of the piece.
    fn copy_piece(
        &mut self,
        source: &Self,
        from: Range<u64>,
        to: u64,
        quota: &mut Quota,
    ) -> Result<(u64, bool), StoreError> {
        if let Some(shared) = self.share(source, from.clone(), to, quota) {
            return Ok((shared, true));
        }
        let chunks_meet = (from.start ^ to).is_multiple_of(CHUNK_BYTES);
        self.copy_run(source, source.run(from, chunks_meet), to, quota)
    }

    /// Takes over a chunk of `source`, where it replaces a whole chunk or the rest of the file.
    /// Returns how many bytes that were, `None` when it cannot be done.
    ///
    /// Leaves the same pages allocated as copying does, and therefore leaves alone chunks with
    /// pages that are allocated and no data.
    fn share(
        &mut self,
        source: &Self,
        from: Range<u64>,
        to: u64,
        quota: &mut Quota,
    ) -> Option<u64> {
        if !from.start.is_multiple_of(CHUNK_BYTES) || !to.is_multiple_of(CHUNK_BYTES) {
            return None;
        }
        let chunk = source.chunks.get(from.start / CHUNK_BYTES)?;
        let replaced = self
            .chunks
            .get(to / CHUNK_BYTES)
            .map_or(PageSet::EMPTY, |old| old.allocated());
        let len = part_at(from.start, from.end).bytes.len();
        let rest_of_both = from.start + len as u64 == source.size
            && to + len as u64 >= self.size
            && PageSet::touching(&(0..len)).holds(chunk.allocated().or(replaced));
        if !(len == CHUNK_SIZE || rest_of_both) || chunk.allocated() != chunk.data() {
            return None;
        }
        // Where it does not fit, copying page by page takes as much as does.
        let gained = chunk.allocated().without(replaced).len();
        let lost = replaced.without(chunk.allocated()).len();
        quota.take_pages(gained).ok()?;
        quota.give_pages(lost);
        self.pages = self.pages + gained - lost;
        self.chunks.insert(to / CHUNK_BYTES, Arc::clone(chunk));
        Some(len as u64)
    }

    /// The first piece of a range that is either data, in one chunk, or a hole. Data need not have been
    /// written to be there: a page that was allocated and then read is data on tmpfs too.
    ///
    /// `by_chunk` ends the latter before a chunk, so that the chunk can be shared.
    fn run(&self, range: Range<u64>, by_chunk: bool) -> Run {
        let first = part_at(range.start, range.end);
        for (index, chunk) in self.chunks.iter_from(first.index) {
            let start = range.start.max(index * CHUNK_BYTES);
            if start >= range.end {
                break;
            }
            if by_chunk && index > first.index {
                return Run {
                    data: false,
                    bytes: range.start..start,
                };
            }
            let part = part_at(start, range.end);
            for (data, piece) in chunk.data().pieces(part.bytes) {
                let piece = index * CHUNK_BYTES + piece.start as u64
                    ..index * CHUNK_BYTES + piece.end as u64;
                match data {
                    true if piece.start == range.start => {
                        return Run { data, bytes: piece };
                    }
                    true => {
                        return Run {
                            data: false,
                            bytes: range.start..piece.start,
                        };
                    }
                    false => {}
                }
            }
        }
        Run {
            data: false,
            bytes: range,
        }
    }

    /// Copies a run of `source`; tells how much, and whether that was all.
    fn copy_run(
        &mut self,
        source: &Self,
        run: Run,
        to: u64,
        quota: &mut Quota,
    ) -> Result<(u64, bool), StoreError> {
        let len = run.bytes.end - run.bytes.start;
        if !run.data {
            self.punch(to..to + len, quota)?;
            return Ok((len, true));
        }
        match self.write(to, &source.read(run.bytes.start, len as usize), quota) {
            Ok(wrote) => Ok((wrote as u64, wrote as u64 == len)),
            Err(StoreError::NoSpace(_)) => Ok((0, false)),
            Err(error) => Err(error),
        }
    }
}
