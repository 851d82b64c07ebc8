//! Jobs that run while their caller does something else, and jobs from one base.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use notapipe::store::Limits;
use notapipe::{Error, Job, RunningJob, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Far longer than any of these jobs takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_job_can_be_waited_for_by_its_descriptor() {
    let mut running = Job::new().step(["true"]).start().unwrap();
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let mut events = [PollFd::from_borrowed_fd(running.as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut events, Some(&patience)), Ok(1));
    let result = eventually(|| running.try_wait());
    assert!(result.unwrap().steps()[0].status.exit.success());
    assert!(
        running.try_wait().is_none(),
        "the result is handed out once"
    );
}

#[test]
fn a_job_that_runs_has_no_result_yet() {
    let (stdin, writer) = std::io::pipe().unwrap();
    let mut running = Job::new()
        .step(Step::new(["cat"]).stdin_fd(stdin))
        .start()
        .unwrap();
    assert!(running.try_wait().is_none());
    drop(writer);
    running.wait().unwrap();
}

#[test]
fn dropping_a_job_ends_it() {
    let (mut reader, stdout) = std::io::pipe().unwrap();
    // The reader sees the end only when every process that holds the other end is gone.
    let step = Step::new(["sh", "-c", "setsid sleep 600 & exec sleep 600"]).stdout_fd(stdout);
    drop(Job::new().step(step).start().unwrap());
    let mut nothing = Vec::new();
    reader.read_to_end(&mut nothing).unwrap();
}

#[test]
fn a_dialogue_goes_through_pipes() {
    let (stdin, mut writer) = std::io::pipe().unwrap();
    let (mut reader, stdout) = std::io::pipe().unwrap();
    let running = Job::new()
        .step(
            Step::new(["sed", "-u", "s/^/you said /"])
                .stdin_fd(stdin)
                .stdout_fd(stdout),
        )
        .start()
        .unwrap();
    writer.write_all(b"hello\n").unwrap();
    let mut answer = [0; 15];
    reader.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"you said hello\n");
    drop(writer);
    running.wait().unwrap();
}

#[test]
fn a_panic_in_a_reader_fails_that_job_alone() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
            panic!("the reader broke")
        }
    }
    let broken = Job::new()
        .input_reader("x", Broken)
        .step(["true"])
        .start()
        .unwrap();
    let sound = Job::new().step(["true"]).start().unwrap();
    let error = broken.wait().unwrap_err().error;
    assert!(
        matches!(&error, Error::Panicked { message } if message == "the reader broke"),
        "{error}"
    );
    sound.wait().unwrap();
}

#[test]
fn jobs_from_one_base_share_nothing_back() {
    let base = Job::new()
        .input("inc/shared", "base\n")
        .into_base()
        .unwrap();
    let jobs: Vec<RunningJob> = (0..8)
        .map(|number| {
            let script = format!("cat inc/shared > seen; echo job {number} >> inc/shared");
            let step = ["sh".to_owned(), "-c".to_owned(), script];
            let job = Job::new()
                .base(&base)
                .step(step)
                .outputs(["seen", "inc/shared"]);
            job.start().unwrap()
        })
        .collect();
    for (number, job) in jobs.into_iter().enumerate() {
        let outcome = job.wait().unwrap();
        assert_eq!(outcome.output("seen").unwrap(), "base\n");
        assert_eq!(
            outcome.output("inc/shared").unwrap(),
            format!("base\njob {number}\n")
        );
    }
}

#[test]
fn a_job_from_a_base_has_limits_of_its_own() {
    let base = Job::new()
        .input("large", vec![1; 1 << 20])
        .into_base()
        .unwrap();
    let script = "head -c 1048576 /dev/zero > more";
    let tight = Limits {
        bytes: (1 << 20) + 4096,
        inodes: 100,
    };
    let error = Job::new()
        .base(&base)
        .limits(tight)
        .step(["sh", "-c", script])
        .run()
        .unwrap_err()
        .error;
    assert!(matches!(error, Error::StepFailed { .. }), "{error}");
    Job::new()
        .base(&base)
        .step(["sh", "-c", script])
        .run()
        .unwrap();
}

#[cfg(feature = "tokio")]
#[test]
fn many_jobs_are_awaited_on_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let jobs: Vec<_> = (0..4)
            .map(|_| Job::new().step(["true"]).start().unwrap())
            .collect();
        for mut job in jobs {
            job.wait_async().await.unwrap();
        }
    });
}

/// Asks until there is an answer.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "no answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}
