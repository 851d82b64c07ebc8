//! Executing what lies in the file system.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::*;

cases! {
    Anyone: a_script, a_binary, needs_the_permission, the_interpreter_in_the_mount, while_it_is_written,
        what_runs_cannot_be_written, replaced_while_it_runs, by_a_descriptor, after_unlink, a_new_version_at_once,
        a_broken_format, the_path_it_sees, many_at_once;
}

/// What a program said, with how it ended; or the errno of its start.
fn run(command: &mut Command) -> std::result::Result<String, i32> {
    let output = command
        .output()
        .map_err(|error| error.raw_os_error().unwrap_or(0))?;
    let (stdout, stderr) = (output.stdout.escape_ascii(), output.stderr.escape_ascii());
    Ok(format!("{:?} {stdout} {stderr}", output.status.code()))
}

fn script(path: &str, text: &str) {
    make(path, text);
    chmod(path, 0o755).unwrap();
}

/// A real binary that needs nothing but its libraries.
fn copy_of(program: &str, path: &str) {
    make(path, std::fs::read(program).expect("a program to copy"));
    chmod(path, 0o755).unwrap();
}

fn a_script() {
    script("hello", "#!/bin/sh\necho \"hello $1\"\nexit 3\n");
    see!(run(Command::new("./hello").arg("world")));
    mkdir("bin", 0o755).unwrap();
    see!(rename("hello", "bin/hello"));
    see!(run(Command::new("hello")
        .arg("again")
        .env("PATH", "bin:/usr/bin:/bin")));
}

fn a_binary() {
    copy_of("/bin/cat", "cat");
    make("text", "shown by a copied binary");
    see!(run(Command::new("./cat").arg("text")));
    see!(run(Command::new("./cat").arg("none")));
    see!(facts("cat").map(|facts| facts.size()).is_ok());
}

fn needs_the_permission() {
    script("s", "#!/bin/sh\necho ran\n");
    for mode in [0o644, 0o755, 0o111, 0o100, 0o000, 0o001, 0o500] {
        chmod("s", mode).unwrap();
        see!(format!("{mode:o}"), run(&mut Command::new("./s")));
    }
    mkdir("d", 0o755).unwrap();
    see!(run(&mut Command::new("./d")));
    see!(run(&mut Command::new("./none")));
    symlink("s", "l").unwrap();
    see!(run(&mut Command::new("./l")));
}

fn the_interpreter_in_the_mount() {
    copy_of("/bin/cat", "interpreter");
    let here = rustix::process::getcwd(Vec::new())
        .unwrap()
        .into_string()
        .unwrap();
    // Its path may be too long for a #! line, or differ; what is shown must not hold it.
    script(
        "s",
        &format!("#!{here}/interpreter\nshown by its interpreter\n"),
    );
    let shown = run(&mut Command::new("./s")).map(|text| text.contains("shown by its interpreter"));
    see!(shown);
    script("relative", "#!./interpreter\nrelative\n");
    see!(run(&mut Command::new("./relative")));
    script("missing", "#!./none\n");
    see!(run(&mut Command::new("./missing")));
}

fn while_it_is_written() {
    script("s", "#!/bin/sh\necho ran\n");
    copy_of("/bin/true", "b");
    let (script_writer, binary_writer) = (
        open("s", O::WRONLY, 0).unwrap(),
        open("b", O::RDWR, 0).unwrap(),
    );
    see!(run(&mut Command::new("./s")));
    see!(run(&mut Command::new("./b")));
    drop((script_writer, binary_writer));
    see!(run(&mut Command::new("./s")));
    see!(run(&mut Command::new("./b")));
}

fn what_runs_cannot_be_written() {
    copy_of("/bin/sleep", "sleep");
    let mut running = Command::new("./sleep").arg("60").spawn().unwrap();
    see!(open("sleep", O::WRONLY, 0).err());
    see!(open("sleep", O::RDWR | O::TRUNC, 0).err());
    see!(truncate("sleep", 0));
    see!(open("sleep", O::RDONLY, 0));
    see!(chmod("sleep", 0o700));
    see!(rename("sleep", "renamed"));
    see!(unlink("renamed"));
    running.kill().unwrap();
    see!(running.wait().unwrap().code());
}

fn replaced_while_it_runs() {
    copy_of("/bin/sleep", "program");
    let mut running = Command::new("./program").arg("60").spawn().unwrap();
    script("new", "#!/bin/sh\necho the new one\n");
    see!(rename("new", "program"));
    see!(run(&mut Command::new("./program")));
    see!(running.try_wait().unwrap().is_none());
    running.kill().unwrap();
    running.wait().unwrap();
}

fn by_a_descriptor() {
    copy_of("/bin/echo", "echo");
    let file = open("echo", O::RDONLY, 0).unwrap();
    unlink("echo").unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    see!(
        "run",
        run(Command::new(path).arg0("echo").arg("from a descriptor"))
    );
}

fn after_unlink() {
    copy_of("/bin/sleep", "sleep");
    let mut running = Command::new("./sleep").arg("0.05").spawn().unwrap();
    see!(unlink("sleep"));
    see!(running.wait().unwrap().code());
    see!(run(&mut Command::new("./sleep")));
}

fn a_new_version_at_once() {
    for number in 0..10 {
        script("s", &format!("#!/bin/sh\necho version {number}\n"));
        see!(run(&mut Command::new("./s")));
    }
    make("s.new", "#!/bin/sh\necho renamed\n");
    see!(chmod("s.new", 0o755));
    see!(rename("s.new", "s"));
    see!(run(&mut Command::new("./s")));
}

fn a_broken_format() {
    script("empty", "");
    see!(run(&mut Command::new("./empty")));
    script("garbage", "\x7fELF but not really");
    see!(run(&mut Command::new("./garbage")));
    script("no_newline", "#!/bin/sh");
    see!(run(&mut Command::new("./no_newline")));
}

fn the_path_it_sees() {
    script(
        "s",
        "#!/bin/sh\necho \"$0\"; pwd -P | grep -c execute.the_path_it_sees; cat < \"$0\" | wc -c\n",
    );
    see!(run(&mut Command::new("./s")));
}

fn many_at_once() {
    copy_of("/bin/true", "true");
    at_the_same_time(4, |_| {
        for _ in 0..10 {
            assert!(Command::new("./true").status().unwrap().success());
        }
    });
    see!(unlink("true"));
    see!(names("."));
}
