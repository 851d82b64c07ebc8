//! What a job writes is whole, or the job fails: also when its mount is taken away.

use std::process::{Command, Stdio};

use crate::support::site::{Site, both, until};

const ABORTED: &str = "aborted, unmounted or covered";

#[test]
fn an_aborted_mount_fails_a_job_whose_tool_does_not_look_at_its_errors() {
    both(|site| {
        for at_last in ["exit 0", "exit 3", "exec sleep 1000"] {
            site.write("out", "old");
            let work = format!(
                "echo part > out; {} & until test -e {}; do sleep 0.01; done; echo rest >> out; {at_last}",
                site.endless(),
                site.text("go"),
            );
            let call = site.start(&["-o", "out", "--", "sh", "-c", &work]);
            until("the step runs", || site.endless_ones() == 1);
            let inside = site.endless_pids()[0].to_string();
            // It is busy, and so only aborted.
            let words = ["-t", &inside, "--mount", "--pid", "umount", "--force"];
            let mut umount = Command::new("nsenter");
            umount.args(words).arg(mount_of(&inside));
            umount.stderr(Stdio::null()).status().unwrap();
            site.write("go", "");
            call.finish().ended(125).saying(&[ABORTED]);
            assert_eq!(site.read("out"), b"old");
            std::fs::remove_file(site.path("go")).unwrap();
            site.expect_nothing_left();
        }
    });
}

#[test]
fn a_tool_that_takes_the_mount_from_its_path_fails_the_job() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let scripts = [
        "umount --lazy $PWD",
        "mount --bind /usr $PWD; cd /",
        "mkdir /run/elsewhere$$; mount --move $PWD /run/elsewhere$$; rmdir /run/elsewhere$$ 2>&-",
    ];
    for script in scripts {
        let work = format!("echo part > out; {script}; exit 0");
        let told = site.run(&["-o", "out", "--", "sh", "-c", &work]);
        told.ended(125).saying(&[ABORTED]);
        assert!(!site.exists("out"), "{script}");
    }
}

#[test]
fn a_public_mount_that_a_tool_unmounts_fails_the_job() {
    both(|site| {
        let unmount = match site.is_root() {
            true => "umount --lazy",
            false => "fusermount3 -u -z",
        };
        let work = format!("echo part > out; {unmount} $PWD; exit 0");
        let words = ["--mount", "public", "-o", "out", "--", "sh", "-c", &work];
        site.run(&words).ended(125).saying(&[ABORTED]);
        assert!(!site.exists("out"));
    });
}

/// Where the job's mount stands for this process.
fn mount_of(pid: &str) -> String {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = mounts.lines().rfind(|line| line.contains("fuse.notapipe"));
    line.unwrap().split(' ').nth(4).unwrap().to_owned()
}

#[test]
fn a_directory_that_every_program_needs_is_not_mounted_over() {
    both(|site| {
        site.symlink("/proc", "link");
        for at in [
            "/",
            "/proc",
            "/proc/self",
            "/proc/sys/fs",
            "/dev",
            "/dev/fd",
            "/sys",
            "link",
        ] {
            for mount in ["auto", "private", "public"] {
                let told = site.run(&["--mount", mount, "--at", at, "--", "true"]);
                told.ended(125).saying(&["no program could start there"]);
            }
            let told = site.call(&["mount", "-q", at]);
            told.ended(125).saying(&["no program could start there"]);
        }
    });
}
