//! An archive into a tree: all of it or nothing.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use rustix::fs::{FileType, MemfdFlags, OFlags, memfd_create};
use tar::EntryType;

use super::Format;
use super::codec;
use super::error::{ArchiveError, ArchiveSource, MemberProblem};
use super::format::HEAD_BYTES;
use super::tar_reader::{Member, Members};
use super::unpack_target::UnpackTarget;
use super::zip_reader;
use crate::progress::Progress;
use crate::stage::member::{MemberAttributes, MemberContent};
use crate::stage::{Owner, Source, Stage, StageError, Staged};
use crate::store::{Kind, Resource, Timestamp, Tree, TreePath};

/// A zip may be this much longer than what the tree could hold of it: names, directories, what was appended. Its
/// directory takes some ten times its length in memory.
const ZIP_OVERHEAD_BYTES: u64 = 4 << 20;

type Listener<'t> = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send + 't>;

/// Reads an archive into a tree.
///
/// The format is found by content, and for a zip with something in front of it by the name. Directories above
/// a member are made as needed; a member takes the place of a file of its name, in the tree or from before in the
/// archive. When anything fails, the tree is as it was.
///
/// See [the module](crate::archive) for what is kept and what is refused.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
///
/// use notapipe::archive::{Format, Pack, Unpack};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("sdk.tar.gz");
/// let owner = Owner { uid: 0, gid: 0 };
/// Stage::new(&mut tree, owner, now).bytes(&TreePath::parse("std.inc")?, "nop")?;
/// Pack::new(&tree, Format::TarGz).write(std::fs::File::create(&host)?)?;
///
/// let staged = Unpack::new(&mut tree, owner, now)
///     .below(TreePath::parse("include")?)
///     .listen(|_so_far| ControlFlow::Continue(()))
///     .host(&host)?;
/// assert_eq!(staged.progress.bytes, 3);
/// assert!(tree.resolve(TreePath::parse("include/std.inc")?.names()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Unpack<'t> {
    tree: &'t mut Tree,
    owner: Owner,
    now: Timestamp,
    below: TreePath,
    listener: Option<Listener<'t>>,
}

impl std::fmt::Debug for Unpack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpack")
            .field("tree", &self.tree)
            .field("below", &self.below)
            .finish_non_exhaustive()
    }
}

impl<'t> Unpack<'t> {
    /// Unpacks into `tree`; what it makes belongs to `owner` and, where the archive tells no time, was made at `now`.
    pub fn new(tree: &'t mut Tree, owner: Owner, now: Timestamp) -> Self {
        Self {
            tree,
            owner,
            now,
            below: TreePath::root(),
            listener: None,
        }
    }

    /// Puts everything below this directory, which is made if it is missing.
    #[must_use]
    pub fn below(mut self, directory: TreePath) -> Self {
        self.below = directory;
        self
    }

    /// Calls `listener` after every block and every member. `Break` ends unpacking with an error, and the tree
    /// is as it was.
    #[must_use]
    pub fn listen(mut self, listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 't) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Unpacks a file of the host.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; the tree is then as it was.
    pub fn host(self, path: &Path) -> Result<Staged, ArchiveError> {
        let archive = ArchiveSource::host(path.to_owned());
        // A FIFO's open waits for its writer, as everywhere.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        let opened = opened.map_err(|error| archive.unread(error.into()))?;
        let stat = rustix::fs::fstat(&opened).map_err(|error| archive.unread(error.into()))?;
        let mut file = File::from(opened);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let head = head(&mut file).map_err(|error| archive.unread(error))?;
                file.rewind().map_err(|error| archive.unread(error))?;
                let by_name = Format::of_name(path).filter(|&format| format == Format::Zip);
                match Format::of_content(&head).or(by_name) {
                    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
                    Some(Format::Zip) if stat.st_size as u64 > self.zip_max() => {
                        Err(self.too_long(&archive))
                    }
                    Some(Format::Zip) => self.zip(file, &archive),
                    format => self.tar(format.unwrap_or(Format::Tar), &head, file, &archive),
                }
            }
            _ => self.stream(file, &archive),
        }
    }

    /// Unpacks all that `reader` gives. A zip is first read as a whole, into memory beside the tree.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; the tree is then as it was.
    pub fn read(self, reader: impl Read) -> Result<Staged, ArchiveError> {
        self.stream(reader, &ArchiveSource(Source::Caller))
    }

    fn stream(
        self,
        mut reader: impl Read,
        archive: &ArchiveSource,
    ) -> Result<Staged, ArchiveError> {
        let head = head(&mut reader).map_err(|error| archive.unread(error))?;
        let whole = Cursor::new(head.clone()).chain(reader);
        match Format::of_content(&head) {
            Some(Format::Zip) => {
                let file = self.spool(whole, archive)?;
                self.zip(file, archive)
            }
            format => self.tar(format.unwrap_or(Format::Tar), &head, whole, archive),
        }
    }

    fn tar(
        self,
        format: Format,
        head: &[u8],
        reader: impl Read,
        archive: &ArchiveSource,
    ) -> Result<Staged, ArchiveError> {
        if head.len() < HEAD_BYTES && format == Format::Tar {
            return Err(ArchiveError::Unknown {
                archive: archive.0.clone(),
            });
        }
        // The other half is for what comes out.
        let memory_bytes = self.tree.usage().limits.bytes / 2;
        let decoded = codec::decoder(format, reader, memory_bytes);
        let decoded = decoded.map_err(|error| archive.unread(error))?;
        self.whole(archive, |target| {
            tar(decoded, head, format, archive, target)
        })
    }

    fn zip(self, file: impl Read + Seek, archive: &ArchiveSource) -> Result<Staged, ArchiveError> {
        self.whole(archive, |target| zip_reader::unpack(file, archive, target))
    }

    /// Unpacks into a fork, which takes the tree's place when all went well.
    fn whole(
        self,
        archive: &ArchiveSource,
        unpack: impl FnOnce(&mut UnpackTarget<'_>) -> Result<(), ArchiveError>,
    ) -> Result<Staged, ArchiveError> {
        let mut fork = self.tree.fork();
        let mut stage = Stage::new(&mut fork, self.owner, self.now);
        if let Some(listener) = self.listener {
            stage = stage.listen(listener);
        }
        if !self.below.is_root() {
            stage.directory(&self.below)?;
        }
        let mut target = UnpackTarget::new(stage, archive, self.below);
        unpack(&mut target)?;
        let staged = target.finish();
        *self.tree = fork;
        Ok(staged)
    }

    /// The whole of a stream in memory, where it can be sought. No more than the tree could hold.
    fn spool(&self, reader: impl Read, archive: &ArchiveSource) -> Result<File, ArchiveError> {
        let failed = |error: io::Error| archive.unread(error);
        let memory = memfd_create("notapipe-zip", MemfdFlags::CLOEXEC);
        let mut file = File::from(memory.map_err(|error| failed(error.into()))?);
        let most = self.zip_max();
        let copied = io::copy(&mut reader.take(most + 1), &mut file).map_err(failed)?;
        if copied > most {
            return Err(self.too_long(archive));
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        Ok(file)
    }

    /// How long a zip may be.
    fn zip_max(&self) -> u64 {
        let usage = self.tree.usage();
        let free = usage.limits.bytes.saturating_sub(usage.bytes);
        free.saturating_add(ZIP_OVERHEAD_BYTES)
    }

    fn too_long(&self, archive: &ArchiveSource) -> ArchiveError {
        ArchiveError::Stage(StageError::Full {
            from: archive.0.clone(),
            path: self.below.clone(),
            resource: Resource::Bytes,
            limit: self.tree.usage().limits.bytes,
            needed: None,
        })
    }
}

/// The first bytes, fewer only at the end.
fn head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    reader.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn tar(
    decoded: impl Read,
    head: &[u8],
    format: Format,
    archive: &ArchiveSource,
    target: &mut UnpackTarget<'_>,
) -> Result<(), ArchiveError> {
    let mut members = Members::new(decoded, archive);
    let mut first = true;
    loop {
        let member = match members.next() {
            // Without a mark it was only a guess that this is a tar.
            Err(ArchiveError::Damaged { .. })
                if first && format == Format::Tar && Format::of_content(head).is_none() =>
            {
                return Err(ArchiveError::Unknown {
                    archive: archive.0.clone(),
                });
            }
            member => member?,
        };
        first = false;
        match member {
            None => return members.finish(),
            Some(member) => tar_member(&member, &mut members, archive, target)?,
        }
    }
}

fn tar_member<R: Read>(
    member: &Member,
    members: &mut Members<'_, R>,
    archive: &ArchiveSource,
    target: &mut UnpackTarget<'_>,
) -> Result<(), ArchiveError> {
    let name = &member.name;
    let path = target.path(name)?;
    let attributes = MemberAttributes {
        mode: member.mode,
        mtime: member.mtime,
    };
    match member.kind {
        EntryType::Directory => target.directory(&path, attributes),
        // V7 marks a directory so.
        EntryType::Regular if name.ends_with(b"/") => target.directory(&path, attributes),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let expected = members.left();
            let mut content = members.content();
            let reader: &mut dyn Read = &mut content;
            let content = match &member.sparse {
                Some(sparse) => MemberContent::Sparse {
                    reader,
                    data: &sparse.data,
                    size: sparse.size,
                },
                None => MemberContent::Whole(reader),
            };
            target.file(&path, attributes, expected, content)
        }
        EntryType::Symlink => target.symlink(&path, name, member.link.to_vec(), attributes),
        EntryType::Link => target.link(&path, name, &member.link),
        EntryType::Fifo => {
            target.leave_behind(&path, Kind::Fifo);
            Ok(())
        }
        EntryType::Char | EntryType::Block => Err(archive.member(name, MemberProblem::Device)),
        kind => {
            let what = format!("of type {:?}", char::from(kind.as_byte()));
            Err(archive.member(name, MemberProblem::Unsupported(what)))
        }
    }
}
