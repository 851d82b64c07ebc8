//! A public mount: by root and by fusermount3.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use notapipe::mount::{Mount, MountError, MountOptions, Remedy, Visibility};
use notapipe::run::Exit;

use crate::stage::{self, both, both_ways, exit, step};
use crate::tiny_fs;

fn options() -> MountOptions {
    MountOptions {
        visibility: Visibility::Public,
        ..MountOptions::default()
    }
}

fn public() -> Mount {
    tiny_fs::mount(&options()).unwrap()
}

#[test]
fn a_directory_of_its_own_comes_and_goes() {
    both(
        "public_mount::a_directory_of_its_own_comes_and_goes",
        || {
            let mut mount = public();
            let path = mount.path().to_owned();
            assert_eq!(
                fs::read_to_string(path.join("hello")).unwrap(),
                "hello from RAM\n"
            );
            stage::eventually("its command line is set", || {
                stage::watchdogs(&path).len() == 1
            });
            mount.unmount().unwrap();
            assert!(!path.exists());
            assert_eq!(stage::watchdogs(&path), [0; 0]);
            mount.unmount().unwrap();
        },
    );
}

#[test]
fn a_watchdog_that_was_killed_is_collected() {
    both(
        "public_mount::a_watchdog_that_was_killed_is_collected",
        || {
            let mut mount = public();
            let path = mount.path().to_owned();
            let watchdogs = || stage::watchdogs(&path);
            stage::eventually("its command line is set", || watchdogs().len() == 1);
            let [watchdog] = watchdogs().try_into().unwrap();
            let pid = rustix::process::Pid::from_raw(watchdog).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            stage::eventually("it is dead", || watchdogs().is_empty());
            mount.unmount().unwrap();
            // A zombie would still be there.
            let gone = rustix::process::test_kill_process(pid);
            assert_eq!(gone, Err(rustix::io::Errno::SRCH));
        },
    );
}

#[test]
fn steps_run_in_a_public_mount() {
    both("public_mount::steps_run_in_a_public_mount", || {
        both_ways(public, |mount, processes| {
            let said = step(&processes, &["sh", "-c", "pwd; cat hello"]).unwrap();
            assert_eq!(
                said.stdout,
                format!("{}\nhello from RAM\n", mount.path().display())
            );
            assert_eq!(exit(&processes, &["./script"]), Exit::Code(9));
            assert_eq!(
                step(&processes, &["no-such-tool"])
                    .err()
                    .unwrap()
                    .exit_code(),
                127
            );
            processes.end().unwrap();
        });
    });
}

#[test]
fn processes_that_run_away_are_ended() {
    both("public_mount::processes_that_run_away_are_ended", || {
        both_ways(public, |mount, processes| {
            stage::run_away(&processes);
            assert!(
                processes.remaining().unwrap().len() >= 3,
                "{:?}",
                processes.remaining()
            );
            let busy = mount.unmount();
            assert!(
                matches!(&busy, Err(MountError::Busy { holders, .. }) if !holders.is_empty()),
                "{busy:?}"
            );
            processes.end().unwrap();
            assert_eq!(stage::ran_away(), [0; 0]);
        });
    });
}

#[test]
fn a_mount_over_a_given_directory() {
    both("public_mount::a_mount_over_a_given_directory", || {
        let directory = tempfile::Builder::new()
            .prefix("with space ")
            .tempdir()
            .unwrap();
        let at = MountOptions {
            at: Some(directory.path().to_owned()),
            ..options()
        };
        let mut mount = tiny_fs::mount(&at).unwrap();
        assert!(directory.path().join("hello").exists());
        mount.unmount().unwrap();
        assert!(directory.path().exists(), "it is not ours");
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(matches!(
            tiny_fs::mount(&at),
            Err(MountError::NotEmpty { .. })
        ));
        drop(tiny_fs::mount(&MountOptions {
            allow_nonempty: true,
            ..at
        }));
        assert!(directory.path().join("file").exists());
        assert!(matches!(
            tiny_fs::mount(&MountOptions {
                at: Some("/etc/passwd".into()),
                ..options()
            }),
            Err(MountError::NotADirectory { .. })
        ));
    });
}

#[test]
fn a_directory_above_may_be_renamed() {
    both("public_mount::a_directory_above_may_be_renamed", || {
        let room = tempfile::tempdir().unwrap();
        let (old, new) = (room.path().join("old"), room.path().join("new"));
        for way in 0..3 {
            fs::create_dir_all(old.join("m")).unwrap();
            let at = (way < 2).then(|| old.join("m"));
            let mut mount = tiny_fs::mount(&MountOptions {
                at,
                directory_parent: old.clone(),
                ..options()
            })
            .unwrap();
            fs::rename(&old, &new).unwrap();
            match way {
                0 => mount.unmount().unwrap(),
                1 => mount.detach().unwrap(),
                // With the directory that was made for it.
                _ => mount.unmount().unwrap(),
            }
            // Nothing is mounted, and nothing else is in it.
            fs::remove_dir(new.join("m")).unwrap();
            fs::remove_dir(&new).unwrap();
        }
    });
}

/// Somebody else unmounted ours and mounted something at the same path: that is not ours to remove.
#[test]
fn a_later_mount_at_the_same_path_stays() {
    both("public_mount::a_later_mount_at_the_same_path_stays", || {
        if !rustix::process::geteuid().is_root() {
            // The kernel lets no program that changed its user id into another's FUSE mount, and
            // fusermount3 is one: users cannot mount on top.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = MountOptions {
            at: Some(directory.path().to_owned()),
            ..options()
        };
        let mut first = tiny_fs::mount(&at).unwrap();
        let mut second = tiny_fs::mount(&MountOptions {
            allow_nonempty: true,
            ..at
        })
        .unwrap();
        assert!(matches!(first.unmount(), Err(MountError::Covered { .. })));
        second.unmount().unwrap();
        assert_eq!(
            fs::read_to_string(directory.path().join("hello")).unwrap(),
            "hello from RAM\n"
        );
        first.unmount().unwrap();
    });
}

/// Sandboxes and services live in mount namespaces that have a copy of each mount.
#[test]
fn a_copy_in_another_namespace_is_not_waited_for() {
    both(
        "public_mount::a_copy_in_another_namespace_is_not_waited_for",
        || {
            let directory = tempfile::tempdir().unwrap();
            let mut mount = tiny_fs::mount(&MountOptions {
                at: Some(directory.path().to_owned()),
                ..options()
            })
            .unwrap();
            let mut sandbox = Command::new("unshare")
                .args("--user --map-root-user --mount --propagation private".split(' '))
                .args(["sh", "-c", "echo ready; read end"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut ready = [0; 6];
            let said = sandbox.stdout.as_mut().unwrap();
            said.read_exact(&mut ready).unwrap();
            mount.unmount().unwrap();
            assert!(!directory.path().join("hello").exists());
            drop(sandbox.stdin.take());
            sandbox.wait().unwrap();
        },
    );
}

#[test]
fn detaching_leaves_it_to_those_inside() {
    both("public_mount::detaching_leaves_it_to_those_inside", || {
        let mount = public();
        let path = mount.path().to_owned();
        let open = fs::File::open(path.join("hello")).unwrap();
        mount.detach().unwrap();
        assert!(!path.exists());
        assert_eq!(std::io::read_to_string(open).unwrap(), "hello from RAM\n");
    });
}

#[test]
fn a_read_only_mount_says_so() {
    both("public_mount::a_read_only_mount_says_so", || {
        let mount = tiny_fs::mount(&MountOptions {
            read_only: true,
            ..options()
        })
        .unwrap();
        let error = fs::write(mount.path().join("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn other_users_need_leave() {
    both("public_mount::other_users_need_leave", || {
        let is_root = rustix::process::geteuid().is_root();
        let allowed = is_root
            || fs::read_to_string("/etc/fuse.conf")
                .is_ok_and(|it| it.contains("\nuser_allow_other"));
        match tiny_fs::mount(&MountOptions {
            allow_other: true,
            ..options()
        }) {
            Ok(_) => assert!(allowed),
            Err(error) => assert_eq!(error.remedy(), Some(Remedy::AllowOther), "{error}"),
        }
    });
}

#[test]
fn nothing_is_left_where_its_directory_was() {
    both(
        "public_mount::nothing_is_left_where_its_directory_was",
        || {
            let parent = tempfile::tempdir().unwrap();
            let options = MountOptions {
                directory_parent: parent.path().to_owned(),
                ..options()
            };
            let mount = tiny_fs::mount(&options).unwrap();
            let [directory] = fs::read_dir(parent.path())
                .unwrap()
                .collect::<Vec<_>>()
                .try_into()
                .unwrap();
            assert_eq!(directory.unwrap().path(), mount.path());
            drop(mount);
            assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        },
    );
}

#[test]
fn the_watchdog_removes_what_a_process_left() {
    both(
        "public_mount::the_watchdog_removes_what_a_process_left",
        || {
            let mount = public();
            // Forgotten, its descriptors stay open and the mount lives, until this process ends.
            std::mem::forget(mount);
        },
    );
}

/// The kernel gives the numbers of a mount to the next one at once.
#[test]
fn a_later_mount_with_the_same_numbers_stays() {
    stage::both(
        "public_mount::a_later_mount_with_the_same_numbers_stays",
        || {
            let at = stage::room().join(format!("later-{}-{}", stage::tag(), std::process::id()));
            std::fs::create_dir(&at).unwrap();
            let scratch = || {
                let options = MountOptions {
                    visibility: Visibility::Public,
                    at: Some(at.clone()),
                    source: format!("faults-{}", stage::tag()),
                    ..MountOptions::default()
                };
                notapipe::Scratch::builder().mount(options).build().unwrap()
            };
            let path = std::env::var_os("PATH").unwrap_or_default();
            for _ in 0..5 {
                let first = scratch();
                notapipe::mount::unmount_at(&at, false, &path).unwrap();
                first.wait(&notapipe::Interrupt::new().unwrap()).unwrap();
                let second = scratch();
                second.write("kept", "content").unwrap();
                first.unmount().unwrap();
                assert_eq!(std::fs::read(at.join("kept")).unwrap(), b"content");
                second.unmount().unwrap();
            }
            std::fs::remove_dir(&at).unwrap();
        },
    );
}

#[test]
fn a_process_that_is_forked_while_one_looks_is_ended() {
    both(
        "public_mount::a_process_that_is_forked_while_one_looks_is_ended",
        || {
            (0..60).for_each(|_| stage::fork_and_end(public()));
            assert_eq!(stage::ran_away(), [0; 0]);
        },
    );
}

#[test]
fn a_process_whose_first_thread_has_ended_is_ended() {
    both(
        "public_mount::a_process_whose_first_thread_has_ended_is_ended",
        || both_ways(public, |_, processes| stage::end_a_headless_one(processes)),
    );
}
