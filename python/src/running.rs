//! A job that runs.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use notapipe::{ErrorKind, Failed, Interrupt, Job};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::errors;
use super::job;
use super::outcome::Outcome;
use super::owned::Owned;
use super::wait;

/// A job that was started, by `notapipe.Job.start`.
///
/// As a context manager it ends the job, and everything in it, when the block is left.
///
/// >>> import notapipe
/// >>> with notapipe.Job(["sh", "-c", "echo ceci > word"], outputs=["word"]).start() as running:
/// ...     outcome = running.wait()
/// >>> outcome.outputs
/// {'word': b'ceci\n'}
#[pyclass(module = "notapipe", frozen, weakref)]
pub struct RunningJob {
    running: Owned<Running>,
    /// Whether a step that fails is an error.
    check: bool,
    /// Kept, so that it can be asked for again.
    result: PyOnceLock<Result<Py<Outcome>, PyErr>>,
}

#[pymethods]
impl RunningJob {
    #[new]
    fn new(py: Python<'_>, job: job::Job<'_>) -> PyResult<Self> {
        let check = job.check;
        Ok(Self {
            running: Owned::new(Running::start(py, job.build()?)?),
            check,
            result: PyOnceLock::new(),
        })
    }

    /// Waits for the end of the job, for so many seconds at most, and gives its outcome.
    ///
    /// Raises what `notapipe.run` raises; and `TimeoutError` when the time is over first, in which case the job goes on.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<Outcome>> {
        let ended = self.running.get()?.ended.as_fd();
        match wait::readable(py, ended, wait::deadline(timeout))? {
            true => self.result(py),
            false => Err(PyTimeoutError::new_err("the job still runs")),
        }
    }

    /// The outcome, or None while the job runs; raises what `notapipe.run` raises.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Py<Outcome>>> {
        self.done(py)?.then(|| self.result(py)).transpose()
    }

    /// Whether the job has ended, well or not.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let ended = self.running.get()?.ended.as_fd();
        wait::readable(py, ended, wait::deadline(Some(0.0)))
    }

    /// Has everything in the job killed, and does not wait for that; `wait` then raises `notapipe.Cancelled`.
    fn cancel(&self) -> PyResult<()> {
        self.running.get()?.interrupt.raise();
        Ok(())
    }

    /// A descriptor that can be read from when the job has ended, for an event loop; never read it.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.running.get()?.ended.as_raw_fd())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.cancel()?;
        // Its end is near; a signal that came before it would leave it behind.
        let _ = self.result(py);
        Ok(())
    }
}

impl RunningJob {
    /// What came of it, which is waited for.
    fn result(&self, py: Python<'_>) -> PyResult<Py<Outcome>> {
        let running = self.running.get()?;
        let collect = || match py.detach(|| running.collect()) {
            Ok(outcome) => Py::new(py, Outcome::new(Box::new(outcome), None)),
            Err(failed) if self.check || failed.kind() != ErrorKind::StepFailed => {
                Err(errors::raised(py, failed))
            }
            Err(failed) => {
                let outcome = Outcome::failed(failed).expect("a step has failed");
                Py::new(py, outcome)
            }
        };
        match self.result.get_or_init(py, collect) {
            Ok(outcome) => Ok(outcome.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }
}

/// The library's, of which one thread may collect the result while others wait for the end.
struct Running {
    interrupt: Interrupt,
    /// Readable when the job has ended.
    ended: OwnedFd,
    /// Taken by who collects the result.
    job: Mutex<Option<notapipe::RunningJob>>,
}

impl Running {
    fn start(py: Python<'_>, job: Job) -> PyResult<Self> {
        let interrupt = Interrupt::new()?;
        let job = job.interrupt(interrupt.clone()).start();
        let job = job.map_err(|error| errors::raised_without_outcome(py, &error))?;
        Ok(Self {
            interrupt,
            ended: job.as_fd().try_clone_to_owned()?,
            job: Mutex::new(Some(job)),
        })
    }

    fn collect(&self) -> Result<notapipe::Outcome, Failed> {
        let job = self.job.lock().unwrap().take();
        job.expect("it is collected once").wait()
    }
}
