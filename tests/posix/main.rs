//! A tool cannot tell the mount from tmpfs.
//!
//! Every case is a sequence of system calls that writes down what it saw: results, errnos, attributes,
//! contents, listings. It is performed in a directory of a real mount and in one on tmpfs, and the two
//! accounts must be the same text. Nothing is expected by hand, so that a case cannot be wrong about
//! Linux. What differs by nature stands in one place, [`harness::differences`].
//!
//! One file per operation. Each case runs through every setting by which a tool can meet the file system:
//!
//! | setting | the mount | the case |
//! | --- | --- | --- |
//! | `root` | `notapipe mount --allow-other` of root's | as root, on some cases also as two other users |
//! | `guest` | the same | as an ordinary user, in another user's mount |
//! | `user` | `notapipe mount` of an ordinary user's | as that user |
//! | `run_root` | `notapipe run` of root's: private, without the kernel's permission checks | as root |
//! | `run_user` | `notapipe run` of an ordinary user's: in a user namespace | as that user |
//!
//! Run as an ordinary user, only that user's two settings exist.
//!
//! A case is performed by a process of its own (this binary with `--perform SIDE CASE DIR`): it may change its
//! directory, its umask and its user, may fork, and when it hangs it is ended and named.
//!
//! ```sh
//! cargo test --test posix                    # all
//! cargo test --test posix rename             # one operation, through all settings
//! cargo test --test posix root::rename       # through one setting
//! NOTAPIPE_PROFILE=observed cargo test --test posix  # with every open and close seen
//! ```

#[macro_use]
mod harness;

mod access;
mod allocate;
mod append;
mod attributes;
mod copy;
mod device;
mod directory;
mod execute;
mod fifo;
mod holes;
mod link;
mod listing;
mod locks;
mod map;
mod names;
mod open;
mod ownership;
mod random;
mod read_write;
mod rename;
mod set_id;
mod socket;
mod space;
mod symlink;
mod times;
mod truncate;
mod unlink;
mod xattr;

use std::process::ExitCode;

use harness::Case;

fn cases() -> Vec<Case> {
    [
        access::cases(),
        allocate::cases(),
        append::cases(),
        attributes::cases(),
        copy::cases(),
        device::cases(),
        directory::cases(),
        execute::cases(),
        fifo::cases(),
        holes::cases(),
        link::cases(),
        listing::cases(),
        locks::cases(),
        map::cases(),
        names::cases(),
        open::cases(),
        ownership::cases(),
        random::cases(),
        read_write::cases(),
        rename::cases(),
        set_id::cases(),
        socket::cases(),
        space::cases(),
        symlink::cases(),
        times::cases(),
        truncate::cases(),
        unlink::cases(),
        xattr::cases(),
    ]
    .concat()
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [flag, side, case, dir] if flag == harness::PERFORM => {
            harness::perform(&cases(), side, case, dir)
        }
        _ => harness::run_all(cases()),
    }
}
