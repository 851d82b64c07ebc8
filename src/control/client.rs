//! Asking a live mount.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ControlError;
use super::protocol::{Answer, Command, Packed, Request, Status, Unmounted, VERSION};
use super::wire::Wire;
use crate::archive::Format;
use crate::progress::Progress;

/// How long a mount may think about what takes it no time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the process that serves a mount.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(stream: UnixStream, socket: PathBuf) -> Result<Self, ControlError> {
        let prepared = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        prepared.map_err(|error| failed("prepare", &socket, error))?;
        let user = rustix::net::sockopt::socket_peercred(&stream)
            .map_err(|error| failed("check", &socket, error.into()))?
            .uid;
        // The directory is ours alone; this holds although.
        if user != rustix::process::geteuid() && !user.is_root() {
            let error = io::Error::other("it belongs to another user");
            return Err(failed("trust", &socket, error));
        }
        Ok(Self {
            wire: Wire::new(OwnedFd::from(stream)),
            socket,
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
        self.wait_for_ever()?;
        loop {
            match self.answer()? {
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

    /// Unmounts it, and waits until what is to be saved is saved. `lazy` detaches one that is in use, and waits for
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] of kind `busy` while processes use it, `not-saved` when it is gone and could not be
    /// saved where it should be.
    pub fn unmount(mut self, lazy: bool) -> Result<Unmounted, ControlError> {
        self.ask(Command::Unmount { lazy }, None)?;
        self.wait_for_ever()?;
        match self.answer()? {
            Answer::Unmounted(unmounted) => Ok(unmounted),
            other => Err(unexpected(&other)),
        }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// As long as its process lives, an answer will come.
    fn wait_for_ever(&self) -> Result<(), ControlError> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};

        set_socket_timeout(&self.wire, Timeout::Recv, None)
            .map_err(|error| failed("prepare", &self.socket, error.into()))
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
        let sent = self.wire.send(&request, descriptor);
        sent.map_err(|error| failed("write to", &self.socket, error))
    }

    fn answer(&mut self) -> Result<Answer, ControlError> {
        let received = self.wire.receive();
        let (line, _) = received
            .and_then(|line| line.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(|error| failed("read from", &self.socket, error))?;
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
