//! The files of a tree, moved to another file system while the steps run, and back.
//!
//! What is there afterwards is moved into a fork of the tree, so that what the job leaves is told apart from what it was
//! given as in a mount, and no file is in memory twice.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::Stat;

use super::write_out::{AllDelivered, write_out};
use super::{Left, take_back};
use crate::run::error::Error;
use crate::run::follow;
use crate::run::followed_file::{ContentStamp, FollowedFile};
use crate::store::{Ino, Limits, Peak, Tree, TreePath};

#[derive(Debug)]
pub(super) struct MovedFiles {
    staged: Tree,
    /// The directory, for us: its processes may see it elsewhere.
    root: OwnedFd,
    delivered: AllDelivered,
}

/// Something that came into the directory, and the inode of the tree that it was.
#[derive(Debug)]
pub(super) struct Delivered {
    pub ino: Ino,
    pub stamp: Stamp,
}

/// What of a file is another when it was changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    content: ContentStamp,
    mode: u32,
    changed: (i64, i64),
}

// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl From<&Stat> for Stamp {
    fn from(of: &Stat) -> Self {
        Self {
            content: ContentStamp {
                inode: of.st_ino as u64,
                size: of.st_size as u64,
                modified: (of.st_mtime as i64, of.st_mtime_nsec as i64),
            },
            mode: of.st_mode as u32,
            changed: (of.st_ctime as i64, of.st_ctime_nsec as i64),
        }
    }
}

impl MovedFiles {
    /// Moves everything that is in a tree into an empty directory.
    pub fn new(mut staged: Tree, root: OwnedFd) -> Result<Self, Error> {
        let delivered = write_out(&mut staged, &root)?;
        Ok(Self {
            staged,
            root,
            delivered,
        })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn follow(&self, name: &TreePath) -> Box<dyn follow::Source> {
        let root = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        let ino = self.staged.resolve(name.names()).ok();
        let mut delivered = self.delivered.values();
        let staged = delivered.find(|it| Some(it.ino) == ino);
        Box::new(FollowedFile::new(
            root.join(name.to_path_buf()),
            staged.map(|it| it.stamp.content),
        ))
    }

    /// What is in the directory now, out of which it is moved. Files that no step has changed are those that were staged,
    /// which get their content back.
    pub fn take_back(mut self, peak: Peak) -> Result<Left, Error> {
        let limits = self.staged.usage().limits;
        // What is there is to be looked at, also where it is more than it should be.
        let lift = |tree: &mut Tree| {
            tree.set_limits(Limits {
                bytes: u64::MAX,
                inodes: u64::MAX,
            });
        };
        let root = self.root.as_fd();
        let mut tree = take_back::take_back(root, &self.delivered, &mut self.staged, lift)?;
        tree.set_limits(limits);
        Ok(Left {
            staged: self.staged,
            tree,
            peak,
            limit_met: None,
            tmp_full: None,
            lost_files: Vec::new(),
            failed_source: None,
            shortage: None,
            closed: Ok(()),
        })
    }
}
