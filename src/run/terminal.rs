//! The terminal that a job shares with its caller.

use rustix::process::Pid;
use rustix::stdio::stdin;
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::sys::signals::Blocked;

/// Our process group has the terminal, and has it back after a step that took it.
///
/// A shell that runs as a step makes a process group of its own, gives it the terminal, and cannot
/// give it back: in a PID namespace it does not see our group. The next step would be stopped when it
/// reads the terminal (SIGTTIN).
#[derive(Debug)]
pub(super) struct Terminal {
    ours: Pid,
}

impl Terminal {
    /// Nothing where standard input is no terminal, or another group has it.
    pub fn held() -> Option<Self> {
        let group = tcgetpgrp(stdin()).ok()?;
        // SAFETY: no arguments, no failure. rustix has no word for a group that is outside of our own
        // PID namespace, which is 0.
        let ours = unsafe { libc::getpgrp() };
        (group.as_raw_pid() == ours).then_some(Self { ours: group })
    }

    pub fn take_back(&self) {
        if tcgetpgrp(stdin()) != Ok(self.ours) {
            // We are in the background then, and SIGTTOU would stop us (tcsetpgrp(3)).
            let _blocked = Blocked::new();
            let _ = tcsetpgrp(stdin(), self.ours);
        }
    }
}
