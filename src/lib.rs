//! Files in RAM for tools that insist on files: bytes in, bytes out, nothing on disk.

#[cfg(feature = "archives")]
pub mod archive;
pub mod collect;
pub mod fuse;
mod progress;
pub mod stage;
pub mod store;
pub mod view;

pub use progress::Progress;
