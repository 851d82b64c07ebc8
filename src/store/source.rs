//! Content that comes from elsewhere: a file that is made when it is first used.
//!
//! The store only says what such a source is. Which process waits for it, and on which thread it is made, is for the
//! layers above.

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;

/// What is taken from a reader at once.
const BLOCK_BYTES: usize = 128 * 1024;

/// A file's content, made when a tool first uses the file.
///
/// It is made once at most, on a thread of its own, and not at all when no tool uses it. To use it means to
/// open, read, write or stat the file; listing its directory does not count. Only the tools that use it wait.
///
/// Where its [`size`](Self::size) is given, a tool can also look at the file's attributes without having it
/// made.
///
/// # Examples
///
/// ```
/// use notapipe::Source;
///
/// let source = Source::reader(|| std::fs::File::open("/etc/passwd"));
/// assert_eq!(source.known_size(), None);
///
/// // A mount does this, when a tool reaches for the file.
/// let mut made = Vec::new();
/// let source = Source::new(|| Ok("made when it is needed")).size(22);
/// source.make(&mut |block| {
///     made.extend_from_slice(block);
///     Ok(())
/// })?;
/// assert_eq!(made, b"made when it is needed");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Source {
    size: Option<u64>,
    make: Make,
}

enum Make {
    Bytes(Box<dyn FnOnce() -> io::Result<Bytes> + Send>),
    Reader(Box<dyn FnOnce() -> io::Result<Box<dyn Read + Send>> + Send>),
}

impl Source {
    /// Content that `make` returns in one piece.
    pub fn new<B: Into<Bytes>>(make: impl FnOnce() -> io::Result<B> + Send + 'static) -> Self {
        Self {
            size: None,
            make: Make::Bytes(Box::new(move || make().map(Into::into))),
        }
    }

    /// Content that is read to its end from the reader that `open` returns. No more than a block of it is
    /// held beside the file.
    pub fn reader<R: Read + Send + 'static>(
        open: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> Self {
        Self {
            size: None,
            make: Make::Reader(Box::new(move || {
                Ok(Box::new(open()?) as Box<dyn Read + Send>)
            })),
        }
    }

    /// How many bytes it will be, for stat(2) before it is made. A source that then gives another number of bytes
    /// has failed.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// The size, if it was given.
    pub fn known_size(&self) -> Option<u64> {
        self.size
    }

    /// Makes the content and hands it to `sink`, a block after the other, until `sink` refuses.
    ///
    /// # Errors
    ///
    /// What the closure, its reader or `sink` failed with; `InvalidData` when the size is not the one that
    /// was given.
    pub fn make(self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut made = 0;
        let mut sink = |block: &[u8]| {
            made += block.len() as u64;
            match self.size {
                Some(size) if made > size => Err(wrong_size("more than", size)),
                _ => sink(block),
            }
        };
        match self.make {
            Make::Bytes(make) => make()?.chunks(BLOCK_BYTES).try_for_each(&mut sink)?,
            Make::Reader(open) => read_to_end(&mut *open()?, &mut sink)?,
        }
        match self.size {
            Some(size) if made < size => Err(wrong_size("less than", size)),
            _ => Ok(()),
        }
    }
}

fn read_to_end(
    reader: &mut dyn Read,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(len) => sink(&block[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn wrong_size(relation: &str, size: u64) -> io::Error {
    let message = format!("it gave {relation} the {size} bytes that were announced");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(source: Source) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        source.make(&mut |block| {
            all.extend_from_slice(block);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn bytes_and_readers_arrive_whole() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let copy = bytes.clone();
        assert_eq!(made(Source::new(move || Ok(copy))).unwrap(), bytes);
        let copy = io::Cursor::new(bytes.clone());
        assert_eq!(made(Source::reader(move || Ok(copy))).unwrap(), bytes);
    }

    #[test]
    fn another_size_than_announced_is_a_failure() {
        for size in [2, 4] {
            let error = made(Source::new(|| Ok("abc")).size(size)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{size}");
        }
        assert_eq!(made(Source::new(|| Ok("abc")).size(3)).unwrap(), b"abc");
    }

    #[test]
    fn what_fails_inside_is_told() {
        let refused = || Err::<Bytes, _>(io::ErrorKind::PermissionDenied.into());
        assert_eq!(
            made(Source::new(refused)).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        let mut calls = 0;
        let full = Source::new(|| Ok(vec![0; 3 * BLOCK_BYTES])).make(&mut |_| {
            calls += 1;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(calls, 1);
    }
}
