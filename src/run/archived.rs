//! Archives among a job's inputs.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;

use crate::archive::{ArchiveError, Unpack};
use crate::progress::Progress;
use crate::stage::{Owner, Staged};
use crate::store::{Timestamp, Tree};
use crate::text::shown;

/// An archive that was not opened yet.
pub(super) enum Archived {
    Bytes(Bytes),
    Host(PathBuf),
    Reader(Box<dyn Read + Send>),
}

impl fmt::Debug for Archived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "an archive of {} bytes", bytes.len()),
            Self::Host(path) => write!(f, "the archive {}", shown(path)),
            Self::Reader(_) => f.write_str("an archive from a reader"),
        }
    }
}

impl Archived {
    /// Puts all of it into `tree`, or nothing.
    pub fn unpack(
        self,
        tree: &mut Tree,
        owner: Owner,
        listener: impl FnMut(Progress) -> ControlFlow<()> + Send,
    ) -> Result<Staged, ArchiveError> {
        let unpack = Unpack::new(tree, owner, Timestamp::now()).listen(listener);
        match self {
            Self::Bytes(bytes) => unpack.read(&*bytes),
            Self::Host(path) => unpack.host(&path),
            Self::Reader(reader) => unpack.read(reader),
        }
    }
}
