//! What the processes of a job may use besides the mount.

use std::time::Duration;

use super::process::{Exit, StepStatus};
use crate::sys::launch::Rlimits;

/// The most that a job's processes may use; nothing is limited unless said.
///
/// Where the system lets us make a control group (cgroups(7), version 2), the job has one of its own, and processor
/// time, memory and processes are limited for all of it together, as far as the controllers are there; [`LimitHolders`]
/// tells for each. Files in the mount are our memory and not the job's: [`Job::limits`](super::Job::limits) is for them.
///
/// | limit | in a control group | without |
/// | --- | --- | --- |
/// | processor time | of all processes together, looked at fifty times a second: SIGXCPU to all of them, SIGKILL a second later | of each process (RLIMIT_CPU): the same signals |
/// | memory | of all together, without swap: the kernel kills one, and the job fails with [`Error::OverMemory`](super::Error::OverMemory) | the address space of each process (RLIMIT_AS): it is refused more |
/// | processes | all together, and their threads: no more can be started, and the job fails with [`Error::TooManyProcesses`](super::Error::TooManyProcesses) | all together, counted fifty times a second: a job that has more fails in the same way |
/// | files | of each process (RLIMIT_NOFILE): it is refused more | the same |
///
/// # Examples
///
/// ```
/// use notapipe::run::{Error, ResourceLimits};
///
/// let limits = ResourceLimits {
///     files: Some(16),
///     ..ResourceLimits::default()
/// };
/// let outcome = notapipe::Job::new()
///     .resource_limits(limits)
///     .step(["sh", "-c", "ulimit -n"])
///     .run()?;
/// assert_eq!(outcome.steps()[0].stdout.to_text(), "16\n");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Processor time, in programs and in the kernel for them; RLIMIT_CPU has it rounded up to seconds.
    pub cpu: Option<Duration>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes of the job at any moment.
    pub processes: Option<u64>,
    /// File descriptors of each process.
    pub files: Option<u64>,
}

/// What holds a limit; see [`Outcome::limits_by`](super::Outcome::limits_by).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitHolder {
    /// A control group of the job's own (cgroups(7), version 2).
    Cgroup,
    /// A limit of each process (setrlimit(2)), which what it starts inherits.
    Rlimit,
    /// We do: the job's processes are counted.
    Count,
}

/// What holds each of the limits of a job; `None` where there is no limit. See
/// [`Outcome::limits_by`](super::Outcome::limits_by).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitHolders {
    /// Processor time.
    pub cpu: Option<LimitHolder>,
    /// Memory.
    pub memory: Option<LimitHolder>,
    /// Processes.
    pub processes: Option<LimitHolder>,
    /// File descriptors.
    pub files: Option<LimitHolder>,
}

impl ResourceLimits {
    /// Whether there is one that a control group can hold.
    pub(super) fn are_for_a_group(&self) -> bool {
        self.cpu.is_some() || self.memory_bytes.is_some() || self.processes.is_some()
    }

    /// What each process is given where the limits are held so.
    pub(super) fn rlimits(&self, by: LimitHolders) -> Rlimits {
        let by_rlimit = |by: Option<LimitHolder>| by == Some(LimitHolder::Rlimit);
        Rlimits {
            cpu_seconds: self.cpu_seconds().filter(|_| by_rlimit(by.cpu)),
            address_space_bytes: self.memory_bytes.filter(|_| by_rlimit(by.memory)),
            descriptors: self.files.filter(|_| by_rlimit(by.files)),
        }
    }

    /// In the unit of RLIMIT_CPU.
    fn cpu_seconds(&self) -> Option<u64> {
        let round_up = |time: Duration| {
            let begun = u64::from(time.subsec_nanos() > 0);
            time.as_secs().saturating_add(begun)
        };
        self.cpu.map(round_up)
    }

    /// The processor time that a step had used up when it was killed: SIGXCPU at the limit, SIGKILL a
    /// second later; a shell tells either of what it had started by 128 and the signal.
    pub(super) fn ended_by_rlimit(&self, status: &StepStatus) -> Option<Duration> {
        let seconds = self.cpu_seconds()?;
        let used_up = status.user_time + status.system_time >= Duration::from_secs(seconds);
        let ended = match status.exit {
            Exit::Signal(libc::SIGXCPU) => true,
            Exit::Code(code) if code == 128 + libc::SIGXCPU => true,
            Exit::Signal(libc::SIGKILL) => used_up,
            Exit::Code(code) if code == 128 + libc::SIGKILL => used_up,
            _ => false,
        };
        self.cpu.filter(|_| ended)
    }
}
