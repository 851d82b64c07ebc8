//! Where the mount differs from tmpfs, and why that is right: the whole list.
//!
//! Never looked at, because it has no meaning across file systems or by nature differs:
//! - `st_dev`, inode numbers, the values of times, the order of a listing and its positions;
//! - the file system's type (`f_type`, `/proc/mounts`) and its id;
//! - atime moved by reading: the mount behaves as with `noatime`, as reads of cached pages never reach it.
//!
//! Everything else that differs is a [`Difference`], which says what each side must answer. So a change of
//! either side fails the case, also one that would make them agree.

use std::fmt::Debug;

/// One way in which the mount differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// fuser 0.18 has no `TMPFILE` request, so that the kernel answers EOPNOTSUPP. `tempfile` and glibc's
    /// `tmpfile` then make a file and unlink it.
    NoTmpfile,
    /// What a process writes in a mapping past the end of the file, in its last page, is never stored.
    /// tmpfs keeps the page as it is, and shows those bytes when the file grows.
    NothingPastTheEnd,
    /// The protocol tells a caller's first group only. For a file with set-group-id and without group
    /// execute (mandatory locking, until Linux 5.15), a member by a supplementary group counts as a
    /// stranger, and the bit goes when the file is written: the safe side.
    FirstGroupOnly,
    /// tmpfs zeroes no ranges in place; the mount does.
    ZeroRangeWorks,
    /// No POSIX ACLs, which `ServeOptions::extended_attributes` explains: EOPNOTSUPP, as where a file system was
    /// mounted without them.
    NoAcl,
    /// In a user namespace only the user's own ids exist: EINVAL for the others before EPERM is thought of.
    OneUser,
}

/// On which side something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Tmpfs,
    Mount,
}

/// `linux/magic.h`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const FUSE_MAGIC: i64 = 0x6573_5546;

impl Side {
    /// Where this process's working directory is.
    pub fn here() -> Option<Self> {
        match rustix::fs::statfs(".").ok()?.f_type as i64 {
            TMPFS_MAGIC => Some(Self::Tmpfs),
            FUSE_MAGIC => Some(Self::Mount),
            _ => None,
        }
    }

    /// As an argument of this program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Mount => "mount",
        }
    }
}

/// Writes down a result that differs as agreed: the mount must answer `mount`, tmpfs `tmpfs`.
///
/// The answers are given as they are shown, as a prefix.
pub fn allowed(why: Difference, label: &str, value: impl Debug, tmpfs: &str, mount: &str) {
    let wanted = match Side::here() {
        Some(Side::Mount) => mount,
        _ => tmpfs,
    };
    let shown = format!("{value:?}");
    if shown.starts_with(wanted) {
        println!("{label} = as agreed ({why:?})");
    } else {
        println!("{label} = {shown}, agreed was {wanted} ({why:?})");
    }
}
