//! What makes no sense together in a specification.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::entries::{Role, SpecError, several_to_stdout};
use super::{
    InputSource, InputSpec, JobSpec, MatchingOutput, OutputDest, OutputSpec, PipedFile, StepSpec,
};
#[cfg(feature = "archives")]
use crate::archive::Format;
use crate::store::TreePath;
use crate::text::{quoted, shown};

type Checked = Result<(), SpecError>;

impl JobSpec {
    /// Refuses what cannot be right, whatever is on this machine: names given twice, two inputs that are both standard
    /// input, an input that would lie in a file, a pipe into the first step.
    ///
    /// # Errors
    ///
    /// The first thing that makes no sense.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    ///
    /// let job = Job::new().output("a").output("./a").step(["true"]);
    /// let error = job.spec().check().unwrap_err();
    /// assert_eq!(error.to_string(), r#"two outputs are named "a""#);
    /// ```
    pub fn check(&self) -> Checked {
        let stdin = self.input.iter().filter(|it| is_stdin(&it.source));
        names(
            Role::Input,
            self.input.iter().map(|it| &it.name),
            stdin.map(|it| &it.name),
        )?;
        let outputs = || self.named_outputs();
        let stdout = outputs().filter(|it| it.dest == OutputDest::Stdout);
        names(
            Role::Output,
            outputs().map(|it| &it.name),
            stdout.map(|it| &it.name),
        )?;
        self.check_files()?;
        check_steps(&self.step)?;
        self.check_commands()?;
        self.check_several_to_stdout()?;
        #[cfg(feature = "archives")]
        self.check_archives()?;
        self.check_places()?;
        self.check_stdout()
    }

    fn named_outputs(&self) -> impl Iterator<Item = &OutputSpec> {
        self.output.iter().chain(&self.optional)
    }

    #[cfg(feature = "archives")]
    fn pack(&self) -> Option<&Path> {
        self.pack.as_deref()
    }

    #[cfg(not(feature = "archives"))]
    fn pack(&self) -> Option<&Path> {
        None
    }

    /// Whether an input or an archive is standard input, which the steps then must not read.
    pub fn uses_stdin(&self) -> bool {
        #[cfg(feature = "archives")]
        if self.unpack.iter().any(is_stdin) {
            return true;
        }
        self.input.iter().any(|it| is_stdin(&it.source))
    }

    /// Whether the report, an output or a followed file goes to standard output, so that the steps' own must go elsewhere.
    pub fn uses_stdout(&self) -> bool {
        self.reports_to_stdout() || self.outputs_use_stdout()
    }

    fn reports_to_stdout(&self) -> bool {
        self.report.as_deref() == Some(Path::new("-"))
    }

    fn outputs_use_stdout(&self) -> bool {
        self.follow.is_some()
            || self.pack() == Some(Path::new("-"))
            || self.named_outputs().any(|it| it.dest == OutputDest::Stdout)
    }

    /// Nothing can lie in an input that is a file. One whose source is missing is left to staging.
    fn check_files(&self) -> Checked {
        let is_file = |source: &InputSource| match source {
            InputSource::Stdin | InputSource::Bytes(_) => true,
            InputSource::Host(path) => fs::metadata(path).is_ok_and(|there| !there.is_dir()),
        };
        let mut names: BTreeMap<&TreePath, Role> = BTreeMap::new();
        names.extend(self.output.iter().map(|it| (&it.name, Role::Output)));
        names.extend(self.input.iter().map(|it| (&it.name, Role::Input)));
        for InputSpec { name: file, source } in &self.input {
            if let InputSource::Host(path) = source
                && file.is_root()
                && is_file(source)
            {
                let remedy = format!("write -i NAME={}, or -i .=DIRECTORY", shown(path));
                let path = quoted(path);
                let message = format!("{path} is a file and cannot fill the whole mount");
                return Err(SpecError::new(message, remedy));
            }
            // In the order of paths, what lies below follows at once.
            let mut after = names.range::<TreePath, _>((Bound::Excluded(file), Bound::Unbounded));
            let below = after.next().filter(|(name, _)| name.starts_with(file));
            if let Some((below, role)) = below
                && is_file(source)
            {
                return Err(SpecError::new(
                    format!(
                        "the input {file:?} is a file, and the {role} {below:?} would lie in it"
                    ),
                    format!(
                        "choose another name with {} NAME={}",
                        role.option(),
                        role.value()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// A command makes an input that no other is.
    fn check_commands(&self) -> Checked {
        let mut commands = self.input_from.iter().chain(&self.output_to);
        commands.try_for_each(PipedFile::check)?;
        let mut inputs: BTreeSet<_> = self.input.iter().map(|it| &it.name).collect();
        match self.input_from.iter().find(|it| !inputs.insert(&it.name)) {
            Some(made) => Err(repeated(Role::Input, &made.name)),
            None => Ok(()),
        }
    }

    fn check_several_to_stdout(&self) -> Checked {
        let stdout = Path::new("-");
        match self.changed.as_deref() {
            Some(dest) if dest == stdout => Err(several_to_stdout("--changed")),
            Some(dest) if dest.as_os_str().is_empty() => Err(SpecError::new(
                "--changed has nothing after it",
                "write --changed, or --changed=DIRECTORY",
            )),
            _ => match self.collect.iter().find(|it| it.dest == stdout) {
                Some(matching) => Err(several_to_stdout(matching.glob.as_str())),
                None => Ok(()),
            },
        }
    }

    #[cfg(feature = "archives")]
    fn check_archives(&self) -> Checked {
        let mut from_stdin = self.unpack.iter().filter(|it| is_stdin(it));
        let (first, second) = (from_stdin.next(), from_stdin.next());
        if second.is_some() {
            return Err(SpecError::new(
                "two archives cannot both be standard input",
                "read the other one from a file, or from /dev/fd/N",
            ));
        }
        if let (Some(_), Some(input)) = (first, self.input.iter().find(|it| is_stdin(&it.source))) {
            return Err(SpecError::new(
                format!(
                    "the archive and the input {:?} cannot both be standard input",
                    input.name
                ),
                "put the input into the archive, or read one of them from a file",
            ));
        }
        match self.pack.as_deref().map(Path::as_os_str) {
            None => Ok(()),
            Some(pack) if pack.is_empty() => Err(SpecError::new(
                "--pack has nothing after it",
                "write --pack FILE, or --pack - for standard output",
            )),
            Some(pack) if pack == "-" => Ok(()),
            Some(pack) => match Format::of_name(Path::new(pack)) {
                Some(_) if !pack.as_encoded_bytes().ends_with(b"/") => Ok(()),
                _ => Err(SpecError::new(
                    format!("{} is no archive's name", quoted(pack)),
                    format!(
                        "end it with {}; --pack - is a tar on standard output",
                        Format::NAMES
                    ),
                )),
            },
        }
    }

    /// Each output has a place of its own, or all are in one archive.
    fn check_places(&self) -> Checked {
        if self.pack().is_none() {
            let root = OutputDest::Host(PathBuf::new());
            return match self.named_outputs().any(|it| it.dest == root) {
                false => Ok(()),
                true => Err(SpecError::new(
                    "the output \".\" would deliver everything in the mount over the current directory",
                    "write -o .=DIRECTORY to have everything there, --changed for what is new, or name the outputs",
                )),
            };
        }
        let named = self.named_outputs();
        let mut placed = named.filter(|it| it.dest != OutputDest::own(&it.name));
        let matching = self.collect.iter();
        let mut matching = matching.filter(|it| **it != MatchingOutput::new(it.glob.clone()));
        let placed = placed.next().map(|it| &it.name);
        if let Some(name) = placed.or_else(|| matching.next().map(|it| it.glob.base())) {
            return Err(SpecError::new(
                format!(
                    "the output {name:?} has a place of its own, and all outputs go into one archive"
                ),
                format!(
                    "write -o {name}: in the archive outputs have the names they have in the mount"
                ),
            ));
        }
        match self.wanted().next() {
            Some(_) => Ok(()),
            None => Err(SpecError::new(
                "there is nothing to pack",
                "name outputs with -o, --optional or --collect, or take all that is new with --changed",
            )),
        }
    }

    /// What is followed has standard output for itself, and so has a report.
    fn check_stdout(&self) -> Checked {
        let remedy = "deliver it to a file, or to /dev/fd/N";
        if let Some(follow) = &self.follow {
            let follow = format!("{follow:?} is followed on standard output, where the");
            if self.pack() == Some(Path::new("-")) {
                let message = format!("{follow} archive of --pack would go too");
                return Err(SpecError::new(message, remedy));
            }
            let mut outputs = self.named_outputs();
            if let Some(output) = outputs.find(|it| it.dest == OutputDest::Stdout) {
                let message = format!("{follow} output {:?} would go too", output.name);
                return Err(SpecError::new(message, remedy));
            }
        }
        match self.reports_to_stdout() && self.outputs_use_stdout() {
            false => Ok(()),
            true => Err(SpecError::new(
                "the report would go to standard output, where something else of the job goes",
                "write --report FILE",
            )),
        }
    }
}

fn is_stdin(source: &InputSource) -> bool {
    *source == InputSource::Stdin
}

/// No name twice, and one stream at most.
fn names<'n>(
    role: Role,
    names: impl Iterator<Item = &'n TreePath>,
    mut streams: impl Iterator<Item = &'n TreePath>,
) -> Checked {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(repeated(role, name));
        }
    }
    let (Some(first), Some(second)) = (streams.next(), streams.next()) else {
        return Ok(());
    };
    let remedy = match role {
        Role::Input => "read the other one from a file, or from /dev/fd/N",
        Role::Output => "deliver the other one to a file, or to /dev/fd/N",
    };
    Err(SpecError::new(
        format!("{first:?} and {second:?} cannot both be standard {role}"),
        remedy,
    ))
}

fn repeated(role: Role, name: &TreePath) -> SpecError {
    let (option, value) = (role.option(), role.value());
    SpecError::new(
        format!("two {role}s are named {name:?}"),
        format!("give each {role} its own name with {option} NAME={value}"),
    )
}

fn check_steps(steps: &[StepSpec]) -> Checked {
    for (index, step) in steps.iter().enumerate() {
        match step.command.first() {
            None => {
                return Err(SpecError::new(
                    "a step has options and no command",
                    "write the tool after them: [--stdin NAME]... TOOL ARG...",
                ));
            }
            Some(tool) if tool.is_empty() => {
                return Err(SpecError::new(
                    "a command begins with an empty word",
                    "write the tool's name; a shell variable may be unset",
                ));
            }
            Some(_) => {}
        }
        if step.pipe && index == 0 {
            return Err(SpecError::new(
                "the first step reads from a pipe, and no step writes to it",
                "leave pipe out of the first step",
            ));
        }
        let writes_pipe = steps.get(index + 1).is_some_and(|next| next.pipe);
        check_streams(step, writes_pipe)?;
    }
    Ok(())
}

fn check_streams(step: &StepSpec, writes_pipe: bool) -> Checked {
    let tool = step.command.first().map_or(OsStr::new(""), |it| it);
    let tool = quoted(tool);
    let stdin = step.stdin.as_ref().and_then(|it| it.file());
    let outputs = [&step.stdout, &step.stderr].map(|it| it.as_ref().and_then(|it| it.file()));
    let ends = [
        (step.pipe, "input", "--stdin", stdin),
        (writes_pipe, "output", "--stdout", outputs[0]),
    ];
    for (in_pipe, stream, option, name) in ends {
        if let Some(name) = name.filter(|_| in_pipe) {
            return Err(SpecError::new(
                format!("{tool} has its standard {stream} in a pipe and in {option} {name:?}"),
                format!("leave the {option} out, or join with --then"),
            ));
        }
    }
    if let Some(name) = stdin.filter(|_| outputs.contains(&stdin)) {
        return Err(SpecError::new(
            format!("{tool} would read {name:?}, which is emptied for its output"),
            "write to another name",
        ));
    }
    Ok(())
}
