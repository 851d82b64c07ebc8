//! Outputs into files of the host: all of them, each whole, or none.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::io::Errno;

use super::CollectError;
use super::attributes::Keep;
use super::destination::{FileTarget, Problem, Target, host_path};
use super::host::descriptors;
use super::host_path::{HostPath, to_host};
use super::journal::{Journal, Temporary};
use super::missing::MissingOutputs;
use super::plan::{
    ClaimKind, Claims, OutputRequest, Plan, PlannedDirectory, PlannedFile, PlannedStream,
};
use super::stream::Stream;
use super::tree_reader::{data_ranges, each_block};
use super::wanted::{Wanted, named};
use crate::progress::{Meter, Progress, Stopped};
use crate::stage::{LeftBehind, Lost};
use crate::store::{Ino, Kind, Tree, TreePath};

/// How many finished files may wait without a name, each with an open descriptor, where many descriptors are allowed.
///
/// Those beyond get a hidden name at once, which a kill -9 would leave behind.
const UNNAMED_MAX: usize = 256;

/// Where an output goes; for a [`Delivery`].
pub enum Destination {
    /// A path of the host, as `cp` takes it: a file, or a directory to put the file into.
    ///
    /// With a closing `/` it is a directory in any case. A directory output is merged into this
    /// directory, or with a closing `/` into one of its own name there. A symlink that is this path is
    /// followed once, before anything runs, and its target replaced; so is one of that name in this
    /// directory, if it is ours or root's. Any other one is replaced itself, or in the way of a directory. A FIFO or device, `/dev/stdout` included, is written into. Missing
    /// directories above are made.
    Host(PathBuf),
    /// A writer of the caller's. Written after all files are in place.
    Writer(Box<dyn Write + Send>),
    /// A descriptor, such as standard output. Written after all files are in place; while no reader
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
/// Permission bits and modification times are kept, holes stay holes, and hard links inside a directory or among
/// what one pattern matches stay hard links. Set-id bits and extended attributes are not kept, and counted in
/// [`Delivered::skipped`]. A file that is replaced by root keeps its owner. Nothing is synchronised to the disk.
///
/// From the first look on, directories of the host are reached through open ones and never through a symlink: who
/// owns a directory on the way cannot lead the delivery elsewhere. A directory that is moved or replaced meanwhile
/// fails it.
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
    orders: Vec<OutputRequest>,
    journal: Journal,
    keep: Keep,
    meter: Meter<'l>,
}

/// What was delivered by a [`Delivery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Files and symlinks, and the bytes in them.
    pub progress: Progress,
    /// What was left behind: FIFOs, sockets and devices inside collected directories, and what files lost.
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
                Destination::Host(given) => OutputRequest::host(wanted, given)?,
                Destination::Writer(writer) => {
                    OutputRequest::stream(wanted, Stream::Writer(writer))
                }
                Destination::Descriptor(descriptor) => {
                    OutputRequest::stream(wanted, Stream::Descriptor(descriptor))
                }
            });
        }
        let mut places = Claims::default();
        for order in orders.iter().filter(|order| order.wanted.name().is_some()) {
            if let FileTarget::Path(path) = &order.target.as_file {
                let place = host_path(&order.name, path)?;
                places.claim(&place, &order.name, ClaimKind::File)?;
            }
        }
        let mut journal = Journal::default();
        for order in &orders {
            // A directory is held itself if it is there, for a file the one that it is in.
            let place = match &order.target {
                Target {
                    as_directory: Some(path),
                    ..
                } => host_path(&order.name, path)?,
                Target {
                    as_file: FileTarget::Path(path),
                    ..
                } => host_path(&order.name, path)?.parent().unwrap_or_default(),
                _ => continue,
            };
            journal.host.hold(&place).map_err(|error| {
                let problem = Problem::new("it cannot be looked at", error);
                problem.of(&order.name, &to_host(&place))
            })?;
        }
        Ok(Self {
            orders,
            journal,
            keep: Keep::default(),
            meter: Meter::default(),
        })
    }

    /// All of a tree into a directory that is there and held.
    pub(super) fn whole(journal: Journal, directory: PathBuf, keep: Keep) -> Self {
        Self {
            orders: vec![OutputRequest::all(directory)],
            journal,
            keep,
            meter: Meter::default(),
        }
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
        let mut plan = Plan::new(&mut self.journal.host);
        for order in self.orders {
            let found = order.wanted.find(tree, before)?;
            plan.order(tree, order, found)?;
        }
        let Plan {
            directories,
            files,
            streams,
            skipped,
            ..
        } = plan;
        let mut prepared = Prepared {
            tree,
            keep: self.keep,
            meter: self.meter,
            directories,
            files: VecDeque::new(),
            streams,
            skipped,
            journal: self.journal,
            unnamed: VecDeque::new(),
        };
        prepared.write(files)?;
        Ok(prepared)
    }
}

/// Outputs that lie complete beside their places; made by a [`Delivery`].
///
/// Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Prepared<'t, 'l> {
    tree: &'t Tree,
    keep: Keep,
    meter: Meter<'l>,
    /// To be made, the upper before the lower.
    directories: Vec<PlannedDirectory>,
    files: VecDeque<WrittenFile>,
    streams: Vec<PlannedStream>,
    skipped: LeftBehind,
    journal: Journal,
    /// Those of the files that have no name yet, the first one first.
    unnamed: VecDeque<usize>,
}

#[derive(Debug)]
struct WrittenFile {
    name: TreePath,
    place: HostPath,
    /// An existing directory, in which it lies until it has its place.
    beside: HostPath,
    /// None once it has its place.
    temporary: Option<Temporary>,
}

impl Drop for Prepared<'_, '_> {
    fn drop(&mut self) {
        for ready in self.files.drain(..) {
            if let Some(temporary) = ready.temporary {
                temporary.discard(&mut self.journal.host);
            }
        }
    }
}

impl Prepared<'_, '_> {
    /// Puts every output into its place, then writes to FIFOs, devices and writers.
    ///
    /// # Errors
    ///
    /// [`CollectError`]; then everything is as it was, apart from what went to FIFOs, devices and
    /// writers, and apart from [`CollectError::NotPutBack`].
    pub fn commit(mut self) -> Result<Delivered, CollectError> {
        match self.put() {
            Ok(()) => {
                self.journal.keep();
                Ok(Delivered {
                    progress: self.meter.progress,
                    skipped: std::mem::take(&mut self.skipped),
                })
            }
            Err(cause) => {
                let left = self.journal.take_back();
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

    fn put(&mut self) -> Result<(), CollectError> {
        self.journal.host.check_held().map_err(|(place, error)| {
            let name = self.files.front().map(|file| file.name.clone());
            let problem = Problem::new("its directory is not there any more", error);
            problem.of(&name.unwrap_or_default(), &to_host(&place))
        })?;
        let directories = std::mem::take(&mut self.directories);
        let made = self.make(&directories)?;
        while let Some(ready) = self.files.pop_front() {
            self.meter.check()?;
            let Some(temporary) = ready.temporary else {
                continue;
            };
            let placed = self.journal.place(temporary, &ready.place);
            placed.map_err(|error| {
                let problem = Problem::new("cannot put it into place", error);
                problem.of(&ready.name, &to_host(&ready.place))
            })?;
        }
        self.write_streams()?;
        // Last: a directory that may not be written can hardly be emptied again.
        let made = directories
            .iter()
            .rev()
            .filter(|directory| made.contains(&directory.place));
        for PlannedDirectory { name, place, attr } in made {
            let Some(attr) = attr else { continue };
            self.meter.check()?;
            let opened = self.journal.host.open_directory(place);
            let of = (self.tree, attr);
            opened
                .and_then(|opened| self.keep.finish(of, opened, None, &mut self.skipped))
                .map_err(|error| {
                    let problem = Problem::new("cannot set its attributes", error);
                    problem.of(name, &to_host(place))
                })?;
        }
        Ok(())
    }

    /// Makes directories; returns those that were not there.
    fn make(
        &mut self,
        directories: &[PlannedDirectory],
    ) -> Result<HashSet<HostPath>, CollectError> {
        let mut made = HashSet::new();
        for PlannedDirectory { name, place, attr } in directories {
            self.meter.check()?;
            // What is to get its mode later must take files until then.
            let mode = if attr.is_some() { 0o700 } else { 0o777 };
            let is_new = self.journal.directory(place, mode).map_err(|error| {
                let host = to_host(place);
                let problem = Problem::new(format!("cannot make the directory {host:?}"), error);
                problem.of(name, &host)
            })?;
            if is_new {
                made.insert(place.clone());
            }
        }
        Ok(made)
    }

    fn write_streams(&mut self) -> Result<(), CollectError> {
        for PlannedStream {
            name,
            given,
            attr,
            stream,
        } in self.streams.drain(..)
        {
            let failed = |end| match end {
                StreamError::Stopped => CollectError::Interrupted,
                StreamError::Failed(error) if given.as_os_str().is_empty() => {
                    CollectError::Writer {
                        name: name.clone(),
                        error,
                    }
                }
                StreamError::Failed(error) => {
                    Problem::new("cannot write to it", error).of(&name, &given)
                }
            };
            let meter = &mut self.meter;
            let mut sink = stream
                .open(|| meter.check().map_err(StreamError::from))
                .map_err(failed)?;
            let refused = CollectError::store(&name);
            each_block(self.tree, attr.ino, 0..attr.size, refused, |_, block| {
                sink.write(block, || meter.check().map_err(StreamError::from))
                    .map_err(failed)?;
                Ok(meter.bytes(block.len())?)
            })?;
            sink.flush().map_err(|error| failed(error.into()))?;
            self.meter.file()?;
        }
        Ok(())
    }

    /// Writes all files that were planned into temporaries.
    fn write(&mut self, files: Vec<PlannedFile>) -> Result<(), CollectError> {
        // The first of those that are one file of the tree, by the order that they belong to.
        let mut first: HashMap<(usize, Ino), usize> = HashMap::new();
        for file in files {
            let beside = match self.nearest(&file) {
                Ok(beside) => beside,
                Err(error) => return Err(not_written(&file, &file.place, error)),
            };
            let many_names = file.attr.kind == Kind::File && file.attr.nlink > 1;
            let link = (file.order, file.attr.ino);
            let linked = match first.get(&link).filter(|_| many_names) {
                Some(&first) => self.link(first, &beside),
                None => None,
            };
            match (linked, file.attr.kind) {
                (Some(linked), _) => self.add(&file, beside, linked),
                (None, Kind::Symlink) => self.symlink(&file, beside)?,
                (None, _) => {
                    if many_names && first.insert(link, self.files.len()).is_some() {
                        self.skipped.add_lost(Lost::HardLink);
                    }
                    self.file(&file, beside)?;
                }
            }
            self.meter.file()?;
        }
        Ok(())
    }

    /// The existing directory that a file is to be written in.
    fn nearest(&mut self, file: &PlannedFile) -> io::Result<HostPath> {
        let above = file.place.parent().unwrap_or_default();
        Ok(self.journal.host.nearest(&above)?.0)
    }

    fn add(&mut self, file: &PlannedFile, beside: HostPath, temporary: Temporary) {
        if matches!(temporary, Temporary::Unnamed(_)) {
            self.unnamed.push_back(self.files.len());
        }
        self.files.push_back(WrittenFile {
            name: file.name.clone(),
            place: file.place.clone(),
            beside,
            temporary: Some(temporary),
        });
    }

    /// Another name for a file that is written; none where that cannot be, as on another file system.
    fn link(&mut self, first: usize, beside: &HostPath) -> Option<Temporary> {
        let first = self.files.get(first)?.temporary.as_ref()?;
        first.link(&mut self.journal.host, beside).ok()
    }

    fn symlink(&mut self, file: &PlannedFile, beside: HostPath) -> Result<(), CollectError> {
        let target = self.tree.read_link(file.attr.ino);
        let target = target.map_err(|error| CollectError::Store {
            name: file.name.clone(),
            error,
        })?;
        let (keep, skipped) = (self.keep, &mut self.skipped);
        let made = Temporary::symlink(&mut self.journal.host, &beside, &target, |made| {
            keep.finish_link(&file.attr, made, skipped)
        });
        let made = made.map_err(|error| not_written(file, &beside, error))?;
        self.add(file, beside, made);
        Ok(())
    }

    fn file(&mut self, file: &PlannedFile, beside: HostPath) -> Result<(), CollectError> {
        let failed = |error| not_written(file, &beside, error);
        let made = match Temporary::file(&mut self.journal.host, &beside, 0o600) {
            // Other parts of the program have taken them: ours are given back.
            Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                self.name_all_but(0)?;
                Temporary::file(&mut self.journal.host, &beside, 0o600)
            }
            made => made,
        };
        let (temporary, opened) = made.map_err(failed)?;
        let old = self.journal.host.stat(&file.place).map_err(failed)?;
        self.add(file, beside.clone(), temporary);
        let opened: &File = &opened;
        let refused = CollectError::store(&file.name);
        for range in data_ranges(self.tree, &file.attr) {
            let range = range.map_err(&refused)?;
            each_block(
                self.tree,
                file.attr.ino,
                range,
                &refused,
                |offset, block| {
                    opened.write_all_at(block, offset).map_err(failed)?;
                    Ok(self.meter.bytes(block.len())?)
                },
            )?;
        }
        opened.set_len(file.attr.size).map_err(failed)?;
        let of = (self.tree, &file.attr);
        let finished = self
            .keep
            .finish(of, opened, old.as_ref(), &mut self.skipped);
        finished.map_err(failed)?;
        self.name_all_but(descriptors(UNNAMED_MAX))
    }

    /// Gives files hidden names until no more than so many have none.
    fn name_all_but(&mut self, most: usize) -> Result<(), CollectError> {
        while self.unnamed.len() > most
            && let Some(index) = self.unnamed.pop_front()
        {
            let Some(ready) = self.files.get_mut(index) else {
                continue;
            };
            if let Some(temporary) = ready.temporary.take() {
                let named = temporary.named(&mut self.journal.host, &ready.beside);
                let named = named.map_err(|error| {
                    let problem = "cannot write beside it";
                    let place = to_host(&ready.place);
                    Problem::new(problem, error).of(&ready.name, &place)
                })?;
                ready.temporary = Some(Temporary::Named(named));
            }
        }
        Ok(())
    }
}

fn not_written(file: &PlannedFile, directory: &HostPath, error: io::Error) -> CollectError {
    let problem = format!("cannot write in the directory {:?}", to_host(directory));
    let problem = Problem::new(problem, error);
    problem.of(&file.name, &to_host(&file.place))
}

/// Why a stream took no more.
enum StreamError {
    Stopped,
    Failed(std::io::Error),
}

impl From<std::io::Error> for StreamError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Stopped> for StreamError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}
