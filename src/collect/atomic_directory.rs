//! One directory of the host that is replaced as a whole.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, RenameFlags};
use rustix::io::Errno;

use super::attributes::{Keep, copy_attributes, times};
use super::deliver::{Delivered, Delivery};
use super::destination::is_mount_point;
use super::host::{Host, Identity, hidden_name, identity, split};
use super::host_path::{HostPath, absolute, to_host};
use super::journal::Journal;
use crate::progress::Progress;
use crate::store::{Ino, Name, Tree};

/// A directory of the host that gets all that is in a tree, in place of what was in it, at one moment.
///
/// The directory that holds it must exist, and is held open from the first look on. What is there gives the new
/// directory its owner, mode and extended attributes.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow;
///
/// use notapipe::collect::AtomicDirectory;
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path().join("saved");
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&TreePath::parse("a")?, "new")?;
///
/// std::fs::create_dir(&host)?;
/// std::fs::write(host.join("b"), "old")?;
/// let whole = AtomicDirectory::preflight(&host)?.keep_metadata();
/// assert!(whole.place().ends_with("saved"));
/// let delivered = whole.write(&tree, |_so_far| ControlFlow::Continue(()))?;
/// assert_eq!(delivered.progress.files, 1);
/// assert!(delivered.skipped.is_empty());
/// assert_eq!(std::fs::read(host.join("a"))?, b"new");
/// assert!(!host.join("b").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AtomicDirectory {
    host: Host,
    place: HostPath,
    keep: Keep,
}

impl AtomicDirectory {
    /// Looks at a place, there or not, and tries whether a directory can be made beside it. A symlink is followed.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn preflight(place: &Path) -> io::Result<Self> {
        let place = match place.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let place = std::path::absolute(place)?;
                let (above, name) = (place.parent(), place.file_name());
                let (above, name) = above.zip(name).ok_or(Errno::ISDIR)?;
                above.canonicalize()?.join(name)
            }
            there => there?,
        };
        if is_mount_point(&place) {
            let problem = "it is a mount point, which cannot be replaced";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, problem));
        }
        let place = absolute(&place)?;
        let mut host = Host::default();
        host.hold(&place.parent().ok_or(Errno::BUSY)?)?;
        let mut this = Self {
            host,
            place,
            keep: Keep::default(),
        };
        // Tried, since rights alone do not tell: nothing of it is left.
        let (hidden, ..) = this.make_beside()?;
        this.host.remove_directory(&hidden)?;
        Ok(this)
    }

    /// Where it will be, without symlinks.
    pub fn place(&self) -> PathBuf {
        to_host(&self.place)
    }

    /// Gives everything the owner, set-id bits and extended attributes that it has in the tree, as far as we may.
    ///
    /// For a tree that was staged with [`keep_metadata`](crate::stage::Stage::keep_metadata). What is lost is counted in
    /// [`Delivered::skipped`].
    #[must_use]
    pub fn keep_metadata(mut self) -> Self {
        self.keep = Keep::All;
        self
    }

    /// Writes a tree beside the place and puts it there. `listener` is as of [`Delivery::listen`].
    ///
    /// # Errors
    ///
    /// The system's, or a [`CollectError`](super::CollectError) in one; everything is then as it was.
    pub fn write(
        mut self,
        tree: &Tree,
        listener: impl FnMut(Progress) -> ControlFlow<()> + Send,
    ) -> io::Result<Delivered> {
        self.host.check_held().map_err(|(_, error)| error)?;
        let (hidden, new, id) = self.make_beside()?;
        let written = self.fill(tree, listener, (&hidden, new, id));
        if written.is_err() {
            // The error that it failed by is told. Under another identity nothing of ours is there.
            let _ = self.host.remove_tree(&hidden);
        }
        written
    }

    /// An empty directory beside the place, for us alone.
    fn make_beside(&mut self) -> io::Result<(HostPath, OwnedFd, Identity)> {
        let (above, _) = split(&self.place)?;
        loop {
            let name = Name::new(&hidden_name()).map_err(|_| Errno::INVAL)?;
            let hidden = above.join(name);
            if let Some(id) = self.host.make_directory(&hidden, 0o777)? {
                return Ok((hidden.clone(), self.host.open_directory(&hidden)?, id));
            }
        }
    }

    fn fill(
        &mut self,
        tree: &Tree,
        listener: impl FnMut(Progress) -> ControlFlow<()> + Send,
        (hidden, new, id): (&HostPath, OwnedFd, Identity),
    ) -> io::Result<Delivered> {
        // As new directories are, unless one is replaced.
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&new)?.st_mode & 0o7777);
        rustix::fs::fchmod(&new, Mode::RWXU)?;
        let mut inside = Host::default();
        inside.hold_open(hidden, new.try_clone()?);
        let delivery = Delivery::whole(Journal::from(inside), to_host(hidden), self.keep);
        let delivered = delivery.listen(listener).prepare(tree, tree);
        let delivered = delivered.and_then(super::Prepared::commit);
        let delivered = delivered.map_err(io::Error::other)?;
        match self.host.open_directory(&self.place) {
            Ok(old) => {
                copy_attributes(&new, &old)?;
                self.finish(tree, &new)?;
                self.exchange(hidden, id, identity(&rustix::fs::fstat(&old)?))?;
                // Saved it is; what is left of the old one lies under the hidden name.
                let _ = self.host.remove_tree(hidden);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::fchmod(&new, mode)?;
                self.finish(tree, &new)?;
                self.appear(hidden)?;
                self.expect(id)?;
            }
            Err(error) => return Err(error),
        }
        Ok(delivered)
    }

    /// Gives the new directory the time of the tree's root.
    fn finish(&self, tree: &Tree, new: &OwnedFd) -> io::Result<()> {
        match (self.keep, tree.attr(Ino::ROOT)) {
            (Keep::All, Ok(root)) => Ok(rustix::fs::futimens(new, &times(root.mtime))?),
            _ => Ok(()),
        }
    }

    /// Puts the new directory where nothing is.
    fn appear(&mut self, hidden: &HostPath) -> io::Result<()> {
        let (_, new) = split(hidden)?;
        let (above, name) = self.host.above(&self.place)?;
        match rustix::fs::renameat_with(above, new, above, name, RenameFlags::NOREPLACE) {
            // A file system that cannot promise it.
            Err(Errno::INVAL | Errno::NOSYS) => Ok(rustix::fs::renameat(above, new, above, name)?),
            renamed => Ok(renamed?),
        }
    }

    /// The new and the old directory change places.
    fn exchange(&mut self, hidden: &HostPath, new: Identity, old: Identity) -> io::Result<()> {
        self.swap(hidden)?;
        if let Err(error) = self.expect(new) {
            // Something else had been given the hidden name.
            self.swap(hidden)?;
            return Err(error);
        }
        self.host.expect(hidden, old);
        Ok(())
    }

    fn swap(&mut self, hidden: &HostPath) -> io::Result<()> {
        let (_, new) = split(hidden)?;
        let (above, name) = self.host.above(&self.place)?;
        match rustix::fs::renameat_with(above, new, above, name, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            exchanged => return Ok(exchanged?),
        }
        // A file system that cannot: for a moment there is no directory.
        let aside = hidden_name();
        rustix::fs::renameat(above, name, above, &*aside)?;
        if let Err(error) = rustix::fs::renameat(above, new, above, name) {
            rustix::fs::renameat(above, &*aside, above, name)?;
            return Err(error.into());
        }
        Ok(rustix::fs::renameat(above, &*aside, above, new)?)
    }

    /// That the new directory is in its place.
    fn expect(&mut self, new: Identity) -> io::Result<()> {
        match self.host.stat(&self.place)? {
            Some(there) if identity(&there) == new => Ok(()),
            _ => Err(io::Error::other("it was replaced while it was in use")),
        }
    }
}
