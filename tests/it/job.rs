//! `Job`: tools as functions.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use notapipe::collect::{self, CollectError};
use notapipe::mount::{MountError, Visibility};
use notapipe::run::{Exit, ResourceLimits};
use notapipe::stage::StageError;
use notapipe::store::{Limits, PathError, Resource, TreePath};
use notapipe::{Error, Interrupt, Job, Outcome, Scratch, Stdin, Stdout, Step};

use crate::support::site::{PATIENCE, in_own_process, until};
use crate::support::{chain, path};

#[test]
fn bytes_go_in_and_come_out() {
    in_own_process(|| {
        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let outcome = Job::new()
            .input("in/a", bytes.clone())
            .input("b", "text\n")
            .input_reader("c", &b"read"[..])
            .step(["cp", "in/a", "out/a"])
            .step(["sh", "-c", "cat b c > out/bc"])
            .outputs(["out/a", "out/bc"])
            .run()
            .unwrap();
        assert!(outcome.output("out/a").unwrap() == bytes);
        assert_eq!(outcome.output("out/bc").unwrap(), "text\nread");
        assert_eq!(outcome.output("out"), None, "a directory has no bytes");
        assert_eq!(outcome.output("gone"), None);
        let names: Vec<_> = outcome
            .outputs()
            .map(|(name, bytes)| (name.to_string(), bytes.len()))
            .collect();
        assert_eq!(
            names,
            [("out/a".to_owned(), 1 << 20), ("out/bc".to_owned(), 9)]
        );
    });
}

#[test]
fn a_job_of_no_steps_gives_back_its_inputs() {
    let outcome = Job::new().input("x", "same").output("x").run().unwrap();
    assert_eq!(outcome.output("x").unwrap(), "same");
    assert!(outcome.steps().is_empty());
}

#[test]
fn host_files_are_inputs() {
    let host = crate::support::host_directory();
    fs::create_dir(host.path().join("dir")).unwrap();
    fs::write(host.path().join("dir/file"), "content").unwrap();
    let outcome = Job::new()
        .input_host("copy", host.path())
        .input_host("one", host.path().join("dir/file"))
        .step(["sh", "-c", "cat copy/dir/file one > both"])
        .output("both")
        .run()
        .unwrap();
    assert_eq!(outcome.output("both").unwrap(), "contentcontent");
}

#[test]
fn an_outcome_tells_what_was_done() {
    let outcome = Job::new()
        .limits(Limits {
            bytes: 1 << 20,
            inodes: 50,
        })
        .step([
            "sh",
            "-c",
            "echo said; echo wrong >&2; head -c 5000 /dev/zero > x",
        ])
        .step(["cat", "x"])
        .output("x")
        .run()
        .unwrap();
    let [first, second] = outcome.steps() else {
        panic!("{outcome:?}");
    };
    assert_eq!(first.command[0], "sh");
    assert_eq!(
        (
            first.stdout.to_text().as_str(),
            first.stderr.to_text().as_str()
        ),
        ("said\n", "wrong\n")
    );
    assert_eq!(second.stdout.bytes, vec![0; 5000]);
    assert_eq!(second.status.exit, Exit::Code(0));
    assert_eq!((outcome.usage().bytes, outcome.usage().inodes), (8192, 2));
    assert_eq!(outcome.usage().limits.inodes, 50);
    assert_eq!(outcome.limit_met(), None);
    assert!(outcome.requests().total() > 0);
    assert!(outcome.phases().run > Duration::ZERO);
    assert_eq!(crate::support::read(outcome.tree(), "x").len(), 5000);
    assert!(
        outcome
            .staged()
            .resolve(&crate::support::path("x"))
            .is_err()
    );
}

#[test]
fn a_capture_keeps_the_last_bytes() {
    let outcome = Job::new()
        .step(["sh", "-c", "head -c 20M /dev/zero; echo the end"])
        .run()
        .unwrap();
    let stdout = &outcome.steps()[0].stdout;
    assert!(stdout.bytes.ends_with(b"the end\n"));
    assert_eq!(stdout.bytes.len() as u64 + stdout.dropped, (20 << 20) + 8);
    assert_eq!(stdout.bytes.len(), 8 << 20);
}

#[test]
fn streams_go_where_they_are_told() {
    let (mut reader, out) = std::io::pipe().unwrap();
    let step = |script: &str| Step::new(["sh", "-c", script]);
    let outcome = Job::new()
        .step(step("cat").stdin(Stdin::Bytes("bytes".into())))
        .step(step("cat; echo nothing to read"))
        .step(step("echo dropped").stdout(Stdout::Null))
        .step(step("echo elsewhere").stdout_fd(out))
        .step(
            step("echo $WHO; env | wc -l")
                .env_clear()
                .envs([("WHO", "me"), ("PATH", "/usr/bin:/bin")]),
        )
        .run()
        .unwrap();
    let said = |step: usize| outcome.steps()[step].stdout.to_text();
    assert_eq!(said(0), "bytes");
    assert_eq!(said(1), "nothing to read\n");
    assert_eq!((said(2), said(3)), (String::new(), String::new()));
    assert!(said(4).starts_with("me\n"), "{}", said(4));
    let mut elsewhere = String::new();
    std::io::Read::read_to_string(&mut reader, &mut elsewhere).unwrap();
    assert_eq!(elsewhere, "elsewhere\n");
}

fn failure(job: Job) -> Error {
    match job.run() {
        Err(failed) => failed.error,
        Ok(outcome) => panic!("{outcome:?}"),
    }
}

#[test]
fn a_failing_step_is_told_with_its_last_words() {
    let failed = Job::new()
        .input("in", "in")
        .step(["sh", "-c", "echo made > out"])
        .step(["sh", "-c", "echo warming up >&2; echo it broke >&2; exit 3"])
        .step(["sh", "-c", "echo never > out"])
        .output("out")
        .run()
        .unwrap_err();
    assert_eq!(failed.to_string(), "\"sh\" ended with status 3: it broke");
    let Error::StepFailed { step, exit, .. } = failed.error else {
        panic!("{failed}");
    };
    assert_eq!((step, exit), (1, Exit::Code(3)));
    let outcome = failed.outcome.unwrap();
    assert_eq!(outcome.steps().len(), 2);
    assert_eq!(
        outcome.steps()[1].stderr.to_text(),
        "warming up\nit broke\n"
    );
    assert_eq!(outcome.output("out").unwrap(), "made\n");
}

#[test]
fn a_step_that_a_signal_ended_is_told() {
    let error = failure(Job::new().step(["sh", "-c", "kill -KILL $$"]));
    assert_eq!(error.to_string(), "\"sh\" was ended by signal 9");
    let killed = Exit::Signal(9);
    assert!(matches!(error, Error::StepFailed { exit, .. } if exit == killed));
}

#[test]
fn errors_are_typed_and_say_where() {
    let told = |job: Job| {
        let error = failure(job);
        (chain(&error), error)
    };
    let (text, error) = told(Job::new().input("../x", "").step(["true"]));
    assert!(
        matches!(
            error,
            Error::Name {
                role: "input",
                error: PathError::Climbs,
                ..
            }
        ),
        "{text}"
    );
    let (text, error) = told(Job::new().step(["true"]).output("/x"));
    assert!(
        matches!(
            error,
            Error::Name {
                role: "output",
                error: PathError::Absolute,
                ..
            }
        ),
        "{text}"
    );
    assert!(text.contains("\"/x\""), "{text}");

    let (text, error) = told(Job::new().input_host("x", "/no/such/file"));
    assert!(
        matches!(error, Error::Stage(StageError::Read { .. })),
        "{text}"
    );
    assert!(text.contains("\"/no/such/file\" for \"x\""), "{text}");
    let (text, error) = told(Job::new().input("x", "").input("x/y", ""));
    assert!(
        matches!(error, Error::Stage(StageError::Conflict { .. })),
        "{text}"
    );
    let small = Limits {
        bytes: 4096,
        inodes: 10,
    };
    let (text, error) = told(Job::new().limits(small).input("x", vec![0; 4097]));
    assert!(
        matches!(
            error,
            Error::Stage(StageError::Full {
                resource: Resource::Bytes,
                ..
            })
        ),
        "{text}"
    );

    let (text, error) = told(Job::new().step(["no-such-tool"]));
    assert!(
        matches!(&error, Error::Spawn(error) if error.exit_code() == 127),
        "{text}"
    );
    assert!(text.contains("\"no-such-tool\""), "{text}");
    let (text, error) = told(Job::new().step(["/etc"]));
    assert!(
        matches!(&error, Error::Spawn(error) if error.exit_code() == 126),
        "{text}"
    );
    let (text, error) = told(Job::new().step(["echo", "a\0b"]));
    assert!(
        matches!(error, Error::Spawn(_)) && text.contains("NUL"),
        "{text}"
    );
    let (text, error) = told(Job::new().step(Vec::<String>::new()));
    assert!(matches!(error, Error::Spawn(_)), "{text}");

    let (text, error) = told(Job::new().step(["touch", "a.gb"]).output("A.gb"));
    assert!(
        matches!(error, Error::Collect(CollectError::Missing(_))),
        "{text}"
    );
    assert!(text.contains("did you mean \"a.gb\""), "{text}");

    let (text, error) = told(Job::new().at("/no/such/dir").step(["true"]));
    assert!(
        matches!(error, Error::Mount(MountError::System { .. })),
        "{text}"
    );
    assert!(text.contains("/no/such/dir"), "{text}");
    let (text, error) = told(Job::new().at("/etc/passwd").step(["true"]));
    assert!(
        matches!(error, Error::Mount(MountError::NotADirectory { .. })),
        "{text}"
    );

    let slow = Job::new()
        .timeout(Duration::from_millis(100))
        .step(["sleep", "600"]);
    let (text, error) = told(slow);
    assert!(
        matches!(error, Error::Timeout { limit, .. } if limit == Duration::from_millis(100)),
        "{text}"
    );
}

#[test]
fn a_failed_job_tells_of_the_step_that_was_ended_and_of_those_that_were_not_run() {
    let job = Job::new()
        .timeout(Duration::from_secs(3))
        .step(["true"])
        .step(["sh", "-c", "echo half > out; sleep 600"])
        .pipe(["sleep", "600"])
        .step(["never", "run"])
        .output("out");
    let failed = job.run().unwrap_err();
    let left = failed.outcome.unwrap();
    let by: Vec<_> = left.steps().iter().map(|it| it.ended_by).collect();
    let timeout = Some(notapipe::run::EndedBy::Timeout);
    assert_eq!(by, [None, timeout, timeout]);
    let status = &left.steps()[1].status;
    assert_eq!(status.exit, notapipe::run::Exit::Signal(9));
    assert!(status.wall_time >= Duration::from_millis(100) && status.max_rss_bytes > 0);
    assert_eq!(left.steps_not_run(), [["never", "run"]]);
    assert_eq!(left.output("out").unwrap(), "half\n");
}

#[test]
fn a_limit_that_was_met_is_in_the_outcome() {
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 5,
    };
    let met = |script: &str| {
        let outcome = Job::new().limits(limits).step(["sh", "-c", script]).run();
        outcome.unwrap().limit_met()
    };
    assert_eq!(met("head -c 2M /dev/zero > x; true"), Some(Resource::Bytes));
    assert_eq!(met("touch 1 2 3 4 5; true"), Some(Resource::Inodes));
    assert_eq!(met("head -c 1M /dev/zero > x; touch 1 2 3"), None);
}

#[test]
fn lost_pages_fail_the_job() {
    let script = "import mmap\nf = open('x', 'w+b')\nf.truncate(8 << 20)\nm = mmap.mmap(f.fileno(), 8 << 20)\nfor p in range(0, 8 << 20, 4096): m[p] = 1\n";
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 10,
    };
    let error = failure(
        Job::new()
            .limits(limits)
            .step(["python3", "-c", script])
            .output("x"),
    );
    assert!(
        matches!(&error, Error::LostPages { file, .. } if file.to_string() == "x"),
        "{error}"
    );
}

#[test]
fn another_thread_can_end_it() {
    in_own_process(|| {
        let interrupt = Interrupt::new().unwrap();
        let (mut reader, stdout) = std::io::pipe().unwrap();
        let step =
            Step::new(["sh", "-c", "setsid sleep 600 & echo started; sleep 600"]).stdout_fd(stdout);
        let job = Job::new().step(step).interrupt(interrupt.clone());
        std::thread::scope(|scope| {
            let running = scope.spawn(|| job.run());
            let mut started = [0; 8];
            std::io::Read::read_exact(&mut reader, &mut started).unwrap();
            interrupt.raise();
            let failed = running.join().unwrap().unwrap_err();
            assert!(matches!(failed.error, Error::Cancelled));
            // Both sleeps held the pipe.
            assert_eq!(std::io::Read::read(&mut reader, &mut started).unwrap(), 0);
        });
        // Raised before, it ends the job at its first step.
        let error = failure(Job::new().step(["sleep", "600"]).interrupt(interrupt));
        assert!(matches!(error, Error::Cancelled), "{error}");
    });
}

#[test]
fn staging_can_be_stopped() {
    let mut calls = 0;
    let error = failure(
        Job::new()
            .input("a", "a")
            .input("b", "b")
            .on_staging(move |progress| {
                calls += 1;
                assert_eq!(progress.files, u64::from(calls > 1));
                if progress.files == 1 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .step(["true"]),
    );
    assert!(
        matches!(error, Error::Stage(StageError::Interrupted)),
        "{error}"
    );
}

#[test]
fn a_timeout_leaves_no_process() {
    in_own_process(|| {
        let (mut reader, stdout) = std::io::pipe().unwrap();
        let step = Step::new(["sh", "-c", "setsid sleep 600 & exec sleep 600"]).stdout_fd(stdout);
        let error = failure(Job::new().step(step).timeout(Duration::from_millis(300)));
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let mut nothing = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut nothing).unwrap();
    });
}

#[test]
fn a_tool_may_be_the_callers_or_a_steps_own() {
    let host = crate::support::host_directory();
    let tool = host.path().join("tool");
    fs::write(&tool, "#!/bin/sh\necho host\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = Job::new()
        .input("made", "#!/bin/sh\necho made\n")
        .step([tool.into_os_string()])
        .step(["chmod", "+x", "made"])
        .step(["./made"])
        .run()
        .unwrap();
    assert_eq!(outcome.steps()[0].stdout.to_text(), "host\n");
    assert_eq!(outcome.steps()[2].stdout.to_text(), "made\n");
}

#[test]
fn every_job_sees_the_same_path() {
    let path = |job: Job| job.step(["pwd"]).run().unwrap().steps()[0].stdout.to_text();
    let paths: BTreeSet<_> = (0..3).map(|_| path(Job::new())).collect();
    assert_eq!(paths.len(), 1, "{paths:?}");
    let dir = crate::support::host_directory();
    assert_eq!(
        path(Job::new().at(dir.path())),
        format!("{}\n", dir.path().display())
    );
}

#[test]
fn what_cannot_be_staged_is_told() {
    let host = crate::support::host_directory();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, host.path().join("fifo"), fifo, mode, 0).unwrap();
    let outcome = Job::new().input_host(".", host.path()).run().unwrap();
    assert_eq!(outcome.skipped().count(), 1);
    assert!(outcome.skipped().first()[0].path.ends_with("fifo"));
}

/// What this process holds: descriptors, threads, children, mounts, and the time's directories.
fn held() -> [usize; 5] {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let children = fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .map(|thread| {
            let file = thread.path().join("children");
            fs::read_to_string(file)
                .unwrap_or_default()
                .split_whitespace()
                .count()
        });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    [
        count("/proc/self/fd"),
        count("/proc/self/task"),
        children.sum(),
        mounts.lines().count(),
        count(&std::env::temp_dir().to_string_lossy()),
    ]
}

fn one_job(number: usize) -> Outcome {
    let outcome = Job::new()
        .input("in", number.to_string())
        .limits(Limits {
            bytes: 1 << 20,
            inodes: 20,
        })
        .step(["sh", "-c", "cat in > out; echo done >> out"])
        .output("out")
        .run()
        .unwrap();
    assert_eq!(outcome.output("out").unwrap(), format!("{number}done\n"));
    outcome
}

#[test]
fn many_jobs_at_once_leave_nothing_behind() {
    in_own_process(|| {
        // Whatever is made once for all stays.
        one_job(0);
        let before = held();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    for number in 0..25 {
                        one_job(thread * 100 + number);
                    }
                });
            }
        });
        // A thread's entry in /proc goes a moment after the thread.
        until("all is as before", || held() == before);
    });
}

#[test]
fn jobs_that_fail_leave_nothing_behind() {
    in_own_process(|| {
        let round = || {
            failure(Job::new().step(["sh", "-c", "setsid sleep 600 & exit 1"]));
            failure(Job::new().step(["no-such-tool"]));
            failure(Job::new().step(["true"]).output("gone"));
            failure(Job::new().input_host("x", "/no/such/file"));
            failure(Job::new().at("/no/such/dir").step(["true"]));
            failure(
                Job::new()
                    .step(["sleep", "600"])
                    .timeout(Duration::from_millis(50)),
            );
        };
        round();
        let before = held();
        for _ in 0..5 {
            round();
        }
        until("all is as before", || held() == before);
    });
}

#[test]
fn public_jobs_leave_nothing_behind() {
    in_own_process(|| {
        let round = || {
            let job = Job::new()
                .visibility(Visibility::Public)
                .step(["sh", "-c", "echo > x; pwd"]);
            let outcome = job.output("x").run().unwrap();
            let path = outcome.steps()[0].stdout.to_text();
            assert!(!Path::new(path.trim_end()).exists());
        };
        round();
        let before = held();
        for _ in 0..5 {
            round();
        }
        until("all is as before", || held() == before);
    });
}

#[test]
fn a_time_that_no_clock_can_count_is_no_limit() {
    let most = ResourceLimits {
        cpu: Some(Duration::MAX),
        ..ResourceLimits::default()
    };
    let job = Job::new()
        .step(["sh", "-c", "echo a > a"])
        .output("a")
        .timeout(Duration::MAX)
        .kill_after(Duration::MAX)
        .settle(Duration::MAX)
        .resource_limits(most);
    assert_eq!(job.run().unwrap().output("a").unwrap(), "a\n");
    // What is asked to end may take as long as it likes.
    let patient = Job::new()
        .step([
            "sh",
            "-c",
            "trap 'echo a > a; exit' TERM; while :; do sleep 0.01; done",
        ])
        .timeout(Duration::from_secs(2))
        .kill_after(Duration::MAX);
    let failed = patient.run().unwrap_err();
    assert!(matches!(failed.error, Error::Timeout { .. }), "{failed:?}");
    let left = failed.outcome.unwrap();
    assert_eq!(collect::read(left.tree(), &path("a")).unwrap(), "a\n");
    let scratch = Scratch::builder().build().unwrap();
    let interrupt = Interrupt::new().unwrap();
    interrupt.raise();
    assert!(scratch.wait_for(&interrupt, Duration::MAX).unwrap());
}

#[test]
fn a_quick_job_does_not_wait_for_its_timeout() {
    let began = Instant::now();
    Job::new()
        .timeout(2 * PATIENCE)
        .step(["true"])
        .run()
        .unwrap();
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn the_same_bytes_in_several_jobs_are_in_memory_once() {
    let bytes = Bytes::from(vec![5; 1 << 20]);
    let run = || {
        let job = Job::new().input("in", bytes.clone());
        // The kernel reads them too, in pieces of its own size.
        let job = job.step(["cp", "in", "copy"]).outputs(["in", "copy"]);
        job.run().unwrap()
    };
    for outcome in [run(), run()] {
        let tree = outcome.tree();
        let ino = tree.resolve(&TreePath::parse("in").unwrap()).unwrap();
        let read = tree.read(ino, 200_000, 100).unwrap();
        assert_eq!(read.as_ptr(), bytes[200_000..].as_ptr());
        assert_eq!(outcome.output("copy").unwrap(), bytes);
        assert_eq!(outcome.output("in").unwrap(), bytes);
    }
}

/// make and ninja compare times across file systems. All of them take the time of the kernel's last tick; a precise clock
/// would be ahead of it. (Since Linux 6.13 a file that changes after a look at its times gets a precise one, and no file
/// system is then behind it: what another process looks at may spoil an attempt, and not each of ten.)
#[test]
fn files_are_no_younger_than_those_written_later_elsewhere() {
    let host = crate::support::host_directory();
    let script = "import os, sys
names = [at + '/' + str(n) for n in range(1000) for at in ('.', sys.argv[1])]
for name in names:
    f = os.open(name, os.O_WRONLY | os.O_CREAT)
    os.write(f, b'x')
    os.close(f)
times = [os.stat(name).st_mtime_ns for name in names]
assert times == sorted(times), [b - a for a, b in zip(times, times[1:]) if b < a][:5]";
    let elsewhere = host.path().to_str().unwrap();
    let attempt = || Job::new().step(["python3", "-c", script, elsewhere]).run();
    let mut failed = None;
    for _ in 0..10 {
        match attempt() {
            Ok(_) => return,
            Err(error) => failed = Some(error.error),
        }
    }
    panic!("{failed:?}");
}
