//! Files whose content a source makes on the first use.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use super::Scratch;
use crate::fuse::lazy;
use crate::run::Error;
use crate::store::{Ino, Source, StoreError, TreePath};
use crate::view::View;

impl Scratch {
    /// Makes a file, or replaces one by it, whose content `source` makes when it is first used; missing directories
    /// above it are made.
    ///
    /// Only processes that use the file wait until it is made. When the source fails or panics, each use of the file
    /// fails with EIO, now and later, and [`read`](Self::read) with [`Error::Source`]. A source that is still at work
    /// when the scratch directory is unmounted is not waited for: processes that wait for it see EIO, and what it
    /// gives later is dropped. At most 16 sources of a scratch directory are at work at a time.
    ///
    /// A process that waits for a file of unknown [size](Source::size) does so while it looks the name up, and the
    /// kernel lets no process make, remove or rename names in that directory meanwhile. So a source that
    /// itself waits for a tool to make a file should know its size, or stand in a directory of its own. And a
    /// source must not read its own file.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Scratch, Source};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = Scratch::new()?;
    /// scratch.write_source("words", Source::new(|| Ok("pear\napple\n")))?;
    /// scratch.write_source("unused", Source::new(|| -> std::io::Result<Vec<u8>> { unreachable!() }))?;
    /// scratch.run(["sort", "words", "-o", "sorted"])?;
    /// assert_eq!(scratch.read("sorted")?, "apple\npear\n");
    /// scratch.unmount()
    /// # }
    /// ```
    pub fn write_source(&self, path: impl AsRef<Path>, source: Source) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        self.change("make", &path, |edit| edit.place_source(&path, source))
    }

    /// The sources that failed, with the paths that their files had then, in the order in which they did.
    pub(crate) fn failed_sources(&self) -> Vec<Error> {
        let failed = self.view.failed_sources().into_iter();
        failed
            .map(|(path, error)| Error::Source { path, error })
            .collect()
    }

    /// Makes nothing any more, and has no process wait for a source: for when processes are to end.
    pub(crate) fn cancel_sources(&self) {
        self.view.lock().cancel_sources();
    }

    /// Waits until the content of a file is made, if it has to be.
    pub(super) fn make(&self, path: &TreePath) -> Result<(), Error> {
        if !self.view.may_have_lazy_files() {
            return Ok(());
        }
        let found = self.view.lock().resolve(path.names());
        if let Ok(ino) = found {
            make(&self.view, &self.lazy, ino);
        }
        Ok(())
    }

    /// Waits until the size of a file is known, if its source has to make it for that.
    pub(super) fn make_size(&self, path: &TreePath) -> Result<(), Error> {
        let pending = self.view.may_have_lazy_files() && {
            let view = self.view.lock();
            let found = view.resolve(path.names());
            found.is_ok_and(|ino| view.is_size_pending(ino))
        };
        if pending { self.make(path) } else { Ok(()) }
    }

    /// Tells of a file that cannot be used because of its source, which says more than the tree can.
    pub(super) fn refused(
        &self,
        operation: &'static str,
        path: &TreePath,
        error: StoreError,
    ) -> Error {
        let path = path.clone();
        if error == StoreError::NotMade {
            let view = self.view.lock();
            let failed = view.resolve(path.names()).ok();
            if let Some(error) = failed.and_then(|ino| view.source_error(ino)) {
                return Error::Source { path, error };
            }
        }
        Error::Scratch {
            operation,
            path,
            error,
        }
    }
}

/// Waits until a file is made, or has failed; at once for any other file.
pub(super) fn make(view: &View, lazy: &Arc<lazy::Pool>, ino: Ino) {
    if !(view.may_have_lazy_files() && view.lock().is_pending(ino)) {
        return;
    }
    let (done, wait) = mpsc::channel();
    lazy.demand(ino, move || {
        // Nobody listens any more only if this thread is gone.
        let _ = done.send(());
    });
    let _ = wait.recv();
}
