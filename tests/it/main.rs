//! The library and the command line as a whole, and the rules of the house.

mod archive;
mod cli_deliver;
mod cli_exit;
mod cli_job_file;
mod cli_limits;
mod cli_mount;
mod cli_names;
mod cli_options;
mod cli_signals;
mod cli_streams;
mod cli_tools;
mod coherence;
mod collect;
mod events;
mod examples;
mod follow;
mod grammar;
mod job;
mod layers;
mod requests;
mod running;
mod scratch;
mod scratch_open;
mod source;
mod stage;
mod support;
