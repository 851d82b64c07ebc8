//! The rest of what one does with files: append, rename, modes, symlinks.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Scratch;
use crate::run::Error;

impl Scratch {
    /// Adds to the end of a file, which is made if it is not there.
    ///
    /// All or nothing: at the limit, the file stays as it was.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn append(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        self.make(&path)?;
        self.write_back(&path)?;
        self.change("append to", &path, |edit| {
            let (ino, bytes) = (edit.file_to_append(&path)?, bytes.as_ref());
            edit.append(ino, bytes)
        })
    }

    /// Gives a file or directory another name, as rename(2): what had the new name before is replaced. Missing
    /// directories above the new name are made.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`], which names the old path.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = notapipe::Scratch::new()?;
    /// scratch.write("A.tmp", "done")?;
    /// scratch.rename("A.tmp", "out/A")?;
    /// assert_eq!(scratch.run(["cat", "out/A"])?.stdout.to_text(), "done");
    /// # Ok(())
    /// # }
    /// ```
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), Error> {
        let (from, to) = (self.name(from.as_ref())?, self.name(to.as_ref())?);
        self.change("rename", &from, |edit| edit.rename(&from, &to))
    }

    /// Sets permission, set-id and sticky bits, as chmod(2).
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        self.make_size(&path)?;
        self.change("change the mode of", &path, |edit| {
            edit.set_mode(&path, mode)
        })
    }

    /// Makes a symlink to `target`, which may be anything.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`], also when something has this name.
    pub fn symlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        let target = target.as_ref().as_os_str().as_bytes().to_vec();
        self.change("make", &path, |edit| edit.symlink(&path, target))
    }

    /// Where a symlink leads.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`], also for what is no symlink.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = self.name(path.as_ref())?;
        self.look("read", &path, |view| {
            let target = view.read_link(view.resolve(path.names())?)?;
            Ok(OsString::from_vec(target.to_vec()).into())
        })
    }

    /// Whether something has this name; a symlink counts wherever it leads.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Error> {
        let path = self.name(path.as_ref())?;
        Ok(self.view.lock().resolve(path.names()).is_ok())
    }
}
