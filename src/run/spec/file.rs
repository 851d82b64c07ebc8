//! A specification in a file: as serde sees it.
//!
//! Values are the words of their options. What may be any bytes (names, arguments, content) is a string, or where it is
//! not UTF-8, or not to be seen on a terminal, the list of its bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::backing::Backing;
use super::super::cpus::Cpus;
use super::super::limits::ResourceLimits;
use super::super::own_tmp::Tmp;
use super::super::stdio::{Stdin, Stdout};
use super::entries::{SpecError, variable};
use super::words::{self, time_words};
use super::{
    InputSource, InputSpec, MatchingOutput, OutputDest, OutputSpec, PipedFile, Size, Verbosity,
};
use crate::fuse::Profile;
use crate::mount::Visibility;
use crate::store::TreePath;
use crate::text::{is_seen, quoted};

/// Whether a field need not be written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Any bytes.
struct Text(OsString);

/// What may stand in the text of a file that a terminal may show.
fn is_plain(c: char) -> bool {
    matches!(c, '\n' | '\t') || is_seen(c)
}

fn write_text<S: Serializer>(text: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    match text.to_str() {
        Some(text) if text.chars().all(is_plain) => serializer.serialize_str(text),
        _ => serializer.collect_seq(text.as_bytes()),
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_text(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words {
            expected: "a string, or a list of the bytes of a name that is not UTF-8",
            numbers: false,
            read: |word| Ok::<_, String>(Self(word)),
        })
    }
}

/// Reads a string or a list of bytes, and where they can be meant a number.
struct Words<F> {
    expected: &'static str,
    numbers: bool,
    read: F,
}

impl<F> Words<F> {
    fn number<T, E: de::Error>(
        self,
        number: impl fmt::Display,
        kind: de::Unexpected<'_>,
    ) -> Result<T, E>
    where
        F: FnOnce(OsString) -> Result<T, String>,
    {
        match self.numbers {
            true => (self.read)(number.to_string().into()).map_err(E::custom),
            false => Err(E::invalid_type(kind, &self.expected)),
        }
    }
}

impl<'de, T, F: FnOnce(OsString) -> Result<T, String>> Visitor<'de> for Words<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text.into()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.number(number, de::Unexpected::Signed(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.number(number, de::Unexpected::Unsigned(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.number(number, de::Unexpected::Float(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        let bytes = bytes_of(list)?;
        (self.read)(OsString::from_vec(bytes)).map_err(de::Error::custom)
    }
}

fn bytes_of<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<u8>, A::Error> {
    let mut bytes = Vec::new();
    while let Some(byte) = list.next_element()? {
        bytes.push(byte);
    }
    Ok(bytes)
}

/// A value that is written as the word of its option.
pub(super) trait Word: Sized {
    const NUMBERS: bool = false;
    fn read(word: OsString) -> Result<Self, String>;
    fn write(&self) -> OsString;
}

fn write_word<T: Word, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    write_text(&value.write(), serializer)
}

fn read_word<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Words {
        expected: "what the option of this name takes",
        numbers: T::NUMBERS,
        read: T::read,
    })
}

fn refused(word: &OsStr, why: impl fmt::Display) -> String {
    format!("{} cannot be used: {why}", quoted(word))
}

fn told(error: &SpecError) -> String {
    format!("{error}; {}", error.remedy())
}

/// Types whose words are text.
macro_rules! text_words {
    ($($type:ty: $read:expr, $write:expr;)*) => {$(
        impl Word for $type {
            const NUMBERS: bool = true;

            fn read(word: OsString) -> Result<Self, String> {
                let text = word.to_str().ok_or("it is not UTF-8".to_owned());
                text.and_then($read).map_err(|why| refused(&word, why))
            }

            fn write(&self) -> OsString {
                let write: fn(&Self) -> String = $write;
                write(self).into()
            }
        }
    )*};
}

text_words! {
    Size: words::size, Size::to_string;
    u64: words::inodes, u64::to_string;
    Duration: words::time, |time| time_words(*time);
    ResourceLimits: words::resource_limits, ResourceLimits::to_string;
    Cpus: words::cpus, Cpus::to_string;
    Visibility: str::parse, Visibility::to_string;
    Tmp: str::parse, Tmp::to_string;
    Profile: str::parse, Profile::to_string;
    Verbosity: str::parse, Verbosity::to_string;
}

impl Word for OsString {
    fn read(word: OsString) -> Result<Self, String> {
        Ok(word)
    }

    fn write(&self) -> OsString {
        self.clone()
    }
}

impl Word for PathBuf {
    fn read(word: OsString) -> Result<Self, String> {
        Ok(word.into())
    }

    fn write(&self) -> OsString {
        self.clone().into_os_string()
    }
}

impl Word for TreePath {
    fn read(word: OsString) -> Result<Self, String> {
        let below = "write a path below the root of the mount";
        TreePath::parse(word.as_bytes())
            .map_err(|error| refused(&word, format_args!("{error}; {below}")))
    }

    fn write(&self) -> OsString {
        self.to_path_buf().into()
    }
}

impl Word for MatchingOutput {
    fn read(word: OsString) -> Result<Self, String> {
        Self::parse(word).map_err(|error| told(&error))
    }

    fn write(&self) -> OsString {
        self.words()
    }
}

/// A variable.
impl Word for (OsString, OsString) {
    fn read(word: OsString) -> Result<Self, String> {
        variable(word).map_err(|error| told(&error))
    }

    fn write(&self) -> OsString {
        let (name, value) = self;
        let word = [name, OsStr::new("="), value].map(OsStr::as_bytes);
        OsString::from_vec(word.concat())
    }
}

/// Types of ours that are their words.
macro_rules! are_words {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                write_word(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_word(deserializer)
            }
        }
    )*};
}

are_words!(Size ResourceLimits Cpus Visibility Tmp Profile Verbosity TreePath MatchingOutput);

impl Serialize for Backing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Backing {
    /// Its name, or the value of `require-fuse`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrRequired;
        impl Visitor<'_> for NameOrRequired {
            type Value = Backing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a backing, or for require-fuse true or false")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Backing, E> {
                let backing = name.parse();
                backing.map_err(|why: String| E::custom(refused(name.as_ref(), why)))
            }

            fn visit_bool<E: de::Error>(self, required: bool) -> Result<Backing, E> {
                Ok(match required {
                    true => Backing::Fuse,
                    false => Backing::Auto,
                })
            }
        }
        deserializer.deserialize_any(NameOrRequired)
    }
}

/// For `#[serde(with)]`: types of others that are words, and lists of them.
pub(super) mod word {
    use super::*;

    /// One, or none, or several.
    pub trait Wrapped: Sized {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    }

    struct Borrowed<'v, T>(&'v T);
    struct Owned<T>(T);

    impl<T: Word> Serialize for Borrowed<'_, T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            write_word(self.0, serializer)
        }
    }

    impl<'de, T: Word> Deserialize<'de> for Owned<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            read_word(deserializer).map(Self)
        }
    }

    impl<T: Word> Wrapped for Option<T> {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.as_ref().map(Borrowed).serialize(serializer)
        }

        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Option::<Owned<T>>::deserialize(deserializer)?.map(|it| it.0))
        }
    }

    impl<T: Word> Wrapped for Vec<T> {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(self.iter().map(Borrowed))
        }

        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let list = Vec::<Owned<T>>::deserialize(deserializer)?;
            Ok(list.into_iter().map(|it| it.0).collect())
        }
    }

    impl Wrapped for OsString {
        fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            write_word(self, serializer)
        }

        fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            read_word(deserializer)
        }
    }

    pub fn serialize<T: Wrapped, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.write(serializer)
    }

    pub fn deserialize<'de, T: Wrapped, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        T::read(deserializer)
    }
}

/// The timeout, which is not zero.
pub(super) fn read_timeout<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let timeout: Option<Duration> = word::deserialize(deserializer)?;
    if timeout == Some(Duration::ZERO) {
        return Err(de::Error::custom(refused(
            OsStr::new("0"),
            words::timeout("0").unwrap_err(),
        )));
    }
    Ok(timeout)
}

/// What is the word of an option, or a table.
trait Entry: Sized {
    const EXPECTED: &'static str;
    type Table: Serialize + DeserializeOwned;
    fn of_word(word: OsString) -> Result<Self, String>;
    fn of_table(table: Self::Table) -> Result<Self, String>;
    /// As it is written: a word, or else a table.
    fn write(&self) -> Result<OsString, Self::Table>;
}

fn write_entry<T: Entry, S: Serializer>(entry: &T, serializer: S) -> Result<S::Ok, S::Error> {
    match entry.write() {
        Ok(word) => write_text(&word, serializer),
        Err(table) => table.serialize(serializer),
    }
}

fn read_entry<'de, T: Entry, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Either<T>(PhantomData<T>);
    impl<'de, T: Entry> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            T::of_word(text.into()).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
            let bytes = bytes_of(list)?;
            T::of_word(OsString::from_vec(bytes)).map_err(de::Error::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            let table = T::Table::deserialize(MapAccessDeserializer::new(map))?;
            T::of_table(table).map_err(de::Error::custom)
        }
    }
    deserializer.deserialize_any(Either(PhantomData))
}

macro_rules! are_entries {
    ($($type:ty)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                write_entry(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_entry(deserializer)
            }
        }
    )*};
}

are_entries!(InputSpec InputSource OutputSpec Stdin Stdout);

/// `{ name = "A.asm", source = "src/main.asm" }`, or `content` in the place of the source.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct InputTable {
    name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Text>,
}

impl Entry for InputSpec {
    const EXPECTED: &'static str = "a string as -i takes it, or a table with name and source";
    type Table = InputTable;

    fn of_word(word: OsString) -> Result<Self, String> {
        Self::parse(word).map_err(|error| told(&error))
    }

    fn of_table(table: InputTable) -> Result<Self, String> {
        let source = match (table.source, &table.content) {
            (Some(source), None) => source.0,
            // For the name alone.
            (None, Some(_)) => "content".into(),
            _ => return Err("an input has either a source or a content".to_owned()),
        };
        let input = Self::literal(table.name.0, source).map_err(|error| told(&error))?;
        Ok(match table.content {
            Some(content) => Self {
                source: InputSource::Bytes(content.0.into_vec().into()),
                ..input
            },
            None => input,
        })
    }

    fn write(&self) -> Result<OsString, InputTable> {
        let (source, content) = match &self.source {
            InputSource::Host(path) => (Some(Text(path.into())), None),
            InputSource::Stdin => (Some(Text("-".into())), None),
            InputSource::Bytes(bytes) => (None, Some(content(bytes))),
        };
        Err(InputTable {
            name: Text(self.name.to_path_buf().into()),
            source,
            content,
        })
    }
}

fn content(bytes: &Bytes) -> Text {
    Text(OsString::from_vec(bytes.to_vec()))
}

/// `{ content = "…" }`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ContentTable {
    content: Text,
}

impl Entry for InputSource {
    const EXPECTED: &'static str = "a string as --unpack takes it, or a table with content";
    type Table = ContentTable;

    fn of_word(word: OsString) -> Result<Self, String> {
        Self::archive(word).map_err(|error| told(&error))
    }

    fn of_table(table: ContentTable) -> Result<Self, String> {
        Ok(Self::Bytes(table.content.0.into_vec().into()))
    }

    fn write(&self) -> Result<OsString, ContentTable> {
        match self {
            Self::Host(path) => Ok(path.into()),
            Self::Stdin => Ok("-".into()),
            Self::Bytes(bytes) => Err(ContentTable {
                content: content(bytes),
            }),
        }
    }
}

/// `{ name = "A.gb", dest = "out/" }`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OutputTable {
    name: Text,
    dest: Text,
}

impl Entry for OutputSpec {
    const EXPECTED: &'static str = "a string as -o takes it, or a table with name and dest";
    type Table = OutputTable;

    fn of_word(word: OsString) -> Result<Self, String> {
        Self::parse(word).map_err(|error| told(&error))
    }

    fn of_table(table: OutputTable) -> Result<Self, String> {
        Self::literal(table.name.0, table.dest.0).map_err(|error| told(&error))
    }

    fn write(&self) -> Result<OsString, OutputTable> {
        Err(OutputTable {
            name: Text(self.name.to_path_buf().into()),
            dest: match &self.dest {
                OutputDest::Host(path) => Text(path.into()),
                OutputDest::Stdout => Text("-".into()),
            },
        })
    }
}

/// `{ name = "words", command = "gzip -dc words.gz" }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipedTable {
    name: Text,
    command: Text,
}

/// A file that a command makes, or reads.
struct Piped<const MADE: bool>(PipedFile);

impl<'de, const MADE: bool> Deserialize<'de> for Piped<MADE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PipedTable { name, command } = PipedTable::deserialize(deserializer)?;
        let piped = match MADE {
            true => PipedFile::made(name.0, command.0),
            false => PipedFile::read(name.0, command.0),
        };
        let told = |error| de::Error::custom(told(&error));
        piped.map(Self).map_err(told)
    }
}

/// Of `input-from` (`MADE`) or `output-to`.
pub(super) fn read_piped<'de, const MADE: bool, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PipedFile>, D::Error> {
    let list = Vec::<Piped<MADE>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|it| it.0).collect())
}

/// What a standard stream is besides a file in the mount.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StreamTable {
    /// `{ stream = "null" }`
    Stream(Text),
    /// `{ content = "…" }`, for an input.
    Content(Text),
}

impl Entry for Stdin {
    const EXPECTED: &'static str =
        "the name of a file in the mount, or a table with content or stream";
    type Table = StreamTable;

    fn of_word(word: OsString) -> Result<Self, String> {
        Word::read(word).map(Self::File)
    }

    fn of_table(table: StreamTable) -> Result<Self, String> {
        match table {
            StreamTable::Content(content) => Ok(Self::Bytes(content.0.into_vec().into())),
            StreamTable::Stream(Text(name)) => match name.to_str() {
                Some("null") => Ok(Self::Null),
                Some("inherit") => Ok(Self::Inherit),
                _ => Err(refused(&name, "write null or inherit")),
            },
        }
    }

    fn write(&self) -> Result<OsString, StreamTable> {
        let stream = |name: &str| Err(StreamTable::Stream(Text(name.into())));
        match self {
            Self::Null => stream("null"),
            Self::Inherit => stream("inherit"),
            Self::Bytes(bytes) => Err(StreamTable::Content(content(bytes))),
            Self::File(name) => Ok(Word::write(name)),
        }
    }
}

impl Entry for Stdout {
    const EXPECTED: &'static str = "the name of a file in the mount, or a table with stream";
    type Table = StreamTable;

    fn of_word(word: OsString) -> Result<Self, String> {
        Word::read(word).map(Self::File)
    }

    fn of_table(table: StreamTable) -> Result<Self, String> {
        let StreamTable::Stream(Text(name)) = table else {
            return Err("an output has no content".to_owned());
        };
        match name.to_str() {
            Some("capture") => Ok(Self::Capture),
            Some("null") => Ok(Self::Null),
            Some("inherit") => Ok(Self::Inherit),
            Some("stderr") => Ok(Self::Stderr),
            _ => Err(refused(&name, "write capture, null, inherit or stderr")),
        }
    }

    fn write(&self) -> Result<OsString, StreamTable> {
        let stream = |name: &str| Err(StreamTable::Stream(Text(name.into())));
        match self {
            Self::Capture => stream("capture"),
            Self::Null => stream("null"),
            Self::Inherit => stream("inherit"),
            Self::Stderr => stream("stderr"),
            Self::File(name) => Ok(Word::write(name)),
        }
    }
}
