//! kill -9 of the whole owner at many moments, start-up included: nothing is left.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use notapipe::mount::{MountOptions, Visibility};
use notapipe::run::process::Processes;

use crate::stage::{self, Stage, Who, eventually};
use crate::tiny_fs;

const MOMENTS: u32 = 40;

/// A job with processes that run away, until somebody kills it.
fn job(visibility: Visibility) {
    let options = MountOptions {
        visibility,
        directory_parent: stage::room(),
        ..MountOptions::default()
    };
    let mount = tiny_fs::mount(&options).unwrap();
    let processes = Processes::start(mount.point()).unwrap();
    stage::run_away(&processes);
    sleep(stage::PATIENCE);
}

/// Kills a job at moments spread over its start and a while after.
fn sweep(name: &str, visibility: Visibility) {
    if stage::is_playing(name) {
        return job(visibility);
    }
    for who in [Who::Root, Who::User] {
        let stage = Stage::new();
        let mut slowest = Duration::ZERO;
        for moment in 0..MOMENTS {
            let mut command = stage.command(name, who);
            let mut owner = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Denser at the start, where things are made: up to some 150 ms.
            sleep(Duration::from_micros(u64::from(moment * moment) * 100));
            owner.kill().unwrap();
            owner.wait().unwrap();
            let killed = Instant::now();
            eventually("nothing is left", || stage.is_empty());
            slowest = slowest.max(killed.elapsed());
        }
        // What was still on its way when its owner died would show by now.
        sleep(Duration::from_millis(300));
        assert!(stage.is_empty());
        println!(
            "FIGURE {who:?} {visibility:?}: gone {slowest:?} after kill -9, at the slowest of {MOMENTS}"
        );
    }
}

#[test]
fn a_private_job_leaves_nothing() {
    sweep("killed::a_private_job_leaves_nothing", Visibility::Private);
}

#[test]
fn a_public_job_leaves_nothing() {
    sweep("killed::a_public_job_leaves_nothing", Visibility::Public);
}
