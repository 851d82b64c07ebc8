//! The control group of a job: the limits that it holds, and what becomes of a job that meets one.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::error::Error;
use super::limits::{LimitHolder, LimitHolders, ResourceLimits};
use super::process::Processes;
use crate::sys::cgroup::Cgroup;

/// What processes may go on using after SIGXCPU, before they are killed: as RLIMIT_CPU has it here.
const GRACE: Duration = Duration::from_secs(1);

/// What holds the limits of a job's processes.
#[derive(Debug)]
pub(super) struct Group {
    limits: ResourceLimits,
    /// Nothing where none is needed, or none can be made.
    cgroup: Option<Cgroup>,
    /// When the processor time was first seen to be used up.
    out_of_cpu: OnceLock<Instant>,
}

impl Group {
    /// With a control group where one is of use and can be made.
    pub(super) fn new(limits: ResourceLimits) -> Self {
        let made = limits
            .are_for_a_group()
            .then(|| Cgroup::new(limits.memory_bytes, limits.processes));
        let cgroup = made.and_then(|made| {
            made.inspect_err(|error| log::debug!("no control group: {error}"))
                .ok()
        });
        Self {
            limits,
            cgroup,
            out_of_cpu: OnceLock::new(),
        }
    }

    pub(super) fn limits(&self) -> ResourceLimits {
        self.limits
    }

    /// What holds each of the limits.
    pub(super) fn by(&self) -> LimitHolders {
        let ResourceLimits {
            cpu,
            memory_bytes,
            processes,
            files,
        } = self.limits;
        let holds = self.cgroup.as_ref().map(Cgroup::holds).unwrap_or_default();
        let by = |is_held, otherwise| {
            if is_held {
                LimitHolder::Cgroup
            } else {
                otherwise
            }
        };
        LimitHolders {
            cpu: cpu.map(|_| by(self.cgroup.is_some(), LimitHolder::Rlimit)),
            memory: memory_bytes.map(|_| by(holds.memory, LimitHolder::Rlimit)),
            processes: processes.map(|_| by(holds.pids, LimitHolder::Count)),
            files: files.map(|_| LimitHolder::Rlimit),
        }
    }

    /// What a process writes to that joins the control group.
    pub(super) fn procs(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(Cgroup::procs)
    }

    /// Whether somebody must look again and again.
    pub(super) fn must_be_watched(&self) -> bool {
        self.cgroup.is_some() || self.limits.processes.is_some()
    }

    /// The limit of processor time, where the job has met it in its control group.
    pub(super) fn cpu_limit_met(&self) -> Option<Duration> {
        self.limits.cpu.filter(|_| self.out_of_cpu.get().is_some())
    }

    /// Looks whether a limit is met. The job is then over, but for processor time: its processes are sent what
    /// RLIMIT_CPU would send them, and end by that.
    pub(super) fn check(&self, processes: &Processes) -> Result<(), Error> {
        let by = self.by();
        if by.processes == Some(LimitHolder::Count) {
            self.count(processes)?;
        }
        let Some(cgroup) = &self.cgroup else {
            return Ok(());
        };
        let unreadable = failed("look at the control group of");
        let bounds = cgroup.bounds();
        if by.memory == Some(LimitHolder::Cgroup)
            && cgroup.met_memory().map_err(&unreadable)?
            && let Some(limit_bytes) = bounds.memory_bytes
        {
            return Err(Error::OverMemory { limit_bytes });
        }
        if by.processes == Some(LimitHolder::Cgroup)
            && cgroup.met_processes().map_err(&unreadable)?
            && let Some(limit) = bounds.processes
        {
            return Err(Error::TooManyProcesses { count: None, limit });
        }
        if let Some(limit) = self.limits.cpu {
            let used = cgroup.cpu_time().map_err(&unreadable)?;
            if used >= limit {
                let is_over = used >= limit + GRACE;
                self.end_by_cpu(is_over, processes).map_err(failed("end"))?;
            }
        }
        Ok(())
    }

    fn end_by_cpu(&self, is_over: bool, processes: &Processes) -> io::Result<()> {
        match self.out_of_cpu.get() {
            None => {
                let _ = self.out_of_cpu.set(Instant::now());
                processes.signal_all(Signal::XCPU)
            }
            // One that sleeps now has ignored it as well.
            Some(since) if is_over || since.elapsed() >= GRACE => {
                processes.signal_all(Signal::KILL)
            }
            Some(_) => Ok(()),
        }
    }

    /// Where no control group does.
    fn count(&self, processes: &Processes) -> Result<(), Error> {
        let count = processes.count().map_err(failed("count"))? as u64;
        match self.limits.processes {
            Some(limit) if count > limit => Err(Error::TooManyProcesses {
                count: Some(count),
                limit,
            }),
            _ => Ok(()),
        }
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Processes { operation, source }
}
