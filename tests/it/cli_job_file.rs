//! `--job` and `--print-job`.

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
