//! What the store costs: `cargo bench --bench store`. Memory is what the system says of the process.

use std::time::{Duration, Instant};

use notapipe::store::{Cookie, Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NOW: Timestamp = Timestamp { secs: 0, nanos: 0 };

fn main() {
    // `cargo test` runs benches too; the work is for `cargo bench` alone.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    names();
    // The first run also pays the hypervisor for memory that the machine never touched before.
    for piece in [128 * 1024, 128 * 1024, 4096, 512] {
        sequential(piece);
    }
    small_files();
    sparse();
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs is mounted");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

fn mib(bytes: u64) -> u64 {
    bytes / MIB
}

fn tree() -> Tree {
    Tree::new(
        Limits {
            bytes: 64 * GIB,
            inodes: u64::MAX,
        },
        0o755,
        0,
        0,
        NOW,
    )
}

fn create(tree: &mut Tree, name: &str) -> Ino {
    let new = NewInode {
        kind: NewKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
    };
    let name = Name::new(name.as_bytes()).expect("the name is valid");
    tree.create(Ino::ROOT, name, new, NOW)
        .expect("there is room")
        .ino
}

fn per(elapsed: Duration, count: u64) -> u128 {
    elapsed.as_nanos() / u128::from(count)
}

/// A million empty files in one directory.
fn names() {
    const COUNT: u64 = 1_000_000;
    const STEP: u64 = 10_000;
    let before = resident();
    let mut tree = tree();
    let mut started = Instant::now();
    for number in 0..COUNT {
        create(&mut tree, &format!("file-{number:07}.o"));
        if number + 1 == STEP || number + 1 == COUNT {
            println!(
                "create, up to file {}: {} ns each",
                number + 1,
                per(started.elapsed(), STEP)
            );
        }
        if (number + 1) % STEP == 0 {
            started = Instant::now();
        }
    }
    println!(
        "memory: {} bytes a file of {COUNT}",
        (resident() - before) / COUNT
    );

    let started = Instant::now();
    let fork = tree.fork();
    println!("fork: {} ns", started.elapsed().as_nanos());
    let started = Instant::now();
    create(&mut tree, "after the fork");
    println!(
        "first create after a fork: {} ns",
        started.elapsed().as_nanos()
    );
    drop(fork);

    let started = Instant::now();
    let (mut cookie, mut count) = (Cookie::default(), 0);
    loop {
        let mut entries = tree
            .entries(Ino::ROOT, cookie)
            .expect("the root is a directory");
        let last = entries.by_ref().take(100).inspect(|_| count += 1).last();
        let Some(last) = last else { break };
        cookie = last.cookie;
    }
    println!(
        "readdir in pieces of 100: {} ns an entry",
        per(started.elapsed(), count)
    );

    let started = Instant::now();
    for number in 0..COUNT {
        let name = format!("file-{number:07}.o");
        let unlinked = tree
            .unlink(Ino::ROOT, name.as_bytes(), NOW)
            .expect("it is there");
        tree.free(unlinked.ino);
    }
    println!("unlink and free: {} ns each", per(started.elapsed(), COUNT));
    println!(
        "memory after it: {} MiB more than before",
        mib(resident().saturating_sub(before))
    );
    // SAFETY: may be called at any time.
    unsafe { libc::malloc_trim(0) };
    println!(
        "after malloc_trim: {} MiB",
        mib(resident().saturating_sub(before))
    );
}

/// 1 GiB into one file, in pieces.
fn sequential(piece: usize) {
    let before = resident();
    let mut tree = tree();
    let file = create(&mut tree, "large");
    let data = vec![1; piece];
    let speed = |started: Instant| (GIB as f64 / 1e6 / started.elapsed().as_secs_f64()) as u64;
    let mut write_all = || {
        let started = Instant::now();
        for offset in (0..GIB).step_by(piece) {
            tree.write(file, offset, &data, NOW).expect("there is room");
        }
        speed(started)
    };
    let (first, again) = (write_all(), write_all());
    let memory = resident() - before;
    let started = Instant::now();
    let mut sum = 0u64;
    for offset in (0..GIB).step_by(piece) {
        sum += tree.read(file, offset, piece).expect("a file").len() as u64;
    }
    assert_eq!(sum, GIB);
    let read = per(started.elapsed(), GIB / piece as u64);
    let started = Instant::now();
    tree.unlink(Ino::ROOT, b"large", NOW).expect("it is there");
    tree.free(file);
    println!(
        "1 GiB in pieces of {piece}: {first} MB/s, overwriting {again} MB/s, read {read} ns a piece; \
         {} MiB, deleted in {} ms, {} MiB left",
        mib(memory),
        started.elapsed().as_millis(),
        mib(resident().saturating_sub(before)),
    );
}

/// 100,000 files and 4 GiB, deleted in an order that leaves every region with something in it.
fn small_files() {
    const COUNT: u64 = 100_000;
    let before = resident();
    let mut tree = tree();
    let data = vec![1; 42_000];
    let started = Instant::now();
    let files: Vec<Ino> = (0..COUNT)
        .map(|number| {
            let file = create(&mut tree, &number.to_string());
            tree.write(file, 0, &data, NOW).expect("there is room");
            file
        })
        .collect();
    let used = tree.usage().bytes;
    println!(
        "{COUNT} files of {} bytes: {} µs each, {} MiB for {} MiB",
        data.len(),
        per(started.elapsed(), COUNT) / 1000,
        mib(resident() - before),
        mib(used)
    );
    for part in 0..10 {
        let started = Instant::now();
        for number in (part..COUNT).step_by(10) {
            tree.unlink(Ino::ROOT, number.to_string().as_bytes(), NOW)
                .expect("it is there");
            tree.free(files[number as usize]);
        }
        println!(
            "  deleted {}0 %: {} ns a file, {} MiB left",
            part + 1,
            per(started.elapsed(), COUNT / 10),
            mib(resident().saturating_sub(before))
        );
    }
}

/// A page in every chunk of 128 KiB, at both of its ends.
fn sparse() {
    let before = resident();
    let mut tree = tree();
    let file = create(&mut tree, "sparse");
    for chunk in 0..10_000u64 {
        tree.write(file, chunk * 128 * 1024, &[1], NOW)
            .expect("there is room");
        tree.write(file, chunk * 128 * 1024 + 31 * 4096, &[1], NOW)
            .expect("there is room");
    }
    let used = tree.usage().bytes;
    println!(
        "sparse: {} MiB for {} MiB",
        mib(resident() - before),
        mib(used)
    );
}
