//! Playing a scene in a process of its own, as root or as an ordinary user.
//!
//! A test calls [`both`] with its own name and a function; this executes the test binary again, and
//! there the same test plays the function. Whatever a scene mounts and starts carries its tag, so
//! that tests do not see each other's.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use notapipe::mount::{Mount, MountPoint};
use notapipe::run::process::{
    Exit, Processes, Running, SpawnError, StepCommand, StepStatus, Waited,
};

/// Which scene a re-executed test binary is to play.
const SCENE: &str = "NOTAPIPE_TEST_SCENE";
/// What marks its mounts and processes.
const TAG: &str = "NOTAPIPE_TEST_TAG";
/// An ordinary user that every system has.
const USER: u32 = 1;
/// Long enough for a slow machine; nothing that works waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// What a scene is played with, for as long as this lives.
pub struct Stage {
    /// This binary and notapipe, copied to where every user may execute them, and room for a
    /// scene's own directories.
    directory: TempDir,
    tag: String,
}

impl Stage {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        open_up_device();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        bring(
            &env::current_exe().unwrap(),
            &directory.path().join("faults"),
        );
        bring(
            Path::new(env!("CARGO_BIN_EXE_notapipe")),
            &directory.path().join("notapipe"),
        );
        fs::create_dir(directory.path().join("room")).unwrap();
        fs::set_permissions(directory.path().join("room"), Permissions::from_mode(0o777)).unwrap();
        let tag = format!(
            "{}{:03}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        Stage { directory, tag }
    }

    /// Where the scene may make directories.
    pub fn room(&self) -> PathBuf {
        self.directory.path().join("room")
    }

    /// The test of this name again, to be played as `who`.
    pub fn command(&self, name: &str, who: Who) -> Command {
        let mut command = Command::new(self.directory.path().join("faults"));
        command
            .args([name, "--exact", "--nocapture", "--include-ignored"])
            .current_dir("/");
        command
            .env(SCENE, name)
            .env(TAG, &self.tag)
            .stdin(Stdio::null());
        if who == Who::User {
            command.uid(USER).gid(USER);
        }
        command
    }

    /// The processes that are the scene, or children of it that have executed nothing yet.
    pub fn copies(&self) -> Vec<i32> {
        let scene = self.directory.path().join("faults");
        let is_one = |&(pid, _): &(i32, String)| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == scene)
        };
        let copies = commands().into_iter().filter(is_one);
        copies.map(|(pid, _)| pid).collect()
    }

    /// Whether the scene left no mount, no directory and no process: step, init or watchdog.
    pub fn is_empty(&self) -> bool {
        let ours = self.directory.path();
        let is_ours = |(pid, command): &(i32, String)| {
            command.contains(&run_away_time(&self.tag))
                || command.contains(" notapipe-watchdog ") && command.contains(&self.tag)
                || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(ours))
        };
        mounts_of(&self.tag) == 0
            && fs::read_dir(self.directory.path().join("room"))
                .unwrap()
                .count()
                == 0
            && !commands().iter().any(is_ours)
    }
}

/// Links a program rather than writing a copy, which another test's child could still hold open for
/// writing when it is to be executed.
fn bring(program: &Path, to: &Path) {
    if fs::hard_link(program, to).is_err() {
        fs::copy(program, to).unwrap();
    }
}

/// As the distributions have it; on a bare machine it is root's alone.
fn open_up_device() {
    let _ = fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666));
}

/// Plays `scene` as root and as an ordinary user and expects both to succeed and to leave nothing.
pub fn both(name: &str, scene: fn()) {
    if is_playing(name) {
        return scene();
    }
    for who in [Who::Root, Who::User] {
        let stage = Stage::new();
        expect_success(stage.command(name, who), who);
        eventually("nothing is left", || stage.is_empty());
    }
}

pub fn expect_success(mut command: Command, who: Who) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success(),
        "as {who:?}: {}\n{said}",
        output.status
    );
    for line in said.lines().filter(|line| line.contains("FIGURE")) {
        println!("{who:?}: {line}");
    }
}

/// Whether we are the process that is to play this scene.
pub fn is_playing(name: &str) -> bool {
    env::var_os(SCENE).is_some_and(|playing| playing == name)
}

/// The tag of the scene that we play.
pub fn tag() -> String {
    env::var(TAG).expect("only in a scene")
}

/// Where the scene that we play may make directories.
pub fn room() -> PathBuf {
    env::current_exe().unwrap().with_file_name("room")
}

/// How many mounts of the scene our namespace shows.
pub fn mounts() -> usize {
    mounts_of(&tag())
}

fn mounts_of(tag: &str) -> usize {
    let source = format!(" faults-{tag} ");
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .matches(&source)
        .count()
}

/// The processes of the machine, each with its words joined by spaces.
fn commands() -> Vec<(i32, String)> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let command = |pid: i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&words).replace('\0', " ")))
    };
    pids.filter_map(command).collect()
}

fn whose_command(is_it: impl Fn(&str) -> bool) -> Vec<i32> {
    commands()
        .into_iter()
        .filter(|(_, command)| is_it(command))
        .map(|(pid, _)| pid)
        .collect()
}

/// The watchdogs of a mount at this path.
pub fn watchdogs(path: &Path) -> Vec<i32> {
    let path = path.display().to_string();
    whose_command(|command| command.contains(" notapipe-watchdog ") && command.contains(&path))
}

/// What the command line of an init says.
pub const INIT: &str = "notapipe-init";

/// The inits that are our children.
pub fn inits() -> Vec<i32> {
    children(std::process::id(), INIT)
}

/// What descends from a process.
pub fn descendants(ancestor: u32) -> Vec<i32> {
    let below = children(ancestor, "");
    let further = below
        .iter()
        .flat_map(|&pid| descendants(pid.unsigned_abs()));
    let further: Vec<i32> = further.collect();
    below.into_iter().chain(further).collect()
}

/// The children of a process that have this word in their command.
pub fn children(parent: u32, word: &str) -> Vec<i32> {
    let parent = parent.to_string();
    let is_child = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mut parents = status.lines().filter_map(|line| line.strip_prefix("PPid:"));
        parents.any(|it| it.trim() == parent)
    };
    let mut children = whose_command(|command| command.contains(word));
    children.retain(is_child);
    children
}

fn run_away_time(tag: &str) -> String {
    format!("98765.{tag}")
}

/// A step that nobody expects to end by itself.
pub fn sleep_for_long() -> [String; 2] {
    ["sleep".to_owned(), run_away_time(&tag())]
}

/// A step that leaves processes behind which called setsid(2) and ignore signals; all but one leave
/// the mount. Returns when they run.
pub fn run_away(processes: &Processes) {
    let [_, time] = sleep_for_long();
    let script = format!(
        "setsid sh -c 'sleep {time} & cd /; sleep {time} & trap \"\" TERM HUP; sleep {time}; :' & exec sleep 0.05"
    );
    assert_eq!(exit(processes, &["sh", "-c", &script]), Exit::Code(0));
    eventually("they run away", || ran_away().len() >= 4);
}

/// Runs a step whose processes each end once they have started the next one, and ends them all meanwhile.
pub fn fork_and_end(mut mount: Mount) {
    let processes = Processes::start_without_pid_namespace(mount.point()).unwrap();
    let [sleep, time] = sleep_for_long();
    let runs_away = format!("((setsid {sleep} {time} &) &) &");
    assert_eq!(exit(&processes, &["sh", "-c", &runs_away]), Exit::Code(0));
    processes.end().unwrap();
    mount.unmount().unwrap();
}

/// A step that leaves a process behind whose first thread has ended, so that it looks like a zombie, while another sleeps.
/// Ends them, and expects that nothing is left.
pub fn end_a_headless_one(processes: Processes) {
    let script = format!(
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); \
         ctypes.CDLL(None).syscall({})",
        libc::SYS_exit
    );
    let leave = "setsid python3 -c \"$0\" & exec sleep 0.05";
    assert_eq!(
        exit(&processes, &["sh", "-c", leave, &script]),
        Exit::Code(0)
    );
    let mut headless = 0;
    eventually("its first thread has ended", || {
        let remaining = processes.remaining().unwrap();
        let is_headless = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| stat.contains("(python3) Z"))
        };
        let found = remaining.iter().find(|it| is_headless(&it.pid));
        headless = found.map_or(0, |it| it.pid);
        found.is_some_and(|it| it.command.to_string_lossy().contains("ctypes"))
    });
    processes.end().unwrap();
    // The first one may wait for whoever collects it.
    let threads = fs::read_dir(format!("/proc/{headless}/task")).map_or(0, Iterator::count);
    assert!(threads <= 1, "{threads} left");
}

/// The processes that ran away.
pub fn ran_away() -> Vec<i32> {
    let time = run_away_time(&tag());
    let user = rustix::process::geteuid().as_raw();
    let is_ours = |pid: &i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|it| it.uid() == user);
    let mut away = whose_command(|command| command.contains(&time));
    away.retain(is_ours);
    away
}

/// Asks until the answer is yes.
pub fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !ask() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The command line's program, for a scene.
pub fn notapipe() -> PathBuf {
    env::current_exe().unwrap().with_file_name("notapipe")
}

pub type Start = fn(&Arc<MountPoint>) -> std::io::Result<Processes>;

/// The ways in which processes are kept together.
pub const WAYS: [Start; 2] = [Processes::start, Processes::start_without_pid_namespace];

/// Plays a part once in a PID namespace, where that is allowed, and once without.
pub fn both_ways(mount: impl Fn() -> Mount, part: impl Fn(&mut Mount, Processes)) {
    for start in WAYS {
        let mut mount = mount();
        let processes = start(mount.point()).unwrap();
        part(&mut mount, processes);
        mount.unmount().unwrap();
    }
}

pub struct Said {
    pub status: StepStatus,
    pub stdout: String,
}

/// A command as a step, with its output in a file of its own.
pub fn step(processes: &Processes, words: &[&str]) -> Result<Said, SpawnError> {
    let mut stdout = tempfile::tempfile().unwrap();
    let mut running = spawn_into(processes, words, USUAL_PATH, &stdout)?;
    let deadline = Some(Instant::now() + PATIENCE);
    let Waited::Ended(status) = running.wait(deadline, None).unwrap() else {
        panic!("{words:?} does not end")
    };
    let mut text = Vec::new();
    stdout.rewind().unwrap();
    stdout.read_to_end(&mut text).unwrap();
    Ok(Said {
        status,
        stdout: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// A command as a step that nobody listens to.
pub fn spawn<S: AsRef<str>>(processes: &Processes, words: &[S]) -> Result<Running, SpawnError> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    spawn_with_path(processes, &words, USUAL_PATH)
}

pub fn spawn_with_path(
    processes: &Processes,
    words: &[&str],
    path: &str,
) -> Result<Running, SpawnError> {
    spawn_into(
        processes,
        words,
        path,
        &File::options().write(true).open("/dev/null").unwrap(),
    )
}

const USUAL_PATH: &str = "/usr/bin:/bin";

fn spawn_into(
    processes: &Processes,
    words: &[&str],
    path: &str,
    output: &File,
) -> Result<Running, SpawnError> {
    let null = File::open("/dev/null").unwrap();
    processes.spawn(&StepCommand {
        program: words[0].into(),
        arguments: words[1..].iter().map(Into::into).collect(),
        environment: vec![("PATH".into(), path.into())],
        caller_directory: "/".into(),
        directory: "".into(),
        stdin: null.as_fd(),
        stdout: output.as_fd(),
        stderr: output.as_fd(),
        stream_files: [None, None, None],
    })
}

pub fn exit(processes: &Processes, words: &[&str]) -> Exit {
    step(processes, words).unwrap().status.exit
}
