//! What a job adds to its tool: `cargo bench --bench job`. Every round runs the tool alone, a job of it from a base,
//! and a mount with nothing in it, so that the machine's mood is the same for all.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use notapipe::{Base, Job, Scratch};

const ROUNDS: usize = 500;
const GIB: usize = 1 << 30;

fn main() {
    // `cargo test` runs benches too; the work is for `cargo bench` alone.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let base = base();
    figures("small", &base);
    let heap = vec![1_u8; GIB];
    figures("1 GiB", &base);
    drop(heap);
}

/// An SDK of 2,000 headers: what is in a base must not matter.
fn base() -> Base {
    let files = (0..2_000).map(|n| (format!("include/{}/{n}.h", n % 20), vec![b'x'; 4096]));
    let job = files.fold(Job::new(), |job, (name, bytes)| job.input(name, bytes));
    job.into_base().expect("it fits")
}

fn figures(heap: &str, base: &Base) {
    let (mut alone, mut job, mut mount) = (Vec::new(), Vec::new(), Vec::new());
    let mut phases = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        alone.push(timed(|| {
            let status = Command::new("/bin/true").status().expect("it is there");
            assert!(status.success());
        }));
        job.push(timed(|| {
            let outcome = Job::new().base(base).step(["/bin/true"]).run();
            let outcome = outcome.expect("it succeeds");
            let spent = outcome.phases();
            let spent = [spent.stage, spent.mount, spent.run, spent.unmount];
            for (all, one) in phases.iter_mut().zip(spent) {
                all.push(one);
            }
        }));
        mount.push(timed(|| {
            Scratch::new()
                .and_then(Scratch::unmount)
                .expect("it mounts");
        }));
    }
    let [alone, job, mount] = [alone, job, mount].map(Figure::of);
    println!("heap {heap}: median (least)");
    println!("    `true` alone             {alone}");
    println!("    a job of it from a base  {job}");
    let added = Figure {
        median: job.median.saturating_sub(alone.median),
        least: job.least.saturating_sub(alone.least),
    };
    println!("    what the job adds        {added}");
    for (phase, spent) in ["stage", "mount", "run", "unmount"].iter().zip(phases) {
        println!("        {phase:<20} {}", Figure::of(spent));
    }
    println!("    a mount made and dropped {mount}");
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

struct Figure {
    median: Duration,
    least: Duration,
}

impl Figure {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            median: times[times.len() / 2],
            least: times[0],
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} ({:.2?})", self.median, self.least)
    }
}
