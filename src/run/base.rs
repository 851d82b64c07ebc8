//! A tree staged once, from which many jobs start.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

#[cfg(feature = "archives")]
use super::archived::Archived;
use super::error::Error;
use super::inputs::{Input, Inputs, owner};
use crate::memory;
use crate::stage::LeftBehind;
use crate::store::{Limits, Timestamp, Tree, Usage};

/// What many jobs have in common, staged once: an SDK, an include directory.
///
/// Each job starts from a fork of it: nothing is copied, nothing is shared back, and the job has a
/// mount and limits of its own. Making the fork takes no time that depends on what is in the base.
///
/// What a job from a base adds to its tool, made, run and dropped, is 0.8 to 1.0 ms where `true` alone takes 0.8
/// (medians of 500, Linux 6.18, 2 virtual CPUs), with a heap of 1 GiB as with a small one: 0.2 to 0.3 ms to make the
/// mount, as much to end it, and the rest for the threads that serve it and for the look at `/proc` that finds what the
/// tool may have left running. `cargo bench --bench job` tells it for a machine.
///
/// # Examples
///
/// ```
/// use notapipe::{Base, Job};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let base = Base::builder().input("inc/words", "pear\napple\n").build()?;
/// assert!(base.skipped().is_empty());
/// assert_eq!(base.usage().inodes, 3, "the root, a directory and a file");
/// for _request in 0..2 {
///     let outcome = Job::new()
///         .base(&base)
///         .step(["sort", "inc/words", "-o", "inc/words"])
///         .output("inc/words")
///         .run()?;
///     assert_eq!(outcome.output("inc/words").unwrap(), "apple\npear\n");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Base {
    pub(super) tree: Tree,
    skipped: LeftBehind,
}

/// What a [`Base`] is to hold.
///
/// # Examples
///
/// ```
/// use notapipe::Base;
/// use notapipe::store::Limits;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let base = Base::builder()
///     .input("inc/words", "pear\napple\n")
///     .input_host("etc/passwd", "/etc/passwd")
///     .input_reader("words", std::io::Cursor::new("fig\n"))
///     .limits(Limits { bytes: 1 << 20, inodes: 100 })
///     .build()?;
/// assert_eq!(base.usage().limits.inodes, 100);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct BaseBuilder {
    inputs: Inputs,
    limits: Option<Limits>,
}

impl Base {
    /// A base with nothing in it yet.
    pub fn builder() -> BaseBuilder {
        BaseBuilder::default()
    }

    /// What it holds, and the limits that its jobs have unless they say otherwise.
    pub fn usage(&self) -> Usage {
        self.tree.usage()
    }

    /// FIFOs, sockets and devices in staged directories, which were left behind.
    pub fn skipped(&self) -> &LeftBehind {
        &self.skipped
    }
}

impl BaseBuilder {
    /// A file of these bytes.
    #[must_use]
    pub fn input(mut self, name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Self {
        self.inputs.add(name.as_ref(), Input::Bytes(bytes.into()));
        self
    }

    /// A host file, or a host directory with all that is in it, under this name; `.` fills the
    /// root.
    #[must_use]
    pub fn input_host(mut self, name: impl AsRef<Path>, source: impl Into<PathBuf>) -> Self {
        self.inputs.add(name.as_ref(), Input::Host(source.into()));
        self
    }

    /// A file of everything that this reader gives.
    #[must_use]
    pub fn input_reader(
        mut self,
        name: impl AsRef<Path>,
        reader: impl Read + Send + 'static,
    ) -> Self {
        self.inputs
            .add(name.as_ref(), Input::Reader(Box::new(reader)));
        self
    }

    /// All members of an archive, given as its bytes; see [`unpack_host`](Self::unpack_host), and
    /// [`Job::unpack`](crate::Job::unpack) for an example.
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack(mut self, archive: impl Into<Bytes>) -> Self {
        self.inputs.unpack(Archived::Bytes(archive.into()));
        self
    }

    /// All members of an archive of the host, under their names: a tar (plain, gzip, zstd or xz) or a
    /// zip, known by its content.
    ///
    /// Archives come before all other inputs, which may replace some of it. Members that climb, absolute
    /// names and device nodes are refused, and then nothing is staged; see [`archive`](crate::archive), and
    /// [`Job::unpack`](crate::Job::unpack) for an example.
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack_host(mut self, archive: impl Into<PathBuf>) -> Self {
        self.inputs.unpack(Archived::Host(archive.into()));
        self
    }

    /// All members of an archive that this reader gives; see [`unpack_host`](Self::unpack_host), and
    /// [`Job::unpack`](crate::Job::unpack) for an example. A zip is first read as a whole.
    #[cfg(feature = "archives")]
    #[must_use]
    pub fn unpack_reader(mut self, archive: impl Read + Send + 'static) -> Self {
        self.inputs.unpack(Archived::Reader(Box::new(archive)));
        self
    }

    /// The most that the base, and with it each job's mount, may hold; half of the memory that this
    /// process may use unless said.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Stages it.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] or [`Error::Stage`].
    pub fn build(self) -> Result<Base, Error> {
        let owner = owner();
        let limits = self.limits.unwrap_or_else(memory::default_limits);
        let mut tree = Tree::new(limits, 0o755, owner.uid, owner.gid, Timestamp::now());
        let skipped = self.inputs.stage(&mut tree, owner, None)?;
        Ok(Base { tree, skipped })
    }
}
