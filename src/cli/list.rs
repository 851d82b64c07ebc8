//! `notapipe list`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use notapipe::control::Status;

use super::figures::{age, bytes, count};
use super::{exit, report, rooms};

/// `notapipe list`.
#[derive(Debug, Args)]
#[command(about = "List every live mount of this user")]
#[command(long_about = "\
List every live mount of this user: where it is, how much it holds and may hold, how many files, and
how long it has been there. Leftovers of processes that were killed are removed on the way.")]
pub struct ListArgs {
    /// As JSON: an array of what `notapipe status --json` shows
    #[arg(long)]
    pub json: bool,
}

/// Lists the mounts, the oldest first.
pub fn list(args: ListArgs) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut mounts = Vec::new();
    for found in rooms::rooms().all() {
        match found.client.and_then(|mut client| client.status()) {
            Ok(status) => mounts.push(status),
            Err(error) => {
                report::failure(&error);
                code = ExitCode::from(exit::FAILED);
            }
        }
    }
    mounts.sort_by(|a, b| a.mounted_at.total_cmp(&b.mounted_at));
    let written = if args.json {
        json(&mounts)
    } else {
        table(&mounts)
    };
    // A reader that has gone has seen enough.
    written.map_or(ExitCode::from(exit::FAILED), |()| code)
}

fn json(mounts: &[Status]) -> io::Result<()> {
    let text = serde_json::to_string_pretty(mounts)?;
    writeln!(io::stdout(), "{text}")
}

fn table(mounts: &[Status]) -> io::Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["PATH", "USED", "LIMIT", "FILES", "AGE", "SAVED TO"].map(str::to_owned)];
    rows.extend(mounts.iter().map(|mount| {
        [
            mount.path.clone(),
            bytes(mount.used_bytes),
            bytes(mount.limit_bytes),
            // The root is none of the user's.
            count(mount.used_inodes.saturating_sub(1)),
            age(mount.age_seconds),
            mount.description.save.clone().unwrap_or_default(),
        ]
    }));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut out = io::stdout().lock();
    for [path, used, limit, files, age, saved] in rows {
        let [path_w, used_w, limit_w, files_w, age_w, _] = widths;
        let line = format!(
            "{path:path_w$}  {used:>used_w$}  {limit:>limit_w$}  {files:>files_w$}  {age:>age_w$}  {saved}"
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
