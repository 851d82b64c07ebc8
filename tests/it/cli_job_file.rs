//! `--job` and `--print-job`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::support::site::{Site, Who, both};

#[test]
fn a_printed_job_does_the_same() {
    both(|site| {
        site.write("in", "b\na\n");
        let line = ["-i", "in", "-o", "sorted", "--timeout", "5m"];
        let steps = [
            "--", "sort", "in", "-o", "sorted", "--then", "cat", "sorted",
        ];
        let printed = site.run(&[&line[..], &["--print-job"], &steps].concat());
        let file = printed.ended(0).text();
        assert!(!site.exists("sorted"), "nothing runs");
        site.write("job.toml", &file);
        site.run(&["--job", "job.toml"]).ended(0).printing("a\nb\n");
        assert_eq!(site.read("sorted"), b"a\nb\n");
        // From standard input, with more on the command line.
        let told = site.run_reading(file.as_bytes(), &["--job", "-", "--", "cat", "in"]);
        told.ended(125).saying(&["no output \"sorted\""]);
    });
}

#[test]
fn a_wrong_job_file_runs_nothing() {
    let site = Site::new(Who::User);
    site.write(
        "job.toml",
        "size = \"1M\"\n[[step]]\ncomand = [\"touch\", \"/tmp/x\"]\n",
    );
    let told = site.run(&["--job", "job.toml"]).ended(2);
    told.saying(&[
        "job.toml:3: unknown key `comand`",
        "did you mean `command`?",
    ]);
    let told = site.run(&["--job", "absent.toml"]).ended(2);
    told.saying(&["cannot read the job file \"absent.toml\": No such file"]);
}

#[test]
fn a_job_goes_through_a_pipe_and_is_the_same() {
    let site = Site::new(Who::User);
    // Neither UTF-8 nor fit to be seen.
    let odd = OsString::from_vec(b"o\xffd\x1b".to_vec());
    let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
    let line = [
        words(&[
            "-i",
            "a=b",
            "--limit",
            "cpu=1.5s",
            "--backing",
            "fuse",
            "-o",
        ]),
        vec![odd.clone()],
        words(&["--changed", "--settle", "0", "--", "--env"]),
        vec![OsString::from_vec(b"V=\xfe".to_vec())],
        words(&["--stdout", "log", "tool"]),
        vec![odd],
        words(&["--then", "sort", "--pipe", "uniq", ""]),
    ]
    .concat();
    let separator = line.iter().position(|word| word == "--").unwrap();
    for format in ["--print-job", "--print-job=json"] {
        let mut print = line[..separator].to_vec();
        print.push(format.into());
        print.extend_from_slice(&line[separator..]);
        let printed = site.run(&print).ended(0).text();
        assert!(!printed.contains('\x1b'), "{printed}");
        let again = site.run_reading(printed.as_bytes(), &["--job", "-", format]);
        assert_eq!(again.ended(0).text(), printed, "{format}");
        let other = ["--print-job=toml", "--print-job=json"].map(|format| {
            let read = site.run_reading(printed.as_bytes(), &["--job", "-", format]);
            read.ended(0).text()
        });
        assert!(other.contains(&printed), "{format}: {other:?}");
    }
}

#[test]
fn an_input_may_have_its_content_in_the_job() {
    both(|site| {
        site.write(
            "job.json",
            r#"{"input": [{"name": "in", "content": "b\na\n"}, {"name": "raw", "content": [255, 0]}],
                "output": ["raw"], "step": [{"command": ["sort"], "stdin": "in"}]}"#,
        );
        site.run(&["--job", "job.json"]).ended(0).printing("a\nb\n");
        assert_eq!(site.read("raw"), [255, 0]);
        site.write("job.json", "{\n\"step\": [],\n\"inptu\": []}");
        let told = site.run(&["--job", "job.json"]).ended(2);
        told.saying(&["job.json:3: unknown key `inptu`", "did you mean `input`?"]);
    });
}
