//! What is negotiated and cached, and why.

/// How much of what happens the mount gets to see, fixed when it is made. [`Scratch::watch`](crate::Scratch::watch)
/// and [`Scratch::follow`](crate::Scratch::follow) need [`Observed`](Self::Observed).
///
/// Both cache entries, attributes, missing names, pages, symlinks and directory listings without end:
/// every change comes through the kernel, which then knows of it, or through our own API, which tells the
/// kernel. Neither uses the kernel's writeback cache: it loses writes over the limit without a word, and
/// serves stale bytes after a change through the API.
///
/// Neither has the kernel pass data through to a file of another file system (`FUSE_PASSTHROUGH`, Linux 6.9, root only). It
/// is asked for in the answer to an open, so each open and release would be a request again: 35,770 requests instead of
/// 16,207 for a Game Boy build of 3,000 files, and 7.2 times tmpfs instead of 1.5 for the open, read and close of a small
/// file, before a backing file is even registered. What it would win is the first read and the write of large files, 1.4
/// and 1.9 times tmpfs without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// No request for open, close, create-and-open, flush or fsync: the fewest requests.
    ///
    /// Those answer ENOSYS once, after which the kernel does not ask again on this connection. A new file
    /// then costs one mknod and no release. `ATOMIC_O_TRUNC` is left out, so that the kernel truncates by
    /// a setattr: together with ENOSYS to open it would lose `O_TRUNC`.
    #[default]
    Fast,
    /// Every open and close of a file is seen, for events and for reports of what was read and written.
    ///
    /// Costs two requests more for each open of a file. Directories are still opened without a request.
    Observed,
}

/// How a mount is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeOptions {
    /// What is seen of opens and closes.
    pub profile: Profile,
    /// Whether files can have extended attributes.
    ///
    /// Where they can, the kernel asks for `security.capability` before the first write after each refresh
    /// of a file's attributes (`file_remove_privs`, fs/inode.c), and is told "none": on a Game Boy build of
    /// 2,000 files that was 15,012 of 112,574 requests. Where they cannot, it asks once and no more, and a
    /// process that wants one sees EOPNOTSUPP, as on many file systems.
    ///
    /// POSIX ACLs are none of them, in either case: `system.posix_acl_*` answers EOPNOTSUPP, and the mode bits decide
    /// alone. With `FUSE_POSIX_ACL` the kernel would check them, but it leaves to us what must happen when one is set:
    /// to clear the set-group-id bit, which it asks for by a flag (`SETXATTR_ACL_KILL_SGID`) that comes with
    /// `FUSE_SETXATTR_EXT` only. fuser 0.18 reads setxattr requests in the old form, without that field
    /// (`fuse_setxattr_in` in its ll/fuse_abi.rs), so that negotiating it would spoil every name, and leaving it out
    /// would leave a program its group's rights that the kernel means to take.
    pub extended_attributes: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            extended_attributes: true,
        }
    }
}

/// Kernel features to ask for where the kernel has them; all others stay off.
///
/// The kernel announces what it can, so an older one just gets fewer. The values are the bits of `fuse_init_in::flags`
/// (include/uapi/linux/fuse.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Feature {
    /// Lookups and readdirs of one directory side by side.
    ParallelDirops = 1 << 18,
    /// A symlink's target is read once.
    CacheSymlinks = 1 << 23,
    /// readdir fills the caches for the stat calls that follow it.
    Readdirplus = 1 << 13,
    /// [`Readdirplus`](Self::Readdirplus) only where processes call stat for what was listed.
    ReaddirplusAuto = 1 << 14,
    /// Cached pages stay until we say otherwise; without it a change of mtime drops them.
    ExplicitInvalData = 1 << 25,
    /// We clear set-id bits; without it every write asks for `security.capability`.
    HandleKillprivV2 = 1 << 28,
    /// Several direct reads or writes of one file at once.
    AsyncDio = 1 << 15,
}

impl Feature {
    pub(super) const WANTED: &[Self] = &[
        Self::ParallelDirops,
        Self::CacheSymlinks,
        Self::Readdirplus,
        Self::ReaddirplusAuto,
        Self::ExplicitInvalData,
        Self::HandleKillprivV2,
        Self::AsyncDio,
    ];
}
