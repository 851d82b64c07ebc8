//! Inputs: what Python has, as the library takes it.

use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use bytes::Bytes;
use notapipe::Source;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// What an input is made of.
pub enum Input {
    /// Shared with Python's object, which cannot change.
    Bytes(Bytes),
    Host(PathBuf),
    Reader(Reader),
    Source(Source),
}

impl FromPyObject<'_, '_> for Input {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let py = value.py();
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(shared(bytes.to_owned())));
        }
        if value.hasattr(intern!(py, "__fspath__"))? {
            return Ok(Self::Host(value.extract()?));
        }
        if value.hasattr(intern!(py, "read"))? {
            return Ok(Self::Reader(Reader::new(value.to_owned().unbind())));
        }
        let callable = value.to_owned().unbind();
        Ok(Self::Source(Source::reader(move || {
            Python::attach(|py| made(callable.bind(py))).map_err(io::Error::other)
        })))
    }
}

/// The bytes of Python's object, which lives as long as they are needed.
pub fn shared(bytes: Bound<'_, PyBytes>) -> Bytes {
    Bytes::from_owner(PyBackedBytes::from(bytes))
}

/// The content that a callable of the caller's gives: bytes, or a file object to read.
fn made(callable: &Bound<'_, PyAny>) -> PyResult<Box<dyn Read + Send>> {
    let content = callable.call0()?;
    match content.hasattr(intern!(content.py(), "read"))? {
        true => Ok(Box::new(Reader::new(content.unbind()))),
        false => Ok(Box::new(Cursor::new(shared(contents(&content)?)))),
    }
}

/// The bytes of anything with the buffer protocol: itself where it is `bytes`, else a copy.
fn contents<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let memory = pyo3::types::PyMemoryView::from(value).map_err(|_| {
        let kind = value.get_type();
        PyTypeError::new_err(format!(
            "a {kind} where bytes were expected; is the file open in text mode?"
        ))
    })?;
    Ok(memory
        .call_method0(intern!(value.py(), "tobytes"))?
        .cast_into()?)
}

/// A binary file object of Python's.
pub struct Reader {
    object: Py<PyAny>,
    /// What it gave and was not taken yet.
    given: Cursor<Bytes>,
}

impl Reader {
    /// What is asked for at once.
    const BLOCK_BYTES: usize = 1 << 20;

    fn new(object: Py<PyAny>) -> Self {
        Self {
            object,
            given: Cursor::default(),
        }
    }

    fn block(&self) -> PyResult<Bytes> {
        Python::attach(|py| {
            let read = self
                .object
                .call_method1(py, intern!(py, "read"), (Self::BLOCK_BYTES,))?;
            Ok(shared(contents(read.bind(py))?))
        })
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given.position() == self.given.get_ref().len() as u64 {
            self.given = Cursor::new(self.block().map_err(io::Error::other)?);
        }
        self.given.read(buffer)
    }
}
