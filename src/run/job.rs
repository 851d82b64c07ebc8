//! What a job is to do, and doing it.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backing::{self, Backing, JobFiles};
use super::base::Base;
use super::commands::{feed_outputs, make_inputs};
use super::cpus::{Bound, Cpus, Slot, Slots};
use super::error::Error;
use super::events::{EventListener, Telling};
use super::failed::{ErrorKind, Failed};
use super::follow::{self, Followed, Following};
use super::inputs::{self, Listener, Readers, check_name, owner};
use super::limits::{LimitHolders, ResourceLimits};
use super::outcome::{Outcome, Phases, StepReport};
use super::own_tmp::{self, Tmp};
use super::pipeline::{Bounds, Pipeline};
use super::process::{Interrupt, Processes, StillRunning};
use super::running::RunningJob;
use super::semaphore::Semaphore;
use super::settle::{self, settle};
use super::spec::{
    InputSource, InputSpec, JobSpec, MatchingOutput, OutputSpec, PipedFile, Size, StepSpec,
};
use super::stdio;
use super::stdio::Descriptors;
use super::step::{Step, caller_directory};
use super::terminal::Terminal;
use crate::collect::{Glob, Wanted, select};
use crate::fuse::Profile;
use crate::memory;
use crate::mount::{BackedBy, MountError, MountOptions, OwnTmp, Visibility};
use crate::progress::Progress;
use crate::stage::{LeftBehind, Stage};
use crate::store::{Limits, Source, Timestamp, Tree, TreePath};
use crate::sys::signals::InheritedSignals;
use crate::text::panic_message;
use crate::view::Event;

/// Tools that insist on files, as a function: inputs, steps and outputs.
///
/// The steps run one after another in a private mount of their own, whose root is their working
/// directory. Nothing of it reaches a disk, and nothing of it is left afterwards, however the job
/// ends.
///
/// # Examples
///
/// ```no_run
/// # fn main() -> Result<(), notapipe::Error> {
/// let source = b"SECTION \"start\", ROM0[$100]\n jp $100\n";
/// let outcome = notapipe::Job::new()
///     .input("A.asm", &source[..])
///     .step(["rgbasm", "A.asm", "-o", "A.o"])
///     .step(["rgblink", "A.o", "-o", "A.gb"])
///     .output("A.gb")
///     .run()?;
/// assert_eq!(outcome.output("A.gb").unwrap().len(), 32 * 1024);
/// # Ok(())
/// # }
/// ```
///
/// Inputs come from anywhere, and what the tools may take is bounded:
///
/// ```
/// use std::time::Duration;
///
/// use notapipe::Job;
/// use notapipe::store::Limits;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let outcome = Job::new()
///     .input("words", "pear\napple\n")
///     .input_reader("more", std::io::Cursor::new("fig\n"))
///     .input_host("users", "/etc/passwd")
///     .step(["sort", "words", "more", "-o", "sorted"])
///     .outputs(["sorted"])
///     .limits(Limits { bytes: 64 << 20, inodes: 1_000 })
///     .timeout(Duration::from_secs(10))
///     .kill_after(Duration::from_secs(1))
///     .run()?;
/// assert_eq!(outcome.output("sorted").unwrap(), "apple\nfig\npear\n");
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Job {
    spec: JobSpec,
    readers: Readers,
    sources: Vec<(TreePath, Source)>,
    base: Option<Tree>,
    /// One for each step of `spec`.
    descriptors: Vec<Descriptors>,
    follow: Vec<follow::Wanted>,
    signals: Option<InheritedSignals>,
    slots: Option<Slots>,
    semaphore: Option<Semaphore>,
    interrupt: Option<Interrupt>,
    steps_run: Option<Arc<AtomicBool>>,
    on_backing: Option<BackingListener>,
    on_staging: Option<Listener>,
    on_event: Option<EventListener>,
    takers_stdout: Option<OwnedFd>,
    /// When all must have ended, and how long it was given.
    deadline: Option<(Instant, Duration)>,
    /// The first name that was refused; told by `run`, so that building a job needs no `?`.
    invalid: Option<Error>,
}

/// Of [`Job::on_backing`].
type BackingListener = Box<dyn FnOnce(Option<&MountError>, &BackedBy) + Send>;

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("spec", &self.spec)
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// A job with nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A job that does what this says; see [`JobSpec`] for an example.
    ///
    /// What it says of deliveries and reports is for the program that runs the job: the outputs are in the [`Outcome`].
    pub fn from_spec(spec: JobSpec) -> Self {
        Self {
            descriptors: spec.step.iter().map(|_| Descriptors::default()).collect(),
            spec,
            ..Self::default()
        }
    }

    /// What can be said of it as data; see [`JobSpec`] for an example.
    pub fn spec(&self) -> &JobSpec {
        &self.spec
    }

    /// A file of these bytes. Large ones are shared and not copied: the same [`Bytes`] in several jobs are in
    /// memory once.
    #[must_use]
    pub fn input(mut self, name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Self {
        self.add_input(name.as_ref(), InputSource::Bytes(bytes.into()));
        self
    }

    /// A host file, or a host directory with all that is in it, under this name; `.` fills the
    /// root.
    #[must_use]
    pub fn input_host(mut self, name: impl AsRef<Path>, source: impl Into<PathBuf>) -> Self {
        self.add_input(name.as_ref(), InputSource::Host(source.into()));
        self
    }

    fn add_input(&mut self, name: &Path, source: InputSource) {
        if let Some(name) = self.checked("input", name) {
            self.spec.input.push(InputSpec { name, source });
        }
    }

    /// A name that can stand in the mount; what is wrong with another is told when the job is to run.
    fn checked(&mut self, role: &'static str, name: &Path) -> Option<TreePath> {
        let path = check_name(role, name);
        path.map_err(|error| self.invalid.get_or_insert(error)).ok()
    }

    /// A file of everything that this reader gives, read when the job runs, before its first step. In the
    /// [`spec`](Self::spec) it is [`InputSource::Stdin`]; an input of that name and source that has no reader yet gets this
    /// one.
    #[must_use]
    pub fn input_reader(
        mut self,
        name: impl AsRef<Path>,
        reader: impl Read + Send + 'static,
    ) -> Self {
        if let Some(name) = self.checked("input", name.as_ref()) {
            self.readers
                .add_input(&mut self.spec, name, Box::new(reader));
        }
        self
    }

    /// All members of an archive, given as its bytes; see [`unpack_host`](Self::unpack_host).
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::archive::Format;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sdk = Job::new().step(["touch", "a.inc", "b.inc"]).output_changed().run()?;
    /// let mut archive = Vec::new();
    /// sdk.pack(Format::TarZst).write(&mut archive)?;
    ///
    /// let outcome = Job::new().unpack(archive).step(["ls"]).run()?;
    /// assert_eq!(outcome.steps()[0].stdout.to_text(), "a.inc\nb.inc\n");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack(mut self, archive: impl Into<Bytes>) -> Self {
        self.spec.unpack.push(InputSource::Bytes(archive.into()));
        self
    }

    /// All members of an archive of the host, under their names: a tar (plain, gzip, zstd or xz) or a
    /// zip, known by its content.
    ///
    /// Archives come before all other inputs, which may replace some of it. Members that climb, absolute
    /// names and device nodes are refused, and then nothing is staged; see [`archive`](crate::archive), and
    /// [`unpack`](Self::unpack) for an example.
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack_host(mut self, archive: impl Into<PathBuf>) -> Self {
        self.spec.unpack.push(InputSource::Host(archive.into()));
        self
    }

    /// All members of an archive that this reader gives; see [`unpack_host`](Self::unpack_host), and
    /// [`unpack`](Self::unpack) for an example. A zip is first read as a whole.
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack_reader(mut self, archive: impl Read + Send + 'static) -> Self {
        self.readers.add_archive(&mut self.spec, Box::new(archive));
        self
    }

    /// A file that is made when a step first reaches for it, and never if none does.
    ///
    /// It does not delay the job's end: a source that is still at work when the job is over, or out of time, is
    /// not waited for. One that fails fails the job. See [`Scratch::write_source`](crate::Scratch::write_source) for what may wait for what.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Source};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = Job::new()
    ///     .input_source("words", Source::new(|| Ok("pear\napple\n")))
    ///     .step(["sort", "words", "-o", "sorted"])
    ///     .output("sorted")
    ///     .run()?;
    /// assert_eq!(outcome.output("sorted").unwrap(), "apple\npear\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn input_source(mut self, name: impl AsRef<Path>, source: Source) -> Self {
        if let Some(path) = self.checked("input", name.as_ref()) {
            self.sources.push((path, source));
        }
        self
    }

    /// A file of what a command writes to its standard output.
    ///
    /// The shell runs it in the directory of this process, outside of the mount, when everything else is
    /// staged. All such commands run side by side, and the first step starts when they have ended. They
    /// read nothing, and their standard error is that of this process. When one fails, the others are
    /// ended with all that they started, and so does the job. A command counts for
    /// [`timeout`](Self::timeout) like a step.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .input_from("numbers", "seq 100 | grep 7")
    ///     // Something that seeks, or reads it twice.
    ///     .step(["tac", "numbers"])
    ///     .run()?;
    /// assert!(outcome.steps()[0].stdout.to_text().starts_with("97\n87\n"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn input_from(mut self, name: impl AsRef<Path>, command: impl Into<OsString>) -> Self {
        if let Some(name) = self.checked("input", name.as_ref()) {
            let command = command.into();
            self.spec.input_from.push(PipedFile { name, command });
        }
        self
    }

    /// A file that the steps must leave, for the standard input of a command.
    ///
    /// The commands run like those of [`input_from`](Self::input_from), when all steps have succeeded and
    /// all outputs are there. One need not read all of it; one that fails fails the job.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// notapipe::Job::new()
    ///     .step(["sh", "-c", "echo made > file"])
    ///     .output_to("file", "grep -q made")
    ///     .run()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn output_to(mut self, name: impl AsRef<Path>, command: impl Into<OsString>) -> Self {
        if let Some(name) = self.checked("output", name.as_ref()) {
            let command = command.into();
            self.spec.output_to.push(PipedFile { name, command });
        }
        self
    }

    /// Where the commands of [`output_to`](Self::output_to) write; the standard output of this process
    /// unless said.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut reader, writer) = std::io::pipe()?;
    /// notapipe::Job::new()
    ///     .step(["sh", "-c", "echo made > file"])
    ///     .output_to("file", "tr a-z A-Z")
    ///     .output_to_stdout(writer.into())
    ///     .run()?;
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text)?;
    /// assert_eq!(text, "MADE\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn output_to_stdout(mut self, stdout: OwnedFd) -> Self {
        self.takers_stdout = Some(stdout);
        self
    }

    /// Everything that is in a [`Base`], before the inputs, which may replace some of it.
    #[must_use]
    pub fn base(mut self, base: &Base) -> Self {
        self.base = Some(base.tree.fork());
        self
    }

    /// A command to run after those before it, if they all succeeded.
    #[must_use]
    pub fn step(mut self, step: impl Into<Step>) -> Self {
        self.add_step(step.into(), false);
        self
    }

    fn add_step(&mut self, step: Step, pipe: bool) {
        if let Some(error) = step.invalid {
            self.invalid.get_or_insert(error);
        }
        self.spec.step.push(StepSpec { pipe, ..step.spec });
        self.descriptors.push(step.descriptors);
    }

    /// A command that reads the standard output of the one before it: both run at once, and the
    /// steps after them when both have ended. Each must succeed, as with `set -o pipefail` in a
    /// shell; when one fails, the others have two seconds to end.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .step(["printf", "b\na\n"])
    ///     .pipe(["sort", "-o", "sorted"])
    ///     .output("sorted")
    ///     .run()?;
    /// assert_eq!(outcome.output("sorted").unwrap(), "a\nb\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pipe(mut self, step: impl Into<Step>) -> Self {
        let is_first = self.spec.step.is_empty();
        self.add_step(step.into(), !is_first);
        self
    }

    /// A file or directory that the steps must leave. The directories above it stand before the
    /// first step.
    #[must_use]
    pub fn output(mut self, name: impl AsRef<Path>) -> Self {
        let name = self.checked("output", name.as_ref());
        self.spec.output.extend(name.map(OutputSpec::new));
        self
    }

    /// A file or directory that the steps may leave, as [`output`](Self::output) where they do.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .step(["touch", "made"])
    ///     .output_optional("made")
    ///     .output_optional("warnings.txt")
    ///     .run()?;
    /// assert_eq!(outcome.outputs().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn output_optional(mut self, name: impl AsRef<Path>) -> Self {
        let name = self.checked("output", name.as_ref());
        self.spec.optional.extend(name.map(OutputSpec::new));
        self
    }

    /// All that matches a pattern in the end; it is an error when nothing does. The directory that the
    /// pattern begins with stands before the first step. See [`Glob`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .step(["touch", "build/a.gb", "build/b.gb", "build/b.o"])
    ///     .output_matching("build/*.gb")
    ///     .run()?;
    /// let names: Vec<_> = outcome.outputs().map(|(name, _)| name.to_string()).collect();
    /// assert_eq!(names, ["build/a.gb", "build/b.gb"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn output_matching(mut self, pattern: &str) -> Self {
        match Glob::new(pattern) {
            Ok(glob) => self.spec.collect.push(MatchingOutput::new(glob)),
            Err(error) => {
                let pattern = pattern.to_owned();
                self.invalid
                    .get_or_insert(Error::Pattern { pattern, error });
            }
        }
        self
    }

    /// All that is new or changed in the end, without naming it; see
    /// [`changed`](crate::collect::changed).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .input("src/a", "ceci")
    ///     .step(["cp", "src/a", "b"])
    ///     .output_changed()
    ///     .run()?;
    /// let names: Vec<_> = outcome.outputs().map(|(name, _)| name.to_string()).collect();
    /// assert_eq!(names, ["b"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn output_changed(mut self) -> Self {
        self.spec.changed.get_or_insert_with(|| ".".into());
        self
    }

    /// Several outputs; see [`output`](Self::output).
    #[must_use]
    pub fn outputs<N: AsRef<Path>>(self, names: impl IntoIterator<Item = N>) -> Self {
        names.into_iter().fold(self, |job, name| job.output(name))
    }

    /// Hands on what the steps write to this file, as they write it: for a tool that logs only to a file.
    ///
    /// It begins when a step first opens the file for writing and ends when nothing of the job runs any
    /// more. Each byte is handed on once; [`Outcome::followed`] tells which changed afterwards. The job
    /// is [observed](Profile::Observed) then. A sink that fails, as a pipe with O_NONBLOCK does when it is full, gets no
    /// more, and [`Followed::error`] says so; an [`InterruptibleWriter`](crate::collect::InterruptibleWriter) waits for such a pipe.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .follow("log", std::io::stdout())
    ///     .step(["sh", "-c", "echo one > log; echo two >> log"])
    ///     .run()?;
    /// assert_eq!(outcome.followed()[0].bytes, Some(8));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn follow(mut self, name: impl AsRef<Path>, sink: impl Write + Send + 'static) -> Self {
        let sink = Box::new(sink);
        if let Some(name) = self.checked("followed", name.as_ref()) {
            self.follow.push(follow::Wanted { name, sink });
        }
        self
    }

    /// The most that the mount may hold; half of the memory that this process may use unless said.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.spec.size = Some(Size::Bytes(limits.bytes));
        self.spec.inodes = Some(limits.inodes);
        self
    }

    /// The path under which the steps see the mount: an existing directory, over which they see it.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::mount::Visibility;
    /// use notapipe::{Job, Profile};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = Job::new()
    ///     .at("/mnt")
    ///     .visibility(Visibility::Private)
    ///     .profile(Profile::Observed)
    ///     .extended_attributes(true)
    ///     .allow_other(true)
    ///     .step(["sh", "-c", "pwd; touch made"])
    ///     .run()?;
    /// let report = &outcome.steps()[0];
    /// assert_eq!(report.stdout.to_text(), "/mnt\n");
    /// assert_eq!(report.touched.as_ref().unwrap().created[0].to_string(), "made");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spec.at = Some(dir.into());
        self
    }

    /// Who can see the mount; private where that is possible unless said.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.spec.mount = visibility;
        self
    }

    /// Where what the steps write to `/tmp`, `/var/tmp` and `/dev/shm`, and to where TMPDIR, TMP and TEMP point, goes; to
    /// the job unless said: it is in RAM, counts for the [limits](Self::limits), is seen by the job alone, is in no
    /// output, and is gone when the job ends. What the caller has there, but in `/dev/shm`, can be read and executed.
    ///
    /// Where the job has no namespaces (a public mount, or a system that refuses them), these variables lead to a
    /// directory of the job's.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::run::Tmp;
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let write = ["sh", "-c", "echo ceci > /tmp/notapipe-example-$PPID.txt"];
    /// Job::new().step(write).run()?;
    /// assert!(!std::fs::exists("/tmp/notapipe-example-1.txt").unwrap());
    /// // As every other process has it.
    /// Job::new().tmp(Tmp::Host).step(["test", "-d", "/tmp"]).run()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tmp(mut self, tmp: Tmp) -> Self {
        self.spec.tmp = tmp;
        self
    }

    /// Whether opens and closes are seen; [`Profile::Fast`] unless said.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.spec.profile = Some(profile);
        self
    }

    /// Whether files in the mount can have extended attributes; they cannot unless said, because
    /// few tools use them and they cost requests (see
    /// [`ScratchBuilder::extended_attributes`](crate::ScratchBuilder::extended_attributes)).
    #[must_use]
    pub fn extended_attributes(mut self, allowed: bool) -> Self {
        self.spec.xattr = allowed;
        self
    }

    /// Lets in steps that become another user, which only root's can. They are kept out unless
    /// said: the kernel then need not check permissions, which all would pass.
    #[must_use]
    pub fn allow_other(mut self, allowed: bool) -> Self {
        self.spec.allow_other = allowed;
        self
    }

    /// The CPUs for the job's processes and for the thread that serves its mount; all that the
    /// calling thread may use unless said. One CPU makes requests cheap and takes all parallelism. See [`Cpus`].
    #[must_use]
    pub fn cpus(mut self, cpus: Cpus) -> Self {
        self.spec.cpus = cpus;
        self
    }

    /// One CPU, the least used of these [`Slots`], when the job starts. For jobs that run side by side.
    #[must_use]
    pub fn slots(mut self, slots: &Slots) -> Self {
        self.slots = Some(slots.clone());
        self
    }

    /// Has the job wait, before anything else, until fewer others of this [`Semaphore`] run than may.
    #[must_use]
    pub fn semaphore(mut self, semaphore: &Semaphore) -> Self {
        self.semaphore = Some(semaphore.clone());
        self
    }

    /// A variable of the environment of all steps, in the place of one of this name, as
    /// [`std::process::Command::env`] has it; [`Step::env`] has precedence. Commands beside the job do not get it.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Step};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let print = || Step::new(["sh", "-c", "echo $LANG $MODE"]);
    /// let outcome = Job::new()
    ///     .env("LANG", "C")
    ///     .envs([("MODE", "fast")])
    ///     .step(print())
    ///     .step(print().env("MODE", "exact"))
    ///     .run()?;
    /// let said = |step: usize| outcome.steps()[step].stdout.to_text();
    /// assert_eq!((said(0).as_str(), said(1).as_str()), ("C fast\n", "C exact\n"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.spec.env.push((name.into(), value.into()));
        self
    }

    /// Several variables; see [`env`](Self::env).
    #[must_use]
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let add = |job: Self, (name, value)| job.env(name, value);
        variables.into_iter().fold(self, add)
    }

    /// Leaves the steps nothing of the environment of this process, nor of what was said before, as
    /// [`std::process::Command::env_clear`] has it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let job = notapipe::Job::new().env("A", "1").env_clear().env("B", "2");
    /// let outcome = job.step(["/usr/bin/env"]).run()?;
    /// assert_eq!(outcome.steps()[0].stdout.to_text(), "B=2\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.spec.env_clear = true;
        self.spec.env.clear();
        self
    }

    /// How many bytes of each captured stream of a step are kept, the last ones: 8 MiB unless said.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let job = notapipe::Job::new().capture_bytes(4).step(["echo", "ceci", "cela"]);
    /// let outcome = job.run()?;
    /// let stdout = &outcome.steps()[0].stdout;
    /// assert_eq!((stdout.to_text().as_str(), stdout.dropped), ("ela\n", 6));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn capture_bytes(mut self, bytes: usize) -> Self {
        self.spec.capture_bytes = Some(bytes);
        self
    }

    /// The most time that the job may take, from the beginning of the staging to the end of the last command. After it,
    /// everything in the job is killed; or first asked to end, see [`kill_after`](Self::kill_after). A reader of the
    /// caller's that does not return is waited for. More than the clock can count is no limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spec.timeout = Some(timeout);
        self
    }

    /// At the [`timeout`](Self::timeout), everything in the job gets SIGTERM, and this time to end
    /// before it is killed. The job has failed with [`Error::Timeout`] all the same.
    #[must_use]
    pub fn kill_after(mut self, patience: Duration) -> Self {
        self.spec.kill_after = Some(patience);
        self
    }

    /// Which signals the steps, and the commands of [`input_from`](Self::input_from) and its like, start with ignored and
    /// held back. Unless said, those are ignored that this program ignores, but for SIGPIPE, and none is held back.
    ///
    /// For a program that passes on what its own caller gave it, as env(1) does; see [`InheritedSignals`] for an example.
    #[must_use]
    pub fn inherited_signals(mut self, signals: InheritedSignals) -> Self {
        self.signals = Some(signals);
        self
    }

    /// The most that the job's processes may use; nothing is limited unless said. See [`ResourceLimits`].
    #[must_use]
    pub fn resource_limits(mut self, limits: ResourceLimits) -> Self {
        self.spec.limit = limits;
        self
    }

    /// How long processes that the steps left behind may go on writing, 10 seconds unless said.
    ///
    /// Outputs are taken when nobody in the job has a file of the mount open for writing, or mapped
    /// so. What then still runs is killed. When somebody still writes after this time, the job has
    /// failed with [`Error::StillWritten`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use notapipe::{Error, Job};
    ///
    /// let job = Job::new().step(["sh", "-c", "exec > log; sleep 60 &"]);
    /// let ended = job.settle(Duration::from_millis(50)).run();
    /// assert!(matches!(ended.unwrap_err().error, Error::StillWritten { .. }));
    /// ```
    #[must_use]
    pub fn settle(mut self, patience: Duration) -> Self {
        self.spec.settle = Some(patience);
        self
    }

    /// Lets another thread end the job: raising the [`Interrupt`] kills everything in it, and
    /// [`run`](Self::run) returns [`Error::Cancelled`].
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// A flag that is true while steps run: for a program on a terminal, where Ctrl-C reaches the steps as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let runs = Arc::new(AtomicBool::new(false));
    /// notapipe::Job::new().running_flag(Arc::clone(&runs)).step(["true"]).run()?;
    /// assert!(!runs.load(Ordering::SeqCst), "they have ended");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn running_flag(mut self, flag: Arc<AtomicBool>) -> Self {
        self.steps_run = Some(flag);
        self
    }

    /// What the job's files live in while its steps run; [`Backing::Auto`] unless said, which
    /// [`on_backing`](Self::on_backing) and [`Outcome::backing`] tell of. One that is named is that one or an error.
    ///
    /// A tool that meets a limit sees ENOSPC in a mount and on a tmpfs. In a directory, limits are watched: a job that exceeds
    /// one is ended with [`Error::OverLimit`], perhaps after it took more, or with [`Error::NoRoom`] where there was less room
    /// than the limit; other processes of the same user can reach the files, and with [`allow_other`](Self::allow_other) those
    /// of all users. Without FUSE, a file to [`follow`](Self::follow) is looked at every 20 ms: it begins when its content
    /// changes, and what is told as rewritten are blocks of 4 KiB whose bytes are others in the end; and files are moved and
    /// not copied: [`Outcome::staged`] has holes in the place of what steps have changed. What a backing cannot give
    /// ([`input_source`](Self::input_source), a public [visibility](Self::visibility), and [`at`](Self::at) where namespaces
    /// are refused) is [`Error::NeedsFuse`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::run::Backing;
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// for backing in [Backing::Auto, Backing::Tmpfs, Backing::Directory] {
    ///     let outcome = Job::new()
    ///         .backing(backing)
    ///         .step(["sh", "-c", "echo made > out"])
    ///         .output("out")
    ///         .run()?;
    ///     assert_eq!(outcome.output("out").unwrap(), "made\n");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn backing(mut self, backing: Backing) -> Self {
        self.spec.backing = backing;
        self
    }

    /// Called before the first step of a job whose files are not in a FUSE mount: what they are in, and why there is no
    /// mount, unless that was [asked for](Self::backing).
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::mount::Storage;
    /// use notapipe::run::Backing;
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let outcome = notapipe::Job::new()
    ///     .on_backing(|why, backed| match backed.storage {
    ///         Storage::Disk => eprintln!("{why:?}: on disk, in {}", backed.directory.display()),
    ///         _ => {}
    ///     })
    ///     .step(["true"])
    ///     .run()?;
    /// assert_eq!(outcome.backing() == Backing::Fuse, outcome.without_fuse().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_backing(
        mut self,
        listener: impl FnOnce(Option<&MountError>, &BackedBy) + Send + 'static,
    ) -> Self {
        self.on_backing = Some(Box::new(listener));
        self
    }

    /// Called, on a thread of its own, for every [`Event`] in the job's mount from the first step on, as it happens. All
    /// have been told when the job has ended. The job is [observed](Profile::Observed) then, and needs FUSE.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use notapipe::{Event, Job};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let (sender, events) = mpsc::channel();
    /// Job::new()
    ///     .on_event(move |event| drop(sender.send(event)))
    ///     .step(["touch", "made"])
    ///     .run()?;
    /// let created = events.iter().find(|it| matches!(it, Event::Created { .. })).unwrap();
    /// assert_eq!(created.path().unwrap().to_string(), "made");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(listener));
        self
    }

    /// Called after every block and every file that is staged; `Break` ends the job.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use notapipe::{Error, Job};
    ///
    /// let staged = Job::new()
    ///     .input("large", vec![0; 8 << 20])
    ///     .on_staging(|so_far| match so_far.bytes {
    ///         0..1_000_000 => ControlFlow::Continue(()),
    ///         _ => ControlFlow::Break(()),
    ///     })
    ///     .step(["true"])
    ///     .run();
    /// assert!(matches!(staged.unwrap_err().error, Error::Stage(_)));
    /// ```
    #[must_use]
    pub fn on_staging(
        mut self,
        listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        self.on_staging = Some(Box::new(listener));
        self
    }

    /// Stages the inputs once, for many jobs. See [`Base`] for an example.
    ///
    /// What cannot be data and is not for staging (descriptors, closures, sources, an interrupt) does not become a part of
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Stage`].
    pub fn into_base(mut self) -> Result<Base, Error> {
        if let Some(error) = self.invalid.take() {
            return Err(error);
        }
        let (tree, skipped) = self.stage()?;
        let mut spec = self.spec;
        spec.input.clear();
        #[cfg(feature = "archives")]
        spec.unpack.clear();
        Ok(Base {
            tree,
            skipped,
            spec,
        })
    }

    /// Starts the job on a thread of its own, and returns at once. See [`RunningJob`].
    ///
    /// A running job of one step takes up to 17 descriptors and 4 threads of this process; a [`Semaphore`] bounds how many
    /// run at once.
    ///
    /// # Errors
    ///
    /// [`Error::Processes`] when the system has no room for another thread or descriptor.
    /// Everything else is told by [`RunningJob::wait`].
    pub fn start(mut self) -> Result<RunningJob, Error> {
        let failed = |source| Error::Processes {
            operation: "prepare",
            source,
        };
        let interrupt = match &self.interrupt {
            Some(interrupt) => interrupt.clone(),
            None => Interrupt::new().map_err(failed)?,
        };
        self.interrupt = Some(interrupt.clone());
        RunningJob::start(self, interrupt).map_err(failed)
    }

    /// Stages the inputs, runs the steps in a mount of their own, and takes the tree back.
    ///
    /// # Errors
    ///
    /// [`Failed`]: any [`Error`], which says what failed, on which path or in which step, and what to do; with what there is
    /// of the job, when it failed after its mount was made. A panic of a closure or a reader of the caller's is
    /// [`Error::Panicked`]; it ends this job and goes no further.
    ///
    /// # Examples
    ///
    /// ```
    /// let failed = notapipe::Job::new()
    ///     .step(["sh", "-c", "echo half of it > out; exit 3"])
    ///     .output("out")
    ///     .run()
    ///     .unwrap_err();
    /// assert_eq!(failed.kind(), notapipe::ErrorKind::StepFailed);
    /// let outcome = failed.outcome.unwrap();
    /// assert_eq!(outcome.output("out").unwrap(), "half of it\n");
    /// ```
    pub fn run(mut self) -> Result<Outcome, Failed> {
        // Whatever a panic leaves is dropped with the job, which nobody sees afterwards.
        let ran = panic::catch_unwind(AssertUnwindSafe(|| self.try_run()));
        ran.unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            Err(Error::Panicked { message }.into())
        })
    }

    fn try_run(&mut self) -> Result<Outcome, Failed> {
        if let Some(error) = self.invalid.take() {
            return Err(error.into());
        }
        let interrupt = self.interrupt.as_ref();
        let _permit = self
            .semaphore
            .as_ref()
            .map(|it| it.acquire(interrupt))
            .transpose()?;
        self.start_clock();
        self.spread_environment();
        let slot = self.slots.as_ref().map(Slots::take);
        let of_slot = slot.as_ref().map(Slot::cpus);
        // Whatever is started from here on inherits it: the serving thread as well as the steps.
        let _bound = bind(of_slot.as_ref().unwrap_or(&self.spec.cpus))?;
        let mut phases = Phases::default();
        let (mut tree, skipped) = timed(&mut phases.stage, || self.stage())?;
        timed(&mut phases.stage, || self.make_inputs(&mut tree))?;
        let (files, why_not_fuse) = timed(&mut phases.mount, || self.make_files(tree))?;
        if let (Some(listener), Some(backed_by)) = (self.on_backing.take(), files.backed_by()) {
            listener(why_not_fuse.as_ref(), backed_by);
        }
        let mut record = Record::default();
        let ran = timed(&mut phases.run, || self.run_steps(&*files, &mut record));
        let (backing, requests) = (files.backing(), files.requests());
        let left = timed(&mut phases.unmount, || files.end())?;
        let outcome = Outcome {
            steps: record.steps,
            steps_not_run: record.not_run,
            outputs: Vec::new(),
            staged: left.staged,
            peak: left.peak,
            tree: left.tree,
            skipped,
            limit_met: left.limit_met,
            tmp_full: left.tmp_full,
            requests,
            phases,
            followed: record.followed,
            resource_limits: self.spec.limit,
            limits_by: record.limits_by,
            backing,
            without_fuse: why_not_fuse,
            still_running: record.still_running,
        };
        // The step saw EIO and failed, or made something of it; the reason is here.
        let ran = ran.and_then(|()| left.failed_source.map_or(Ok(record.failed), Err));
        // A step that failed by itself has seen that there was no room.
        let ran = ran.and_then(|failed| match (failed, left.shortage) {
            (None, Some(shortage)) => Err(shortage),
            _ => Ok(failed),
        });
        let ran = match outcome.still_running {
            // Its mount is left with them, and what failed before is why.
            Some(_) => ran,
            None => left.closed.and(ran),
        };
        self.conclude(outcome, ran, left.lost_files)
    }

    /// The files of the job, and why they are not in a FUSE mount where that would have been first.
    fn make_files(&mut self, tree: Tree) -> Result<(Box<dyn JobFiles>, Option<MountError>), Error> {
        let wanted = backing::Wanted {
            backing: self.spec.backing,
            profile: self.needed_profile(),
            extended_attributes: self.spec.xattr,
            events: self.on_event.is_some(),
            mount: self.mount_options(self.own_tmp(tree.usage().limits)),
        };
        backing::make(&wanted, tree, std::mem::take(&mut self.sources))
    }

    /// What the job comes to when everything in it has ended. `ran` tells which step failed.
    fn conclude(
        &mut self,
        mut outcome: Outcome,
        ran: Result<Option<usize>, Error>,
        lost_files: Vec<TreePath>,
    ) -> Result<Outcome, Failed> {
        let ran = ran.and_then(|failed| match failed {
            Some(step) => Err(Error::step(step, &outcome.steps[step])),
            None => self.complete(&mut outcome, lost_files),
        });
        match ran {
            Ok(()) => Ok(outcome),
            Err(error) => {
                outcome.take_what_there_is(&self.wanted());
                Err(Failed {
                    error,
                    outcome: Some(Box::new(outcome)),
                })
            }
        }
    }

    /// All steps have succeeded: looks whether what they left is whole, and all there.
    fn complete(&mut self, outcome: &mut Outcome, lost_files: Vec<TreePath>) -> Result<(), Error> {
        if let Some(file) = lost_files.into_iter().next() {
            let limits = outcome.usage().limits;
            return Err(Error::LostPages { file, limits });
        }
        outcome.outputs = select(&outcome.tree, &outcome.staged, &self.wanted())?;
        self.feed_outputs(outcome)
    }

    fn wanted(&self) -> Vec<Wanted> {
        self.spec.wanted().collect()
    }

    fn stage(&mut self) -> Result<(Tree, LeftBehind), Error> {
        let owner = owner();
        let mut tree = match self.base.take() {
            Some(mut base) => {
                let of_base = base.usage().limits;
                if let Some(limits) = self.spec.limits(|| of_base) {
                    base.set_limits(limits);
                }
                base
            }
            None => {
                let limits = self.spec.limits(memory::default_limits);
                let limits = limits.unwrap_or_else(memory::default_limits);
                Tree::new(limits, 0o755, owner.uid, owner.gid, Timestamp::now())
            }
        };
        let readers = std::mem::take(&mut self.readers);
        let listener = self.staging_listener();
        let staged = inputs::stage(&self.spec, readers, &mut tree, owner, listener);
        let bounds = self.bounds();
        let skipped = staged.map_err(|error| match error.kind() {
            ErrorKind::Cancelled if bounds.is_interrupted() => Error::Cancelled,
            ErrorKind::Cancelled if bounds.is_late() => bounds.timeout(None),
            _ => error,
        })?;
        let mut stage = Stage::new(&mut tree, owner, Timestamp::now());
        let above = self.spec.wanted().filter_map(|it| it.above());
        let taken = self.spec.output_to.iter();
        for above in above.chain(taken.filter_map(|it| it.name.parent())) {
            stage.directory(&above)?;
        }
        stage.finish();
        Ok((tree, skipped))
    }

    /// Only an observed mount tells who writes.
    fn needed_profile(&self) -> Profile {
        match self.follow.is_empty() && self.on_event.is_none() {
            true => self.spec.profile(),
            false => Profile::Observed,
        }
    }

    fn make_inputs(&mut self, tree: &mut Tree) -> Result<(), Error> {
        if self.spec.input_from.is_empty() {
            return Ok(());
        }
        let bounds = self.bounds();
        make_inputs(&self.spec.input_from, self.signals, tree, owner(), bounds)
    }

    fn feed_outputs(&mut self, outcome: &Outcome) -> Result<(), Error> {
        if self.spec.output_to.is_empty() {
            return Ok(());
        }
        let taken = self.spec.output_to.iter().map(|it| Wanted::from(&it.name));
        select(&outcome.tree, &outcome.staged, &taken.collect::<Vec<_>>())?;
        let stdout = match &self.takers_stdout {
            Some(stdout) => stdout.as_fd(),
            None => rustix::stdio::stdout(),
        };
        let bounds = self.bounds();
        let commands = &self.spec.output_to;
        feed_outputs(commands, self.signals, &outcome.tree, stdout, bounds)
    }

    fn start_clock(&mut self) {
        let end = |timeout| Some((Instant::now().checked_add(timeout)?, timeout));
        self.deadline = self.spec.timeout.and_then(end);
    }

    /// The environment of the job is that of each step that does not want one of its own.
    fn spread_environment(&mut self) {
        let JobSpec {
            env,
            env_clear,
            step,
            ..
        } = &mut self.spec;
        for step in step.iter_mut().filter(|it| !it.env_clear) {
            step.env_clear = *env_clear;
            step.env.splice(0..0, env.iter().cloned());
        }
    }

    /// The caller's listener, which also ends the staging when the job must end.
    fn staging_listener(&mut self) -> Listener {
        let (deadline, interrupt) = (self.deadline, self.interrupt.clone());
        let mut listener = self.on_staging.take();
        Box::new(move |progress| {
            let bounds = Bounds {
                deadline,
                interrupt: interrupt.as_ref(),
                ..Bounds::default()
            };
            match &mut listener {
                _ if bounds.is_late() || bounds.is_interrupted() => ControlFlow::Break(()),
                Some(listener) => listener(progress),
                None => ControlFlow::Continue(()),
            }
        })
    }

    fn bounds(&self) -> Bounds<'_> {
        Bounds {
            deadline: self.deadline,
            interrupt: self.interrupt.as_ref(),
            kill_after: self.spec.kill_after,
            session: None,
            files: None,
        }
    }

    /// What the steps are to have for themselves besides the mount.
    fn own_tmp(&self, limits: Limits) -> Option<OwnTmp> {
        let wanted = || own_tmp::wanted(&self.spec.step, limits, caller_directory());
        (self.spec.tmp == Tmp::Job).then(wanted)
    }

    fn mount_options(&self, own_tmp: Option<OwnTmp>) -> MountOptions {
        MountOptions {
            own_tmp,
            visibility: self.spec.mount,
            at: self.spec.at.clone(),
            allow_other: self.spec.allow_other,
            ..MountOptions::default()
        }
    }

    /// Runs the steps, and hands on what they write to files that are followed.
    fn run_steps(&mut self, files: &dyn JobFiles, record: &mut Record) -> Result<(), Error> {
        let telling = match self.on_event.take() {
            Some(listener) => Some(Telling::start(files.watch()?, listener)?),
            None => None,
        };
        let wanted = std::mem::take(&mut self.follow).into_iter();
        let followings: Vec<_> = wanted
            .map(|wanted| Following::start(files.follow(&wanted.name)?, wanted))
            .collect::<Result<_, _>>()?;
        let ran = self.run_pipelines(files, record);
        let finish = |following: Following| following.finish(self.interrupt.as_ref());
        // Also when the steps failed: a log is wanted most then.
        record.followed = followings.into_iter().map(finish).collect();
        let told = telling.map_or(Ok(()), Telling::finish);
        ran.and(told)
    }

    /// The steps, those together that a pipe joins.
    fn take_pipelines(&mut self) -> Vec<Pipeline> {
        let descriptors = std::mem::take(&mut self.descriptors);
        let mut pipelines: Vec<Pipeline> = Vec::new();
        for (spec, descriptors) in self.spec.step.iter().zip(descriptors) {
            let step = Step {
                descriptors,
                capture_bytes: self.spec.capture_bytes.unwrap_or(stdio::CAPTURE_BYTES),
                ..Step::from(spec.clone())
            };
            match pipelines.last_mut().filter(|_| spec.pipe) {
                Some(pipeline) => pipeline.push(step),
                None => pipelines.push(Pipeline::from(step)),
            }
        }
        pipelines
    }

    /// Runs the steps in order, up to the first that fails. Everything that still ran in the mount
    /// has ended when this returns.
    fn run_pipelines(&mut self, files: &dyn JobFiles, record: &mut Record) -> Result<(), Error> {
        let terminal = Terminal::held();
        let running = self.steps_run.clone().map(Running::new);
        let pipelines = self.take_pipelines();
        let bounds = Bounds {
            session: files.session_end(),
            files: Some(files),
            ..self.bounds()
        };
        let mut processes = Processes::start_limited(files.place(), self.spec.limit)
            .map_err(|source| Error::Processes {
                operation: "prepare",
                source,
            })?
            .with_signals(self.signals);
        record.limits_by = processes.limits_by();
        if let Some(temporary) = files.temporary() {
            processes.use_tmp(temporary);
        }
        let requests = files.requests();
        let mut nobody_left = true;
        let mut pipelines = pipelines.into_iter();
        let mut stopped_by = None;
        while stopped_by.is_none()
            && record.failed.is_none()
            && let Some(pipeline) = pipelines.next()
        {
            // What staging did, or who goes on in the background, is no step's.
            files.take_touched();
            let ran = pipeline.run(&processes, &requests, bounds);
            let reports = match ran {
                Ok(ran) => {
                    record.failed = ran.failed.map(|step| record.steps.len() + step);
                    nobody_left = ran.nobody_left;
                    ran.reports
                }
                Err(mut stopped) => {
                    // Whoever waits for a source could not be ended while it waits.
                    files.cancel_sources();
                    record.not_run.append(&mut stopped.not_started);
                    let (error, reports) = stopped.end(&processes, &requests);
                    stopped_by = Some(error);
                    reports
                }
            };
            if let Some(terminal) = &terminal {
                terminal.take_back();
            }
            let touched = files.take_touched();
            record
                .steps
                .extend(reports.into_iter().map(|report| StepReport {
                    touched: touched.clone(),
                    ..report
                }));
        }
        drop(running);
        let not_run = pipelines.flat_map(|it| it.commands().collect::<Vec<_>>());
        record.not_run.extend(not_run);
        if let Some(error) = stopped_by {
            record.still_running = processes.end().err();
            return Err(error);
        }
        // What failed has no results.
        if record.failed.is_none() && !nobody_left {
            let patience = self.spec.settle.unwrap_or(settle::DEFAULT);
            let last = record.steps.last().and_then(|it| it.command.first());
            settle(
                &processes,
                patience,
                bounds,
                last.cloned().unwrap_or_default(),
                &|ino| files.has_name(ino),
            )
            .inspect_err(|_| files.cancel_sources())?;
        }
        if record.failed.is_none() {
            bounds.check_session(&processes)?;
            processes.check_path()?;
        }
        files.cancel_sources();
        Ok(processes.end()?)
    }
}

/// Steps run until this is dropped.
struct Running(Arc<AtomicBool>);

impl Running {
    fn new(flag: Arc<AtomicBool>) -> Self {
        flag.store(true, Ordering::SeqCst);
        Self(flag)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What came of the steps, as far as they got.
#[derive(Default)]
struct Record {
    steps: Vec<StepReport>,
    /// The commands of those that were not started.
    not_run: Vec<Vec<OsString>>,
    /// Which of them failed.
    failed: Option<usize>,
    followed: Vec<Followed>,
    limits_by: LimitHolders,
    still_running: Option<StillRunning>,
}

fn bind(cpus: &Cpus) -> Result<Option<Bound>, Error> {
    cpus.bind().map_err(|source| Error::Cpus {
        cpus: cpus.clone(),
        source,
    })
}

/// Runs `work` and adds the time it took.
fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *spent += began.elapsed();
    result
}
