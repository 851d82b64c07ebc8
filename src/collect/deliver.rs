//! Outputs into files of the host: all of them, each whole, or none.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::destination::{Spot, Trouble, anchor};
use super::missing::MissingOutputs;
use super::place::{Journal, Temporary, finish_directory, finish_file};
use super::plan::{
    HostPath, Order, Places, Plan, PlannedDirectory, PlannedFile, PlannedStream, Use,
    destination_error, host_path, to_host,
};
use super::stream::Stream;
use super::wanted::{Wanted, named};
use super::{BLOCK_BYTES, CollectError};
use crate::progress::{Meter, Progress, Stopped};
use crate::stage::LeftBehind;
use crate::store::{Attr, Kind, StoreError, Tree, TreePath};

/// How many finished files may wait without a name, each with an open descriptor.
///
/// Those beyond get a hidden name at once, which a kill -9 would leave behind.
const UNNAMED_MAX: usize = 256;

/// Where an output goes; for a [`Delivery`].
pub enum Destination {
    /// A path of the host, as `cp` takes it: a file, or a directory to put the file into.
    ///
    /// With a closing `/` it is a directory in any case. A directory output is merged into this
    /// directory, or with a closing `/` into one of its own name there. A symlink is followed and
    /// its target replaced. A FIFO or device, `/dev/stdout` included, is written into. Missing
    /// directories above are made.
    Host(PathBuf),
    /// A writer. Written after all files are in place.
    Writer(Box<dyn Write + Send>),
    /// A descriptor, such as standard output. Written after all files are in place; when nobody
    /// takes what is written, the listener can still end the delivery.
    Descriptor(OwnedFd),
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(path) => f.debug_tuple("Host").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
            Self::Descriptor(descriptor) => f.debug_tuple("Descriptor").field(descriptor).finish(),
        }
    }
}

/// Outputs and where they go, checked before anything runs.
///
/// What is [wanted](Wanted) by a pattern, or because it changed, goes to a directory of the host: below it
/// each thing has its path from the [pattern's base](super::Glob::base), or from the root. No symlink that
/// stands there is followed.
///
/// The steps are [`preflight`](Self::preflight) before the tools run, [`prepare`](Self::prepare)
/// after them, which writes everything beside its place, and [`Prepared::commit`], which puts it
/// there. Until the commit no file of the host has changed; when the commit fails, those already
/// replaced are put back.
///
/// Only a kill -9 within the commit of several outputs may leave the first of them in place, and an
/// old file under a hidden name (`.notapipe-…`).
///
/// Permission bits and modification times are kept, set-id bits are not, holes stay holes. A file
/// that is replaced by root keeps its owner. Nothing is synchronised to the disk.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
///
/// use notapipe::collect::{Delivery, Destination};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("A.gb");
/// let name = TreePath::parse("A.gb")?;
/// let delivery = Delivery::preflight([(name.clone(), Destination::Host(host.clone()))])?;
/// // `Break` would end it, and nothing would be delivered.
/// let delivery = delivery.listen(|_so_far| ControlFlow::Continue(()));
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let before = tree.fork();
/// Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&name, b"a tool's output")?;
///
/// let delivered = delivery.prepare(&tree, &before)?.commit()?;
/// assert_eq!(delivered.progress.files, 1);
/// assert_eq!(std::fs::read(&host)?, b"a tool's output");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Delivery<'l> {
    orders: Vec<Order>,
    meter: Meter<'l>,
}

/// What was delivered by a [`Delivery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Files and symlinks, and the bytes in them.
    pub progress: Progress,
    /// What was left behind: FIFOs, sockets and devices inside collected directories.
    pub skipped: LeftBehind,
}

impl<'l> Delivery<'l> {
    /// Looks at every destination and refuses what can be seen to fail.
    ///
    /// # Errors
    ///
    /// [`CollectError::Destination`], or [`CollectError::Twice`] when two outputs would go to one
    /// place or one into the other, also when only symlinks make that so.
    pub fn preflight<W: Into<Wanted>>(
        outputs: impl IntoIterator<Item = (W, Destination)>,
    ) -> Result<Self, CollectError> {
        let mut orders = Vec::new();
        for (wanted, destination) in outputs {
            let wanted = wanted.into();
            orders.push(match destination {
                Destination::Host(given) => Order::host(wanted, given)?,
                Destination::Writer(writer) => Order::stream(wanted, Stream::Writer(writer)),
                Destination::Descriptor(descriptor) => {
                    Order::stream(wanted, Stream::Descriptor(descriptor))
                }
            });
        }
        let mut places = Places::default();
        for order in orders.iter().filter(|order| order.wanted.name().is_some()) {
            if let Spot::Path(path) = &order.target.as_file {
                let place = host_path(&order.name, path)?;
                places.claim(&place, &order.name, Use::File)?;
            }
        }
        Ok(Self {
            orders,
            meter: Meter::default(),
        })
    }

    /// Calls `listener` after every block and every file. `Break` ends the delivery with
    /// [`CollectError::Interrupted`] and nothing delivered.
    #[must_use]
    pub fn listen(mut self, listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 'l) -> Self {
        self.meter.listener = Some(Box::new(listener));
        self
    }

    /// Writes every output beside its place. No file of the host changes.
    ///
    /// `before` is a fork of `tree` from before the tools ran, to tell what they made.
    ///
    /// # Errors
    ///
    /// [`CollectError::Missing`] and [`CollectError::NoMatch`] when outputs are not in the tree, and others
    /// of [`CollectError`].
    pub fn prepare<'t>(
        mut self,
        tree: &'t Tree,
        before: &Tree,
    ) -> Result<Prepared<'t, 'l>, CollectError> {
        let wanted = self.orders.iter().map(|order| &order.wanted);
        MissingOutputs::check(tree, before, named(wanted))?;
        let mut plan = Plan::default();
        for order in self.orders {
            let found = order.wanted.find(tree, before)?;
            plan.order(tree, order, found)?;
        }
        let mut prepared = Prepared {
            tree,
            meter: std::mem::take(&mut self.meter),
            directories: plan.directories,
            files: Vec::new(),
            streams: plan.streams,
            skipped: plan.skipped,
        };
        prepared.write(plan.files)?;
        Ok(prepared)
    }
}

/// Outputs that lie complete beside their places; made by a [`Delivery`].
///
/// Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Prepared<'t, 'l> {
    tree: &'t Tree,
    meter: Meter<'l>,
    /// To be made, the upper before the lower.
    directories: Vec<PlannedDirectory>,
    files: Vec<Ready>,
    streams: Vec<PlannedStream>,
    skipped: LeftBehind,
}

#[derive(Debug)]
struct Ready {
    name: TreePath,
    place: HostPath,
    temporary: Temporary,
}

impl Prepared<'_, '_> {
    /// Puts every output into its place, then writes to FIFOs, devices and writers.
    ///
    /// # Errors
    ///
    /// [`CollectError`]; then everything is as it was, apart from what went to FIFOs, devices and
    /// writers, and apart from [`CollectError::NotPutBack`].
    pub fn commit(mut self) -> Result<Delivered, CollectError> {
        let mut journal = Journal::default();
        match self.put(&mut journal) {
            Ok(()) => {
                journal.keep();
                Ok(Delivered {
                    progress: self.meter.progress,
                    skipped: self.skipped,
                })
            }
            Err(cause) => {
                let left = journal.take_back();
                if left.is_empty() {
                    return Err(cause);
                }
                Err(CollectError::NotPutBack {
                    left,
                    cause: Box::new(cause),
                })
            }
        }
    }

    fn put(&mut self, journal: &mut Journal) -> Result<(), CollectError> {
        let mut made: HashSet<&HostPath> = HashSet::new();
        for PlannedDirectory {
            name,
            place,
            attributes,
        } in &self.directories
        {
            // What is to get its mode later must take files until then.
            let mode = if attributes.is_some() { 0o700 } else { 0o777 };
            self.meter.check()?;
            let host = to_host(place);
            let is_new = journal.directory(&host, mode).map_err(|error| {
                let trouble = Trouble::new(format!("cannot make the directory {host:?}"), error);
                destination_error(name, &host, trouble)
            })?;
            if is_new {
                made.insert(place);
            }
        }
        for Ready {
            name,
            place,
            temporary,
        } in self.files.drain(..)
        {
            self.meter.check()?;
            let place = to_host(&place);
            journal.place(temporary, &place).map_err(|error| {
                destination_error(
                    &name,
                    &place,
                    Trouble::new("cannot put it into place", error),
                )
            })?;
        }
        for PlannedStream {
            name,
            given,
            attr,
            stream,
        } in self.streams.drain(..)
        {
            let failed = |end| match end {
                End::Stopped => CollectError::Interrupted,
                End::Failed(error) if given.as_os_str().is_empty() => CollectError::Writer {
                    name: name.clone(),
                    error,
                },
                End::Failed(error) => {
                    destination_error(&name, &given, Trouble::new("cannot write to it", error))
                }
            };
            let meter = &mut self.meter;
            let mut sink = stream
                .open(|| meter.check().map_err(End::from))
                .map_err(failed)?;
            let mut offset = 0;
            while offset < attr.size {
                let piece = read(self.tree, &name, attr, offset, BLOCK_BYTES as u64)?;
                sink.write(&piece, || meter.check().map_err(End::from))
                    .map_err(failed)?;
                meter.bytes(piece.len())?;
                offset += piece.len() as u64;
            }
            sink.flush().map_err(|error| failed(error.into()))?;
            self.meter.file()?;
        }
        // Last: a directory that may not be written can hardly be emptied again.
        for PlannedDirectory {
            name,
            place,
            attributes,
        } in self.directories.iter().rev()
        {
            let Some((mode, mtime)) = attributes.filter(|_| made.contains(place)) else {
                continue;
            };
            let host = to_host(place);
            finish_directory(&host, mode, mtime).map_err(|error| {
                destination_error(
                    name,
                    &host,
                    Trouble::new("cannot set its attributes", error),
                )
            })?;
        }
        Ok(())
    }

    /// Writes all files that were planned into temporaries.
    fn write(&mut self, files: Vec<PlannedFile>) -> Result<(), CollectError> {
        let mut unnamed = 0;
        let mut anchors = Anchors::default();
        for PlannedFile {
            name,
            place: planned,
            attr,
        } in files
        {
            let place = to_host(&planned);
            let directory = anchors.of(&place);
            let failed = |error| {
                let problem = format!("cannot write in the directory {directory:?}");
                destination_error(&name, &place, Trouble::new(problem, error))
            };
            let mut temporary = match attr.kind {
                Kind::Symlink => {
                    let target =
                        self.tree
                            .read_link(attr.ino)
                            .map_err(|error| CollectError::Store {
                                name: name.clone(),
                                error,
                            })?;
                    Temporary::symlink(directory, &target, attr.mtime).map_err(failed)?
                }
                _ => {
                    let (temporary, file) = Temporary::file(directory).map_err(failed)?;
                    write_content(self.tree, &name, attr, &mut self.meter, |offset, bytes| {
                        file.write_all_at(bytes, offset).map_err(failed)
                    })?;
                    file.set_len(attr.size).map_err(failed)?;
                    let replaced = fs::symlink_metadata(&place).ok();
                    finish_file(&file, attr.mode, attr.mtime, replaced.as_ref()).map_err(failed)?;
                    temporary
                }
            };
            if matches!(temporary, Temporary::Unnamed(_)) {
                unnamed += 1;
                if unnamed > UNNAMED_MAX {
                    temporary = Temporary::Named(temporary.named(directory).map_err(failed)?);
                }
            }
            self.files.push(Ready {
                name,
                place: planned,
                temporary,
            });
            self.meter.file()?;
        }
        Ok(())
    }
}

/// Why a stream took no more.
enum End {
    Stopped,
    Failed(std::io::Error),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for End {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// The nearest existing directories, remembered for the files of one directory.
#[derive(Default)]
struct Anchors {
    last: Option<(PathBuf, PathBuf)>,
}

impl Anchors {
    fn of(&mut self, place: &Path) -> &Path {
        let parent = place.parent().unwrap_or(Path::new("/"));
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            self.last = Some((parent.to_owned(), anchor(place)));
        }
        self.last
            .as_ref()
            .map_or(Path::new("/"), |(_, anchor)| anchor)
    }
}

/// Gives a file's data to `write`, holes left out.
fn write_content(
    tree: &Tree,
    name: &TreePath,
    attr: Attr,
    meter: &mut Meter<'_>,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), CollectError>,
) -> Result<(), CollectError> {
    let refused = |error| CollectError::Store {
        name: name.clone(),
        error,
    };
    let mut offset = 0;
    while offset < attr.size {
        offset = match tree.seek_data(attr.ino, offset) {
            Err(StoreError::NoData) => return Ok(()),
            data => data.map_err(refused)?,
        };
        let hole = tree.seek_hole(attr.ino, offset).map_err(refused)?;
        while offset < hole {
            let piece = read(tree, name, attr, offset, hole - offset)?;
            write(offset, &piece)?;
            meter.bytes(piece.len())?;
            offset += piece.len() as u64;
        }
    }
    Ok(())
}

/// Some bytes at `offset`, at most `length`, never none.
fn read(
    tree: &Tree,
    name: &TreePath,
    attr: Attr,
    offset: u64,
    length: u64,
) -> Result<crate::store::Data, CollectError> {
    let refused = |error| CollectError::Store {
        name: name.clone(),
        error,
    };
    let length = length.min(BLOCK_BYTES as u64) as usize;
    let piece = tree.read(attr.ino, offset, length).map_err(refused)?;
    if piece.is_empty() {
        Err(refused(StoreError::NoData))
    } else {
        Ok(piece)
    }
}
