//! Bytes that a mount lost, which the process that wrote them cannot have noticed.

use notapipe::ByteCount;

/// Files that are not whole.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}{} lost bytes that were written through a memory mapping: the limit of {} was reached",
    .files[0],
    if .files.len() > 1 { format!(" and {} more files", .files.len() - 1) } else { String::new() },
    ByteCount(*.limit_bytes)
)]
pub struct LostPages {
    files: Vec<String>,
    limit_bytes: u64,
}

impl LostPages {
    /// An error if there are such files.
    pub fn check(files: Vec<String>, limit_bytes: u64) -> Result<(), Self> {
        match files.is_empty() {
            true => Ok(()),
            false => Err(Self { files, limit_bytes }),
        }
    }
}
