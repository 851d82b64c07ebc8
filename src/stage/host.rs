//! Files and directories of the host.
//!
//! They are read by descriptors, a name at a time: a component that is swapped for a symlink meanwhile leads nowhere else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::left_behind::NAMED_MAX;
use super::{Item, Lost, Source, Stage, StageError};
use crate::store::{Ino, Kind, Name, NewKind, Resource, SetAttr, StoreError, Timestamp, TreePath};

/// A file that is smaller is copied as fast as it is found again.
const SHARED_BYTES_MIN: u64 = 128 * 1024;

/// So many of the deepest directories are held open. Those above are found again by the `..` below them.
const OPEN_MAX: usize = 32;

impl Stage<'_> {
    /// Stages a file of the host, or a directory with all that is in it, under `path`.
    ///
    /// `host` itself may be a symlink, which is followed, or a FIFO or a device such as
    /// `/dev/stdin` or `/dev/fd/63`, which is read to its end. Inside a directory, symlinks are kept
    /// as they are, and FIFOs, sockets and devices are left behind (see [`Staged::skipped`](super::Staged::skipped)).
    ///
    /// Set-id bits are dropped, as `cp` does, and so are extended attributes, unless
    /// [`keep_metadata`](Self::keep_metadata) was called. What the caller could read, the owner can read.
    ///
    /// # Errors
    ///
    /// [`StageError`], which names the path inside `host` that failed. What was staged of a
    /// directory before that stays.
    pub fn host(&mut self, path: &TreePath, host: &Path) -> Result<(), StageError> {
        let source = Source::Host(host.to_owned());
        let item = Item::new(&source, path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        // A FIFO's open waits for its writer, which is what reading it to its end means.
        let opened = rustix::fs::open(host, flags, Mode::empty()).map_err(|e| item.unread(e))?;
        let stat = rustix::fs::fstat(&opened).map_err(|e| item.unread(e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.host_directory(item, opened, &stat),
            FileType::RegularFile if path.is_root() => Err(item.conflict(path, Kind::Directory)),
            FileType::RegularFile => {
                let (parent, name) = self.place(item)?;
                self.host_file(item, parent, name, opened, &stat, &mut Links::new())
            }
            _ => self.plain_file(item, |stage, ino| {
                stage.stream(item, ino, &mut File::from(opened)).map(drop)
            }),
        }
    }

    /// A directory of the host with all that is in it, depth first.
    ///
    /// Names are taken in byte order: the tree's order, which tools see, must not depend on the host's file system.
    fn host_directory(
        &mut self,
        top: Item<'_>,
        opened: OwnedFd,
        stat: &Stat,
    ) -> Result<(), StageError> {
        let ino = self.make_directories(top.path, top.path)?;
        // The root of the mount keeps its own mode and time: it is not what was staged, unless that goes back.
        let attributes = match top.path.is_root() {
            false => Some(self.attributes(stat)),
            true => self.keeps_metadata.is_some().then(|| SetAttr {
                mtime: Some(modified(stat)),
                ..SetAttr::default()
            }),
        };
        let mut links = Links::new();
        let mut levels = Levels::default();
        levels.enter(self.level(top, &opened, stat, (ino, attributes))?, opened);
        while let Some((level, host)) = levels.deepest() {
            let Some(next) = level.pending.pop() else {
                let item = top.inside(&level.path);
                if let Some(attributes) = level.attributes {
                    self.set(item, level.ino, &attributes)?;
                }
                self.meter.file()?;
                levels.leave().map_err(|error| top.unread(error))?;
                continue;
            };
            let name = Name::new(next.name.to_bytes()).map_err(|error| StageError::Store {
                path: level.path.clone(),
                error,
            })?;
            let path = level.path.join(name.clone());
            let (item, at) = (top.inside(&path), (level.ino, name));
            match next.kind {
                FileType::Directory => {
                    let (opened, stat) = open(item, host, &next.name, OFlags::DIRECTORY)?;
                    let ino = self.make_directory(item, at.0, at.1)?;
                    let attributes = Some(self.attributes(&stat));
                    self.take_attributes(item, ino, &opened, &stat)?;
                    let level = self.level(item, &opened, &stat, (ino, attributes))?;
                    levels.enter(level, opened);
                }
                FileType::RegularFile => {
                    let (opened, stat) = open(item, host, &next.name, OFlags::NOCTTY)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return Err(item.unread(changed()));
                    }
                    self.host_file(item, at.0, at.1, opened, &stat, &mut links)?;
                }
                _ => self.symlink(item, at, (host, &next.name))?,
            }
        }
        Ok(())
    }

    /// A symlink in a directory.
    fn symlink(
        &mut self,
        item: Item<'_>,
        (parent, name): (Ino, Name),
        (host, host_name): (BorrowedFd<'_>, &CStr),
    ) -> Result<(), StageError> {
        let stat = rustix::fs::statat(host, host_name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|error| item.unread(error))?;
        let target = rustix::fs::readlinkat(host, host_name, Vec::new());
        let target = target.map_err(|error| item.unread(error))?;
        let kind = NewKind::Symlink(target.into_bytes());
        if self.keeps_metadata.is_some() && !self.keeps_owner(&stat) {
            self.skipped.add_lost(Lost::Owner);
        }
        let attributes = SetAttr {
            mode: None,
            ..self.attributes(&stat)
        };
        let ino = self.make(item, parent, name, kind, 0o777)?;
        self.set(item, ino, &attributes)?;
        Ok(self.meter.file()?)
    }

    /// A directory of the host that was opened, with the names in it. More than the tree has inodes would be read in vain.
    fn level(
        &mut self,
        item: Item<'_>,
        host: &OwnedFd,
        stat: &Stat,
        (ino, attributes): (Ino, Option<SetAttr>),
    ) -> Result<Level, StageError> {
        let most = self.tree.usage().limits.inodes;
        let skipped = &mut self.skipped;
        let mut left = BTreeMap::new();
        let listed = list(host, most, |name, kind| {
            let is_taken = matches!(
                kind,
                FileType::RegularFile | FileType::Directory | FileType::Symlink
            );
            if !is_taken {
                left.insert(name.to_owned(), kind_of(kind));
                if left.len() > NAMED_MAX
                    && let Some((_, kind)) = left.pop_last()
                {
                    skipped.add_unnamed(kind);
                }
            }
            is_taken
        });
        for (name, kind) in left {
            let path = || item.host_path().join(OsStr::from_bytes(name.to_bytes()));
            skipped.add(kind, path);
        }
        let Some(pending) = listed.map_err(|error| item.unread(error))? else {
            return Err(self.refused(item, StoreError::NoSpace(Resource::Inodes), None));
        };
        Ok(Level {
            path: item.path.clone(),
            id: identity(stat),
            ino,
            attributes,
            pending,
        })
    }

    /// One regular file of the host, open for reading.
    fn host_file(
        &mut self,
        item: Item<'_>,
        parent: Ino,
        name: Name,
        opened: OwnedFd,
        stat: &Stat,
        links: &mut Links,
    ) -> Result<(), StageError> {
        let key = identity(stat);
        let many_names = stat.st_nlink > 1;
        if let Some(&ino) = links.get(&key).filter(|_| many_names) {
            self.make_room(item, parent, &name)?;
            let linked = self.tree.link(ino, parent, name, self.now);
            linked.map_err(|error| self.refused(item, error, None))?;
            return Ok(self.meter.file()?);
        }
        let attributes = self.attributes(stat);
        let mode = attributes.mode.unwrap_or(0o644);
        let version = Version::of(stat);
        let ino = self.file(item, parent, name, mode, |stage, ino| {
            stage.take_attributes(item, ino, &opened, stat)?;
            if !stage.share_large(version, ino)? {
                stage.copy_file(item, ino, File::from(opened), stat)?;
            }
            stage.set(item, ino, &attributes)
        })?;
        if version.size >= SHARED_BYTES_MIN {
            self.large.insert(version, ino);
        }
        if many_names {
            links.insert(key, ino);
        }
        Ok(())
    }

    /// Takes the bytes of a file that came in before, under another name; false where there are none.
    fn share_large(&mut self, version: Version, ino: Ino) -> Result<bool, StageError> {
        let Some(&first) = self.large.get(&version) else {
            return Ok(false);
        };
        // Gone, where a later input took its place; and at the limit reading it tells what is missing.
        let copied = self
            .tree
            .copy_range((first, 0), (ino, 0), u64::MAX, self.now);
        let whole = copied == Ok(version.size);
        if whole {
            self.meter.bytes(version.size as usize)?;
        }
        Ok(whole)
    }

    /// The content of a host file: its holes stay holes. What counts is what can be read: files of /sys hold fewer bytes
    /// than they say, and others grow and shrink meanwhile.
    fn copy_file(
        &mut self,
        item: Item<'_>,
        ino: Ino,
        mut file: File,
        stat: &Stat,
    ) -> Result<(), StageError> {
        #[allow(clippy::unnecessary_cast)]
        let (size, allocated) = (stat.st_size as u64, stat.st_blocks as u64 * 512);
        if allocated < size {
            return self.copy_sparse(item, ino, &file);
        }
        self.expect(item, size)?;
        self.stream(item, ino, &mut file).map(drop)
    }

    /// The data between the holes. Also right for compressed files, which only seem to have holes.
    fn copy_sparse(&mut self, item: Item<'_>, ino: Ino, mut file: &File) -> Result<(), StageError> {
        let unread = |error: Errno| item.unread(error);
        let mut end = 0;
        let size = loop {
            let data = match rustix::fs::seek(file, SeekFrom::Data(end)) {
                Ok(data) => data,
                // Up to the end that it has now, there is a hole.
                Err(Errno::NXIO) => {
                    break rustix::fs::seek(file, SeekFrom::End(0))
                        .map_err(unread)?
                        .max(end);
                }
                // No way to ask: all of it is data.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    rustix::fs::seek(file, SeekFrom::Start(0)).map_err(unread)?;
                    return self.stream(item, ino, &mut file).map(drop);
                }
                Err(error) => return Err(unread(error)),
            };
            let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).map_err(unread)?;
            rustix::fs::seek(file, SeekFrom::Start(data)).map_err(unread)?;
            end = self.stream_at(item, ino, data, &mut file.take(hole - data))?;
            if end < hole {
                break end;
            }
        };
        let size = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.set(item, ino, &size)
    }

    /// Owner, mode and modification time of a host file, as they shall be in the tree.
    fn attributes(&self, stat: &Stat) -> SetAttr {
        let is_kept = self.keeps_owner(stat);
        let mut mode = stat.st_mode & if is_kept { 0o7777 } else { 0o1777 };
        if stat.st_uid != self.owner.uid && !is_kept {
            // We could read it by the rights of its group or of others; now it has another owner.
            mode |= 0o400;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                mode |= 0o100;
            }
        }
        SetAttr {
            mode: Some(mode),
            uid: is_kept.then_some(stat.st_uid),
            gid: is_kept.then_some(stat.st_gid),
            mtime: Some(modified(stat)),
            ..SetAttr::default()
        }
    }

    /// Whether a file has its owner in the tree too. An ordinary user could not give it back to another one.
    fn keeps_owner(&self, stat: &Stat) -> bool {
        self.keeps_metadata.as_ref().is_some_and(|groups| {
            let is_ours = stat.st_uid == self.owner.uid && groups.contains(&stat.st_gid);
            is_ours || rustix::process::geteuid().is_root()
        })
    }

    /// Takes over the extended attributes of what was opened, and counts what is lost.
    fn take_attributes(
        &mut self,
        item: Item<'_>,
        ino: Ino,
        opened: &OwnedFd,
        stat: &Stat,
    ) -> Result<(), StageError> {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_kept = self.keeps_owner(stat);
        if self.keeps_metadata.is_some() && !is_kept {
            self.skipped.add_lost(Lost::Owner);
        }
        if !is_kept && is_file && stat.st_mode & 0o6000 != 0 {
            self.skipped.add_lost(Lost::SetId);
        }
        let mut lost = Vec::new();
        for name in attribute_names(opened) {
            if !self.takes_attribute(&name) {
                // An access control list is no attribute of a job's: what it says is in the mode.
                if self.keeps_metadata.is_some() || !name.starts_with(b"system.") {
                    lost.push(name);
                }
                continue;
            }
            let value = attribute(opened, &name).map_err(|error| item.unread(error))?;
            let set = self
                .tree
                .set_xattr(ino, &name, &value, false, false, self.now);
            set.map_err(|error| self.refused(item, error, None))?;
        }
        self.skipped
            .add_lost_attributes(lost.iter().map(|name| &**name));
        Ok(())
    }

    /// Only root can give back those outside of `user.`.
    fn takes_attribute(&self, name: &[u8]) -> bool {
        let roots = name.starts_with(b"security.") || name.starts_with(b"trusted.");
        self.keeps_metadata.is_some()
            && (name.starts_with(b"user.") || roots && rustix::process::geteuid().is_root())
    }
}

/// The names of the extended attributes of what is open; none where there can be none.
pub(crate) fn attribute_names(opened: impl AsFd) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    // Mostly there are none. More than at the first call there may be at the second one.
    while let Ok(length @ 1..) = rustix::fs::flistxattr_query(&opened) {
        names.clear();
        names.reserve(length);
        match rustix::fs::flistxattr(&opened, rustix::buffer::spare_capacity(&mut names)) {
            Err(Errno::RANGE) => {}
            _ => break,
        }
    }
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names.map(<[u8]>::to_vec).collect()
}

/// The value of an extended attribute.
pub(crate) fn attribute(opened: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let mut value = Vec::with_capacity(rustix::fs::fgetxattr_query(&opened, name)?.max(1));
    rustix::fs::fgetxattr(&opened, name, rustix::buffer::spare_capacity(&mut value))?;
    Ok(value)
}

/// Inodes that came in under a first name: host device and inode number to inode.
type Links = HashMap<(u64, u64), Ino>;

/// A state of a file of the host: while all of these stay, its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Version {
    // The types of `Stat` differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

/// A host directory that is being staged.
struct Level {
    path: TreePath,
    /// Its device and inode.
    id: (u64, u64),
    ino: Ino,
    /// To be set at the end: filling it changes its time and may need its write permission.
    attributes: Option<SetAttr>,
    /// Entries still to come, the next one last.
    pending: Vec<Pending>,
}

struct Pending {
    name: CString,
    kind: FileType,
}

/// The directories from the given one down to where staging is.
#[derive(Default)]
struct Levels {
    all: Vec<Level>,
    /// The deepest of them.
    open: VecDeque<OwnedFd>,
}

impl Levels {
    fn deepest(&mut self) -> Option<(&mut Level, BorrowedFd<'_>)> {
        self.all.last_mut().zip(self.open.back().map(AsFd::as_fd))
    }

    fn enter(&mut self, level: Level, host: OwnedFd) {
        self.all.push(level);
        self.open.push_back(host);
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }

    /// Back to the directory above, which is opened again by the `..` of this one if it has to be.
    fn leave(&mut self) -> io::Result<()> {
        self.all.pop();
        let left = self.open.pop_back();
        if let (Some(left), Some(above), None) = (left, self.all.last(), self.open.back()) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(left, "..", flags, Mode::empty())?;
            if identity(&rustix::fs::fstat(&opened)?) != above.id {
                return Err(changed());
            }
            self.open.push_back(opened);
        }
        Ok(())
    }
}

/// What stands in a directory under this name, itself.
fn open(
    item: Item<'_>,
    host: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
) -> Result<(OwnedFd, Stat), StageError> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = rustix::fs::openat(host, name, flags, Mode::empty());
    let opened = opened.map_err(|error| item.unread(error))?;
    let stat = rustix::fs::fstat(&opened).map_err(|error| item.unread(error))?;
    Ok((opened, stat))
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}

/// The entries of a directory that `takes` wants, in falling order of their names; none when there are more than `most`.
fn list(
    directory: impl AsFd,
    most: u64,
    mut takes: impl FnMut(&CStr, FileType) -> bool,
) -> io::Result<Option<Vec<Pending>>> {
    let mut pending = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        if !takes(name, kind) {
            continue;
        }
        if pending.len() as u64 >= most {
            return Ok(None);
        }
        pending.push(Pending {
            name: name.to_owned(),
            kind,
        });
    }
    pending.sort_unstable_by(|a, b| b.name.cmp(&a.name));
    Ok(Some(pending))
}

/// Device and inode.
// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast)]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn modified(stat: &Stat) -> Timestamp {
    #[allow(clippy::unnecessary_cast)]
    Timestamp {
        secs: stat.st_mtime as i64,
        nanos: stat.st_mtime_nsec as u32,
    }
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}
