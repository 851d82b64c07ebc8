//! Out of the tree: bytes, listings, and files of the host.
//!
//! Everything here reads the tree directly, never through a mount. [`read`] and [`list`] serve
//! programs; a [`Delivery`] puts outputs into files of the host, whole or not at all.
//!
//! A symlink is followed when it is named by the caller, and then only within the tree: its target
//! is looked up here, never on the host. Symlinks inside a collected directory stay symlinks.
//!
//! # Examples
//!
//! ```
//! use notapipe::collect;
//! use notapipe::stage::{Owner, Stage};
//! use notapipe::store::{Limits, Timestamp, Tree, TreePath};
//!
//! let now = Timestamp::now();
//! let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
//! let before = tree.fork();
//! let rom = TreePath::parse("build/A.gb")?;
//! Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&rom, "rom")?;
//!
//! let build = TreePath::parse("build")?;
//! let paths = |found: Vec<collect::Found>| -> Vec<TreePath> {
//!     found.into_iter().map(|it| it.path).collect()
//! };
//! assert_eq!(paths(collect::list(&tree, &TreePath::root())?), [build.clone()]);
//! assert_eq!(paths(collect::walk(&tree, &TreePath::root())?), [build.clone(), rom.clone()]);
//! assert_eq!(paths(collect::made(&before, &tree)), [rom.clone()]);
//! assert_eq!(paths(collect::changed(&before, &tree)), [build, rom.clone()]);
//!
//! assert_eq!(collect::find(&tree, &rom)?.size, 3);
//! let mut copy = Vec::new();
//! assert_eq!(collect::copy(&tree, &rom, &mut copy)?, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic_directory;
mod atomic_file;
mod attributes;
mod deliver;
mod destination;
mod error;
mod host;
mod host_path;
mod interruptible_writer;
mod journal;
mod missing;
mod plan;
mod stream;
mod tree_reader;
mod wanted;

pub use atomic_directory::AtomicDirectory;
pub use atomic_file::{AtomicFile, OpenAtomicFile};
pub use deliver::{Delivered, Delivery, Destination, Prepared};
pub use error::CollectError;
pub use interruptible_writer::InterruptibleWriter;
pub use journal::Unrestored;
pub use missing::{Missing, MissingOutputs, NoMatch};
pub use tree_reader::{Found, changed, copy, find, list, made, read, walk};
#[cfg(feature = "archives")]
pub(crate) use tree_reader::{data_ranges, each_block};
pub use wanted::{Wanted, select};

#[doc(inline)]
pub use crate::glob::{Glob, GlobError};
