//! Systems that allow less: what is done instead, and what people are told.

use std::io::Read;
use std::process::{Command, Stdio};

use notapipe::mount::{MountOptions, Remedy, Visibility};
use notapipe::run::Backing;
use notapipe::run::process::{Containment, Exit, Processes};

use crate::stage::{self, Stage, Who, both_ways, exit, step};
use crate::tiny_fs;

/// Plays a scene behind a shell script that root runs in a mount namespace of its own. In it, `"$@"`
/// is the scene.
pub fn behind(script: &str, name: &str, who: Who, scene: fn()) {
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
        command.args(["setpriv", "--reuid=1", "--regid=1", "--clear-groups"]);
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
pub const HIDE_PART_OF_PROC: &str = "mount -t tmpfs none /proc/sys; exec \"$@\"";

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
        let processes = Processes::start(mount.point()).unwrap();
        assert_eq!(processes.containment(), Containment::Subreaper);
        assert_eq!(exit(&processes, &["sh", "-c", "exit 5"]), Exit::Code(5));
        stage::run_away(&processes);
        assert!(processes.remaining().unwrap().len() >= 3);
        processes.end().unwrap();
        assert_eq!(stage::ran_away(), [0; 0]);
        let processes = Processes::start(mount.point()).unwrap();
        stage::end_a_headless_one(processes);
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
        let processes = Processes::start(mount.point()).unwrap();
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
            assert!(!mount.point().is_private());
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

/// A default container: no device, and a tmpfs for everybody.
pub const NO_FUSE: &str = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5; \
                       mkdir -m 1777 /dev/shm; exec \"$@\"";

/// The same where namespaces are refused as well, to root for want of a capability.
pub fn no_namespaces() -> String {
    let chroot = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin chroot $root";
    let hidden = "mount -t tmpfs none $root/srv\n    touch $root/srv/only-here\n";
    let in_a_chroot = IN_A_CHROOT
        .replace(hidden, "")
        .replace("chroot $root", chroot);
    NO_FUSE.replace("exec \"$@\"", &in_a_chroot)
}

/// `notapipe run` with these words, in a directory of its own; gives its exit status and what it said.
pub fn call(words: &[&str]) -> (i32, String) {
    let room = tempfile::tempdir().unwrap();
    let output = Command::new(stage::notapipe())
        .arg("run")
        .args(words)
        .current_dir(room.path())
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    let mut said = String::from_utf8(output.stderr).unwrap();
    said += &String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), said)
}

pub fn nothing_is_left() {
    stage::eventually("the directory is gone", || {
        std::fs::read_dir("/dev/shm").unwrap().next().is_none()
    });
}

/// The job of a mount, on a tmpfs of its own or in a directory: what comes out is the same, and so is what is told.
fn does_without(place: &str) {
    let make = "set -e; [ $(stat -f -c %T .) = tmpfs ]; echo $PWD > place; cat in >> kept; mkdir d; echo made > d/made; ln -s made d/link; rm gone; printf '#!/bin/sh\\necho ran' > t; \
                chmod +x t; ./t";
    let room = tempfile::tempdir().unwrap();
    for name in ["in", "kept", "gone", "same"] {
        std::fs::write(room.path().join(name), name).unwrap();
    }
    let at = |name: &str| {
        room.path()
            .join(name)
            .into_os_string()
            .into_string()
            .unwrap()
    };
    let inputs = ["in", "kept", "gone", "same"].map(|name| format!("{name}={}", at(name)));
    let report = at("report");
    let out = format!("--changed={}", at("out"));
    let mut words = vec!["--report", &report, &out];
    words.extend(inputs.iter().flat_map(|input| ["-i", input.as_str()]));
    words.extend(["--", "sh", "-c", make]);
    let (code, said) = call(&words);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("notapipe: warning: no FUSE here (cannot "),
        "{said}"
    );
    assert!(
        said.contains("notapipe doctor") && said.ends_with("ran\n"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "one line of notice: {said}");
    let read = |name: &str| std::fs::read_to_string(room.path().join("out").join(name)).unwrap();
    assert_eq!(
        (read("kept"), read("d/made")),
        ("keptin".to_owned(), "made\n".to_owned())
    );
    let link = std::fs::read_link(room.path().join("out/d/link")).unwrap();
    assert_eq!(link, std::path::Path::new("made"));
    let seen = read("place");
    assert!(seen.starts_with(place), "{seen}");
    assert!(said.contains(&format!(" {place}")), "{said}");
    // What nobody touched is not taken for changed.
    assert!(!room.path().join("out/same").exists() && !room.path().join("out/in").exists());
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["fuse"], false);
    assert_eq!(report["steps"].as_array().unwrap().len(), 1);
    assert!(
        report["usage"]["peak_inodes"].as_u64().unwrap() >= 8,
        "{report}"
    );
    nothing_is_left();
}

#[test]
fn without_fuse_the_same_job_runs_on_tmpfs() {
    let name = "degraded::without_fuse_the_same_job_runs_on_tmpfs";
    behind(NO_FUSE, name, Who::Root, || does_without("/"));
}

#[test]
fn without_fuse_the_same_job_runs_on_tmpfs_for_users() {
    let name = "degraded::without_fuse_the_same_job_runs_on_tmpfs_for_users";
    behind(NO_FUSE, name, Who::User, || does_without("/"));
}

#[test]
fn without_fuse_and_namespaces_the_same_job_runs_in_a_directory() {
    let name = "degraded::without_fuse_and_namespaces_the_same_job_runs_in_a_directory";
    let scene = || does_without("/dev/shm/notapipe-");
    if stage::is_playing(name) {
        return scene();
    }
    behind(&no_namespaces(), name, Who::Root, scene);
    behind(&no_namespaces(), name, Who::User, scene);
}

#[test]
fn fuse_can_be_required() {
    behind(NO_FUSE, "degraded::fuse_can_be_required", Who::User, || {
        let (code, said) = call(&["--require-fuse", "--", "true"]);
        assert_eq!(code, 125, "{said}");
        assert!(
            said.contains("/dev/fuse") && said.contains("--device /dev/fuse"),
            "{said}"
        );
        // What only a mount can give is not given up silently.
        for option in [["--mount", "private"], ["--mount", "public"]] {
            let (code, said) = call(&[&option[..], &["--", "true"]].concat());
            assert_eq!(code, 125, "{said}");
            assert!(
                said.contains("needs FUSE: ") && said.contains("/dev/fuse"),
                "{said}"
            );
            assert!(
                said.contains(&format!("help: leave out {}", option[0])),
                "{said}"
            );
        }
        let refused = notapipe::Job::new()
            .input_source("in", notapipe::Source::new(|| Ok("made")))
            .step(["cat", "in"])
            .run()
            .unwrap_err();
        let what = notapipe::run::MountOnly::Source;
        assert!(matches!(refused.error, notapipe::Error::NeedsFuse { what: it, .. } if it == what));
        let job = notapipe::Job::new().backing(Backing::Fuse).step(["true"]);
        let refused = job.run().unwrap_err();
        assert!(matches!(refused.error, notapipe::Error::Mount(it) if it.lacks_fuse()));
        let doctor = Command::new(stage::notapipe())
            .arg("doctor")
            .output()
            .unwrap();
        let told = String::from_utf8(doctor.stdout).unwrap();
        assert!(
            told.contains("note  without FUSE") && told.contains("on a tmpfs of its own at /"),
            "{told}"
        );
        assert!(told.contains("--device /dev/fuse"), "{told}");
        assert_eq!(doctor.status.code(), Some(1));
        let (code, said) = call(&["-q", "--", "true"]);
        assert_eq!((code, said.as_str()), (0, ""));
    });
}

#[test]
fn without_fuse_fifos_stay_behind_with_a_warning() {
    let name = "degraded::without_fuse_fifos_stay_behind_with_a_warning";
    behind(NO_FUSE, name, Who::User, || {
        let make = "mkdir -p d; mkfifo d/fifo; echo x > d/x";
        let (code, said) = call(&["-o", "d", "--", "sh", "-c", make]);
        assert_eq!(code, 0, "{said}");
        let told: Vec<_> = said.lines().skip(1).collect();
        assert_eq!(
            told,
            ["notapipe: warning: \"d/fifo\" is a FIFO: left behind"]
        );
        // Nobody wants it: nothing to tell.
        let (code, said) = call(&["-o", "d/x", "--", "sh", "-c", make]);
        assert_eq!((code, said.lines().count()), (0, 1), "{said}");
        let (code, said) = call(&["-o", "f", "--", "mkfifo", "f"]);
        assert_eq!(code, 125);
        assert!(
            said.contains("cannot collect \"f\": it is a FIFO"),
            "{said}"
        );
    });
}

#[test]
fn without_fuse_writers_that_are_left_behind_are_waited_for() {
    let name = "degraded::without_fuse_writers_that_are_left_behind_are_waited_for";
    behind(NO_FUSE, name, Who::User, || {
        let late = "setsid sh -c 'exec > x; : > ready; echo one; sleep 0.5; echo two' < /dev/null 2>&1 & \
                    while ! [ -e ready ]; do :; done";
        let room = tempfile::tempdir().unwrap();
        let place = format!("x={}", room.path().join("x").display());
        let words = ["-o", &place, "--", "sh", "-c", late];
        let (code, said) = call(&words);
        assert_eq!(code, 0, "{said}");
        let got = std::fs::read_to_string(room.path().join("x")).unwrap();
        assert_eq!(got, "one\ntwo\n");
        let mapped = "import mmap, os, sys, time\n\
            f = open('d/x', 'w+b'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); f.close()\n\
            if os.fork(): sys.exit()\n\
            os.setsid(); os.close(1); os.close(2); time.sleep(600)";
        // Until it has opened the file there is nobody to wait for.
        let open = "(exec > d/x; : > ready; exec setsid sleep 600) < /dev/null 2>&1 & \
                    while ! [ -e ready ]; do :; done";
        for (command, tool) in [
            ("sleep 600", ["sh", "-c", open]),
            ("python3", ["python3", "-c", mapped]),
        ] {
            let words = [&["--settle", "100ms", "-o", "d/x", "--"][..], &tool].concat();
            let (code, said) = call(&words);
            assert_eq!(code, 125, "{said}");
            assert!(
                said.contains("\"d/x\" is still being written by") && said.contains(command),
                "{said}"
            );
            nothing_is_left();
        }
    });
}

/// Follows `log` of a step that first writes `first`, and goes on with `then` when that was seen. Gives what came after
/// it, and what was said.
fn followed(first: (&str, &str), then: &str) -> (String, String) {
    let room = tempfile::tempdir().unwrap();
    let go = room.path().join("go");
    let (write, seen) = first;
    let script = format!(
        "{write}; while ! [ -e {} ]; do sleep 0.02; done; {then}",
        go.display()
    );
    let mut call = Command::new(stage::notapipe())
        .args(["run", "--tmp", "host", "--follow", "log"])
        .args(["--", "sh", "-c", &script])
        .current_dir(room.path())
        .env_remove("XDG_RUNTIME_DIR")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = call.stdout.take().unwrap();
    let mut came = vec![0; seen.len()];
    stdout.read_exact(&mut came).unwrap();
    assert_eq!(String::from_utf8(came).unwrap(), seen);
    std::fs::write(go, "").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let ended = call.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{said}");
    (rest, said)
}

#[test]
fn without_fuse_a_file_is_followed() {
    let name = "degraded::without_fuse_a_file_is_followed";
    behind(NO_FUSE, name, Who::User, || {
        let (rest, said) = followed(("echo one > log", "one\n"), "echo two >> log");
        assert_eq!(rest, "two\n");
        assert_eq!(said.lines().count(), 1, "{said}");
    });
}

#[test]
fn without_fuse_it_is_told_what_changed_after_it_was_sent() {
    let name = "degraded::without_fuse_it_is_told_what_changed_after_it_was_sent";
    behind(NO_FUSE, name, Who::User, || {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("log"), "staged\n").unwrap();
        let input = format!("log={}", room.path().join("log").display());
        // A staged file is not sent before somebody has written to it.
        let (code, said) = call(&["-i", &input, "--follow", "log", "--", "cat", "log"]);
        assert_eq!(code, 0);
        assert_eq!(said.matches("staged\n").count(), 1, "{said}");
        assert!(said.contains("no step wrote to \"log\""), "{said}");
        let write = "head -c 10000 /dev/zero | tr '\\0' x > log";
        let change =
            "printf y | dd of=log bs=1 seek=5000 conv=notrunc status=none; truncate -s 9000 log";
        let (rest, said) = followed((write, &"x".repeat(10_000)), change);
        assert_eq!(rest, "");
        assert!(
            said.contains("\"log\" changed after it was sent: bytes 4096-9999"),
            "{said}"
        );
    });
}

#[test]
fn without_fuse_other_users_come_in_where_root_allows_it() {
    let name = "degraded::without_fuse_other_users_come_in_where_root_allows_it";
    behind(NO_FUSE, name, Who::Root, || {
        let step = [
            "--",
            "setpriv",
            "--reuid=1",
            "--clear-groups",
            "sh",
            "-c",
            "ls; cat in",
        ];
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("in"), "staged\n").unwrap();
        let input = format!("in={}", room.path().join("in").display());
        let words = [&["-i", &input][..], &step].concat();
        assert_ne!(call(&words).0, 0);
        let (code, said) = call(&[&["--allow-other"], &words[..]].concat());
        assert_eq!(code, 0, "{said}");
        assert!(said.ends_with("in\nstaged\n"), "{said}");
    });
}

/// As in a mount: all that the directory had is hidden, and nobody else sees it there.
fn stands_where_it_was_asked_for() {
    let room = tempfile::tempdir().unwrap();
    let at = room.path().join("at");
    std::fs::create_dir(&at).unwrap();
    std::fs::write(at.join("hidden"), "").unwrap();
    std::fs::write(room.path().join("in"), "staged\n").unwrap();
    let word = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let input = format!("in={}", word(&room.path().join("in")));
    let output = format!("out={}", word(&room.path().join("out")));
    let late = "pwd; ls; setsid sh -c 'exec > out; : > ready; sleep 0.3; cat in' < /dev/null 2>&1 & while ! [ -e ready ]; do :; done";
    let words = [
        "--at",
        &word(&at),
        "-i",
        &input,
        "-o",
        &output,
        "--follow",
        "log",
        "--",
        "sh",
        "-c",
        &format!("{late}; echo followed > log"),
    ];
    let (code, said) = call(&words);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("followed\n"), "{said}");
    assert!(said.contains(&format!("{}\nin\n", at.display())), "{said}");
    let out = std::fs::read_to_string(room.path().join("out")).unwrap();
    assert_eq!(out, "staged\n");
    let there: Vec<_> = std::fs::read_dir(&at).unwrap().flatten().collect();
    assert_eq!(there.len(), 1, "{there:?}");
    let (code, said) = call(&[
        "--at",
        &word(&at),
        "--settle",
        "100ms",
        "-o",
        "x",
        "--",
        "sh",
        "-c",
        "(exec > x; : > ready; exec setsid sleep 600) < /dev/null 2>&1 & while ! [ -e ready ]; do :; done",
    ]);
    assert_eq!(code, 125, "{said}");
    assert!(
        // It may be on its way to that program.
        said.contains("\"x\" is still being written by ") && said.contains("sleep 600"),
        "{said}"
    );
    nothing_is_left();
}

#[test]
fn without_fuse_a_job_stands_where_it_was_asked_for() {
    let name = "degraded::without_fuse_a_job_stands_where_it_was_asked_for";
    behind(NO_FUSE, name, Who::Root, stands_where_it_was_asked_for);
}

#[test]
fn without_fuse_a_users_job_stands_where_it_was_asked_for() {
    let name = "degraded::without_fuse_a_users_job_stands_where_it_was_asked_for";
    behind(NO_FUSE, name, Who::User, stands_where_it_was_asked_for);
}

#[test]
fn without_fuse_and_namespaces_a_job_cannot_stand_elsewhere() {
    let name = "degraded::without_fuse_and_namespaces_a_job_cannot_stand_elsewhere";
    let script = NO_FUSE.replace("exec \"$@\"", IN_A_CHROOT);
    behind(&script, name, Who::User, || {
        let empty = tempfile::tempdir().unwrap();
        let (code, said) = call(&["--at", empty.path().to_str().unwrap(), "--", "true"]);
        assert_eq!(code, 125, "{said}");
        assert!(
            said.contains("where namespaces are refused") && said.contains("needs FUSE: "),
            "{said}"
        );
        assert!(said.contains("help: leave out --at"), "{said}");
        nothing_is_left();
    });
}

/// What a tool puts into TMPDIR is in no output, is not listed, counts for the size, and goes with the job.
fn temporary_files_are_the_jobs() {
    let room = tempfile::tempdir().unwrap();
    let out = format!("--changed={}", room.path().join("out").display());
    let work = "set -e; file=$(mktemp); head -c 100K /dev/zero > $file; mktemp -p /dev/shm > name; ls -A; echo $file";
    let (code, said) = call(&[&out, "--", "sh", "-c", work]);
    assert_eq!(code, 0, "{said}");
    let said: Vec<_> = said.lines().skip(1).collect();
    let [name, file] = said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(name, "name");
    assert!(!std::path::Path::new(file).exists(), "{file}");
    let made = std::fs::read_dir(room.path().join("out")).unwrap();
    assert_eq!(made.count(), 1);
    // The name of what is not the job's, where it has no namespaces.
    let shared = std::fs::read_to_string(room.path().join("out/name")).unwrap();
    let _ = std::fs::remove_file(shared.trim());
    nothing_is_left();
    // Where it is a file system of its own, that is full; where it is not, somebody looks.
    let fill = "head -c 3M /dev/zero > ${TMPDIR:-/tmp}/big && sleep 600";
    let (code, said) = call(&["--size", "1M", "--", "sh", "-c", fill]);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("1 MiB") && said.contains("--size"), "{said}");
    nothing_is_left();
}

#[test]
fn without_fuse_temporary_files_are_the_jobs() {
    let name = "degraded::without_fuse_temporary_files_are_the_jobs";
    behind(NO_FUSE, name, Who::User, temporary_files_are_the_jobs);
}

#[test]
fn without_fuse_and_namespaces_temporary_files_are_the_jobs() {
    let name = "degraded::without_fuse_and_namespaces_temporary_files_are_the_jobs";
    let script = NO_FUSE.replace("exec \"$@\"", IN_A_CHROOT);
    behind(&script, name, Who::User, temporary_files_are_the_jobs);
}

#[test]
fn without_fuse_and_namespaces_limits_are_watched() {
    let name = "degraded::without_fuse_and_namespaces_limits_are_watched";
    behind(&no_namespaces(), name, Who::User, || {
        let room = tempfile::tempdir().unwrap();
        let report = room.path().join("report");
        let fill = "head -c 3M /dev/zero > big; sleep 600";
        let words = [
            "--size",
            "1M",
            "--report",
            report.to_str().unwrap(),
            "--",
            "sh",
            "-c",
            fill,
        ];
        let (code, said) = call(&words);
        assert_eq!(code, 125, "{said}");
        let report = std::fs::read_to_string(report).unwrap();
        assert!(report.contains("\"ended_by\": \"size\""), "{report}");
        assert!(
            said.contains("more than the limit of 1 MiB") && said.contains("--size"),
            "{said}"
        );
        let (code, said) = call(&["--inodes", "3", "--", "touch", "a", "b", "c"]);
        assert_eq!(code, 125, "{said}");
        assert!(
            said.contains("3 files and directories") && said.contains("--inodes"),
            "{said}"
        );
        nothing_is_left();
    });
}

#[test]
fn without_fuse_and_namespaces_failures_leave_nothing_behind() {
    let name = "degraded::without_fuse_and_namespaces_failures_leave_nothing_behind";
    behind(&no_namespaces(), name, Who::User, || {
        let table: [(&[&str], i32); 4] = [
            (
                &[
                    "--",
                    "sh",
                    "-c",
                    "mkdir -m 0 closed; echo > f; chmod 0 f; exit 3",
                ],
                3,
            ),
            (
                &[
                    "--timeout",
                    "200ms",
                    "--",
                    "sh",
                    "-c",
                    "setsid sleep 600 & sleep 600",
                ],
                124,
            ),
            (&["-o", "missing", "--", "true"], 125),
            (&["--", "no-such-tool"], 127),
        ];
        for (words, code) in table {
            let (ended, said) = call(words);
            assert_eq!(ended, code, "{said}");
            nothing_is_left();
        }
        let mut killed = Command::new(stage::notapipe())
            .args(["run", "-q", "--", "sh", "-c", "echo $$ > x; exec sleep 600"])
            .spawn()
            .unwrap();
        let mut step = String::new();
        stage::eventually("the step runs", || {
            let made = std::fs::read_dir("/dev/shm").unwrap().flatten();
            let numbers =
                made.filter_map(|it| std::fs::read_to_string(it.path().join("files/x")).ok());
            step = numbers.collect();
            step.ends_with('\n')
        });
        killed.kill().unwrap();
        killed.wait().unwrap();
        nothing_is_left();
        // Nothing of /proc is seen any more once the scene is over.
        let step = std::path::Path::new("/proc").join(step.trim_end());
        stage::eventually("the step has ended", || !step.exists());
    });
}
