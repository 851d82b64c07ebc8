//! The tree in RAM. It knows no kernel, no host file system, no process and no nodeid.

mod content;
mod directory;
mod error;
mod inode;
mod name;
mod path;
mod quota;
mod source;
mod tree;
mod trie;
mod xattr;

pub use content::Data;
pub use directory::{Cookie, Entry};
pub use error::StoreError;
pub use inode::{Attr, Ino, Kind, NewInode, NewKind, SetAttr, Timestamp};
pub use name::{NAME_MAX, Name};
pub(crate) use path::{Moved, Text};
pub use path::{PATH_MAX, PathError, TreePath};
pub use quota::{Limits, PAGE_SIZE, Peak, Resource, Usage};
pub use source::Source;
pub use tree::{AllocateMode, RenameMode, Tree, Unlinked};
