//! Files in RAM for tools that insist on files: bytes in, bytes out, nothing on disk.

pub mod fuse;
pub mod store;
pub mod view;
