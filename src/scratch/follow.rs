//! Reading a file while a tool writes it.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Scratch;
use super::file::io_error;
use super::watch::{no_descriptor, waker};
use crate::run::{Error, Interrupt};
use crate::sys::event_fd::EventFd;
use crate::sys::poll;
use crate::view::{FollowId, Followed, View};

/// What is taken from the tree at once: a piece of this size, at a multiple of it, is not copied there.
const BLOCK_BYTES: usize = 128 * 1024;

impl Scratch {
    /// Reads a file while it is written: its bytes as they come, and the end when the last writer has closed it.
    ///
    /// Needs [`Profile::Observed`](crate::fuse::Profile::Observed). See [`Follow`] for what is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::NotObserved`]; [`Error::Name`]; [`Error::Processes`] when the system has no descriptor left.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    /// use notapipe::{Scratch, fuse::Profile};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    /// let mut log = scratch.follow("log")?;
    /// let read = std::thread::scope(|scope| {
    ///     let reader = scope.spawn(|| {
    ///         let mut text = String::new();
    ///         log.read_to_string(&mut text).map(|_| text)
    ///     });
    ///     scratch.run(["sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.01; done > log"])?;
    ///     reader.join().expect("it does not panic").map_err(Box::<dyn std::error::Error>::from)
    /// })?;
    /// assert_eq!(read, "1\n2\n3\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, path: impl AsRef<Path>) -> Result<Follow, Error> {
        let path = self.name(path.as_ref())?;
        let event = EventFd::new().map_err(no_descriptor)?;
        // Looked at once before anybody is told to wait.
        event.set();
        let id = self.view.lock().follow(path, waker(&event));
        Ok(Follow {
            id: id.map_err(|_| Error::NotObserved {
                operation: "follow",
            })?,
            view: Arc::clone(&self.view),
            event,
            interrupt: None,
            deadline: None,
        })
    }
}

/// Reads a file while it is written.
///
/// It waits until the file of its name has been opened for writing, by a process or through our API; a file
/// that was written before this reader was made counts as well, one that was only staged does not. From then on
/// it stays with that file, whatever becomes of its name. It gives all bytes from the first on, waits for more
/// while the file is open for writing, and then ends.
///
/// Bytes are given once. When some that were given are written again, or cut off, [`rewritten`](Self::rewritten)
/// tells which.
///
/// What a process writes through a shared mapping arrives when the kernel writes it back, at the latest before the
/// end.
///
/// Reading fails with [`TimedOut`](io::ErrorKind::TimedOut) after the [`deadline`](Self::deadline), with
/// [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) when the mount goes before the end has come, and with
/// [`Error::Cancelled`] inside when the [`interrupt`](Self::interrupt) is raised.
///
/// # Examples
///
/// ```
/// use std::io::Read;
/// use std::time::{Duration, Instant};
///
/// use notapipe::{Interrupt, Profile, Scratch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
/// let interrupt = Interrupt::new()?;
/// let mut log = scratch.follow("log")?.interrupt(interrupt.clone());
/// assert_eq!(log.try_read(&mut [0; 8])?, None, "it has not been written yet");
/// let late = log.timeout(Duration::from_millis(1)).read(&mut [0; 8]).unwrap_err();
/// assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
///
/// let mut log = scratch.follow("log")?.deadline(Instant::now() + Duration::from_secs(60));
/// scratch.run(["sh", "-c", "printf ceci > log; printf C | dd of=log conv=notrunc"])?;
/// let mut text = String::new();
/// log.read_to_string(&mut text)?;
/// assert_eq!(text, "Ceci");
/// assert!(log.rewritten().is_empty(), "it was written before it was read");
/// # Ok(())
/// # }
/// ```
pub struct Follow {
    view: Arc<View>,
    id: FollowId,
    event: EventFd,
    interrupt: Option<Interrupt>,
    deadline: Option<Instant>,
}

impl Follow {
    /// Lets another thread end the wait.
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Waits until this moment at most.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Waits for this time from now at most, all in all.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// What there is now: `None` when that is nothing, 0 at the end.
    ///
    /// # Errors
    ///
    /// As described above, but for the deadline and the interrupt, which end waits alone.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(len) = self.take(buffer)? {
            return Ok(Some(len));
        }
        self.event.clear();
        // What came in between may have set it before it was cleared.
        let taken = self.take(buffer);
        if !matches!(taken, Ok(None)) {
            self.event.set();
        }
        taken
    }

    /// The bytes that were given and have changed since: written again, or cut off. Beyond 1,024 ranges the
    /// nearest are told as one.
    pub fn rewritten(&self) -> Vec<Range<u64>> {
        self.view.lock().rewritten(self.id)
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        let len = buffer.len().min(BLOCK_BYTES);
        let followed = self.view.lock().read_followed(self.id, len);
        match followed.map_err(io_error)? {
            Followed::Data(data) => {
                buffer[..data.len()].copy_from_slice(&data);
                Ok(Some(data.len()))
            }
            Followed::End => Ok(Some(0)),
            Followed::Wait => Ok(None),
            Followed::Gone => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the mount is gone before the file was closed",
            )),
        }
    }
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(len) = self.try_read(buffer)? {
                return Ok(len);
            }
            if self.interrupt.as_ref().is_some_and(Interrupt::is_raised) {
                // Not `Interrupted`, which means "try again".
                return Err(io::Error::other(Error::Cancelled));
            }
            if self.deadline.is_some_and(|it| Instant::now() >= it) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let interrupt = self.interrupt.as_ref().map(AsFd::as_fd);
            let events = [Some(self.event.as_fd()), interrupt].into_iter().flatten();
            poll::wait_readable(events, self.deadline)?;
        }
    }
}

impl AsFd for Follow {
    /// Readable while [`try_read`](Self::try_read) may have something to give; never read it directly.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.view.lock().unfollow(self.id);
    }
}
