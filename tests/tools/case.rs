//! One row of the table of tools: what a tool does on a named pipe, and the test that it works here.

use std::fs::{self, File};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use crate::bench_dir::{Pair, run_in};

/// A tool's work, done in an ordinary directory and in a job, and what both must agree on.
pub struct Case {
    /// The tool and what it is to do, as the table in docs/tools.md says it.
    pub tool: &'static str,
    /// What it does on a FIFO with a willing process at the other end. Seen on Debian 12; nothing of
    /// this is run by the test, which would have to wait for those that hang.
    pub on_a_fifo: &'static str,
    /// Makes the inputs, in both directories.
    pub prepare: fn(&Pair),
    /// `-i`.
    pub inputs: &'static [&'static str],
    /// What runs, in order.
    pub steps: &'static [&'static [&'static str]],
    /// `-o`.
    pub outputs: &'static [&'static str],
    /// What is the same in both directories afterwards.
    pub same: Same,
}

/// What a tool's work is compared by.
pub enum Same {
    /// Every output, byte for byte.
    Bytes,
    /// What this command says in either directory: the tool does not write the same bytes twice.
    Answer(&'static str, &'static [&'static str]),
    /// The bytes, and how many of them are allocated.
    BytesAndHoles,
}

impl Same {
    /// As the table says it.
    pub fn words(&self) -> &'static str {
        match self {
            Self::Bytes => "the same bytes as on disk",
            Self::Answer(words, _) => words,
            Self::BytesAndHoles => "the same bytes and the same holes",
        }
    }
}

impl Case {
    pub fn check(&self) {
        let pair = Pair::new();
        (self.prepare)(&pair);
        // Archives hold the times of their members.
        for directory in [pair.disk(), pair.ram()] {
            date_all(directory);
        }
        for step in self.steps {
            pair.on_disk(step);
        }
        self.run_in_ram(&pair);
        match self.same {
            Same::Bytes => pair.assert_same(self.outputs),
            Same::Answer(_, command) => {
                let disk = answer(pair.disk(), command);
                assert!(!disk.is_empty(), "{command:?} says nothing");
                assert_eq!(answer(pair.ram(), command), disk, "{command:?}");
            }
            Same::BytesAndHoles => {
                pair.assert_same(self.outputs);
                for name in self.outputs {
                    assert_eq!(
                        allocated(&pair.ram().join(name)),
                        allocated(&pair.disk().join(name)),
                        "{name}: allocated bytes"
                    );
                }
            }
        }
    }

    fn run_in_ram(&self, pair: &Pair) {
        let mut words = Vec::new();
        words.extend(self.inputs.iter().flat_map(|&name| ["-i", name]));
        words.extend(self.outputs.iter().flat_map(|&name| ["-o", name]));
        words.push("--");
        words.extend(self.steps.join(&"--then"));
        let output = pair.notapipe_run(&words);
        assert!(output.status.success(), "{words:?} in RAM: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("notapipe:"), "nobody asked for {told}");
    }
}

fn answer(directory: &Path, command: &[&str]) -> String {
    let Output { status, stdout, .. } = run_in(directory, command[0], &command[1..]);
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?} in {directory:?}: {stdout}");
    stdout
}

/// Gives every file and directory the same time.
fn date_all(directory: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for entry in walkdir::WalkDir::new(directory).contents_first(true) {
        let entry = entry.expect("a readable directory");
        let file = File::open(entry.path()).expect("an input");
        file.set_modified(time).expect("a time of last change");
    }
}

fn allocated(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    fs::metadata(file).expect("an output").blocks() * 512
}
