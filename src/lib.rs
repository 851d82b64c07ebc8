//! Files in RAM for tools that insist on files: bytes in, bytes out, nothing on disk.
//!
//! A named pipe looks like a file until the tool seeks, reopens, maps, renames or asks for a size.
//! notapipe gives the tool a real file system that lives in RAM (FUSE, Linux 5.15 or later),
//! visible to the tool alone.
//!
//! # Which type do I want?
//!
//! | I have | I want |
//! | --- | --- |
//! | a command-line tool that should be a function, inputs to outputs | [`Job`], which gives an [`Outcome`] |
//! | the same, and something else to do meanwhile | [`Job::start`], which gives a [`RunningJob`] |
//! | archives, commands or patterns instead of single files | `Job::unpack`, [`Job::input_from`], [`Job::output_matching`], [`Job::output_changed`], `Outcome::pack` |
//! | many jobs with an SDK or an include directory in common | [`Base`], staged once |
//! | a job to compare, to store or to send elsewhere | [`JobSpec`], plain data |
//! | a command with a say in its streams or environment | [`Step`], [`Stdin`], [`Stdout`] |
//! | an input that is costly to make and perhaps not needed | [`Source`] |
//! | a job that another thread may have to end | [`Interrupt`], or [`RunningJob::cancel`] |
//! | a directory in RAM that stays while my program reads, writes and runs commands in it | [`Scratch`] |
//! | a file of it to read, write and seek | [`ScratchFile`] |
//! | a file of it to read while a tool writes it | [`Follow`] |
//! | a need to know what tools do to files, as it happens | [`Watch`], which gives [`Event`]s |
//! | a mount that must not grow beyond a size | [`Limits`] |
//!
//! All of them say what went wrong by one [`Error`], which [`Error::kind`] sorts; a job that failed gives [`Failed`], which
//! has the error and what there is of the job. Nothing here is global but two settings of glibc's allocator
//! (its mmap and trim thresholds): no signal handler, no environment, no thread that outlives what it is for.
//!
//! ```
//! # fn main() -> Result<(), notapipe::Error> {
//! let outcome = notapipe::Job::new()
//!     .input("words", "pear\napple\n")
//!     .step(["sort", "words", "-o", "sorted"])
//!     .output("sorted")
//!     .run()?;
//! assert_eq!(outcome.output("sorted").unwrap(), "apple\npear\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! Data walks one way: bytes → [`stage`] → [`store`] ⇄ [`fuse`] ⇄ the tool, then store →
//! [`collect`] → bytes.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`store`] | the tree: inodes, names, content; forks share every byte. No kernel, no host, no process |
//! | `view` | one tree as one mount sees it: who still refers to an inode, and when it is freed; changes as events |
//! | [`stage`], [`collect`] | the host's files into the tree, and out of it, whole or not at all |
//! | `archive` | tar and zip archives into the tree, and out of it (feature `archives`) |
//! | [`fuse`] | the kernel's protocol, and what it may cache |
//! | [`mount`] | a mount's life: private in namespaces of its own, or public |
//! | [`scratch`] | a tree that is mounted, for programs |
//! | [`run`] | jobs: steps, their processes, and what came of them |
//! | `control` | speaking to a live mount of another process (feature `control`) |
//! | [`memory`] | the default limits |
//! | [`text`] | names of others on one line, for messages |
//!
//! Features: `cli` (default) builds the `notapipe` program; without it no argument parser is compiled. `archives`
//! and `control` add the modules of those names; `cli` includes both. `tokio` lets a runtime wait for jobs and events.
//! `serde` gives [`JobSpec`] serde's traits.

// docs.rs says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "archives")]
pub mod archive;
pub mod collect;
#[cfg(feature = "control")]
pub mod control;
pub mod fuse;
mod glob;
pub mod memory;
pub mod mount;
mod progress;
pub mod run;
pub mod scratch;
pub mod stage;
pub mod store;
mod sync;
mod sys;
pub mod text;
mod view;

#[doc(inline)]
pub use fuse::Profile;
#[doc(inline)]
pub use progress::{ByteCount, Progress};
#[doc(inline)]
pub use run::{
    Base, Captured, Error, ErrorKind, Exit, Failed, Interrupt, Job, JobSpec, Outcome, RunningJob,
    Slots, Stdin, Stdout, Step, StepReport,
};
#[doc(inline)]
pub use scratch::{Follow, OpenOptions, Scratch, ScratchBuilder, ScratchFile, Watch};
#[doc(inline)]
pub use store::{Limits, Source};
#[doc(inline)]
pub use view::{Event, Touched};
