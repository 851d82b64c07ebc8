//! `--save` and `--keep-on-failure`: where the content of a mount goes at its end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use notapipe::Interrupt;
use notapipe::archive::{ArchiveError, Format, Pack};
use notapipe::collect::{CollectError, Delivery, Destination};
use notapipe::stage::LeftBehind;
use notapipe::store::{Tree, TreePath};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::beside::{Beside, directory, umask};
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

#[derive(Clone, Copy, Debug)]
enum Kind {
    Archive(Format),
    Directory,
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
    #[error("cannot save to {place:?}: it is a mount point, which cannot be replaced")]
    MountPoint { place: PathBuf },
    #[error("cannot save to {place:?}")]
    System { place: PathBuf, source: io::Error },
    #[error("cannot save to {place:?}")]
    Archive {
        place: PathBuf,
        source: ArchiveError,
    },
    #[error("cannot save to {place:?}")]
    Collect {
        place: PathBuf,
        source: CollectError,
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
                let parent = directory(&absolute).canonicalize().map_err(system)?;
                let name = absolute.file_name();
                parent.join(name.ok_or_else(|| system(Errno::ISDIR.into()))?)
            }
        };
        if let SavedFrom::Mount { dir, .. } = from
            && absolute.starts_with(dir)
        {
            return Err(SaveError::Inside { place: absolute });
        }
        let kind = match &there {
            Some(there) if there.is_dir() => Kind::Directory,
            Some(_) if as_directory => return Err(system(Errno::NOTDIR.into())),
            None if as_directory => Kind::Directory,
            _ => match (Format::of_name(place), from) {
                (Some(format), _) => Kind::Archive(format),
                (None, SavedFrom::Job) if there.is_none() => Kind::Directory,
                (None, _) => {
                    let place = place.to_owned();
                    return Err(SaveError::Format { place });
                }
            },
        };
        // Tried, since rights alone do not tell: nothing of it is left.
        let above = directory(&absolute);
        match kind {
            Kind::Archive(_) => Beside::new(&absolute).map(drop).map_err(system)?,
            Kind::Directory => hidden_directory(above).map(drop).map_err(system)?,
        }
        if let (Kind::Directory, Some(there)) = (kind, &there) {
            if there.dev() != fs::metadata(above).map_err(system)?.dev() {
                return Err(SaveError::MountPoint { place: absolute });
            }
            let is_source = matches!(from, SavedFrom::Mount { filling: Some(Filling::Host(from)), .. }
                if from.canonicalize().is_ok_and(|from| from == absolute));
            let mut entries = fs::read_dir(&absolute).map_err(system)?;
            if !is_source && entries.next().is_some() {
                return Err(match from {
                    SavedFrom::Mount { .. } => SaveError::NotEmpty { place: absolute },
                    SavedFrom::Job => SaveError::Kept { place: absolute },
                });
            }
        }
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
    pub fn save(&self, tree: &Tree, interrupt: &Interrupt) -> Result<(), SaveError> {
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

    fn try_save(&self, tree: &Tree, interrupt: &Interrupt) -> Result<(), SaveError> {
        let line = Line::new(
            format!("saving to {}", self.place.display()),
            self.verbosity,
        );
        match self.kind {
            Kind::Archive(format) => self.archive(tree, format, line.listener(interrupt.clone())),
            Kind::Directory => self.directory(tree, line.listener(interrupt.clone())),
        }
    }

    fn archive(
        &self,
        tree: &Tree,
        format: Format,
        listener: impl FnMut(notapipe::Progress) -> std::ops::ControlFlow<()> + Send,
    ) -> Result<(), SaveError> {
        let beside = Beside::new(&self.place).map_err(|error| self.system(error))?;
        let packed = Pack::new(tree, format)
            .listen(listener)
            .write(beside.file())
            .map_err(|source| SaveError::Archive {
                place: self.place.clone(),
                source,
            })?;
        beside.place().map_err(|error| self.system(error))?;
        self.warn(&packed.skipped);
        Ok(())
    }

    /// Into a new directory beside, which then takes the place of the old one at one moment.
    fn directory(
        &self,
        tree: &Tree,
        listener: impl FnMut(notapipe::Progress) -> std::ops::ControlFlow<()> + Send,
    ) -> Result<(), SaveError> {
        let above = directory(&self.place);
        let new = hidden_directory(above).map_err(|error| self.system(error))?;
        let collect = |source| SaveError::Collect {
            place: self.place.clone(),
            source,
        };
        let root = (TreePath::root(), Destination::Host(new.0.clone()));
        let delivered = Delivery::preflight([root])
            .and_then(|delivery| delivery.listen(listener).prepare(tree, tree)?.commit())
            .map_err(collect)?;
        let system = |error| self.system(error);
        match fs::metadata(&self.place) {
            Ok(old) => {
                if rustix::process::geteuid().is_root() {
                    let _ = std::os::unix::fs::chown(&new.0, Some(old.uid()), Some(old.gid()));
                }
                let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
                fs::set_permissions(&new.0, mode).map_err(system)?;
                // The old one has the hidden name then, and is removed by it.
                exchange(&new.0, &self.place).map_err(system)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mode = fs::Permissions::from_mode(0o777 & !umask());
                fs::set_permissions(&new.0, mode).map_err(system)?;
                rustix::fs::renameat_with(CWD, &new.0, CWD, &self.place, RenameFlags::NOREPLACE)
                    .or_else(|error| match error {
                        // A file system that cannot promise it.
                        Errno::INVAL | Errno::NOSYS => rustix::fs::rename(&new.0, &self.place),
                        error => Err(error),
                    })
                    .map_err(|error| self.system(error.into()))?;
            }
            Err(error) => return Err(self.system(error)),
        }
        self.warn(&delivered.skipped);
        Ok(())
    }

    fn warn(&self, skipped: &LeftBehind) {
        if self.verbosity >= Verbosity::Normal && !skipped.is_empty() {
            report::warning(&skipped.to_string());
        }
    }

    fn system(&self, source: io::Error) -> SaveError {
        SaveError::System {
            place: self.place.clone(),
            source,
        }
    }
}

/// A directory under a hidden name, removed with all that is in it.
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        // Renamed away it is not there any more.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn hidden_directory(above: &Path) -> io::Result<Hidden> {
    let made = tempfile::Builder::new()
        .prefix(".notapipe-")
        .make_in(above, |path| DirBuilder::new().mode(0o700).create(path))?;
    // As a file it would be removed in another way.
    Ok(Hidden(
        made.into_temp_path().keep().map_err(|error| error.error)?,
    ))
}

/// The two change places.
fn exchange(new: &Path, place: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        exchanged => return Ok(exchanged?),
    }
    // A file system that cannot: for a moment there is no directory.
    let aside = new.with_extension("old");
    fs::rename(place, &aside)?;
    if let Err(error) = fs::rename(new, place) {
        fs::rename(&aside, place)?;
        return Err(error);
    }
    fs::rename(&aside, new)
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
