//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): which mount stands where.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::proc::read_proc;

/// One line of mountinfo, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountLine {
    pub(crate) id: u64,
    /// The mount that it stands on.
    pub(crate) parent: u64,
    /// The file system's device number, `MAJOR:MINOR`.
    pub(crate) device: String,
    /// The directory of the file system that stands there.
    pub(crate) root: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) kind: String,
}

/// Every mount of our own namespace, in the order in which they were made.
pub(crate) fn own() -> io::Result<Vec<MountLine>> {
    Ok(parse(&read_proc("/proc/self/mountinfo")?))
}

/// What stands at this path of our own namespace, on top.
pub(crate) fn top_at(path: &Path) -> io::Result<Option<MountLine>> {
    Ok(own()?.into_iter().rfind(|line| line.path == path))
}

/// Whether paths lead to a mount, one of these: no other mount stands at a directory above it, as where all of `/tmp` was
/// mounted over.
pub(crate) fn is_visible(all: &[MountLine], mount: &MountLine) -> bool {
    let covers = |other: &MountLine| {
        other.parent == mount.parent
            // The root may be its own parent.
            && other.id != mount.parent
            && other.path != mount.path
            && mount.path.starts_with(&other.path)
    };
    let mut above = all
        .iter()
        .filter(|it| it.id == mount.parent && it.id != mount.id);
    !all.iter().any(covers) && above.all(|it| is_visible(all, it))
}

/// Whether a living thread sees a file system with this device number.
pub(crate) fn lists_device(thread: i32, device: &str) -> bool {
    std::fs::read(format!("/proc/{thread}/mountinfo"))
        .is_ok_and(|text| parse(&text).iter().any(|line| line.device == device))
}

fn parse(text: &[u8]) -> Vec<MountLine> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAGS…] - TYPE SOURCE SUPER`
fn parse_line(line: &[u8]) -> Option<MountLine> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let parent = text(fields.next()?).parse().ok()?;
    let device = text(fields.next()?);
    let root = PathBuf::from(unescape(fields.next()?));
    let path = PathBuf::from(unescape(fields.next()?));
    let kind = text(fields.skip_while(|&field| field != b"-").nth(1)?);
    Some(MountLine {
        id,
        parent,
        device,
        root,
        path,
        kind,
    })
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash (fs/proc_namespace.c).
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\').and_then(octal);
        plain.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(plain)
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// A path as mountinfo shows it.
pub(crate) fn escape(path: &Path) -> OsString {
    let mut shown = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => shown.extend(format!("\\{byte:03o}").into_bytes()),
            _ => shown.push(byte),
        }
    }
    OsString::from_vec(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_tags_and_escapes_is_read() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134 rw,noatime shared:1 master:2 - fuse.notapipe notapipe rw";
        let parsed = parse_line(line).unwrap();
        assert_eq!((parsed.id, parsed.parent), (36, 35));
        assert_eq!(parsed.device, "98:0");
        assert_eq!(parsed.root, Path::new("/mnt1"));
        assert_eq!(parsed.path, Path::new(r"/mnt 2\"));
        assert_eq!(parsed.kind, "fuse.notapipe");
        assert_eq!(escape(&parsed.path), r"/mnt\0402\134");
    }

    #[test]
    fn what_another_mount_covers_is_not_visible() {
        let text = "1 1 8:1 / / rw - ext4 a rw\n\
                    2 1 0:2 / /tmp/below rw - tmpfs b rw\n\
                    3 1 0:3 / /tmp rw - tmpfs c rw\n\
                    4 3 0:4 / /tmp/above rw - tmpfs d rw\n\
                    5 4 0:5 / /tmp/above rw - tmpfs e rw\n\
                    6 2 0:6 / /tmp/below/deep rw - tmpfs f rw\n";
        let lines = parse(text.as_bytes());
        let visible = lines.iter().filter(|it| is_visible(&lines, it));
        assert_eq!(visible.map(|it| it.id).collect::<Vec<_>>(), [1, 3, 4, 5]);
    }

    #[test]
    fn a_broken_line_is_no_mount() {
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 98:0 /"), None);
    }
}
