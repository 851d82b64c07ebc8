//! The `notapipe` program. It says so far that there is nothing to run.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(125)
}
