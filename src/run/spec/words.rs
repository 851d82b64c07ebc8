//! The words in which the command line and job files say values.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! use notapipe::run::words::{cpus, inodes, nearest, resource_limits, size, time, timeout};
//! use notapipe::run::{Cpus, ResourceLimits, Size};
//!
//! assert_eq!(size("512M")?, Size::Bytes(512 << 20));
//! assert_eq!(inodes("64K")?, 65_536);
//! assert_eq!(timeout("1h 30m")?, Duration::from_secs(5400));
//! assert_eq!(time("0")?, Duration::ZERO);
//! assert_eq!(cpus("0,2-3")?, Cpus::These(vec![0, 2, 3]));
//! let limits = resource_limits("processes=64,files=256")?;
//! assert_eq!((limits.processes, limits.files), (Some(64), Some(256)));
//! assert_eq!(nearest("fiels", ["cpu", "files"]), Some("files"));
//! # Ok::<(), String>(())
//! ```

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::super::backing::Backing;
use super::super::cpus::Cpus;
use super::super::limits::ResourceLimits;
use super::super::own_tmp::Tmp;
use super::{Size, Verbosity};
use crate::fuse::Profile;
use crate::mount::Visibility;
use crate::store::PAGE_SIZE;
use crate::text::quoted;

const SIZE_HELP: &str = "write whole bytes, with K, M, G or T if you like, such as 512M, or a part of the memory, such as 50%";
const COUNT_HELP: &str = "write a number, such as 100000 or 64K";
const TIME_HELP: &str = "write a time such as 30s, 5m, 1h or 1.5 (seconds)";
const CPUS_HELP: &str = "write all, one, or the numbers of CPUs, such as 0 or 0,2-3";
const LIMITS_HELP: &str = "write limits such as cpu=10s,memory=2G,processes=64,files=256";
const LIMITS: [&str; 4] = ["cpu", "memory", "processes", "files"];
/// More than any kernel is built for (CONFIG_NR_CPUS).
const CPUS_MAX: usize = 8192;

/// Gives the variants of an enum the names that options and job files have for them.
macro_rules! named {
    ($type:ty: $($variant:ident = $name:literal),*) => {
        impl $type {
            /// The names of all, in options and job files.
            pub const NAMES: &[&str] = &[$($name),*];
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(format!("write one of {}", Self::NAMES.join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                })
            }
        }
    };
}

named!(Visibility: Auto = "auto", Private = "private", Public = "public");
named!(Backing: Auto = "auto", Fuse = "fuse", Tmpfs = "tmpfs", Directory = "directory");
named!(Tmp: Job = "job", Host = "host");
named!(Profile: Fast = "fast", Observed = "observed");
named!(Verbosity: Quiet = "quiet", Normal = "normal", Verbose = "verbose", Debug = "debug");

/// `4096`, `512M`, `2GiB`, `50%`. The letters count in powers of 1024, as for tmpfs.
///
/// # Errors
///
/// What to write instead; so for all of this module.
pub fn size(text: &str) -> Result<Size, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse() {
            Ok(percent @ 1..=100) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Size::Percent(percent))
            }
            _ => Err("a percentage lies between 1% and 100%".to_owned()),
        };
    }
    let lower = text.to_ascii_lowercase();
    let number = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    match multiplied(number) {
        None => Err(SIZE_HELP.to_owned()),
        Some(bytes) if bytes < PAGE_SIZE => Err(format!(
            "a mount holds at least one page of {PAGE_SIZE} bytes"
        )),
        Some(bytes) => Ok(Size::Bytes(bytes)),
    }
}

impl fmt::Display for Size {
    /// As [`size`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `100000`, `64K`.
///
/// # Errors
///
/// What to write instead.
pub fn inodes(text: &str) -> Result<u64, String> {
    match multiplied(&text.to_ascii_lowercase()) {
        None => Err(COUNT_HELP.to_owned()),
        Some(0 | 1) => Err("a mount holds at least 2 inodes, its root being one".to_owned()),
        Some(count) => Ok(count),
    }
}

/// `30s`, `1h 30m`, `1.5`; a bare number is seconds, as for `timeout`(1). Not zero.
///
/// # Errors
///
/// What to write instead.
pub fn timeout(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("no time at all; leave the option out for no limit".to_owned()),
        time => Ok(time),
    }
}

/// What [`timeout`] reads, and `0`.
///
/// # Errors
///
/// What to write instead.
pub fn time(text: &str) -> Result<Duration, String> {
    let bare = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = if bare {
        let seconds = text.parse().ok();
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        humantime::parse_duration(text).ok()
    };
    time.ok_or_else(|| TIME_HELP.to_owned())
}

/// As [`time`] reads it.
pub(crate) fn time_words(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// `cpu=10s,memory=2G,processes=64,files=256`, any of them.
///
/// # Errors
///
/// What to write instead.
pub fn resource_limits(text: &str) -> Result<ResourceLimits, String> {
    let mut limits = ResourceLimits::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or(LIMITS_HELP)?;
        let twice = match key {
            "cpu" => limits.cpu.replace(timeout(value)?).is_some(),
            "memory" => limits.memory_bytes.replace(bytes(value)?).is_some(),
            "processes" => limits.processes.replace(count(value)?).is_some(),
            "files" => limits.files.replace(count(value)?).is_some(),
            _ => {
                let (near, key) = (nearest(key, LIMITS), quoted(key));
                return Err(match near {
                    Some(near) => format!("there is no limit {key}; did you mean {near}?"),
                    None => format!("there is no limit {key}; {LIMITS_HELP}"),
                });
            }
        };
        if twice {
            return Err(format!("the limit {key} is given twice"));
        }
    }
    Ok(limits)
}

impl fmt::Display for ResourceLimits {
    /// As [`resource_limits`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.cpu.map(|time| format!("cpu={}", time_words(time))),
            self.memory_bytes.map(|bytes| format!("memory={bytes}")),
            self.processes.map(|count| format!("processes={count}")),
            self.files.map(|count| format!("files={count}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(","))
    }
}

/// `all`, `one`, `0`, `0,2-3`, such as taskset(1) takes it.
///
/// # Errors
///
/// What to write instead.
pub fn cpus(text: &str) -> Result<Cpus, String> {
    match text {
        "all" => return Ok(Cpus::All),
        "one" => return Ok(Cpus::One),
        _ => {}
    }
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let numbers = ranges.ok_or(CPUS_HELP)?.into_iter().flatten();
    Ok(Cpus::These(numbers.collect()))
}

fn range(text: &str) -> Option<RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < CPUS_MAX).then_some(first..=last)
}

fn bytes(text: &str) -> Result<u64, String> {
    match size(text) {
        Ok(Size::Bytes(bytes)) => Ok(bytes),
        _ => Err("write bytes with K, M, G or T, such as memory=2G".to_owned()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|&count: &u64| count > 0);
    count.ok_or_else(|| "write a number from 1 on, such as files=256".to_owned())
}

/// Digits with at most one of the letters k, m, g, t, p.
fn multiplied(text: &str) -> Option<u64> {
    let power = match text.bytes().last()? {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        b'p' => 5,
        _ => 0,
    };
    let digits = &text[..text.len() - usize::from(power > 0)];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// The one of `known` that is nearest to `word`, if any is near.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near = |candidate: &'k str| {
        let likeness = strsim::jaro_winkler(word, candidate);
        (likeness > 0.75).then_some((likeness, candidate))
    };
    let best = known.into_iter().filter_map(near);
    best.max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found_and_nothing_else() {
        let known = ["input", "output", "timeout", "at"];
        assert_eq!(nearest("inptu", known), Some("input"));
        assert_eq!(nearest("time-out", known), Some("timeout"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4096", Size::Bytes(4096)),
            ("512M", Size::Bytes(512 << 20)),
            ("512m", Size::Bytes(512 << 20)),
            ("2G", Size::Bytes(2 << 30)),
            ("2GiB", Size::Bytes(2 << 30)),
            ("2gb", Size::Bytes(2 << 30)),
            ("1T", Size::Bytes(1 << 40)),
            ("50%", Size::Percent(50)),
            ("100%", Size::Percent(100)),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+5G",
            "1.5G",
            "12X",
            "1 G",
            "G2",
            "0",
            "4095",
            "1K",
            "0%",
            "101%",
            "%",
            "+50%",
            "-1%",
            "5.5%",
            "99999999999G",
            "20000P",
            "0x10",
            "½G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(inodes("100000"), Ok(100_000));
        assert_eq!(inodes("64K"), Ok(65536));
        for text in ["", "0", "1", "-5", "50%", "1.5", "many"] {
            assert!(inodes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("30", Duration::from_secs(30)),
            ("1.5", Duration::from_millis(1500)),
            ("30s", Duration::from_secs(30)),
            ("5m", Duration::from_secs(300)),
            ("1h 30m", Duration::from_secs(5400)),
            ("250ms", Duration::from_millis(250)),
        ] {
            assert_eq!(timeout(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1",
            "soon",
            ".",
            "1.2.3",
            "1e400",
            "inf",
            "99999999999999999999",
        ] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_read_and_written() {
        let limits = resource_limits("cpu=10s,memory=2G,processes=64,files=256").unwrap();
        let expected = ResourceLimits {
            cpu: Some(Duration::from_secs(10)),
            memory_bytes: Some(2 << 30),
            processes: Some(64),
            files: Some(256),
        };
        assert_eq!(limits, expected);
        assert_eq!(resource_limits(&limits.to_string()), Ok(limits));
        assert_eq!(
            resource_limits("cpu=1.5").unwrap().to_string(),
            "cpu=1s 500ms"
        );
    }

    #[test]
    fn wrong_limits_are_refused() {
        for (text, told) in [
            ("", "such as cpu=10s"),
            ("cpu", "such as cpu=10s"),
            ("cpu=", "30s"),
            ("cpu=0", "no time at all"),
            ("memory=50%", "memory=2G"),
            ("files=0", "from 1 on"),
            ("files=-1", "from 1 on"),
            ("process=3", "did you mean processes?"),
            ("cpu=1,cpu=2", "given twice"),
            ("cpu=1,", "such as cpu=10s"),
            ("colour=1", "there is no limit \"colour\""),
        ] {
            let error = resource_limits(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }

    #[test]
    fn lists_are_read_as_taskset_reads_them() {
        assert_eq!(cpus("all"), Ok(Cpus::All));
        assert_eq!(cpus("one"), Ok(Cpus::One));
        assert_eq!(cpus("0,2-4"), Ok(Cpus::These(vec![0, 2, 3, 4])));
        for wrong in ["", "x", "1-", "-1", "3-1", "1,,2", "9999999"] {
            assert_eq!(cpus(wrong), Err(CPUS_HELP.to_owned()), "{wrong:?}");
        }
    }
}
