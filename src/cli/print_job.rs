//! `notapipe run --print-job`: the command line as a job file.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use super::config::RunConfig;
use super::job_file::JobFile;
use super::{exit, report};

/// Prints it.
pub fn print_job(config: RunConfig) -> ExitCode {
    match print(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(&*error);
            ExitCode::from(exit::FAILED)
        }
    }
}

fn print(config: RunConfig) -> Result<(), Box<dyn Error>> {
    let text = JobFile::from(config).text()?;
    Ok(io::stdout().write_all(text.as_bytes())?)
}
