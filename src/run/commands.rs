//! Commands for the shell beside a job: they make inputs before its first step, and take outputs after its
//! last.
//!
//! They are the caller's own work: they run outside of the mount, in the caller's directory and namespaces.
//! Each has a session of its own, so that it can be ended with all that it started and cannot wait for a
//! terminal that is not its to read.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};

use super::error::Error;
use super::pipeline::Bounds;
use super::process::Interrupt;
use super::spec::PipedFile;
use super::step::inherited_variables;
use crate::collect::{CollectError, find};
use crate::stage::{Owner, Stage};
use crate::store::{Kind, StoreError, Timestamp, Tree};
use crate::sys::child::{Child, Exit};
use crate::sys::launch::{Candidate, Launch, LaunchError};
use crate::sys::null;
use crate::sys::poll;
use crate::sys::signals::InheritedSignals;

/// As much as everybody may give a pipe (`/proc/sys/fs/pipe-max-size`): fewer turns for large files.
const PIPE_BYTES: usize = 1 << 20;

/// Runs all commands side by side; what each writes becomes a file.
pub(super) fn make_inputs(
    commands: &[PipedFile],
    signals: Option<InheritedSignals>,
    tree: &mut Tree,
    owner: Owner,
    bounds: Bounds<'_>,
) -> Result<(), Error> {
    let mut stage = Stage::new(tree, owner, Timestamp::now());
    let (mut running, mut files) = (Vec::new(), Vec::new());
    for command in commands {
        files.push(stage.begin_file(&command.name)?);
        running.push(Running::writing(command, signals)?);
    }
    let mut block = vec![0; PIPE_BYTES];
    attend(
        &mut running,
        PollFlags::IN,
        bounds,
        |index, pipe| match rustix::io::read(pipe, &mut block) {
            Ok(0) => Ok(Flow::Over),
            Ok(read) => {
                stage.append(&mut files[index], &block[..read])?;
                Ok(Flow::GoesOn)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Flow::GoesOn),
            Err(errno) => Err(commands[index].failed(Side::Input, errno)),
        },
    )
}

/// Runs all commands side by side; each reads a file of the tree. `stdout` is for what they write.
pub(super) fn feed_outputs(
    commands: &[PipedFile],
    signals: Option<InheritedSignals>,
    tree: &Tree,
    stdout: BorrowedFd<'_>,
    bounds: Bounds<'_>,
) -> Result<(), Error> {
    let mut sources = Vec::new();
    for PipedFile { name, .. } in commands {
        let attr = find(tree, name)?;
        if attr.kind != Kind::File {
            let (name, kind) = (name.clone(), attr.kind);
            return Err(CollectError::Kind { name, kind }.into());
        }
        sources.push((attr, 0));
    }
    let reading = |command| Running::reading(command, signals, stdout);
    let mut running: Vec<_> = commands.iter().map(reading).collect::<Result<_, _>>()?;
    attend(&mut running, PollFlags::OUT, bounds, |index, pipe| {
        let (attr, offset) = &mut sources[index];
        if *offset >= attr.size {
            return Ok(Flow::Over);
        }
        let refused = |error: StoreError| CollectError::Store {
            name: commands[index].name.clone(),
            error,
        };
        let piece = tree.read(attr.ino, *offset, PIPE_BYTES).map_err(refused)?;
        match rustix::io::write(pipe, &piece) {
            Ok(written) => {
                *offset += written as u64;
                Ok(Flow::GoesOn)
            }
            // It need not read all: its status tells whether that is a failure.
            Err(Errno::PIPE) => Ok(Flow::Over),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Flow::GoesOn),
            Err(errno) => Err(commands[index].failed(Side::Output, errno)),
        }
    })
}

/// Which side of a job a command is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl PipedFile {
    fn failed(&self, side: Side, error: impl Into<io::Error>) -> Error {
        Error::CommandNotRun {
            role: side.name(),
            name: self.name.clone(),
            command: self.command.clone(),
            source: error.into(),
        }
    }
}

/// Whether there is more to move.
enum Flow {
    GoesOn,
    Over,
}

/// Moves bytes and waits until all commands have ended. The first that fails ends the others.
fn attend(
    running: &mut [Running<'_>],
    events: PollFlags,
    bounds: Bounds<'_>,
    mut transfer: impl FnMut(usize, &OwnedFd) -> Result<Flow, Error>,
) -> Result<(), Error> {
    while let Some(unfinished) = running.iter().find(|it| !it.is_over()) {
        if bounds.interrupt.is_some_and(Interrupt::is_raised) {
            return Err(Error::Cancelled);
        }
        if let Some((deadline, limit)) = bounds.deadline
            && Instant::now() >= deadline
        {
            let program = unfinished.command.command.clone();
            return Err(Error::Timeout {
                program: Some(program),
                limit,
            });
        }
        sleep_until_something(running, events, bounds)?;
        for (index, command) in running.iter_mut().enumerate() {
            if let Some(pipe) = &command.pipe
                && let Flow::Over = transfer(index, pipe)?
            {
                command.pipe = None;
            }
            command.look()?;
        }
    }
    Ok(())
}

fn sleep_until_something(
    running: &[Running<'_>],
    events: PollFlags,
    bounds: Bounds<'_>,
) -> Result<(), Error> {
    let mut awaited = Vec::with_capacity(2 * running.len() + 1);
    for it in running {
        awaited.extend(it.pipe.as_ref().map(|pipe| PollFd::new(pipe, events)));
        if it.exit.is_none() {
            let child = it.child.as_fd();
            awaited.push(PollFd::from_borrowed_fd(child, PollFlags::IN));
        }
    }
    awaited.extend(
        bounds
            .interrupt
            .map(|it| PollFd::from_borrowed_fd(it.as_fd(), PollFlags::IN)),
    );
    let waited = poll::wait(&mut awaited, bounds.deadline.map(|(deadline, _)| deadline));
    waited.map(drop).map_err(|source| Error::Processes {
        operation: "wait for",
        source,
    })
}

/// A command that was started. Dropped, it is ended with all that it started.
#[derive(Debug)]
struct Running<'c> {
    command: &'c PipedFile,
    side: Side,
    child: Child,
    /// Our end; none when all has been moved.
    pipe: Option<OwnedFd>,
    /// Known before the process is collected: until then nobody else can have its number.
    exit: Option<Exit>,
}

impl<'c> Running<'c> {
    fn writing(command: &'c PipedFile, signals: Option<InheritedSignals>) -> Result<Self, Error> {
        let side = Side::Input;
        let start = || {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            let null = null::open()?;
            let error = rustix::stdio::stderr();
            let child = command.start(signals, [null.as_fd(), theirs.as_fd(), error])?;
            Self::new(command, side, child, ours)
        };
        start().map_err(|error| command.failed(side, error))
    }

    fn reading(
        command: &'c PipedFile,
        signals: Option<InheritedSignals>,
        stdout: BorrowedFd<'_>,
    ) -> Result<Self, Error> {
        let side = Side::Output;
        let start = || {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            let error = rustix::stdio::stderr();
            let child = command.start(signals, [theirs.as_fd(), stdout, error])?;
            Self::new(command, side, child, ours)
        };
        start().map_err(|error| command.failed(side, error))
    }

    fn new(command: &'c PipedFile, side: Side, child: Child, pipe: OwnedFd) -> io::Result<Self> {
        // Beyond what this user may have of it, it stays as it is.
        let _ = fcntl_setpipe_size(&pipe, PIPE_BYTES);
        // Only our end: the flag belongs to the open file.
        rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok(Self {
            command,
            side,
            child,
            pipe: Some(pipe),
            exit: None,
        })
    }

    fn is_over(&self) -> bool {
        self.pipe.is_none() && self.exit.is_some()
    }

    /// Whether it has ended, and well.
    fn look(&mut self) -> Result<(), Error> {
        if self.exit.is_some() {
            return Ok(());
        }
        let exit = self.child.peek();
        self.exit = exit.map_err(|error| self.command.failed(self.side, error))?;
        match self.exit {
            Some(exit) if !exit.success() => Err(Error::CommandFailed {
                role: self.side.name(),
                name: self.command.name.clone(),
                command: self.command.command.clone(),
                exit,
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.pid()) {
            // Nobody is left where all have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl PipedFile {
    fn start(
        &self,
        signals: Option<InheritedSignals>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> io::Result<Child> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let variables = inherited_variables().map(|(name, value)| {
            let mut variable = name;
            variable.push("=");
            variable.push(value);
            text(&variable)
        });
        let launch = Launch {
            programs: vec![Candidate {
                path: c"/bin/sh".to_owned(),
                decides: true,
            }],
            arguments: vec![
                c"sh".to_owned(),
                c"-c".to_owned(),
                // What follows is a command also when it begins like an option.
                c"--".to_owned(),
                text(&self.command)?,
            ],
            environment: variables.collect::<io::Result<_>>()?,
            new_session: true,
            dies_with_starter: true,
            signals: signals.unwrap_or_else(InheritedSignals::for_children),
            ..Launch::new(stdio)
        };
        launch.start().map_err(LaunchError::of_shell)
    }
}
