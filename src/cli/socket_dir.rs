//! Where the sockets of mounts lie on this machine.

use std::path::PathBuf;

use notapipe::control::SocketDirs;

/// The directory of this session, the user's own whatever the environment says, and one that always works.
pub fn socket_dir() -> SocketDirs {
    let user = rustix::process::geteuid().as_raw();
    let session = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute());
    let own = match user {
        0 => PathBuf::from("/run"),
        _ => PathBuf::from(format!("/run/user/{user}")),
    };
    let mut directories: Vec<PathBuf> = session
        .into_iter()
        .chain([own])
        .map(|directory| directory.join("notapipe"))
        .collect();
    directories.push(format!("/tmp/notapipe-{user}").into());
    directories.dedup();
    SocketDirs::new(directories)
}
