//! The door for other languages: `--unpack - --pack -`, from many threads and processes at once.

use crate::support::site::{Call, Site, Told, Who, may_be_root};

const PYTHON: &str = include_str!("../../examples/function_of_bytes.py");
const SHELL: &str = include_str!("../../examples/function_of_bytes.sh");

/// The examples, where everybody may read them, and a shell that finds the program.
fn site(who: Who) -> Site {
    let site = Site::new(who);
    site.script("door.py", PYTHON);
    site.script("door.sh", SHELL);
    site
}

fn shell(site: &Site, line: &str) -> Told {
    let mut command = site.tool(&["sh", "-c", line]);
    let program = site.program();
    let beside = program.parent().unwrap().display();
    command.env("PATH", format!("{beside}:/usr/bin:/bin"));
    Call::start(command).finish()
}

/// 500 jobs, no two the same, from 8 threads. Every seventh asks for what its tool does not make.
const FROM_PYTHON: &str = r#"
import concurrent.futures, importlib.util, random, sys

spec = importlib.util.spec_from_file_location("door", sys.argv[1])
door = importlib.util.module_from_spec(spec)
sys.dont_write_bytecode = True
spec.loader.exec_module(door)

def job(number):
    random.seed(number)
    lines = [b"%d %d\n" % (random.getrandbits(64), number) for _ in range(number * 7 % 3000)]
    inputs = {"in/lines": b"".join(lines), "in/number": b"%d" % number}
    # tac seeks, cat opens twice: neither works on a pipe.
    script = "tac in/lines > out/back; cat in/number in/number > twice"
    if number % 7 == 0:
        try:
            door.call(["sh", "-c", script], inputs, ["absent"], program=sys.argv[2])
        except door.ToolFailed as failed:
            return failed.status == 125 and 'no output "absent"' in str(failed)
        return False
    made = door.call(["sh", "-c", script], inputs, ["out/back", "twice"], program=sys.argv[2])
    return made == {"out/back": b"".join(reversed(lines)), "twice": b"%d" % number * 2}

with concurrent.futures.ThreadPoolExecutor(8) as pool:
    answers = list(pool.map(job, range(500)))
print(len(answers), answers.count(True))
"#;

#[test]
fn python_calls_500_jobs_from_8_threads() {
    let site = site(Who::User);
    let program = site.program();
    let words = [
        "python3",
        "-c",
        FROM_PYTHON,
        "door.py",
        program.to_str().unwrap(),
    ];
    let told = Call::start(site.tool(&words)).finish();
    assert_eq!(told.stderr, "");
    told.ended(0).printing("500 500\n");
}

/// No two of the jobs are the same.
#[test]
fn the_shell_calls_500_jobs_8_at_a_time() {
    if !may_be_root("all of it") {
        return;
    }
    let site = site(Who::Root);
    let job = "mkdir N; seq 1 N > N/lines; \
               tar -C N -c lines | ./door.sh back sh -c \"tac lines > back\" | tar -x -O back > N/back";
    let told = shell(&site, &format!("seq 500 | xargs -P 8 -I N sh -c '{job}'")).ended(0);
    assert_eq!(told.stderr, "");
    for number in 1..=500 {
        let lines: Vec<String> = (1..=number).rev().map(|line| format!("{line}\n")).collect();
        let back = site.read(format!("{number}/back"));
        assert_eq!(String::from_utf8(back).unwrap(), lines.concat(), "{number}");
    }
}

/// What the examples say of themselves.
#[test]
fn the_examples_do_what_they_say() {
    let site = site(Who::User);
    site.write("words", "pear\napple\n");
    for line in [
        "./door.py",
        "tar c words | ./door.sh sorted sort words -o sorted | tar xO sorted",
    ] {
        shell(&site, line).ended(0).printing("apple\npear\n");
    }
}
