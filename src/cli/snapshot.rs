//! `notapipe snapshot`.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use notapipe::archive::Format;
use notapipe::collect::AtomicFile;
use notapipe::control::Packed;
use notapipe::text::quoted;
use rustix::fs::{Mode, OFlags};

use super::args::VerbosityArgs;
use super::config::Verbosity;
use super::figures::{bytes, count};
use super::lost::LostPages;
use super::progress::Line;
use super::{exit, report, socket_dir, streams};

/// `notapipe snapshot`.
#[derive(Debug, Args)]
#[command(about = "Write an archive of a mount while it is in use")]
#[command(long_about = "\
Write an archive of a mount while it is in use.

It holds everything as it was at one moment, however long the writing takes, and the
processes that work there need not stop. The archive appears whole or not at all.")]
#[command(after_long_help = "\
Examples:
  notapipe snapshot /tmp/scratch -o backup.tar.zst
  notapipe snapshot /tmp/scratch -o - | ssh host tar x")]
pub struct SnapshotArgs {
    /// The directory
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,

    /// The archive, by its name a .tar, .tar.gz, .tar.zst, .tar.xz or .zip; `-` is a tar on standard output
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub output: PathBuf,

    #[command(flatten)]
    pub verbosity: VerbosityArgs,
}

/// Writes it.
pub fn snapshot(args: SnapshotArgs) -> ExitCode {
    let verbosity = Verbosity::from(args.verbosity);
    match try_snapshot(&args, verbosity) {
        Ok((packed, limit_bytes)) => {
            if verbosity >= Verbosity::Normal {
                packed.skipped.iter().for_each(|left| report::warning(left));
            }
            if verbosity >= Verbosity::Verbose {
                let (files, size) = (count(packed.files), bytes(packed.bytes));
                report::note(&format!("{files} files, {size}"));
            }
            match LostPages::check(packed.lost_files, limit_bytes) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    report::failure(&error);
                    ExitCode::from(exit::FAILED)
                }
            }
        }
        Err(error) => {
            report::failure(&*error);
            ExitCode::from(exit::FAILED)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error(
        "cannot write {output}: its name is no archive's; end it with {}",
        Format::NAMES,
        output = quoted(output)
    )]
    Format { output: PathBuf },
    #[error("cannot write {output}", output = quoted(output))]
    Output { output: PathBuf, source: io::Error },
}

/// What was written, and the limit that was in force.
fn try_snapshot(
    args: &SnapshotArgs,
    verbosity: Verbosity,
) -> Result<(Packed, u64), Box<dyn std::error::Error>> {
    let failed = |source| SnapshotError::Output {
        output: args.output.clone(),
        source,
    };
    let to_stdout = args.output.as_os_str() == "-";
    let format = match to_stdout {
        true => Format::Tar,
        false => Format::of_name(&args.output).ok_or_else(|| SnapshotError::Format {
            output: args.output.clone(),
        })?,
    };
    let mut client = socket_dir::socket_dir().find(&args.dir)?;
    // It answers: asking the mount itself does not wait for a process that is stopped.
    let limit_bytes = client.status()?.limit_bytes;
    write_back(&args.dir);
    let mut line = Line::new("writing", verbosity);
    let show = |progress| {
        line.show(progress);
        ControlFlow::Continue(())
    };
    if to_stdout {
        let stdout = streams::output_descriptor().map_err(failed)?;
        return Ok((
            client.snapshot(File::from(stdout), format, show)?,
            limit_bytes,
        ));
    }
    // A directory that is not there is a slip here.
    let above = args
        .output
        .parent()
        .filter(|above| !above.as_os_str().is_empty());
    let there = above.map_or(Ok(()), |above| above.metadata().map(drop));
    let file = there.and_then(|()| AtomicFile::preflight(&args.output)?.open());
    let mut file = file.map_err(failed)?;
    let packed = client.snapshot(&*file.writer(), format, show)?;
    file.place_on_disk().map_err(failed)?;
    Ok((packed, limit_bytes))
}

/// Has the kernel hand over what processes wrote through memory mappings. The server cannot ask for that itself: it would
/// wait for its own answers.
fn write_back(dir: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty());
    let synced = opened.and_then(rustix::fs::syncfs);
    if let Err(error) = synced {
        // Root may not enter another user's mount.
        log::debug!("{}: {error}", dir.display());
    }
}
