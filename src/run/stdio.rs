//! A step's standard streams.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};

use super::outcome::Captured;
use crate::store::TreePath;
use crate::sys::null;

/// How much of a step's captured standard output, and of its standard error, is kept unless said.
pub(super) const CAPTURE_BYTES: usize = 8 << 20;

/// Where a step's standard input comes from. [`Step::stdin_fd`](super::Step::stdin_fd) has it come from a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing: the step reads the end of the file at once.
    #[default]
    Null,
    /// The standard input of this process.
    Inherit,
    /// These bytes, as a file in RAM that can also be sought in.
    Bytes(Bytes),
    /// A regular file in the mount, by its path there; the step's own process opens it.
    File(TreePath),
}

/// Where a step's standard output or standard error goes. [`Step::stdout_fd`](super::Step::stdout_fd) has it go to a
/// descriptor.
///
/// # Examples
///
/// ```
/// use notapipe::{Job, Stdout, Step};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let chatty = Step::new(["sh", "-c", "echo out; echo err >&2"]).stderr(Stdout::Null);
/// let outcome = Job::new().step(chatty).run()?;
/// assert_eq!(outcome.steps()[0].stdout.to_text(), "out\n");
/// assert_eq!(outcome.steps()[0].stderr.to_text(), "");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stdout {
    /// Into the step's report; the last bytes are kept, see
    /// [`Job::capture_bytes`](super::Job::capture_bytes).
    #[default]
    Capture,
    /// Nowhere.
    Null,
    /// To the stream of this process that has its name.
    Inherit,
    /// To the standard error of this process.
    Stderr,
    /// Into a regular file in the mount, by its path there: the step's own process makes it, or cuts
    /// it to nothing. Where both streams of a step name one file, they share it as with `>log 2>&1`.
    File(TreePath),
}

impl Stdin {
    pub(super) fn file(&self) -> Option<&TreePath> {
        match self {
            Self::File(name) => Some(name),
            _ => None,
        }
    }
}

impl Stdout {
    pub(super) fn file(&self) -> Option<&TreePath> {
        match self {
            Self::File(name) => Some(name),
            _ => None,
        }
    }
}

/// Descriptors in the place of a step's standard streams.
pub(super) type Descriptors = [Option<OwnedFd>; 3];

/// The open streams of one running step.
#[derive(Debug)]
pub(super) struct Streams {
    stdout: Capture,
    stderr: Capture,
}

/// What the child gets as its standard streams.
#[derive(Debug)]
pub(super) struct ChildStreams {
    /// To be closed here once the child has them, so that no end of ours keeps a pipe open.
    pub ends: [OwnedFd; 3],
    /// Files in the mount, for the child to open in their place.
    pub files: [Option<PathBuf>; 3],
}

impl Streams {
    /// Opens them; also returns what the child gets.
    pub(super) fn open(
        stdin: Option<Stdin>,
        [stdout, stderr]: [Option<Stdout>; 2],
        descriptors: Descriptors,
        keep_bytes: usize,
    ) -> io::Result<(Self, ChildStreams)> {
        let (stdin, stdout, stderr) = (
            stdin.unwrap_or_default(),
            stdout.unwrap_or_default(),
            stderr.unwrap_or_default(),
        );
        let mut files = [stdin.file(), stdout.file(), stderr.file()]
            .map(|file| file.map(TreePath::to_path_buf));
        for (file, descriptor) in files.iter_mut().zip(&descriptors) {
            if descriptor.is_some() {
                *file = None;
            }
        }
        let [input, output, error] = descriptors;
        let input = input.map_or_else(|| open_input(stdin), Ok)?;
        let open = |given: Option<OwnedFd>, stream, own| match given {
            Some(fd) => Ok((fd, Capture::default())),
            None => open_output(stream, own),
        };
        let (output, mut stdout) = open(output, stdout, rustix::stdio::stdout())?;
        let (error, mut stderr) = open(error, stderr, rustix::stdio::stderr())?;
        (stdout.keep_bytes, stderr.keep_bytes) = (keep_bytes, keep_bytes);
        let ends = [input, output, error];
        Ok((Self { stdout, stderr }, ChildStreams { ends, files }))
    }

    /// The pipes that have more to come.
    pub(super) fn open_pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr]
            .into_iter()
            .filter_map(|capture| capture.pipe.as_ref())
            .map(AsFd::as_fd)
    }

    /// Takes whatever is there, without waiting.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        self.stdout.drain()?;
        self.stderr.drain()
    }

    pub(super) fn captured(mut self) -> (Captured, Captured) {
        for capture in [&mut self.stdout, &mut self.stderr] {
            capture.captured.cut(capture.keep_bytes);
        }
        (self.stdout.captured, self.stderr.captured)
    }
}

/// One stream that may be captured.
#[derive(Debug, Default)]
struct Capture {
    /// Our end; closed when the last writer has closed the other.
    pipe: Option<OwnedFd>,
    captured: Captured,
    keep_bytes: usize,
}

impl Capture {
    fn drain(&mut self) -> io::Result<()> {
        let mut block = [0; 16 << 10];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe, &mut block) {
                Ok(0) => self.pipe = None,
                Ok(len) => self.captured.append(&block[..len], self.keep_bytes),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn open_input(stdin: Stdin) -> io::Result<OwnedFd> {
    match stdin {
        Stdin::Null | Stdin::File(_) => Ok(null::open()?.into()),
        Stdin::Inherit => duplicate(rustix::stdio::stdin()),
        Stdin::Bytes(bytes) => {
            use std::io::{Seek, Write};

            let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
            file.write_all(&bytes)?;
            file.rewind()?;
            Ok(file.into())
        }
    }
}

fn open_output(stdout: Stdout, own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Capture)> {
    let fd = match stdout {
        Stdout::Null | Stdout::File(_) => null::open()?.into(),
        Stdout::Inherit => duplicate(own)?,
        Stdout::Stderr => duplicate(rustix::stdio::stderr())?,
        Stdout::Capture => {
            let (ours, childs) = pipe_with(PipeFlags::CLOEXEC)?;
            // Only our end: the flag belongs to the open file, and a tool expects a pipe that
            // blocks.
            rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
            return Ok((
                childs,
                Capture {
                    pipe: Some(ours),
                    ..Capture::default()
                },
            ));
        }
    };
    Ok((fd, Capture::default()))
}

fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // From 3 on, so that it can never be taken for one of the three standard streams.
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}
