//! What is to stand in a tree before anything runs.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use super::error::Error;
use super::spec::{InputSource, InputSpec, JobSpec};
#[cfg(feature = "archives")]
use crate::archive::{ArchiveError, Unpack};
use crate::progress::Progress;
use crate::stage::{LeftBehind, Owner, Stage, Staged};
use crate::store::{Timestamp, Tree, TreePath};

/// Told after every block and every file that is staged; `Break` ends the staging.
pub(super) type Listener = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

type Reader = Box<dyn Read + Send>;

/// What the caller gives for inputs and archives whose source is [`InputSource::Stdin`], by their place in the
/// list of the specification.
#[derive(Default)]
pub(super) struct Readers {
    inputs: HashMap<usize, Reader>,
    #[cfg(feature = "archives")]
    archives: HashMap<usize, Reader>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "readers of {} inputs", self.inputs.len())
    }
}

impl Readers {
    /// Has the input of this name read from `reader`: one that `spec` has and that has no reader yet, or another.
    pub fn add_input(&mut self, spec: &mut JobSpec, name: TreePath, reader: Reader) {
        let source = InputSource::Stdin;
        let waiting = spec.input.iter().enumerate().position(|(at, input)| {
            input.name == name && input.source == source && !self.inputs.contains_key(&at)
        });
        let at = waiting.unwrap_or(spec.input.len());
        if at == spec.input.len() {
            spec.input.push(InputSpec { name, source });
        }
        self.inputs.insert(at, reader);
    }

    /// The same for an archive.
    #[cfg(feature = "archives")]
    pub fn add_archive(&mut self, spec: &mut JobSpec, reader: Reader) {
        let waiting = spec.unpack.iter().enumerate().position(|(at, source)| {
            *source == InputSource::Stdin && !self.archives.contains_key(&at)
        });
        let at = waiting.unwrap_or(spec.unpack.len());
        if at == spec.unpack.len() {
            spec.unpack.push(InputSource::Stdin);
        }
        self.archives.insert(at, reader);
    }
}

fn reader_or_stdin(readers: &mut HashMap<usize, Reader>, at: usize) -> Reader {
    let given = readers.remove(&at);
    given.unwrap_or_else(|| Box::new(std::io::stdin()))
}

/// Puts all archives and inputs of `spec` into `tree`; tells what was left behind.
pub(super) fn stage(
    spec: &JobSpec,
    mut readers: Readers,
    tree: &mut Tree,
    owner: Owner,
    listener: Listener,
) -> Result<LeftBehind, Error> {
    let mut told = ProgressSum::new(listener);
    let mut skipped = LeftBehind::default();
    #[cfg(feature = "archives")]
    for (at, archive) in spec.unpack.iter().enumerate() {
        let unpack =
            Unpack::new(tree, owner, Timestamp::now()).listen(|progress| told.tell(progress));
        let staged: Result<Staged, ArchiveError> = match archive {
            InputSource::Bytes(bytes) => unpack.read(&**bytes),
            InputSource::Host(path) => unpack.host(path),
            InputSource::Stdin => unpack.read(reader_or_stdin(&mut readers.archives, at)),
        };
        skipped.extend(told.finished(staged?));
    }
    let mut stage =
        Stage::new(tree, owner, Timestamp::now()).listen(|progress| told.tell(progress));
    for (at, InputSpec { name, source }) in spec.input.iter().enumerate() {
        match source {
            InputSource::Bytes(bytes) => stage.shared(name, bytes)?,
            InputSource::Host(path) => stage.host(name, path)?,
            InputSource::Stdin => {
                stage.reader(name, &mut *reader_or_stdin(&mut readers.inputs, at))?
            }
        }
    }
    let staged = stage.finish();
    skipped.extend(told.finished(staged));
    Ok(skipped)
}

/// Adds up the progress of several parts of the staging.
struct ProgressSum {
    listener: Listener,
    /// Of the parts that are complete.
    before: Progress,
}

impl ProgressSum {
    fn new(listener: Listener) -> Self {
        let before = Progress::default();
        Self { listener, before }
    }

    fn tell(&mut self, now: Progress) -> ControlFlow<()> {
        (self.listener)(Progress {
            files: self.before.files + now.files,
            bytes: self.before.bytes + now.bytes,
        })
    }

    fn finished(&mut self, staged: Staged) -> LeftBehind {
        self.before.files += staged.progress.files;
        self.before.bytes += staged.progress.bytes;
        staged.skipped
    }
}

/// The path that a name means in the tree.
pub(super) fn check_name(role: &'static str, name: &Path) -> Result<TreePath, Error> {
    TreePath::try_from(name).map_err(|error| {
        let name = name.to_path_buf();
        Error::Name { role, name, error }
    })
}

/// The user and group of this process own what is staged.
pub(super) fn owner() -> Owner {
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}
