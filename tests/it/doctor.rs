//! `notapipe doctor`, on this machine as it is, and on it as it is made worse.

use crate::support::site::{Call, Site, both};

#[test]
fn it_finds_a_machine_on_which_jobs_run() {
    both(|site| {
        let told = site.call(&["doctor"]).ended(0);
        let text = told.text();
        for line in [
            "ok    /dev/fuse",
            "ok    run  ",
            "ok    private mounts",
            "ok    PID namespaces",
            "ok    memory",
            "ok    tmpfs              with --backing tmpfs, jobs run on a tmpfs of its own at /",
            "ok    directory          with --backing directory, jobs run in a directory on tmpfs, /",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.ends_with("notapipe run works here\n"), "{text}");
        let told = site.call(&["doctor", "--json"]).ended(0);
        let diagnosis: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(diagnosis["run"], true);
        for check in diagnosis["checks"].as_array().unwrap() {
            let state = check["state"].as_str().unwrap();
            assert_ne!(state, "fail", "{check}");
            // Where something is missing, it says what to do.
            assert!(state == "ok" || check["remedy"].is_string(), "{check}");
        }
    });
}

#[test]
fn without_the_device_it_says_what_to_do() {
    let Some(site) = Site::of_root() else {
        return;
    };
    // In a mount namespace of its own, /dev/fuse is covered.
    let program = site.program().into_os_string().into_string().unwrap();
    let script = "mount --bind /dev/null /dev/fuse && exec \"$1\" doctor";
    let told =
        Call::start(site.tool(&["unshare", "-m", "sh", "-c", script, "sh", &program])).finish();
    let told = told.ended(1);
    let text = told.text();
    assert!(text.contains("FAIL  run"), "{text}");
    assert!(
        text.ends_with("notapipe run does not work here\n"),
        "{text}"
    );
    site.write("empty", "");
    let script = "mount --bind empty /dev/fuse && exec \"$1\" doctor";
    let told =
        Call::start(site.tool(&["unshare", "-m", "sh", "-c", script, "sh", &program])).finish();
    let text = told.ended(1).text();
    assert!(
        text.contains("FAIL  /dev/fuse          it is no device\n"),
        "{text}"
    );
    assert!(text.contains("--device /dev/fuse"), "{text}");
}
