//! Many jobs at once with few descriptors: some fail, each for that reason, and nothing of them stays.

use std::fs;
use std::thread;

use notapipe::mount::{MountOptions, Visibility};
use notapipe::{Error, Job, Scratch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stage;

const THREADS: usize = 24;
const JOBS: usize = 6;

#[test]
fn what_fails_says_so_and_leaves_no_zombie() {
    stage::both(
        "few_descriptors::what_fails_says_so_and_leaves_no_zombie",
        || {
            let limit = getrlimit(Resource::Nofile);
            let few = Rlimit {
                current: Some(110),
                ..limit
            };
            setrlimit(Resource::Nofile, few).unwrap();
            let refused: Vec<Error> = thread::scope(|scope| {
                let run = |index| {
                    move || -> Vec<Error> { (0..JOBS).filter_map(|_| one(index).err()).collect() }
                };
                let running: Vec<_> = (0..THREADS).map(|index| scope.spawn(run(index))).collect();
                let ended = running.into_iter().map(|it| it.join().unwrap());
                ended.flatten().collect()
            });
            setrlimit(Resource::Nofile, limit).unwrap();
            assert!(!refused.is_empty(), "there were enough");
            for error in refused {
                let told = told(&error);
                assert!(!told.contains("invalid data"), "{told}");
                assert!(!told.contains("has ended"), "{told}");
            }
            // Whatever could not be collected at once is when the next child is made.
            Job::new().step(["true"]).run().unwrap();
            stage::eventually("no zombie is left", || {
                Job::new().step(["true"]).run().unwrap();
                zombies().is_empty()
            });
        },
    );
}

/// A job of one of the kinds: a pipe, one step, or a public mount.
fn one(index: usize) -> Result<(), Error> {
    match index % 3 {
        0 => Job::new().step(["true"]).pipe(["true"]).run().map(drop)?,
        1 => Job::new().step(["true"]).run().map(drop)?,
        _ => {
            let options = MountOptions {
                visibility: Visibility::Public,
                source: format!("faults-{}", stage::tag()),
                directory_parent: stage::room(),
                ..MountOptions::default()
            };
            let scratch = Scratch::builder().mount(options).build()?;
            scratch.run(["true"])?;
            scratch.unmount()?;
        }
    }
    Ok(())
}

fn told(error: &Error) -> String {
    let all = std::iter::successors(Some(error as &dyn std::error::Error), |it| it.source());
    let texts: Vec<String> = all.map(ToString::to_string).collect();
    texts.join(": ")
}

fn zombies() -> Vec<i32> {
    let children = stage::children(std::process::id(), "");
    let is_zombie = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    children.into_iter().filter(is_zombie).collect()
}
