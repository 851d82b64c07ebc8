//! From words to a job: what the options of `run` mean, and what is refused.

use std::ffi::OsString;

use notapipe::JobSpec;
use notapipe::run::{
    InputSource, InputSpec, MatchingOutput, OutputSpec, PipedFile, SpecError, StepSpec,
};
use notapipe::store::TreePath;
use notapipe::text::quoted;

use super::args::{Order, RunArgs};
use super::job_file;
use super::mount_options::MountOptionError;
use super::steps;
use super::stray::Stray;

/// A command line whose words clap accepts and which makes no sense.
///
/// The message names the value; [`remedy`](Self::remedy) says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
    remedy: String,
}

impl UsageError {
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { message, remedy }
    }

    /// What to write instead.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Words of a step before the `--`.
    pub fn of_steps(word: &str) -> Self {
        Self::new(
            format!(
                "{} stands before the `--`, and belongs to a step",
                quoted(word)
            ),
            "write it after the `--`: notapipe run [OPTIONS] -- [--stdin NAME]... TOOL ARG... [--then TOOL ARG...]",
        )
    }

    fn no_value(option: &str) -> Self {
        Self::new(
            format!("the literal form {option} lacks a value: the next word is `--`"),
            format!("write {option} with two values; a file of that name is ./--"),
        )
    }
}

impl From<SpecError> for UsageError {
    fn from(error: SpecError) -> Self {
        Self::new(error.to_string(), error.remedy())
    }
}

impl From<Stray> for UsageError {
    fn from(stray: Stray) -> Self {
        let message = format!("{} stands before the `--`", quoted(&stray.word));
        Self::new(message, stray.remedy())
    }
}

impl From<MountOptionError> for UsageError {
    fn from(error: MountOptionError) -> Self {
        Self::new(error.to_string(), error.remedy())
    }
}

const LITERAL_FORMS: [&str; 4] = ["--input", "--output", "--input-from", "--output-to"];

/// A literal form whose second value would be the `--` before the steps.
pub fn forgotten_value(options: &[OsString]) -> Option<UsageError> {
    let end = options.iter().position(|word| word == "--")?;
    let mut words = options[..end].iter();
    while let Some(word) = words.next() {
        if let Some(option) = LITERAL_FORMS.into_iter().find(|option| word == option)
            && (words.next().is_none() || words.next().is_none())
        {
            return Some(UsageError::no_value(option));
        }
    }
    None
}

/// The job that the command line describes, and its job file, which it overrides.
///
/// # Errors
///
/// [`UsageError`] for the first thing that makes no sense.
pub fn run(args: RunArgs, order: &Order) -> Result<JobSpec, UsageError> {
    // The literal forms take any word, and so the separator where a value was forgotten.
    let literal = [&args.input, &args.output, &args.input_from, &args.output_to];
    for (option, values) in LITERAL_FORMS.into_iter().zip(literal) {
        if values.iter().any(|value| value == "--") {
            return Err(UsageError::no_value(option));
        }
    }
    let file = args.job.as_deref().map(job_file::read).transpose()?;
    let mut spec = file.unwrap_or_default();
    args.options.replace_in(&mut spec);
    spec.size = args.limits.size.or(spec.size);
    spec.inodes = args.limits.inodes.or(spec.inodes);
    spec.verbosity = args.verbosity.given().unwrap_or(spec.verbosity);
    if args.require_fuse {
        spec.backing = notapipe::run::Backing::Fuse;
    }
    spec.unpack.extend(all(args.unpack, InputSource::archive)?);
    spec.collect
        .extend(all(args.matching, MatchingOutput::parse)?);
    let inputs = (args.stage, args.input);
    let inputs = merge(&order.inputs, inputs, InputSpec::parse, InputSpec::literal)?;
    replace(&mut spec.input, inputs, |it| &it.name);
    let outputs = (args.collect, args.output);
    let outputs = merge(
        &order.outputs,
        outputs,
        OutputSpec::parse,
        OutputSpec::literal,
    )?;
    replace(&mut spec.output, outputs, |it| &it.name);
    let optional = all(args.optional, OutputSpec::parse)?;
    replace(&mut spec.optional, optional, |it| &it.name);
    let made = pairs(args.input_from, PipedFile::made)?;
    replace(&mut spec.input_from, made, |it| &it.name);
    let read = pairs(args.output_to, PipedFile::read)?;
    replace(&mut spec.output_to, read, |it| &it.name);
    if args.shell {
        spec.step = vec![shell(&spec)?];
    } else if !args.words.is_empty() || spec.step.is_empty() {
        spec.step = steps::steps(&args.words, &args.then_word, &args.pipe_word)?;
    }
    spec.check()?;
    Ok(spec)
}

/// The caller's shell, which takes its commands from standard input.
fn shell(spec: &JobSpec) -> Result<StepSpec, UsageError> {
    let stdin = |it: &&InputSpec| it.source == InputSource::Stdin;
    if let Some(InputSpec { name, .. }) = spec.input.iter().find(stdin) {
        return Err(UsageError::new(
            format!(
                "the shell would have to read its commands from standard input, which is the input {name:?}"
            ),
            format!("stage it from a file: -i {name}=SRC"),
        ));
    }
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut step = StepSpec::default();
    step.command = vec![shell.unwrap_or_else(|| "/bin/sh".into())];
    Ok(step)
}

/// Adds what the command line says to what the job file says, in the place of what has the same name there.
fn replace<T>(of_file: &mut Vec<T>, given: Vec<T>, name: impl Fn(&T) -> &TreePath) {
    of_file.retain(|it| given.iter().all(|other| name(other) != name(it)));
    of_file.extend(given);
}

fn all<T>(
    words: Vec<OsString>,
    read: impl Fn(OsString) -> Result<T, SpecError>,
) -> Result<Vec<T>, SpecError> {
    words.into_iter().map(read).collect()
}

/// Words that stand two by two.
fn pairs<T>(
    words: Vec<OsString>,
    read: impl Fn(OsString, OsString) -> Result<T, SpecError>,
) -> Result<Vec<T>, SpecError> {
    let mut words = words.into_iter();
    let next = || Some(read(words.next()?, words.next()?));
    std::iter::from_fn(next).collect()
}

/// Brings the short and the literal forms of an option back into one order.
fn merge<T>(
    order: &[bool],
    (short, literal): (Vec<OsString>, Vec<OsString>),
    read_short: impl Fn(OsString) -> Result<T, SpecError>,
    read_literal: impl Fn(OsString, OsString) -> Result<T, SpecError>,
) -> Result<Vec<T>, SpecError> {
    let (mut short, mut literal) = (short.into_iter(), literal.into_iter());
    let next = |is_short: &bool| {
        if *is_short {
            Some(read_short(short.next()?))
        } else {
            Some(read_literal(literal.next()?, literal.next()?))
        }
    };
    order.iter().filter_map(next).collect()
}
