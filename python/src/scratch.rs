//! A directory in RAM, and what happens in it.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Mutex;

use notapipe::mount::{MountOptions, Visibility};
use notapipe::{Event, Profile};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyRange};

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
        Ok(Watch(Owned::new(Mutex::new(watch))))
    }

    fn follow(&self, py: Python<'_>, name: PathBuf) -> PyResult<Follow> {
        let follow = self.with(py, |scratch| scratch.follow(&name))?;
        Ok(Follow(Owned::new(Mutex::new(follow))))
    }

    /// Unmounts; does nothing the second time. Who has a file of it open keeps that file.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.lock().unwrap().take().map(drop));
    }
}

/// See `notapipe.Watch`.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Watch(Owned<Mutex<notapipe::Watch>>);

#[pymethods]
impl Watch {
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.0.get()?.lock().unwrap().as_fd().as_raw_fd())
    }

    /// What waits to be taken, as the fields of a `notapipe.Event`.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let event = self.0.get()?.lock().unwrap().try_next();
        event.map(|event| fields(py, event)).transpose()
    }

    /// Whether nothing comes any more.
    fn ended(&self) -> PyResult<bool> {
        Ok(self.0.get()?.lock().unwrap().has_ended())
    }

    /// Waits until something can be taken.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        wait_for(py, self.0.get()?)
    }
}

/// See `notapipe.Follow`.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Follow(Owned<Mutex<notapipe::Follow>>);

#[pymethods]
impl Follow {
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.0.get()?.lock().unwrap().as_fd().as_raw_fd())
    }

    /// The bytes that there are: none at the end, and `None` where more will come.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        const MOST_BYTES: usize = 128 << 10;
        let mut block = vec![0; MOST_BYTES];
        let follow = self.0.get()?;
        let taken = py.detach(|| follow.lock().unwrap().try_read(&mut block))?;
        Ok(taken.map(|len| PyBytes::new(py, &block[..len])))
    }

    /// Waits until something can be taken.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        wait_for(py, self.0.get()?)
    }
}

fn wait_for<T: AsFd>(py: Python<'_>, source: &Mutex<T>) -> PyResult<()> {
    // Its own copy: the source may be dropped, or taken from, while it is waited for.
    let descriptor = source.lock().unwrap().as_fd().try_clone_to_owned()?;
    wait::readable(py, descriptor.as_fd(), None).map(drop)
}

fn fields(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyDict>> {
    let fields = PyDict::new(py);
    let kind = match &event {
        Event::Created { .. } => "created",
        Event::Removed { .. } => "removed",
        Event::Renamed { from, .. } => {
            fields.set_item("source", from.to_path_buf().into_os_string())?;
            "renamed"
        }
        Event::Opened { writable, .. } => {
            fields.set_item("writable", writable)?;
            "opened"
        }
        Event::Closed { writable, .. } => {
            fields.set_item("writable", writable)?;
            "closed"
        }
        Event::Written { range, .. } => {
            fields.set_item(
                "span",
                PyRange::new(py, range.start.try_into()?, range.end.try_into()?)?,
            )?;
            "written"
        }
        Event::Truncated { size, .. } => {
            fields.set_item("size", size)?;
            "truncated"
        }
        _ => "lost",
    };
    // What was lost may have been anywhere.
    let path = event.path().map_or(".".into(), |path| path.to_path_buf());
    fields.set_item("kind", kind)?;
    fields.set_item("path", path.into_os_string())?;
    Ok(fields)
}
