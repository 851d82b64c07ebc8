//! A directory in RAM, and what happens in it.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use notapipe::mount::{MountOptions, Visibility};
use notapipe::{Event, Profile};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use super::errors::raised_without_outcome;
use super::job::limits;
use super::owned::Owned;
use super::wait;

/// See `notapipe.Scratch`, which holds one.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Scratch(Mutex<Option<Owned<notapipe::Scratch>>>);

impl Scratch {
    /// Does something with the directory, while it is there, without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&notapipe::Scratch) -> Result<T, notapipe::Error> + Send,
    ) -> PyResult<T> {
        let result = py.detach(|| {
            let scratch = self.0.lock().unwrap();
            let scratch = scratch.as_ref().ok_or_else(closed)?.get()?;
            Ok::<_, PyErr>(work(scratch))
        })?;
        result.map_err(|error| raised_without_outcome(py, &error))
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the scratch directory is closed")
}

#[pymethods]
impl Scratch {
    #[new]
    fn new(py: Python<'_>, size: Option<u64>, inodes: Option<u64>) -> PyResult<Self> {
        let mut builder = notapipe::Scratch::builder()
            .profile(Profile::Observed)
            .mode(0o700)
            .mount(MountOptions {
                visibility: Visibility::Public,
                ..MountOptions::default()
            });
        if let Some(limits) = limits(size, inodes) {
            builder = builder.limits(limits);
        }
        py.detach(|| builder.build())
            .map(|scratch| Self(Mutex::new(Some(Owned::new(scratch)))))
            .map_err(|error| raised_without_outcome(py, &error))
    }

    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.with(py, |scratch| Ok(scratch.path().to_owned()))
    }

    fn write(&self, py: Python<'_>, name: PathBuf, content: PyBackedBytes) -> PyResult<()> {
        self.with(py, |scratch| scratch.write(&name, &content))
    }

    fn read<'py>(&self, py: Python<'py>, name: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.with(py, |scratch| scratch.read(&name))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn list(&self, py: Python<'_>, name: PathBuf) -> PyResult<Vec<OsString>> {
        let names = self.with(py, |scratch| scratch.list(&name))?;
        Ok(names.into_iter().map(Into::into).collect())
    }

    fn watch(&self, py: Python<'_>, name: PathBuf) -> PyResult<Watch> {
        let watch = self.with(py, |scratch| scratch.watch(&name))?;
        Ok(Watch(Mutex::new(watch)))
    }

    fn follow(&self, py: Python<'_>, name: PathBuf) -> PyResult<Follow> {
        let follow = self.with(py, |scratch| scratch.follow(&name))?;
        Ok(Follow(Mutex::new(follow)))
    }

    /// Unmounts; does nothing the second time. Who has a file of it open keeps that file.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.lock().unwrap().take().map(drop));
    }
}

/// See `notapipe.Watch`.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Watch(Mutex<notapipe::Watch>);

/// The fields of `notapipe.Event`, in their order.
type EventFields = (
    &'static str,
    OsString,
    Option<OsString>,
    Option<(u64, u64)>,
    Option<bool>,
);

#[pymethods]
impl Watch {
    fn fileno(&self) -> RawFd {
        self.0.lock().unwrap().as_fd().as_raw_fd()
    }

    /// What waits to be taken.
    fn take(&self) -> Option<EventFields> {
        self.0.lock().unwrap().try_next().map(fields)
    }

    /// Whether nothing comes any more.
    fn ended(&self) -> bool {
        self.0.lock().unwrap().has_ended()
    }

    /// Waits until something can be taken; false after so many seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        wait_for(py, &self.0, wait::deadline(timeout))
    }
}

/// See `notapipe.Follow`.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Follow(Mutex<notapipe::Follow>);

#[pymethods]
impl Follow {
    fn fileno(&self) -> RawFd {
        self.0.lock().unwrap().as_fd().as_raw_fd()
    }

    /// The bytes that there are: none at the end, and `None` where more will come.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        const MOST_BYTES: usize = 128 << 10;
        let mut block = vec![0; MOST_BYTES];
        let taken = py.detach(|| self.0.lock().unwrap().try_read(&mut block))?;
        Ok(taken.map(|len| PyBytes::new(py, &block[..len])))
    }

    /// Waits until something can be taken; false after so many seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        wait_for(py, &self.0, wait::deadline(timeout))
    }
}

fn wait_for<T: AsFd>(
    py: Python<'_>,
    source: &Mutex<T>,
    deadline: Option<Instant>,
) -> PyResult<bool> {
    // Its own copy: the source may be dropped, or taken from, while it is waited for.
    let descriptor = source.lock().unwrap().as_fd().try_clone_to_owned()?;
    wait::readable(py, descriptor.as_fd(), deadline)
}

fn fields(event: Event) -> EventFields {
    let name = |path: &notapipe::store::TreePath| OsString::from(path.to_path_buf());
    match event {
        Event::Created { path, .. } => ("created", name(&path), None, None, None),
        Event::Removed { path } => ("removed", name(&path), None, None, None),
        Event::Renamed { from, to } => ("renamed", name(&to), Some(name(&from)), None, None),
        Event::Opened { path, writable, .. } => ("opened", name(&path), None, None, Some(writable)),
        Event::Closed { path, writable, .. } => ("closed", name(&path), None, None, Some(writable)),
        Event::Written { path, range } => (
            "written",
            name(&path),
            None,
            Some((range.start, range.end)),
            None,
        ),
        Event::Truncated { path, size } => {
            ("truncated", name(&path), None, Some((size, size)), None)
        }
        // Of the whole directory, as all of it has to be looked at again.
        _ => ("lost", OsString::from("."), None, None, None),
    }
}
