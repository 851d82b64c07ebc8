//! fcntl(2), open file description and flock(2) locks.

use rustix::fs::{FlockOperation, flock};

use crate::harness::*;

cases! {
    Anyone: record_locks_between_processes, record_locks_split_and_join, closing_drops_record_locks,
        open_file_description_locks, flock_between_processes, flock_belongs_to_the_open_file, waiting_for_a_lock,
        a_lock_ends_with_its_process, deadlocks_are_found, locks_need_the_right_mode, lockf_from_an_offset,
        locks_on_a_directory, leases;
}

const READ: i16 = libc::F_RDLCK as i16;
const WRITE: i16 = libc::F_WRLCK as i16;
const UNLOCK: i16 = libc::F_UNLCK as i16;

/// Locks `start..start + len`; the result, with what lock stands in the way for `F_GETLK`.
fn lock(file: &Fd, command: i32, kind: i16, start: i64, len: i64) -> Result<String> {
    let mut wanted = libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: the struct is what these commands take, and outlives the call.
    let result =
        unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(file), command, &mut wanted) };
    if result == -1 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(rustix::io::Errno::from_raw_os_error(errno));
    }
    // The process is told by its kind of number only: the numbers differ.
    let held_by = wanted.l_pid.signum();
    Ok(match command {
        libc::F_GETLK | libc::F_OFD_GETLK => {
            format!(
                "type {} {}+{} of {held_by}",
                wanted.l_type, wanted.l_start, wanted.l_len
            )
        }
        _ => "locked".to_owned(),
    })
}

fn record_locks_between_processes() {
    make("f", vec![b'x'; 100]);
    let file = reopen("f");
    see!(lock(&file, libc::F_SETLK, WRITE, 10, 20));
    see!(lock(&file, libc::F_SETLK, READ, 50, 10));
    in_child(|| {
        let own = reopen("f");
        for (start, len) in [
            (0, 10),
            (0, 11),
            (29, 1),
            (30, 20),
            (50, 1),
            (60, 0),
            (0, 0),
        ] {
            see!(
                format!("{start}+{len} read"),
                lock(&own, libc::F_SETLK, READ, start, len)
            );
            see!(
                format!("{start}+{len} write"),
                lock(&own, libc::F_SETLK, WRITE, start, len)
            );
            see!(
                format!("{start}+{len} ask"),
                lock(&own, libc::F_GETLK, WRITE, start, len)
            );
            see!(lock(&own, libc::F_SETLK, UNLOCK, 0, 0));
        }
    });
    see!(lock(&file, libc::F_SETLK, UNLOCK, 15, 5));
    in_child(|| {
        let own = reopen("f");
        see!(lock(&own, libc::F_SETLK, WRITE, 15, 5));
        see!(lock(&own, libc::F_GETLK, WRITE, 20, 5));
    });
}

fn record_locks_split_and_join() {
    make("f", "");
    let file = reopen("f");
    see!(lock(&file, libc::F_SETLK, WRITE, 0, 100));
    see!(lock(&file, libc::F_SETLK, READ, 40, 20));
    in_child(|| {
        let own = reopen("f");
        see!(lock(&own, libc::F_SETLK, READ, 40, 20));
        see!(lock(&own, libc::F_GETLK, READ, 0, 0));
        see!(lock(&own, libc::F_GETLK, READ, 50, 0));
    });
    see!(lock(&file, libc::F_SETLK, WRITE, 0, 0));
    in_child(|| {
        see!(lock(&reopen("f"), libc::F_GETLK, READ, 1 << 40, 1));
    });
}

fn closing_drops_record_locks() {
    make("f", "");
    let file = reopen("f");
    see!(lock(&file, libc::F_SETLK, WRITE, 0, 0));
    // Any descriptor of the file: the trap of these locks.
    drop(reopen("f"));
    in_child(|| {
        see!(lock(&reopen("f"), libc::F_GETLK, WRITE, 0, 0));
    });
}

fn open_file_description_locks() {
    make("f", "");
    let (a, b) = (reopen("f"), reopen("f"));
    see!(lock(&a, libc::F_OFD_SETLK, WRITE, 0, 10));
    see!(lock(&b, libc::F_OFD_SETLK, WRITE, 5, 10));
    see!(lock(&b, libc::F_OFD_GETLK, WRITE, 5, 10));
    see!(lock(&b, libc::F_OFD_SETLK, WRITE, 10, 10));
    drop(reopen("f"));
    in_child(|| {
        see!("inherited", lock(&a, libc::F_OFD_SETLK, READ, 0, 10));
        see!(
            "by its own",
            lock(&reopen("f"), libc::F_OFD_SETLK, WRITE, 0, 5)
        );
        see!(
            "the other kind",
            lock(&reopen("f"), libc::F_SETLK, WRITE, 10, 5)
        );
    });
    drop(a);
    see!(lock(&b, libc::F_OFD_SETLK, WRITE, 0, 20));
}

fn flock_between_processes() {
    make("f", "");
    let file = reopen("f");
    see!(flock(&file, FlockOperation::LockExclusive));
    in_child(|| {
        let own = reopen("f");
        see!(flock(&own, FlockOperation::NonBlockingLockExclusive));
        see!(flock(&own, FlockOperation::NonBlockingLockShared));
        see!(
            "not in the way of the other kind",
            lock(&own, libc::F_SETLK, WRITE, 0, 0)
        );
    });
    see!(flock(&file, FlockOperation::LockShared));
    in_child(|| {
        let own = reopen("f");
        see!(flock(&own, FlockOperation::NonBlockingLockShared));
        see!(flock(&own, FlockOperation::NonBlockingLockExclusive));
    });
    see!(flock(&file, FlockOperation::Unlock));
    in_child(|| {
        see!(flock(reopen("f"), FlockOperation::NonBlockingLockExclusive));
    });
}

fn flock_belongs_to_the_open_file() {
    make("f", "");
    let (a, b) = (reopen("f"), reopen("f"));
    see!(flock(&a, FlockOperation::LockExclusive));
    see!(flock(&b, FlockOperation::NonBlockingLockShared));
    let twin = rustix::io::dup(&a).unwrap();
    see!(flock(&twin, FlockOperation::NonBlockingLockExclusive));
    drop(a);
    see!(flock(&b, FlockOperation::NonBlockingLockShared));
    see!(unlink("f"));
    make("f", "");
    see!(flock(reopen("f"), FlockOperation::NonBlockingLockExclusive));
    drop(twin);
    see!(flock(&b, FlockOperation::NonBlockingLockExclusive));
}

fn waiting_for_a_lock() {
    make("f", "");
    let file = reopen("f");
    see!(lock(&file, libc::F_SETLK, WRITE, 0, 0));
    let child = fork(|| {
        // Waits until the parent lets go, and then sees what the parent wrote.
        let own = reopen("f");
        lock(&own, libc::F_SETLKW, WRITE, 0, 0).unwrap();
        see!("the child has it", contents("f"));
    });
    write(&file, "before it let go").unwrap();
    lock(&file, libc::F_SETLK, UNLOCK, 0, 0).unwrap();
    wait_for(child);
    let held = reopen("f");
    see!(flock(&held, FlockOperation::LockExclusive));
    let child = fork(|| {
        let own = reopen("f");
        flock(&own, FlockOperation::LockShared).unwrap();
        see!("the child has it", contents("f"));
    });
    pwrite(&held, "BEFORE", 0).unwrap();
    flock(&held, FlockOperation::Unlock).unwrap();
    wait_for(child);
}

fn a_lock_ends_with_its_process() {
    make("f", "");
    in_child(|| {
        let own = reopen("f");
        lock(&own, libc::F_SETLK, WRITE, 0, 0).unwrap();
        flock(&own, FlockOperation::LockExclusive).unwrap();
        std::mem::forget(own);
    });
    let file = reopen("f");
    see!(lock(&file, libc::F_SETLK, WRITE, 0, 0));
    see!(flock(&file, FlockOperation::NonBlockingLockExclusive));
}

fn deadlocks_are_found() {
    make("f", "");
    let file = reopen("f");
    lock(&file, libc::F_SETLK, WRITE, 0, 1).unwrap();
    let (to_child, to_parent) = (PipeSignal::new(), PipeSignal::new());
    let child = fork(|| {
        let own = reopen("f");
        lock(&own, libc::F_SETLK, WRITE, 1, 1).unwrap();
        to_parent.send();
        to_child.wait();
        // One of the two is refused, whichever comes second.
        let got = lock(&own, libc::F_SETLKW, WRITE, 0, 1);
        assert!(
            matches!(got, Ok(_) | Err(rustix::io::Errno::DEADLK)),
            "{got:?}"
        );
    });
    to_parent.wait();
    to_child.send();
    let got = lock(&file, libc::F_SETLKW, WRITE, 1, 1);
    see!(
        "refused or granted",
        matches!(got, Ok(_) | Err(rustix::io::Errno::DEADLK))
    );
    see!(lock(&file, libc::F_SETLK, UNLOCK, 0, 0));
    wait_for(child);
}

fn locks_need_the_right_mode() {
    make("f", "");
    let reader = open("f", O::RDONLY, 0).unwrap();
    let writer = open("f", O::WRONLY, 0).unwrap();
    see!(lock(&reader, libc::F_SETLK, WRITE, 0, 0));
    see!(lock(&writer, libc::F_SETLK, READ, 0, 0));
    see!(lock(&reader, libc::F_SETLK, READ, 0, 0));
    see!(flock(&reader, FlockOperation::NonBlockingLockExclusive));
    see!(lock(&writer, libc::F_SETLK, WRITE, -1, 1));
    see!(lock(&writer, libc::F_SETLK, WRITE, 10, -5));
    see!(lock(&writer, libc::F_SETLK, WRITE, i64::MAX, 2));
    see!(lock(&writer, libc::F_SETLK, 17, 0, 0));
}

fn lockf_from_an_offset() {
    make("f", vec![b'x'; 100]);
    let file = reopen("f");
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    see!(seek(&file, 50, libc::SEEK_SET));
    // SAFETY: numbers only.
    see!("lockf", unsafe { libc::lockf(number, libc::F_TLOCK, 10) });
    in_child(|| {
        see!(lock(&reopen("f"), libc::F_GETLK, WRITE, 0, 0));
    });
}

fn locks_on_a_directory() {
    mkdir("d", 0o755).unwrap();
    let directory = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    see!(flock(&directory, FlockOperation::NonBlockingLockExclusive));
    in_child(|| {
        see!(flock(
            open("d", O::RDONLY, 0).unwrap(),
            FlockOperation::NonBlockingLockExclusive
        ));
    });
    see!(lock(&directory, libc::F_SETLK, READ, 0, 0));
}

fn leases() {
    make("f", "");
    let file = open("f", O::RDONLY, 0).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: numbers only.
    see!("a lease", unsafe {
        libc::fcntl(number, libc::F_SETLEASE, libc::F_RDLCK)
    });
    // SAFETY: as above.
    see!("which", unsafe { libc::fcntl(number, libc::F_GETLEASE) });
}
