//! The few system calls that std and rustix leave out, and starting processes without copying ourselves.
//!
//! Nothing here knows what a mount or a job is. [`vfork`] is the place where a process is made, and [`launch`] the one
//! where it executes a program.

pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod descriptor_copies;
pub(crate) mod devices;
pub(crate) mod event_fd;
pub(crate) mod init;
pub(crate) mod launch;
pub(crate) mod mountinfo;
pub(crate) mod namespaces;
pub(crate) mod null;
pub(crate) mod poll;
pub(crate) mod proc;
pub(crate) mod search_path;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod subreaper;
pub(crate) mod unix_diag;
pub(crate) mod vfork;
