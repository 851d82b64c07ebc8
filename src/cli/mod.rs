//! The command line: from words to a validated [`Command`], and from errors to messages.
//!
//! [`args`] holds what clap reads, with all help texts; [`grammar`] turns it into plain values and
//! refuses what makes no sense, before anything runs.

pub mod args;
pub mod background;
pub mod completions;
pub mod config;
mod container;
pub mod cpus;
pub mod deliver;
pub mod doctor;
mod exit_status;
pub mod figures;
pub mod fill;
pub mod grammar;
pub mod job_file;
pub mod list;
mod log;
mod lost;
pub mod man;
pub mod mount;
pub mod mount_args;
pub mod mount_options;
pub mod not_started;
pub mod progress;
pub mod report;
pub mod report_file;
pub mod resize;
pub mod run;
pub mod save;
pub mod signals;
pub mod snapshot;
pub mod socket_dir;
mod staging;
pub mod status;
pub mod steps;
pub mod stray;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod trim;
pub mod umount;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};
use notapipe::JobSpec;

pub use args::Plain;
use args::{Cli, Commands};
use config::{Caller, MountConfig};
use grammar::UsageError;
use stray::Stray;

/// Exit codes of our own; a job that ran ends with its failing step's.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The job took longer than `--timeout`.
    pub const TIMEOUT: u8 = 124;
    /// notapipe itself failed: an input that cannot be read, an output that is missing, no mount.
    pub const FAILED: u8 = 125;
    /// What mount(8) is told of a wrong command line.
    pub const MOUNT8_USAGE: u8 = 1;
    /// What mount(8) is told when there is no mount.
    pub const MOUNT8_FAILED: u8 = 32;
    /// Signal N ends in this and N.
    pub const SIGNAL: u8 = 128;
}

/// What the user asks for, checked.
#[derive(Debug)]
pub enum Command {
    /// `notapipe run`
    Run(Box<JobSpec>),
    /// `notapipe mount`
    Mount(MountConfig),
    /// `notapipe run --print-job`
    PrintJob(Box<JobSpec>, job_file::Format),
    /// Any other.
    Plain(Plain),
}

impl Plain {
    /// Does it.
    pub fn run(self) -> ExitCode {
        match self {
            Self::Umount(args) => umount::umount(args),
            Self::List(args) => list::list(args),
            Self::Status(args) => status::status(args),
            Self::Snapshot(args) => snapshot::snapshot(args),
            Self::Resize(args) => resize::resize(args),
            Self::Doctor(args) => doctor::doctor(args),
            Self::Completions(args) => completions::completions(args),
            Self::Man(args) => man::man(args),
        }
    }
}

/// Why there is no [`Command`]: a wrong command line, or one that asks for help.
#[derive(Debug)]
pub struct Refusal {
    kind: RefusalKind,
    /// Who is to understand the exit code.
    caller: Caller,
}

/// What is wrong with a command line.
#[derive(Debug)]
pub enum RefusalKind {
    /// clap refused, or was asked for `--help` or `--version`.
    Clap(clap::Error),
    /// The words are right and what they say is not.
    Usage {
        /// The command whose help explains it.
        command: &'static str,
        /// What is wrong.
        error: UsageError,
    },
}

impl Refusal {
    /// Says it, and gives the exit code: 0 for help that was asked for, otherwise 2.
    pub fn report(self) -> ExitCode {
        let code = match self.kind {
            RefusalKind::Clap(error) => report::clap(error),
            RefusalKind::Usage { command, error } => report::usage(command, &error),
        };
        match self.caller {
            Caller::Mount8 if code == ExitCode::from(exit::USAGE) => {
                ExitCode::from(exit::MOUNT8_USAGE)
            }
            _ => code,
        }
    }
}

/// Reads a command line, the program's own name first.
///
/// # Errors
///
/// [`Refusal`], to be [reported](Refusal::report).
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let words: Vec<OsString> = words.into_iter().collect();
    let is_command = |word: &OsStr| {
        Cli::command()
            .get_subcommands()
            .any(|it| it.get_name() == word)
    };
    let (words, caller) = match mount_options::of_mount8(&words, is_command) {
        Some(words) => (words, Caller::Mount8),
        None => (words, Caller::Person),
    };
    parse_words(words, caller).map_err(|kind| Refusal { kind, caller })
}

fn parse_words(words: Vec<OsString>, caller: Caller) -> Result<Command, RefusalKind> {
    let matches = Cli::command()
        .try_get_matches_from(&words)
        .map_err(|error| refusal(error, &words))?;
    let cli = Cli::from_arg_matches(&matches).map_err(RefusalKind::Clap)?;
    Ok(match cli.command {
        Commands::Run(args) => {
            let order = args::Order::of(matches.subcommand_matches("run"));
            if let Some(word) = args.stray.first() {
                let forgotten = grammar::forgotten_value(&words[2..]);
                let stray = || Stray::find(&words[2..]).unwrap_or_else(|| Stray::of(word));
                return Err(wrong_run(forgotten.unwrap_or_else(|| stray().into())));
            }
            let print_job = args.print_job;
            let run = grammar::run(*args, &order).map_err(wrong_run)?;
            match print_job {
                Some(format) => Command::PrintJob(Box::new(run), format),
                None => Command::Run(Box::new(run)),
            }
        }
        Commands::Mount(args) => {
            let config = args.config().map_err(|error| RefusalKind::Usage {
                command: "mount",
                error: error.into(),
            })?;
            Command::Mount(MountConfig { caller, ..config })
        }
        Commands::Plain(plain) => Command::Plain(plain),
    })
}

fn wrong_run(error: UsageError) -> RefusalKind {
    let command = "run";
    RefusalKind::Usage { command, error }
}

/// Where clap's complaint about `run` would lead nowhere, as it does not know the grammar, one of ours.
fn refusal(error: clap::Error, words: &[OsString]) -> RefusalKind {
    let is_run = words.get(1).is_some_and(|word| word == "run");
    let asks_for_help = !error.use_stderr();
    if !is_run || asks_for_help {
        return RefusalKind::Clap(error);
    }
    let options = &words[2..];
    let ours = grammar::forgotten_value(options)
        .or_else(|| Stray::find(options).map(UsageError::from))
        .or_else(|| match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) if stray::is_word_of_steps(word) => {
                Some(UsageError::of_steps(word))
            }
            _ => None,
        });
    ours.map_or(RefusalKind::Clap(error), wrong_run)
}
