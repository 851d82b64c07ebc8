//! How much memory this process may really use: the ground of the default limits.
//!
//! # Examples
//!
//! ```
//! use notapipe::{Job, memory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! assert!(memory::available_bytes()? > 0);
//! let mut limits = memory::default_limits();
//! limits.bytes = limits.bytes.min(1 << 30);
//! Job::new().limits(limits).step(["true"]).run()?;
//! # Ok(())
//! # }
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::{Limits, PAGE_SIZE};

/// Limits that leave the machine alive: half of the memory that this process may really use, and an
/// inode for every page of it.
///
/// Never fails: where nothing can be learned, the limit is 256 MiB.
pub fn default_limits() -> Limits {
    const UNKNOWN: u64 = 512 << 20;
    let bytes = available_bytes().unwrap_or(UNKNOWN) / 2 / PAGE_SIZE * PAGE_SIZE;
    Limits::of_bytes(bytes)
}

/// Bytes of memory that this process may still take: what the machine has free, or what its control
/// groups leave it, whichever is smaller.
///
/// # Errors
///
/// When `/proc/meminfo` cannot be read or has no `MemAvailable` (proc_meminfo(5)).
pub fn available_bytes() -> io::Result<u64> {
    let machine = meminfo_available(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))?;
    let group = cgroup_room().unwrap_or(u64::MAX);
    Ok(machine.min(group))
}

fn meminfo_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest room that any of our control groups, up to the root, leaves; `None` without a
/// limit.
fn cgroup_room() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    memory_groups(&membership)
        .into_iter()
        .filter_map(|group| {
            let limit = read_number(&group.dir.join(group.limit_file))?;
            let used = read_number(&group.dir.join(group.usage_file)).unwrap_or(0);
            Some(limit.saturating_sub(used))
        })
        .min()
}

#[derive(Debug, PartialEq, Eq)]
struct MemoryGroup {
    dir: PathBuf,
    limit_file: &'static str,
    usage_file: &'static str,
}

/// The control groups that bound our memory, from our own up to the root, in the usual mount places
/// (cgroups(7)): version 2 alone or beside version 1, and version 1's memory controller.
fn memory_groups(membership: &str) -> Vec<MemoryGroup> {
    let mut groups = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (roots, limit_file, usage_file): (&[_], _, _) = if controllers.is_empty() {
            (
                &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
                "memory.max",
                "memory.current",
            )
        } else if controllers
            .split(',')
            .any(|controller| controller == "memory")
        {
            (
                &["/sys/fs/cgroup/memory"],
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        } else {
            continue;
        };
        for root in roots {
            for ancestor in Path::new(path.trim_start_matches('/')).ancestors() {
                groups.push(MemoryGroup {
                    dir: Path::new(root).join(ancestor),
                    limit_file,
                    usage_file,
                });
            }
        }
    }
    groups
}

/// The number in a control file; `None` where it is missing or says "max".
fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_kibibytes() {
        let meminfo = "MemTotal:       24684100 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(meminfo_available(meminfo), Some(2 << 20));
        assert_eq!(meminfo_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn every_group_up_to_the_root_is_asked() {
        let dirs = |membership| {
            memory_groups(membership)
                .into_iter()
                .map(|group| group.dir.join(group.limit_file).display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            dirs("5:devices:/x\n4:memory:/a/b\n"),
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(
            dirs("0::/user.slice\n")[..2],
            [
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
    }

    #[test]
    fn the_default_is_half_of_what_is_there() {
        let limits = default_limits();
        assert!(limits.bytes > 0 && limits.bytes.is_multiple_of(PAGE_SIZE));
        assert!(limits.bytes <= available_bytes().unwrap());
    }
}
