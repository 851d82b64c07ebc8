//! Why a live mount could not be spoken to.

use std::io;
use std::path::PathBuf;

use crate::text::{quoted, shown};

/// Why a live mount could not be spoken to, or refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The directory for sockets is not ours alone.
    #[error("the directory {path} for sockets {problem}", path = quoted(path))]
    SocketDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The socket could not be made, or not be spoken through.
    #[error("cannot {operation} the socket {socket}", socket = quoted(socket))]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// The socket.
        socket: PathBuf,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// Nothing of ours is mounted there.
    #[error("{path} is no notapipe mount", path = quoted(path))]
    NotMounted {
        /// What was asked for.
        path: PathBuf,
    },
    /// There is a mount, and no process answers for it.
    #[error(
        "the process that serves {path} does not answer: it is another user's, or was started in a way that gives \
         it no socket",
        path = quoted(path)
    )]
    NoAnswer {
        /// Where it is mounted.
        path: PathBuf,
    },
    /// The process that serves the mount is there and says nothing.
    #[error(
        "process {pid}, which serves the mount, {}",
        if *.stopped { "is stopped" } else { "does not answer" }
    )]
    Stuck {
        /// Its number.
        pid: i32,
        /// Whether a signal or a debugger has stopped it.
        stopped: bool,
    },
    /// The process that serves the mount said no.
    #[error("{}", shown(message).at_most(8 << 10))]
    Refused {
        /// `busy`, `below-used`, `not-saved`, `failed`, `request`: what a program may look at.
        kind: String,
        /// For people.
        message: String,
    },
    /// It answered something that we do not understand.
    #[error(
        "the process that serves the mount speaks another version of the protocol: {}",
        shown(answer)
    )]
    Protocol {
        /// What it said.
        answer: String,
    },
}
