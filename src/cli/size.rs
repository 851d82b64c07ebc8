//! Sizes, counts and times on the command line.

use std::fmt;
use std::time::Duration;

/// How much memory the mount's content may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// At least one page.
    Bytes(u64),
    /// Of the memory that this process may use: 1 to 100.
    Percent(u8),
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

const SIZE_HELP: &str = "write whole bytes, with K, M, G or T if you like, such as 512M, or a part of the memory, such as 50%";
const COUNT_HELP: &str = "write a number, such as 100000 or 64K";
const TIME_HELP: &str = "write a time such as 30s, 5m, 1h or 1.5 (seconds)";

/// `4096`, `512M`, `2GiB`, `50%`. The letters count in powers of 1024, as for tmpfs.
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
        Some(bytes) if bytes < notapipe::store::PAGE_SIZE => Err(format!(
            "a mount holds at least one page of {} bytes",
            notapipe::store::PAGE_SIZE
        )),
        Some(bytes) => Ok(Size::Bytes(bytes)),
    }
}

/// `100000`, `64K`.
pub fn inodes(text: &str) -> Result<u64, String> {
    match multiplied(&text.to_ascii_lowercase()) {
        None => Err(COUNT_HELP.to_owned()),
        Some(0 | 1) => Err("a mount holds at least 2 inodes, its root being one".to_owned()),
        Some(count) => Ok(count),
    }
}

/// `30s`, `1h 30m`, `1.5`; a bare number is seconds, as for `timeout`.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let bare = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = if bare {
        text.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        humantime::parse_duration(text).ok()
    };
    match time {
        None => Err(TIME_HELP.to_owned()),
        Some(Duration::ZERO) => Err("no time at all; leave the option out for no limit".to_owned()),
        Some(time) => Ok(time),
    }
}

/// A time to wait, which may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl fmt::Display for Patience {
    /// As [`patience`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// As [`timeout`], and `0`.
pub fn patience(text: &str) -> Result<Patience, String> {
    if matches!(text, "0" | "0s") {
        return Ok(Patience(Duration::ZERO));
    }
    timeout(text).map(Patience)
}

/// `700`, `1777`: permission bits in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o1777 => Ok(mode),
        _ => Err("write permission bits in octal, such as 700 or 1777".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn modes() {
        assert_eq!(mode("700"), Ok(0o700));
        assert_eq!(mode("1777"), Ok(0o1777));
        for text in ["", "8", "+700", "2000", "rwx", "77777"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
