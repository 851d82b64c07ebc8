//! The kernel's view: the FUSE protocol on one side, a [`View`](crate::view::View) on the other.
//!
//! `ops.rs` holds the operations on typed requests; `fuser.rs` alone knows the crate fuser: it decodes,
//! calls `ops`, replies. So that another transport can be put beside it, nothing else names fuser.

mod busy_poll;
mod corrections;
mod errno;
mod fuser;
mod makers;
mod ops;
mod profile;
mod requests;
mod session_end;

pub use self::fuser::{Notifier, Server, serve};
pub use makers::Makers;
pub use profile::{Profile, ServeOptions};
pub use requests::{Request, RequestCounts};
pub use session_end::SessionEnd;
