//! One step: a command, its streams, and waiting for its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::error::Error;
use super::outcome::StepReport;
use super::process::{Interrupt, Processes, Running, StepCommand, StepStatus, Waited};
use super::stdio::{Stdin, Stdout, Streams};
use crate::fuse::{RequestCounts, SessionEnd};
use crate::mount::MountError;
use crate::scratch::Scratch;

/// One command of a job, and its streams.
///
/// # Examples
///
/// ```
/// use notapipe::{Job, Step, Stdin};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let sort = Step::new(["sort", "-o", "sorted"]).stdin(Stdin::Bytes("b\na\n".into()));
/// let outcome = Job::new().step(sort).output("sorted").run()?;
/// assert_eq!(outcome.output("sorted").unwrap(), "a\nb\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Step {
    command: Vec<OsString>,
    env: Option<Vec<(OsString, OsString)>>,
    stdin: Stdin,
    stdout: Stdout,
    stderr: Stdout,
}

impl Step {
    /// A program and its arguments, not touched by any shell.
    ///
    /// The program is looked up as a shell would, with one difference: a relative path such as
    /// `./tool` is first looked for in the caller's working directory, then in the mount.
    pub fn new<A: Into<OsString>>(command: impl IntoIterator<Item = A>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: None,
            stdin: Stdin::default(),
            stdout: Stdout::default(),
            stderr: Stdout::default(),
        }
    }

    /// The whole environment of this step, instead of the one of this process.
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.env = Some(env.into_iter().collect());
        self
    }

    /// Where its standard input comes from; nothing unless said.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Where its standard output goes; captured unless said.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdout) -> Self {
        self.stdout = stdout;
        self
    }

    /// Where its standard error goes; captured unless said.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdout) -> Self {
        self.stderr = stderr;
        self
    }
}

impl<A: Into<OsString>, const N: usize> From<[A; N]> for Step {
    fn from(command: [A; N]) -> Self {
        Self::new(command)
    }
}

impl<A: Into<OsString>> From<Vec<A>> for Step {
    fn from(command: Vec<A>) -> Self {
        Self::new(command)
    }
}

/// When a step must stop, whatever it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds<'i> {
    /// The moment, and how long the job was given in all.
    pub deadline: Option<(Instant, Duration)>,
    /// Somebody else's word.
    pub interrupt: Option<&'i Interrupt>,
    /// The mount's session, without which there is no point in going on.
    pub session: Option<&'i SessionEnd>,
}

impl Step {
    pub(super) fn program(&self) -> OsString {
        self.command.first().cloned().unwrap_or_default()
    }

    /// Starts the step and waits for its end. When it must stop before, it is left running: its
    /// [`Processes`] are about to be ended.
    pub(super) fn run(
        self,
        processes: &Processes,
        requests: &RequestCounts,
        bounds: Bounds<'_>,
    ) -> Result<StepReport, Error> {
        if bounds.session.is_some_and(SessionEnd::is_lost) {
            return Err(lost(processes));
        }
        let earlier = requests.clone();
        let program = self.program();
        let streams_failed = |source| Error::Streams {
            program: program.clone(),
            source,
        };
        let (mut streams, childs_ends) =
            Streams::open(self.stdin, self.stdout, self.stderr).map_err(streams_failed)?;
        let running = start(processes, &self.command, self.env, childs_ends)?;
        let status = wait(running, &mut streams, bounds, &program, processes)?;
        let (stdout, stderr) = streams.captured();
        Ok(StepReport {
            command: self.command,
            status,
            requests: requests.since(&earlier),
            touched: None,
            stdout,
            stderr,
        })
    }
}

fn start(
    processes: &Processes,
    command: &[OsString],
    env: Option<Vec<(OsString, OsString)>>,
    [stdin, stdout, stderr]: [OwnedFd; 3],
) -> Result<Running, Error> {
    let program = command.first().cloned().unwrap_or_default();
    let command = StepCommand {
        program,
        arguments: command.get(1..).unwrap_or_default().to_vec(),
        environment: env.unwrap_or_else(|| inherited_environment(processes.root())),
        caller_directory: caller_directory(),
        directory: PathBuf::new(),
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_fd(),
    };
    Ok(processes.spawn(&command)?)
}

/// The environment of this process, which steps get unless told otherwise, as the children of
/// [`std::process::Command`] do. It is passed on, never looked at; but PWD, where there is one,
/// names the working directory of the step and not ours.
fn inherited_environment(directory: &Path) -> Vec<(OsString, OsString)> {
    let in_directory = |(name, value): (OsString, OsString)| match name.to_str() {
        Some("PWD") => (name, directory.as_os_str().to_owned()),
        _ => (name, value),
    };
    inherited_variables().map(in_directory).collect()
}

/// The environment of this process, passed on as it is.
pub(super) fn inherited_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Where a relative program is looked for first. Empty where the directory is gone: then it is not
/// found.
fn caller_directory() -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let bytes = rustix::process::getcwd(Vec::new()).map(std::ffi::CString::into_bytes);
    OsString::from_vec(bytes.unwrap_or_default()).into()
}

/// Waits for the end of the step, taking what it writes to captured streams meanwhile.
fn wait(
    mut running: Running,
    streams: &mut Streams,
    bounds: Bounds<'_>,
    program: &OsString,
    processes: &Processes,
) -> Result<StepStatus, Error> {
    let streams_failed = |source| Error::Streams {
        program: program.clone(),
        source,
    };
    loop {
        match check(&mut running, bounds).map_err(|source| Error::Wait {
            program: program.clone(),
            source,
        })? {
            Some(Waited::Ended(status)) => {
                // A daemon may keep the pipe open for ever: take what is there, do not wait for its
                // end.
                streams.drain().map_err(streams_failed)?;
                return Ok(status);
            }
            Some(Waited::Interrupted) => return Err(Error::Cancelled),
            Some(Waited::Deadline) => {
                let limit = bounds.deadline.map(|(_, limit)| limit).unwrap_or_default();
                return Err(Error::Timeout {
                    program: program.clone(),
                    limit,
                });
            }
            None => {}
        }
        if bounds.session.is_some_and(SessionEnd::is_lost) {
            return Err(lost(processes));
        }
        sleep_until_something(&running, streams, bounds).map_err(streams_failed)?;
        streams.drain().map_err(streams_failed)?;
    }
}

fn lost(processes: &Processes) -> Error {
    Error::Mount(MountError::SessionLost {
        path: processes.root().to_owned(),
        error: None,
    })
}

/// How the step stands at this moment; `None` while it runs and may.
fn check(running: &mut Running, bounds: Bounds<'_>) -> io::Result<Option<Waited>> {
    if let Waited::Ended(status) = running.wait(Some(Instant::now()), None)? {
        return Ok(Some(Waited::Ended(status)));
    }
    if bounds.interrupt.is_some_and(Interrupt::is_raised) {
        return Ok(Some(Waited::Interrupted));
    }
    let late = bounds
        .deadline
        .is_some_and(|(deadline, _)| Instant::now() >= deadline);
    Ok(late.then_some(Waited::Deadline))
}

fn sleep_until_something(
    running: &Running,
    streams: &Streams,
    bounds: Bounds<'_>,
) -> io::Result<()> {
    let mut events = vec![PollFd::from_borrowed_fd(running.as_fd(), PollFlags::IN)];
    events.extend(
        bounds
            .interrupt
            .map(|it| PollFd::from_borrowed_fd(it.as_fd(), PollFlags::IN)),
    );
    events.extend(
        bounds
            .session
            .map(|it| PollFd::from_borrowed_fd(it.lost(), PollFlags::IN)),
    );
    events.extend(
        streams
            .open_pipes()
            .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)),
    );
    let left = bounds
        .deadline
        .map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()));
    // Rounded up, so that the deadline has passed when the sleep is over.
    let timeout = left.and_then(|left| Timespec::try_from(left + Duration::from_micros(1)).ok());
    match poll(&mut events, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Scratch {
    /// Runs a command with the root as its working directory, and waits for it.
    ///
    /// Unless the step says otherwise, its output is captured and it reads nothing. When it has
    /// ended, processes that it left behind are ended too.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] and the like. A status other than 0 is no error here: see
    /// [`StepReport::status`].
    pub fn run(&self, step: impl Into<Step>) -> Result<StepReport, Error> {
        let processes =
            Processes::start(self.place(), None).map_err(|source| Error::Processes {
                operation: "prepare",
                source,
            })?;
        let bounds = Bounds {
            session: Some(self.session_end()),
            ..Bounds::default()
        };
        let report = step.into().run(&processes, &self.requests(), bounds);
        processes.end()?;
        report
    }
}
