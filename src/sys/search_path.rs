//! Programs by name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs lie, also where PATH does not say so.
const USUAL: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
    "/run/wrappers/bin",
    "/usr/sbin",
    "/sbin",
];

/// The first of these programs that is there: in the absolute directories of `search_path`, which is as the environment
/// variable PATH, then in the usual ones.
pub fn find_program(names: &[&str], search_path: &OsStr) -> Option<PathBuf> {
    let given = search_path.as_bytes().split(|&byte| byte == b':');
    let given = given.map(|directory| Path::new(OsStr::from_bytes(directory)));
    let usual = USUAL.into_iter().map(Path::new);
    let directories: Vec<&Path> = given.chain(usual).filter(|it| it.is_absolute()).collect();
    let is_program = |path: &PathBuf| {
        let there = path.metadata();
        there.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    names.iter().find_map(|name| {
        let mut candidates = directories.iter().map(|directory| directory.join(name));
        candidates.find(is_program)
    })
}
