//! Writing down what was seen, in a form that must not depend on the file system.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec};

use super::syscalls::{self, O, Path};

/// Writes down a call and what it gave: `see!(mkdir("d", 0o755))`.
///
/// With a label first where the call's text does not say which of several it is.
macro_rules! see {
    ($call:expr $(,)?) => {
        $crate::harness::observe(stringify!($call), $call)
    };
    ($label:expr, $call:expr $(,)?) => {
        $crate::harness::observe(&$label, $call)
    };
}

/// Writes down one thing that was seen. Better called as [`see!`].
pub fn observe<T: fmt::Debug>(label: &(impl fmt::Display + ?Sized), value: T) -> Seen<T> {
    println!("{label} = {value:?}");
    Seen(value)
}

/// What was written down. A failure is as good an observation as a success, so that unlike a `Result` it
/// may be dropped.
pub struct Seen<T>(T);

impl<T, E: fmt::Debug> Seen<Result<T, E>> {
    /// The value, where the case makes no sense without.
    pub fn unwrap(self) -> T {
        self.0.unwrap()
    }
}

/// Writes down a line that is no call's result.
pub fn say(line: impl fmt::Display) {
    println!("{line}");
}

/// Bytes, shown whole when they are few.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 80;
        if self.0.len() <= SHOWN {
            return write!(f, "\"{}\"", self.0.escape_ascii());
        }
        // FNV-1a: enough to tell two contents apart, and the same in every process.
        let hash = self
            .0
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        write!(f, "{} bytes, hash {hash:016x}", self.0.len())
    }
}

/// What stat(2) tells that must agree. Times are compared by their order ([`relation_after`]); inode and
/// device numbers mean nothing elsewhere.
pub struct Facts(Stat);

impl Facts {
    pub fn size(&self) -> i64 {
        self.0.st_size
    }

    pub fn inode(&self) -> u64 {
        self.0.st_ino
    }

    fn kind(&self) -> &'static str {
        match FileType::from_raw_mode(self.0.st_mode) {
            FileType::RegularFile => "file",
            FileType::Directory => "directory",
            FileType::Symlink => "symlink",
            FileType::Fifo => "fifo",
            FileType::Socket => "socket",
            FileType::CharacterDevice => "char device",
            FileType::BlockDevice => "block device",
            _ => "unknown",
        }
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stat {
            st_mode,
            st_nlink,
            st_size,
            st_blocks,
            st_rdev,
            st_blksize,
            ..
        } = self.0;
        // "me", since a user namespace may give this user another number.
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let name = |id: u32, me: u32| {
            if id == me {
                "me".to_owned()
            } else {
                id.to_string()
            }
        };
        write!(
            f,
            "{} {:04o} links {st_nlink} owner {}:{} size {st_size} blocks {st_blocks} of {st_blksize} rdev {st_rdev:x}",
            self.kind(),
            st_mode & 0o7777,
            name(self.0.st_uid, uid.as_raw()),
            name(self.0.st_gid, gid.as_raw()),
        )
    }
}

/// What lstat(2) tells.
pub fn facts(path: impl Path) -> Result<Facts, Errno> {
    rustix::fs::lstat(path).map(Facts)
}

/// What fstat(2) tells.
pub fn facts_of(file: impl AsFd) -> Result<Facts, Errno> {
    rustix::fs::fstat(file).map(Facts)
}

/// Makes a file with this content, which must succeed.
pub fn make(path: impl Path + Copy, content: impl AsRef<[u8]>) {
    let file = syscalls::open(path, O::CREATE | O::TRUNC | O::WRONLY, 0o644).expect("make a file");
    let content = content.as_ref();
    let mut written = 0;
    while written < content.len() {
        written += syscalls::write(&file, &content[written..]).expect("fill a file");
    }
}

/// All bytes of a file, read through a new descriptor.
pub fn contents(path: impl Path) -> Result<Bytes, Errno> {
    let file = syscalls::open(path, O::RDONLY, 0)?;
    let mut all = Vec::new();
    loop {
        let Bytes(part) = syscalls::read(&file, 1 << 16)?;
        if part.is_empty() {
            return Ok(Bytes(all));
        }
        all.extend(part);
    }
}

/// The names in a directory but for `.` and `..`, sorted: no file system promises an order.
pub fn names(path: impl Path) -> Result<Vec<Bytes>, Errno> {
    let directory = syscalls::open(path, O::RDONLY | O::DIRECTORY, 0)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.into_iter().map(Bytes).collect())
}

/// Does something, and tells how the modification and change times of `path` moved over it.
///
/// Their values cannot be compared and neither can their distances, but that a time moved or stayed is
/// what make(1) and its like decide by.
pub fn relation_after<T>(path: impl Path + Copy, act: impl FnOnce() -> T) -> (T, String) {
    let before = rustix::fs::lstat(path).expect("stat before");
    wait_for_tick(&before);
    let result = act();
    let after = rustix::fs::lstat(path).expect("stat after");
    let mtime = moved(
        (before.st_mtime, before.st_mtime_nsec),
        (after.st_mtime, after.st_mtime_nsec),
    );
    let ctime = moved(
        (before.st_ctime, before.st_ctime_nsec),
        (after.st_ctime, after.st_ctime_nsec),
    );
    (result, format!("mtime {mtime}, ctime {ctime}"))
}

fn moved<T: Ord>(before: T, after: T) -> &'static str {
    match after.cmp(&before) {
        std::cmp::Ordering::Equal => "stayed",
        std::cmp::Ordering::Greater => "moved on",
        std::cmp::Ordering::Less => "went back",
    }
}

/// Waits until a change would get a later time than the last one got.
///
/// Many file systems take the time of the last timer interrupt, up to 10 ms old. Only the change time is
/// looked at: nobody can set it, so that it is never far in the future.
fn wait_for_tick(last: &Stat) {
    let last = Timespec {
        tv_sec: last.st_ctime,
        tv_nsec: last.st_ctime_nsec as _,
    };
    while rustix::time::clock_gettime(ClockId::RealtimeCoarse) <= last {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
