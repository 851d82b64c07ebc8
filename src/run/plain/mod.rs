//! A job without FUSE: the same steps on a tmpfs of its own, or in a directory, where limits can only be watched.
//!
//! The tree is moved to where the steps see it, and what is there afterwards is moved back into a fork of it, so that what
//! the job leaves is told apart from what it was given as in a mount, and no file is in memory twice.

mod take_back;
mod walk;
mod write_out;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstatvfs, openat};

use self::walk::{Closed, Visitor, walk};
use self::write_out::AllDelivered;
use super::error::Error;
use super::followed_file::{ContentStamp, FollowedFile};
use super::process::Interrupt;
use crate::fuse::RequestCounts;
use crate::mount::{BackedBy, MountPoint, PlainWanted, Storage, TEMPORARY};
use crate::store::{Ino, Limits, PAGE_SIZE, Peak, Resource, Tree, TreePath};

/// How often a directory is measured, at least: looking takes no more than a tenth of the time.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether there is room at all, at most.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
/// No tool fills memory faster, in bytes a millisecond.
const FASTEST_TOOL: u64 = 8 << 20;

/// Where the steps of such a job run.
#[derive(Debug)]
pub(super) struct PlainGround {
    pub place: Arc<MountPoint>,
    pub instead: BackedBy,
    /// The directory, for us: its processes may see it elsewhere.
    files: OwnedFd,
    /// For temporary files, where the job has no namespaces to have others in.
    pub temporary: Option<PathBuf>,
    /// What was asked for, where there is less room than that.
    wanted: Limits,
    /// None ever comes.
    pub requests: Arc<RequestCounts>,
    delivered: AllDelivered,
}

/// Something that came into the directory, and the inode of the tree that it was.
#[derive(Debug)]
struct Delivered {
    ino: Ino,
    stamp: Stamp,
}

/// What of a file is another when it was changed.
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

// The types of `Stat` differ between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
impl From<&Stat> for Stamp {
    fn from(of: &Stat) -> Self {
        Self {
            inode: of.st_ino as u64,
            mode: of.st_mode as u32,
            size: of.st_size as u64,
            modified: (of.st_mtime as i64, of.st_mtime_nsec as i64),
            changed: (of.st_ctime as i64, of.st_ctime_nsec as i64),
        }
    }
}

impl PlainGround {
    /// Moves everything that is in `tree` to where it finds room, and gives the tree the limits of that.
    pub fn new(wanted: &PlainWanted<'_>, tree: &mut Tree) -> Result<Self, Error> {
        let (place, files, instead) = MountPoint::plain(wanted)?;
        let temporary = wanted.own_tmp.filter(|_| !place.has_own());
        let temporary = temporary.map(|_| instead.directory.with_file_name(TEMPORARY));
        let used = tree.usage();
        let limits = instead.limits;
        let exceeded = [
            (used.bytes > limits.bytes, Resource::Bytes),
            (used.inodes > limits.inodes, Resource::Inodes),
        ];
        if let Some((_, resource)) = exceeded.into_iter().find(|(exceeded, _)| *exceeded) {
            return Err(over_limit(&instead, wanted.limits, resource));
        }
        tree.set_limits(limits);
        let delivered = write_out::write_out(tree, &files)?;
        Ok(Self {
            place,
            instead,
            files,
            temporary,
            wanted: wanted.limits,
            requests: Arc::default(),
            delivered,
        })
    }

    /// The error of a job that wanted more than it could have.
    pub fn shortage(&self, watched: &Watched) -> Option<Error> {
        match watched.exceeded {
            Some(resource) => Some(over_limit(&self.instead, self.wanted, resource)),
            None => watched
                .was_full
                .then(|| no_room(&self.instead, Resource::Bytes)),
        }
    }

    /// Follows a file in it, which begins when a step has changed it.
    pub fn follow(&self, name: &TreePath, tree: &Tree) -> FollowedFile {
        let host = PathBuf::from(format!("/proc/self/fd/{}", self.files.as_raw_fd()));
        let ino = tree.resolve(name.names()).ok();
        let staged = self
            .delivered
            .values()
            .find(|it| Some(it.ino) == ino)
            .map(|it| it.stamp.content());
        FollowedFile::new(host.join(name.to_path_buf()), staged)
    }

    /// What is in the directory now, out of which it is moved. Files that no step has changed are those of `staged`, which
    /// get their content back.
    pub fn take_back(&self, staged: &mut Tree, is_over_limit: bool) -> Result<Tree, Error> {
        let lift = |tree: &mut Tree| {
            if is_over_limit {
                // What is there is to be looked at, although it is more than it should be.
                tree.set_limits(Limits {
                    bytes: u64::MAX,
                    inodes: u64::MAX,
                });
            }
        };
        take_back::take_back(self.files.as_fd(), &self.delivered, staged, lift)
    }

    /// Whether the kernel holds the limits of the files, so that the tools are told.
    fn is_own_tmpfs(&self) -> bool {
        self.instead.storage == Storage::OwnTmpfs
    }

    /// What it and the temporary files of its job hold.
    fn measure(&self) -> Peak {
        let mut used = match self.is_own_tmpfs() {
            true => used(self.files.as_fd()),
            false => count(self.files.as_fd()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let temporary = self.temporary.as_deref().unwrap_or(Path::new(""));
        if let Ok(temporary) = openat(rustix::fs::CWD, temporary, flags, Mode::empty()) {
            let beside = count(temporary.as_fd());
            used.bytes += beside.bytes;
            used.inodes += beside.inodes;
        }
        used
    }

    /// How many bytes can still be written there, by whichever process; none where there is no room for another file.
    fn room(&self) -> u64 {
        let Ok(there) = fstatvfs(&self.files) else {
            return u64::MAX;
        };
        // On a disk the last blocks are for the file system itself.
        let kept = match self.instead.storage {
            Storage::Disk => 1 << 20,
            _ => 0,
        };
        match there.f_files > 0 && there.f_ffree == 0 {
            true => 0,
            false => (there.f_bavail * there.f_frsize).saturating_sub(kept),
        }
    }
}

/// The limit was asked for, or is the room that there was.
fn over_limit(instead: &BackedBy, wanted: Limits, resource: Resource) -> Error {
    let limits = instead.limits;
    let as_wanted = match resource {
        Resource::Bytes => limits.bytes == wanted.bytes,
        Resource::Inodes => limits.inodes == wanted.inodes,
    };
    match as_wanted {
        true => Error::OverLimit { resource, limits },
        false => no_room(instead, resource),
    }
}

fn no_room(instead: &BackedBy, resource: Resource) -> Error {
    Error::NoRoom {
        directory: instead.directory.clone(),
        resource,
        room: instead.limits,
    }
}

/// What a whole file system holds.
fn used(files: BorrowedFd<'_>) -> Peak {
    let there = fstatvfs(files);
    there.map_or(
        Peak {
            bytes: 0,
            inodes: 0,
        },
        |there| Peak {
            bytes: (there.f_blocks - there.f_bfree) * there.f_frsize,
            inodes: there.f_files - there.f_ffree,
        },
    )
}

/// What a directory and all that is in it hold, as far as it can be looked into.
fn count(directory: BorrowedFd<'_>) -> Peak {
    let mut counting = Counting(Peak {
        bytes: 0,
        inodes: 1,
    });
    // What changes meanwhile is seen next time.
    let _ = walk(directory, Closed::LeftOut, &mut counting);
    counting.0
}

struct Counting(Peak);

impl Visitor for Counting {
    fn enter(&mut self, _names: &[CString]) -> Result<(), Error> {
        Ok(())
    }

    // The types of `Stat` differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn visit(&mut self, _: BorrowedFd<'_>, _: &CStr, stat: &Stat) -> Result<bool, Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.0.inodes += 1;
        if kind == FileType::RegularFile {
            // tmpfs counts whole pages, as we do.
            self.0.bytes += (stat.st_blocks as u64 * 512).next_multiple_of(PAGE_SIZE);
        }
        Ok(kind == FileType::Directory)
    }

    fn leave(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// What watching has seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub peak: Peak,
    /// The limit that was exceeded.
    pub exceeded: Option<Resource>,
    /// There was no room at all where it ran, whoever had taken it.
    pub was_full: bool,
}

impl Watched {
    /// Whether what the steps have written may have been cut without their noticing.
    pub fn may_be_cut(&self) -> bool {
        self.exceeded.is_some() || self.was_full
    }

    /// What the tools have met.
    pub fn limit_met(&self) -> Option<Resource> {
        self.exceeded.or(self.was_full.then_some(Resource::Bytes))
    }

    fn measure(&mut self, plain: &PlainGround) {
        let limits = plain.instead.limits;
        let used = plain.measure();
        let beside = plain.place.own_usage().map_or(0, |own| own.bytes);
        let bytes = used.bytes + beside;
        self.peak.bytes = self.peak.bytes.max(bytes);
        self.peak.inodes = self.peak.inodes.max(used.inodes);
        if bytes > limits.bytes {
            self.exceeded.get_or_insert(Resource::Bytes);
        } else if used.inodes > limits.inodes {
            self.exceeded.get_or_insert(Resource::Inodes);
        }
    }
}

/// Measures a directory again and again while `work` runs, and ends it by `end` when a limit is exceeded or `callers`
/// interrupt is raised.
///
/// # Errors
/// There is no thread to do it.
pub(super) fn watched<T>(
    plain: &PlainGround,
    (callers, end): (Option<&Interrupt>, &Interrupt),
    work: impl FnOnce() -> T,
) -> Result<(T, Watched), Error> {
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("notapipe-watch".to_owned());
        let watch = move || {
            let mut watched = Watched {
                peak: Peak {
                    bytes: 0,
                    inodes: 0,
                },
                exceeded: None,
                was_full: false,
            };
            let mut next = Instant::now();
            loop {
                let room = plain.room();
                watched.was_full |= !plain.is_own_tmpfs() && room == 0;
                let now = Instant::now();
                // That of a tmpfs of its own is known at once.
                if now >= next || plain.is_own_tmpfs() && room == 0 {
                    watched.measure(plain);
                    next = now + LOOK.max(now.elapsed() * 10);
                }
                // On a tmpfs of its own the kernel has told the tools, which may know what to do.
                let is_told = plain.is_own_tmpfs() && room == 0;
                if watched.may_be_cut() && !is_told || callers.is_some_and(Interrupt::is_raised) {
                    end.raise();
                }
                let pause = Duration::from_millis(room / FASTEST_TOOL).max(SHORTEST_LOOK);
                if is_done.recv_timeout(pause.min(LOOK)) != Err(RecvTimeoutError::Timeout) {
                    watched.was_full |= !plain.is_own_tmpfs() && plain.room() == 0;
                    watched.measure(plain);
                    return watched;
                }
            }
        };
        let watcher = thread.spawn_scoped(scope, watch);
        let watcher = watcher.map_err(|source| Error::Processes {
            operation: "watch",
            source,
        })?;
        let result = work();
        drop(done);
        let watched = watcher
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((result, watched))
    })
}
