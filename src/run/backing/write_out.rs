//! Writing a tree into an empty directory, from where its files come back when the steps have ended.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, fchmod, fstat, ftruncate, futimens, linkat,
    mkdirat, openat, statat, symlinkat, utimensat,
};

use super::moved::{Delivered, Stamp};
use super::walk::{go_up, id, open_directory};
use crate::run::error::Error;
use crate::store::{
    AllocateMode, Attr, Cookie, Ino, Kind, Name, SetAttr, StoreError, Timestamp, Tree,
};

/// What is written at once.
const BLOCK_BYTES: usize = 1 << 20;

/// What came into the directory, by the numbers of its inodes.
pub(super) type AllDelivered = HashMap<u64, Delivered>;

/// Writes everything in `tree` below `root`. The content of files is then there alone: in the tree, holes of that length
/// take its place.
pub(super) fn write_out(tree: &mut Tree, root: &OwnedFd) -> Result<AllDelivered, Error> {
    let mut writing = Writing {
        tree,
        root,
        delivered: HashMap::new(),
        links: HashMap::new(),
    };
    writing.directories()?;
    Ok(writing.delivered)
}

struct Writing<'w> {
    tree: &'w mut Tree,
    root: &'w OwnedFd,
    delivered: AllDelivered,
    /// Where the files of several names are, from the root.
    links: HashMap<Ino, CString>,
}

struct Level {
    attr: Attr,
    /// What is still to be written, the last first.
    entries: Vec<(Name, Ino)>,
    id: (u64, u64),
    /// How long the path from the root is above it.
    path_bytes: usize,
}

impl Writing<'_> {
    fn directories(&mut self) -> Result<(), Error> {
        let mut directory = open_directory(self.root.as_fd(), c".").map_err(unwritten)?;
        let mut path = Vec::new();
        let mut levels = vec![self.level(Ino::ROOT, &directory, 0)?];
        while let Some(level) = levels.last_mut() {
            let Some((name, ino)) = level.entries.pop() else {
                let done = levels.pop();
                if let (Some(done), Some(above)) = (done, levels.last()) {
                    path.truncate(done.path_bytes);
                    let up = go_up(&directory, above.id).map_err(unwritten)?;
                    finish(&directory, &done.attr).map_err(unwritten)?;
                    directory = up;
                }
                continue;
            };
            let attr = self.tree.attr(ino).map_err(refused)?;
            let c_name = CString::new(name.as_bytes()).map_err(unwritten)?;
            if attr.kind == Kind::Directory {
                mkdirat(&directory, &c_name, Mode::RWXU).map_err(unwritten)?;
                directory = open_directory(directory.as_fd(), &c_name).map_err(unwritten)?;
                let above = path.len();
                path.extend_from_slice(name.as_bytes());
                path.push(b'/');
                levels.push(self.level(ino, &directory, above)?);
            } else {
                let whole = [&path, name.as_bytes()].concat();
                let whole = CString::new(whole).map_err(unwritten)?;
                self.one(&directory, &c_name, whole, &attr)?;
            }
        }
        Ok(())
    }

    fn level(&self, ino: Ino, directory: &OwnedFd, path_bytes: usize) -> Result<Level, Error> {
        let entries = self.tree.entries(ino, Cookie::default()).map_err(refused)?;
        let mut entries: Vec<_> = entries.map(|it| (it.name.clone(), it.ino)).collect();
        entries.reverse();
        Ok(Level {
            attr: self.tree.attr(ino).map_err(refused)?,
            entries,
            id: id(&fstat(directory).map_err(unwritten)?),
            path_bytes,
        })
    }

    /// Something that is no directory. FIFOs and the like stay behind, as in every delivery.
    fn one(
        &mut self,
        directory: &OwnedFd,
        name: &CString,
        path: CString,
        attr: &Attr,
    ) -> Result<(), Error> {
        let stat = match attr.kind {
            Kind::File if self.links.contains_key(&attr.ino) => {
                let first = &self.links[&attr.ino];
                linkat(self.root, first, directory, name, AtFlags::empty()).map_err(unwritten)?;
                statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unwritten)?
            }
            Kind::File => {
                if attr.nlink > 1 {
                    self.links.insert(attr.ino, path);
                }
                self.file(directory, name, attr)?
            }
            Kind::Symlink => {
                let target = self.tree.read_link(attr.ino).map_err(refused)?;
                let target = CString::new(&*target).map_err(unwritten)?;
                symlinkat(&target, directory, name).map_err(unwritten)?;
                utimensat(directory, name, &times(attr), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(unwritten)?;
                statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unwritten)?
            }
            _ => return Ok(()),
        };
        let delivered = Delivered {
            ino: attr.ino,
            stamp: Stamp::from(&stat),
        };
        self.delivered.insert(id(&stat).1, delivered);
        Ok(())
    }

    fn file(&mut self, directory: &OwnedFd, name: &CString, attr: &Attr) -> Result<Stat, Error> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(directory, name, flags, mode).map_err(unwritten)?;
        let mut at = 0;
        while at < attr.size {
            at = match self.tree.seek_data(attr.ino, at) {
                Err(StoreError::NoData) => break,
                data => data.map_err(refused)?,
            };
            let hole = self.tree.seek_hole(attr.ino, at).map_err(refused)?;
            let length = usize::try_from(hole - at).unwrap_or(usize::MAX);
            let data = self
                .tree
                .read(attr.ino, at, length.min(BLOCK_BYTES))
                .map_err(refused)?;
            let written = rustix::io::pwrite(&file, &data, at).map_err(unwritten)? as u64;
            drop(data);
            let mode = AllocateMode::PunchHole;
            let punched = self
                .tree
                .allocate(attr.ino, at..at + written, mode, attr.ctime);
            punched.map_err(refused)?;
            at += written;
        }
        ftruncate(&file, attr.size).map_err(unwritten)?;
        finish(&file, attr).map_err(unwritten)?;
        set_times(self.tree, attr).map_err(refused)?;
        fstat(&file).map_err(unwritten)
    }
}

/// As they were before its content was moved.
pub(super) fn set_times(tree: &mut Tree, attr: &Attr) -> Result<(), StoreError> {
    let change = SetAttr {
        mtime: Some(attr.mtime),
        ctime: Some(attr.ctime),
        ..SetAttr::default()
    };
    tree.set_attr(attr.ino, &change, attr.ctime).map(drop)
}

fn finish(there: &OwnedFd, attr: &Attr) -> io::Result<()> {
    fchmod(there, Mode::from_raw_mode(attr.mode))?;
    Ok(futimens(there, &times(attr))?)
}

fn times(attr: &Attr) -> Timestamps {
    let time = |time: Timestamp| Timespec {
        tv_sec: time.secs,
        tv_nsec: time.nanos.into(),
    };
    Timestamps {
        last_access: time(attr.atime),
        last_modification: time(attr.mtime),
    }
}

fn unwritten(source: impl Into<io::Error>) -> Error {
    Error::Processes {
        operation: "write the inputs for",
        source: source.into(),
    }
}

fn refused(error: StoreError) -> Error {
    unwritten(io::Error::other(error))
}
