//! The kernel's view: the FUSE protocol on one side, a `View` on the other.
//!
//! `dispatch.rs` decides what is done with each request, `ops.rs` does it to the tree, `session.rs` has a mount served
//! from its beginning to its end. `fuser.rs` alone knows the crate fuser: it decodes requests and sends replies, and
//! another transport beside it would do no more.

mod busy_poll;
mod dispatch;
mod errno;
mod fuser;
mod invalidator;
pub(crate) mod lazy;
mod locality;
mod ops;
mod profile;
mod requests;
mod session;
mod session_end;

pub(crate) use self::fuser::Notifier;
pub use profile::Profile;
pub(crate) use profile::ServeOptions;
pub use requests::{Request, RequestCounts};
pub(crate) use session::{Server, serve};
pub(crate) use session_end::SessionEnd;
