//! Extended attributes of one inode.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::StoreError;
use super::quota::{PAGE_SIZE, Resource};

/// Longest name and value, as in `limits.h` of Linux.
const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 64 * 1024;
/// Most bytes that `listxattr(2)` can return, names with their NUL bytes.
const LIST_MAX: usize = 64 * 1024;
/// What an attribute takes beside its bytes.
const ATTRIBUTE_BYTES: usize = 128;

/// Names and values, in the order of the names.
#[derive(Clone, Debug, Default)]
pub(super) struct Xattrs {
    values: BTreeMap<Box<[u8]>, Arc<[u8]>>,
    names_len: usize,
    values_len: usize,
}

impl Xattrs {
    pub fn get(&self, name: &[u8]) -> Result<&Arc<[u8]>, StoreError> {
        self.values.get(name).ok_or(StoreError::NoAttribute)
    }

    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(|name| &**name)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Pages that they are charged as.
    pub fn pages(&self) -> u64 {
        let bytes = self.names_len + self.values_len + ATTRIBUTE_BYTES * self.values.len();
        (bytes as u64).div_ceil(PAGE_SIZE)
    }

    /// Sets a value, whether or not there was one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if name.is_empty() {
            return Err(StoreError::InvalidArgument);
        }
        if name.len() > NAME_MAX || value.len() > VALUE_MAX {
            return Err(StoreError::AttributeTooLarge);
        }
        if let Some(old) = self.values.get_mut(name) {
            self.values_len = self.values_len - old.len() + value.len();
            *old = Arc::from(value);
            return Ok(());
        }
        let names_len = self.names_len + name.len() + 1;
        if names_len > LIST_MAX {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.names_len = names_len;
        self.values_len += value.len();
        self.values.insert(name.into(), Arc::from(value));
        Ok(())
    }

    pub fn remove(&mut self, name: &[u8]) -> Result<(), StoreError> {
        let value = self.values.remove(name).ok_or(StoreError::NoAttribute)?;
        self.values_len -= value.len();
        self.names_len -= name.len() + 1;
        Ok(())
    }
}
