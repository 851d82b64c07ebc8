//! What a job may hold, and who is told when that is not enough.

use crate::support::site::{Site, both, over_each_backing, over_enforcing_backings};

const HELP_SIZE: &str = "help: raise the limit with --size";
const HELP_INODES: &str = "help: raise the limit with --inodes";

#[test]
fn over_the_size_the_tool_sees_enospc_and_the_person_the_option() {
    over_enforcing_backings(|site| {
        site.write("big", "old");
        let words = [
            "--size",
            "1M",
            "-o",
            "big",
            "--",
            "dd",
            "if=/dev/zero",
            "of=big",
            "bs=64K",
            "count=17",
        ];
        let told = site.run(&words).ended(1);
        told.saying(&[
            "No space left on device",
            "the mount was full",
            "1 MiB",
            HELP_SIZE,
        ]);
        assert_eq!(site.listing(), ["big: old"]);
    });
}

#[test]
fn all_of_the_size_can_be_used() {
    both(|site| {
        let words = [
            "--size",
            "1M",
            "-o",
            "big",
            "--",
            "dd",
            "if=/dev/zero",
            "of=big",
            "bs=64K",
            "count=16",
            "status=none",
        ];
        site.run(&words).ended(0).silently();
        assert_eq!(site.read("big").len(), 1 << 20);
        let reuse = "for i in 1 2 3; do head -c 1M /dev/zero > x; rm x; done";
        site.run(&["--size", "1M", "--", "sh", "-c", reuse])
            .ended(0)
            .silently();
        site.run(&["--size", "1M", "--", "truncate", "-s", "1T", "x"])
            .ended(0)
            .silently();
    });
}

#[test]
fn over_the_inodes_the_tool_sees_enospc_and_the_person_the_option() {
    both(|site| {
        let words = ["--inodes", "4", "--", "touch", "a", "b", "c", "d"];
        let told = site.run(&words).ended(1);
        told.saying(&[
            "No space left on device",
            "the mount was full",
            "4 files and directories",
            HELP_INODES,
        ]);
        site.run(&["--inodes", "4", "--", "touch", "a", "b", "c"])
            .ended(0)
            .silently();
        let reuse = "for i in 1 2 3 4 5 6; do touch x y z; rm x y z; done";
        site.run(&["--inodes", "4", "--", "sh", "-c", reuse])
            .ended(0)
            .silently();
    });
}

#[test]
fn a_limit_that_the_tool_ignored_is_told_all_the_same() {
    both(|site| {
        let ignore = "true > y; (head -c 2M /dev/zero > x) 2> /dev/null; exit 0";
        let words = ["--size", "1M", "-o", "y", "--", "sh", "-c", ignore];
        let told = site.run(&words).ended(0);
        told.saying(&["notapipe: ", "the mount was full", HELP_SIZE]);
        assert_eq!(site.listing(), ["y: "]);
        site.run(&[&["-q"], &words[..]].concat())
            .ended(0)
            .silently();
    });
}

#[test]
fn the_mount_tells_its_limits() {
    both(|site| {
        let look = "stat -f -c '%S %b %f %c %d' .; head -c 10000 /dev/zero > x; stat -f -c '%S %b %f %c %d' .";
        let told = site.run(&["--size", "4M", "--inodes", "100", "--", "sh", "-c", look]);
        // Block size, blocks, free ones, inodes, free ones.
        told.ended(0)
            .printing("4096 1024 1024 100 99\n4096 1024 1021 100 98\n");
    });
}

#[test]
fn a_percentage_is_of_the_memory() {
    over_enforcing_backings(|site| {
        let total = |size: &str| {
            let told = site.run(&["--size", size, "--", "stat", "-f", "-c", "%b", "."]);
            told.ended(0).text().trim().parse::<f64>().unwrap()
        };
        // What is free changes while we ask.
        let ratio = total("50%") / total("10%");
        assert!((3.0..8.0).contains(&ratio), "{ratio}");
    });
}

#[test]
fn an_input_over_the_limit_is_told_with_what_it_takes() {
    over_each_backing(|site| {
        site.write("big", vec![1; (3 << 20) + 1]);
        let told = site
            .run(&["--size", "1M", "-i", "big", "--", "true"])
            .ended(125);
        told.saying(&[
            "no room for \"big\"",
            "1 MiB",
            "help: raise the limit with --size, to 4M at least",
        ]);
        site.run(&["--size", "4M", "-i", "big", "--", "true"])
            .ended(0)
            .silently();
        let told = site.run_reading(&[0; 2 << 20], &["--size", "1M", "-i", "x=-", "--", "true"]);
        told.ended(125)
            .saying(&["no room for", "\"x\"", "1 MiB", HELP_SIZE]);
    });
}

/// Dirties every page of a sparse file through a shared mapping, and more than the limit allows. Some kernels (6.1) tell
/// of it when the file is closed, where few programs look.
const MAPS_TOO_MUCH: &str = "\
import contextlib, mmap
with contextlib.suppress(OSError), open('mapped', 'w+b') as file:
    file.truncate(8 << 20)
    with mmap.mmap(file.fileno(), 8 << 20) as memory:
        for page in range(0, 8 << 20, 4096):
            memory[page] = 1
";

#[test]
fn a_mapped_page_over_the_limit_fails_the_job_and_names_the_file() {
    both(|site| {
        site.write("mapped", "old");
        let words = [
            "--size",
            "1M",
            "-o",
            "mapped",
            "--",
            "python3",
            "-c",
            MAPS_TOO_MUCH,
        ];
        let told = site.run(&words).ended(125);
        told.saying(&[
            "\"mapped\" lost bytes",
            "memory mapping",
            "1 MiB",
            HELP_SIZE,
        ]);
        assert_eq!(site.listing(), ["mapped: old"]);
    });
}

#[test]
fn a_mapped_file_within_the_limit_is_whole() {
    both(|site| {
        site.run(&[
            "--size",
            "8M",
            "-o",
            "mapped",
            "--",
            "python3",
            "-c",
            MAPS_TOO_MUCH,
        ])
        .ended(0)
        .silently();
        let bytes = site.read("mapped");
        assert_eq!(bytes.len(), 8 << 20);
        assert_eq!(bytes.iter().filter(|&&byte| byte == 1).count(), 2048);
    });
}

#[test]
fn writing_back_at_the_end_of_the_job_counts_too() {
    // The mapping is alive when the process is killed, and nobody has asked for the bytes before.
    let Some(site) = Site::of_root() else {
        return;
    };
    let killed = MAPS_TOO_MUCH.replace(
        "            memory[page] = 1\n",
        "            memory[page] = 1\n        import os; os._exit(0)\n",
    );
    let words = [
        "--size", "1M", "-o", "mapped", "--", "python3", "-c", &killed,
    ];
    site.run(&words)
        .ended(125)
        .saying(&["\"mapped\" lost bytes"]);
}

/// Names and inodes take memory too, which `--size` must bound.
#[test]
fn inodes_follow_the_size_unless_said() {
    both(|site| {
        let inodes = ["--", "stat", "-f", "-c", "%c", "."];
        for (limits, expected) in [
            (&["--size", "16M"][..], "4096\n"),
            (&["--size", "64K"], "1024\n"),
            (&["--size", "64K", "--inodes", "50"], "50\n"),
        ] {
            let told = site.run(&[limits, &inodes].concat()).ended(0);
            assert_eq!(told.stdout, expected.as_bytes(), "{limits:?}");
        }
        let many = "i=0; while [ $i -lt 5000 ]; do ln f $i || exit 7; i=$((i+1)); done";
        let script = format!("touch f; {many}");
        let told = site.run(&["--size", "16M", "--", "sh", "-c", &script]);
        told.ended(7)
            .saying(&["No space left on device", "4096", HELP_INODES]);
    });
}
