//! What is in the directory when the steps have ended, moved into a tree: a file's memory is given back block by block
//! while it is read, so that it is held once.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, FileType, Mode, OFlags, SeekFrom, Stat, fallocate, openat, readlinkat, seek,
};
use rustix::io::Errno;

use super::moved::Stamp;
use super::walk::{Closed, Visitor, id, open_up, unreadable, walk};
use super::write_out::{AllDelivered, set_times};
use crate::run::error::Error;
use crate::run::inputs::owner;
use crate::store::{
    Cookie, Ino, Kind, Name, NewInode, NewKind, SetAttr, StoreError, Timestamp, Tree,
};

/// What is moved at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Gives files that nothing has changed their content back in `staged`, and makes a tree of it as the steps left it.
/// `lift_limits` is for that tree, where more may be there than there should be.
pub(super) fn take_back(
    root: BorrowedFd<'_>,
    delivered: &AllDelivered,
    staged: &mut Tree,
    lift_limits: impl FnOnce(&mut Tree),
) -> Result<Tree, Error> {
    let mut unchanged = Unchanged {
        tree: staged,
        delivered,
        found: HashMap::new(),
        block: Vec::new(),
    };
    walk(root, Ino::ROOT, Closed::OpenedUp, &mut unchanged)?;
    let unchanged = unchanged.found;
    let mut tree = staged.fork();
    lift_limits(&mut tree);
    let mut changed = Changed {
        tree: &mut tree,
        found: unchanged,
        block: Vec::new(),
    };
    walk(root, Ino::ROOT, Closed::OpenedUp, &mut changed)?;
    Ok(tree)
}

/// Moves back what is as it came.
struct Unchanged<'t> {
    tree: &'t mut Tree,
    delivered: &'t AllDelivered,
    /// By their numbers on the host. A file has its content, and may have other names.
    found: HashMap<u64, Ino>,
    block: Vec<u8>,
}

impl Visitor for Unchanged<'_> {
    type Directory = Ino;

    fn enter(&mut self, _entered: Ino, _names: &[CString]) -> Result<(), Error> {
        Ok(())
    }

    fn visit(
        &mut self,
        parent: Ino,
        directory: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<Option<Ino>, Error> {
        let there = self.tree.lookup(parent, name.to_bytes()).ok();
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                let attr = there.and_then(|ino| self.tree.attr(ino).ok());
                let attr = attr.filter(|attr| attr.kind == Kind::Directory);
                return Ok(attr.map(|attr| attr.ino));
            }
            FileType::RegularFile | FileType::Symlink => {}
            _ => return Ok(None),
        }
        let host = id(stat).1;
        if let Some(known) = self.delivered.get(&host)
            && there == Some(known.ino)
            && known.stamp == Stamp::from(stat)
            && self.found.insert(host, known.ino).is_none()
            && kind == FileType::RegularFile
        {
            let ino = known.ino;
            let attr = self.tree.attr(ino).map_err(refused)?;
            let file = open_file(directory, name, stat).map_err(unreadable)?;
            move_content(&file, (self.tree, ino), attr.ctime, &mut self.block)?;
            set_times(self.tree, &attr).map_err(refused)?;
        }
        Ok(None)
    }
}

/// Makes of the tree what is in the directory.
struct Changed<'t> {
    tree: &'t mut Tree,
    /// What is in the tree already, by its number on the host: what is unchanged, and files of several names.
    found: HashMap<u64, Ino>,
    block: Vec<u8>,
}

impl Visitor for Changed<'_> {
    type Directory = Ino;

    /// What is in the tree and not in the directory any more, goes.
    fn enter(&mut self, entered: Ino, names: &[CString]) -> Result<(), Error> {
        let there: HashSet<&[u8]> = names.iter().map(|name| name.to_bytes()).collect();
        let entries = self
            .tree
            .entries(entered, Cookie::default())
            .map_err(refused)?;
        let gone: Vec<Name> = entries
            .filter(|entry| !there.contains(entry.name.as_bytes()))
            .map(|entry| entry.name.clone())
            .collect();
        for name in gone {
            remove(self.tree, entered, &name).map_err(refused)?;
        }
        Ok(())
    }

    fn visit(
        &mut self,
        parent: Ino,
        directory: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<Option<Ino>, Error> {
        let there = self.tree.lookup(parent, name.to_bytes()).ok();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = stat.st_mode & 0o7777;
        let host = id(stat).1;
        let found = self.found.get(&host).copied();
        if found.is_some() && found == there {
            return Ok(None);
        }
        let name_in_tree = Name::new(name.to_bytes()).map_err(refused)?;
        if let Some(ino) = there {
            let attr = self.tree.attr(ino).map_err(refused)?;
            if kind == FileType::Directory && attr.kind == Kind::Directory {
                if attr.mode != mode {
                    self.set(ino, mode, None).map_err(refused)?;
                }
                return Ok(Some(ino));
            }
            remove(self.tree, parent, &name_in_tree).map_err(refused)?;
        }
        let now = Timestamp::now();
        if let Some(first) = found {
            let linked = self.tree.link(first, parent, name_in_tree, now);
            return linked.map(|_| None).map_err(refused);
        }
        let owner = owner();
        let new = NewInode {
            kind: kind_of(directory, name, stat).map_err(unreadable)?,
            mode,
            uid: owner.uid,
            gid: owner.gid,
        };
        let made = self.tree.create(parent, name_in_tree, new, now);
        let ino = made.map_err(refused)?.ino;
        if kind != FileType::Directory && stat.st_nlink > 1 {
            self.found.insert(host, ino);
        }
        if kind == FileType::RegularFile {
            let file = open_file(directory, name, stat).map_err(unreadable)?;
            move_content(&file, (self.tree, ino), now, &mut self.block)?;
        }
        if kind != FileType::Symlink {
            // The mode as it is: a directory may have given its own bits.
            self.set(ino, mode, Some(modified(stat))).map_err(refused)?;
        }
        Ok((kind == FileType::Directory).then_some(ino))
    }
}

impl Changed<'_> {
    fn set(&mut self, ino: Ino, mode: u32, mtime: Option<Timestamp>) -> Result<(), StoreError> {
        let change = SetAttr {
            mode: Some(mode),
            mtime,
            ..SetAttr::default()
        };
        self.tree.set_attr(ino, &change, Timestamp::now()).map(drop)
    }
}

/// What is to be made for something of the host.
fn kind_of(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<NewKind> {
    let number = device_number(stat);
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NewKind::File,
        FileType::Directory => NewKind::Directory,
        FileType::Symlink => {
            NewKind::Symlink(readlinkat(directory, name, Vec::new())?.into_bytes())
        }
        FileType::Fifo => NewKind::Fifo,
        FileType::Socket => NewKind::Socket,
        FileType::CharacterDevice => NewKind::CharDevice(number),
        _ => NewKind::BlockDevice(number),
    })
}

fn open_file(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<OwnedFd> {
    if stat.st_mode & 0o600 != 0o600 {
        open_up(directory, name, stat)?;
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(directory, name, flags | OFlags::RDWR, Mode::empty());
    let opened = match opened {
        // A program that still runs: its memory is given back when it ends.
        Err(Errno::TXTBSY) => openat(directory, name, flags | OFlags::RDONLY, Mode::empty()),
        opened => opened,
    };
    Ok(opened?)
}

/// Moves the bytes of a file into an empty one, holes left out.
fn move_content(
    file: &OwnedFd,
    (tree, ino): (&mut Tree, Ino),
    now: Timestamp,
    block: &mut Vec<u8>,
) -> Result<(), Error> {
    block.resize(BLOCK_BYTES, 0);
    let size = rustix::fs::fstat(file).map_err(unreadable)?.st_size as u64;
    let change = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    tree.set_attr(ino, &change, now).map_err(refused)?;
    let mut at = 0;
    while at < size {
        at = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            data => data.map_err(unreadable)?,
        };
        let hole = seek(file, SeekFrom::Hole(at)).map_err(unreadable)?;
        let length = usize::try_from(hole - at).unwrap_or(BLOCK_BYTES);
        let part = &mut block[..length.min(BLOCK_BYTES)];
        let read = rustix::io::pread(file.as_fd(), &mut *part, at).map_err(unreadable)?;
        if read == 0 {
            let message = "a file was cut while it was taken back";
            return Err(unreadable(io::Error::other(message)));
        }
        let mut bytes = &part[..read];
        let begin = at;
        while !bytes.is_empty() {
            let written = tree.write(ino, at, bytes, now).map_err(refused)?;
            bytes = &bytes[written..];
            at += written as u64;
        }
        // Not every file system can. It only costs memory.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(file, flags, begin, at - begin);
    }
    Ok(())
}

/// Something of the tree with all that is in it.
fn remove(tree: &mut Tree, parent: Ino, name: &Name) -> Result<(), StoreError> {
    let mut pending = vec![(parent, name.clone())];
    while let Some((parent, name)) = pending.last().cloned() {
        let ino = tree.lookup(parent, name.as_bytes())?;
        let unlinked = if tree.attr(ino)?.kind == Kind::Directory {
            let inner = tree.entries(ino, Cookie::default())?;
            let inner: Vec<_> = inner.map(|entry| (ino, entry.name.clone())).collect();
            if !inner.is_empty() {
                pending.extend(inner);
                continue;
            }
            tree.rmdir(parent, name.as_bytes(), Timestamp::now())?
        } else {
            tree.unlink(parent, name.as_bytes(), Timestamp::now())?
        };
        pending.pop();
        if unlinked.orphaned {
            tree.free(unlinked.ino);
        }
    }
    Ok(())
}

// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn modified(stat: &Stat) -> Timestamp {
    Timestamp {
        secs: stat.st_mtime as i64,
        nanos: stat.st_mtime_nsec as u32,
    }
}

/// As the kernel and a mount write it (`new_encode_dev`, include/linux/kdev_t.h).
fn device_number(stat: &Stat) -> u32 {
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn refused(error: StoreError) -> Error {
    unreadable(io::Error::other(error))
}
