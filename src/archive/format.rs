//! Which kind of archive.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of an archive's beginning that tell its format.
pub(super) const HEAD_BYTES: usize = 512;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A plain tar (POSIX pax and GNU).
    Tar,
    /// A tar compressed with gzip.
    TarGz,
    /// A tar compressed with zstd.
    TarZst,
    /// A tar compressed with xz.
    TarXz,
    /// A zip.
    Zip,
}

/// Endings of file names, the longer ones of several that fit first.
const ENDINGS: [(&str, Format); 9] = [
    (".tar", Format::Tar),
    (".tar.gz", Format::TarGz),
    (".tgz", Format::TarGz),
    (".tar.zst", Format::TarZst),
    (".tar.zstd", Format::TarZst),
    (".tzst", Format::TarZst),
    (".tar.xz", Format::TarXz),
    (".txz", Format::TarXz),
    (".zip", Format::Zip),
];

impl Format {
    /// What people are told when a name fits none.
    pub const NAMES: &str = ".tar, .tar.gz, .tgz, .tar.zst, .tar.xz or .zip";

    /// The format that a file name asks for, by its ending in any case; none when it is no archive's.
    ///
    /// ```
    /// use notapipe::archive::Format;
    ///
    /// assert_eq!(Format::of_name("out/game.tar.zst".as_ref()), Some(Format::TarZst));
    /// assert_eq!(Format::of_name("game.gb".as_ref()), None);
    /// ```
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name().map(OsStr::as_bytes)?.to_ascii_lowercase();
        ENDINGS
            .iter()
            .find(|(ending, _)| name.ends_with(ending.as_bytes()) && name.len() > ending.len())
            .map(|&(_, format)| format)
    }

    /// The format by an archive's first 512 bytes. A tar from before POSIX has no mark and is not known by them.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::archive::Format;
    ///
    /// assert_eq!(Format::of_content(b"PK\x03\x04"), Some(Format::Zip));
    /// assert_eq!(Format::of_content(b"SECTION"), None);
    /// ```
    pub fn of_content(head: &[u8]) -> Option<Self> {
        let empty_tar = head.len() == HEAD_BYTES && head.iter().all(|&byte| byte == 0);
        match head {
            [0x1f, 0x8b, ..] => Some(Self::TarGz),
            // A frame, or one to be skipped (RFC 8878).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Some(Self::TarZst)
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::TarXz),
            // A member, or an empty archive.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            _ if head.get(257..262) == Some(b"ustar") || empty_tar => Some(Self::Tar),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::TarXz => "tar.xz",
            Self::Zip => "zip",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn names() {
        for (name, format) in [
            ("a.tar", Some(Format::Tar)),
            ("a.TAR.GZ", Some(Format::TarGz)),
            ("a.b.tgz", Some(Format::TarGz)),
            ("x/a.tar.xz", Some(Format::TarXz)),
            ("a.zip", Some(Format::Zip)),
            ("a.gz", None),
            (".zip", None),
            ("a.tar/", Some(Format::Tar)),
            ("tar", None),
            ("", None),
        ] {
            assert_eq!(Format::of_name(name.as_ref()), format, "{name}");
        }
    }
}
