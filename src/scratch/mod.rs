//! A tree that is mounted, for programs: write, read, list, run commands in it.

mod edit;
mod file;
mod follow;
mod handle;
mod names;
mod source;
mod watch;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::fuse::{self, Notifier, Profile, RequestCounts, ServeOptions, SessionEnd, lazy};
use crate::memory;
use crate::mount::{Mount, MountOptions, MountPoint, Visibility};
use crate::run::{Error, Interrupt};
use crate::store::{
    Attr, Cookie, Ino, Limits, Name, Resource, StoreError, Timestamp, Tree, TreePath, Usage,
};
use crate::sys::poll;
use crate::view::{Locked, View};
use edit::{Edit, StaleCache};
pub use file::{OpenOptions, ScratchFile};
pub use follow::Follow;
pub use handle::{Handle, ResizeError};
pub use watch::Watch;
#[cfg(feature = "tokio")]
pub use watch::WatchStream;

/// A scratch directory in RAM.
///
/// Reading and writing through it goes straight to the tree, never through the mount; what the kernel
/// keeps in its caches is put right with every change.
///
/// Dropping it unmounts quietly; [`unmount`](Self::unmount) tells what went wrong. Neither runs when the
/// process is killed, in which case the kernel removes a private mount, and a watchdog a public one.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), notapipe::Error> {
/// let scratch = notapipe::Scratch::new()?;
/// scratch.write("in/a.txt", "b\na\n")?;
/// scratch.run(["sort", "in/a.txt", "-o", "sorted.txt"])?;
/// assert_eq!(scratch.read("sorted.txt")?, "a\nb\n");
/// scratch.unmount()
/// # }
/// ```
#[derive(Debug)]
pub struct Scratch {
    mount: Mount,
    notifier: Notifier,
    lazy: Arc<lazy::Pool>,
    requests: Arc<RequestCounts>,
    end: Arc<SessionEnd>,
    view: Arc<View>,
    owner: (u32, u32),
}

/// How a scratch directory is to be; from [`Scratch::builder`].
///
/// # Examples
///
/// ```
/// use notapipe::store::Limits;
/// use notapipe::{Profile, Scratch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let scratch = Scratch::builder()
///     .public_at(directory)
///     .limits(Limits { bytes: 1 << 20, inodes: 100 })
///     .mode(0o750)
///     .owner(1000, 1000)
///     .profile(Profile::Observed)
///     .extended_attributes(false)
///     .build()?;
/// assert_eq!(scratch.path(), directory.canonicalize()?);
/// let root = scratch.metadata(".")?;
/// assert_eq!((root.mode, root.uid), (0o750, 1000));
/// scratch.unmount()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ScratchBuilder {
    limits: Option<Limits>,
    mode: u32,
    owner: (u32, u32),
    tree: Option<Tree>,
    serve: ServeOptions,
    options: MountOptions,
}

/// What is left of a scratch directory when it is unmounted; from [`Scratch::into_remains`].
#[derive(Debug)]
pub struct Remains {
    /// Everything that was in it.
    pub tree: Tree,
    /// The limit that a process last ran into, if any did.
    pub limit_met: Option<Resource>,
    /// Files that lost bytes which were written through a memory mapping, because the limit was reached
    /// when the kernel wrote them back. The process that wrote them cannot have noticed.
    pub lost_files: Vec<TreePath>,
}

impl Default for ScratchBuilder {
    fn default() -> Self {
        Self {
            limits: None,
            mode: 0o755,
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            tree: None,
            serve: ServeOptions::default(),
            options: MountOptions::default(),
        }
    }
}

impl ScratchBuilder {
    /// The most it may hold; half of the memory that this process may use unless said.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Permission bits of its root; 0755 unless said.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Owner and group of its root; those of this process unless said.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// A tree to begin with, whose limits, modes and owners it keeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Scratch};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = Job::new().step(["sh", "-c", "echo ceci > word"]).run()?;
    /// // To look into what a job left, with any tool.
    /// let scratch = Scratch::builder().tree(outcome.tree().fork()).build()?;
    /// assert_eq!(scratch.run(["cat", "word"])?.stdout.to_text(), "ceci\n");
    /// scratch.unmount()
    /// # }
    /// ```
    #[must_use]
    pub fn tree(mut self, tree: Tree) -> Self {
        self.tree = Some(tree);
        self
    }

    /// Where and for whom it is mounted; see [`MountOptions`].
    #[must_use]
    pub fn mount(mut self, options: MountOptions) -> Self {
        self.options = options;
        self
    }

    /// A public mount over this directory, for every process of this user to see.
    #[must_use]
    pub fn public_at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.visibility = Visibility::Public;
        self.options.at = Some(dir.into());
        self
    }

    /// Whether opens and closes are seen; [`Profile::Fast`] unless said.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.serve.profile = profile;
        self
    }

    /// Whether files can have extended attributes; they can unless said. They cost a request for most
    /// writes to a file after its attributes were looked at.
    #[must_use]
    pub fn extended_attributes(mut self, allowed: bool) -> Self {
        self.serve.extended_attributes = allowed;
        self
    }

    /// Mounts it. When this returns, the first open works.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`], with what the system refused and what to do.
    pub fn build(self) -> Result<Scratch, Error> {
        let tree = self.tree.unwrap_or_else(|| {
            let limits = self.limits.unwrap_or_else(memory::default_limits);
            let (uid, gid) = self.owner;
            Tree::new(limits, self.mode, uid, gid, Timestamp::now())
        });
        let view = Arc::new(View::new(tree));
        let mut told = None;
        let mount = Mount::new(&self.options, |device| {
            let server = fuse::serve(device, Arc::clone(&view), self.serve)?;
            told = Some((
                server.notifier(),
                server.lazy(),
                server.counts(),
                server.end(),
            ));
            Ok(server)
        })?;
        // Serving has succeeded, or there would be no mount.
        let (notifier, lazy, requests, end) = told.expect("a mount is served");
        Ok(Scratch {
            mount,
            notifier,
            lazy,
            requests,
            end,
            view,
            owner: self.owner,
        })
    }
}

impl Scratch {
    /// A scratch directory of the default size, private to the commands that it runs.
    ///
    /// # Errors
    ///
    /// As [`ScratchBuilder::build`].
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A scratch directory with a say in the matter.
    pub fn builder() -> ScratchBuilder {
        ScratchBuilder::default()
    }

    /// Where it is mounted, as its commands see it; of a public one, as everyone sees it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = notapipe::Scratch::new()?;
    /// let seen = scratch.run(["pwd"])?.stdout.to_text();
    /// assert_eq!(scratch.path().to_str(), Some(seen.trim_end()));
    /// scratch.unmount()
    /// # }
    /// ```
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Makes a file of these bytes, or replaces the content of one; missing directories above it are made.
    ///
    /// All or nothing: at the limit, the old content stays.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        let bytes = bytes.as_ref();
        self.write_back(&path)?;
        self.change("write", &path, |edit| {
            let ino = edit.file_at(&path)?;
            edit.replace_content(ino, bytes)
        })
    }

    /// The bytes of a file, shared with it where they lie in one piece, as they are at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Bytes, Error> {
        let path = self.name(path.as_ref())?;
        self.make(&path)?;
        // Pages that a process changed through a mapping may still be the kernel's alone.
        self.write_back(&path)?;
        self.look("read", &path, |view| {
            let ino = view.resolve(path.names())?;
            let size = view.attr(ino)?.size;
            let len = usize::try_from(size).map_err(|_| StoreError::TooLarge)?;
            view.read(ino, 0, len).map(Bytes::from)
        })
    }

    /// The names in a directory, in the order in which they were made; `.` is the root.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
        let path = self.name(path.as_ref())?;
        self.look("list", &path, |view| {
            let dir = view.resolve(path.names())?;
            let to_path = |name: &Name| TreePath::root().join(name.clone()).to_path_buf();
            Ok(view
                .entries(dir, Cookie::default())?
                .map(|entry| to_path(entry.name))
                .collect())
        })
    }

    /// What `stat(2)` tells, symlinks not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Attr, Error> {
        let path = self.name(path.as_ref())?;
        self.make_size(&path)?;
        self.write_back(&path)?;
        self.look("look at", &path, |view| {
            view.attr(view.resolve(path.names())?)
        })
    }

    /// Makes a directory and those above it; one that exists is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        self.change("make", &path, |edit| edit.make_directories(&path).map(drop))
    }

    /// Removes a file, or a directory with all that is in it.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Scratch`].
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = self.name(path.as_ref())?;
        self.change("remove", &path, |edit| edit.remove(&path))
    }

    /// What it holds, and its limits.
    pub fn usage(&self) -> Usage {
        self.view.lock().usage()
    }

    /// The limit that a process last ran into, if any did.
    pub fn limit_met(&self) -> Option<Resource> {
        self.view.limit_met()
    }

    /// How many requests the kernel sent, by kind; see [`RequestCounts`].
    pub fn requests(&self) -> Arc<RequestCounts> {
        Arc::clone(&self.requests)
    }

    /// The tree as it is now, for [collecting](crate::collect); shares every byte. Files whose [`Source`](crate::Source) was not asked
    /// for them yet are not in it.
    pub fn snapshot(&self) -> Tree {
        self.view.snapshot()
    }

    /// What other threads may do with it while it is mounted, and look at afterwards; see [`Handle`].
    pub fn handle(&self) -> Handle {
        Handle::new(self)
    }

    /// Whether it stands in this process's mount namespace, as itself or as a bind mount, or a process uses it anywhere,
    /// in a copy that another mount namespace has.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Scratch;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// let scratch = Scratch::builder().public_at(directory.path()).build()?;
    /// assert!(scratch.is_in_use());
    /// scratch.unmount()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_in_use(&self) -> bool {
        self.mount.is_in_use()
    }

    /// Waits until it is not [in use](Self::is_in_use) any more, or until `interrupt` is raised.
    ///
    /// # Errors
    ///
    /// When the system refuses to wait (poll(2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Interrupt, Scratch};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path();
    /// let scratch = Scratch::builder().public_at(directory).build()?;
    /// notapipe::mount::unmount_at(directory, false, "/usr/bin:/bin".as_ref())?;
    /// scratch.wait_unused(&Interrupt::new()?)?;
    /// assert!(!scratch.is_in_use());
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_unused(&self, interrupt: &Interrupt) -> io::Result<()> {
        /// How often is looked who uses it.
        const LOOK_EVERY: Duration = Duration::from_secs(1);
        let ends = [self.end.ended(), interrupt.as_fd()];
        while self.is_in_use() && !poll::wait_readable(ends, Some(Instant::now() + LOOK_EVERY))? {}
        Ok(())
    }

    /// Waits until it is unmounted from outside, or until `interrupt` is raised.
    ///
    /// # Errors
    ///
    /// When the system refuses to wait (poll(2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use notapipe::{Interrupt, Scratch};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scratch = Scratch::new()?;
    /// let interrupt = Interrupt::new()?;
    /// assert!(!scratch.wait_for(&interrupt, Duration::from_millis(1))?);
    /// interrupt.raise();
    /// scratch.wait(&interrupt)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(&self, interrupt: &Interrupt) -> io::Result<()> {
        self.wait_at_most(interrupt, None).map(drop)
    }

    /// As [`wait`](Self::wait), for no longer than `patience`; false when that was up.
    ///
    /// # Errors
    ///
    /// When the system refuses to wait (poll(2)).
    pub fn wait_for(&self, interrupt: &Interrupt, patience: Duration) -> io::Result<bool> {
        self.wait_at_most(interrupt, Some(patience))
    }

    fn wait_at_most(&self, interrupt: &Interrupt, patience: Option<Duration>) -> io::Result<bool> {
        let ended = self.end.ended();
        let left = self.place().left().unwrap_or(ended);
        // What does not fit is longer than any process lives.
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        poll::wait_readable([ended, left, interrupt.as_fd()], deadline)
    }

    /// Unmounts, and tells what went wrong.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`]: a public mount that is in use stays, and the error names who uses it.
    pub fn unmount(self) -> Result<(), Error> {
        self.into_remains().map(drop)
    }

    /// Unmounts, and hands over what was in it.
    ///
    /// # Errors
    ///
    /// As [`unmount`](Self::unmount).
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Limits, Resource};
    /// use notapipe::{Scratch, collect};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limits = Limits { bytes: 64 << 10, inodes: 100 };
    /// let scratch = Scratch::builder().limits(limits).build()?;
    /// scratch.run(["sh", "-c", "echo ceci > word; head -c 100000 /dev/zero > large"])?;
    /// assert_eq!(scratch.limit_met(), Some(Resource::Bytes));
    /// assert_eq!(scratch.usage().bytes, limits.bytes);
    ///
    /// let remains = scratch.into_remains()?;
    /// assert_eq!(remains.limit_met, Some(Resource::Bytes));
    /// assert_eq!(collect::read(&remains.tree, &"word".parse()?)?, "ceci\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_remains(self) -> Result<Remains, Error> {
        let (remains, unmounted) = self.end();
        unmounted.map(|()| remains)
    }

    /// Unmounts it. What is left is there at this moment also when the mount could not be taken down, or is not served
    /// any more.
    pub(crate) fn end(mut self) -> (Remains, Result<(), Error>) {
        // A process that waits for one would keep the mount busy.
        self.cancel_sources();
        self.view.lock().set_unused(true);
        let unmounted = self.mount.unmount();
        let unmounted = unmounted.inspect_err(|_| self.view.lock().set_unused(false));
        let remains = Remains {
            tree: self.view.snapshot(),
            limit_met: self.view.limit_met(),
            lost_files: self.view.lost_files(),
        };
        (remains, unmounted.map_err(Error::from))
    }

    /// Makes a directory in which all users may write, and that is not listed.
    pub(crate) fn hidden_directory(&self, path: &TreePath) -> Result<(), Error> {
        self.change("make", path, |edit| edit.hidden_directory(path))
    }

    /// Where processes can be started in it.
    pub(crate) fn place(&self) -> &Arc<MountPoint> {
        self.mount.point()
    }

    /// Whether the inode of this number has a name.
    pub(crate) fn has_name(&self, ino: u64) -> bool {
        let attr = self.view.lock().attr(Ino(ino));
        attr.is_ok_and(|attr| attr.nlink > 0)
    }

    /// How and when its session ends.
    pub(crate) fn session_end(&self) -> &Arc<SessionEnd> {
        &self.end
    }

    fn name(&self, path: &Path) -> Result<TreePath, Error> {
        TreePath::try_from(path).map_err(|error| Error::Name {
            role: "file",
            name: path.to_path_buf(),
            error,
        })
    }

    fn look<T>(
        &self,
        operation: &'static str,
        path: &TreePath,
        look: impl FnOnce(&Locked<'_>) -> Result<T, StoreError>,
    ) -> Result<T, Error> {
        let result = look(&self.view.lock());
        result.map_err(|error| self.refused(operation, path, error))
    }

    /// Changes the tree, then tells the kernel what it must not believe any more.
    fn change<T>(
        &self,
        operation: &'static str,
        path: &TreePath,
        change: impl FnOnce(&mut Edit<'_>) -> Result<T, StoreError>,
    ) -> Result<T, Error> {
        let mut edit = Edit::new(self.view.lock(), self.owner);
        let result = change(&mut edit);
        // The lock is gone before the kernel is told: it may have to wait for answers of ours.
        let stale = edit.finish();
        stale.iter().for_each(|stale| stale.tell(&self.notifier));
        result.map_err(|error| self.refused(operation, path, error))
    }

    /// Has the kernel write back what processes changed through mappings of this file.
    fn write_back(&self, path: &TreePath) -> Result<(), Error> {
        let ino = self.view.lock().resolve(path.names());
        if let Ok(ino) = ino {
            StaleCache::Inode(ino).tell(&self.notifier);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Follow, Scratch, ScratchFile, Watch};

    #[test]
    fn they_may_be_shared_between_threads() {
        fn shareable<T: Send + Sync + 'static>() {}
        shareable::<Scratch>();
        shareable::<ScratchFile>();
        shareable::<Watch>();
        shareable::<Follow>();
    }
}
