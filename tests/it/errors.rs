//! Every error of a job: how it comes about, what it says, and that it says it once.

use std::error::Error as StdError;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::Duration;

use notapipe::fuse::Profile;
use notapipe::run::Cpus;
use notapipe::run::SpawnError;
use notapipe::store::Limits;
use notapipe::{
    Base, Error, ErrorKind, Event, Failed, Follow, Interrupt, Job, Outcome, RunningJob, Scratch,
    ScratchFile, Slots, Source, Step, Watch,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::site::in_own_process;

#[test]
fn what_a_server_shares_can_be_shared() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Base>();
    shared::<Outcome>();
    shared::<RunningJob>();
    shared::<Scratch>();
    shared::<ScratchFile>();
    shared::<Watch>();
    shared::<Follow>();
    shared::<Event>();
    shared::<Interrupt>();
    shared::<Slots>();
    shared::<Step>();
    shared::<Error>();
    shared::<Failed>();
    // They hold closures and readers of the caller's, which need not be `Sync`.
    sent::<Job>();
    sent::<Source>();
}

/// The texts of an error and of its sources; each says something that the one before did not.
fn told(error: &Error) -> String {
    let chain = std::iter::successors(Some(error as &dyn StdError), |&error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    for (text, source) in texts.iter().zip(&texts[1..]) {
        assert!(!text.contains(source), "said twice: {texts:?}");
    }
    texts.join(": ")
}

fn failure(job: Job) -> Error {
    job.run().expect_err("the job fails").error
}

#[test]
fn what_a_server_must_tell_apart_has_kinds_of_its_own() {
    let sh = |script: &str| Job::new().step(["sh", "-c", script]);
    let kind = |job: Job| failure(job).kind();
    assert_eq!(kind(sh("true").input("../x", "")), ErrorKind::Refused);
    assert_eq!(kind(sh("true").output_matching("a[")), ErrorKind::Refused);
    let missing = sh("true").input_host("x", "/no/such/file");
    assert_eq!(kind(missing), ErrorKind::Input);
    let unmade = sh("true").input_from("x", "exit 3");
    assert_eq!(kind(unmade), ErrorKind::Input);
    let tool = Job::new().step(["no-such-tool"]);
    assert_eq!(kind(tool), ErrorKind::NotStarted);
    assert_eq!(kind(sh("exit 3")), ErrorKind::StepFailed);
    let untaken = sh("touch x").output_to("x", "exit 3");
    assert_eq!(kind(untaken), ErrorKind::StepFailed);
    let late = sh("sleep 600").timeout(Duration::from_millis(50));
    assert_eq!(kind(late), ErrorKind::Timeout);
    let tight = Limits {
        bytes: 1 << 20,
        inodes: 10,
    };
    let large = sh("true").limits(tight).input("x", vec![1; 2 << 20]);
    assert_eq!(kind(large), ErrorKind::Limit);
    assert_eq!(kind(sh("true").output("x")), ErrorKind::Output);
    let written = sh("exec 3>x; sleep 600 &").settle(Duration::ZERO);
    assert_eq!(kind(written), ErrorKind::Output);
    let interrupt = Interrupt::new().unwrap();
    interrupt.raise();
    assert_eq!(kind(sh("true").interrupt(interrupt)), ErrorKind::Cancelled);
    assert_eq!(
        kind(sh("true").cpus(Cpus::new([100_000]))),
        ErrorKind::System
    );
    let panics = sh("true").on_staging(|_| panic!("of the caller's"));
    assert_eq!(kind(panics.input("x", "x")), ErrorKind::Internal);
}

#[test]
fn each_error_says_what_failed_where_and_why_once() {
    let sh = |script: &str| Job::new().step(["sh", "-c", script]);
    let error = failure(Job::new().input("../x", ""));
    assert!(matches!(error, Error::Name { role: "input", .. }));
    assert!(told(&error).starts_with("the input name \"../x\" cannot be used: "));

    let error = failure(Job::new().output_matching("a[").step(["true"]));
    assert!(matches!(error, Error::Pattern { .. }));
    assert!(told(&error).starts_with("the pattern \"a[\" cannot be used: "));

    let error = failure(Job::new().input_host("x", "/no/such/file"));
    assert!(matches!(error, Error::Stage(_)));
    assert!(told(&error).contains("\"/no/such/file\""));

    let error = failure(Job::new().at("/no/such/dir").step(["true"]));
    assert!(matches!(error, Error::Mount(_)));
    assert!(told(&error).contains("\"/no/such/dir\""));

    let error = failure(sh("true").cpus(Cpus::new([100_000])));
    assert!(matches!(error, Error::Cpus { .. }));
    let text = told(&error);
    assert!(text.starts_with("cannot use the CPUs "), "{text}");

    let error = failure(Job::new().step(["no-such-tool"]));
    assert!(matches!(error, Error::Spawn(SpawnError::NotFound { .. })));
    assert!(told(&error).starts_with("\"no-such-tool\" was not found"));

    let failed = sh("echo one >&2; echo two >&2; exit 3").run().unwrap_err();
    assert!(matches!(failed.error, Error::StepFailed { .. }));
    let outcome = failed.outcome.as_ref().unwrap();
    let stderr = &outcome.steps().last().unwrap().stderr;
    assert_eq!(stderr.to_text(), "one\ntwo\n");
    assert_eq!(told(&failed.error), "\"sh\" ended with status 3: two");

    let error = failure(sh("sleep 600").timeout(Duration::from_millis(50)));
    assert!(matches!(error, Error::Timeout { .. }));
    assert!(told(&error).starts_with("\"sh\" was ended: "));

    let error = failure(sh("true").output("A.gb"));
    assert!(matches!(error, Error::Collect(_)));
    assert!(told(&error).contains("\"A.gb\""));

    let interrupt = Interrupt::new().unwrap();
    interrupt.raise();
    let error = failure(sh("sleep 600").interrupt(interrupt));
    assert!(matches!(error, Error::Cancelled));
    told(&error);

    let broken = || Source::new(|| Err::<String, _>(io::Error::other("no such page")));
    let error = failure(sh("cat page").input_source("page", broken()));
    assert!(matches!(error, Error::Source { .. }));
    assert_eq!(told(&error), "the source of \"page\" failed: no such page");

    let scratch = Scratch::new().unwrap();
    let error = scratch.read("missing").unwrap_err();
    assert!(matches!(error, Error::Scratch { .. }));
    assert!(told(&error).starts_with("cannot read \"missing\": "));
    let error = scratch.watch(".").map(drop).unwrap_err();
    assert!(matches!(error, Error::NotObserved { .. }));
    assert!(told(&error).contains("profile(Profile::Observed)"));
    scratch.unmount().unwrap();
}

#[test]
fn a_panic_of_a_closure_fails_its_job_alone() {
    let listening = Job::new()
        .input("x", "")
        .on_staging(|_| -> ControlFlow<()> { panic!("the listener broke") });
    let error = failure(listening);
    assert!(matches!(&error, Error::Panicked { message } if message == "the listener broke"));
    told(&error);
    let broken = Source::new(|| -> io::Result<&str> { panic!("the closure broke") });
    let error = failure(
        Job::new()
            .profile(Profile::Observed)
            .input_source("x", broken)
            .step(["cat", "x"]),
    );
    assert!(matches!(error, Error::Source { .. }));
    Job::new().step(["true"]).run().unwrap();
}

/// What only the system can refuse, in a process that has lost something.
#[test]
fn what_the_system_refuses_is_told_with_its_reason() {
    in_own_process(|| {
        let scratch = Scratch::new().unwrap();
        // The lowest number that is free, which would be given out next.
        let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
        let limit = getrlimit(Resource::Nofile);
        let none_left = Rlimit {
            current: Some(next as u64),
            ..limit
        };
        setrlimit(Resource::Nofile, none_left).unwrap();
        let started = Job::new().step(["true"]).start().map(drop).unwrap_err();
        let ran = scratch.run(["true"]).map(drop).unwrap_err();
        setrlimit(Resource::Nofile, limit).unwrap();
        assert!(matches!(started, Error::Processes { .. }), "{started:?}");
        assert!(matches!(ran, Error::Processes { .. }), "{ran:?}");
        for error in [started, ran] {
            let text = told(&error);
            assert!(text.contains("Too many open files"), "{text}");
        }
        scratch.unmount().unwrap();

        // SAFETY: children are then collected by the kernel.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let failed = Job::new().step(["sh", "-c", "sleep 0.01; exit 3"]).run();
        // SAFETY: as it was.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        match failed.unwrap_err().error {
            Error::StepFailed { exit, .. } => assert_eq!(exit, notapipe::Exit::Code(3)),
            // Before Linux 6.15 it cannot be known any more.
            error => {
                assert!(
                    matches!(&error, Error::Wait { program, .. } if program == "sh"),
                    "{error}"
                );
                told(&error);
            }
        }
    });
}
