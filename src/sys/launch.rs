//! Starting a program: everything is prepared before the child exists, so that the child only makes
//! system calls.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{fmt, io, ptr};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};

use super::child::Child;
use super::init::Init;
use super::namespaces::Namespaces;
use super::poll;
use super::signals::{self, InheritedSignals};
use super::vfork::{Newborn, close_range, dies_with_parent, vfork};

/// Where a child was when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Unmounted,
    Start,
    StartInit,
    JoinUser,
    JoinIpc,
    JoinMount,
    JoinPid,
    NewMount,
    NewPid,
    MountProc,
    JoinGroup,
    Descriptors,
    StdinFile,
    StdoutFile,
    StderrFile,
    Directory,
    Limits,
    Execute,
    ExecuteShell,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Unmounted => "find the mount",
            Stage::Start => "start a process",
            Stage::StartInit => "start the job's init",
            Stage::JoinUser => "join the job's user namespace",
            Stage::JoinIpc => "join the job's IPC namespace",
            Stage::JoinMount => "join the job's mount namespace",
            Stage::JoinPid => "join the job's PID namespace",
            Stage::NewMount => "make a mount namespace",
            Stage::NewPid => "make a PID namespace",
            Stage::MountProc => "mount /proc",
            Stage::JoinGroup => "join the job's control group",
            Stage::Descriptors => "set up the standard streams",
            Stage::StdinFile => "open the standard input",
            Stage::StdoutFile => "open the standard output",
            Stage::StderrFile => "open the standard error",
            Stage::Directory => "enter the working directory",
            Stage::Limits => "limit the resources",
            Stage::Execute => "execute the program",
            Stage::ExecuteShell => "execute /bin/sh",
        })
    }
}

/// Why a program did not start.
#[derive(Debug)]
pub(crate) struct LaunchError {
    pub(crate) stage: Stage,
    pub(crate) errno: io::Error,
    /// The program that the error is about, for [`Stage::Execute`].
    pub(crate) program: usize,
}

/// One place where the program may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) path: CString,
    /// Whether a file here that may not be executed ends the search (a path that somebody wrote) or
    /// lets it go on (a directory of PATH; execvp(3)).
    pub(crate) decides: bool,
}

/// A program to start. Descriptors that are close-on-exec do not reach it, except `stdio` and `keep`.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) programs: Vec<Candidate>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: Option<CString>,
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Files that take the place of `stdio`, where there is one, opened by the child itself.
    pub(crate) stream_files: StreamFiles,
    pub(crate) rlimits: Rlimits,
    /// The `cgroup.procs` of the control group to be in from the start.
    pub(crate) group: Option<BorrowedFd<'a>>,
    /// Given to the program under the numbers they have here.
    pub(crate) keep: Vec<BorrowedFd<'a>>,
    pub(crate) signals: InheritedSignals,
    /// Close everything else, also what is not close-on-exec (close_range(2), Linux 5.9).
    pub(crate) close_others: bool,
    /// A session of its own, out of reach of the terminal.
    pub(crate) new_session: bool,
    /// SIGKILL when the *thread* that starts it ends (PR_SET_PDEATHSIG(2const)).
    pub(crate) dies_with_starter: bool,
}

impl<'a> Launch<'a> {
    /// Nothing yet but the standard streams.
    pub(crate) fn new(stdio: [BorrowedFd<'a>; 3]) -> Self {
        Launch {
            programs: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdio,
            stream_files: StreamFiles::default(),
            rlimits: Rlimits::default(),
            group: None,
            keep: Vec::new(),
            signals: InheritedSignals::default(),
            close_others: false,
            new_session: false,
            dies_with_starter: false,
        }
    }

    /// Starts the program, and returns once it has been executed.
    pub(crate) fn start(&self) -> Result<Child, LaunchError> {
        let mut prepared = Prepared::new(self)?;
        let mut failure = None;
        let body = || {
            failure = Some(self.become_program(&mut prepared));
            127
        };
        // SAFETY: the body makes system calls on what `prepared` holds, and stores its failure.
        let child = unsafe { vfork(0, body) }.map_err(LaunchError::fork)?;
        settle(child, failure)
    }

    /// Starts the program in the PID namespace of an init, which was made in the namespaces `entered`, if any. `wait` is
    /// told of the child, and of a descriptor that hangs up once it has executed the program or ended, which may be never
    /// where that lies on a file system that does not answer. If it fails, it must have killed the child.
    ///
    /// The namespaces are entered by a child that then starts the program as *our* child (`CLONE_PARENT`): nobody enters a
    /// PID namespace but those who are started from then on (setns(2)).
    ///
    /// # Errors
    /// Why it was not started; and the child, where that was not waited for.
    pub(crate) fn start_in(
        &self,
        init: &Init,
        entered: Option<&Namespaces>,
        wait: impl FnOnce(&Child, BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<Child, (LaunchError, Option<Child>)> {
        let alone = |error| (error, None);
        let forked = |error| alone(LaunchError::fork(error));
        let mut prepared = Prepared::new(self).map_err(alone)?;
        let (hangs_up, held) = pipe_with(PipeFlags::CLOEXEC).map_err(|it| forked(it.into()))?;
        let (mut failure, mut refused, mut started) = (None, None, None);
        let body = || {
            failure = Some(self.become_program(&mut prepared));
            127
        };
        let mut newborn = Newborn::new(body).map_err(forked)?;
        let enter = || {
            let made = init.enter(entered).and_then(|()| {
                // SAFETY: as in `start`. It stays where it is until the child has no use for it, and none of us looks at
                // errno: this process ends at once, and its parent waits by a bare system call.
                unsafe { newborn.start(libc::CLONE_PARENT) }
                    .map_err(|error| Failure::of(Stage::Start, &error))
            });
            match made {
                Ok(child) => started = Some(child),
                Err(error) => refused = Some(error),
            }
            0
        };
        // SAFETY: as in `start`. The descriptor table is shared, so that the inner child's descriptor is ours; only the
        // inner child changes descriptors, in a table of its own.
        let outer = unsafe { vfork(libc::CLONE_FILES, enter) }.map_err(forked)?;
        drop(held);
        let waited = started
            .as_ref()
            .map_or(Ok(()), |child| wait(child, hangs_up.as_fd()));
        if let Err(error) = waited {
            if !poll::is_ready(&hangs_up, PollFlags::IN) {
                // The kernel may yet write to its stack, before it sees that the child was killed.
                std::mem::forget(newborn);
                return Err((LaunchError::fork(error), started));
            }
            let _ = started.map(|child| child.wait());
            let _ = outer.wait();
            return Err(forked(error));
        }
        outer.wait().map_err(forked)?;
        match (started, refused) {
            (Some(child), _) => settle(child, failure).map_err(alone),
            (None, Some(refused)) => Err(alone(refused.into())),
            (None, None) => Err(forked(io::Error::other(
                "the child that starts it was killed",
            ))),
        }
    }

    /// The rest of the child's way. Returns only when it failed.
    pub(crate) fn become_program(&self, prepared: &mut Prepared) -> Failure {
        // SAFETY: we are in a vforked child, whose table of signal actions is its own.
        unsafe { self.signals.set_actions() };
        if self.new_session {
            let _ = rustix::process::setsid();
        }
        if let Some(procs) = self.group
            && let Err(errno) = rustix::io::write(procs, b"0")
        {
            return Failure::new(Stage::JoinGroup, errno);
        }
        if let Err(errno) = self.place_descriptors(prepared) {
            return Failure::new(Stage::Descriptors, errno);
        }
        if let Err(failure) = self.stream_files.open() {
            return failure;
        }
        if let Some(directory) = &self.directory
            && let Err(errno) = rustix::process::chdir(directory.as_c_str())
        {
            return Failure::new(Stage::Directory, errno);
        }
        if let Err(errno) = self.rlimits.set() {
            return Failure::new(Stage::Limits, errno);
        }
        // Until now it does in any case, but the signal is lost with a change of credentials.
        dies_with_parent(self.dies_with_starter);
        signals::set_mask(self.signals.blocked);
        prepared.execute(&self.programs)
    }

    fn place_descriptors(&self, prepared: &Prepared) -> Result<(), Errno> {
        let [stdin, stdout, stderr] = &prepared.stdio;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        if self.close_others {
            close_range(3, u32::MAX, 0);
        }
        for kept in &self.keep {
            rustix::io::fcntl_setfd(kept, FdFlags::empty())?;
        }
        Ok(())
    }
}

/// What a process may use (setrlimit(2)); nothing is changed unless said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rlimits {
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) address_space_bytes: Option<u64>,
    pub(crate) descriptors: Option<u64>,
}

impl Rlimits {
    /// In the child.
    fn set(&self) -> Result<(), Errno> {
        // SIGXCPU at the limit, and SIGKILL a second later for who goes on.
        lower(Resource::Cpu, self.cpu_seconds, 1)?;
        lower(Resource::As, self.address_space_bytes, 0)?;
        lower(Resource::Nofile, self.descriptors, 0)
    }
}

/// Never raises a limit that is in force.
fn lower(resource: Resource, wanted: Option<u64>, grace: u64) -> Result<(), Errno> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let Rlimit { current, maximum } = rustix::process::getrlimit(resource);
    let least = |limit: Option<u64>, wanted| limit.map_or(wanted, |limit| limit.min(wanted));
    let lowered = Rlimit {
        current: Some(least(current, wanted)),
        maximum: Some(least(maximum, wanted.saturating_add(grace))),
    };
    rustix::process::setrlimit(resource, lowered)
}

/// Standard streams that are files below a directory which only the child can see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamFiles {
    /// Absolute.
    pub(crate) root: CString,
    /// Standard input, output and error, relative to the root; where two outputs have one name, they
    /// share the open file, as with `>log 2>&1`.
    pub(crate) names: [Option<CString>; 3],
}

impl StreamFiles {
    /// In the child.
    fn open(&self) -> Result<(), Failure> {
        let [stdin, stdout, stderr] = &self.names;
        if let Some(name) = stdin {
            let at = |errno| Failure::new(Stage::StdinFile, errno);
            let file = self.open_one(name, OFlags::RDONLY).map_err(at)?;
            rustix::stdio::dup2_stdin(&file).map_err(at)?;
        }
        let output = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        if let Some(name) = stdout {
            let at = |errno| Failure::new(Stage::StdoutFile, errno);
            let file = self.open_one(name, output).map_err(at)?;
            rustix::stdio::dup2_stdout(&file).map_err(at)?;
        }
        if let Some(name) = stderr {
            let at = |errno| Failure::new(Stage::StderrFile, errno);
            if stdout.as_ref() == Some(name) {
                return rustix::stdio::dup2_stderr(rustix::stdio::stdout()).map_err(at);
            }
            let file = self.open_one(name, output).map_err(at)?;
            rustix::stdio::dup2_stderr(&file).map_err(at)?;
        }
        Ok(())
    }

    /// No symlink leads it out of the root (EXDEV), and nothing but a regular file is opened: a FIFO
    /// might wait for ever.
    fn open_one(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let for_root = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.root.as_c_str(), for_root, Mode::empty())?;
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o666)
        } else {
            Mode::empty()
        };
        let file = loop {
            match rustix::fs::openat2(&root, name, flags, mode, ResolveFlags::BENEATH) {
                // Another process mounted or renamed something during a walk through `..` (openat2(2)).
                Err(Errno::AGAIN) => {}
                opened => break opened?,
            }
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        match kind {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
        Ok(file)
    }
}

/// A started child, or the reason it left behind.
fn settle(child: Child, failure: Option<Failure>) -> Result<Child, LaunchError> {
    match failure {
        None => Ok(child),
        Some(failure) => {
            let _ = child.wait();
            Err(failure.into())
        }
    }
}

/// What a child leaves for us: plain values, since it may not allocate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    stage: Stage,
    errno: Errno,
    program: usize,
}

impl Failure {
    pub(crate) fn new(stage: Stage, errno: Errno) -> Self {
        Failure {
            stage,
            errno,
            program: 0,
        }
    }

    pub(crate) fn of(stage: Stage, error: &io::Error) -> Self {
        Self::new(stage, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }
}

impl From<(Stage, Errno)> for Failure {
    fn from((stage, errno): (Stage, Errno)) -> Self {
        Self::new(stage, errno)
    }
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> Self {
        LaunchError {
            stage: failure.stage,
            errno: failure.errno.into(),
            program: failure.program,
        }
    }
}

impl LaunchError {
    pub(crate) fn new(stage: Stage, errno: io::Error) -> Self {
        LaunchError {
            stage,
            errno,
            program: 0,
        }
    }

    /// Whether it is for want of descriptors.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self.errno.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }

    fn fork(error: io::Error) -> Self {
        Self::new(Stage::Start, error)
    }

    /// With the stage in the text, and the number in its source.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::new(self.errno.kind(), self)
    }

    /// The same where the program is the shell, which is named.
    pub(crate) fn of_shell(mut self) -> io::Error {
        if self.stage == Stage::Execute {
            self.stage = Stage::ExecuteShell;
        }
        self.into_io()
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.stage, self.errno)
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.errno)
    }
}

/// Pointers for execve(2), and streams out of each other's way.
pub(crate) struct Prepared {
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// `/bin/sh FILE ARGUMENTS…`, for a script without a first line that names its interpreter.
    shell: Vec<*const c_char>,
    /// Numbered above 2, so that placing one does not overwrite another.
    pub(crate) stdio: [OwnedFd; 3],
}

const SHELL: &CStr = c"/bin/sh";

impl Prepared {
    pub(crate) fn new(launch: &Launch<'_>) -> Result<Self, LaunchError> {
        let arguments = pointers(&launch.arguments);
        let mut shell = vec![SHELL.as_ptr(), ptr::null()];
        shell.extend(arguments.iter().skip(1));
        let above = |stream: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(stream, 3)
                .map_err(|errno| LaunchError::from(Failure::new(Stage::Descriptors, errno)))
        };
        let [stdin, stdout, stderr] = launch.stdio;
        Ok(Prepared {
            arguments,
            environment: pointers(&launch.environment),
            shell,
            stdio: [above(stdin)?, above(stdout)?, above(stderr)?],
        })
    }

    /// execvp(3), but with the places given and the errors kept apart.
    fn execute(&mut self, programs: &[Candidate]) -> Failure {
        let mut failure = Failure::new(Stage::Execute, Errno::NOENT);
        for (index, program) in programs.iter().enumerate() {
            let errno = self.execute_one(&program.path);
            let here = Failure {
                stage: Stage::Execute,
                errno,
                program: index,
            };
            match errno {
                Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::STALE | Errno::TIMEDOUT => {}
                Errno::ACCESS if !program.decides => failure = here,
                _ => return here,
            }
        }
        failure
    }

    fn execute_one(&mut self, path: &CStr) -> Errno {
        let errno = execve(path, &self.arguments, &self.environment);
        if errno != Errno::NOEXEC {
            return errno;
        }
        self.shell[1] = path.as_ptr();
        execve(SHELL, &self.shell, &self.environment);
        Errno::NOEXEC
    }
}

fn execve(path: &CStr, arguments: &[*const c_char], environment: &[*const c_char]) -> Errno {
    // SAFETY: both lists end with a null pointer, and every string outlives the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_errno()
}

pub(crate) fn last_errno() -> Errno {
    // SAFETY: the C library's errno of this thread, which the child shares while its parent waits.
    let errno: c_int = unsafe { *libc::__errno_location() };
    Errno::from_raw_os_error(errno)
}

/// The strings' addresses and a null pointer: what execve(2) takes.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}
