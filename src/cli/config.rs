//! What `notapipe mount` is asked for, as plain values that are known to make sense.

use std::path::PathBuf;

use notapipe::Profile;
pub use notapipe::run::Verbosity;

use super::args::LimitArgs;

/// `notapipe mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// Where to mount.
    pub dir: PathBuf,
    /// What the mount may hold.
    pub limits: LimitArgs,
    /// What it holds at the beginning.
    pub from: Option<Filling>,
    /// Where its content goes at the end.
    pub save: Option<PathBuf>,
    /// Return when it is ready.
    pub background: bool,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Owner of the root directory, otherwise the caller.
    pub uid: Option<u32>,
    /// Group of the root directory, otherwise the caller's.
    pub gid: Option<u32>,
    /// Other users may enter, as far as permissions allow.
    pub allow_other: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Device nodes work (root only).
    pub devices: bool,
    /// Set-user-id bits work (root only).
    pub set_user_id: bool,
    /// Nothing in it can be executed.
    pub no_exec: bool,
    /// It may cover a directory that is not empty.
    pub nonempty: bool,
    /// What tools such as df show as its source.
    pub name: Option<String>,
    /// What it sees of opens and closes.
    pub profile: Profile,
    /// Who asks.
    pub caller: Caller,
    /// How much to tell.
    pub verbosity: Verbosity,
}

/// What a mount holds at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filling {
    /// All of a directory, or of an archive.
    Host(PathBuf),
    /// An archive on standard input.
    Stdin,
}

/// Who asks for a mount, which decides the exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A person at a shell.
    #[default]
    Person,
    /// mount(8), through fstab or `mount -t fuse.notapipe`.
    Mount8,
}
