//! `--limit cpu=10s,memory=2G,processes=64,files=256`.

use std::fmt;

use notapipe::run::ResourceLimits;
use notapipe::text::quoted;

use super::nearest::nearest;
use super::size::{self, Size};

/// What was asked for; nothing unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourcesWanted(pub ResourceLimits);

const KEYS: [&str; 4] = ["cpu", "memory", "processes", "files"];
const HELP: &str = "write limits such as cpu=10s,memory=2G,processes=64,files=256";

/// Reads them.
pub fn resources(text: &str) -> Result<ResourcesWanted, String> {
    let mut limits = ResourceLimits::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or(HELP)?;
        let twice = match key {
            "cpu" => limits.cpu.replace(size::timeout(value)?).is_some(),
            "memory" => limits.memory_bytes.replace(bytes(value)?).is_some(),
            "processes" => limits.processes.replace(count(value)?).is_some(),
            "files" => limits.files.replace(count(value)?).is_some(),
            _ => {
                let (near, key) = (nearest(key, KEYS), quoted(key));
                return Err(match near {
                    Some(near) => format!("there is no limit {key}; did you mean {near}?"),
                    None => format!("there is no limit {key}; {HELP}"),
                });
            }
        };
        if twice {
            return Err(format!("the limit {key} is given twice"));
        }
    }
    Ok(ResourcesWanted(limits))
}

fn bytes(text: &str) -> Result<u64, String> {
    match size::size(text) {
        Ok(Size::Bytes(bytes)) => Ok(bytes),
        _ => Err("write bytes with K, M, G or T, such as memory=2G".to_owned()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    let count = text.parse().ok().filter(|&count: &u64| count > 0);
    count.ok_or_else(|| "write a number from 1 on, such as files=256".to_owned())
}

impl fmt::Display for ResourcesWanted {
    /// As [`resources`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourceLimits {
            cpu,
            memory_bytes,
            processes,
            files,
        } = self.0;
        let parts = [
            cpu.map(|time| format!("cpu={}", humantime::format_duration(time))),
            memory_bytes.map(|bytes| format!("memory={bytes}")),
            processes.map(|count| format!("processes={count}")),
            files.map(|count| format!("files={count}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn limits_are_read_and_written() {
        let limits = resources("cpu=10s,memory=2G,processes=64,files=256").unwrap();
        let expected = ResourceLimits {
            cpu: Some(Duration::from_secs(10)),
            memory_bytes: Some(2 << 30),
            processes: Some(64),
            files: Some(256),
        };
        assert_eq!(limits.0, expected);
        assert_eq!(resources(&limits.to_string()), Ok(limits));
        assert_eq!(resources("cpu=1.5").unwrap().to_string(), "cpu=1s 500ms");
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
            let error = resources(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }
}
