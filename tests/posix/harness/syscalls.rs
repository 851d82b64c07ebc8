//! System calls as the cases use them: paths relative to the working directory, plain numbers, the errno
//! as the kernel gave it. Those that rustix does not have, or checks too early, go through libc.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Access, AtFlags, CWD, Gid, Mode, Timestamps, Uid};
use rustix::io::Errno;

use super::observe::Bytes;

pub use rustix::fs::{OFlags as O, RenameFlags as Rename, XattrFlags};
pub use rustix::path::Arg as Path;

pub type Result<T> = std::result::Result<T, Errno>;

/// An open file, shown without its number.
pub struct Fd(OwnedFd);

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("open file")
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl From<OwnedFd> for Fd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// The result of a libc call that says -1 and errno.
fn checked(result: i64) -> Result<i64> {
    if result == -1 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok(result)
}

fn c_path(path: impl Path) -> Result<CString> {
    path.into_c_str().map(Into::into)
}

pub fn open(path: impl Path, flags: O, mode: u32) -> Result<Fd> {
    fs::open(path, flags | O::CLOEXEC, Mode::from_raw_mode(mode)).map(Fd)
}

/// Opens a file that is there, for reading and writing.
pub fn reopen(path: impl Path) -> Fd {
    open(path, O::RDWR, 0).expect("open for reading and writing")
}

/// Makes a file, open for reading and writing.
pub fn create(path: impl Path) -> Fd {
    open(path, O::RDWR | O::CREATE | O::EXCL, 0o644).expect("create")
}

pub fn read(file: &Fd, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    let read = rustix::io::read(file, &mut buffer)?;
    buffer.truncate(read);
    Ok(Bytes(buffer))
}

pub fn write(file: &Fd, bytes: impl AsRef<[u8]>) -> Result<usize> {
    rustix::io::write(file, bytes.as_ref())
}

/// By libc, as a negative offset is a case too.
pub fn pread(file: &Fd, len: usize, offset: i64) -> Result<Bytes> {
    let mut buffer = vec![0_u8; len];
    // SAFETY: the buffer is `len` bytes long.
    let read = unsafe { libc::pread64(file.as_raw_fd(), buffer.as_mut_ptr().cast(), len, offset) };
    buffer.truncate(checked(read as i64)? as usize);
    Ok(Bytes(buffer))
}

pub fn pwrite(file: &Fd, bytes: impl AsRef<[u8]>, offset: i64) -> Result<i64> {
    let bytes = bytes.as_ref();
    // SAFETY: the buffer is as long as said.
    let written =
        unsafe { libc::pwrite64(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset) };
    checked(written as i64)
}

pub fn seek(file: &Fd, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: numbers only.
    checked(unsafe { libc::lseek64(file.as_raw_fd(), offset, whence) })
}

pub fn ftruncate(file: &Fd, size: i64) -> Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::ftruncate64(file.as_raw_fd(), size) }.into()).map(drop)
}

pub fn truncate(path: impl Path, size: i64) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path ends in a NUL byte and outlives the call.
    checked(unsafe { libc::truncate64(path.as_ptr(), size) }.into()).map(drop)
}

pub fn link(from: impl Path, to: impl Path) -> Result<()> {
    fs::link(from, to)
}

pub fn unlink(path: impl Path) -> Result<()> {
    fs::unlink(path)
}

pub fn mkdir(path: impl Path, mode: u32) -> Result<()> {
    fs::mkdir(path, Mode::from_raw_mode(mode))
}

pub fn rmdir(path: impl Path) -> Result<()> {
    fs::rmdir(path)
}

pub fn rename(from: impl Path, to: impl Path) -> Result<()> {
    fs::rename(from, to)
}

pub fn rename_with(from: impl Path, to: impl Path, flags: Rename) -> Result<()> {
    fs::renameat_with(CWD, from, CWD, to, flags)
}

pub fn symlink(target: impl Path, path: impl Path) -> Result<()> {
    fs::symlink(target, path)
}

pub fn readlink(path: impl Path) -> Result<Bytes> {
    fs::readlink(path, Vec::new()).map(|target| Bytes(target.into_bytes()))
}

/// What follows symlinks says.
pub fn stat_size(path: impl Path) -> Result<i64> {
    fs::stat(path).map(|stat| stat.st_size)
}

pub fn chmod(path: impl Path, mode: u32) -> Result<()> {
    fs::chmod(path, Mode::from_raw_mode(mode))
}

pub fn fchmod(file: &Fd, mode: u32) -> Result<()> {
    fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// `lchown`, `None` leaving one as it is.
pub fn chown(path: impl Path, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

pub fn access(path: impl Path, mode: Access) -> Result<()> {
    fs::access(path, mode)
}

/// Permission bits without the file's kind.
pub fn mode_of(path: impl Path) -> Result<String> {
    fs::lstat(path).map(|stat| format!("{:04o}", stat.st_mode & 0o7777))
}

pub fn timestamps(atime: (i64, i64), mtime: (i64, i64)) -> Timestamps {
    let time = |(tv_sec, tv_nsec)| fs::Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    }
}

pub fn utimens(path: impl Path, times: &Timestamps, flags: AtFlags) -> Result<()> {
    fs::utimensat(CWD, path, times, flags)
}

pub fn fallocate(file: &Fd, mode: i32, offset: i64, len: i64) -> Result<()> {
    // SAFETY: numbers only.
    checked(unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset, len) }.into()).map(drop)
}

/// `mknod`, also of kinds that the user may not make.
pub fn mknod(path: impl Path, mode: u32, device: u64) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path ends in a NUL byte and outlives the call.
    checked(unsafe { libc::mknod(path.as_ptr(), mode, device) }.into()).map(drop)
}

pub fn chdir(path: impl Path) -> Result<()> {
    rustix::process::chdir(path)
}
