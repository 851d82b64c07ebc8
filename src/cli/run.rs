//! `notapipe run`: from the configuration to a job, from its outcome to files and an exit status.

use std::ffi::OsStr;
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notapipe::mount::Remedy;
use notapipe::run::{EndedBy, Exit, Followed, InputSource, InputSpec, Verbosity};
use notapipe::stage::LeftBehind;
use notapipe::store::TreePath;
use notapipe::text::shown;
use notapipe::{ByteCount, Interrupt, Job, JobSpec, Outcome, Stdin, Stdout};

use super::deliver::{DeliverError, Delivering};
use super::exit;
use super::exit_status::ExitStatus;
use super::log;
use super::progress::Line;
use super::report;
use super::report_file::Reporting;
use super::save::{SavedFrom, Saving};
use super::signals::Signals;
use super::staging::Staging;
use super::streams::{self, NotPrinted, Stream};

/// Does what `spec` says, and gives the exit status of the whole command.
pub fn run(spec: JobSpec, signals: Signals) -> ExitCode {
    match try_run(spec, signals) {
        Ok(code) => ExitCode::from(code),
        Err(NotStarted(error)) => {
            report::failure(&*error);
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Why there was no job.
struct NotStarted(Box<dyn std::error::Error>);

impl<E: std::error::Error + 'static> From<E> for NotStarted {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

fn try_run(spec: JobSpec, signals: Signals) -> Result<u8, NotStarted> {
    if spec.verbosity >= Verbosity::Debug {
        log::tell();
    }
    let not_prepared = |source| notapipe::Error::Processes {
        operation: "prepare",
        source,
    };
    let interrupt = Interrupt::new().map_err(not_prepared)?;
    let delivering = Delivering::preflight(&spec, &interrupt)?;
    let keeping = spec.keep_on_failure.as_deref();
    let keeping = keeping.map(|place| Saving::preflight(place, SavedFrom::Job, spec.verbosity));
    let keeping = keeping.transpose()?;
    let reporting = spec.report.as_deref().map(Reporting::preflight);
    let reporting = reporting.transpose()?;
    let staging = Staging::default();
    let steps_run = Arc::new(AtomicBool::new(false));
    let tools_have_it = {
        let steps_run = Arc::clone(&steps_run);
        move || steps_run.load(Ordering::SeqCst)
    };
    let watch = signals.watch(tools_have_it, {
        let (interrupt, staging) = (interrupt.clone(), staging.clone());
        move |signal| {
            interrupt.raise();
            staging.end_by(signal);
        }
    });
    let watch = watch.map_err(not_prepared)?;
    let job = job(&spec, &interrupt, staging)?;
    let ran = job.running_flag(steps_run).run();
    let left = match &ran {
        Ok(outcome) => Some(outcome),
        Err(failed) => failed.outcome.as_deref(),
    };
    if let Some(left) = left
        && spec.verbosity >= Verbosity::Normal
    {
        tell_skipped(left.skipped());
        if let Some(still_running) = left.still_running() {
            report::warning(&still_running.to_string());
        }
    }
    let (outcome, delivered) = match &ran {
        Ok(outcome) => {
            if let Some(limit) = outcome.limit_met()
                && spec.verbosity >= Verbosity::Normal
            {
                report::limit_met(limit, outcome.usage().limits);
            }
            if let Some(limit) = outcome.tmp_full()
                && spec.verbosity >= Verbosity::Normal
            {
                report::tmp_full(limit, outcome.usage().limits);
            }
            (Some(outcome), Some(deliver(delivering, outcome)))
        }
        Err(failed) => (failed.outcome.as_deref(), None),
    };
    let not_sent = outcome.and_then(NotSent::of);
    let ending = match (&ran, &delivered, &not_sent) {
        (Err(failed), ..) => ExitStatus::of_job(failed, &watch),
        (_, Some(Err(error)), _) => ExitStatus::of_delivery(error, &watch),
        (.., Some(error)) => ExitStatus::of_following(error),
        _ => ExitStatus::success(),
    };
    ending.say();
    let delivered = delivered.as_ref().and_then(|it| it.as_ref().ok());
    Ok(wind_up(
        &spec, ending, outcome, delivered, reporting, keeping,
    ))
}

/// Tells what happened, in all the ways that were asked for; gives the exit status.
fn wind_up(
    spec: &JobSpec,
    mut ending: ExitStatus<'_>,
    outcome: Option<&Outcome>,
    delivered: Option<&(LeftBehind, Duration)>,
    reporting: Option<Reporting>,
    keeping: Option<Saving>,
) -> u8 {
    if let Some(outcome) = outcome
        && spec.verbosity >= Verbosity::Normal
    {
        outcome.followed().iter().for_each(tell_followed);
    }
    if let Some((skipped, _)) = delivered
        && spec.verbosity >= Verbosity::Normal
    {
        tell_skipped(skipped);
    }
    let collect = delivered.map(|(_, time)| *time);
    if let Some(reporting) = reporting
        && let Err(error) = reporting.write(&ending, outcome, collect)
    {
        report::failure(&error);
        // What failed first decides the exit status.
        if ending.code == 0 {
            ending.code = exit::FAILED;
        }
    }
    if let (Some(keeping), Some(outcome), true) = (keeping, outcome, ending.code != 0) {
        keep(keeping, outcome, spec.verbosity);
    }
    if let Some(outcome) = outcome
        && spec.verbosity >= Verbosity::Verbose
    {
        tell(outcome);
    }
    ending.code
}

/// Delivers the outputs; tells what was left behind, and how long it took.
fn deliver(
    delivering: Delivering,
    outcome: &Outcome,
) -> Result<(LeftBehind, Duration), DeliverError> {
    let began = Instant::now();
    let skipped = delivering.deliver(outcome)?;
    Ok((skipped, began.elapsed()))
}

/// Keeps what a failed job left. The signal that may have ended it does not end this.
fn keep(keeping: Saving, outcome: &Outcome, verbosity: Verbosity) {
    let place = keeping.place().to_owned();
    let saved = Interrupt::new()
        .map_err(Into::into)
        .and_then(|uninterrupted| Ok(keeping.save(outcome.tree(), &uninterrupted)?));
    match saved {
        Ok(()) if verbosity >= Verbosity::Normal => {
            report::note(&format!("what the job left is in {}", shown(&place)))
        }
        Ok(()) => {}
        Err::<_, Box<dyn std::error::Error>>(error) => report::failure(&*error),
    }
}

/// The job of this specification, with the streams of this process.
fn job(spec: &JobSpec, interrupt: &Interrupt, staging: Staging) -> Result<Job, NotStarted> {
    let line = Line::new("staging", spec.verbosity);
    let mut tell = line.listener(interrupt.clone());
    let staging = staging.guard();
    let mut job = Job::from_spec(with_own_streams(spec.clone()))
        .interrupt(interrupt.clone())
        .inherited_signals(crate::inherited_signals())
        .on_staging(move |progress| {
            let _held_while_it_listens = &staging;
            tell(progress)
        });
    if spec.verbosity >= Verbosity::Normal {
        job = job.on_backing(report::backing);
    }
    for InputSpec { name, source } in &spec.input {
        if is_stdin(source)? {
            job = job.input_reader(name.to_path_buf(), standard_input()?);
        }
    }
    for source in &spec.unpack {
        if is_stdin(source)? {
            job = job.unpack_reader(standard_input()?);
        }
    }
    if spec.uses_stdout() {
        job = job.output_to_stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
    }
    if let Some(name) = &spec.follow {
        job = job.follow(name.to_path_buf(), streams::output().map_err(NotPrinted)?);
    }
    Ok(job)
}

/// Gives steps that have no streams of their own those of this process, as far as the job itself does not use them.
fn with_own_streams(mut spec: JobSpec) -> JobSpec {
    let stdin = match spec.uses_stdin() {
        true => Stdin::Null,
        false => Stdin::Inherit,
    };
    let stdout = match spec.uses_stdout() {
        true => Stdout::Stderr,
        false => Stdout::Inherit,
    };
    for step in &mut spec.step {
        step.stdin.get_or_insert_with(|| stdin.clone());
        step.stdout.get_or_insert_with(|| stdout.clone());
        step.stderr.get_or_insert(Stdout::Inherit);
    }
    spec
}

/// Whether it is standard input. A path may be that of a stream that is closed.
fn is_stdin(source: &InputSource) -> Result<bool, NoInput> {
    if let InputSource::Host(path) = source {
        streams::unless_closed_one(path)?;
    }
    Ok(*source == InputSource::Stdin)
}

/// Standard input of ours cannot be an input of the job.
#[derive(Debug, thiserror::Error)]
#[error("cannot read standard input")]
struct NoInput(#[from] io::Error);

fn standard_input() -> Result<BufReader<Stream>, NoInput> {
    Ok(streams::input()?)
}

/// What went well and is still worth a word.
fn tell_skipped(skipped: &LeftBehind) {
    if !skipped.is_empty() {
        report::warning(&skipped.to_string());
    }
}

/// Warns of bytes that changed after they were sent, and of a followed file that no step wrote.
fn tell_followed(followed: &Followed) {
    let name = &followed.name;
    if followed.bytes.is_none() && followed.error.is_none() {
        report::warning(&format!(
            "no step wrote to {name:?}, which was to be followed"
        ));
    }
    let ranges = followed.rewritten.iter();
    let ranges: Vec<String> = ranges
        .map(|range| format!("{}-{}", range.start, range.end - 1))
        .collect();
    if !ranges.is_empty() {
        report::warning(&format!(
            "{name:?} changed after it was sent: bytes {}",
            ranges.join(", ")
        ));
    }
}

/// A file that was followed, and that standard output did not take as a whole.
#[derive(Debug, thiserror::Error)]
#[error("not all of {name:?} was sent to standard output: {why}")]
pub struct NotSent {
    name: TreePath,
    why: String,
}

impl NotSent {
    fn of(outcome: &Outcome) -> Option<Self> {
        outcome.followed().iter().find_map(|followed| {
            let error = followed.error.as_ref()?;
            // The process that closed the pipe has seen enough.
            (error.kind() != io::ErrorKind::BrokenPipe).then(|| Self {
                name: followed.name.clone(),
                why: match Remedy::of_shortage(error) {
                    Some(remedy) => format!("{error}; {remedy}"),
                    None => error.to_string(),
                },
            })
        })
    }
}

/// Why a step did not end by itself.
fn ended_by(reason: EndedBy) -> &'static str {
    match reason {
        EndedBy::Timeout => " at the timeout",
        EndedBy::Interrupt => " as the job was interrupted",
        EndedBy::Pipe => " as another step of its pipe had failed",
        EndedBy::CpuLimit => " at the limit of processor time",
        EndedBy::ProcessLimit => " at the limit of processes",
        EndedBy::MemoryLimit => " at the limit of memory",
        EndedBy::SizeLimit => " at the limit of what the job may hold",
        EndedBy::SessionLost => " as its mount was served no more",
        _ => " as the job failed",
    }
}

/// The gist for a person.
fn tell(outcome: &Outcome) {
    for step in outcome.steps() {
        let command = step.command.join(OsStr::new(" "));
        let status = &step.status;
        report::note(&format!(
            "{}: {}{}, {:.1?} (user {:.1?}, system {:.1?}), {} of memory",
            shown(&command),
            match status.exit {
                Exit::Code(code) => format!("status {code}"),
                Exit::Signal(signal) => format!("signal {signal}"),
            },
            step.ended_by.map_or("", ended_by),
            status.wall_time,
            status.user_time,
            status.system_time,
            ByteCount(status.max_rss_bytes),
        ));
    }
    for command in outcome.steps_not_run() {
        let command = command.join(OsStr::new(" "));
        report::note(&format!("{}: not run", shown(&command)));
    }
    let (phases, usage) = (outcome.phases(), outcome.usage());
    report::note(&format!(
        "stage {:.1?}, mount {:.1?}, steps {:.1?}, unmount {:.1?}",
        phases.stage, phases.mount, phases.run, phases.unmount
    ));
    let (peak, limits) = (outcome.peak(), usage.limits);
    report::note(&format!(
        "at most {} of {} in {} of {} inodes; {} requests",
        ByteCount(peak.bytes),
        ByteCount(limits.bytes),
        peak.inodes,
        limits.inodes,
        outcome.requests().total()
    ));
}
