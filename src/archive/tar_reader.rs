//! The members of a tar, one after another.
//!
//! The blocks are read here and the crate `tar` takes headers apart: its own iterator reads long names without a
//! bound, gives holes as zeros without end, and takes a tar that is cut off between two members for a whole one.
//!
//! Formats: V7, ustar, GNU (long names, sparse), POSIX pax (with GNU's sparse files of version 1.0), see tar(5).

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::error::{ArchiveError, ArchiveSource, MemberProblem};
use crate::store::Timestamp;

const BLOCK: usize = 512;
/// The longest extension: a name is at most 4095 bytes, all attributes of a file some KiB.
const EXTENSION_MAX: u64 = 1 << 20;
/// The most pieces of a sparse file.
const PIECES_MAX: usize = 1 << 20;

/// One member; its content is read from [`Members`].
#[derive(Debug)]
pub(super) struct Member {
    /// The name as the archive has it.
    pub name: Bytes,
    /// What a link leads to.
    pub link: Bytes,
    pub kind: EntryType,
    pub mode: u32,
    pub mtime: Timestamp,
    /// Of a sparse file: where its bytes go, and how large it is.
    pub sparse: Option<Sparse>,
}

#[derive(Debug)]
pub(super) struct Sparse {
    pub data: Vec<Range<u64>>,
    pub size: u64,
}

/// The members of a tar.
pub(super) struct Members<'t, R> {
    reader: R,
    archive: &'t ArchiveSource,
    /// Content of the current member that was not read yet, and its padding.
    left: u64,
    padding: u64,
    /// From a global pax header, in force until the next one.
    global: Extensions,
}

impl<'t, R: Read> Members<'t, R> {
    pub(super) fn new(reader: R, archive: &'t ArchiveSource) -> Self {
        Self {
            reader,
            archive,
            left: 0,
            padding: 0,
            global: Extensions::default(),
        }
    }

    /// The next member, whatever was read of the last one; none after the archive's end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut extensions = self.global.clone();
        let mut announced = false;
        loop {
            self.skip(self.left + self.padding)?;
            let header = self.header()?;
            let Some(header) = header else {
                return match announced {
                    true => Err(self
                        .archive
                        .damaged("a member that a header announces is missing")),
                    false => Ok(None),
                };
            };
            let size = match extensions.size {
                Some(size) if !is_extension(&header) => size,
                _ => header.entry_size().map_err(|e| self.archive.unread(e))?,
            };
            self.left = size;
            self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            announced = matches!(
                header.entry_type(),
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader
            );
            match header.entry_type() {
                EntryType::GNULongName => {
                    extensions.path = Some(until_nul(self.extension(&header)?).into());
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(until_nul(self.extension(&header)?).into());
                }
                EntryType::XHeader => {
                    let text = self.extension(&header)?;
                    self.take_pax(&text, &mut extensions)?;
                }
                EntryType::XGlobalHeader => {
                    let text = self.extension(&header)?;
                    let mut global = std::mem::take(&mut self.global);
                    self.take_pax(&text, &mut global)?;
                    extensions = global.clone();
                    self.global = global;
                }
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// The content of the current member.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content {
            reader: &mut self.reader,
            left: &mut self.left,
        }
    }

    /// Bytes of content of the current member that were not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads to the end of the stream, so that a decoder checks its sums and a pipe's writer is not cut off.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        let mut block = [0; 8192];
        while self.read_some(&mut block)? > 0 {}
        Ok(())
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, ArchiveError> {
        let kind = header.entry_type();
        let name = extensions
            .sparse
            .name
            .clone()
            .or(extensions.path)
            .unwrap_or_else(|| header.path_bytes().into_owned().into());
        let link = extensions.link.unwrap_or_else(|| {
            header
                .link_name_bytes()
                .map(|link| Bytes::from(link.into_owned()))
                .unwrap_or_default()
        });
        let number = |field: io::Result<u64>| {
            field.map_err(|error| {
                self.archive.member(
                    &name,
                    MemberProblem::Unsupported(format!("a header with {error}")),
                )
            })
        };
        let mode = number(header.mode().map(u64::from))? as u32;
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            None => Timestamp {
                secs: i64::try_from(number(header.mtime())?).unwrap_or(0),
                nanos: 0,
            },
        };
        let sparse = match (kind, extensions.sparse.size) {
            (EntryType::GNUSparse, _) => Some(self.gnu_sparse(header)?),
            (_, Some(size)) if extensions.sparse.version == (1, 0) => Some(self.pax_sparse(size)?),
            (_, Some(_)) => {
                let what = "a sparse file of an old version".to_owned();
                return Err(self.archive.member(&name, MemberProblem::Unsupported(what)));
            }
            _ => None,
        };
        if let Some(sparse) = &sparse {
            self.check_sparse(sparse)?;
        }
        Ok(Member {
            name,
            link,
            kind,
            mode,
            mtime,
            sparse,
        })
    }

    /// The next header block; none at the end mark.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        let read = self.read_block(header.as_mut_bytes())?;
        if read == 0 {
            return Err(self.archive.damaged("it is cut off: there is no end mark"));
        }
        if read < BLOCK {
            return Err(self.archive.damaged("it is cut off"));
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The sum of all bytes, those of the sum itself taken as spaces.
        let sum: u32 = bytes[..148]
            .iter()
            .chain(&bytes[156..])
            .map(|&byte| u32::from(byte))
            .sum();
        match header.cksum() {
            Ok(stated) if stated == sum + 8 * u32::from(b' ') => Ok(Some(header)),
            _ => Err(self.archive.damaged("a header has a wrong sum")),
        }
    }

    /// The whole content of an extension.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        if self.left > EXTENSION_MAX {
            return Err(self.archive.damaged(format!(
                "a header of type {:?} is longer than {} KiB",
                char::from(header.entry_type().as_byte()),
                EXTENSION_MAX >> 10
            )));
        }
        let mut bytes = Vec::new();
        let read = self.content().read_to_end(&mut bytes);
        read.map_err(|error| self.archive.unread(error))?;
        Ok(bytes)
    }

    fn take_pax(&self, text: &[u8], into: &mut Extensions) -> Result<(), ArchiveError> {
        into.read(text)
            .ok_or_else(|| self.archive.damaged("a pax header is malformed"))
    }

    /// GNU's old way: the map stands in the header and in blocks behind it.
    fn gnu_sparse(&mut self, header: &Header) -> Result<Sparse, ArchiveError> {
        let archive = self.archive;
        let gnu = header
            .as_gnu()
            .ok_or_else(|| archive.damaged("a sparse file has no GNU header"))?;
        let mut data = Vec::new();
        let add = |piece: &GnuSparseHeader, data: &mut Vec<_>| {
            if !piece.is_empty() {
                let range = piece_range(
                    piece.offset().map_err(|e| archive.unread(e))?,
                    piece.length().map_err(|e| archive.unread(e))?,
                );
                data.push(range.ok_or_else(|| archive.damaged("a sparse file is too large"))?);
            }
            Ok::<_, ArchiveError>(())
        };
        for piece in &gnu.sparse {
            add(piece, &mut data)?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            if self.read_block(block.as_mut_bytes())? < BLOCK {
                return Err(archive.damaged("it is cut off"));
            }
            for piece in block.sparse() {
                add(piece, &mut data)?;
            }
            if data.len() > PIECES_MAX {
                return Err(archive.damaged("a sparse file has too many pieces"));
            }
            more = block.is_extended();
        }
        let size = gnu.real_size().map_err(|e| archive.unread(e))?;
        Ok(Sparse { data, size })
    }

    /// The way of GNU's pax format 1.0: the map stands before the content, as decimal lines, in whole blocks.
    fn pax_sparse(&mut self, size: u64) -> Result<Sparse, ArchiveError> {
        let archive = self.archive;
        let malformed = || archive.damaged("the map of a sparse file is malformed");
        let mut lines = Lines {
            content: self.content(),
            block: [0; BLOCK],
            at: BLOCK,
        };
        let mut number = || {
            let line = lines.next().map_err(|error| archive.unread(error))?;
            line.ok_or_else(malformed)
        };
        let count = number()?;
        if count > PIECES_MAX as u64 {
            return Err(archive.damaged("a sparse file has too many pieces"));
        }
        let mut data = Vec::new();
        for _ in 0..count {
            let (offset, length) = (number()?, number()?);
            data.push(piece_range(offset, length).ok_or_else(malformed)?);
        }
        Ok(Sparse { data, size })
    }

    /// Rising, within the file, and together as long as the content.
    fn check_sparse(&self, sparse: &Sparse) -> Result<(), ArchiveError> {
        let mut end = 0;
        let mut bytes = 0_u64;
        for range in &sparse.data {
            if range.start < end {
                return Err(self.archive.damaged("the pieces of a sparse file overlap"));
            }
            end = range.end;
            bytes = bytes.saturating_add(range.end - range.start);
        }
        if end > sparse.size || bytes != self.left || sparse.size > i64::MAX as u64 {
            return Err(self.archive.damaged("the map of a sparse file is wrong"));
        }
        Ok(())
    }

    /// A whole block, or less at the end of the stream.
    fn read_block(&mut self, block: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.read_some(&mut block[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|error| self.archive.unread(error)),
            }
        }
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), ArchiveError> {
        let mut buffer = [0; 8192];
        while bytes > 0 {
            let part = bytes.min(buffer.len() as u64) as usize;
            match self.read_some(&mut buffer[..part])? {
                0 => return Err(self.archive.damaged("it is cut off")),
                read => bytes -= read as u64,
            }
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// The content of a member. Ends with it, and fails where the archive ends before.
pub(super) struct Content<'m, R> {
    reader: &'m mut R,
    left: &'m mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = (buffer.len() as u64).min(*self.left) as usize;
        if part == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut buffer[..part])?;
        if read == 0 {
            let error = "the archive is cut off in its middle";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        *self.left -= read as u64;
        Ok(read)
    }
}

/// Numbers in lines, read in whole blocks.
struct Lines<'m, R> {
    content: Content<'m, R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> io::Result<Option<u64>> {
        let mut number = 0_u64;
        let mut digits = 0;
        loop {
            if self.at == BLOCK {
                self.content.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' if digits > 0 => return Ok(Some(number)),
                b'0'..=b'9' if digits < 20 => {
                    let next = number
                        .checked_mul(10)
                        .and_then(|n| n.checked_add(u64::from(byte - b'0')));
                    let Some(next) = next else { return Ok(None) };
                    number = next;
                    digits += 1;
                }
                _ => return Ok(None),
            }
        }
    }
}

/// What stands before a header and overrides it. Cloned for every member, and so without its bytes.
#[derive(Clone, Debug, Default)]
struct Extensions {
    path: Option<Bytes>,
    link: Option<Bytes>,
    size: Option<u64>,
    mtime: Option<Timestamp>,
    sparse: PaxSparse,
}

/// GNU's records of a sparse file.
#[derive(Clone, Debug, Default)]
struct PaxSparse {
    version: (u64, u64),
    name: Option<Bytes>,
    size: Option<u64>,
}

impl Extensions {
    /// The records of a pax header, `LENGTH KEY=VALUE\n` each; none when they are malformed.
    fn read(&mut self, mut text: &[u8]) -> Option<()> {
        while !text.is_empty() {
            let space = text.iter().position(|&byte| byte == b' ')?;
            let length: usize = decimal(&text[..space])?.try_into().ok()?;
            let record = text.get(space + 1..length)?;
            let (b'\n', record) = record.split_last()? else {
                return None;
            };
            let equals = record.iter().position(|&byte| byte == b'=')?;
            self.take(&record[..equals], &record[equals + 1..])?;
            text = &text[length..];
        }
        Some(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(Bytes::copy_from_slice(value)),
            b"linkpath" => self.link = Some(Bytes::copy_from_slice(value)),
            b"size" => self.size = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(Bytes::copy_from_slice(value)),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.size = Some(decimal(value)?);
            }
            b"GNU.sparse.major" => self.sparse.version.0 = decimal(value)?,
            b"GNU.sparse.minor" => self.sparse.version.1 = decimal(value)?,
            // Owners, comments, other times.
            _ => {}
        }
        Some(())
    }
}

fn is_extension(header: &Header) -> bool {
    matches!(
        header.entry_type(),
        EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | EntryType::XGlobalHeader
    )
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    // GNU's names end in one NUL; any other is a part of the name, and will be refused.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()?
        .parse()
        .ok()
        .filter(|_| digits)
}

/// Seconds with a fraction, also before 1970: `-1.5` is half a second before -1.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = text.split_at(point.unwrap_or(text.len()));
    let secs = i64::try_from(decimal(whole)?).ok()?;
    let mut nanos = 0;
    for place in 0..9 {
        let digit = match fraction.get(1 + place) {
            None => 0,
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return None,
        };
        nanos = nanos * 10 + digit;
    }
    Some(match (negative, nanos) {
        (false, _) => Timestamp { secs, nanos },
        (true, 0) => Timestamp { secs: -secs, nanos },
        (true, _) => Timestamp {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

fn piece_range(offset: u64, length: u64) -> Option<Range<u64>> {
    offset.checked_add(length).map(|end| offset..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_pax() {
        let at = |secs, nanos| Some(Timestamp { secs, nanos });
        for (text, expected) in [
            ("0", at(0, 0)),
            ("12.5", at(12, 500_000_000)),
            ("12.123456789", at(12, 123_456_789)),
            ("12.1234567899", at(12, 123_456_789)),
            ("-1", at(-1, 0)),
            ("-1.5", at(-2, 500_000_000)),
            ("12.", at(12, 0)),
            ("", None),
            (".5", None),
            ("x", None),
            ("1.x", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn records_of_pax() {
        let mut read = Extensions::default();
        read.read(b"12 path=a\nb\n14 comment=hi\n").unwrap();
        assert_eq!(read.path, Some(Bytes::from("a\nb")));
        for bad in ["11 path", "x path=a\n", "3 a", "99 path=a\n", "8 path\n\n"] {
            assert!(
                Extensions::default().read(bad.as_bytes()).is_none(),
                "{bad}"
            );
        }
    }
}
