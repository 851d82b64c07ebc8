//! What the user asks for, as plain values that are known to make sense.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notapipe::archive::Format;
use notapipe::collect::Glob;
use notapipe::store::TreePath;

use super::cpus::CpusWanted;
use super::limits::ResourcesWanted;
use super::size::{Patience, Size};

/// `notapipe run`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Archives that stand in the mount before all inputs, a later one over an earlier; at most one
    /// is standard input.
    pub unpack: Vec<InputSource>,
    /// In the order in which they were given: a later one may add to an earlier directory.
    pub inputs: Vec<Input>,
    /// In the order in which they were given, with no name twice.
    pub outputs: Vec<Output>,
    /// The same for outputs that need not be there.
    pub optional: Vec<Output>,
    /// Outputs by what they are called.
    pub collect: Vec<Matching>,
    /// The directory for all that is new or changed at the end.
    pub changed: Option<PathBuf>,
    /// Inputs that commands make, with names that no other input has.
    pub input_from: Vec<Piped>,
    /// Outputs for the standard input of commands.
    pub output_to: Vec<Piped>,
    /// One archive for all outputs, which then have no place of their own.
    pub pack: Option<Packing>,
    /// The file in the mount whose bytes go to standard output as they are written.
    pub follow: Option<TreePath>,
    /// At least one.
    pub steps: Vec<Step>,
    /// What the mount may hold.
    pub limits: LimitsWanted,
    /// The path under which the steps see the mount.
    pub at: Option<PathBuf>,
    /// Who can see the mount.
    pub visibility: Visibility,
    /// Whose what the steps write to /tmp and the like is.
    pub tmp: Tmp,
    /// How long all steps together may take; never zero.
    pub timeout: Option<Duration>,
    /// How long everything has between SIGTERM at the timeout and being killed; not asked if none.
    pub kill_after: Option<Patience>,
    /// What the processes may use.
    pub resources: ResourcesWanted,
    /// How long what the steps left behind may go on writing; the library's default unless said.
    pub settle: Option<Patience>,
    /// Steps that become another user may enter.
    pub allow_other: bool,
    /// Files in the mount can have extended attributes.
    pub extended_attributes: bool,
    /// What the mount is to see; where nothing is said, no more than what else is asked for needs.
    pub profile: Option<Profile>,
    /// The CPUs to use.
    pub cpus: CpusWanted,
    /// Where to write what the job did; `-` is standard output.
    pub report: Option<PathBuf>,
    /// What the files of the job live in.
    pub backing: Backing,
    /// Where to put everything that was in the mount when the job fails.
    pub keep_on_failure: Option<PathBuf>,
    /// How much to tell.
    pub verbosity: Verbosity,
}

impl RunConfig {
    /// Whether something of the job goes to standard output, so that the steps' own must go elsewhere.
    pub fn uses_stdout(&self) -> bool {
        self.reports_to_stdout() || self.outputs_use_stdout()
    }

    /// Whether the report goes to standard output.
    pub fn reports_to_stdout(&self) -> bool {
        self.report.as_deref() == Some(Path::new("-"))
    }

    /// Whether an output or a followed file goes to standard output.
    pub fn outputs_use_stdout(&self) -> bool {
        let mut outputs = self.outputs.iter().chain(&self.optional);
        self.follow.is_some()
            || self.pack == Some(Packing::Stdout)
            || outputs.any(|it| it.dest == OutputDest::Stdout)
    }

    /// Whether an input comes from standard input, so that the steps must not read it.
    pub fn uses_stdin(&self) -> bool {
        let inputs = self.inputs.iter().map(|input| &input.source);
        let mut all = inputs.chain(&self.unpack);
        all.any(|source| *source == InputSource::Stdin)
    }
}

/// Something to stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it stands in the mount; the root is to be filled from a directory.
    pub name: TreePath,
    /// Where it comes from.
    pub source: InputSource,
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// A file or directory of the host; not checked to exist.
    Host(PathBuf),
    /// Standard input; at most one input.
    Stdin,
}

/// Something to collect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where the steps leave it in the mount.
    pub name: TreePath,
    /// Where it goes.
    pub dest: OutputDest,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputDest {
    /// A path of the host as `notapipe::collect::Destination::Host` takes it. `-o NAME` alone is
    /// the directory of that name with a closing slash, so that the output keeps its own; for the
    /// root, which only an archive can take, it is empty.
    Host(PathBuf),
    /// Standard output; at most one output.
    Stdout,
}

/// Outputs that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// What their paths are like.
    pub glob: Glob,
    /// The directory for them; unless given, the one that the pattern begins with.
    pub dest: PathBuf,
}

/// Where an archive of all outputs goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A file, in the format that its name asks for.
    File { place: PathBuf, format: Format },
    /// A tar on standard output.
    Stdout,
}

/// A file that comes from a command, or goes to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piped {
    /// The file in the mount; never the root.
    pub name: TreePath,
    /// For the shell; not blank.
    pub command: OsString,
}

/// One command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The tool and its arguments: at least the tool, which is not empty.
    pub argv: Vec<OsString>,
    /// Its standard input is the standard output of the step before it; both run at once.
    pub reads_pipe: bool,
    /// The file in the mount that is its standard input, unless it reads from a pipe.
    pub stdin: Option<TreePath>,
    /// The file in the mount that is its standard output, unless it writes to a pipe.
    pub stdout: Option<TreePath>,
    /// The file in the mount that is its standard error.
    pub stderr: Option<TreePath>,
    /// Variables that its environment has besides the caller's.
    pub env: Vec<(OsString, OsString)>,
    /// Where in the mount it starts, unless in the root.
    pub directory: Option<TreePath>,
}

/// The limits that were asked for; those that were not have defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsWanted {
    /// Bytes of content.
    pub size: Option<Size>,
    /// Files, directories and symlinks, the root included.
    pub inodes: Option<u64>,
}

/// Who can see the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Visibility {
    /// Private where this machine allows it, otherwise public.
    #[default]
    Auto,
    /// Only the job: in namespaces of its own.
    Private,
    /// Everybody's view of the files has it, and only its owner may enter.
    Public,
}

/// What the files of a job live in while its steps run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backing {
    /// FUSE where this machine allows it, else tmpfs, else directory.
    #[default]
    Auto,
    /// A mount that notapipe serves.
    Fuse,
    /// A tmpfs of the kernel's, in namespaces of the job's.
    Tmpfs,
    /// A directory of the tmpfs with the most room; on disk where none has room for the inputs.
    Directory,
}

impl From<Backing> for notapipe::run::Backing {
    fn from(backing: Backing) -> Self {
        match backing {
            Backing::Auto => Self::Auto,
            Backing::Fuse => Self::Fuse,
            Backing::Tmpfs => Self::Tmpfs,
            Backing::Directory => Self::Directory,
        }
    }
}

/// Where what the steps write to /tmp, /var/tmp, /dev/shm and $TMPDIR goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Tmp {
    /// To the job: in RAM, inside --size, seen by it alone, and gone with it.
    #[default]
    Job,
    /// Where it goes without notapipe.
    Host,
}

/// What is seen of opens and closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Nothing: the fewest requests.
    #[default]
    Fast,
    /// Every one of them, for a request each.
    Observed,
}

impl From<Profile> for notapipe::fuse::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Fast => Self::Fast,
            Profile::Observed => Self::Observed,
        }
    }
}

/// How much to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Verbosity {
    /// Nothing but errors.
    Quiet,
    /// Errors and warnings.
    #[default]
    Normal,
    /// What was done, and how long it took.
    Verbose,
    /// For finding faults in notapipe.
    Debug,
}

/// `notapipe mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// Where to mount.
    pub dir: PathBuf,
    /// What the mount may hold.
    pub limits: LimitsWanted,
    /// What it holds at the beginning.
    pub from: Option<Filling>,
    /// Where its content goes at the end.
    pub save: Option<PathBuf>,
    /// Return when it is ready.
    pub background: bool,
    /// Permission bits of the root directory.
    pub mode: u32,
    /// Owner of the root directory, otherwise the caller.
    pub uid: Option<u32>,
    /// Group of the root directory, otherwise the caller's.
    pub gid: Option<u32>,
    /// Other users may enter, as far as permissions allow.
    pub allow_other: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Device nodes work (root only).
    pub devices: bool,
    /// Set-user-id bits work (root only).
    pub set_user_id: bool,
    /// Nothing in it can be executed.
    pub no_exec: bool,
    /// It may cover a directory that is not empty.
    pub nonempty: bool,
    /// What tools such as df show as its source.
    pub name: Option<String>,
    /// What it sees of opens and closes.
    pub profile: Profile,
    /// Who asks.
    pub caller: Caller,
    /// How much to tell.
    pub verbosity: Verbosity,
}

/// What a mount holds at the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filling {
    /// All of a directory, or of an archive.
    Host(PathBuf),
    /// An archive on standard input.
    Stdin,
}

/// Who asks for a mount, which decides the exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// A person at a shell.
    #[default]
    Person,
    /// mount(8), through fstab or `mount -t fuse.notapipe`.
    Mount8,
}
