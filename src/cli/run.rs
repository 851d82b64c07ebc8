//! `notapipe run`: from the configuration to a job, from its outcome to files and an exit status.

use std::ffi::OsString;
use std::io::stdin;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use notapipe::collect::Wanted;
use notapipe::memory;
use notapipe::mount::Visibility as MountVisibility;
use notapipe::run::{Cpus, InitProgram};
use notapipe::store::{Limits, PAGE_SIZE};
use notapipe::{Error, Interrupt, Job, Outcome, Stdin, Stdout, Step};

use super::config::{InputSource, LimitsWanted, Piped, RunConfig, Verbosity, Visibility};
use super::cpus::CpusWanted;
use super::deliver::{self, DeliverError, Delivering};
use super::exit;
use super::progress::Line;
use super::report;
use super::report_file;
use super::signals::{Signals, Watch};
use super::size::Size;
use super::staging::Staging;

/// Does what `config` says, and gives the exit status of the whole command.
pub fn run(config: RunConfig, signals: Signals) -> ExitCode {
    match try_run(config, signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, error }) => {
            if let Some(error) = error {
                report::failure(&*error);
            }
            ExitCode::from(code)
        }
    }
}

/// A failure, with what is left to say about it.
struct Failed {
    code: u8,
    /// Nothing when the tool itself has said it.
    error: Option<Box<dyn std::error::Error>>,
}

impl<E: std::error::Error + 'static> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            code: exit::FAILED,
            error: Some(Box::new(error)),
        }
    }
}

fn try_run(config: RunConfig, signals: Signals) -> Result<(), Failed> {
    let interrupt = Interrupt::new()?;
    let delivering = Delivering::preflight(&config, &interrupt)?;
    let staging = Staging::default();
    let watch = signals.watch({
        let (interrupt, staging) = (interrupt.clone(), staging.clone());
        move |signal| {
            interrupt.raise();
            staging.end_by(signal);
        }
    })?;
    let ran = job(&config, &interrupt, staging)?.run();
    if let (Some(file), Err(Error::StepFailed(failure))) = (&config.report, &ran) {
        // What failed first decides the exit status.
        if let Err(error) = write_report(file, &failure.outcome, None) {
            report::failure(&error);
        }
    }
    let outcome = ran.map_err(|error| failed_job(error, &watch))?;
    if config.verbosity >= Verbosity::Normal {
        warn(&outcome);
    }
    let began = Instant::now();
    let skipped = delivering
        .deliver(&outcome)
        .map_err(|error| failed_delivery(error, &watch))?;
    if config.verbosity >= Verbosity::Normal {
        for skipped in &skipped {
            report::warning(&skipped.to_string());
        }
    }
    if let Some(file) = &config.report {
        write_report(file, &outcome, Some(began.elapsed()))?;
    }
    if config.verbosity >= Verbosity::Verbose {
        tell(&outcome);
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {file:?}")]
struct ReportNotWritten {
    file: PathBuf,
    source: std::io::Error,
}

fn write_report(
    file: &Path,
    outcome: &Outcome,
    collect: Option<Duration>,
) -> Result<(), ReportNotWritten> {
    report_file::write(file, outcome, collect).map_err(|source| ReportNotWritten {
        file: file.to_path_buf(),
        source,
    })
}

fn job(config: &RunConfig, interrupt: &Interrupt, staging: Staging) -> Result<Job, Failed> {
    let line = Line::new("staging", config.verbosity);
    let mut tell = line.listener(interrupt.clone());
    let staging = staging.guard();
    let mut job = Job::new()
        .limits(limits(config.limits))
        .visibility(match config.visibility {
            Visibility::Auto => MountVisibility::Auto,
            Visibility::Private => MountVisibility::Private,
            Visibility::Public => MountVisibility::Public,
        })
        .allow_other(config.allow_other)
        .extended_attributes(config.extended_attributes)
        .profile(config.profile.unwrap_or_default().into())
        .interrupt(interrupt.clone())
        .init(InitProgram::ourselves())
        .on_staging(move |progress| {
            let _held_while_it_listens = &staging;
            tell(progress)
        });
    if let Some(dir) = &config.at {
        job = job.at(dir);
    }
    match &config.cpus {
        CpusWanted::All => {}
        CpusWanted::One => job = job.cpus(Cpus::current()),
        CpusWanted::These(numbers) => job = job.cpus(Cpus::new(numbers.iter().copied())),
    }
    if let Some(timeout) = config.timeout {
        job = job.timeout(timeout);
    }
    for input in &config.inputs {
        let name = input.name.to_path_buf();
        job = match &input.source {
            InputSource::Host(path) => job.input_host(name, path),
            InputSource::Stdin => job.input_reader(name, stdin()),
        };
    }
    for archive in &config.unpack {
        job = match archive {
            InputSource::Host(path) => job.unpack_host(path),
            InputSource::Stdin => job.unpack_reader(stdin()),
        };
    }
    for wanted in deliver::wanted(config) {
        job = match wanted {
            Wanted::Named(name) => job.output(name.to_path_buf()),
            Wanted::Optional(name) => job.output_optional(name.to_path_buf()),
            Wanted::Matching(glob) => job.output_matching(glob.as_str()),
            Wanted::Changed => job.output_changed(),
        };
    }
    for Piped { name, command } in &config.input_from {
        job = job.input_from(name.to_path_buf(), command);
    }
    for Piped { name, command } in &config.output_to {
        job = job.output_to(name.to_path_buf(), command);
    }
    if config.uses_stdout() {
        job = job.output_to_stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    }
    for step in &config.steps {
        job = job.step(streams(config, step.argv.clone())?);
    }
    Ok(job)
}

/// A step with the caller's streams, as far as the job itself does not use them.
fn streams(config: &RunConfig, argv: Vec<OsString>) -> Result<Step, Failed> {
    let stdin = if config.uses_stdin() {
        Stdin::Null
    } else {
        Stdin::Inherit
    };
    let stdout = if config.uses_stdout() {
        Stdout::Fd(std::io::stderr().as_fd().try_clone_to_owned()?)
    } else {
        Stdout::Inherit
    };
    Ok(Step::new(argv)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdout::Inherit))
}

/// The limits that were asked for, and the defaults for those that were not.
pub fn limits(wanted: LimitsWanted) -> Limits {
    let mut limits = memory::default_limits();
    match wanted.size {
        Some(Size::Bytes(bytes)) => limits.bytes = bytes / PAGE_SIZE * PAGE_SIZE,
        // The default is one half.
        Some(Size::Percent(percent)) => {
            limits.bytes = limits.bytes / 50 * u64::from(percent) / PAGE_SIZE * PAGE_SIZE;
        }
        None => {}
    }
    if let Some(inodes) = wanted.inodes {
        limits.inodes = inodes;
    }
    limits
}

/// The exit status by which env(1) and timeout(1) would tell it, and what is left to say.
fn failed_job(error: Error, watch: &Watch) -> Failed {
    if let Some(signal) = watch.received() {
        return Failed {
            code: signal.exit_code(),
            error: None,
        };
    }
    match &error {
        Error::StepFailed(failure) => {
            if let Some(limit) = failure.outcome.limit_met() {
                report::limit_met(limit, failure.outcome.usage().limits);
            }
            // A tool that failed has said why; one that a signal ended could not.
            let code = u8::try_from(failure.exit.shell_code()).unwrap_or(exit::FAILED);
            let silent = matches!(failure.exit, notapipe::run::Exit::Code(_));
            Failed {
                code,
                error: (!silent).then(|| error.into()),
            }
        }
        Error::Spawn(spawn) => {
            let code = u8::try_from(spawn.exit_code()).unwrap_or(exit::FAILED);
            Failed {
                code,
                error: Some(error.into()),
            }
        }
        Error::Timeout { .. } => Failed {
            code: exit::TIMEOUT,
            error: Some(error.into()),
        },
        _ => error.into(),
    }
}

/// A signal that came while outputs were delivered; they have been put back.
fn failed_delivery(error: DeliverError, watch: &Watch) -> Failed {
    match watch.received() {
        // Who sent the signal cannot know what else went wrong.
        Some(signal) if !error.is_damage() => Failed {
            code: signal.exit_code(),
            error: None,
        },
        _ => error.into(),
    }
}

/// What went well and is still worth a word.
fn warn(outcome: &Outcome) {
    for skipped in outcome.skipped() {
        report::warning(&skipped.to_string());
    }
    if let Some(limit) = outcome.limit_met() {
        report::limit_met(limit, outcome.usage().limits);
    }
}

/// The gist for a person.
fn tell(outcome: &Outcome) {
    for step in outcome.steps() {
        let command = step.command.join(std::ffi::OsStr::new(" "));
        let status = &step.status;
        report::note(&format!(
            "{}: {:.1?} (user {:.1?}, system {:.1?})",
            command.display(),
            status.wall_time,
            status.user_time,
            status.system_time,
        ));
    }
    let (phases, usage) = (outcome.phases(), outcome.usage());
    report::note(&format!(
        "stage {:.1?}, mount {:.1?}, steps {:.1?}, unmount {:.1?}",
        phases.stage, phases.mount, phases.run, phases.unmount
    ));
    report::note(&format!(
        "{} bytes in {} inodes at the end; {} requests",
        usage.bytes,
        usage.inodes,
        outcome.requests().total()
    ));
}
