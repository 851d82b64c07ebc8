//! Where a job's files live while its steps run.

use std::ffi::OsString;
use std::path::PathBuf;

use super::step::inherited_variables;
use crate::sys::mountinfo;

/// What a job's files live in while its steps run; for [`Job::backing`](crate::Job::backing).
///
/// Steps, outputs, exit statuses, limits and reports are the same in each. What differs:
///
/// | | [`Fuse`](Self::Fuse) | [`Tmpfs`](Self::Tmpfs) | [`Directory`](Self::Directory) |
/// | --- | --- | --- | --- |
/// | needs | FUSE | namespaces | a directory that can be written in |
/// | limits | enforced | enforced, `/tmp` of the job included | watched: a job that exceeds one is ended |
/// | path | the same in each run | the same in each run | another in each run, where namespaces are refused |
/// | [`follow`](crate::Job::follow) | told by the file system | looked at every 20 ms | looked at every 20 ms |
/// | [`StepReport::touched`](crate::run::StepReport::touched) | each file | none | none |
/// | [`input_source`](crate::Job::input_source) | when a step asks | refused | refused |
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::Backing;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let outcome = Job::new()
///     .backing(Backing::Tmpfs)
///     .step(["sh", "-c", "echo made > out"])
///     .output("out")
///     .run()?;
/// assert_eq!(outcome.output("out").unwrap(), "made\n");
/// assert_eq!(outcome.backing(), Backing::Tmpfs);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// FUSE where this machine allows it, else a tmpfs, else a directory.
    #[default]
    Auto,
    /// A mount that this process serves.
    Fuse,
    /// A tmpfs of the kernel's in the job's private namespaces, as large as the job's limits.
    Tmpfs,
    /// A directory: of all tmpfs that this process may write to, in the one with the most room; on disk only where none has
    /// room for the inputs.
    Directory,
}

/// Where a [`Backing::Directory`] may be made: where steps are told to write temporary files, where systems have a tmpfs that
/// users may write to, and a disk for where none has room.
pub(super) fn usual_directories() -> Vec<PathBuf> {
    let named = |(name, value): (OsString, OsString)| {
        let is_for_files = name == "TMPDIR" || name == "XDG_RUNTIME_DIR";
        is_for_files.then(|| PathBuf::from(value))
    };
    let named = inherited_variables().filter_map(named);
    let named = named.filter(|directory| directory.is_absolute());
    let user = rustix::process::getuid().as_raw();
    let usual = ["/dev/shm", &format!("/run/user/{user}"), "/tmp", "/run"].map(PathBuf::from);
    // What the system keeps there is not for files.
    let is_for_files = |place: &PathBuf| {
        let of_system = ["/dev", "/sys", "/proc"];
        !of_system.iter().any(|it| place.starts_with(it))
    };
    let mounts = mountinfo::own().unwrap_or_default().into_iter();
    let tmpfs = mounts.filter(|mount| mount.kind == "tmpfs");
    let others = tmpfs.map(|mount| mount.path).filter(is_for_files);
    named
        .chain(usual)
        .chain(others)
        .chain(["/var/tmp".into()])
        .collect()
}
