//! Other threads of the program fork and spawn: what is ours stays ours.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use notapipe::{Job, Scratch};

use crate::support::site::in_own_process;

/// A child that was forked and executes nothing, as some servers have them. It copies every descriptor.
struct Forked(libc::pid_t);

impl Forked {
    fn new() -> Self {
        // SAFETY: the child makes one system call after the other, and nothing else.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            pid => Self(pid),
        }
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        // SAFETY: our own child, which nobody else collects.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Within this a mount must go; a child that keeps it would do so for ever.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_child_that_was_forked_keeps_no_mount() {
    in_own_process(|| {
        let began = Instant::now();
        for _ in 0..5 {
            let scratch = Scratch::new().unwrap();
            scratch.write("a", "1").unwrap();
            let child = Forked::new();
            assert_eq!(scratch.run(["cat", "a"]).unwrap().stdout.to_text(), "1");
            scratch.unmount().unwrap();
            drop(child);
        }
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let children: Vec<_> = (0..5).map(|_| Forked::new()).collect();
                    thread::sleep(Duration::from_millis(20));
                    drop(children);
                }
            });
            let jobs: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..15 {
                            let job = Job::new().step(["sh", "-c", "echo 1 > a"]).output("a");
                            assert_eq!(job.run().unwrap().output("a").unwrap(), "1\n");
                        }
                    })
                })
                .collect();
            let jobs: Vec<_> = jobs.into_iter().map(|job| job.join()).collect();
            done.store(true, Ordering::Relaxed);
            jobs.into_iter().for_each(|job| job.unwrap());
        });
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    });
}

#[test]
fn a_program_that_was_started_beside_has_nothing_of_a_job() {
    in_own_process(|| {
        // The mounts of jobs stand at one path, each in a namespace of its own. Elsewhere those of other tests come and go.
        let place = Scratch::new().unwrap().path().to_owned();
        // Whatever it inherits from whoever started the tests, and what it opens itself.
        let alone = descriptors_and_mounts_at(&place);
        let done = AtomicBool::new(false);
        let beside: Vec<_> = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let scratch = Scratch::new().unwrap();
                    scratch.run(["true"]).unwrap();
                    scratch.unmount().unwrap();
                }
            });
            let beside = (0..100)
                .map(|_| descriptors_and_mounts_at(&place))
                .collect();
            done.store(true, Ordering::Relaxed);
            beside
        });
        assert!(beside.iter().all(|it| *it == alone), "{alone}\n{beside:?}");
    });
}

/// What a program has that is started in this moment.
fn descriptors_and_mounts_at(place: &Path) -> String {
    let script = "ls /proc/self/fd; grep -cF \" $0 \" /proc/self/mountinfo";
    let mut sh = Command::new("sh");
    let output = sh.args(["-c", script]).arg(place).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
