//! A mount's life: made, ready, gone.
//!
//! [`Mount::new`] makes a mount and has it served; [`Mount::unmount`] ends it and says what went
//! wrong; dropping it ends it quietly. What runs inside is the business of
//! `run::process`, which asks [`Mount::point`] where.
//!
//! # The order of closing
//! 1. End the processes (`Processes::end`): while one lives, a private mount lives.
//! 2. Unmount. A private mount is unmounted inside its namespace, and then the namespace's
//!    descriptors are closed; a descriptor still open keeps mount and session alive.
//! 3. Join the session, which ends because its mount is gone.
//!
//! When this process dies instead, the kernel closes the descriptors of a private mount, and the
//! watchdog removes a public one.

mod backed;
mod directory;
mod error;
pub(crate) mod holders;
mod options;
pub(crate) mod privately;
mod process_sets;
pub(crate) mod publicly;
mod target;
mod tmp;
mod watchdog;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use parking_lot::{Mutex, RwLock};

pub(crate) use self::backed::BackedWanted;
pub use self::backed::{BackedBy, Storage};
use self::directory::OwnedDirectory;
pub(crate) use self::directory::TEMPORARY;
pub use self::error::{MountError, Operation, Remedy};
pub(crate) use self::holders::{Membership, Within, Writing, writing};
pub use self::options::{MountOptions, Visibility};
pub(crate) use self::privately::may_mount;
use self::privately::{Connection, PrivateMount};
use self::process_sets::ProcessSets;
pub(crate) use self::process_sets::SharedInit;
use self::publicly::PublicMount;
pub use self::publicly::unmount_at;
pub use self::tmp::OwnTmp;
use self::tmp::{OwnDirectories, OwnUsage};
use crate::sys::descriptor_copies::CopyDetector;
use crate::sys::devices::Served;
use crate::sys::event_fd::EventFd;
use crate::sys::mountinfo;
use crate::sys::namespaces::Namespaces;
pub use crate::sys::proc::ProcessInfo;
#[doc(hidden)]
pub use crate::sys::search_path::find_program;

/// How long a session may take to end once its mount is gone. It takes well under a millisecond.
const SESSION_END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the kernel may take to let go of a public mount that was unmounted. It has by the time umount2(2) returns, unless
/// there is a copy of the mount: a bind mount, or another mount namespace that was made meanwhile, by a sandbox or a
/// service. Unmounting takes only ours away (mount_namespaces(7)).
const RELEASE_TIMEOUT: Duration = Duration::from_millis(100);

/// What serves a mounted device. It ends by itself when the mount is gone.
#[doc(hidden)]
pub trait Session: Send + Sync {
    /// Waits for the end for so long at most; after it [`join`](Self::join) returns at once. False when it has
    /// not come.
    fn ends_within(&self, patience: Duration) -> bool;

    /// Waits for the end.
    ///
    /// # Errors
    /// How serving failed.
    fn join(self: Box<Self>) -> io::Result<()>;

    /// Whether it serves no more requests, though its threads may still be at their end.
    fn is_over(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Whether it has ended while the mount stood, so that no request is answered any more.
    fn is_lost(&self) -> bool {
        false
    }
}

impl Session for crate::fuse::Server {
    fn ends_within(&self, patience: Duration) -> bool {
        crate::fuse::Server::ends_within(self, patience)
    }

    fn join(self: Box<Self>) -> io::Result<()> {
        crate::fuse::Server::join(*self)
    }

    fn is_over(&self) -> bool {
        self.end().is_over()
    }

    fn is_lost(&self) -> bool {
        self.end().is_lost()
    }
}

/// A mounted and served file system.
///
/// It belongs to the process, not to the thread that made it. Dropping it unmounts quietly. If
/// processes still use it then, a private mount lives until the last of them ends, and a public one
/// is detached: gone from its path, alive for them.
///
/// Public for our own tests, which have it served by another file system.
#[doc(hidden)]
pub struct Mount {
    point: Arc<MountPoint>,
    session: Option<Box<dyn Session>>,
    refused: Option<MountError>,
    /// For sessions of others than ours, which do not say what they serve.
    _served: Served,
}

/// Where a mount stands and how to get there: what is needed to start processes in it.
///
/// It outlives the mount without keeping it: once unmounted, nothing can be started any more.
#[doc(hidden)]
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    connection: Connection,
    /// Lock order: the last. Starting a process holds it shared, so that unmounting waits for
    /// starts.
    state: RwLock<MountState>,
    process_sets: ProcessSets,
    /// What of the directories for temporary files is for its processes alone.
    own: Option<OwnDirectories>,
    /// Tells whether another process has the descriptors of a private mount. Lock order: after `state`.
    copies: Mutex<Option<CopyDetector>>,
    /// Of a public mount: readable once [`leave`](Self::leave) has unmounted it.
    left: Option<EventFd>,
    /// Whether [`abort`](Self::abort) was called.
    is_aborted: AtomicBool,
}

/// What a mount is now.
#[derive(Debug)]
pub(crate) enum MountState {
    /// Shared with those who start processes in it: the namespace may outlive the mount, so that what
    /// still runs there is found.
    Private(Arc<Namespaces>),
    Public(PublicMount),
    /// No FUSE mount: everything is another file system's.
    Backed {
        #[expect(dead_code, reason = "held, to be removed when it is dropped")]
        directory: Option<OwnedDirectory>,
        /// Where it stands at a path that was asked for.
        inside: Option<Arc<Namespaces>>,
    },
    Gone,
}

impl MountState {
    /// Those that its processes are in, where it has namespaces of its own.
    pub(crate) fn namespaces(&self) -> Option<&Arc<Namespaces>> {
        match self {
            Self::Private(inside)
            | Self::Backed {
                inside: Some(inside),
                ..
            } => Some(inside),
            Self::Public(_) | Self::Backed { .. } | Self::Gone => None,
        }
    }
}

impl Mount {
    /// Mounts as `options` say and has `serve` answer the kernel. `serve` returns when the kernel's
    /// first request has been answered; from then on, opening a file works.
    ///
    /// # Errors
    /// [`MountError`]; nothing is left of the attempt.
    pub fn new<S: Session + 'static>(
        options: &MountOptions,
        serve: impl FnOnce(OwnedFd) -> io::Result<S>,
    ) -> Result<Self, MountError> {
        let (device, point, refused) = MountPoint::mount(options)?;
        let device_served = Served::new(device.as_fd());
        let served = serve(device);
        let session =
            served.map_err(|error| MountError::system(Operation::Serve, &point.path, error))?;
        Ok(Mount {
            point: Arc::new(point),
            session: Some(Box::new(session)),
            refused,
            _served: device_served,
        })
    }

    /// Where the mount stands: seen from inside when it is private.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.point.path
    }

    /// What is needed to start processes in it.
    #[must_use]
    pub fn point(&self) -> &Arc<MountPoint> {
        &self.point
    }

    /// Why the mount is public although [`Visibility::Auto`] would rather have had it private.
    #[must_use]
    pub fn why_public(&self) -> Option<&MountError> {
        self.refused.as_ref()
    }

    /// Unmounts and waits for the end of the session. A second call does nothing.
    ///
    /// Where another mount namespace was copied from ours meanwhile, it may have a copy of a public mount. That is served until
    /// the namespace ends, or this process does; it is not waited for, as long as no process uses it.
    ///
    /// # Errors
    /// [`MountError::Busy`] when processes still use it: it is then still mounted and served, and
    /// the call can be repeated. [`MountError::SessionLost`] when its session had ended, and
    /// [`MountError::Aborted`] when its connection to the kernel had been ended: it is gone then.
    pub fn unmount(&mut self) -> Result<(), MountError> {
        let Some(session) = &self.session else {
            return self.point.unmount();
        };
        let was_aborted = session.is_over() && self.point.is_dead();
        if was_aborted || session.is_lost() {
            // The processes that still use it have lost it already.
            self.point.detach()?;
        } else {
            self.point.unmount()?;
        }
        let joined = self.session.take().map(|session| self.join(session));
        match joined.transpose()? {
            Some(()) if was_aborted => Err(MountError::Aborted {
                path: self.point.path.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Takes the mount from its path although processes use it; it is served until the last of them
    /// ends, or this process does. Nothing can be started in it any more.
    ///
    /// # Errors
    /// The system refused; it is then still mounted and served.
    pub fn detach(mut self) -> Result<(), MountError> {
        self.point.detach()?;
        // The session ends by itself, with the last process.
        self.session = None;
        Ok(())
    }

    /// Whether it stands in our own mount namespace, as itself or as a bind mount, or a process uses it anywhere.
    pub(crate) fn is_in_use(&self) -> bool {
        let connection = self.point.connection;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        self.session.as_ref().is_some_and(|it| !it.is_over())
            && (mountinfo::lists_device(pid, &connection.device())
                || holders::users(connection).is_ok_and(|users| !users.is_empty()))
    }

    fn join(&mut self, session: Box<dyn Session>) -> Result<(), MountError> {
        let ends = match self.point.left {
            Some(_) => {
                session.ends_within(RELEASE_TIMEOUT)
                    || session.is_over() && session.ends_within(SESSION_END_TIMEOUT)
            }
            None => session.ends_within(SESSION_END_TIMEOUT),
        };
        if !ends {
            let holders = holders::users(self.point.connection).unwrap_or_default();
            if holders.is_empty() {
                // Gone from here, and a copy hinders nothing: as with detach, its session ends with it.
                log::debug!(
                    "{}: another mount namespace has a copy",
                    self.point.path.display()
                );
                return Ok(());
            }
            self.session = Some(session);
            return Err(MountError::busy(&self.point.path, holders));
        }
        let is_lost = session.is_lost();
        let failed = |error| match is_lost {
            true => MountError::SessionLost {
                path: self.point.path.clone(),
                error: Some(error),
            },
            false => MountError::system(Operation::Join, &self.point.path, error),
        };
        session.join().map_err(failed)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            log::debug!("{error}; detached instead");
            // Dropping how it stands closes the namespaces' descriptors, or detaches.
            *self.point.state.write() = MountState::Gone;
        }
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("point", &self.point)
            .finish_non_exhaustive()
    }
}

impl MountPoint {
    /// A device that is not served yet, where it is mounted, and why not privately.
    fn mount(options: &MountOptions) -> Result<(OwnedFd, Self, Option<MountError>), MountError> {
        match options.visibility {
            Visibility::Private => {
                Self::privately(options).map(|(device, point)| (device, point, None))
            }
            Visibility::Public => {
                Self::publicly(options).map(|(device, point)| (device, point, None))
            }
            Visibility::Auto => match Self::privately(options) {
                Ok((device, point)) => Ok((device, point, None)),
                Err(refused) if !refused.allows_another_way() => Err(refused),
                Err(refused) => match Self::publicly(options) {
                    Ok((device, point)) => Ok((device, point, Some(refused))),
                    Err(public) => Err(MountError::neither(refused, public)),
                },
            },
        }
    }

    fn privately(options: &MountOptions) -> Result<(OwnedFd, Self), MountError> {
        let PrivateMount {
            device,
            path,
            namespaces,
            connection,
            own,
        } = privately::mount(options)?;
        let copies = CopyDetector::new()
            .map_err(|error| MountError::system(Operation::OpenNamespaces, &path, error))?;
        Ok((
            device,
            MountPoint {
                path,
                connection,
                state: RwLock::new(MountState::Private(Arc::new(namespaces))),
                process_sets: ProcessSets::default(),
                own,
                copies: Mutex::new(Some(copies)),
                left: None,
                is_aborted: AtomicBool::new(false),
            },
        ))
    }

    fn publicly(options: &MountOptions) -> Result<(OwnedFd, Self), MountError> {
        let (device, mount) = publicly::mount(options)?;
        let (path, connection) = (mount.path().to_owned(), mount.connection());
        let left =
            EventFd::new().map_err(|error| MountError::system(Operation::Mount, &path, error))?;
        Ok((
            device,
            MountPoint {
                path,
                connection,
                state: RwLock::new(MountState::Public(mount)),
                process_sets: ProcessSets::default(),
                own: None,
                copies: Mutex::new(None),
                left: Some(left),
                is_aborted: AtomicBool::new(false),
            },
        ))
    }

    /// A tmpfs in namespaces of its own, its root for who is outside, and what it is.
    pub(crate) fn tmpfs(
        wanted: &BackedWanted<'_>,
    ) -> Result<(Arc<Self>, OwnedFd, BackedBy), MountError> {
        backed::tmpfs(wanted).map(Self::backed)
    }

    /// A directory of the best of these, itself, and what it is.
    pub(crate) fn directory(
        wanted: &BackedWanted<'_>,
        parents: &[PathBuf],
        needed_bytes: u64,
    ) -> Result<(Arc<Self>, OwnedFd, BackedBy), MountError> {
        directory::directory(wanted, parents, needed_bytes).map(Self::backed)
    }

    fn backed(made: backed::Made) -> (Arc<Self>, OwnedFd, BackedBy) {
        let point = MountPoint {
            path: made.backed_by.directory.clone(),
            connection: Connection { major: 0, minor: 0 },
            state: RwLock::new(MountState::Backed {
                directory: made.directory,
                inside: made.inside.map(Arc::new),
            }),
            process_sets: ProcessSets::default(),
            own: made.own,
            copies: Mutex::new(None),
            left: None,
            is_aborted: AtomicBool::new(false),
        };
        (Arc::new(point), made.files, made.backed_by)
    }

    /// Where the mount stands: seen from inside when it is private.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it stands now: a directory above a public mount may have been renamed.
    pub(crate) fn current_path(&self) -> PathBuf {
        match &*self.state.read() {
            MountState::Public(mount) => mount.current_path(),
            _ => self.path.clone(),
        }
    }

    /// Unmounts a public mount for its owner, who still has to [unmount](Mount::unmount) and learns of it by
    /// [`left`](Self::left). One that is `lazy` detaches it although it is in use, and tells nothing.
    pub(crate) fn leave(&self, lazy: bool) -> Result<(), MountError> {
        let MountState::Public(mount) = &mut *self.state.write() else {
            return Ok(());
        };
        if lazy {
            return mount.detach();
        }
        mount.unmount()?;
        self.left.iter().for_each(EventFd::set);
        Ok(())
    }

    /// Readable once [`leave`](Self::leave) has unmounted it.
    pub(crate) fn left(&self) -> Option<BorrowedFd<'_>> {
        self.left.as_ref().map(AsFd::as_fd)
    }

    /// Whether what a process started in it writes in this directory, a path without symlinks, is seen by none that was
    /// not.
    pub(crate) fn is_own(&self, directory: &Path) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| own.hold(directory) || directory.starts_with(&self.path))
    }

    /// Whether its processes were to have directories of their own, and there are namespaces for that.
    pub(crate) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// What is in the directories for temporary files that are its processes' own.
    pub(crate) fn own_usage(&self) -> Option<OwnUsage> {
        match &*self.state.read() {
            MountState::Private(inside)
            | MountState::Backed {
                inside: Some(inside),
                ..
            } => OwnUsage::of(inside.tmpfs.as_ref()?),
            _ => None,
        }
    }

    /// Whether only what is started in it sees it. False once it is unmounted.
    #[must_use]
    pub fn is_private(&self) -> bool {
        matches!(*self.state.read(), MountState::Private(_))
    }

    /// Ends the connection to the kernel: every request, waiting or to come, fails. For processes
    /// that cannot be killed because they wait for an answer.
    ///
    /// # Errors
    /// The kernel did not let us, or the mount is gone.
    pub fn abort(&self) -> io::Result<()> {
        // Recursive: an unmount may be waiting for a start that only we can free.
        let state = self.state.read_recursive();
        self.is_aborted.store(true, Ordering::Release);
        match *state {
            MountState::Gone => return Err(io::ErrorKind::NotFound.into()),
            MountState::Backed { .. } => return Ok(()),
            _ => {}
        }
        // Where fusectl is mounted, this file belongs to the user who mounted (fs/fuse/control.c).
        let control = format!("/sys/fs/fuse/connections/{}/abort", self.connection.minor);
        if std::fs::write(control, "1").is_ok() {
            return Ok(());
        }
        match &*state {
            MountState::Private(namespaces) => PrivateMount::abort(&self.path, namespaces),
            MountState::Public(mount) => mount.abort(),
            MountState::Backed { .. } | MountState::Gone => Ok(()),
        }
    }

    /// Finds the processes in these namespaces, and in copies of them that hold the private mount, if that stands in them.
    pub(crate) fn membership(&self, inside: &Namespaces, stands: bool) -> io::Result<Membership> {
        let stands = stands && PrivateMount::may_stand(&self.path, inside, self.connection);
        Membership::new(inside.mount_id()?, stands.then_some(self.connection))
    }

    pub(crate) fn connection(&self) -> Connection {
        self.connection
    }

    /// Where its files are, to find the processes that write them.
    pub(crate) fn within(&self) -> Within<'_> {
        match *self.state.read() {
            MountState::Backed { .. } => Within::Directory(&self.path),
            _ => Within::Mount(self.connection),
        }
    }

    /// Counts a set of processes that may be started inside from now on, once `prepare` has succeeded.
    pub(crate) fn add_process_set<T, E>(
        &self,
        prepare: impl FnOnce(&MountState, &mut SharedInit) -> Result<T, E>,
    ) -> Result<T, E> {
        self.process_sets
            .add(|shared| self.with_state(|state| prepare(state, shared)))
    }

    /// Takes back [`add_process_set`](Self::add_process_set). `leave` ends the processes; it is told whether this was
    /// the last set, and until it returns no other is added.
    pub(crate) fn remove_process_set<E>(
        &self,
        leave: impl FnOnce(bool) -> Result<(), E>,
    ) -> Result<(), E> {
        self.process_sets.remove(leave)
    }

    /// Starts a process there, and keeps the mount there meanwhile.
    pub(crate) fn start_inside<T>(&self, start: impl FnOnce(&MountState) -> T) -> T {
        self.process_sets.start(|| self.with_state(start))
    }

    /// Looks at all processes that are in the mount's own namespaces, and remembers when there are none.
    pub(crate) fn scan_processes(
        &self,
        look: impl FnOnce() -> io::Result<Vec<i32>>,
    ) -> io::Result<Vec<i32>> {
        self.process_sets.scan(look)
    }

    /// Whether no process can be in the mount's own namespaces, as a scan of them has told.
    pub(crate) fn is_known_empty(&self) -> bool {
        self.process_sets.is_known_empty()
    }

    /// Runs `use_it`, and keeps the mount there meanwhile.
    pub(crate) fn with_state<T>(&self, use_it: impl FnOnce(&MountState) -> T) -> T {
        use_it(&self.state.read())
    }

    fn unmount(&self) -> Result<(), MountError> {
        let mut state = self.state.write();
        match &mut *state {
            MountState::Private(inside) => self.leave_privately(inside)?,
            MountState::Public(mount) => mount.unmount()?,
            MountState::Backed { .. } | MountState::Gone => {}
        }
        *state = MountState::Gone;
        Ok(())
    }

    /// Whether a mount whose session is over was not unmounted, but aborted by another than us. What was unmounted is
    /// let go of, before it is mistaken for what was mounted there since.
    fn is_dead(&self) -> bool {
        let stands = match &mut *self.state.write() {
            MountState::Public(mount) => mount.look_again(),
            // No other process has reason to unmount it.
            MountState::Private(_) => true,
            MountState::Backed { .. } | MountState::Gone => false,
        };
        stands && !self.is_aborted.load(Ordering::Acquire)
    }

    /// Whether the mount is what stands at its path. A tool of root's may unmount it, or mount something over it.
    /// `root` is the root directory of those that have a copy of a public mount in a mount namespace of their own.
    pub(crate) fn is_at_its_path(&self, root: &Path) -> bool {
        self.with_state(|state| match state {
            MountState::Private(inside) => {
                PrivateMount::may_stand(&self.path, inside, self.connection)
            }
            MountState::Public(mount) => mount.may_stand(root),
            MountState::Backed { .. } => true,
            MountState::Gone => false,
        })
    }

    fn detach(&self) -> Result<(), MountError> {
        let mut state = self.state.write();
        if let MountState::Public(mount) = &mut *state {
            mount.detach()?;
        }
        *state = MountState::Gone;
        Ok(())
    }

    fn leave_privately(&self, inside: &Arc<Namespaces>) -> Result<(), MountError> {
        // Closing the descriptors is enough when no process can be inside and no other has them, and
        // takes half the time. A child that our program forked for itself has them until it executes something.
        let is_empty = !self.process_sets.has_unended();
        let copies = self.copies.lock().take();
        if is_empty
            && Arc::strong_count(inside) == 1
            && copies.is_some_and(CopyDetector::found_no_copy)
        {
            return Ok(());
        }
        let Err(error) = PrivateMount::unmount(&self.path, inside) else {
            return Ok(());
        };
        let fail = |error| MountError::system(Operation::Unmount, &self.path, error);
        let membership = self.membership(inside, true);
        let members = membership.and_then(|mut it| it.members()).map_err(fail)?;
        if !members.is_empty() {
            return Err(MountError::busy(&self.path, members));
        }
        // No process is inside: something was mounted on top, or it was unmounted inside before. The
        // namespace goes in a moment, and all of it with it.
        log::debug!("{}: {error}; left to the kernel", self.path.display());
        Ok(())
    }
}
