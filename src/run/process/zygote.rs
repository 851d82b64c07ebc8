//! An init that executes no program: a copy of this process, made while it is small and has one thread, waits until there
//! is a job, makes the job's PID namespace and has a copy of its own be the init there.
//!
//! That saves loading our program a second time, half a millisecond of a job. What execve(2) would have done is done by
//! hand: descriptors that are close-on-exec are closed, capabilities that come with a user namespace are given up, and
//! the job's /proc shows neither the arguments nor the environment of our process.
//!
//! It may fail for any reason. The program is then executed after all.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::SocketType;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets, sched_getaffinity, sched_setaffinity};

use super::super::init::{self, ARGUMENT, Group, failure};
use super::wire::Report;
use crate::sys::cgroup::{CgroupHandle, Entry};
use crate::sys::child::Child;
use crate::sys::fork;
use crate::sys::launch::{LaunchError, Stage, begin_pid_namespace, join_or_copy};
use crate::sys::namespaces::Namespaces;
use crate::sys::null;
use crate::sys::socket;

/// The copy that waits for a job. It ends when this is dropped, and when this process ends.
#[derive(Debug)]
pub(super) struct Zygote {
    process: Ending,
    /// Becomes the control socket of the init.
    control: OwnedFd,
}

/// Ended and collected when dropped.
#[derive(Debug)]
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Zygote {
    /// # Errors
    /// This process has several threads, or the system refuses.
    pub(super) fn fork() -> io::Result<Self> {
        if !fork::has_one_thread() {
            return Err(io::Error::other("this process has several threads"));
        }
        let (control, theirs) = socket::pair(SocketType::SEQPACKET)?;
        let owner = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
        let null = null::open()?;
        let wait = || wait_for_job(theirs, owner, &null).unwrap_or(1);
        // SAFETY: one thread, as was just seen.
        let process = unsafe { fork::fork(0, wait) }?;
        Ok(Zygote {
            process: Ending(process),
            control,
        })
    }

    /// Has the init start: in these namespaces, or in a copy of our mount namespace, and in a PID namespace with its own
    /// /proc. Gives its process and its control socket.
    pub(super) fn into_init(
        self,
        namespaces: Option<&Namespaces>,
        group: Option<CgroupHandle<'_>>,
    ) -> Result<(Child, OwnedFd), LaunchError> {
        let mut init = None;
        let answer = self
            .send_job(namespaces, group)
            .and_then(|()| self.answer(&mut init));
        match (init, answer) {
            (Some(init), Ok(Report::Started)) => Ok((init, self.control)),
            (init, answer) => {
                drop(init.map(Ending));
                Err(match answer {
                    Ok(Report::Failed { stage, errno, .. }) => {
                        LaunchError::new(stage, io::Error::from_raw_os_error(errno))
                    }
                    Ok(_) => LaunchError::new(Stage::AskInit, died()),
                    Err(error) => LaunchError::new(Stage::AskInit, error),
                })
            }
        }
    }

    fn send_job(
        &self,
        namespaces: Option<&Namespaces>,
        group: Option<CgroupHandle<'_>>,
    ) -> io::Result<()> {
        // It was made before this thread was bound to the CPUs of the job.
        let process = Pid::from_raw(self.process.0.pid());
        sched_setaffinity(process, &sched_getaffinity(None)?)?;
        let parts = Parts {
            user: namespaces.is_some_and(|inside| inside.user.is_some()),
            ipc: namespaces.is_some_and(|inside| inside.ipc.is_some()),
            mount: namespaces.is_some(),
            group: group.is_some(),
        };
        let mut packet = parts.encode().to_vec();
        packet.extend(group.iter().flat_map(|group| group.name.to_bytes()));
        if packet.len() > socket::MAX_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let of_namespaces = namespaces.into_iter().flat_map(|inside| {
            let user = inside.user.as_ref();
            let ipc = inside.ipc.as_ref();
            user.into_iter()
                .chain(ipc)
                .chain([&inside.mount, &inside.root])
        });
        let mut descriptors: Vec<_> = of_namespaces.map(AsFd::as_fd).collect();
        descriptors.extend(group.iter().flat_map(|group| [group.procs, group.parent]));
        socket::send(self.control.as_fd(), &packet, &descriptors)
    }

    /// What the init says, and its process, which the copy tells by its number alone: in any order, until both have come
    /// or both have ended.
    fn answer(&self, init: &mut Option<Child>) -> io::Result<Report> {
        let mut report = None;
        while let Some((packet, _)) = socket::receive(self.control.as_fd())? {
            match packet[..].try_into() {
                Ok(number) => *init = Some(Child::adopted(i32::from_le_bytes(number))?),
                Err(_) => report = Some(Report::decode(&packet)?),
            }
            if let (Some(_), Some(report)) = (&init, report) {
                return Ok(report);
            }
        }
        report.ok_or_else(died)
    }
}

fn died() -> io::Error {
    io::Error::other("the copy that waited for a job has ended")
}

/// Which descriptors come with the packet that tells of a job, in this order. The rest of the packet is the name of the
/// control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    user: bool,
    ipc: bool,
    /// The mount namespace, and its root.
    mount: bool,
    /// `cgroup.procs`, and the directory that the group is in.
    group: bool,
}

impl Parts {
    fn encode(self) -> [u8; 4] {
        [self.user, self.ipc, self.mount, self.group].map(u8::from)
    }

    fn decode(parts: [u8; 4]) -> Self {
        let [user, ipc, mount, group] = parts.map(|it| it != 0);
        Self {
            user,
            ipc,
            mount,
            group,
        }
    }
}

/// What the init of a job is made from.
struct Job {
    namespaces: Option<Namespaces>,
    group: Option<Group>,
}

impl Job {
    fn decode(packet: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (parts, name) = packet.split_first_chunk().ok_or_else(invalid)?;
        let parts = Parts::decode(*parts);
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(invalid);
        let user = parts.user.then(&mut next).transpose()?;
        let ipc = parts.ipc.then(&mut next).transpose()?;
        let namespaces = match parts.mount {
            true => Some(Namespaces {
                user,
                ipc,
                mount: next()?,
                root: next()?,
                tmpfs: None,
            }),
            false => None,
        };
        let group = match parts.group {
            true => Some(Group {
                procs: next()?,
                entry: Entry::known(next()?, CString::new(name)?),
            }),
            false => None,
        };
        Ok(Self { namespaces, group })
    }
}

/// The copy: waits, makes the init, and gives its exit status.
fn wait_for_job(control: OwnedFd, owner: OwnedFd, null: &File) -> io::Result<i32> {
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    // SAFETY: what the program that we are a copy of has open is nobody's here, and nobody reads its arguments.
    unsafe {
        fork::close_on_exec(&[control.as_fd(), owner.as_fd()])?;
        fork::replace_arguments(format!("notapipe {ARGUMENT}").as_bytes())?;
    }
    let Some((packet, descriptors)) = socket::receive(control.as_fd())? else {
        return Ok(0);
    };
    let Job { namespaces, group } = Job::decode(&packet, descriptors)?;
    if let Err(error) = join_or_copy(namespaces.as_ref()) {
        socket::send(control.as_fd(), &failure(&error.into()).encode(), &[])?;
        return Ok(1);
    }
    // Whoever is inside needs them no more.
    drop(namespaces);
    let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT;
    let mut parts = Some((control, owner, group));
    // SAFETY: a copy has one thread, and this one has made no other.
    let init = unsafe { fork::fork(flags, || parts.take().map_or(1, be_init)) };
    let Some((control, ..)) = parts else {
        return Ok(1);
    };
    match init {
        Ok(init) => socket::send(control.as_fd(), &init.pid().to_le_bytes(), &[])?,
        Err(error) => {
            let failed = failure(&LaunchError::new(Stage::NewPid, error));
            socket::send(control.as_fd(), &failed.encode(), &[])?;
        }
    }
    Ok(0)
}

/// The first process of the PID namespace, for as long as the job runs; gives its exit status.
fn be_init((control, owner, group): (OwnedFd, OwnedFd, Option<Group>)) -> i32 {
    let made = begin_pid_namespace()
        .map_err(LaunchError::from)
        .and_then(|()| become_ordinary().map_err(|error| LaunchError::new(Stage::AskInit, error)));
    let answer = match &made {
        Ok(()) => Report::Started,
        Err(error) => failure(error),
    };
    match socket::send(control.as_fd(), &answer.encode(), &[]) {
        Ok(()) if made.is_ok() => init::serve(control, owner, group),
        _ => 1,
    }
}

/// As execve(2) leaves an ordinary user in a user namespace: without capabilities (capabilities(7)), and open to
/// others of that user, which a process that gains some is not (PR_SET_DUMPABLE(2const)).
fn become_ordinary() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        rustix::thread::set_capabilities(None, sets)?;
    }
    Ok(rustix::process::set_dumpable_behavior(
        DumpableBehavior::Dumpable,
    )?)
}
