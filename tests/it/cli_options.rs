//! The other options of `notapipe run`: what it tells, and what the mount is like.

use crate::support::site::{Call, Site, USER, both, mounts_below};

/// The value at a path of a JSON document, as text; numbers that vary are replaced by `N`.
fn shape(json: &serde_json::Value) -> String {
    use serde_json::Value;

    match json {
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", shape(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(shape).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Number(_) => "N".to_owned(),
        other => other.to_string(),
    }
}

fn report(site: &Site) -> serde_json::Value {
    serde_json::from_slice(&site.read("report")).unwrap()
}

#[test]
fn a_report_tells_what_the_job_did() {
    both(|site| {
        let words = [
            "--report", "report", "--size", "1M", "--inodes", "50", "-o", "x", "--",
        ];
        let steps = [
            "sh",
            "-c",
            "head -c 5000 /dev/zero > x",
            "--then",
            "cat",
            "x",
        ];
        site.run(&[&words[..], &steps].concat()).ended(0);
        let report = report(site);
        assert_eq!(report["version"], 1);
        assert_eq!(report["steps"][0]["command"][0], "sh");
        assert_eq!(report["steps"][1]["command"][1], "x");
        assert_eq!(report["steps"][0]["exit"]["code"], 0);
        let usage = [
            ("bytes", 8192),
            ("inodes", 2),
            ("limit_bytes", 1 << 20),
            ("limit_inodes", 50),
        ];
        for (name, value) in usage {
            assert_eq!(report["usage"][name], value, "{name}");
        }
        for phase in ["stage", "mount", "run", "unmount", "collect"] {
            assert!(
                report["phases_seconds"][phase].as_f64().unwrap() >= 0.0,
                "{phase}"
            );
        }
        let requests = report["requests"].as_object().unwrap();
        let counted: u64 = requests
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "total" | "forget"))
            .map(|(_, count)| count.as_u64().unwrap())
            .sum();
        assert_eq!(requests["total"], counted);
        let step = shape(&report["steps"][0]);
        for field in [
            "wall_seconds: N",
            "user_seconds: N",
            "system_seconds: N",
            "max_rss_bytes: N",
        ] {
            assert!(step.contains(field), "{step} lacks {field}");
        }
    });
}

#[test]
fn a_report_is_written_of_a_job_that_failed() {
    both(|site| {
        let words = [
            "--report", "report", "--", "true", "--then", "sh", "-c", "exit 7",
        ];
        site.run(&words).ended(7);
        let told = report(site);
        assert_eq!(told["steps"][0]["exit"]["code"], 0);
        assert_eq!(told["steps"][1]["exit"]["code"], 7);
        assert!(told["phases_seconds"].get("collect").is_none());
        site.run(&["--report", "report", "--", "sh", "-c", "kill -9 $$"])
            .ended(137);
        assert_eq!(report(site)["steps"][0]["exit"]["signal"], 9);
    });
}

#[test]
fn more_is_told_to_who_asks_for_it() {
    both(|site| {
        let told = site
            .run(&["-v", "--", "echo", "out"])
            .ended(0)
            .printing("out\n");
        told.saying(&[
            "notapipe: echo out: ",
            "stage ",
            "mount ",
            "unmount ",
            "requests",
        ]);
        // Its directory for temporary files has no room.
        site.write("in", "");
        let words = [
            "--mount", "public", "--inodes", "2", "-i", "in", "--", "true",
        ];
        let log = "notapipe: no directory for temporary files: ";
        let told = site.run(&[&["-vv"], &words[..]].concat()).ended(0);
        told.saying(&[log]);
        let told = site.run(&[&["-v"], &words[..]].concat()).ended(0);
        assert!(!told.stderr.contains(log), "{}", told.stderr);
    });
}

#[test]
fn quiet_tells_errors_alone() {
    both(|site| {
        let make = "mkdir d; mkfifo d/fifo";
        site.run(&["-q", "-o", "d", "--", "sh", "-c", make])
            .ended(0)
            .silently();
        site.run(&["-q", "--", "no-such-tool"])
            .ended(127)
            .saying(&["no-such-tool"]);
    });
}

#[test]
fn a_public_mount_comes_and_goes_with_the_job() {
    both(|site| {
        site.write("a", "in");
        let look = "pwd; stat -f -c %T .; stat -c %a ..; cat a; echo out > b";
        let words = [
            "--mount", "public", "-i", "a", "-o", "b", "--", "sh", "-c", look,
        ];
        let text = site.run(&words).ended(0).text();
        let lines: Vec<_> = text.lines().collect();
        let [path, kind, _, content] = lines[..] else {
            panic!("{text}");
        };
        assert!(kind.contains("fuse") && content == "in", "{text}");
        let path = std::path::Path::new(path);
        assert!(!path.exists(), "{path:?} is left");
        assert!(mounts_below(path).is_empty());
        assert_eq!(site.read("b"), b"out\n");
    });
}

/// What `--help`, `doctor` and the README say of an ordinary user's private job.
#[test]
fn a_second_group_and_files_of_root_are_there_in_a_public_mount_alone() {
    let Some(site) = Site::of_root() else {
        return;
    };
    // A user that every system knows, which fusermount3 asks for, and not 65534, which stands for all that are not mapped.
    let user = ["setpriv", "--reuid=1", "--regid=1", "--groups=2"];
    let program = site.text("../notapipe");
    let look = "touch a; chgrp 2 a; stat -c '%g' a; stat -c '%u' /";
    for (visibility, groups, told) in [
        ("public", "2\n0\n", ""),
        ("private", "1\n65534\n", "Invalid argument"),
    ] {
        let job = [
            &program, "run", "--mount", visibility, "--", "sh", "-c", look,
        ];
        let call = Call::start(site.tool(&[&user[..], &job].concat()));
        call.finish().ended(0).printing(groups).saying(&[told]);
    }
}

#[test]
fn a_public_mount_can_stand_at_a_chosen_place() {
    both(|site| {
        site.create_dir("place");
        let place = site.text("place");
        let words = [
            "--mount",
            "public",
            "--at",
            "place",
            "-o",
            "x",
            "--",
            "sh",
            "-c",
            "pwd; echo 1 > x",
        ];
        site.run(&words).ended(0).printing(&format!("{place}\n"));
        assert_eq!(site.listing(), ["place/", "x: 1\\n"]);
    });
}

#[test]
fn what_fails_in_a_public_mount_leaves_nothing() {
    both(|site| {
        let endless = site.endless();
        let script = format!("setsid {endless} & exit 3");
        let words = ["--mount", "public", "--", "sh", "-c", &script];
        site.run(&words).ended(3);
        assert_eq!(site.endless_ones(), 0);
        let call = site.start(&["--mount", "public", "--", "sh", "-c", &endless]);
        crate::support::site::until("it runs", || site.endless_ones() == 1);
        call.signal(rustix::process::Signal::TERM);
        call.finish().ended(143).silently();
    });
}

#[test]
fn other_users_come_in_when_they_are_let() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let user = format!("--reuid={USER}");
    let group = format!("--regid={USER}");
    for (options, may) in [(&[][..], false), (&["--allow-other"], true)] {
        let step = ["sh", "-c", "chmod 755 .; echo inside > x; chmod 644 x"];
        let other = ["setpriv", &user, &group, "--clear-groups", "cat", "x"];
        let words = [options, &["--"], &step, &["--then"], &other].concat();
        let told = site.run(&words);
        if may {
            told.ended(0).printing("inside\n");
        } else {
            told.ended(1).saying(&["x", "Permission denied"]);
        }
    }
    // Let in, they may do what the permission bits say and no more.
    let step = ["sh", "-c", "chmod 755 .; echo secret > x; chmod 600 x"];
    let other = ["setpriv", &user, &group, "--clear-groups", "cat", "x"];
    let words = [&["--allow-other", "--"], &step[..], &["--then"], &other].concat();
    site.run(&words).ended(1).saying(&["Permission denied"]);
}

#[test]
fn extended_attributes_are_there_on_demand() {
    let set = "import os; open('x', 'w'); os.setxattr('x', 'user.colour', b'green'); print(os.getxattr('x', 'user.colour'), os.listxattr('x'))";
    both(|site| {
        let told = site.run(&["--xattr", "--", "python3", "-c", set]);
        told.ended(0).printing("b'green' ['user.colour']\n");
        let told = site.run(&["--", "python3", "-c", set]).ended(1);
        told.saying(&["Operation not supported"]);
    });
}

#[test]
fn jobs_run_side_by_side() {
    both(|site| {
        site.write("in", "shared");
        let calls: Vec<Call> = (0..8)
            .map(|number| {
                let output = format!("out=out{number}");
                let make = format!("cat in > out; echo {number} >> out");
                site.start(&["-i", "in", "-o", &output, "--", "sh", "-c", &make])
            })
            .collect();
        for call in calls {
            call.finish().ended(0).silently();
        }
        for number in 0..8 {
            assert_eq!(
                site.read(format!("out{number}")),
                format!("shared{number}\n").as_bytes()
            );
        }
    });
}
