//! `--report FILE`: what a job did, as JSON for scripts.
//!
//! `docs/reports.md` says what each field means, and `docs/report.schema.json` is held against real reports. Within a
//! `version`, fields may be added, never changed or removed. Words that are not UTF-8 have the bytes in question replaced;
//! of paths longer than 4095 bytes the middle is replaced by `…`. A field that does not apply is absent, but for those of
//! the object itself, which are null; so are those of a job that failed before its first step.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notapipe::Outcome;
use notapipe::Touched;
use notapipe::collect::{self, AtomicFile, Found};
use notapipe::fuse::RequestCounts;
use notapipe::run::{self, Exit, LimitHolder, StepReport};
use notapipe::store::{Kind, Name, PATH_MAX, Tree, TreePath};
use notapipe::text::quoted;
use serde::Serialize;

use super::exit_status::ExitStatus;
use super::{report, streams};

const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    result: &'static str,
    exit_status: u8,
    error: Option<Error>,
    fuse: Option<bool>,
    backing: Option<String>,
    steps: Vec<Step>,
    steps_not_run: Vec<NotRun>,
    outputs: Vec<Output>,
    phases_seconds: Option<Phases>,
    usage: Option<Usage>,
    /// Absent when nothing was limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_limits: Option<ResourceLimits>,
    requests: Option<BTreeMap<&'static str, u64>>,
}

#[derive(Debug, Serialize)]
struct Error {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    command: Vec<String>,
    exit: StepExit,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    wall_seconds: f64,
    user_seconds: f64,
    system_seconds: f64,
    max_rss_bytes: u64,
    requests: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Files>,
}

#[derive(Debug, Serialize)]
struct NotRun {
    command: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum StepExit {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, Serialize)]
struct Files {
    read: Vec<String>,
    written: Vec<String>,
    created: Vec<String>,
    deleted: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Output {
    name: String,
    kind: &'static str,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
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
    peak_bytes: u64,
    peak_inodes: u64,
    limit_bytes: u64,
    limit_inodes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_met: Option<String>,
}

/// Where a report goes, looked at before anything runs.
#[derive(Debug)]
pub struct Reporting {
    place: PathBuf,
    /// None for standard output.
    file: Option<AtomicFile>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report {place}", place = quoted(place))]
pub struct ReportNotWritten {
    place: PathBuf,
    source: io::Error,
}

impl Reporting {
    /// Looks at a place, `-` for standard output, and refuses what can be seen to fail.
    pub fn preflight(place: &Path) -> Result<Self, ReportNotWritten> {
        let file = match place.to_str() {
            Some("-") => {
                streams::output().map_err(|source| not_written(place, source))?;
                None
            }
            _ => Some(AtomicFile::preflight(place).map_err(|source| not_written(place, source))?),
        };
        let place = place.to_owned();
        Ok(Self { place, file })
    }

    /// Writes the report of a job, with what there is of one that failed; `collect` is how long delivering took, if it
    /// came to that.
    pub fn write(
        self,
        ending: &ExitStatus<'_>,
        outcome: Option<&Outcome>,
        collect: Option<Duration>,
    ) -> Result<(), ReportNotWritten> {
        let Self { place, file } = self;
        write(file, &report(ending, outcome, collect)).map_err(|source| not_written(&place, source))
    }
}

fn not_written(place: &Path, source: io::Error) -> ReportNotWritten {
    let place = place.to_owned();
    ReportNotWritten { place, source }
}

fn write(file: Option<AtomicFile>, report: &Report) -> io::Result<()> {
    let text = streams::json(report)?;
    let Some(file) = file else {
        return streams::output()?.write_all(text.as_bytes());
    };
    let mut file = file.open()?;
    file.writer().write_all(text.as_bytes())?;
    file.place()
}

#[derive(Debug, Serialize)]
struct ResourceLimits {
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files_by: Option<&'static str>,
}

impl ResourceLimits {
    fn of(outcome: &Outcome) -> Option<Self> {
        let (limits, by) = (outcome.resource_limits(), outcome.limits_by());
        let is_held_by_a_group =
            [by.cpu, by.memory, by.processes].contains(&Some(LimitHolder::Cgroup));
        (limits != run::ResourceLimits::default()).then(|| Self {
            by: if is_held_by_a_group {
                "cgroup"
            } else {
                "rlimit"
            },
            cpu_seconds: limits.cpu.map(|time| time.as_secs_f64()),
            cpu_by: by.cpu.map(limit_by),
            memory_bytes: limits.memory_bytes,
            memory_by: by.memory.map(limit_by),
            processes: limits.processes,
            processes_by: by.processes.map(limit_by),
            files: limits.files,
            files_by: by.files.map(limit_by),
        })
    }
}

fn limit_by(by: LimitHolder) -> &'static str {
    match by {
        LimitHolder::Cgroup => "cgroup",
        LimitHolder::Rlimit => "rlimit",
        _ => "count",
    }
}

fn report(ending: &ExitStatus<'_>, outcome: Option<&Outcome>, collect: Option<Duration>) -> Report {
    Report {
        version: VERSION,
        result: if ending.code == 0 { "ok" } else { "failed" },
        exit_status: ending.code,
        error: ending.why().map(|error| Error {
            message: report::chain(error),
            help: report::remedy(error),
        }),
        fuse: outcome.map(|it| it.backing() == run::Backing::Fuse),
        backing: outcome.map(|it| it.backing().to_string()),
        steps: outcome.map_or_else(Vec::new, |it| it.steps().iter().map(step).collect()),
        steps_not_run: outcome.map_or_else(Vec::new, not_run),
        outputs: outcome.map_or_else(Vec::new, outputs),
        phases_seconds: outcome.map(|it| phases(it, collect)),
        usage: outcome.map(usage),
        resource_limits: outcome.and_then(ResourceLimits::of),
        requests: outcome.map(|it| by_kind(it.requests())),
    }
}

fn phases(outcome: &Outcome, collect: Option<Duration>) -> Phases {
    let phases = outcome.phases();
    Phases {
        stage: phases.stage.as_secs_f64(),
        mount: phases.mount.as_secs_f64(),
        run: phases.run.as_secs_f64(),
        unmount: phases.unmount.as_secs_f64(),
        collect: collect.map(|time| time.as_secs_f64()),
    }
}

fn usage(outcome: &Outcome) -> Usage {
    let (usage, peak) = (outcome.usage(), outcome.peak());
    Usage {
        bytes: usage.bytes,
        inodes: usage.inodes,
        peak_bytes: peak.bytes,
        peak_inodes: peak.inodes,
        limit_bytes: usage.limits.bytes,
        limit_inodes: usage.limits.inodes,
        limit_met: outcome.limit_met().map(|it| it.to_string()),
    }
}

fn by_kind(requests: &RequestCounts) -> BTreeMap<&'static str, u64> {
    let by_kind = requests
        .iter()
        .map(|(request, count)| (request.name(), count));
    by_kind.chain([("total", requests.total())]).collect()
}

/// A name as it is, so far as it is UTF-8.
fn exact(name: &TreePath) -> String {
    name.to_path_buf().to_string_lossy().into_owned()
}

fn words(command: &[OsString]) -> Vec<String> {
    let words = command.iter().map(|word| word.to_string_lossy());
    words.map(Cow::into_owned).collect()
}

fn not_run(outcome: &Outcome) -> Vec<NotRun> {
    let commands = outcome.steps_not_run().iter();
    let not_run = |command: &Vec<OsString>| NotRun {
        command: words(command),
    };
    commands.map(not_run).collect()
}

fn step(step: &StepReport) -> Step {
    let status = &step.status;
    Step {
        command: words(&step.command),
        exit: match status.exit {
            Exit::Code(code) => StepExit::Code(code),
            Exit::Signal(signal) => StepExit::Signal(signal),
        },
        ended_by: step.ended_by.map(|it| it.to_string()),
        wall_seconds: status.wall_time.as_secs_f64(),
        user_seconds: status.user_time.as_secs_f64(),
        system_seconds: status.system_time.as_secs_f64(),
        max_rss_bytes: status.max_rss_bytes,
        requests: by_kind(&step.requests),
        files: step.touched.as_ref().map(files),
    }
}

/// A path that no program can say as one is told by its beginning and its end: a report of all names of a deep
/// directory would be of the square of its depth.
fn reachable(path: &TreePath) -> TreePath {
    const KEPT: usize = 8;
    if path.byte_len() <= PATH_MAX {
        return path.clone();
    }
    let ellipsis = Name::new("…".as_bytes()).ok();
    let names = ellipsis.into_iter().chain(path.file_name().cloned());
    names.fold(path.ancestor(KEPT).clone(), |path, name| path.join(name))
}

fn files(touched: &Touched) -> Files {
    let names = |paths: &[std::sync::Arc<TreePath>]| {
        let names = paths.iter().map(|path| exact(&reachable(path)));
        names.collect()
    };
    Files {
        read: names(&touched.read),
        written: names(&touched.written),
        created: names(&touched.created),
        deleted: names(&touched.deleted),
    }
}

fn outputs(outcome: &Outcome) -> Vec<Output> {
    let output = |Found {
                      path: name, attr, ..
                  }: &Found| {
        let (kind, bytes, files) = match attr.kind {
            Kind::Directory => {
                let (files, bytes) = below(outcome.tree(), name);
                ("directory", bytes, Some(files))
            }
            Kind::File => ("file", attr.size, None),
            Kind::Symlink => ("symlink", attr.size, None),
            _ => ("special", 0, None),
        };
        Output {
            name: exact(name),
            kind,
            bytes,
            files,
        }
    };
    outcome.found().iter().map(output).collect()
}

/// How many files are below a directory, and the bytes in them.
fn below(tree: &Tree, directory: &TreePath) -> (u64, u64) {
    let found = collect::walk(tree, directory).unwrap_or_default();
    let files = found.iter().filter(|it| it.attr.kind == Kind::File);
    files.fold((0, 0), |(count, bytes), it| {
        (count + 1, bytes + it.attr.size)
    })
}
