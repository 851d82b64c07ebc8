//! Random sequences of calls by several processes, whose every result must be the same on both sides.
//!
//! All processes know the whole sequence, and each makes the calls that are its own when its turn comes: so several
//! processes, with descriptors, working directories, umasks, locks and users of their own, do the same twice. After each
//! call what lstat(2) tells of what it touched is written down, and now and then everything there is.
//!
//! The sequences are the same in every run. For others, and longer ones:
//!
//! ```sh
//! NOTAPIPE_RANDOM_SEED=7 NOTAPIPE_RANDOM_CALLS=20000 cargo test --test posix random
//! ```

use std::fmt::Debug;
use std::io::Write;

use rustix::fs::{
    Access, AtFlags, FlockOperation, UTIME_NOW, UTIME_OMIT, copy_file_range, fgetxattr, flock,
    fsync, lgetxattr, llistxattr, lremovexattr, lsetxattr,
};
use rustix::process::{fchdir, umask};

use crate::harness::*;

cases! {
    Anyone: several_processes, many_descriptors;
    Others: several_users;
}

/// Few, so that calls meet on the same names; some are never there, or never allowed.
const PATHS: &[&str] = &[
    "a", "b", "c", "d", "e", "f", "d/a", "d/b", "d/d", "d/e", "e/a", "e/d", "e/e", "d/d/a",
    "d/d/e", "e/e/b", "a/b", "d/../b", "./c", "d/", "a/", "e/e/e/e", "f/a", "f/d", "", ".",
    "none/a",
];
const SLOTS: usize = 4;
/// Offsets and sizes stay below, apart from a few that are absurd.
const FAR: u64 = 300_000;

fn several_processes() {
    Play::new(1, 1_500, &[0, 0, 0]).perform();
}

fn many_descriptors() {
    Play::new(2, 1_500, &[0]).perform();
}

/// Root twice, and two others between whom permissions, sticky directories and set-id bits decide.
fn several_users() {
    chmod(".", 0o1777).unwrap();
    Play::new(3, 1_500, &[0, 1_001, 1_002, 0]).perform();
}

/// A sequence and who plays it.
struct Play {
    seed: u64,
    calls: Vec<Call>,
    /// The user of each process, 0 for the one who runs the case.
    users: &'static [u32],
}

/// One call. The numbers mean something else to each kind.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: usize,
    actor: usize,
    kind: u64,
    path: &'static str,
    other: &'static str,
    slot: usize,
    x: u64,
    y: u64,
    z: u64,
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

impl Play {
    fn new(seed: u64, calls: u64, users: &'static [u32]) -> Self {
        let seed = from_environment("NOTAPIPE_RANDOM_SEED").map_or(seed, |it| it * 10 + seed);
        let calls = from_environment("NOTAPIPE_RANDOM_CALLS").unwrap_or(calls);
        let mut random = Random(seed);
        let draw = |number: u64| Call {
            number: number as usize,
            actor: random.below(users.len() as u64) as usize,
            kind: random.below(100),
            path: random.path(),
            other: random.path(),
            slot: random.below(SLOTS as u64) as usize,
            x: random.next(),
            y: random.next(),
            z: random.next(),
        };
        Self {
            seed,
            calls: (0..calls).map(draw).collect(),
            users,
        }
    }

    fn perform(&self) {
        let signals: Vec<PipeSignal> = self.users.iter().map(|_| PipeSignal::new()).collect();
        let children: Vec<_> = (0..self.users.len())
            .map(|actor| fork(|| self.act(actor, &signals)))
            .collect();
        if let Some(first) = self.calls.first() {
            signals[first.actor].send();
        }
        children.into_iter().for_each(wait_for);
        everything(&format!("seed {} at the end", self.seed));
    }

    /// The part of one process.
    fn act(&self, actor: usize, signals: &[PipeSignal]) {
        become_user(self.users[actor]);
        let mut process = Process {
            root: open(".", O::RDONLY | O::DIRECTORY, 0).unwrap(),
            slots: [const { None }; SLOTS],
        };
        for (at, call) in self.calls.iter().enumerate() {
            if call.actor != actor {
                continue;
            }
            signals[actor].wait();
            let label = format!("seed {} call {} by {actor}", self.seed, call.number);
            process.make(call, &label);
            if call.number % 200 == 199 {
                // Refused where somebody took away the right to enter it.
                see!(label, fchdir(&process.root));
                everything(&label);
            }
            std::io::stdout().flush().unwrap();
            if let Some(next) = self.calls.get(at + 1) {
                signals[next.actor].send();
            }
        }
    }
}

fn become_user(id: u32) {
    if id != 0 {
        // SAFETY: plain system calls with numbers; one thread, which is the process.
        let became = unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(id, id, id) == 0
                && libc::setresuid(id, id, id) == 0
        };
        assert!(became, "become user {id}");
    }
}

/// What a process holds.
struct Process {
    root: Fd,
    slots: [Option<Fd>; SLOTS],
}

impl Process {
    /// Makes a call and writes down its result, and what is then told of the names and files in it.
    fn make(&mut self, call: &Call, label: &str) {
        // Costs up to a tick of the clock.
        let before = call.z.is_multiple_of(32).then(|| Times::of(call));
        let did = self.perform(call);
        say(format_args!("{label}: {did}"));
        if let Some(before) = before {
            say(format_args!("{label}: {}", before.moved(call)));
        }
        for path in [call.path, call.other] {
            say(format_args!("{label}: {path:?} {:?}", facts(path)));
        }
        for (slot, file) in self.slots.iter().enumerate() {
            if let Some(file) = file {
                let at = seek(file, 0, libc::SEEK_CUR);
                let facts = facts_of(file);
                say(format_args!("{label}: {slot} open {facts:?} at {at:?}"));
            }
        }
    }

    fn perform(&mut self, call: &Call) -> String {
        match call.kind {
            0..=19 => self.open(call),
            20..=69 => match self.slots[call.slot].take() {
                None => self.open(call),
                Some(file) => {
                    let did = self.with_file(call, &file);
                    // Closed by the one call that closes.
                    self.slots[call.slot] = (call.kind != 69).then_some(file);
                    did
                }
            },
            _ => self.with_names(call),
        }
    }

    fn open(&mut self, call: &Call) -> String {
        let access = [O::RDONLY, O::WRONLY, O::RDWR, O::RDWR][(call.x % 4) as usize];
        // A FIFO's other end never comes.
        let mut flags = access | O::NONBLOCK;
        let choices = [
            (2, O::CREATE),
            (8, O::EXCL),
            (6, O::TRUNC),
            (6, O::APPEND),
            (16, O::DIRECTORY),
            (12, O::NOFOLLOW),
            (24, O::PATH),
            (24, O::SYNC),
        ];
        let mut bits = Random(call.y);
        for (one_in, flag) in choices {
            if bits.below(one_in) == 0 {
                flags |= flag;
            }
        }
        let mode = mode_from(call.z);
        let opened = open(call.path, flags, mode);
        let did = format!("open({:?}, {flags:?}, {mode:o}) = {opened:?}", call.path);
        if let Ok(file) = opened {
            self.slots[call.slot] = Some(file);
        }
        did
    }

    fn with_file(&self, call: &Call, file: &Fd) -> String {
        let (at, len) = (offset(call.x), (call.y % 9_000) as usize);
        let size = call.y % FAR;
        let bytes = || vec![b'a' + (call.z % 26) as u8; len];
        match call.kind {
            20..=24 => told(format!("read {len}"), read(file, len)),
            25..=31 => told(format!("write {len}"), write(file, bytes())),
            32..=35 => told(format!("pread {len} at {at}"), pread(file, len, at)),
            36..=42 => told(format!("pwrite {len} at {at}"), pwrite(file, bytes(), at)),
            43..=45 => {
                let whence = [
                    libc::SEEK_SET,
                    libc::SEEK_CUR,
                    libc::SEEK_END,
                    libc::SEEK_DATA,
                    libc::SEEK_HOLE,
                ][(call.y % 5) as usize];
                // tmpfs overflows when it looks for data at the very end of what is possible.
                let is_sane = whence < libc::SEEK_DATA
                    || facts_of(file).is_ok_and(|facts| facts.size() < 1 << 40);
                match is_file(file) && is_sane {
                    true => told(format!("seek {at} from {whence}"), seek(file, at, whence)),
                    false => "no seek".to_owned(),
                }
            }
            46..=48 => told(format!("ftruncate {at}"), ftruncate(file, at)),
            49..=52 => {
                const MODES: [i32; 5] = [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_COLLAPSE_RANGE,
                ];
                let mode = MODES[(call.z % 5) as usize];
                let (at, size) = (at.min(FAR as i64), size as i64);
                told(
                    format!("fallocate {mode} {at} {size}"),
                    fallocate(file, mode, at, size),
                )
            }
            53..=54 => self.copy(call, file),
            55..=57 => map_and_write(call, file),
            58 => told(
                format!("fchmod {:o}", mode_from(call.x)),
                fchmod(file, mode_from(call.x)),
            ),
            59 => told("fsync", fsync(file)),
            60..=61 => told(format!("lock {}", call.x % 3), lock(call, file)),
            62 => {
                let operation = [
                    FlockOperation::NonBlockingLockShared,
                    FlockOperation::NonBlockingLockExclusive,
                    FlockOperation::Unlock,
                ][(call.x % 3) as usize];
                told(format!("flock {operation:?}"), flock(file, operation))
            }
            63..=64 => told(
                "getxattr",
                fgetxattr(file, attribute(call), &mut [0_u8; 64][..]),
            ),
            65..=66 => told("facts", facts_of(file)),
            67..=68 => told("fchdir", fchdir(file)),
            _ => "close".to_owned(),
        }
    }

    fn copy(&self, call: &Call, from: &Fd) -> String {
        let Some(to) = &self.slots[(call.slot + 1) % SLOTS] else {
            return "copy to nothing".to_owned();
        };
        let (mut read_at, mut write_at) = (call.x % FAR, call.y % FAR);
        let len = (call.z % 20_000) as usize;
        // A hole may stay one in the copy, or not: only a source without any is comparable.
        if !is_file(from) || !is_file(to) || has_holes(from, read_at, len) {
            return "copy of holes".to_owned();
        }
        told(
            format!("copy {len} from {read_at} to {write_at}"),
            copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), len),
        )
    }

    fn with_names(&mut self, call: &Call) -> String {
        let (path, other) = (call.path, call.other);
        match call.kind {
            70..=73 => {
                let mode = mode_from(call.x);
                told(format!("mkdir({path:?}, {mode:o})"), mkdir(path, mode))
            }
            74..=76 => told(format!("unlink({path:?})"), unlink(path)),
            77..=78 => told(format!("rmdir({path:?})"), rmdir(path)),
            79..=82 => told(format!("rename({path:?}, {other:?})"), rename(path, other)),
            83 => {
                let flags = [Rename::NOREPLACE, Rename::EXCHANGE][(call.x % 2) as usize];
                told(
                    format!("rename({path:?}, {other:?}, {flags:?})"),
                    rename_with(path, other, flags),
                )
            }
            84..=85 => told(format!("link({path:?}, {other:?})"), link(path, other)),
            86 => told(
                format!("symlink({other:?}, {path:?})"),
                symlink(other, path),
            ),
            87 => told(format!("readlink({path:?})"), readlink(path)),
            88..=89 => {
                let mode = mode_from(call.x);
                told(format!("chmod({path:?}, {mode:o})"), chmod(path, mode))
            }
            90 => self.chown(call),
            91 => told(
                format!("truncate({path:?}, {})", offset(call.x)),
                truncate(path, offset(call.x)),
            ),
            92 => {
                let kind = [libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG][(call.x % 3) as usize];
                let mode = kind | mode_from(call.y);
                told(format!("mknod({path:?}, {mode:o})"), mknod(path, mode, 0))
            }
            93 => set_times(call),
            94 => {
                let mode = Access::from_bits_retain((call.x % 8) as u32);
                told(format!("access({path:?}, {mode:?})"), access(path, mode))
            }
            95 => self.attributes(call),
            96 => told(format!("names({path:?})"), names(path)),
            97 => match call.x % 3 {
                0 => told(format!("chdir({path:?})"), chdir(path)),
                _ => told("chdir back", fchdir(&self.root)),
            },
            98 => told(
                format!("umask {:o}", call.x % 0o1000),
                umask(rustix::fs::Mode::from_raw_mode(
                    (call.x % 0o1000) as u32 & 0o077,
                )),
            ),
            _ => told(format!("what({path:?})"), whole(path)),
        }
    }

    fn chown(&self, call: &Call) -> String {
        // Others' numbers do not exist in a user namespace.
        let ids = |me: u32| match is_root() {
            true => [Some(0), Some(1_001), Some(1_002), None],
            false => [Some(me), None, Some(me), None],
        };
        let uid = ids(rustix::process::geteuid().as_raw())[(call.x % 4) as usize];
        let gid = ids(rustix::process::getegid().as_raw())[(call.y % 4) as usize];
        told(
            format!("chown({:?})", call.path),
            chown(call.path, uid, gid),
        )
    }

    fn attributes(&self, call: &Call) -> String {
        let (path, name) = (call.path, attribute(call));
        let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE];
        match call.y % 5 {
            0..=1 => {
                let value = vec![b'v'; (call.z % 60) as usize];
                let flags = flags[(call.z % 3) as usize];
                told(
                    format!("setxattr({path:?}, {name}, {flags:?})"),
                    lsetxattr(path, name, &value, flags),
                )
            }
            2 => told(
                format!("getxattr({path:?}, {name})"),
                lgetxattr(path, name, &mut [0_u8; 64][..]),
            ),
            3 => told(
                format!("removexattr({path:?}, {name})"),
                lremovexattr(path, name),
            ),
            _ => told(
                format!("listxattr({path:?})"),
                llistxattr(path, &mut [0_u8; 256][..]),
            ),
        }
    }
}

fn told(call: impl std::fmt::Display, result: impl Debug) -> String {
    format!("{call} = {result:?}")
}

fn attribute(call: &Call) -> &'static str {
    ["user.a", "user.b", "user.long name", "nonsense"][(call.x % 4) as usize]
}

fn mode_from(number: u64) -> u32 {
    // Mostly something that can be worked with.
    match number % 4 {
        0 => (number >> 8) as u32 & 0o7777,
        1 => 0o755,
        2 => 0o666,
        _ => 0o777,
    }
}

fn offset(number: u64) -> i64 {
    match number % 64 {
        0 => -1,
        1 => i64::MAX,
        2 => i64::MAX - 4_095,
        3..=20 => (number >> 8) as i64 % 5_000,
        _ => ((number >> 8) % FAR) as i64,
    }
}

fn is_file(file: &Fd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

fn has_holes(file: &Fd, at: u64, len: usize) -> bool {
    let at = at as i64;
    let position = seek(file, 0, libc::SEEK_CUR);
    let hole = seek(file, at, libc::SEEK_HOLE);
    if let Ok(position) = position {
        let _ = seek(file, position, libc::SEEK_SET);
    }
    hole.is_ok_and(|hole| hole < at + len as i64)
}

/// Through a shared mapping, where there are bytes: what lies past the end differs by nature.
fn map_and_write(call: &Call, file: &Fd) -> String {
    let size = facts_of(file).map_or(0, |facts| facts.size());
    if !is_file(file) || size == 0 || size > 1 << 20 {
        return "nothing to map".to_owned();
    }
    let at = (call.x % size as u64) as usize;
    let len = ((call.y % 9_000) as usize).min(size as usize - at);
    let map = match Map::shared(file, 0, size as usize) {
        Ok(map) => map,
        Err(error) => return format!("map = {error:?}"),
    };
    map.write(at, &vec![b'A' + (call.z % 26) as u8; len]);
    told(format!("map and write {len} at {at}"), map.sync())
}

fn lock(call: &Call, file: &Fd) -> std::io::Result<()> {
    let mut wanted = libc::flock {
        l_type: [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK][(call.x % 3) as usize] as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: (call.y % 100) as i64,
        l_len: (call.z % 100) as i64,
        l_pid: 0,
    };
    // SAFETY: the structure lives as long as the call.
    let result = unsafe {
        libc::fcntl(
            std::os::fd::AsRawFd::as_raw_fd(file),
            libc::F_SETLK,
            &raw mut wanted,
        )
    };
    match result {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn set_times(call: &Call) -> String {
    let time = |number: u64| match number % 4 {
        0 => (0, UTIME_NOW),
        1 => (0, UTIME_OMIT),
        _ => (
            (number >> 8) as i64 % 4_000_000_000 - 1_000_000_000,
            (number % 1_000_000_000) as i64,
        ),
    };
    let (atime, mtime) = (time(call.x), time(call.y));
    let times = timestamps(atime, mtime);
    let set = utimens(call.path, &times, AtFlags::SYMLINK_NOFOLLOW);
    let seen = rustix::fs::lstat(call.path)
        .ok()
        .filter(|_| set.is_ok() && call.y % 4 > 1)
        .map(|stat| (stat.st_mtime, stat.st_mtime_nsec));
    format!("utimens({:?}, {times:?}) = {set:?}, {seen:?}", call.path)
}

/// Of one file, its bytes, as far as they are few.
fn whole(path: &str) -> Result<Bytes> {
    let stat = rustix::fs::lstat(path)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_size > 2 << 20 {
        return Ok(Bytes(Vec::new()));
    }
    contents(path)
}

/// Writes down all that is below the working directory.
fn everything(label: &str) {
    let mut directories = vec![".".to_owned()];
    while let Some(directory) = directories.pop() {
        let names = names(&*directory);
        say(format_args!("{label}: {directory} {names:?}"));
        for Bytes(name) in names.into_iter().flatten() {
            let path = format!("{directory}/{}", String::from_utf8_lossy(&name));
            let seen = facts(&*path);
            let shown = format!("{seen:?}");
            say(format_args!("{label}: {path} {shown} {:?}", whole(&path)));
            if shown.contains("directory") && path.len() < 200 {
                directories.push(path);
            }
        }
    }
}

/// The times of what a call names and of the directory in which it is made.
struct Times([Option<rustix::fs::Stat>; 3]);

impl Times {
    fn of(call: &Call) -> Self {
        let stats = Self::now(call);
        let latest = stats
            .iter()
            .flatten()
            .map(|stat| (stat.st_ctime, stat.st_ctime_nsec))
            .max();
        let is_past = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            latest.is_none_or(|latest| (now.tv_sec, now.tv_nsec as _) > latest)
        };
        while !is_past() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Self(stats)
    }

    fn now(call: &Call) -> [Option<rustix::fs::Stat>; 3] {
        [call.path, call.other, "."].map(|path| rustix::fs::lstat(path).ok())
    }

    /// Of those that are the same files as before.
    fn moved(&self, call: &Call) -> String {
        let moved = |(before, after): (&Option<rustix::fs::Stat>, &Option<rustix::fs::Stat>)| {
            let (Some(before), Some(after)) = (before, after) else {
                return "-".to_owned();
            };
            if before.st_ino != after.st_ino {
                return "another".to_owned();
            }
            let mtime =
                (before.st_mtime, before.st_mtime_nsec) != (after.st_mtime, after.st_mtime_nsec);
            let ctime =
                (before.st_ctime, before.st_ctime_nsec) != (after.st_ctime, after.st_ctime_nsec);
            format!("mtime moved {mtime}, ctime moved {ctime}")
        };
        let now = Self::now(call);
        let all: Vec<_> = self.0.iter().zip(&now).map(moved).collect();
        format!("times {all:?}")
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn path(&mut self) -> &'static str {
        PATHS[self.below(PATHS.len() as u64) as usize]
    }
}
