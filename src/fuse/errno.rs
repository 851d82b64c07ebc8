//! What each refusal of the store is called in the kernel.

use crate::store::StoreError;

/// The errno that tells a process of `error`.
///
/// Exhaustive, so that a new meaning cannot be forgotten here.
pub(super) fn errno(error: StoreError) -> i32 {
    match error {
        StoreError::NotFound => libc::ENOENT,
        StoreError::Exists => libc::EEXIST,
        StoreError::NotDirectory => libc::ENOTDIR,
        StoreError::IsDirectory => libc::EISDIR,
        StoreError::NotEmpty => libc::ENOTEMPTY,
        // tmpfs says ENOSPC for inodes as well as for bytes.
        StoreError::NoSpace(_) => libc::ENOSPC,
        StoreError::NameTooLong => libc::ENAMETOOLONG,
        // The kernel resolves "." and ".." and splits at slashes, so such a name never comes from a
        // process; should a transport hand one over, this is what lookup(9) implementations say.
        StoreError::InvalidName => libc::EINVAL,
        StoreError::InvalidArgument => libc::EINVAL,
        StoreError::TooLarge => libc::EFBIG,
        StoreError::TooManyLinks => libc::EMLINK,
        // lseek(2): SEEK_DATA past the last data, or any seek past the end.
        StoreError::NoData => libc::ENXIO,
        StoreError::NoAttribute => libc::ENODATA,
        // xattr(7): E2BIG where the value is over the limit of the file system.
        StoreError::AttributeTooLarge => libc::E2BIG,
        // link(2) on a directory.
        StoreError::NotPermitted => libc::EPERM,
        StoreError::NotSupported => libc::EOPNOTSUPP,
        // What read(2) says of a disk that cannot be read.
        StoreError::NotMade => libc::EIO,
    }
}
