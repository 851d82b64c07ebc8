//! What a job is to do, and doing it.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::base::Base;
use super::cpus::{Bound, Cpus, Slot, Slots};
use super::error::{Error, StepFailure};
use super::inputs::{Input, Inputs, Listener, check_name, owner};
use super::outcome::{Outcome, Phases, StepReport};
use super::process::{InitProgram, Interrupt, Processes};
use super::running::RunningJob;
use super::step::{Bounds, Step};
use crate::collect::{CollectError, MissingOutputs};
use crate::fuse::Profile;
use crate::memory;
use crate::mount::{MountOptions, Visibility};
use crate::progress::Progress;
use crate::scratch::Scratch;
use crate::stage::{Skipped, Stage};
use crate::store::{Limits, Source, Timestamp, Tree, TreePath};

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
#[derive(Default)]
pub struct Job {
    inputs: Inputs,
    sources: Vec<(TreePath, Source)>,
    base: Option<Tree>,
    steps: Vec<Step>,
    outputs: Vec<TreePath>,
    limits: Option<Limits>,
    at: Option<PathBuf>,
    visibility: Visibility,
    profile: Profile,
    extended_attributes: bool,
    allow_other: bool,
    timeout: Option<Duration>,
    cpus: Option<Cpus>,
    slots: Option<Slots>,
    interrupt: Option<Interrupt>,
    init: Option<InitProgram>,
    on_staging: Option<Listener>,
    /// The first name that was refused; told by `run`, so that building a job needs no `?`.
    invalid: Option<Error>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("inputs", &self.inputs)
            .field("steps", &self.steps)
            .field("outputs", &self.outputs)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// A job with nothing to do yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file of these bytes, which are shared where they can be.
    #[must_use]
    pub fn input(mut self, name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Self {
        self.inputs.add(name.as_ref(), Input::Bytes(bytes.into()));
        self
    }

    /// A host file, or a host directory with all that is in it, under this name; `.` fills the
    /// root.
    #[must_use]
    pub fn input_host(mut self, name: impl AsRef<Path>, source: impl Into<PathBuf>) -> Self {
        self.inputs.add(name.as_ref(), Input::Host(source.into()));
        self
    }

    /// A file of everything that this reader gives, read when the job runs, before its first step.
    #[must_use]
    pub fn input_reader(
        mut self,
        name: impl AsRef<Path>,
        reader: impl Read + Send + 'static,
    ) -> Self {
        self.inputs
            .add(name.as_ref(), Input::Reader(Box::new(reader)));
        self
    }

    /// A file that is made when a step first reaches for it, and never if none does.
    ///
    /// It does not delay the job's end: a source that is still at work when the job is over, or out of time, is
    /// not waited for. One that fails fails the job. See [`Scratch::write_source`] for what may wait for what.
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
        match check_name("input", name.as_ref()) {
            Ok(path) => self.sources.push((path, source)),
            Err(error) => {
                self.invalid.get_or_insert(error);
            }
        }
        self
    }

    /// Everything that is in a base, before the inputs, which may replace some of it.
    #[must_use]
    pub fn base(mut self, base: &Base) -> Self {
        self.base = Some(base.tree.fork());
        self
    }

    /// A command to run after those before it, if they all succeeded.
    #[must_use]
    pub fn step(mut self, step: impl Into<Step>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// A file or directory that the steps must leave. The directories above it stand before the
    /// first step.
    #[must_use]
    pub fn output(mut self, name: impl AsRef<Path>) -> Self {
        match check_name("output", name.as_ref()) {
            Ok(path) => self.outputs.push(path),
            Err(error) => {
                self.invalid.get_or_insert(error);
            }
        }
        self
    }

    /// Several outputs; see [`output`](Self::output).
    #[must_use]
    pub fn outputs<N: AsRef<Path>>(self, names: impl IntoIterator<Item = N>) -> Self {
        names.into_iter().fold(self, |job, name| job.output(name))
    }

    /// The most that the mount may hold; half of the memory that this process may use unless said.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The path under which the steps see the mount: an existing directory, over which they see it.
    #[must_use]
    pub fn at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.at = Some(dir.into());
        self
    }

    /// Who can see the mount; private where that is possible unless said.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Whether opens and closes are seen; [`Profile::Fast`] unless said.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Whether files in the mount can have extended attributes; they cannot unless said, because
    /// few tools use them and they cost requests (see [`ServeOptions`](crate::fuse::ServeOptions)).
    #[must_use]
    pub fn extended_attributes(mut self, allowed: bool) -> Self {
        self.extended_attributes = allowed;
        self
    }

    /// Lets in steps that become another user, which only root's can. They are kept out unless
    /// said: the kernel then need not check permissions, which all would pass.
    #[must_use]
    pub fn allow_other(mut self, allowed: bool) -> Self {
        self.allow_other = allowed;
        self
    }

    /// The CPUs for the job's processes and for the thread that serves its mount; all that the
    /// calling thread may use unless said. One CPU makes requests cheap and takes all parallelism.
    #[must_use]
    pub fn cpus(mut self, cpus: Cpus) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// One CPU, the least used of these slots, when the job starts. For jobs that run side by side.
    #[must_use]
    pub fn slots(mut self, slots: &Slots) -> Self {
        self.slots = Some(slots.clone());
        self
    }

    /// The most time that all steps together may take. After it, everything in the job is killed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets another thread end the job: [`Interrupt::raise`] kills everything in it, and
    /// [`run`](Self::run) returns [`Error::Cancelled`].
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// A program of ours that becomes the first process of the job's own PID namespace, so that the
    /// kernel ends everything in the job together with us, even after a kill -9.
    ///
    /// The program must call [`init::main`](super::init::main) when it is started with these
    /// arguments. Without one, everything in the job is found and ended by us when it is over; a
    /// kill -9 of us then leaves running what ran, in a mount that answers no more.
    #[must_use]
    pub fn init(mut self, init: InitProgram) -> Self {
        self.init = Some(init);
        self
    }

    /// Called after every block and every file that is staged; `Break` ends the job.
    #[must_use]
    pub fn on_staging(
        mut self,
        listener: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        self.on_staging = Some(Box::new(listener));
        self
    }

    /// Starts the job on a thread of its own, and returns at once.
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
    /// Any [`Error`]: it says what failed, on which path or in which step, and what to do.
    pub fn run(mut self) -> Result<Outcome, Error> {
        if let Some(error) = self.invalid.take() {
            return Err(error);
        }
        let slot = self.slots.as_ref().map(Slots::take);
        let cpus = slot.as_ref().map(Slot::cpus).or(self.cpus.take());
        // Whatever is started from here on inherits it: the serving thread as well as the steps.
        let _bound = cpus.map(|cpus| bind(&cpus)).transpose()?;
        let mut phases = Phases::default();
        let (tree, skipped) = timed(&mut phases.stage, || self.stage())?;
        let staged = tree.fork();
        let scratch = timed(&mut phases.mount, || {
            Scratch::builder()
                .tree(tree)
                .profile(self.profile)
                .extended_attributes(self.extended_attributes)
                .mount(self.mount_options())
                .build()
        })?;
        for (path, source) in std::mem::take(&mut self.sources) {
            scratch.write_source(path.to_path_buf(), source)?;
        }
        let ran = timed(&mut phases.run, || self.run_steps(&scratch));
        let failed_source = scratch.failed_sources().into_iter().next();
        let requests = scratch.requests();
        let left = timed(&mut phases.unmount, || scratch.into_remains())?;
        let steps = ran?;
        // The step saw EIO and failed, or made something of it; the reason is here.
        if let Some(error) = failed_source {
            return Err(error);
        }

        let outcome = Outcome {
            steps,
            outputs: self.outputs,
            staged,
            tree: left.tree,
            skipped,
            limit_met: left.limit_met,
            requests,
            phases,
        };
        let last_exit = outcome.steps.last().map(|step| step.status.exit);
        if let Some(exit) = last_exit.filter(|exit| !exit.success()) {
            return Err(Error::StepFailed(Box::new(StepFailure { exit, outcome })));
        }
        if let Some(file) = left.lost_files.into_iter().next() {
            return Err(Error::LostPages {
                file,
                limits: outcome.usage().limits,
            });
        }
        MissingOutputs::check(&outcome.tree, &outcome.staged, &outcome.outputs)
            .map_err(CollectError::from)?;
        Ok(outcome)
    }

    fn stage(&mut self) -> Result<(Tree, Vec<Skipped>), Error> {
        let owner = owner();
        let mut tree = match self.base.take() {
            Some(base) => base,
            None => {
                let limits = memory::default_limits();
                Tree::new(limits, 0o755, owner.uid, owner.gid, Timestamp::now())
            }
        };
        if let Some(limits) = self.limits {
            tree.set_limits(limits);
        }
        let inputs = std::mem::take(&mut self.inputs);
        let skipped = inputs.stage(&mut tree, owner, self.on_staging.take())?;
        let mut stage = Stage::new(&mut tree, owner, Timestamp::now());
        for above in self.outputs.iter().filter_map(TreePath::parent) {
            stage.directory(&above)?;
        }
        stage.finish();
        Ok((tree, skipped))
    }

    fn mount_options(&self) -> MountOptions {
        MountOptions {
            visibility: self.visibility,
            at: self.at.clone(),
            allow_other: self.allow_other,
            ..MountOptions::default()
        }
    }

    /// Runs the steps in order, up to the first that fails. Everything that still ran in the mount
    /// has ended when this returns.
    fn run_steps(&mut self, scratch: &Scratch) -> Result<Vec<StepReport>, Error> {
        let bounds = Bounds {
            deadline: self
                .timeout
                .map(|timeout| (Instant::now() + timeout, timeout)),
            interrupt: self.interrupt.as_ref(),
            session: Some(scratch.session_end()),
        };
        let processes =
            Processes::start(scratch.place(), self.init.as_ref()).map_err(|source| {
                Error::Processes {
                    operation: "prepare",
                    source,
                }
            })?;
        let requests = scratch.requests();
        let mut reports = Vec::with_capacity(self.steps.len());
        for step in std::mem::take(&mut self.steps) {
            let report = step
                .run(&processes, &requests, bounds)
                .inspect_err(|_| scratch.cancel_sources())?;
            let success = report.status.exit.success();
            reports.push(report);
            if !success {
                break;
            }
        }
        // Whoever still waits for a source could not be ended while it waits.
        scratch.cancel_sources();
        processes.end()?;
        Ok(reports)
    }
}

fn bind(cpus: &Cpus) -> Result<Bound, Error> {
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
