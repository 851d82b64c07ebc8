//! A public mount: made by mount(2) as root, by the set-user-id program `fusermount3` otherwise.
//! A watchdog removes it should this process be killed.

use std::collections::hash_map::RandomState;
use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::{MountError, Operation, Remedy};
use super::holders;
use super::options::{MountOptions, shared_options};
use super::privately::{Connection, c_path, connection_at, given_directory, may_mount};
use super::target::{MountId, TargetDirectory, new_mount, unmount_line};
use super::watchdog::{AlsoRemove, Watchdog};
use crate::sys::child::Exit;
use crate::sys::launch::{Candidate, Launch, LaunchError};
use crate::sys::mountinfo::{self, MountLine};
use crate::sys::search_path::find_program;
use crate::sys::{null, socket};

/// How long unmounting is tried again while the mount is in use and no process is found that uses it.
///
/// A process that reads a link in /proc that leads into it, such as `/proc/PID/fd/3`, uses it for that moment
/// (`fs/proc/base.c`, `proc_pid_readlink`), and programs that list processes do so all the time.
const TRANSIENT_USE_MAX: Duration = Duration::from_secs(1);

/// A public mount. Dropping it detaches it and removes what was made for it, quietly.
#[derive(Debug)]
pub(crate) struct PublicMount {
    /// Where it was mounted; a directory above may have been renamed since.
    path: PathBuf,
    id: MountId,
    mounter: Mounter,
    /// Whether the directory was made for this mount.
    own_directory: bool,
    /// Whether another process unmounted it.
    is_gone: bool,
    /// Taken when there is nothing to watch any more.
    watchdog: Option<Watchdog>,
}

/// What mounts and unmounts.
#[derive(Debug)]
enum Mounter {
    /// This process, with mount(2).
    Root,
    /// `fusermount3` or its older sister.
    Helper(PathBuf),
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnmountMode {
    /// Only while no process uses it.
    Checked,
    /// Gone from its path now, alive for those who use it.
    Detach,
}

/// Mounts over `options.at`, or over a directory made for it that only we may enter. Returns the
/// device, which is not served yet.
///
/// # Errors
/// [`MountError`]; nothing is left of the attempt.
pub(crate) fn mount(options: &MountOptions) -> Result<(OwnedFd, PublicMount), MountError> {
    let (path, given) = match &options.at {
        Some(at) => {
            let (path, point) = free_directory(at, options.allow_nonempty)?;
            (path, Some(point))
        }
        None => (new_name(&options.directory_parent)?, None),
    };
    let own_directory = given.is_none();
    let mounter = Mounter::find(&path, options)?;
    let left = match own_directory {
        true => AlsoRemove::Directory,
        false => AlsoRemove::Nothing,
    };
    let watchdog = Watchdog::start(&path, left, mounter.helper())
        .map_err(|error| MountError::system(Operation::StartWatchdog, &path, error))?;
    let mounted = mount_watched(options, &path, given, &mounter, &watchdog);
    let (device, id) = match mounted {
        Ok(mounted) => mounted,
        Err(error) => {
            if own_directory {
                let _ = std::fs::remove_dir(&path);
            }
            watchdog.dismiss();
            return Err(error);
        }
    };
    let watchdog = Some(watchdog);
    Ok((
        device,
        PublicMount {
            path,
            id,
            mounter,
            own_directory,
            is_gone: false,
            watchdog,
        },
    ))
}

fn mount_watched(
    options: &MountOptions,
    path: &Path,
    given: Option<TargetDirectory>,
    mounter: &Mounter,
    watchdog: &Watchdog,
) -> Result<(OwnedFd, MountId), MountError> {
    let point = match given {
        Some(point) => point,
        None => DirBuilder::new()
            .mode(0o700)
            .create(path)
            .and_then(|()| TargetDirectory::made(path))
            .map_err(|error| MountError::system(Operation::MakeDirectory, path, error))?,
    };
    let helper = match mounter {
        Mounter::Root => return mount_as_root(options, path, &point, watchdog),
        Mounter::Helper(helper) => helper,
    };
    let device = mount_by_helper(options, path, helper, watchdog)?;
    // The device is dropped on an error below: that ends the connection, not the mount.
    let identified = point.covered_by().and_then(|id| {
        watchdog.watch(id)?;
        Ok(id)
    });
    identified.map(|id| (device, id)).map_err(|error| {
        let _ = unmount_by_helper(helper, path, UnmountMode::Detach);
        MountError::system(Operation::Mount, path, error)
    })
}

impl PublicMount {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connection(&self) -> Connection {
        self.id.connection
    }

    /// Where it stands now; where it was mounted when it is gone.
    pub(crate) fn current_path(&self) -> PathBuf {
        match self.id.find() {
            Ok(Some((line, _))) => line.path,
            _ => self.path.clone(),
        }
    }

    /// Called when the session has ended, by which the mount is gone or dead. What answers in its place is another,
    /// though its numbers may have been given to it again. True when it is there, and dead.
    pub(crate) fn look_again(&mut self) -> bool {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT;
        let looked = statx(CWD, self.current_path(), flags, StatxFlags::BASIC_STATS);
        self.is_gone = !matches!(looked, Err(Errno::NOTCONN));
        !self.is_gone
    }

    /// Whether it may still be what stands at its path, without asking who serves it.
    pub(crate) fn may_stand(&self, root: &Path) -> bool {
        let path = self.current_path();
        let path = root.join(path.strip_prefix("/").unwrap_or(&path));
        connection_at(CWD, &c_path(&path)).is_ok_and(|there| there == self.connection())
    }

    /// Unmounts, and removes the directory that was made for it.
    ///
    /// # Errors
    /// [`MountError::Busy`] while a process uses it, [`MountError::Covered`] when something else was
    /// mounted on top. It is still mounted then.
    pub(crate) fn unmount(&mut self) -> Result<(), MountError> {
        self.leave(UnmountMode::Checked)
    }

    /// Takes it from its path although processes use it.
    pub(crate) fn detach(&mut self) -> Result<(), MountError> {
        self.leave(UnmountMode::Detach)
    }

    fn leave(&mut self, mode: UnmountMode) -> Result<(), MountError> {
        if self.watchdog.is_none() {
            return Ok(());
        }
        let path = self.current_path();
        if !self.is_gone {
            self.mounter.unmount(self.id, &path, mode)?;
        }
        if self.own_directory {
            let removed = std::fs::remove_dir(&path);
            removed
                .map_err(|error| MountError::system(Operation::RemoveDirectory, &path, error))?;
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        Ok(())
    }

    /// Ends the connection as root can; the mount may go with it.
    pub(crate) fn abort(&self) -> io::Result<()> {
        match self.mounter {
            Mounter::Root => match self.id.find()? {
                Some((line, _)) => Ok(unmount_line(&line, UnmountFlags::FORCE)?),
                None => Ok(()),
            },
            Mounter::Helper(_) => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// Names the processes that use a mount which the system calls busy.
fn explain(error: MountError, path: &Path, connection: Connection) -> MountError {
    let busy = match &error {
        MountError::System { error, .. } => error.raw_os_error() == Some(libc::EBUSY),
        MountError::Helper { message, .. } => message.contains("busy"),
        _ => false,
    };
    if busy {
        MountError::busy(path, holders::users(connection).unwrap_or_default())
    } else {
        error
    }
}

impl Drop for PublicMount {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            log::debug!("left to the watchdog: {error}");
        }
    }
}

impl Mounter {
    fn find(path: &Path, options: &MountOptions) -> Result<Self, MountError> {
        if may_mount() {
            return Ok(Mounter::Root);
        }
        // `fusermount` is of the older library.
        find_program(&["fusermount3", "fusermount"], &options.helper_path)
            .map(Mounter::Helper)
            .ok_or_else(|| MountError::HelperMissing {
                path: path.to_owned(),
            })
    }

    fn helper(&self) -> Option<&Path> {
        match self {
            Mounter::Root => None,
            Mounter::Helper(helper) => Some(helper),
        }
    }

    /// Unmounts this mount, wherever it stands by now; one that is gone is no error. `path` is for what is told.
    ///
    /// Tries again for a while where it is in use and no process uses it, and where a directory above was renamed
    /// meanwhile.
    fn unmount(&self, id: MountId, path: &Path, mode: UnmountMode) -> Result<(), MountError> {
        let fail = |error| MountError::system(Operation::Unmount, path, error);
        let give_up = Instant::now() + TRANSIENT_USE_MAX;
        loop {
            let line = match id.find().map_err(fail)? {
                None => return Ok(()),
                Some((line, true)) => return Err(MountError::Covered { path: line.path }),
                Some((line, false)) => line,
            };
            let Err(error) = self.try_unmount(&line, mode) else {
                return Ok(());
            };
            let error = explain(error, &line.path, id.connection);
            let now = id.find().map_err(fail)?;
            let passes = now.is_none_or(|(now, _)| now.path != line.path)
                || match &error {
                    MountError::Busy { holders, .. } => holders.is_empty(),
                    MountError::System { error, .. } => error.raw_os_error() == Some(libc::ESTALE),
                    _ => false,
                };
            if !passes || Instant::now() >= give_up {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn try_unmount(&self, line: &MountLine, mode: UnmountMode) -> Result<(), MountError> {
        match self {
            Mounter::Root => {
                let how = match mode {
                    UnmountMode::Detach => UnmountFlags::DETACH,
                    UnmountMode::Checked => UnmountFlags::empty(),
                };
                unmount_line(line, how).map_err(|errno| {
                    MountError::system(Operation::Unmount, &line.path, errno.into())
                })
            }
            Mounter::Helper(helper) => unmount_by_helper(helper, &line.path, mode),
        }
    }
}

fn unmount_by_helper(helper: &Path, path: &Path, mode: UnmountMode) -> Result<(), MountError> {
    let option = if mode == UnmountMode::Detach {
        c"-uz"
    } else {
        c"-u"
    };
    let call = HelperCall {
        helper,
        path,
        arguments: vec![option.to_owned()],
        comm: None,
        alive: None,
    };
    call.run()
}

/// Unmounts the notapipe mount at a path, whichever process serves it; `lazy` detaches one that is in use.
///
/// The path is looked up without asking the mount itself, so that a dead or a stuck one can be removed too.
/// `helper_path` is where `fusermount3` is looked for, as in the environment variable PATH.
///
/// # Errors
/// [`MountError::NotMounted`] when something else or nothing is mounted there, [`MountError::Busy`] when
/// processes use it, and what the system refused.
///
/// # Examples
///
/// ```
/// use notapipe::{Interrupt, Scratch, mount};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let scratch = Scratch::builder().public_at(directory).build()?;
/// mount::unmount_at(directory, false, "/usr/bin:/bin".as_ref())?;
/// // The process that serves it notices.
/// scratch.wait(&Interrupt::new()?)?;
/// # Ok(())
/// # }
/// ```
pub fn unmount_at(path: &Path, lazy: bool, helper_path: &OsStr) -> Result<(), MountError> {
    let find = |error| MountError::system(Operation::FindDirectory, path, error);
    let place = resolve_parent(path).map_err(find)?;
    let line = mountinfo::top_at(&place).map_err(find)?;
    let Some(line) = line.filter(|line| line.kind == "fuse.notapipe") else {
        return Err(MountError::NotMounted {
            path: path.to_owned(),
        });
    };
    let options = MountOptions {
        helper_path: helper_path.to_owned(),
        ..MountOptions::default()
    };
    let mounter = Mounter::find(&place, &options)?;
    let mode = if lazy {
        UnmountMode::Detach
    } else {
        UnmountMode::Checked
    };
    let id = MountId::of(&line).ok_or_else(|| find(io::ErrorKind::InvalidData.into()))?;
    mounter.unmount(id, &place, mode)
}

/// The path without symlinks in all but its last part, which is not looked at.
fn resolve_parent(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            Ok(parent.canonicalize()?.join(name))
        }
        // `.`, `..` and `/` have no name of their own.
        _ => path.canonicalize(),
    }
}

/// The watchdog knows the mount before it stands anywhere.
fn mount_as_root(
    options: &MountOptions,
    path: &Path,
    point: &TargetDirectory,
    watchdog: &Watchdog,
) -> Result<(OwnedFd, MountId), MountError> {
    let device = openat(
        CWD,
        c"/dev/fuse",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| MountError::system(Operation::OpenDevice, path, errno.into()))?;
    let fail = |error| MountError::system(Operation::Mount, path, error);
    let mount = new_mount(options, &device).map_err(|errno| fail(errno.into()))?;
    let id = MountId::at(&mount, Path::new("")).map_err(|errno| fail(errno.into()))?;
    watchdog.watch(id).map_err(fail)?;
    point.cover(mount).map_err(|errno| fail(errno.into()))?;
    Ok((device, id))
}

/// fusermount3(1) opens the device, mounts, and sends it to us over the socket that the environment
/// names.
fn mount_by_helper(
    options: &MountOptions,
    path: &Path,
    helper: &Path,
    watchdog: &Watchdog,
) -> Result<OwnedFd, MountError> {
    let fail = |error| MountError::system(Operation::Mount, path, error);
    let (ours, theirs) = socket::pair(SocketType::STREAM).map_err(fail)?;
    let checks = options.default_permissions.unwrap_or(true);
    let shared = shared_options(options, options.allow_other, checks);
    // A comma or a backslash in a name is escaped (util/fusermount.c, get_string_opt).
    let source = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let access = if options.read_only { "ro" } else { "rw" };
    let execution = if options.no_exec { ",noexec" } else { "" };
    let list = format!("{access},nosuid,nodev{execution},fsname={source},subtype=notapipe{shared}");
    let list = CString::new(list).map_err(|error| fail(error.into()))?;
    let arguments = vec![c"-o".to_owned(), list];
    let call = HelperCall {
        helper,
        path,
        arguments,
        comm: Some(&theirs),
        alive: Some(watchdog),
    };
    call.run()?;
    drop(theirs);
    let device = socket::receive(ours.as_fd()).and_then(|received| {
        let device = received.and_then(|(_, mut descriptors)| descriptors.pop());
        device.ok_or_else(|| io::Error::other("fusermount3 sent no device"))
    });
    device.map_err(|error| {
        let _ = unmount_by_helper(helper, path, UnmountMode::Detach);
        fail(error)
    })
}

/// One call of `fusermount3`.
struct HelperCall<'a> {
    helper: &'a Path,
    path: &'a Path,
    arguments: Vec<CString>,
    /// Where it sends the device to.
    comm: Option<&'a OwnedFd>,
    /// Who must not take us for dead while it runs.
    alive: Option<&'a Watchdog>,
}

impl HelperCall<'_> {
    fn run(self) -> Result<(), MountError> {
        let (exit, said) = self
            .execute()
            .map_err(|error| MountError::system(Operation::Mount, self.path, error))?;
        if exit.success() {
            return Ok(());
        }
        let message = said.trim().to_owned();
        let remedy = helper_remedy(&message);
        Err(MountError::Helper {
            program: self.helper.to_owned(),
            path: self.path.to_owned(),
            message,
            remedy,
        })
    }

    /// Returns what it said on standard error.
    fn execute(&self) -> io::Result<(Exit, String)> {
        let null = null::open()?;
        let (messages, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let comm = self.comm.map(AsFd::as_fd);
        let child = Launch {
            programs: vec![Candidate {
                path: c_path(self.helper),
                decides: true,
            }],
            arguments: self.words(),
            environment: self.environment()?,
            directory: Some(c"/".to_owned()),
            keep: comm
                .into_iter()
                .chain(self.alive.map(Watchdog::alive))
                .collect(),
            ..Launch::new([null.as_fd(), null.as_fd(), theirs.as_fd()])
        }
        .start()
        .map_err(LaunchError::into_io)?;
        drop(theirs);
        let mut said = Vec::new();
        File::from(messages).read_to_end(&mut said)?;
        let exit = match child.wait() {
            Ok(end) => end.exit,
            // This program ignores SIGCHLD, so that the status is lost; what was said is not.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                Exit::Code(i32::from(!said.is_empty()))
            }
            Err(error) => return Err(error),
        };
        Ok((exit, String::from_utf8_lossy(&said).into_owned()))
    }

    fn words(&self) -> Vec<CString> {
        let mut words = vec![c"fusermount3".to_owned()];
        words.extend(self.arguments.iter().cloned());
        words.extend([c"--".to_owned(), c_path(self.path)]);
        words
    }

    fn environment(&self) -> io::Result<Vec<CString>> {
        let comm = self
            .comm
            .map(|comm| CString::new(format!("_FUSE_COMMFD={}", comm.as_raw_fd())));
        Ok(comm.transpose()?.into_iter().collect())
    }
}

fn helper_remedy(message: &str) -> Option<Remedy> {
    if message.contains("user_allow_other") {
        Some(Remedy::AllowOther)
    } else if message.contains("device not found") {
        Some(Remedy::ProvideDevice)
    } else if message.contains("/dev/fuse: Permission denied")
        || message.contains("/dev/fuse: Operation not permitted")
    {
        Some(Remedy::OpenUpDevice)
    } else if message.contains("mount failed: Operation not permitted") {
        Some(Remedy::LoosenSandbox)
    } else {
        None
    }
}

/// An existing directory and its path, empty unless that does not matter.
fn free_directory(
    at: &Path,
    allow_nonempty: bool,
) -> Result<(PathBuf, TargetDirectory), MountError> {
    let point = TargetDirectory::given(at)?;
    let path = point
        .path()
        .map_err(|error| MountError::system(Operation::FindDirectory, at, error))?;
    if !allow_nonempty && !point.is_empty() {
        return Err(MountError::NotEmpty { path });
    }
    Ok((path, point))
}

/// A new name. Only a name: the watchdog must know it before the directory exists.
fn new_name(parent: &Path) -> Result<PathBuf, MountError> {
    let parent = given_directory(parent)?;
    let random = RandomState::new().build_hasher().finish();
    Ok(parent.join(format!("notapipe-{random:016x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_helper_says_leads_to_a_remedy() {
        let said = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf";
        assert_eq!(helper_remedy(said), Some(Remedy::AllowOther));
        assert_eq!(
            helper_remedy("fusermount3: fuse device not found, try 'modprobe fuse' first"),
            Some(Remedy::ProvideDevice)
        );
        assert_eq!(helper_remedy("fusermount3: bad mount point"), None);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        assert!(matches!(
            free_directory(Path::new("/etc"), false),
            Err(MountError::NotEmpty { .. })
        ));
        assert!(free_directory(Path::new("/etc"), true).is_ok());
    }
}
