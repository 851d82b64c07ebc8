//! Paths of the host in the form that a delivery counts and compares.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::store::{Name, TreePath};

/// A place of the host, as a path below `/`: absolute, and without symlinks in what there was of it. So the places of a
/// deep directory take no more memory than their names.
pub(super) type HostPath = TreePath;

/// An absolute path of the host without `..`.
pub(super) fn absolute(path: &Path) -> Result<HostPath, Errno> {
    let normal = |part| match part {
        Component::Normal(part) => Some(Name::new(part.as_bytes())),
        _ => None,
    };
    let names: Result<HostPath, _> = path.components().filter_map(normal).collect();
    names.map_err(|_| Errno::NAMETOOLONG)
}

/// The place for the operating system.
pub(super) fn to_host(place: &HostPath) -> PathBuf {
    let mut bytes = place.to_bytes();
    match place.is_root() {
        true => bytes = vec![b'/'],
        false => bytes.insert(0, b'/'),
    }
    OsString::from_vec(bytes).into()
}
