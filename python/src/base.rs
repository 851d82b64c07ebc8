//! What many jobs have in common.

use std::ffi::OsString;

use pyo3::intern;
use pyo3::prelude::*;

use super::errors::raised_without_outcome;
use super::input::Input;
use super::job::limits;

/// See `notapipe.Base`, which holds one.
#[pyclass(module = "notapipe._native", frozen)]
pub struct Base(notapipe::Base);

impl Base {
    /// The one that a `notapipe.Base` holds.
    pub fn of<'py>(base: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        Ok(base.getattr(intern!(base.py(), "_native"))?.cast_into()?)
    }

    pub fn base(&self) -> &notapipe::Base {
        &self.0
    }
}

#[pymethods]
impl Base {
    #[new]
    fn new(
        py: Python<'_>,
        inputs: Vec<(OsString, Input)>,
        size: Option<u64>,
        inodes: Option<u64>,
    ) -> PyResult<Self> {
        let mut job = notapipe::Job::new();
        for (name, input) in inputs {
            job = match input {
                Input::Bytes(bytes) => job.input(name, bytes),
                Input::Host(path) => job.input_host(name, path),
                Input::Reader(reader) => job.input_reader(name, reader),
                Input::Source(_) => {
                    return Err(pyo3::exceptions::PyTypeError::new_err(
                        "a base is staged at once: call it, and give what it returns",
                    ));
                }
            };
        }
        if let Some(limits) = limits(size, inodes) {
            job = job.limits(limits);
        }
        Self::staged(py, job)
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.0.usage().bytes
    }

    #[getter]
    fn inodes(&self) -> u64 {
        self.0.usage().inodes
    }
}

impl Base {
    fn staged(py: Python<'_>, job: notapipe::Job) -> PyResult<Self> {
        py.detach(|| job.into_base())
            .map(Self)
            .map_err(|error| raised_without_outcome(py, &error))
    }
}
