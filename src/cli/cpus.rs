//! `--cpus`: all, one, or a list such as taskset(1) takes it.

use std::fmt;

/// Which CPUs a job is to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CpusWanted {
    /// All that we may use ourselves.
    #[default]
    All,
    /// The one on which we are.
    One,
    /// These.
    These(Vec<usize>),
}

impl fmt::Display for CpusWanted {
    /// As [`cpus`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One => f.write_str("one"),
            Self::These(numbers) => {
                let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

const HELP: &str = "write all, one, or the numbers of CPUs, such as 0 or 0,2-3";
/// More than any kernel is built for (CONFIG_NR_CPUS).
const CPUS_MAX: usize = 8192;

/// `all`, `one`, `0`, `0,2-3`.
pub fn cpus(text: &str) -> Result<CpusWanted, String> {
    match text {
        "all" => return Ok(CpusWanted::All),
        "one" => return Ok(CpusWanted::One),
        _ => {}
    }
    let ranges = text
        .split(',')
        .map(range)
        .collect::<Option<Vec<_>>>()
        .ok_or(HELP)?;
    Ok(CpusWanted::These(ranges.into_iter().flatten().collect()))
}

/// The CPUs that this process may use, as [`cpus`] reads them.
pub fn usable() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let numbers = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&it| allowed.is_set(it));
    CpusWanted::These(numbers.collect()).to_string()
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < CPUS_MAX).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_taskset_reads_them() {
        assert_eq!(cpus("all"), Ok(CpusWanted::All));
        assert_eq!(cpus("one"), Ok(CpusWanted::One));
        assert_eq!(cpus("0,2-4"), Ok(CpusWanted::These(vec![0, 2, 3, 4])));
        for wrong in ["", "x", "1-", "-1", "3-1", "1,,2", "9999999"] {
            assert_eq!(cpus(wrong), Err(HELP.to_owned()), "{wrong:?}");
        }
    }
}
