//! Mapped files.

use std::os::fd::AsFd;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use super::observe::Bytes;
use super::syscalls::Result;

/// A mapping of a part of a file.
///
/// Read and written byte by byte and volatile: other processes change what lies there.
pub struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    /// Writes go to the file.
    pub fn shared(file: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::new(
            file,
            offset,
            len,
            MapFlags::SHARED,
            ProtFlags::READ | ProtFlags::WRITE,
        )
    }

    /// Writes are this process's own.
    pub fn private(file: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::new(
            file,
            offset,
            len,
            MapFlags::PRIVATE,
            ProtFlags::READ | ProtFlags::WRITE,
        )
    }

    pub fn read_only(file: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Self::new(file, offset, len, MapFlags::SHARED, ProtFlags::READ)
    }

    pub fn new(
        file: impl AsFd,
        offset: u64,
        len: usize,
        flags: MapFlags,
        protection: ProtFlags,
    ) -> Result<Self> {
        // SAFETY: the kernel chooses an address that nothing else uses.
        let at = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, file, offset) }?;
        Ok(Self { at: at.cast(), len })
    }

    pub fn read(&self, offset: usize, len: usize) -> Bytes {
        assert!(offset + len <= self.len);
        let byte = |at| {
            // SAFETY: within the mapping, which lives as long as `self`.
            unsafe { self.at.add(offset + at).read_volatile() }
        };
        Bytes((0..len).map(byte).collect())
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (at, &byte) in bytes.iter().enumerate() {
            // SAFETY: within the mapping, which lives as long as `self`.
            unsafe { self.at.add(offset + at).write_volatile(byte) }
        }
    }

    /// `msync(MS_SYNC)`.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: exactly the mapping.
        unsafe { msync(self.at.cast(), self.len, MsyncFlags::SYNC) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping, which nobody can use any more.
        let unmapped = unsafe { munmap(self.at.cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
