//! Where sockets lie, and finding the right one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::client::{Client, PATIENCE};
use super::error::ControlError;
use crate::sys::mountinfo;

const ENDING: &str = "sock";

/// The directories in which the sockets of a user's mounts lie.
///
/// Each must belong to this user and be closed to all others; one that is not so is passed over. A mount makes its socket in the
/// first that can be used; looking goes through all, since an environment variable that chooses one may be set in one
/// shell and missing in the next.
#[derive(Clone, Debug)]
pub struct SocketDirs(Vec<PathBuf>);

/// A live mount, and a connection to the process that serves it.
#[derive(Debug)]
pub struct LiveMount {
    /// The socket.
    pub socket: PathBuf,
    /// The connection; an error where something is there and cannot be spoken to.
    pub client: Result<Client, ControlError>,
}

impl SocketDirs {
    /// These directories, the preferred one first. They need not exist.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(directories.into_iter().collect())
    }

    /// The first directory that is ours alone, made where it is missing.
    ///
    /// # Errors
    ///
    /// What is wrong with the last one.
    pub fn open(&self) -> Result<&Path, ControlError> {
        let mut refused = ControlError::SocketDir {
            path: PathBuf::new(),
            problem: "is not chosen".to_owned(),
        };
        for directory in &self.0 {
            match make(directory).and_then(|()| check(directory)) {
                Ok(()) => return Ok(directory),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// A connection to the process that serves the mount at `path`.
    ///
    /// The path is looked up without asking the mount itself, so that a stuck one is found too.
    ///
    /// # Errors
    ///
    /// [`ControlError::NotMounted`] and [`ControlError::NoAnswer`], among others.
    pub fn find(&self, path: &Path) -> Result<Client, ControlError> {
        let not_mounted = || ControlError::NotMounted {
            path: path.to_owned(),
        };
        let place = resolve_parent(path).map_err(|_| not_mounted())?;
        let line = mountinfo::top_at(&place).map_err(|_| not_mounted())?;
        let line = line
            .filter(|line| line.kind == "fuse.notapipe")
            .ok_or_else(not_mounted)?;
        let name = socket_name(&line.device);
        for directory in self.usable() {
            let socket = directory.join(&name);
            match connect(&socket) {
                Ok(stream) => return Client::new(stream, socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ControlError::Socket {
                        operation: "connect to",
                        socket,
                        error: io::ErrorKind::TimedOut.into(),
                    });
                }
                Err(_) => {}
            }
        }
        Err(ControlError::NoAnswer { path: place })
    }

    /// Every mount that answers. Sockets of processes that are gone are removed.
    pub fn all(&self) -> Vec<LiveMount> {
        let mut found = Vec::new();
        for directory in self.usable() {
            let Ok(entries) = fs::read_dir(directory) else {
                continue;
            };
            let sockets = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|ending| ending == ENDING));
            for socket in sockets {
                match connect(&socket) {
                    Ok(stream) => found.push(LiveMount {
                        client: Client::new(stream, socket.clone()),
                        socket,
                    }),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        // Its process is dead, and no other will listen there.
                        let _ = fs::remove_file(&socket);
                    }
                    // Gone since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => found.push(LiveMount {
                        client: Err(ControlError::Socket {
                            operation: "connect to",
                            socket: socket.clone(),
                            error,
                        }),
                        socket,
                    }),
                }
            }
        }
        found
    }

    fn usable(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().filter(|directory| check(directory).is_ok())
    }
}

/// The name of the socket of the mount with this device number, which no other live mount has.
pub(super) fn socket_name(device: &str) -> String {
    format!("{}.{ENDING}", device.replace(':', "-"))
}

/// Gives up after [`PATIENCE`]: a process that is stopped accepts no connection once its backlog is full.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    let (unix, flags) = (AddressFamily::UNIX, SocketFlags::CLOEXEC);
    let stream = rustix::net::socket_with(unix, SocketType::STREAM, flags, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(stream.into())
}

fn make(directory: &Path) -> Result<(), ControlError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(ControlError::SocketDir {
                path: directory.to_owned(),
                problem: format!("cannot be made: {error}"),
            })
        }
        _ => Ok(()),
    }
}

/// Whether the directory is this user's and closed to others, who could put sockets of theirs there.
fn check(directory: &Path) -> Result<(), ControlError> {
    let refuse = |problem: String| ControlError::SocketDir {
        path: directory.to_owned(),
        problem,
    };
    let there = fs::symlink_metadata(directory).map_err(|error| refuse(error.to_string()))?;
    let user = rustix::process::geteuid().as_raw();
    if !there.is_dir() {
        Err(refuse("is no directory".to_owned()))
    } else if there.uid() != user {
        Err(refuse(format!("belongs to user {}", there.uid())))
    } else if there.permissions().mode() & 0o077 != 0 {
        Err(refuse("lets others in; chmod 700 it".to_owned()))
    } else {
        Ok(())
    }
}

/// The path without symlinks in all but its last part, which is not looked at.
fn resolve_parent(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            let place = parent.canonicalize()?.join(name);
            // A symlink to it is no mount itself: this asks the mount's parent, never the mount.
            match fs::read_link(&place) {
                Ok(_) => place.canonicalize(),
                Err(_) => Ok(place),
            }
        }
        // `.`, `..` and `/` have no name of their own.
        _ => path.canonicalize(),
    }
}
