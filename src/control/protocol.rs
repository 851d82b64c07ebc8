//! What is said over the socket.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The version of the protocol that is spoken here.
pub(super) const VERSION: u32 = 1;

/// What a mount was asked to be, as far as only its program knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// The name that df(1) shows.
    pub name: String,
    /// Nothing can be written.
    pub read_only: bool,
    /// Where its content came from.
    pub from: Option<String>,
    /// Where its content goes when it is unmounted.
    pub save: Option<String>,
}

/// How a mount is. Times are in seconds; a path that is not UTF-8 has the bytes in question as `\xff`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// Where it is mounted.
    pub path: String,
    /// The process that serves it.
    pub pid: i32,
    /// The user whose process that is.
    pub uid: u32,
    /// The version of notapipe that serves it.
    pub notapipe: String,
    /// When it was mounted, in seconds since 1970.
    pub mounted_at: f64,
    /// How long ago that is.
    pub age_seconds: f64,
    /// Content in bytes, in whole pages.
    pub used_bytes: u64,
    /// The most of it.
    pub limit_bytes: u64,
    /// Files, directories and symlinks, the root included.
    pub used_inodes: u64,
    /// The most of them.
    pub limit_inodes: u64,
    /// The kernel's requests so far, by kind.
    pub requests: BTreeMap<String, u64>,
    /// Files that lost bytes which were written through a memory mapping, because the limit was reached.
    pub lost_files: Vec<String>,
    /// What it was asked to be.
    #[serde(flatten)]
    pub description: Description,
}

/// A snapshot that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Packed {
    /// Files, directories and symlinks.
    pub files: u64,
    /// Bytes of content, holes left out.
    pub bytes: u64,
    /// What was left out, as a message.
    pub skipped: Option<String>,
    /// Files that are not whole, because the mount [lost](Status::lost_files) bytes of them.
    pub lost_files: Vec<String>,
}

/// A mount that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Unmounted {
    /// It is only detached, and ends with its last user.
    pub detached: bool,
    /// Where its content was saved.
    pub saved: Option<String>,
    /// Files that are not whole, because the mount [lost](Status::lost_files) bytes of them.
    pub lost_files: Vec<String>,
    /// A bind mount or another mount namespace has a copy that is still used, and served by this process; what is written
    /// there from now on is saved nowhere.
    pub served_by: Option<i32>,
}

impl Unmounted {
    /// Gone, and its content saved there, if it was to be saved.
    pub fn saved_to(saved: Option<String>) -> Self {
        Self {
            saved,
            ..Self::default()
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub version: u32,
    #[serde(flatten)]
    pub command: Command,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub(super) enum Command {
    Status,
    Resize {
        #[serde(default)]
        bytes: Option<u64>,
        #[serde(default)]
        inodes: Option<u64>,
    },
    Snapshot {
        format: String,
    },
    Unmount {
        #[serde(default)]
        lazy: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    Status(Box<Status>),
    Progress {
        files: u64,
        bytes: u64,
    },
    Packed(Packed),
    /// It is unmounted; what has to be saved is being saved.
    Saving,
    Unmounted(Unmounted),
    Error {
        kind: String,
        message: String,
    },
}

impl Answer {
    pub(super) fn error(kind: &str, message: impl Into<String>) -> Self {
        Self::Error {
            kind: kind.to_owned(),
            message: message.into(),
        }
    }
}

/// A path as text.
pub(super) fn text(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => path.as_os_str().as_bytes().escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_documentation() {
        let text = r#"{"version":1,"command":"resize","bytes":5,"new":"field"}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        let resize = Command::Resize {
            bytes: Some(5),
            inodes: None,
        };
        assert_eq!(request.command, resize);
        let request = Request {
            version: VERSION,
            command: Command::Status,
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(text, r#"{"version":1,"command":"status"}"#);
        let text = serde_json::to_string(&Answer::error("busy", "in use")).unwrap();
        assert_eq!(text, r#"{"error":{"kind":"busy","message":"in use"}}"#);
    }
}
