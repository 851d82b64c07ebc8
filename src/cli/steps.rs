//! The words after `--`: steps, what joins them, and the options of each.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use notapipe::run::words::nearest;
use notapipe::run::{StepSpec, variable};
use notapipe::store::TreePath;
use notapipe::text::{quoted, shown};
use notapipe::{Stdin, Stdout};

use super::grammar::UsageError;
use super::stray;

const STDIN: &str = "--stdin";
const STDOUT: &str = "--stdout";
const STDERR: &str = "--stderr";
const ENV: &str = "--env";
const CHDIR: &str = "--chdir";
pub const OPTIONS: [&str; 5] = [STDIN, STDOUT, STDERR, ENV, CHDIR];

/// Takes the words after `--` apart.
///
/// # Errors
///
/// [`UsageError`] for the first word that makes no sense.
pub fn steps(words: &[OsString], then: &OsStr, pipe: &OsStr) -> Result<Vec<StepSpec>, UsageError> {
    if then.is_empty() || pipe.is_empty() {
        return Err(UsageError::new(
            "the word that separates steps is empty",
            "write a word such as --then-word @@",
        ));
    }
    if then == pipe {
        return Err(UsageError::new(
            format!("steps and pipes are both separated by {}", quoted(then)),
            "choose another word with --then-word or --pipe-word",
        ));
    }
    if words.is_empty() {
        return Err(no_command());
    }
    let is_separator = |word: &OsString| word == then || word == pipe;
    let mut steps = Vec::new();
    let mut rest = words;
    let mut separator: Option<&OsString> = None;
    loop {
        let end = rest.iter().position(is_separator);
        let (step, after) = rest.split_at(end.unwrap_or(rest.len()));
        match (separator, after.first()) {
            _ if !step.is_empty() => {}
            (Some(word), _) => return Err(empty("after", word)),
            (None, Some(word)) => return Err(empty("before", word)),
            (None, None) => return Err(no_command()),
        }
        let mut step = one(step)?;
        step.pipe = separator.is_some_and(|word| word == pipe);
        steps.push(step);
        let Some((word, next)) = after.split_first() else {
            break;
        };
        separator = Some(word);
        rest = next;
    }
    Ok(steps)
}

fn no_command() -> UsageError {
    UsageError::new(
        "there is no command to run",
        "write it after `--`: notapipe run [OPTIONS] -- TOOL ARG...",
    )
}

fn empty(side: &str, word: &OsStr) -> UsageError {
    let (quoted, shown) = (quoted(word), shown(word));
    UsageError::new(
        format!("there is no command {side} {quoted}"),
        format!(
            "write TOOL ARG... {shown} TOOL ARG...; if a tool takes a {shown} itself, rename ours with --then-word or \
             --pipe-word"
        ),
    )
}

/// One step: its options and its command.
fn one(words: &[OsString]) -> Result<StepSpec, UsageError> {
    let mut step = StepSpec::default();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if word == "--" {
            rest = after;
            break;
        }
        if !word.as_bytes().starts_with(b"-") || word == "-" {
            break;
        }
        let (name, joined) = split_option(word);
        let Some(option) = OPTIONS.into_iter().find(|&option| name == option) else {
            return Err(unknown_option(word, name));
        };
        let (value, after) = match (joined, after.split_first()) {
            (Some(value), _) => (value.to_owned(), after),
            (None, Some((value, after))) => (value.clone(), after),
            (None, None) => return Err(no_value(option)),
        };
        set(&mut step, option, value)?;
        rest = after;
    }
    if rest.is_empty() {
        return Err(UsageError::new(
            "a step has options and no command",
            "write the tool after them: [--stdin NAME]... TOOL ARG...",
        ));
    }
    step.command = rest.to_vec();
    Ok(step)
}

fn unknown_option(word: &OsStr, name: &OsStr) -> UsageError {
    let tool = shown(word);
    let remedy = match nearest(&name.to_string_lossy(), OPTIONS) {
        _ if stray::is_option_of_run(word) => format!(
            "write it before the first `--`: notapipe run {tool} ... -- TOOL ARG...; a tool of that name is ./{tool}"
        ),
        Some(near) => format!(
            "did you mean {near}? Options of notapipe stand before the first `--`, and a tool of that name is ./{tool}"
        ),
        None => format!(
            "a step takes {}; options of notapipe stand before the first `--`, and a tool of that name is ./{tool}",
            OPTIONS.join(", ")
        ),
    };
    UsageError::new(format!("a step has no option {}", quoted(word)), remedy)
}

fn no_value(option: &str) -> UsageError {
    let remedy = match option {
        ENV => "write --env NAME=VALUE".to_owned(),
        option => format!("write {option} NAME, a path below the root of the mount"),
    };
    UsageError::new(format!("the step option {option} lacks a value"), remedy)
}

/// `--option=value` in two.
fn split_option(word: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        None => (word, None),
    }
}

fn set(step: &mut StepSpec, option: &'static str, value: OsString) -> Result<(), UsageError> {
    if option == ENV {
        step.env.push(variable(value)?);
        return Ok(());
    }
    let name = name(option, value)?;
    let was_set = match option {
        STDIN => step.stdin.replace(Stdin::File(name)).is_some(),
        STDOUT => step.stdout.replace(Stdout::File(name)).is_some(),
        STDERR => step.stderr.replace(Stdout::File(name)).is_some(),
        _ => step.chdir.replace(name).is_some(),
    };
    match was_set {
        false => Ok(()),
        true => Err(UsageError::new(
            format!("the step option {option} is given twice"),
            format!("leave one {option} out"),
        )),
    }
}

/// A path in the mount, as the value of `option`.
fn name(option: &'static str, name: OsString) -> Result<TreePath, UsageError> {
    TreePath::parse(name.as_bytes()).map_err(|error| {
        let name = quoted(&name);
        UsageError::new(
            format!("the name {name} after {option} cannot be used: {error}"),
            "write a path below the root of the mount",
        )
    })
}
