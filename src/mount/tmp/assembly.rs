//! Where there is no overlay of all of a directory: one that is put together from its entries. Done by the child: system
//! calls only, no allocation.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, Gid, Mode, OFlags, ResolveFlags, Statx, StatxTimestamp, Timespec, Timestamps,
    Uid, accessat, chmodat, chownat, mkdirat, openat2, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::Shown;
use super::child::{
    below, bind, each_entry, mount_overlay, open, show_entry, show_inner, status, take_over,
};
use super::view::{View, granted};
use crate::mount::privately::DataBuffer;

/// How many entries a directory may have to be put together from them.
const MOST_ENTRIES: usize = 512;
/// How many directories in one of these get an overlay of their own.
const MOST_OVERLAYS: u32 = 64;

/// A new directory with everything in it that there was.
pub(super) fn assemble(
    view: &View,
    lower: &OwnedFd,
    tmpfs: &OwnedFd,
    user: bool,
) -> Result<Shown, Errno> {
    is_short(lower)?;
    bind(tmpfs, &view.upper, &view.path, view.flags)?;
    let top = open(&view.path, OFlags::PATH)?;
    let mut assembly = Assembly {
        view,
        tmpfs,
        user,
        overlays: MOST_OVERLAYS,
        made: 0,
    };
    assembly.directory(c"", lower, &top)?;
    show_inner(view, view.mounts, lower, &top);
    Ok(Shown::InPart)
}

/// Fails for a directory with more entries than are bound one by one.
fn is_short(directory: &OwnedFd) -> Result<(), Errno> {
    let mut count = 0;
    each_entry(directory, |_| count += 1)?;
    match count > MOST_ENTRIES {
        true => Err(Errno::TOOBIG),
        false => Ok(()),
    }
}

/// A view that is put together from the entries of its directory.
struct Assembly<'p> {
    view: &'p View,
    tmpfs: &'p OwnedFd,
    user: bool,
    /// So many more may be made.
    overlays: u32,
    made: u32,
}

impl<'p> Assembly<'p> {
    /// All entries of a directory on the way to a mount, or of the view itself: first such directories, then overlays of
    /// others, of those before all in which the user may write, and then everything else, read-only.
    fn directory(&mut self, way: &CStr, from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
        each_entry(from, |name| {
            // It may have gone.
            let _ = self.on_the_way(way, from, to, name);
        })?;
        for access in [Access::WRITE_OK, Access::EXEC_OK] {
            each_entry(from, |name| {
                if self.overlays > 0 && !self.is_mount(way, name) {
                    let _ = self.overlay([way, name], from, to, access);
                }
            })?;
        }
        each_entry(from, |name| {
            let _ = show_entry(from, to, name);
        })
    }

    fn is_mount(&self, directory: &CStr, name: &CStr) -> bool {
        let mut mounts = self.view.inner.iter().take(self.view.mounts);
        mounts.any(|it| below(it, directory) == Some(name))
    }

    /// Makes a directory anew in which mounts lie.
    fn on_the_way(
        &mut self,
        above: &CStr,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
    ) -> Result<(), Errno> {
        let view: &'p View = self.view;
        let mut ways = view.ways.iter();
        let way = ways
            .find(|it| below(it, above) == Some(name))
            .ok_or(Errno::NOENT)?;
        let lower = open_unmounted(from, name, OFlags::RDONLY)?;
        is_short(&lower)?;
        let found = status(from, name)?;
        mkdirat(to, name, Mode::RWXU)?;
        let inside = open_unmounted(to, name, OFlags::PATH)?;
        self.directory(way, &lower, &inside)?;
        self.make_like(&found, &lower, (to, name))
    }

    /// An overlay of a directory to which the user has access.
    fn overlay(
        &mut self,
        at: [&CStr; 2],
        from: &OwnedFd,
        to: &OwnedFd,
        access: Access,
    ) -> Result<(), Errno> {
        /// As if so many had been made, since each refusal takes long and the next is likely.
        const REFUSAL: u32 = 16;
        let name = at[1];
        let lower = open_unmounted(from, name, OFlags::PATH)?;
        let found = status(from, name)?;
        may(&lower, access)?;
        mkdirat(to, name, Mode::RWXU)?;
        self.made += 1;
        match self.mount_overlay(&found, at, &lower, to) {
            Ok(()) => {
                self.overlays -= 1;
                Ok(())
            }
            Err(errno) => {
                self.overlays = self.overlays.saturating_sub(REFUSAL);
                unlinkat(to, name, AtFlags::REMOVEDIR)?;
                Err(errno)
            }
        }
    }

    fn mount_overlay(
        &self,
        found: &Statx,
        at: [&CStr; 2],
        lower: &OwnedFd,
        to: &OwnedFd,
    ) -> Result<(), Errno> {
        let index = &self.view.upper.to_bytes()[b"upper".len()..];
        let own = |kind: &[u8]| {
            let mut text = DataBuffer::new();
            text.push(index);
            text.push(kind);
            text.push_number(self.made);
            text
        };
        let (upper, work) = (own(b"-upper"), own(b"-work"));
        let upper = upper.as_c_str().ok_or(Errno::TOOBIG)?;
        let work = work.as_c_str().ok_or(Errno::TOOBIG)?;
        mkdirat(self.tmpfs, upper, Mode::RWXU)?;
        mkdirat(self.tmpfs, work, Mode::RWXU)?;
        take_over(self.view, at, self.tmpfs, upper)?;
        self.make_like(found, lower, (self.tmpfs, upper))?;
        let mut place = DataBuffer::new();
        place.push(b"/proc/self/fd/");
        place.push_number(to.as_raw_fd().unsigned_abs());
        place.push(b"/");
        place.push(at[1].to_bytes());
        let place = place.as_c_str().ok_or(Errno::NAMETOOLONG)?;
        let place = (place, self.view.flags);
        mount_overlay(lower, self.tmpfs, [upper, work], place, self.user)
    }

    /// Gives what was made the owner, as far as it can have that, the mode and the times of a directory.
    fn make_like(
        &self,
        found: &Statx,
        lower: &OwnedFd,
        (directory, made): (&OwnedFd, &CStr),
    ) -> Result<(), Errno> {
        let mut mode = Mode::from_raw_mode((found.stx_mode & 0o7777).into());
        if !self.user {
            // SAFETY: neither is -1, which is no owner of a file.
            let (uid, gid) = (Uid::from_raw(found.stx_uid), Gid::from_raw(found.stx_gid));
            chownat(directory, made, Some(uid), Some(gid), AtFlags::empty())?;
        } else if found.stx_uid != geteuid().as_raw() {
            mode = granted(mode, |access| may(lower, access).is_ok());
        }
        chmodat(directory, made, mode, AtFlags::empty())?;
        let time = |it: StatxTimestamp| Timespec {
            tv_sec: it.tv_sec,
            tv_nsec: it.tv_nsec.into(),
        };
        let times = Timestamps {
            last_access: time(found.stx_atime),
            last_modification: time(found.stx_mtime),
        };
        utimensat(directory, made, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A directory on which nothing is mounted, since that need not answer.
fn open_unmounted(directory: &OwnedFd, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(directory, name, flags, Mode::empty(), resolve)
}

fn may(directory: &OwnedFd, access: Access) -> Result<(), Errno> {
    accessat(directory, c".", access, AtFlags::EACCESS)
}
