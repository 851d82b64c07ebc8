//! Into the tree: bytes, streams, files and directories of the host.
//!
//! A [`Stage`] writes to the tree directly, never through a mount. It keeps what belongs to a file:
//! permission bits, modification time, holes, and hard links within one staged directory. Symlinks
//! inside a staged directory stay symlinks and are never followed.

mod host;
mod left_behind;
#[cfg(feature = "archives")]
pub(crate) mod member;
mod partial_file;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bytes::Bytes;

pub use left_behind::LeftBehind;

pub(crate) use host::{attribute, attribute_names};
pub(crate) use left_behind::Lost;

use crate::progress::{ByteCount, Meter, Progress, Stopped};
use crate::store::{
    Ino, Kind, Name, NewInode, NewKind, PAGE_SIZE, Resource, SetAttr, StoreError, Timestamp, Tree,
    TreePath,
};
use crate::text::quoted;

/// Large enough that a system call's cost vanishes, small enough for the processor's cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// Who owns what is staged; for a [`Stage`].
///
/// The host's owners are not kept, as the tool must be able to work on its inputs; but see [`Stage::keep_metadata`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Puts things into a tree.
///
/// Directories above a path are made as needed (mode 0755). A file that is already there is
/// replaced; a directory that is already there is filled further.
///
/// # Examples
///
/// ```
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let limits = Limits { bytes: 1 << 20, inodes: 100 };
/// let owner = Owner { uid: 1000, gid: 1000 };
/// let now = Timestamp::now();
/// let mut tree = Tree::new(limits, 0o755, owner.uid, owner.gid, now);
///
/// let mut stage = Stage::new(&mut tree, owner, now);
/// stage.bytes(&TreePath::parse("src/A.asm")?, "SECTION \"code\", ROM0\n")?;
/// stage.directory(&TreePath::parse("build")?)?;
/// assert_eq!(stage.finish().progress.files, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// From elsewhere:
///
/// ```
/// use std::ops::ControlFlow;
///
/// use bytes::Bytes;
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 16 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let mut stage = Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now)
///     .listen(|_so_far| ControlFlow::Continue(()));
/// stage.reader(&TreePath::parse("words")?, &mut std::io::Cursor::new("pear\napple\n"))?;
/// stage.host(&TreePath::parse("etc/passwd")?, "/etc/passwd".as_ref())?;
/// // Not copied: these bytes are in memory once, however many trees have them.
/// let large = Bytes::from(vec![b'x'; 8 << 20]);
/// stage.shared(&TreePath::parse("large")?, &large)?;
/// assert_eq!(stage.finish().progress.files, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stage<'t> {
    tree: &'t mut Tree,
    owner: Owner,
    now: Timestamp,
    meter: Meter<'t>,
    skipped: LeftBehind,
    /// The groups that we may give a file, where owners, set-id bits and extended attributes of the host are taken over.
    keeps_metadata: Option<Vec<u32>>,
    /// Large files of the host that came in, for when they come again.
    large: HashMap<host::Version, Ino>,
    /// Between the host and the tree. Empty until the first block.
    buffer: Vec<u8>,
}

/// What [`Stage`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staged {
    /// How much came in. Directories count as files.
    pub progress: Progress,
    /// What was left behind.
    pub skipped: LeftBehind,
}

/// Something that is no file, directory or symlink, and was left behind; of a [`LeftBehind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it is: on the host when staging, in the tree when collecting.
    pub path: PathBuf,
    /// A FIFO, socket or device.
    pub kind: Kind,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, kind) = (quoted(&self.path), kind_name(self.kind));
        write!(f, "{path} is {kind}: left behind")
    }
}

/// Where staged bytes came from, for messages; of a [`StageError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Host(PathBuf),
    /// A reader or bytes that the caller gave.
    Caller,
}

/// Why something could not be staged.
///
/// # Examples
///
/// ```
/// use notapipe::{Error, Job};
///
/// let failed = Job::new().input_host("a", "/no/such/file").step(["true"]).run().unwrap_err();
/// let Error::Stage(error) = failed.error else { panic!("{failed}") };
/// assert!(error.to_string().contains("/no/such/file"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The host's file or the reader failed.
    #[error("cannot read {}", Input(from, path))]
    Read {
        /// What was read.
        from: Source,
        /// Where it was to go.
        path: TreePath,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// A limit of the tree is full.
    #[error("no room for {}: {}", Input(from, path), Shortage(*resource, *limit, *needed))]
    Full {
        /// What was being staged.
        from: Source,
        /// Where it was to go.
        path: TreePath,
        /// What ran out.
        resource: Resource,
        /// The limit.
        limit: u64,
        /// The smallest limit that would have held everything up to and with this, where known.
        needed: Option<u64>,
    },
    /// A file stands where a directory is needed, or the other way round.
    #[error("cannot stage {path:?}: {taken:?} is {} already", kind_name(*kind))]
    Conflict {
        /// What was to be staged.
        path: TreePath,
        /// What is in its way.
        taken: TreePath,
        /// What that is.
        kind: Kind,
    },
    /// The tree refused for another reason.
    #[error("cannot stage {path:?}")]
    Store {
        /// What was to be staged.
        path: TreePath,
        /// Why the tree refused.
        #[source]
        error: StoreError,
    },
    /// The listener of [`Stage::listen`] asked to stop.
    #[error("staging was interrupted")]
    Interrupted,
}

impl From<Stopped> for StageError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}

impl<'t> Stage<'t> {
    /// Stages into `tree`; what it makes belongs to `owner` and was made at `now`.
    pub fn new(tree: &'t mut Tree, owner: Owner, now: Timestamp) -> Self {
        Self {
            tree,
            owner,
            now,
            meter: Meter::default(),
            skipped: LeftBehind::default(),
            keeps_metadata: None,
            large: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Calls `listener` after every block and every file. `Break` ends staging with
    /// [`StageError::Interrupted`].
    #[must_use]
    pub fn listen(mut self, listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 't) -> Self {
        self.meter.listener = Some(Box::new(listener));
        self
    }

    /// Takes over from the host what [`host`](Self::host) otherwise drops: set-id and sticky bits and extended
    /// attributes, and as root owners and groups.
    ///
    /// For a tree that goes back to the host. What cannot be taken over is counted in [`Staged::skipped`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::fs::Permissions;
    /// use std::os::unix::fs::PermissionsExt;
    ///
    /// use notapipe::collect;
    /// use notapipe::stage::{Owner, Stage};
    /// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let host = directory.path().join("tool");
    /// std::fs::write(&host, "a program")?;
    /// std::fs::set_permissions(&host, Permissions::from_mode(0o4755))?;
    ///
    /// let now = Timestamp::now();
    /// let owner = Owner {
    ///     uid: rustix::process::geteuid().as_raw(),
    ///     gid: rustix::process::getegid().as_raw(),
    /// };
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    /// let tool = TreePath::parse("tool")?;
    /// let mut stage = Stage::new(&mut tree, owner, now).keep_metadata();
    /// stage.host(&tool, &host)?;
    /// assert!(stage.finish().skipped.is_empty());
    /// assert_eq!(collect::find(&tree, &tool)?.mode, 0o4755);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep_metadata(mut self) -> Self {
        let mut groups = vec![rustix::process::getegid()];
        groups.extend(rustix::process::getgroups().unwrap_or_default());
        self.keeps_metadata = Some(groups.into_iter().map(|group| group.as_raw()).collect());
        self
    }

    /// Ends staging and tells what was done.
    pub fn finish(self) -> Staged {
        Staged {
            progress: self.meter.progress,
            skipped: self.skipped,
        }
    }

    /// Makes a directory and those above it; one that exists is left as it is. The root exists.
    ///
    /// # Errors
    ///
    /// [`StageError::Conflict`] where a file stands in the way, or [`StageError::Full`].
    pub fn directory(&mut self, path: &TreePath) -> Result<(), StageError> {
        self.make_directories(path, path).map(drop)
    }

    /// Makes a file of these bytes, mode 0644.
    ///
    /// # Errors
    ///
    /// [`StageError::Full`] or [`StageError::Conflict`]; then there is no such file.
    pub fn bytes(&mut self, path: &TreePath, bytes: impl AsRef<[u8]>) -> Result<(), StageError> {
        let item = Item::new(&Source::Caller, path);
        let bytes = bytes.as_ref();
        self.plain_file(item, |stage, ino| {
            stage.expect(item, bytes.len() as u64)?;
            stage.write(item, ino, 0, bytes)?;
            Ok(stage.meter.bytes(bytes.len())?)
        })
    }

    /// Makes a file of these bytes, mode 0644, and shares them where they are many: the same bytes in
    /// several trees are in memory once. See [`Tree::lend`].
    ///
    /// # Errors
    ///
    /// [`StageError::Full`] or [`StageError::Conflict`]; then there is no such file.
    pub fn shared(&mut self, path: &TreePath, bytes: &Bytes) -> Result<(), StageError> {
        let item = Item::new(&Source::Caller, path);
        self.plain_file(item, |stage, ino| {
            stage.expect(item, bytes.len() as u64)?;
            let lent = stage.tree.lend(ino, bytes, stage.now);
            lent.map_err(|error| stage.refused(item, error, None))?;
            Ok(stage.meter.bytes(bytes.len())?)
        })
    }

    /// Makes a file of all that `reader` gives, mode 0644. Never holds more than a block of it.
    ///
    /// # Errors
    ///
    /// [`StageError::Read`], [`StageError::Full`] or [`StageError::Conflict`]; then there is no
    /// such file.
    pub fn reader(&mut self, path: &TreePath, reader: &mut dyn Read) -> Result<(), StageError> {
        let item = Item::new(&Source::Caller, path);
        self.plain_file(item, |stage, ino| stage.stream(item, ino, reader).map(drop))
    }

    fn stream(
        &mut self,
        item: Item<'_>,
        ino: Ino,
        reader: &mut dyn Read,
    ) -> Result<u64, StageError> {
        self.stream_at(item, ino, 0, reader)
    }

    /// Writes all that `reader` gives from `offset` on; returns the offset behind the last byte.
    fn stream_at(
        &mut self,
        item: Item<'_>,
        ino: Ino,
        mut offset: u64,
        reader: &mut dyn Read,
    ) -> Result<u64, StageError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BLOCK_BYTES, 0);
        let result = loop {
            // Whole blocks, also from a pipe that gives little at a time.
            let filled = match fill(reader, &mut buffer) {
                Ok(0) => break Ok(offset),
                Ok(filled) => filled,
                Err(error) => break Err(item.unread(error)),
            };
            let written = self.write(item, ino, offset, &buffer[..filled]);
            let told = written.and_then(|()| Ok(self.meter.bytes(filled)?));
            offset += filled as u64;
            if told.is_err() || filled < BLOCK_BYTES {
                break told.map(|()| offset);
            }
        };
        self.buffer = buffer;
        result
    }

    /// Writes all of `bytes`; the tree takes less than all at its limit only.
    fn write(
        &mut self,
        item: Item<'_>,
        ino: Ino,
        mut offset: u64,
        mut bytes: &[u8],
    ) -> Result<(), StageError> {
        while !bytes.is_empty() {
            let written = self.tree.write(ino, offset, bytes, self.now);
            let taken = written.map_err(|error| self.refused(item, error, None))?;
            offset += taken as u64;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Makes a file of mode 0644, with the directories above it.
    fn plain_file(
        &mut self,
        item: Item<'_>,
        content: impl FnOnce(&mut Self, Ino) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let (parent, name) = self.place(item)?;
        self.file(item, parent, name, 0o644, content).map(drop)
    }

    /// Makes a file; where its content fails, the file is removed.
    fn file(
        &mut self,
        item: Item<'_>,
        parent: Ino,
        name: Name,
        mode: u32,
        content: impl FnOnce(&mut Self, Ino) -> Result<(), StageError>,
    ) -> Result<Ino, StageError> {
        let ino = self.make(item, parent, name.clone(), NewKind::File, mode)?;
        match content(self, ino) {
            Ok(()) => Ok(self.meter.file().map(|()| ino)?),
            Err(error) => {
                // Already failing; an entry that was just made can be taken away.
                let _ = self.remove(parent, &name);
                Err(error)
            }
        }
    }

    /// The directory that is to hold `item`, and its name there.
    fn place(&mut self, item: Item<'_>) -> Result<(Ino, Name), StageError> {
        match (item.path.parent(), item.path.file_name()) {
            (Some(parent), Some(name)) => {
                Ok((self.make_directories(&parent, item.path)?, name.clone()))
            }
            _ => Err(item.conflict(item.path, Kind::Directory)),
        }
    }

    /// The directory at `path` with all above it, needed for `wanted`.
    fn make_directories(&mut self, path: &TreePath, wanted: &TreePath) -> Result<Ino, StageError> {
        let mut ino = Ino::ROOT;
        for (depth, name) in path.names().into_iter().enumerate() {
            ino = match self.tree.lookup(ino, name.as_bytes()) {
                Err(StoreError::NotFound) => {
                    let item = Item::new(&Source::Caller, wanted);
                    self.make(item, ino, name.clone(), NewKind::Directory, 0o755)?
                }
                found => {
                    let item = Item::new(&Source::Caller, wanted);
                    let found = found.map_err(|error| self.refused(item, error, None))?;
                    match self.kind(item, found)? {
                        Kind::Directory => found,
                        kind => {
                            return Err(item.conflict(path.ancestor(depth + 1), kind));
                        }
                    }
                }
            };
        }
        Ok(ino)
    }

    /// The directory `name` in `parent`, which may be there already.
    fn make_directory(
        &mut self,
        item: Item<'_>,
        parent: Ino,
        name: Name,
    ) -> Result<Ino, StageError> {
        match self.tree.lookup(parent, name.as_bytes()) {
            Ok(ino) => match self.kind(item, ino)? {
                Kind::Directory => Ok(ino),
                kind => Err(item.conflict(item.path, kind)),
            },
            Err(_) => self.make(item, parent, name, NewKind::Directory, 0o700),
        }
    }

    /// A new inode, in place of a file of that name.
    fn make(
        &mut self,
        item: Item<'_>,
        parent: Ino,
        name: Name,
        kind: NewKind,
        mode: u32,
    ) -> Result<Ino, StageError> {
        self.make_room(item, parent, &name)?;
        let new = NewInode {
            kind,
            mode,
            uid: self.owner.uid,
            gid: self.owner.gid,
        };
        let made = self.tree.create(parent, name, new, self.now);
        made.map(|attr| attr.ino)
            .map_err(|error| self.refused(item, error, None))
    }

    /// Takes away a file of that name. Not a write into it: it may have other names.
    fn make_room(&mut self, item: Item<'_>, parent: Ino, name: &Name) -> Result<(), StageError> {
        let Ok(ino) = self.tree.lookup(parent, name.as_bytes()) else {
            return Ok(());
        };
        match self.kind(item, ino)? {
            Kind::Directory => Err(item.conflict(item.path, Kind::Directory)),
            _ => self
                .remove(parent, name)
                .map_err(|error| self.refused(item, error, None)),
        }
    }

    fn remove(&mut self, parent: Ino, name: &Name) -> Result<(), StoreError> {
        let unlinked = self.tree.unlink(parent, name.as_bytes(), self.now)?;
        if unlinked.orphaned {
            self.tree.free(unlinked.ino);
        }
        Ok(())
    }

    fn kind(&self, item: Item<'_>, ino: Ino) -> Result<Kind, StageError> {
        let attr = self
            .tree
            .attr(ino)
            .map_err(|error| self.refused(item, error, None))?;
        Ok(attr.kind)
    }

    fn set(&mut self, item: Item<'_>, ino: Ino, change: &SetAttr) -> Result<(), StageError> {
        let changed = self.tree.set_attr(ino, change, self.now);
        changed
            .map(drop)
            .map_err(|error| self.refused(item, error, None))
    }

    /// Refuses now what would only fail after most of it was read.
    fn expect(&self, item: Item<'_>, size: u64) -> Result<(), StageError> {
        let usage = self.tree.usage();
        let needed = usage
            .bytes
            .saturating_add(size.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE));
        if needed <= usage.limits.bytes {
            return Ok(());
        }
        Err(self.refused(item, StoreError::NoSpace(Resource::Bytes), Some(needed)))
    }

    fn refused(&self, item: Item<'_>, error: StoreError, needed: Option<u64>) -> StageError {
        let path = item.path.clone();
        let StoreError::NoSpace(resource) = error else {
            return StageError::Store { path, error };
        };
        let limits = self.tree.usage().limits;
        let limit = match resource {
            Resource::Bytes => limits.bytes,
            Resource::Inodes => limits.inodes,
        };
        StageError::Full {
            from: item.from(),
            path,
            resource,
            limit,
            needed,
        }
    }
}

/// What is being staged, for errors.
#[derive(Clone, Copy)]
struct Item<'i> {
    source: &'i Source,
    path: &'i TreePath,
    /// The components of the path from here on are those of a host path below the source.
    depth: usize,
}

impl<'i> Item<'i> {
    fn new(source: &'i Source, path: &'i TreePath) -> Self {
        let depth = path.depth();
        Self {
            source,
            path,
            depth,
        }
    }

    /// Something below it, in the host's directory as in the tree.
    fn inside<'p>(self, path: &'p TreePath) -> Item<'p>
    where
        'i: 'p,
    {
        Item { path, ..self }
    }

    /// Where it comes from. Only put together for a message: it may be long.
    fn from(self) -> Source {
        match self.source {
            Source::Host(_) => Source::Host(self.host_path()),
            Source::Caller => Source::Caller,
        }
    }

    /// Its path on the host.
    fn host_path(self) -> PathBuf {
        let mut path = match self.source {
            Source::Host(host) => host.clone(),
            Source::Caller => PathBuf::new(),
        };
        let below = self.path.names().split_off(self.depth).into_iter();
        path.extend(below.map(|name| OsStr::from_bytes(name.as_bytes())));
        path
    }

    fn unread(self, error: impl Into<io::Error>) -> StageError {
        StageError::Read {
            from: self.from(),
            path: self.path.clone(),
            error: error.into(),
        }
    }

    fn conflict(self, taken: &TreePath, kind: Kind) -> StageError {
        StageError::Conflict {
            path: self.path.clone(),
            taken: taken.clone(),
            kind,
        }
    }
}

/// Reads until the buffer is full or the end is met.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The kind with its article, for messages.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a symlink",
        Kind::Fifo => "a FIFO",
        Kind::Socket => "a socket",
        Kind::CharDevice | Kind::BlockDevice => "a device",
    }
}

/// An input in a message: its path in the tree, and the host's where that differs.
struct Input<'i>(&'i Source, &'i TreePath);

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Source::Host(host) if *host == self.1.to_path_buf() => write!(f, "{:?}", self.1),
            Source::Host(host) => write!(f, "{} for {:?}", quoted(host), self.1),
            Source::Caller => write!(f, "the input for {:?}", self.1),
        }
    }
}

/// A full limit in a message.
struct Shortage(Resource, u64, Option<u64>);

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(resource, limit, needed) = *self;
        let count = |f: &mut fmt::Formatter<'_>, amount| match resource {
            Resource::Bytes => write!(f, "{}", ByteCount(amount)),
            Resource::Inodes => write!(f, "{amount} inodes"),
        };
        f.write_str("the limit of ")?;
        count(f, limit)?;
        f.write_str(" is reached")?;
        if let Some(needed) = needed {
            f.write_str(", at least ")?;
            count(f, needed)?;
            f.write_str(" are needed")?;
        }
        Ok(())
    }
}
