//! Systems that allow less: what is done instead, and what people are told.

use std::process::Command;

use notapipe::mount::{MountOptions, Remedy, Visibility};
use notapipe::run::process::{Containment, Exit, Processes};

use crate::stage::{self, Stage, Who, both_ways, exit, init, step};
use crate::tiny_fs;

/// Plays a scene behind a shell script that root runs in a mount namespace of its own. In it, `"$@"`
/// is the scene.
fn behind(script: &str, name: &str, who: Who, scene: fn()) {
    if stage::is_playing(name) {
        return scene();
    }
    let stage = Stage::new();
    let inner = stage.command(name, Who::Root);
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    if who == Who::User {
        command.args([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]);
    }
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir("/");
    command.envs(
        inner
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    stage::expect_success(command, who);
    stage::eventually("nothing is left", || stage.is_empty());
}

/// As in a container: part of /proc is hidden, so that the kernel allows no new one to users.
const HIDE_PART_OF_PROC: &str = "mount -t tmpfs none /proc/sys; exec \"$@\"";

/// User namespaces are refused in a chroot (user_namespaces(7)).
const IN_A_CHROOT: &str = "
    root=$(mktemp -d)
    mount --rbind / $root
    mount -t tmpfs none $root/srv
    touch $root/srv/only-here
    chroot $root \"$@\"
    status=$?
    umount -l $root
    rmdir $root
    exit $status";

#[test]
fn without_a_proc_of_its_own_the_init_is_a_subreaper() {
    let name = "degraded::without_a_proc_of_its_own_the_init_is_a_subreaper";
    behind(HIDE_PART_OF_PROC, name, Who::User, || {
        let options = MountOptions {
            visibility: Visibility::Private,
            ..MountOptions::default()
        };
        let mut mount = tiny_fs::mount(&options).unwrap();
        let processes = Processes::start(mount.place(), Some(&init())).unwrap();
        assert_eq!(processes.containment(), Containment::Subreaper);
        assert_eq!(exit(&processes, &["sh", "-c", "exit 5"]), Exit::Code(5));
        stage::run_away(&processes);
        assert!(processes.remaining().unwrap().len() >= 3);
        processes.end().unwrap();
        assert_eq!(stage::ran_away(), [0; 0]);
        mount.unmount().unwrap();
    });
}

/// In the private mount of the test above, a step that kills the init gets away from it, but not
/// from the census of the mount namespace.
#[test]
fn killing_the_subreaper_does_not_help() {
    let name = "degraded::killing_the_subreaper_does_not_help";
    behind(HIDE_PART_OF_PROC, name, Who::User, || {
        let options = MountOptions {
            visibility: Visibility::Private,
            ..MountOptions::default()
        };
        let mut mount = tiny_fs::mount(&options).unwrap();
        let processes = Processes::start(mount.place(), Some(&init())).unwrap();
        stage::run_away(&processes);
        // Later than the init's word that the step has started, which is no matter of this test.
        let kill = "sleep 1; kill -9 $PPID; sleep 1";
        assert_eq!(exit(&processes, &["sh", "-c", kill]), Exit::Signal(9));
        assert!(!stage::ran_away().is_empty());
        processes.end().unwrap();
        assert_eq!(stage::ran_away(), [0; 0]);
        mount.unmount().unwrap();
    });
}

#[test]
fn without_user_namespaces_the_mount_is_public() {
    let name = "degraded::without_user_namespaces_the_mount_is_public";
    behind(IN_A_CHROOT, name, Who::User, || {
        let auto = || tiny_fs::mount(&MountOptions::default()).unwrap();
        both_ways(auto, |mount, processes| {
            assert!(!mount.place().is_private());
            let why = mount.why_public().unwrap();
            assert_eq!(why.remedy(), Some(Remedy::LoosenSandbox), "{why}");
            assert_eq!(
                step(&processes, &["cat", "hello"]).unwrap().stdout,
                "hello from RAM\n"
            );
            stage::run_away(&processes);
            processes.end().unwrap();
            assert_eq!(stage::ran_away(), [0; 0]);
        });
    });
}

#[test]
fn a_chroot_is_not_left() {
    behind(
        IN_A_CHROOT,
        "degraded::a_chroot_is_not_left",
        Who::Root,
        || {
            let options = MountOptions {
                visibility: Visibility::Private,
                ..MountOptions::default()
            };
            both_ways(
                || tiny_fs::mount(&options).unwrap(),
                |_, processes| {
                    assert_eq!(
                        exit(&processes, &["test", "-e", "/srv/only-here"]),
                        Exit::Code(0)
                    );
                    assert_eq!(
                        step(&processes, &["cat", "hello"]).unwrap().stdout,
                        "hello from RAM\n"
                    );
                    processes.end().unwrap();
                },
            );
        },
    );
}

/// A container without --device /dev/fuse.
const NO_DEVICE: &str = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; exec \"$@\"";
/// A bare machine without udev's rule.
const ROOTS_DEVICE: &str = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; \
                            mknod -m 600 /dev/fuse c 10 229; exec \"$@\"";

fn remedy(visibility: Visibility) -> Option<Remedy> {
    let options = MountOptions {
        visibility,
        ..MountOptions::default()
    };
    tiny_fs::mount(&options).unwrap_err().remedy()
}

#[test]
fn a_missing_device_is_explained() {
    behind(
        NO_DEVICE,
        "degraded::a_missing_device_is_explained",
        Who::Root,
        || {
            for visibility in [Visibility::Private, Visibility::Public, Visibility::Auto] {
                assert_eq!(remedy(visibility), Some(Remedy::ProvideDevice));
            }
        },
    );
}

#[test]
fn a_missing_device_is_explained_to_users() {
    behind(
        NO_DEVICE,
        "degraded::a_missing_device_is_explained_to_users",
        Who::User,
        || {
            for visibility in [Visibility::Private, Visibility::Public, Visibility::Auto] {
                assert_eq!(remedy(visibility), Some(Remedy::ProvideDevice));
            }
        },
    );
}

#[test]
fn a_closed_device_is_explained() {
    behind(
        ROOTS_DEVICE,
        "degraded::a_closed_device_is_explained",
        Who::User,
        || {
            assert_eq!(remedy(Visibility::Private), Some(Remedy::OpenUpDevice));
        },
    );
}

#[test]
fn a_missing_helper_is_explained() {
    let hide = "mount --bind /dev/null /usr/bin/fusermount3; exec \"$@\"";
    behind(
        hide,
        "degraded::a_missing_helper_is_explained",
        Who::User,
        || {
            assert_eq!(remedy(Visibility::Public), Some(Remedy::InstallFuse3));
        },
    );
}
