//! `notapipe man`: manual pages from the same definitions as `--help`.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use notapipe::text::quoted;

use super::args::Cli;
use super::{exit, report, streams};

/// `notapipe man`.
#[derive(Debug, Args)]
#[command(about = "Write the manual pages")]
#[command(long_about = "\
Write the manual pages: one for notapipe and one for each of its commands.")]
#[command(after_long_help = "\
Examples:
  notapipe man | man -l -
  notapipe man ~/.local/share/man/man1")]
pub struct ManArgs {
    /// An existing directory to write all pages into; without it, the first page is printed
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Writes them.
pub fn man(args: ManArgs) -> ExitCode {
    let failed = |error: &(dyn Error + 'static)| {
        report::failure(error);
        ExitCode::from(exit::FAILED)
    };
    match args.dir {
        None => page(Cli::command()).map_or_else(|error| failed(&error), streams::print),
        Some(dir) => match pages(&dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(source) => failed(&NotWritten { dir, source }),
        },
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the manual pages to {dir}", dir = quoted(dir))]
struct NotWritten {
    dir: PathBuf,
    source: io::Error,
}

fn pages(dir: &Path) -> io::Result<()> {
    let mut all = Cli::command();
    // Gives each command its whole name, by which its page is called.
    all.build();
    for command in all.get_subcommands().filter(|it| it.get_name() != "help") {
        let name = format!("notapipe-{}", command.get_name());
        fs::write(dir.join(format!("{name}.1")), page(command.clone())?)?;
    }
    fs::write(dir.join("notapipe.1"), page(Cli::command())?)
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
