//! `--limit`: what the processes of a job may use.

use crate::support::site::both;

#[test]
fn processor_time_ends_a_step_and_is_told() {
    both(|site| {
        let told = site.run(&[
            "--limit",
            "cpu=1s",
            "-o",
            "x",
            "--",
            "sh",
            "-c",
            "while :; do :; done",
        ]);
        told.ended(128 + 24)
            .saying(&["\"sh\" was killed: the cpu limit of 1s"]);
        // What it started is limited as well, and told by the shell's own status.
        let work = "sh -c 'while :; do :; done'; exit $?";
        let told = site.run(&["--limit", "cpu=1s", "--", "sh", "-c", work]);
        told.ended(128 + 24).saying(&["the cpu limit of 1s"]);
        // So is what does not listen to the first signal.
        let deaf = "trap '' XCPU; while :; do :; done";
        let told = site.run(&["--limit", "cpu=1s", "--", "sh", "-c", deaf]);
        told.ended(128 + 9).saying(&["the cpu limit of 1s"]);
    });
}

#[test]
fn memory_and_files_are_refused_beyond_their_limits() {
    both(|site| {
        let ask = "import sys\ntry: x = bytearray(500 << 20)\nexcept MemoryError: sys.exit(7)\n";
        site.run(&["--limit", "memory=300M", "--", "python3", "-c", ask])
            .ended(7);
        site.run(&["--limit", "memory=2G", "--", "python3", "-c", ask])
            .ended(0);
        let open = "import sys\nfiles = []\ntry:\n  while True: files.append(open('/dev/null'))\n\
            except OSError: sys.exit(len(files) > 20)\n";
        site.run(&["--limit", "files=20", "--", "python3", "-c", open])
            .ended(0);
    });
}

#[test]
fn more_processes_than_there_may_be_fail_the_job() {
    both(|site| {
        let many = format!(
            "for n in 1 2 3 4 5 6 7 8; do {} & done; wait",
            site.endless()
        );
        let told = site.run(&["--limit", "processes=5", "-o", "x", "--", "sh", "-c", &many]);
        told.ended(125)
            .saying(&["9 processes", "the limit is 5", "--limit processes="]);
        site.expect_nothing_left();
        let few = "for n in 1 2 3; do sleep 0.1 & done; wait";
        site.run(&["--limit", "processes=5", "--", "sh", "-c", few])
            .ended(0);
    });
}

#[test]
fn the_report_tells_the_limits() {
    both(|site| {
        let words = ["--limit", "cpu=1s,files=64", "--report", "r", "--", "true"];
        site.run(&words).ended(0);
        let report: serde_json::Value = serde_json::from_slice(&site.read("r")).unwrap();
        let limits = &report["resource_limits"];
        assert_eq!(limits["cpu_seconds"], 1.0);
        assert_eq!(limits["files"], 64);
        assert_eq!(limits["by"], "rlimit");
        site.run(&["--report", "r", "--", "true"]).ended(0);
        let report: serde_json::Value = serde_json::from_slice(&site.read("r")).unwrap();
        assert!(report.get("resource_limits").is_none());
    });
}
