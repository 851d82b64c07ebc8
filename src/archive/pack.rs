//! A tree, or a part of it, into an archive.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};

use super::Format;
use super::codec::Encoder;
use super::error::ArchiveError;
use super::member_writer::MemberWriter;
use super::tar_writer::TarWriter;
use super::zip_writer::ZipWriter;
use crate::collect::{CollectError, Found, data_ranges, each_block, find, walk};
use crate::progress::{Meter, Progress};
use crate::stage::LeftBehind;
use crate::store::{Attr, Ino, Kind, StoreError, Tree, TreePath};

/// Bytes that are written at once.
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
    only: Option<Selection>,
    meter: Meter<'t>,
}

/// A part of the tree.
#[derive(Debug)]
enum Selection {
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
        self.only = Some(Selection::Paths(paths.into_iter().collect()));
        self
    }

    /// Packs only what was found, as [`select`](crate::collect::select) finds it: a symlink that was not
    /// named stays one. [`Outcome::pack`](crate::Outcome::pack) packs what a job was to make.
    #[must_use]
    pub fn found(mut self, found: impl IntoIterator<Item = Found>) -> Self {
        self.only = Some(Selection::Found(found.into_iter().collect()));
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
            Some(Selection::Found(found)) => found.clone(),
            Some(Selection::Paths(paths)) => {
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
        writer: &mut impl MemberWriter,
        packed: &mut Packed,
    ) -> Result<(), ArchiveError> {
        // Files with several names, by the first of them.
        let mut linked: HashMap<Ino, &TreePath> = HashMap::new();
        for Found { path, attr } in members {
            let failed = |error| ArchiveError::Write {
                path: path.clone(),
                error,
            };
            let first = linked
                .get(&attr.ino)
                .filter(|_| writer.has_links())
                .copied();
            let written = match (attr.kind, first) {
                (Kind::File | Kind::Symlink, Some(first)) => writer.link(path, first, attr),
                (Kind::Directory, _) => writer.directory(path, attr),
                (Kind::Symlink, _) => {
                    let target = self.tree.read_link(attr.ino);
                    let target = target.map_err(|error| refused(path, error))?;
                    writer.symlink(path, &target, attr)
                }
                (Kind::File, _) => {
                    self.file(path, attr, writer)?;
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
        writer: &mut impl MemberWriter,
    ) -> Result<(), ArchiveError> {
        let failed = |error| ArchiveError::Write {
            path: path.clone(),
            error,
        };
        let refused = |error| refused(path, error);
        let ranges = if attr.blocks * 512 < attr.size && writer.has_holes() {
            let ranges: Result<Vec<Range<u64>>, _> = data_ranges(self.tree, attr).collect();
            ranges.map_err(refused)?
        } else {
            // Its end is found by reading, so that a file of one size cannot have the content of another.
            std::iter::once(0..attr.size)
                .filter(|whole| !whole.is_empty())
                .collect()
        };
        let length = ranges.iter().map(|range| range.end - range.start).sum();
        if length == attr.size {
            writer.file(path, attr).map_err(failed)?;
        } else {
            writer.sparse(path, &ranges, attr).map_err(failed)?;
        }
        for range in ranges {
            each_block(self.tree, attr.ino, range, refused, |_, block| {
                writer.content(block).map_err(failed)?;
                Ok(self.meter.bytes(block.len())?)
            })?;
        }
        writer.end(length).map_err(failed)
    }
}

fn refused(path: &TreePath, error: StoreError) -> ArchiveError {
    ArchiveError::Store {
        path: path.clone(),
        error,
    }
}
