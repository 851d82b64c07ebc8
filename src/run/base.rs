//! A tree staged once, from which many jobs start.

use super::job::Job;
use super::spec::JobSpec;
#[cfg(feature = "archives")]
use crate::archive::{Format, Pack};
use crate::stage::LeftBehind;
use crate::store::{Tree, Usage};

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
/// let base: Base = Job::new().input("inc/words", "pear\napple\n").into_base()?;
/// assert!(base.skipped().is_empty());
/// assert_eq!(base.usage().inodes, 3, "the root, a directory and a file");
/// for _request in 0..2 {
///     let outcome = base
///         .job()
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
    pub(super) skipped: LeftBehind,
    /// Of the job that it was made of, without what is staged.
    pub(super) spec: JobSpec,
}

impl Clone for Base {
    fn clone(&self) -> Self {
        Self {
            tree: self.tree.fork(),
            skipped: self.skipped.clone(),
            spec: self.spec.clone(),
        }
    }
}

impl Base {
    /// A job that starts from it: like the one that it was made of, whose inputs are staged already.
    pub fn job(&self) -> Job {
        Job::from_spec(self.spec.clone()).base(self)
    }

    /// All of it as an archive, for another process: see [`Job::unpack`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::Job;
    /// use notapipe::archive::Format;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let base = Job::new().input("inc/words", "pear\napple\n").into_base()?;
    /// let mut tar = Vec::new();
    /// base.pack(Format::Tar).write(&mut tar)?;
    ///
    /// let copy = Job::new().unpack(tar).into_base()?;
    /// assert_eq!(copy.usage().inodes, base.usage().inodes);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "archives")]
    pub fn pack(&self, format: Format) -> Pack<'_> {
        Pack::new(&self.tree, format)
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
