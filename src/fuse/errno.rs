//! What each refusal of the store is called in the kernel.

use rustix::io::Errno;

use crate::store::StoreError;

/// The errno that tells a process of `error`.
///
/// Exhaustive, so that a new meaning cannot be forgotten here.
pub(super) fn errno(error: StoreError) -> Errno {
    match error {
        StoreError::NotFound => Errno::NOENT,
        StoreError::Exists => Errno::EXIST,
        StoreError::NotDirectory => Errno::NOTDIR,
        StoreError::IsDirectory => Errno::ISDIR,
        StoreError::NotEmpty => Errno::NOTEMPTY,
        // tmpfs says ENOSPC for inodes as well as for bytes.
        StoreError::NoSpace(_) => Errno::NOSPC,
        StoreError::NameTooLong => Errno::NAMETOOLONG,
        // The kernel resolves "." and ".." and splits at slashes, so such a name never comes from a
        // process; should a transport hand one over, this is what lookup(9) implementations say.
        StoreError::InvalidName => Errno::INVAL,
        StoreError::InvalidArgument => Errno::INVAL,
        StoreError::TooLarge => Errno::FBIG,
        StoreError::TooManyLinks => Errno::MLINK,
        // lseek(2): SEEK_DATA past the last data, or any seek past the end.
        StoreError::NoData => Errno::NXIO,
        StoreError::NoAttribute => Errno::NODATA,
        // xattr(7): E2BIG where the value is over the limit of the file system.
        StoreError::AttributeTooLarge => Errno::TOOBIG,
        // link(2) on a directory.
        StoreError::NotPermitted => Errno::PERM,
        StoreError::NotSupported => Errno::OPNOTSUPP,
        // What read(2) says of a disk that cannot be read.
        StoreError::NotMade => Errno::IO,
    }
}
