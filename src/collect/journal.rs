//! Putting files into place so that all of them can be taken back.
//!
//! A file is written without a name (`O_TMPFILE`), so that nothing of it is left whenever we are
//! killed. At the end it either appears under its name at once, where there was none, or gets a
//! hidden name for the moment in which it changes places with the old file. The old file keeps the
//! hidden name until everything else is in place too.
//!
//! A hidden name is only ever renamed or removed: attributes are given by descriptor before.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::destination::MOUNT_POINT;
use super::host::{Host, Identity, identity, split, with_hidden_name};
use super::host_path::{HostPath, to_host};
use crate::store::Name;

/// How often a destination may come and go under our hands before we give up.
const RACES_MAX: usize = 16;

/// A file or symlink that is complete and has no place yet.
#[derive(Debug)]
pub(super) enum Temporary {
    /// No name at all: dropped, nothing of it is left.
    Unnamed(Arc<File>),
    /// A hidden name, to be [discarded](Self::discard).
    Named(Hidden),
}

/// A file or symlink under a hidden name.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    place: HostPath,
    id: Identity,
}

impl Temporary {
    /// An empty file in an existing directory, together with its open file.
    pub(super) fn file(
        host: &mut Host,
        directory: &HostPath,
        mode: u32,
    ) -> io::Result<(Self, Arc<File>)> {
        let (at, mode) = (host.directory(directory)?, Mode::from_raw_mode(mode));
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(at, ".", flags, mode) {
            Ok(opened) => {
                let file = Arc::new(File::from(opened));
                Ok((Self::Unnamed(file.clone()), file))
            }
            // Errnos of file systems and kernels that know no O_TMPFILE, see open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let flags = flags | OFlags::WRONLY;
                let (name, file) =
                    with_hidden_name(|name| rustix::fs::openat(at, name, flags, mode))?;
                let id = identity(&rustix::fs::fstat(&file)?);
                let hidden = Hidden::new(directory, &name, id)?;
                Ok((Self::Named(hidden), Arc::new(File::from(file))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A symlink, which cannot be without a name; `finish` gets it, to change its attributes.
    pub(super) fn symlink(
        host: &mut Host,
        directory: &HostPath,
        target: &[u8],
        finish: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let at = host.directory(directory)?;
        let (name, ()) = with_hidden_name(|name| rustix::fs::symlinkat(target, at, name))?;
        // Not openat2: that refuses a symlink also where it is not to be followed.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(at, &*name, flags, Mode::empty())?;
        let id = identity(&rustix::fs::fstat(&made)?);
        let temporary = Self::Named(Hidden::new(directory, &name, id)?);
        let is = rustix::fs::readlinkat(&made, "", Vec::new());
        let finished = match is.is_ok_and(|is| is.as_bytes() == target) {
            true => finish(made.as_fd()),
            false => Err(changed()),
        };
        match finished {
            Ok(()) => Ok(temporary),
            Err(error) => {
                temporary.discard(host);
                Err(error)
            }
        }
    }

    /// Another name of it, in an existing directory.
    pub(super) fn link(&self, host: &mut Host, directory: &HostPath) -> io::Result<Self> {
        let hidden = match self {
            Self::Unnamed(file) => {
                let at = host.directory(directory)?;
                let (name, ()) = with_hidden_name(|name| link(file, at, name))?;
                Hidden::new(directory, &name, identity(&rustix::fs::fstat(file)?))?
            }
            Self::Named(hidden) => {
                let (from, old) = split(&hidden.place)?;
                let (from, at) = host.both(&from, directory)?;
                let (name, ()) = with_hidden_name(|name| {
                    rustix::fs::linkat(from, old, at, name, AtFlags::empty())
                })?;
                Hidden::new(directory, &name, hidden.id)?
            }
        };
        Ok(Self::Named(hidden))
    }

    /// Gives it a hidden name, in `directory` if it had none, and closes its descriptor.
    pub(super) fn named(self, host: &mut Host, directory: &HostPath) -> io::Result<Hidden> {
        match self {
            Self::Named(hidden) => Ok(hidden),
            unnamed => match unnamed.link(host, directory)? {
                Self::Named(hidden) => Ok(hidden),
                Self::Unnamed(_) => Err(Errno::INVAL.into()),
            },
        }
    }

    /// Removes it.
    pub(super) fn discard(self, host: &mut Host) {
        if let Self::Named(Hidden { place, id }) = self {
            // Whatever it is for has failed already.
            let _ = host.remove_file(&place, id);
        }
    }

    fn id(&self) -> io::Result<Identity> {
        match self {
            Self::Unnamed(file) => Ok(identity(&rustix::fs::fstat(file)?)),
            Self::Named(hidden) => Ok(hidden.id),
        }
    }

    /// Takes its place where there is nothing; false when there is something.
    fn appear(&self, host: &mut Host, place: &HostPath) -> io::Result<bool> {
        let (directory, name) = split(place)?;
        let result = match self {
            Self::Unnamed(file) => link(file, host.directory(&directory)?, name),
            Self::Named(hidden) => {
                let (from, old) = split(&hidden.place)?;
                let (from, to) = host.both(&from, &directory)?;
                appear_named((from, old), (to, name))
            }
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Hidden {
    fn new(directory: &HostPath, name: &[u8], id: Identity) -> io::Result<Self> {
        let name = Name::new(name).map_err(|_| Errno::INVAL)?;
        let place = directory.join(name);
        Ok(Self { place, id })
    }
}

/// What was done to the host, to be kept or taken back as a whole.
///
/// Dropped without [`keep`](Self::keep), it takes back what it can.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) host: Host,
    done: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    /// A directory that was not there.
    Directory(HostPath),
    /// A file where there was none.
    Appeared(HostPath, Identity),
    /// A file in the place of another one, which lies aside.
    Replaced { place: HostPath, aside: HostPath },
}

/// A destination that could not be put back; of a [`CollectError`](super::CollectError).
#[derive(Debug)]
pub struct Unrestored {
    /// The destination.
    pub place: PathBuf,
    /// Where its old content is now, if it had any.
    pub aside: Option<PathBuf>,
    /// Why it could not be put back.
    pub error: io::Error,
}

/// Destinations in a message.
pub(super) struct UnrestoredList<'l>(pub(super) &'l [Unrestored]);

impl fmt::Display for UnrestoredList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            Unrestored {
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

impl From<Host> for Journal {
    fn from(host: Host) -> Self {
        Self {
            host,
            done: Vec::new(),
        }
    }
}

impl Journal {
    /// Makes a directory; `false` for one that is there already, which is no work of ours.
    pub(super) fn directory(&mut self, place: &HostPath, mode: u32) -> io::Result<bool> {
        let made = self.host.make_directory(place, mode)?;
        if made.is_some() {
            self.done.push(Change::Directory(place.clone()));
        }
        Ok(made.is_some())
    }

    /// Gives `temporary` its place, setting aside what is there.
    pub(super) fn place(&mut self, temporary: Temporary, place: &HostPath) -> io::Result<()> {
        let mut temporary = Some(temporary);
        let placed = self.try_place(&mut temporary, place);
        if let Some(left) = temporary {
            left.discard(&mut self.host);
        }
        placed
    }

    fn try_place(&mut self, waits: &mut Option<Temporary>, place: &HostPath) -> io::Result<()> {
        let (directory, _) = split(place)?;
        for _ in 0..RACES_MAX {
            let Some(temporary) = waits.as_ref() else {
                return Err(changed());
            };
            let id = temporary.id()?;
            match self.host.stat(place)? {
                None => {
                    if temporary.appear(&mut self.host, place)? {
                        *waits = None;
                        self.done.push(Change::Appeared(place.clone(), id));
                        return self.is_there(place, id);
                    }
                }
                // An exchange would put it aside with all that is in it.
                Some(there) if is_directory(&there) => return Err(Errno::ISDIR.into()),
                Some(_) => {
                    let Some(temporary) = waits.take() else {
                        return Err(changed());
                    };
                    let hidden = temporary.named(&mut self.host, &directory)?;
                    *waits = Some(Temporary::Named(hidden.clone()));
                    match exchange(&mut self.host, &hidden.place, place) {
                        Ok(aside) => {
                            // From here on the name holds the old file or nothing.
                            *waits = None;
                            self.done.push(Change::Replaced {
                                place: place.clone(),
                                aside,
                            });
                            return self.is_there(place, id);
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(changed())
    }

    /// That what was put into place is ours: a hidden name can be given to something else meanwhile.
    fn is_there(&mut self, place: &HostPath, id: Identity) -> io::Result<()> {
        match self.host.stat(place)? {
            Some(there) if identity(&there) == id => Ok(()),
            _ => Err(changed()),
        }
    }

    /// Lets everything stay and removes what was set aside.
    pub(super) fn keep(&mut self) {
        for done in std::mem::take(&mut self.done) {
            if let Change::Replaced { aside, .. } = done {
                // All is delivered; an old file that cannot be removed is no failure of that.
                let _ = self.host.above(&aside).and_then(|(directory, name)| {
                    Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
                });
            }
        }
    }

    /// Takes everything back, the last first; returns what could not be.
    pub(super) fn take_back(&mut self) -> Vec<Unrestored> {
        let mut left = Vec::new();
        let done = std::mem::take(&mut self.done);
        for made in &done {
            if let Change::Directory(place) = made {
                // It may have got the mode of an output that must not be written.
                let _ = self.host.make_writable(place);
            }
        }
        for done in done.into_iter().rev() {
            let (place, aside, result) = match done {
                Change::Directory(place) => {
                    let removed = self.host.remove_directory(&place);
                    (place, None, removed)
                }
                // Unless another process has removed or replaced it since.
                Change::Appeared(place, ours) => {
                    let removed = self.host.remove_file(&place, ours);
                    (place, None, removed)
                }
                Change::Replaced { place, aside } => {
                    let back = rename(&mut self.host, &aside, &place);
                    (place, Some(aside), back)
                }
            };
            if let Err(error) = result {
                left.push(Unrestored {
                    place: to_host(&place),
                    aside: aside.as_ref().map(to_host),
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

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn changed() -> io::Error {
    io::Error::other("it is being changed by another process")
}

/// A name in an open directory.
type At<'a> = (BorrowedFd<'a>, &'a [u8]);

/// Gives an unnamed file a name that must be free.
fn link(file: &File, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::linkat(file, "", directory, name, AtFlags::EMPTY_PATH) {
        // Needs a capability before Linux 6.10, see open(2).
        Err(Errno::NOENT | Errno::PERM | Errno::INVAL) => {
            let through = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, through, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        linked => linked,
    }
}

/// Renames where nothing is yet.
fn appear_named(from: At<'_>, to: At<'_>) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        renamed => return renamed,
    }
    // The file system cannot promise it. A link cannot replace anything either.
    match rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(from.0, from.1, AtFlags::empty()),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        Err(_) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
    }
}

fn rename(host: &mut Host, from: &HostPath, to: &HostPath) -> io::Result<()> {
    let ((from, old), (to, new)) = (split(from)?, split(to)?);
    let (from, to) = host.both(&from, &to)?;
    Ok(rustix::fs::renameat(from, old, to, new)?)
}

/// Puts `new` into `place`; returns where the old file is now.
fn exchange(host: &mut Host, new: &HostPath, place: &HostPath) -> io::Result<HostPath> {
    let ((from, hidden), (to, name)) = (split(new)?, split(place)?);
    let fds = host.both(&from, &to)?;
    match rustix::fs::renameat_with(fds.0, hidden, fds.1, name, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(new.clone()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        Err(Errno::BUSY) => {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, MOUNT_POINT));
        }
        Err(error) => return Err(error.into()),
    }
    match replace_beside_link(host, new, place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => replace_after_move(host, new, place),
        replaced => replaced,
    }
}

/// Without exchange: a second name keeps the old file while it is replaced.
fn replace_beside_link(host: &mut Host, new: &HostPath, place: &HostPath) -> io::Result<HostPath> {
    let (at, old) = host.above(place)?;
    let (name, ()) =
        with_hidden_name(|name| rustix::fs::linkat(at, old, at, name, AtFlags::empty()))?;
    let aside = beside(place, &name)?;
    // Renaming onto another name of one file would do nothing; `new` is never that.
    if let Err(error) = rename(host, new, place) {
        let (at, name) = host.above(&aside)?;
        rustix::fs::unlinkat(at, name, AtFlags::empty())?;
        return Err(error);
    }
    Ok(aside)
}

/// Without links either, as on vfat: the place is empty for a moment.
fn replace_after_move(host: &mut Host, new: &HostPath, place: &HostPath) -> io::Result<HostPath> {
    let (at, old) = host.above(place)?;
    let (name, ()) = with_hidden_name(|name| appear_named((at, old), (at, name)))?;
    let aside = beside(place, &name)?;
    if let Err(error) = rename(host, new, place) {
        rename(host, &aside, place)?;
        return Err(error);
    }
    Ok(aside)
}

fn beside(place: &HostPath, name: &[u8]) -> io::Result<HostPath> {
    let name = Name::new(name).map_err(|_| Errno::INVAL)?;
    Ok(split(place)?.0.join(name))
}

#[cfg(test)]
mod tests {
    //! The ways of file systems that can do less, and what is swapped under our hands. Those that can do all are in
    //! `tests/it`.

    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::*;
    use crate::store::TreePath;

    fn at(path: &Path) -> HostPath {
        let below = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        TreePath::parse(below.strip_prefix("/").unwrap().as_os_str().as_bytes()).unwrap()
    }

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
            let aside = replace(&mut Host::default(), &at(&new), &at(&place)).unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"new");
            assert_eq!(fs::read(to_host(&aside)).unwrap(), b"old");
            assert_eq!(names(host.path()).len(), 2);
        }
    }

    #[test]
    fn a_replacement_that_fails_leaves_the_old_file_in_place() {
        for replace in [replace_beside_link, replace_after_move] {
            let host = tempfile::tempdir().unwrap();
            let place = host.path().join("place");
            fs::write(&place, "old").unwrap();
            let absent = at(&host.path().join("absent"));
            assert!(replace(&mut Host::default(), &absent, &at(&place)).is_err());
            assert_eq!(fs::read(&place).unwrap(), b"old");
            assert_eq!(names(host.path()), ["place"]);
        }
    }

    fn hidden(journal: &mut Journal, directory: &Path) -> Temporary {
        let directory = at(directory);
        let (temporary, file) = Temporary::file(&mut journal.host, &directory, 0o600).unwrap();
        io::Write::write_all(&mut &*file, b"new").unwrap();
        Temporary::Named(temporary.named(&mut journal.host, &directory).unwrap())
    }

    #[test]
    fn a_named_temporary_appears_and_is_taken_back() {
        let host = tempfile::tempdir().unwrap();
        let mut journal = Journal::default();
        let temporary = hidden(&mut journal, host.path());
        journal
            .place(temporary, &at(&host.path().join("place")))
            .unwrap();
        assert_eq!(names(host.path()), ["place"]);
        assert!(journal.take_back().is_empty());
        assert_eq!(names(host.path()), [""; 0]);
    }

    #[test]
    fn a_file_that_another_process_put_there_since_is_not_removed() {
        let host = tempfile::tempdir().unwrap();
        let place = host.path().join("place");
        let mut journal = Journal::default();
        let temporary = hidden(&mut journal, host.path());
        journal.place(temporary, &at(&place)).unwrap();
        fs::write(host.path().join("theirs"), "theirs").unwrap();
        fs::rename(host.path().join("theirs"), &place).unwrap();
        drop(journal);
        assert_eq!(fs::read(&place).unwrap(), b"theirs");
    }

    #[test]
    fn what_stands_under_the_hidden_name_meanwhile_is_not_delivered_as_ours() {
        let host = tempfile::tempdir().unwrap();
        let place = host.path().join("place");
        fs::write(&place, "old").unwrap();
        let mut journal = Journal::default();
        let temporary = hidden(&mut journal, host.path());
        let name = names(host.path()).into_iter().find(|name| name != "place");
        let swapped = host.path().join(name.unwrap());
        fs::remove_file(&swapped).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &swapped).unwrap();
        let error = journal.place(temporary, &at(&place)).unwrap_err();
        assert!(error.to_string().contains("changed by another process"));
        assert!(journal.take_back().is_empty());
        assert_eq!(fs::read(&place).unwrap(), b"old");
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_symlink_or_for_another_one_is_not_entered() {
        let host = tempfile::tempdir().unwrap();
        let (ours, theirs) = (host.path().join("ours"), host.path().join("theirs"));
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("file"), "theirs").unwrap();
        for swap in [true, false] {
            let mut journal = Journal::default();
            let (place, file) = (at(&ours), at(&ours.join("file")));
            assert!(journal.directory(&place, 0o700).unwrap());
            let temporary = hidden(&mut journal, host.path());
            fs::rename(&ours, host.path().join("moved")).unwrap();
            match swap {
                true => std::os::unix::fs::symlink(&theirs, &ours).unwrap(),
                false => fs::rename(&theirs, &ours).unwrap(),
            }
            assert!(journal.place(temporary, &file).is_err());
            assert!(journal.host.open_directory(&place).is_err());
            journal.keep();
            match swap {
                true => fs::remove_file(&ours).unwrap(),
                false => fs::rename(&ours, &theirs).unwrap(),
            }
            assert_eq!(fs::read(theirs.join("file")).unwrap(), b"theirs");
            assert_eq!(names(&theirs), ["file"]);
            fs::remove_dir(host.path().join("moved")).unwrap();
        }
    }
}
