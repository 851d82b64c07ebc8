//! Walking a directory that steps have written in: by descriptors, so that no symlink leads elsewhere, and with two of
//! them however deep it is.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, chmodat, fstat, openat, statat,
};
use rustix::io::Errno;

use crate::run::error::Error;

/// Whether what a step has closed to its own user is opened up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    LeftOut,
    OpenedUp,
}

/// What is done on the way.
pub(super) trait Visitor {
    /// What a directory is to the visitor.
    type Directory: Copy;

    /// A directory has been entered; these are all names in it.
    fn enter(&mut self, entered: Self::Directory, names: &[CString]) -> Result<(), Error>;

    /// Something in it; a directory that is to be entered is told by what it is.
    fn visit(
        &mut self,
        within: Self::Directory,
        directory: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<Option<Self::Directory>, Error>;
}

struct Level<D> {
    /// What the directory is to the visitor.
    is: D,
    /// What is still to be seen, the last first.
    names: Vec<CString>,
    id: (u64, u64),
}

/// Visits all that is below a directory, depth first, in the order of the names. What goes meanwhile is left out.
pub(super) fn walk<V: Visitor>(
    root: BorrowedFd<'_>,
    is: V::Directory,
    closed: Closed,
    visitor: &mut V,
) -> Result<(), Error> {
    let mut directory = open_directory(root, c".").map_err(unreadable)?;
    let mut levels = vec![enter(&directory, is, visitor)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            if let Some(above) = levels.last() {
                directory = go_up(&directory, above.id).map_err(unreadable)?;
            }
            continue;
        };
        let stat = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(unreadable(errno)),
        };
        let Some(is) = visitor.visit(level.is, directory.as_fd(), &name, &stat)? else {
            continue;
        };
        let is_closed = stat.st_mode & 0o500 != 0o500;
        if is_closed && closed == Closed::LeftOut {
            continue;
        }
        if is_closed {
            open_up(directory.as_fd(), &name, &stat).map_err(unreadable)?;
        }
        directory = open_directory(directory.as_fd(), &name).map_err(unreadable)?;
        levels.push(enter(&directory, is, visitor)?);
    }
    Ok(())
}

fn enter<V: Visitor>(
    directory: &OwnedFd,
    is: V::Directory,
    visitor: &mut V,
) -> Result<Level<V::Directory>, Error> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    visitor.enter(is, &names)?;
    let id = id(&fstat(directory).map_err(unreadable)?);
    Ok(Level { is, names, id })
}

/// The directory above, if that is still the one that was come from.
pub(super) fn go_up(directory: &OwnedFd, expected: (u64, u64)) -> io::Result<OwnedFd> {
    let above = open_directory(directory.as_fd(), c"..")?;
    match id(&fstat(&above)?) == expected {
        true => Ok(above),
        false => Err(io::Error::other("a directory was moved while it was read")),
    }
}

pub(super) fn open_directory(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
pub(super) fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// Lets its owner read and write a file, and enter a directory. No symlink is followed.
pub(super) fn open_up(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let needed = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 0o700,
        _ => 0o600,
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = openat(directory, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", there.as_raw_fd());
    let mode = Mode::from_raw_mode(stat.st_mode | needed);
    chmodat(CWD, path, mode, AtFlags::empty())
}

pub(super) fn unreadable(source: impl Into<io::Error>) -> Error {
    Error::Processes {
        operation: "take back what was written by",
        source: source.into(),
    }
}
