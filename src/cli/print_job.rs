//! `notapipe run --print-job`: the command line as a job file.

use std::process::ExitCode;

use super::config::RunConfig;
use super::job_file::JobFile;
use super::{exit, report, streams};

/// Prints it.
pub fn print_job(config: RunConfig) -> ExitCode {
    match JobFile::from(config).text() {
        Ok(text) => streams::print(text),
        Err(error) => {
            report::failure(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}
