//! Steps under an init: a process of our own binary, in a PID namespace where the system allows it,
//! that ends with us however we end, and takes everything with it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketType};
use rustix::process::{PidfdFlags, Signal};

use super::super::init::ARGUMENT;
use super::census::{self, Census, ROUND};
use super::running::{Patience, Running, Woken};
use super::wire::{self, Report};
use super::zygote::Zygote;
use super::{Containment, LAST_PATIENCE, PATIENCE};
use crate::mount::{Membership, MountPoint, MountState, may_mount};
use crate::sys::cgroup::CgroupHandle;
use crate::sys::child::Child;
use crate::sys::launch::{Candidate, Launch, LaunchError, Stage};
use crate::sys::namespaces::{NamespaceId, Namespaces};
use crate::sys::proc::{self, ProcessHandle, Stuck};
use crate::sys::signals::InheritedSignals;
use crate::sys::{null, socket};

/// Our own binary, and the arguments that make it call [`run::init::main`](crate::run::init::main).
///
/// # Examples
///
/// ```standalone_crate
/// use notapipe::run::{InitProgram, init};
///
/// fn main() -> Result<(), notapipe::Error> {
///     let mut arguments = std::env::args_os().skip(1);
///     if arguments.next().is_some_and(|first| first == init::ARGUMENT) {
///         init::main(arguments);
///     }
///     // Where PID namespaces are allowed, the init is the first process of one.
///     let outcome = notapipe::Job::new()
///         .init(InitProgram::ourselves())
///         .step(["sh", "-c", "cat /proc/$PPID/cmdline"])
///         .run()?;
///     assert!(outcome.steps()[0].stdout.to_text().contains(init::ARGUMENT));
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct InitProgram {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// For the first job that has use for it; clones share it.
    zygote: Arc<Mutex<Option<Zygote>>>,
}

impl InitProgram {
    /// An executable file, and the hidden arguments that stand before the init's own. When the first of them is
    /// [`ARGUMENT`], its `main` must hand over to [`run::init::main`](crate::run::init::main) with what follows.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::{InitProgram, init};
    ///
    /// let elsewhere = InitProgram::new("/usr/local/bin/notapipe", [init::ARGUMENT]);
    /// # drop(elsewhere);
    /// ```
    #[must_use]
    pub fn new(
        path: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        InitProgram {
            path: path.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            zygote: Arc::default(),
        }
    }

    /// The running program, even if its file was replaced meanwhile (`/proc/self/exe`). Its `main` must hand over to
    /// [`run::init::main`](crate::run::init::main) when its first argument is [`ARGUMENT`].
    #[must_use]
    pub fn ourselves() -> Self {
        Self::new("/proc/self/exe", [ARGUMENT])
    }

    /// Makes a copy of this process now (fork(2)), which becomes the init of the first job that has a PID namespace,
    /// without executing the program. That saves this job the loading of it: some 0.6 ms of 4.3, for `notapipe run`.
    ///
    /// For a program that runs one job, at the start of its `main`, before it has threads, memory or files of its own:
    /// the copy has all memory that there is at this moment until the job has ended. Where this process has several
    /// threads already, or no copy can be made, the program is executed as without this.
    ///
    /// # Examples
    ///
    /// ```standalone_crate
    /// use notapipe::run::{InitProgram, init};
    ///
    /// fn main() -> Result<(), notapipe::Error> {
    ///     let mut arguments = std::env::args_os().skip(1);
    ///     if arguments.next().is_some_and(|first| first == init::ARGUMENT) {
    ///         init::main(arguments);
    ///     }
    ///     let init = InitProgram::ourselves().forked_ahead();
    ///     let job = notapipe::Job::new().init(init).step(["sh", "-c", "echo $PPID"]);
    ///     assert_eq!(job.run()?.steps()[0].stdout.to_text(), "1\n");
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn forked_ahead(self) -> Self {
        match Zygote::fork() {
            Ok(zygote) => *self.zygote.lock() = Some(zygote),
            Err(error) => log::debug!("no copy of this process waits for a job: {error}"),
        }
        self
    }
}

/// A running init.
#[derive(Debug)]
pub(super) struct Supervisor {
    init: Child,
    control: OwnedFd,
    containment: Containment,
    ended: bool,
    /// The /proc of its PID namespace, which shows all that is in it, whatever mount namespaces that made for itself.
    proc: Option<OwnedFd>,
}

impl Supervisor {
    /// Starts the init: in a PID namespace with its own /proc, or without where that is refused. It puts the steps
    /// into the control group, if there is one, and is not in it itself.
    pub(super) fn start(
        place: &MountPoint,
        program: &InitProgram,
        group: Option<CgroupHandle<'_>>,
    ) -> io::Result<Self> {
        let started = place.with_state(|state| {
            let ground = Ground::of(state)?;
            let forked = ground
                .may_contain
                .then(|| Self::forked(program, ground.namespaces, group));
            Some(match forked.flatten() {
                Some(supervisor) => Ok(supervisor),
                None => Self::executed(program, ground, group),
            })
        });
        started.ok_or(io::ErrorKind::NotFound)?
    }

    /// Before there are steps, which could mount something over it.
    fn new(init: Child, control: OwnedFd, containment: Containment) -> Self {
        let proc = match containment {
            Containment::PidNamespace => open_proc(init.pid()),
            _ => None,
        };
        Supervisor {
            init,
            control,
            containment,
            ended: false,
            proc,
        }
    }

    /// From the copy of our process that waits, where there is one.
    fn forked(
        program: &InitProgram,
        namespaces: Option<&Namespaces>,
        group: Option<CgroupHandle<'_>>,
    ) -> Option<Self> {
        let zygote = program.zygote.lock().take()?;
        match zygote.into_init(namespaces, group) {
            Ok((init, control)) => Some(Supervisor::new(init, control, Containment::PidNamespace)),
            Err(LaunchError { stage, errno, .. }) => {
                log::debug!("the waiting copy is no init: cannot {stage}: {errno}");
                None
            }
        }
    }

    fn executed(
        program: &InitProgram,
        ground: Ground<'_>,
        group: Option<CgroupHandle<'_>>,
    ) -> io::Result<Self> {
        let (control, theirs) = socket::pair(SocketType::SEQPACKET)?;
        let ourselves =
            rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        let null = null::open()?;
        let launch = init_launch(program, &null, [&theirs, &ourselves], group)?;
        let (init, containment) = execute(&launch, ground).map_err(LaunchError::into_io)?;
        Ok(Supervisor::new(init, control, containment))
    }

    /// Has the init start a step. It does not answer while it is stopped, or the program lies where nobody answers.
    pub(super) fn spawn(
        &self,
        launch: &Launch<'_>,
        patience: Patience<'_>,
    ) -> Result<Running, LaunchError> {
        let channel = |error| LaunchError::new(Stage::AskInit, error);
        let (report, theirs) = socket::pair(SocketType::SEQPACKET).map_err(channel)?;
        let (description, read_by_init) = socket::pair(SocketType::STREAM).map_err(channel)?;
        let text = wire::encode(launch);
        let [stdin, stdout, stderr] = launch.stdio;
        let request = [read_by_init.as_fd(), theirs.as_fd(), stdin, stdout, stderr];
        let length = text.len().to_le_bytes();
        socket::send(self.control.as_fd(), &length, &request).map_err(channel)?;
        drop((theirs, read_by_init));
        describe(&description, &text, patience).map_err(channel)?;
        let answered = patience.expect(report.as_fd(), PollFlags::IN);
        answered.map_err(channel)?;
        match first_report(report.as_fd()).map_err(channel)? {
            Some((Report::Started, Some(process))) => Ok(Running::supervised(report, process)),
            Some((
                Report::Failed {
                    stage,
                    errno,
                    program,
                },
                _,
            )) => Err(LaunchError {
                stage,
                errno: io::Error::from_raw_os_error(errno),
                program: program as usize,
            }),
            Some(_) => Err(channel(io::ErrorKind::InvalidData.into())),
            None if self.has_died() => Err(channel(io::Error::other("the job's init has ended"))),
            None => Err(channel(Errno::MFILE.into())),
        }
    }

    fn has_died(&self) -> bool {
        let soon = Patience::until(Instant::now() + ROUND);
        matches!(
            soon.wait(self.init.as_fd(), PollFlags::IN),
            Ok(Woken::Ready)
        )
    }

    pub(super) fn containment(&self) -> Containment {
        self.containment
    }

    /// A path to the /proc of the PID namespace, if there is one.
    pub(super) fn own_proc(&self) -> Option<String> {
        let proc = self.proc.as_ref()?;
        Some(format!("/proc/self/fd/{}", proc.as_raw_fd()))
    }

    /// The number of the init's process, which is one of the job's and not a step.
    pub(super) fn init_pid(&self) -> i32 {
        self.init.pid()
    }

    /// Who belongs to the init of a public mount.
    pub(super) fn census(&self) -> io::Result<Census> {
        let init = self.init_pid();
        match self.containment {
            // It made a mount namespace, to have a /proc of its own, and keeps it while it lives.
            Containment::PidNamespace => {
                let namespace = NamespaceId::at(&format!("/proc/{init}/ns/mnt"))?;
                Membership::new(namespace, None).map(Census::Namespace)
            }
            _ => Ok(Census::Descent(init)),
        }
    }

    /// Whether the init is gone, as far as we have noticed.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Ends the init, and with it everything. Gives the numbers of what cannot be ended now.
    pub(super) fn end(&mut self, place: &MountPoint) -> Vec<i32> {
        if self.ended {
            return Vec::new();
        }
        if self.containment == Containment::PidNamespace {
            let _ = self.init.signal(Signal::KILL);
        } else {
            // It then kills what it started, and exits. Killed itself, it could not.
            let _ = rustix::net::shutdown(&self.control, Shutdown::Both);
        }
        match self.ends_within(PATIENCE) {
            true => Vec::new(),
            false => self.end_by_force(place),
        }
    }

    /// Ends an init that is stopped, or that waits for a program that it is to start, and whatever is below it.
    fn end_by_force(&mut self, place: &MountPoint) -> Vec<i32> {
        let init = self.init_pid();
        let below = proc::descendants(init).unwrap_or_default().into_iter();
        let held = |pid| ProcessHandle::checked(pid, |pid| proc::descends(pid, init));
        let mut below: Vec<ProcessHandle> = below.filter_map(held).collect();
        census::abort(place);
        let _ = self.init.signal(Signal::KILL);
        for process in &below {
            let _ = process.signal(Signal::KILL);
        }
        let give_up = Instant::now() + LAST_PATIENCE;
        let mut stuck = Stuck::default();
        loop {
            let has_ended = self.ended || self.ends_within(ROUND);
            below.retain(|it| !it.has_ended());
            let left: Vec<i32> = below.iter().map(|it| it.pid).collect();
            match (has_ended, left.is_empty()) {
                (true, true) => return left,
                (false, true) if Instant::now() >= give_up => return vec![init],
                (_, false) if stuck.are(&left) || Instant::now() >= give_up => return left,
                (true, false) => std::thread::sleep(ROUND),
                (false, _) => {}
            }
        }
    }

    fn ends_within(&mut self, bound: Duration) -> bool {
        let patience = Patience::until(Instant::now() + bound);
        let woken = patience.wait(self.init.as_fd(), PollFlags::IN);
        if !matches!(woken, Ok(Woken::Ready)) {
            return false;
        }
        let _ = self.init.try_wait();
        self.ended = true;
        true
    }
}

/// The /proc that the first process of a PID namespace has mounted.
fn open_proc(init: i32) -> Option<OwnedFd> {
    let path = format!("/proc/{init}/root/proc");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let opened =
        opened.inspect_err(|error| log::debug!("the job's /proc cannot be opened: {error}"));
    opened.ok()
}

fn init_launch<'a>(
    program: &InitProgram,
    null: &'a File,
    [control, ourselves]: [&'a OwnedFd; 2],
    group: Option<CgroupHandle<'a>>,
) -> io::Result<Launch<'a>> {
    let path = CString::new(program.path.as_os_str().as_bytes())?;
    let mut arguments = vec![CString::new("notapipe")?];
    for argument in &program.arguments {
        arguments.push(CString::new(argument.as_bytes())?);
    }
    let mut keep = vec![control.as_fd(), ourselves.as_fd()];
    keep.extend(group.iter().flat_map(|group| [group.procs, group.parent]));
    for descriptor in &keep {
        arguments.push(CString::new(descriptor.as_raw_fd().to_string())?);
    }
    arguments.extend(group.map(|group| group.name.to_owned()));
    Ok(Launch {
        programs: vec![Candidate {
            path,
            decides: true,
        }],
        arguments,
        directory: Some(c"/".to_owned()),
        keep,
        // From its first moment on, Ctrl-C and a closed terminal are not for it.
        signals: InheritedSignals::all_blocked(),
        ..Launch::new([null.as_fd(), null.as_fd(), rustix::stdio::stderr()])
    })
}

/// Where an init is to start.
#[derive(Clone, Copy)]
struct Ground<'p> {
    namespaces: Option<&'p Namespaces>,
    /// Whether it may have a PID namespace, as far as can be told beforehand.
    may_contain: bool,
}

impl<'p> Ground<'p> {
    /// Nothing when the mount is gone.
    fn of(state: &'p MountState) -> Option<Self> {
        let (namespaces, may_contain) = match state {
            MountState::Private(inside)
            | MountState::Backed {
                inside: Some(inside),
                ..
            } => (Some(&**inside), true),
            // An ordinary user makes no PID namespace without a user namespace.
            MountState::Public(_) | MountState::Backed { .. } => (None, may_mount()),
            MountState::Gone => return None,
        };
        Some(Self {
            namespaces,
            may_contain,
        })
    }
}

fn execute(launch: &Launch<'_>, ground: Ground<'_>) -> Result<(Child, Containment), LaunchError> {
    if ground.may_contain {
        match launch.start_in_pid_namespace(ground.namespaces) {
            Ok(init) => return Ok((init, Containment::PidNamespace)),
            Err(error) if error.stage == Stage::Execute => return Err(error),
            Err(error) => log::debug!("no PID namespace: cannot {}: {}", error.stage, error.errno),
        }
    }
    launch
        .start(ground.namespaces)
        .map(|init| (init, Containment::Subreaper))
}

/// Passes on what to start, which may be more than a socket holds.
fn describe(socket: &OwnedFd, mut text: &[u8], patience: Patience<'_>) -> io::Result<()> {
    while !text.is_empty() {
        match rustix::net::send(socket, text, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => text = &text[sent..],
            Err(Errno::AGAIN) => patience.expect(socket.as_fd(), PollFlags::OUT)?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The answer to a request; nothing when the init has died, or had no descriptors left to receive it with.
fn first_report(report: BorrowedFd<'_>) -> io::Result<Option<(Report, Option<OwnedFd>)>> {
    let Some((packet, mut descriptors)) = socket::receive(report)? else {
        return Ok(None);
    };
    Ok(Some((Report::decode(&packet)?, descriptors.pop())))
}
