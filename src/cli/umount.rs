//! `notapipe umount`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use notapipe::control::ControlError;

use super::args::VerbosityArgs;
use super::config::Verbosity;
use super::{exit, report, rooms};

const ABOUT: &str = "\
Unmount a directory that `notapipe mount` made.

What --save asked for is saved when this returns. Where no process answers for the mount, because it
is dead or another user's, the kernel is asked instead.";

/// `notapipe umount`.
#[derive(Debug, Args)]
#[command(about = "Unmount a directory that `notapipe mount` made", long_about = ABOUT)]
pub struct UmountArgs {
    /// The directory
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,

    /// Detach it now; it ends, and is saved, when its last user has left it
    #[arg(long)]
    pub lazy: bool,

    #[command(flatten)]
    pub verbosity: VerbosityArgs,
}

/// Unmounts a directory that `notapipe mount` made.
pub fn umount(args: UmountArgs) -> ExitCode {
    match try_umount(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&*error);
            ExitCode::from(exit::FAILED)
        }
    }
}

fn try_umount(args: &UmountArgs) -> Result<(), Box<dyn std::error::Error>> {
    let verbose = Verbosity::from(args.verbosity) >= Verbosity::Verbose;
    let dir = std::path::absolute(&args.dir)?;
    // Called from within the mount, we would be among those who use it.
    rustix::process::chdir("/")?;
    if let Ok(client) = rooms::rooms().find(&dir) {
        match client.unmount(args.lazy) {
            Ok(unmounted) => {
                if let Some(saved) = unmounted.saved.filter(|_| verbose) {
                    report::note(&format!("saved to {saved}"));
                }
                return Ok(());
            }
            Err(error @ ControlError::Refused { .. }) => return Err(error.into()),
            // It died under our hands; what is left is the kernel's.
            Err(error) => log::debug!("{error}"),
        }
    }
    let helper_path = std::env::var_os("PATH").unwrap_or_default();
    Ok(notapipe::mount::unmount_at(&dir, args.lazy, &helper_path)?)
}
