//! Members into a tar: ustar headers, pax records for what does not fit in them, GNU's sparse files.

use std::io::{self, Write};
use std::ops::Range;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::member_writer::MemberWriter;
use crate::store::{Attr, Timestamp, TreePath};

const BLOCK: usize = 512;
/// The last second that a header's octal digits hold.
const HEADER_TIME_MAX: i64 = 0o77_777_777_777;

/// Writes a tar. Must be [finished](Self::finish).
pub(super) struct TarWriter<W>(W);

impl<W: Write> TarWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(writer)
    }

    /// Writes the end mark.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        Ok(self.0)
    }

    /// A member without content.
    fn empty(&mut self, name: &[u8], kind: EntryType, link: &[u8], attr: &Attr) -> io::Result<()> {
        let mut header = header(Header::new_ustar(), kind, attr);
        self.extend(name, link, attr)?;
        self.header(&mut header, name, link)
    }

    /// Fills the last block of `size` bytes of content.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.0.write_all(&[0; BLOCK][..padding as usize])
    }

    fn header(&mut self, header: &mut Header, name: &[u8], link: &[u8]) -> io::Result<()> {
        let old = header.as_old_mut();
        fill(&mut old.name, name);
        fill(&mut old.linkname, link);
        header.set_cksum();
        self.0.write_all(header.as_bytes())
    }

    /// A pax header for what the next one cannot hold.
    fn extend(&mut self, name: &[u8], link: &[u8], attr: &Attr) -> io::Result<()> {
        let mut records = Vec::new();
        if name.len() > 100 {
            record(&mut records, "path", name);
        }
        if link.len() > 100 {
            record(&mut records, "linkpath", link);
        }
        if attr.mtime.nanos != 0 || !(0..=HEADER_TIME_MAX).contains(&attr.mtime.secs) {
            record(&mut records, "mtime", time(attr.mtime).as_bytes());
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        self.header(&mut header, b"PaxHeaders/member", b"")?;
        self.0.write_all(&records)?;
        self.pad(records.len() as u64)
    }
}

impl<W: Write> MemberWriter for TarWriter<W> {
    fn has_links(&self) -> bool {
        true
    }

    fn has_holes(&self) -> bool {
        true
    }

    fn directory(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        let mut name = path.to_bytes();
        name.push(b'/');
        self.empty(&name, EntryType::Directory, b"", attr)
    }

    fn symlink(&mut self, path: &TreePath, target: &[u8], attr: &Attr) -> io::Result<()> {
        self.empty(&path.to_bytes(), EntryType::Symlink, target, attr)
    }

    fn link(&mut self, path: &TreePath, first: &TreePath, attr: &Attr) -> io::Result<()> {
        self.empty(&path.to_bytes(), EntryType::Link, &first.to_bytes(), attr)
    }

    fn file(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        let name = path.to_bytes();
        let mut header = header(Header::new_ustar(), EntryType::Regular, attr);
        header.set_size(attr.size);
        self.extend(&name, b"", attr)?;
        self.header(&mut header, &name, b"")
    }

    /// GNU's old way: the map stands in the header and in blocks behind it.
    fn sparse(&mut self, path: &TreePath, data: &[Range<u64>], attr: &Attr) -> io::Result<()> {
        let name = path.to_bytes();
        let mut header = header(Header::new_gnu(), EntryType::GNUSparse, attr);
        let end = data.last().map_or(0, |range| range.end);
        // A hole at the end is told by an empty piece.
        let last = (end < attr.size).then_some(attr.size..attr.size);
        let mut pieces = data.iter().cloned().chain(last).peekable();
        header.set_size(data.iter().map(|range| range.end - range.start).sum());
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.set_real_size(attr.size);
            for (slot, piece) in gnu.sparse.iter_mut().zip(pieces.by_ref().take(4)) {
                slot.set_offset(piece.start);
                slot.set_length(piece.end - piece.start);
            }
            gnu.set_is_extended(pieces.peek().is_some());
        }
        self.extend(&name, b"", attr)?;
        self.header(&mut header, &name, b"")?;
        while pieces.peek().is_some() {
            let mut block = GnuExtSparseHeader::new();
            let slots = block.sparse.len();
            for (slot, piece) in block.sparse.iter_mut().zip(pieces.by_ref().take(slots)) {
                slot.set_offset(piece.start);
                slot.set_length(piece.end - piece.start);
            }
            block.set_is_extended(pieces.peek().is_some());
            self.0.write_all(block.as_bytes())?;
        }
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn end(&mut self, length: u64) -> io::Result<()> {
        self.pad(length)
    }
}

fn header(mut header: Header, kind: EntryType, attr: &Attr) -> Header {
    header.set_entry_type(kind);
    header.set_mode(attr.mode & 0o7777);
    header.set_uid(attr.uid.into());
    header.set_gid(attr.gid.into());
    header.set_mtime(attr.mtime.secs.clamp(0, HEADER_TIME_MAX) as u64);
    header.set_size(0);
    header
}

/// Copies what fits; a longer name is in a pax header.
fn fill(field: &mut [u8; 100], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits too.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn time(time: Timestamp) -> String {
    match time {
        Timestamp { secs, nanos } if secs < 0 && nanos > 0 => {
            let (whole, fraction) = (-(secs + 1), 1_000_000_000 - nanos);
            format!("-{whole}.{fraction:09}")
        }
        Timestamp { secs, nanos: 0 } => secs.to_string(),
        Timestamp { secs, nanos } => format!("{secs}.{nanos:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for length in [1, 89, 90, 91, 92, 988, 989, 990, 5000] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let told = records.split(|&byte| byte == b' ').next().unwrap();
            let told: usize = std::str::from_utf8(told).unwrap().parse().unwrap();
            assert_eq!(told, records.len());
        }
    }

    #[test]
    fn times_before_1970() {
        let at = |secs, nanos| time(Timestamp { secs, nanos });
        assert_eq!(at(-1, 0), "-1");
        assert_eq!(at(-1, 500_000_000), "-0.500000000");
        assert_eq!(at(-2, 500_000_000), "-1.500000000");
        assert_eq!(at(3, 7), "3.000000007");
    }
}
