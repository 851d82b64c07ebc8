//! What clap reads, and every help text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, ArgMatches, Args, Parser, Subcommand};
use notapipe::mount::Visibility;
use notapipe::run::{Backing, Cpus, ResourceLimits, Size, Tmp, Verbosity, words};
use notapipe::store::TreePath;
use notapipe::text::quoted;
use notapipe::{JobSpec, Limits, Profile, memory};

use super::completions::CompletionsArgs;
use super::doctor::DoctorArgs;
use super::job_file;
use super::list::ListArgs;
use super::man::ManArgs;
use super::mount_args::MountArgs;
use super::resize::ResizeArgs;
use super::snapshot::SnapshotArgs;
use super::status::StatusArgs;
use super::umount::UmountArgs;

/// A parser for the names of an enum's variants.
macro_rules! one_of {
    ($type:ty) => {
        clap::builder::TypedValueParser::try_map(
            clap::builder::PossibleValuesParser::new(<$type>::NAMES.iter().copied()),
            |name| name.parse::<$type>(),
        )
    };
}
pub(super) use one_of;

const ABOUT: &str = "\
Files in RAM for tools that insist on files: bytes in, bytes out, nothing on disk.

  notapipe run -i A.asm -i B.o -o A.gb -o A.map -- \\
      rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -m A.map

stages A.asm and B.o in a directory in RAM, runs the two tools there, and delivers A.gb and A.map
into the current directory. A.o never leaves the RAM.";

const AFTER: &str = "\
A named pipe looks like a file until the tool seeks, reopens, maps, renames or asks for a size.
notapipe gives it a real file. `notapipe run --help` tells the whole grammar, with examples;
`notapipe mount --help` is about directories that stay, and `notapipe doctor` about this machine.";

const RUN_ABOUT: &str = "\
Run tools on files in RAM.

The inputs are staged into a directory in RAM that only this job can see, the steps run there one
after another, and the outputs are delivered when all of them have succeeded. Nothing else is left.";

const RUN_USAGE: &str = "notapipe run [-i [NAME=]SRC]... [-o NAME[=DEST]]... [OPTIONS] -- [STEP OPTION]... TOOL [ARG]... [--then|--pipe ...]...";

const RUN_AFTER: &str = r#"Inputs (-i):
  -i src/A.asm         stages the file, or the directory with all that is in it, as src/A.asm
  -i ../lib/B.o        as B.o: the base name, where SRC is absolute or climbs out with `..`
  -i .                 fills the root with the current directory
  -i NAME=SRC          under another name; split at the first `=`
  -i NAME=-            from standard input; the steps then read /dev/null
  --input NAME SRC     the same for names that hold a `=`
  A later file takes the place of one that an earlier directory brought in.

Outputs (-o):
  -o out/A.gb          delivers to out/A.gb below the current directory, making out if it is missing
  -o NAME=DEST         to DEST: a file, or a directory for it when DEST exists as one or ends in `/`
  -o NAME=-            to standard output; the steps' own then goes to standard error
  --output NAME DEST   the same for names that hold a `=`
  An output that is a directory is delivered with all that is in it, into what is there already.
  Directories above an output stand before the first step. Each file is replaced whole or not at
  all, and when one cannot be delivered, those already replaced are put back.
  --optional NAME[=DEST]       the same for an output that need not be there
  --collect 'build/*.gb=out'   delivers all that matches into out; without =out, to its own name.
    `?` and `*` stand for what has no `/` in it, `**` for any directories, [a-z] for one of a set,
    {gb,sym} for one of several words. Below out, things keep what their names have after the part
    without such characters (build). No match is an error.
  --changed[=DEST]             delivers all that the steps made or changed, without naming it
  Symlinks in a directory, and those that a pattern matches or that changed, stay symlinks.

Commands (--input-from, --output-to):
  --input-from words 'gzip -dc words.gz'   the command's output is the file words: one that tools can
                       seek in, map and open twice, which they cannot in <(gzip -dc words.gz)
  --output-to A.gb 'ssh box "cat > A.gb"'   the file is the command's standard input
  The shell runs them in the current directory, those for inputs all side by side before the first
  step, those for outputs after the last. One that fails fails the job. No value of -i and -o is
  ever executed.

Archives (--unpack, --pack):
  --unpack src.tar.gz  stages all that is in a tar (plain, gz, zst, xz) or zip, known by its content;
                       inputs may replace some of it. Members that climb out, absolute names and
                       devices are refused, and then nothing runs.
  --pack out.tar.zst   puts all outputs, however they are named, into one archive of the kind that
                       its name says, whole or not at all
  --unpack - --pack -  from standard input and to standard output: a function of bytes, for a script
                       or a program in any language; the steps' standard output goes to standard error

Steps:
  All words after `--`. A word that is exactly `--then` begins the next step, which starts when those
  before it have succeeded; `--pipe` begins one that runs at the same time and reads the standard
  output of the one before it. Every step of a pipe must succeed, as with `set -o pipefail`; when one
  fails, the others have 2 seconds to end. --then-word and --pipe-word rename the two words for tools
  that take them themselves. A step that fails ends the job. Steps start in the root of the mount,
  with the caller's environment and streams. A relative path to a tool (./tool) is the caller's.

  With --follow NAME, the bytes of a file go to standard output as a tool writes them.

Step options stand before a step's tool:
  --stdin NAME         the file NAME in the mount is its standard input
  --stdout NAME        NAME is made, or emptied, for its standard output
  --stderr NAME        the same for its standard error; one NAME for both is shared, as with >x 2>&1
  --env NAME=VALUE     sets a variable of its environment
  --chdir DIR          it starts in the directory DIR of the mount
  The first word that is no option begins the command, and so does the word after a `--`. All NAMEs
  are paths below the root of the mount, also with --chdir.

Job files (--job):
  TOML or JSON, with the names of the long options as keys and their values as strings; --allow-other and
  --xattr are true or false, and -q, -v and -vv are verbosity = "quiet", "verbose", "debug".
    timeout = "30s"
    input = ["A.asm", { name = "B.o", source = "../lib/B.o" }]
    output = ["A.gb", { name = "A.map", dest = "-" }]
    [[step]]
    command = ["rgbasm", "A.asm", "-o", "A.o"]
    [[step]]
    command = ["rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map"]
    env = ["LC_ALL=C"]
    stderr = "log"
  Steps have the keys command, stdin, stdout, stderr, env, chdir, and pipe = true for one that reads
  the output of the one before it.
  A string of input or output is the value of -i or -o; a table is the literal form, and an input may
  have its content in it: { name = "x", content = "..." }. A name that is not UTF-8 is the list of its
  bytes. Paths are relative to the current directory, as on the command
  line, whose options override those of the file; its inputs and outputs come after the file's, and
  replace those of the same name; its steps, if there are any, replace all of the file's.

Report (--report FILE):
  One JSON object. Within a `version` fields are added, never changed. Times are seconds, sizes bytes.
  version         1
  result          "ok" or "failed"; exit_status, and error: null, or message and help
  fuse, backing   whether the job ran in a FUSE mount; what its files lived in: fuse, tmpfs or directory
  steps           of each that was started: command, exit (code or signal), wall_seconds, user_seconds,
                  system_seconds, max_rss_bytes, requests, and files: the names that were read, written,
                  created, deleted; and ended_by, when it did not end by itself: timeout, interrupt, pipe
                  (another step of its pipe had failed), cpu, memory, processes, size, mount (lost), or failure;
                  steps of one pipe share their requests, and what their daemons did to files
  steps_not_run   of each that was not started, since the job had failed: command
  outputs         of each that is there: name, kind, bytes, and files, how many a directory holds
  phases_seconds  our own time: stage, mount, run, unmount, collect
  usage           bytes and inodes at the end, peak_bytes, peak_inodes, limit_bytes, limit_inodes,
                  limit_met: the one that a step ran into
  requests        from the kernel, by kind, and their total
  resource_limits with --limit: cpu_seconds, memory_bytes, processes, files, and what held each, in
                  cpu_by, memory_by, processes_by, files_by: cgroup, rlimit or count; by: cgroup where
                  one of them is, else rlimit

Examples:
  notapipe run -i A.asm -o A.gb -- rgbasm A.asm -o A.o --then rgblink A.o -o A.gb
  notapipe run -i . -o game.gb -- make game.gb
  curl -s $URL | notapipe run -i in.mp4=- -o out.wav=- -- ffmpeg -i in.mp4 out.wav | aplay
  notapipe run -i rom.gb -o rom.gb -- rgbfix -v rom.gb
  notapipe run --size 2G -i photos -o photos.zip=/srv/www/ -- zip -r photos.zip photos
  notapipe run -i . --collect 'build/*.{gb,sym}=out' -- make
  tar c src | notapipe run --unpack - --pack - -o game.gb -- make -C src game.gb | tar x
  notapipe run -i . --changed=new -- ./configure
  notapipe run --input-from a 'curl -s $A' --input-from b 'curl -s $B' -o ab.zip -- zip ab.zip a b
  notapipe run -i . -o game.gb --print-job -- make game.gb > game.toml
  notapipe run -i . --follow build.log -- ./configure --log=build.log | grep -i warning
  notapipe run --job game.toml --timeout 5m
  notapipe run -i words -o sorted -- --stdin words --env LC_ALL=C sort --pipe --stdout sorted uniq -c

Exit status:
  0      every step succeeded and every output was delivered
  N      the failing step's own
  128+N  a step was ended by signal N, or notapipe was
  2      the command line is wrong; nothing was run
  124    the steps took longer than --timeout
  125    notapipe failed: an input cannot be read, nobody made an output, no mount, a full limit
  126    a tool was found and could not be executed
  127    a tool was not found"#;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "notapipe", version, about = ABOUT, after_help = AFTER)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Commands,
}

#[derive(Debug, Subcommand)]
pub enum Commands {
    Run(Box<RunArgs>),
    Mount(MountArgs),
    #[command(flatten)]
    Plain(Plain),
}

/// The commands that need no signals caught, and that are right when clap says so.
#[derive(Debug, Subcommand)]
pub enum Plain {
    Umount(UmountArgs),
    List(ListArgs),
    Status(StatusArgs),
    Snapshot(SnapshotArgs),
    Resize(ResizeArgs),
    Doctor(DoctorArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(about = "Run tools on files in RAM", long_about = RUN_ABOUT, after_long_help = RUN_AFTER)]
#[command(override_usage = RUN_USAGE)]
pub struct RunArgs {
    /// Stage a file or directory, under its own name or NAME; `-` is standard input
    #[arg(short = 'i', value_name = "[NAME=]SRC")]
    pub stage: Vec<OsString>,

    /// Stage SRC as NAME, whatever characters are in them
    #[arg(long, num_args = 2, value_names = ["NAME", "SRC"], allow_hyphen_values = true)]
    pub input: Vec<OsString>,

    /// Deliver a file or directory, to its own name or DEST; `-` is standard output
    #[arg(short = 'o', value_name = "NAME[=DEST]")]
    pub collect: Vec<OsString>,

    /// Deliver NAME to DEST, whatever characters are in them
    #[arg(long, num_args = 2, value_names = ["NAME", "DEST"], allow_hyphen_values = true)]
    pub output: Vec<OsString>,

    /// Deliver the same if it is there; no error when it is not
    #[arg(long, value_name = "NAME[=DEST]")]
    pub optional: Vec<OsString>,

    /// Deliver all that matches, below the directory DEST; no match is an error
    #[arg(long = "collect", value_name = "PATTERN[=DEST]")]
    pub matching: Vec<OsString>,

    /// Stage all that is in an archive (tar, gz, zst, xz, zip); `-` is standard input
    #[arg(long, value_name = "SRC")]
    pub unpack: Vec<OsString>,

    /// Stage what a command of the shell writes to its standard output as the file NAME
    #[arg(long, num_args = 2, value_names = ["NAME", "COMMAND"], allow_hyphen_values = true)]
    pub input_from: Vec<OsString>,

    /// Give the file NAME to a command of the shell, on its standard input
    #[arg(long, num_args = 2, value_names = ["NAME", "COMMAND"], allow_hyphen_values = true)]
    pub output_to: Vec<OsString>,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub options: OptionArgs,

    /// The same as --backing fuse
    #[arg(long, conflicts_with = "backing")]
    pub require_fuse: bool,

    /// Start a shell ($SHELL, or /bin/sh) among the staged files, instead of the steps
    ///
    /// To look at what the tools will see, and to try them. The outputs are delivered when the shell ends
    /// with status 0; `exit 1` delivers nothing.
    #[arg(long)]
    pub shell: bool,

    /// Take the job from a file of TOML or JSON, which may hold all that the command line may; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,

    /// Print the whole job as a file for --job, and run nothing
    #[arg(long, value_name = "FORMAT", value_enum)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "toml")]
    pub print_job: Option<job_file::Format>,

    /// The word that separates steps
    #[arg(long, value_name = "WORD", default_value = "--then")]
    #[arg(allow_hyphen_values = true, hide_default_value = true)]
    pub then_word: OsString,

    /// The word that joins two steps by a pipe
    #[arg(long, value_name = "WORD", default_value = "--pipe")]
    #[arg(allow_hyphen_values = true, hide_default_value = true)]
    pub pipe_word: OsString,

    #[command(flatten)]
    pub verbosity: VerbosityArgs,

    /// Words before `--`, which are refused with a message of ours.
    #[arg(hide = true)]
    pub stray: Vec<OsString>,

    /// The steps: a tool and its arguments, `--then`, the next tool …
    #[arg(
        last = true,
        value_name = "[STEP OPTION]... TOOL [ARG]... [--then ...] [--pipe ...]"
    )]
    pub words: Vec<OsString>,
}

/// Declares options that say one field of the job each, the one of their name: an option needs its help here, its field in
/// [`JobSpec`], and what acts on it.
macro_rules! options {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        #[derive(Debug, Args)]
        pub struct OptionArgs {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        impl OptionArgs {
            /// Has what the command line says take the place of what `spec` says.
            pub fn replace_in(self, spec: &mut JobSpec) {
                $(if let Some(value) = self.$name {
                    spec.$name = value.into();
                })*
            }
        }
    };
}

options! {
    /// Deliver all that is new or changed at the end, below DEST or the current directory
    #[arg(long, value_name = "DEST", value_parser = any_path())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    changed: PathBuf,

    /// Put all outputs into one archive, by its name a .tar, .tar.gz, .tar.zst, .tar.xz or .zip; `-` is
    /// a tar on standard output
    #[arg(long, value_name = "DEST", value_parser = any_path())]
    pack: PathBuf,

    /// The path under which the steps see the mount; an existing directory
    ///
    /// The same in every run unless chosen, so that outputs which embed it are reproducible.
    #[arg(long, value_name = "DIR")]
    at: PathBuf,

    /// Who sees the mount: only this job, or everybody (of which only you may enter)
    ///
    /// In an ordinary user's private job only that user and one group of theirs exist: files of all others, root's
    /// too, look like nobody's. ssh may refuse them (`Bad owner or permissions`), chgrp to a second group and
    /// fakeroot's chown fail with `Invalid argument`, fusermount3 and sudo do not work. They do with `--mount public`,
    /// which needs the package fuse3.
    #[arg(long, value_name = "WHERE", value_parser = one_of!(Visibility))]
    mount: Visibility,

    /// Whose what tools write to /tmp, /var/tmp, /dev/shm and $TMPDIR is: the job's, or the host's as without notapipe
    ///
    /// What is the job's is in RAM, inside --size, seen by it alone, in no output, and gone with it; what you have in /tmp,
    /// /var/tmp and $TMPDIR can be read and executed. IPC objects are the job's, too. Where it has no namespaces
    /// (--mount public), TMPDIR, TMP and TEMP lead to a directory of the job.
    #[arg(long, value_name = "WHOSE", value_parser = one_of!(Tmp))]
    tmp: Tmp,

    /// End the job, with everything in it, when its steps and commands take longer
    ///
    /// Everything in the job is killed at that moment, unless --kill-after gives it time to end.
    #[arg(long, value_name = "TIME", value_parser = words::timeout)]
    timeout: Duration,

    /// At the timeout send SIGTERM first, and kill what has not ended this much later
    #[arg(long, value_name = "TIME", value_parser = words::time)]
    kill_after: Duration,

    /// What processes may use: cpu=10s,memory=2G,processes=64,files=256, any of them
    ///
    /// Where a control group of version 2 can be made for the job (`notapipe doctor` tells), cpu, memory
    /// and processes are limits of the whole job: one that uses up its cpu time is ended, one that needs
    /// more memory or processes (with threads) fails. Elsewhere cpu and memory (address space) are limits
    /// of each process, as with ulimit, and the job's processes are counted. files (descriptors) is
    /// always a limit of each process. --report tells which it was.
    #[arg(long, value_name = "LIMITS", value_parser = words::resource_limits)]
    limit: ResourceLimits,

    /// How long what the steps left behind may go on writing before the job fails (10s)
    ///
    /// Outputs are delivered when no process of the job has a file of the mount open for writing, or
    /// mapped so. What then still runs, such as a daemon, is ended.
    #[arg(long, value_name = "TIME", value_parser = words::time)]
    settle: Duration,

    /// Let in tools that root starts and that become another user
    #[arg(long, num_args = 0, default_missing_value = "true")]
    allow_other: bool,

    /// Let files in the mount have extended attributes, which costs requests and few tools use
    #[arg(long, num_args = 0, default_missing_value = "true")]
    xattr: bool,

    /// What the mount sees of opens and closes: nothing, which is fastest, or all of them
    ///
    /// Tools see no difference. `observed` costs two requests more for each open of a file.
    #[arg(long, value_name = "PROFILE", value_parser = one_of!(Profile))]
    profile: Profile,

    /// The CPUs for the tools and for notapipe itself: all, one (where it is now), or numbers: 0,2-3
    ///
    /// On one CPU each request to the file system is cheapest, and a tool with several threads has to
    /// share it. Worth it for tools that work one at a time, and for jobs that run side by side.
    #[arg(long, value_name = "LIST", value_parser = words::cpus)]
    cpus: Cpus,

    /// Send what the steps write to the file NAME to standard output, as they write it
    ///
    /// The steps' own standard output then goes to standard error. Bytes that were written again after
    /// they were sent are reported at the end. The job fails when not all of it could be sent, unless the reader
    /// has closed its end.
    #[arg(long, value_name = "NAME", value_parser = OsStringValueParser::new().try_map(followed))]
    follow: TreePath,

    /// Write what the job did to FILE, as JSON: steps, files, times, sizes, requests; see below; `-` is standard output
    ///
    /// Also of a job that failed. It sees which files each step touched, for two requests more for each
    /// open of a file; not with `--profile fast`.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,

    /// What the job's files live in: a FUSE mount, a tmpfs of the job's own, a directory, or (auto) the first that works
    ///
    /// `auto` says before the job when it is not FUSE; a backing that is named is that one or an error.
    /// `tmpfs` is mounted in namespaces of the job; the kernel enforces its limits.
    /// `directory` serves where namespaces are refused, as in a default container: of $TMPDIR, /dev/shm,
    /// $XDG_RUNTIME_DIR, /tmp, /run and other tmpfs the one that lets programs be executed and has the most room,
    /// and on disk, with a warning, only where none has room for the inputs. Its limits are watched: a job that exceeds
    /// one is ended, but it may take more for a moment; root's --allow-other opens it to all users; --at is refused
    /// where namespaces are.
    ///
    /// In neither of the two are there lists of touched files in a --report, or --mount public; --follow looks every
    /// 20 ms, and what it tells as changed are blocks of 4 KiB. `notapipe doctor` tells which backings work here.
    #[arg(long, value_name = "WHERE", value_parser = one_of!(Backing))]
    backing: Backing,

    /// Put everything that was in the mount to DEST when the job fails: an archive by its name, or a directory
    ///
    /// An archive is a .tar, .tar.gz, .tar.zst, .tar.xz or .zip, and takes the place of one that is there;
    /// a directory must be empty or not there. Kept is also what a job left that ran out of time, or that a
    /// signal ended, and outputs that could not be delivered.
    #[arg(long, value_name = "DEST")]
    keep_on_failure: PathBuf,
}

/// Any word but none at all.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn followed(name: OsString) -> Result<TreePath, String> {
    TreePath::parse(name.as_bytes()).map_err(|error| {
        let name = quoted(&name);
        format!(
            "the name {name} after --follow cannot be used: {error}; write a path below the root of the mount"
        )
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct LimitArgs {
    /// The most that the mount may hold: 512M, 2G, 50% (of the memory; the default)
    #[arg(long, value_parser = words::size)]
    pub size: Option<Size>,

    /// The most files, directories and symlinks that it may hold: 100000, 64K (one for every 4 KiB of the size, and at
    /// least 1024)
    #[arg(long, value_name = "COUNT", value_parser = words::inodes)]
    pub inodes: Option<u64>,
}

impl LimitArgs {
    /// The limits that were asked for, and the defaults for those that were not: inodes follow the size.
    pub fn limits(self) -> Limits {
        let size = self.size.map(Size::to_bytes);
        let limits = size.map_or_else(memory::default_limits, Limits::of_bytes);
        Limits {
            inodes: self.inodes.unwrap_or(limits.inodes),
            ..limits
        }
    }
}

#[derive(Clone, Copy, Debug, Args)]
pub struct VerbosityArgs {
    /// Tell what was done; twice: everything
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Tell nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
}

impl VerbosityArgs {
    /// What was said, if anything was.
    pub fn given(self) -> Option<Verbosity> {
        match (self.quiet, self.verbose) {
            (true, _) => Some(Verbosity::Quiet),
            (_, 0) => None,
            (_, 1) => Some(Verbosity::Verbose),
            _ => Some(Verbosity::Debug),
        }
    }
}

impl From<VerbosityArgs> for Verbosity {
    fn from(args: VerbosityArgs) -> Self {
        args.given().unwrap_or_default()
    }
}

/// In which order `-i` and `--input`, and `-o` and `--output`, stand on the command line.
///
/// clap collects each option by itself; here `true` is the short form.
#[derive(Debug, Default)]
pub struct Order {
    pub inputs: Vec<bool>,
    pub outputs: Vec<bool>,
}

impl Order {
    /// Reads the positions of the options of `run`.
    pub fn of(run: Option<&ArgMatches>) -> Self {
        let Some(run) = run else {
            return Self::default();
        };
        let merge = |short, long| {
            let mut positions = BTreeMap::new();
            positions.extend(
                run.indices_of(short)
                    .into_iter()
                    .flatten()
                    .map(|at| (at, true)),
            );
            // Two values each; the first one's place counts.
            let long = run.indices_of(long).into_iter().flatten().step_by(2);
            positions.extend(long.map(|at| (at, false)));
            positions.into_values().collect()
        };
        Self {
            inputs: merge("stage", "input"),
            outputs: merge("collect", "output"),
        }
    }
}
