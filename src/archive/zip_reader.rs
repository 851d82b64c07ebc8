//! The members of a zip.

use std::io::{Read, Seek};

use rustix::fs::FileType;
use zip::read::ZipFile;
use zip::result::ZipError;
use zip::{ExtraField, ZipArchive};

use super::error::{ArchiveError, ArchiveSource, MemberProblem};
use super::unpack_target::UnpackTarget;
use crate::stage::member::{MemberAttributes, MemberContent};
use crate::store::{Kind, Timestamp};

/// Puts all members into `target`.
pub(super) fn unpack(
    file: impl Read + Seek,
    archive: &ArchiveSource,
    target: &mut UnpackTarget<'_>,
) -> Result<(), ArchiveError> {
    let mut zip = ZipArchive::new(file).map_err(|error| whole_error(error, archive))?;
    for index in 0..zip.len() {
        let name = zip
            .by_index_raw(index)
            .map(|member| (member.name_raw().to_vec(), member.encrypted()))
            .map_err(|error| whole_error(error, archive))?;
        let (name, encrypted) = name;
        if encrypted {
            return Err(archive.member(&name, MemberProblem::Encrypted));
        }
        let mut member = zip
            .by_index(index)
            .map_err(|error| member_error(error, &name, archive))?;
        unpack_member(&mut member, &name, archive, target)?;
    }
    Ok(())
}

fn unpack_member<R: Read>(
    member: &mut ZipFile<'_, R>,
    name: &[u8],
    archive: &ArchiveSource,
    target: &mut UnpackTarget<'_>,
) -> Result<(), ArchiveError> {
    let path = target.path(name)?;
    let mode = member.unix_mode();
    let kind = match mode.map(FileType::from_raw_mode) {
        _ if name.ends_with(b"/") => FileType::Directory,
        // Programs of other systems tell no kind.
        None | Some(FileType::Unknown) => FileType::RegularFile,
        Some(kind) => kind,
    };
    let permissions = mode.map(|mode| mode & 0o7777).filter(|&mode| mode != 0);
    let attributes = |otherwise| MemberAttributes {
        mode: permissions.unwrap_or(otherwise),
        mtime: modified(member),
    };
    match kind {
        FileType::Directory => target.directory(&path, attributes(0o755)),
        FileType::RegularFile => {
            let (attributes, expected) = (attributes(0o644), member.size());
            target.file(&path, attributes, expected, MemberContent::Whole(member))
        }
        FileType::Symlink => {
            let attributes = attributes(0o777);
            let mut link = Vec::new();
            // One byte more than a target can have tells that it is too long.
            let read = member.take(4096).read_to_end(&mut link);
            read.map_err(|error| archive.unread(error))?;
            target.symlink(&path, name, link, attributes)
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            Err(archive.member(name, MemberProblem::Device))
        }
        FileType::Fifo => {
            target.leave_behind(&path, Kind::Fifo);
            Ok(())
        }
        _ => {
            target.leave_behind(&path, Kind::Socket);
            Ok(())
        }
    }
}

/// Seconds of Unix time where a program wrote them, otherwise the clock of DOS, taken as UTC.
fn modified<R: Read>(member: &ZipFile<'_, R>) -> Timestamp {
    let extended = member.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    let secs = match extended {
        // Signed, as Info-ZIP writes it.
        Some(secs) => i64::from(secs as i32),
        None => member.last_modified().map_or(0, |time| {
            let days = days(time.year().into(), time.month().into(), time.day().into());
            let clock = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60;
            days * 86_400 + clock + i64::from(time.second())
        }),
    };
    Timestamp { secs, nanos: 0 }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let in_year = (153 * since_march + 2) / 5 + day - 1;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + in_year - 719_468
}

fn whole_error(error: ZipError, archive: &ArchiveSource) -> ArchiveError {
    match error {
        ZipError::Io(error) => archive.unread(error),
        error => archive.damaged(error.to_string()),
    }
}

fn member_error(error: ZipError, name: &[u8], archive: &ArchiveSource) -> ArchiveError {
    let unsupported = |what: String| archive.member(name, MemberProblem::Unsupported(what));
    match error {
        ZipError::CompressionMethodNotSupported(method) => {
            unsupported(format!("compressed by method {method}"))
        }
        ZipError::UnsupportedArchive(what) => unsupported(format!("a zip with {what}")),
        error => whole_error(error, archive),
    }
}

#[cfg(test)]
mod tests {
    use super::days;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(1980, 1, 1), 3652);
        assert_eq!(days(2000, 2, 29), 11016);
        assert_eq!(days(2000, 3, 1), 11017);
        assert_eq!(days(2107, 12, 31), 50402);
    }
}
