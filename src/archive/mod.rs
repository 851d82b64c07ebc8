//! Archives: tar (plain, gzip, zstd, xz) and zip, into a tree and out of it.
//!
//! [`Unpack`] reads an archive into a tree, all of it or nothing; [`Pack`] writes one from a tree. Both stream:
//! neither holds more than a block of content, apart from a zip that comes through a pipe, whose directory is at
//! its end.
//!
//! Kept both ways: bytes and holes, permission bits, modification times (to the nanosecond in tar, to the second
//! in zip), symlinks, and in tar hard links. Not kept: owners on the way in (as for all that is staged),
//! set-id bits on the way in, extended attributes, access times. FIFOs and sockets are left behind, and told of, on
//! both ways, as device nodes are on the way out: the process at the other end of one is not in the archive.
//!
//! An archive is not trusted. A member that climbs, is absolute or holds a NUL, a device node, a hard link to
//! something that the archive does not hold, and a member below a symlink end the unpacking with an error that names
//! it. What it may take is bounded by the limits of the tree, and headers by limits of their own.
//!
//! ```
//! use notapipe::archive::{Format, Pack, Unpack};
//! use notapipe::collect;
//! use notapipe::stage::{Owner, Stage};
//! use notapipe::store::{Limits, Timestamp, Tree, TreePath};
//!
//! let (owner, now) = (Owner { uid: 0, gid: 0 }, Timestamp::now());
//! let limits = Limits { bytes: 1 << 20, inodes: 100 };
//! let mut tree = Tree::new(limits, 0o755, 0, 0, now);
//! Stage::new(&mut tree, owner, now).bytes(&TreePath::parse("src/A.asm")?, "nop")?;
//!
//! let mut bytes = Vec::new();
//! Pack::new(&tree, Format::TarZst).write(&mut bytes)?;
//!
//! let mut other = Tree::new(limits, 0o755, 0, 0, now);
//! Unpack::new(&mut other, owner, now).read(&bytes[..])?;
//! assert_eq!(&collect::read(&other, &TreePath::parse("src/A.asm")?)?[..], b"nop");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
mod error;
mod format;
mod member_writer;
mod pack;
mod tar_reader;
mod tar_writer;
mod unpack;
mod unpack_target;
mod zip_reader;
mod zip_writer;

pub use error::{ArchiveError, MemberProblem};
pub use format::Format;
pub use pack::{Pack, Packed};
pub use unpack::Unpack;
