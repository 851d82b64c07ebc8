//! What stands in place of a FUSE mount: a tmpfs of the kernel's, or a directory.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::directory::OwnedDirectory;
use super::error::MountError;
use super::privately::{self, Files};
use super::tmp::{OwnDirectories, OwnTmp};
use crate::store::Limits;
use crate::sys::namespaces::Namespaces;

/// What a job's files live in where there is no FUSE mount; for [`Job::on_backing`](crate::Job::on_backing).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedBy {
    /// Their directory, as the steps see it.
    pub directory: PathBuf,
    /// What it lies on.
    pub storage: Storage,
    /// Those that were asked for, or what there is room for if that is less.
    pub limits: Limits,
    /// A program that is made there cannot be executed (the option noexec of mount(8)).
    pub no_exec: bool,
    /// There is no shell that would remove it after a kill -9 of this process.
    pub stays_when_killed: bool,
}

/// What the files of a job lie on that has no FUSE mount; of a [`BackedBy`], which
/// [`Job::on_backing`](crate::Job::on_backing) tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// A tmpfs of the job's own, in its namespaces: the kernel holds the limits, and no other process sees it.
    OwnTmpfs,
    /// A directory on a tmpfs that others use as well.
    Tmpfs,
    /// A directory on a disk, as no tmpfs has room for the inputs.
    Disk,
}

/// What is asked for in place of a mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackedWanted<'w> {
    /// Where its processes are to see it.
    pub(crate) at: Option<&'w Path>,
    pub(crate) allow_other: bool,
    pub(crate) own_tmp: Option<&'w OwnTmp>,
    pub(crate) limits: Limits,
}

impl BackedWanted<'_> {
    /// Only root has steps that become another user.
    pub(super) fn lets_others_in(&self) -> bool {
        self.allow_other && rustix::process::geteuid().is_root()
    }
}

/// What stands in place of a mount: where its processes see it, and what holds it.
pub(super) struct Made {
    pub(super) directory: Option<OwnedDirectory>,
    pub(super) files: OwnedFd,
    pub(super) inside: Option<Namespaces>,
    pub(super) own: Option<OwnDirectories>,
    pub(super) backed_by: BackedBy,
}

/// A tmpfs in namespaces of its own, which goes with them.
///
/// # Errors
/// [`MountError`]; nothing is left of the attempt.
pub(super) fn tmpfs(wanted: &BackedWanted<'_>) -> Result<Made, MountError> {
    let mode = if wanted.lets_others_in() {
        0o755
    } else {
        0o700
    };
    let files = Files::Tmpfs(wanted.limits, mode);
    let bound = privately::bind(files, wanted.at, wanted.own_tmp)?;
    Ok(Made {
        directory: None,
        files: bound.files,
        inside: Some(bound.namespaces),
        own: bound.own,
        backed_by: BackedBy {
            directory: bound.path,
            storage: Storage::OwnTmpfs,
            limits: wanted.limits,
            no_exec: false,
            stays_when_killed: false,
        },
    })
}
