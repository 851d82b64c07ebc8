//! The init of a job: what our binary becomes when it is executed with its hidden argument, and a copy of our process
//! without being executed.
//!
//! It starts the steps that it is asked for, collects every process that ends, and waits for the
//! one of these that comes first: we close the control socket, or we are dead, which a descriptor
//! of our process tells whatever happened to the socket. Then it exits. In a PID namespace the
//! kernel kills everything else at that moment; without one, the init is the subreaper of the job
//! (PR_SET_CHILD_SUBREAPER(2const)) and kills its descendants until none is left.
//!
//! All its signals are blocked, from before it was executed: Ctrl-C, Ctrl-Z and a closed terminal
//! reach the steps, which are in the caller's process group, and not the init.
//!
//! Unlike the rest of the library it exits and, called wrongly, prints.
//!
//! See [`InitProgram`](super::InitProgram) for an example.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::process::StepStatus;
use super::process::wire::{self, Left, REQUEST_DESCRIPTORS, Report};
use crate::sys::cgroup::Entry;
use crate::sys::child::{End, Exit};
use crate::sys::launch::{Launch, LaunchError};
use crate::sys::proc::{self, ProcessHandle};
use crate::sys::{signals, socket};

/// The hidden first argument with which our binary becomes an init.
pub const ARGUMENT: &str = "--notapipe-init";

/// How long descendants that do not die are waited for, when there is no PID namespace.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves as the init of a job until the job's owner ends, and exits. `arguments` are what follows
/// the hidden arguments of [`InitProgram`](super::InitProgram), where an example is.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ! {
    let Some((control, owner, group)) = take(arguments) else {
        eprintln!("notapipe: this is how notapipe starts its own helper; it is of no use by hand");
        std::process::exit(2);
    };
    std::process::exit(serve(control, owner, group));
}

/// Serves until the owner ends, and gives the exit status.
pub(super) fn serve(control: OwnedFd, owner: OwnedFd, group: Option<Group>) -> i32 {
    let outcome = Init::new(control, owner, group).and_then(|mut init| {
        let outcome = init.serve();
        init.end();
        outcome
    });
    i32::from(outcome.is_err())
}

/// The control socket, the owner, and the control group for the steps, if there is one.
fn take(
    mut arguments: impl Iterator<Item = OsString>,
) -> Option<(OwnedFd, OwnedFd, Option<Group>)> {
    let mut descriptor = || {
        let argument = arguments.next()?;
        let number: RawFd = argument.to_str()?.parse().ok().filter(|&it| it > 2)?;
        // SAFETY: we were executed with exactly these descriptors open, and nobody else has taken them.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    };
    let (control, owner) = (descriptor()?, descriptor()?);
    let group = match descriptor() {
        None => None,
        Some(procs) => {
            let parent = descriptor()?;
            let name = CString::new(arguments.next()?.into_vec()).ok()?;
            Some(Group {
                procs,
                entry: Entry::known(parent, name),
            })
        }
    };
    Some((control, owner, group))
}

/// The control group of the steps, which is our owner's to remove while it lives.
pub(super) struct Group {
    pub(super) procs: OwnedFd,
    pub(super) entry: Entry,
}

struct Init {
    control: OwnedFd,
    /// Readable when our owner is dead.
    owner: OwnedFd,
    group: Option<Group>,
    /// Readable when a child has ended.
    children: OwnedFd,
    steps: HashMap<i32, Step>,
    /// First process of a PID namespace: the kernel ends everything with us.
    contained: bool,
}

struct Step {
    report: OwnedFd,
    started: Instant,
}

impl Init {
    fn new(control: OwnedFd, owner: OwnedFd, group: Option<Group>) -> io::Result<Self> {
        signals::set_mask(!0);
        // SAFETY: this process is the init alone.
        unsafe { signals::expect_children() };
        let of_group = group.iter().map(|group| &group.procs);
        // The parent's directory as well: no step is to inherit it.
        let of_group = of_group.chain(group.iter().map(|group| group.entry.parent()));
        for descriptor in [&control, &owner].into_iter().chain(of_group) {
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
        }
        let contained = rustix::process::getpid().as_raw_nonzero().get() == 1;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let children = signals::descriptor(libc::SIGCHLD)?;
        Ok(Init {
            control,
            owner,
            group,
            children,
            steps: HashMap::new(),
            contained,
        })
    }

    /// Until the owner hangs up or is dead.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut events = [&self.owner, &self.children, &self.control]
                .map(|descriptor| PollFd::new(descriptor, PollFlags::IN));
            rustix::io::retry_on_intr(|| poll(&mut events, None))?;
            let [owner_is_dead, child_ended, asked] =
                events.map(|event| !event.revents().is_empty());
            if owner_is_dead {
                return Ok(());
            }
            if child_ended {
                signals::drain(&self.children);
                self.collect();
            }
            if asked {
                match socket::receive(self.control.as_fd()) {
                    Ok(Some((length, descriptors))) => {
                        let length = length.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
                        self.start(usize::from_le_bytes(length), descriptors)?;
                    }
                    Ok(None) => return Ok(()),
                    // Who asked sees the socket for the report closed.
                    Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn start(&mut self, length: usize, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let request: [OwnedFd; REQUEST_DESCRIPTORS] = descriptors
            .try_into()
            .map_err(|_| io::ErrorKind::InvalidData)?;
        let [description, report, stdin, stdout, stderr] = request;
        let Some(description) = self.read(description, length)? else {
            return Ok(());
        };
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let launch = wire::decode(&description, stdio)?;
        // Without a PID namespace, somebody who kills us must not leave the steps behind.
        let launch = Launch {
            dies_with_starter: !self.contained,
            group: self.group.as_ref().map(|group| group.procs.as_fd()),
            ..launch
        };
        // Who asked may be gone by now; the job then ends in a moment.
        // Before: a start returns once the program runs, and a short one may then be over.
        let started = Instant::now();
        match launch.start(None) {
            Ok(child) => {
                let _ = socket::send(report.as_fd(), &Report::Started.encode(), &[child.as_fd()]);
                child.disown();
                self.steps.insert(child.pid(), Step { report, started });
            }
            Err(error) => {
                let _ = socket::send(report.as_fd(), &failure(&error).encode(), &[]);
            }
        }
        Ok(())
    }

    /// Reads so many bytes; nothing when they do not come, since who asked has given up or is dead.
    fn read(&self, from: OwnedFd, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut text = vec![0; length];
        let mut left = &mut text[..];
        while !left.is_empty() {
            // A copy of the other end may outlive our owner, in a child of its that executes nothing.
            let mut events = [&self.owner, &from].map(|it| PollFd::new(it, PollFlags::IN));
            rustix::io::retry_on_intr(|| poll(&mut events, None))?;
            if !events[0].revents().is_empty() {
                return Ok(None);
            }
            match rustix::io::read(&from, &mut *left)? {
                0 => return Ok(None),
                read => left = &mut left[read..],
            }
        }
        Ok(Some(text))
    }

    /// Collects whatever has ended. False when nothing is left that could end: what loses its parent
    /// becomes a child of ours.
    fn collect(&mut self) -> bool {
        let mut ended = Vec::new();
        let is_somebody_left = loop {
            match wait_any() {
                Ok(Some((pid, end))) => {
                    if let Some(step) = self.steps.remove(&pid) {
                        ended.push((step_status(end, step.started.elapsed()), step.report));
                    }
                }
                Ok(None) => break true,
                Err(error) => break error.raw_os_error() != Some(libc::ECHILD),
            }
        };
        let left = if is_somebody_left {
            Left::Somebody
        } else {
            Left::Nobody
        };
        for (status, report) in ended {
            let _ = socket::send(report.as_fd(), &Report::Ended(status, left).encode(), &[]);
        }
        is_somebody_left
    }

    /// Kills everything that descends from us, waits for it, and removes the group that it was in.
    fn end(&mut self) {
        // In a PID namespace the kernel does it with our end; but then nobody is there to remove the group, which
        // must be empty for that. An owner that lives removes it itself, and kills us in a PID namespace.
        if self.contained && self.group.is_none() {
            return;
        }
        self.kill_descendants();
        if let Some(group) = &self.group {
            let _ = group.entry.remove();
        }
    }

    fn kill_descendants(&mut self) {
        let ourselves = rustix::process::getpid().as_raw_nonzero().get();
        let give_up = Instant::now() + PATIENCE;
        while self.collect() && Instant::now() < give_up {
            for pid in proc::descendants(ourselves).unwrap_or_default() {
                if let Some(process) =
                    ProcessHandle::checked(pid, |pid| proc::descends(pid, ourselves))
                {
                    let _ = process.signal(Signal::KILL);
                }
            }
            let mut ended = [PollFd::new(&self.children, PollFlags::IN)];
            let _ = poll(
                &mut ended,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 5_000_000,
                }),
            );
            signals::drain(&self.children);
        }
    }
}

pub(super) fn failure(error: &LaunchError) -> Report {
    Report::Failed {
        stage: error.stage,
        errno: error.errno.raw_os_error().unwrap_or(libc::EIO),
        program: u32::try_from(error.program).unwrap_or(0),
    }
}

fn step_status(end: End, wall_time: Duration) -> StepStatus {
    let End {
        exit,
        user_time,
        system_time,
        max_rss_bytes,
    } = end;
    StepStatus {
        exit,
        wall_time,
        user_time,
        system_time,
        max_rss_bytes,
    }
}

/// wait4(2) for any child, without waiting.
fn wait_any() -> io::Result<Option<(i32, End)>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live values of the right type.
    let pid = unsafe {
        libc::wait4(
            -1,
            &raw mut status,
            libc::WNOHANG | libc::__WALL,
            usage.as_mut_ptr(),
        )
    };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid value, and then filled in by the kernel if anybody ended.
    let usage = unsafe { usage.assume_init() };
    let exit = if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status))
    } else {
        Exit::Signal(libc::WTERMSIG(status))
    };
    Ok((pid != 0).then(|| (pid, End::new(exit, &usage))))
}
