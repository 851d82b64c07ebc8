//! What many jobs have in common.

use std::ffi::OsString;

use notapipe::Limits;
use notapipe::archive::Format;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::raised_without_outcome;
use super::input::{Input, shared};
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

    /// What `pack` gave, staged again.
    #[staticmethod]
    fn unpack(
        py: Python<'_>,
        archive: Bound<'_, PyBytes>,
        size: u64,
        inodes: u64,
    ) -> PyResult<Self> {
        let limits = Limits {
            bytes: size,
            inodes,
        };
        let job = notapipe::Job::new().unpack(shared(archive));
        Self::staged(py, job.limits(limits))
    }

    /// All of it as a tar, and its limits.
    fn pack<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, u64, u64)> {
        let mut archive = Vec::new();
        py.detach(|| self.0.pack(Format::Tar).write(&mut archive))
            .map_err(|error| raised_without_outcome(py, &error.into()))?;
        let limits = self.0.usage().limits;
        Ok((PyBytes::new(py, &archive), limits.bytes, limits.inodes))
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
