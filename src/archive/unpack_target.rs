//! Where the members of an archive go, whichever its format.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::error::{ArchiveError, ArchiveSource, MemberProblem};
use crate::stage::member::{MemberAttributes, MemberContent};
use crate::stage::{Stage, Staged};
use crate::store::{Ino, Kind, Timestamp, TreePath};

/// Where members go.
pub(super) struct UnpackTarget<'t> {
    stage: Stage<'t>,
    archive: &'t ArchiveSource,
    /// The directory that all members go below.
    below: TreePath,
    /// Times of directories, set when all is in them.
    directories: HashMap<Ino, Timestamp>,
    left_behind: SkippedNames,
}

/// Names of FIFOs and sockets, so that hard links to them are left out too: by a hash with a key, and no more than an
/// honest archive has, because nothing else bounds them.
#[derive(Default)]
struct SkippedNames {
    hasher: RandomState,
    kinds: HashMap<u64, Kind>,
}

impl SkippedNames {
    const MAX: usize = 1 << 16;

    fn add(&mut self, path: &TreePath, kind: Kind) {
        if self.kinds.len() < Self::MAX {
            self.kinds.insert(self.hasher.hash_one(path), kind);
        }
    }

    fn kind(&self, path: &TreePath) -> Option<Kind> {
        self.kinds.get(&self.hasher.hash_one(path)).copied()
    }
}

impl<'t> UnpackTarget<'t> {
    pub(super) fn new(stage: Stage<'t>, archive: &'t ArchiveSource, below: TreePath) -> Self {
        Self {
            stage,
            archive,
            below,
            directories: HashMap::new(),
            left_behind: SkippedNames::default(),
        }
    }

    /// Where a member of this name goes.
    pub(super) fn path(&self, name: &[u8]) -> Result<TreePath, ArchiveError> {
        let path = self.archive.path(name)?;
        Ok(self.placed(path))
    }

    fn placed(&self, path: TreePath) -> TreePath {
        if self.below.is_root() {
            return path;
        }
        let names = path.names().into_iter().cloned();
        names.fold(self.below.clone(), |below, name| below.join(name))
    }

    pub(super) fn directory(
        &mut self,
        path: &TreePath,
        attributes: MemberAttributes,
    ) -> Result<(), ArchiveError> {
        let made = self
            .stage
            .member_directory(&self.archive.0, path, attributes)?;
        if let Some(ino) = made {
            self.directories.insert(ino, attributes.mtime);
        }
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &TreePath,
        attributes: MemberAttributes,
        expected: u64,
        content: MemberContent<'_>,
    ) -> Result<(), ArchiveError> {
        let source = &self.archive.0;
        Ok(self
            .stage
            .member_file(source, path, attributes, expected, content)?)
    }

    pub(super) fn symlink(
        &mut self,
        path: &TreePath,
        member: &[u8],
        target: Vec<u8>,
        attributes: MemberAttributes,
    ) -> Result<(), ArchiveError> {
        if target.is_empty() || target.len() > 4095 || target.contains(&0) {
            return Err(self.archive.member(member, MemberProblem::SymlinkTarget));
        }
        Ok(self
            .stage
            .member_symlink(&self.archive.0, path, target, attributes)?)
    }

    pub(super) fn link(
        &mut self,
        path: &TreePath,
        member: &[u8],
        link: &[u8],
    ) -> Result<(), ArchiveError> {
        let shown = || String::from_utf8_lossy(link).into_owned();
        let to = TreePath::parse(link).map_err(|error| {
            let problem = MemberProblem::LinkName(shown(), error);
            self.archive.member(member, problem)
        })?;
        let to = self.placed(to);
        if self.stage.member_link(&self.archive.0, path, &to)? {
            return Ok(());
        }
        // Another name of what was left behind is left behind too.
        if let Some(kind) = self.left_behind.kind(&to) {
            self.leave_behind(path, kind);
            return Ok(());
        }
        let problem = MemberProblem::LinkTarget(shown());
        Err(self.archive.member(member, problem))
    }

    /// A FIFO or a socket.
    pub(super) fn leave_behind(&mut self, path: &TreePath, kind: Kind) {
        self.stage.member_skipped(path, kind);
        self.left_behind.add(path, kind);
    }

    /// Sets the times of directories, and ends staging.
    pub(super) fn finish(mut self) -> Staged {
        for (ino, mtime) in self.directories {
            self.stage.member_filled(ino, mtime);
        }
        self.stage.finish()
    }
}
