//! The smallest file system that a process can work in: a root directory and two files.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::stage;
use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, Request, SessionACL,
};
use notapipe::mount::{Mount, MountError, MountOptions, Session};

/// `hello`: read a lot. `script`: a shell script without a first line. Asking for `stuck` is never
/// answered.
const FILES: [(u64, &str, &[u8], u16); 2] = [
    (2, "hello", b"hello from RAM\n", 0o644),
    (3, "script", b"exit 9\n", 0o755),
];
const FOREVER: Duration = Duration::from_secs(3600);

pub struct TinyFs;

pub struct TinySession(JoinHandle<io::Result<()>>);

impl Session for TinySession {
    fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.0.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(100));
        }
        self.0.is_finished()
    }

    fn join(self: Box<Self>) -> io::Result<()> {
        self.0
            .join()
            .map_err(|_| io::Error::other("a serving thread panicked"))?
    }
}

pub fn serve(device: OwnedFd) -> io::Result<TinySession> {
    let session =
        fuser::Session::from_fd(TinyFs, device, SessionACL::All, fuser::Config::default())?;
    Ok(TinySession(thread::spawn(move || session.run())))
}

pub fn mount(options: &MountOptions) -> Result<Mount, MountError> {
    let source = format!("faults-{}", stage::tag());
    Mount::new(
        &MountOptions {
            source,
            ..options.clone()
        },
        serve,
    )
}

fn attributes(inode: u64) -> FileAttr {
    let file = FILES.iter().find(|file| file.0 == inode);
    FileAttr {
        ino: INodeNo(inode),
        size: file.map_or(0, |file| file.2.len() as u64),
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if file.is_some() {
            FileType::RegularFile
        } else {
            FileType::Directory
        },
        perm: file.map_or(0o755, |file| file.3),
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        flags: 0,
        blksize: 4096,
    }
}

impl Filesystem for TinyFs {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "stuck" {
            // Dropping the reply would answer EIO.
            return std::mem::forget(reply);
        }
        match FILES.iter().find(|file| file.1 == name) {
            Some(file) => reply.entry(&FOREVER, &attributes(file.0), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOREVER, &attributes(inode.0));
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = FILES.iter().find(|file| file.0 == inode.0) else {
            return reply.error(Errno::EISDIR);
        };
        let start = usize::try_from(offset).unwrap().min(file.2.len());
        let end = (start + size as usize).min(file.2.len());
        reply.data(&file.2[start..end]);
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for (index, file) in FILES
            .iter()
            .enumerate()
            .skip(usize::try_from(offset).unwrap())
        {
            if reply.add(
                INodeNo(file.0),
                index as u64 + 1,
                FileType::RegularFile,
                file.1,
            ) {
                break;
            }
        }
        reply.ok();
    }

    fn access(&self, _request: &Request, _inode: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }
}
