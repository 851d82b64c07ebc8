//! What the processes of a job may use besides the mount.

use std::time::Duration;

use super::process::{Exit, StepStatus};

/// The most that a job's processes may use; nothing is limited unless said.
///
/// Three are limits of each process (setrlimit(2)), which what it starts inherits: a process that goes on
/// after its processor time is killed, and one that asks for more memory or files is refused. The number of
/// processes is the whole job's; it is looked at fifty times a second, and a job that has more fails.
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
    /// Processor time of each process, in the program and in the kernel for it; rounded up to seconds.
    pub cpu: Option<Duration>,
    /// Address space of each process, in bytes (RLIMIT_AS).
    pub memory_bytes: Option<u64>,
    /// Processes of the job at any moment.
    pub processes: Option<u64>,
    /// File descriptors of each process.
    pub files: Option<u64>,
}

impl ResourceLimits {
    /// In the unit of RLIMIT_CPU.
    pub(super) fn cpu_seconds(&self) -> Option<u64> {
        let round_up = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        self.cpu.map(round_up)
    }

    /// The processor time that a step had used up when it was killed: SIGXCPU at the limit, SIGKILL a
    /// second later; a shell tells either of what it had started by 128 and the signal.
    pub(super) fn ended(&self, status: &StepStatus) -> Option<Duration> {
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
