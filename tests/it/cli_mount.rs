//! `notapipe mount` and `notapipe umount`.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::site::{
    Call, Site, Told, USER, Who, both, may_be_root, mounts_below, until, with_own_mounts,
};

/// As root and as an ordinary user, where no other test sees what is mounted.
fn both_alone(test: impl Fn(&Site) + Sync) {
    with_own_mounts(|| both(&test));
}

fn mount(site: &Site, options: &[&str]) -> Told {
    site.call(&[&["mount", "--background"], options].concat())
}

/// A server in the foreground, when it is ready: it says so with `-v`.
fn serve(site: &Site, options: &[&str]) -> Call {
    let before = mounts_below(&site.work()).len();
    let call = Call::start(site.command(&[&["mount"], options].concat()));
    until("it is mounted", || {
        mounts_below(&site.work()).len() > before
    });
    // The first look may still wait for the server, and is then answered.
    shell(site, "ls m").ended(0);
    call
}

fn shell(site: &Site, script: &str) -> Told {
    Call::start(site.tool(&["sh", "-c", script])).finish()
}

#[test]
fn in_the_background_it_is_ready_when_the_command_returns() {
    both_alone(|site| {
        site.create_dir("m");
        for _ in 0..5 {
            mount(site, &["m"]).ended(0).silently();
            shell(site, "echo first > m/x && cat m/x")
                .ended(0)
                .printing("first\n");
            site.call(&["umount", "m"]).ended(0).silently();
            assert_eq!(site.listing(), ["m/"]);
        }
    });
}

#[test]
fn the_background_lets_go_of_the_callers_streams_and_directory() {
    both_alone(|site| {
        site.create_dir("m");
        // `finish` reads both streams to their end.
        mount(site, &["m"]).ended(0);
        for server in site.servers() {
            for (link, target) in [
                ("cwd", "/"),
                ("fd/0", "/dev/null"),
                ("fd/1", "/dev/null"),
                ("fd/2", "/dev/null"),
            ] {
                let link = fs::read_link(format!("/proc/{server}/{link}")).unwrap();
                assert_eq!(link, std::path::Path::new(target));
            }
        }
        assert_eq!(site.servers().len(), 1);
        site.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn an_unmount_from_outside_ends_the_foreground_with_0() {
    both_alone(|site| {
        site.create_dir("m");
        let call = serve(site, &["m"]);
        site.call(&["umount", "m"]).ended(0).silently();
        call.finish().ended(0).silently();
        // Also by the tools that every system has.
        let call = serve(site, &["m"]);
        let words = if site.is_root() {
            &["umount", "m"][..]
        } else {
            &["fusermount3", "-u", "m"]
        };
        Call::start(site.tool(words)).finish().ended(0);
        call.finish().ended(0).silently();
    });
}

#[test]
fn a_signal_unmounts() {
    both_alone(|site| {
        site.create_dir("m");
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let call = serve(site, &["m"]);
            shell(site, "echo > m/x").ended(0);
            call.signal(signal);
            call.finish().ended(code).silently();
            assert_eq!(site.listing(), ["m/"]);
        }
    });
}

#[test]
fn a_signal_unmounts_also_under_those_who_use_it() {
    both_alone(|site| {
        site.create_dir("m");
        let call = serve(site, &["m"]);
        let holder = hold(site);
        call.signal(Signal::TERM);
        call.finish()
            .ended(143)
            .saying(&["notapipe: warning: ", "in use"]);
        assert_eq!(site.listing(), ["m/"]);
        drop(holder);
    });
}

/// A process in the mount.
fn hold(site: &Site) -> Call {
    let before = site.endless_ones();
    let call = Call::start(site.tool(&["sh", "-c", &format!("cd m; exec {}", site.endless())]));
    until("it holds the mount", || site.endless_ones() > before);
    call
}

#[test]
fn a_mount_in_use_stays_and_the_holder_is_named() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        let holder = hold(site);
        let pid = format!("process {}", holder.pid());
        let told = site.call(&["umount", "m"]).ended(125);
        told.saying(&["notapipe: ", "in use", "sleep", &pid, "--lazy"]);
        shell(site, "echo still > m/x; cat m/x")
            .ended(0)
            .printing("still\n");
        drop(holder);
        site.call(&["umount", "m"]).ended(0).silently();
    });
}

#[test]
fn lazily_it_goes_at_once_and_ends_with_its_last_user() {
    both_alone(|site| {
        site.create_dir("m");
        let call = serve(site, &["m"]);
        let holder = hold(site);
        site.call(&["umount", "--lazy", "m"]).ended(0).silently();
        assert!(mounts_below(&site.work()).is_empty());
        // The user goes on in what the path no longer leads to.
        shell(site, &format!("echo more > /proc/{}/cwd/x", holder.pid())).ended(0);
        assert_eq!(site.listing(), ["m/"]);
        drop(holder);
        call.finish().ended(0).silently();
    });
}

#[test]
fn options_show_in_the_mount() {
    both_alone(|site| {
        site.create_dir("m");
        let words = [
            "--size",
            "8M",
            "--inodes",
            "64",
            "--mode",
            "1777",
            "--name",
            "my-scratch",
            "m",
        ];
        mount(site, &words).ended(0).silently();
        let look =
            "stat -c '%a %U' m; stat -f -c '%S %b %c' m; df --output=source,size m | tail -n1";
        let user = site.tool(&["id", "-un"]).output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        let told = shell(site, look).ended(0);
        let text = told.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [&format!("1777 {}", user.trim_end()), "4096 2048 64"]
        );
        assert_eq!(
            lines[2].split_whitespace().collect::<Vec<_>>(),
            ["my-scratch", "8192"]
        );
        shell(site, "head -c 9M /dev/zero > m/x")
            .ended(1)
            .saying(&["No space left on device"]);
        site.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn nobody_writes_to_a_read_only_mount() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["--read-only", "m"]).ended(0);
        shell(site, "echo > m/x")
            .ended(2)
            .saying(&["Read-only file system"]);
        site.call(&["umount", "m"]).ended(0);
    });
}

fn as_nobody(site: &Site, script: &str) -> Told {
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    let words = [
        "setpriv",
        &user,
        &group,
        "--clear-groups",
        "sh",
        "-c",
        script,
    ];
    Call::start(site.tool(&words)).finish()
}

#[test]
fn other_users_are_kept_out_unless_they_are_let_in() {
    with_own_mounts(|| {
        let Some(site) = Site::of_root() else {
            return;
        };
        site.create_dir("m");
        mount(&site, &["--mode", "1777", "m"]).ended(0);
        let told = as_nobody(&site, "ls m");
        assert!(
            !told.status.success() && told.stderr.contains("Permission denied"),
            "{told:?}"
        );
        site.call(&["umount", "m"]).ended(0);

        mount(&site, &["--mode", "1777", "--allow-other", "m"]).ended(0);
        as_nobody(&site, "echo mine > m/x; stat -c %u m/x")
            .ended(0)
            .printing(&format!("{USER}\n"));
        shell(&site, "echo roots > m/y; chmod 600 m/y").ended(0);
        assert!(!as_nobody(&site, "cat m/y").status.success());
        site.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn root_is_kept_out_of_a_users_mount() {
    if !may_be_root("all of it") {
        return;
    }
    with_own_mounts(|| {
        let site = Site::new(Who::User);
        site.create_dir("m");
        mount(&site, &["m"]).ended(0);
        let refused = fs::read_dir(site.path("m")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        site.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn after_kill_9_the_mount_is_gone() {
    both_alone(|site| {
        site.create_dir("m");
        // At once, and when it has been used.
        for use_it in [":", "echo > m/x; ls m"] {
            let call = serve(site, &["m"]);
            shell(site, use_it).ended(0);
            call.signal(Signal::KILL);
            drop(call);
            until("it is gone", || mounts_below(&site.work()).is_empty());
            assert_eq!(site.listing(), ["m/"]);
            site.expect_nothing_left();
        }
    });
}

#[test]
fn after_kill_9_of_the_background_the_mount_is_gone() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        let servers = site.servers();
        assert_eq!(servers.len(), 1);
        kill_process(Pid::from_raw(servers[0]).unwrap(), Signal::KILL).unwrap();
        until("it is gone", || mounts_below(&site.work()).is_empty());
        assert_eq!(site.listing(), ["m/"]);
    });
}

#[test]
fn a_directory_that_is_not_empty_is_refused() {
    both_alone(|site| {
        site.write("m/x", "x");
        for words in [&["mount", "m"][..], &["mount", "--background", "m"]] {
            site.call(words)
                .ended(125)
                .saying(&["notapipe: ", "/m\"", "not empty", "-o nonempty"]);
        }
        assert_eq!(site.listing(), ["m/", "m/x: x"]);
    });
}

#[test]
fn what_cannot_be_mounted_over_is_refused() {
    both_alone(|site| {
        site.write("file", "");
        site.symlink("gone", "dangling");
        for (dir, why) in [
            ("gone", "No such file or directory"),
            ("dangling", "No such file or directory"),
            ("file", "not a directory"),
            ("file/below", "Not a directory"),
        ] {
            for words in [&["mount", dir][..], &["mount", "--background", dir]] {
                site.call(words)
                    .ended(125)
                    .saying(&["notapipe: cannot mount over", dir, why])
                    .printing("");
            }
        }
    });
}

/// Root only: fusermount3 looks at the place as root, who is kept out of a user's mount.
#[test]
fn a_second_mount_covers_the_first() {
    with_own_mounts(|| {
        let Some(site) = &Site::of_root() else {
            return;
        };
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        mount(site, &["m"]).ended(0);
        shell(site, "echo upper > m/x").ended(0);
        site.call(&["umount", "m"]).ended(0);
        shell(site, "ls m; echo lower > m/y").ended(0).printing("");
        site.call(&["umount", "m"]).ended(0);
        site.call(&["umount", "m"])
            .ended(125)
            .saying(&["no notapipe mount"]);
    });
}

#[test]
fn only_a_mount_of_ours_is_unmounted() {
    both_alone(|site| {
        site.create_dir("plain");
        for dir in ["plain", "gone", "/proc", "/"] {
            let told = site.call(&["umount", dir]).ended(125);
            told.saying(&[
                "notapipe: cannot unmount",
                dir,
                "no notapipe mount stands there",
            ]);
        }
        assert!(std::path::Path::new("/proc/self").exists());
    });
}

#[test]
fn a_directory_with_an_odd_name_works() {
    both_alone(|site| {
        let odd = "two words\nand\\040a \u{fc}";
        site.create_dir(odd);
        mount(site, &[odd]).ended(0).silently();
        let quoted = format!("echo in > '{odd}/x'; cat '{odd}/x'");
        shell(site, &quoted).ended(0).printing("in\n");
        site.call(&["umount", odd]).ended(0).silently();
        // The holders of such a mount are found, too.
        mount(site, &["--name", "odd name", odd]).ended(0);
        let words = format!("cd '{odd}'; exec {}", site.endless());
        let holder = Call::start(site.tool(&["sh", "-c", &words]));
        until("it holds the mount", || site.endless_ones() == 1);
        let told = site.call(&["umount", odd]).ended(125);
        told.saying(&["in use", &format!("process {}", holder.pid())]);
        drop(holder);
        site.call(&["umount", odd]).ended(0);
    });
}

#[test]
fn a_job_takes_its_inputs_from_a_mount_and_delivers_into_it() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        shell(site, "echo source > m/in").ended(0);
        site.run(&["-i", "m/in", "-o", "m/out", "--", "cp", "m/in", "m/out"])
            .ended(0)
            .silently();
        shell(site, "cat m/out").ended(0).printing("source\n");
        site.call(&["umount", "m"]).ended(0);
    });
}

/// The one server that there is.
fn server(site: &Site) -> Pid {
    let servers = site.servers();
    assert_eq!(servers.len(), 1, "{servers:?}");
    Pid::from_raw(servers[0]).unwrap()
}

/// What a shell has to quote, and mountinfo to escape.
const ODD: &[u8] = b"odd \xfe\n\\0407%d ";

#[test]
fn a_directory_above_it_may_be_renamed() {
    both_alone(|site| {
        let new = site.path(OsStr::from_bytes(ODD));
        let (old, moved) = (site.path("project"), new.join("m"));
        for round in 0..4 {
            site.create_dir("project/m");
            let call = match round {
                1 => {
                    let words = ["mount", "--save", "saved.tar", "project/m"];
                    let call = Call::start(site.command(&words));
                    until("it is mounted", || !mounts_below(&site.work()).is_empty());
                    Some(call)
                }
                _ => {
                    mount(site, &["project/m"]).ended(0);
                    None
                }
            };
            shell(site, "echo > project/m/x").ended(0);
            fs::rename(&old, &new).unwrap();
            let told = site.call(&[OsStr::new("status"), moved.as_os_str()]);
            let shown = r"odd \xfe\n\\0407%d /m";
            assert!(
                told.ended(0)
                    .text()
                    .lines()
                    .next()
                    .unwrap()
                    .ends_with(shown)
            );
            match round {
                0 => drop(
                    site.call(&[OsStr::new("umount"), moved.as_os_str()])
                        .ended(0),
                ),
                1 => {
                    let call = call.unwrap();
                    call.signal(Signal::TERM);
                    call.finish().ended(143).silently();
                    assert!(site.exists("saved.tar"));
                }
                2 => kill_process(server(site), Signal::TERM).unwrap(),
                _ => kill_process(server(site), Signal::KILL).unwrap(),
            }
            until("it is gone", || mounts_below(&site.work()).is_empty());
            fs::remove_dir(&moved).unwrap();
            fs::remove_dir(&new).unwrap();
            // No server, and no watchdog.
            site.expect_nothing_left();
        }
    });
}

/// Another user may own the directory above, and put a symlink in the place of the one that root looks at.
#[test]
fn what_was_looked_at_is_mounted_over() {
    with_own_mounts(|| {
        let Some(site) = Site::of_root() else {
            return;
        };
        site.write("target/file", "x");
        let (directory, link) = (site.path("m"), site.path("link"));
        for _ in 0..20 {
            site.create_dir("m");
            site.symlink("target", "link");
            let done = AtomicBool::new(false);
            let told = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        // Refused once one of them is a mount point.
                        let _ = renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE);
                    }
                });
                let told = mount(&site, &["m"]);
                done.store(true, Ordering::Relaxed);
                told
            });
            let mounts = mounts_below(&site.work());
            assert!(
                !mounts.iter().any(|line| line.contains("/target ")),
                "{told:?}"
            );
            assert_eq!(mounts.len(), usize::from(told.status.success()), "{told:?}");
            assert_eq!(site.read("target/file"), b"x");
            for name in ["m", "link"] {
                if !site.path(name).is_symlink() && told.status.success() {
                    site.call(&["umount", name]).ended(0).silently();
                }
                let _ = fs::remove_dir(site.path(name));
                let _ = fs::remove_file(site.path(name));
            }
        }
    });
}

#[test]
fn a_symlink_that_the_caller_named_is_followed() {
    both_alone(|site| {
        site.create_dir("m");
        site.symlink("m", "link");
        mount(site, &["link"]).ended(0).silently();
        assert!(mounts_below(&site.work())[0].contains("/work/m "));
        site.call(&["status", "link"]).ended(0);
        site.call(&["umount", "link"]).ended(0).silently();
        assert!(mounts_below(&site.work()).is_empty());
    });
}

/// A sandbox in which the mount goes on when it is unmounted here, and a process that has it as its working directory.
fn sandbox(site: &Site) -> Call {
    let script = format!("cd m; exec {}", site.endless());
    let words = ["unshare", "-m", "--propagation", "private"];
    let user = ["--user", "--map-current-user"];
    let user = if site.is_root() { &[][..] } else { &user };
    let call = Call::start(site.tool(&[&words, user, &["sh", "-c", &script]].concat()));
    until("it holds the mount", || site.endless_ones() > 0);
    call
}

#[test]
fn a_copy_in_use_is_not_waited_for_and_what_was_there_is_saved() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["--save", "saved.tar", "m"]).ended(0);
        shell(site, "echo before > m/x").ended(0);
        let server = server(site).to_string();
        let holder = sandbox(site);
        site.call(&["umount", "m"]).ended(0).saying(&[
            "warning",
            "copy",
            &format!("process {server}"),
            "saved nowhere",
        ]);
        assert!(mounts_below(&site.work()).is_empty());
        shell(site, "tar -xOf saved.tar ./x || tar -xOf saved.tar x")
            .ended(0)
            .printing("before\n");
        // The copy is served as long as it is used.
        if site.is_root() {
            let inside = format!("cat /proc/{}/cwd/x", holder.pid());
            shell(site, &inside).ended(0).printing("before\n");
        }
        drop(holder);
        until("its server has ended", || site.servers().is_empty());
    });
}

#[test]
fn a_bind_mount_is_served_until_it_is_gone() {
    with_own_mounts(|| {
        let Some(site) = Site::of_root() else {
            return;
        };
        site.create_dir("m");
        site.create_dir("bound");
        let call = serve(&site, &["m"]);
        shell(&site, "echo kept > m/x; mount --bind m bound").ended(0);
        site.call(&["umount", "m"]).ended(0).silently();
        shell(&site, "cat bound/x; ls m; umount bound")
            .ended(0)
            .printing("kept\n");
        call.finish().ended(0).saying(&["warning", "bind mount"]);
    });
}

/// Fills a file through a mapping beyond the limit: the kernel has no way to tell the process.
fn lose_pages(site: &Site) {
    let script = "import mmap, os
f = os.open('m/f', os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 4 << 20)
m = mmap.mmap(f, 4 << 20)
for at in range(0, 4 << 20, 4096): m[at] = 1
m.close()";
    Call::start(site.tool(&["python3", "-c", script]))
        .finish()
        .ended(0);
}

#[test]
fn lost_pages_are_told() {
    both_alone(|site| {
        site.create_dir("m");
        let lost = ["f lost bytes", "memory mapping", "limit of 1 MiB", "--size"];
        mount(site, &["--size", "1M", "--save", "saved.tar", "m"]).ended(0);
        let status = site.call(&["status", "m"]).ended(0).text();
        assert!(!status.contains("lost"), "{status}");
        lose_pages(site);
        let status = site.call(&["status", "m"]).ended(0).text();
        assert!(status.contains("lost bytes   f: "), "{status}");
        site.call(&["snapshot", "m", "-o", "taken.tar"])
            .ended(125)
            .saying(&lost);
        site.call(&["umount", "m"]).ended(125).saying(&lost);
        // All that there is of it.
        assert!(site.exists("saved.tar") && site.exists("taken.tar"));

        let call = serve(site, &["--size", "1M", "m"]);
        lose_pages(site);
        call.signal(Signal::TERM);
        call.finish().ended(125).saying(&lost);
    });
}

#[test]
fn who_has_a_socket_bound_in_it_is_named() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        // Neither a descriptor of it nor its working directory leads into the mount.
        let script = format!(
            "import os, socket, subprocess
s = socket.socket(socket.AF_UNIX)
os.chdir('m'); s.bind('socket'); os.chdir('/')
s.set_inheritable(True)
words = '{}'.split()
os.execvp(words[0], words)",
            site.endless()
        );
        let holder = Call::start(site.tool(&["python3", "-c", &script]));
        until("it holds the mount", || site.endless_ones() > 0);
        site.call(&["umount", "m"])
            .ended(125)
            .saying(&["in use", &format!("process {}", holder.pid())]);
        drop(holder);
        site.call(&["umount", "m"]).ended(0).silently();
    });
}

#[test]
fn a_server_that_is_stopped_is_not_waited_for() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["m"]).ended(0);
        let server = server(site);
        kill_process(server, Signal::STOP).unwrap();
        let process = format!("process {server}, which serves the mount, is stopped");
        for words in [
            &["status", "m"][..],
            &["list"],
            &["umount", "m"],
            &["snapshot", "m", "-o", "taken.tar"],
            &["resize", "m", "--size", "1M"],
        ] {
            site.call(words)
                .ended(125)
                .saying(&[&process, "kill -CONT", "umount --lazy"]);
        }
        assert_eq!(mounts_below(&site.work()).len(), 1);
        site.call(&["umount", "--lazy", "m"])
            .ended(0)
            .saying(&["warning", &process]);
        assert!(mounts_below(&site.work()).is_empty());
        kill_process(server, Signal::CONT).unwrap();
        until("it has ended", || site.servers().is_empty());
    });
}

#[test]
fn nothing_is_executed_in_a_mount_with_noexec() {
    both_alone(|site| {
        site.create_dir("m");
        mount(site, &["-o", "noexec", "m"]).ended(0).silently();
        shell(site, "cp /bin/true m/true; m/true")
            .ended(126)
            .saying(&["Permission denied"]);
        site.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn a_name_that_is_not_utf8_is_mounted_over_and_listed() {
    both_alone(|site| {
        let odd = site.path(OsStr::from_bytes(ODD));
        site.create_dir(Path::new(OsStr::from_bytes(ODD)));
        site.call(&[
            OsStr::new("mount"),
            OsStr::new("--background"),
            odd.as_os_str(),
        ])
        .ended(0)
        .silently();
        let listed = site.call(&["list"]).ended(0).text();
        assert!(listed.contains(r"odd \xfe\n\\0407%d "), "{listed}");
        site.call(&[OsStr::new("umount"), odd.as_os_str()])
            .ended(0)
            .silently();
        assert!(mounts_below(&site.work()).is_empty());
    });
}

#[test]
fn numbers_beyond_all_bounds_are_refused() {
    let Some(site) = Site::of_root() else {
        return;
    };
    site.create_dir("m");
    for option in [
        "size=99999999999999999999G",
        "size=99999999999999P",
        "size=101%",
        "inodes=99999999999999999999",
        "inodes=99999999999999P",
        "mode=77777777777777777777",
        "uid=4294967296",
        "gid=-1",
    ] {
        let name = option.split('=').next().unwrap();
        site.call(&["mount", "-o", option, "m"]).ended(2).saying(&[
            &format!("the mount option {name}="),
            "cannot be used",
            "help: ",
        ]);
    }
}
