//! `--report FILE`: what a job did, as JSON for scripts.
//!
//! The format is versioned: fields may be added within a version, never changed or removed. Times
//! are seconds, sizes bytes. Words that are not UTF-8 have the bytes in question replaced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use notapipe::Outcome;
use notapipe::fuse::RequestCounts;
use notapipe::run::Exit;
use serde::Serialize;

const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    steps: Vec<Step>,
    phases_seconds: Phases,
    usage: Usage,
    /// By kind, and `total`, which leaves out forgets: nobody waits for those.
    requests: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct Step {
    command: Vec<String>,
    exit: StepExit,
    wall_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    max_rss_bytes: u64,
    requests: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum StepExit {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, Serialize)]
struct Phases {
    stage: f64,
    mount: f64,
    run: f64,
    unmount: f64,
    /// Absent when the job failed: then nothing is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    collect: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Usage {
    bytes: u64,
    inodes: u64,
    limit_bytes: u64,
    limit_inodes: u64,
}

/// Writes the report of a job; `collect` is how long delivering took, if it came to that.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(file: &Path, outcome: &Outcome, collect: Option<Duration>) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(&report(outcome, collect))?;
    text.push('\n');
    fs::write(file, text)
}

fn report(outcome: &Outcome, collect: Option<Duration>) -> Report {
    let (phases, usage) = (outcome.phases(), outcome.usage());
    Report {
        version: VERSION,
        steps: outcome.steps().iter().map(step).collect(),
        phases_seconds: Phases {
            stage: phases.stage.as_secs_f64(),
            mount: phases.mount.as_secs_f64(),
            run: phases.run.as_secs_f64(),
            unmount: phases.unmount.as_secs_f64(),
            collect: collect.map(|time| time.as_secs_f64()),
        },
        usage: Usage {
            bytes: usage.bytes,
            inodes: usage.inodes,
            limit_bytes: usage.limits.bytes,
            limit_inodes: usage.limits.inodes,
        },
        requests: by_kind(outcome.requests()),
    }
}

fn by_kind(requests: &RequestCounts) -> BTreeMap<&'static str, u64> {
    let by_kind = requests
        .iter()
        .map(|(request, count)| (request.name(), count));
    by_kind.chain([("total", requests.total())]).collect()
}

fn step(step: &notapipe::run::StepReport) -> Step {
    let status = &step.status;
    Step {
        command: step
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        exit: match status.exit {
            Exit::Code(code) => StepExit::Code(code),
            Exit::Signal(signal) => StepExit::Signal(signal),
        },
        wall_seconds: status.wall_time.as_secs_f64(),
        user_seconds: status.user_time.as_secs_f64(),
        system_seconds: status.system_time.as_secs_f64(),
        max_rss_bytes: status.max_rss_bytes,
        requests: by_kind(&step.requests),
    }
}
