//! A job's own directories for temporary files: which they are, where steps are told to write, and how much is there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::spec::StepSpec;
use crate::mount::{MountPoint, OwnTmp};
use crate::store::Limits;

/// Where what the steps write to `/tmp` and the like goes; for [`Job::tmp`](super::Job::tmp).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tmp {
    /// To the job: its own view of `/tmp`, `/var/tmp` and of where TMPDIR, TMP and TEMP point, its own `/dev/shm` and
    /// its own IPC objects.
    #[default]
    Job,
    /// Where it goes for every process: to the caller's.
    Host,
}

/// The variables that tell a program where temporary files belong.
const VARIABLES: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];
/// Where they belong without them.
const DEFAULT: &str = "/tmp";
/// How many paths of a command are looked at.
const MOST_NAMED: usize = 512;
/// What the directory in a mount is called, unless the caller has something there.
pub(super) const NAME: &str = ".notapipe-tmp";

/// What the steps are to have for themselves.
pub(super) fn wanted(steps: &[StepSpec], limits: Limits, caller_directory: PathBuf) -> OwnTmp {
    let mut wanted = OwnTmp::new(limits);
    wanted.reachable.push(caller_directory.clone());
    for step in steps {
        let named = VARIABLES.iter().filter_map(|name| step.variable(name));
        let named = named.map(PathBuf::from).filter(|it| it.is_absolute());
        wanted.directories.extend(named);
        let path = step.variable("PATH").unwrap_or_default();
        let directories = path.as_bytes().split(|&byte| byte == b':');
        let directories = directories.map(|it| PathBuf::from(OsStr::from_bytes(it)));
        wanted.reachable.extend(directories);
        let words = step.command.iter().map(PathBuf::from);
        wanted.reachable.extend(words.filter(|it| it.is_absolute()));
        let program = step.command.first().map(Path::new);
        let program = program.filter(|it| it.parent().is_some_and(|it| it != Path::new("")));
        let program = program.map(|it| caller_directory.join(it));
        wanted.reachable.extend(program);
        for text in step.command.iter().cloned().chain(step.values()) {
            let named = paths_in(text.as_bytes());
            let own = named.filter(|it| wanted.directories.iter().any(|own| it.starts_with(own)));
            let new = own.filter(|it| !wanted.reachable.iter().any(|old| old == it));
            let new: Vec<_> = new.take(MOST_NAMED).map(Path::to_owned).collect();
            wanted.reachable.extend(new);
        }
        wanted.reachable.truncate(MOST_NAMED);
    }
    wanted
}

/// The absolute paths in a text such as a script, as far as a shell would let them stand there without quotes.
fn paths_in(text: &[u8]) -> impl Iterator<Item = &Path> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`;|&<>()$*?[]{}=:,".contains(byte);
    let words = text.split(ends);
    let start = |word: &[u8]| word.iter().position(|&byte| byte == b'/');
    words.filter_map(move |word| Some(Path::new(OsStr::from_bytes(&word[start(word)?..]))))
}

/// Whether a step that gets the caller's environment would write temporary files where they are not the job's own.
pub(super) fn is_needed(place: &MountPoint) -> bool {
    let inherited: Vec<_> = super::step::inherited_variables().collect();
    VARIABLES
        .iter()
        .any(|name| !is_own(place, name, &inherited))
}

/// What a step is told instead of the caller's variables, where these lead to what is not its job's own.
pub(super) fn variables(
    place: &MountPoint,
    directory: &Path,
    inherited: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let lost = VARIABLES
        .iter()
        .filter(|name| !is_own(place, name, inherited));
    lost.map(|name| (name.into(), directory.into())).collect()
}

fn is_own(place: &MountPoint, name: &str, environment: &[(OsString, OsString)]) -> bool {
    let value = environment.iter().find(|(other, _)| other == name);
    let named = value.map(|(_, value)| Path::new(value));
    // A relative path leads into the mount.
    if named.is_some_and(|it| !it.as_os_str().is_empty() && it.is_relative()) {
        return true;
    }
    let there = named
        .and_then(|it| it.canonicalize().ok())
        .filter(|it| it.is_dir());
    let there = there.or_else(|| Path::new(DEFAULT).canonicalize().ok());
    there.is_none_or(|it| place.is_own(&it))
}
