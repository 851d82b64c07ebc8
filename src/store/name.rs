//! Names that carry the proof that they are valid.

use std::fmt;
use std::sync::Arc;

use super::error::StoreError;

/// Longest component, in bytes (`NAME_MAX` of every Linux file system).
pub const NAME_MAX: usize = 255;

/// A validated path component: 1 to 255 bytes, no slash, no NUL, neither `.` nor `..`.
///
/// Cloning shares the bytes.
///
/// ```
/// use notapipe::store::{Name, StoreError};
///
/// assert_eq!(Name::new(b"A.gb")?.as_bytes(), b"A.gb");
/// assert_eq!(Name::new(b"../A.gb"), Err(StoreError::InvalidName));
/// # Ok::<(), StoreError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Checks `bytes` and keeps a copy of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::NameTooLong`] or [`StoreError::InvalidName`].
    pub fn new(bytes: &[u8]) -> Result<Self, StoreError> {
        match bytes {
            b"" | b"." | b".." => Err(StoreError::InvalidName),
            _ if bytes.len() > NAME_MAX => Err(StoreError::NameTooLong),
            _ if bytes.iter().any(|&b| b == b'/' || b == 0) => Err(StoreError::InvalidName),
            _ => Ok(Self(Arc::from(bytes))),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
