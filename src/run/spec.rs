//! A job as plain data.

mod check;
mod entries;
#[cfg(feature = "serde")]
mod file;
#[cfg(all(test, feature = "cli"))]
mod tests;
#[cfg(feature = "serde")]
pub mod words;

pub use entries::{SpecError, variable};

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::backing::Backing;
use super::cpus::Cpus;
use super::limits::ResourceLimits;
use super::own_tmp::Tmp;
use super::stdio::{Stdin, Stdout};
use crate::collect::{Glob, Wanted};
use crate::fuse::Profile;
use crate::memory;
use crate::mount::Visibility;
use crate::store::{Limits, PAGE_SIZE, TreePath};

/// Everything of a job that is data: what can be compared, copied, stored and sent to another machine.
///
/// Each field has the name of the option of `notapipe run` that says it. [`Job::from_spec`](super::Job::from_spec) makes a
/// job of it, to which what cannot be data is added (readers, closures, descriptors), and
/// [`Job::spec`](super::Job::spec) gives the data of a job back.
///
/// With the feature `serde` it is what a file for `--job` holds, in any format of serde that describes itself (TOML, JSON):
/// values are the words of their options, and what is not UTF-8, or could not be seen on a terminal, is the list of its bytes.
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::JobSpec;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let job = Job::new().input("words", "b\na\n").step(["sort", "words"]);
/// let spec: JobSpec = job.spec().clone();
/// assert_eq!(spec.step[0].command, ["sort", "words"]);
/// assert!(!spec.uses_stdin() && !spec.uses_stdout());
/// let outcome = Job::from_spec(spec.clone()).run()?;
/// assert_eq!(outcome.steps()[0].stdout.to_text(), "a\nb\n");
/// assert_eq!(Job::from_spec(spec.clone()).spec(), &spec);
/// # Ok(())
/// # }
/// ```
///
/// Fields can be set as well:
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::{InputSource, InputSpec, JobSpec, OutputDest, OutputSpec, PipedFile, Verbosity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut spec = JobSpec::default();
/// let source = InputSource::Bytes("b\na\n".into());
/// spec.input.push(InputSpec { name: "words".parse()?, source });
/// spec.input_from.push(PipedFile { name: "more".parse()?, command: "echo c".into() });
/// spec.output.push(OutputSpec { name: "words".parse()?, dest: OutputDest::Stdout });
/// spec.verbosity = Verbosity::Quiet;
/// let outcome = Job::from_spec(spec).step(["sort", "words", "more", "-o", "words"]).run()?;
/// assert_eq!(outcome.output("words").unwrap(), "a\nb\nc\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, rename_all = "kebab-case")
)]
#[non_exhaustive]
pub struct JobSpec {
    /// The most that the files may hold, in bytes; half of the memory that this process may use unless said.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub size: Option<Size>,
    /// The most files, directories and symlinks; unless said, one for every page of the size, and at least 1024.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub inodes: Option<u64>,
    /// The path under which the steps see the mount: an existing directory.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub at: Option<PathBuf>,
    /// Who can see the mount.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub mount: Visibility,
    /// Where what the steps write to `/tmp` and the like goes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub tmp: Tmp,
    /// The most time that everything may take, staging included; never zero.
    #[cfg_attr(
        feature = "serde",
        serde(
            skip_serializing_if = "file::is_default",
            serialize_with = "file::word::serialize",
            deserialize_with = "file::read_timeout"
        )
    )]
    pub timeout: Option<Duration>,
    /// The time that everything has to end after SIGTERM at the timeout; killed at once unless said.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub kill_after: Option<Duration>,
    /// How long processes that the steps left behind may go on writing; 10 seconds unless said.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub settle: Option<Duration>,
    /// The most that the job's processes may use.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub limit: ResourceLimits,
    /// Whether the environment of the steps is [`env`](Self::env) alone, and not that of this process as well.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub env_clear: bool,
    /// Variables of the environment of all steps, a later one in the place of an earlier of its name.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub env: Vec<(OsString, OsString)>,
    /// How many bytes of each captured stream of a step are kept; 8 MiB unless said.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub capture_bytes: Option<usize>,
    /// Whether steps that become another user may enter the mount.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub allow_other: bool,
    /// Whether files can have extended attributes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub xattr: bool,
    /// Whether opens and closes are seen. Unless said, they are when there is a [`report`](Self::report).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub profile: Option<Profile>,
    /// The CPUs for the job's processes and for the thread that serves its mount.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub cpus: Cpus,
    /// The file whose bytes `notapipe run` writes to its standard output while a step writes them; for a program,
    /// [`Job::follow`](super::Job::follow) does that.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub follow: Option<TreePath>,
    /// The file in which `notapipe run` tells what the job did; `-` is its standard output.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub report: Option<PathBuf>,
    /// Where `notapipe run` puts all files of the job when it fails: an archive by its name, or a directory.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub keep_on_failure: Option<PathBuf>,
    /// What the files live in while the steps run.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", alias = "require-fuse")
    )]
    pub backing: Backing,
    /// How much `notapipe run` tells.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub verbosity: Verbosity,
    /// All that is new or changed in the end is an output, which `notapipe run` delivers into this directory.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub changed: Option<PathBuf>,
    /// The archive, by its name, into which `notapipe run` puts all outputs; `-` is a tar on its standard output.
    #[cfg(feature = "archives")]
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub pack: Option<PathBuf>,
    /// Archives whose members stand in the mount before all other inputs, a later one over an earlier.
    #[cfg(feature = "archives")]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub unpack: Vec<InputSource>,
    /// Outputs by what they are called.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub collect: Vec<MatchingOutput>,
    /// Files and directories to stage, in order: a later one may add to an earlier directory.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub input: Vec<InputSpec>,
    /// Files and directories that the steps must leave.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub output: Vec<OutputSpec>,
    /// Files and directories that the steps may leave.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub optional: Vec<OutputSpec>,
    /// Files that commands of the shell make before the first step.
    #[cfg_attr(
        feature = "serde",
        serde(
            skip_serializing_if = "file::is_default",
            deserialize_with = "file::read_piped::<true, _>"
        )
    )]
    pub input_from: Vec<PipedFile>,
    /// Files that commands of the shell read after the last step.
    #[cfg_attr(
        feature = "serde",
        serde(
            skip_serializing_if = "file::is_default",
            deserialize_with = "file::read_piped::<false, _>"
        )
    )]
    pub output_to: Vec<PipedFile>,
    /// The steps, in order.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "file::is_default"))]
    pub step: Vec<StepSpec>,
}

/// Something to stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Where it stands in the mount; the root is filled from a directory.
    pub name: TreePath,
    /// Where it comes from.
    pub source: InputSource,
}

/// Where an input, or an archive of inputs, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// A path of the host.
    Host(PathBuf),
    /// What [`Job::input_reader`](super::Job::input_reader) or `Job::unpack_reader` gives, and without one the standard
    /// input of this process.
    Stdin,
    /// These bytes.
    Bytes(Bytes),
}

/// Something to collect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Where the steps leave it in the mount.
    pub name: TreePath,
    /// Where `notapipe run` delivers it.
    pub dest: OutputDest,
}

impl OutputSpec {
    /// An output that is delivered to its own name below the current directory.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::{OutputDest, OutputSpec};
    ///
    /// let rom = OutputSpec::new("build/A.gb".parse()?);
    /// assert_eq!(rom.dest, OutputDest::Host("build/".into()));
    /// # Ok::<(), notapipe::store::PathError>(())
    /// ```
    pub fn new(name: TreePath) -> Self {
        let dest = OutputDest::own(&name);
        Self { name, dest }
    }
}

/// Where `notapipe run` delivers an output; see [`OutputSpec::new`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputDest {
    /// A path of the host, as [`Destination::Host`](crate::collect::Destination::Host) takes it; the empty one has no
    /// place, which is right for the root in an archive.
    Host(PathBuf),
    /// Standard output.
    Stdout,
}

impl OutputDest {
    /// The directory of a name, below the current directory, with a closing slash. The root has none.
    pub(crate) fn own(name: &TreePath) -> Self {
        let above = name.parent().map(|above| above.to_path_buf().join(""));
        Self::Host(above.unwrap_or_default())
    }
}

/// Outputs that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchingOutput {
    /// What their paths are like.
    pub glob: Glob,
    /// The directory into which `notapipe run` delivers them.
    pub dest: PathBuf,
}

impl MatchingOutput {
    /// Outputs that are delivered to their own names below the current directory.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::collect::Glob;
    /// use notapipe::run::MatchingOutput;
    ///
    /// let roms = MatchingOutput::new(Glob::new("build/*.gb")?);
    /// assert_eq!(roms.dest.to_str(), Some("build"));
    /// # Ok::<(), notapipe::collect::GlobError>(())
    /// ```
    pub fn new(glob: Glob) -> Self {
        let dest = glob.base().to_path_buf();
        Self { glob, dest }
    }
}

/// A file in the mount that comes from a command of the shell, or goes to one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PipedFile {
    /// The file; never the root.
    pub name: TreePath,
    /// For the shell.
    #[cfg_attr(feature = "serde", serde(with = "file::word"))]
    pub command: OsString,
}

/// One command of a job, as data; [`Step`](super::Step) has besides what cannot be data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(deny_unknown_fields, rename_all = "kebab-case")
)]
#[non_exhaustive]
pub struct StepSpec {
    /// The program and its arguments.
    #[cfg_attr(feature = "serde", serde(with = "file::word"))]
    pub command: Vec<OsString>,
    /// Whether it runs at the same time as the step before it, and reads that one's standard output.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub pipe: bool,
    /// Its standard input; unless said, nothing, and for `notapipe run` its own.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub stdin: Option<Stdin>,
    /// Its standard output; unless said, captured, and for `notapipe run` its own.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub stdout: Option<Stdout>,
    /// Its standard error; unless said, captured, and for `notapipe run` its own.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub stderr: Option<Stdout>,
    /// Whether its environment is [`env`](Self::env) alone, and not that of this process as well.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub env_clear: bool,
    /// Variables of its environment, a later one in the place of an earlier of its name.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default", with = "file::word")
    )]
    pub env: Vec<(OsString, OsString)>,
    /// The directory in the mount where it starts; the root unless said.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "file::is_default")
    )]
    pub chdir: Option<TreePath>,
}

/// How much the files of a job may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// A part of the memory that this process may use: 1 to 100.
    Percent(u8),
}

impl Size {
    /// In bytes, on this machine and at this moment; whole pages.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::run::Size;
    ///
    /// assert_eq!(Size::Bytes(1 << 20).to_bytes(), 1 << 20);
    /// assert!(Size::Percent(10).to_bytes() < Size::Percent(20).to_bytes());
    /// ```
    pub fn to_bytes(self) -> u64 {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            // The default is one half.
            Self::Percent(percent) => memory::default_limits().bytes / 50 * u64::from(percent),
        };
        bytes / PAGE_SIZE * PAGE_SIZE
    }
}

/// How much a program that runs a job tells of it. The library tells nothing.
///
/// # Examples
///
/// ```
/// use notapipe::run::Verbosity;
///
/// assert!(Verbosity::Quiet < Verbosity::Normal);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Nothing but errors.
    Quiet,
    /// Errors and warnings.
    #[default]
    Normal,
    /// What was done, and how long it took.
    Verbose,
    /// What helps to find faults in notapipe.
    Debug,
}

impl JobSpec {
    /// What the mount may hold, where that was said; `default` for the part that was not.
    pub(super) fn limits(&self, default: impl FnOnce() -> Limits) -> Option<Limits> {
        let limits = match (self.size, self.inodes) {
            (None, None) => return None,
            (Some(size), _) => Limits::of_bytes(size.to_bytes()),
            (None, Some(_)) => default(),
        };
        Some(Limits {
            inodes: self.inodes.unwrap_or(limits.inodes),
            ..limits
        })
    }

    /// All outputs: those that must be there, those that may, those by their names, and what changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::collect::Wanted;
    ///
    /// let job = Job::new().output_changed().output("A.gb");
    /// let wanted: Vec<_> = job.spec().wanted().collect();
    /// assert_eq!(wanted, [Wanted::Named("A.gb".parse()?), Wanted::Changed]);
    /// # Ok::<(), notapipe::store::PathError>(())
    /// ```
    pub fn wanted(&self) -> impl Iterator<Item = Wanted> {
        let named = self.output.iter();
        let named = named.map(|it| Wanted::Named(it.name.clone()));
        let optional = self.optional.iter();
        let optional = optional.map(|it| Wanted::Optional(it.name.clone()));
        let matching = self.collect.iter();
        let matching = matching.map(|it| Wanted::Matching(it.glob.clone()));
        let changed = self.changed.iter().map(|_| Wanted::Changed);
        named.chain(optional).chain(matching).chain(changed)
    }

    /// The profile that was asked for, or the one that a report needs.
    pub(super) fn profile(&self) -> Profile {
        let of_report = || match self.report {
            Some(_) => Profile::Observed,
            None => Profile::Fast,
        };
        self.profile.unwrap_or_else(of_report)
    }
}
