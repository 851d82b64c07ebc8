//! No waste: what requests allocate, and what a file's bytes cost.
//!
//! Both are counted for the whole process, so the tests stand in a binary of their own and take turns.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use notapipe::store::Limits;
use notapipe::{Scratch, Step};
use parking_lot::{Mutex, MutexGuard};

const MIB: u64 = 1 << 20;

/// The system's allocator, and how often it was asked.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system allocator's, but for a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock()
}

fn scratch() -> Scratch {
    let limits = Limits {
        bytes: 2048 * MIB,
        inodes: 1000,
    };
    Scratch::builder().limits(limits).build().unwrap()
}

#[track_caller]
fn python(scratch: &Scratch, script: String) {
    let report = scratch.run(Step::new(["python3", "-c", &script])).unwrap();
    let said = String::from_utf8_lossy(&report.stderr.bytes);
    assert!(report.status.exit.success(), "{said}");
}

/// What `work` allocates in this process for each request, as a script repeats it.
fn allocations_per_request(work: &str) -> f64 {
    let scratch = scratch();
    let times = |count: u64| {
        let before = (ALLOCATIONS.load(Relaxed), scratch.requests().total());
        let script = format!(
            "import mmap, os\n\
             page = mmap.mmap(-1, 4096)\n\
             f = os.open('f', os.O_RDWR | os.O_CREAT | os.O_DIRECT)\n\
             os.posix_fallocate(f, 0, 1 << 20)\n\
             for i in range({count}): {work}\n"
        );
        python(&scratch, script);
        let after = (ALLOCATIONS.load(Relaxed), scratch.requests().total());
        (after.0 - before.0, after.1 - before.1)
    };
    // What starting the process costs is in all of them, and falls out of the difference.
    times(10);
    let (few, many) = (times(1_000), times(22_000));
    let requests = many.1 - few.1;
    assert!(requests >= 20_000, "only {requests} requests were made");
    (many.0 as f64 - few.0 as f64) / requests as f64
}

#[test]
fn a_read_allocates_nothing() {
    let _turn = alone();
    let each = allocations_per_request("os.preadv(f, [page], i % 256 * 4096)");
    assert!(each < 0.01, "{each} allocations for each read");
}

#[test]
fn a_write_allocates_nothing() {
    let _turn = alone();
    let each = allocations_per_request("os.pwrite(f, page, i % 256 * 4096)");
    assert!(each < 0.01, "{each} allocations for each write");
}

/// Memory of this process that no file stands behind, in bytes.
fn anonymous_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse().ok())
        .expect("proc(5) has RssAnon since Linux 4.5");
    kib * 1024
}

#[test]
fn a_gibibyte_costs_a_gibibyte_and_is_given_back() {
    let _turn = alone();
    let scratch = scratch();
    let before = anonymous_memory();
    python(
        &scratch,
        "with open('big', 'wb', 0) as f:\n for i in range(1024): f.write(b'x' * (1 << 20))".into(),
    );
    assert_eq!(scratch.metadata("big").unwrap().size, 1024 * MIB);
    let held = anonymous_memory() - before;
    assert!(held <= 1024 * MIB * 11 / 10, "{} MiB are held", held / MIB);
    scratch.remove("big").unwrap();
    // The bytes go when the kernel has forgotten the file, which it says in its own time.
    let began = Instant::now();
    while scratch.usage().bytes > 0 && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(scratch.usage().bytes, 0);
    let left = anonymous_memory().saturating_sub(before);
    assert!(left <= 32 * MIB, "{} MiB are still held", left / MIB);
}
