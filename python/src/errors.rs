//! The library's errors as exceptions: the one place that tells which is which.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use notapipe::archive::ArchiveError;
use notapipe::collect::CollectError;
use notapipe::run::SpawnError;
use notapipe::stage::StageError;
use notapipe::store::{Resource, StoreError};
use notapipe::text::error_chain;
use notapipe::{Error, ErrorKind, Failed};
use pyo3::intern;
use pyo3::prelude::*;

use super::outcome::Outcome;

/// The classes of `notapipe._errors`, and what each is for.
enum Class {
    /// A step ended with another status than 0, or by a signal.
    StepFailed { step: usize },
    /// A step's program is not there.
    ToolNotFound,
    /// The job's time was over, in seconds.
    TimeoutExpired(f64),
    /// A limit of the job was met, and which argument raises it.
    LimitReached(&'static str),
    /// An output is not there, or not finished.
    OutputMissing,
    /// A file of the host, or of a scratch directory, is not there.
    FileMissing,
    /// A name, or a pattern, that cannot be used.
    NameRefused,
    /// It was cancelled.
    Cancelled,
    /// The machine refuses what the job needs.
    Unavailable,
    /// Anything else.
    NotapipeError,
}

impl Class {
    fn of(error: &Error) -> Self {
        match (error.kind(), error) {
            (ErrorKind::StepFailed, Error::StepFailed { step, .. }) => {
                Self::StepFailed { step: *step }
            }
            (ErrorKind::NotStarted, Error::Spawn(SpawnError::NotFound { .. })) => {
                Self::ToolNotFound
            }
            (_, Error::Timeout { limit, .. }) => Self::TimeoutExpired(limit.as_secs_f64()),
            (ErrorKind::Limit, error) => Self::LimitReached(raised_by(error)),
            (_, Error::NoRoom { resource, .. }) => Self::LimitReached(argument(*resource)),
            (_, error) if is_of_a_missing_file(error) => Self::FileMissing,
            // A directory of the caller's, and not the machine.
            (_, Error::Collect(CollectError::Destination { .. })) => Self::NotapipeError,
            (ErrorKind::Output, _) => Self::OutputMissing,
            (ErrorKind::Refused, _) => Self::NameRefused,
            (ErrorKind::Cancelled, _) => Self::Cancelled,
            (ErrorKind::System, _) => Self::Unavailable,
            _ => Self::NotapipeError,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::StepFailed { .. } => "StepFailed",
            Self::ToolNotFound => "ToolNotFound",
            Self::TimeoutExpired(_) => "TimeoutExpired",
            Self::LimitReached(_) => "LimitReached",
            Self::OutputMissing => "OutputMissing",
            Self::FileMissing => "FileMissing",
            Self::NameRefused => "NameRefused",
            Self::Cancelled => "Cancelled",
            Self::Unavailable => "Unavailable",
            Self::NotapipeError => "NotapipeError",
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::TimeoutExpired(_) => Some("give it longer with timeout=".to_owned()),
            Self::LimitReached(argument) => Some(format!("raise the limit with {argument}")),
            _ => None,
        }
    }
}

/// The argument that raises the limit which was met.
fn raised_by(error: &Error) -> &'static str {
    match error {
        Error::StepFailed { .. } => "limits={\"cpu\": …}",
        Error::TooManyProcesses { .. } => "limits={\"processes\": …}",
        Error::OverMemory { .. } => "limits={\"memory\": …}",
        Error::OverLimit { resource, .. }
        | Error::Stage(StageError::Full { resource, .. })
        | Error::Archive(ArchiveError::Stage(StageError::Full { resource, .. })) => {
            argument(*resource)
        }
        Error::Scratch {
            error: StoreError::NoSpace(resource),
            ..
        } => argument(*resource),
        _ => argument(Resource::Bytes),
    }
}

fn is_of_a_missing_file(error: &Error) -> bool {
    match error {
        Error::Scratch { error, .. } => matches!(error, StoreError::NotFound),
        Error::Stage(StageError::Read { error, .. }) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn argument(resource: Resource) -> &'static str {
    match resource {
        Resource::Bytes => "size=",
        Resource::Inodes => "inodes=",
    }
}

/// The exception of a job that failed, with what there is of it.
pub fn raised(py: Python<'_>, failed: Failed) -> PyErr {
    let told = Told::of(py, &failed.error);
    match Outcome::failed(failed) {
        Some(outcome) => Py::new(py, outcome)
            .map_or_else(|error| error, |outcome| told.raised(py, Some(outcome))),
        None => told.raised(py, None),
    }
}

/// The exception of anything else that failed.
pub fn raised_without_outcome(py: Python<'_>, error: &Error) -> PyErr {
    Told::of(py, error).raised(py, None)
}

/// What is told of an error.
struct Told {
    class: Class,
    message: String,
    cause: Option<PyErr>,
}

impl Told {
    fn of(py: Python<'_>, error: &Error) -> Self {
        Self {
            class: Class::of(error),
            message: error_chain(error),
            cause: raised_inside(py, error),
        }
    }

    fn raised(self, py: Python<'_>, outcome: Option<Py<Outcome>>) -> PyErr {
        let full = outcome.as_ref().and_then(|it| it.get().limit_met());
        let full = full.map(|it| format!("it was full: raise the limit with {}", argument(it)));
        let help = self.class.help().or(full);
        let detail = match self.class {
            Class::StepFailed { step } => Some(step as f64),
            Class::TimeoutExpired(seconds) => Some(seconds),
            _ => None,
        };
        let made = py
            .import(intern!(py, "notapipe._errors"))
            .and_then(|it| it.getattr(self.class.name()))
            .and_then(|it| it.call1((self.message, help, outcome, detail)));
        match made {
            Ok(made) => {
                let made = PyErr::from_value(made);
                made.set_cause(py, self.cause);
                made
            }
            Err(error) => error,
        }
    }
}

/// The exception of the caller's own reader or callable, where that is why the job failed.
fn raised_inside(py: Python<'_>, error: &Error) -> Option<PyErr> {
    let of = |error: &io::Error| Some(error.get_ref()?.downcast_ref::<PyErr>()?.clone_ref(py));
    if let Error::Source { error, .. } = error {
        return of(Arc::as_ref(error));
    }
    sources(error).find_map(|it| of(it.downcast_ref()?))
}

fn sources<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
