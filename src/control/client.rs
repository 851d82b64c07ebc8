//! Asking a live mount.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::error::ControlError;
use super::protocol::{Answer, Command, Packed, Request, Status, Unmounted, VERSION};
use crate::archive::Format;
use crate::progress::Progress;
use crate::sys::proc;

/// How long a mount may think about what takes it no time, and between two answers that it is at work.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked meanwhile whether its process is stopped.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection to the process that serves a mount.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    socket: PathBuf,
    pid: i32,
}

impl Client {
    pub(super) fn new(stream: UnixStream, socket: PathBuf) -> Result<Self, ControlError> {
        let prepared = stream
            .set_read_timeout(Some(LOOK_EVERY))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        prepared.map_err(|error| failed("prepare", &socket, error))?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)
            .map_err(|error| failed("check", &socket, error.into()))?;
        // The directory is ours alone; this holds although.
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            let error = io::Error::other("it belongs to another user");
            return Err(failed("trust", &socket, error));
        }
        Ok(Self {
            connection: Connection::new(OwnedFd::from(stream)),
            socket,
            pid: peer.pid.as_raw_nonzero().get(),
        })
    }

    /// How the mount is.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn status(&mut self) -> Result<Status, ControlError> {
        self.ask(Command::Status, None)?;
        self.status_answer()
    }

    /// Sets its limits; `None` leaves one as it is.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] of kind `below-used` when more is used than that, and others.
    pub fn resize(
        &mut self,
        bytes: Option<u64>,
        inodes: Option<u64>,
    ) -> Result<Status, ControlError> {
        self.ask(Command::Resize { bytes, inodes }, None)?;
        self.status_answer()
    }

    /// Has it write all that it holds, as it is at one moment, into `target` as an archive.
    ///
    /// `listener` is called with what is done so far; `Break` gives up.
    ///
    /// # Errors
    ///
    /// [`ControlError`]; what was written up to there is no archive.
    pub fn snapshot(
        &mut self,
        target: impl AsFd,
        format: Format,
        mut listener: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Packed, ControlError> {
        let format = format.to_string();
        self.ask(Command::Snapshot { format }, Some(target.as_fd()))?;
        // Whoever reads what it writes may take their time.
        loop {
            match self.answer_within(None)? {
                Answer::Progress { files, bytes } => {
                    if listener(Progress { files, bytes }).is_break() {
                        let error = io::ErrorKind::Interrupted.into();
                        return Err(failed("wait at", &self.socket, error));
                    }
                }
                Answer::Packed(packed) => return Ok(packed),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Unmounts it, and waits until what is to be saved is saved; `waiting` is called about every second of that. `lazy`
    /// detaches one that is in use, and waits for nothing.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] of kind `busy` while processes use it, `not-saved` when it is gone and could not be
    /// saved where it should be.
    pub fn unmount(
        mut self,
        lazy: bool,
        mut waiting: impl FnMut(),
    ) -> Result<Unmounted, ControlError> {
        self.ask(Command::Unmount { lazy }, None)?;
        loop {
            match self.answer()? {
                Answer::Saving => waiting(),
                Answer::Unmounted(unmounted) => return Ok(unmounted),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn status_answer(&mut self) -> Result<Status, ControlError> {
        match self.answer()? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(
        &mut self,
        command: Command,
        descriptor: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> Result<(), ControlError> {
        let request = Request {
            version: VERSION,
            command,
        };
        let sent = self.connection.send(&request, descriptor);
        sent.map_err(|error| failed("write to", &self.socket, error))
    }

    fn answer(&mut self) -> Result<Answer, ControlError> {
        self.answer_within(Some(PATIENCE))
    }

    /// Gives up at once when the process is stopped.
    fn answer_within(&mut self, patience: Option<Duration>) -> Result<Answer, ControlError> {
        let give_up = patience.map(|patience| Instant::now() + patience);
        let (line, _) = loop {
            match self.connection.receive() {
                Ok(Some(received)) => break received,
                Ok(None) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Err(failed("read from", &self.socket, error));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let (pid, stopped) = (self.pid, proc::is_stopped(self.pid));
                    if stopped || give_up.is_some_and(|at| Instant::now() >= at) {
                        return Err(ControlError::Stuck { pid, stopped });
                    }
                }
                Err(error) => return Err(failed("read from", &self.socket, error)),
            }
        };
        match serde_json::from_slice(&line) {
            Ok(Answer::Error { kind, message }) => Err(ControlError::Refused { kind, message }),
            Ok(answer) => Ok(answer),
            Err(_) => Err(ControlError::Protocol {
                answer: String::from_utf8_lossy(&line).into_owned(),
            }),
        }
    }
}

fn failed(operation: &'static str, socket: &Path, error: io::Error) -> ControlError {
    ControlError::Socket {
        operation,
        socket: socket.to_owned(),
        error,
    }
}

fn unexpected(answer: &Answer) -> ControlError {
    ControlError::Protocol {
        answer: format!("{answer:?}"),
    }
}
