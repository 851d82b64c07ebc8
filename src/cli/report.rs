//! How errors are told: `notapipe: what: why`, and a `help:` line where there is a remedy.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextValue, ErrorKind};
use notapipe::ByteCount;
use notapipe::archive::ArchiveError;
use notapipe::collect::{CollectError, Missing, MissingOutputs};
use notapipe::control::ControlError;
use notapipe::mount::{BackedBy, MountError, Remedy, Storage};
use notapipe::run::MountOnly;
use notapipe::run::words::nearest;
use notapipe::stage::{Source, StageError};
use notapipe::store::{Limits, Resource};
pub use notapipe::text::error_chain as chain;
use notapipe::text::{is_seen, quoted, shown};

use super::container;
use super::deliver::DeliverError;
use super::exit;
use super::grammar::UsageError;
use super::lost::LostPages;
use super::not_started;
use super::streams::{self, NotPrinted};

/// Tells an error of clap's, or the help that was asked for.
pub fn clap(error: clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            if let Err(closed) = streams::output() {
                failure(&NotPrinted(closed));
                return ExitCode::from(exit::FAILED);
            }
            // A reader that has gone has seen enough.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(exit::USAGE)
        }
        _ => {
            let text = escaped(error).render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            say(text.trim_end().lines());
            ExitCode::from(exit::USAGE)
        }
    }
}

/// Tells what is wrong with the command line of `command`.
pub fn usage(command: &str, error: &UsageError) -> ExitCode {
    say([
        &*error.to_string(),
        &help(error.remedy()),
        &format!("For the whole grammar, try 'notapipe {command} --help'."),
    ]);
    ExitCode::from(exit::USAGE)
}

/// Tells why something failed.
pub fn failure(error: &(dyn Error + 'static)) {
    let remedy = remedy(error).map(|remedy| help(&remedy));
    say([&*chain(error)].into_iter().chain(remedy.as_deref()));
}

/// Tells that the tools ran into a limit, and which option raises it.
pub fn limit_met(resource: Resource, limits: Limits) {
    full("the mount", resource, limits);
}

/// Tells that the tools filled the job's own /tmp, and which option raises the limit.
pub fn tmp_full(resource: Resource, limits: Limits) {
    full(
        "what the job has in /tmp, /var/tmp and /dev/shm",
        resource,
        limits,
    );
}

fn full(what: &str, resource: Resource, limits: Limits) {
    let (limit, option) = match resource {
        Resource::Bytes => (ByteCount(limits.bytes).to_string(), "--size"),
        Resource::Inodes => (
            format!("{} files and directories", limits.inodes),
            "--inodes",
        ),
    };
    say([
        &*format!("{what} was full: it may hold {limit}"),
        &help(&format!("raise the limit with {option}")),
    ]);
}

/// Tells what a job's files live in when there is no FUSE, and why. What was asked for is told where it is less than that.
pub fn backing(why: Option<&MountError>, backed: &BackedBy) {
    let Some(refused) = why else {
        if backed.storage == Storage::Disk {
            warning(&format!("the job runs {}", container::words(backed)));
        }
        return;
    };
    let why = refused;
    let why = match why {
        MountError::Neither { private, .. } => private,
        why => why,
    };
    let why = match why {
        MountError::System {
            operation, error, ..
        } => format!("cannot {operation}: {}", chain(error)),
        why => chain(why),
    };
    warning(&format!(
        "no FUSE here ({why}): the job runs {}; for FUSE, {}; see `notapipe doctor`",
        container::words(backed),
        container::remedy(refused, backed.storage)
    ));
}

/// Tells what was asked for with `-v`.
pub fn note(message: &str) {
    say([message]);
}

/// Tells something that is no failure.
pub fn warning(message: &str) {
    say([&*format!("warning: {message}")]);
}

fn help(remedy: &str) -> String {
    format!("help: {remedy}")
}

/// The one way to standard error: nothing in a line makes a terminal do anything, or fills it.
fn say<'l>(lines: impl IntoIterator<Item = &'l str>) {
    const MOST_BYTES: usize = 8 << 10;
    let mut text = String::from("notapipe: ");
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", shown(line).at_most(MOST_BYTES));
    }
    // When standard error is closed, the exit code still speaks.
    let _ = streams::error().write_all(text.as_bytes());
}

/// Whether a text is short and holds nothing to escape.
fn is_short(text: &str) -> bool {
    text.len() <= 300 && text.chars().all(is_seen)
}

/// Escapes the words of the command line in an error of clap's, and leaves out advice that is too long.
fn escaped(mut error: clap::Error) -> clap::Error {
    let words = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(word) => Some((kind, ContextValue::String(shown(word).to_string()))),
        ContextValue::Strings(words) => {
            let words = words.iter().map(|word| shown(word).to_string());
            Some((kind, ContextValue::Strings(words.collect())))
        }
        // Advice, which repeats the word.
        ContextValue::StyledStrs(tips) if !tips.iter().all(|tip| is_short(&tip.to_string())) => {
            Some((kind, ContextValue::None))
        }
        _ => None,
    });
    for (kind, value) in words.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    error
}

/// What to do, for the errors that know.
pub fn remedy(error: &(dyn Error + 'static)) -> Option<String> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(own_remedy)
}

/// What to do about one error of a chain.
fn own_remedy(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref() {
        return job_remedy(error);
    }
    if let Some(DeliverError::Collect(error)) = error.downcast_ref() {
        return collect_remedy(error);
    }
    if let Some(error) = error.downcast_ref() {
        return archive_remedy(error);
    }
    if let Some(error) = error.downcast_ref() {
        return stage_remedy(error);
    }
    if let Some(error) = error.downcast_ref() {
        return mount_remedy(error);
    }
    if let Some(error) = error.downcast_ref() {
        return control_remedy(error);
    }
    if let Some(error) = error.downcast_ref() {
        return collect_remedy(error);
    }
    if error.is::<LostPages>() {
        return Some("raise the limit with --size, or with notapipe resize".to_owned());
    }
    shortage_remedy(error.downcast_ref()?)
}

fn shortage_remedy(error: &io::Error) -> Option<String> {
    Remedy::of_shortage(error).map(|remedy| remedy.to_string())
}

fn job_remedy(error: &notapipe::Error) -> Option<String> {
    use notapipe::Error;
    let remedy = match error {
        // Transparent errors: the source of one is the source of what it holds.
        Error::Stage(error) => return stage_remedy(error),
        Error::Archive(error) => return archive_remedy(error),
        Error::Collect(error) => return collect_remedy(error),
        Error::Mount(error) => return mount_remedy(error),
        Error::Spawn(error) => return not_started::remedy(error),
        Error::StepFailed {
            cpu_limit: Some(_), ..
        } => "raise the limit with --limit cpu=TIME",
        Error::TooManyProcesses { .. } => "raise the limit with --limit processes=COUNT",
        Error::OverMemory { .. } => "raise the limit with --limit memory=SIZE",
        Error::StillWritten { .. } | Error::NotLookedAt { .. } => {
            "wait for it in the step, or give it longer with --settle"
        }
        Error::OverLimitWithTmp { .. } => {
            "raise the limit with --size; with --tmp host, only its files count"
        }
        Error::OverLimit { resource, .. } => raise(*resource),
        Error::LostPages { .. } => raise(Resource::Bytes),
        Error::NoRoom { .. } => {
            "give it a larger tmpfs (docker run --shm-size SIZE), or let TMPDIR lead to one"
        }
        Error::NeedsFuse {
            what: MountOnly::Place,
            ..
        } => "give it a tmpfs that can be written to (docker run --tmpfs /tmp:exec)",
        Error::NeedsFuse { what, .. } => {
            let option = match what {
                MountOnly::At => "--at",
                _ => "--mount",
            };
            return Some(format!(
                "leave out {option}, and it runs on a tmpfs; `notapipe doctor` tells what FUSE lacks"
            ));
        }
        Error::Timeout { .. } => "give it longer with --timeout",
        Error::Cpus { .. } => {
            return Some(format!(
                "these can be used: {}; --cpus all takes them all",
                super::cpus::usable()
            ));
        }
        _ => return None,
    };
    Some(remedy.to_owned())
}

fn raise(resource: Resource) -> &'static str {
    match resource {
        Resource::Bytes => "raise the limit with --size",
        Resource::Inodes => "raise the limit with --inodes",
    }
}

fn archive_remedy(error: &ArchiveError) -> Option<String> {
    match error {
        ArchiveError::Stage(error) => stage_remedy(error),
        ArchiveError::Window { .. } => Some(
            "raise the limit with --size, to 4G for --long=31, or pack it again without --long"
                .to_owned(),
        ),
        _ => None,
    }
}

fn mount_remedy(error: &MountError) -> Option<String> {
    match error {
        MountError::Busy { path, .. } => Some(format!(
            "notapipe umount --lazy {} detaches it now, and it ends with its last user",
            shown(path)
        )),
        MountError::NotEmpty { .. } => {
            Some("notapipe mount -o nonempty hides what is in it".to_owned())
        }
        _ => None,
    }
}

fn control_remedy(error: &ControlError) -> Option<String> {
    match error {
        ControlError::Refused { kind, .. } if kind == "busy" => Some(
            "notapipe umount --lazy detaches it now, and it ends with its last user".to_owned(),
        ),
        ControlError::Stuck { pid, stopped } => Some(format!(
            "{} notapipe umount --lazy detaches the mount without it",
            match stopped {
                true => format!("kill -CONT {pid} has it go on;"),
                false => format!("look what process {pid} waits for;"),
            }
        )),
        _ => None,
    }
}

fn stage_remedy(error: &StageError) -> Option<String> {
    match error {
        StageError::Full {
            resource: Resource::Bytes,
            needed: Some(needed),
            ..
        } => Some(format!(
            "raise the limit with --size, to {}M at least",
            needed.div_ceil(1 << 20)
        )),
        StageError::Full { resource, .. } => Some(raise(*resource).to_owned()),
        StageError::Conflict { .. } => {
            Some("give one of them another name with -i NAME=SRC".to_owned())
        }
        StageError::Read {
            from: Source::Host(host),
            error,
            ..
        } if error.kind() == io::ErrorKind::NotFound => {
            not_unfolded(host).or_else(|| nearest_beside(host))
        }
        _ => None,
    }
}

/// What a shell would have made of a name, had it come to it.
fn not_unfolded(host: &Path) -> Option<String> {
    let name = host.as_os_str().as_bytes();
    if name.starts_with(b"~") {
        return Some("no shell has unfolded the ~: write $HOME, or the whole path".to_owned());
    }
    name.iter().any(|byte| b"*?[{".contains(byte)).then(|| {
        "-i takes names and no patterns: write -i before each, or stage the directory (-i DIR)"
            .to_owned()
    })
}

/// What is there in the place of a file that is not.
fn nearest_beside(host: &Path) -> Option<String> {
    let above = host.parent()?;
    let directory = match above.as_os_str().is_empty() {
        true => Path::new("."),
        false => above,
    };
    let wanted = host.file_name()?.to_str()?;
    let names = std::fs::read_dir(directory).ok()?.flatten();
    let names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let near = nearest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean {}?", quoted(&above.join(near))))
}

fn collect_remedy(error: &CollectError) -> Option<String> {
    match error {
        CollectError::Twice { .. } => {
            Some("give one of them another place with -o NAME=DEST".to_owned())
        }
        CollectError::Destination { error, .. } => shortage_remedy(error),
        CollectError::Missing(MissingOutputs { missing, .. }) => {
            let is_pattern =
                |it: &Missing| it.name.to_bytes().iter().any(|byte| b"*?[{".contains(byte));
            let pattern = missing.iter().find(|it| is_pattern(it))?;
            Some(format!(
                "-o takes names and no patterns: write --collect '{}'",
                pattern.name
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notapipe::store::TreePath;

    #[test]
    fn causes_are_joined_without_numbers() {
        let error = StageError::Read {
            from: Source::Host("gone.asm".into()),
            path: TreePath::parse("A.asm").unwrap(),
            error: io::Error::from_raw_os_error(2),
        };
        let text = "cannot read \"gone.asm\" for \"A.asm\": No such file or directory";
        assert_eq!(chain(&error), text);
    }

    #[test]
    fn numbers_inside_other_words_are_left_out() {
        let refused = io::Error::from_raw_os_error(13);
        let error = io::Error::other(format!("cannot go there: {refused}; stay (os error here)"));
        let text = "cannot go there: Permission denied; stay (os error here)";
        assert_eq!(chain(&error), text);
    }

    #[test]
    fn what_an_error_shows_itself_is_not_repeated() {
        let error = io::Error::other("the same words");
        assert_eq!(chain(&error), "the same words");
    }

    #[test]
    fn a_full_limit_names_the_option() {
        let error = StageError::Full {
            from: Source::Caller,
            path: TreePath::parse("big").unwrap(),
            resource: Resource::Bytes,
            limit: 1 << 20,
            needed: Some((5 << 20) + 1),
        };
        let told = "raise the limit with --size, to 6M at least";
        assert_eq!(remedy(&error).unwrap(), told);
        // As a job tells it, which shows it as its own.
        assert_eq!(remedy(&notapipe::Error::from(error)).unwrap(), told);
    }
}
