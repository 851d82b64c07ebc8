//! A job that runs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use notapipe::{Error, Failed, Interrupt, Job};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use rustix::event::{EventfdFlags, eventfd};

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
    fn new(job: job::Job<'_>) -> PyResult<Self> {
        let check = job.check;
        Ok(Self {
            running: Owned::new(Running::start(job.build()?)?),
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
            Ok(outcome) => Py::new(py, Outcome::new(outcome)),
            Err(failed) if !self.check && matches!(failed.error, Error::StepFailed { .. }) => {
                Py::new(py, Outcome::failed(failed))
            }
            Err(failed) => Err(errors::raised(py, failed)),
        };
        match self.result.get_or_init(py, collect) {
            Ok(outcome) => Ok(outcome.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }
}

struct Running {
    interrupt: Interrupt,
    /// Readable when the job has ended.
    ended: Arc<OwnedFd>,
    /// Taken by who collects the result.
    thread: Mutex<Option<JoinHandle<Attempted>>>,
}

type Attempted = Result<notapipe::Outcome, Failed>;

impl Running {
    fn start(job: Job) -> io::Result<Self> {
        let interrupt = Interrupt::new()?;
        let ended = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (job, tell) = (job.interrupt(interrupt.clone()), Arc::clone(&ended));
        let thread = thread::Builder::new()
            .name("notapipe-job".to_owned())
            .spawn(move || {
                let attempted = job.run();
                // Only a counter at its maximum could refuse, and that is readable too.
                let _ = rustix::io::write(&tell, &1u64.to_ne_bytes());
                attempted
            })?;
        Ok(Self {
            interrupt,
            ended,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn collect(&self) -> Attempted {
        let thread = self
            .thread
            .lock()
            .unwrap()
            .take()
            .expect("it is collected once");
        thread.join().expect("a job catches panics")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupt.raise();
        if let Some(thread) = self.thread.lock().unwrap().take() {
            let _ = thread.join();
        }
    }
}
