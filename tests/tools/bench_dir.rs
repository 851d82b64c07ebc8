//! Two directories with the same files: the tools run in one, `notapipe run` is called in the
//! other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No run here takes a tenth of this; a hang must fail, not stop the suite.
const PATIENCE: Duration = Duration::from_secs(120);

/// A pair of directories with the same content.
#[derive(Debug)]
pub struct Pair {
    disk: TempDir,
    ram: TempDir,
}

impl Pair {
    pub fn new() -> Self {
        let directory = || tempfile::tempdir().expect("a temporary directory");
        Self {
            disk: directory(),
            ram: directory(),
        }
    }

    /// The directory in which the tools run by themselves.
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// The directory from which `notapipe run` is called.
    pub fn ram(&self) -> &Path {
        self.ram.path()
    }

    /// Writes a file into both.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        for directory in [self.disk(), self.ram()] {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("a name")).expect("directories above");
            fs::write(path, bytes.as_ref()).expect("an input");
        }
    }

    /// Copies a directory of this repository into both.
    pub fn copy_from(&self, source: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        for entry in walkdir::WalkDir::new(&source) {
            let entry = entry.expect("the repository's examples");
            if entry.file_type().is_file() {
                let name = entry
                    .path()
                    .strip_prefix(&source)
                    .expect("below the source");
                let bytes = fs::read(entry.path()).expect("an example");
                self.write(name.to_str().expect("examples have plain names"), bytes);
            }
        }
    }

    /// Has a tool make an input on the disk, and copies it into the other directory.
    pub fn make(&self, command: &[&str], name: &str) {
        self.on_disk(command);
        fs::copy(self.disk().join(name), self.ram().join(name)).expect("what the tool made");
    }

    /// Runs a tool in the disk's directory; it must succeed.
    pub fn on_disk(&self, command: &[&str]) {
        let output = run_in(self.disk(), command[0], &command[1..]);
        assert!(output.status.success(), "{command:?} on disk: {output:?}");
    }

    /// Runs `notapipe run` in the other directory.
    pub fn notapipe_run(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["run"];
        all.extend(arguments);
        run_in(self.ram(), env!("CARGO_BIN_EXE_notapipe"), &all)
    }

    /// The same, and it must succeed silently.
    pub fn in_ram(&self, arguments: &[&str]) {
        let output = self.notapipe_run(arguments);
        assert!(output.status.success(), "{arguments:?} in RAM: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "nobody asked for a word"
        );
    }

    /// These files are the same in both, byte for byte, and not empty.
    pub fn assert_same(&self, names: &[&str]) {
        for name in names {
            let disk = fs::read(self.disk().join(name)).expect("the tool's own output");
            let ram =
                fs::read(self.ram().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!disk.is_empty(), "{name} is empty: this compares nothing");
            assert!(
                disk == ram,
                "{name} differs: {} bytes on disk, {} in RAM",
                disk.len(),
                ram.len()
            );
        }
    }
}

/// All files below a directory, with their bytes.
pub fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(directory)
        .into_iter()
        .map(|entry| entry.expect("a readable directory"))
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry
                .path()
                .strip_prefix(directory)
                .expect("below it")
                .to_path_buf();
            (name, fs::read(entry.path()).expect("a readable file"))
        })
        .collect()
}

/// Runs a program; fails with one line when it is missing or hangs.
pub fn run_in(directory: &Path, program: impl AsRef<OsStr>, arguments: &[&str]) -> Output {
    let program = program.as_ref();
    let child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "cannot start {program:?}: {error}; scripts/test.sh installs what the tests need"
            )
        });
    wait(child, &format!("{program:?} {arguments:?}"))
}

fn wait(child: std::process::Child, what: &str) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn({
        let what = what.to_owned();
        move || {
            let began = Instant::now();
            if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // Our own child, not yet waited for: the number is still its.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                eprintln!("{what} was killed after {:?}", began.elapsed());
            }
        }
    });
    let output = child.wait_with_output().expect("the output of a child");
    drop(done);
    guard.join().expect("the guard");
    output
}
