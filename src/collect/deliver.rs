//! Outputs into files of the host: all of them, each whole, or none.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::destination::{Spot, Stream, Target, Trouble, anchor};
use super::missing::MissingOutputs;
use super::place::{Journal, Temporary, finish_directory, finish_file};
use super::{BLOCK_BYTES, CollectError, find, walk};
use crate::progress::{Meter, Progress, Stopped};
use crate::stage::Skipped;
use crate::store::{Attr, Kind, StoreError, Timestamp, Tree, TreePath};

/// How many finished files may wait without a name, each with an open descriptor.
///
/// Those beyond get a hidden name at once, which a kill -9 would leave behind.
const UNNAMED_MAX: usize = 256;

/// Where an output goes.
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
/// use notapipe::collect::{Delivery, Destination};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("A.gb");
/// let name = TreePath::parse("A.gb")?;
/// let delivery = Delivery::preflight([(name.clone(), Destination::Host(host.clone()))])?;
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

#[derive(Debug)]
struct Order {
    name: TreePath,
    /// As it was given, for messages.
    given: PathBuf,
    target: Target,
}

impl Order {
    /// Into something without a name.
    fn stream(name: TreePath, stream: Stream) -> Self {
        Self {
            name,
            given: PathBuf::new(),
            target: Target {
                as_file: Spot::Stream(stream),
                as_directory: None,
            },
        }
    }
}

/// What was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Files and symlinks, and the bytes in them.
    pub progress: Progress,
    /// What was left behind: FIFOs, sockets and devices inside collected directories.
    pub skipped: Vec<Skipped>,
}

impl<'l> Delivery<'l> {
    /// Looks at every destination and refuses what can be seen to fail.
    ///
    /// # Errors
    ///
    /// [`CollectError::Destination`], or [`CollectError::Twice`] when two outputs would go to one
    /// place or one into the other, also when only symlinks make that so.
    pub fn preflight(
        outputs: impl IntoIterator<Item = (TreePath, Destination)>,
    ) -> Result<Self, CollectError> {
        let mut orders = Vec::new();
        for (name, destination) in outputs {
            let order = match destination {
                Destination::Host(given) => {
                    let failed = |trouble| destination_error(&name, &given, trouble);
                    let target = Target::locate(&given, name.file_name()).map_err(failed)?;
                    target.check().map_err(failed)?;
                    Order {
                        name,
                        given,
                        target,
                    }
                }
                Destination::Writer(writer) => Order::stream(name, Stream::Writer(writer)),
                Destination::Descriptor(descriptor) => {
                    Order::stream(name, Stream::Descriptor(descriptor))
                }
            };
            orders.push(order);
        }
        let mut places = Places::default();
        for order in &orders {
            if let Spot::Path(path) = &order.target.as_file {
                places.claim(path, &order.name, true)?;
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
    /// [`CollectError::Missing`] when outputs are not in the tree, and others of [`CollectError`].
    pub fn prepare<'t>(
        mut self,
        tree: &'t Tree,
        before: &Tree,
    ) -> Result<Prepared<'t, 'l>, CollectError> {
        MissingOutputs::check(tree, before, self.orders.iter().map(|order| &order.name))?;
        let mut prepared = Prepared {
            tree,
            meter: std::mem::take(&mut self.meter),
            directories: Vec::new(),
            files: Vec::new(),
            streams: Vec::new(),
            skipped: Vec::new(),
        };
        let mut plan = Plan::default();
        for order in self.orders {
            plan.order(tree, order, &mut prepared)?;
        }
        prepared.write(plan.files)?;
        Ok(prepared)
    }
}

/// Outputs that lie complete beside their places.
///
/// Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Prepared<'t, 'l> {
    tree: &'t Tree,
    meter: Meter<'l>,
    /// To be made, the upper before the lower.
    directories: Vec<PlannedDirectory>,
    files: Vec<Ready>,
    streams: Vec<(TreePath, PathBuf, Attr, Stream)>,
    skipped: Vec<Skipped>,
}

#[derive(Debug)]
struct PlannedDirectory {
    name: TreePath,
    place: PathBuf,
    /// Mode and time, unless it only stands above an output.
    attributes: Option<(u32, Timestamp)>,
}

#[derive(Debug)]
struct Ready {
    name: TreePath,
    place: PathBuf,
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
        let mut made: HashSet<&Path> = HashSet::new();
        for PlannedDirectory {
            name,
            place,
            attributes,
        } in &self.directories
        {
            // What is to get its mode later must take files until then.
            let mode = if attributes.is_some() { 0o700 } else { 0o777 };
            let is_new = journal.directory(place, mode).map_err(|error| {
                let trouble = Trouble::new(format!("cannot make the directory {place:?}"), error);
                destination_error(name, place, trouble)
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
            journal.place(temporary, &place).map_err(|error| {
                destination_error(
                    &name,
                    &place,
                    Trouble::new("cannot put it into place", error),
                )
            })?;
        }
        for (name, given, attr, stream) in self.streams.drain(..) {
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
            let Some((mode, mtime)) = attributes.filter(|_| made.contains(place.as_path())) else {
                continue;
            };
            finish_directory(place, mode, mtime).map_err(|error| {
                destination_error(
                    name,
                    place,
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
        for PlannedFile { name, place, attr } in files {
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
                place,
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

/// A file or symlink that is to be written.
struct PlannedFile {
    name: TreePath,
    place: PathBuf,
    attr: Attr,
}

/// What goes where, with directories taken apart.
#[derive(Default)]
struct Plan {
    places: Places,
    files: Vec<PlannedFile>,
}

impl Plan {
    fn order(
        &mut self,
        tree: &Tree,
        order: Order,
        prepared: &mut Prepared<'_, '_>,
    ) -> Result<(), CollectError> {
        let Order {
            name,
            given,
            target,
        } = order;
        let attr = find(tree, &name)?;
        let failed = |error: rustix::io::Errno, problem: &str| {
            destination_error(&name, &given, Trouble::new(problem, error))
        };
        match (attr.kind, target.as_file, target.as_directory) {
            (Kind::File, Spot::Path(place), _) => {
                self.parents(&name, &place, prepared);
                self.file(name, place, attr)
            }
            (Kind::File, Spot::Stream(stream), _) => {
                prepared.streams.push((name, given, attr, stream));
                Ok(())
            }
            (Kind::File, Spot::DirectoryOnly, _) => Err(failed(
                rustix::io::Errno::ISDIR,
                "a directory of that name is in the way",
            )),
            (Kind::Directory, _, Some(place)) => self.directory(tree, name, place, attr, prepared),
            (Kind::Directory, Spot::Stream(_), None) if given.as_os_str().is_empty() => {
                Err(CollectError::Kind {
                    name,
                    kind: attr.kind,
                })
            }
            (Kind::Directory, _, None) => Err(failed(
                rustix::io::Errno::NOTDIR,
                "the output is a directory",
            )),
            (kind, ..) => Err(CollectError::Kind { name, kind }),
        }
    }

    fn file(&mut self, name: TreePath, place: PathBuf, attr: Attr) -> Result<(), CollectError> {
        self.places.claim(&place, &name, true)?;
        self.files.push(PlannedFile { name, place, attr });
        Ok(())
    }

    /// A directory with all that is in it, merged into what is at `place`.
    fn directory(
        &mut self,
        tree: &Tree,
        name: TreePath,
        place: PathBuf,
        attr: Attr,
        prepared: &mut Prepared<'_, '_>,
    ) -> Result<(), CollectError> {
        self.parents(&name, &place, prepared);
        self.places.claim(&place, &name, false)?;
        let attributes = Some((attr.mode, attr.mtime));
        prepared.directories.push(PlannedDirectory {
            name: name.clone(),
            place: place.clone(),
            attributes,
        });
        let depth = name.names().len();
        for found in walk(tree, &name)? {
            let below = found.path.names()[depth..].iter();
            let mut inside = place.clone();
            inside.extend(below.map(|name| std::ffi::OsStr::from_bytes(name.as_bytes())));
            let Attr {
                kind, mode, mtime, ..
            } = found.attr;
            match kind {
                Kind::Directory => {
                    self.places.claim(&inside, &found.path, false)?;
                    no_link(&inside).map_err(|error| {
                        let problem = "something else than a directory is in the way";
                        destination_error(&found.path, &inside, Trouble::new(problem, error))
                    })?;
                    let attributes = Some((mode, mtime));
                    let name = found.path;
                    prepared.directories.push(PlannedDirectory {
                        name,
                        place: inside,
                        attributes,
                    });
                }
                Kind::File | Kind::Symlink => self.file(found.path, inside, found.attr)?,
                kind => prepared.skipped.push(Skipped {
                    path: found.path.to_path_buf(),
                    kind,
                }),
            }
        }
        Ok(())
    }

    /// The directories above `place` that are missing.
    fn parents(&mut self, name: &TreePath, place: &Path, prepared: &mut Prepared<'_, '_>) {
        let there = anchor(place);
        let above: Vec<_> = place
            .ancestors()
            .skip(1)
            .take_while(|directory| *directory != there)
            .collect();
        for directory in above.into_iter().rev() {
            prepared.directories.push(PlannedDirectory {
                name: name.clone(),
                place: directory.to_owned(),
                attributes: None,
            });
        }
    }
}

/// Refuses to go through a symlink below a destination: it may come from an earlier delivery of
/// the same tools, and lead anywhere.
fn no_link(place: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(there) if !there.is_dir() => Err(rustix::io::Errno::NOTDIR.into()),
        _ => Ok(()),
    }
}

/// Which output wants which place, whole subtrees excluded.
#[derive(Default)]
struct Places(BTreeMap<PathBuf, (TreePath, bool)>);

impl Places {
    /// Refuses what is taken, lies below a file, or would be a file above something.
    fn claim(&mut self, place: &Path, name: &TreePath, file: bool) -> Result<(), CollectError> {
        let twice = |first: &TreePath, destination: &Path| CollectError::Twice {
            first: first.clone(),
            second: name.clone(),
            destination: destination.to_owned(),
        };
        for above in place.ancestors() {
            if let Some((first, is_file)) = self.0.get(above)
                && (*is_file || (above == place && file))
            {
                return Err(twice(first, above));
            }
        }
        if file {
            let mut after = self.0.range(place.to_owned()..);
            if let Some((below, (first, _))) = after.next().filter(|(p, _)| p.starts_with(place)) {
                return Err(twice(first, below));
            }
        }
        self.0.insert(place.to_owned(), (name.clone(), file));
        Ok(())
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

fn destination_error(name: &TreePath, destination: &Path, trouble: Trouble) -> CollectError {
    CollectError::Destination {
        name: name.clone(),
        destination: destination.to_owned(),
        problem: trouble.problem,
        error: trouble.error,
    }
}
