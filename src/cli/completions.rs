//! `notapipe completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::Cli;
use super::streams;

/// `notapipe completions`.
#[derive(Debug, Args)]
#[command(about = "Print completions for a shell")]
#[command(after_long_help = "\
Examples:
  notapipe completions bash > ~/.local/share/bash-completion/completions/notapipe
  notapipe completions zsh > ~/.zfunc/_notapipe
  notapipe completions fish > ~/.config/fish/completions/notapipe.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints them.
pub fn completions(args: CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "notapipe", &mut script);
    streams::print(script)
}
