//! One file of the host that appears whole or not at all.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::attributes::keep_owner;
use super::destination::{FileTarget, Problem, Target};
use super::host::Host;
use super::host_path::{HostPath, absolute};
use super::journal::{Journal, Temporary};
use super::stream::Stream;

/// A file of the host that is written beside its place, and put there when it is complete.
///
/// Dropped before it is [placed](OpenAtomicFile::place), nothing of it is left, also after a kill -9 where the file
/// system knows unnamed files. A FIFO or device is written into. A file that is there is replaced and gives
/// its mode; a symlink is followed, once, at the first look. From then on the directory is held open.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// use notapipe::collect::AtomicFile;
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("all.tar");
/// let mut file = AtomicFile::preflight(&host)?.open()?;
/// file.writer().write_all(b"an archive")?;
/// assert!(!host.exists());
/// file.place()?;
/// assert_eq!(std::fs::read(&host)?, b"an archive");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    target: FileTarget,
    host: Host,
}

/// A [`AtomicFile`] that is being written.
#[derive(Debug)]
pub struct OpenAtomicFile {
    file: File,
    /// None for what is written into, and once it has its place.
    beside: Option<(Temporary, HostPath)>,
    journal: Journal,
}

impl AtomicFile {
    /// Looks at a place and refuses what can be seen to fail.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, or why no file can be made there.
    pub fn preflight(place: &Path) -> io::Result<Self> {
        let told = |Problem { problem, error }| {
            io::Error::new(error.kind(), format!("{problem}: {error}"))
        };
        let target = Target::locate(place, None).map_err(told)?;
        if matches!(target.as_file, FileTarget::DirectoryOnly) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        target.check().map_err(told)?;
        let mut host = Host::default();
        if let FileTarget::Path(place) = &target.as_file {
            host.hold(&absolute(place)?.parent().unwrap_or_default())?;
        }
        Ok(Self {
            target: target.as_file,
            host,
        })
    }

    /// Begins to write it.
    ///
    /// # Errors
    ///
    /// Why no file can be made, or what is there not be written.
    pub fn open(self) -> io::Result<OpenAtomicFile> {
        let mut host = self.host;
        let into = |file| OpenAtomicFile {
            file,
            beside: None,
            journal: Journal::default(),
        };
        let place = match self.target {
            FileTarget::Path(place) => absolute(&place)?,
            FileTarget::Stream(Stream::Descriptor(descriptor)) => {
                return Ok(into(descriptor.into()));
            }
            FileTarget::Stream(stream) => return Ok(into(stream.open_path(OFlags::empty())?)),
            FileTarget::DirectoryOnly => return Err(io::ErrorKind::IsADirectory.into()),
        };
        let (above, _) = host.nearest(&place.parent().unwrap_or_default())?;
        // The mode that a program's new files have.
        let (temporary, file) = Temporary::file(&mut host, &above, 0o666)?;
        Ok(OpenAtomicFile {
            file: file.try_clone()?,
            beside: Some((temporary, place)),
            journal: Journal::from(host),
        })
    }
}

impl OpenAtomicFile {
    /// What is written; see [`AtomicFile`].
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts it into its place as [`place`](Self::place) does, once its content is on the disk.
    ///
    /// # Errors
    ///
    /// The system's; everything is then as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// use notapipe::collect::AtomicFile;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let host = directory.path().join("all.tar");
    /// let mut file = AtomicFile::preflight(&host)?.open()?;
    /// file.writer().write_all(b"to outlast a power failure")?;
    /// file.place_on_disk()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn place_on_disk(self) -> io::Result<()> {
        if self.beside.is_some() {
            self.file.sync_all()?;
        }
        self.place()
    }

    /// Puts it into its place; directories above that are missing are made. See [`AtomicFile`].
    ///
    /// # Errors
    ///
    /// The system's; everything is then as it was.
    pub fn place(mut self) -> io::Result<()> {
        let Some((_, place)) = &self.beside else {
            return Ok(());
        };
        let held = self.journal.host.check_held();
        held.map_err(|(_, error)| error)?;
        if let Some(there) = self.journal.host.stat(place)? {
            keep_owner(&self.file, &there);
            let mode = Mode::from_raw_mode(there.st_mode & 0o777);
            rustix::fs::fchmod(&self.file, mode)?;
        }
        let above = place.parent().unwrap_or_default();
        let there = self.journal.host.nearest(&above)?.0.depth();
        // Dropped on the way out, the journal takes back what it did.
        for depth in there + 1..=above.depth() {
            self.journal.directory(above.ancestor(depth), 0o777)?;
        }
        if let Some((temporary, place)) = self.beside.take() {
            self.journal.place(temporary, &place)?;
        }
        self.journal.keep();
        Ok(())
    }
}

impl Drop for OpenAtomicFile {
    fn drop(&mut self) {
        if let Some((temporary, _)) = self.beside.take() {
            temporary.discard(&mut self.journal.host);
        }
    }
}
