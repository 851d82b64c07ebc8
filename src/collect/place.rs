//! Putting files into place so that all of them can be taken back.
//!
//! A file is written without a name (`O_TMPFILE`), so that nothing of it is left whenever we are
//! killed. At the end it either appears under its name at once, where there was none, or gets a
//! hidden name for the moment in which it changes places with the old file. The old file keeps the
//! hidden name until everything else is in place too.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use tempfile::TempPath;

use crate::store::Timestamp;

/// How often a destination may come and go under our hands before we give up.
const RACES_MAX: usize = 16;

/// A file or symlink that is complete and has no place yet. Dropped, nothing of it is left.
#[derive(Debug)]
pub(super) enum Temporary {
    /// No name at all.
    Unnamed(File),
    /// A hidden name.
    Named(TempPath),
}

impl Temporary {
    /// An empty file on the file system of `directory`, together with its open file.
    pub(super) fn file(directory: &Path) -> io::Result<(Self, File)> {
        Self::file_of_mode(directory, 0o600)
    }

    /// The same with the mode that a program's new files have.
    pub(super) fn plain_file(directory: &Path) -> io::Result<(Self, File)> {
        Self::file_of_mode(directory, 0o666)
    }

    fn file_of_mode(directory: &Path, mode: u32) -> io::Result<(Self, File)> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory, flags, Mode::from_raw_mode(mode)) {
            Ok(opened) => {
                let file = File::from(opened);
                Ok((Self::Unnamed(file.try_clone()?), file))
            }
            // Errnos of file systems and kernels that know no O_TMPFILE, see open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let mode = fs::Permissions::from_mode(mode);
                let made = hidden().permissions(mode).tempfile_in(directory)?;
                let (file, path) = made.into_parts();
                Ok((Self::Named(path), file))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A symlink, which cannot be without a name.
    pub(super) fn symlink(directory: &Path, target: &[u8], mtime: Timestamp) -> io::Result<Self> {
        let target = OsStr::from_bytes(target);
        let made = hidden().make_in(directory, |path| symlink(target, path))?;
        let path = made.into_temp_path();
        set_link_mtime(&path, mtime)?;
        Ok(Self::Named(path))
    }

    /// The same under a hidden name in `directory`, its descriptor closed.
    pub(super) fn named(self, directory: &Path) -> io::Result<TempPath> {
        match self {
            Self::Named(path) => Ok(path),
            Self::Unnamed(file) => Ok(hidden()
                .make_in(directory, |path| link(&file, path))?
                .into_temp_path()),
        }
    }

    /// Takes its place where there is nothing; gives itself back when there is something.
    fn appear(self, place: &Path) -> io::Result<Option<Self>> {
        let result = match &self {
            Self::Unnamed(file) => link(file, place),
            Self::Named(path) => appear_named(path, place),
        };
        match (result, self) {
            (Ok(()), Self::Named(path)) => path.keep().map(|_| None).map_err(|e| e.error),
            (Ok(()), Self::Unnamed(_)) => Ok(None),
            (Err(error), this) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(this)),
            (Err(error), _) => Err(error),
        }
    }
}

/// The attributes of a file that will replace another one, or none.
pub(super) fn finish_file(
    file: &File,
    mode: u32,
    mtime: Timestamp,
    replaced: Option<&Metadata>,
) -> io::Result<()> {
    if let Some(old) = replaced {
        keep_owner(file, old);
    }
    file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}

/// Owner and mode of the file that is replaced.
pub(super) fn take_after(file: &File, replaced: &Metadata) -> io::Result<()> {
    keep_owner(file, replaced);
    file.set_permissions(fs::Permissions::from_mode(replaced.mode() & 0o777))
}

/// Root's run must not take a user's file away from them.
fn keep_owner(file: &File, replaced: &Metadata) {
    if rustix::process::geteuid().is_root() {
        // Where this is refused (an id that is not mapped), the file is root's, as any new file.
        let (uid, gid) = (Uid::from_raw(replaced.uid()), Gid::from_raw(replaced.gid()));
        let _ = rustix::fs::fchown(file, Some(uid), Some(gid));
    }
}

/// What was done to the host, to be kept or taken back as a whole.
///
/// Dropped without [`keep`](Self::keep), it takes back what it can.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Done>);

#[derive(Debug)]
enum Done {
    /// A directory that was not there.
    Directory(PathBuf),
    /// A file where there was none, and its device and inode.
    Appeared(PathBuf, (u64, u64)),
    /// A file in the place of another one, which lies aside.
    Replaced { place: PathBuf, aside: PathBuf },
}

/// A destination that could not be put back; of a [`CollectError`](super::CollectError).
#[derive(Debug)]
pub struct Stranded {
    /// The destination.
    pub place: PathBuf,
    /// Where its old content is now, if it had any.
    pub aside: Option<PathBuf>,
    /// Why it could not be put back.
    pub error: io::Error,
}

/// Destinations in a message.
pub(super) struct List<'l>(pub(super) &'l [Stranded]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            Stranded {
                place,
                aside,
                error,
            },
        ) in self.0.iter().enumerate()
        {
            write!(
                f,
                "{}{place:?} ({error}",
                if index == 0 { "" } else { ", " }
            )?;
            match aside {
                Some(aside) => write!(f, "; its old content is in {aside:?})")?,
                None => write!(f, ")")?,
            }
        }
        Ok(())
    }
}

impl Journal {
    /// Makes a directory; `false` for one that is there already, which is no work of ours.
    pub(super) fn directory(&mut self, path: &Path, mode: u32) -> io::Result<bool> {
        match fs::DirBuilder::new().mode(mode).create(path) {
            Ok(()) => {
                self.0.push(Done::Directory(path.to_owned()));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not through a symlink, which may have come from an earlier delivery.
                let there = fs::symlink_metadata(path)?;
                if there.is_dir() {
                    Ok(false)
                } else {
                    Err(Errno::NOTDIR.into())
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Gives `temporary` its place, setting aside what is there.
    pub(super) fn place(&mut self, mut temporary: Temporary, place: &Path) -> io::Result<()> {
        for _ in 0..RACES_MAX {
            match fs::symlink_metadata(place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match temporary.appear(place)? {
                        None => {
                            let there = fs::symlink_metadata(place)?;
                            self.0
                                .push(Done::Appeared(place.to_owned(), identity(&there)));
                            return Ok(());
                        }
                        Some(back) => temporary = back,
                    }
                }
                Err(error) => return Err(error),
                // An exchange would put it aside with all that is in it.
                Ok(there) if there.is_dir() => return Err(Errno::ISDIR.into()),
                Ok(_) => {
                    let directory = place.parent().unwrap_or(Path::new("/"));
                    let path = temporary.named(directory)?;
                    match exchange(&path, place) {
                        Ok(aside) => {
                            // From here on the name holds the old file or nothing.
                            path.keep().map_err(|e| e.error)?;
                            self.0.push(Done::Replaced {
                                place: place.to_owned(),
                                aside,
                            });
                            return Ok(());
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {
                            temporary = Temporary::Named(path);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(io::Error::other("it is being changed by somebody else"))
    }

    /// Lets everything stay and removes what was set aside.
    pub(super) fn keep(mut self) {
        for done in self.0.drain(..) {
            if let Done::Replaced { aside, .. } = done {
                // All is delivered; an old file that cannot be removed is no failure of that.
                let _ = fs::remove_file(aside);
            }
        }
    }

    /// Takes everything back, the last first; returns what could not be.
    pub(super) fn take_back(&mut self) -> Vec<Stranded> {
        let mut left = Vec::new();
        for made in &self.0 {
            if let Done::Directory(path) = made {
                // It may have got the mode of an output that must not be written.
                let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
            }
        }
        for done in self.0.drain(..).rev() {
            let (place, aside, result) = match done {
                Done::Directory(path) => {
                    let result = fs::remove_dir(&path);
                    (path, None, result)
                }
                Done::Appeared(path, ours) => {
                    let result = match fs::symlink_metadata(&path) {
                        Ok(there) if identity(&there) == ours => fs::remove_file(&path),
                        // Somebody has removed or replaced it since.
                        _ => Ok(()),
                    };
                    (path, None, result)
                }
                Done::Replaced { place, aside } => {
                    let result = fs::rename(&aside, &place);
                    (place, Some(aside), result)
                }
            };
            if let Err(error) = result {
                left.push(Stranded {
                    place,
                    aside,
                    error,
                });
            }
        }
        left
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.take_back();
    }
}

/// Sets mode and time of a directory that we made and have filled.
pub(super) fn finish_directory(path: &Path, mode: u32, mtime: Timestamp) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(CWD, path, &times(mtime), flags)?)
}

fn set_link_mtime(path: &Path, mtime: Timestamp) -> io::Result<()> {
    match rustix::fs::utimensat(CWD, path, &times(mtime), AtFlags::SYMLINK_NOFOLLOW) {
        // Some file systems keep no time on a symlink.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".notapipe-").rand_bytes(12);
    builder
}

/// Gives an unnamed file a name that must be free.
fn link(file: &File, path: &Path) -> io::Result<()> {
    match rustix::fs::linkat(file, "", CWD, path, AtFlags::EMPTY_PATH) {
        // Needs a capability before Linux 6.10, see open(2).
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            use std::os::fd::AsRawFd;
            let through = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
            Ok(rustix::fs::linkat(
                CWD,
                through,
                CWD,
                path,
                AtFlags::SYMLINK_FOLLOW,
            )?)
        }
        linked => Ok(linked?),
    }
}

/// Renames where nothing is yet.
fn appear_named(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return Ok(renamed?),
    }
    // The file system cannot promise it. A link cannot replace anything either.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::rename(from, to),
    }
}

/// Puts `new` into `place`; returns where the old file is now.
fn exchange(new: &Path, place: &Path) -> io::Result<PathBuf> {
    match rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(new.to_owned()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    match replace_beside_link(new, place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => replace_after_move(new, place),
        replaced => replaced,
    }
}

/// Without exchange: a second name keeps the old file while it is replaced.
fn replace_beside_link(new: &Path, place: &Path) -> io::Result<PathBuf> {
    let directory = place.parent().unwrap_or(Path::new("/"));
    let linked = hidden().make_in(directory, |path| fs::hard_link(place, path))?;
    // Renaming onto another name of the same file would do nothing; `new` is never that.
    fs::rename(new, place)?;
    linked.into_temp_path().keep().map_err(|error| error.error)
}

/// Without links either, as on vfat: the place is empty for a moment.
fn replace_after_move(new: &Path, place: &Path) -> io::Result<PathBuf> {
    let directory = place.parent().unwrap_or(Path::new("/"));
    let moved = hidden().make_in(directory, |path| appear_named(place, path))?;
    let aside = moved.into_temp_path().keep().map_err(|error| error.error)?;
    if let Err(error) = fs::rename(new, place) {
        fs::rename(&aside, place)?;
        return Err(error);
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    //! The ways of file systems that can do less. Those that can do all are in `tests/it`.

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn without_exchange_the_old_file_is_kept_aside() {
        for replace in [replace_beside_link, replace_after_move] {
            let host = tempfile::tempdir().unwrap();
            let (new, place) = (host.path().join("new"), host.path().join("place"));
            fs::write(&new, "new").unwrap();
            fs::write(&place, "old").unwrap();
            let aside = replace(&new, &place).unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"new");
            assert_eq!(fs::read(&aside).unwrap(), b"old");
            assert_eq!(names(host.path()).len(), 2);
        }
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_file_in_place() {
        for replace in [replace_beside_link, replace_after_move] {
            let host = tempfile::tempdir().unwrap();
            let place = host.path().join("place");
            fs::write(&place, "old").unwrap();
            assert!(replace(&host.path().join("absent"), &place).is_err());
            assert_eq!(fs::read(&place).unwrap(), b"old");
            assert_eq!(names(host.path()), ["place"]);
        }
    }

    #[test]
    fn a_named_temporary_appears_and_is_taken_back() {
        let host = tempfile::tempdir().unwrap();
        let (file, path) = hidden().tempfile_in(host.path()).unwrap().into_parts();
        io::Write::write_all(&mut &file, b"new").unwrap();
        let place = host.path().join("place");
        let mut journal = Journal::default();
        journal.place(Temporary::Named(path), &place).unwrap();
        assert_eq!(names(host.path()), ["place"]);
        assert!(journal.take_back().is_empty());
        assert_eq!(names(host.path()), [""; 0]);
    }

    #[test]
    fn a_file_that_somebody_else_put_there_since_is_not_removed() {
        let host = tempfile::tempdir().unwrap();
        let place = host.path().join("place");
        let (temporary, file) = Temporary::file(host.path()).unwrap();
        let mut journal = Journal::default();
        journal.place(temporary, &place).unwrap();
        fs::write(host.path().join("theirs"), "theirs").unwrap();
        fs::rename(host.path().join("theirs"), &place).unwrap();
        drop(journal);
        assert_eq!(fs::read(&place).unwrap(), b"theirs");
        drop(file);
    }
}
