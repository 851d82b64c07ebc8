//! A mount in namespaces of its own: nobody else sees it, and the kernel removes it when we end,
//! however we end.
//!
//! A short-lived child makes the namespaces, opens `/dev/fuse` inside (the kernel takes only a
//! device that was opened in the user namespace of the mount: `fs/fuse/inode.c`, `fuse_get_tree`),
//! mounts, opens the namespaces' descriptors and exits. It shares our descriptor table, so what it
//! opens is ours, close-on-exec. Nothing is forked: see [`vfork`](crate::sys::vfork).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change,
    move_mount, open_tree,
};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::error::{MountError, Operation, Remedy};
use super::options::{MountOptions, device_options, mount_flags};
use super::tmp::{self, OwnDirectories, OwnTmp};
use crate::store::{Limits, PAGE_SIZE};
use crate::sys::child::Exit;
use crate::sys::namespaces::Namespaces;
use crate::sys::vfork::vfork;

/// A mounted device that nobody serves yet, in namespaces of its own.
#[derive(Debug)]
pub(crate) struct PrivateMount {
    /// `/dev/fuse`, connected to the mount.
    pub(crate) device: OwnedFd,
    /// Where the mount stands, seen from inside.
    pub(crate) path: PathBuf,
    pub(crate) namespaces: Namespaces,
    pub(crate) connection: Connection,
    /// What of the directories for temporary files is for it alone.
    pub(crate) own: Option<OwnDirectories>,
}

/// The kernel's number of a FUSE connection: the minor device number of its file system, and its
/// name in `/sys/fs/fuse/connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Connection {
    /// As mountinfo writes it.
    pub(crate) fn device(self) -> String {
        format!("{}:{}", self.major, self.minor)
    }

    /// From what mountinfo writes.
    pub(crate) fn parse(device: &str) -> Option<Self> {
        let (major, minor) = device.split_once(':')?;
        Some(Connection {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// Directories that the job's mount may cover, in order of preference: the first that exists and is
/// empty, so that nothing a tool may need is hidden and the path is the same in every run.
///
/// They are the file hierarchy standard's places for things that come and go. The last one needs
/// only a kernel with FUSE: an empty directory made to be mounted upon (`fs/fuse/inode.c`,
/// `fuse_sysfs_init`), which at most hides a list of connections from the job.
const MOUNT_POINTS: [&str; 8] = [
    "/mnt",
    "/media",
    "/srv",
    "/opt",
    "/var/opt",
    "/var/local",
    "/usr/local/games",
    LAST_RESORT,
];
const LAST_RESORT: &str = "/sys/fs/fuse/connections";

/// Mounts at `options.at`, or else at the first free of the usual places. Returns before anybody
/// serves the device: until then, whoever opens something there waits.
///
/// # Errors
/// The step that the kernel refused, with the remedy where one is known.
pub(crate) fn mount(options: &MountOptions) -> Result<PrivateMount, MountError> {
    let path = mount_point(options.at.as_deref())?;
    let plan = Plan::new(&path, options);
    let mut found = Found::room(plan.tmp.as_ref());
    // SAFETY: `build` makes system calls on what `plan` holds, and stores descriptors in `found`.
    unsafe { in_child(&path, || build(&plan, &mut found)) }?;
    let own = found.own(plan.tmp.as_ref());
    let lost = || MountError::system(Operation::Mount, &path, Errno::BADF.into());
    found.into_mount(path.clone(), own).ok_or_else(lost)
}

/// What stands in a mount's place where there is no FUSE.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Files<'p> {
    /// An ordinary directory.
    Directory(&'p Path),
    /// A new tmpfs, whose limits the kernel holds, and the mode of its root.
    Tmpfs(Limits, u32),
}

/// Files in namespaces that only the processes started in them see.
#[derive(Debug)]
pub(crate) struct BoundFiles {
    /// Where they are in there, without symlinks.
    pub(crate) path: PathBuf,
    /// Their directory, for who is outside.
    pub(crate) files: OwnedFd,
    pub(crate) namespaces: Namespaces,
    pub(crate) own: Option<OwnDirectories>,
}

/// Has a directory or a tmpfs stand at a path, in namespaces that only the processes started in them see.
///
/// # Errors
/// The step that the kernel refused, with the remedy where one is known.
pub(crate) fn bind(
    files: Files<'_>,
    at: Option<&Path>,
    own_tmp: Option<&OwnTmp>,
) -> Result<BoundFiles, MountError> {
    let path = mount_point(at)?;
    let target = c_path(&path);
    let source = match files {
        Files::Directory(directory) => Ok(c_path(directory)),
        Files::Tmpfs(limits, mode) => Err(c_string(tmpfs_options(limits, mode))),
    };
    let user = needs_user_namespace().then(Maps::identity);
    let tmp = own_tmp.map(|wanted| tmp::Plan::new(wanted, &path, user.is_some()));
    let mut found = Found::room(tmp.as_ref());
    let build = || {
        make_namespaces(user.as_ref(), tmp.is_some(), &mut found)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = match &source {
            Ok(source) => open_tree(CWD, source.as_c_str(), flags).map(Ok),
            Err(options) => Ok(Err(options)),
        };
        let tree = tree.map_err(self::at(Operation::Mount))?;
        if let Some(tmp) = &tmp {
            tmp::build(tmp, &target, found.ipc.is_some(), &mut found.tmp);
        }
        let mounted = match tree {
            Ok(tree) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(&tree, c"", CWD, target.as_c_str(), flags)
            }
            Err(options) => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                let options = Some(options.as_c_str());
                rustix::mount::mount(c"notapipe", target.as_c_str(), c"tmpfs", flags, options)
            }
        };
        mounted.map_err(self::at(Operation::Mount))?;
        let root = open(&target, OFlags::PATH | OFlags::DIRECTORY);
        found.files = Some(root.map_err(self::at(Operation::OpenNamespaces))?);
        keep_namespaces(user.is_some(), &mut found).map_err(self::at(Operation::OpenNamespaces))
    };
    // SAFETY: system calls on what was made before, and descriptors stored in `found`.
    unsafe { in_child(&path, build) }?;
    let own = found.own(tmp.as_ref());
    let lost = || MountError::system(Operation::Mount, &path, Errno::BADF.into());
    let files = found.files.take().ok_or_else(lost)?;
    let namespaces = found.into_namespaces().ok_or_else(lost)?;
    Ok(BoundFiles {
        path,
        files,
        namespaces,
        own,
    })
}

/// The last page and the last inode are none of the job's: who has taken one of them was over the limit (tmpfs(5)).
fn tmpfs_options(limits: Limits, mode: u32) -> String {
    const MOST_BYTES: u64 = 1 << 60;
    const MOST_INODES: u64 = 1 << 40;
    let bytes = limits.bytes.min(MOST_BYTES) + PAGE_SIZE;
    let inodes = limits.inodes.min(MOST_INODES) + 1;
    format!("size={bytes},nr_inodes={inodes},mode={mode:o}")
}

/// Does what makes a mount at `path` in a child that shares our descriptor table, and waits for it.
///
/// # Safety
///
/// As [`vfork`]: `work` makes system calls only. In the table it changes nothing but by opening.
unsafe fn in_child(
    path: &Path,
    mut work: impl FnMut() -> Result<(), (Operation, Errno)>,
) -> Result<(), MountError> {
    let forked = |error| MountError::system(Operation::Fork, path, error);
    let mut failure = None;
    // SAFETY: the caller's word.
    let child = unsafe {
        vfork(libc::CLONE_FILES, || {
            failure = work().err();
            0
        })
    };
    let end = child.map_err(forked)?.wait().map_err(forked)?;
    if let Some((operation, errno)) = failure {
        return Err(MountError::system(operation, path, errno.into()));
    }
    match end.exit {
        Exit::Code(0) => Ok(()),
        _ => Err(forked(io::Error::other(format!(
            "the child ended: {end:?}"
        )))),
    }
}

impl PrivateMount {
    /// Ends the connection: every request, waiting or to come, fails, and nobody hangs on it.
    pub(crate) fn abort(path: &Path, namespaces: &Namespaces) -> io::Result<()> {
        inside(path, namespaces, UnmountFlags::FORCE)
    }

    /// Whether it may still be mounted. Its number is given to another mount as soon as it is not, which
    /// [`abort`](Self::abort) may have brought about.
    pub(crate) fn may_stand(path: &Path, namespaces: &Namespaces, connection: Connection) -> bool {
        let inside = path.strip_prefix("/").unwrap_or(path);
        // Mounts below a directory are those of its namespace, whoever looks. An ordinary user is not let in.
        connection_at(&namespaces.root, &c_path(inside)).map_or(true, |there| there == connection)
    }

    /// Unmounts now, even if somebody else keeps the namespace.
    pub(crate) fn unmount(path: &Path, namespaces: &Namespaces) -> io::Result<()> {
        inside(path, namespaces, UnmountFlags::NOFOLLOW)
    }
}

/// umount2(2) from inside.
fn inside(path: &Path, namespaces: &Namespaces, flags: UnmountFlags) -> io::Result<()> {
    let path = c_path(path);
    let mut result = Ok(());
    // SAFETY: system calls only, on values made before.
    let child = unsafe {
        vfork(0, || {
            result = namespaces
                .enter(None)
                .map_err(|(_, errno)| errno)
                .and_then(|()| rustix::mount::unmount(path.as_c_str(), flags));
            0
        })
    }?;
    child.wait()?;
    Ok(result?)
}

/// What the child needs, made before it exists.
struct Plan {
    path: CString,
    source: CString,
    kind: CString,
    flags: MountFlags,
    /// Everything of the mount's data but the descriptor's number, which comes first.
    data_tail: CString,
    /// `uid_map` and `gid_map`, where a user namespace is needed.
    user: Option<Maps>,
    tmp: Option<tmp::Plan>,
}

struct Maps {
    users: CString,
    groups: CString,
}

impl Plan {
    fn new(path: &Path, options: &MountOptions) -> Self {
        let user = needs_user_namespace().then(Maps::identity);
        // Within a user namespace there is one user only, and the kernel lets in just those inside it,
        // whatever the option says. Outside of one, a step of root's job may become another user: it
        // then meets a mount that is not its own, unless others were asked for; and where others come
        // in, the kernel has to check what they may do.
        let everybody = options.allow_other || user.is_some();
        let checks = options.default_permissions.unwrap_or(everybody);
        let own_tmp = options.own_tmp.as_ref();
        Plan {
            tmp: own_tmp.map(|wanted| tmp::Plan::new(wanted, path, user.is_some())),
            path: c_path(path),
            source: c_string(options.source.clone()),
            kind: c"fuse.notapipe".to_owned(),
            flags: mount_flags(options),
            data_tail: c_string(device_options(options, everybody, checks)),
            user,
        }
    }
}

impl Maps {
    /// One's own ids mean themselves; all others are nobody's (user_namespaces(7)).
    fn identity() -> Self {
        let (user, group) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Maps {
            users: c_string(format!("{user} {user} 1")),
            groups: c_string(format!("{group} {group} 1")),
        }
    }
}

/// Root may mount by itself, unless it lacks the capability as in a default container.
pub(crate) fn may_mount() -> bool {
    is_capable_of(CapabilitySet::SYS_ADMIN)
}

/// Whether private mounts take a user namespace, in which all capabilities are: entering a mount namespace takes two
/// (setns(2)), and a container may be given one of them.
pub(crate) fn needs_user_namespace() -> bool {
    !is_capable_of(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT)
}

fn is_capable_of(needed: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// What the child leaves. The descriptors are in the table that we share with it.
#[derive(Default)]
struct Found {
    device: Option<OwnedFd>,
    user: Option<OwnedFd>,
    mount: Option<OwnedFd>,
    root: Option<OwnedFd>,
    connection: Option<Connection>,
    files: Option<OwnedFd>,
    ipc: Option<OwnedFd>,
    tmp: tmp::Made,
}

impl Found {
    /// Made before the child exists.
    fn room(tmp: Option<&tmp::Plan>) -> Self {
        Self {
            tmp: tmp.map(tmp::Plan::room).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn own(&self, tmp: Option<&tmp::Plan>) -> Option<OwnDirectories> {
        tmp.map(|plan| plan.own_directories(&self.tmp))
    }

    fn into_mount(mut self, path: PathBuf, own: Option<OwnDirectories>) -> Option<PrivateMount> {
        Some(PrivateMount {
            device: self.device.take()?,
            path,
            connection: self.connection?,
            own,
            namespaces: self.into_namespaces()?,
        })
    }

    fn into_namespaces(self) -> Option<Namespaces> {
        Some(Namespaces {
            user: self.user,
            ipc: self.ipc,
            tmpfs: self.tmp.tmpfs,
            mount: self.mount?,
            root: self.root?,
        })
    }
}

/// The child's work: system calls only, no allocation.
fn build(plan: &Plan, found: &mut Found) -> Result<(), (Operation, Errno)> {
    make_namespaces(plan.user.as_ref(), plan.tmp.is_some(), found)?;
    if let Some(tmp) = &plan.tmp {
        tmp::build(tmp, &plan.path, found.ipc.is_some(), &mut found.tmp);
    }
    found.device = Some(open(c"/dev/fuse", OFlags::RDWR).map_err(at(Operation::OpenDevice))?);
    mount_device(plan, found).map_err(at(Operation::Mount))?;
    found.connection = Some(connection_at(CWD, &plan.path).map_err(at(Operation::OpenNamespaces))?);
    keep_namespaces(plan.user.is_some(), found).map_err(at(Operation::OpenNamespaces))
}

/// A mount namespace, and one for IPC objects if that is wanted and there are any; in a user namespace where one is
/// needed.
fn make_namespaces(
    user: Option<&Maps>,
    ipc: bool,
    found: &mut Found,
) -> Result<(), (Operation, Errno)> {
    if let Some(maps) = user {
        unshare(UnshareFlags::NEWUSER).map_err(at(Operation::MakeUserNamespace))?;
        write_maps(maps).map_err(at(Operation::MapUser))?;
    }
    unshare(UnshareFlags::NEWNS).map_err(at(Operation::MakeMountNamespace))?;
    if ipc {
        match unshare(UnshareFlags::NEWIPC) {
            Ok(()) => {
                let opened = open(c"/proc/self/ns/ipc", OFlags::RDONLY);
                found.ipc = Some(opened.map_err(at(Operation::OpenNamespaces))?);
            }
            // The kernel has none.
            Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err((Operation::MakeIpcNamespace, errno)),
        }
    }
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change(c"/", slave).map_err(at(Operation::MakePropagationSlave))
}

fn at(operation: Operation) -> impl Fn(Errno) -> (Operation, Errno) {
    move |errno| (operation, errno)
}

fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: never with `FILES`, so that no descriptor changes hands.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn write_maps(maps: &Maps) -> Result<(), Errno> {
    // Before a group is mapped, setgroups(2) must be given up (user_namespaces(7)).
    write(c"/proc/self/setgroups", c"deny")?;
    write(c"/proc/self/uid_map", &maps.users)?;
    write(c"/proc/self/gid_map", &maps.groups)
}

fn write(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY)?;
    rustix::io::write(&file, text.to_bytes()).map(drop)
}

fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn mount_device(plan: &Plan, found: &Found) -> Result<(), Errno> {
    let Some(device) = &found.device else {
        return Err(Errno::BADF);
    };
    let mut data = DataBuffer::new();
    data.push(b"fd=");
    data.push_number(std::os::fd::AsRawFd::as_raw_fd(device).unsigned_abs());
    data.push(plan.data_tail.to_bytes());
    let data = data.as_c_str().ok_or(Errno::TOOBIG)?;
    rustix::mount::mount(
        plan.source.as_c_str(),
        plan.path.as_c_str(),
        plan.kind.as_c_str(),
        plan.flags,
        Some(data),
    )
}

fn keep_namespaces(has_user: bool, found: &mut Found) -> Result<(), Errno> {
    if has_user {
        found.user = Some(open(c"/proc/self/ns/user", OFlags::RDONLY)?);
    }
    found.mount = Some(open(c"/proc/self/ns/mnt", OFlags::RDONLY)?);
    found.root = Some(open(c"/", OFlags::PATH | OFlags::DIRECTORY)?);
    // Whether they can be entered again: a sandbox may allow one and not the other.
    let mount = found.mount.as_ref().ok_or(Errno::BADF)?;
    move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))
}

/// The connection mounted here. Asks the kernel's cache only: nobody need serve it.
pub(super) fn connection_at(directory: impl AsFd, path: &CStr) -> Result<Connection, Errno> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let stat = statx(directory, path, flags, StatxFlags::TYPE)?;
    Ok(Connection {
        major: stat.stx_dev_major,
        minor: stat.stx_dev_minor,
    })
}

/// The mount's data, put together without allocating because the descriptor's number is known only
/// in the child.
pub(super) struct DataBuffer {
    bytes: [u8; 512],
    length: usize,
}

impl DataBuffer {
    pub(super) fn new() -> Self {
        DataBuffer {
            bytes: [0; 512],
            length: 0,
        }
    }

    /// What does not fit is left out, which [`as_c_str`](Self::as_c_str) then tells.
    pub(super) fn push(&mut self, text: &[u8]) {
        let end = self.length + text.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(text);
        }
        self.length = end;
    }

    pub(super) fn push_number(&mut self, number: u32) {
        let mut divisor = 1_000_000_000;
        let mut started = false;
        while divisor > 0 {
            let digit = (number / divisor % 10) as u8;
            started |= digit != 0 || divisor == 1;
            if started {
                self.push(&[b'0' + digit]);
            }
            divisor /= 10;
        }
    }

    pub(super) fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(self.bytes.get(..=self.length)?).ok()
    }
}

/// The directory that will be covered, with symlinks resolved so that getcwd(3) agrees.
fn mount_point(at: Option<&Path>) -> Result<PathBuf, MountError> {
    match at {
        Some(path) => given_directory(path),
        None => {
            for path in MOUNT_POINTS.map(Path::new) {
                let failed = |error| MountError::system(Operation::FindDirectory, path, error);
                if is_free(path).map_err(failed)? {
                    return Ok(path.to_owned());
                }
            }
            Err(MountError::NoMountPoint {
                tried: MOUNT_POINTS.map(PathBuf::from).to_vec(),
            })
        }
    }
}

/// Directories that programs need, ours before all: what makes a private mount looks at `/proc` and `/dev` in it, and the
/// init of a job mounts its own `/proc`.
const NEEDED: [&str; 4] = ["/", "/dev", "/proc", "/sys"];

/// An existing directory that may be mounted over, its path without symlinks.
pub(crate) fn given_directory(path: &Path) -> Result<PathBuf, MountError> {
    let resolved = std::fs::canonicalize(path)
        .map_err(|error| MountError::system(Operation::FindDirectory, path, error))?;
    if !resolved.is_dir() {
        return Err(MountError::NotADirectory {
            path: path.to_owned(),
        });
    }
    refuse_needed(&resolved)?;
    Ok(resolved)
}

/// Refuses a directory, given without symlinks, over which nothing may be mounted.
pub(super) fn refuse_needed(path: &Path) -> Result<(), MountError> {
    let is_needed = NEEDED.iter().any(|needed| path == Path::new(needed));
    match is_needed || path.starts_with("/proc") {
        true => Err(MountError::Needed {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Whether this is a directory, no symlink, empty, and not a place where looking makes mounts
/// appear (autofs shows an empty directory that is not).
///
/// # Errors
/// There is no descriptor, or no memory, to look with.
fn is_free(path: &Path) -> io::Result<bool> {
    const AUTOFS: rustix::fs::FsWord = 0x0187;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from) {
        Ok(directory) => directory,
        Err(error) if Remedy::of_shortage(&error).is_some() => return Err(error),
        Err(_) => return Ok(false),
    };
    // The field is of another width on other architectures.
    let automatic =
        rustix::fs::fstatfs(&directory).is_ok_and(|fs| i128::from(fs.f_type) == i128::from(AUTOFS));
    // A fusectl already mounted over the last resort lists connections of no interest to a job.
    Ok(path == Path::new(LAST_RESORT) || !automatic && is_empty(&directory))
}

/// Whether an open directory has no entries.
pub(crate) fn is_empty(directory: &OwnedFd) -> bool {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        if !entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")) {
            return false;
        }
    }
    true
}

/// A path that came from the system or was checked holds no NUL.
pub(crate) fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    c_string(path.as_os_str().as_bytes())
}

/// Cut off at a NUL, which no path and none of our options has.
pub(super) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes = text.into();
    if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
        bytes.truncate(end);
    }
    CString::new(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_holds_the_number_and_refuses_what_does_not_fit() {
        let mut data = DataBuffer::new();
        data.push(b"fd=");
        data.push_number(0);
        data.push(b",a=");
        data.push_number(40_960);
        assert_eq!(data.as_c_str().unwrap(), c"fd=0,a=40960");
        data.push(&[b'x'; 500]);
        assert_eq!(data.as_c_str(), None);
    }

    #[test]
    fn a_mount_point_must_be_a_directory_that_exists() {
        assert!(matches!(
            mount_point(Some(Path::new("/etc/passwd"))),
            Err(MountError::NotADirectory { .. })
        ));
        assert!(mount_point(Some(Path::new("/no/such/place"))).is_err());
        let free = mount_point(None).unwrap();
        assert_eq!(free, mount_point(None).unwrap());
    }
}
