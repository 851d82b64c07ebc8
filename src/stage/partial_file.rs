//! Files that are written in pieces, several of them at a time.

use super::{Item, Source, Stage, StageError};
use crate::store::{Ino, NewKind, TreePath};

/// A file of a [`Stage`] that is not complete yet.
#[derive(Debug)]
pub(crate) struct PartialFile {
    path: TreePath,
    ino: Ino,
    size: u64,
}

impl Stage<'_> {
    /// Makes an empty file, mode 0644.
    pub(crate) fn begin_file(&mut self, path: &TreePath) -> Result<PartialFile, StageError> {
        let item = Item::new(&Source::Caller, path);
        let (parent, name) = self.place(item)?;
        Ok(PartialFile {
            path: path.clone(),
            ino: self.make(item, parent, name, NewKind::File, 0o644)?,
            size: 0,
        })
    }

    /// Appends bytes to a file.
    pub(crate) fn append(
        &mut self,
        file: &mut PartialFile,
        bytes: &[u8],
    ) -> Result<(), StageError> {
        let item = Item::new(&Source::Caller, &file.path);
        self.write(item, file.ino, file.size, bytes)?;
        file.size += bytes.len() as u64;
        Ok(self.meter.bytes(bytes.len())?)
    }
}
