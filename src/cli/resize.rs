//! `notapipe resize`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use notapipe::run::Size;

use super::args::{LimitArgs, VerbosityArgs};
use super::config::Verbosity;
use super::{exit, report, socket_dir, status};

/// `notapipe resize`.
#[derive(Debug, Args)]
#[command(about = "Change the limits of a mount while it is in use")]
#[command(long_about = "\
Change the limits of a mount while it is in use. Tools that were told that it is full can go on.
A limit cannot lie below what is used.")]
#[command(after_long_help = "\
Examples:
  notapipe resize /tmp/scratch --size 4G
  notapipe resize /tmp/scratch --inodes 1M")]
#[command(group = clap::ArgGroup::new("limit").args(["size", "inodes"]).required(true).multiple(true))]
pub struct ResizeArgs {
    /// The directory
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub verbosity: VerbosityArgs,
}

/// Sets the limits.
pub fn resize(args: ResizeArgs) -> ExitCode {
    let bytes = args.limits.size.map(Size::to_bytes);
    let resized = socket_dir::socket_dir()
        .find(&args.dir)
        .and_then(|mut client| client.resize(bytes, args.limits.inodes));
    match resized {
        Ok(now) => {
            if Verbosity::from(args.verbosity) >= Verbosity::Verbose {
                report::note(status::text(&now).trim_end());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::failure(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}
