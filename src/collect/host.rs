//! Directories of the host, walked by descriptors.
//!
//! The owner of a directory on the way can put a symlink or another directory into the place of one at any moment. So a
//! name is looked up below a directory that is open and never followed, and a directory must keep its device and
//! inode from the first look to the last. What is then made, changed or renamed is reached through its open directory.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::host_path::{HostPath, to_host};
use crate::store::Name;

/// Device, inode and kind: a number may be given again to something else.
pub(super) type Identity = (u64, u64, FileType);

/// How many directories above outputs are held open from the first look on, and how many each walk holds.
const HELD_MAX: usize = 16;

/// To stand at a directory or above a file, which needs no permission to read it.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// A part of the descriptors that we may have, and at most `most`: other jobs of this process need some too.
pub(super) fn descriptors(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 8).map_or(most, |part| part.clamp(2, most))
}

/// The host's directories as a delivery sees them, from two places at once: a rename needs both.
#[derive(Debug, Default)]
pub(super) struct Host {
    known: Known,
    walks: [Walk; 2],
}

/// What was met, and what is held.
#[derive(Debug)]
struct Known {
    held: Vec<Held>,
    met: HashMap<HostPath, Identity>,
    /// How many descriptors these may be, and each walk may hold.
    most: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            met: HashMap::new(),
            most: descriptors(HELD_MAX),
        }
    }
}

/// A directory that is held open, so that it is this one that is delivered into.
#[derive(Debug)]
struct Held {
    path: HostPath,
    directory: OwnedFd,
}

impl Host {
    /// Holds a directory, or the nearest one above it that exists. Beyond some, they are only known.
    pub(super) fn hold(&mut self, path: &HostPath) -> io::Result<()> {
        let (path, _) = self.nearest(path)?;
        if self
            .known
            .held_above(&path)
            .is_none_or(|root| root.path != path)
            && self.known.held.len() < self.known.most
        {
            let directory = self.directory(&path)?.try_clone_to_owned()?;
            self.known.held.push(Held { path, directory });
        }
        Ok(())
    }

    /// Holds a directory that is open already.
    pub(super) fn hold_open(&mut self, path: &HostPath, directory: OwnedFd) {
        let path = path.clone();
        self.known.held.push(Held { path, directory });
    }

    /// Fails where another directory, or none, stands where one that is held was: what is delivered would not be where
    /// the caller said.
    pub(super) fn check_held(&self) -> Result<(), (HostPath, io::Error)> {
        for root in &self.known.held {
            let mut walk = Walk::default();
            let mut known = Known::default();
            let reached = walk.go(&mut known, &root.path).and_then(|()| {
                let is = identity(&rustix::fs::fstat(walk.here()?)?);
                match is == identity(&rustix::fs::fstat(&root.directory)?) {
                    true => Ok(()),
                    false => Err(replaced(&root.path)),
                }
            });
            reached.map_err(|error| (root.path.clone(), error))?;
        }
        Ok(())
    }

    /// A directory.
    pub(super) fn directory(&mut self, path: &HostPath) -> io::Result<BorrowedFd<'_>> {
        let [walk, _] = &mut self.walks;
        walk.go(&mut self.known, path)?;
        walk.here()
    }

    /// Two directories.
    pub(super) fn both(
        &mut self,
        one: &HostPath,
        other: &HostPath,
    ) -> io::Result<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        let [first, second] = &mut self.walks;
        first.go(&mut self.known, one)?;
        second.go(&mut self.known, other)?;
        Ok((first.here()?, second.here()?))
    }

    /// The directory itself or the nearest one above it that exists.
    pub(super) fn nearest(&mut self, path: &HostPath) -> io::Result<(HostPath, BorrowedFd<'_>)> {
        let [walk, _] = &mut self.walks;
        match walk.go(&mut self.known, path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let path = walk.levels.last().map(|level| level.path.clone());
        Ok((path.unwrap_or_default(), walk.here()?))
    }

    /// What stands at a place, itself; none where there is nothing.
    pub(super) fn stat(&mut self, place: &HostPath) -> io::Result<Option<Stat>> {
        if place.is_root() {
            return Ok(Some(rustix::fs::fstat(self.directory(place)?)?));
        }
        let found = self.above(place).and_then(|(directory, name)| {
            Ok(rustix::fs::statat(
                directory,
                name,
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        });
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// The directory that holds a place, and the name there.
    pub(super) fn above<'h, 'p>(
        &'h mut self,
        place: &'p HostPath,
    ) -> io::Result<(BorrowedFd<'h>, &'p [u8])> {
        let (parent, name) = split(place)?;
        Ok((self.directory(&parent)?, name))
    }

    /// Makes a directory; `None` where one is already.
    pub(super) fn make_directory(
        &mut self,
        place: &HostPath,
        mode: u32,
    ) -> io::Result<Option<Identity>> {
        let (above, name) = self.above(place)?;
        match rustix::fs::mkdirat(above, name, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
                return match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => Ok(None),
                    _ => Err(Errno::NOTDIR.into()),
                };
            }
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let made = open_below(above, name, flags, Mode::empty())?;
        // Another process may have put a directory there since; one that holds something is not ours.
        if !entries(&made)?.is_empty() {
            return Err(replaced(place));
        }
        let id = identity(&rustix::fs::fstat(&made)?);
        self.known.met.insert(place.clone(), id);
        Ok(Some(id))
    }

    /// Opens a directory that was made or met before, to change its attributes.
    pub(super) fn open_directory(&mut self, place: &HostPath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (above, name) = self.above(place)?;
        let opened = open_below(above, name, flags, Mode::empty())?;
        self.known
            .check(place, identity(&rustix::fs::fstat(&opened)?))?;
        Ok(opened)
    }

    /// Lets its owner empty a directory that was made, whatever mode it has got since.
    pub(super) fn make_writable(&mut self, place: &HostPath) -> io::Result<()> {
        let (above, name) = self.above(place)?;
        let opened = open_below(above, name, DIRECTORY, Mode::empty())?;
        self.known
            .check(place, identity(&rustix::fs::fstat(&opened)?))?;
        // Without permission to read it, this is the only way that leads to what was opened.
        let through = format!("/proc/self/fd/{}", opened.as_raw_fd());
        Ok(rustix::fs::chmod(through, Mode::RWXU)?)
    }

    /// Expects this directory at a place from now on.
    pub(super) fn expect(&mut self, place: &HostPath, id: Identity) {
        self.known.met.insert(place.clone(), id);
    }

    /// Removes a directory that was made or met before, with all that is in it.
    pub(super) fn remove_tree(&mut self, top: &HostPath) -> io::Result<()> {
        let mut pending = vec![(top.clone(), false)];
        while let Some((path, is_empty)) = pending.pop() {
            if is_empty {
                self.remove_directory(&path)?;
                continue;
            }
            // Where it fails, emptying it tells.
            let _ = self.make_writable(&path);
            let opened = self.open_directory(&path)?;
            pending.push((path.clone(), true));
            for (name, kind) in entries(&opened)? {
                if kind == FileType::Directory {
                    let name = Name::new(name.to_bytes()).map_err(|_| Errno::NAMETOOLONG)?;
                    pending.push((path.join(name), false));
                } else {
                    rustix::fs::unlinkat(&opened, &*name, AtFlags::empty())?;
                }
            }
        }
        Ok(())
    }

    /// Removes an empty directory that was made or met before.
    pub(super) fn remove_directory(&mut self, place: &HostPath) -> io::Result<()> {
        if let Some(there) = self.stat(place)? {
            self.known.check(place, identity(&there))?;
        }
        let (above, name) = self.above(place)?;
        Ok(rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)?)
    }

    /// Removes a file or symlink of this identity; another one stays.
    pub(super) fn remove_file(&mut self, place: &HostPath, id: Identity) -> io::Result<()> {
        match self.stat(place)? {
            Some(there) if identity(&there) == id => {
                let (above, name) = self.above(place)?;
                Ok(rustix::fs::unlinkat(above, name, AtFlags::empty())?)
            }
            _ => Ok(()),
        }
    }
}

impl Known {
    /// The deepest directory that is held above a path.
    fn held_above(&self, path: &HostPath) -> Option<&Held> {
        let above = self.held.iter().filter(|root| path.starts_with(&root.path));
        above.max_by_key(|root| root.path.depth())
    }

    /// That it is the directory that was met there before.
    fn check(&mut self, path: &HostPath, id: Identity) -> io::Result<()> {
        match *self.met.entry(path.clone()).or_insert(id) == id {
            true => Ok(()),
            false => Err(replaced(path)),
        }
    }
}

/// The directories from one that is held, or from `/`, down to where a walk stands.
#[derive(Debug, Default)]
struct Walk {
    levels: Vec<Level>,
    /// Of the deepest of them. Those above are found again by the `..` below them.
    open: VecDeque<OwnedFd>,
}

#[derive(Debug)]
struct Level {
    path: HostPath,
    id: Identity,
}

impl Walk {
    fn here(&self) -> io::Result<BorrowedFd<'_>> {
        self.open
            .back()
            .map(AsFd::as_fd)
            .ok_or_else(|| Errno::BADF.into())
    }

    /// Goes to a directory, by the nearest one above both. Where it fails, the walk stands at the last one on the way.
    fn go(&mut self, known: &mut Known, to: &HostPath) -> io::Result<()> {
        let root = known.held_above(to);
        let from = root.map(|root| &root.path).cloned().unwrap_or_default();
        if self.levels.first().is_none_or(|top| top.path != from) {
            let top = match root {
                Some(root) => root.directory.try_clone()?,
                None => rustix::fs::openat(CWD, "/", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            };
            *self = Self::default();
            self.stand(known, from, top)?;
        }
        while let Some(level) = self.levels.last()
            && !to.starts_with(&level.path)
        {
            self.leave().inspect_err(|_| *self = Self::default())?;
        }
        while let Some(level) = self.levels.last()
            && level.path.depth() < to.depth()
        {
            let next = to.ancestor(level.path.depth() + 1);
            let (_, name) = split(next)?;
            let opened = open_below(self.here()?, name, DIRECTORY, Mode::empty())?;
            self.stand(known, next.clone(), opened)?;
        }
        Ok(())
    }

    fn stand(&mut self, known: &mut Known, path: HostPath, directory: OwnedFd) -> io::Result<()> {
        let id = identity(&rustix::fs::fstat(&directory)?);
        known.check(&path, id)?;
        self.levels.push(Level { path, id });
        self.open.push_back(directory);
        if self.open.len() > known.most {
            self.open.pop_front();
        }
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let left = self.open.pop_back();
        self.levels.pop();
        if let (Some(left), Some(above), true) = (left, self.levels.last(), self.open.is_empty()) {
            let opened =
                rustix::fs::openat(left, "..", DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            if identity(&rustix::fs::fstat(&opened)?) != above.id {
                return Err(replaced(&above.path));
            }
            self.open.push_back(opened);
        }
        Ok(())
    }
}

/// Opens what stands in a directory under a name; never through a symlink.
pub(super) fn open_below(
    directory: impl AsFd,
    name: &[u8],
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(&directory, name, flags, mode, resolve) {
        // Refused by a sandbox that does not know it. For a single name O_NOFOLLOW says as much.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&directory, name, flags, mode),
        opened => opened,
    };
    match opened {
        Err(Errno::LOOP) if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR.into()),
        opened => Ok(opened?),
    }
}

/// What is in a directory that is open for reading.
pub(super) fn entries(directory: impl AsFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let (name, mut kind) = (entry.file_name(), entry.file_type());
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // Some file systems do not say.
        if kind == FileType::Unknown {
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

/// The directory that holds a place, and the name there.
pub(super) fn split(place: &HostPath) -> io::Result<(HostPath, &[u8])> {
    match (place.parent(), place.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.as_bytes())),
        _ => Err(Errno::ISDIR.into()),
    }
}

// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast)]
pub(super) fn identity(stat: &Stat) -> Identity {
    let kind = FileType::from_raw_mode(stat.st_mode);
    (stat.st_dev as u64, stat.st_ino as u64, kind)
}

/// A name that nothing else has, and that is easily overlooked.
pub(super) fn hidden_name() -> Vec<u8> {
    format!(".notapipe-{:016x}", RandomState::new().hash_one(())).into_bytes()
}

/// Makes something under a hidden name.
pub(super) fn with_hidden_name<T>(
    mut make: impl FnMut(&[u8]) -> Result<T, Errno>,
) -> io::Result<(Vec<u8>, T)> {
    loop {
        let name = hidden_name();
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return Ok((name, made?)),
        }
    }
}

fn replaced(path: &HostPath) -> io::Error {
    let path = to_host(path);
    io::Error::other(format!(
        "the directory {path:?} was moved or replaced while it was in use"
    ))
}
