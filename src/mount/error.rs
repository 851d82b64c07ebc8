//! Why a mount could not be made or removed, and what to do about it.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::process::Resource;

use crate::sys::proc::ProcessInfo;
use crate::text::{quoted, shown};

/// What was being done when there was a [`MountError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Looking for the directory to mount over.
    FindDirectory,
    /// Making a directory of one's own.
    MakeDirectory,
    /// Removing that directory.
    RemoveDirectory,
    /// Starting the process that makes the namespaces.
    Fork,
    /// unshare(2) of a user namespace.
    MakeUserNamespace,
    /// Writing the user namespace's id maps.
    MapUser,
    /// unshare(2) of a mount namespace.
    MakeMountNamespace,
    /// unshare(2) of an IPC namespace.
    MakeIpcNamespace,
    /// Keeping what is mounted inside from showing outside.
    MakePropagationSlave,
    /// Opening `/dev/fuse`.
    OpenDevice,
    /// mount(2).
    Mount,
    /// Opening the namespaces' descriptors.
    OpenNamespaces,
    /// Answering the kernel's first request.
    Serve,
    /// Starting the process that removes the mount if we are killed.
    StartWatchdog,
    /// umount2(2).
    Unmount,
    /// Waiting for the session's end.
    Join,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::FindDirectory => "find the directory",
            Operation::MakeDirectory => "make a directory",
            Operation::RemoveDirectory => "remove the directory made for the mount",
            Operation::Fork => "start a process for the mount",
            Operation::MakeUserNamespace => "make a user namespace for the mount",
            Operation::MapUser => "map our user into the namespace of the mount",
            Operation::MakeMountNamespace => "make a mount namespace for the mount",
            Operation::MakeIpcNamespace => "make an IPC namespace for the mount",
            Operation::MakePropagationSlave => "keep the mount from showing outside",
            Operation::OpenDevice => "open /dev/fuse for the mount",
            Operation::Mount => "mount",
            Operation::OpenNamespaces => "open the namespaces of the mount",
            Operation::Serve => "serve the mount",
            Operation::StartWatchdog => "start the watchdog of the mount",
            Operation::Unmount => "unmount",
            Operation::Join => "end the session of the mount",
        })
    }
}

/// What a person can change so that it works; of a [`MountError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// There is no `/dev/fuse`.
    ProvideDevice,
    /// `/dev/fuse` is there and may not be opened.
    OpenUpDevice,
    /// AppArmor keeps programs without a profile from using user namespaces (Ubuntu 23.10 and later).
    AllowUserNamespacesInAppArmor,
    /// `user.max_user_namespaces` is used up, or 0.
    RaiseUserNamespaces,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian's kernels).
    EnableUserNamespaces,
    /// A seccomp filter or a security module says no, as in a default container.
    LoosenSandbox,
    /// `fusermount3` is not installed.
    InstallFuse3,
    /// `allow_other` is not allowed to users.
    AllowOther,
    /// Processes still use the mount.
    EndHolders,
    /// A mount whose server is dead covers the directory.
    RemoveDeadMount,
    /// This process may have no more files open (RLIMIT_NOFILE).
    RaiseDescriptors,
    /// This user, or this control group, may have no more processes and threads (RLIMIT_NPROC, `pids.max`).
    RaiseProcesses,
    /// The machine, or the control group, has no memory left.
    FreeMemory,
    /// The machine may have no more files open (`fs.file-max`).
    RaiseFileMax,
    /// There is no `/proc`.
    MountProc,
    /// There is no `/bin/sh`.
    InstallShell,
    /// The root directory is no mount point, as in a plain chroot(2), where nothing keeps a mount from showing outside.
    BindRoot,
}

impl Remedy {
    /// What helps where a system call failed for want of descriptors, processes or memory; nothing where it failed for
    /// another reason, so that doing something else instead may help.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use notapipe::mount::Remedy;
    ///
    /// let too_many_files = io::Error::from_raw_os_error(24);
    /// assert_eq!(Remedy::of_shortage(&too_many_files), Some(Remedy::RaiseDescriptors));
    /// assert_eq!(Remedy::of_shortage(&io::ErrorKind::PermissionDenied.into()), None);
    /// ```
    #[must_use]
    pub fn of_shortage(error: &io::Error) -> Option<Self> {
        match errno_in(error)? {
            libc::EMFILE => Some(Self::RaiseDescriptors),
            libc::ENFILE => Some(Self::RaiseFileMax),
            libc::EAGAIN => Some(Self::RaiseProcesses),
            libc::ENOMEM => Some(Self::FreeMemory),
            _ => None,
        }
    }
}

/// The error's number, or that of what it was made from.
fn errno_in(error: &io::Error) -> Option<i32> {
    let cause = || error.get_ref()?.source()?.downcast_ref().and_then(errno_in);
    error.raw_os_error().or_else(cause)
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::ProvideDevice => {
                "load the kernel's fuse module (modprobe fuse), or start the container with --device /dev/fuse"
            }
            Remedy::OpenUpDevice => {
                "make the device usable (chmod 0666 /dev/fuse), or start the container with --device /dev/fuse"
            }
            Remedy::AllowUserNamespacesInAppArmor => {
                "set kernel.apparmor_restrict_unprivileged_userns=0 with sysctl, or give the program an AppArmor \
                 profile with the rule `userns,`"
            }
            Remedy::RaiseUserNamespaces => {
                "raise user.max_user_namespaces and user.max_mnt_namespaces with sysctl"
            }
            Remedy::EnableUserNamespaces => "set kernel.unprivileged_userns_clone=1 with sysctl",
            Remedy::LoosenSandbox => {
                "allow mounting to this sandbox or container (docker run --cap-add SYS_ADMIN \
                 --security-opt apparmor=unconfined, or a seccomp profile that allows unshare, setns and mount)"
            }
            Remedy::InstallFuse3 => "install the package fuse3 (or fuse)",
            Remedy::AllowOther => "put the line `user_allow_other` into /etc/fuse.conf",
            Remedy::RemoveDeadMount => {
                "a dead mount covers it: remove that with fusermount3 -u, or umount as root"
            }
            Remedy::EndHolders => "end the processes that use it, or detach it",
            Remedy::RaiseDescriptors => {
                return write!(
                    f,
                    "raise the limit of open files{} (ulimit -n; docker run --ulimit nofile=NUMBER)",
                    current_limit(Resource::Nofile)
                );
            }
            Remedy::RaiseProcesses => {
                return write!(
                    f,
                    "raise the limit of processes and threads{} (ulimit -u; pids.max of the control group: \
                     docker run --pids-limit NUMBER), or end some",
                    current_limit(Resource::Nproc)
                );
            }
            Remedy::FreeMemory => {
                "free some memory, or raise the limit (ulimit -v; memory.max of the control group: \
                 docker run --memory SIZE)"
            }
            Remedy::RaiseFileMax => "close some files, or raise fs.file-max with sysctl",
            Remedy::MountProc => "mount /proc (mount -t proc proc /proc)",
            Remedy::BindRoot => {
                "the root directory is no mount point: bind it to itself before chroot (mount --bind DIR DIR)"
            }
            Remedy::InstallShell => "a shell is needed as /bin/sh: install one (the package dash or busybox)",
        })
    }
}

/// To be put behind the name of the limit, where there is one.
fn current_limit(resource: Resource) -> String {
    let limit = rustix::process::getrlimit(resource).current;
    limit.map_or_else(String::new, |limit| format!(", which is {limit}"))
}

/// Why a mount could not be made or removed.
///
/// # Examples
///
/// ```
/// let error = notapipe::Scratch::builder().public_at("/no/such/place").build().unwrap_err();
/// let notapipe::Error::Mount(error) = error else { panic!("{error}") };
/// assert!(!error.lacks_fuse(), "what was asked for is wrong");
/// assert_eq!(error.remedy(), None);
/// assert!(error.to_string().starts_with("cannot find the directory \"/no/such/place\""));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The system refused a step.
    #[error("cannot {operation} {path}: {error}{}", hint(*remedy), path = quoted(path))]
    System {
        /// Which step.
        operation: Operation,
        /// Where the mount was to stand, or stands.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
        /// What may help.
        remedy: Option<Remedy>,
    },
    /// `fusermount3` refused.
    #[error(
        "{program} cannot mount or unmount {path}: {}{}",
        shown(message),
        hint(*remedy),
        program = quoted(program),
        path = quoted(path)
    )]
    Helper {
        /// The program that was asked.
        program: PathBuf,
        /// Where the mount was to stand, or stands.
        path: PathBuf,
        /// What it said.
        message: String,
        /// What may help.
        remedy: Option<Remedy>,
    },
    /// Neither `fusermount3` nor `fusermount` was found, and mounting without it needs root.
    #[error(
        "cannot mount {path} as an ordinary user: fusermount3 was not found{}",
        hint(Some(Remedy::InstallFuse3)),
        path = quoted(path)
    )]
    HelperMissing {
        /// Where the mount was to stand.
        path: PathBuf,
    },
    /// The path leads to something that cannot be mounted over.
    #[error("cannot mount over {path}: not a directory", path = quoted(path))]
    NotADirectory {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Every program needs what is there, ours included.
    #[error("cannot mount over {path:?}: no program could start there; choose another directory")]
    Needed {
        /// The path, without symlinks.
        path: PathBuf,
    },
    /// Mounting would hide what the directory holds.
    #[error(
        "cannot mount over {path}: the directory is not empty; choose an empty one, or allow hiding what is in it",
        path = quoted(path)
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// None of the usual places is free for a private mount.
    #[error(
        "no empty directory to mount over among {tried:?}; choose an existing directory for the mount"
    )]
    NoMountPoint {
        /// The places.
        tried: Vec<PathBuf>,
    },
    /// There is no FUSE, and no directory to do without.
    #[error("none of {tried:?} is a directory that can be written in, to run in without FUSE")]
    NoTmpfs {
        /// The directories.
        tried: Vec<PathBuf>,
    },
    /// No mount of ours stands there.
    #[error("cannot unmount {path}: no notapipe mount stands there", path = quoted(path))]
    NotMounted {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Processes use it: it is still mounted.
    #[error(
        "cannot unmount {path}: in use{}{}",
        holders_list(holders),
        hint(Some(Remedy::EndHolders)),
        path = quoted(path)
    )]
    Busy {
        /// Where it stands.
        path: PathBuf,
        /// Who uses it, as far as we may look.
        holders: Vec<ProcessInfo>,
    },
    /// Its session ended while it stood, for want of threads or by a fault of notapipe: everything in it answered
    /// ENOTCONN from then on.
    #[error(
        "nobody serves {path} any more: its session ended{}",
        session_end(error.as_ref()),
        path = quoted(path)
    )]
    SessionLost {
        /// Where it stood.
        path: PathBuf,
        /// What the session said, where it has been asked.
        error: Option<io::Error>,
    },
    /// Its connection to the kernel was ended while it was used, by umount(8) or
    /// `/sys/fs/fuse/connections/NUMBER/abort`: what was written since then was refused, and it is not known whether who
    /// wrote it noticed.
    #[error(
        "the mount at {path:?} was aborted, unmounted or covered by another while it was in use: what is in it cannot be \
         known to be whole; see that nothing unmounts it (umount, /sys/fs/fuse/connections)"
    )]
    Aborted {
        /// Where it stood.
        path: PathBuf,
    },
    /// Something else was mounted over it: unmounting would remove that.
    #[error(
        "cannot unmount {path}: another mount covers it; unmount that one first",
        path = quoted(path)
    )]
    Covered {
        /// Where both stand.
        path: PathBuf,
    },
    /// Neither way works.
    #[error("{private}; and publicly: {public}")]
    Neither {
        /// Why not privately.
        private: Box<MountError>,
        /// Why not publicly.
        public: Box<MountError>,
    },
}

impl MountError {
    /// An error of the system, with the remedy that fits it.
    pub(crate) fn system(operation: Operation, path: &Path, error: io::Error) -> Self {
        let remedy = remedy(operation, &error);
        MountError::System {
            operation,
            path: path.to_owned(),
            error,
            remedy,
        }
    }

    /// Both ways failed. What is wrong with the request itself is told once.
    pub(crate) fn neither(private: MountError, public: MountError) -> Self {
        match private {
            MountError::NotADirectory { .. }
            | MountError::Needed { .. }
            | MountError::System {
                operation: Operation::FindDirectory,
                ..
            } => private,
            // One cause hinders both ways: it is told once.
            _ if private.remedy() == Some(Remedy::ProvideDevice)
                && public.remedy() == private.remedy() =>
            {
                private
            }
            _ => MountError::Neither {
                private: Box::new(private),
                public: Box::new(public),
            },
        }
    }

    /// In use by these processes.
    pub(crate) fn busy(path: &Path, holders: Vec<i32>) -> Self {
        MountError::Busy {
            path: path.to_owned(),
            holders: holders.into_iter().map(ProcessInfo::of).collect(),
        }
    }

    /// Whether this machine, or this container, has no FUSE for us: nothing is wrong with what was asked for.
    #[must_use]
    pub fn lacks_fuse(&self) -> bool {
        match self {
            // Without the device it does not matter what else is wrong.
            MountError::Neither { private, public } => {
                private.remedy() == Some(Remedy::ProvideDevice)
                    || private.lacks_fuse() && public.is_no_fault_of_the_request()
            }
            _ => matches!(
                self.remedy(),
                Some(
                    Remedy::ProvideDevice
                        | Remedy::OpenUpDevice
                        | Remedy::AllowUserNamespacesInAppArmor
                        | Remedy::RaiseUserNamespaces
                        | Remedy::EnableUserNamespaces
                        | Remedy::LoosenSandbox
                        | Remedy::InstallFuse3
                        | Remedy::BindRoot
                )
            ),
        }
    }

    /// Whether every mount would fail so, and not for want of descriptors, processes or memory.
    fn is_no_fault_of_the_request(&self) -> bool {
        match self {
            MountError::HelperMissing { .. } | MountError::Helper { .. } => true,
            MountError::System {
                operation, error, ..
            } => *operation != Operation::FindDirectory && Remedy::of_shortage(error).is_none(),
            _ => false,
        }
    }

    /// Whether another way to mount may be tried instead: this one is not permitted or not supported. What fails for want
    /// of descriptors, processes or memory is not hidden by doing less.
    pub(crate) fn allows_another_way(&self) -> bool {
        match self {
            MountError::System { error, .. } => is_refusal(error),
            MountError::NoMountPoint { .. } => true,
            _ => false,
        }
    }

    /// What a person can change so that it works, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            MountError::System { remedy, .. } | MountError::Helper { remedy, .. } => *remedy,
            MountError::HelperMissing { .. } => Some(Remedy::InstallFuse3),
            MountError::Busy { .. } => Some(Remedy::EndHolders),
            MountError::Neither { private, public } => private.remedy().or_else(|| public.remedy()),
            MountError::NotADirectory { .. }
            | MountError::Needed { .. }
            | MountError::NotEmpty { .. }
            | MountError::NoMountPoint { .. }
            | MountError::NoTmpfs { .. }
            | MountError::NotMounted { .. }
            | MountError::Aborted { .. }
            | MountError::Covered { .. } => None,
            MountError::SessionLost { error, .. } => error.as_ref().and_then(Remedy::of_shortage),
        }
    }
}

fn remedy(operation: Operation, error: &io::Error) -> Option<Remedy> {
    if let Some(shortage) = Remedy::of_shortage(error) {
        return Some(shortage);
    }
    let errno = errno_in(error)?;
    let refused = is_refusal(error);
    match operation {
        Operation::FindDirectory if errno == libc::ENOTCONN => Some(Remedy::RemoveDeadMount),
        Operation::OpenDevice if matches!(errno, libc::EPERM | libc::EACCES) => {
            Some(Remedy::OpenUpDevice)
        }
        Operation::OpenDevice => Some(Remedy::ProvideDevice),
        Operation::Mount if errno == libc::ENODEV => Some(Remedy::ProvideDevice),
        Operation::MapUser | Operation::OpenNamespaces | Operation::StartWatchdog
            if errno == libc::ENOENT && !Path::new("/proc/self").exists() =>
        {
            Some(Remedy::MountProc)
        }
        Operation::StartWatchdog if errno == libc::ENOENT => Some(Remedy::InstallShell),
        Operation::MakeUserNamespace | Operation::MapUser => Some(user_namespace_remedy(errno)),
        Operation::MakePropagationSlave if errno == libc::EINVAL => Some(Remedy::BindRoot),
        Operation::MakeMountNamespace
        | Operation::MakeIpcNamespace
        | Operation::MakePropagationSlave
        | Operation::OpenNamespaces
            if refused =>
        {
            Some(user_namespace_remedy(errno))
        }
        Operation::Mount if matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            Some(user_namespace_remedy(errno))
        }
        _ => None,
    }
}

/// Whether the system does not permit something, or does not know it.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        errno_in(error),
        Some(
            libc::EPERM
                | libc::EACCES
                | libc::ENOSYS
                | libc::EOPNOTSUPP
                | libc::EINVAL
                | libc::ENODEV
                | libc::ENXIO
                | libc::ENOENT
                // Of user.max_user_namespaces and the like.
                | libc::ENOSPC
                | libc::EUSERS
        )
    )
}

/// Which of the switches that distributions have is off.
fn user_namespace_remedy(errno: i32) -> Remedy {
    let reads = |name: &str, value: &str| {
        std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|text| text.trim() == value)
    };
    if matches!(errno, libc::ENOSPC | libc::EUSERS) || reads("user/max_user_namespaces", "0") {
        Remedy::RaiseUserNamespaces
    } else if reads("kernel/unprivileged_userns_clone", "0") {
        Remedy::EnableUserNamespaces
    } else if reads("kernel/apparmor_restrict_unprivileged_userns", "1") {
        Remedy::AllowUserNamespacesInAppArmor
    } else {
        Remedy::LoosenSandbox
    }
}

fn session_end(error: Option<&io::Error>) -> String {
    let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
    match error.and_then(Remedy::of_shortage) {
        Some(remedy) => format!("{why}; {remedy}"),
        None => format!("{why}; this is a fault of notapipe, please report it"),
    }
}

fn hint(remedy: Option<Remedy>) -> String {
    remedy
        .map(|remedy| format!("; {remedy}"))
        .unwrap_or_default()
}

fn holders_list(holders: &[ProcessInfo]) -> String {
    let listed: Vec<String> = holders
        .iter()
        .take(5)
        .map(|holder| format!("{} (process {})", shown(&holder.command), holder.pid))
        .collect();
    match holders.len() {
        0 => String::new(),
        count if count > listed.len() => {
            format!(
                " by {} and {} more",
                listed.join(", "),
                count - listed.len()
            )
        }
        _ => format!(" by {}", listed.join(", ")),
    }
}
