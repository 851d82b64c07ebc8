//! What goes where: orders taken apart into files, directories and streams.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::destination::{Spot, Target, Trouble, anchor};
use super::stream::Stream;
use super::wanted::Wanted;
use super::{CollectError, Found, walk};
use crate::stage::Skipped;
use crate::store::{Attr, Kind, Name, Timestamp, Tree, TreePath};

/// Something that is wanted, and where it goes.
#[derive(Debug)]
pub(super) struct Order {
    pub wanted: Wanted,
    /// Of the output; the base of those that are wanted without one.
    pub name: TreePath,
    /// As it was given, for messages.
    given: PathBuf,
    pub target: Target,
}

impl Order {
    /// To a path of the host.
    pub fn host(wanted: Wanted, given: PathBuf) -> Result<Self, CollectError> {
        let name = name(&wanted);
        let failed = |trouble| destination_error(&name, &given, trouble);
        let target = match wanted.name() {
            Some(_) => Target::locate(&given, name.file_name()),
            // Several things can only go into a directory.
            None => Target::locate(&given.join(""), None),
        };
        let target = target.map_err(failed)?;
        if wanted.name().is_none() && target.as_directory.is_none() {
            let problem = "several files can only go into a directory";
            return Err(failed(Trouble::new(problem, Errno::NOTDIR)));
        }
        target.check().map_err(failed)?;
        Ok(Self {
            wanted,
            name,
            given,
            target,
        })
    }

    /// Into something without a name.
    pub fn stream(wanted: Wanted, stream: Stream) -> Self {
        Self {
            name: name(&wanted),
            wanted,
            given: PathBuf::new(),
            target: Target {
                as_file: Spot::Stream(stream),
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
    pub place: PathBuf,
    /// Mode and time, unless it only stands above an output.
    pub attributes: Option<(u32, Timestamp)>,
}

/// A file or symlink that is to be written.
pub(super) struct PlannedFile {
    pub name: TreePath,
    pub place: PathBuf,
    pub attr: Attr,
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
#[derive(Default)]
pub(super) struct Plan {
    pub directories: Vec<PlannedDirectory>,
    pub files: Vec<PlannedFile>,
    pub streams: Vec<PlannedStream>,
    pub skipped: Vec<Skipped>,
    places: Places,
}

impl Plan {
    /// What was found of an order.
    pub fn order(
        &mut self,
        tree: &Tree,
        order: Order,
        found: Vec<Found>,
    ) -> Result<(), CollectError> {
        if order.wanted.name().is_none() {
            return self.several(tree, order, found);
        }
        // Nothing, where it was optional.
        match found.into_iter().next() {
            Some(found) => self.one(tree, order, found.attr),
            None => Ok(()),
        }
    }

    fn one(&mut self, tree: &Tree, order: Order, attr: Attr) -> Result<(), CollectError> {
        let Order {
            name,
            given,
            target,
            ..
        } = order;
        let failed = |error: Errno, problem: &str| {
            destination_error(&name, &given, Trouble::new(problem, error))
        };
        match (attr.kind, target.as_file, target.as_directory) {
            (Kind::File, Spot::Path(place), _) => {
                self.parents(&name, &place);
                self.file(name, place, attr)
            }
            (Kind::File, Spot::Stream(stream), _) => {
                self.streams.push(PlannedStream {
                    name,
                    given,
                    attr,
                    stream,
                });
                Ok(())
            }
            (Kind::File, Spot::DirectoryOnly, _) => Err(failed(
                Errno::ISDIR,
                "a directory of that name is in the way",
            )),
            (Kind::Directory, _, Some(place)) => self.directory(tree, name, place, attr),
            (Kind::Directory, Spot::Stream(_), None) if given.as_os_str().is_empty() => {
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
        order: Order,
        found: Vec<Found>,
    ) -> Result<(), CollectError> {
        let Some(directory) = order.target.as_directory else {
            let kind = Kind::Directory;
            return Err(CollectError::Kind {
                name: order.name,
                kind,
            });
        };
        let depth = order.wanted.base().names().len();
        for Found { path, attr } in found {
            let place = inside(&directory, &path.names()[depth..]);
            for above in place.ancestors().skip(1) {
                if above == directory {
                    break;
                }
                in_the_way(&path, above)?;
            }
            self.parents(&path, &place);
            match attr.kind {
                Kind::Directory => {
                    in_the_way(&path, &place)?;
                    self.directory(tree, path, place, attr)?;
                }
                _ => self.entry(path, place, attr)?,
            }
        }
        Ok(())
    }

    /// What is no directory, or stays behind.
    fn entry(&mut self, name: TreePath, place: PathBuf, attr: Attr) -> Result<(), CollectError> {
        match attr.kind {
            Kind::File | Kind::Symlink => self.file(name, place, attr),
            kind => {
                self.skipped.push(Skipped {
                    path: name.to_path_buf(),
                    kind,
                });
                Ok(())
            }
        }
    }

    fn file(&mut self, name: TreePath, place: PathBuf, attr: Attr) -> Result<(), CollectError> {
        if self.places.claim(&place, &name, true)? {
            self.files.push(PlannedFile { name, place, attr });
        }
        Ok(())
    }

    /// A directory with all that is in it, merged into what is at `place`.
    fn directory(
        &mut self,
        tree: &Tree,
        name: TreePath,
        place: PathBuf,
        attr: Attr,
    ) -> Result<(), CollectError> {
        self.parents(&name, &place);
        self.one_directory(name.clone(), place.clone(), &attr)?;
        let depth = name.names().len();
        for Found { path, attr } in walk(tree, &name)? {
            let inside = inside(&place, &path.names()[depth..]);
            if attr.kind == Kind::Directory {
                in_the_way(&path, &inside)?;
                self.one_directory(path, inside, &attr)?;
            } else {
                self.entry(path, inside, attr)?;
            }
        }
        Ok(())
    }

    fn one_directory(
        &mut self,
        name: TreePath,
        place: PathBuf,
        attr: &Attr,
    ) -> Result<(), CollectError> {
        self.places.claim(&place, &name, false)?;
        self.directories.push(PlannedDirectory {
            name,
            place,
            attributes: Some((attr.mode, attr.mtime)),
        });
        Ok(())
    }

    /// The directories above `place` that are missing.
    fn parents(&mut self, name: &TreePath, place: &Path) {
        let there = anchor(place);
        let above: Vec<_> = place
            .ancestors()
            .skip(1)
            .take_while(|directory| *directory != there)
            .collect();
        for directory in above.into_iter().rev() {
            self.directories.push(PlannedDirectory {
                name: name.clone(),
                place: directory.to_owned(),
                attributes: None,
            });
        }
    }
}

fn inside(directory: &Path, names: &[Name]) -> PathBuf {
    let mut inside = directory.to_owned();
    inside.extend(names.iter().map(|name| OsStr::from_bytes(name.as_bytes())));
    inside
}

/// Refuses to go through a symlink below a destination: it may come from an earlier delivery of
/// the same tools, and lead anywhere.
fn in_the_way(name: &TreePath, place: &Path) -> Result<(), CollectError> {
    let looked: io::Result<()> = match fs::symlink_metadata(place) {
        Ok(there) if !there.is_dir() => Err(Errno::NOTDIR.into()),
        _ => Ok(()),
    };
    looked.map_err(|error| {
        let problem = "something else than a directory is in the way";
        destination_error(name, place, Trouble::new(problem, error))
    })
}

/// Which output wants which place, whole subtrees excluded.
#[derive(Default)]
pub(super) struct Places(BTreeMap<PathBuf, (TreePath, bool)>);

impl Places {
    /// Refuses what is taken, lies below a file, or would be a file above something. False when the
    /// same file was to go there already: two patterns may both match it.
    pub fn claim(
        &mut self,
        place: &Path,
        name: &TreePath,
        file: bool,
    ) -> Result<bool, CollectError> {
        if self.0.get(place) == Some(&(name.clone(), file)) {
            return Ok(false);
        }
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
        Ok(true)
    }
}

pub(super) fn destination_error(
    name: &TreePath,
    destination: &Path,
    trouble: Trouble,
) -> CollectError {
    CollectError::Destination {
        name: name.clone(),
        destination: destination.to_owned(),
        problem: trouble.problem,
        error: trouble.error,
    }
}
