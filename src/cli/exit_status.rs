//! How a call of `notapipe run` ends: its exit status, and what is left to say.

use std::error::Error as StdError;
use std::io::{self, IsTerminal};

use notapipe::run::Exit;
use notapipe::store::{Limits, Resource};
use notapipe::{Error, Failed, Outcome};
use signal_hook::consts::{SIGINT, SIGKILL};

use super::deliver::DeliverError;
use super::exit;
use super::report;
use super::run::NotSent;
use super::signals::Watch;

/// The exit status by which env(1) and timeout(1) would tell it, and why.
#[derive(Debug)]
pub struct ExitStatus<'e> {
    pub code: u8,
    error: Option<&'e (dyn StdError + 'static)>,
    /// It needs no message: the tool has said it, or the sender of the signal knows.
    is_said: bool,
    /// The limit that the failed step ran into.
    limit_met: Option<(Resource, Limits)>,
    /// The limit that its temporary files filled.
    tmp_full: Option<(Resource, Limits)>,
}

impl<'e> ExitStatus<'e> {
    /// Everything succeeded.
    pub fn success() -> Self {
        Self {
            code: 0,
            error: None,
            is_said: true,
            limit_met: None,
            tmp_full: None,
        }
    }

    /// The job failed.
    pub fn of_job(failed: &'e Failed, watch: &Watch) -> Self {
        let Failed { error, outcome, .. } = failed;
        if let Some(signal) = watch.received() {
            return Self::said(signal.exit_code(), error);
        }
        let code = |code: i32| u8::try_from(code).unwrap_or(exit::FAILED);
        match error {
            Error::StepFailed {
                exit, cpu_limit, ..
            } => {
                let limits = |outcome: &Outcome| outcome.usage().limits;
                let outcome = outcome.as_deref();
                Self {
                    // A tool that failed has said why; one that a signal ended could not.
                    // Nor need a person be told of a Ctrl-C, which may come to us later than to the tool.
                    is_said: match *exit {
                        Exit::Code(_) => cpu_limit.is_none(),
                        Exit::Signal(signal) => signal == SIGINT && io::stderr().is_terminal(),
                    },
                    limit_met: outcome.and_then(|it| Some((it.limit_met()?, limits(it)))),
                    tmp_full: outcome.and_then(|it| Some((it.tmp_full()?, limits(it)))),
                    ..Self::said(code(exit.shell_code()), error)
                }
            }
            Error::Spawn(spawn) => Self::unsaid(code(spawn.exit_code()), error),
            Error::Timeout { .. } => Self::unsaid(exit::TIMEOUT, error),
            // What the kernel sent to the one that it chose.
            Error::OverMemory { .. } => Self::unsaid(code(128 + SIGKILL), error),
            _ => Self::unsaid(exit::FAILED, error),
        }
    }

    /// Its outputs were not delivered. After a signal they have been put back.
    pub fn of_delivery(error: &'e DeliverError, watch: &Watch) -> Self {
        match watch.received() {
            // Who sent the signal cannot know what else went wrong.
            Some(signal) if !error.is_damage() => Self::said(signal.exit_code(), error),
            _ => Self::unsaid(exit::FAILED, error),
        }
    }

    /// Its outputs were delivered, and not all of the file that was followed could be sent.
    pub fn of_following(error: &'e NotSent) -> Self {
        Self::unsaid(exit::FAILED, error)
    }

    /// Why it failed, also where no message is needed.
    pub fn why(&self) -> Option<&'e (dyn StdError + 'static)> {
        self.error
    }

    /// Says what is left to say.
    pub fn say(&self) {
        if let Some((resource, limits)) = self.limit_met {
            report::limit_met(resource, limits);
        }
        if let Some((resource, limits)) = self.tmp_full {
            report::tmp_full(resource, limits);
        }
        if let Some(error) = self.error.filter(|_| !self.is_said) {
            report::failure(error);
        }
    }

    fn said(code: u8, error: &'e (dyn StdError + 'static)) -> Self {
        Self {
            code,
            error: Some(error),
            is_said: true,
            limit_met: None,
            tmp_full: None,
        }
    }

    fn unsaid(code: u8, error: &'e (dyn StdError + 'static)) -> Self {
        Self {
            is_said: false,
            ..Self::said(code, error)
        }
    }
}
