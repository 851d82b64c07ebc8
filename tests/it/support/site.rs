//! The program as a person meets it: a directory, a user, a command line, and what came of it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{leave_out, listing};

/// An ordinary user that every system has (daemon or bin). Not 65534, which is what a user namespace calls all users
/// that it does not map.
pub const USER: u32 = 1;
/// Long enough for a machine that does other things; nothing that works waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// In the environment of everything that a site starts.
const MARK: &str = "NOTAPIPE_TEST_SITE";
/// No tool of these tests comes from elsewhere, and an ordinary user may enter all of it.
const TOOLS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

impl Who {
    /// Those as whom this process can run the program. An ordinary user leaves root's part of each test out.
    pub fn all() -> &'static [Self] {
        match may_be_root("what root would see") {
            true => &[Self::Root, Self::User],
            false => &[Self::User],
        }
    }
}

/// Whether this process is root, without whom `why` is left out by `scripts/test.sh --fast` and fails elsewhere.
pub fn may_be_root(why: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        leave_out(&format!("{why}: only as root"));
    }
    is_root
}

/// Runs a test as root and as an ordinary user, in a site each.
pub fn both(test: impl Fn(&Site)) {
    for &who in Who::all() {
        // Shown when the test fails.
        println!("as {who:?}");
        test(&Site::new(who));
    }
}

/// Runs a test as root and as an ordinary user over each backing, in a site each, where `notapipe run` has that backing.
pub fn over_each_backing(test: impl Fn(&Site)) {
    over_backings(&["fuse", "tmpfs", "directory"], test);
}

/// The two that enforce limits, and do not only watch them.
pub fn over_enforcing_backings(test: impl Fn(&Site)) {
    over_backings(&["fuse", "tmpfs"], test);
}

fn over_backings(backings: &[&'static str], test: impl Fn(&Site)) {
    for &backing in backings {
        for &who in Who::all() {
            // Shown when the test fails.
            println!("as {who:?}, --backing {backing}");
            let mut site = Site::new(who);
            site.backing = Some(backing);
            test(&site);
        }
    }
}

/// A working directory of a user, with the program beside it.
///
/// When it is dropped, nothing of what was started in it may be left: no process, no mount, no
/// temporary file.
pub struct Site {
    directory: TempDir,
    who: Who,
    mark: String,
    /// Of what [`Site::run`] and its like call; the program's default unless said.
    backing: Option<&'static str>,
}

impl Site {
    pub fn new(who: Who) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        // As the distributions have it; on a bare machine it is root's alone.
        let _ = fs::set_permissions("/dev/fuse", Permissions::from_mode(0o666));
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_notapipe"));
        let copy = directory.path().join("notapipe");
        if fs::hard_link(program, &copy).is_err() {
            fs::copy(program, &copy).unwrap();
        }
        // Digits only: it is also the end of a number, see `endless`.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{:07}{count:04}", std::process::id());
        let site = Self {
            directory,
            who,
            mark,
            backing: None,
        };
        for owned in [site.work(), site.temporary()] {
            fs::create_dir(&owned).unwrap();
            site.give(&owned);
        }
        site
    }

    pub fn is_root(&self) -> bool {
        self.who == Who::Root
    }

    /// Root, for what an ordinary user cannot do at all; none where this process is no root, see [`may_be_root`].
    pub fn of_root() -> Option<Self> {
        may_be_root("all of it").then(|| Self::new(Who::Root))
    }

    /// The user of this site.
    pub fn uid(&self) -> u32 {
        match self.is_root() {
            true => 0,
            false => self
                .other_user()
                .unwrap_or_else(|| rustix::process::geteuid().as_raw()),
        }
    }

    /// The user to become, where this process is root and the site's user is not.
    fn other_user(&self) -> Option<u32> {
        (!self.is_root() && rustix::process::geteuid().is_root()).then_some(USER)
    }

    /// The current directory of what is called.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    pub fn program(&self) -> PathBuf {
        self.directory.path().join("notapipe")
    }

    fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.work().join(name)
    }

    /// The same, as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// Makes a file of the user's, and the directories above it.
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        if let Some(above) = name.as_ref().parent() {
            self.create_dir(above);
        }
        fs::write(self.path(&name), bytes).unwrap();
        self.give(&self.path(name));
    }

    /// A script that anybody may execute.
    pub fn script(&self, name: impl AsRef<Path>, text: &str) {
        self.write(&name, text);
        self.chmod(name, 0o755);
    }

    pub fn create_dir(&self, name: impl AsRef<Path>) {
        fs::create_dir_all(self.path(&name)).unwrap();
        for part in name.as_ref().ancestors() {
            self.give(&self.path(part));
        }
    }

    pub fn symlink(&self, target: &str, name: &str) {
        std::os::unix::fs::symlink(target, self.path(name)).unwrap();
        if let Some(user) = self.other_user() {
            std::os::unix::fs::lchown(self.path(name), Some(user), Some(user)).unwrap();
        }
    }

    pub fn mkfifo(&self, name: &str) {
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, self.path(name), fifo, mode, 0).unwrap();
        self.give(&self.path(name));
    }

    pub fn chmod(&self, name: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    pub fn mode(&self, name: impl AsRef<Path>) -> u32 {
        let metadata = fs::symlink_metadata(self.path(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    }

    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.path(&name)).unwrap_or_else(|error| panic!("{:?}: {error}", name.as_ref()))
    }

    pub fn exists(&self, name: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// All that is in the working directory.
    pub fn listing(&self) -> Vec<String> {
        listing(&self.work())
    }

    fn give(&self, path: &Path) {
        if let Some(user) = self.other_user() {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// Words for a shell: a process that does not end by itself, and that is found even when it
    /// clears its environment.
    pub fn endless(&self) -> String {
        format!("sleep 98765.{}", self.mark)
    }

    /// The processes that [`endless`](Self::endless) started.
    pub fn endless_ones(&self) -> usize {
        self.endless_pids().len()
    }

    pub fn endless_pids(&self) -> Vec<i32> {
        let wanted = format!("sleep\u{0}98765.{}\u{0}", self.mark);
        let commands = processes("cmdline");
        let running = commands.filter(|(_, words)| *words == wanted.as_bytes());
        running.map(|(pid, _)| pid).collect()
    }

    /// The processes that serve a mount of `notapipe mount`, here.
    pub fn servers(&self) -> Vec<i32> {
        let words = format!("{}\0mount\0", self.program().display());
        processes("cmdline")
            .filter(|(_, line)| line.starts_with(words.as_bytes()))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Any command of this user's, here.
    pub fn tool<A: AsRef<OsStr>>(&self, words: &[A]) -> Command {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir(self.work())
            .env_clear()
            .env("PATH", TOOLS)
            .env("TMPDIR", self.temporary())
            .env(MARK, &self.mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.other_user() {
            command.uid(user).gid(user);
        }
        command
    }

    /// `notapipe` with these words.
    pub fn command<A: AsRef<OsStr>>(&self, words: &[A]) -> Command {
        let program = self.program();
        let mut all = vec![program.as_os_str()];
        all.extend(words.iter().map(AsRef::as_ref));
        self.tool(&all)
    }

    /// Calls `notapipe` with these words, and waits for its end.
    pub fn call<A: AsRef<OsStr>>(&self, words: &[A]) -> Told {
        Call::start(self.command(words)).finish()
    }

    /// Calls `notapipe run` with these words.
    pub fn run<A: AsRef<OsStr>>(&self, words: &[A]) -> Told {
        self.call(&self.run_with(words))
    }

    /// Calls `notapipe run` with bytes on standard input.
    pub fn run_reading<A: AsRef<OsStr>>(&self, input: &[u8], words: &[A]) -> Told {
        let mut command = self.command(&self.run_with(words));
        command.stdin(Stdio::piped());
        let mut call = Call::start(command);
        let mut stdin = call.stdin();
        let input = input.to_vec();
        // A job need not read it.
        let writer = thread::spawn(move || stdin.write_all(&input));
        let told = call.finish();
        let _ = writer.join().unwrap();
        told
    }

    /// Starts `notapipe run` with these words.
    pub fn start<A: AsRef<OsStr>>(&self, words: &[A]) -> Call {
        Call::start(self.command(&self.run_with(words)))
    }

    fn run_with<'w, A: AsRef<OsStr>>(&self, words: &'w [A]) -> Vec<&'w OsStr> {
        let backing = self.backing.iter().flat_map(|it| ["--backing", it]);
        let run = ["run"].into_iter().chain(backing).map(OsStr::new);
        run.chain(words.iter().map(AsRef::as_ref)).collect()
    }

    fn marked(&self) -> String {
        format!("{MARK}={}\0", self.mark)
    }

    /// What is left of all that was started here; empty when nothing is.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let marked = self.marked();
        let endless = format!("98765.{}", self.mark);
        let by_environment = processes("environ").filter(|(_, text)| holds(text, &marked));
        let by_words = processes("cmdline").filter(|(_, text)| {
            holds(text, &endless) || holds(text, self.directory.path().to_str().unwrap())
        });
        for (pid, _) in by_environment.chain(by_words) {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            left.push(format!("process {pid}: {}", words.escape_ascii()));
        }
        left.extend(mounts_below(self.directory.path()));
        let files = fs::read_dir(self.temporary()).unwrap();
        left.extend(files.map(|file| format!("{:?}", file.unwrap().path())));
        left
    }

    /// Nothing is left, now or in a moment.
    pub fn expect_nothing_left(&self) {
        eventually(|| {
            let left = self.leftovers();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("left behind: {left:#?}"))
            }
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !thread::panicking() {
            return self.expect_nothing_left();
        }
        // What a failed test leaves must not stay: a watchdog removes the mount of a dead server.
        let marked = self.marked();
        for (pid, _) in processes("environ").filter(|(_, text)| holds(text, &marked)) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

fn holds(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

/// One file of every process that may be looked at.
fn processes(file: &'static str) -> impl Iterator<Item = (i32, Vec<u8>)> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(move |pid: i32| Some((pid, fs::read(format!("/proc/{pid}/{file}")).ok()?)))
}

/// The mounts of ours that this thread's namespace shows at or below a directory.
pub fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read("/proc/thread-self/mountinfo").unwrap();
    // Another test's name need not be UTF-8.
    let mounts = String::from_utf8_lossy(&mounts);
    let directory = directory.to_str().unwrap();
    mounts
        .lines()
        .filter(|line| line.contains("fuse.notapipe") && line.contains(directory))
        .map(str::to_owned)
        .collect()
}

/// Asks until there is an answer; the last refusal is told when there never is one.
pub fn eventually<T>(mut ask: impl FnMut() -> Result<T, String>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(refusal) => assert!(Instant::now() < give_up, "{refusal}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(|| {
        holds()
            .then_some(())
            .ok_or_else(|| format!("never: {what}"))
    });
}

/// A command that runs. Dropped before its end is known, it is killed.
pub struct Call {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    finished: bool,
}

impl Call {
    pub fn start(mut command: Command) -> Self {
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // Another test's child may hold a copy open for writing, from its fork to its exec.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("cannot start {command:?}: {error}"),
            }
        };
        Self {
            stdout: child.stdout.take().map(collect),
            stderr: child.stderr.take().map(collect),
            child,
            finished: false,
        }
    }

    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Told {
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < give_up, "does not end");
            thread::sleep(Duration::from_micros(500));
        };
        self.finished = true;
        let text = |reader: Option<JoinHandle<_>>| reader.map(|it| it.join().unwrap());
        let stderr = text(self.stderr.take()).unwrap_or_default();
        Told {
            status,
            stdout: text(self.stdout.take()).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// How a call ended, and what it said.
#[derive(Debug)]
pub struct Told {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Told {
    /// It exited with this status.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{:?}: {}{}",
            self.status.signal(),
            self.stdout.escape_ascii(),
            self.stderr
        );
        self
    }

    /// Standard error holds all of these.
    #[track_caller]
    pub fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{:?} lacks {part:?}",
                self.stderr
            );
        }
        self
    }

    /// Neither stream got anything.
    #[track_caller]
    pub fn silently(self) -> Self {
        assert_eq!((self.text(), self.stderr.as_str()), (String::new(), ""));
        self
    }

    /// Standard output is this.
    #[track_caller]
    pub fn printing(self, text: &str) -> Self {
        assert_eq!(self.text(), text, "{}", self.stderr);
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Does `work` in a mount namespace of its own, from which and into which no mount shows, on a
/// thread of its own: what other tests mount and unmount meanwhile stays out of the way.
///
/// Jobs of other tests copy the mounts that they see when they start, and keep them. An ordinary user has no such
/// namespace in which `fusermount3` would work, and shares the machine's.
pub fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::mount::{MountPropagationFlags, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};

    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if !rustix::process::geteuid().is_root() {
                return work();
            }
            // SAFETY: this thread alone gets a namespace and file system attributes of its own, and
            // it ends right after; no descriptor is touched.
            unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }.unwrap();
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", flags).unwrap();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Plays `scene`, a closure of a test's, in a process of its own, as root and as an ordinary user.
///
/// That process runs nothing else, so that all it holds is the scene's; and it is in a mount
/// namespace of its own, see [`with_own_mounts`].
pub fn in_own_process<F: Fn()>(scene: F) {
    const SCENE: &str = "NOTAPIPE_TEST_SCENE";

    // `it::job::a_test::{{closure}}`
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    let name = name.split("::{{").next().unwrap();
    if std::env::var_os(SCENE).is_some_and(|playing| playing == name) {
        return scene();
    }
    with_own_mounts(|| {
        both(|site| {
            let here = std::env::current_exe().unwrap();
            let copy = site.directory.path().join("it");
            if fs::hard_link(&here, &copy).is_err() {
                fs::copy(&here, &copy).unwrap();
            }
            let words = [
                copy.to_str().unwrap(),
                name,
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ];
            let mut command = site.tool(&words);
            command.env(SCENE, name);
            let told = Call::start(command).finish();
            let text = told.text();
            assert!(told.status.success(), "{text}{}", told.stderr);
            assert!(text.contains("1 passed"), "there is no test {name}: {text}");
        });
    });
}

/// A process in a directory that does what it is told, one line of Python after another.
pub struct Puppet {
    call: Call,
    stdin: std::process::ChildStdin,
    answers: std::io::BufReader<std::process::ChildStdout>,
}

impl Puppet {
    const SCRIPT: &str = "
import mmap, os, sys
scope = dict(os=os, mmap=mmap)
for line in sys.stdin:
    try:
        try:
            answer = eval(line, scope)
        except SyntaxError:
            exec(line, scope)
            answer = None
    except OSError as error:
        answer = error.strerror
    print(answer, flush=True)
";

    pub fn start(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", Self::SCRIPT]);
        command.current_dir(directory).env("PATH", TOOLS);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = std::io::BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take().unwrap();
        let call = Call {
            child,
            stdout: None,
            stderr: None,
            finished: false,
        };
        let mut puppet = Self {
            call,
            stdin,
            answers,
        };
        // It has started when it answers.
        assert_eq!(puppet.ask("1 + 1"), "2");
        puppet
    }

    /// What a line of Python comes to; of a statement `None`, of a refused call its error.
    pub fn ask(&mut self, line: &str) -> String {
        use std::io::BufRead;

        writeln!(self.stdin, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "{line}: it has died");
        answer.pop();
        answer
    }

    /// A line that must simply work.
    #[track_caller]
    pub fn tell(&mut self, line: &str) {
        assert_eq!(self.ask(line), "None", "{line}");
    }

    pub fn pid(&self) -> i32 {
        self.call.pid()
    }
}
