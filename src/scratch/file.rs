//! An open file of a scratch directory, for programs.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Scratch;
use super::edit::StaleCache;
use super::source::make;
use crate::fuse::{Notifier, lazy};
use crate::run::Error;
use crate::store::{Attr, Ino, SetAttr, StoreError, Timestamp, TreePath};
use crate::view::{Handle, View};

/// How a file of a scratch directory is opened; as [`std::fs::OpenOptions`].
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use notapipe::Scratch;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scratch = Scratch::new()?;
/// let mut log = scratch.options().append(true).create(true).open("log/today")?;
/// writeln!(log, "started")?;
/// scratch.run(["sh", "-c", "echo ran >> log/today"])?;
/// writeln!(log, "done")?;
/// assert_eq!(scratch.read("log/today")?, "started\nran\ndone\n");
/// # Ok(())
/// # }
/// ```
///
/// ```
/// use std::io::Write;
/// use notapipe::Scratch;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scratch = Scratch::new()?;
/// let new = || scratch.options().write(true).create_new(true).open("lock");
/// new()?;
/// assert!(new().is_err(), "it is there");
/// scratch.options().write(true).truncate(true).open("lock")?.write_all(b"mine")?;
/// assert_eq!(scratch.read("lock")?, "mine");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OpenOptions<'s> {
    scratch: &'s Scratch,
    pub(super) flags: Flags,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub read: bool,
    pub write: bool,
    pub append: bool,
    pub truncate: bool,
    pub create: bool,
    pub create_new: bool,
}

impl OpenOptions<'_> {
    /// To read.
    pub fn read(mut self, read: bool) -> Self {
        self.flags.read = read;
        self
    }

    /// To write.
    pub fn write(mut self, write: bool) -> Self {
        self.flags.write = write;
        self
    }

    /// To write, always at the end, wherever that is at the moment.
    pub fn append(mut self, append: bool) -> Self {
        self.flags.append = append;
        self
    }

    /// Empties it.
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.flags.truncate = truncate;
        self
    }

    /// Makes it, and the directories above it, if it is not there.
    pub fn create(mut self, create: bool) -> Self {
        self.flags.create = create;
        self
    }

    /// Makes it, and fails if it is there.
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.flags.create_new = create_new;
        self
    }

    /// Opens it. Symlinks are not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ScratchFile, Error> {
        self.scratch.open_file(path.as_ref(), self.flags)
    }
}

impl Scratch {
    /// Opens a file that is there, to read and to write it, at its beginning.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Seek, SeekFrom, Write};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scratch = notapipe::Scratch::new()?;
    /// scratch.write("A.txt", "ceci n'est pas une pipe")?;
    /// let mut file = scratch.open("A.txt")?;
    /// file.seek(SeekFrom::End(-4))?;
    /// file.write_all(b"PIPE")?;
    /// assert_eq!(scratch.run(["cat", "A.txt"])?.stdout.to_text(), "ceci n'est pas une PIPE");
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, path: impl AsRef<Path>) -> Result<ScratchFile, Error> {
        self.options().read(true).write(true).open(path)
    }

    /// Makes a file, or empties the one that is there, and opens it to read and to write; missing directories above
    /// it are made.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<ScratchFile, Error> {
        let options = self.options().read(true).write(true);
        options.create(true).truncate(true).open(path)
    }

    /// Opens a file in any other way; see [`OpenOptions`].
    pub fn options(&self) -> OpenOptions<'_> {
        OpenOptions {
            scratch: self,
            flags: Flags::default(),
        }
    }

    fn open_file(&self, path: &Path, flags: Flags) -> Result<ScratchFile, Error> {
        let path = self.name(path)?;
        if flags.truncate {
            self.make(&path)?;
        }
        let by = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let (ino, handle) = self.change("open", &path, |edit| edit.open(&path, flags, by))?;
        Ok(ScratchFile {
            open: Arc::new(Open {
                view: Arc::clone(&self.view),
                notifier: self.notifier.clone(),
                lazy: Arc::clone(&self.lazy),
                path,
                ino,
                handle,
                flags,
                cursor: Mutex::new(0),
            }),
        })
    }
}

/// An open file of a scratch directory.
///
/// It reads and writes the tree, never through the mount, and what the kernel keeps in its caches is put right: a
/// read gets what processes have written, through mappings too, and processes read what was written here.
/// Each read and write tells the kernel, which costs a system call: put a [`BufReader`](std::io::BufReader) or
/// [`BufWriter`](std::io::BufWriter) around it for small ones.
///
/// The file stays as long as this is open, also without a name, and also when the scratch directory is unmounted.
/// A [clone](Clone) shares the position, as `dup(2)` does. In [`Profile::Observed`](crate::fuse::Profile::Observed)
/// it counts as an opening of the file.
#[derive(Clone)]
pub struct ScratchFile {
    open: Arc<Open>,
}

/// What clones share; dropping the last of them closes it.
struct Open {
    view: Arc<View>,
    notifier: Notifier,
    lazy: Arc<lazy::Pool>,
    /// For messages: the path that it was opened by.
    path: TreePath,
    ino: Ino,
    /// Where opens are counted.
    handle: Option<Handle>,
    flags: Flags,
    /// Lock order: before the view's. Held for the whole of an operation, as the kernel does.
    cursor: Mutex<u64>,
}

impl ScratchFile {
    /// What `stat(2)` tells of it.
    ///
    /// # Errors
    ///
    /// When it was to be made by a source that failed.
    pub fn metadata(&self) -> io::Result<Attr> {
        self.open.ready()?;
        self.open.view.lock().attr(self.open.ino).map_err(io_error)
    }

    /// Cuts it, or makes it longer by a hole. The position stays.
    ///
    /// # Errors
    ///
    /// When it was not opened to be written, or the size is over 2^63 - 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Scratch;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scratch = Scratch::new()?;
    /// let image = scratch.create("disk.img")?;
    /// image.set_len(1 << 30)?;
    /// let attr = image.metadata()?;
    /// assert_eq!((attr.size, attr.blocks), (1 << 30, 0), "one large hole");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.open.check(self.open.flags.writes())?;
        self.open.ready()?;
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        let changed = {
            let mut view = self.open.view.lock();
            view.note_resized(self.open.ino);
            view.set_attr(self.open.ino, &change, Timestamp::now())
        };
        self.open.settle();
        changed.map(drop).map_err(io_error)
    }
}

impl Flags {
    pub fn writes(self) -> bool {
        self.write || self.append
    }
}

impl Open {
    fn check(&self, allowed: bool) -> io::Result<()> {
        if allowed {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
    }

    /// Makes the content if it has to be, and has the kernel write back what processes changed through mappings.
    fn ready(&self) -> io::Result<()> {
        self.made()?;
        self.settle();
        Ok(())
    }

    fn made(&self) -> io::Result<()> {
        make(&self.view, &self.lazy, self.ino);
        let view = self.view.lock();
        match view.has_source(self.ino) {
            true => Err(view
                .source_error(self.ino)
                .map_or(io_error(StoreError::NotMade), io::Error::other)),
            false => Ok(()),
        }
    }

    /// Has the kernel forget what it keeps of the file.
    fn settle(&self) {
        StaleCache::Inode(self.ino).tell(&self.notifier);
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check(self.flags.read)?;
        let mut cursor = self.cursor.lock();
        self.ready()?;
        let data = self.view.lock().read(self.ino, *cursor, buffer.len());
        let data = data.map_err(io_error)?;
        buffer[..data.len()].copy_from_slice(&data);
        *cursor += data.len() as u64;
        Ok(data.len())
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        self.check(self.flags.writes())?;
        let mut cursor = self.cursor.lock();
        // Written back before, so that an older page cannot come down on what is written now.
        self.ready()?;
        let written = self.write_at(&mut cursor, buffer);
        self.settle();
        written.map_err(io_error)
    }

    fn write_at(&self, cursor: &mut u64, buffer: &[u8]) -> Result<usize, StoreError> {
        let mut view = self.view.lock();
        let size = view.attr(self.ino)?.size;
        if self.flags.append {
            *cursor = size;
        }
        if cursor.saturating_add(buffer.len() as u64) > size {
            view.note_resized(self.ino);
        }
        let written = view.write(self.ino, *cursor, buffer, Timestamp::now())?;
        *cursor += written as u64;
        Ok(written)
    }

    fn seek(&self, to: SeekFrom) -> io::Result<u64> {
        let mut cursor = self.cursor.lock();
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (*cursor, offset),
            SeekFrom::End(offset) => {
                make(&self.view, &self.lazy, self.ino);
                (
                    self.view.lock().attr(self.ino).map_err(io_error)?.size,
                    offset,
                )
            }
        };
        let position = base.checked_add_signed(offset);
        let allowed = position.filter(|&position| position <= i64::MAX as u64);
        *cursor = allowed.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(*cursor)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut view = self.view.lock();
        match self.handle {
            Some(handle) => view.close(handle),
            None => view.give_back_references(self.ino, 1),
        }
    }
}

/// A refusal of the tree as Rust's I/O has it.
pub(super) fn io_error(error: StoreError) -> io::Error {
    let kind = match error {
        StoreError::NotFound => io::ErrorKind::NotFound,
        StoreError::Exists => io::ErrorKind::AlreadyExists,
        StoreError::NotDirectory => io::ErrorKind::NotADirectory,
        StoreError::IsDirectory => io::ErrorKind::IsADirectory,
        StoreError::NotEmpty => io::ErrorKind::DirectoryNotEmpty,
        StoreError::NoSpace(_) => io::ErrorKind::StorageFull,
        StoreError::TooLarge => io::ErrorKind::FileTooLarge,
        StoreError::TooManyLinks => io::ErrorKind::TooManyLinks,
        StoreError::NotPermitted => io::ErrorKind::PermissionDenied,
        StoreError::NotSupported => io::ErrorKind::Unsupported,
        StoreError::InvalidArgument | StoreError::InvalidName => io::ErrorKind::InvalidInput,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Read for &ScratchFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.open.read(buffer)
    }
}

impl Write for &ScratchFile {
    /// Short where the limit cuts in.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.open.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &ScratchFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.open.seek(to)
    }
}

impl Read for ScratchFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.open.read(buffer)
    }
}

impl Write for ScratchFile {
    /// Short where the limit cuts in.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.open.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for ScratchFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.open.seek(to)
    }
}

impl fmt::Debug for ScratchFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScratchFile")
            .field("path", &self.open.path)
            .field("ino", &self.open.ino)
            .finish_non_exhaustive()
    }
}
