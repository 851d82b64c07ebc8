//! The `notapipe` program: parse, dispatch, print the error chain.

mod cli;

use std::process::ExitCode;
use std::sync::OnceLock;

use notapipe::run::{InheritedSignals, InitProgram, init};

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
    // First of all, and before anything else is looked at: the init of a job is this program too.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == init::ARGUMENT)
    {
        init::main(arguments);
    }
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => return refusal.report(),
    };
    match command {
        Command::PrintJob(spec, format) => cli::job_file::print(&spec, format),
        Command::Plain(plain) => plain.run(),
        Command::Run(config) => {
            // While this process is small, and has neither threads nor files nor handlers.
            let init = InitProgram::ourselves().forked_ahead();
            with_signals(|signals| cli::run::run(*config, init, signals))
        }
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
