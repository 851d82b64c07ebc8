//! What is told of a job, and what is kept of one that failed.

use serde_json::{Value, json};

use crate::support::site::{Site, both, over_each_backing, over_enforcing_backings};

fn report(site: &Site) -> Value {
    serde_json::from_slice(&site.read("report")).unwrap()
}

/// Runs a job with a report, which is given back.
fn told(site: &Site, code: i32, words: &[&str]) -> Value {
    let _ = std::fs::remove_file(site.path("report"));
    site.run(&[&["--report", "report"], words].concat())
        .ended(code);
    report(site)
}

#[test]
fn a_report_names_the_files_of_each_step() {
    both(|site| {
        site.write("in", "b\na\n");
        site.write("old", "old");
        let report = told(
            site,
            0,
            &[
                "-i",
                "in",
                "-i",
                "old",
                "-o",
                "d",
                "--",
                "sort",
                "in",
                "-o",
                "sorted",
                "--then",
                "sh",
                "-c",
                "mkdir d; cp sorted d/kept; mv sorted d/moved; rm in; echo more >> old; : > t; rm t",
                "--then",
                "sed",
                "-i",
                "s/a/b/",
                "old",
                "--then",
                "true",
            ],
        );
        let files = |step: usize| report["steps"][step]["files"].clone();
        let expected = [
            json!({ "read": ["in"], "written": [], "created": ["sorted"], "deleted": [] }),
            json!({ "read": ["d/moved"], "written": ["old"], "created": ["d", "d/kept", "d/moved"], "deleted": ["in", "sorted"] }),
            json!({ "read": ["old"], "written": ["old"], "created": [], "deleted": [] }),
            json!({ "read": [], "written": [], "created": [], "deleted": [] }),
        ];
        for (step, expected) in expected.into_iter().enumerate() {
            let mut got = files(step);
            // sed reads the file that it then replaces; what it is called by then is not the point here.
            if step == 2 {
                got["read"] = json!(["old"]);
            }
            assert_eq!(got, expected, "step {step}");
        }
        let report = told(site, 0, &["--profile", "fast", "--", "true"]);
        assert!(report["steps"][0].get("files").is_none());
    });
}

#[test]
fn steps_of_a_pipe_have_the_files_of_the_pipe_in_the_report() {
    both(|site| {
        site.write("in", "b\na\n");
        site.write("old", "old");
        // By itself, by a child, by a thread, and by the step's own streams.
        let left = "cat in; (echo more >> old; mkdir d); python3 -c 'import threading; \
                    t = threading.Thread(target=lambda: open(\"d/thread\", \"w\").write(\"x\")); t.start(); t.join()'";
        let right = "sort > unsorted; mv unsorted sorted; cat sorted; rm -f old";
        let words = [
            "-i", "in", "-i", "old", "--", "sh", "-c", left, "--pipe", "sh", "-c", right, "--pipe",
            "--stdout", "out", "uniq",
        ];
        let report = told(site, 0, &words);
        let files = |step: usize| report["steps"][step]["files"].clone();
        let all = json!({
            "read": ["in", "sorted"], "written": [], "created": ["d", "d/thread", "out", "sorted"], "deleted": ["old"]
        });
        assert_eq!([files(0), files(1), files(2)], [&all; 3].map(Clone::clone));
        // They share what the kernel asked.
        let requests = |step: usize| report["steps"][step]["requests"].clone();
        assert!(
            requests(2)["create"].as_u64().unwrap() >= 3,
            "{}",
            requests(2)
        );
    });
}

#[test]
fn what_a_daemon_touches_is_told_of_its_pipe() {
    both(|site| {
        let late = "while kill -0 $parent 2>/dev/null; do sleep 0.02; done; echo > late";
        let left = format!("parent=$$; export parent; setsid sh -c '{late}' & echo x > mine");
        let right = "cat; while [ ! -e late ]; do sleep 0.02; done";
        let report = told(
            site,
            0,
            &["--", "sh", "-c", &left, "--pipe", "sh", "-c", right],
        );
        let created = |step: usize| report["steps"][step]["files"]["created"].clone();
        assert_eq!(created(0), json!(["late", "mine"]));
        assert_eq!(created(1), created(0));
    });
}

#[test]
fn a_report_tells_the_outputs_and_the_peak() {
    both(|site| {
        let make = "head -c 500000 /dev/zero > x; rm x; mkdir d; echo abc > d/a; echo de > d/b; ln -s a d/c; echo f > f";
        let words = [
            "--size", "1M", "-o", "d", "-o", "f=g", "--", "sh", "-c", make,
        ];
        let report = told(site, 0, &words);
        let outputs = json!([
            { "name": "d", "kind": "directory", "bytes": 7, "files": 2 },
            { "name": "f", "kind": "file", "bytes": 2 },
        ]);
        assert_eq!(report["outputs"], outputs);
        let usage = &report["usage"];
        let peak = usage["peak_bytes"].as_u64().unwrap();
        assert!((500_000..600_000).contains(&peak), "{peak}");
        assert_eq!(usage["bytes"], 3 * 4096);
        assert_eq!(
            (&usage["inodes"], &usage["peak_inodes"]),
            (&json!(6), &json!(6))
        );
        assert_eq!(
            (&report["result"], &report["error"]),
            (&json!("ok"), &Value::Null)
        );
    });
}

#[test]
fn every_failure_has_a_report() {
    over_enforcing_backings(|site| {
        site.write("A.asm", "x");
        let table: &[(&[&str], i32, &str, Option<usize>)] = &[
            (
                &["--", "true", "--then", "sh", "-c", "exit 7"],
                7,
                "\"sh\" ended with status 7",
                Some(2),
            ),
            (
                &["--", "sh", "-c", "kill -9 $$"],
                137,
                "\"sh\" was ended by signal 9",
                Some(1),
            ),
            (
                &["--timeout", "200ms", "--", "true", "--then", "sleep", "99"],
                124,
                "\"sleep\" was ended",
                Some(2),
            ),
            (
                &["--", "true", "--then", "no-such-tool"],
                127,
                "\"no-such-tool\" was not found",
                Some(1),
            ),
            (
                &["-o", "game.gb", "--", "touch", "Game.gb"],
                125,
                "game.gb",
                Some(1),
            ),
            (
                &["-i", "gone", "--", "true"],
                125,
                "cannot read \"gone\"",
                None,
            ),
        ];
        for (words, code, message, steps) in table {
            let report = told(site, *code, words);
            assert_eq!(report["version"], 1);
            assert_eq!(report["result"], "failed", "{words:?}");
            assert_eq!(report["exit_status"], *code);
            let error = report["error"]["message"].as_str().unwrap();
            assert!(error.contains(message), "{error:?} lacks {message:?}");
            assert_eq!(
                report["steps"].as_array().unwrap().len(),
                steps.unwrap_or(0),
                "{words:?}"
            );
            assert_eq!(report["usage"].is_null(), steps.is_none());
        }
        // A tmpfs has one inode more, by which it is known to have been full.
        let full = told(
            site,
            1,
            &["--inodes", "3", "--", "touch", "a", "b", "c", "d"],
        );
        assert_eq!(full["usage"]["limit_met"], "inodes");
    });
}

/// A busy loop, by the shell itself and by what it has started and waits for.
const BUSY: &str = "while :; do :; done";

#[test]
fn a_step_that_is_ended_is_among_the_steps_with_what_ended_it() {
    both(|site| {
        let below = format!("echo x > made; sh -c '{BUSY}'; :");
        for script in [&format!("echo x > made; {BUSY}"), &below] {
            let words = [
                "--timeout",
                "1s",
                "--",
                "sh",
                "-c",
                script,
                "--then",
                "true",
                "a",
            ];
            let report = told(site, 124, &words);
            let [step] = &report["steps"].as_array().unwrap()[..] else {
                panic!("{report}")
            };
            assert_eq!(step["command"], json!(["sh", "-c", script]));
            assert_eq!(step["exit"], json!({ "signal": 9 }));
            assert_eq!(step["ended_by"], "timeout");
            assert_eq!(step["files"]["created"], json!(["made"]));
            let number = |field: &str| step[field].as_f64().unwrap();
            assert!(number("wall_seconds") > 0.0, "{step}");
            assert!(
                number("user_seconds") + number("system_seconds") > 0.0,
                "{step}"
            );
            assert!(number("max_rss_bytes") > 1e5, "{step}");
            assert!(step["requests"]["total"].as_u64().unwrap() > 0, "{step}");
            assert_eq!(
                report["steps_not_run"],
                json!([{ "command": ["true", "a"] }])
            );
        }
        let table: &[(&[&str], i32, Value, Value, Value)] = &[
            (
                &[
                    "--timeout",
                    "300ms",
                    "--kill-after",
                    "60s",
                    "--",
                    "sh",
                    "-c",
                    "trap 'exit 7' TERM; sleep 60 & wait",
                ],
                124,
                json!({ "code": 7 }),
                json!(["timeout"]),
                json!([]),
            ),
            (
                &[
                    "--", "sh", "-c", "exit 3", "--pipe", "sleep", "600", "--then", "true",
                ],
                3,
                json!({ "code": 3 }),
                json!([null, "pipe"]),
                json!([{ "command": ["true"] }]),
            ),
            (
                &["--", "sleep", "600", "--pipe", "no-such-tool"],
                127,
                json!({ "signal": 9 }),
                json!(["failure"]),
                json!([{ "command": ["no-such-tool"] }]),
            ),
            (
                &[
                    "--limit",
                    "processes=2",
                    "--",
                    "sh",
                    "-c",
                    "sleep 600 & sleep 600 & wait",
                ],
                125,
                json!({ "signal": 9 }),
                json!(["processes"]),
                json!([]),
            ),
            (
                &["--limit", "cpu=1s", "--", "sh", "-c", BUSY],
                152,
                json!({ "signal": 24 }),
                json!(["cpu"]),
                json!([]),
            ),
            (
                &["--", "sh", "-c", "kill -9 $$", "--then", "true"],
                137,
                json!({ "signal": 9 }),
                json!([null]),
                json!([{ "command": ["true"] }]),
            ),
        ];
        for (words, code, exit, ended_by, not_run) in table {
            let report = told(site, *code, words);
            let steps = report["steps"].as_array().unwrap();
            assert_eq!(&steps[0]["exit"], exit, "{words:?}");
            let by: Vec<_> = steps.iter().map(|it| it["ended_by"].clone()).collect();
            assert_eq!(&Value::Array(by), ended_by, "{words:?}");
            assert_eq!(&report["steps_not_run"], not_run, "{words:?}");
        }
    });
}

#[test]
fn a_step_that_a_signal_to_us_ends_is_told_too() {
    over_each_backing(|site| {
        let wait = site.endless();
        let words = [
            "--report", "report", "--", "sh", "-c", &wait, "--then", "true",
        ];
        let call = site.start(&words);
        crate::support::site::until("the step runs", || site.endless_ones() > 0);
        call.signal(rustix::process::Signal::TERM);
        call.finish().ended(143);
        let report = report(site);
        assert_eq!(report["steps"][0]["ended_by"], "interrupt");
        assert_eq!(report["steps_not_run"], json!([{ "command": ["true"] }]));
    });
}

#[test]
fn a_report_goes_to_standard_output_and_what_tools_say_elsewhere() {
    over_each_backing(|site| {
        let words = ["--report", "-", "--", "echo", "told"];
        let told = site.run(&words).ended(0);
        assert_eq!(told.stderr, "told\n");
        let report: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(report["result"], "ok");
        for other in [
            &["-o", "x=-"][..],
            &["--pack", "-", "-o", "x"],
            &["--follow", "x"],
        ] {
            site.run(&[&["--report", "-"], other, &["--", "touch", "x"]].concat())
                .ended(2)
                .saying(&["the report would go to standard output", "--report FILE"]);
        }
        site.run(&["--report", "./-", "--", "true"])
            .ended(0)
            .silently();
        assert_eq!(site.listing().len(), 1);
    });
}

#[test]
fn a_person_is_told_of_steps_that_were_ended_or_not_run() {
    over_each_backing(|site| {
        site.run(&[
            "-v",
            "--timeout",
            "50ms",
            "--",
            "sleep",
            "9",
            "--then",
            "true",
        ])
        .ended(124)
        .saying(&[
            "sleep 9: signal 9 at the timeout, ",
            "\nnotapipe: true: not run\n",
        ]);
    });
}

/// Whoever reads the help knows every field that a report has.
#[test]
fn the_help_names_every_field() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let report = told(
        &site,
        1,
        &[
            "--inodes",
            "3",
            "-o",
            "b/d",
            "--",
            "sh",
            "-c",
            "mkdir b/d; touch a",
        ],
    );
    let whole = told(&site, 0, &["-o", "d", "--", "mkdir", "d"]);
    let help = site.call(&["run", "--help"]).ended(0).text();
    let mut fields = Vec::new();
    let ended = told(&site, 124, &["--timeout", "1ms", "--", "sleep", "9"]);
    for report in [report, whole, ended] {
        names(&report, &mut fields);
    }
    assert!(fields.len() > 40, "{fields:?}");
    let section = help.split_once("Report (--report FILE):").unwrap().1;
    let section = section.split_once("Examples:").unwrap().0;
    for field in fields {
        assert!(section.contains(&field), "{field}: {section}");
    }
}

/// The names of all fields, but for the kinds of requests.
fn names(value: &Value, fields: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields.push(name.clone());
                if name != "requests" {
                    names(value, fields);
                }
            }
        }
        Value::Array(array) => array.iter().for_each(|value| names(value, fields)),
        _ => {}
    }
}

#[test]
fn what_a_failed_job_left_is_kept() {
    over_each_backing(|site| {
        site.write("in", "input");
        let step = "mkdir d; echo half > d/out; ln -s d l; exit 3";
        for (place, listed) in [
            ("left", "left/d/out"),
            ("left.tar", "left.tar"),
            ("new/", "new/in"),
        ] {
            let words = [
                "--keep-on-failure",
                place,
                "-i",
                "in",
                "-o",
                "out",
                "--",
                "sh",
                "-c",
                step,
            ];
            site.run(&words)
                .ended(3)
                .saying(&["what the job left is in", place.trim_end_matches('/')]);
            assert!(site.exists(listed), "{:?}", site.listing());
        }
        assert_eq!(site.read("left/d/out"), b"half\n");
        assert_eq!(
            std::fs::read_link(site.path("left/l")).unwrap(),
            std::path::Path::new("d")
        );
        let members = site.tool(&["tar", "tf", "left.tar"]).output().unwrap();
        let members = String::from_utf8(members.stdout).unwrap();
        assert!(
            members.contains("d/out") && members.contains("in"),
            "{members}"
        );
    });
}

#[test]
fn it_is_kept_however_the_job_failed_and_only_then() {
    over_each_backing(|site| {
        let made = "echo made > made; ";
        let table: [(&[&str], i32); 4] = [
            (
                &[
                    "--timeout",
                    "300ms",
                    "--",
                    "sh",
                    "-c",
                    "echo made > made; sleep 99",
                ],
                124,
            ),
            (&["-o", "missing", "--", "sh", "-c", made], 125),
            (&["--", "sh", "-c", made, "--then", "no-such-tool"], 127),
            (&["--", "sh", "-c", "echo made > made; kill -9 $$"], 137),
        ];
        for (words, code) in table {
            let words = [&["--keep-on-failure", "left/"], words].concat();
            site.run(&words).ended(code);
            assert_eq!(site.read("left/made"), b"made\n", "{words:?}");
            // What is there is not put at risk, and is looked at before anything runs.
            site.run(&["--keep-on-failure", "left", "--", "touch", "/nowhere/x"])
                .ended(125)
                .saying(&["\"", "left", "not empty"]);
            std::fs::remove_dir_all(site.path("left")).unwrap();
        }
        site.run(&["--keep-on-failure", "left", "--", "true"])
            .ended(0)
            .silently();
        assert!(!site.exists("left"));
    });
}

#[test]
fn a_signal_does_not_keep_it_from_being_kept() {
    over_each_backing(|site| {
        let wait = format!("echo made > made; echo ready; {}", site.endless());
        let words = ["--keep-on-failure", "left.tar.zst", "--", "sh", "-c", &wait];
        let call = site.start(&words);
        crate::support::site::until("the step runs", || site.endless_ones() > 0);
        call.signal(rustix::process::Signal::TERM);
        call.finish().ended(143).saying(&["left.tar.zst"]);
        assert!(site.exists("left.tar.zst"));
    });
}

#[test]
fn a_shell_takes_the_place_of_the_steps() {
    over_each_backing(|site| {
        site.write("in", "b\na\n");
        let words = ["--shell", "-i", "in", "-o", "out", "--", "false"];
        site.run_reading(b"sort in > out\nls\n", &words)
            .ended(0)
            .printing("in\nout\n");
        assert_eq!(site.read("out"), b"a\nb\n");
        std::fs::remove_file(site.path("out")).unwrap();
        site.run_reading(b"echo x > out; exit 4\n", &words).ended(4);
        assert!(!site.exists("out"));
        site.run_reading(b"", &["--shell", "-i", "x=-"])
            .ended(2)
            .saying(&["standard input", "\"x\"", "-i x=SRC"]);
        let mut command = site.command(&["run", "--shell"]);
        command.env("SHELL", "/bin/echo");
        crate::support::site::Call::start(command)
            .finish()
            .ended(0)
            .printing("\n");
    });
}

#[test]
fn errors_say_what_to_do() {
    over_each_backing(|site| {
        site.write("input.asm", "x");
        site.write("tool", "#!/bin/sh\n");
        let table: &[(&[&str], i32, &[&str])] = &[
            (
                &["-i", "inptu.asm", "--", "true"],
                125,
                &[
                    "cannot read \"inptu.asm\"",
                    "help: did you mean \"input.asm\"?",
                ],
            ),
            (
                &["--", "./tool"],
                126,
                &[
                    "cannot be executed: Permission denied",
                    "help: chmod +x",
                    "/tool",
                ],
            ),
            (
                &["--cpus", "999", "--", "true"],
                125,
                &["the CPUs 999", "help: these can be used: 0"],
            ),
            (
                &["--timeout", "50ms", "--", "sleep", "9"],
                124,
                &["longer than 50ms", "help: give it longer with --timeout"],
            ),
            (
                &["-o", "game.gb", "--", "touch", "Game.gb"],
                125,
                &["no output \"game.gb\"; did you mean \"Game.gb\"?"],
            ),
        ];
        for (words, code, parts) in table {
            site.run(words).ended(*code).saying(parts);
        }
    });
}
