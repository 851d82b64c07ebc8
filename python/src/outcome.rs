//! What came of a job.

use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use notapipe::archive::Format;
use notapipe::collect::{self, CollectError, Delivery, Destination};
use notapipe::run::Exit;
use notapipe::store::{Kind, Resource, TreePath};
use notapipe::text::error_chain;
use notapipe::text::quoted;
use notapipe::{Error, Failed};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::errors;

/// What a job did, and what it left.
///
/// Its files stay in memory as long as it lives, or a `view` of one of them.
///
/// >>> import notapipe
/// >>> done = notapipe.run(["sh", "-c", "echo ceci > word; echo cela"], outputs=["word"])
/// >>> done.outputs
/// {'word': b'ceci\n'}
/// >>> done.steps[0].stdout, done.steps[0].returncode
/// (b'cela\n', 0)
#[pyclass(module = "notapipe", frozen, weakref)]
pub struct Outcome {
    outcome: Box<notapipe::Outcome>,
    /// Why the job failed, if it did.
    error: Option<Error>,
    steps: PyOnceLock<Py<PyList>>,
    outputs: PyOnceLock<Py<PyDict>>,
}

impl Outcome {
    pub fn new(outcome: Box<notapipe::Outcome>, error: Option<Error>) -> Self {
        Self {
            outcome,
            error,
            steps: PyOnceLock::new(),
            outputs: PyOnceLock::new(),
        }
    }

    /// Of a job that failed when its steps had begun; none of one that failed before.
    pub fn failed(failed: Failed) -> Option<Self> {
        let Failed { error, outcome, .. } = failed;
        Some(Self::new(outcome?, Some(error)))
    }

    /// The limit that a step ran into.
    pub fn limit_met(&self) -> Option<Resource> {
        let outcome = &self.outcome;
        outcome.limit_met().or(outcome.tmp_full())
    }

    /// The outputs that are files, and the files of those that are directories, with their sizes.
    fn files(&self) -> Vec<(TreePath, u64)> {
        let tree = self.outcome.tree();
        let mut files = Vec::new();
        for found in self.outcome.found() {
            let below = match found.attr.kind {
                Kind::Directory => collect::walk(tree, &found.path).unwrap_or_default(),
                _ => vec![found.clone()],
            };
            // A symlink stands for the file that it leads to, in the job.
            let file = |path: TreePath| {
                let attr = collect::find(tree, &path).ok()?;
                (attr.kind == Kind::File).then_some((path, attr.size))
            };
            files.extend(below.into_iter().filter_map(|found| file(found.path)));
        }
        files
    }

    fn copy<'py>(
        &self,
        py: Python<'py>,
        path: &TreePath,
        size: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let tree = self.outcome.tree();
        PyBytes::new_with(py, usize::try_from(size)?, |buffer| {
            py.detach(|| collect::copy(tree, path, &mut Cursor::new(buffer)))
                .map(drop)
                .map_err(|error| errors::raised_without_outcome(py, &error.into()))
        })
    }
}

#[pymethods]
impl Outcome {
    /// The outputs that are files, and the files in those that are directories: their bytes by their names. Each is copied
    /// once, when this is first asked for.
    #[getter]
    fn outputs(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let read = || -> PyResult<Py<PyDict>> {
            let outputs = PyDict::new(py);
            for (path, size) in self.files() {
                let name = path.to_path_buf().into_os_string();
                outputs.set_item(name, self.copy(py, &path, size)?)?;
            }
            Ok(outputs.unbind())
        };
        Ok(self.outputs.get_or_try_init(py, read)?.clone_ref(py))
    }

    /// A file that the job left, an output or another, as a `memoryview`: without a copy where its bytes lie in one piece.
    ///
    /// Raises `KeyError` where there is no such file.
    ///
    /// >>> import notapipe
    /// >>> done = notapipe.run(["sh", "-c", "echo ceci > word"])
    /// >>> bytes(done.view("word")[:2])
    /// b'ce'
    fn view<'py>(&self, py: Python<'py>, name: PathBuf) -> PyResult<Bound<'py, PyAny>> {
        let path = TreePath::try_from(name.as_path()).map_err(|_| no_file(&name))?;
        let tree = self.outcome.tree();
        let bytes = py
            .detach(|| collect::read(tree, &path))
            .map_err(|_| no_file(&name))?;
        let lent = (bytes.as_ptr() as usize, bytes.len(), Lent { _bytes: bytes });
        py.import(intern!(py, "notapipe._view"))?
            .call_method1(intern!(py, "view"), lent)
    }

    /// 0, or the status of the step that failed, as `subprocess` has it: negative for a signal.
    #[getter]
    fn returncode(&self) -> i32 {
        match &self.error {
            None => 0,
            Some(Error::StepFailed { exit, .. }) => returncode(*exit),
            Some(_) => {
                let last = self.outcome.steps().last();
                last.map_or(0, |it| returncode(it.status.exit))
            }
        }
    }

    /// The exit status that `notapipe run` would have.
    #[getter]
    fn exit_status(&self) -> i32 {
        const TIMEOUT: i32 = 124;
        const FAILED: i32 = 125;
        const KILLED: i32 = 128 + 9;
        match &self.error {
            None => 0,
            Some(Error::StepFailed { exit, .. }) => exit.shell_code(),
            Some(Error::Spawn(spawn)) => spawn.exit_code(),
            Some(Error::Timeout { .. }) => TIMEOUT,
            Some(Error::OverMemory { .. }) => KILLED,
            Some(_) => FAILED,
        }
    }

    /// Why the job failed, if it did.
    #[getter]
    fn error(&self) -> Option<String> {
        self.error.as_ref().map(|error| error_chain(error))
    }

    /// All that is known of the job, as a dictionary of plain values, with the fields of the command line's `--report`.
    #[getter]
    fn report<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        py.import(intern!(py, "notapipe._report"))?
            .call_method1(intern!(py, "report"), (slf,))
    }

    /// Names and sizes of what `outputs` holds.
    #[getter]
    fn sizes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let sizes = PyDict::new(py);
        for (path, size) in self.files() {
            sizes.set_item(path.to_path_buf().into_os_string(), size)?;
        }
        Ok(sizes)
    }

    /// How each step went that was started, in order.
    #[getter]
    fn steps(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let reports = || -> PyResult<Py<PyList>> {
            let reports = self
                .outcome
                .steps()
                .iter()
                .map(|it| StepReport::new(py, it));
            let reports = reports.collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, reports)?.unbind())
        };
        Ok(self.steps.get_or_try_init(py, reports)?.clone_ref(py))
    }

    /// The command lines of the steps that were not started.
    #[getter]
    fn steps_not_run(&self) -> Vec<Vec<OsString>> {
        self.outcome.steps_not_run().to_vec()
    }

    /// Seconds, from the first input to the end of everything.
    #[getter]
    fn duration(&self) -> f64 {
        let phases = self.outcome.phases();
        (phases.stage + phases.mount + phases.run + phases.unmount).as_secs_f64()
    }

    /// Seconds, by what was done.
    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let phases = self.outcome.phases();
        let seconds = PyDict::new(py);
        seconds.set_item("stage", phases.stage.as_secs_f64())?;
        seconds.set_item("mount", phases.mount.as_secs_f64())?;
        seconds.set_item("run", phases.run.as_secs_f64())?;
        seconds.set_item("unmount", phases.unmount.as_secs_f64())?;
        Ok(seconds)
    }

    /// What the kernel asked the mount, by kind.
    #[getter]
    fn requests<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counts(py, self.outcome.requests())
    }

    /// What its files took, and their limits.
    #[getter]
    fn usage(&self) -> Usage {
        let (usage, peak) = (self.outcome.usage(), self.outcome.peak());
        Usage {
            bytes: usage.bytes,
            inodes: usage.inodes,
            peak_bytes: peak.bytes,
            peak_inodes: peak.inodes,
            limit_bytes: usage.limits.bytes,
            limit_inodes: usage.limits.inodes,
            limit_met: self.limit_met().map(|it| it.to_string()),
        }
    }

    /// Names of the files that are new or changed.
    #[getter]
    fn changed(&self, py: Python<'_>) -> Vec<OsString> {
        let outcome = &self.outcome;
        let made = py.detach(|| collect::made(outcome.staged(), outcome.tree()));
        made.into_iter()
            .map(|it| it.path.to_path_buf().into())
            .collect()
    }

    /// What the job's files were in: `"fuse"`, `"tmpfs"` or `"directory"`.
    #[getter]
    fn backing(&self) -> String {
        self.outcome.backing().to_string()
    }

    /// All outputs as one archive: `"tar"`, `"tar.gz"`, `"tar.zst"`, `"tar.xz"` or `"zip"`.
    fn pack<'py>(&self, py: Python<'py>, format: &str) -> PyResult<Bound<'py, PyBytes>> {
        let name = PathBuf::from(format!("archive.{}", format.trim_start_matches('.')));
        let format = Format::of_name(&name).ok_or_else(|| {
            let known = Format::NAMES;
            PyValueError::new_err(format!(
                "{format:?} is no format of an archive; there are {known}"
            ))
        })?;
        let mut archive = Vec::new();
        py.detach(|| self.outcome.pack(format).write(&mut archive))
            .map_err(|error| errors::raised_without_outcome(py, &error.into()))?;
        Ok(PyBytes::new(py, &archive))
    }

    /// Writes the outputs below a directory of the host, each file whole, and all of them or none.
    fn write_to(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        let outcome = &self.outcome;
        let to = |(path, _): (TreePath, u64)| {
            let destination = Destination::Host(directory.join(path.to_path_buf()));
            (path, destination)
        };
        let deliver = || -> Result<(), CollectError> {
            Delivery::preflight(self.files().into_iter().map(to))?
                .prepare(outcome.tree(), outcome.staged())?
                .commit()
                .map(drop)
        };
        py.detach(deliver)
            .map_err(|error| errors::raised_without_outcome(py, &error.into()))
    }
}

fn no_file(name: &Path) -> PyErr {
    PyKeyError::new_err(format!("the job left no file {}", quoted(name)))
}

fn counts<'py>(
    py: Python<'py>,
    requests: &notapipe::fuse::RequestCounts,
) -> PyResult<Bound<'py, PyDict>> {
    let by_kind = PyDict::new(py);
    for (request, count) in requests.iter() {
        by_kind.set_item(request.name(), count)?;
    }
    by_kind.set_item("total", requests.total())?;
    Ok(by_kind)
}

/// Keeps bytes where they are.
#[pyclass(module = "notapipe._native", frozen)]
struct Lent {
    _bytes: Bytes,
}

/// How one step went. Times are in seconds, memory in bytes.
#[pyclass(module = "notapipe", frozen, get_all)]
pub struct StepReport {
    args: Vec<OsString>,
    returncode: i32,
    stdout: Py<PyBytes>,
    stderr: Py<PyBytes>,
    duration: f64,
    user_time: f64,
    system_time: f64,
    max_rss: u64,
    ended_by: Option<String>,
    requests: Py<PyDict>,
    files: Option<Py<PyDict>>,
}

impl StepReport {
    fn new(py: Python<'_>, report: &notapipe::StepReport) -> PyResult<Self> {
        let status = &report.status;
        Ok(Self {
            args: report.command.clone(),
            returncode: returncode(status.exit),
            stdout: PyBytes::new(py, &report.stdout.bytes).unbind(),
            stderr: PyBytes::new(py, &report.stderr.bytes).unbind(),
            duration: status.wall_time.as_secs_f64(),
            user_time: status.user_time.as_secs_f64(),
            system_time: status.system_time.as_secs_f64(),
            max_rss: status.max_rss_bytes,
            ended_by: report.ended_by.map(|it| it.to_string()),
            requests: counts(py, &report.requests)?.unbind(),
            files: report
                .touched
                .as_ref()
                .map(|it| touched(py, it))
                .transpose()?,
        })
    }
}

/// As `subprocess` tells it.
fn returncode(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => -signal,
    }
}

fn touched(py: Python<'_>, touched: &notapipe::Touched) -> PyResult<Py<PyDict>> {
    let names = |paths: &[std::sync::Arc<TreePath>]| {
        let names = paths.iter().map(|it| it.to_path_buf().into_os_string());
        names.collect::<Vec<OsString>>()
    };
    let files = PyDict::new(py);
    files.set_item("read", names(&touched.read))?;
    files.set_item("written", names(&touched.written))?;
    files.set_item("created", names(&touched.created))?;
    files.set_item("deleted", names(&touched.deleted))?;
    Ok(files.unbind())
}

/// What the job's files took, in bytes and in inodes.
#[pyclass(module = "notapipe", frozen, get_all)]
pub struct Usage {
    bytes: u64,
    inodes: u64,
    peak_bytes: u64,
    peak_inodes: u64,
    limit_bytes: u64,
    limit_inodes: u64,
    limit_met: Option<String>,
}
