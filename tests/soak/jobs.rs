//! What the threads do: one short thing after another, each checked, whatever becomes of its tools.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use notapipe::fuse::Profile;
use notapipe::run::Exit;
use notapipe::store::Limits;
use notapipe::{Base, Error, ErrorKind, Failed, Job, Outcome, Scratch, Source};

use crate::tools::Dice;

/// What was done, and how it ended.
#[derive(Debug, Default)]
pub struct Figures {
    counts: BTreeMap<(&'static str, Ending), u64>,
    pub killed: u64,
    pub dropped_in_use: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// As it should end when nobody interferes.
    Well,
    /// A tool of it was killed, and it told so.
    Killed,
}

type Done = (&'static str, Ending);

impl Figures {
    pub fn count(&mut self, done: Done) {
        *self.counts.entry(done).or_default() += 1;
    }

    /// # Panics
    /// When something of all this never came about.
    pub fn check(&self) {
        for (kind, _) in KINDS {
            let well = self.counts.get(&(*kind, Ending::Well));
            assert!(
                well.is_some_and(|&count| count > 0),
                "{kind} never ended well"
            );
        }
        assert!(self.killed > 0, "no tool was killed");
        assert!(self.dropped_in_use > 0, "no scratch directory was dropped");
    }
}

impl FromIterator<Figures> for Figures {
    fn from_iter<I: IntoIterator<Item = Figures>>(all: I) -> Self {
        let mut sum = Self::default();
        for (done, count) in all.into_iter().flat_map(|it| it.counts) {
            *sum.counts.entry(done).or_default() += count;
        }
        sum
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.counts.values().sum();
        writeln!(
            f,
            "{all} jobs and scratch directories; {} tools killed, {} scratch directories dropped in use",
            self.killed, self.dropped_in_use
        )?;
        for ((kind, ending), count) in &self.counts {
            writeln!(f, "{count:>8}  {kind}, {ending:?}")?;
        }
        Ok(())
    }
}

type Kind = (&'static str, fn(&mut Dice, &Base) -> Ending);

const KINDS: &[Kind] = &[
    ("sorts bytes", |dice, _| sort(dice)),
    ("works from a base", from_base),
    ("fails", |_, _| failing()),
    ("runs out of time", |_, _| late()),
    ("is cancelled", |dice, _| cancelled(dice)),
    ("is dropped while it runs", |dice, _| dropped(dice)),
    ("reaches for sources", |dice, _| sources(dice)),
    ("fills its mount", |_, _| full()),
    ("has a closure that panics", |_, _| panicking()),
    ("is watched and followed", |_, _| watched()),
];

/// Does one thing.
pub fn any(dice: &mut Dice, base: &Base) -> Done {
    let (kind, play) = KINDS[dice.below(KINDS.len() as u64) as usize];
    (kind, play(dice, base))
}

/// Tells a tool that was killed from everything else, which must not happen.
fn ending<T>(result: Result<T, impl Into<Error>>, check: impl FnOnce(T)) -> Ending {
    match result.map_err(Into::into) {
        Ok(outcome) => {
            check(outcome);
            Ending::Well
        }
        Err(error) if is_killed(&error) => Ending::Killed,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

fn is_killed(error: &Error) -> bool {
    // A shell whose child was killed tells it by 128 + 9.
    matches!(
        error,
        Error::StepFailed {
            exit: Exit::Signal(9) | Exit::Code(137),
            ..
        }
    )
}

fn sort(dice: &mut Dice) -> Ending {
    let mut numbers: Vec<u64> = (0..200).map(|_| 1000 + dice.below(9000)).collect();
    let text = |numbers: &[u64]| -> String { numbers.iter().map(|n| format!("{n}\n")).collect() };
    let job = Job::new()
        .input("words", text(&numbers))
        .step(["sort", "words", "-o", "sorted"])
        .output("sorted");
    numbers.sort_unstable();
    ending(job.run(), |outcome| {
        assert_eq!(outcome.output("sorted").unwrap(), text(&numbers));
    })
}

fn from_base(dice: &mut Dice, base: &Base) -> Ending {
    let n = dice.below(500);
    let change = format!("cat include/{n}.h include/0.h > all && echo changed > include/{n}.h");
    let job = Job::new()
        .base(base)
        .step(["sh", "-c", &change])
        .step(["sort", "-u", "all", "-o", "all"])
        .output("all");
    ending(job.run(), |outcome| {
        let all = outcome.output("all").unwrap();
        let line = format!("#define N{n} {n}\n");
        assert!(all.starts_with(b"#define N0 0\n"));
        assert!(all.ends_with(line.as_bytes()), "{all:?}");
    })
}

fn failing() -> Ending {
    let job = Job::new().step(["sh", "-c", "sleep 0.01; exit 3"]);
    match job.run() {
        Err(Failed {
            error:
                Error::StepFailed {
                    exit: Exit::Code(3),
                    ..
                },
            ..
        }) => Ending::Well,
        result => ending(result, |outcome: Outcome| panic!("{outcome:?}")),
    }
}

fn late() -> Ending {
    let job = Job::new()
        .step(["sh", "-c", "(setsid sleep 600 &) ; sleep 600"])
        .timeout(Duration::from_millis(50));
    match job.run() {
        Err(failed) if failed.kind() == ErrorKind::Timeout => Ending::Well,
        result => ending(result, |outcome| panic!("{outcome:?}")),
    }
}

fn cancelled(dice: &mut Dice) -> Ending {
    let running = Job::new().step(["sleep", "600"]).start().unwrap();
    thread::sleep(Duration::from_millis(dice.below(20)));
    running.cancel();
    match running.wait() {
        Err(failed) if failed.kind() == ErrorKind::Cancelled => Ending::Well,
        result => ending(result, |outcome| panic!("{outcome:?}")),
    }
}

fn dropped(dice: &mut Dice) -> Ending {
    let step = ["sh", "-c", "while :; do echo x >> f; sleep 0.001; done"];
    let running = Job::new().step(step).start().unwrap();
    thread::sleep(Duration::from_millis(dice.below(20)));
    drop(running);
    Ending::Well
}

fn sources(dice: &mut Dice) -> Ending {
    let pause = Duration::from_millis(dice.below(5));
    let job = Job::new()
        .input_source(
            "made",
            Source::new(move || {
                thread::sleep(pause);
                Ok("made\n")
            }),
        )
        .input_source("unused", Source::new(|| Ok(vec![0; 1 << 20])))
        .step(["sh", "-c", "cat made made > twice"])
        .output("twice");
    ending(job.run(), |outcome| {
        assert_eq!(outcome.output("twice").unwrap(), "made\nmade\n");
    })
}

fn full() -> Ending {
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 100,
    };
    let job = Job::new()
        .limits(limits)
        .step(["dd", "if=/dev/zero", "of=f", "bs=64k"]);
    match job.run() {
        Err(Failed {
            error: Error::StepFailed { .. },
            outcome: Some(outcome),
            ..
        }) if outcome.limit_met().is_some() => Ending::Well,
        result => ending(result, |outcome| panic!("{outcome:?}")),
    }
}

fn panicking() -> Ending {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _buffer: &mut [u8]) -> std::io::Result<usize> {
            // Without the hook, whose words nobody wants ten thousand times.
            std::panic::resume_unwind(Box::new("broken"))
        }
    }
    let running = Job::new().input_reader("x", Broken).start().unwrap();
    match running.wait() {
        Err(Failed {
            error: Error::Panicked { message },
            ..
        }) if message == "broken" => Ending::Well,
        result => panic!("{result:?}"),
    }
}

fn watched() -> Ending {
    let scratch = Scratch::builder()
        .profile(Profile::Observed)
        .build()
        .unwrap();
    let events = scratch.watch(".").unwrap();
    let mut log = scratch.follow("log").unwrap();
    let (killed, counted, read) = thread::scope(|scope| {
        let counter = scope.spawn(|| events.count());
        let reader = scope.spawn(|| {
            let mut text = String::new();
            log.read_to_string(&mut text).map(|_| text)
        });
        let script = "for n in 1 2 3; do echo $n; sleep 0.002; done > log";
        let report = scratch.run(["sh", "-c", script]).unwrap();
        let killed = !report.status.exit.success();
        scratch.unmount().unwrap();
        (killed, counter.join().unwrap(), reader.join().unwrap())
    });
    if killed {
        return Ending::Killed;
    }
    assert_eq!(read.unwrap(), "1\n2\n3\n");
    assert!(counted >= 4, "created, opened, written, closed: {counted}");
    Ending::Well
}

/// How the public scratch directories of this process begin, for telling them in the mount table.
pub fn public_prefix() -> String {
    format!("notapipe-soak-{}-", std::process::id())
}

/// While a process works in it, a file of it is open, and somebody watches and follows.
pub fn drop_a_scratch_in_use() {
    let prefix = public_prefix();
    let directory = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
    let scratch = Scratch::builder()
        .public_at(directory.path())
        .profile(Profile::Observed)
        .build()
        .unwrap();
    let mut watch = scratch.watch(".").unwrap();
    // A child that is killed before it opens the file would be waited for otherwise.
    let log = scratch.follow("log").unwrap();
    let mut log = log.timeout(Duration::from_secs(5));
    let mut file = scratch.create("ours").unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec > log; while :; do echo x || exit 1; done"])
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The first bytes are there: it is at work.
    let mut some = [0; 2];
    let worked = log.read_exact(&mut some).is_ok();
    drop(scratch);
    // Whatever these say now, they say it at once or when the process is gone.
    let _ = catch_unwind(AssertUnwindSafe(|| file.write_all(b"late")));
    let _ = watch.try_next();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(worked || !status.success(), "{status}");
    let _ = log.read_to_end(&mut Vec::new());
    assert!(watch.all(|_| true), "the watch ends with the mount");
}
