//! What goes in and comes out otherwise than file by file: archives, patterns, changes, commands.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use notapipe::archive::Format;
use notapipe::collect::{Glob, GlobError};
use notapipe::store::TreePath;
use notapipe::text::quoted;

use super::config::{InputSource, Matching, OutputDest, Packing, Piped, RunConfig};
use super::grammar::{self, Role, UsageError};

/// An option of these that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InOutError {
    #[error("{option} has nothing after it")]
    Empty { option: &'static str },
    #[error("{value} is no archive's name", value = quoted(value))]
    PackName { value: OsString },
    #[error("the output {name:?} has a place of its own, and all outputs go into one archive")]
    PackedDest { name: TreePath },
    #[error("there is nothing to pack")]
    NothingToPack,
    #[error("two archives cannot both be standard input")]
    TwoArchives,
    #[error("the archive and the input {name:?} cannot both be standard input")]
    ArchiveAndInput { name: TreePath },
    #[error("the pattern {pattern} cannot be used: {error}", pattern = quoted(pattern))]
    Pattern { pattern: String, error: GlobError },
    #[error("{value} goes to standard output, which is one file", value = quoted(value))]
    SeveralToStdout { value: String },
    #[error("a command makes or takes one file, and \".\" is the whole mount")]
    RootPiped,
    #[error("the command for {name:?} is empty")]
    NoCommand { name: TreePath },
}

impl InOutError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Empty { option } => match *option {
                "--unpack" => "write --unpack FILE, or --unpack - for standard input".to_owned(),
                "--pack" => "write --pack FILE, or --pack - for standard output".to_owned(),
                "--changed" => "write --changed, or --changed=DIRECTORY".to_owned(),
                option => format!("write {option} PATTERN, or {option} PATTERN=DIRECTORY"),
            },
            Self::PackName { .. } => format!(
                "end it with {}; --pack - is a tar on standard output",
                Format::NAMES
            ),
            Self::PackedDest { name } => {
                format!("write -o {name}: in the archive outputs have the names they have in the mount")
            }
            Self::NothingToPack => {
                "name outputs with -o, --optional or --collect, or take all that is new with --changed"
                    .to_owned()
            }
            Self::TwoArchives => "read the other one from a file, or from /dev/fd/N".to_owned(),
            Self::ArchiveAndInput { .. } => {
                "put the input into the archive, or read one of them from a file".to_owned()
            }
            Self::Pattern { .. } => {
                "patterns are paths below the root of the mount, such as 'build/**/*.{gb,sym}'; \
                 [*] is a * as it is"
                    .to_owned()
            }
            Self::SeveralToStdout { .. } => {
                "write --pack - to have several files as a tar on standard output".to_owned()
            }
            Self::RootPiped => {
                "name a file; for all of it write --unpack or --pack, in a pipeline if need be".to_owned()
            }
            Self::NoCommand { .. } => {
                "write the name and then the command as one word: --input-from NAME 'COMMAND'"
                    .to_owned()
            }
        }
    }
}

/// `--unpack SRC`
pub fn unpack(value: OsString) -> Result<InputSource, UsageError> {
    match value.as_bytes() {
        b"" => Err(InOutError::Empty { option: "--unpack" }.into()),
        b"-" => Ok(InputSource::Stdin),
        _ => Ok(InputSource::Host(value.into())),
    }
}

/// `--pack DEST`
pub fn pack(value: OsString) -> Result<Packing, UsageError> {
    match value.as_bytes() {
        b"" => Err(InOutError::Empty { option: "--pack" }.into()),
        b"-" => Ok(Packing::Stdout),
        _ => match Format::of_name(value.as_ref()) {
            Some(format) if !value.as_bytes().ends_with(b"/") => Ok(Packing::File {
                place: value.into(),
                format,
            }),
            _ => Err(InOutError::PackName { value }.into()),
        },
    }
}

/// `--collect PATTERN` and `--collect PATTERN=DEST`
pub fn collect(value: OsString) -> Result<Matching, UsageError> {
    let (pattern, dest) = match grammar::split(&value) {
        Some((pattern, dest)) => (pattern, Some(dest)),
        None => (value, None),
    };
    if pattern.is_empty() || dest.as_ref().is_some_and(|dest| dest.is_empty()) {
        let option = "--collect";
        return Err(InOutError::Empty { option }.into());
    }
    // A byte that is not UTF-8 is any character: patterns are text.
    let pattern: String = String::from_utf8_lossy(pattern.as_bytes()).replace('\u{fffd}', "?");
    let glob = Glob::new(&pattern).map_err(|error| InOutError::Pattern {
        pattern: pattern.clone(),
        error,
    })?;
    let dest = match dest {
        Some(dest) if dest == "-" => {
            return Err(InOutError::SeveralToStdout { value: pattern }.into());
        }
        Some(dest) => PathBuf::from(dest),
        None => glob.base().to_path_buf(),
    };
    Ok(Matching { glob, dest })
}

/// `--changed` and `--changed=DEST`
pub fn changed(value: Option<OsString>) -> Result<PathBuf, UsageError> {
    match value {
        None => Ok(".".into()),
        Some(dest) if dest.is_empty() => Err(InOutError::Empty {
            option: "--changed",
        }
        .into()),
        Some(dest) if dest == "-" => Err(InOutError::SeveralToStdout {
            value: "--changed".to_owned(),
        }
        .into()),
        Some(dest) => Ok(dest.into()),
    }
}

/// `--input-from NAME COMMAND` and `--output-to NAME COMMAND`
pub fn piped(role: Role, name: OsString, command: OsString) -> Result<Piped, UsageError> {
    let name = grammar::literal(role, name)?;
    if name.is_root() {
        return Err(InOutError::RootPiped.into());
    }
    if command.as_bytes().trim_ascii().is_empty() {
        return Err(InOutError::NoCommand { name }.into());
    }
    Ok(Piped { name, command })
}

/// Each option that takes a name and a command, its values two by two.
pub fn all_piped(role: Role, values: Vec<OsString>) -> Result<Vec<Piped>, UsageError> {
    let mut values = values.into_iter();
    let next = || {
        let (name, command) = (values.next()?, values.next()?);
        Some(piped(role, name, command))
    };
    std::iter::from_fn(next).collect()
}

/// Refuses what makes no sense together.
pub fn check(config: &RunConfig) -> Result<(), UsageError> {
    let from_stdin = |source: &&InputSource| **source == InputSource::Stdin;
    if config.unpack.iter().filter(from_stdin).count() > 1 {
        return Err(InOutError::TwoArchives.into());
    }
    if config.unpack.iter().any(|source| from_stdin(&source))
        && let Some(input) = config.inputs.iter().find(|it| from_stdin(&&it.source))
    {
        let name = input.name.clone();
        return Err(InOutError::ArchiveAndInput { name }.into());
    }
    let mut inputs = config
        .inputs
        .iter()
        .map(|input| &input.name)
        .collect::<BTreeSet<_>>();
    if let Some(piped) = config.input_from.iter().find(|it| !inputs.insert(&it.name)) {
        let (role, name) = (Role::Input, piped.name.clone());
        return Err(UsageError::Repeated { role, name });
    }
    let named = config.outputs.iter().chain(&config.optional);
    if config.pack.is_none() {
        for output in named {
            if output.dest == OutputDest::Host(PathBuf::new()) {
                return Err(UsageError::RootOutput);
            }
        }
        return Ok(());
    }
    for output in named {
        let own = grammar::own_place(&output.name);
        if output.dest != own {
            let name = output.name.clone();
            return Err(InOutError::PackedDest { name }.into());
        }
    }
    for Matching { glob, dest } in &config.collect {
        if *dest != glob.base().to_path_buf() {
            let name = glob.base().clone();
            return Err(InOutError::PackedDest { name }.into());
        }
    }
    let nothing = config.outputs.is_empty()
        && config.optional.is_empty()
        && config.collect.is_empty()
        && config.changed.is_none();
    if nothing {
        return Err(InOutError::NothingToPack.into());
    }
    Ok(())
}

/// The words that `--collect` takes for the same.
pub fn collect_words(Matching { glob, dest }: Matching) -> OsString {
    let mut words = OsString::from(glob.as_str().replace('=', "[=]"));
    words.push("=");
    words.push(dest);
    words
}

/// The words that `--unpack` and `--pack` take for the same.
pub fn stream_words(path: Option<PathBuf>) -> OsString {
    path.map_or_else(|| OsStr::new("-").to_owned(), PathBuf::into_os_string)
}
