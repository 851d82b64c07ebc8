//! What is to stand in a tree before anything runs.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

#[cfg(feature = "archives")]
use super::archived::Archived;
use super::error::Error;
use crate::progress::Progress;
use crate::stage::{LeftBehind, Owner, Stage, Staged};
use crate::store::{Timestamp, Tree, TreePath};
use crate::text::shown;

/// Told after every block and every file that is staged; `Break` ends the staging.
pub(super) type Listener = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

/// Names and where their content comes from, in order.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Unpacked before anything else is staged, whatever was added first.
    #[cfg(feature = "archives")]
    archives: Vec<Archived>,
    list: Vec<(TreePath, Input)>,
    /// The first name that was refused; told by `stage`, so that building needs no `?`.
    invalid: Option<Error>,
}

pub(super) enum Input {
    Bytes(Bytes),
    Host(PathBuf),
    Reader(Box<dyn Read + Send>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Host(path) => shown(path).fmt(f),
            Self::Reader(_) => f.write_str("a reader"),
        }
    }
}

impl Inputs {
    pub fn add(&mut self, name: &Path, input: Input) {
        match check_name("input", name) {
            Ok(path) => self.list.push((path, input)),
            Err(error) => {
                self.invalid.get_or_insert(error);
            }
        }
    }

    /// An archive, all of which stands in the root.
    #[cfg(feature = "archives")]
    pub fn unpack(&mut self, archive: Archived) {
        self.archives.push(archive);
    }

    /// Puts everything into `tree`; tells what was left behind.
    pub fn stage(
        self,
        tree: &mut Tree,
        owner: Owner,
        listener: Option<Listener>,
    ) -> Result<LeftBehind, Error> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        let mut teller = Teller::new(listener);
        let mut skipped = LeftBehind::default();
        #[cfg(feature = "archives")]
        for archive in self.archives {
            let staged = archive.unpack(tree, owner, |progress| teller.tell(progress))?;
            skipped.extend(teller.finished(staged));
        }
        let mut stage =
            Stage::new(tree, owner, Timestamp::now()).listen(|progress| teller.tell(progress));
        for (path, input) in self.list {
            match input {
                Input::Bytes(bytes) => stage.shared(&path, &bytes)?,
                Input::Host(source) => stage.host(&path, &source)?,
                Input::Reader(mut reader) => stage.reader(&path, &mut *reader)?,
            }
        }
        let staged = stage.finish();
        skipped.extend(teller.finished(staged));
        Ok(skipped)
    }
}

/// Adds up what several parts of the staging tell.
struct Teller {
    listener: Option<Listener>,
    /// Of the parts that are complete.
    before: Progress,
}

impl Teller {
    fn new(listener: Option<Listener>) -> Self {
        let before = Progress::default();
        Self { listener, before }
    }

    fn tell(&mut self, now: Progress) -> ControlFlow<()> {
        let Some(listener) = &mut self.listener else {
            return ControlFlow::Continue(());
        };
        listener(Progress {
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

/// Whoever runs us owns what we stage.
pub(super) fn owner() -> Owner {
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}
