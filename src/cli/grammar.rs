//! From words to values: what the options of `run` mean, and what is refused.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Bound;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use notapipe::store::{PathError, TreePath};
use notapipe::text::{quoted, shown};

use super::args::{Order, RunArgs};
use super::config::{
    Backing, Input, InputSource, LimitsWanted, Output, OutputDest, Packing, RunConfig, Step,
};
use super::in_out::{self, InOutError};
use super::job_file::{JobFile, JobFileError, Text};
use super::mount_options::MountOptionError;
use super::steps::{self, StepError};
use super::stray::Stray;

/// A command line whose words clap accepts and which makes no sense.
///
/// The message names the value; [`remedy`](Self::remedy) says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("the {role} name {name} cannot be used: {error}", name = quoted(name))]
    Name {
        role: Role,
        name: OsString,
        error: PathError,
    },
    #[error("{value} gives the input no name", value = quoted(value))]
    NoBaseName { value: OsString },
    #[error("standard {stream} has no name to stand under in the mount", stream = role.stream())]
    StreamWithoutName { role: Role },
    #[error("the {role} {name:?} has nothing after its name")]
    NoPlace { role: Role, name: TreePath },
    #[error("two {role}s are named {name:?}")]
    Repeated { role: Role, name: TreePath },
    #[error("{first:?} and {second:?} cannot both be standard {stream}", stream = role.stream())]
    StreamTwice {
        role: Role,
        first: TreePath,
        second: TreePath,
    },
    #[error("the input {file:?} is a file, and the {role} {below:?} would lie in it")]
    InFile {
        file: TreePath,
        role: Role,
        below: TreePath,
    },
    #[error("the literal form {option} lacks a value: the next word is `--`")]
    NoValue { option: &'static str },
    #[error("standard input is one file and cannot fill the whole mount")]
    RootFromStdin,
    #[error("{file} is a file and cannot fill the whole mount", file = quoted(file))]
    RootFromFile { file: PathBuf },
    #[error("the output \".\" would deliver everything in the mount over the current directory")]
    RootOutput,
    #[error("{word} stands before the `--`", word = quoted(&.0.word))]
    Stray(Stray),
    #[error("{word} stands before the `--`, and belongs to a step", word = quoted(word))]
    OfSteps { word: String },
    #[error(
        "the shell would have to read its commands from standard input, which is the input {name:?}"
    )]
    ShellWithoutInput { name: TreePath },
    #[error("{follow:?} is followed on standard output, where the output {output:?} would go too")]
    FollowAndOutput { follow: TreePath, output: TreePath },
    #[error("{follow:?} is followed on standard output, where the archive of --pack would go too")]
    FollowAndPack { follow: TreePath },
    #[error("the report would go to standard output, where something else of the job goes")]
    ReportAndOutput,
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    MountOption(#[from] MountOptionError),
    #[error(transparent)]
    JobFile(#[from] JobFileError),
    #[error(transparent)]
    InOut(#[from] InOutError),
}

impl From<Stray> for UsageError {
    fn from(stray: Stray) -> Self {
        Self::Stray(stray)
    }
}

/// Which side of a job something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Input,
    Output,
}

impl Role {
    fn stream(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Input => "-i",
            Self::Output => "-o",
        }
    }

    fn place(self) -> &'static str {
        match self {
            Self::Input => "SRC",
            Self::Output => "DEST",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.stream())
    }
}

impl UsageError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Name { role, error, name } => {
                let (option, place) = (role.option(), role.place());
                match error {
                    PathError::Empty => {
                        format!("write {option} NAME={place}, such as {option} A.asm=src/main.asm")
                    }
                    PathError::Absolute | PathError::Climbs => {
                        let base = Path::new(name).file_name().unwrap_or(OsStr::new("NAME"));
                        format!(
                            "names are paths below the root of the mount: write {option} {}={place}",
                            shown(base)
                        )
                    }
                    _ => format!("choose a shorter one: {option} NAME={place}"),
                }
            }
            Self::NoBaseName { value } => format!(
                "write -i NAME={0}, or -i .={0} to fill the root with it",
                shown(value)
            ),
            Self::StreamWithoutName { role } => {
                format!("write {0} NAME=-, such as {0} data.bin=-", role.option())
            }
            Self::NoPlace {
                role: Role::Input,
                name,
            } => {
                format!("write -i {name}=SRC, or -i {name}=- for standard input")
            }
            Self::NoPlace {
                role: Role::Output,
                name,
            } => {
                format!("write -o {name}=DEST, -o {name}=- for standard output, or -o {name}")
            }
            Self::Repeated { role, .. } => {
                format!(
                    "give each {role} its own name with {} NAME={}",
                    role.option(),
                    role.place()
                )
            }
            Self::StreamTwice {
                role: Role::Input, ..
            } => "read the other one from a file, or from /dev/fd/N".to_owned(),
            Self::StreamTwice {
                role: Role::Output, ..
            } => "deliver the other one to a file, or to /dev/fd/N".to_owned(),
            Self::InFile { role, .. } => {
                format!(
                    "choose another name with {} NAME={}",
                    role.option(),
                    role.place()
                )
            }
            Self::NoValue { option } => {
                format!("write {option} with two values; a file of that name is ./--")
            }
            Self::ShellWithoutInput { name } => {
                format!("stage it from a file: -i {name}=SRC")
            }
            Self::RootFromStdin => "write -i NAME=-, or -i .=DIRECTORY".to_owned(),
            Self::RootFromFile { file } => {
                format!("write -i NAME={}, or -i .=DIRECTORY", shown(file))
            }
            Self::RootOutput => {
                "write -o .=DIRECTORY to have everything there, --changed for what is new, or name the outputs"
                    .to_owned()
            }
            Self::Stray(stray) => stray.remedy(),
            Self::OfSteps { .. } => {
                "write it after the `--`: notapipe run [OPTIONS] -- [--stdin NAME]... TOOL ARG... [--then TOOL ARG...]"
                    .to_owned()
            }
            Self::FollowAndOutput { .. } | Self::FollowAndPack { .. } => {
                "deliver it to a file, or to /dev/fd/N".to_owned()
            }
            Self::ReportAndOutput => "write --report FILE".to_owned(),
            Self::Step(error) => error.remedy(),
            Self::MountOption(error) => error.remedy(),
            Self::JobFile(error) => error.remedy(),
            Self::InOut(error) => error.remedy(),
        }
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
            return Some(UsageError::NoValue { option });
        }
    }
    None
}

/// Makes the configuration of a job.
///
/// # Errors
///
/// [`UsageError`] for the first thing that makes no sense.
pub fn run(args: RunArgs, order: &Order) -> Result<RunConfig, UsageError> {
    // The literal forms take any word, and so the separator where a value was forgotten.
    let literal = [&args.input, &args.output, &args.input_from, &args.output_to];
    for (option, values) in LITERAL_FORMS.into_iter().zip(literal) {
        if values.iter().any(|value| value == "--") {
            return Err(UsageError::NoValue { option });
        }
    }
    let file = args.job.as_deref().map(JobFile::read).transpose()?;
    let file = file.unwrap_or_default();
    let inputs = merge(&order.inputs, args.stage, args.input, input, literal_input)?;
    let outputs = merge(
        &order.outputs,
        args.collect,
        args.output,
        output,
        literal_output,
    )?;
    check_inputs(&inputs)?;
    check_outputs(outputs.iter())?;
    let inputs = replace(file.input.into_iter().map(|it| it.0), inputs, |it| &it.name);
    let outputs = replace(file.output.into_iter().map(|it| it.0), outputs, |it| {
        &it.name
    });
    let optional = args.optional.into_iter().map(output);
    let optional = optional.collect::<Result<Vec<_>, _>>()?;
    let optional = replace(file.optional.into_iter().map(|it| it.0), optional, |it| {
        &it.name
    });
    check_inputs(&inputs)?;
    check_outputs(outputs.iter().chain(&optional))?;
    check_files(&inputs, &outputs)?;
    let words = |of_file: Vec<Text>, given| of_file.into_iter().map(|it| it.0).chain(given);
    let steps: Vec<Step> = if args.shell {
        vec![shell(&inputs)?]
    } else if args.words.is_empty() && !file.step.is_empty() {
        let entries = file.step.into_iter();
        entries.map(Step::from).collect()
    } else {
        steps::steps(&args.words, &args.then_word, &args.pipe_word)?
    };
    steps::check(&steps)?;
    let follow = args.follow.map(|name| steps::name("--follow", name));
    let follow = follow.transpose()?.or(file.follow.map(|it| it.0));
    let given = args.verbosity.given();
    let config = RunConfig {
        unpack: words(file.unpack, args.unpack)
            .map(in_out::unpack)
            .collect::<Result<_, _>>()?,
        inputs,
        outputs,
        optional,
        collect: words(file.collect, args.matching)
            .map(in_out::collect)
            .collect::<Result<_, _>>()?,
        changed: args
            .changed
            .or(file.changed.map(|it| Some(it.0)))
            .map(in_out::changed)
            .transpose()?,
        input_from: replace(
            file.input_from.into_iter().map(|it| it.0),
            in_out::all_piped(Role::Input, args.input_from)?,
            |it| &it.name,
        ),
        output_to: replace(
            file.output_to.into_iter().map(|it| it.0),
            in_out::all_piped(Role::Output, args.output_to)?,
            |it| &it.name,
        ),
        pack: args
            .pack
            .or(file.pack.map(|it| it.0))
            .map(in_out::pack)
            .transpose()?,
        follow,
        steps,
        limits: LimitsWanted {
            size: args.limits.size.or(file.size.map(|it| it.0)),
            inodes: args.limits.inodes.or(file.inodes.map(|it| it.0)),
        },
        at: args.at.or(file.at.map(|it| it.0.into())),
        visibility: args.mount.or(file.mount.map(|it| it.0)).unwrap_or_default(),
        tmp: args.tmp.or(file.tmp.map(|it| it.0)).unwrap_or_default(),
        timeout: args.timeout.or(file.timeout.map(|it| it.0)),
        kill_after: args.kill_after.or(file.kill_after.map(|it| it.0)),
        resources: args.limit.or(file.limit.map(|it| it.0)).unwrap_or_default(),
        settle: args.settle.or(file.settle.map(|it| it.0)),
        allow_other: args.allow_other || file.allow_other,
        extended_attributes: args.xattr || file.xattr,
        profile: args.profile.or(file.profile.map(|it| it.0)),
        cpus: args.cpus.or(file.cpus.map(|it| it.0)).unwrap_or_default(),
        report: args.report.or(file.report.map(|it| it.0.into())),
        backing: args
            .backing
            .or(args.require_fuse.then_some(Backing::Fuse))
            .or(file.backing.map(|it| it.0))
            .or(file.require_fuse.then_some(Backing::Fuse))
            .unwrap_or_default(),
        keep_on_failure: args
            .keep_on_failure
            .or(file.keep_on_failure.map(|it| it.0.into())),
        verbosity: given.or(file.verbosity.map(|it| it.0)).unwrap_or_default(),
    };
    in_out::check(&config)?;
    check_follow(&config)?;
    check_report(&config)?;
    Ok(config)
}

/// The caller's shell, which takes its commands from standard input.
fn shell(inputs: &[Input]) -> Result<Step, UsageError> {
    if let Some(input) = inputs.iter().find(|it| it.source == InputSource::Stdin) {
        let name = input.name.clone();
        return Err(UsageError::ShellWithoutInput { name });
    }
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    Ok(Step {
        argv: vec![shell.unwrap_or_else(|| "/bin/sh".into())],
        ..Step::default()
    })
}

/// Those of the job file, without the ones that the command line names too, and then those.
fn replace<T>(
    of_file: impl Iterator<Item = T>,
    given: Vec<T>,
    name: impl Fn(&T) -> &TreePath,
) -> Vec<T> {
    let kept = of_file.filter(|it| given.iter().all(|other| name(other) != name(it)));
    let kept: Vec<T> = kept.collect();
    kept.into_iter().chain(given).collect()
}

/// Brings the short and the literal forms of an option back into one order.
fn merge<T>(
    order: &[bool],
    short: Vec<OsString>,
    literal: Vec<OsString>,
    read_short: impl Fn(OsString) -> Result<T, UsageError>,
    read_literal: impl Fn(OsString, OsString) -> Result<T, UsageError>,
) -> Result<Vec<T>, UsageError> {
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

/// `-i SRC` and `-i NAME=SRC`.
pub fn input(value: OsString) -> Result<Input, UsageError> {
    match split(&value) {
        Some((name, source)) => from(literal(Role::Input, name)?, source),
        None if value == "-" => Err(UsageError::StreamWithoutName { role: Role::Input }),
        None => Ok(Input {
            name: own_name(&value)?,
            source: InputSource::Host(value.into()),
        }),
    }
}

/// `-o NAME` and `-o NAME=DEST`.
pub fn output(value: OsString) -> Result<Output, UsageError> {
    match split(&value) {
        Some((name, dest)) => to(literal(Role::Output, name)?, dest),
        None if value == "-" => Err(UsageError::StreamWithoutName { role: Role::Output }),
        None => {
            let name = literal(Role::Output, value)?;
            let dest = own_place(&name);
            Ok(Output { name, dest })
        }
    }
}

/// Where an output goes whose place was not given: the directory of its name. The root has none.
pub fn own_place(name: &TreePath) -> OutputDest {
    let above = name.parent().map(|above| above.to_path_buf().join(""));
    OutputDest::Host(above.unwrap_or_default())
}

/// `--input NAME SRC`.
pub fn literal_input(name: OsString, source: OsString) -> Result<Input, UsageError> {
    from(literal(Role::Input, name)?, source)
}

/// `--output NAME DEST`.
pub fn literal_output(name: OsString, dest: OsString) -> Result<Output, UsageError> {
    to(literal(Role::Output, name)?, dest)
}

fn from(name: TreePath, source: OsString) -> Result<Input, UsageError> {
    match source.as_bytes() {
        b"" => Err(UsageError::NoPlace {
            role: Role::Input,
            name,
        }),
        b"-" if name.is_root() => Err(UsageError::RootFromStdin),
        b"-" => Ok(Input {
            name,
            source: InputSource::Stdin,
        }),
        _ => Ok(Input {
            name,
            source: InputSource::Host(source.into()),
        }),
    }
}

fn to(name: TreePath, dest: OsString) -> Result<Output, UsageError> {
    match dest.as_bytes() {
        // Told apart later: an archive can take all of it.
        b"" if name.is_root() => Ok(Output {
            dest: own_place(&name),
            name,
        }),
        b"" => Err(UsageError::NoPlace {
            role: Role::Output,
            name,
        }),
        b"-" => Ok(Output {
            name,
            dest: OutputDest::Stdout,
        }),
        _ => Ok(Output {
            name,
            dest: OutputDest::Host(dest.into()),
        }),
    }
}

/// A name that was written out.
pub fn literal(role: Role, name: OsString) -> Result<TreePath, UsageError> {
    TreePath::parse(name.as_bytes()).map_err(|error| UsageError::Name { role, name, error })
}

/// The name of an input that was given by its source alone: the same relative path without its
/// dots, or the base name where that would leave the current directory.
fn own_name(value: &OsStr) -> Result<TreePath, UsageError> {
    let role = Role::Input;
    let refused = |error| UsageError::Name {
        role,
        name: value.to_owned(),
        error,
    };
    if value.is_empty() {
        return Err(refused(PathError::Empty));
    }
    let mut inside: Vec<&[u8]> = Vec::new();
    for part in Path::new(value).components() {
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
            let base = Path::new(value).file_name();
            let base = base.ok_or_else(|| UsageError::NoBaseName {
                value: value.to_owned(),
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
pub fn split(value: &OsStr) -> Option<(OsString, OsString)> {
    let at = value.as_bytes().iter().position(|&byte| byte == b'=')?;
    let (name, place) = value.as_bytes().split_at(at);
    Some((
        OsString::from_vec(name.to_vec()),
        OsString::from_vec(place[1..].to_vec()),
    ))
}

fn check_inputs(inputs: &[Input]) -> Result<(), UsageError> {
    once(Role::Input, inputs.iter().map(|input| &input.name))?;
    let stdin = inputs
        .iter()
        .filter(|input| input.source == InputSource::Stdin);
    one_stream(Role::Input, stdin.map(|input| &input.name))
}

fn check_outputs<'o>(outputs: impl Iterator<Item = &'o Output> + Clone) -> Result<(), UsageError> {
    once(Role::Output, outputs.clone().map(|output| &output.name))?;
    let stdout = outputs.filter(|output| output.dest == OutputDest::Stdout);
    one_stream(Role::Output, stdout.map(|output| &output.name))
}

/// What is followed has standard output for itself.
fn check_follow(config: &RunConfig) -> Result<(), UsageError> {
    let Some(follow) = config.follow.clone() else {
        return Ok(());
    };
    if config.pack == Some(Packing::Stdout) {
        return Err(UsageError::FollowAndPack { follow });
    }
    let mut outputs = config.outputs.iter().chain(&config.optional);
    match outputs.find(|output| output.dest == OutputDest::Stdout) {
        Some(Output { name, .. }) => Err(UsageError::FollowAndOutput {
            follow,
            output: name.clone(),
        }),
        None => Ok(()),
    }
}

/// So has a report.
fn check_report(config: &RunConfig) -> Result<(), UsageError> {
    match config.reports_to_stdout() && config.outputs_use_stdout() {
        true => Err(UsageError::ReportAndOutput),
        false => Ok(()),
    }
}

fn once<'n>(role: Role, names: impl Iterator<Item = &'n TreePath>) -> Result<(), UsageError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(UsageError::Repeated {
                role,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn one_stream<'n>(
    role: Role,
    mut names: impl Iterator<Item = &'n TreePath>,
) -> Result<(), UsageError> {
    match (names.next(), names.next()) {
        (Some(first), Some(second)) => Err(UsageError::StreamTwice {
            role,
            first: first.clone(),
            second: second.clone(),
        }),
        _ => Ok(()),
    }
}

/// Nothing can lie in an input that is a file. One whose source is missing is left to staging.
fn check_files(inputs: &[Input], outputs: &[Output]) -> Result<(), UsageError> {
    let is_file = |source: &InputSource| match source {
        InputSource::Stdin => true,
        InputSource::Host(path) => fs::metadata(path).is_ok_and(|there| !there.is_dir()),
    };
    let mut names: BTreeMap<&TreePath, Role> = BTreeMap::new();
    names.extend(outputs.iter().map(|output| (&output.name, Role::Output)));
    names.extend(inputs.iter().map(|input| (&input.name, Role::Input)));
    for Input { name: file, source } in inputs {
        if let InputSource::Host(path) = source
            && file.is_root()
            && is_file(source)
        {
            return Err(UsageError::RootFromFile { file: path.clone() });
        }
        // In the order of paths, what lies below follows at once.
        let mut after = names.range::<TreePath, _>((Bound::Excluded(file), Bound::Unbounded));
        let below = after.next().filter(|(name, _)| name.starts_with(file));
        if let Some((below, role)) = below
            && is_file(source)
        {
            let (file, below) = (file.clone(), (*below).clone());
            return Err(UsageError::InFile {
                file,
                role: *role,
                below,
            });
        }
    }
    Ok(())
}
