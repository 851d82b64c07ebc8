//! `notapipe status`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use notapipe::control::Status;
use notapipe::text::shown;

use super::figures::{age, bytes, count};
use super::{exit, report, socket_dir, streams};

/// `notapipe status`.
#[derive(Debug, Args)]
#[command(about = "Show what a mount holds, its limits and its requests")]
#[command(after_long_help = "\
Examples:
  notapipe status /tmp/scratch
  notapipe status --json /tmp/scratch | jq .used_bytes")]
pub struct StatusArgs {
    /// The directory
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,

    /// As JSON, in bytes and seconds
    #[arg(long)]
    pub json: bool,
}

/// Shows it.
pub fn status(args: StatusArgs) -> ExitCode {
    let status = socket_dir::socket_dir()
        .find(&args.dir)
        .and_then(|mut client| client.status());
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(exit::FAILED);
        }
    };
    if args.json {
        streams::print_json(&status)
    } else {
        streams::print(text(&status))
    }
}

/// One figure a line.
pub fn text(status: &Status) -> String {
    let share = |used: u64, limit: u64| match limit {
        0 => 0.0,
        _ => used as f64 * 100.0 / limit as f64,
    };
    let description = &status.description;
    let mut lines = vec![
        ("path", shown(&status.path).to_string()),
        (
            "used",
            format!(
                "{} of {} ({:.0}%)",
                bytes(status.used_bytes),
                bytes(status.limit_bytes),
                share(status.used_bytes, status.limit_bytes)
            ),
        ),
        (
            "inodes",
            format!(
                "{} of {} ({:.0}%)",
                count(status.used_inodes),
                count(status.limit_inodes),
                share(status.used_inodes, status.limit_inodes)
            ),
        ),
        ("age", age(status.age_seconds)),
        (
            "served by",
            format!(
                "process {}, notapipe {}",
                status.pid,
                shown(&status.notapipe)
            ),
        ),
        (
            "requests",
            count(status.requests.get("total").copied().unwrap_or(0)),
        ),
    ];
    if description.read_only {
        lines.push(("access", "read-only".to_owned()));
    }
    if let Some(from) = &description.from {
        lines.push(("filled from", shown(from).to_string()));
    }
    if let Some(save) = &description.save {
        lines.push(("saved to", shown(save).to_string()));
    }
    if !status.lost_files.is_empty() {
        let files = status.lost_files.join(", ");
        lines.push((
            "lost bytes",
            format!("{files}: written through a memory mapping beyond the limit"),
        ));
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:12} {value}\n"))
        .collect()
}
