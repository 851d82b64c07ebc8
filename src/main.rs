//! The `notapipe` program: parse, dispatch, print the error chain.

mod cli;

use std::process::ExitCode;
use std::sync::OnceLock;

use notapipe::run::InheritedSignals;

use cli::Command;
use cli::signals::Signals;

/// What our caller ignores and holds back, for the tools: looked at before Rust's runtime has SIGPIPE ignored.
static INHERITED: OnceLock<InheritedSignals> = OnceLock::new();

#[used]
// SAFETY: the section of functions that are called before `main`; this one makes system calls.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn look() {
        let _ = INHERITED.set(InheritedSignals::of_this_thread());
    }
    look
};

fn inherited_signals() -> InheritedSignals {
    let now = InheritedSignals::of_this_thread;
    *INHERITED.get_or_init(now)
}

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => return refusal.report(),
    };
    match command {
        Command::PrintJob(spec, format) => cli::job_file::print(&spec, format),
        Command::Plain(plain) => plain.run(),
        Command::Run(config) => with_signals(|signals| cli::run::run(*config, signals)),
        Command::Mount(config) => with_signals(|signals| cli::mount::mount(config, signals)),
    }
}

/// Catches signals before there is anything that one would leave behind.
fn with_signals(run: impl FnOnce(Signals) -> ExitCode) -> ExitCode {
    cli::signals::take_back();
    match Signals::install() {
        Ok(signals) => run(signals),
        Err(error) => {
            cli::report::failure(&error);
            ExitCode::from(cli::exit::FAILED)
        }
    }
}
