//! Speaking to a live mount of another process: what it holds, its limits, a snapshot, its end.
//!
//! A [`Server`] stands beside a [`Scratch`](crate::Scratch) and listens on a Unix socket in a directory that only its
//! user may enter; a [`Client`] finds it by the mounted directory. The library takes the directory as a parameter
//! ([`SocketDirs`]): which one it is, the program decides.
//!
//! # The protocol
//!
//! Version 1. Lines of JSON, a request and then its answers, over a stream socket. The peer must be of our own user or
//! root (`SO_PEERCRED`, unix(7)).
//!
//! | request | answer |
//! | --- | --- |
//! | `{"version":1,"command":"status"}` | `{"status":{…}}`, the fields of [`Status`] |
//! | `{"version":1,"command":"resize","bytes":N,"inodes":N}`, either or both | `{"status":{…}}` |
//! | `{"version":1,"command":"snapshot","format":"tar.zst"}` with a descriptor beside it (`SCM_RIGHTS`) | `{"progress":{"files":N,"bytes":N}}` again and again, then `{"packed":{…}}` |
//! | `{"version":1,"command":"unmount","lazy":false}` | `{"unmounted":{…}}` when all is done, what has to be saved included, and `"saving"` every second until then; with `lazy`, as soon as it is detached |
//!
//! Whatever goes wrong is `{"error":{"kind":"…","message":"…"}}`. Fields may be added within a version; a reader
//! passes over those that it does not know.
//!
//! # Examples
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::thread;
//!
//! use notapipe::archive::Format;
//! use notapipe::control::{
//!     Client, ControlError, Description, LiveMount, Packed, SocketDirs, Server, Status, Unmounted,
//! };
//! use notapipe::{Interrupt, Scratch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let host = tempfile::tempdir()?;
//! # let directory = host.path().join("scratch");
//! # std::fs::create_dir(&directory)?;
//! # let dir = host.path().join("dir");
//! let socket_dirs = SocketDirs::new([dir]);
//! let scratch = Scratch::builder().public_at(&directory).build()?;
//! scratch.write("word", "ceci")?;
//! let server = Server::start(&socket_dirs, scratch.handle(), Description::default())?;
//! let LiveMount { socket, .. } = socket_dirs.all().remove(0);
//! assert_eq!(socket.parent(), Some(socket_dirs.open()?));
//!
//! // Another process, or here another thread:
//! let ask = move || {
//!     let mut client: Client = socket_dirs.find(&directory)?;
//!     let status: Status = client.status()?;
//!     assert_eq!(status.used_bytes, 4096);
//!     assert_eq!(client.resize(Some(1 << 20), None)?.limit_bytes, 1 << 20);
//!     let target = std::fs::File::create("/dev/null").expect("it is there");
//!     let packed: Packed = client.snapshot(&target, Format::Tar, |_so_far| ControlFlow::Continue(()))?;
//!     assert_eq!(packed.bytes, 4);
//!     println!("asked at {}", client.socket().display());
//!     client.unmount(false, || {})
//! };
//! let asking = thread::spawn(ask);
//!
//! scratch.wait(&Interrupt::new()?)?;
//! scratch.unmount()?;
//! server.finish(Ok(Unmounted::saved_to(None)));
//! let unmounted: Result<Unmounted, ControlError> = asking.join().expect("no panic");
//! assert!(!unmounted?.detached);
//! # Ok(())
//! # }
//! ```

mod client;
mod connection;
mod error;
mod protocol;
mod server;
mod socket_dirs;

pub use client::Client;
pub use error::ControlError;
pub use protocol::{Description, Packed, Status, Unmounted};
pub use server::Server;
pub use socket_dirs::{LiveMount, SocketDirs};
