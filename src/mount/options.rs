//! What a mount is asked to be.

use std::ffi::OsString;
use std::path::PathBuf;

use rustix::mount::MountFlags;

use super::tmp::OwnTmp;

/// Who is to see a mount; for [`MountOptions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Only the processes that are started in it; the kernel removes it when we end.
    Private,
    /// All processes of users who may enter the path.
    Public,
    /// Private where the system allows it, else public in a directory that only we may enter.
    #[default]
    Auto,
}

/// What a mount is asked to be.
///
/// # Examples
///
/// ```
/// use notapipe::Scratch;
/// use notapipe::mount::{MountOptions, Visibility};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let options = MountOptions {
///     visibility: Visibility::Private,
///     read_only: true,
///     ..MountOptions::default()
/// };
/// let scratch = Scratch::builder().mount(options).build()?;
/// scratch.write("word", "ceci")?;
/// let touched = scratch.run(["sh", "-c", "cat word; touch word"])?;
/// assert_eq!(touched.stdout.to_text(), "ceci");
/// assert!(touched.stderr.to_text().contains("Read-only file system"));
/// scratch.unmount()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Who is to see it.
    pub visibility: Visibility,
    /// An existing directory to mount over. Without one, a private mount takes an empty directory
    /// that every system has, and a public one makes a directory of its own.
    pub at: Option<PathBuf>,
    /// Let a public mount cover a directory that is not empty.
    pub allow_nonempty: bool,
    /// Of a private mount: directories for temporary files that its processes have for themselves. They have none
    /// unless said.
    pub own_tmp: Option<OwnTmp>,
    /// Let other users in. For a public mount an ordinary user needs `user_allow_other` in
    /// `/etc/fuse.conf`. In a private mount it concerns root's jobs only: steps that become another user
    /// are let in, and the kernel then checks permissions, which costs requests.
    pub allow_other: bool,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Honour set-user-id bits (root only).
    pub set_user_id: bool,
    /// Honour device nodes (root only).
    pub devices: bool,
    /// Let nothing in it be executed.
    pub no_exec: bool,
    /// Whether the kernel checks permissions. By default it does, except in a private mount that
    /// root makes for itself alone, where all checks would pass.
    pub default_permissions: Option<bool>,
    /// The most bytes one read may ask for. The kernel's own limit by default.
    pub max_read_bytes: Option<u32>,
    /// What df(1) and mount(8) show as the source.
    pub source: String,
    /// Where a public mount without `at` makes its directory.
    pub directory_parent: PathBuf,
    /// Where `fusermount3` is looked for, as in the environment variable PATH, before the usual
    /// places.
    pub helper_path: OsString,
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            visibility: Visibility::default(),
            at: None,
            allow_nonempty: false,
            own_tmp: None,
            allow_other: false,
            read_only: false,
            set_user_id: false,
            devices: false,
            no_exec: false,
            default_permissions: None,
            max_read_bytes: None,
            source: "notapipe".to_owned(),
            directory_parent: PathBuf::from("/tmp"),
            helper_path: OsString::new(),
        }
    }
}

/// mount(2)'s flags.
pub(crate) fn mount_flags(options: &MountOptions) -> MountFlags {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOSUID, !options.set_user_id);
    flags.set(MountFlags::NODEV, !options.devices);
    flags.set(MountFlags::NOEXEC, options.no_exec);
    flags
}

/// FUSE's own options but the descriptor (fuse(4), `fs/fuse/inode.c`), to be put behind `fd=N`.
pub(crate) fn device_options(options: &MountOptions, allow_other: bool, checks: bool) -> String {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    format!(
        ",rootmode=40000,user_id={user},group_id={group}{}",
        shared_options(options, allow_other, checks)
    )
}

/// The options that mount(2) and fusermount3(1) take alike.
pub(crate) fn shared_options(options: &MountOptions, allow_other: bool, checks: bool) -> String {
    let mut text = String::new();
    if checks {
        text.push_str(",default_permissions");
    }
    if allow_other {
        text.push_str(",allow_other");
    }
    if let Some(bytes) = options.max_read_bytes {
        text.push_str(&format!(",max_read={bytes}"));
    }
    text
}
