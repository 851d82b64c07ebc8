//! Which program a step is, where it runs, and what it sees of its caller.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;

use crate::support::site::{Call, Site, Who, both};

#[test]
fn a_relative_path_is_the_callers_tool() {
    both(|site| {
        site.script("tool", "#!/bin/sh\necho tool\n");
        site.script("bin/deep", "#!/bin/sh\necho deep\n");
        site.script("../tmp/beside", "#!/bin/sh\necho beside\n");
        let words = [
            "--",
            "./tool",
            "--then",
            "bin/deep",
            "--then",
            "../tmp/beside",
        ];
        site.run(&words).ended(0).printing("tool\ndeep\nbeside\n");
        std::fs::remove_file(site.path("../tmp/beside")).unwrap();
    });
}

#[test]
fn the_callers_tool_comes_before_one_in_the_mount() {
    both(|site| {
        site.script("tool", "#!/bin/sh\necho the caller\n");
        site.script("other", "#!/bin/sh\necho the mount\n");
        let told = site.run(&["-i", "tool=other", "--", "./tool", "--then", "sh", "./tool"]);
        told.ended(0).printing("the caller\nthe mount\n");
    });
}

#[test]
fn a_tool_that_a_step_made_runs() {
    both(|site| {
        // A program that the kernel maps from the mount, and a script that it hands to a shell.
        let make = "cp /bin/echo made; printf '#!/bin/sh\\necho script' > script; chmod +x script; mkdir d; cp made d";
        #[rustfmt::skip]
        let words = [
            "--", "sh", "-c", make, "--then", "./made", "program", "--then", "./script", "--then", "d/made", "below",
        ];
        site.run(&words)
            .ended(0)
            .printing("program\nscript\nbelow\n");
    });
}

#[test]
fn a_compiled_program_runs_from_the_mount() {
    both(|site| {
        site.write("main.c", "int main(void) { return 42; }\n");
        let words = [
            "-i",
            "main.c",
            "--",
            "cc",
            "main.c",
            "-o",
            "program",
            "--then",
            "./program",
        ];
        site.run(&words).ended(42);
        assert_eq!(site.listing().len(), 1);
    });
}

#[test]
fn a_script_without_a_first_line_is_the_shells() {
    both(|site| {
        site.script("plain", "echo \"plain $1\"; exit 6\n");
        site.run(&["--", "./plain", "word"])
            .ended(6)
            .printing("plain word\n");
        site.run(&["-i", "inside=plain", "--", "./inside", "word"])
            .ended(6)
            .printing("plain word\n");
    });
}

#[test]
fn a_bare_name_is_looked_for_in_the_callers_path() {
    both(|site| {
        site.script("first/tool", "#!/bin/sh\necho first\n");
        site.script("second/tool", "#!/bin/sh\necho second\n");
        site.write("zeroth/tool", "cannot be executed, and is passed over");
        let path = ["zeroth", "first", "second"]
            .map(|name| site.text(name))
            .join(":");
        let mut command = site.command(&["run", "--", "tool"]);
        command.env("PATH", format!("{path}:/usr/bin:/bin"));
        Call::start(command).finish().ended(0).printing("first\n");
        // A file of that name in the mount is none of it.
        site.script("true", "#!/bin/sh\necho wrong\n");
        site.run(&["-i", "true", "--", "true"]).ended(0).silently();
    });
}

#[test]
fn the_environment_is_the_callers_but_for_the_working_directory() {
    both(|site| {
        let set = |command: &mut std::process::Command| {
            command
                .env("ODD", "two\nlines")
                .env("EMPTY", "")
                .env("PWD", "/somewhere");
        };
        let mut bare = site.tool(&["env", "-0"]);
        set(&mut bare);
        let mut job = site.command(&["run", "--", "env", "-0"]);
        set(&mut job);
        let variables = |command| {
            let text = Call::start(command).finish().ended(0).text();
            let all = text.split('\0').map(str::to_owned);
            all.partition::<BTreeSet<_>, _>(|variable| !variable.starts_with("PWD="))
        };
        let ((job, job_directory), (bare, _)) = (variables(job), variables(bare));
        assert_eq!(job, bare);
        let here = site.run(&["--", "pwd"]).ended(0).text();
        let named = format!("PWD={}", here.trim_end());
        assert_eq!(job_directory, BTreeSet::from([named]));
    });
}

#[test]
fn the_first_word_is_passed_as_it_was_written() {
    both(|site| {
        site.script("args", "cat /proc/$$/cmdline | tr '\\0' ' '\n");
        let mut command = site.tool(&[
            site.text("../notapipe").as_str(),
            "run",
            "--",
            "sh",
            "-c",
            "tr '\\0' ' ' </proc/$$/cmdline",
            "arg",
        ]);
        command.arg0("another-name");
        Call::start(command)
            .finish()
            .ended(0)
            .printing("sh -c tr '\\0' ' ' </proc/$$/cmdline arg ");
    });
}

#[test]
fn steps_start_in_the_root_of_the_mount() {
    both(|site| {
        let look = "pwd; pwd -P; stat -f -c %T .; stat -c %m .";
        let told = site.run(&[
            "--",
            "sh",
            "-c",
            look,
            "--then",
            "sh",
            "-c",
            "cd /; pwd",
            "--then",
            "pwd",
        ]);
        let text = told.ended(0).text();
        let lines: Vec<_> = text.lines().collect();
        let [pwd, physical, kind, mount_point, root, again] = lines[..] else {
            panic!("{text}");
        };
        assert_eq!([physical, mount_point, again], [pwd; 3]);
        assert!(kind.contains("fuse"), "{kind}");
        assert_eq!(root, "/");
        assert!(site.listing().is_empty());
    });
}

#[test]
fn every_run_sees_the_same_path() {
    let mut paths = BTreeSet::new();
    both(|site| {
        for _ in 0..3 {
            site.run(&["--", "pwd"]).ended(0);
        }
    });
    for &who in Who::all() {
        let site = Site::new(who);
        for options in [
            &[][..],
            &["--size", "1M"],
            &["-i", "."],
            &["--mount", "private"],
        ] {
            let words = [options, &["--", "pwd"]].concat();
            paths.insert(site.run(&words).ended(0).text());
        }
    }
    assert_eq!(paths.len(), 1, "{paths:?}");
}

#[test]
fn the_path_can_be_chosen() {
    both(|site| {
        site.write("place/kept", "kept");
        let place = site.text("place");
        // The steps see the mount over it, everybody else what lies below.
        let words = [
            "-o",
            "made",
            "--at",
            "place",
            "--",
            "sh",
            "-c",
            "pwd; ls; echo new > made",
        ];
        site.run(&words).ended(0).printing(&format!("{place}\n"));
        assert_eq!(
            site.listing(),
            ["made: new\\n", "place/", "place/kept: kept"]
        );
        // Also one that the steps' tools or streams come from.
        let work = site.text("");
        let words = ["--at", work.trim_end_matches('/'), "--", "pwd"];
        site.run(&words)
            .ended(0)
            .printing(&format!("{}\n", work.trim_end_matches('/')));
        site.symlink("place", "link");
        site.run(&["--at", "link", "--", "pwd", "-P"])
            .ended(0)
            .printing(&format!("{place}\n"));
    });
}

#[test]
fn the_mount_is_seen_by_the_job_alone() {
    both(|site| {
        let wait = format!("echo ready > {}; {}", site.text("ready"), site.endless());
        let call = site.start(&["--at", &site.text(".."), "-i", ".", "--", "sh", "-c", &wait]);
        // Below the place of the mount, the file is the mount's own and does not show here.
        crate::support::site::until("the step runs", || site.endless_ones() == 1);
        assert!(crate::support::site::mounts_below(&site.work()).is_empty());
        call.signal(rustix::process::Signal::TERM);
        call.finish().ended(143);
    });
}

#[test]
fn files_of_the_host_stay_reachable() {
    both(|site| {
        site.write("big library", "linked");
        let told = site.run(&["--", "cat", &site.text("big library")]);
        told.ended(0).printing("linked");
    });
}

/// overlayfs hides what a lower layer has by whiteouts and extended attributes of its own, here in a user's namespace.
#[test]
fn an_overlay_has_its_upper_layer_in_a_mount() {
    both(|site| {
        let overlay = "set -e
            mkdir lower lower/dir upper work merged; echo a > lower/a; echo x > lower/dir/x; echo m > lower/m
            layers=lowerdir=lower,upperdir=upper,workdir=work
            mount -t overlay -o userxattr,$layers overlay merged
            cd merged; rm a; rm -r dir; mkdir dir; mv m moved; echo b > dir/b
            echo * dir/*; cat moved; cd ..; stat -c '%F %t' upper/a";
        let words = ["--xattr", "--", "unshare", "-Urm", "sh", "-c", overlay];
        let expected = "dir moved dir/b\nm\ncharacter special file 0\n";
        site.run(&words).ended(0).printing(expected);
    });
}
