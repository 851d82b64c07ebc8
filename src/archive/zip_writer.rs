//! Members into a zip, as a stream: nothing is sought, so that a pipe will do.

use std::io::{self, Write};
use std::ops::Range;

use rustix::fs::FileType;
use zip::write::{FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime};

use super::member_writer::MemberWriter;
use crate::store::{Attr, Timestamp, TreePath};

/// Info-ZIP's extended timestamp: flags, then seconds of Unix time.
const TIMESTAMP_FIELD: u16 = 0x5455;
const HAS_MTIME: u8 = 1;

/// Writes a zip. Must be [finished](Self::finish).
pub(super) struct ZipWriter<W: Write>(zip::ZipWriter<StreamWriter<W>>);

impl<W: Write> ZipWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(zip::ZipWriter::new_stream(writer))
    }

    /// Writes the directory at the end.
    pub(super) fn finish(self) -> io::Result<W> {
        Ok(self.0.finish()?.into_inner())
    }

    fn start(
        &mut self,
        name: &[u8],
        mode: u32,
        method: CompressionMethod,
        attr: &Attr,
    ) -> io::Result<()> {
        let options = options(mode, attr)?.name(name).compression_method(method);
        Ok(self.0.start_file_with_options(options)?)
    }
}

/// All that a member has beside its name and content.
fn options(mode: u32, attr: &Attr) -> io::Result<FullFileOptions<'static, 'static>> {
    let mut options = FullFileOptions::default()
        .last_modified_time(dos_time(attr.mtime))
        .external_attributes(mode << 16)
        .large_file(attr.size >= u64::from(u32::MAX));
    if let Ok(secs) = i32::try_from(attr.mtime.secs) {
        let mut field = vec![HAS_MTIME];
        field.extend_from_slice(&secs.to_le_bytes());
        options.add_extra_field(TIMESTAMP_FIELD, field, false)?;
    }
    Ok(options)
}

fn mode(kind: FileType, attr: &Attr) -> u32 {
    kind.as_raw_mode() | attr.mode & 0o7777
}

impl<W: Write> MemberWriter for ZipWriter<W> {
    fn has_links(&self) -> bool {
        false
    }

    fn has_holes(&self) -> bool {
        false
    }

    fn directory(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        let mut name = path.to_bytes();
        name.push(b'/');
        match String::from_utf8(name) {
            Ok(name) => {
                let options = options(mode(FileType::Directory, attr), attr)?;
                Ok(self.0.add_directory(name, options)?)
            }
            // The crate takes no other directories. A slash at the end tells it as well as a mode.
            Err(error) => {
                let (mode, stored) = (attr.mode & 0o7777, CompressionMethod::Stored);
                self.start(error.as_bytes(), mode, stored, attr)
            }
        }
    }

    fn symlink(&mut self, path: &TreePath, target: &[u8], attr: &Attr) -> io::Result<()> {
        let (mode, stored) = (mode(FileType::Symlink, attr), CompressionMethod::Stored);
        self.start(&path.to_bytes(), mode, stored, attr)?;
        self.0.write_all(target)
    }

    fn link(&mut self, _: &TreePath, _: &TreePath, _: &Attr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn file(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        let (mode, deflated) = (
            mode(FileType::RegularFile, attr),
            CompressionMethod::Deflated,
        );
        self.start(&path.to_bytes(), mode, deflated, attr)
    }

    fn sparse(&mut self, _: &TreePath, _: &[Range<u64>], _: &Attr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn end(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The clock of DOS, in UTC: even seconds from 1980 to 2107, the nearest where the time lies outside.
fn dos_time(time: Timestamp) -> DateTime {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let secs = time.secs.clamp(FIRST, LAST);
    let (days, clock) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    DateTime::from_date_and_time(
        year as u16,
        month as u8,
        day as u8,
        hour as u8,
        minute as u8,
        second as u8,
    )
    .unwrap_or_default()
}

/// The Gregorian date of a day counted from 1970-01-01, by years that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let since_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * since_march + 2) / 5 + 1;
    let month = if since_march < 10 {
        since_march + 3
    } else {
        since_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(3652), (1980, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(50_402), (2107, 12, 31));
    }

    #[test]
    fn a_time_outside_is_the_nearest() {
        let at = |secs| dos_time(Timestamp { secs, nanos: 0 });
        assert_eq!(at(-1).year(), 1980);
        assert_eq!(at(i64::MAX).year(), 2107);
        let time = at(1_700_000_000);
        assert_eq!((time.year(), time.month(), time.day()), (2023, 11, 14));
        assert_eq!((time.hour(), time.minute(), time.second()), (22, 13, 20));
    }
}
