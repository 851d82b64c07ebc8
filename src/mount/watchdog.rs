//! Removing a public mount when this process is killed: a shell that waits for its end.
//!
//! It reads lines from a pipe whose other end only we hold (and `fusermount3` while it mounts, so
//! that there is no moment in which a mount may appear unwatched). `done` ends it; end of file
//! means that we are dead, and it removes our mount, that one and no later one at its path,
//! and the directory if it was ours. It has a session of its own, blocks all signals and holds
//! nothing of ours, so that neither Ctrl-C nor a closed terminal ends it before us.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{SendFlags, SocketType};

use super::target::MountId;
use crate::sys::child::Child;
use crate::sys::launch::{Candidate, Launch, LaunchError};
use crate::sys::signals::InheritedSignals;
use crate::sys::{mountinfo, null, socket};

/// `$1` the path, `$2` the path as mountinfo shows it, `$3` "own" when the directory is ours, "all" when what is in it is too,
/// `$4` fusermount3 or nothing for umount(8), `$5` the mount that stood there before.
///
/// Once it has been told which mount is ours, it finds that wherever it stands by then: a directory above may have been
/// renamed. Before, it takes one of our type at the path that was not there before.
const SCRIPT: &str = r#"
given=$1 path=$1 shown=$2 own=$3 helper=$4 before=$5 ours=
while read -r word value; do
    case $word in
        mounted) ours=$value ;;
        done) exit 0 ;;
    esac
done
present() {
    top= listed= at=
    while read -r id parent device root point rest; do
        if [ -n "$ours" ]; then
            [ "$id $device" = "$ours" ] && listed=$id at=$point
        elif [ "$point" = "$shown" ] && [ "$id" != "$before" ]; then
            case $rest in *" - fuse.notapipe "*) listed=$id at=$point ;; esac
        fi
    done </proc/self/mountinfo
    [ -n "$listed" ] || return
    while read -r id parent device root point rest; do
        [ "$point" = "$at" ] && top=$id
    done </proc/self/mountinfo
    path=$given
    [ "$at" = "$shown" ] && return
    # The kernel shows a space as \040; printf takes up to three digits after \0.
    plain=
    while :; do
        case $at in
            *\\*) plain=$plain${at%%\\*}'\0'; at=${at#*\\} ;;
            *) break ;;
        esac
    done
    path=$(printf '%bx' "$plain$at")
    path=${path%x}
}
tries=0
while present && [ "$tries" -lt 60 ]; do
    if [ "$listed" = "$top" ]; then
        if [ -n "$helper" ]; then
            "$helper" -u -z -q -- "$path"
        else
            umount -l -- "$path" || umount -l "$path"
        fi
        present || break
    fi
    tries=$((tries + 1))
    sleep 1
done
case $own in
    own) rmdir -- "$path" ;;
    # Processes of the job may write until they are gone too, and a tool may have closed directories.
    all)
        while [ -e "$path" ] && [ "$tries" -lt 60 ]; do
            rm -rf -- "$path" && break
            chmod -R u+rwX -- "$path"
            tries=$((tries + 1))
            sleep 1
        done
        ;;
esac
"#;

/// Without it there is no watchdog.
pub(super) const SHELL: &CStr = c"/bin/sh";

/// What the shell finds its few programs by.
const SEARCH_PATH: &CStr = c"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin";

/// What is to be removed besides the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlsoRemove {
    Nothing,
    /// The directory under it, which was made for it.
    Directory,
    /// A directory without a mount, with all that is in it.
    Everything,
}

/// A running watchdog. Dropping it has it remove the mount.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    alive: OwnedFd,
}

impl Watchdog {
    /// Starts it before there is anything to remove.
    pub(super) fn start(path: &Path, left: AlsoRemove, helper: Option<&Path>) -> io::Result<Self> {
        let before = mountinfo::top_at(path)?
            .map(|line| line.id.to_string())
            .unwrap_or_default();
        let (alive, theirs) = socket::pair(SocketType::STREAM)?;
        let null = null::open()?;
        let shown = mountinfo::escape(path);
        let arguments = [
            OsStr::new("sh"),
            OsStr::new("-c"),
            OsStr::new(SCRIPT),
            OsStr::new("notapipe-watchdog"),
            path.as_os_str(),
            &shown,
            OsStr::new(match left {
                AlsoRemove::Nothing => "",
                AlsoRemove::Directory => "own",
                AlsoRemove::Everything => "all",
            }),
            helper.map_or(OsStr::new(""), Path::as_os_str),
            OsStr::new(&before),
        ];
        let launch = Launch {
            programs: vec![Candidate {
                path: SHELL.to_owned(),
                decides: true,
            }],
            arguments: arguments
                .into_iter()
                .map(|it| CString::new(it.as_bytes()))
                .collect::<Result<_, _>>()?,
            environment: vec![SEARCH_PATH.to_owned()],
            directory: Some(c"/".to_owned()),
            close_others: true,
            new_session: true,
            signals: InheritedSignals::all_but_child_blocked(),
            ..Launch::new([theirs.as_fd(), null.as_fd(), null.as_fd()])
        };
        let shell = launch.start().map_err(LaunchError::of_shell)?;
        Ok(Watchdog { shell, alive })
    }

    /// While any process holds this, the watchdog waits.
    pub(super) fn alive(&self) -> BorrowedFd<'_> {
        self.alive.as_fd()
    }

    /// Which mount it is to remove.
    pub(super) fn watch(&self, mount: MountId) -> io::Result<()> {
        let device = mount.connection.device();
        self.say(&format!("mounted {} {device}\n", mount.number))
    }

    /// Ends it: there is nothing to remove any more.
    pub(super) fn dismiss(self) {
        if let Err(error) = self.say("done\n") {
            log::debug!("the watchdog had gone before: {error}");
        }
        // Also when it had gone before: a child that is not waited for stays a zombie.
        if let Err(error) = self.shell.wait() {
            log::debug!("the watchdog cannot be waited for: {error}");
        }
    }

    fn say(&self, line: &str) -> io::Result<()> {
        rustix::net::send(&self.alive, line.as_bytes(), SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
