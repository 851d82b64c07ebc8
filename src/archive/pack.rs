//! A tree, or a part of it, into an archive.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};

use tar::EntryType;

use super::Format;
use super::codec::Encoder;
use super::error::ArchiveError;
use super::tar_writer::TarWriter;
use super::zip_writer::ZipWriter;
use crate::collect::{CollectError, Found, find, walk};
use crate::progress::{Meter, Progress};
use crate::stage::LeftBehind;
use crate::store::{Attr, Ino, Kind, StoreError, Tree, TreePath};

/// Bytes that are read from the tree at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Writes a tree into an archive.
///
/// Members stand in byte order of their names, each directory before what it holds, so that the same tree gives
/// the same archive. FIFOs, sockets and device nodes are left out, as wherever something is collected; in a zip, hard
/// links become copies.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
///
/// use notapipe::archive::{Format, Pack};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let mut stage = Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now);
/// stage.bytes(&TreePath::parse("src/A.asm")?, "nop")?;
/// stage.bytes(&TreePath::parse("build/A.o")?, "object")?;
/// drop(stage);
///
/// let (mut zip, mut members) = (Vec::new(), 0);
/// let packed = Pack::new(&tree, Format::Zip)
///     .only([TreePath::parse("src")?])
///     .listen(|progress| {
///         members = progress.files;
///         ControlFlow::Continue(())
///     })
///     .write(&mut zip)?;
/// assert_eq!((members, packed.progress.bytes), (2, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pack<'t> {
    tree: &'t Tree,
    format: Format,
    only: Option<Only>,
    meter: Meter<'t>,
}

/// A part of the tree.
#[derive(Debug)]
enum Only {
    Paths(Vec<TreePath>),
    Found(Vec<Found>),
}

/// What [`Pack`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packed {
    /// How much went out. Directories count as files.
    pub progress: Progress,
    /// What was left out.
    pub skipped: LeftBehind,
}

impl fmt::Debug for Pack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pack")
            .field("format", &self.format)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

impl<'t> Pack<'t> {
    /// Packs all of `tree`.
    pub fn new(tree: &'t Tree, format: Format) -> Self {
        Self {
            tree,
            format,
            only: None,
            meter: Meter::default(),
        }
    }

    /// Packs only these files and directories, with all that is in them, under these names.
    ///
    /// A symlink that is named is followed within the tree, as when collecting.
    #[must_use]
    pub fn only(mut self, paths: impl IntoIterator<Item = TreePath>) -> Self {
        self.only = Some(Only::Paths(paths.into_iter().collect()));
        self
    }

    /// Packs only what was found, as [`select`](crate::collect::select) finds it: a symlink that was not
    /// named stays one. [`Outcome::pack`](crate::Outcome::pack) packs what a job was to make.
    #[must_use]
    pub fn found(mut self, found: impl IntoIterator<Item = Found>) -> Self {
        self.only = Some(Only::Found(found.into_iter().collect()));
        self
    }

    /// Calls `listener` after every block and every member. `Break` ends packing with
    /// [`ArchiveError::Interrupted`].
    #[must_use]
    pub fn listen(mut self, listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 't) -> Self {
        self.meter.listener = Some(Box::new(listener));
        self
    }

    /// Writes the archive and flushes `writer`.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`]; what was written up to there is no archive.
    pub fn write(mut self, writer: impl Write) -> Result<Packed, ArchiveError> {
        let failed = |error| ArchiveError::Write {
            path: TreePath::root(),
            error,
        };
        let members = self.members()?;
        let writer = io::BufWriter::with_capacity(BLOCK_BYTES, writer);
        let mut packed = Packed::default();
        if self.format == Format::Zip {
            let mut zip = ZipWriter::new(writer);
            self.write_members(&members, &mut zip, &mut packed)?;
            zip.finish().and_then(|mut w| w.flush()).map_err(failed)?;
        } else {
            let encoder = Encoder::new(self.format, writer).map_err(failed)?;
            let mut tar = TarWriter::new(encoder);
            self.write_members(&members, &mut tar, &mut packed)?;
            let encoder = tar.finish().map_err(failed)?;
            encoder
                .finish()
                .and_then(|mut w| w.flush())
                .map_err(failed)?;
        }
        packed.progress = self.meter.progress;
        Ok(packed)
    }

    fn members(&self) -> Result<Vec<Found>, ArchiveError> {
        let found = match &self.only {
            None => return Ok(walk(self.tree, &TreePath::root())?),
            Some(Only::Found(found)) => found.clone(),
            Some(Only::Paths(paths)) => {
                let look = |path: &TreePath| {
                    let (path, attr) = (path.clone(), find(self.tree, path)?);
                    Ok(Found { path, attr })
                };
                let found: Result<_, CollectError> = paths.iter().map(look).collect();
                found?
            }
        };
        // Once each: a file may have been named beside the directory that it is in.
        let mut members = BTreeMap::new();
        for Found { path, attr } in found {
            if attr.kind == Kind::Directory {
                let inside = walk(self.tree, &path)?;
                members.extend(inside.into_iter().map(|it| (it.path, it.attr)));
            }
            if !path.is_root() {
                members.insert(path, attr);
            }
        }
        let found = |(path, attr)| Found { path, attr };
        Ok(members.into_iter().map(found).collect())
    }

    fn write_members(
        &mut self,
        members: &[Found],
        sink: &mut impl Sink,
        packed: &mut Packed,
    ) -> Result<(), ArchiveError> {
        // Files with several names, by the first of them.
        let mut linked: HashMap<Ino, &TreePath> = HashMap::new();
        for Found { path, attr } in members {
            let failed = |error| ArchiveError::Write {
                path: path.clone(),
                error,
            };
            let first = linked.get(&attr.ino).filter(|_| sink.has_links()).copied();
            let written = match (attr.kind, first) {
                (Kind::File | Kind::Symlink, Some(first)) => sink.link(path, first, attr),
                (Kind::Directory, _) => sink.directory(path, attr),
                (Kind::Symlink, _) => {
                    let target = self.tree.read_link(attr.ino);
                    let target = target.map_err(|error| refused(path, error))?;
                    sink.symlink(path, &target, attr)
                }
                (Kind::File, _) => {
                    self.file(path, attr, sink)?;
                    Ok(())
                }
                (kind, _) => {
                    packed.skipped.add(kind, || path.to_path_buf());
                    continue;
                }
            };
            written.map_err(failed)?;
            if attr.nlink > 1 && attr.kind != Kind::Directory {
                linked.entry(attr.ino).or_insert(path);
            }
            self.meter.file()?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &TreePath,
        attr: &Attr,
        sink: &mut impl Sink,
    ) -> Result<(), ArchiveError> {
        let failed = |error| ArchiveError::Write {
            path: path.clone(),
            error,
        };
        let ranges = if attr.blocks * 512 < attr.size && sink.has_holes() {
            data(self.tree, attr).map_err(|error| refused(path, error))?
        } else {
            // Its end is found by reading, so that a file of one size cannot have the content of another.
            std::iter::once(0..attr.size)
                .filter(|whole| !whole.is_empty())
                .collect()
        };
        let length = ranges.iter().map(|range| range.end - range.start).sum();
        if length == attr.size {
            sink.file(path, attr).map_err(failed)?;
        } else {
            sink.sparse(path, &ranges, attr).map_err(failed)?;
        }
        for range in ranges {
            let mut offset = range.start;
            while offset < range.end {
                let part = (range.end - offset).min(BLOCK_BYTES as u64) as usize;
                let piece = self.tree.read(attr.ino, offset, part);
                let piece = piece.map_err(|error| refused(path, error))?;
                if piece.is_empty() {
                    return Err(refused(path, StoreError::NoData));
                }
                sink.content(&piece).map_err(failed)?;
                self.meter.bytes(piece.len())?;
                offset += piece.len() as u64;
            }
        }
        sink.end(length).map_err(failed)
    }
}

fn refused(path: &TreePath, error: StoreError) -> ArchiveError {
    ArchiveError::Store {
        path: path.clone(),
        error,
    }
}

/// Where a file has data.
fn data(tree: &Tree, attr: &Attr) -> Result<Vec<Range<u64>>, StoreError> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < attr.size {
        let start = match tree.seek_data(attr.ino, offset) {
            Err(StoreError::NoData) => break,
            start => start?,
        };
        offset = tree.seek_hole(attr.ino, start)?;
        ranges.push(start..offset);
    }
    Ok(ranges)
}

/// What a format can take.
pub(super) trait Sink {
    fn has_links(&self) -> bool;
    fn has_holes(&self) -> bool;
    fn directory(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()>;
    fn symlink(&mut self, path: &TreePath, target: &[u8], attr: &Attr) -> io::Result<()>;
    fn link(&mut self, path: &TreePath, first: &TreePath, attr: &Attr) -> io::Result<()>;
    /// A file whose content follows.
    fn file(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()>;
    /// A file of which only these ranges follow.
    fn sparse(&mut self, path: &TreePath, data: &[Range<u64>], attr: &Attr) -> io::Result<()>;
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The end of a file of which `length` bytes were written.
    fn end(&mut self, length: u64) -> io::Result<()>;
}

impl<W: Write> Sink for TarWriter<W> {
    fn has_links(&self) -> bool {
        true
    }

    fn has_holes(&self) -> bool {
        true
    }

    fn directory(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        let mut name = path.to_bytes();
        name.push(b'/');
        self.empty(&name, EntryType::Directory, b"", attr)
    }

    fn symlink(&mut self, path: &TreePath, target: &[u8], attr: &Attr) -> io::Result<()> {
        self.empty(&path.to_bytes(), EntryType::Symlink, target, attr)
    }

    fn link(&mut self, path: &TreePath, first: &TreePath, attr: &Attr) -> io::Result<()> {
        self.empty(&path.to_bytes(), EntryType::Link, &first.to_bytes(), attr)
    }

    fn file(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()> {
        TarWriter::file(self, &path.to_bytes(), attr.size, attr)
    }

    fn sparse(&mut self, path: &TreePath, data: &[Range<u64>], attr: &Attr) -> io::Result<()> {
        TarWriter::sparse(self, &path.to_bytes(), data, attr)
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        TarWriter::content(self, bytes)
    }

    fn end(&mut self, length: u64) -> io::Result<()> {
        self.pad(length)
    }
}
