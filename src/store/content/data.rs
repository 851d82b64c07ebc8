//! Bytes that were read.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::chunk::Chunk;
use super::memory::zeros;

/// Bytes read from a file, shared with it where they lie in one piece.
///
/// Keeps the bytes as they were when they were read, whatever is written later. Cloning shares
/// them, and so does turning it into [`Bytes`].
///
/// ```
/// use notapipe::store::Data;
///
/// let data = Data::from(bytes::Bytes::from_static(b"ceci"));
/// assert_eq!(&data[..2], b"ce");
/// assert_eq!(bytes::Bytes::from(data), "ceci");
/// ```
#[derive(Clone)]
pub struct Data(Source);

#[derive(Clone)]
enum Source {
    /// A range of a chunk whose pages are all written.
    Chunk(Arc<Chunk>, Range<u32>),
    /// A range of several chunks whose pages are all written and whose memory lies in one piece.
    Chunks(SmallVec<[Arc<Chunk>; 2]>, Range<u32>),
    Zeros(&'static [u8]),
    /// Gathered from several places.
    Own(Bytes),
}

impl Data {
    /// A range of `chunk` whose pages are all written.
    pub(super) fn from_chunk(chunk: &Arc<Chunk>, range: Range<usize>) -> Self {
        Self(Source::Chunk(
            Arc::clone(chunk),
            range.start as u32..range.end as u32,
        ))
    }

    /// A range over chunks that follow each other, from the start of the first, if their memory lies
    /// in one piece; all pages of it are written.
    pub(super) fn from_chunks(
        chunks: SmallVec<[Arc<Chunk>; 2]>,
        range: Range<usize>,
    ) -> Option<Self> {
        let plain = || chunks.iter().map(|chunk| &**chunk);
        if let Some(bytes) = Chunk::external_in_one_piece(plain(), range.clone()) {
            return Some(Self::from(bytes));
        }
        Chunk::joined(plain(), range.clone())?;
        Some(Self(Source::Chunks(
            chunks,
            range.start as u32..u32::try_from(range.end).ok()?,
        )))
    }

    /// This many zeros.
    pub(super) fn zeros(len: usize) -> Self {
        zeros(len).map_or_else(
            || Self::from(Bytes::from(vec![0; len])),
            |zeros| Self(Source::Zeros(zeros)),
        )
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Own(bytes))
    }
}

impl From<Data> for Bytes {
    fn from(data: Data) -> Self {
        match data.0 {
            Source::Own(bytes) => bytes,
            Source::Zeros(zeros) => Self::from_static(zeros),
            Source::Chunk(..) | Source::Chunks(..) => Self::from_owner(data),
        }
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Chunk(chunk, range) => chunk.bytes(range.start as usize..range.end as usize),
            Source::Chunks(chunks, range) => {
                let range = range.start as usize..range.end as usize;
                let joined = Chunk::joined(chunks.iter().map(|chunk| &**chunk), range);
                joined.expect("memory that lies in one piece stays where it is")
            }
            Source::Zeros(zeros) => zeros,
            Source::Own(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}
