//! Entries of a specification from the words of their options.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use super::{InputSource, InputSpec, MatchingOutput, OutputDest, OutputSpec, PipedFile};
use crate::collect::Glob;
use crate::store::{PathError, TreePath};
use crate::text::{quoted, shown};

/// Why a specification, or a part of it, makes no sense: its text names the value.
///
/// # Examples
///
/// ```
/// use notapipe::run::OutputSpec;
///
/// let error = OutputSpec::parse("/x".into()).unwrap_err();
/// assert_eq!(error.to_string(), r#"the output name "/x" cannot be used: it is absolute"#);
/// assert!(error.remedy().ends_with("write -o x=DEST"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    message: String,
    remedy: String,
}

impl SpecError {
    pub(crate) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { message, remedy }
    }

    /// What to write instead, in the words of `notapipe run`.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Which side of a job something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Output,
}

impl Role {
    pub fn option(self) -> &'static str {
        match self {
            Self::Input => "-i",
            Self::Output => "-o",
        }
    }

    /// What stands after the name.
    pub fn value(self) -> &'static str {
        match self {
            Self::Input => "SRC",
            Self::Output => "DEST",
        }
    }

    /// A name that was written out.
    pub fn name(self, name: OsString) -> Result<TreePath, SpecError> {
        TreePath::parse(name.as_bytes()).map_err(|error| self.refused(&name, error))
    }

    fn refused(self, name: &OsStr, error: PathError) -> SpecError {
        let (option, value) = (self.option(), self.value());
        let remedy = match error {
            PathError::Empty => {
                format!("write {option} NAME={value}, such as {option} A.asm=src/main.asm")
            }
            PathError::Absolute | PathError::Climbs => {
                let base = Path::new(name).file_name().unwrap_or(OsStr::new("NAME"));
                format!(
                    "names are paths below the root of the mount: write {option} {}={value}",
                    shown(base)
                )
            }
            _ => format!("choose a shorter one: {option} NAME={value}"),
        };
        let name = quoted(name);
        SpecError::new(
            format!("the {self} name {name} cannot be used: {error}"),
            remedy,
        )
    }

    fn stream_without_name(self) -> SpecError {
        SpecError::new(
            format!("standard {self} has no name to stand under in the mount"),
            format!("write {0} NAME=-, such as {0} data.bin=-", self.option()),
        )
    }

    fn nothing_after(self, name: &TreePath) -> SpecError {
        let remedy = match self {
            Self::Input => format!("write -i {name}=SRC, or -i {name}=- for standard input"),
            Self::Output => {
                format!("write -o {name}=DEST, -o {name}=- for standard output, or -o {name}")
            }
        };
        SpecError::new(
            format!("the {self} {name:?} has nothing after its name"),
            remedy,
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

impl InputSpec {
    /// What `-i` takes: `SRC` or `NAME=SRC`.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in the mount, or none at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::InputSpec;
    ///
    /// let short = InputSpec::parse("A.asm=src/main.asm".into())?;
    /// assert_eq!(short, InputSpec::literal("A.asm".into(), "src/main.asm".into())?);
    /// assert_eq!(InputSpec::parse("../lib/B.o".into())?.name.to_string(), "B.o");
    /// # Ok::<(), notapipe::run::SpecError>(())
    /// ```
    pub fn parse(word: OsString) -> Result<Self, SpecError> {
        match split(&word) {
            Some((name, source)) => Self::literal(name, source),
            None if word == "-" => Err(Role::Input.stream_without_name()),
            None => Ok(Self {
                name: own_name(&word)?,
                source: InputSource::Host(word.into()),
            }),
        }
    }

    /// What `--input` takes: a name and a source, whatever characters are in them; `-` is standard input.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in the mount; no source.
    pub fn literal(name: OsString, source: OsString) -> Result<Self, SpecError> {
        let name = Role::Input.name(name)?;
        let source = match source.as_bytes() {
            b"" => return Err(Role::Input.nothing_after(&name)),
            b"-" if name.is_root() => {
                return Err(SpecError::new(
                    "standard input is one file and cannot fill the whole mount",
                    "write -i NAME=-, or -i .=DIRECTORY",
                ));
            }
            b"-" => InputSource::Stdin,
            _ => InputSource::Host(source.into()),
        };
        Ok(Self { name, source })
    }
}

impl InputSource {
    /// What `--unpack` takes: an archive; `-` is standard input.
    ///
    /// # Errors
    ///
    /// No name at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::InputSource;
    ///
    /// assert_eq!(InputSource::archive("-".into())?, InputSource::Stdin);
    /// # Ok::<(), notapipe::run::SpecError>(())
    /// ```
    pub fn archive(word: OsString) -> Result<Self, SpecError> {
        match word.as_bytes() {
            b"" => Err(SpecError::new(
                "--unpack has nothing after it",
                "write --unpack FILE, or --unpack - for standard input",
            )),
            b"-" => Ok(Self::Stdin),
            _ => Ok(Self::Host(word.into())),
        }
    }
}

impl OutputSpec {
    /// What `-o` takes: `NAME` or `NAME=DEST`.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in the mount, or none at all.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::OutputSpec;
    ///
    /// let short = OutputSpec::parse("A.gb=/srv/".into())?;
    /// assert_eq!(short, OutputSpec::literal("A.gb".into(), "/srv/".into())?);
    /// # Ok::<(), notapipe::run::SpecError>(())
    /// ```
    pub fn parse(word: OsString) -> Result<Self, SpecError> {
        match split(&word) {
            Some((name, dest)) => Self::literal(name, dest),
            None if word == "-" => Err(Role::Output.stream_without_name()),
            None => Ok(Self::new(Role::Output.name(word)?)),
        }
    }

    /// What `--output` takes: a name and a destination, whatever characters are in them; `-` is standard output.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in the mount; no destination.
    pub fn literal(name: OsString, dest: OsString) -> Result<Self, SpecError> {
        let name = Role::Output.name(name)?;
        let dest = match dest.as_bytes() {
            // Whether it has to go anywhere is seen when the whole is known: an archive can take all of it.
            b"" if name.is_root() => OutputDest::own(&name),
            b"" => return Err(Role::Output.nothing_after(&name)),
            b"-" => OutputDest::Stdout,
            _ => OutputDest::Host(dest.into()),
        };
        Ok(Self { name, dest })
    }
}

impl MatchingOutput {
    /// What `--collect` takes: `PATTERN` or `PATTERN=DEST`.
    ///
    /// # Errors
    ///
    /// A pattern that is none; a destination that is standard output, which is one file.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::MatchingOutput;
    ///
    /// let roms = MatchingOutput::parse("build/*.gb=out".into())?;
    /// assert_eq!((roms.glob.as_str(), roms.dest.to_str()), ("build/*.gb", Some("out")));
    /// # Ok::<(), notapipe::run::SpecError>(())
    /// ```
    pub fn parse(word: OsString) -> Result<Self, SpecError> {
        let (pattern, dest) = match split(&word) {
            Some((pattern, dest)) => (pattern, Some(dest)),
            None => (word, None),
        };
        if pattern.is_empty() || dest.as_ref().is_some_and(|dest| dest.is_empty()) {
            return Err(SpecError::new(
                "--collect has nothing after it",
                "write --collect PATTERN, or --collect PATTERN=DIRECTORY",
            ));
        }
        // A byte that is not UTF-8 is any character: patterns are text.
        let pattern = String::from_utf8_lossy(pattern.as_bytes()).replace('\u{fffd}', "?");
        let glob = Glob::new(&pattern).map_err(|error| {
            SpecError::new(
                format!("the pattern {} cannot be used: {error}", quoted(&pattern)),
                "patterns are paths below the root of the mount, such as 'build/**/*.{gb,sym}'; [*] is a * as it is",
            )
        })?;
        match dest {
            Some(dest) if dest == "-" => Err(several_to_stdout(&pattern)),
            Some(dest) => {
                let dest = dest.into();
                Ok(Self { glob, dest })
            }
            None => Ok(Self::new(glob)),
        }
    }

    /// The words from which [`parse`](Self::parse) makes it.
    pub fn words(&self) -> OsString {
        let mut words = OsString::from(self.glob.as_str().replace('=', "[=]"));
        words.push("=");
        words.push(&self.dest);
        words
    }
}

/// Several files cannot go to standard output.
pub(super) fn several_to_stdout(what: &str) -> SpecError {
    SpecError::new(
        format!(
            "{} goes to standard output, which is one file",
            quoted(what)
        ),
        "write --pack - to have several files as a tar on standard output",
    )
}

impl PipedFile {
    /// What `--input-from` takes: a name, and the command that makes the file.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in the mount, the root, an empty command.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::PipedFile;
    ///
    /// assert_eq!(PipedFile::made("words".into(), "seq 9".into())?.command, "seq 9");
    /// assert!(PipedFile::read("words".into(), " ".into()).is_err());
    /// # Ok::<(), notapipe::run::SpecError>(())
    /// ```
    pub fn made(name: OsString, command: OsString) -> Result<Self, SpecError> {
        Self::parse(Role::Input, name, command)
    }

    /// What `--output-to` takes: a name, and the command that reads the file.
    ///
    /// # Errors
    ///
    /// As for [`made`](Self::made).
    pub fn read(name: OsString, command: OsString) -> Result<Self, SpecError> {
        Self::parse(Role::Output, name, command)
    }

    fn parse(role: Role, name: OsString, command: OsString) -> Result<Self, SpecError> {
        let name = role.name(name)?;
        let piped = Self { name, command };
        piped.check().map(|()| piped)
    }

    pub(super) fn check(&self) -> Result<(), SpecError> {
        if self.name.is_root() {
            return Err(SpecError::new(
                "a command makes or takes one file, and \".\" is the whole mount",
                "name a file; for all of it write --unpack or --pack, in a pipeline if need be",
            ));
        }
        if self.command.as_bytes().trim_ascii().is_empty() {
            return Err(SpecError::new(
                format!("the command for {:?} is empty", self.name),
                "write the name and then the command as one word: --input-from NAME 'COMMAND'",
            ));
        }
        Ok(())
    }
}

/// `NAME=VALUE`, of a step's environment.
///
/// # Errors
///
/// No name, or no `=`.
///
/// # Examples
///
/// ```
/// let variable = notapipe::run::variable("LC_ALL=C".into())?;
/// assert_eq!(variable, ("LC_ALL".into(), "C".into()));
/// # Ok::<(), notapipe::run::SpecError>(())
/// ```
pub fn variable(word: OsString) -> Result<(OsString, OsString), SpecError> {
    match split(&word) {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        _ => Err(SpecError::new(
            format!("the variable {} cannot be set", quoted(&word)),
            "write --env NAME=VALUE",
        )),
    }
}

/// The name of an input that was given by its source alone: the same relative path without its
/// dots, or the base name where that would leave the current directory.
fn own_name(source: &OsStr) -> Result<TreePath, SpecError> {
    let refused = |error| Role::Input.refused(source, error);
    if source.is_empty() {
        return Err(refused(PathError::Empty));
    }
    let mut inside: Vec<&[u8]> = Vec::new();
    for part in Path::new(source).components() {
        let outside = match part {
            Component::Normal(part) => {
                inside.push(part.as_bytes());
                false
            }
            Component::CurDir => false,
            Component::ParentDir => inside.pop().is_none(),
            Component::RootDir | Component::Prefix(_) => true,
        };
        if outside {
            let base = Path::new(source).file_name();
            let base = base.ok_or_else(|| {
                let shown = shown(source);
                SpecError::new(
                    format!("{} gives the input no name", quoted(source)),
                    format!("write -i NAME={shown}, or -i .={shown} to fill the root with it"),
                )
            })?;
            return TreePath::parse(base.as_bytes()).map_err(refused);
        }
    }
    if inside.is_empty() {
        return Ok(TreePath::root());
    }
    TreePath::parse(inside.join(&b'/')).map_err(refused)
}

/// At the first `=`.
fn split(word: &OsStr) -> Option<(OsString, OsString)> {
    let at = word.as_bytes().iter().position(|&byte| byte == b'=')?;
    let (name, value) = word.as_bytes().split_at(at);
    Some((
        OsString::from_vec(name.to_vec()),
        OsString::from_vec(value[1..].to_vec()),
    ))
}
