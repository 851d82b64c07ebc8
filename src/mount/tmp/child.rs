//! What the child does that makes the directories: system calls only, no allocation.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, Statx, StatxFlags, chownat, mkdirat,
    mknodat, openat, readlinkat_raw, statx, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::assembly::assemble;
use super::view::{TakenOver, View};
use super::{Made, Plan, QUEUES, Shown};
use crate::mount::privately::{DataBuffer, is_empty};

/// The child's work, in a new mount namespace: system calls only, no allocation. What is refused is left out.
pub(in crate::mount) fn build(plan: &Plan, at: &CStr, has_ipc: bool, made: &mut Made) {
    // Of this process alone: it does not share CLONE_FS.
    rustix::process::umask(Mode::empty());
    // Before anything is mounted upon them.
    for (view, lower) in plan.views.iter().zip(&mut made.lowers) {
        *lower = open(&view.path, OFlags::RDONLY | OFlags::NONBLOCK)
            .or_else(|_| open(&view.path, OFlags::PATH))
            .ok();
    }
    let tmpfs = match new_tmpfs(plan, at) {
        Ok(tmpfs) => &*made.tmpfs.insert(tmpfs),
        Err(errno) => {
            made.refused = Some(errno);
            return;
        }
    };
    if let Some(path) = &plan.shared_memory {
        made.shared_memory = shared_memory(plan, tmpfs, path).is_ok();
    }
    for (index, (view, lower)) in plan.views.iter().zip(&made.lowers).enumerate() {
        let around = view.within.and_then(|it| made.views.get(it)).copied();
        let result = match (around, lower) {
            (Some(Ok(Shown::Whole)), _) => Ok(Shown::Whole),
            (_, Some(lower)) => cover(view, lower, tmpfs, plan.user_namespace),
            (_, None) => Err(Errno::ACCESS),
        };
        if let Some(place) = made.views.get_mut(index) {
            *place = result;
        }
    }
    if !has_ipc {
        return;
    }
    if plan.has_queues {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // Without it, mq_open(3) works all the same.
        let _ = mount(c"mqueue", QUEUES, c"mqueue", flags, None);
    }
    // Of the IPC namespace. An ordinary user may not.
    let _ = write(c"/proc/sys/kernel/shmall", &plan.shared_pages);
}

pub(super) fn open(path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        path,
        flags | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn write(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.to_bytes()).map(drop)
}

fn new_tmpfs(plan: &Plan, at: &CStr) -> Result<OwnedFd, Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"notapipe", at, c"tmpfs", flags, Some(&*plan.data))?;
    open(at, OFlags::PATH)
}

/// A new `/dev/shm`: an overlay would hand out the semaphores and the memory of others.
fn shared_memory(plan: &Plan, tmpfs: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    let is_viewed = |view: &View| view.path.as_c_str() == path;
    if plan.views.iter().any(is_viewed) {
        return Ok(());
    }
    mkdirat(tmpfs, c"shm", Mode::from_raw_mode(0o1777))?;
    for view in &plan.views {
        if let Some(name) = &view.in_shared_memory {
            let directory = openat(tmpfs, c"shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            mkdirat(&directory, name, Mode::RWXU)?;
        }
    }
    bind(tmpfs, c"shm", path, MountFlags::empty())
}

fn cover(view: &View, lower: &OwnedFd, tmpfs: &OwnedFd, user: bool) -> Result<Shown, Errno> {
    mkdirat(tmpfs, &view.upper, view.mode)?;
    if let Some((uid, gid)) = view.owner {
        chownat(tmpfs, &view.upper, Some(uid), Some(gid), AtFlags::empty())?;
    }
    if view.inner.is_empty() && is_empty(lower) {
        bind(tmpfs, &view.upper, &view.path, view.flags)?;
        return Ok(Shown::Whole);
    }
    // The refusal would take a millisecond.
    if user && view.mounts > 0 {
        return assemble(view, lower, tmpfs, user);
    }
    match overlay(view, lower, tmpfs, user) {
        Ok(()) if view.mounts > 0 => Ok(Shown::InPart),
        Ok(()) => Ok(Shown::Whole),
        // A mount may have been made in it meanwhile.
        Err(_) => assemble(view, lower, tmpfs, user),
    }
}

/// Has a directory of the tmpfs stand at `path`.
pub(super) fn bind(
    tmpfs: &OwnedFd,
    name: &CStr,
    path: &CStr,
    flags: MountFlags,
) -> Result<(), Errno> {
    let tree = clone_mount(tmpfs, name)?;
    if flags.contains(MountFlags::NOEXEC) {
        set_attributes(&tree, libc::MOUNT_ATTR_NOEXEC)?;
    }
    move_mount(
        &tree,
        c"",
        CWD,
        path,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

fn clone_mount(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    open_tree(directory, name, flags)
}

fn overlay(view: &View, lower: &OwnedFd, tmpfs: &OwnedFd, user: bool) -> Result<(), Errno> {
    mkdirat(tmpfs, &view.work, Mode::RWXU)?;
    let everywhere = [c""; 2];
    take_over(view, everywhere, tmpfs, &view.upper)?;
    let (layers, place) = ([&*view.upper, &view.work], (&*view.path, view.flags));
    mount_overlay(lower, tmpfs, layers, place, user).inspect_err(|_| {
        // They would be in the way of what is made there instead.
        if let Ok(upper) = openat(
            tmpfs,
            &view.upper,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            for (_, path) in taken_over(view, everywhere).rev() {
                let _ = unlinkat(&upper, path, AtFlags::REMOVEDIR);
            }
        }
    })?;
    if view.inner.is_empty() {
        return Ok(());
    }
    let top = open(&view.path, OFlags::PATH)?;
    show_inner(view, 0, lower, &top);
    Ok(())
}

/// The directories that are taken over in one that has this name in a directory on the way, and their paths in it; all of
/// them where both are empty.
pub(super) fn taken_over<'p>(
    view: &'p View,
    [way, name]: [&CStr; 2],
) -> impl DoubleEndedIterator<Item = (&'p TakenOver, &'p CStr)> {
    let directories = view.taken_over.iter();
    directories.filter_map(move |it| Some((it, below(below(&it.path, way)?, name)?)))
}

/// Makes them in the upper layer of an overlay that stands there.
pub(super) fn take_over(
    view: &View,
    at: [&CStr; 2],
    tmpfs: &OwnedFd,
    upper: &CStr,
) -> Result<(), Errno> {
    let upper = openat(tmpfs, upper, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    for (directory, path) in taken_over(view, at) {
        mkdirat(&upper, path, directory.mode)?;
    }
    // Each was changed by those made in it.
    for (directory, path) in taken_over(view, at) {
        utimensat(&upper, path, &directory.times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// What is left of a path in a directory, both relative to one, which an empty path means.
pub(super) fn below<'p>(path: &'p CStr, directory: &CStr) -> Option<&'p CStr> {
    if directory.is_empty() {
        return Some(path);
    }
    let rest = path
        .to_bytes_with_nul()
        .strip_prefix(directory.to_bytes())?;
    CStr::from_bytes_with_nul(rest.strip_prefix(b"/")?).ok()
}

pub(super) fn mount_overlay(
    lower: &OwnedFd,
    tmpfs: &OwnedFd,
    [upper, work]: [&CStr; 2],
    (at, flags): (&CStr, MountFlags),
    user: bool,
) -> Result<(), Errno> {
    let mut data = DataBuffer::new();
    let mut push = |key: &[u8], directory: &OwnedFd, name: &CStr| {
        data.push(key);
        data.push_number(directory.as_raw_fd().unsigned_abs());
        data.push(b"/");
        data.push(name.to_bytes());
    };
    // By number: no name in it needs to be escaped.
    push(b"lowerdir=/proc/self/fd/", lower, c"");
    push(b",upperdir=/proc/self/fd/", tmpfs, upper);
    push(b",workdir=/proc/self/fd/", tmpfs, work);
    data.push(b",xino=auto,index=off,metacopy=off");
    data.push(if user {
        b",userxattr"
    } else {
        b",redirect_dir=on"
    });
    let data = data.as_c_str().ok_or(Errno::TOOBIG)?;
    mount(c"notapipe", at, c"overlay", flags, Some(data))
}

/// Shows what an overlay does not, from the first of them on.
pub(super) fn show_inner(view: &View, first: usize, lower: &OwnedFd, top: &OwnedFd) {
    for (index, inner) in view.inner.iter().enumerate().skip(first) {
        // It may have gone.
        let _ = clone_mount(lower, inner).and_then(|tree| {
            if index < view.mounts {
                set_attributes(&tree, libc::MOUNT_ATTR_RDONLY)?;
            }
            place(&tree, top, inner)
        });
    }
}

fn place(tree: &OwnedFd, directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    move_mount(
        tree,
        c"",
        directory,
        name,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

/// As the kernel knows it: what is mounted there need not answer.
pub(super) fn status(directory: &OwnedFd, name: &CStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

pub(super) fn each_entry(directory: &OwnedFd, mut visit: impl FnMut(&CStr)) -> Result<(), Errno> {
    rustix::fs::seek(directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            visit(entry.file_name());
        }
    }
    Ok(())
}

pub(super) fn show_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match FileType::from_raw_mode(status(from, name)?.stx_mode.into()) {
        FileType::Symlink => {
            let mut target = [0_u8; libc::PATH_MAX as usize];
            let length = readlinkat_raw(from, name, &mut target[..libc::PATH_MAX as usize - 1])?;
            debug_assert!(length < target.len());
            let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::NAMETOOLONG)?;
            return symlinkat(target, to, name);
        }
        FileType::Directory => mkdirat(to, name, Mode::RWXU)?,
        _ => mknodat(to, name, FileType::RegularFile, Mode::RUSR, 0)?,
    }
    let shown = clone_mount(from, name).and_then(|tree| {
        set_attributes(&tree, libc::MOUNT_ATTR_RDONLY)?;
        place(&tree, to, name)
    });
    shown.inspect_err(|_| {
        let _ = unlinkat(to, name, AtFlags::empty());
        let _ = unlinkat(to, name, AtFlags::REMOVEDIR);
    })
}

/// mount_setattr(2), also of the mounts in it.
fn set_attributes(mount: &OwnedFd, set: u64) -> Result<(), Errno> {
    /// `struct mount_attr` (include/uapi/linux/mount.h).
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes {
        set,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the structure and its size, and an empty path, which live as long as the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
