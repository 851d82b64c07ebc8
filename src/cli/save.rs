//! `--save` and `--keep-on-failure`: where the content of a mount goes at its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use notapipe::Interrupt;
use notapipe::archive::{ArchiveError, Format, Pack};
use notapipe::collect::{AtomicDirectory, AtomicFile};
use notapipe::store::Tree;
use rustix::io::Errno;

use super::config::{Filling, Verbosity};
use super::progress::Line;
use super::report;

/// A destination that was looked at before anything was mounted.
#[derive(Debug)]
pub struct Saving {
    place: PathBuf,
    kind: Kind,
    verbosity: Verbosity,
}

/// What is to be saved.
#[derive(Clone, Copy, Debug)]
pub enum SavedFrom<'c> {
    /// A mount, over this directory, and what it held at its beginning.
    Mount {
        dir: &'c Path,
        filling: Option<&'c Filling>,
    },
    /// What a failed job left.
    Job,
}

#[derive(Debug)]
enum Kind {
    Archive(Format, AtomicFile),
    Directory(AtomicDirectory),
}

/// Why a destination cannot be used, or was not reached.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error(
        "cannot save to {place:?}: its name is no archive's; end it with {}, or with / for a directory",
        Format::NAMES
    )]
    Format { place: PathBuf },
    #[error(
        "cannot save to {place:?}: the directory is not empty, and is replaced as a whole; name an empty one, or fill the \
         mount from the same directory (--from)"
    )]
    NotEmpty { place: PathBuf },
    #[error(
        "cannot save to {place:?}: the directory is not empty; remove it, or name another or an archive"
    )]
    Kept { place: PathBuf },
    #[error("cannot save to {place:?}: it lies in the mount itself")]
    Inside { place: PathBuf },
    #[error("cannot save to {place:?}")]
    System { place: PathBuf, source: io::Error },
    #[error("cannot save to {place:?}")]
    Archive {
        place: PathBuf,
        source: ArchiveError,
    },
    #[error("{error}; everything is in {rescue:?} instead")]
    Rescued { error: String, rescue: PathBuf },
    #[error("{error}; it could not be put anywhere else either: {other}")]
    Lost { error: String, other: String },
}

impl Saving {
    /// Looks at a destination and refuses what can be seen to fail. Paths are absolute from here on.
    pub fn preflight(
        place: &Path,
        from: SavedFrom<'_>,
        verbosity: Verbosity,
    ) -> Result<Self, SaveError> {
        let as_directory = place.as_os_str().as_encoded_bytes().ends_with(b"/");
        let system = |source| SaveError::System {
            place: place.to_owned(),
            source,
        };
        let there = match fs::metadata(place) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(system(error)),
        };
        let absolute = match there {
            Some(_) => place.canonicalize().map_err(system)?,
            None => {
                let absolute = std::path::absolute(place).map_err(system)?;
                let name = absolute.file_name();
                let (parent, name) = absolute
                    .parent()
                    .zip(name)
                    .ok_or_else(|| system(Errno::ISDIR.into()))?;
                parent.canonicalize().map_err(system)?.join(name)
            }
        };
        if let SavedFrom::Mount { dir, .. } = from
            && absolute.starts_with(dir)
        {
            return Err(SaveError::Inside { place: absolute });
        }
        let is_directory = there.as_ref().is_some_and(fs::Metadata::is_dir);
        if there.is_some() && as_directory && !is_directory {
            return Err(system(Errno::NOTDIR.into()));
        }
        let format = Format::of_name(place).filter(|_| !is_directory && !as_directory);
        let is_kept = there.is_none() && matches!(from, SavedFrom::Job);
        let kind = match format {
            // Opened as it is then, since rights alone do not tell: nothing of it is left.
            Some(format) => {
                let file = || AtomicFile::preflight(&absolute);
                file().and_then(AtomicFile::open).map_err(system)?;
                Kind::Archive(format, file().map_err(system)?)
            }
            None if is_directory || as_directory || is_kept => {
                let directory = AtomicDirectory::preflight(&absolute).map_err(system)?;
                if is_directory {
                    check_old(&absolute, from)?;
                }
                Kind::Directory(match from {
                    SavedFrom::Mount { .. } => directory.keep_metadata(),
                    SavedFrom::Job => directory,
                })
            }
            None => {
                let place = place.to_owned();
                return Err(SaveError::Format { place });
            }
        };
        Ok(Self {
            place: absolute,
            kind,
            verbosity,
        })
    }

    /// Where it will go.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Saves a tree, if it must be somewhere else.
    pub fn save(self, tree: &Tree, interrupt: &Interrupt) -> Result<(), SaveError> {
        let error = match self.try_save(tree, interrupt) {
            Ok(()) => return Ok(()),
            Err(error) => report::chain(&error),
        };
        // The tree is all that there is of it.
        match rescue(tree) {
            Ok(rescue) => Err(SaveError::Rescued { error, rescue }),
            Err(other) => Err(SaveError::Lost {
                error,
                other: report::chain(&*other),
            }),
        }
    }

    fn try_save(self, tree: &Tree, interrupt: &Interrupt) -> Result<(), SaveError> {
        let line = Line::new(
            format!("saving to {}", self.place.display()),
            self.verbosity,
        );
        let listener = line.listener(interrupt.clone());
        let place = self.place;
        let system = |source| SaveError::System {
            place: place.clone(),
            source,
        };
        let skipped = match self.kind {
            Kind::Directory(directory) => directory.write(tree, listener).map_err(system)?.skipped,
            Kind::Archive(format, file) => {
                let mut open = file.open().map_err(system)?;
                let pack = Pack::new(tree, format).listen(listener);
                let packed = pack.write(&*open.writer());
                let packed = packed.map_err(|source| SaveError::Archive {
                    place: place.clone(),
                    source,
                })?;
                open.place_on_disk().map_err(system)?;
                packed.skipped
            }
        };
        if self.verbosity >= Verbosity::Normal && !skipped.is_empty() {
            report::warning(&skipped.to_string());
        }
        Ok(())
    }
}

/// Refuses a directory that holds what is not in the tree, and would be lost.
fn check_old(path: &Path, from: SavedFrom<'_>) -> Result<(), SaveError> {
    let place = path.to_owned();
    let is_source = matches!(from, SavedFrom::Mount { filling: Some(Filling::Host(from)), .. }
        if from.canonicalize().is_ok_and(|from| from == path));
    let is_empty = fs::read_dir(path).map(|mut entries| entries.next().is_none());
    match (is_empty, from) {
        (Err(source), _) => Err(SaveError::System { place, source }),
        (Ok(is_empty), _) if is_source || is_empty => Ok(()),
        (Ok(_), SavedFrom::Mount { .. }) => Err(SaveError::NotEmpty { place }),
        (Ok(_), SavedFrom::Job) => Err(SaveError::Kept { place }),
    }
}

/// Puts everything into an archive for temporary files that only we may read.
fn rescue(tree: &Tree) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let file = tempfile::Builder::new()
        .prefix("notapipe-rescue-")
        .suffix(".tar.zst")
        .tempfile()?;
    Pack::new(tree, Format::TarZst).write(file.as_file())?;
    file.as_file().sync_all()?;
    Ok(file.keep()?.1)
}
