//! `--job FILE.toml` and `--print-job`: a job as a file, with the names of the options as keys.
//!
//! A value is read and written exactly as its option is, by the same functions. What every field of
//! [`RunConfig`] becomes is said in one exhaustive pattern, so that a new field cannot be forgotten.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use notapipe::store::TreePath;
use notapipe::text::{is_seen, quoted, shown};
use serde::de::{self, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::config::{
    Backing, Input, InputSource, LimitsWanted, Output, OutputDest, Packing, Piped, Profile,
    RunConfig, Step, Tmp, Verbosity, Visibility,
};
use super::cpus::{self, CpusWanted};
use super::grammar::{self, Role, UsageError};
use super::in_out;
use super::limits::{self, ResourcesWanted};
use super::nearest::nearest;
use super::size::{self, Patience, Size};
use super::{steps, streams};

/// Far more than a person writes; what is longer is not a job file.
const BYTES_MAX: u64 = 16 << 20;

/// What a job file says. Lists that are missing are empty, and options that are missing are not
/// given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JobFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Worded<Size>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<Worded<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Worded<Visibility>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp: Option<Worded<Tmp>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Worded<Duration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after: Option<Worded<Patience>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<Worded<Patience>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Worded<ResourcesWanted>>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_other: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub xattr: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Worded<Profile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Worded<CpusWanted>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<InMount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_on_failure: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<Worded<Backing>>,
    /// Another name of the backing `fuse`.
    #[serde(default, skip_serializing)]
    pub require_fuse: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<Worded<Verbosity>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpack: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collect: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input: Vec<Entry<Input>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<Entry<Output>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optional: Vec<Entry<Output>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_from: Vec<PipedEntry<true>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_to: Vec<PipedEntry<false>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step: Vec<StepEntry>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// One command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StepEntry {
    command: Vec<Text>,
    #[serde(default, skip_serializing_if = "is_false")]
    pipe: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<InMount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<InMount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<InMount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<Variable>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chdir: Option<InMount>,
}

impl From<Step> for StepEntry {
    fn from(step: Step) -> Self {
        let Step {
            argv,
            reads_pipe,
            stdin,
            stdout,
            stderr,
            env,
            directory,
        } = step;
        Self {
            command: argv.into_iter().map(Text).collect(),
            pipe: reads_pipe,
            stdin: stdin.map(InMount),
            stdout: stdout.map(InMount),
            stderr: stderr.map(InMount),
            env: env.into_iter().map(Variable).collect(),
            chdir: directory.map(InMount),
        }
    }
}

impl From<StepEntry> for Step {
    fn from(entry: StepEntry) -> Self {
        let StepEntry {
            command,
            pipe,
            stdin,
            stdout,
            stderr,
            env,
            chdir,
        } = entry;
        Self {
            argv: command.into_iter().map(|word| word.0).collect(),
            reads_pipe: pipe,
            stdin: stdin.map(|it| it.0),
            stdout: stdout.map(|it| it.0),
            stderr: stderr.map(|it| it.0),
            env: env.into_iter().map(|it| it.0).collect(),
            directory: chdir.map(|it| it.0),
        }
    }
}

/// A file and the command that makes it (an input) or takes it.
#[derive(Debug)]
pub struct PipedEntry<const INPUT: bool>(pub Piped);

/// `{ name = "words", command = "gzip -dc words.gz" }`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PipedTable {
    name: Text,
    command: Text,
}

impl<const INPUT: bool> Serialize for PipedEntry<INPUT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Piped { name, command } = self.0.clone();
        let table = PipedTable {
            name: name.to_path_buf().into(),
            command: Text(command),
        };
        table.serialize(serializer)
    }
}

impl<'de, const INPUT: bool> Deserialize<'de> for PipedEntry<INPUT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PipedTable { name, command } = PipedTable::deserialize(deserializer)?;
        let role = if INPUT { Role::Input } else { Role::Output };
        let piped = in_out::piped(role, name.0, command.0);
        piped.map(Self).map_err(|error| refused(&error))
    }
}

/// A path in the mount.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Text")]
pub struct InMount(pub TreePath);

impl Serialize for InMount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self.0.to_path_buf().as_os_str(), serializer)
    }
}

impl TryFrom<Text> for InMount {
    type Error = Told;

    fn try_from(Text(name): Text) -> Result<Self, Told> {
        let path = TreePath::parse(name.as_bytes());
        path.map(InMount).map_err(|error| {
            let remedy = "write a path below the root of the mount";
            Told(format!(
                "{} cannot be used: {error}{REMEDY}{remedy}",
                quoted(&name)
            ))
        })
    }
}

/// `NAME=VALUE`
#[derive(Debug, Deserialize)]
#[serde(try_from = "Text")]
pub struct Variable((OsString, OsString));

impl Serialize for Variable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, value) = &self.0;
        let word = [name, OsStr::new("="), value].map(OsStr::as_bytes).concat();
        text(OsStr::from_bytes(&word), serializer)
    }
}

impl TryFrom<Text> for Variable {
    type Error = Told;

    fn try_from(Text(word): Text) -> Result<Self, Told> {
        let variable = steps::variable(word).map(Variable);
        variable.map_err(|error| Told(format!("{error}{REMEDY}{}", error.remedy())))
    }
}

/// An error and its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Told(String);

/// Why a job file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobFileError {
    #[error("cannot read the job file {file}: {error}", file = quoted(file))]
    Read { file: PathBuf, error: String },
    #[error("{}:{line}: {message}", shown(file))]
    Wrong {
        file: PathBuf,
        /// The first is 1.
        line: usize,
        message: String,
        remedy: String,
    },
}

impl JobFileError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Read { .. } => {
                "write --job FILE.toml, or --job - for standard input; --print-job writes one"
                    .to_owned()
            }
            Self::Wrong { remedy, .. } => remedy.clone(),
        }
    }
}

impl JobFile {
    /// Reads one; `-` is standard input.
    ///
    /// # Errors
    ///
    /// [`JobFileError`], with the line that cannot be used.
    pub fn read(file: &Path) -> Result<Self, JobFileError> {
        let text = read_text(file).map_err(|error| JobFileError::Read {
            file: file.to_path_buf(),
            error: super::report::chain(&error),
        })?;
        Self::parse(&text, file)
    }

    fn parse(text: &str, file: &Path) -> Result<Self, JobFileError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.as_bytes().get(..at).unwrap_or_default();
            let (message, remedy) = explain(error.message());
            JobFileError::Wrong {
                file: file.to_path_buf(),
                line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
                message,
                remedy,
            }
        })
    }

    /// The file from which the same configuration is read.
    pub fn text(self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(&self)
    }
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        streams::input()?
            .take(BYTES_MAX + 1)
            .read_to_string(&mut text)?;
    } else {
        File::open(file)?
            .take(BYTES_MAX + 1)
            .read_to_string(&mut text)?;
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is longer than 16 MiB"));
    }
    Ok(text)
}

/// serde's words in ours, with what to do.
///
/// An unknown key is told by serde as ``unknown field `x`, expected one of `a`, `b` ``.
fn explain(message: &str) -> (String, String) {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut quoted = rest.split('`').skip(1).step_by(2);
        let unknown = quoted.next().unwrap_or_default();
        let known: Vec<&str> = quoted.collect();
        let remedy = match nearest(unknown, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        return (format!("unknown key `{unknown}`"), remedy);
    }
    // Errors of ours carry their remedy.
    match message.split_once(REMEDY) {
        Some((message, remedy)) => (message.to_owned(), remedy.to_owned()),
        None => (
            message.trim().replace('\n', ", "),
            "notapipe run --help explains job files; --print-job writes one".to_owned(),
        ),
    }
}

/// Between an error and its remedy, where both go through serde as one text.
const REMEDY: &str = "\0";

fn refused<E: de::Error>(error: &UsageError) -> E {
    E::custom(format_args!("{error}{REMEDY}{}", error.remedy()))
}

impl From<RunConfig> for JobFile {
    fn from(config: RunConfig) -> Self {
        let RunConfig {
            unpack,
            inputs,
            outputs,
            optional,
            collect,
            changed,
            input_from,
            output_to,
            pack,
            follow,
            steps,
            limits: LimitsWanted { size, inodes },
            at,
            visibility,
            tmp,
            timeout,
            kill_after,
            resources,
            settle,
            allow_other,
            extended_attributes,
            profile,
            cpus,
            report,
            keep_on_failure,
            backing,
            verbosity,
        } = config;
        Self {
            size: size.map(Worded),
            inodes: inodes.map(Worded),
            at: at.map(Text::from),
            mount: unless_default(visibility),
            tmp: unless_default(tmp),
            timeout: timeout.map(Worded),
            kill_after: kill_after.map(Worded),
            settle: settle.map(Worded),
            limit: unless_default(resources),
            allow_other,
            xattr: extended_attributes,
            profile: profile.map(Worded),
            cpus: unless_default(cpus),
            follow: follow.map(InMount),
            report: report.map(Text::from),
            keep_on_failure: keep_on_failure.map(Text::from),
            backing: unless_default(backing),
            require_fuse: false,
            verbosity: unless_default(verbosity),
            changed: changed.map(Text::from),
            pack: pack.map(|packing| {
                Text(in_out::stream_words(match packing {
                    Packing::File { place, .. } => Some(place),
                    Packing::Stdout => None,
                }))
            }),
            unpack: unpack
                .into_iter()
                .map(|source| {
                    Text(in_out::stream_words(match source {
                        InputSource::Host(path) => Some(path),
                        InputSource::Stdin => None,
                    }))
                })
                .collect(),
            collect: collect
                .into_iter()
                .map(|matching| Text(in_out::collect_words(matching)))
                .collect(),
            input: inputs.into_iter().map(Entry).collect(),
            output: outputs.into_iter().map(Entry).collect(),
            optional: optional.into_iter().map(Entry).collect(),
            input_from: input_from.into_iter().map(PipedEntry).collect(),
            output_to: output_to.into_iter().map(PipedEntry).collect(),
            step: steps.into_iter().map(StepEntry::from).collect(),
        }
    }
}

fn unless_default<T: Default + PartialEq>(value: T) -> Option<Worded<T>> {
    (value != T::default()).then_some(Worded(value))
}

/// Any bytes without a NUL, such as a path: a string, or where it is not UTF-8 or cannot be seen the list of its bytes.
#[derive(Debug)]
pub struct Text(pub OsString);

impl From<PathBuf> for Text {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(&self.0, serializer)
    }
}

/// What may stand in the text of a file that a terminal may show.
fn is_plain(c: char) -> bool {
    matches!(c, '\n' | '\t') || is_seen(c)
}

fn text<S: Serializer>(text: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    match text.to_str() {
        Some(text) if text.chars().all(is_plain) => serializer.serialize_str(text),
        _ => serializer.collect_seq(text.as_bytes()),
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of the bytes of a name that is not UTF-8")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                let mut bytes: Vec<u8> = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Text(OsString::from_vec(bytes)))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// A value in the words that its option takes.
#[derive(Debug)]
pub struct Worded<T>(pub T);

/// What can be a [`Worded`].
pub trait Words: Sized {
    /// As the option reads it.
    fn read(text: &str) -> Result<Self, String>;
    /// What [`read`](Self::read) takes.
    fn write(&self) -> String;
}

impl<T: Words> Serialize for Worded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<'de, T: Words> Deserialize<'de> for Worded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value<T>(PhantomData<T>);
        impl<T: Words> Visitor<'_> for Value<T> {
            type Value = Worded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what the option of this name takes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Worded<T>, E> {
                let explained =
                    |remedy| E::custom(format_args!("{text:?} cannot be used{REMEDY}{remedy}"));
                T::read(text).map(Worded).map_err(explained)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Worded<T>, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Worded<T>, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Value(PhantomData))
    }
}

impl Words for Size {
    fn read(text: &str) -> Result<Self, String> {
        size::size(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Words for u64 {
    fn read(text: &str) -> Result<Self, String> {
        size::inodes(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Words for Duration {
    fn read(text: &str) -> Result<Self, String> {
        size::timeout(text)
    }

    fn write(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Words for Patience {
    fn read(text: &str) -> Result<Self, String> {
        size::patience(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Words for ResourcesWanted {
    fn read(text: &str) -> Result<Self, String> {
        limits::resources(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Words for CpusWanted {
    fn read(text: &str) -> Result<Self, String> {
        cpus::cpus(text)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Words for Visibility {
    fn read(text: &str) -> Result<Self, String> {
        value_enum(text)
    }

    fn write(&self) -> String {
        value_name(self)
    }
}

impl Words for Tmp {
    fn read(text: &str) -> Result<Self, String> {
        value_enum(text)
    }

    fn write(&self) -> String {
        value_name(self)
    }
}

impl Words for Backing {
    fn read(text: &str) -> Result<Self, String> {
        value_enum(text)
    }

    fn write(&self) -> String {
        value_name(self)
    }
}

impl Words for Profile {
    fn read(text: &str) -> Result<Self, String> {
        value_enum(text)
    }

    fn write(&self) -> String {
        value_name(self)
    }
}

impl Words for Verbosity {
    fn read(text: &str) -> Result<Self, String> {
        value_enum(text)
    }

    fn write(&self) -> String {
        value_name(self)
    }
}

fn value_enum<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<String> = T::value_variants().iter().map(value_name).collect();
        format!("write one of {}", names.join(", "))
    })
}

fn value_name<T: ValueEnum>(value: &T) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// An input or an output: the value of its option, or a table that takes it apart.
#[derive(Debug)]
pub struct Entry<T>(pub T);

/// What can be an [`Entry`].
trait Listed: Sized {
    const EXPECTED: &'static str;
    /// The keys of its table.
    type Table: Serialize + for<'de> Deserialize<'de>;
    /// The value of the option.
    fn short(value: OsString) -> Result<Self, UsageError>;
    fn from_table(table: Self::Table) -> Result<Self, UsageError>;
    fn table(&self) -> Self::Table;
}

/// `{ name = "A.asm", source = "src/main.asm" }`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct InputTable {
    name: Text,
    source: Text,
}

/// `{ name = "A.gb", dest = "out/" }`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutputTable {
    name: Text,
    dest: Text,
}

impl Listed for Input {
    const EXPECTED: &'static str = "a string as -i takes it, or a table with name and source";
    type Table = InputTable;

    fn short(value: OsString) -> Result<Self, UsageError> {
        grammar::input(value)
    }

    fn from_table(InputTable { name, source }: InputTable) -> Result<Self, UsageError> {
        grammar::literal_input(name.0, source.0)
    }

    fn table(&self) -> InputTable {
        InputTable {
            name: self.name.to_path_buf().into(),
            source: match &self.source {
                InputSource::Host(path) => path.clone().into(),
                InputSource::Stdin => Text("-".into()),
            },
        }
    }
}

impl Listed for Output {
    const EXPECTED: &'static str = "a string as -o takes it, or a table with name and dest";
    type Table = OutputTable;

    fn short(value: OsString) -> Result<Self, UsageError> {
        grammar::output(value)
    }

    fn from_table(OutputTable { name, dest }: OutputTable) -> Result<Self, UsageError> {
        grammar::literal_output(name.0, dest.0)
    }

    fn table(&self) -> OutputTable {
        OutputTable {
            name: self.name.to_path_buf().into(),
            dest: match &self.dest {
                OutputDest::Host(path) => path.clone().into(),
                OutputDest::Stdout => Text("-".into()),
            },
        }
    }
}

impl<T: Listed> Serialize for Entry<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.table().serialize(serializer)
    }
}

impl<'de, T: Listed> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Listed> Visitor<'de> for Either<T> {
            type Value = Entry<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entry<T>, E> {
                T::short(text.into())
                    .map(Entry)
                    .map_err(|error| refused(&error))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Entry<T>, A::Error> {
                let table = T::Table::deserialize(MapAccessDeserializer::new(map))?;
                T::from_table(table)
                    .map(Entry)
                    .map_err(|error| refused(&error))
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::CommandFactory;

    use super::super::{Command, RefusalKind, args::Cli, parse};
    use super::*;

    fn run(line: Vec<OsString>) -> Result<RunConfig, UsageError> {
        let program = ["notapipe", "run"].map(OsString::from);
        match parse(program.into_iter().chain(line)) {
            Ok(Command::Run(config)) => Ok(*config),
            Err(refusal) => match refusal.kind {
                RefusalKind::Usage { error, .. } => Err(error),
                other @ RefusalKind::Clap(_) => panic!("{other:?}"),
            },
            Ok(other) => panic!("{other:?}"),
        }
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    /// The job of a file with this text and of these further words.
    fn run_file(text: &str, line: &[&str]) -> Result<RunConfig, UsageError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let job = [OsString::from("--job"), file.path().into()];
        run(job.into_iter().chain(words(line)).collect())
    }

    #[test]
    fn what_is_printed_is_the_same_job() {
        let odd = OsString::from_vec(b"-o\xff\n=x".to_vec());
        let lines = [
            words(&["--", "true"]),
            words(&[
                "-i", "A.asm", "-i", "x=-", "--input", "a=b", "-", "-i", ".=/usr", "-o",
                "out/A.gb", "-o", "y=-", "--output", "z=", "d/", "--", "a b", "\"'\\\n", "--then",
                "b", "", "é",
            ]),
            words(&[
                "--size",
                "512M",
                "--inodes",
                "64K",
                "--at",
                "/mnt",
                "--mount",
                "public",
                "--tmp",
                "host",
                "--timeout",
                "1.5",
                "--limit",
                "cpu=1.5s,memory=2G,processes=3,files=9",
                "--follow",
                "log",
                "--kill-after",
                "2s",
                "--settle",
                "0",
                "--allow-other",
                "--xattr",
                "--profile",
                "observed",
                "--cpus",
                "0,2-3",
                "--report",
                "r.json",
                "--backing",
                "tmpfs",
                "--keep-on-failure",
                "left.tar",
                "-vv",
                "--",
                "true",
            ]),
            words(&[
                "--",
                "--stdin",
                "a=b",
                "--env",
                "X=1=2",
                "--env=Y=",
                "--chdir",
                "d",
                "cat",
                "--pipe",
                "--stdout",
                "o",
                "--stderr=o",
                "--",
                "--x",
                "--then",
                "y",
            ]),
            words(&[
                "--size",
                "50%",
                "--timeout",
                "1h 30m 1ns",
                "--cpus",
                "one",
                "-q",
                "--",
                "x",
            ]),
            vec![odd.clone(), "--".into(), "tool".into(), odd],
        ];
        for line in lines {
            // Two inputs cannot both be standard input: one of them is a file of that name here.
            let line = line.into_iter().map(|word| match word.to_str() {
                Some("-") => "./-".into(),
                _ => word,
            });
            let config = run(line.collect()).unwrap();
            let text = JobFile::from(config.clone()).text().unwrap();
            let back = run_file(&text, &[]).unwrap_or_else(|error| panic!("{error}:\n{text}"));
            assert_eq!(back, config, "{text}");
        }
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let text = r#"
            timeout = 30
            size = "1M"
            verbosity = "quiet"
            input = ["a", { name = "b", source = "of-file" }]
            output = ["c"]
            [[step]]
            command = ["of-file"]
        "#;
        let config = run_file(
            text,
            &["--size", "2M", "-i", "b=mine", "-i", "d", "-o", "e"],
        )
        .unwrap();
        let expected = words(&[
            "--timeout",
            "30s",
            "--size",
            "2M",
            "-q",
            "-i",
            "a",
            "-i",
            "b=mine",
            "-i",
            "d",
            "-o",
            "c",
            "-o",
            "e",
            "--",
            "of-file",
        ]);
        assert_eq!(config, run(expected).unwrap());
        let config = run_file(text, &["-v", "--", "x", "--then", "y"]).unwrap();
        assert_eq!(config.verbosity, Verbosity::Verbose);
        let tools: Vec<_> = config.steps.iter().map(|step| &step.argv[0]).collect();
        assert_eq!(tools, ["x", "y"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let step = "[[step]]\ncommand = [\"true\"]\n";
        let table: &[(&str, usize, &str, &str)] = &[
            (
                "\ninptu = []\n",
                2,
                "unknown key `inptu`",
                "did you mean `input`?",
            ),
            (
                "time-out = 3\n",
                1,
                "unknown key `time-out`",
                "did you mean `timeout`?",
            ),
            (
                "\n\nzzz = 1\n",
                3,
                "unknown key `zzz`",
                "the keys here are size, inodes",
            ),
            (
                "[[step]]\ncomand = []\n",
                2,
                "unknown key `comand`",
                "did you mean `command`?",
            ),
            ("[[step]]\n", 1, "missing field `command`", "--print-job"),
            (
                "[[step]]\ncommand = \"make all\"\n",
                2,
                "invalid type: string",
                "--print-job",
            ),
            (
                "[[input]]\nname = \"a\"\nsrc = \"b\"\n",
                3,
                "unknown key `src`",
                "`source`",
            ),
            (
                "input = [\n\"a\",\n\"../..\"]\n",
                3,
                "\"../..\" gives the input no name",
                "-i NAME=../..",
            ),
            (
                "output = [\"/x\"]\n",
                1,
                "the output name \"/x\"",
                "-o x=DEST",
            ),
            (
                "output = [{ name = \"../x\", dest = \"y\" }]\n",
                1,
                "climbs",
                "-o x=DEST",
            ),
            (
                "input = [3]\n",
                1,
                "invalid type: integer `3`",
                "--print-job",
            ),
            ("timeout = \"soon\"\n", 1, "\"soon\" cannot be used", "30s"),
            ("timeout = -1\n", 1, "\"-1\" cannot be used", "30s"),
            ("size = 1\n", 1, "\"1\" cannot be used", "one page"),
            ("size = true\n", 1, "invalid type: boolean", "--print-job"),
            (
                "mount = \"secret\"\n",
                1,
                "\"secret\" cannot be used",
                "auto, private, public",
            ),
            (
                "verbosity = \"loud\"\n",
                1,
                "\"loud\" cannot be used",
                "quiet, normal",
            ),
            ("cpus = \"x\"\n", 1, "\"x\" cannot be used", "0,2-3"),
            (
                "allow-other = \"yes\"\n",
                1,
                "invalid type: string",
                "--print-job",
            ),
            ("at = [300]\n", 1, "300", "--print-job"),
            (
                "size = \"1M\"\nsize = \"2M\"\n",
                2,
                "duplicate key",
                "--print-job",
            ),
            (
                "[[step]]\ncommand=[\"x\"]\nstdin=\"../x\"",
                3,
                "\"../x\" cannot be used",
                "below",
            ),
            (
                "[[step]]\ncommand=[\"x\"]\nenv=[\"=x\"]",
                3,
                "\"=x\" cannot be set",
                "NAME=VALUE",
            ),
            ("size = \n", 1, "", "--print-job"),
            ("a b\n", 1, "", "--print-job"),
        ];
        for (text, line, message, remedy) in table {
            let error = run_file(text, &["--", "true"]).expect_err(text);
            let told = format!("{error}; {}", error.remedy());
            assert!(told.contains(&format!(":{line}: ")), "{text:?}: {told}");
            assert!(
                told.contains(message) && told.contains(remedy),
                "{text:?}: {told}"
            );
            assert!(
                !told.contains('\n') && !told.contains('\0'),
                "{text:?}: {told}"
            );
        }
        assert!(run_file(step, &[]).is_ok());
        let nothing = run_file("size = \"1M\"", &[]).unwrap_err();
        assert_eq!(nothing, steps::StepError::NoCommand.into());
        let gone = run(words(&["--job", "/nonexistent/job.toml"])).unwrap_err();
        assert!(
            gone.to_string()
                .contains("\"/nonexistent/job.toml\": No such file"),
            "{gone}"
        );
    }

    #[test]
    fn every_option_has_its_key() {
        // What is about the command line itself, or has a key of another name.
        const WITHOUT: [&str; 8] = [
            "job",
            "print-job",
            "shell",
            "then-word",
            "pipe-word",
            "verbose",
            "quiet",
            "help",
        ];
        let error = toml::from_str::<JobFile>("x = 1").unwrap_err();
        let keys: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand("run").unwrap();
        for option in run.get_arguments().filter_map(|it| it.get_long()) {
            assert!(
                WITHOUT.contains(&option) || keys.contains(&option),
                "--{option}"
            );
        }
    }
}
