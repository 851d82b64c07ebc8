//! A mount that this process serves from the job's tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Backing, JobFiles, LOOK, Left, Wanted};
use crate::fuse::{RequestCounts, SessionEnd};
use crate::mount::{MountOptions, MountPoint};
use crate::run::error::Error;
use crate::run::{follow, own_tmp};
use crate::scratch::{Scratch, Watch};
use crate::store::{Source, Tree, TreePath};
use crate::view::Touched;

#[derive(Debug)]
pub(super) struct Fuse {
    scratch: Scratch,
    staged: Tree,
    /// The directory in it for temporary files, if there is one.
    temporary: Option<TreePath>,
}

impl Fuse {
    pub fn mount(
        wanted: &Wanted,
        tree: Tree,
        sources: Vec<(TreePath, Source)>,
    ) -> Result<Self, Error> {
        let staged = tree.fork();
        let scratch = Scratch::builder()
            .tree(tree)
            .profile(wanted.profile)
            .extended_attributes(wanted.extended_attributes)
            .mount(wanted.mount.clone())
            .build()?;
        for (path, source) in sources {
            scratch.write_source(path.to_path_buf(), source)?;
        }
        let temporary = make_temporary(&scratch, &wanted.mount);
        Ok(Self {
            scratch,
            staged,
            temporary,
        })
    }
}

/// A directory in the mount for temporary files, where the steps would write them to what is not their own. There is
/// none where the limits leave no room for it.
fn make_temporary(scratch: &Scratch, wanted: &MountOptions) -> Option<TreePath> {
    if wanted.own_tmp.is_none() || !own_tmp::is_needed(scratch.place()) {
        return None;
    }
    let names = (0..).map(|number| match number {
        0 => own_tmp::NAME.to_owned(),
        _ => format!("{}{number}", own_tmp::NAME),
    });
    let mut free = names.filter(|name| scratch.metadata(name).is_err());
    let path = TreePath::try_from(Path::new(&free.next()?)).ok()?;
    match scratch.hidden_directory(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            log::debug!("no directory for temporary files: {error}");
            None
        }
    }
}

impl JobFiles for Fuse {
    fn backing(&self) -> Backing {
        Backing::Fuse
    }

    fn place(&self) -> &Arc<MountPoint> {
        self.scratch.place()
    }

    fn temporary(&self) -> Option<PathBuf> {
        let inside = self.temporary.as_ref()?.to_path_buf();
        Some(self.scratch.path().join(inside))
    }

    fn follow(&self, name: &TreePath) -> Result<Box<dyn follow::Source>, Error> {
        Ok(Box::new(self.scratch.follow(name.to_path_buf())?))
    }

    /// The files and the job's `/tmp` are each within the limit; together they may be more than it.
    fn look(&self) -> Result<Option<Duration>, Error> {
        let usage = self.scratch.usage();
        super::check_with_tmp(self.scratch.place(), usage.bytes, usage.limits)?;
        Ok(self.scratch.place().has_own().then_some(LOOK))
    }

    fn end(self: Box<Self>) -> Result<Left, Error> {
        let failed_source = self.scratch.failed_sources().into_iter().next();
        let tmp_full = self.scratch.place().own_usage().and_then(|own| own.full);
        if let Some(temporary) = &self.temporary {
            // Of no output. Where it cannot be removed, it is seen.
            let _ = self.scratch.remove(temporary.to_path_buf());
        }
        let (left, closed) = self.scratch.end();
        Ok(Left {
            staged: self.staged,
            peak: left.tree.peak(),
            tree: left.tree,
            limit_met: left.limit_met,
            tmp_full,
            lost_files: left.lost_files,
            failed_source,
            shortage: None,
            closed,
        })
    }

    fn watch(&self) -> Result<Watch, Error> {
        self.scratch.watch(".")
    }

    fn session_end(&self) -> Option<&SessionEnd> {
        Some(self.scratch.session_end())
    }

    fn requests(&self) -> Arc<RequestCounts> {
        self.scratch.requests()
    }

    fn has_name(&self, ino: u64) -> bool {
        self.scratch.has_name(ino)
    }

    fn take_touched(&self) -> Option<Touched> {
        let mut touched = self.scratch.take_touched().ok()?;
        if let Some(temporary) = &self.temporary {
            touched.leave_out(temporary);
        }
        Some(touched)
    }

    fn cancel_sources(&self) {
        self.scratch.cancel_sources();
    }
}
