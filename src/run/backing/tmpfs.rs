//! A tmpfs of the kernel's in the job's namespaces, whose size is the job's limits.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::fstatvfs;

use super::moved::MovedFiles;
use super::{Backing, JobFiles, Left, pause};
use crate::mount::{BackedBy, MountPoint};
use crate::run::error::Error;
use crate::run::follow;
use crate::store::{Peak, Resource, Tree, TreePath};

#[derive(Debug)]
pub(super) struct Tmpfs {
    place: Arc<MountPoint>,
    backed_by: BackedBy,
    files: MovedFiles,
    seen: Mutex<Seen>,
}

/// What looking at it has told.
#[derive(Debug)]
struct Seen {
    peak: Peak,
    full: Option<Resource>,
}

impl Tmpfs {
    /// Moves the tree into what was made for it.
    pub fn new(
        (place, root, backed_by): (Arc<MountPoint>, OwnedFd, BackedBy),
        tree: Tree,
    ) -> Result<Self, Error> {
        let seen = Seen {
            peak: tree.peak(),
            full: None,
        };
        Ok(Self {
            place,
            backed_by,
            files: MovedFiles::new(tree, root)?,
            seen: Mutex::new(seen),
        })
    }

    /// How many bytes are held, and how many can still be written.
    fn see(&self) -> (u64, u64) {
        let Ok(there) = fstatvfs(self.files.root()) else {
            return (0, u64::MAX);
        };
        let mut seen = self.seen.lock();
        let limits = self.backed_by.limits;
        let used = ((there.f_blocks - there.f_bfree) * there.f_frsize).min(limits.bytes);
        let peak = &mut seen.peak;
        peak.bytes = peak.bytes.max(used);
        peak.inodes = peak
            .inodes
            .max((there.f_files - there.f_ffree).min(limits.inodes));
        // The last page and the last inode are none of the job's.
        match (there.f_bfree, there.f_ffree) {
            (0, _) => seen.full = Some(Resource::Bytes),
            (_, 0) => seen.full = Some(Resource::Inodes),
            _ => return (used, there.f_bfree * there.f_frsize),
        }
        (used, 0)
    }
}

impl JobFiles for Tmpfs {
    fn backing(&self) -> Backing {
        Backing::Tmpfs
    }

    fn place(&self) -> &Arc<MountPoint> {
        &self.place
    }

    fn backed_by(&self) -> Option<&BackedBy> {
        Some(&self.backed_by)
    }

    fn follow(&self, name: &TreePath) -> Result<Box<dyn follow::Source>, Error> {
        Ok(self.files.follow(name))
    }

    /// The kernel holds the limits, and tells the tools; what was held in between is told afterwards. The files and the
    /// job's `/tmp` are each within the limit; together they may be more than it.
    fn look(&self) -> Result<Option<Duration>, Error> {
        let (used, room) = self.see();
        super::check_with_tmp(&self.place, used, self.backed_by.limits)?;
        Ok(Some(pause(room)))
    }

    fn end(self: Box<Self>) -> Result<Left, Error> {
        self.see();
        let Seen { peak, full } = self.seen.into_inner();
        let limits = self.backed_by.limits;
        Ok(Left {
            limit_met: full,
            tmp_full: self.place.own_usage().and_then(|own| own.full),
            shortage: full.map(|resource| Error::OverLimit { resource, limits }),
            ..self.files.take_back(peak)?
        })
    }
}
