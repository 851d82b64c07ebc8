//! What must not be used, or dropped, in a child that was forked.

use std::mem::ManuallyDrop;

use pyo3::exceptions::PyRuntimeError;
use pyo3::{PyResult, Python};

/// A value whose threads and mounts are this process's: a forked child has neither, and would wait for the first for ever
/// and take the second from its parent.
pub struct Owned<T: Send> {
    pid: u32,
    value: ManuallyDrop<T>,
}

impl<T: Send> Owned<T> {
    pub fn new(value: T) -> Self {
        Self {
            pid: std::process::id(),
            value: ManuallyDrop::new(value),
        }
    }

    pub fn get(&self) -> PyResult<&T> {
        match self.is_ours() {
            true => Ok(&self.value),
            false => Err(PyRuntimeError::new_err(
                "this belongs to the process that made it, not to one that was forked from it",
            )),
        }
    }

    fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }
}

impl<T: Send> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.is_ours() {
            // Ending what it holds may take a while, and what it waits for may need the interpreter.
            Python::attach(|py| {
                let value = &mut self.value;
                // SAFETY: it is dropped here alone, and not used after this.
                py.detach(|| unsafe { ManuallyDrop::drop(value) });
            });
        }
    }
}
