//! How much a tree may hold, and how much it holds.

use std::fmt;

use super::error::StoreError;

/// Bytes in a page, the unit in which content is charged.
pub const PAGE_SIZE: u64 = 4096;

/// Directories and empty files take no page: a tree of few bytes may still hold so many.
const INODES_MIN: u64 = 1024;

/// What one of the [`Limits`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of content, in whole pages.
    Bytes,
    /// Inodes, the root included.
    Inodes,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Inodes => "inodes",
        })
    }
}

/// The most a tree may hold.
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::store::Limits;
///
/// let limits = Limits { bytes: 1 << 20, inodes: 100 };
/// let job = Job::new().limits(limits).input("large", vec![0; 2 << 20]).step(["true"]);
/// assert!(job.run().unwrap_err().to_string().contains("1 MiB"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Content in bytes, charged by allocated 4 KiB pages.
    pub bytes: u64,
    /// Inodes, the root included. What the tree itself takes in memory is bounded by them: for each, some hundred bytes
    /// and its name, of 255 bytes at most. A hard link counts as one.
    pub inodes: u64,
}

impl Limits {
    /// These bytes, and an inode for every page of them, but no fewer than 1024: the inodes and their names then take a
    /// quarter of the bytes at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::Limits;
    ///
    /// assert_eq!(Limits::of_bytes(16 << 20), Limits { bytes: 16 << 20, inodes: 4096 });
    /// assert_eq!(Limits::of_bytes(4096).inodes, 1024);
    /// ```
    pub fn of_bytes(bytes: u64) -> Self {
        Self {
            bytes,
            inodes: (bytes / PAGE_SIZE).max(INODES_MIN),
        }
    }
}

/// What a tree holds, and what it may hold; from [`Tree::usage`](super::Tree::usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Allocated content in bytes, a multiple of [`PAGE_SIZE`].
    ///
    /// Symlink targets of 128 bytes and more and extended attributes are charged here as well.
    pub bytes: u64,
    /// Inodes, the root and files that are unlinked but still open included.
    ///
    /// A hard link counts as one more, as on tmpfs: its name takes memory too.
    pub inodes: u64,
    /// The limits in force.
    pub limits: Limits,
}

/// The most that a tree ever held at once, in the units of [`Usage`]; see [`Tree::usage`](super::Tree::usage).
///
/// A fork goes on from its original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Allocated content in bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// What a tree holds, against its limits: asked before memory is taken, told when it is given back.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    pages: u64,
    inodes: u64,
    most_pages: u64,
    most_inodes: u64,
    pub limits: Limits,
}

impl Quota {
    /// Of a tree with nothing but its root.
    pub fn new(limits: Limits) -> Self {
        Self {
            pages: 0,
            inodes: 1,
            most_pages: 0,
            most_inodes: 1,
            limits,
        }
    }

    pub fn usage(&self) -> Usage {
        Usage {
            bytes: self.pages * PAGE_SIZE,
            inodes: self.inodes,
            limits: self.limits,
        }
    }

    pub fn peak(&self) -> Peak {
        Peak {
            bytes: self.most_pages * PAGE_SIZE,
            inodes: self.most_inodes,
        }
    }

    /// Pages that may still be taken.
    pub fn free_pages(&self) -> u64 {
        (self.limits.bytes / PAGE_SIZE).saturating_sub(self.pages)
    }

    /// All of `count` pages, or none.
    pub fn take_pages(&mut self, count: u64) -> Result<(), StoreError> {
        if count > self.free_pages() {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.pages += count;
        self.most_pages = self.most_pages.max(self.pages);
        Ok(())
    }

    pub fn give_pages(&mut self, count: u64) {
        self.pages -= count;
    }

    pub fn take_inode(&mut self) -> Result<(), StoreError> {
        if self.inodes >= self.limits.inodes {
            return Err(StoreError::NoSpace(Resource::Inodes));
        }
        self.inodes += 1;
        self.most_inodes = self.most_inodes.max(self.inodes);
        Ok(())
    }

    pub fn give_inode(&mut self) {
        self.inodes -= 1;
    }
}
