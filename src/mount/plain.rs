//! A directory on a tmpfs in place of a mount, where there is no FUSE.
//!
//! Only its owner may enter it, unless root lets others in. It is removed with all that is in it when it is dropped, and
//! by a watchdog when we are killed.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use super::error::{MountError, Operation};
use super::watchdog::{Left, Watchdog};

/// A directory of ours.
#[derive(Debug)]
pub(crate) struct PlainDirectory {
    path: PathBuf,
    /// Taken when it is dismissed.
    watchdog: Option<Watchdog>,
}

impl PlainDirectory {
    /// In the first of `parents` that lies on a tmpfs and lets us write.
    ///
    /// # Errors
    /// [`MountError::NoTmpfs`], or what the last of them refused.
    pub(crate) fn make(parents: &[PathBuf]) -> Result<Self, MountError> {
        let mut refused = MountError::NoTmpfs {
            tried: parents.to_vec(),
        };
        for parent in parents.iter().filter(|parent| is_tmpfs(parent)) {
            match Self::make_in(parent) {
                Ok(made) => return Ok(made),
                Err(error) => {
                    refused = MountError::system(Operation::MakeDirectory, parent, error);
                }
            }
        }
        Err(refused)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("notapipe-")
            .make_in(parent, |path| DirBuilder::new().mode(0o700).create(path))?
            .into_temp_path()
            .keep()
            .map_err(|error| error.error)?;
        match Watchdog::start(&path, Left::Everything, None) {
            Ok(watchdog) => Ok(Self {
                path,
                watchdog: Some(watchdog),
            }),
            Err(error) => {
                let _ = std::fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets other users in, as they come into the root of a mount.
    pub(crate) fn open_up(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o755))
    }
}

impl PlainDirectory {
    /// Makes two directories in it, one for what is in none of a job's outputs; gives the other one.
    pub(crate) fn divide(&self) -> io::Result<PathBuf> {
        let make = |name: &str, mode| {
            let path = self.path.join(name);
            std::fs::create_dir(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
            Ok::<_, io::Error>(path)
        };
        make(TEMPORARY, 0o1777)?;
        // Those who may enter one may enter the other.
        let mode = std::fs::metadata(&self.path)?.permissions().mode() & 0o777;
        make("files", mode)
    }
}

/// The directory of a job without namespaces for temporary files, beside the one that its files are in.
pub(crate) const TEMPORARY: &str = "tmp";

impl Drop for PlainDirectory {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => {
                if let Some(watchdog) = self.watchdog.take() {
                    watchdog.dismiss();
                }
            }
            // The watchdog tries once more: it opens up what a tool has closed.
            Err(error) => log::debug!("cannot remove {}: {error}", self.path.display()),
        }
    }
}

fn is_tmpfs(directory: &Path) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    // The field is of another width on other architectures.
    statfs(directory).is_ok_and(|fs| i128::from(fs.f_type) == TMPFS)
}
