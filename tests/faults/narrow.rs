//! Containers and narrow places: what is not permitted, what is not there, and what is short.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use notapipe::mount::{MountOptions, Remedy};

use crate::degraded::{NO_FUSE, behind, call, no_namespaces, nothing_is_left};
use crate::stage::{self, Who};
use crate::tiny_fs;

/// Writes 8 MiB in pieces and goes on whatever write(2) says.
const CARELESS: &str = "import os
f = os.open('x', os.O_WRONLY | os.O_CREAT)
for piece in range(128):
    try: os.write(f, b'a' * 65536)
    except OSError: pass";

/// The scene as root and as a user.
fn both_behind(script: &str, name: &str, scene: fn()) {
    if stage::is_playing(name) {
        return scene();
    }
    for who in [Who::Root, Who::User] {
        behind(script, name, who, scene);
    }
}

/// `notapipe run` with these words, in a process that `prepare` has made narrow.
fn narrow(
    words: &[&str],
    prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) -> Output {
    let room = tempfile::tempdir().unwrap();
    let mut command = Command::new(stage::notapipe());
    command
        .arg("run")
        .args(words)
        .current_dir(room.path())
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    // SAFETY: `prepare` makes system calls only.
    unsafe { command.pre_exec(prepare) };
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn limit(resource: rustix::process::Resource, most: u64) -> std::io::Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

/// The command lines of a few kinds of job.
const JOBS: [&[&str]; 4] = [
    &["-o", "x=/dev/null", "--", "sh", "-c", "echo x > x"],
    &[
        "-i",
        "p=/etc/passwd",
        "--",
        "cat",
        "p",
        "--pipe",
        "wc",
        "-l",
    ],
    &["--follow", "x", "--", "sh", "-c", "echo x > x"],
    &[
        "--input-from",
        "x",
        "echo x",
        "--mount",
        "public",
        "--",
        "cat",
        "x",
    ],
];

/// With every number of descriptors there is a result, or a message that names the limit.
fn few_descriptors() {
    for job in JOBS {
        let mut succeeded = 0;
        // With fewer than 4 the C library is not loaded.
        for most in 4.. {
            let output = narrow(job, move || limit(rustix::process::Resource::Nofile, most));
            let said = said(&output);
            match output.status.code() {
                Some(0) => succeeded += 1,
                Some(125) => {
                    let named = said.contains(&format!("open files, which is {most} (ulimit -n"));
                    assert!(named, "{most} descriptors: {said}");
                }
                code => panic!("{most} descriptors: {code:?}: {said}"),
            }
            assert!(!said.contains("report it"), "{said}");
            assert!(most < 100, "never enough: {said}");
            if succeeded > 3 {
                break;
            }
        }
    }
}

#[test]
fn with_few_descriptors_the_limit_is_named() {
    stage::both(
        "narrow::with_few_descriptors_the_limit_is_named",
        few_descriptors,
    );
}

#[test]
fn with_few_descriptors_and_no_fuse_the_limit_is_named() {
    let name = "narrow::with_few_descriptors_and_no_fuse_the_limit_is_named";
    let scene = || {
        for job in &JOBS[..3] {
            for most in 4..40 {
                let output = narrow(job, move || limit(rustix::process::Resource::Nofile, most));
                let said = said(&output);
                match output.status.code() {
                    Some(0) => {}
                    Some(125) => assert!(said.contains("(ulimit -n"), "{most}: {said}"),
                    code => panic!("{most} descriptors: {code:?}: {said}"),
                }
                nothing_is_left();
            }
        }
    };
    if stage::is_playing(name) {
        return scene();
    }
    behind(NO_FUSE, name, Who::Root, scene);
    behind(&no_namespaces(), name, Who::User, scene);
}

/// Wherever on its way a mount lacks a descriptor, it is refused for that, and none is public that was to be private.
#[test]
fn for_want_of_descriptors_no_mount_is_public() {
    let name = "narrow::for_want_of_descriptors_no_mount_is_public";
    stage::both(name, || {
        limit(rustix::process::Resource::Nofile, 80).unwrap();
        for others in 0..16 {
            let others: Vec<_> = (0..others).map(|_| fs::File::open("/").unwrap()).collect();
            let mut mounts = Vec::new();
            let refused = loop {
                match tiny_fs::mount(&MountOptions::default()) {
                    Ok(mount) => mounts.push(mount),
                    Err(error) => break error,
                }
            };
            assert!(mounts.iter().all(|it| it.point().is_private()));
            assert!(!refused.lacks_fuse());
            let remedy = refused.remedy();
            assert_eq!(remedy, Some(Remedy::RaiseDescriptors), "{refused}");
            drop((mounts, others));
        }
    });
}

/// A user of its own, whose processes are counted by themselves.
#[test]
fn with_few_processes_the_limit_is_named() {
    let name = "narrow::with_few_processes_the_limit_is_named";
    let script = "shift_user() { shift 4; exec setpriv --reuid=54321 --regid=54321 --clear-groups \"$@\"; }; \
                  shift_user \"$@\"";
    behind(script, name, Who::User, || {
        let mut succeeded = 0;
        // This process and its two threads are counted.
        for most in 3.. {
            let words = ["--", "true"];
            let output = narrow(&words, move || {
                limit(rustix::process::Resource::Nproc, most)
            });
            let said = said(&output);
            match output.status.code() {
                Some(0) => succeeded += 1,
                Some(125) => assert!(said.contains("(ulimit -u"), "{most}: {said}"),
                code => panic!("{most} processes: {code:?}: {said}"),
            }
            assert!(!said.contains("report it"), "{said}");
            assert!(most < 40, "never enough: {said}");
            if succeeded > 3 {
                break;
            }
        }
    });
}

/// A seccomp filter by which these system calls fail.
fn refuse(calls: &[libc::c_long], errno: i32) -> std::io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [instruction(0, 0, 0, 0); 16];
    let mut length = 0;
    let mut add = |it| {
        program[length] = it;
        length += 1;
    };
    // The number is the first field of struct seccomp_data.
    add(instruction(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
        0,
    ));
    for &call in calls {
        add(instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            call as u32,
        ));
        let fail = libc::SECCOMP_RET_ERRNO | errno as u32;
        add(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, fail));
    }
    add(instruction(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_ALLOW,
    ));
    let filter = libc::sock_fprog {
        len: length as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: numbers, and a filter that lives until the kernel has copied it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
    };
    match done {
        true => Ok(()),
        false => Err(std::io::Error::last_os_error()),
    }
}

/// A sandbox that refuses some of what namespaces take. With fusermount3 powerless, an ordinary user's job runs in a
/// directory; root's is public where it can be.
#[test]
fn what_a_sandbox_refuses_is_done_another_way() {
    stage::both("narrow::what_a_sandbox_refuses_is_done_another_way", || {
        let table: [&[libc::c_long]; 4] = [
            &[libc::SYS_unshare],
            &[libc::SYS_mount],
            &[libc::SYS_setns],
            &[
                libc::SYS_unshare,
                libc::SYS_mount,
                libc::SYS_fsopen,
                libc::SYS_fsmount,
            ],
        ];
        for calls in table {
            for errno in [libc::EPERM, libc::ENOSYS] {
                let output = narrow(&["--", "sh", "-c", "echo x > x; cat x"], move || {
                    refuse(calls, errno)
                });
                let said = said(&output);
                assert_eq!(output.status.code(), Some(0), "{calls:?}: {said}");
                assert_eq!(output.stdout, b"x\n", "{calls:?}: {said}");
                let private = ["--mount", "private", "--", "true"];
                let output = narrow(&private, move || refuse(calls, errno));
                let said = self::said(&output);
                assert_eq!(output.status.code(), Some(125), "{calls:?}: {said}");
                assert!(said.contains("docker run --cap-add SYS_ADMIN"), "{said}");
            }
        }
    });
}

/// What a container gives to a user that is not root (`--user 1000 --cap-add SYS_ADMIN`), and root without a capability
/// that entering a mount namespace takes.
#[test]
fn one_of_two_capabilities_does_not_hinder() {
    let name = "narrow::one_of_two_capabilities_does_not_hinder";
    let scene = || {
        let (code, said) = call(&["--mount", "private", "--", "sh", "-c", "echo x > x; cat x"]);
        assert_eq!((code, said.as_str()), (0, "x\n"));
    };
    if stage::is_playing(name) {
        return scene();
    }
    behind(
        "exec setpriv --bounding-set=-sys_chroot \"$@\"",
        name,
        Who::Root,
        scene,
    );
    let with_one = "shift_user() { shift 4; exec setpriv --reuid=54321 --regid=54321 --clear-groups \
                    --inh-caps=+sys_admin --ambient-caps=+sys_admin \"$@\"; }; shift_user \"$@\"";
    behind(with_one, name, Who::User, scene);
}

#[test]
fn a_full_tmpfs_of_its_own_fails_the_job() {
    let name = "narrow::a_full_tmpfs_of_its_own_fails_the_job";
    let scene = || {
        let room = tempfile::tempdir().unwrap();
        let place = room.path().join("x");
        let out = format!("x={}", place.display());
        let words = ["--size", "4M", "-o", &out, "--", "python3", "-c", CARELESS];
        let (code, said) = call(&words);
        assert_eq!(code, 125, "{said}");
        assert!(
            said.contains("more than the limit of 4 MiB") && said.contains("--size"),
            "{said}"
        );
        assert!(!place.exists());
        // All of it can be used; and a tool that looks ends as it would in a mount.
        let (code, said) = call(&[
            "--size",
            "4M",
            "-o",
            &out,
            "--",
            "sh",
            "-c",
            "head -c 4M /dev/zero > x",
        ]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(fs::metadata(&place).unwrap().len(), 4 << 20);
        let (code, said) = call(&["--size", "4M", "--", "cp", "/dev/zero", "x"]);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("No space left on device") && said.contains("may hold 4 MiB"),
            "{said}"
        );
        let (code, said) = call(&["--inodes", "3", "--", "sh", "-c", "touch a b c; true"]);
        assert_eq!(code, 125, "{said}");
        assert!(said.contains("3 files and directories"), "{said}");
    };
    both_behind(NO_FUSE, name, scene);
}

/// A container without namespaces, whose `/dev/shm` has these options.
fn small(shm: &str, more: &str) -> String {
    let mounted =
        format!("mkdir /dev/shm; mount -t tmpfs -o mode=1777,{shm} none /dev/shm; {more}");
    no_namespaces().replace("mkdir -m 1777 /dev/shm;", &mounted)
}

#[test]
fn a_full_directory_fails_the_job() {
    let name = "narrow::a_full_directory_fails_the_job";
    let scene = || {
        let room = tempfile::tempdir().unwrap();
        let place = room.path().join("x");
        let out = format!("x={}", place.display());
        let (code, said) = call(&["-o", &out, "--", "python3", "-c", CARELESS]);
        assert_eq!(code, 125, "{said}");
        // It was said before, and how much there is.
        let told = said.lines().next().unwrap();
        assert!(
            told.contains("/dev/shm/notapipe-") && told.contains("room for 3.8 MiB"),
            "{told}"
        );
        assert!(
            said.contains("may be cut") && said.contains("--shm-size"),
            "{said}"
        );
        assert!(!place.exists());
        nothing_is_left();
        // Taken by another process.
        let take = "echo x > x; head -c 8M /dev/zero > /dev/shm/other; true";
        let (code, said) = call(&["--tmp", "host", "-o", &out, "--", "sh", "-c", take]);
        assert_eq!(code, 125, "{said}");
        assert!(!place.exists());
        fs::remove_file("/dev/shm/other").unwrap();
        nothing_is_left();
    };
    both_behind(&small("size=4m", ""), name, scene);
}

/// Has a job make a program and execute it; gives what it said, when its directory was in this place.
fn made_in(place: &str, words: &[&str]) -> String {
    let make = "pwd; printf '#!/bin/sh\\necho ran' > t; chmod +x t; ./t; true";
    let (code, said) = call(&[words, &["--", "sh", "-c", make]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("\n{place}/notapipe-")), "{said}");
    said
}

#[test]
fn a_place_where_programs_can_be_executed_comes_before_one_with_more_room() {
    let name = "narrow::a_place_where_programs_can_be_executed_comes_before_one_with_more_room";
    let script = small(
        "size=64m,noexec",
        "mount -t tmpfs -o size=8m,mode=1777 none /mnt;",
    );
    behind(&script, name, Who::User, || {
        assert!(made_in("/mnt", &[]).ends_with("ran\n"));
    });
}

#[test]
fn the_place_with_the_most_room_is_taken() {
    let name = "narrow::the_place_with_the_most_room_is_taken";
    let script = small("size=4m", "mount -t tmpfs -o size=32m,mode=1777 none /mnt;");
    behind(&script, name, Who::User, || {
        made_in("/mnt", &[]);
        // Where both have enough, the usual one.
        made_in("/dev/shm", &["--size", "1M"]);
    });
}

#[test]
fn where_programs_cannot_be_executed_it_is_said_before() {
    let name = "narrow::where_programs_cannot_be_executed_it_is_said_before";
    behind(&small("size=64m,noexec", ""), name, Who::User, || {
        let said = made_in("/dev/shm", &[]);
        let told = said.lines().next().unwrap();
        assert!(
            told.contains("cannot be executed there (noexec: docker run --tmpfs"),
            "{told}"
        );
        assert!(
            told.contains("docker run --device /dev/fuse --cap-add SYS_ADMIN"),
            "{told}"
        );
    });
}

#[test]
fn the_disk_is_taken_where_no_tmpfs_has_room_for_the_inputs() {
    let name = "narrow::the_disk_is_taken_where_no_tmpfs_has_room_for_the_inputs";
    behind(&small("size=1m", ""), name, Who::User, || {
        let room = tempfile::tempdir().unwrap();
        let large = room.path().join("large");
        fs::write(&large, vec![7; 2 << 20]).unwrap();
        let input = format!("in={}", large.display());
        let output = format!("out={}", room.path().join("out").display());
        let words = ["-i", &input, "-o", &output, "--", "cp", "in", "out"];
        let (code, said) = call(&words);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("ON DISK, in /"), "{said}");
        assert_eq!(
            fs::read(room.path().join("out")).unwrap(),
            fs::read(large).unwrap()
        );
    });
}

/// A root directory with next to nothing in it, and what our program and two tools are linked with.
const NEXT_TO_NOTHING: &str = "
    root=$(mktemp -d)
    mount -t tmpfs none $root
    mkdir $root/bin $root/proc $root/dev $root/tmp $root/mnt
    mount -t proc proc $root/proc
    mknod -m 666 $root/dev/fuse c 10 229
    for program in \"$@\"; do case $program in */faults) tests=$program ;; esac; done
    cp ${tests%/*}/notapipe /bin/touch $root/bin
    for library in $(for it in notapipe touch; do ldd $root/bin/$it; done | grep -o '/[^ ]*'); do
        mkdir -p $root/${library%/*}
        cp -L $library $root/$library
    done
    NARROW_ROOT=$root \"$@\"
    status=$?
    umount -l $root
    rmdir $root
    exit $status";

#[test]
fn an_image_without_a_shell_and_without_devices_is_told_of_the_right_thing() {
    let name = "narrow::an_image_without_a_shell_and_without_devices_is_told_of_the_right_thing";
    behind(NEXT_TO_NOTHING, name, Who::Root, || {
        let root = std::env::var("NARROW_ROOT").unwrap();
        let run = |words: &[&str]| {
            let words = [&[&root, "/bin/notapipe", "run"], words].concat();
            let output = Command::new("chroot").args(words).output().unwrap();
            (output.status.code(), said(&output))
        };
        let (code, said) = run(&["--", "touch", "x"]);
        assert_eq!(code, Some(125), "{said}");
        assert!(said.contains("there is no /dev/null (mknod"), "{said}");
        let made = Command::new("mknod")
            .args(["-m", "666", &format!("{root}/dev/null"), "c", "1", "3"])
            .status();
        assert!(made.unwrap().success());
        assert_eq!(run(&["--", "touch", "x"]), (Some(0), String::new()));
        let (code, said) = run(&["--mount", "public", "--", "touch", "x"]);
        assert_eq!(code, Some(125), "{said}");
        assert!(
            said.contains("cannot execute /bin/sh") && said.contains("busybox"),
            "{said}"
        );
        let (code, said) = run(&["--input-from", "x", "echo", "--", "touch", "x"]);
        assert_eq!(code, Some(125), "{said}");
        assert!(said.contains("cannot execute /bin/sh"), "{said}");
        // Without FUSE and namespaces it runs, and what is missing is said.
        let drop = [
            "--bounding-set=-sys_admin",
            "--inh-caps=-sys_admin",
            "chroot",
        ];
        let words = ["/bin/notapipe", "run", "--", "touch", "x"];
        let output = Command::new("setpriv")
            .args(drop)
            .arg(&root)
            .args(words)
            .output()
            .unwrap();
        let said = self::said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("no /bin/sh to remove it"), "{said}");
    });
}

#[test]
fn without_proc_it_is_said_that_it_must_be_mounted() {
    let name = "narrow::without_proc_it_is_said_that_it_must_be_mounted";
    // The test itself needs it.
    behind("exec \"$@\"", name, Who::Root, || {
        let without = "umount -l /proc; exec \"$@\"";
        let words = ["--mount", "sh", "-ec", without, "sh"];
        let output = Command::new("unshare")
            .args(words)
            .arg(stage::notapipe())
            .args(["run", "--", "true"])
            .output()
            .unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("mount -t proc proc /proc"), "{said}");
    });
}

/// Makes, changes, moves, links and closes files; the outputs are listed in the end.
const MANY_CHANGES: &str = "set -e
    cd tree
    echo more >> two; rm gone; mv large moved; ln sparse sparse2; mkdir -m 0 shut; mkdir new; echo n > new/n
    chmod 4750 new/n; ln new/n new/m; ln -s n new/s; truncate -s 10M new/holes; touch -d @1500000000 new/holes
    mv inner/one inner/deeper/one; chmod 0 new/n; chmod 0500 new";

/// Names, kinds, modes, sizes, blocks, links, targets and old times of what such a job has made.
fn changed_files() -> String {
    let room = tempfile::tempdir().unwrap();
    let make = "set -e; umask 022; mkdir -p tree/inner/deeper; echo one > tree/inner/one; echo two > tree/two
        ln tree/two tree/inner/link; echo > tree/gone; ln -s two tree/same; seq 500000 > tree/large
        touch -d @1400000000 tree/large; truncate -s 5M tree/sparse
        printf x | dd of=tree/sparse bs=1 seek=3000000 conv=notrunc status=none; chmod 0400 tree/inner/one";
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(room.path());
        shell.output().unwrap()
    };
    assert!(shell(make).status.success());
    let at = |name: &str| {
        room.path()
            .join(name)
            .into_os_string()
            .into_string()
            .unwrap()
    };
    let input = format!("tree={}", at("tree"));
    let changed = format!("--changed={}", at("out/changed"));
    let all = format!("tree={}", at("out/all"));
    let words = [
        "-q",
        "-i",
        &input,
        &changed,
        "-o",
        &all,
        "--",
        "sh",
        "-c",
        MANY_CHANGES,
    ];
    let (code, said) = call(&words);
    assert_eq!((code, said.as_str()), (0, ""));
    let list = "cd out; find . -type f -printf '%P %m %s %b %n %T@\\n' | sed '/ 1[45][0-9]\\{8\\}\\./!s/ [0-9.]*$/ now/' | sort; \
                find . ! -type f -printf '%P %y %m %l\\n' | sort; cmp all/moved ../tree/large; \
                cat all/two all/inner/link all/inner/deeper/one changed/tree/two; chmod -R u+rwX .";
    let listed = shell(list);
    assert!(listed.status.success(), "{}", self::said(&listed));
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn files_come_back_as_from_a_mount() {
    let name = "narrow::files_come_back_as_from_a_mount";
    const EXPECTED: &str = "NARROW_EXPECTED";
    let scene = || {
        // The mount comes first, and says what the others are to be like.
        let place = std::env::var(EXPECTED).unwrap();
        let files = changed_files();
        match fs::read_to_string(&place) {
            Ok(expected) => assert_eq!(files, expected),
            Err(_) => fs::write(place, files).unwrap(),
        }
    };
    if stage::is_playing(name) {
        return scene();
    }
    for who in [Who::Root, Who::User] {
        let directory = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(directory.path(), mode).unwrap();
        let expected = directory.path().join("expected");
        let export = format!("export {EXPECTED}={};", expected.display());
        for script in ["exec \"$@\"", NO_FUSE, &no_namespaces()] {
            behind(&format!("{export} {script}"), name, who, scene);
            assert!(expected.exists());
        }
    }
}

#[test]
fn without_fuse_files_are_in_memory_once() {
    let name = "narrow::without_fuse_files_are_in_memory_once";
    let scene = || {
        const BYTES: usize = 48 << 20;
        let room = tempfile::tempdir().unwrap();
        let (large, go) = (room.path().join("large"), room.path().join("go"));
        fs::write(&large, vec![7; BYTES]).unwrap();
        let wait = format!(
            "echo began; while ! [ -e {} ]; do sleep 0.02; done; mv in out",
            go.display()
        );
        let mut call = Command::new(stage::notapipe())
            .args(["run", "-q", "--tmp", "host", "-i"])
            .arg(format!("in={}", large.display()))
            .arg("-o")
            .arg(format!("out={}", room.path().join("out").display()))
            .args(["--", "sh", "-c", &wait])
            .current_dir(room.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut began = [0; 6];
        std::io::Read::read_exact(call.stdout.as_mut().unwrap(), &mut began).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", call.id())).unwrap();
        let held = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let held = held
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse::<usize>()
            .unwrap()
            << 10;
        fs::write(go, "").unwrap();
        assert!(call.wait().unwrap().success());
        assert!(
            held < BYTES / 2,
            "{held} bytes while the file is on a tmpfs"
        );
        assert!(fs::read(room.path().join("out")).unwrap() == fs::read(large).unwrap());
    };
    if stage::is_playing(name) {
        return scene();
    }
    behind(NO_FUSE, name, Who::User, scene);
    behind(&no_namespaces(), name, Who::User, scene);
}
