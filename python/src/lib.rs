//! The native half of the Python package `notapipe`: it translates between Python's objects and the library's, and lets
//! go of the interpreter's lock whenever something is waited for.
//!
//! `notapipe/__init__.py` is the half that people read; what stands here under a leading underscore is for it alone.

mod base;
mod errors;
mod input;
mod job;
mod outcome;
mod owned;
mod running;
mod scratch;
mod wait;

/// See `_native.pyi`.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::base::Base;
    #[pymodule_export]
    use super::outcome::{Outcome, StepReport, Usage};
    #[pymodule_export]
    use super::running::RunningJob;
    #[pymodule_export]
    use super::scratch::{Follow, Scratch, Watch};

    /// The memory that this process may use, in bytes.
    #[pyo3::pyfunction]
    fn available_bytes() -> std::io::Result<u64> {
        notapipe::memory::available_bytes()
    }
}
