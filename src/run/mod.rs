//! A job: stage, mount, spawn, wait, unmount, and the tree that is left.
//!
//! [`Job`] says what is to be done; [`Job::run`] does it and gives an [`Outcome`].

mod backing;
mod base;
mod commands;
mod cpus;
mod error;
mod events;
mod failed;
mod follow;
mod followed_file;
mod group;
mod inputs;
mod job;
mod limits;
mod outcome;
mod own_tmp;
mod pipeline;
#[doc(hidden)]
pub mod process;
mod running;
mod scratch_command;
mod semaphore;
mod settle;
mod spec;
mod stdio;
mod step;
mod terminal;

pub use backing::Backing;
pub use base::Base;
pub use cpus::{Cpus, Slots};
pub use error::{Error, MountOnly};
pub use failed::{ErrorKind, Failed};
pub use follow::Followed;
pub use job::Job;
pub use limits::{LimitHolder, LimitHolders, ResourceLimits};
pub use outcome::{Captured, EndedBy, Outcome, Phases, StepReport};
pub use own_tmp::Tmp;
pub use process::{Exit, Interrupt, SpawnError, StepStatus, StillRunning};
pub use running::RunningJob;
pub use scratch_command::ScratchCommand;
pub use semaphore::Semaphore;
#[cfg(feature = "serde")]
pub use spec::words;
pub use spec::{
    InputSource, InputSpec, JobSpec, MatchingOutput, OutputDest, OutputSpec, PipedFile, Size,
    SpecError, StepSpec, Verbosity, variable,
};
pub use stdio::{Stdin, Stdout};
pub use step::Step;

pub use crate::sys::signals::InheritedSignals;
