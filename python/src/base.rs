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
        let mut builder = notapipe::Base::builder();
        for (name, input) in inputs {
            builder = match input {
                Input::Bytes(bytes) => builder.input(name, bytes),
                Input::Host(path) => builder.input_host(name, path),
                Input::Reader(reader) => builder.input_reader(name, reader),
                Input::Source(_) => {
                    return Err(pyo3::exceptions::PyTypeError::new_err(
                        "a base is staged at once: call it, and give what it returns",
                    ));
                }
            };
        }
        if let Some(limits) = limits(size, inodes) {
            builder = builder.limits(limits);
        }
        Self::built(py, builder)
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
    fn built(py: Python<'_>, builder: notapipe::BaseBuilder) -> PyResult<Self> {
        py.detach(|| builder.build())
            .map(Self)
            .map_err(|error| raised_without_outcome(py, &error))
    }
}
