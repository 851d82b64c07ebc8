//! Writing into what cannot be replaced: pipes, devices, descriptors.
//!
//! A process may hold a pipe open and not read it. Nothing here waits longer than 50 ms without asking whether to go on.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::host::{Host, open_below};
use super::host_path::absolute;
use crate::sys::poll;

/// Something that takes bytes and cannot be replaced.
pub(super) enum Stream {
    /// A FIFO, a device, at a place without symlinks: opened when it is its turn.
    Special(PathBuf),
    /// A descriptor's path, such as `/dev/fd/63`: opened when it is its turn.
    Link(PathBuf),
    /// The caller's, or `/dev/stdout` or `/dev/stderr`, duplicated: opening it anew would write a
    /// file that the shell redirected from its beginning.
    Descriptor(OwnedFd),
    /// The caller's.
    Writer(Box<dyn Write + Send>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Special(path) | Self::Link(path) => path.fmt(f),
            Self::Descriptor(descriptor) => descriptor.fmt(f),
            Self::Writer(_) => f.write_str("writer"),
        }
    }
}

/// How long to wait for a reader before asking whether to go on.
const PAUSE: Duration = Duration::from_millis(50);
/// A pipe that is ready takes this much without waiting (PIPE_BUF, pipe(7)).
const PIPE_BYTES: usize = 4096;

impl Stream {
    /// Opens it for writing. A FIFO waits for its reader, for as long as `go_on` lets it.
    pub(super) fn open<E: From<io::Error>>(
        self,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<Sink, E> {
        match self {
            Self::Descriptor(descriptor) => return Ok(Sink::ready(descriptor.into())?),
            Self::Writer(writer) => return Ok(Sink::Writer(writer)),
            Self::Special(_) | Self::Link(_) => {}
        }
        loop {
            match self.open_path(OFlags::NONBLOCK) {
                Ok(file) => return Ok(Sink::ready(file)?),
                // A FIFO without a reader (fifo(7)), or a device that is not there.
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) && self.is_fifo() => {
                    go_on()?;
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens what has a path. Without `NONBLOCK` a FIFO waits for its reader.
    pub(super) fn open_path(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::WRONLY | OFlags::NOCTTY;
        match self {
            Self::Special(path) => {
                let place = absolute(path)?;
                let mut host = Host::default();
                let (above, name) = host.above(&place)?;
                let opened = File::from(open_below(above, name, flags, Mode::empty())?);
                let kind = opened.metadata()?.file_type();
                // A file that was put there since is not what was looked at, and may be another user's.
                match kind.is_file() || kind.is_dir() {
                    true => Err(io::Error::other("it is not a FIFO or a device any more")),
                    false => Ok(opened),
                }
            }
            // It may turn out to be a regular file.
            Self::Link(path) => {
                let flags = flags | OFlags::APPEND | OFlags::CLOEXEC;
                Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
            }
            Self::Descriptor(_) | Self::Writer(_) => Err(Errno::INVAL.into()),
        }
    }

    fn is_fifo(&self) -> bool {
        match self {
            Self::Special(path) | Self::Link(path) => {
                fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo())
            }
            Self::Descriptor(_) | Self::Writer(_) => false,
        }
    }
}

/// An open [`Stream`].
pub(super) enum Sink {
    /// A regular file, which takes everything at once.
    Regular(File),
    /// Written when it takes something.
    Ready {
        file: File,
        /// How much may be written at once when it is ready.
        size: WriteSize,
    },
    /// The caller's.
    Writer(Box<dyn Write + Send>),
}

/// How much a descriptor takes at once without making us wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteSize {
    /// All that there is room for: RWF_NOWAIT (pwritev2(2)), for pipes since Linux 6.4. O_NONBLOCK would
    /// do it everywhere, but is not ours to set: every process with that pipe would have it.
    WhatFits,
    /// PIPE_BUF bytes: no more is sure to be taken at once.
    PipeBuf,
}

impl Sink {
    fn ready(file: File) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::Regular(file),
            FileType::Fifo => Self::Ready {
                file,
                size: WriteSize::WhatFits,
            },
            _ => Self::Ready {
                file,
                size: WriteSize::PipeBuf,
            },
        })
    }

    /// Writes all of it, for as long as `go_on` lets it.
    pub(super) fn write<E: From<io::Error>>(
        &mut self,
        mut bytes: &[u8],
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let (file, size) = match self {
            Self::Writer(writer) => return Ok(writer.write_all(bytes)?),
            Self::Regular(file) => return Ok(file.write_all(bytes)?),
            Self::Ready { file, size } => (file, size),
        };
        while !bytes.is_empty() {
            let mut event = [PollFd::new(file, PollFlags::OUT)];
            if !poll::wait(&mut event, Some(Instant::now() + PAUSE))? {
                go_on()?;
                continue;
            }
            match write_some(file, size, bytes) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => bytes = &bytes[written..],
                // Another writer was quicker.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Regular(_) | Self::Ready { .. } => Ok(()),
            Self::Writer(writer) => writer.flush(),
        }
    }
}

/// Writes what a descriptor that is ready takes.
fn write_some(file: &mut File, size: &mut WriteSize, bytes: &[u8]) -> io::Result<usize> {
    /// Where the descriptor stands, as write(2) does.
    const HERE: u64 = u64::MAX;

    if *size == WriteSize::WhatFits {
        let all = [IoSlice::new(bytes)];
        match pwritev2(&*file, &all, HERE, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE | Errno::INVAL) => {
                *size = WriteSize::PipeBuf;
            }
            written => return Ok(written?),
        }
    }
    file.write(&bytes[..bytes.len().min(PIPE_BYTES)])
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Without a reader that takes anything, each way stops where the pipe is full and goes on asking.
    #[test]
    fn a_pipe_takes_what_fits_and_never_makes_us_wait() {
        for size in [WriteSize::WhatFits, WriteSize::PipeBuf] {
            let (mut reader, writer) = io::pipe().unwrap();
            let file = File::from(OwnedFd::from(writer));
            let mut sink = Sink::Ready { file, size };
            let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
            let mut asked = 0;
            let gave_up = sink.write(&bytes, || {
                asked += 1;
                match asked {
                    1 | 2 => Ok(()),
                    _ => Err(io::Error::other("enough")),
                }
            });
            assert_eq!(gave_up.unwrap_err().to_string(), "enough");
            drop(sink);
            let mut taken = Vec::new();
            reader.read_to_end(&mut taken).unwrap();
            assert!(taken.len() >= 16 * PIPE_BYTES, "{size:?}: {}", taken.len());
            assert!(bytes.starts_with(&taken), "{size:?}");
        }
    }
}
