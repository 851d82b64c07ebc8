//! Members of archives: files, directories and links with attributes of their own.
//!
//! Here for [`archive`](crate::archive): an archive says what to make, and this makes it by the rules that hold
//! for all that is staged. No symlink is ever followed: a member below one is refused.

use std::io::Read;
use std::ops::Range;

use super::{Item, Source, Stage, StageError};
use crate::store::{Ino, Kind, NewKind, SetAttr, StoreError, Timestamp, TreePath};

/// What a member brings along beside its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberAttributes {
    /// Permission bits; of set-id bits nothing is kept, as `cp` does.
    pub mode: u32,
    /// Modification time.
    pub mtime: Timestamp,
}

impl MemberAttributes {
    fn change(self) -> SetAttr {
        SetAttr {
            mode: Some(self.mode & 0o1777),
            mtime: Some(self.mtime),
            ..SetAttr::default()
        }
    }
}

/// The bytes of a member.
pub(crate) enum MemberContent<'c> {
    /// All that the reader gives.
    Whole(&'c mut dyn Read),
    /// These ranges one after another, in a file of this size; between them are holes.
    Sparse {
        /// Gives the bytes of all ranges.
        reader: &'c mut dyn Read,
        /// In rising order.
        data: &'c [Range<u64>],
        /// Of the file.
        size: u64,
    },
}

impl Stage<'_> {
    /// A file; `expected` bytes of content are checked against the limit before they are read.
    pub(crate) fn member_file(
        &mut self,
        source: &Source,
        path: &TreePath,
        attributes: MemberAttributes,
        expected: u64,
        content: MemberContent<'_>,
    ) -> Result<(), StageError> {
        let item = Item::new(source, path);
        self.plain_file(item, |stage, ino| {
            stage.expect(item, expected)?;
            match content {
                MemberContent::Whole(reader) => drop(stage.stream(item, ino, reader)?),
                MemberContent::Sparse { reader, data, size } => {
                    for range in data {
                        let length = range.end - range.start;
                        stage.stream_at(
                            item,
                            ino,
                            range.start,
                            &mut (&mut *reader).take(length),
                        )?;
                    }
                    let size = SetAttr {
                        size: Some(size),
                        ..SetAttr::default()
                    };
                    stage.set(item, ino, &size)?;
                }
            }
            stage.set(item, ino, &attributes.change())
        })
    }

    /// A directory, which may be there already; its mode. Its time is set at the end, when it is filled. The root
    /// keeps both: it is not what was staged.
    pub(crate) fn member_directory(
        &mut self,
        source: &Source,
        path: &TreePath,
        attributes: MemberAttributes,
    ) -> Result<Option<Ino>, StageError> {
        if path.is_root() {
            return Ok(None);
        }
        let item = Item::new(source, path);
        let (parent, name) = self.place(item)?;
        let ino = self.make_directory(item, parent, name)?;
        self.set(item, ino, &attributes.change())?;
        self.meter.file()?;
        Ok(Some(ino))
    }

    /// The time of a directory that is filled.
    pub(crate) fn member_filled(&mut self, ino: Ino, mtime: Timestamp) {
        let time = SetAttr {
            mtime: Some(mtime),
            ..SetAttr::default()
        };
        // It fails only for an inode that is gone, and then there is no time to keep.
        let _ = self.tree.set_attr(ino, &time, self.now);
    }

    /// A symlink, which has no mode of its own.
    pub(crate) fn member_symlink(
        &mut self,
        source: &Source,
        path: &TreePath,
        target: Vec<u8>,
        attributes: MemberAttributes,
    ) -> Result<(), StageError> {
        let item = Item::new(source, path);
        let (parent, name) = self.place(item)?;
        let change = SetAttr {
            mode: None,
            ..attributes.change()
        };
        let ino = self.make(item, parent, name, NewKind::Symlink(target), 0o777)?;
        self.set(item, ino, &change)?;
        Ok(self.meter.file()?)
    }

    /// Another name of a file that came before; false when there is no such file.
    pub(crate) fn member_link(
        &mut self,
        source: &Source,
        path: &TreePath,
        to: &TreePath,
    ) -> Result<bool, StageError> {
        let item = Item::new(source, path);
        let found = self.tree.resolve(to).ok();
        let Some(ino) = found.filter(|_| path != to) else {
            return Ok(false);
        };
        if self.kind(item, ino)? == Kind::Directory {
            return Ok(false);
        }
        let (parent, name) = self.place(item)?;
        if self.tree.lookup(parent, name.as_bytes()) == Ok(ino) {
            return Ok(true); // It has that name already: making room for it could remove the last one.
        }
        self.make_room(item, parent, &name)?;
        let linked = self.tree.link(ino, parent, name, self.now);
        linked.map_err(|error: StoreError| self.refused(item, error, None))?;
        self.meter.file()?;
        Ok(true)
    }

    /// Something that is left behind.
    pub(crate) fn member_skipped(&mut self, path: &TreePath, kind: Kind) {
        self.skipped.add(kind, || path.to_path_buf());
    }
}
