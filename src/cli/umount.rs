//! `notapipe umount`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use notapipe::control::{Client, ControlError, Unmounted};

use super::args::VerbosityArgs;
use super::config::Verbosity;
use super::lost::LostPages;
use super::{exit, report, socket_dir};

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
    let verbosity = Verbosity::from(args.verbosity);
    let dir = std::path::absolute(&args.dir)?;
    // Called from within the mount, we would be among those who use it.
    rustix::process::chdir("/")?;
    match socket_dir::socket_dir()
        .find(&dir)
        .and_then(|it| ask(it, args.lazy, verbosity))
    {
        Ok((unmounted, limit_bytes)) => {
            tell(&unmounted, verbosity);
            return Ok(LostPages::check(unmounted.lost_files, limit_bytes)?);
        }
        Err(error @ ControlError::Refused { .. }) => return Err(error.into()),
        Err(error @ ControlError::Stuck { .. }) if !args.lazy => return Err(error.into()),
        Err(error @ ControlError::Stuck { .. }) if verbosity >= Verbosity::Normal => {
            report::warning(&format!("{error}; it ends, and saves, when it goes on"));
        }
        // It died under our hands, or is another user's; what is left is the kernel's.
        Err(error) => log::debug!("{error}"),
    }
    let helper_path = std::env::var_os("PATH").unwrap_or_default();
    Ok(notapipe::mount::unmount_at(&dir, args.lazy, &helper_path)?)
}

/// What came of it, and the limit that was in force.
fn ask(
    mut client: Client,
    lazy: bool,
    verbosity: Verbosity,
) -> Result<(Unmounted, u64), ControlError> {
    let status = client.status()?;
    let mut save = status
        .description
        .save
        .filter(|_| verbosity >= Verbosity::Normal);
    let unmounted = client.unmount(lazy, || {
        // Once.
        if let Some(save) = save.take() {
            report::note(&format!("unmounted; waiting until all is saved to {save}"));
        }
    })?;
    Ok((unmounted, status.limit_bytes))
}

fn tell(unmounted: &Unmounted, verbosity: Verbosity) {
    let saved = unmounted.saved.as_ref();
    if let Some(saved) = saved
        && verbosity >= Verbosity::Verbose
    {
        report::note(&format!("saved to {saved}"));
    }
    let tells_of_copies = match saved {
        Some(_) => verbosity >= Verbosity::Normal,
        None => verbosity >= Verbosity::Verbose,
    };
    if let Some(pid) = unmounted.served_by
        && tells_of_copies
    {
        report::warning(&format!(
            "a bind mount or another mount namespace has a copy that is used, and process {pid} serves it until it is not: \
             what is written there is saved nowhere"
        ));
    }
}
