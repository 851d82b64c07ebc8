//! What happens when things go wrong: kill -9, processes that run away, mounts in use.
//!
//! Much of it runs as an ordinary user too: such a test executes this very binary again under
//! another user id, with the name of a scene to play (see `stage`).

mod degraded;
mod few_descriptors;
mod figures;
mod hung;
mod init;
mod kill_sweep;
mod killed;
mod killed_server;
mod narrow;
mod private_mount;
mod public_mount;
mod session_lost;
mod stage;
mod tiny_fs;
