//! A directory of a file system that others use as well, where limits can only be watched.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstatvfs, openat};

use super::moved::MovedFiles;
use super::walk::{Closed, Visitor, walk};
use super::{Backing, JobFiles, Left, Wanted, pause};
use crate::mount::{BackedBy, MountPoint, Storage, TEMPORARY};
use crate::run::error::{Error, MountOnly};
use crate::run::follow;
use crate::run::step::inherited_variables;
use crate::store::{Limits, PAGE_SIZE, Peak, Resource, Tree, TreePath};
use crate::sys::mountinfo;

/// How often it is measured, at most; and looking takes no more than a tenth of the time.
const MEASURE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Directory {
    place: Arc<MountPoint>,
    backed_by: BackedBy,
    files: MovedFiles,
    /// For temporary files, where the job has no namespaces to have others in.
    temporary: Option<PathBuf>,
    /// What was asked for, where there is less room than that.
    wanted: Limits,
    seen: Mutex<Seen>,
}

/// What watching has seen.
#[derive(Debug)]
struct Seen {
    peak: Peak,
    /// The limit that was exceeded.
    exceeded: Option<Resource>,
    /// There was no room at all, whichever process had taken it.
    was_full: bool,
    /// When it is to be measured again.
    next: Instant,
}

impl Directory {
    pub fn make(wanted: &Wanted, mut tree: Tree) -> Result<Self, Error> {
        let backed = wanted.backed(&tree);
        let used = tree.usage();
        let made = MountPoint::directory(&backed, &usual_directories(), used.bytes);
        let (place, root, backed_by) = made.map_err(|source| match backed.at {
            Some(_) if source.lacks_fuse() => Error::NeedsFuse {
                what: MountOnly::At,
                source: Some(source),
            },
            _ => source.into(),
        })?;
        let temporary = backed.own_tmp.filter(|_| !place.has_own());
        let temporary = temporary.map(|_| backed_by.directory.with_file_name(TEMPORARY));
        let limits = backed_by.limits;
        if let Some(resource) = exceeded((used.bytes, used.inodes), limits) {
            return Err(over_limit(&backed_by, used.limits, resource));
        }
        tree.set_limits(limits);
        let seen = Seen {
            peak: tree.peak(),
            exceeded: None,
            was_full: false,
            next: Instant::now(),
        };
        Ok(Self {
            place,
            backed_by,
            files: MovedFiles::new(tree, root)?,
            temporary,
            wanted: used.limits,
            seen: Mutex::new(seen),
        })
    }

    /// What it and the temporary files of its job hold.
    fn measure(&self, seen: &mut Seen) {
        let mut used = count(self.files.root());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let temporary = self.temporary.as_deref().unwrap_or(Path::new(""));
        if let Ok(temporary) = openat(CWD, temporary, flags, Mode::empty()) {
            let beside = count(temporary.as_fd());
            used.bytes += beside.bytes;
            used.inodes += beside.inodes;
        }
        used.bytes += self.place.own_usage().map_or(0, |own| own.bytes);
        seen.peak.bytes = seen.peak.bytes.max(used.bytes);
        seen.peak.inodes = seen.peak.inodes.max(used.inodes);
        if let Some(resource) = exceeded((used.bytes, used.inodes), self.backed_by.limits) {
            seen.exceeded.get_or_insert(resource);
        }
    }

    /// How many bytes can still be written there, by whichever process; none where there is no room for another file.
    fn room(&self) -> u64 {
        let Ok(there) = fstatvfs(self.files.root()) else {
            return u64::MAX;
        };
        // On a disk the last blocks are for the file system itself.
        let kept = match self.backed_by.storage {
            Storage::Disk => 1 << 20,
            _ => 0,
        };
        match there.f_files > 0 && there.f_ffree == 0 {
            true => 0,
            false => (there.f_bavail * there.f_frsize).saturating_sub(kept),
        }
    }

    /// The error of a job that wanted more than it could have.
    fn shortage(&self, seen: &Seen) -> Option<Error> {
        match seen.exceeded {
            Some(resource) => Some(over_limit(&self.backed_by, self.wanted, resource)),
            None => (seen.was_full).then(|| no_room(&self.backed_by, Resource::Bytes)),
        }
    }
}

impl JobFiles for Directory {
    fn backing(&self) -> Backing {
        Backing::Directory
    }

    fn place(&self) -> &Arc<MountPoint> {
        &self.place
    }

    fn backed_by(&self) -> Option<&BackedBy> {
        Some(&self.backed_by)
    }

    fn temporary(&self) -> Option<PathBuf> {
        self.temporary.clone()
    }

    fn follow(&self, name: &TreePath) -> Result<Box<dyn follow::Source>, Error> {
        Ok(self.files.follow(name))
    }

    fn look(&self) -> Result<Option<Duration>, Error> {
        let mut seen = self.seen.lock();
        let room = self.room();
        seen.was_full |= room == 0;
        let now = Instant::now();
        if now >= seen.next {
            self.measure(&mut seen);
            seen.next = now + MEASURE.max(now.elapsed() * 10);
        }
        if let Some(error) = self.shortage(&seen) {
            return Err(error);
        }
        Ok(Some(pause(room)))
    }

    fn end(self: Box<Self>) -> Result<Left, Error> {
        let mut seen = self.seen.lock();
        seen.was_full |= self.room() == 0;
        self.measure(&mut seen);
        let shortage = self.shortage(&seen);
        let full = seen.was_full.then_some(Resource::Bytes);
        let (peak, limit_met) = (seen.peak, seen.exceeded.or(full));
        drop(seen);
        let tmp_full = self.place.own_usage().and_then(|own| own.full);
        Ok(Left {
            limit_met,
            tmp_full,
            shortage,
            ..self.files.take_back(peak)?
        })
    }
}

/// Where one may be made: where steps are told to write temporary files, where systems have a tmpfs that users may write to,
/// and a disk for where none has room.
fn usual_directories() -> Vec<PathBuf> {
    let named = |(name, value): (OsString, OsString)| {
        let is_for_files = name == "TMPDIR" || name == "XDG_RUNTIME_DIR";
        is_for_files.then(|| PathBuf::from(value))
    };
    let named = inherited_variables().filter_map(named);
    let named = named.filter(|directory| directory.is_absolute());
    let user = rustix::process::getuid().as_raw();
    let usual = ["/dev/shm", &format!("/run/user/{user}"), "/tmp", "/run"].map(PathBuf::from);
    // What the system keeps there is not for files.
    let is_for_files = |place: &PathBuf| {
        let of_system = ["/dev", "/sys", "/proc"];
        !of_system.iter().any(|it| place.starts_with(it))
    };
    let mounts = mountinfo::own().unwrap_or_default().into_iter();
    let tmpfs = mounts.filter(|mount| mount.kind == "tmpfs");
    let others = tmpfs.map(|mount| mount.path).filter(is_for_files);
    named
        .chain(usual)
        .chain(others)
        .chain(["/var/tmp".into()])
        .collect()
}

fn exceeded((bytes, inodes): (u64, u64), limits: Limits) -> Option<Resource> {
    match (bytes > limits.bytes, inodes > limits.inodes) {
        (true, _) => Some(Resource::Bytes),
        (_, true) => Some(Resource::Inodes),
        _ => None,
    }
}

/// The limit was asked for, or is the room that there was.
fn over_limit(backed_by: &BackedBy, wanted: Limits, resource: Resource) -> Error {
    let limits = backed_by.limits;
    let as_wanted = match resource {
        Resource::Bytes => limits.bytes == wanted.bytes,
        Resource::Inodes => limits.inodes == wanted.inodes,
    };
    match as_wanted {
        true => Error::OverLimit { resource, limits },
        false => no_room(backed_by, resource),
    }
}

fn no_room(backed_by: &BackedBy, resource: Resource) -> Error {
    Error::NoRoom {
        directory: backed_by.directory.clone(),
        resource,
        room: backed_by.limits,
    }
}

/// What a directory and all that is in it hold, as far as it can be looked into.
fn count(directory: BorrowedFd<'_>) -> Peak {
    let mut counting = Counting(Peak {
        bytes: 0,
        inodes: 1,
    });
    // What changes meanwhile is seen next time.
    let _ = walk(directory, (), Closed::LeftOut, &mut counting);
    counting.0
}

struct Counting(Peak);

impl Visitor for Counting {
    type Directory = ();

    fn enter(&mut self, (): (), _names: &[CString]) -> Result<(), Error> {
        Ok(())
    }

    // The types of `Stat` differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn visit(
        &mut self,
        (): (),
        _: BorrowedFd<'_>,
        _: &CStr,
        stat: &Stat,
    ) -> Result<Option<()>, Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        self.0.inodes += 1;
        if kind == FileType::RegularFile {
            // tmpfs counts whole pages, as we do.
            self.0.bytes += (stat.st_blocks as u64 * 512).next_multiple_of(PAGE_SIZE);
        }
        Ok((kind == FileType::Directory).then_some(()))
    }
}
