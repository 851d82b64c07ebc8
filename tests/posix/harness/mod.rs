//! How a case is written, performed and compared.

#[macro_use]
mod case;
mod compare;
pub mod differences;
mod memory;
mod settings;
#[macro_use]
mod observe;
mod process;
mod syscalls;

pub use case::{Case, Needs, PERFORM, perform};
pub use compare::run_all;
pub use differences::{Difference, allowed};
pub use memory::Map;
pub use observe::{Bytes, contents, facts, facts_of, make, names, observe, relation_after, say};
pub use process::{
    PipeSignal, as_other, at_the_same_time, fork, in_child, is_root, signal_of_child, wait_for,
};
pub use syscalls::*;
