//! What goes where: requested outputs taken apart into files, directories and streams.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::CollectError;
use super::destination::{FileTarget, Problem, Target, host_path};
use super::host::Host;
use super::host_path::{HostPath, to_host};
use super::stream::Stream;
use super::tree_reader::{Found, walk};
use super::wanted::Wanted;
use crate::stage::LeftBehind;
use crate::store::{Attr, Kind, Moved, Tree, TreePath};

/// Something that is wanted, and where it goes.
#[derive(Debug)]
pub(super) struct OutputRequest {
    pub wanted: Wanted,
    /// Of the output; the base of those that are wanted without one.
    pub name: TreePath,
    /// The destination as the caller wrote it, for messages.
    given: PathBuf,
    pub target: Target,
}

impl OutputRequest {
    /// To a path of the host.
    pub fn host(wanted: Wanted, given: PathBuf) -> Result<Self, CollectError> {
        let name = name(&wanted);
        let failed = |problem: Problem| problem.of(&name, &given);
        let target = match wanted.name() {
            Some(_) => Target::locate(&given, name.file_name()),
            // Several things can only go into a directory.
            None => Target::locate(&given.join(""), None),
        };
        let target = target.map_err(failed)?;
        if wanted.name().is_none() && target.as_directory.is_none() {
            let problem = "several files can only go into a directory";
            return Err(failed(Problem::new(problem, Errno::NOTDIR)));
        }
        target.check().map_err(failed)?;
        Ok(Self {
            wanted,
            name,
            given,
            target,
        })
    }

    /// The whole tree, into a directory that is there.
    pub fn all(directory: PathBuf) -> Self {
        let wanted = Wanted::Named(TreePath::root());
        Self {
            name: name(&wanted),
            wanted,
            given: directory.clone(),
            target: Target {
                as_file: FileTarget::DirectoryOnly,
                as_directory: Some(directory),
            },
        }
    }

    /// Into something without a name.
    pub fn stream(wanted: Wanted, stream: Stream) -> Self {
        Self {
            name: name(&wanted),
            wanted,
            given: PathBuf::new(),
            target: Target {
                as_file: FileTarget::Stream(stream),
                as_directory: None,
            },
        }
    }
}

fn name(wanted: &Wanted) -> TreePath {
    wanted.name().cloned().unwrap_or_else(|| wanted.base())
}

#[derive(Debug)]
pub(super) struct PlannedDirectory {
    pub name: TreePath,
    pub place: HostPath,
    /// Unless it only stands above an output.
    pub attr: Option<Attr>,
}

/// A file or symlink that is to be written.
pub(super) struct PlannedFile {
    pub name: TreePath,
    pub place: HostPath,
    pub attr: Attr,
    /// The order that it belongs to: files of one order that are hard links of each other stay so.
    pub order: usize,
}

/// A file that is written into something.
#[derive(Debug)]
pub(super) struct PlannedStream {
    pub name: TreePath,
    /// For messages.
    pub given: PathBuf,
    pub attr: Attr,
    pub stream: Stream,
}

/// All that is to be done, the upper directories before the lower.
pub(super) struct Plan<'h> {
    host: &'h mut Host,
    /// How many orders were taken apart.
    orders: usize,
    pub directories: Vec<PlannedDirectory>,
    pub files: Vec<PlannedFile>,
    pub streams: Vec<PlannedStream>,
    pub skipped: LeftBehind,
    places: Claims,
    /// Directories that are not there yet, and so nothing below them.
    missing: HashSet<HostPath>,
}

impl<'h> Plan<'h> {
    pub fn new(host: &'h mut Host) -> Self {
        Self {
            host,
            orders: 0,
            directories: Vec::new(),
            files: Vec::new(),
            streams: Vec::new(),
            skipped: LeftBehind::default(),
            places: Claims::default(),
            missing: HashSet::new(),
        }
    }

    /// What was found of an order.
    pub fn order(
        &mut self,
        tree: &Tree,
        order: OutputRequest,
        found: Vec<Found>,
    ) -> Result<(), CollectError> {
        self.orders += 1;
        if order.wanted.name().is_none() {
            return self.several(tree, order, found);
        }
        // Nothing, where it was optional.
        match found.into_iter().next() {
            Some(found) => self.one(tree, order, found.attr),
            None => Ok(()),
        }
    }

    fn one(&mut self, tree: &Tree, order: OutputRequest, attr: Attr) -> Result<(), CollectError> {
        let OutputRequest {
            name,
            given,
            target,
            ..
        } = order;
        let failed = |error: Errno, problem: &str| Problem::new(problem, error).of(&name, &given);
        match (attr.kind, target.as_file, target.as_directory) {
            (Kind::File, FileTarget::Path(place), _) => {
                let place = host_path(&name, &place)?;
                self.file(name, place, attr)
            }
            (Kind::File, FileTarget::Stream(stream), _) => {
                self.streams.push(PlannedStream {
                    name,
                    given,
                    attr,
                    stream,
                });
                Ok(())
            }
            (Kind::File, FileTarget::DirectoryOnly, _) => Err(failed(
                Errno::ISDIR,
                "a directory of that name is in the way",
            )),
            (Kind::Directory, _, Some(place)) => {
                let place = host_path(&name, &place)?;
                self.directory(tree, name, place, attr)
            }
            (Kind::Directory, FileTarget::Stream(_), None) if given.as_os_str().is_empty() => {
                Err(CollectError::Kind {
                    name,
                    kind: attr.kind,
                })
            }
            (Kind::Directory, _, None) => Err(failed(Errno::NOTDIR, "the output is a directory")),
            (kind, ..) => Err(CollectError::Kind { name, kind }),
        }
    }

    /// All that was found, below one directory of the host.
    fn several(
        &mut self,
        tree: &Tree,
        order: OutputRequest,
        found: Vec<Found>,
    ) -> Result<(), CollectError> {
        let Some(directory) = order.target.as_directory else {
            let kind = Kind::Directory;
            return Err(CollectError::Kind {
                name: order.name,
                kind,
            });
        };
        let base = order.wanted.base();
        let directory = host_path(&base, &directory)?;
        let mut places = Moved::new(base, directory);
        for Found { path, attr } in found {
            let Some(place) = places.path(&path) else {
                continue;
            };
            match attr.kind {
                Kind::Directory => self.directory(tree, path, place, attr)?,
                _ => self.entry(path, place, attr)?,
            }
        }
        Ok(())
    }

    /// What is no directory, or stays behind.
    fn entry(&mut self, name: TreePath, place: HostPath, attr: Attr) -> Result<(), CollectError> {
        match attr.kind {
            Kind::File | Kind::Symlink => self.file(name, place, attr),
            kind => {
                self.skipped.add(kind, || name.to_path_buf());
                Ok(())
            }
        }
    }

    fn file(&mut self, name: TreePath, place: HostPath, attr: Attr) -> Result<(), CollectError> {
        if self.take(&name, &place, ClaimKind::File)? {
            let order = self.orders;
            self.files.push(PlannedFile {
                name,
                place,
                attr,
                order,
            });
        }
        Ok(())
    }

    /// A directory with all that is in it, merged into what is at `place`.
    fn directory(
        &mut self,
        tree: &Tree,
        name: TreePath,
        place: HostPath,
        attr: Attr,
    ) -> Result<(), CollectError> {
        let mut places = Moved::new(name.clone(), place.clone());
        self.one_directory(name.clone(), place, &attr)?;
        for Found { path, attr } in walk(tree, &name)? {
            let Some(place) = places.path(&path) else {
                continue;
            };
            if attr.kind == Kind::Directory {
                self.one_directory(path, place, &attr)?;
            } else {
                self.entry(path, place, attr)?;
            }
        }
        Ok(())
    }

    fn one_directory(
        &mut self,
        name: TreePath,
        place: HostPath,
        attr: &Attr,
    ) -> Result<(), CollectError> {
        self.take(&name, &place, ClaimKind::Directory)?;
        self.is_missing(&name, &place)?;
        self.directories.push(PlannedDirectory {
            name,
            place,
            attr: Some(*attr),
        });
        Ok(())
    }

    /// Takes a place, and plans the directories above it that are missing. False for a file that was planned already.
    fn take(
        &mut self,
        name: &TreePath,
        place: &HostPath,
        to_be: ClaimKind,
    ) -> Result<bool, CollectError> {
        let Some(above) = self.places.claim(place, name, to_be)? else {
            return Ok(false);
        };
        for place in above {
            if self.is_missing(name, &place)? {
                self.directories.push(PlannedDirectory {
                    name: name.clone(),
                    place,
                    attr: None,
                });
            }
        }
        Ok(true)
    }

    /// Whether a directory is to be made. Refuses to go through a symlink below a destination: it may come from an
    /// earlier delivery of the same tools, and lead anywhere.
    fn is_missing(&mut self, name: &TreePath, place: &HostPath) -> Result<bool, CollectError> {
        let above = place.parent();
        if above.is_none_or(|above| !self.missing.contains(&above)) {
            let there = self.host.stat(place).map(|there| {
                there.map(|there| FileType::from_raw_mode(there.st_mode) == FileType::Directory)
            });
            match there {
                Ok(Some(true)) => return Ok(false),
                Ok(None) => {}
                Err(error) if error.kind() != io::ErrorKind::NotADirectory => {
                    let problem = Problem::new("it cannot be looked at", error);
                    return Err(problem.of(name, &to_host(place)));
                }
                Ok(Some(false)) | Err(_) => {
                    let problem = "something else than a directory is in the way";
                    let problem = Problem::new(problem, Errno::NOTDIR);
                    return Err(problem.of(name, &to_host(place)));
                }
            }
        }
        self.missing.insert(place.clone());
        Ok(true)
    }
}

/// What a place is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimKind {
    /// A directory that only holds others.
    Above,
    Directory,
    File,
}

/// Which output wants which place.
#[derive(Default)]
pub(super) struct Claims(HashMap<HostPath, Claim>);

struct Claim {
    to_be: ClaimKind,
    /// The output, and its own place.
    name: TreePath,
    place: HostPath,
}

impl Claims {
    /// Takes a place and those above it; returns those of them that were not taken yet, from the topmost down.
    ///
    /// Refuses what is taken, lies below a file, or would be a file above something. None when the same file was to go
    /// there already: two patterns may both match it.
    pub fn claim(
        &mut self,
        place: &HostPath,
        name: &TreePath,
        to_be: ClaimKind,
    ) -> Result<Option<Vec<HostPath>>, CollectError> {
        let twice = |first: &Claim| CollectError::Twice {
            first: first.name.clone(),
            second: name.clone(),
            destination: to_host(&first.place),
        };
        match self.0.get(place) {
            Some(first)
                if first.to_be == ClaimKind::File
                    && to_be == ClaimKind::File
                    && first.name == *name =>
            {
                return Ok(None);
            }
            Some(first) if ClaimKind::File == first.to_be || ClaimKind::File == to_be => {
                return Err(twice(first));
            }
            _ => {}
        }
        let mut new = Vec::new();
        let mut next = place.parent();
        while let Some(above) = next {
            match self.0.get(&above) {
                Some(first) if first.to_be == ClaimKind::File => return Err(twice(first)),
                // Those above it are taken with it.
                Some(_) => break,
                None => next = above.parent(),
            }
            new.push(above);
        }
        new.reverse();
        let claim = |to_be| Claim {
            to_be,
            name: name.clone(),
            place: place.clone(),
        };
        for above in &new {
            self.0.insert(above.clone(), claim(ClaimKind::Above));
        }
        self.0.insert(place.clone(), claim(to_be));
        Ok(Some(new))
    }
}
