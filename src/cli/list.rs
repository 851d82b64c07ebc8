//! `notapipe list`.

use std::process::ExitCode;

use clap::Args;
use notapipe::control::Status;
use notapipe::text::shown;

use super::figures::{age, bytes, count};
use super::{exit, report, socket_dir, streams};

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
    for found in socket_dir::socket_dir().all() {
        match found.client.and_then(|mut client| client.status()) {
            Ok(status) => mounts.push(status),
            Err(error) => {
                report::failure(&error);
                code = ExitCode::from(exit::FAILED);
            }
        }
    }
    mounts.sort_by(|a, b| a.mounted_at.total_cmp(&b.mounted_at));
    let printed = if args.json {
        streams::print_json(&mounts)
    } else {
        streams::print(table(&mounts))
    };
    match printed == ExitCode::SUCCESS {
        true => code,
        false => printed,
    }
}

fn table(mounts: &[Status]) -> String {
    if mounts.is_empty() {
        return String::new();
    }
    let mut rows = vec![["PATH", "USED", "LIMIT", "FILES", "AGE", "SAVED TO"].map(str::to_owned)];
    rows.extend(mounts.iter().map(|mount| {
        [
            shown(&mount.path).to_string(),
            bytes(mount.used_bytes),
            bytes(mount.limit_bytes),
            // The root is none of the user's.
            count(mount.used_inodes.saturating_sub(1)),
            age(mount.age_seconds),
            mount
                .description
                .save
                .as_ref()
                .map_or(String::new(), |it| shown(it).to_string()),
        ]
    }));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut table = String::new();
    for [path, used, limit, files, age, saved] in rows {
        let [path_w, used_w, limit_w, files_w, age_w, _] = widths;
        let line = format!(
            "{path:path_w$}  {used:>used_w$}  {limit:>limit_w$}  {files:>files_w$}  {age:>age_w$}  {saved}"
        );
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}
