//! `--settle`: results are whole, or there are none.

use notapipe::{Error, Job};

use crate::support::site::{Site, both, over_each_backing};

#[test]
fn what_is_still_written_is_waited_for() {
    over_each_backing(|site| {
        // The step ends at once, and its child goes on.
        let work = "(exec 3>out; echo begun >&3; sleep 0.3; echo done >&3) & until test -s out; do :; done";
        site.run(&["-o", "out", "--", "sh", "-c", work]).ended(0);
        assert_eq!(site.read("out"), b"begun\ndone\n");
        // So is a file that a daemon took over as its standard output.
        let work = "setsid sh -c 'sleep 0.3; echo done' & :";
        let words = ["-o", "out", "--", "--stdout", "out", "sh", "-c", work];
        site.run(&words).ended(0);
        assert_eq!(site.read("out"), b"done\n");
    });
}

#[test]
fn who_does_not_stop_writing_fails_the_job() {
    over_each_backing(|site| {
        site.write("out", "old");
        let work = format!(
            "(exec 3>sub/file; : > ready; {}) & until test -e ready; do :; done; echo new > out",
            site.endless()
        );
        let line = [
            "-o", "out", "-o", "sub/file", "--settle", "0.2", "--", "sh", "-c",
        ];
        let told = site.run(&[&line[..], &[&work]].concat()).ended(125);
        told.saying(&[
            "\"sub/file\" is still being written by ",
            "(process ",
            "--settle",
        ]);
        assert_eq!(site.listing(), ["out: old"]);
        site.expect_nothing_left();
    });
}

#[test]
fn a_shared_mapping_counts_as_writing() {
    over_each_backing(|site| {
        let work = "import mmap, os, time\n\
            file = os.open('out', os.O_RDWR | os.O_CREAT); os.truncate(file, 4096)\n\
            map = mmap.mmap(file, 4096); os.close(file)\n\
            if os.fork() == 0:\n  time.sleep(0.3); map[0:4] = b'done'\n";
        site.run(&["-o", "out", "--", "python3", "-c", work])
            .ended(0);
        assert_eq!(&site.read("out")[..4], b"done");
    });
}

/// Of a process whose first thread has ended, `/proc` shows no files unless another is asked.
#[test]
fn a_thread_that_goes_on_counts_as_writing() {
    over_each_backing(|site| {
        let work = format!(
            "import ctypes, os, threading, time\n\
             file = open('out', 'w')\n\
             def write():\n  time.sleep(0.5); file.write('done'); file.close(); os._exit(0)\n\
             threading.Thread(target=write).start()\n\
             ctypes.CDLL(None).syscall({})\n",
            libc::SYS_exit
        );
        let work = format!("python3 -c \"{work}\" & until test -e out; do :; done; sleep 0.2");
        site.run(&["-o", "out", "--", "sh", "-c", &work]).ended(0);
        assert_eq!(site.read("out"), b"done");
    });
}

#[test]
fn who_writes_nothing_is_ended_at_once() {
    over_each_backing(|site| {
        let endless = site.endless();
        // One with a file open to read, one whose file has no name, one with nothing.
        let work = format!(
            "echo x > a; (exec 3<a; {endless}) & (exec 4>b; rm b; exec {endless}) & setsid {endless} & \
             sleep 0.2"
        );
        let line = ["--settle", "1h", "-o", "a", "--", "sh", "-c", &work];
        site.run(&line).ended(0);
        assert_eq!(site.read("a"), b"x\n");
        site.expect_nothing_left();
    });
}

#[test]
fn a_failed_step_waits_for_nobody() {
    over_each_backing(|site| {
        let work = format!(
            "(exec 3>out; : > ready; {}) & until test -e ready; do :; done; exit 7",
            site.endless()
        );
        let told = site.run(&["--settle", "1h", "--", "sh", "-c", &work]);
        told.ended(7);
        site.expect_nothing_left();
    });
}

#[test]
fn the_library_waits_too() {
    let job = |work| Job::new().step(["sh", "-c", work]).output("out");
    // The file is there before it is open.
    let work =
        "(exec 3>out; : > ready; sleep 0.3; echo done >&3) & until test -e ready; do :; done";
    let outcome = job(work).run().unwrap();
    assert_eq!(outcome.output("out").unwrap(), "done\n");
    let work =
        "(exec 3>out; : > ready; exec sleep 1000) & until test -e ready; do :; done; sleep 0.2";
    let now = std::time::Duration::ZERO;
    let error = job(work).settle(now).run().unwrap_err().error;
    let Error::StillWritten { file, process, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(file, std::path::Path::new("out"));
    assert_eq!(process.command, "sleep 1000");
}

/// Words for a shell: has `out` open in a process that is in another mount namespace, for a moment or without end.
fn in_another_mount_namespace(site: &Site, unshare: &str, forever: bool) -> String {
    let rest = match forever {
        true => format!("exec {}", site.endless()),
        false => "sleep 0.3; echo done >&3".to_owned(),
    };
    format!(
        "{unshare} sh -c 'exec 3>out; echo begun >&3; : > ready; {rest}' & until test -e ready; do :; done"
    )
}

#[test]
fn who_writes_in_another_mount_namespace_is_waited_for() {
    both(|site| {
        let (unshare, without_the_mount): (_, &[&str]) = match site.is_root() {
            true => (
                "unshare -m",
                &["unshare -m sh -c 'umount -l $PWD; exec \"$@\"' sh"],
            ),
            false => ("unshare -Urm", &[]),
        };
        for mount in ["private", "public"] {
            let line = [
                "--mount", mount, "-o", "out", "--settle", "3", "--", "sh", "-c",
            ];
            let work = in_another_mount_namespace(site, unshare, false);
            site.run(&[&line[..], &[&work]].concat()).ended(0);
            assert_eq!(site.read("out"), b"begun\ndone\n");
            let line = [
                "--mount", mount, "-o", "out", "--settle", "0.2", "--", "sh", "-c",
            ];
            let opened_before = format!(
                "exec 3>out; : > ready; {unshare} {} & until test -e ready; do :; done",
                site.endless()
            );
            let mut works = vec![
                in_another_mount_namespace(site, unshare, true),
                opened_before,
            ];
            works.extend(
                without_the_mount
                    .iter()
                    .map(|leave| format!("exec 3>out; {leave} {} & sleep 0.2", site.endless())),
            );
            for work in works {
                let told = site.run(&[&line[..], &[&work]].concat()).ended(125);
                told.saying(&["is still being written by "]);
                site.expect_nothing_left();
            }
        }
    });
}

/// Has `out` open, and does not let others see it: by prctl(2), which tells nothing to root; and by a program that cannot be
/// read, which takes the word from whoever runs it.
fn unseen(site: &Site, time: &str) -> [String; 2] {
    let undumpable = format!(
        "import ctypes, time\\nfile = open('out', 'w')\\nctypes.CDLL(None).prctl(4, 0)\\nopen('ready', 'w')\\n\
         time.sleep({time})\\nfile.write('done')"
    );
    let unreadable = site.path("unreadable");
    if !unreadable.exists() {
        std::fs::copy("/bin/sleep", &unreadable).unwrap();
        site.chmod("unreadable", 0o111);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&unreadable, Some(0), Some(0)).unwrap();
        }
    }
    let unreadable = site.text("unreadable");
    [
        format!("python3 -c \"$(printf \"{undumpable}\")\" & until test -e ready; do :; done"),
        format!(
            "(exec 3>out; : > ready; exec {unreadable} {time}) & until test -e ready; do :; done; sleep 0.1"
        ),
    ]
}

#[test]
fn who_cannot_be_looked_at_is_waited_for() {
    both(|site| {
        for mount in ["private", "public"] {
            let line = [
                "--mount", mount, "-o", "out", "--settle", "5", "--", "sh", "-c",
            ];
            for work in unseen(site, "0.3") {
                site.run(&[&line[..], &[&work]].concat()).ended(0);
            }
            let line = [
                "--mount", mount, "-o", "out", "--settle", "0.2", "--", "sh", "-c",
            ];
            let mut unknown = 0;
            for work in unseen(site, "1000") {
                let told = site.run(&[&line[..], &[&work]].concat()).ended(125);
                let text = told.stderr;
                unknown += usize::from(text.contains("cannot be looked at"));
                assert!(
                    text.contains("still writes") || text.contains("still being written"),
                    "{text}"
                );
                assert!(text.contains("--settle"), "{text}");
                site.expect_nothing_left();
            }
            assert_eq!(unknown > 0, !site.is_root(), "{mount}");
        }
    });
}

#[test]
fn a_name_that_looks_like_that_of_a_deleted_file_is_one() {
    over_each_backing(|site| {
        let mapped = "import mmap, os, time\n\
            file = os.open('out (deleted)', os.O_RDWR | os.O_CREAT); os.truncate(file, 4096)\n\
            map = mmap.mmap(file, 4096); os.close(file)\n\
            if os.fork() == 0:\n  time.sleep(1000)\n";
        let opened = format!(
            "(exec 3>'out (deleted)'; : > ready; {}) & until test -e ready; do :; done",
            site.endless()
        );
        for command in [["python3", "-c", mapped], ["sh", "-c", &opened]] {
            let line = ["--settle", "0.2", "-o", "out (deleted)", "--"];
            let told = site.run(&[&line[..], &command].concat()).ended(125);
            told.saying(&["\"out (deleted)\" is still being written by "]);
        }
        let mapped = mapped.replace("time.sleep", "os.unlink('out (deleted)'); time.sleep");
        site.run(&["--settle", "1h", "--", "python3", "-c", &mapped])
            .ended(0);
    });
}

#[test]
fn the_library_waits_for_those_in_another_mount_namespace() {
    let opened = "unshare -m sh -c 'exec 3>out; : > ready; exec sleep 1000' & until test -e ready; do :; done";
    let now = std::time::Duration::ZERO;
    let error = Job::new()
        .step(["sh", "-c", opened])
        .settle(now)
        .run()
        .unwrap_err()
        .error;
    assert!(matches!(error, Error::StillWritten { .. }), "{error}");
}
