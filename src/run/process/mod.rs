//! Starting steps in a mount, waiting for them, and ending everything that they started.
//!
//! A step starts like posix_spawn(3) would start it: the cost does not depend on our size, and the
//! child makes only system calls. It finds itself in the mount's root directory (or a directory
//! below), with the caller's environment and streams, and with the signals ignored and held back that
//! [`InheritedSignals`] tells; without that, those ignored that this program ignores, but for SIGPIPE, and none held back.
//!
//! Steps run in a PID namespace of the job's own, which ends with us even if we are killed, and whose first process needs
//! no program but the one that this library brings. [`Containment`] tells what is done where the system allows none.

mod contained;
mod members;
mod program;
mod running;
mod subreaped;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use self::contained::Contained;
use self::members::{Mark, Members};
pub(super) use self::running::Patience;
pub use self::running::{Interrupt, Running, StepStatus, Waited};
use self::subreaped::Subreapers;
use super::error::Error;
use super::group::Group;
use super::limits::{LimitHolders, ResourceLimits};
use super::own_tmp;
use super::step::with_variables;
use crate::mount::{
    MountError, MountPoint, MountState, ProcessInfo, SharedInit, Writing, may_mount, writing,
};
pub use crate::sys::child::Exit;
use crate::sys::init::Init;
use crate::sys::launch::{Candidate, Launch, LaunchError, Stage, StreamFiles};
use crate::sys::namespaces::Namespaces;
use crate::sys::null;
use crate::sys::proc::{self, Usage};
use crate::sys::signals::InheritedSignals;
use crate::text::{self, quoted, shown};

/// How long killed processes may take to go before the mount's connection is aborted, which frees
/// those that wait for an answer from it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long they may take after that.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// A command to start in a mount.
#[derive(Debug, Clone)]
pub struct StepCommand<'a> {
    /// A bare name is looked for in the PATH of `environment`; a relative path in
    /// `caller_directory` and then in the working directory; an absolute one is taken as it is.
    pub program: OsString,
    /// Without the program's own name.
    pub arguments: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Absolute: what a relative `program` is relative to.
    pub caller_directory: PathBuf,
    /// The working directory below the mount's root; empty for the root itself.
    pub directory: PathBuf,
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
    /// Regular files below the mount's root that are standard input, output and error instead,
    /// opened by the step itself; outputs are made, or cut to nothing.
    pub stream_files: [Option<PathBuf>; 3],
}

/// Why a step did not start.
///
/// # Examples
///
/// ```
/// use notapipe::{Error, Job};
///
/// let failed = Job::new().step(["no-such-tool"]).run().unwrap_err();
/// let Error::Spawn(error) = failed.error else { panic!("{failed}") };
/// assert_eq!(error.exit_code(), 127);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no such program.
    #[error(
        "{program} was not found{}",
        looked_in.as_ref().map(|path| format!(" in PATH ({})", shown(path).at_most(4096))).unwrap_or_default(),
        program = quoted(program)
    )]
    NotFound {
        /// As it was given.
        program: OsString,
        /// The PATH that was searched, for a bare name.
        looked_in: Option<OsString>,
    },
    /// It is there and cannot be executed.
    #[error("{path} cannot be executed: {error}{}", execution_hint(error), path = quoted(path))]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What execve(2) said.
        error: io::Error,
    },
    /// The working directory cannot be entered.
    #[error("{path} cannot be entered: {error}", path = quoted(path))]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What chdir(2) said.
        error: io::Error,
    },
    /// A file that was to be a standard stream cannot be opened.
    #[error(
        "cannot open {name} as the standard {stream} of {program}: {error}{}",
        stream_hint(error),
        name = quoted(name),
        program = quoted(program)
    )]
    Stream {
        /// The file, below the mount's root.
        name: PathBuf,
        /// input, output or error.
        stream: &'static str,
        /// The program, as it was given.
        program: OsString,
        /// What openat2(2) said.
        error: io::Error,
    },
    /// A word holds a NUL, which no command line can pass on.
    #[error("{word} holds a NUL byte", word = quoted(word))]
    Nul {
        /// The word.
        word: OsString,
    },
    /// The mount is unmounted.
    #[error("{program} cannot be started: the mount is gone", program = quoted(program))]
    Unmounted {
        /// The program, as it was given.
        program: OsString,
    },
    /// The system refused something else.
    #[error("cannot {action} for {program}: {error}", program = quoted(program))]
    System {
        /// What was being done.
        action: String,
        /// The program, as it was given.
        program: OsString,
        /// What the system said.
        error: io::Error,
    },
}

impl SpawnError {
    /// The exit status by which env(1), nohup(1) and timeout(1) tell this: 127 not found, 126 found
    /// and not executable, 125 anything else.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            SpawnError::NotFound { .. } => 127,
            SpawnError::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Whether the machine refused, and not the program that was asked for.
    pub(super) fn is_of_the_system(&self) -> bool {
        matches!(self, Self::Unmounted { .. } | Self::System { .. })
    }
}

fn execution_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::E2BIG) => " (its arguments and environment are too long)",
        Some(libc::ENOENT) => {
            " (the file is there; the interpreter or loader that it names is not)"
        }
        Some(libc::ENOEXEC) => " (neither a program for this machine nor a script)",
        _ => "",
    }
}

fn stream_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EXDEV) => " (a symlink leads out of the mount)",
        Some(libc::EINVAL | libc::ENXIO) => " (it is no regular file)",
        _ => "",
    }
}

/// Processes that do not go away; of an [`Error`](crate::Error).
#[derive(Debug, thiserror::Error)]
#[error(
    "{} processes of the job in {path} cannot be ended now, as they wait for a file system that does not answer: {}",
    processes.len(),
    list(processes),
    path = quoted(path)
)]
pub struct StillRunning {
    /// Where the job's mount stands.
    pub path: PathBuf,
    /// The processes.
    pub processes: Vec<ProcessInfo>,
}

fn list(processes: &[ProcessInfo]) -> String {
    let processes = processes.iter();
    text::list(processes.map(|it| format!("{} (process {})", shown(&it.command), it.pid)))
}

/// What keeps the processes of a job together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Containment {
    /// A PID namespace: the kernel ends everything when we end, however we end.
    PidNamespace,
    /// Above each step a process that adopts whatever loses its parent below, and kills everything when we end, however we
    /// end; unless it is itself killed.
    Subreaper,
}

/// A process that may still change a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writer {
    pub process: ProcessInfo,
    /// The file's path in the mount; unknown when the process cannot be looked at.
    pub file: Option<PathBuf>,
}

/// The processes of one job.
///
/// Several may share a mount, and then share a PID namespace. Each ends its own steps and what descends from them; what
/// got away from its parents ends with the last.
///
/// Dropping it kills all of them, quietly.
#[derive(Debug)]
pub struct Processes {
    place: Arc<MountPoint>,
    grouping: Grouping,
    starter: Starter,
    ended: bool,
    /// Where steps write temporary files that would not be the job's own.
    tmp: Option<PathBuf>,
    /// What steps start with, unless it is what children of this program do.
    signals: Option<InheritedSignals>,
    /// Dropped when they have ended.
    group: Group,
}

/// What tells the processes of a job from others without a PID namespace.
#[derive(Debug)]
enum Grouping {
    /// The namespaces of their private mount, or of their directory.
    Inside(Arc<Namespaces>),
    /// A variable in their environment.
    Marked(Mark),
}

#[derive(Debug)]
enum Starter {
    Contained(Contained),
    Subreaped(Subreapers),
}

impl Starter {
    /// In a PID namespace where that is allowed. Of several in one mount, the first makes the init for all of them.
    fn new(state: &MountState, shared: &mut SharedInit) -> io::Result<Self> {
        if let Some(init) = shared.running.upgrade() {
            return Ok(Self::Contained(Contained::new(init)));
        }
        let namespaces = state.namespaces().map(|it| &**it);
        // An ordinary user makes no PID namespace without a user namespace.
        if namespaces.is_none() && !may_mount() {
            return Ok(Self::Subreaped(Subreapers::default()));
        }
        let null = null::open()?;
        match Init::start(namespaces, shared.was_made, &null) {
            Ok(init) => {
                let init = Arc::new(init);
                (shared.running, shared.was_made) = (Arc::downgrade(&init), true);
                Ok(Self::Contained(Contained::new(init)))
            }
            Err(refused) if refused.is_shortage() => Err(refused.into_io()),
            Err(refused) => {
                log::debug!("no PID namespace: {refused}");
                Ok(Self::Subreaped(Subreapers::default()))
            }
        }
    }
}

impl Processes {
    /// Prepares to start processes in a mount.
    ///
    /// # Errors
    /// The mount is gone, or there are no descriptors or processes left for it.
    pub fn start(place: &Arc<MountPoint>) -> io::Result<Self> {
        Self::start_limited(place, ResourceLimits::default())
    }

    /// The same for processes that may use only so much. What no control group can hold is held otherwise, see
    /// [`limits_by`](Self::limits_by).
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_limited(place: &Arc<MountPoint>, limits: ResourceLimits) -> io::Result<Self> {
        Self::start_with(place, limits, Starter::new)
    }

    /// As [`start`](Self::start) does it where no PID namespace is allowed.
    ///
    /// # Errors
    /// The mount is gone.
    pub fn start_without_pid_namespace(place: &Arc<MountPoint>) -> io::Result<Self> {
        let subreaped = |_: &MountState, _: &mut _| Ok(Starter::Subreaped(Subreapers::default()));
        Self::start_with(place, ResourceLimits::default(), subreaped)
    }

    fn start_with(
        place: &Arc<MountPoint>,
        limits: ResourceLimits,
        starter: impl FnOnce(&MountState, &mut SharedInit) -> io::Result<Starter>,
    ) -> io::Result<Self> {
        let (grouping, starter) = place.add_process_set(|state, shared| {
            let grouping = match (state, state.namespaces()) {
                (MountState::Gone, _) => return Err(io::Error::from(io::ErrorKind::NotFound)),
                (_, Some(inside)) => Grouping::Inside(Arc::clone(inside)),
                (_, None) => Grouping::Marked(Mark::new()),
            };
            Ok((grouping, starter(state, shared)?))
        })?;
        Ok(Processes {
            place: Arc::clone(place),
            grouping,
            starter,
            ended: false,
            tmp: None,
            signals: None,
            group: Group::new(limits),
        })
    }

    /// Gives steps this directory for temporary files, where the caller's variables lead to none of the job's own.
    pub(super) fn use_tmp(&mut self, directory: PathBuf) {
        self.tmp = Some(directory);
    }

    /// An inherited environment with the variables for that.
    pub(super) fn with_own_tmp(
        &self,
        environment: Vec<(OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let Some(directory) = &self.tmp else {
            return environment;
        };
        let told = own_tmp::variables(&self.place, directory, &environment);
        with_variables(environment, told)
    }

    /// Which signals steps start with ignored and held back.
    pub(super) fn with_signals(mut self, signals: Option<InheritedSignals>) -> Self {
        self.signals = signals;
        self
    }

    /// What keeps the processes together.
    #[must_use]
    pub fn containment(&self) -> Containment {
        match self.starter {
            Starter::Contained(_) => Containment::PidNamespace,
            Starter::Subreaped(_) => Containment::Subreaper,
        }
    }

    /// What holds their limits.
    #[must_use]
    pub fn limits_by(&self) -> LimitHolders {
        self.group.by()
    }

    /// Whether [`check_limits`](Self::check_limits) must be called again and again.
    pub(super) fn must_be_watched(&self) -> bool {
        self.group.must_be_watched()
    }

    /// Looks whether a limit is met.
    pub(super) fn check_limits(&self) -> Result<(), Error> {
        self.group.check(self)
    }

    /// The limit of processor time, if that is why a step ended so.
    pub(super) fn cpu_limit_met(&self, status: &StepStatus) -> Option<Duration> {
        let of_job = self.group.cpu_limit_met();
        let of_process = || self.group.limits().ended_by_rlimit(status);
        of_job
            .filter(|_| !status.exit.success())
            .or_else(of_process)
    }

    /// The root of the mount: the working directory of a step that names no other.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.place.path()
    }

    /// Starts a step, and returns once its program has been executed.
    ///
    /// A program that lies in the mount is read from it before this returns; should nobody answer
    /// there, [`MountPoint::abort`] frees the call.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing runs then.
    pub fn spawn(&self, command: &StepCommand<'_>) -> Result<Running, SpawnError> {
        self.spawn_within(command, Patience::default())
    }

    /// As [`spawn`](Self::spawn), within bounds.
    ///
    /// # Errors
    /// [`SpawnError::System`] of the kind `TimedOut` or `Interrupted` when patience was at its end: it may be started yet.
    pub(super) fn spawn_within(
        &self,
        command: &StepCommand<'_>,
        patience: Patience<'_>,
    ) -> Result<Running, SpawnError> {
        let mut launch = command.launch(self.place.path())?;
        let signals = self.signals;
        launch.signals = signals.unwrap_or_else(InheritedSignals::for_children);
        // Whatever kills the subreaper must not leave the step behind.
        launch.dies_with_starter = matches!(self.starter, Starter::Subreaped(_));
        launch.rlimits = self.group.limits().rlimits(self.group.by());
        launch.group = self.group.procs();
        if let (Grouping::Marked(mark), Starter::Subreaped(_)) = (&self.grouping, &self.starter) {
            launch.environment.push(mark.variable());
        }
        let place = &*self.place;
        let started = place.start_inside(|state| {
            let namespaces = state.namespaces().map(|it| &**it);
            match (state, &self.starter) {
                (MountState::Gone, _) => {
                    let gone = io::ErrorKind::NotFound.into();
                    Err(LaunchError::new(Stage::Unmounted, gone))
                }
                (_, Starter::Contained(it)) => it.start(&launch, namespaces, place, patience),
                (_, Starter::Subreaped(it)) => it.start(&launch, namespaces, place, patience),
            }
        });
        started.map_err(|error| command.spawn_error(launch, error))
    }

    /// What the steps wrote went elsewhere if the mount was taken from its path.
    pub(super) fn check_path(&self) -> Result<(), Error> {
        let root = match &self.starter {
            Starter::Contained(it) => PathBuf::from(format!("/proc/{}/root", it.init().pid())),
            Starter::Subreaped(_) => PathBuf::from("/"),
        };
        match self.place.is_at_its_path(&root) {
            true => Ok(()),
            false => Err(MountError::Aborted {
                path: self.place.path().to_owned(),
            }
            .into()),
        }
    }

    /// The processes that run now, those that no step waits for any more included.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn remaining(&self) -> io::Result<Vec<ProcessInfo>> {
        let numbers = match &self.starter {
            Starter::Contained(it) => it.init().numbers_here(),
            Starter::Subreaped(it) => self.members(it)?,
        };
        Ok(numbers.into_iter().map(ProcessInfo::of).collect())
    }

    /// What the processes that descend from a step have used by now, unless somebody waited for them.
    pub(super) fn used_below(&self, step: &Running) -> Usage {
        let below = |proc: &str, step: Option<i32>| {
            let below = proc::descendants_in(proc, step?).ok()?;
            Some(below.into_iter().map(|pid| Usage::of(proc, pid)).sum())
        };
        let used = match &self.starter {
            Starter::Contained(it) => {
                let there = step.pid().and_then(proc::number_below);
                below(&it.init().own_proc(), there)
            }
            Starter::Subreaped(_) => below(proc::OURS, step.pid()),
        };
        used.unwrap_or_default()
    }

    /// How many run now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(super) fn count(&self) -> io::Result<usize> {
        Ok(match &self.starter {
            Starter::Contained(it) => it.init().others()?.len(),
            Starter::Subreaped(it) => self.members(it)?.len(),
        })
    }

    /// Whether it is known that nothing runs, once all steps have ended.
    pub(super) fn are_known_to_be_none(&self) -> bool {
        match &self.starter {
            Starter::Contained(it) => it.is_empty(),
            Starter::Subreaped(it) => it.is_empty(),
        }
    }

    /// A process that has a file of the mount (or of the directory that takes its place) open for writing, or mapped so that
    /// writes reach it; or one that cannot be looked at. A file without a name any more does not count, as nothing can be
    /// collected of it: `has_name` tells of the inodes of a mount.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(super) fn writer(&self, has_name: &dyn Fn(u64) -> bool) -> io::Result<Option<Writer>> {
        let (proc, candidates) = match &self.starter {
            Starter::Contained(it) => (it.init().own_proc(), it.init().others()?),
            Starter::Subreaped(it) => (proc::OURS.to_owned(), self.members_and_descendants(it)?),
        };
        let within = self.place.within();
        let look = |pid| match writing(&proc, pid, within, has_name) {
            Writing::Nothing => None,
            Writing::To(file) => Some((pid, Some(file))),
            Writing::Unknown => Some((pid, None)),
        };
        let found = candidates.into_iter().filter_map(look).next();
        Ok(found.map(|(pid, file)| Writer {
            process: ProcessInfo::of(self.number_here(pid)),
            file: file.map(|file| {
                let inside = file.strip_prefix(self.place.path()).map(Path::to_path_buf);
                inside.unwrap_or(file)
            }),
        }))
    }

    fn number_here(&self, pid: i32) -> i32 {
        match &self.starter {
            Starter::Contained(it) => it.init().number_here(pid).unwrap_or(pid),
            Starter::Subreaped(_) => pid,
        }
    }

    /// Also those that have left the mount namespace, or do not let us see in which they are, unless they have lost their
    /// parents as well.
    fn members_and_descendants(&self, subreapers: &Subreapers) -> io::Result<Vec<i32>> {
        let mut all = self.members(subreapers)?;
        all.extend(subreapers.members().numbers()?);
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn members(&self, subreapers: &Subreapers) -> io::Result<Vec<i32>> {
        let look = || self.with_members(subreapers, |mut members| members.numbers())?;
        let mut members = match self.grouping {
            Grouping::Inside(_) => self.place.scan_processes(look),
            Grouping::Marked(_) => look(),
        }?;
        let spared = subreapers.numbers();
        members.retain(|pid| !spared.contains(pid));
        Ok(members)
    }

    /// Sends a signal to every process that runs now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn signal_all(&self, signal: Signal) -> io::Result<()> {
        match &self.starter {
            Starter::Contained(it) => it.init().signal_others(signal),
            Starter::Subreaped(it) => {
                self.with_members(it, |mut members| members.signal_all(signal, &it.numbers()))?
            }
        }
    }

    /// Kills everything and waits until it is gone. Processes that wait for an answer from the mount
    /// are freed by aborting it, after a while.
    ///
    /// # Errors
    /// [`StillRunning`], with what does not go.
    pub fn end(mut self) -> Result<(), StillRunning> {
        self.end_all()
    }

    fn end_all(&mut self) -> Result<(), StillRunning> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let place = Arc::clone(&self.place);
        place.remove_process_set(|is_last| self.kill_all(is_last))
    }

    /// Those that got away from their parents can be told from others' only when there are no others.
    fn kill_all(&self, is_last: bool) -> Result<(), StillRunning> {
        let subreapers = match &self.starter {
            Starter::Contained(contained) => return contained.end(is_last, &self.place),
            Starter::Subreaped(subreapers) => subreapers,
        };
        let is_whole = !subreapers.was_killed();
        subreapers.end(&self.place)?;
        if is_whole
            && (matches!(self.grouping, Grouping::Marked(_))
                || !is_last
                || self.place.is_known_empty())
        {
            return Ok(());
        }
        let outcome = self.with_members(subreapers, |members| members.kill_all(&self.place));
        outcome.unwrap_or_else(|error| {
            log::debug!("the job's processes cannot be found: {error}");
            Ok(())
        })
    }

    /// Looks for the processes while the mount stays as it is: what its numbers mean does not change
    /// meanwhile.
    fn with_members<T>(
        &self,
        subreapers: &Subreapers,
        look: impl FnOnce(Members) -> T,
    ) -> io::Result<T> {
        self.place.with_state(|state| {
            let members = match &self.grouping {
                Grouping::Inside(namespaces) => {
                    let stands = matches!(state, MountState::Private(_));
                    Members::Namespace(self.place.membership(namespaces, stands)?)
                }
                Grouping::Marked(mark) if self.ended || subreapers.was_killed() => {
                    Members::Mark(mark.clone())
                }
                Grouping::Marked(_) => subreapers.members(),
            };
            Ok(look(members))
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Err(error) = self.end_all() {
            log::debug!("{error}");
        }
    }
}

impl StepCommand<'_> {
    /// Everything that the child needs, as the kernel takes it.
    fn launch(&self, root: &Path) -> Result<Launch<'_>, SpawnError> {
        let words = [&self.program].into_iter().chain(&self.arguments);
        let variables = self
            .environment
            .iter()
            .map(|(name, value)| variable(name, value));
        Ok(Launch {
            programs: program::candidates(
                &self.program,
                &self.caller_directory,
                self.search_path(),
            )?,
            arguments: words.map(|word| c_string(word)).collect::<Result<_, _>>()?,
            environment: variables
                .map(|variable| c_string(&variable))
                .collect::<Result<_, _>>()?,
            directory: Some(c_string(root.join(&self.directory).as_os_str())?),
            stream_files: self.stream_files(root)?,
            ..Launch::new([self.stdin, self.stdout, self.stderr])
        })
    }

    fn stream_files(&self, root: &Path) -> Result<StreamFiles, SpawnError> {
        let mut files = StreamFiles {
            root: c_string(root.as_os_str())?,
            ..StreamFiles::default()
        };
        for (name, file) in files.names.iter_mut().zip(&self.stream_files) {
            *name = file
                .as_deref()
                .map(Path::as_os_str)
                .map(c_string)
                .transpose()?;
        }
        Ok(files)
    }

    fn search_path(&self) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .map(|(_, value)| value.as_os_str())
    }

    fn spawn_error(&self, launch: Launch<'_>, failure: LaunchError) -> SpawnError {
        let path = |string: &CString| PathBuf::from(OsStr::from_bytes(string.as_bytes()));
        let LaunchError {
            stage,
            errno: error,
            program,
        } = failure;
        match (stage, launch.programs.get(program)) {
            (Stage::Execute, Some(candidate)) if is_absence(&error, candidate) => self.not_found(),
            (Stage::Execute, Some(candidate)) => SpawnError::NotExecutable {
                path: path(&candidate.path),
                error,
            },
            (Stage::Directory, _) => SpawnError::Directory {
                path: launch.directory.as_ref().map(path).unwrap_or_default(),
                error,
            },
            (Stage::StdinFile, _) => self.stream_error(0, "input", error),
            (Stage::StdoutFile, _) => self.stream_error(1, "output", error),
            (Stage::StderrFile, _) => self.stream_error(2, "error", error),
            (Stage::Unmounted, _) => SpawnError::Unmounted {
                program: self.program.clone(),
            },
            (stage, _) => SpawnError::System {
                action: stage.to_string(),
                program: self.program.clone(),
                error,
            },
        }
    }

    fn stream_error(&self, index: usize, stream: &'static str, error: io::Error) -> SpawnError {
        SpawnError::Stream {
            name: self.stream_files[index].clone().unwrap_or_default(),
            stream,
            program: self.program.clone(),
            error,
        }
    }

    fn not_found(&self) -> SpawnError {
        let is_bare = !self.program.as_bytes().contains(&b'/');
        let searched = || {
            self.search_path()
                .unwrap_or(program::DEFAULT_PATH.as_ref())
                .to_owned()
        };
        SpawnError::NotFound {
            program: self.program.clone(),
            looked_in: is_bare.then(searched),
        }
    }
}

/// Whether execve(2) failed because nothing is there. A file in the mount cannot be looked at from
/// here, and counts as absent where that is the question.
fn is_absence(error: &io::Error, candidate: &Candidate) -> bool {
    let path = Path::new(OsStr::from_bytes(candidate.path.as_bytes()));
    match error.raw_os_error() {
        Some(libc::ENOTDIR) => true,
        // Or else an interpreter is missing.
        Some(libc::ENOENT) => !(path.is_absolute() && path.exists()),
        // A directory of PATH that this user may not enter hides no tool of theirs; nor is a
        // directory with the tool's name the tool.
        Some(libc::EACCES) => !candidate.decides && path.is_absolute() && !path.is_file(),
        _ => false,
    }
}

fn variable(name: &OsStr, value: &OsStr) -> OsString {
    OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
}

fn c_string(word: &OsStr) -> Result<CString, SpawnError> {
    CString::new(word.as_bytes()).map_err(|_| SpawnError::Nul {
        word: word.to_owned(),
    })
}
