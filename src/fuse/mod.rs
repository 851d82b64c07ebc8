//! The kernel's view: the FUSE protocol on one side, a `View` on the other.
//!
//! `ops.rs` holds the operations on typed requests; `fuser.rs` alone knows the crate fuser: it decodes,
//! calls `ops`, replies. So that another transport can be put beside it, nothing else names fuser.

mod busy_poll;
mod corrections;
mod errno;
mod fuser;
mod locality;
mod makers;
mod ops;
mod profile;
mod requests;
mod session_end;

pub(crate) use self::fuser::{Notifier, Server, serve};
pub(crate) use makers::Makers;
pub use profile::Profile;
pub(crate) use profile::ServeOptions;
pub use requests::{Request, RequestCounts};
pub(crate) use session_end::SessionEnd;
