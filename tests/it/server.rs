//! What a program needs that runs many jobs for others: bounds, and failures that tell everything.

use std::fs;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use notapipe::run::{Backing, EndedBy, ResourceLimits, Semaphore};
use notapipe::{Error, ErrorKind, Interrupt, Job, Scratch, Step};

use crate::support::site::in_own_process;

#[test]
fn a_job_that_was_started_and_is_late_has_what_its_step_said() {
    let failed = Job::new()
        .step(["sh", "-c", "echo begun >&2; exec sleep 600"])
        .timeout(Duration::from_secs(1))
        .start()
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Timeout);
    let outcome = failed.outcome.unwrap();
    assert_eq!(outcome.steps()[0].stderr.to_text(), "begun\n");
    assert_eq!(outcome.steps()[0].ended_by, Some(EndedBy::Timeout));
}

/// A reader that gives nothing until it is let go.
struct Blocked(mpsc::Receiver<()>);

impl Read for Blocked {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

#[test]
fn a_job_is_dropped_without_waiting_for_it() {
    let (release, released) = mpsc::channel();
    let job = Job::new()
        .input_reader("x", Blocked(released))
        .step(["true"]);
    drop(job.start().unwrap());
    // Its reader blocks until this: had the drop waited for the job, it would never have come.
    release.send(()).unwrap();
}

#[cfg(feature = "tokio")]
#[test]
fn a_job_is_cancelled_beside_a_wait_for_it_and_awaited_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut begun, stdout) = io::pipe().unwrap();
        let step = Step::new(["sh", "-c", "echo begun; exec sleep 600"]).stdout_fd(stdout);
        let mut running = Job::new().step(step).start().unwrap();
        tokio::select! {
            biased;
            ended = running.wait_async() => panic!("{ended:?}"),
            () = std::future::ready(()) => {}
        }
        begun.read_exact(&mut [0; 6]).unwrap();
        running.cancel();
        let failed = running.wait_async().await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Cancelled);
        let outcome = failed.outcome.unwrap();
        assert_eq!(outcome.steps()[0].ended_by, Some(EndedBy::Interrupt));
    });
}

/// A reader that is slow: a byte a millisecond, some seconds long.
fn slow() -> impl Read + Send {
    struct Slow;
    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            buffer[0] = b'x';
            Ok(1)
        }
    }
    Slow.take(10_000)
}

#[test]
fn the_time_of_a_job_and_its_interrupt_are_heeded_while_inputs_are_staged() {
    let job = || Job::new().input_reader("x", slow()).step(["true"]);
    let failed = job().timeout(Duration::from_millis(50)).run().unwrap_err();
    assert!(
        matches!(failed.error, Error::Timeout { program: None, .. }),
        "{failed:?}"
    );
    assert!(failed.to_string().starts_with("the job took longer than"));
    let interrupt = Interrupt::new().unwrap();
    interrupt.raise();
    let failed = job().interrupt(interrupt).run().unwrap_err();
    assert!(matches!(failed.error, Error::Cancelled), "{failed:?}");
}

#[test]
fn a_semaphore_bounds_the_jobs_at_once() {
    /// Counts those that are staged at this moment; the first two wait for each other.
    struct Counting(Arc<[AtomicUsize; 2]>, bool);
    impl Read for Counting {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let [now, most] = &*self.0;
            if !self.1 {
                self.1 = true;
                let count = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(count, Ordering::SeqCst);
                while most.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
            }
            Ok(0)
        }
    }
    impl Drop for Counting {
        fn drop(&mut self) {
            self.0[0].fetch_sub(1, Ordering::SeqCst);
        }
    }
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let semaphore = Semaphore::new(2).unwrap();
    let start = |_| {
        let reader = Counting(Arc::clone(&counts), false);
        let job = Job::new().input_reader("x", reader).step(["true"]);
        job.semaphore(&semaphore).start().unwrap()
    };
    let jobs: Vec<_> = (0..8).map(start).collect();
    for job in jobs {
        job.wait().unwrap();
    }
    assert_eq!(counts[1].load(Ordering::SeqCst), 2);

    let none = Semaphore::new(0).unwrap();
    let waiting = Job::new().semaphore(&none).step(["true"]).start().unwrap();
    waiting.cancel();
    let failed = waiting.wait().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Cancelled);
}

#[test]
fn a_command_in_a_scratch_directory_is_ended_by_its_bounds_and_tells_what_it_said() {
    let scratch = Scratch::new().unwrap();
    let interrupt = Interrupt::new().unwrap();
    let (mut begun, stdout) = io::pipe().unwrap();
    let step = Step::new(["sh", "-c", "echo ready >&2; echo; exec sleep 600"]).stdout_fd(stdout);
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let command = scratch.command(step).interrupt(interrupt.clone());
            command.run().unwrap()
        });
        begun.read_exact(&mut [0]).unwrap();
        interrupt.raise();
        running.join().unwrap()
    });
    assert_eq!(report.ended_by, Some(EndedBy::Interrupt));
    assert_eq!(report.stderr.to_text(), "ready\n");
    let limits = ResourceLimits {
        processes: Some(2),
        ..ResourceLimits::default()
    };
    let many = "for i in 1 2 3 4; do sleep 600 & done; wait";
    let command = scratch.command(["sh", "-c", many]).resource_limits(limits);
    let report = command.run().unwrap();
    assert_eq!(report.ended_by, Some(EndedBy::ProcessLimit));
    // Before it has begun, there is nothing to tell.
    let late = scratch.command(["true"]).interrupt(interrupt).run();
    assert!(matches!(late, Ok(_) | Err(Error::Cancelled)));
    assert!(scratch.run(["true"]).unwrap().status.exit.success());
    scratch.unmount().unwrap();
}

#[test]
fn events_of_a_job_need_fuse() {
    let job = Job::new().on_event(drop).step(["true"]);
    let failed = job.backing(Backing::Directory).run().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::System);
    assert!(failed.to_string().contains("FUSE"), "{failed}");
}

#[test]
fn a_running_job_costs_as_many_descriptors_and_threads_as_documented() {
    in_own_process(|| {
        let count = |of: &str| fs::read_dir(of).unwrap().count();
        // What the first job makes for all.
        Job::new().step(["true"]).run().unwrap();
        let before = [count("/proc/self/fd"), count("/proc/self/task")];
        let (mut begun, stdout) = io::pipe().unwrap();
        let step = Step::new(["sh", "-c", "echo; exec sleep 600"]).stdout_fd(stdout);
        let running = Job::new().step(step).start().unwrap();
        begun.read_exact(&mut [0]).unwrap();
        let now = [count("/proc/self/fd"), count("/proc/self/task")];
        // The pipe is ours.
        let cost = [now[0] - before[0] - 1, now[1] - before[1]];
        eprintln!("a running job costs {cost:?} descriptors and threads");
        assert!(cost[0] <= 17 && cost[1] <= 4, "{cost:?}");
        running.cancel();
        running.wait().unwrap_err();
    });
}
