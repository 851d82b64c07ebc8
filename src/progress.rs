//! How far staging or collecting has come, told to a listener.

use std::fmt;
use std::ops::ControlFlow;

/// Files and bytes moved so far; see [`Job::on_staging`](crate::Job::on_staging).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files, directories and symlinks that are complete.
    pub files: u64,
    /// Bytes of content, holes not counted.
    pub bytes: u64,
}

/// The listener asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// Counts, and asks the listener whether to go on.
#[derive(Default)]
pub(crate) struct Meter<'l> {
    pub(crate) progress: Progress,
    pub(crate) listener: Option<Box<dyn FnMut(Progress) -> ControlFlow<()> + Send + 'l>>,
}

impl Meter<'_> {
    pub(crate) fn bytes(&mut self, more: usize) -> Result<(), Stopped> {
        self.progress.bytes += more as u64;
        self.tell()
    }

    pub(crate) fn file(&mut self) -> Result<(), Stopped> {
        self.progress.files += 1;
        self.tell()
    }

    /// Asks although nothing has moved.
    pub(crate) fn check(&mut self) -> Result<(), Stopped> {
        self.tell()
    }

    fn tell(&mut self) -> Result<(), Stopped> {
        match self
            .listener
            .as_mut()
            .map(|listener| listener(self.progress))
        {
            Some(ControlFlow::Break(())) => Err(Stopped),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.progress.fmt(f)
    }
}

/// A number of bytes as people write it: `512 MiB`, `1.5 GiB`, `300 bytes`, or with `{:#}` `300 B`; rounded up.
///
/// # Examples
///
/// ```
/// assert_eq!(notapipe::ByteCount(3 << 29).to_string(), "1.5 GiB");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some(power) = self
            .0
            .checked_ilog2()
            .map(|bits| bits / 10)
            .filter(|&p| p > 0)
        else {
            let unit = if f.alternate() { "B" } else { "bytes" };
            return write!(f, "{} {unit}", self.0);
        };
        let (unit, name) = (1_u64 << (10 * power), UNITS[power as usize - 1]);
        // Tenths, rounded up: a limit that is told must be enough when it is set.
        let tenths = (u128::from(self.0) * 10).div_ceil(u128::from(unit));
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            rest => write!(f, "{}.{rest} {name}", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteCount;

    #[test]
    fn bytes_read_well() {
        for (count, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1025, "1.1 KiB"),
            (512 << 20, "512 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(ByteCount(count).to_string(), text);
        }
    }
}
