//! What things cost: printed, not asserted. `cargo test --release --test faults -- --ignored
//! --nocapture figures`.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use notapipe::mount::{Mount, MountOptions, Visibility};
use notapipe::run::process::{Processes, StepCommand, Waited};

use crate::stage::{Start, WAYS, both};
use crate::tiny_fs;

const ROUNDS: usize = 200;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn mounted(visibility: Visibility) -> Mount {
    tiny_fs::mount(&MountOptions {
        visibility,
        ..MountOptions::default()
    })
    .unwrap()
}

/// From asking for the step to its program's having been executed, and to its end.
fn step(processes: &Processes, null: &File) -> (Duration, Duration) {
    let command = StepCommand {
        program: "true".into(),
        arguments: Vec::new(),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        caller_directory: "/".into(),
        directory: "".into(),
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        stream_files: [None, None, None],
    };
    let start = Instant::now();
    let mut running = processes.spawn(&command).unwrap();
    let started = start.elapsed();
    assert!(matches!(
        running.wait(None, None).unwrap(),
        Waited::Ended(_)
    ));
    (started, start.elapsed())
}

fn mounts(visibility: Visibility) {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        let mut mount = mounted(visibility);
        let ready = start.elapsed();
        let start = Instant::now();
        mount.unmount().unwrap();
        (ready, start.elapsed())
    });
    let (ready, gone) = times.unzip();
    println!(
        "FIGURE {visibility:?} mount: ready {:?}, gone {:?}",
        median(ready),
        median(gone)
    );
}

fn steps(what: &str, start_processes: Start) {
    let null = File::open("/dev/null").unwrap();
    let mount = mounted(Visibility::Private);
    let began = Instant::now();
    let processes = start_processes(mount.point()).unwrap();
    let prepared = began.elapsed();
    let (started, ended) = (0..ROUNDS).map(|_| step(&processes, &null)).unzip();
    let start = Instant::now();
    processes.end().unwrap();
    let over = start.elapsed();
    println!(
        "FIGURE step {what}: started {:?}, ended {:?}; once: prepared {prepared:?}, all ended {over:?}",
        median(started),
        median(ended)
    );
}

fn jobs(how: &str, start_processes: Start) {
    let null = File::open("/dev/null").unwrap();
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        let mut mount = mounted(Visibility::Private);
        let processes = start_processes(mount.point()).unwrap();
        step(&processes, &null);
        processes.end().unwrap();
        mount.unmount().unwrap();
        start.elapsed()
    });
    println!(
        "FIGURE whole job of `true`, {how}: {:?}",
        median(times.collect())
    );
}

fn bare() {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        std::process::Command::new("true").status().unwrap();
        start.elapsed()
    });
    println!(
        "FIGURE bare `true` through std::process::Command: {:?}",
        median(times.collect())
    );
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    both("figures::figures", || {
        bare();
        mounts(Visibility::Private);
        mounts(Visibility::Public);
        for heap_bytes in [0, 1 << 30] {
            let heap = vec![1u8; heap_bytes];
            for (way, start) in ["in a PID namespace", "under subreapers"].iter().zip(WAYS) {
                let how = format!("{way}, heap of {heap_bytes} bytes");
                steps(&how, start);
                jobs(&how, start);
            }
            drop(std::hint::black_box(heap));
        }
    });
}
