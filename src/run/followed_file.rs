//! A file of an ordinary directory, read while it is written.

use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use super::follow::Source;

/// The unit in which changed bytes are told.
const BLOCK_BYTES: u64 = 4096;

/// What of a file is another when somebody has written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentStamp {
    pub inode: u64,
    pub size: u64,
    pub modified: (i64, i64),
}

impl From<&Metadata> for ContentStamp {
    fn from(of: &Metadata) -> Self {
        Self {
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
        }
    }
}

/// Gives its bytes once, as far as they are there. Nothing tells of writes: whoever reads it looks again and again.
///
/// Which bytes were written again is found in the end, by a sum that is kept of
/// each block that was given.
pub(super) struct FollowedFile {
    path: PathBuf,
    /// As it was before anybody could write to it.
    staged: Option<ContentStamp>,
    /// From when somebody has.
    file: Option<File>,
    given: u64,
    sums: Vec<DefaultHasher>,
}

impl FollowedFile {
    pub fn new(path: PathBuf, staged: Option<ContentStamp>) -> Self {
        Self {
            path,
            staged,
            file: None,
            given: 0,
            sums: Vec::new(),
        }
    }

    /// The file, once somebody has written to it.
    fn open(&self) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        // A FIFO is not waited for, and a symlink leads nowhere.
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.open(&self.path) {
            Ok(file) => file,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let is_written = self.staged != Some(ContentStamp::from(&metadata));
        Ok(Some(file).filter(|_| metadata.is_file() && is_written))
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
    )
}

impl Source for FollowedFile {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.file.is_none() {
            self.file = self.open()?;
        }
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let len = file.read_at(buffer, self.given)?;
        add(&mut self.sums, self.given, &buffer[..len]);
        self.given += len as u64;
        Ok(Some(len))
    }

    fn rewritten(&self) -> Vec<Range<u64>> {
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let mut changed: Vec<Range<u64>> = Vec::new();
        let mut block = vec![0; BLOCK_BYTES as usize];
        for (index, sum) in self.sums.iter().enumerate() {
            let start = index as u64 * BLOCK_BYTES;
            let end = (start + BLOCK_BYTES).min(self.given);
            let given = &mut block[..(end - start) as usize];
            let mut now = Vec::new();
            // What is cut off cannot be read.
            if file.read_exact_at(given, start).is_ok() {
                add(&mut now, start % BLOCK_BYTES, given);
            }
            if now.first().map(DefaultHasher::finish) == Some(sum.finish()) {
                continue;
            }
            match changed.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => changed.push(start..end),
            }
        }
        changed
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Adds bytes that stand at `offset` to the sums of their blocks.
fn add(sums: &mut Vec<DefaultHasher>, mut offset: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let left = (BLOCK_BYTES - offset % BLOCK_BYTES) as usize;
        let (here, rest) = bytes.split_at(left.min(bytes.len()));
        let index = (offset / BLOCK_BYTES) as usize;
        sums.resize_with(sums.len().max(index + 1), DefaultHasher::new);
        // Without a length, which a slice's own `hash` would add: the pieces in which bytes come do not count.
        sums[index].write(here);
        offset += here.len() as u64;
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_pieces() {
        let bytes: Vec<u8> = (0..10_000u32).map(|it| it as u8).collect();
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        add(&mut whole, 0, &bytes);
        let mut offset = 0;
        for piece in bytes.chunks(77) {
            add(&mut pieces, offset, piece);
            offset += piece.len() as u64;
        }
        let finished =
            |sums: Vec<DefaultHasher>| sums.iter().map(Hasher::finish).collect::<Vec<_>>();
        assert_eq!(finished(whole), finished(pieces));
    }
}
