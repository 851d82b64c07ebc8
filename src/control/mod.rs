//! Speaking to a live mount of another process: what it holds, its limits, a snapshot, its end.
//!
//! A [`Server`] stands beside a [`Scratch`](crate::Scratch) and listens on a Unix socket in a directory that only its
//! user may enter; a [`Client`] finds it by the mounted directory. The library takes the directory as a parameter
//! ([`Rooms`]): which one it is, the program decides.
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
//! | `{"version":1,"command":"unmount","lazy":false}` | `{"unmounted":{…}}` when all is done, what has to be saved included; with `lazy`, as soon as it is detached |
//!
//! Whatever goes wrong is `{"error":{"kind":"…","message":"…"}}`. Fields may be added within a version; whoever reads
//! passes over those that it does not know.

mod client;
mod error;
mod protocol;
mod rooms;
mod server;
mod wire;

pub use client::Client;
pub use error::ControlError;
pub use protocol::{Description, Packed, Status, Unmounted};
pub use rooms::{Found, Rooms};
pub use server::Server;
