//! On a terminal a job behaves as its tool would alone.

use std::fs;

use crate::support::site::{Site, both, until};
use crate::support::window::Window;

/// An interactive shell with job control, as a person has it.
fn shell(site: &Site) -> Window {
    let mut command = site.tool(&["bash", "--norc", "--noprofile", "--noediting", "-i"]);
    command
        .env("PS1", "ready$ ")
        .env("NOTAPIPE", site.program());
    let mut window = Window::open(command);
    window.wait_for("ready$ ");
    window
}

/// The state of the process that `Site::endless` started: S asleep, T stopped.
fn state_of_endless(site: &Site) -> Option<char> {
    let words = site.endless().replace(' ', "\0") + "\0";
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let path = processes
        .map(|it| it.path())
        .find(|it| fs::read(it.join("cmdline")).is_ok_and(|text| text == words.as_bytes()))?;
    let stat = fs::read_to_string(path.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn ctrl_z_stops_a_job_and_fg_goes_on() {
    both(|site| {
        let mut window = shell(site);
        let step = format!(
            "{} & echo be\"\"gun; read word; echo \"got <$word>\"; kill $!",
            site.endless()
        );
        window.type_keys(format!("$NOTAPIPE run -- sh -c '{step}'\n").as_bytes());
        window.wait_for("begun");
        // What is stopped before its exec is still a shell.
        until("the tool runs", || site.endless_ones() == 1);
        window.type_keys(b"\x1a");
        window.wait_for("Stopped");
        window.wait_for("ready$ ");
        until("the tool is stopped too", || {
            state_of_endless(site) == Some('T')
        });
        window.type_keys(b"fg\n");
        until("the tool goes on", || state_of_endless(site) == Some('S'));
        window.type_keys(b"word\n");
        window.wait_for("got <word>");
        window.wait_for("ready$ ");
        window.type_keys(b"echo status $?; exit\n");
        window.wait_for("status 0");
        window.finish().ended(0);
    });
}

#[test]
fn ctrl_c_is_the_tools_and_the_shell_goes_on() {
    both(|site| {
        let mut window = shell(site);
        let step = format!("echo be\"\"gun; {}", site.endless());
        window.type_keys(format!("$NOTAPIPE run -- sh -c '{step}'\n").as_bytes());
        window.wait_for("begun");
        until("it runs", || site.endless_ones() == 1);
        window.type_keys(b"\x03");
        window.wait_for("ready$ ");
        window.type_keys(b"echo status $?; exit\n");
        window.wait_for("status 130");
        window.finish().ended(0);
    });
}

#[test]
fn a_tool_that_lives_on_after_ctrl_c_is_left_alone() {
    both(|site| {
        // In short naps: a signal that comes just before one is noticed after it.
        let work = "import time\ntry:\n  print('be' 'gun', flush=True)\n  while True: time.sleep(0.01)\n\
            except KeyboardInterrupt: open('out', 'w').write('caught')\n";
        let words = [
            "run", "-o", "out", "--", "python3", "-c", work, "--then", "cat", "out",
        ];
        let mut window = Window::open(site.command(&words));
        window.wait_for("begun");
        window.type_keys(b"\x03");
        window.wait_for("caught");
        window.finish().ended(0);
        assert_eq!(site.read("out"), b"caught");
    });
}

#[test]
fn a_tool_learns_of_the_windows_size() {
    both(|site| {
        let work = "trap 'stty size; exit' WINCH; echo begun; while :; do sleep 0.05; done";
        let mut window = Window::open(site.command(&["run", "--", "sh", "-c", work]));
        window.wait_for("begun");
        window.resize(33, 77);
        window.wait_for("33 77");
        window.finish().ended(0);
    });
}

#[test]
fn a_shell_as_a_step_gives_the_terminal_back() {
    both(|site| {
        let inner = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        let ask = "read word; echo \"got <$word>\"";
        let words = [&["run", "--"][..], &inner, &["--then", "sh", "-c", ask]].concat();
        let mut command = site.command(&words);
        command.env("PS1", "inner$ ");
        let mut window = Window::open(command);
        window.wait_for("inner$ ");
        // It has job control: what it starts gets the terminal, and gives it back.
        window.type_keys(b"(read x; echo \"read $x\")\nhello\n");
        window.wait_for("read hello");
        window.wait_for("inner$ ");
        window.type_keys(b"exit\nword\n");
        window.wait_for("got <word>");
        window.finish().ended(0);
    });
}
