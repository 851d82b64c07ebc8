//! What staging and collecting skip, and what files lose on the way: counts, and a few names.

use std::fmt;
use std::path::PathBuf;

use super::Skipped;
use crate::store::Kind;

/// How many are kept by name. An archive of some KiB can hold millions.
pub(super) const NAMED_MAX: usize = 8;

/// FIFOs, sockets and devices that were left behind by a [`Stage`](super::Stage), a
/// [`Delivery`](crate::collect::Delivery) or an archive: how many of each, and the first of them by name.
///
/// It also counts what files lost: owners, set-id bits, extended attributes, hard links. Its message is one line, however
/// many there are.
///
/// # Examples
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let host = directory.path();
/// use std::process::Command;
///
/// use notapipe::Job;
///
/// Command::new("mkfifo").args(["a", "b"]).current_dir(host).status()?;
/// let outcome = Job::new().input_host("d", host).step(["true"]).run()?;
/// let left = outcome.skipped();
/// assert_eq!((left.is_empty(), left.count()), (false, 2));
/// assert_eq!(left.first()[0].path, host.join("a"));
/// assert!(left.to_string().ends_with("/a\" is a FIFO: left behind, and so is 1 more FIFO"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// FIFOs, sockets, devices.
    counts: [u64; 3],
    first: Vec<Skipped>,
    /// Files that lost something, by what it is.
    lost: [u64; LOST.len()],
}

/// What a file can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    Owner,
    SetId,
    Attributes,
    Capability,
    HardLink,
}

/// What a file can lose, in the words of a message.
const LOST: [&str; 5] = [
    "the owner",
    "set-id bits",
    "extended attributes",
    "capabilities",
    "hard links",
];

impl LeftBehind {
    /// How many FIFOs, sockets and devices there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether nothing was left behind or lost.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.files_that_lost() == 0
    }

    fn files_that_lost(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// The first few, in the order in which they were met.
    pub fn first(&self) -> &[Skipped] {
        &self.first
    }

    /// Counts a skipped file; `path` is only called while few are kept by name.
    pub(crate) fn add(&mut self, kind: Kind, path: impl FnOnce() -> PathBuf) {
        self.add_unnamed(kind);
        if self.first.len() < NAMED_MAX {
            let path = path();
            self.first.push(Skipped { path, kind });
        }
    }

    /// Counts a file that lost something.
    pub(crate) fn add_lost(&mut self, what: Lost) {
        self.lost[what as usize] += 1;
    }

    /// Counts a file that lost these extended attributes. Labels that a system gives by itself do not count.
    pub(crate) fn add_lost_attributes<'n>(&mut self, names: impl IntoIterator<Item = &'n [u8]>) {
        let (mut capability, mut others) = (false, false);
        for name in names {
            capability |= name == b"security.capability";
            others |= [&b"user."[..], b"trusted.", b"system.posix_acl_"]
                .iter()
                .any(|space| name.starts_with(space));
        }
        self.lost[Lost::Capability as usize] += u64::from(capability);
        self.lost[Lost::Attributes as usize] += u64::from(others);
    }

    pub(super) fn add_unnamed(&mut self, kind: Kind) {
        self.counts[index(kind)] += 1;
    }

    /// Adds the counts and names of another one.
    pub(crate) fn extend(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (count, more) in self.lost.iter_mut().zip(other.lost) {
            *count += more;
        }
        self.first.extend(other.first);
        self.first.truncate(NAMED_MAX);
    }
}

/// Where a kind is counted.
fn index(kind: Kind) -> usize {
    match kind {
        Kind::Fifo => 0,
        Kind::Socket => 1,
        _ => 2,
    }
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing was left behind");
        }
        if let Some(first) = self.first.first() {
            self.fmt_special(f, first)?;
        }
        if self.files_that_lost() == 0 {
            return Ok(());
        }
        if self.count() > 0 {
            f.write_str("; ")?;
        }
        f.write_str("not kept: ")?;
        let lost = LOST.iter().zip(self.lost).filter(|(_, files)| *files > 0);
        for (index, (what, files)) in lost.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let ending = if files == 1 { "" } else { "s" };
            write!(f, "{comma}{what} of {files} file{ending}")?;
        }
        Ok(())
    }
}

impl LeftBehind {
    fn fmt_special(&self, f: &mut fmt::Formatter<'_>, first: &Skipped) -> fmt::Result {
        write!(f, "{first}")?;
        let mut others = self.counts;
        others[index(first.kind)] -= 1;
        let told: Vec<String> = ["FIFO", "socket", "device"]
            .into_iter()
            .enumerate()
            .filter(|(at, _)| others[*at] > 0)
            .map(|(at, name)| {
                let more = if at == index(first.kind) { "more " } else { "" };
                let ending = if others[at] == 1 { "" } else { "s" };
                format!("{} {more}{name}{ending}", others[at])
            })
            .collect();
        match &told[..] {
            [] => Ok(()),
            [one] => {
                let are = if others.contains(&1) { "is" } else { "are" };
                write!(f, ", and so {are} {one}")
            }
            [all @ .., last] => write!(f, ", and so are {} and {last}", all.join(", ")),
        }
    }
}
