//! A job without FUSE: the same steps in a directory on a tmpfs, where limits can only be watched.
//!
//! The tree is delivered into the directory, and what has changed there is staged into a fork of it afterwards, so that
//! what the job leaves is told apart from what it was given as in a mount.

use std::collections::HashMap;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::followed_file::{ContentStamp, FollowedFile};
use super::inputs::owner;
use super::process::Interrupt;
use crate::collect::{self, Delivery, Destination};
use crate::fuse::RequestCounts;
use crate::mount::{OwnTmp, Place, TEMPORARY};
use crate::stage::Stage;
use crate::store::{
    Kind, Limits, Name, PAGE_SIZE, Peak, Resource, SetAttr, StoreError, Timestamp, Tree, TreePath,
};

/// How often the directory is measured, at least: looking takes no more than a tenth of the time.
const LOOK: Duration = Duration::from_millis(50);

/// Where the steps of such a job run.
#[derive(Debug)]
pub(super) struct PlainGround {
    pub place: Arc<Place>,
    /// Where it is for us; its processes may see it elsewhere.
    pub directory: PathBuf,
    /// For temporary files, where the job has no namespaces to have others in.
    pub temporary: Option<PathBuf>,
    /// None ever comes.
    pub requests: Arc<RequestCounts>,
    delivered: HashMap<PathBuf, Stamp>,
}

/// What of a file is another when somebody has changed it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn content(&self) -> ContentStamp {
        ContentStamp {
            inode: self.inode,
            size: self.size,
            modified: self.modified,
        }
    }
}

impl From<&Metadata> for Stamp {
    fn from(of: &Metadata) -> Self {
        Self {
            inode: of.ino(),
            mode: of.mode(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        }
    }
}

impl PlainGround {
    /// A directory with everything in it that is in `tree`; its processes see it at `at`.
    pub fn new(
        parents: &[PathBuf],
        at: Option<&Path>,
        allow_other: bool,
        own_tmp: Option<&OwnTmp>,
        tree: &Tree,
    ) -> Result<Self, Error> {
        let (place, directory) = Place::plain(parents, at, allow_other, own_tmp)?;
        let temporary = own_tmp.filter(|_| !place.has_own());
        let temporary = temporary.map(|_| directory.with_file_name(TEMPORARY));
        let root = Destination::Host(directory.clone());
        let delivery = Delivery::preflight([(TreePath::root(), root)])?;
        delivery.prepare(tree, tree)?.commit()?;
        let mut delivered = HashMap::new();
        walk(&directory, &mut |path, metadata| {
            delivered.insert(path.to_owned(), Stamp::from(metadata));
        });
        Ok(Self {
            place,
            directory,
            temporary,
            requests: Arc::default(),
            delivered,
        })
    }

    /// What it and the temporary files of its job hold.
    pub fn measure(&self) -> Peak {
        let mut used = measure(&self.directory);
        if let Some(temporary) = &self.temporary {
            let beside = measure(temporary);
            used.bytes += beside.bytes;
            used.inodes += beside.inodes;
        }
        used.bytes += self.place.own_usage().map_or(0, |own| own.bytes);
        used
    }

    /// Follows a file in it, which begins when somebody has changed it.
    pub fn follow(&self, name: &TreePath) -> FollowedFile {
        let file = self.directory.join(name.to_path_buf());
        let staged = self.delivered.get(&file).map(Stamp::content);
        FollowedFile::new(file, staged)
    }

    /// What is in the directory now; files that nobody has changed are still those of `before`.
    pub fn take_back(&self, before: &Tree) -> Result<Tree, Error> {
        let mut tree = before.fork();
        let refused = |path: &TreePath, error| Error::Scratch {
            operation: "take back",
            path: path.clone(),
            error,
        };
        let all = collect::walk(&tree, &TreePath::root())?;
        // What lies in a directory before the directory.
        for found in all.into_iter().rev() {
            if !self.is_unchanged(&found) {
                remove(&mut tree, &found.path).map_err(|source| refused(&found.path, source))?;
            }
        }
        let mut modes = Vec::new();
        open_up(&self.directory, &mut modes);
        self.add_new(&mut tree, &TreePath::root())?;
        for (host, mode) in modes {
            self.set_mode(&mut tree, &host, mode);
        }
        Ok(tree)
    }

    /// Gives a file or directory the mode that it had on the host.
    fn set_mode(&self, tree: &mut Tree, host: &Path, mode: u32) {
        let path = self.inside(host);
        let found = path.and_then(|path| tree.resolve(path.names()).ok());
        if let Some(ino) = found {
            let change = SetAttr {
                mode: Some(mode),
                ..SetAttr::default()
            };
            // Only a symlink has none, and none is here.
            let _ = tree.set_attr(ino, &change, Timestamp::now());
        }
    }

    fn is_unchanged(&self, found: &collect::Found) -> bool {
        let host = self.directory.join(found.path.to_path_buf());
        let Ok(metadata) = fs::symlink_metadata(&host) else {
            return false;
        };
        match found.attr.kind {
            Kind::Directory => metadata.is_dir(),
            _ => self.delivered.get(&host) == Some(&Stamp::from(&metadata)),
        }
    }

    /// Adds what is in a directory and not in the tree.
    fn add_new(&self, tree: &mut Tree, directory: &TreePath) -> Result<(), Error> {
        let host = self.directory.join(directory.to_path_buf());
        for entry in fs::read_dir(&host).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = Name::new(entry.file_name().as_bytes()).map_err(|error| Error::Scratch {
                operation: "take back",
                path: directory.clone(),
                error,
            })?;
            let path = directory.join(name);
            let kind = entry.file_type().map_err(unreadable)?;
            let is_there = tree.resolve(path.names()).is_ok();
            if is_there && kind.is_dir() {
                self.add_new(tree, &path)?;
            } else if is_there {
            } else if kind.is_file() || kind.is_dir() {
                // FIFOs too: in a mount they are there, and whoever collects them tells that they are left behind.
                let mut stage = Stage::new(tree, owner(), Timestamp::now()).with_special_files();
                stage.host(&path, &entry.path())?;
            } else {
                let mut stage = Stage::new(tree, owner(), Timestamp::now());
                stage.host_special(&path, &entry.path())?;
            }
        }
        Ok(())
    }

    /// The path in the tree of something in the directory.
    fn inside(&self, host: &Path) -> Option<TreePath> {
        let below = host.strip_prefix(&self.directory).ok()?;
        TreePath::try_from(below).ok()
    }
}

/// Makes readable what a step has closed to its own user, and tells the modes of that and of all directories.
fn open_up(directory: &Path, modes: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let needed = match metadata.file_type() {
            kind if kind.is_dir() => 0o700,
            kind if kind.is_file() => 0o400,
            _ => continue,
        };
        let mode = metadata.mode() & 0o7777;
        let is_closed = mode & needed != needed;
        if is_closed {
            // Where this is refused, reading it tells.
            let _ = fs::set_permissions(entry.path(), Permissions::from_mode(mode | needed));
        }
        if is_closed || metadata.is_dir() {
            modes.push((entry.path(), mode));
        }
        if metadata.is_dir() {
            open_up(&entry.path(), modes);
        }
    }
}

fn unreadable(source: io::Error) -> Error {
    Error::Processes {
        operation: "take back what was written by",
        source,
    }
}

fn remove(tree: &mut Tree, path: &TreePath) -> Result<(), StoreError> {
    let Some((above, name)) = path.parent().zip(path.file_name()) else {
        return Ok(());
    };
    let (parent, now) = (tree.resolve(&above)?, Timestamp::now());
    let kind = tree.attr(tree.resolve(path.names())?)?.kind;
    let unlinked = match kind {
        Kind::Directory => tree.rmdir(parent, name.as_bytes(), now)?,
        _ => tree.unlink(parent, name.as_bytes(), now)?,
    };
    if unlinked.orphaned {
        tree.free(unlinked.ino);
    }
    Ok(())
}

/// All that is below a directory, symlinks not followed. What goes meanwhile, or may not be looked into, is left out.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, &Metadata)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        visit(&entry.path(), &metadata);
        if metadata.is_dir() {
            walk(&entry.path(), visit);
        }
    }
}

fn measure(directory: &Path) -> Peak {
    let mut used = Peak {
        bytes: 0,
        inodes: 1,
    };
    walk(directory, &mut |_, metadata| {
        used.inodes += 1;
        if metadata.is_file() {
            // tmpfs counts whole pages, as we do.
            used.bytes += (metadata.blocks() * 512).next_multiple_of(PAGE_SIZE);
        }
    });
    used
}

/// What watching has seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub peak: Peak,
    /// The limit that was exceeded.
    pub exceeded: Option<Resource>,
}

/// Measures a directory again and again while `work` runs, and ends it by `end` when a limit is exceeded or `callers`
/// interrupt is raised.
pub(super) fn watched<T>(
    plain: &PlainGround,
    limits: Limits,
    (callers, end): (Option<&Interrupt>, &Interrupt),
    work: impl FnOnce() -> T,
) -> (T, Watched) {
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let mut watched = Watched {
                peak: Peak {
                    bytes: 0,
                    inodes: 0,
                },
                exceeded: None,
            };
            loop {
                let began = Instant::now();
                look(plain, limits, &mut watched);
                if watched.exceeded.is_some() || callers.is_some_and(Interrupt::is_raised) {
                    end.raise();
                }
                let pause = LOOK.max(began.elapsed() * 10);
                if is_done.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    look(plain, limits, &mut watched);
                    return watched;
                }
            }
        });
        let result = work();
        drop(done);
        let watched = watcher
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (result, watched)
    })
}

fn look(plain: &PlainGround, limits: Limits, watched: &mut Watched) {
    let used = plain.measure();
    watched.peak.bytes = watched.peak.bytes.max(used.bytes);
    watched.peak.inodes = watched.peak.inodes.max(used.inodes);
    if used.bytes > limits.bytes {
        watched.exceeded.get_or_insert(Resource::Bytes);
    } else if used.inodes > limits.inodes {
        watched.exceeded.get_or_insert(Resource::Inodes);
    }
}
