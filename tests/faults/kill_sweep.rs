//! kill -9 of `notapipe run` at a hundred moments of a job, from before its first system call to
//! after its last.
//!
//! Whatever the moment, within a second nothing of that run is left: no process, no mount, no file
//! in the temporary directory; and each output is whole or not there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const MOMENTS: u32 = 100;
/// The bound. A machine that is busy with other things gets more time before the test
/// fails, but must not be the rule: see `sweep`.
const WITHIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
const MARK: &str = "NOTAPIPE_SWEEP";

const USER: u32 = 1;

#[test]
fn nothing_is_left() {
    sweep(None);
}

/// When we are no root, the other test has said it already.
#[test]
fn as_an_ordinary_user_nothing_is_left() {
    sweep(rustix::process::geteuid().is_root().then_some(USER));
}

/// A place that an ordinary user can enter, with a copy of the program and the inputs.
struct Site {
    directory: TempDir,
    user: Option<u32>,
    path: std::ffi::OsString,
}

impl Site {
    fn new(user: Option<u32>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(
            env!("CARGO_BIN_EXE_notapipe"),
            directory.path().join("notapipe"),
        )
        .unwrap();
        let site = Self {
            directory,
            user,
            path: std::env::var_os("PATH").expect("PATH"),
        };
        for owned in [site.work(), site.temporary()] {
            fs::create_dir(&owned).unwrap();
            std::os::unix::fs::chown(&owned, user, user).unwrap();
        }
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gameboy/simple");
        for name in ["A.asm", "B.asm"] {
            fs::copy(examples.join(name), site.work().join(name)).unwrap();
        }
        site
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    fn outputs(&self) -> [PathBuf; 3] {
        ["A.gb", "A.map", "A.sym"].map(|name| self.work().join(name))
    }

    fn start(&self, mark: &str) -> Child {
        let mut command = Command::new(self.directory.path().join("notapipe"));
        #[rustfmt::skip]
        command.args([
            "run", "-i", "A.asm", "-i", "B.asm", "-o", "A.gb", "-o", "A.map", "-o", "A.sym", "--",
            "rgbasm", "A.asm", "-o", "A.o",
            "--then", "rgbasm", "B.asm", "-o", "B.o",
            // A grandchild that has left its session must go too.
            "--then", "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & exec sleep 0.02",
            "--then", "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym",
        ]);
        command
            .current_dir(self.work())
            .env_clear()
            .env("PATH", &self.path)
            .env("TMPDIR", self.temporary())
            .env(MARK, mark)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        loop {
            match command.spawn() {
                Ok(child) => return child,
                // Another test's child may hold our copy open for writing, from its fork to its
                // exec.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    sleep(Duration::from_millis(1))
                }
                Err(error) => panic!("cannot start notapipe: {error}"),
            }
        }
    }

    /// What is left of the run with this mark; empty when nothing is.
    fn leftovers(&self, mark: &str) -> Vec<String> {
        let mut left = processes_marked(mark);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains("fuse.notapipe"))
                .filter(|line| line.contains(self.directory.path().to_str().unwrap()))
                .map(str::to_owned),
        );
        let files = fs::read_dir(self.temporary()).unwrap();
        left.extend(files.map(|entry| format!("{:?}", entry.unwrap().path())));
        left
    }
}

/// Runs the job once to the end, then kills it at moments spread over that time.
fn sweep(user: Option<u32>) {
    let site = Site::new(user);
    let began = Instant::now();
    let status = site.start("first").wait().expect("the first run");
    let whole = began.elapsed();
    assert!(status.success(), "the job by itself: {status}");
    let complete = site
        .outputs()
        .map(|output| fs::read(output).expect("an output"));
    let mut slowest = Duration::ZERO;

    for moment in 0..MOMENTS {
        for output in site.outputs() {
            let _ = fs::remove_file(output);
        }
        let mark = format!("{}-{moment}", std::process::id());
        let mut child = site.start(&mark);
        sleep(whole * moment / (MOMENTS * 9 / 10));
        child.kill().expect("our own child, not yet waited for");
        child.wait().expect("the end of our child");

        let killed = Instant::now();
        loop {
            let left = site.leftovers(&mark);
            if left.is_empty() {
                break;
            }
            assert!(
                killed.elapsed() < PATIENCE,
                "killed at {moment} of {MOMENTS}: still there: {left:#?}"
            );
            sleep(Duration::from_millis(1));
        }
        slowest = slowest.max(killed.elapsed());
        for (output, complete) in site.outputs().iter().zip(&complete) {
            if let Ok(bytes) = fs::read(output) {
                assert!(
                    bytes == *complete,
                    "killed at {moment}: {output:?} is half written"
                );
            }
        }
        let hidden = fs::read_dir(site.work()).unwrap().count();
        assert!(
            hidden <= 5,
            "killed at {moment}: the caller's directory holds something of ours"
        );
    }
    println!(
        "gone after {slowest:?} at the latest (the aim is {WITHIN:?}); the whole job took {whole:?}"
    );
}

fn processes_marked(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}\0");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .windows(wanted.len())
            .any(|window| window == wanted.as_bytes())
        {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!(
                "{:?} {}",
                entry.file_name(),
                String::from_utf8_lossy(&command)
            ));
        }
    }
    found
}
