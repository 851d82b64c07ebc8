//! The library's errors as exceptions: the one place that tells which is which.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use notapipe::archive::ArchiveError;
use notapipe::collect::CollectError;
use notapipe::run::SpawnError;
use notapipe::stage::StageError;
use notapipe::store::Resource;
use notapipe::{Error, Failed};
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
        match error {
            Error::StepFailed {
                step, cpu_limit, ..
            } => match cpu_limit {
                Some(_) => Self::LimitReached("limits={\"cpu\": …}"),
                None => Self::StepFailed { step: *step },
            },
            Error::Spawn(SpawnError::NotFound { .. }) => Self::ToolNotFound,
            Error::Timeout { limit, .. } => Self::TimeoutExpired(limit.as_secs_f64()),
            Error::TooManyProcesses { .. } => Self::LimitReached("limits={\"processes\": …}"),
            Error::OverMemory { .. } => Self::LimitReached("limits={\"memory\": …}"),
            Error::OverLimitWithTmp { .. } | Error::LostPages { .. } => Self::LimitReached("size="),
            Error::OverLimit { resource, .. }
            | Error::NoRoom { resource, .. }
            | Error::Stage(StageError::Full { resource, .. })
            | Error::Archive(ArchiveError::Stage(StageError::Full { resource, .. })) => {
                Self::LimitReached(argument(*resource))
            }
            Error::Collect(CollectError::Missing(_) | CollectError::NoMatch(_))
            | Error::StillWritten { .. }
            | Error::NotLookedAt { .. } => Self::OutputMissing,
            Error::Name { .. } | Error::Pattern { .. } => Self::NameRefused,
            Error::Cancelled => Self::Cancelled,
            Error::Mount(_) | Error::NeedsFuse { .. } => Self::Unavailable,
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

fn argument(resource: Resource) -> &'static str {
    match resource {
        Resource::Bytes => "size=",
        Resource::Inodes => "inodes=",
    }
}

/// The exception of a job that failed, with what there is of it.
pub fn raised(py: Python<'_>, failed: Failed) -> PyErr {
    let told = Told::of(py, &failed.error);
    match &failed.outcome {
        Some(_) => Py::new(py, Outcome::failed(failed))
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
            message: chain(error),
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

/// The error and its causes, joined by `: `, without the numbers of the system's.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut message = String::new();
    for error in sources(error) {
        let text = error.to_string();
        let text = text.split(" (os error ").next().unwrap_or(&text);
        // An error that shows its cause already, as transparent ones do.
        if message.ends_with(text) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(text);
    }
    message
}
