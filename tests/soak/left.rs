//! What this process holds.

use std::fs;
use std::time::{Duration, Instant};

use notapipe::Base;

use crate::tools::descendants;

/// What may stay of memory, in bytes: the allocator rounds, and its arenas differ from run to run.
const HEAP_TOLERANCE: u64 = 1 << 20;
const RESIDENT_TOLERANCE: u64 = 48 << 20;
/// Far longer than the last session takes to end.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    descriptors: u64,
    threads: u64,
    mounts: u64,
    processes: u64,
    /// Bytes of the heap that are in use.
    heap: u64,
    resident: u64,
    /// What the base is charged for.
    base: u64,
}

impl Left {
    /// Waits for what ends by itself a moment after the last job: a public mount that was dropped in use is served
    /// until its last process is gone.
    pub fn settled(base: &Base) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = Self::now(base);
            // The main thread and the one of this test.
            let quiet = left.threads <= 2 && left.processes == 0 && left.mounts == 0;
            if quiet || Instant::now() >= deadline {
                return Self::now(base);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn now(base: &Base) -> Self {
        // What was freed is given back first, so that it is not taken for used.
        // SAFETY: asks the allocator for two things that it may be asked at any time.
        let heap = unsafe {
            libc::malloc_trim(0);
            let info = libc::mallinfo2();
            (info.uordblks + info.hblkhd) as u64
        };
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            mounts: mounts(),
            processes: descendants().len() as u64,
            heap,
            resident: resident(),
            base: base.usage().bytes,
        }
    }

    pub fn beside(&self, before: &Self) -> String {
        let line = |what: &str, then: u64, now: u64| format!("{what:<12} {then:>12} {now:>12}\n");
        [
            format!("{:<12} {:>12} {:>12}\n", "left", "before", "after"),
            line("descriptors", before.descriptors, self.descriptors),
            line("threads", before.threads, self.threads),
            line("mounts", before.mounts, self.mounts),
            line("processes", before.processes, self.processes),
            line("heap, KiB", before.heap >> 10, self.heap >> 10),
            line("RSS, KiB", before.resident >> 10, self.resident >> 10),
        ]
        .concat()
    }

    /// # Panics
    /// When something was left.
    pub fn check(&self, before: &Self) {
        let exact = |it: &Self| Self {
            heap: 0,
            resident: 0,
            ..it.clone()
        };
        assert_eq!(
            exact(self),
            exact(before),
            "{:?}, {:?}",
            open(),
            descendants()
        );
        assert_eq!((self.mounts, self.processes), (0, 0));
        assert!(
            self.heap <= before.heap + HEAP_TOLERANCE,
            "the heap grows: {} bytes, then {}",
            before.heap,
            self.heap
        );
        assert!(
            self.resident <= before.resident + RESIDENT_TOLERANCE,
            "the process grows: {} bytes, then {}",
            before.resident,
            self.resident
        );
    }
}

fn count(directory: &str) -> u64 {
    fs::read_dir(directory).expect("procfs is mounted").count() as u64
}

fn open() -> Vec<String> {
    fs::read_dir("/proc/self/fd")
        .expect("procfs is mounted")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|target| target.display().to_string())
        .collect()
}

/// The mounts of this process' own scratch directories: others' have nothing to do with it.
fn mounts() -> u64 {
    let own = crate::jobs::public_prefix();
    let table = fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    table.lines().filter(|line| line.contains(&own)).count() as u64
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("procfs is mounted");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("statm has two fields");
    pages * rustix::param::page_size() as u64
}
