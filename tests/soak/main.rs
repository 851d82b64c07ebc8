//! Many things at once for a while, and then nothing may be left: no descriptor, thread, mount, process or memory.
//!
//! In a process of its own, so that what is counted is ours. `SOAK_SECONDS` says how long; `scripts/soak.sh` runs
//! ten minutes of it.

mod jobs;
mod left;
mod tools;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jobs::Figures;
use left::Left;
use notapipe::{Base, Job};
use tools::Dice;

const THREADS: u64 = 8;
/// Without a word of how long: enough for some hundred jobs of each kind.
const SECONDS: u64 = 12;

#[test]
fn nothing_is_left_of_many_jobs() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(SECONDS, |text| {
        text.parse().expect("SOAK_SECONDS is a number")
    });
    let seed = std::env::var("SOAK_SEED").map_or_else(
        |_| std::process::id().into(),
        |text| text.parse().expect("SOAK_SEED is a number"),
    );
    println!("{THREADS} threads for {seconds} s, SOAK_SEED={seed}");
    let base = base();
    // What is made once and kept (buffers of the allocator, the panic hook) is no leak.
    let warm_up = Duration::from_secs((seconds / 6).clamp(2, 30));
    soak(&base, warm_up, seed);
    let before = Left::settled(&base);
    let figures = soak(&base, Duration::from_secs(seconds), seed + 1000);
    let after = Left::settled(&base);
    println!("{figures}");
    println!("{}", after.beside(&before));
    figures.check();
    after.check(&before);
}

fn base() -> Base {
    let headers = (0..500).map(|n| (format!("include/{n}.h"), format!("#define N{n} {n}\n")));
    let job = headers.fold(Job::new(), |it, (name, text)| it.input(name, text));
    job.into_base().expect("it fits")
}

fn soak(base: &Base, time: Duration, seed: u64) -> Figures {
    let end = Instant::now() + time;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn(move || {
                    let mut dice = Dice::new(seed * THREADS + worker);
                    let mut figures = Figures::default();
                    while Instant::now() < end {
                        figures.count(jobs::any(&mut dice, base));
                    }
                    figures
                })
            })
            .collect();
        let killer = scope.spawn(|| {
            let mut dice = Dice::new(seed);
            let mut killed = 0;
            while !done.load(Ordering::Relaxed) {
                killed += u64::from(tools::kill_one(&mut dice));
                thread::sleep(Duration::from_millis(dice.below(60)));
            }
            killed
        });
        let dropper = scope.spawn(|| {
            let mut dropped = 0;
            while !done.load(Ordering::Relaxed) {
                jobs::drop_a_scratch_in_use();
                dropped += 1;
                thread::sleep(Duration::from_secs(1));
            }
            dropped
        });
        let figures = workers.into_iter().map(|worker| {
            // A check that failed there fails here.
            worker.join().unwrap_or_else(|panic| {
                done.store(true, Ordering::Relaxed);
                std::panic::resume_unwind(panic)
            })
        });
        let mut figures: Figures = figures.collect();
        done.store(true, Ordering::Relaxed);
        figures.killed = killer.join().expect("it does not panic");
        figures.dropped_in_use = dropper.join().expect("it does not panic");
        figures
    })
}
