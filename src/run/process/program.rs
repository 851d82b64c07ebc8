//! Where a program may be, in the order in which the child tries.
//!
//! The child tries by executing, as execvp(3) does: only it sees the file system as the program
//! will, and a check made before would be a check of something else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{SpawnError, c_string};
use crate::sys::launch::Candidate;

/// Where a bare name is looked for without PATH (execvp(3)).
pub(super) const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A relative path is the caller's first: `./tool` means the tool that the caller sees. If nothing
/// is there, it means a file in the working directory, for tools that an earlier step made.
pub(super) fn candidates(
    program: &OsStr,
    caller_directory: &Path,
    search_path: Option<&OsStr>,
) -> Result<Vec<Candidate>, SpawnError> {
    let place = |path: &OsStr, decides| {
        Ok(Candidate {
            path: c_string(path)?,
            decides,
        })
    };
    if program.is_empty() {
        return Err(SpawnError::NotFound {
            program: program.to_owned(),
            looked_in: None,
        });
    }
    if program.as_bytes().starts_with(b"/") {
        return Ok(vec![place(program, true)?]);
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![
            place(caller_directory.join(program).as_os_str(), true)?,
            place(program, true)?,
        ]);
    }
    let search_path = search_path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes();
    let directories = search_path
        .split(|&byte| byte == b':')
        .map(OsStr::from_bytes);
    // An empty entry is the working directory, which must be written so that it is not searched for.
    directories
        .map(|directory| {
            if directory.is_empty() {
                OsStr::new(".")
            } else {
                directory
            }
        })
        .map(|directory| place(Path::new(directory).join(program).as_os_str(), false))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str, search_path: Option<&str>) -> Vec<String> {
        candidates(
            program.as_ref(),
            Path::new("/home/me"),
            search_path.map(OsStr::new),
        )
        .unwrap()
        .into_iter()
        .map(|candidate| candidate.path.into_string().unwrap())
        .collect()
    }

    #[test]
    fn a_bare_name_is_looked_for_in_path() {
        assert_eq!(
            paths("cc", Some("/usr/bin::bin")),
            ["/usr/bin/cc", "./cc", "bin/cc"]
        );
        assert_eq!(paths("cc", None), ["/bin/cc", "/usr/bin/cc"]);
    }

    #[test]
    fn a_relative_path_is_the_callers_first() {
        assert_eq!(paths("./tool", None), ["/home/me/./tool", "./tool"]);
        assert_eq!(paths("/bin/tool", None), ["/bin/tool"]);
    }

    #[test]
    fn no_program_at_all_is_not_found() {
        let error = candidates(OsStr::new(""), Path::new("/"), None).unwrap_err();
        assert_eq!(error.exit_code(), 127);
    }
}
