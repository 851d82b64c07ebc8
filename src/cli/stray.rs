//! Words of `run` that stand where only options do, and what was perhaps meant by them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, Args, Command};
use notapipe::text::shown;

use super::args::RunArgs;
use super::steps;

/// The first such word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub word: OsString,
    /// The option before it, as it was written, which has its values already.
    after: Option<String>,
    /// Whether a `--` comes later, before the steps.
    has_separator: bool,
}

impl Stray {
    /// One of which nothing else is known.
    pub fn of(word: &OsStr) -> Self {
        Self {
            word: word.to_owned(),
            after: None,
            has_separator: false,
        }
    }

    /// Finds it among the words after `run`. None where an option is unknown: that is another mistake.
    pub fn find(words: &[OsString]) -> Option<Self> {
        let separator = words.iter().position(|word| word == "--");
        let options = &words[..separator.unwrap_or(words.len())];
        let command = RunArgs::augment_args(Command::new("run"));
        let mut rest = options.iter();
        let mut after = None;
        while let Some(word) = rest.next() {
            let text = word.to_string_lossy();
            if !text.starts_with('-') || text == "-" {
                return Some(Self {
                    word: word.clone(),
                    after,
                    has_separator: separator.is_some(),
                });
            }
            let (name, values) = option(&command, &text)?;
            rest.by_ref().take(values).for_each(drop);
            after = Some(name).filter(|_| values > 0);
        }
        None
    }

    /// What to write instead.
    pub fn remedy(&self) -> String {
        let word = shown(&self.word);
        match (self.after.as_deref(), self.has_separator) {
            (Some(option @ ("-i" | "--input")), true) => format!(
                "{option} stages one file or directory: write it before each, or stage their directory (-i DIR); a \
                 pattern such as *.asm is many words once the shell has read it"
            ),
            (Some(option @ ("-o" | "--output" | "--optional")), true) => format!(
                "{option} takes one output: write it before each, or take all that match a pattern: --collect '*.gb', \
                 in quotes"
            ),
            (Some(option), true) => {
                format!(
                    "{option} has its value already: write the whole of it as one word, such as --timeout 5s"
                )
            }
            (None, true) => format!(
                "leave it out, or, if it is the tool, write the `--` before it: notapipe run [OPTIONS] -- {word} ..."
            ),
            (Some(option @ ("-i" | "-o")), false) => format!(
                "write `--` before the tool: notapipe run [OPTIONS] -- TOOL ARG...; {option} takes one name each time"
            ),
            (_, false) => {
                format!("write `--` before the tool: notapipe run [OPTIONS] -- {word} ...")
            }
        }
    }
}

/// An option of `run` by its first word, and how many of the next words are its values.
fn option(command: &Command, word: &str) -> Option<(String, usize)> {
    let values = |arg: &Arg| match arg.get_action().takes_values() {
        true => arg.get_num_args().map_or(1, |range| range.min_values()),
        false => 0,
    };
    if let Some(long) = word.strip_prefix("--") {
        let (name, joined) = match long.split_once('=') {
            Some((name, _)) => (name, true),
            None => (long, false),
        };
        let arg = command
            .get_arguments()
            .find(|it| it.get_long() == Some(name))?;
        return Some((format!("--{name}"), if joined { 0 } else { values(arg) }));
    }
    // Several letters may stand together; what follows one that takes a value is its value.
    let mut letters = word[1..].char_indices();
    loop {
        let (at, letter) = letters.next()?;
        let arg = command
            .get_arguments()
            .find(|it| it.get_short() == Some(letter))?;
        let is_last = 1 + at + letter.len_utf8() == word.len();
        match values(arg) {
            0 if !is_last => {}
            count if is_last => return Some((format!("-{letter}"), count)),
            _ => return Some((format!("-{letter}"), 0)),
        }
    }
}

/// Whether `word` is an option of `run`, not of a step.
pub fn is_option_of_run(word: &OsStr) -> bool {
    let command = RunArgs::augment_args(Command::new("run"));
    std::str::from_utf8(word.as_bytes()).is_ok_and(|word| option(&command, word).is_some())
}

/// Whether `word` belongs after the `--`.
pub fn is_word_of_steps(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    steps::OPTIONS.contains(&name) || ["--then", "--pipe"].contains(&name)
}
