//! Owner, mode, times and extended attributes of what is written to the host: given by descriptor, before it has a name.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::stage::{LeftBehind, Lost, attribute, attribute_names};
use crate::store::{Attr, Kind, Timestamp, Tree};

/// Bits of a mode that let others act as the owner or the group.
const SET_ID: u32 = 0o6000;

/// What of a tree's attributes the host gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Keep {
    /// Permissions and modification time: a tool must not choose who owns a file, or as whom it runs.
    #[default]
    Permissions,
    /// All that we may give: it was there before, or is what the user made of it.
    All,
}

impl Keep {
    /// A file that is complete, or a directory that is filled. What is replaced gives its owner where the tree does not.
    pub(super) fn finish(
        self,
        (tree, attr): (&Tree, &Attr),
        opened: impl AsFd,
        replaced: Option<&Stat>,
        lost: &mut LeftBehind,
    ) -> io::Result<()> {
        let mut mode = attr.mode;
        match self {
            Self::Permissions => {
                if let Some(old) = replaced {
                    keep_owner(&opened, old);
                }
                self.tell(tree, attr, lost);
                mode &= 0o777;
            }
            Self::All => {
                if !give_owner(&opened, attr) {
                    lost.add_lost(Lost::Owner);
                    if mode & SET_ID != 0 {
                        lost.add_lost(Lost::SetId);
                        mode &= !SET_ID;
                    }
                }
                give_attributes(tree, attr, &opened, lost)?;
            }
        }
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
        // A user who is not in the group cannot give this bit, and is not told.
        if mode & SET_ID != 0 && rustix::fs::fstat(&opened)?.st_mode & SET_ID != mode & SET_ID {
            lost.add_lost(Lost::SetId);
        }
        Ok(rustix::fs::futimens(&opened, &times(attr.mtime))?)
    }

    /// A symlink, which has neither mode nor attributes of a user's.
    pub(super) fn finish_link(
        self,
        attr: &Attr,
        opened: impl AsFd,
        lost: &mut LeftBehind,
    ) -> io::Result<()> {
        if self == Self::All && !give_owner(&opened, attr) {
            lost.add_lost(Lost::Owner);
        }
        match rustix::fs::utimensat(&opened, "", &times(attr.mtime), AtFlags::EMPTY_PATH) {
            // Some file systems keep no time on a symlink, some kernels give it none by descriptor.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts what a job's output does not keep.
    fn tell(self, tree: &Tree, attr: &Attr, lost: &mut LeftBehind) {
        if attr.kind == Kind::File && attr.mode & SET_ID != 0 {
            lost.add_lost(Lost::SetId);
        }
        let names = tree.xattr_names(attr.ino).into_iter().flatten();
        lost.add_lost_attributes(names);
    }
}

/// Root's run must not take a user's file away from them.
pub(super) fn keep_owner(opened: impl AsFd, replaced: &Stat) {
    if rustix::process::geteuid().is_root() {
        // Where this is refused (an id that is not mapped), the file is root's, as any new file.
        let (uid, gid) = (
            Uid::from_raw(replaced.st_uid),
            Gid::from_raw(replaced.st_gid),
        );
        let _ = rustix::fs::fchown(opened, Some(uid), Some(gid));
    }
}

/// Whether it has the owner and the group of the tree now.
fn give_owner(opened: impl AsFd, attr: &Attr) -> bool {
    let Ok(is) = rustix::fs::fstat(&opened) else {
        return false;
    };
    let (uid, gid) = (Uid::from_raw(attr.uid), Gid::from_raw(attr.gid));
    let (uid, gid) = (
        (is.st_uid != attr.uid).then_some(uid),
        (is.st_gid != attr.gid).then_some(gid),
    );
    if uid.is_none() && gid.is_none() {
        return true;
    }
    // By this call also where the descriptor is a symlink's.
    let given = rustix::fs::chownat(&opened, "", uid, gid, AtFlags::EMPTY_PATH);
    given.is_ok()
}

fn give_attributes(
    tree: &Tree,
    attr: &Attr,
    opened: impl AsFd,
    lost: &mut LeftBehind,
) -> io::Result<()> {
    let names = tree.xattr_names(attr.ino).into_iter().flatten();
    let mut refused: Vec<&[u8]> = Vec::new();
    for name in names {
        let Ok(value) = tree.xattr(attr.ino, name) else {
            continue;
        };
        match rustix::fs::fsetxattr(&opened, name, value, XattrFlags::empty()) {
            Ok(()) => {}
            // A full disk fails the whole, as it does for content.
            Err(error @ (Errno::DQUOT | Errno::IO)) => return Err(error.into()),
            Err(_) => refused.push(name),
        }
    }
    lost.add_lost_attributes(refused);
    Ok(())
}

/// Gives a directory all attributes of another one that it takes the place of.
pub(super) fn copy_attributes(opened: impl AsFd, old: impl AsFd) -> io::Result<()> {
    let stat = rustix::fs::fstat(&old)?;
    keep_owner(&opened, &stat);
    for name in attribute_names(&old) {
        if let Ok(value) = attribute(&old, &name) {
            // It is of the same file system; what may not be set is no reason to lose what is to be saved.
            let _ = rustix::fs::fsetxattr(&opened, &*name, &value, XattrFlags::empty());
        }
    }
    Ok(rustix::fs::fchmod(
        &opened,
        Mode::from_raw_mode(stat.st_mode & 0o7777),
    )?)
}

pub(super) fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}
