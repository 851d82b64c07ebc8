//! Files' bytes.

use std::ops::Range;

use bytes::Bytes;

use super::Tree;
use crate::store::content::{Data, MAX_SIZE};
use crate::store::error::StoreError;
use crate::store::inode::{Ino, Timestamp};

/// What [`Tree::allocate`] does with a range; see `fallocate(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Allocate the pages and grow the file to hold the range.
    Extend,
    /// Allocate the pages, also past the end, and keep the size.
    KeepSize,
    /// Free the whole pages and zero the edges; keeps the size.
    PunchHole,
    /// Zero the range, leaving it allocated; grows the file.
    ZeroRange,
    /// Zero the range, leaving it allocated; keeps the size.
    ZeroRangeKeepSize,
}

impl Tree {
    /// Up to `len` bytes from `offset`; short only at the end of the file.
    ///
    /// What lies in one chunk of 128 KiB (at a multiple of that) is shared with the file; the rest
    /// is gathered, so ask for large files in pieces.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`, `InvalidArgument` (neither file nor directory).
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Data, StoreError> {
        Ok(self.inodes.get(ino)?.content()?.read(offset, len))
    }

    /// Writes, growing the file; returns how many bytes fit.
    ///
    /// Short at the limit, at the boundary of the last page that could be taken, and at the largest
    /// size. Writing nothing changes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`, `InvalidArgument` (neither file nor directory); `NoSpace` and
    /// `TooLarge` only when not a single byte fits.
    pub fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let inode = self.inodes.get_mut(ino)?;
        let written = inode.content_mut()?.write(offset, data, &mut self.quota)?;
        if written > 0 {
            inode.modified(now);
        }
        Ok(written)
    }

    /// Makes an empty file of these bytes.
    ///
    /// They are shared, not copied, apart from what is left beyond the last 128 KiB, and so are held as long
    /// as any part of this file is unchanged. The limit counts them like others. Bytes that several trees
    /// share are in memory once.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`; `InvalidArgument` for what is no file, or is not empty; `NoSpace` when not
    /// all of them fit, and then nothing is changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
    /// let file = tree.create(Ino::ROOT, Name::new(b"a")?, new, now)?.ino;
    /// let bytes = bytes::Bytes::from(vec![7; 512 << 10]);
    /// tree.lend(file, &bytes, now)?;
    /// assert_eq!(tree.read(file, 0, 4096)?.as_ptr(), bytes.as_ptr());
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn lend(&mut self, ino: Ino, bytes: &Bytes, now: Timestamp) -> Result<(), StoreError> {
        let inode = self.inodes.get_mut(ino)?;
        let content = inode.content_mut()?;
        if content.size() > 0 || content.pages() > 0 {
            return Err(StoreError::InvalidArgument);
        }
        content.lend(bytes, &mut self.quota)?;
        if !bytes.is_empty() {
            inode.modified(now);
        }
        Ok(())
    }

    /// `fallocate(2)`.
    ///
    /// All or nothing. Sets `mtime` and `ctime`, whatever was changed, as tmpfs does.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`; `InvalidArgument` for an empty range and for what is neither file
    /// nor directory; `TooLarge`; `NoSpace`.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{AllocateMode, Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
    /// let file = tree.create(Ino::ROOT, Name::new(b"image")?, new.clone(), now)?.ino;
    /// tree.write(file, 0, &[1; 3 * 4096], now)?;
    /// tree.allocate(file, 4096..8192, AllocateMode::PunchHole, now)?;
    /// assert_eq!((tree.seek_hole(file, 0)?, tree.seek_data(file, 4096)?), (4096, 8192));
    /// assert_eq!(tree.usage().bytes, 8192);
    ///
    /// let copy = tree.create(Ino::ROOT, Name::new(b"copy")?, new, now)?.ino;
    /// assert_eq!(tree.copy_range((file, 0), (copy, 0), 1 << 20, now)?, 12_288);
    /// assert_eq!(tree.seek_hole(copy, 0)?, 4096, "holes stay holes");
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn allocate(
        &mut self,
        ino: Ino,
        range: Range<u64>,
        mode: AllocateMode,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.inodes.get(ino)?.content()?;
        if range.is_empty() {
            return Err(StoreError::InvalidArgument);
        }
        if range.end > MAX_SIZE {
            return Err(StoreError::TooLarge);
        }
        let inode = self.inodes.get_mut(ino)?;
        let content = inode.content_mut()?;
        match mode {
            AllocateMode::Extend => content.allocate(range, false, &mut self.quota)?,
            AllocateMode::KeepSize => content.allocate(range, true, &mut self.quota)?,
            AllocateMode::PunchHole => content.punch(range, &mut self.quota)?,
            AllocateMode::ZeroRange => content.zero(range, false, &mut self.quota)?,
            AllocateMode::ZeroRangeKeepSize => content.zero(range, true, &mut self.quota)?,
        }
        inode.modified(now);
        Ok(())
    }

    /// First byte of data at or after `offset` (`SEEK_DATA`).
    ///
    /// Pages that are allocated and were never written are holes, as on tmpfs.
    ///
    /// # Errors
    ///
    /// `NoData` when there is none; `NotFound`, `IsDirectory`, `InvalidArgument`.
    pub fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64, StoreError> {
        self.inodes
            .get(ino)?
            .content()?
            .seek_data(offset)
            .ok_or(StoreError::NoData)
    }

    /// First hole at or after `offset`, the end counting as one (`SEEK_HOLE`).
    ///
    /// # Errors
    ///
    /// `NoData` at or past the end; `NotFound`, `IsDirectory`, `InvalidArgument`.
    pub fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64, StoreError> {
        self.inodes
            .get(ino)?
            .content()?
            .seek_hole(offset)
            .ok_or(StoreError::NoData)
    }

    /// Copies within the tree, sharing whole chunks where it can; returns bytes copied.
    ///
    /// Short at the end of the source, at the limit and at the largest size; holes stay holes.
    /// See copy_file_range(2).
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsDirectory`; `InvalidArgument` for overlapping ranges of one file, and for what
    /// is neither file nor directory; `NoSpace` and `TooLarge` only when not a single byte fits.
    pub fn copy_range(
        &mut self,
        from: (Ino, u64),
        to: (Ino, u64),
        len: u64,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        // A copy of the source costs nothing, and stays as it is while the target changes.
        let source = self.inodes.get(from.0)?.content()?.clone();
        self.inodes.get(to.0)?.content()?;
        let len = len.min(source.size().saturating_sub(from.1));
        if from.0 == to.0 && from.1 < to.1.saturating_add(len) && to.1 < from.1.saturating_add(len)
        {
            return Err(StoreError::InvalidArgument);
        }
        if len == 0 {
            return Ok(0);
        }
        let inode = self.inodes.get_mut(to.0)?;
        let copied = inode
            .content_mut()?
            .copy_from(&source, from.1, to.1, len, &mut self.quota)?;
        inode.modified(now);
        Ok(copied)
    }
}
