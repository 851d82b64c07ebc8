//! The words after `--`: steps, what joins them, and the options of each.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use notapipe::store::{PathError, TreePath};
use notapipe::text::{quoted, shown};

use super::config::Step;
use super::nearest::nearest;
use super::stray;

/// Words that are no steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("there is no command to run")]
    NoCommand,
    #[error("there is no command {place} {word}", word = quoted(word))]
    Empty { place: Place, word: OsString },
    #[error("a step has options and no command")]
    OnlyOptions,
    #[error("a command begins with an empty word")]
    EmptyTool,
    #[error("a step has no option {word}", word = quoted(word))]
    UnknownOption {
        word: OsString,
        nearest: Option<&'static str>,
    },
    #[error("the step option {option} lacks a value")]
    NoValue { option: &'static str },
    #[error("the step option {option} is given twice")]
    Twice { option: &'static str },
    #[error("the name {name} after {option} cannot be used: {error}", name = quoted(name))]
    Name {
        option: &'static str,
        name: OsString,
        error: PathError,
    },
    #[error("the variable {word} cannot be set", word = quoted(word))]
    Variable { word: OsString },
    #[error(
        "{tool} has its standard {stream} in a pipe and in {option} {name:?}",
        tool = quoted(tool)
    )]
    InPipe {
        tool: OsString,
        stream: &'static str,
        option: &'static str,
        name: TreePath,
    },
    #[error("{tool} would read {name:?}, which is emptied for its output", tool = quoted(tool))]
    ReadsItsOutput { tool: OsString, name: TreePath },
    #[error("the first step reads from a pipe, and no step writes to it")]
    NoWriter,
    #[error("the word that separates steps is empty")]
    EmptyWord,
    #[error("steps and pipes are both separated by {word}", word = quoted(word))]
    SameWords { word: OsString },
}

/// Where a command is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Before,
    After,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

impl StepError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoCommand => {
                "write it after `--`: notapipe run [OPTIONS] -- TOOL ARG...".to_owned()
            }
            Self::Empty { word, .. } => {
                let word = shown(word);
                format!(
                    "write TOOL ARG... {word} TOOL ARG...; if a tool takes a {word} itself, \
                     rename ours with --then-word or --pipe-word"
                )
            }
            Self::OnlyOptions => {
                "write the tool after them: [--stdin NAME]... TOOL ARG...".to_owned()
            }
            Self::EmptyTool => "write the tool's name; a shell variable may be unset".to_owned(),
            Self::UnknownOption { word, nearest } => {
                let tool = shown(word);
                match nearest {
                    _ if stray::is_option_of_run(word) => {
                        format!(
                            "write it before the first `--`: notapipe run {tool} ... -- TOOL ARG...; a tool of that name is ./{tool}"
                        )
                    }
                    Some(near) => format!(
                        "did you mean {near}? Options of notapipe stand before the first `--`, and a \
                         tool of that name is ./{tool}"
                    ),
                    None => format!(
                        "a step takes {}; options of notapipe stand before the first `--`, and a tool \
                         of that name is ./{tool}",
                        OPTIONS.join(", ")
                    ),
                }
            }
            Self::NoValue { option } => match *option {
                ENV => "write --env NAME=VALUE".to_owned(),
                option => format!("write {option} NAME, a path below the root of the mount"),
            },
            Self::Twice { option } => format!("leave one {option} out"),
            Self::Name { .. } => "write a path below the root of the mount".to_owned(),
            Self::Variable { .. } => "write --env NAME=VALUE".to_owned(),
            Self::InPipe { option, .. } => format!("leave the {option} out, or join with --then"),
            Self::ReadsItsOutput { .. } => "write to another name".to_owned(),
            Self::NoWriter => "leave pipe out of the first step".to_owned(),
            Self::EmptyWord => "write a word such as --then-word @@".to_owned(),
            Self::SameWords { .. } => {
                "choose another word with --then-word or --pipe-word".to_owned()
            }
        }
    }
}

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
/// [`StepError`] for the first word that makes no sense.
pub fn steps(words: &[OsString], then: &OsStr, pipe: &OsStr) -> Result<Vec<Step>, StepError> {
    if then.is_empty() || pipe.is_empty() {
        return Err(StepError::EmptyWord);
    }
    if then == pipe {
        let word = then.to_owned();
        return Err(StepError::SameWords { word });
    }
    if words.is_empty() {
        return Err(StepError::NoCommand);
    }
    let is_separator = |word: &OsString| word == then || word == pipe;
    let mut steps = Vec::new();
    let mut rest = words;
    let mut separator: Option<&OsString> = None;
    loop {
        let end = rest.iter().position(is_separator);
        let (step, after) = rest.split_at(end.unwrap_or(rest.len()));
        let empty = |place, word: &OsString| StepError::Empty {
            place,
            word: word.clone(),
        };
        match (separator, after.first()) {
            _ if !step.is_empty() => {}
            (Some(word), _) => return Err(empty(Place::After, word)),
            (None, Some(word)) => return Err(empty(Place::Before, word)),
            (None, None) => return Err(StepError::NoCommand),
        }
        let reads_pipe = separator.is_some_and(|word| word == pipe);
        steps.push(Step {
            reads_pipe,
            ..one(step)?
        });
        let Some((word, next)) = after.split_first() else {
            break;
        };
        separator = Some(word);
        rest = next;
    }
    Ok(steps)
}

/// One step: its options and its command.
fn one(words: &[OsString]) -> Result<Step, StepError> {
    let mut step = Step::default();
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
            let word = word.clone();
            let nearest = nearest(&name.to_string_lossy(), OPTIONS);
            return Err(StepError::UnknownOption { word, nearest });
        };
        let (value, after) = match (joined, after.split_first()) {
            (Some(value), _) => (value.to_owned(), after),
            (None, Some((value, after))) => (value.clone(), after),
            (None, None) => return Err(StepError::NoValue { option }),
        };
        set(&mut step, option, value)?;
        rest = after;
    }
    if rest.is_empty() {
        return Err(StepError::OnlyOptions);
    }
    step.argv = rest.to_vec();
    Ok(step)
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

fn set(step: &mut Step, option: &'static str, value: OsString) -> Result<(), StepError> {
    let place = match option {
        STDIN => &mut step.stdin,
        STDOUT => &mut step.stdout,
        STDERR => &mut step.stderr,
        CHDIR => &mut step.directory,
        _ => {
            step.env.push(variable(value)?);
            return Ok(());
        }
    };
    if place.replace(name(option, value)?).is_some() {
        return Err(StepError::Twice { option });
    }
    Ok(())
}

/// A path in the mount, as the value of `option`.
pub fn name(option: &'static str, name: OsString) -> Result<TreePath, StepError> {
    let path = TreePath::parse(name.as_bytes());
    path.map_err(|error| StepError::Name {
        option,
        name,
        error,
    })
}

/// `NAME=VALUE`
pub fn variable(word: OsString) -> Result<(OsString, OsString), StepError> {
    match split_option(&word) {
        (name, Some(value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(StepError::Variable { word }),
    }
}

/// What no step can know of itself, and what a job file may say.
pub fn check(steps: &[Step]) -> Result<(), StepError> {
    for (index, step) in steps.iter().enumerate() {
        let tool = match step.argv.first() {
            None => return Err(StepError::OnlyOptions),
            Some(tool) if tool.is_empty() => return Err(StepError::EmptyTool),
            Some(tool) => tool.clone(),
        };
        if step.reads_pipe && index == 0 {
            return Err(StepError::NoWriter);
        }
        let writes_pipe = steps.get(index + 1).is_some_and(|next| next.reads_pipe);
        let ends = [
            (step.reads_pipe, "input", STDIN, &step.stdin),
            (writes_pipe, "output", STDOUT, &step.stdout),
        ];
        for (in_pipe, stream, option, name) in ends {
            if let Some(name) = name.clone().filter(|_| in_pipe) {
                return Err(StepError::InPipe {
                    tool,
                    stream,
                    option,
                    name,
                });
            }
        }
        if let Some(name) = &step.stdin
            && [&step.stdout, &step.stderr].contains(&&step.stdin)
        {
            let name = name.clone();
            return Err(StepError::ReadsItsOutput { tool, name });
        }
    }
    Ok(())
}
