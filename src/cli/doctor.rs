//! `notapipe doctor`: what this machine allows, and what to change where it does not.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use notapipe::mount::{MountOptions, Visibility, find_program};
use notapipe::run::{Backing, LimitHolder, ResourceLimits};
use notapipe::text::shown;
use notapipe::{Job, Scratch, memory};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use super::container;
use super::figures::bytes;
use super::{report, socket_dir, streams};

/// `notapipe doctor`.
#[derive(Debug, Args)]
#[command(about = "Tell what this machine allows, and what to change")]
#[command(long_about = "\
Tell what this machine allows, each line with the remedy where something is missing.

What can be tried is tried: a private mount is made, a job is run. Nothing is left of it.")]
#[command(after_long_help = "\
Signs:
  ok     works
  note   works with less, or another way
  FAIL   does not work

Exit status:
  0      `notapipe run` works here
  1      it does not, or only without FUSE")]
pub struct DoctorArgs {
    /// As JSON: {\"run\": BOOL, \"checks\": [{\"name\", \"state\", \"found\", \"remedy\"}]}
    #[arg(long)]
    pub json: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Less than the best, and no hindrance.
    Note,
    Fail,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    /// Whether `notapipe run` works.
    run: bool,
    checks: Vec<Check>,
}

impl Check {
    fn new(name: &'static str, state: State, found: impl Into<String>) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            remedy: None,
        }
    }

    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found)
    }

    fn note(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(name, State::Note, found).remedy(remedy)
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self::new(name, State::Fail, found).remedy(remedy)
    }

    fn remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }
}

/// Looks at everything and tells it.
pub fn doctor(args: DoctorArgs) -> ExitCode {
    let (run, run_works) = run();
    let diagnosis = Diagnosis {
        run: run_works,
        checks: [
            Some(kernel()),
            Some(fuse()),
            Some(device()),
            Some(helper()),
            shell(),
            null_device(),
            Some(private_mount()),
            Some(run),
            without_fuse(run_works),
            Some(backing(
                ("tmpfs", Backing::Tmpfs),
                "it takes namespaces, as private mounts do",
            )),
            Some(backing(
                ("directory", Backing::Directory),
                "give it a tmpfs that can be written to (docker run --tmpfs /tmp:exec)",
            )),
            Some(process_namespace()),
            Some(own_tmp()),
            Some(allow_other()),
            Some(fstab()),
            Some(limits()),
            Some(memory_check()),
            Some(unnamed_files()),
            Some(sockets()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    let written = if args.json {
        streams::print_json(&diagnosis)
    } else {
        streams::print(table(&diagnosis))
    };
    match diagnosis.run && written == ExitCode::SUCCESS {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn table(diagnosis: &Diagnosis) -> String {
    let mut lines = Vec::new();
    for check in &diagnosis.checks {
        let sign = match check.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Fail => "FAIL",
        };
        lines.push(format!(
            "{sign:5} {:18} {}",
            check.name,
            shown(&check.found)
        ));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("{:25}{}", "", shown(remedy)));
        }
    }
    let does_without = |check: &Check| check.name == WITHOUT_FUSE && check.state == State::Note;
    let verdict = if diagnosis.run {
        "notapipe run works here"
    } else if diagnosis.checks.iter().any(does_without) {
        "notapipe run works here without FUSE alone"
    } else {
        "notapipe run does not work here"
    };
    lines.push(verdict.to_owned());
    lines.join("\n") + "\n"
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The running kernel's version, as far as it can be read.
fn version() -> Option<(u32, u32)> {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().ok()?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let found = format!("Linux {}", uname.release().to_string_lossy());
    match version() {
        Some(version) if version < (5, 15) => {
            Check::fail("kernel", found, "Linux 5.15 or later is needed")
        }
        _ => Check::ok("kernel", found),
    }
}

fn fuse() -> Check {
    const NAME: &str = "fuse";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.split('\t').next_back() == Some("fuse"))
    {
        Check::ok(NAME, "the kernel knows it")
    } else {
        Check::fail(
            NAME,
            "the kernel does not know it",
            "load the module: modprobe fuse (in a container: on the host)",
        )
    }
}

fn device() -> Check {
    const NAME: &str = "/dev/fuse";
    const REMEDY: &str =
        "make it usable: chmod 0666 /dev/fuse; a container is started with --device /dev/fuse";
    let there = match fs::metadata(NAME) {
        Ok(there) => there,
        Err(error) => return Check::fail(NAME, error.to_string(), REMEDY),
    };
    if !there.file_type().is_char_device() {
        return Check::fail(NAME, "it is no device", REMEDY);
    }
    let mode = format!("mode {:04o}", there.mode() & 0o7777);
    let opened = rustix::fs::open(NAME, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    match opened {
        Err(error) => Check::fail(NAME, format!("{mode}, {error}"), REMEDY),
        Ok(_) if there.mode() & 0o666 != 0o666 => Check::note(
            NAME,
            format!("{mode}: not for every user"),
            "chmod 0666 /dev/fuse",
        ),
        Ok(_) => Check::ok(NAME, mode),
    }
}

/// Where the first of these programs lies.
fn program(names: &[&str]) -> Option<PathBuf> {
    find_program(names, &std::env::var_os("PATH").unwrap_or_default())
}

fn helper() -> Check {
    const NAME: &str = "fusermount3";
    let found = program(&[NAME, "fusermount"]);
    let Some(path) = found else {
        let remedy = "install the package fuse3; without it users have private mounts only";
        return Check::note(NAME, "it is not there", remedy);
    };
    let shown = path.display().to_string();
    let mode = path.metadata().map_or(0, |there| there.mode());
    if mode & 0o4000 == 0 {
        let remedy = format!("chmod u+s {shown}, so that users can mount publicly");
        return Check::note(NAME, format!("{shown} is not set-user-id"), &remedy);
    }
    Check::ok(NAME, format!("{shown}, set-user-id"))
}

/// A word where there is none.
fn shell() -> Option<Check> {
    const SHELL: &str = "/bin/sh";
    (!Path::new(SHELL).exists()).then(|| {
        Check::note(
            SHELL,
            "it is not there: no public mounts, no --input-from and --output-to",
            "install the package dash or busybox",
        )
    })
}

/// A word where there is none.
fn null_device() -> Option<Check> {
    const DEVICE: &str = "/dev/null";
    (!Path::new(DEVICE).exists())
        .then(|| Check::fail(DEVICE, "it is not there", "mknod -m 666 /dev/null c 1 3"))
}

/// Tried for real: namespaces, the device, mount(2), the first request.
fn private_mount() -> Check {
    const NAME: &str = "private mounts";
    let options = MountOptions {
        visibility: Visibility::Private,
        ..MountOptions::default()
    };
    let began = Instant::now();
    let made = Scratch::builder().mount(options).build();
    let taken = began.elapsed();
    match made.and_then(Scratch::unmount) {
        Ok(()) if is_root() => {
            Check::ok(NAME, format!("in a mount namespace, ready in {taken:.1?}"))
        }
        Ok(()) => Check::ok(
            NAME,
            format!("in user and mount namespaces, ready in {taken:.1?}"),
        )
        .remedy("for ssh, fakeroot, sudo and files of a second group there is --mount public"),
        Err(error) => Check::note(
            NAME,
            report::chain(&error),
            "jobs use public mounts instead, which only their user may enter",
        ),
    }
}

/// Tried for real as well; whether it works decides the exit status.
fn run() -> (Check, bool) {
    const NAME: &str = "run";
    let began = Instant::now();
    match Job::new().backing(Backing::Fuse).step(["true"]).run() {
        Ok(_) => (
            Check::ok(
                NAME,
                format!("a job of `true` took {:.1?}", began.elapsed()),
            ),
            true,
        ),
        Err(error) => {
            let check = Check::new(NAME, State::Fail, report::chain(&error));
            (check, false)
        }
    }
}

const WITHOUT_FUSE: &str = "without FUSE";

/// What jobs do where there is no mount for them.
fn without_fuse(run_works: bool) -> Option<Check> {
    if run_works {
        return None;
    }
    let mounted = Job::new().backing(Backing::Fuse).step(["true"]).run();
    let notapipe::Error::Mount(refused) = mounted.err()?.error else {
        return None;
    };
    if !refused.lacks_fuse() {
        return None;
    }
    let (tell, told) = mpsc::channel();
    let ran = Job::new()
        .limits(memory::default_limits())
        .on_backing(move |refused, backed| {
            let remedy = refused.map(|it| container::remedy(it, backed.storage));
            // The receiver waits for the job.
            let _ = tell.send((container::words(backed), remedy.unwrap_or_default()));
        })
        .step(["true"])
        .run();
    let (words, remedy) = told.recv().unwrap_or_default();
    Some(match ran {
        Ok(_) => Check::note(
            WITHOUT_FUSE,
            format!("jobs run {words}"),
            &format!("for mounts, {remedy}; notapipe run --backing fuse refuses to do without"),
        ),
        Err(error) => Check::new(WITHOUT_FUSE, State::Fail, report::chain(&error)),
    })
}

/// Whether a job can have this backing, tried for real.
fn backing((name, backing): (&'static str, Backing), remedy: &str) -> Check {
    let (tell, told) = mpsc::channel();
    let ran = Job::new()
        .limits(memory::default_limits())
        .backing(backing)
        .on_backing(move |_, backed| {
            // The receiver waits for the job.
            let _ = tell.send(container::words(backed));
        })
        .step(["true"])
        .run();
    let words = told.recv().unwrap_or_default();
    match ran {
        Ok(_) => Check::ok(name, format!("with --backing {name}, jobs run {words}")),
        Err(error) => Check::note(name, report::chain(&error), remedy),
    }
}

fn process_namespace() -> Check {
    const NAME: &str = "PID namespaces";
    const LINK: &str = "/proc/self/ns/pid";
    let own = fs::read_link(LINK).unwrap_or_default();
    let ran = Job::new().step(["readlink", LINK]).run();
    let inside = ran.as_ref().ok().and_then(|outcome| {
        let said = outcome.steps().first()?.stdout.to_text();
        Some(PathBuf::from(said.trim()))
    });
    match inside {
        None => Check::note(NAME, "no job could be run to see", "see `run` above"),
        Some(inside) if inside == own => Check::note(
            NAME,
            "steps run without one of their own: what they leave behind is searched for and ended",
            "allow unshare(2) of PID namespaces and mounting /proc (a container: --security-opt \
             systempaths=unconfined)",
        ),
        Some(_) => Check::ok(NAME, "steps run in one, with a /proc of their own"),
    }
}

/// Tried for real: what a job writes to /tmp is looked for here.
fn own_tmp() -> Check {
    const NAME: &str = "/tmp of a job";
    let made = Job::new().step(["mktemp", "-p", "/tmp"]).run();
    let path = made.as_ref().ok().and_then(|outcome| {
        let said = outcome.steps().first()?.stdout.to_text();
        Some(PathBuf::from(said.trim()))
    });
    match path {
        None => Check::note(NAME, "no job could write there to see", "see `run` above"),
        Some(path) if path.exists() => {
            // Ours, as it was made a moment ago.
            let _ = fs::remove_file(path);
            Check::note(
                NAME,
                "the host's: TMPDIR leads steps to a directory of the job, and what does not look at it is shared",
                "it takes private mounts (see above), tmpfs and overlayfs in the kernel",
            )
        }
        Some(_) => Check::ok(
            NAME,
            "its own, as /var/tmp, /dev/shm and IPC objects are: in RAM, and gone with it",
        ),
    }
}

/// Tried for real: a control group is made, and a process joins it.
fn limits() -> Check {
    const NAME: &str = "--limit";
    let all = ResourceLimits {
        cpu: Some(Duration::from_secs(3600)),
        memory_bytes: Some(1 << 30),
        processes: Some(1000),
        files: None,
    };
    let outcome = match Job::new().resource_limits(all).step(["true"]).run() {
        Ok(outcome) => outcome,
        Err(_) => return Check::note(NAME, "no job could be run to see", "see `run` above"),
    };
    let by = outcome.limits_by();
    let names = [
        ("cpu", by.cpu),
        ("memory", by.memory),
        ("processes", by.processes),
    ];
    let (of_job, of_each): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|(_, by)| *by == Some(LimitHolder::Cgroup));
    let list = |names: &[(&str, _)]| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    if of_each.is_empty() {
        let found = "cpu, memory and processes by a control group, for the whole job";
        return Check::ok(NAME, found);
    }
    let mut found = format!("without a control group: {}", list(&of_each));
    if !of_job.is_empty() {
        found = format!("by a control group: {}; {found}", list(&of_job));
    }
    Check::note(
        NAME,
        format!("{found}; cpu and memory are then limits of each process"),
        if is_root() {
            "it takes control groups of version 2 alone (systemd.unified_cgroup_hierarchy=1), and in a \
             container a writable /sys/fs/cgroup that has no process in its root"
        } else {
            "with systemd and control groups of version 2: systemd-run --user --scope notapipe run …"
        },
    )
}

fn allow_other() -> Check {
    const NAME: &str = "allow_other";
    if is_root() {
        return Check::ok(NAME, "root may always");
    }
    let allowed = fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    if allowed {
        Check::ok(NAME, "user_allow_other stands in /etc/fuse.conf")
    } else {
        Check::note(
            NAME,
            "not for users: no other user can enter their mounts",
            "put the line `user_allow_other` into /etc/fuse.conf",
        )
    }
}

fn fstab() -> Check {
    const NAME: &str = "mount(8), fstab";
    let own = ["/sbin/mount.fuse.notapipe", "/usr/sbin/mount.fuse.notapipe"];
    if own.iter().any(|path| Path::new(path).exists()) {
        return Check::ok(NAME, "by mount.fuse.notapipe");
    }
    match (
        program(&["mount.fuse3", "mount.fuse"]),
        program(&["notapipe"]),
    ) {
        (Some(helper), Some(ours)) => Check::ok(
            NAME,
            format!("{} calls {}", helper.display(), ours.display()),
        ),
        (None, _) => Check::note(
            NAME,
            "mount.fuse3 is not there",
            "install the package fuse3, or link notapipe to /sbin/mount.fuse.notapipe",
        ),
        (Some(_), None) => Check::note(
            NAME,
            "notapipe is not in PATH, where mount.fuse3 looks for it",
            "link it to /usr/local/bin, or to /sbin/mount.fuse.notapipe",
        ),
    }
}

/// What is free, and what a mount takes of it unless said otherwise.
fn memory_check() -> Check {
    const NAME: &str = "memory";
    let limits = memory::default_limits();
    match memory::available_bytes() {
        Ok(available) => {
            let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = machine
                .lines()
                .find_map(|line| line.strip_prefix("MemAvailable:"));
            let free = line
                .and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(u64::MAX, |kib| kib << 10);
            // It moves between the two readings.
            let by = if available < free / 10 * 9 {
                "the control group leaves"
            } else {
                "the machine has"
            };
            let found = format!(
                "{by} {} free; a mount holds {} unless --size says otherwise",
                bytes(available),
                bytes(limits.bytes)
            );
            if limits.bytes < 64 << 20 {
                Check::note(
                    NAME,
                    found,
                    "free some memory, or raise the group's memory.max",
                )
            } else {
                Check::ok(NAME, found)
            }
        }
        Err(error) => Check::note(NAME, error.to_string(), "mount /proc"),
    }
}

/// Outputs are written without a name first, so that nothing is left of an interrupted delivery.
fn unnamed_files() -> Check {
    const NAME: &str = "O_TMPFILE";
    let here =
        std::env::current_dir().map_or_else(|_| ".".to_owned(), |dir| dir.display().to_string());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) => Check::ok(NAME, format!("works in {here}")),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => Check::note(
            NAME,
            format!("{here} cannot be written in"),
            "deliver outputs elsewhere: -o NAME=DEST",
        ),
        Err(_) => Check::note(
            NAME,
            format!("not in {here}"),
            "outputs get hidden names while they are written, which kill -9 would leave behind",
        ),
    }
}

fn sockets() -> Check {
    const NAME: &str = "control sockets";
    match socket_dir::socket_dir().open() {
        Ok(directory) => Check::ok(NAME, directory.display().to_string()),
        Err(error) => Check::note(
            NAME,
            report::chain(&error),
            "without them list, status, snapshot and resize do not work",
        ),
    }
}
