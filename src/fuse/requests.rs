//! Counting requests: the one cost that does not depend on the machine's mood.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! requests {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// A kind of request from the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are those of the FUSE protocol")]
        pub enum Request { $($variant),* }

        impl Request {
            /// Every kind, in the order of the protocol's headers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The kind's name as the protocol spells it, in lower case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

requests! {
    Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr", Readlink "readlink",
    Symlink "symlink", Mknod "mknod", Mkdir "mkdir", Unlink "unlink", Rmdir "rmdir", Rename "rename",
    Link "link", Open "open", Read "read", Write "write", Statfs "statfs", Release "release",
    Fsync "fsync", Setxattr "setxattr", Getxattr "getxattr", Listxattr "listxattr",
    Removexattr "removexattr", Flush "flush", Opendir "opendir", Readdir "readdir",
    Readdirplus "readdirplus", Releasedir "releasedir", Fsyncdir "fsyncdir", Access "access",
    Create "create", Fallocate "fallocate", Lseek "lseek", CopyFileRange "copy_file_range",
    Other "other",
}

/// How many requests of each kind a mount has answered.
///
/// # Examples
///
/// ```
/// use notapipe::Scratch;
/// use notapipe::fuse::{Request, RequestCounts};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let scratch = Scratch::new()?;
/// scratch.write("word", "ceci")?;
/// scratch.run(["cat", "word"])?;
/// let requests = scratch.requests();
/// let earlier = RequestCounts::clone(&requests);
/// scratch.run(["cat", "word"])?;
/// assert_eq!(requests.since(&earlier).get(Request::Read), 0, "the kernel kept the page");
/// let counted: u64 = requests.iter().map(|(_, count)| count).sum();
/// assert!(requests.total() <= counted, "forgets have no answer");
/// scratch.unmount()
/// # }
/// ```
#[derive(Debug)]
pub struct RequestCounts([AtomicU64; Request::ALL.len()]);

impl Default for RequestCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Request::ALL.len()])
    }
}

impl Clone for RequestCounts {
    /// The counts as they are now; they do not grow with the original's.
    fn clone(&self) -> Self {
        let now = |kind: usize| AtomicU64::new(self.0[kind].load(Ordering::Relaxed));
        Self(std::array::from_fn(now))
    }
}

impl RequestCounts {
    pub(super) fn count(&self, request: Request) {
        // Relaxed: a statistic that orders nothing.
        self.0[request as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests of this kind came so far.
    pub fn get(&self, request: Request) -> u64 {
        self.0[request as usize].load(Ordering::Relaxed)
    }

    /// What has come since these counts were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let came = |kind: usize| {
            let now = self.0[kind].load(Ordering::Relaxed);
            AtomicU64::new(now.saturating_sub(earlier.0[kind].load(Ordering::Relaxed)))
        };
        Self(std::array::from_fn(came))
    }

    /// All requests that a process waited for: everything but forgets, which have no answer.
    pub fn total(&self) -> u64 {
        self.iter()
            .filter(|&(request, _)| request != Request::Forget)
            .map(|(_, count)| count)
            .sum()
    }

    /// The kinds that came at least once.
    pub fn iter(&self) -> impl Iterator<Item = (Request, u64)> + '_ {
        Request::ALL
            .iter()
            .map(|&request| (request, self.get(request)))
            .filter(|&(_, count)| count > 0)
    }
}
