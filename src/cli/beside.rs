//! A file that is written beside its place and put there whole.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is being written. Dropped before it is [placed](Self::place), nothing of it is left.
#[derive(Debug)]
pub enum Beside {
    /// In the directory of its place, under a hidden name.
    Hidden {
        /// What is written.
        file: NamedTempFile,
        /// Where it will be.
        place: PathBuf,
    },
    /// A FIFO or a device, which is written into and not replaced.
    Direct(File),
}

impl Beside {
    /// For a file at `place`, which may be there. A symlink is followed, and what it leads to is replaced.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written in, or `place` is a directory.
    pub fn new(place: &Path) -> io::Result<Self> {
        let place = match place.canonicalize() {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(place)?,
            Err(error) => return Err(error),
        };
        match fs::metadata(&place) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                return Ok(Self::Direct(File::options().write(true).open(place)?));
            }
            _ => {}
        }
        let file = tempfile::Builder::new()
            .prefix(".notapipe-")
            .tempfile_in(directory(&place))?;
        Ok(Self::Hidden { file, place })
    }

    /// What is written.
    pub fn file(&self) -> &File {
        match self {
            Self::Hidden { file, .. } => file.as_file(),
            Self::Direct(file) => file,
        }
    }

    /// Puts it into its place, on the disk whatever happens then. What was there gives its mode, and when we are root its
    /// owner.
    ///
    /// # Errors
    ///
    /// The system's; what was there is still there.
    pub fn place(self) -> io::Result<()> {
        let Self::Hidden { file, place } = self else {
            return Ok(());
        };
        let mode = match fs::metadata(&place) {
            Ok(old) => {
                if rustix::process::geteuid().is_root() {
                    // Where this is refused (an id that is not mapped), it is root's, as any new file.
                    let _ =
                        std::os::unix::fs::fchown(file.as_fd(), Some(old.uid()), Some(old.gid()));
                }
                old.mode() & 0o777
            }
            Err(_) => 0o666 & !umask(),
        };
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(&place).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The directory that holds a path.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The permission bits that new files do not get, read without changing them (proc_pid_status(5)).
pub fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
        .unwrap_or(0o022)
}
