//! One file of the host that appears whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{Spot, Target, Trouble, anchor};
use super::place::{Journal, Temporary, take_after};
use super::stream::Stream;

/// A file of the host that is written beside its place, and put there when it is complete.
///
/// Dropped before it is [placed](OpenWholeFile::place), nothing of it is left, also after a kill -9 where the file
/// system knows unnamed files. A FIFO or device is written into. A file that is there is replaced and gives
/// its mode; a symlink is followed.
///
/// # Examples
///
/// ```
/// use std::io::Write;
///
/// use notapipe::collect::WholeFile;
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("all.tar");
/// let mut file = WholeFile::preflight(&host)?.open()?;
/// file.writer().write_all(b"an archive")?;
/// assert!(!host.exists());
/// file.place()?;
/// assert_eq!(std::fs::read(&host)?, b"an archive");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WholeFile {
    spot: Spot,
}

/// A [`WholeFile`] that is being written.
#[derive(Debug)]
pub struct OpenWholeFile {
    file: File,
    /// None for what is written into.
    beside: Option<(Temporary, PathBuf)>,
}

impl WholeFile {
    /// Looks at a place and refuses what can be seen to fail.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, or why no file can be made there.
    pub fn preflight(place: &Path) -> io::Result<Self> {
        let told = |Trouble { problem, error }| {
            io::Error::new(error.kind(), format!("{problem}: {error}"))
        };
        let target = Target::locate(place, None).map_err(told)?;
        if matches!(target.as_file, Spot::DirectoryOnly) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        target.check().map_err(told)?;
        Ok(Self {
            spot: target.as_file,
        })
    }

    /// Begins to write it.
    ///
    /// # Errors
    ///
    /// Why no file can be made, or what is there not be written.
    pub fn open(self) -> io::Result<OpenWholeFile> {
        let place = match self.spot {
            Spot::Path(place) => place,
            Spot::Stream(Stream::Path(path)) => {
                let file = File::options().write(true).open(path)?;
                return Ok(OpenWholeFile { file, beside: None });
            }
            Spot::Stream(Stream::Descriptor(descriptor)) => {
                let file = File::from(descriptor);
                return Ok(OpenWholeFile { file, beside: None });
            }
            Spot::Stream(Stream::Writer(_)) | Spot::DirectoryOnly => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
        };
        let (temporary, file) = Temporary::plain_file(&anchor(&place))?;
        Ok(OpenWholeFile {
            file,
            beside: Some((temporary, place)),
        })
    }
}

impl OpenWholeFile {
    /// What is written; see [`WholeFile`].
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts it into its place; directories above that are missing are made. See [`WholeFile`].
    ///
    /// # Errors
    ///
    /// The system's; everything is then as it was.
    pub fn place(self) -> io::Result<()> {
        let Some((temporary, place)) = self.beside else {
            return Ok(());
        };
        if let Ok(there) = fs::symlink_metadata(&place) {
            take_after(&self.file, &there)?;
        }
        // Dropped on the way out, it takes back what it did.
        let mut journal = Journal::default();
        let above = anchor(&place);
        let missing: Vec<_> = place
            .ancestors()
            .skip(1)
            .take_while(|directory| **directory != above)
            .collect();
        for directory in missing.into_iter().rev() {
            journal.directory(directory, 0o777)?;
        }
        journal.place(temporary, &place)?;
        journal.keep();
        Ok(())
    }
}
