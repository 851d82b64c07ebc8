//! Inodes: kind, attributes, times.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::content::Content;
use super::directory::{Directory, Target};
use super::error::StoreError;
use super::quota::PAGE_SIZE;
use super::xattr::Xattrs;

/// An inode number: unique in its [`Tree`](super::Tree) and in all forks of it, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of every tree.
    pub const ROOT: Self = Self(1);
}

/// What an inode is; of an [`Attr`].
///
/// # Examples
///
/// ```
/// use notapipe::Scratch;
/// use notapipe::store::Kind;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let scratch = Scratch::new()?;
/// scratch.run(["ln", "-s", "target", "link"])?;
/// assert_eq!(scratch.metadata("link")?.kind, Kind::Symlink);
/// assert_eq!(scratch.metadata(".")?.kind, Kind::Directory);
/// scratch.unmount()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO; its bytes stay in the kernel.
    Fifo,
    /// A Unix domain socket; its bytes stay in the kernel.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A point in time to the nanosecond, also before 1970; see [`Tree`](super::Tree) for its use.
///
/// `nanos` counts forward from `secs`, as in `struct timespec`.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// use notapipe::store::Timestamp;
///
/// let time = Timestamp { secs: -1, nanos: 750_000_000 };
/// assert!(time < Timestamp::now());
/// assert_eq!(SystemTime::from(time), UNIX_EPOCH - Duration::from_millis(250));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch; negative before it.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// The time now, as Linux' file systems stamp it: that of the kernel's last tick, some milliseconds ago.
    pub fn now() -> Self {
        let (secs, nanos) = crate::sys::clock::file_time();
        Self { secs, nanos }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self {
                secs: after.as_secs() as i64,
                nanos: after.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                // The earliest second is one further from 0 than the last.
                let secs = 0_i64.saturating_sub_unsigned(before.as_secs());
                let nanos = before.subsec_nanos();
                if nanos == 0 {
                    Self { secs, nanos: 0 }
                } else {
                    Self {
                        secs: secs - 1,
                        nanos: 1_000_000_000 - nanos,
                    }
                }
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    /// Saturates at the epoch where `SystemTime` cannot hold the value.
    fn from(time: Timestamp) -> Self {
        let nanos = Duration::from_nanos(time.nanos.into());
        let base = if time.secs >= 0 {
            UNIX_EPOCH.checked_add(Duration::from_secs(time.secs as u64))
        } else {
            UNIX_EPOCH.checked_sub(Duration::from_secs(time.secs.unsigned_abs()))
        };
        base.and_then(|base| base.checked_add(nanos))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// All that `stat(2)` tells of an inode; see [`Tree::set_attr`](super::Tree::set_attr).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode's number.
    pub ino: Ino,
    /// File, directory, symlink …
    pub kind: Kind,
    /// Permission, set-id and sticky bits: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Hard links; for a directory 2 and one for each sub-directory.
    pub nlink: u32,
    /// Device number of a device node, as the kernel encodes it; otherwise 0.
    pub rdev: u32,
    /// Bytes; for a symlink its target's length, for a directory 20 a name, `.` and `..` included,
    /// as on tmpfs.
    pub size: u64,
    /// Allocated content in units of 512 bytes.
    pub blocks: u64,
    /// Last access, which moves as with `noatime`: only when it is set.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or attributes.
    pub ctime: Timestamp,
    /// When the inode was made.
    pub btime: Timestamp,
}

/// What a new inode is to be; for [`Tree::create`](super::Tree::create), see [`Tree`](super::Tree).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewInode {
    /// The kind, with what belongs to it.
    pub kind: NewKind,
    /// Permission, set-id and sticky bits, the umask already taken off.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group; a parent directory with its set-group-id bit overrides it.
    pub gid: u32,
}

/// The kind of a new inode, with what belongs to it; of a [`NewInode`], see [`Tree`](super::Tree).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKind {
    /// An empty regular file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link to this target (1 to 4095 bytes, any but NUL).
    Symlink(Vec<u8>),
    /// A FIFO.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device of this number.
    CharDevice(u32),
    /// A block device of this number.
    BlockDevice(u32),
}

/// Attributes to change; `None` leaves one as it is. For [`Tree::set_attr`](super::Tree::set_attr).
///
/// Truncating to a size also sets `mtime`; any change sets `ctime`, unless given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size of a regular file, shrinking or growing by a hole.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
    /// Last change of anything.
    pub ctime: Option<Timestamp>,
}

/// Bytes that a directory's size grows by with each name (`BOGO_DIRENT_SIZE` in mm/shmem.c).
const ENTRY_SIZE: u64 = 20;
/// Targets up to this length are kept in the inode on tmpfs, and not charged (`SHORT_SYMLINK_LEN`).
const SHORT_TARGET: usize = 127;

/// One inode of a tree: what it is, and its attributes.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Timestamp,
    /// Counts changes: of several within one tick of the clock, the time tells one.
    pub changes: u32,
    /// `None` where there are none, as nearly everywhere.
    pub xattrs: Option<Arc<Xattrs>>,
    pub body: Body,
}

/// What an inode holds.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    /// Boxed: there are few, and files should not pay for their size.
    Directory(Box<Directory>),
    Symlink(Bytes),
    Fifo,
    Socket,
    CharDevice(u32),
    BlockDevice(u32),
}

impl Body {
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Directory(_) => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::CharDevice(_) => Kind::CharDevice,
            Self::BlockDevice(_) => Kind::BlockDevice,
        }
    }
}

impl Inode {
    /// With one link, two for a directory, and all times `now`.
    pub fn new(body: Body, mode: u32, (uid, gid): (u32, u32), now: Timestamp) -> Self {
        Self {
            mode,
            uid,
            gid,
            nlink: if body.kind() == Kind::Directory { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            changes: 0,
            xattrs: None,
            body,
        }
    }

    pub fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: self.body.kind(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            rdev: match self.body {
                Body::CharDevice(number) | Body::BlockDevice(number) => number,
                _ => 0,
            },
            size: self.size(),
            blocks: self.content_pages() * (PAGE_SIZE / 512),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
        }
    }

    fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size(),
            Body::Directory(directory) => ENTRY_SIZE * (2 + directory.len()),
            Body::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    fn content_pages(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.pages(),
            Body::Symlink(target) if target.len() > SHORT_TARGET => 1,
            _ => 0,
        }
    }

    /// All pages that the tree is charged for this inode.
    pub fn charged_pages(&self) -> u64 {
        self.content_pages() + self.xattrs.as_ref().map_or(0, |xattrs| xattrs.pages())
    }

    /// What a name of this inode leads to.
    pub fn target(&self, ino: Ino) -> Target {
        Target {
            ino,
            kind: self.body.kind(),
        }
    }

    /// The content changed.
    pub fn modified(&mut self, now: Timestamp) {
        self.mtime = now;
        self.changed(now);
    }

    /// Something about it changed.
    pub fn changed(&mut self, now: Timestamp) {
        self.ctime = now;
        self.changes = self.changes.wrapping_add(1);
    }

    pub fn directory(&self) -> Result<&Directory, StoreError> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(StoreError::NotDirectory),
        }
    }

    pub fn directory_mut(&mut self) -> Result<&mut Directory, StoreError> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(StoreError::NotDirectory),
        }
    }

    /// The content of a regular file.
    pub fn content(&self) -> Result<&Content, StoreError> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(StoreError::IsDirectory),
            _ => Err(StoreError::InvalidArgument),
        }
    }

    pub fn content_mut(&mut self) -> Result<&mut Content, StoreError> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(StoreError::IsDirectory),
            _ => Err(StoreError::InvalidArgument),
        }
    }
}
