//! A file's bytes, handed on while the steps write them.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::Error;
use super::process::Interrupt;
use crate::scratch::Follow;
use crate::store::TreePath;
use crate::sys::poll;

/// How much is handed on at once.
const BLOCK_BYTES: usize = 64 << 10;
/// How often it is looked for more where nobody rings: when somebody may open the file again, after everybody had closed
/// it, and in an ordinary directory.
const LOOK: Duration = Duration::from_millis(20);
/// How long a job that was cancelled waits for whoever takes the bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A file to follow, and who gets its bytes.
pub(super) struct Wanted {
    pub name: TreePath,
    pub sink: Box<dyn Write + Send>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// What was handed on of a file that [`Job::follow`](super::Job::follow) named.
#[derive(Debug)]
#[non_exhaustive]
pub struct Followed {
    /// The file.
    pub name: TreePath,
    /// How many of its bytes were handed on; `None` when no step opened it for writing.
    pub bytes: Option<u64>,
    /// Bytes that were handed on and then written again, or cut off.
    pub rewritten: Vec<Range<u64>>,
    /// Why not all bytes were handed on: what the writer said, most often that nobody reads any
    /// more.
    pub error: Option<io::Error>,
}

/// Where the bytes come from.
pub(super) trait Source: Send {
    /// What there is now: `None` before anybody has written, 0 when that is nothing more.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// The bytes that were given and changed afterwards.
    fn rewritten(&self) -> Vec<Range<u64>>;

    /// What becomes readable when there may be something, where anything does.
    fn readable(&self) -> Option<BorrowedFd<'_>>;
}

impl Source for Follow {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Self::try_read(self, buffer)
    }

    fn rewritten(&self) -> Vec<Range<u64>> {
        Self::rewritten(self)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// A thread that hands on what a file gets.
pub(super) struct Following {
    name: TreePath,
    /// Raised when the file gets no more.
    over: Interrupt,
    /// Raised when everything was handed on.
    done: Interrupt,
    thread: JoinHandle<Followed>,
}

impl Following {
    pub fn start(source: Box<dyn Source>, Wanted { name, sink }: Wanted) -> Result<Self, Error> {
        let failed = |source| Error::Processes {
            operation: "follow a file of",
            source,
        };
        let (over, done) = (
            Interrupt::new().map_err(failed)?,
            Interrupt::new().map_err(failed)?,
        );
        let work = {
            let (name, over, done) = (name.clone(), over.clone(), Done(done.clone()));
            move || {
                let _told_at_the_end = done;
                hand_on(name, source, sink, &over)
            }
        };
        let thread = thread::Builder::new().name("notapipe-follow".to_owned());
        Ok(Self {
            name,
            over,
            done,
            thread: thread.spawn(work).map_err(failed)?,
        })
    }

    /// Hands on the rest, when nobody writes any more. When the job is cancelled meanwhile, whoever
    /// takes the bytes is not waited for much longer.
    pub fn finish(self, interrupt: Option<&Interrupt>) -> Followed {
        self.over.raise();
        let cancelled = interrupt.map(AsFd::as_fd);
        let done = [Some(self.done.as_fd()), cancelled];
        let _ = poll::wait_readable(done.into_iter().flatten(), None);
        let give_up = Instant::now() + LAST_WORDS;
        let _ = poll::wait_readable([self.done.as_fd()], Some(give_up));
        let unfinished = |error| Followed {
            name: self.name,
            bytes: None,
            rewritten: Vec::new(),
            error: Some(error),
        };
        if !self.done.is_raised() {
            return unfinished(io::ErrorKind::Interrupted.into());
        }
        let joined = self.thread.join();
        joined.unwrap_or_else(|_| unfinished(io::Error::other("the writer panicked")))
    }
}

/// Tells the end when it is dropped, also by a panic.
struct Done(Interrupt);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.raise();
    }
}

fn hand_on(
    name: TreePath,
    mut source: Box<dyn Source>,
    mut sink: Box<dyn Write + Send>,
    over: &Interrupt,
) -> Followed {
    let mut bytes = None;
    let handed = copy(&mut *source, &mut *sink, over, &mut bytes);
    Followed {
        name,
        bytes,
        rewritten: source.rewritten(),
        error: handed.err(),
    }
}

fn copy(
    source: &mut dyn Source,
    sink: &mut dyn Write,
    over: &Interrupt,
    bytes: &mut Option<u64>,
) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        // Asked first: what came before is then still seen.
        let is_over = over.is_raised();
        let read = match source.try_read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(()),
            read => read?,
        };
        if let Some(len) = read {
            *bytes = Some(bytes.unwrap_or(0) + len as u64);
            if len > 0 {
                sink.write_all(&block[..len])?;
                sink.flush()?;
                continue;
            }
        }
        if is_over {
            return Ok(());
        }
        // At the end nobody rings when it goes on.
        let at_the_end = read.is_some();
        let readable = source.readable().filter(|_| !at_the_end);
        let look_at = readable.is_none().then(|| Instant::now() + LOOK);
        let events = [Some(over.as_fd()), readable];
        poll::wait_readable(events.into_iter().flatten(), look_at)?;
    }
}
