//! A job as Python describes it, for the library: the one place that acts on what `notapipe.Job` holds.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use notapipe::run::{Backing, ResourceLimits};
use notapipe::{Limits, Profile, Stdin, Stdout};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix::io::fcntl_dupfd_cloexec;

use super::base::Base;
use super::input::{Input, shared};

/// `subprocess.DEVNULL`.
const DEVNULL: i32 = -3;

/// The attributes of `notapipe.Job`.
#[derive(FromPyObject)]
pub struct Job<'py> {
    steps: Vec<StepOrPipe<'py>>,
    inputs: Vec<(OsString, Input)>,
    outputs: Vec<OsString>,
    optional: Vec<OsString>,
    collect: Vec<String>,
    changed: bool,
    stdin: Bound<'py, PyAny>,
    env: Option<Vec<(OsString, OsString)>>,
    timeout: Option<f64>,
    kill_after: Option<f64>,
    size: Option<u64>,
    inodes: Option<u64>,
    limits: Vec<(String, f64)>,
    backing: String,
    report: bool,
    base: Option<Bound<'py, PyAny>>,
    pub check: bool,
}

#[derive(FromPyObject)]
enum StepOrPipe<'py> {
    Step(Step<'py>),
    Pipe { steps: Vec<Step<'py>> },
}

/// The attributes of `notapipe.Step`.
#[derive(FromPyObject)]
struct Step<'py> {
    args: Vec<OsString>,
    env: Option<Vec<(OsString, OsString)>>,
    cwd: Option<OsString>,
    stdin: Bound<'py, PyAny>,
    stdout: Bound<'py, PyAny>,
    stderr: Bound<'py, PyAny>,
}

impl Job<'_> {
    pub fn build(self) -> PyResult<notapipe::Job> {
        let mut job = notapipe::Job::new();
        if let Some(base) = &self.base {
            job = job.base(Base::of(base)?.get().base());
        }
        for (name, input) in self.inputs {
            job = match input {
                Input::Bytes(bytes) => job.input(name, bytes),
                Input::Host(path) => job.input_host(name, path),
                Input::Reader(reader) => job.input_reader(name, reader),
                Input::Source(source) => job.input_source(name, source),
            };
        }
        job = job.outputs(self.outputs);
        job = self
            .optional
            .into_iter()
            .fold(job, |job, name| job.output_optional(name));
        job = self
            .collect
            .iter()
            .fold(job, |job, pattern| job.output_matching(pattern));
        if self.changed {
            job = job.output_changed();
        }
        if let Some(timeout) = duration("timeout", self.timeout)? {
            job = job.timeout(timeout);
        }
        if let Some(patience) = duration("kill_after", self.kill_after)? {
            job = job.kill_after(patience);
        }
        if let Some(limits) = limits(self.size, self.inodes) {
            job = job.limits(limits);
        }
        if self.report {
            job = job.profile(Profile::Observed);
        }
        job = job.backing(backing(&self.backing)?);
        job = job.resource_limits(resource_limits(self.limits)?);
        let mut stdin = Some(self.stdin);
        for step_or_pipe in self.steps {
            let steps = match step_or_pipe {
                StepOrPipe::Step(step) => vec![step],
                StepOrPipe::Pipe { steps } => steps,
            };
            for (place, step) in steps.into_iter().enumerate() {
                let step = step.build(stdin.take(), self.env.as_deref())?;
                job = match place {
                    0 => job.step(step),
                    _ => job.pipe(step),
                };
            }
        }
        Ok(job)
    }
}

impl Step<'_> {
    /// With what its job says, where it does not say so itself.
    fn build(
        self,
        job_stdin: Option<Bound<'_, PyAny>>,
        job_env: Option<&[(OsString, OsString)]>,
    ) -> PyResult<notapipe::Step> {
        let own_stdin = Some(self.stdin).filter(|it| !it.is_none());
        let mut step = notapipe::Step::new(self.args);
        step = with_stdout(step, &self.stdout)?;
        step = with_stderr(step, &self.stderr)?;
        if let Some(given) = own_stdin.or(job_stdin) {
            step = with_stdin(step, &given)?;
        }
        if let Some(env) = self.env.or_else(|| job_env.map(<[_]>::to_vec)) {
            step = step.env_clear().envs(env);
        }
        if let Some(directory) = self.cwd {
            step = step.directory(directory);
        }
        Ok(step)
    }
}

/// What of the limits of a mount was given, and the library's own for the rest.
pub fn limits(size: Option<u64>, inodes: Option<u64>) -> Option<Limits> {
    let limits = match (size, inodes) {
        (None, None) => return None,
        (Some(bytes), _) => Limits::of_bytes(bytes),
        (None, Some(_)) => notapipe::memory::default_limits(),
    };
    Some(Limits {
        inodes: inodes.unwrap_or(limits.inodes),
        ..limits
    })
}

fn backing(name: &str) -> PyResult<Backing> {
    name.parse().map_err(|_| {
        PyValueError::new_err(format!(
            "backing={name:?}: there are auto, fuse, tmpfs and directory"
        ))
    })
}

fn duration(name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let refused = |error| PyValueError::new_err(format!("{name}: {error}"));
    let duration = |seconds| Duration::try_from_secs_f64(seconds).map_err(refused);
    seconds.map(duration).transpose()
}

fn resource_limits(given: Vec<(String, f64)>) -> PyResult<ResourceLimits> {
    let mut limits = ResourceLimits::default();
    for (name, value) in given {
        // `notapipe.Job` has made numbers of them.
        let count = Some(value as u64);
        match &*name {
            "cpu" => limits.cpu = duration("limits[\"cpu\"]", Some(value))?,
            "memory" => limits.memory_bytes = count,
            "processes" => limits.processes = count,
            "files" => limits.files = count,
            _ => {
                let known = "cpu, memory, processes and files";
                return Err(PyValueError::new_err(format!(
                    "limits: no limit is called {name:?}; there are {known}"
                )));
            }
        }
    }
    Ok(limits)
}

/// Where a stream of a step leads, as Python says it.
enum Stream {
    Usual,
    File(PathBuf),
    Descriptor(OwnedFd),
    Null,
}

impl Stream {
    fn of(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(if given.is_none() {
            Self::Usual
        } else if given.is_instance_of::<PyString>() {
            Self::File(given.extract()?)
        } else {
            descriptor(given)?.map_or(Self::Null, Self::Descriptor)
        })
    }
}

fn with_stdin(step: notapipe::Step, given: &Bound<'_, PyAny>) -> PyResult<notapipe::Step> {
    if let Ok(bytes) = given.cast::<PyBytes>() {
        return Ok(step.stdin(Stdin::Bytes(shared(bytes.clone()))));
    }
    Ok(match Stream::of(given)? {
        Stream::Usual => step,
        Stream::File(name) => step.stdin_file(name),
        Stream::Descriptor(fd) => step.stdin_fd(fd),
        Stream::Null => step.stdin(Stdin::Null),
    })
}

fn with_stdout(step: notapipe::Step, given: &Bound<'_, PyAny>) -> PyResult<notapipe::Step> {
    Ok(match Stream::of(given)? {
        Stream::Usual => step,
        Stream::File(name) => step.stdout_file(name),
        Stream::Descriptor(fd) => step.stdout_fd(fd),
        Stream::Null => step.stdout(Stdout::Null),
    })
}

fn with_stderr(step: notapipe::Step, given: &Bound<'_, PyAny>) -> PyResult<notapipe::Step> {
    Ok(match Stream::of(given)? {
        Stream::Usual => step,
        Stream::File(name) => step.stderr_file(name),
        Stream::Descriptor(fd) => step.stderr_fd(fd),
        Stream::Null => step.stderr(Stdout::Null),
    })
}

/// A copy of a descriptor, given as its number or as a file object; none for `subprocess.DEVNULL`.
fn descriptor(given: &Bound<'_, PyAny>) -> PyResult<Option<OwnedFd>> {
    let number: i32 = match given.extract() {
        Ok(number) => number,
        Err(_) => given
            .call_method0(intern!(given.py(), "fileno"))?
            .extract()?,
    };
    if number == DEVNULL {
        return Ok(None);
    }
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "{number} is no file descriptor"
        )));
    }
    // SAFETY: it is not negative, and used for this call alone, which tells if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = fcntl_dupfd_cloexec(borrowed, 3).map_err(std::io::Error::from)?;
    Ok(Some(copy))
}
