//! Events of a mounted tree, on real mounts with real processes.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use notapipe::fuse::Profile;
use notapipe::{Error, Event, Scratch, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::as_ordinary_user;

/// Far longer than anything here takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(20);

fn observed() -> Scratch {
    let builder = Scratch::builder().profile(Profile::Observed);
    builder.build().unwrap()
}

fn sh(scratch: &Scratch, script: &str) {
    let report = scratch.run(["sh", "-c", script]).unwrap();
    let stderr = report.stderr.to_text();
    assert!(report.status.exit.success(), "{script}: {stderr}");
}

/// An event in a line, without process ids.
fn line(event: &Event) -> String {
    let way = |writable: &bool| if *writable { "write" } else { "read" };
    match event {
        Event::Created { path, kind } => format!("created {path} {kind:?}"),
        Event::Removed { path } => format!("removed {path}"),
        Event::Renamed { from, to } => format!("renamed {from} {to}"),
        Event::Opened { path, writable, .. } => format!("opened {path} to {}", way(writable)),
        Event::Closed { path, writable, .. } => format!("closed {path} to {}", way(writable)),
        Event::Written { path, range } => format!("written {path} {range:?}"),
        Event::Truncated { path, size } => format!("truncated {path} {size}"),
        Event::Lost { count } => format!("lost {count}"),
        other => format!("{other:?}"),
    }
}

/// All events up to the one that names `last`, without it.
fn until(watch: &mut Watch, last: &str) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = watch
            .next_within(left)
            .unwrap_or_else(|| panic!("no {last} after {events:?}"));
        if event.path().is_some_and(|path| path.to_string() == last) {
            return events;
        }
        events.push(event);
    }
}

/// What a script causes.
fn lines(scratch: &Scratch, watch: &mut Watch, script: &str) -> Vec<String> {
    sh(scratch, script);
    // Through the kernel, in whose queue it stands behind the closes: those are not waited for.
    sh(scratch, "mkdir last");
    let events = until(watch, "last");
    sh(scratch, "rmdir last");
    until(watch, "last");
    events.iter().map(line).collect()
}

#[test]
fn the_life_of_a_file_is_told() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    assert_eq!(
        lines(
            &scratch,
            &mut watch,
            "echo hello > a; mv a b; cat b >/dev/null; rm b"
        ),
        [
            "created a File",
            "opened a to write",
            "written a 0..6",
            "closed a to write",
            "renamed a b",
            "opened b to read",
            "closed b to read",
            "removed b",
        ]
    );
    scratch.unmount().unwrap();
}

#[test]
fn who_opened_a_file_is_told_and_who_closed_it_is_the_same() {
    let play = || {
        let scratch = observed();
        let mut watch = scratch.watch("pid").unwrap();
        let mut by = Vec::new();
        std::thread::scope(|threads| {
            threads.spawn(|| sh(&scratch, "echo $$ > pid; until test -e go; do :; done"));
            for event in watch.by_ref() {
                match event {
                    Event::Opened { by: who, .. } => by.push(who),
                    Event::Closed { by: who, .. } => {
                        by.push(who);
                        break;
                    }
                    _ => {}
                }
            }
            // Its number here, and in its PID namespace, where it knows itself by.
            let status = std::fs::read_to_string(format!("/proc/{}/status", by[0])).unwrap();
            let told = scratch.read("pid").unwrap();
            let itself = std::str::from_utf8(&told).unwrap().trim();
            let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
            let last = numbers.unwrap().split_whitespace().last();
            scratch.write("go", "").unwrap();
            assert_eq!(last, Some(itself));
        });
        assert_eq!(by[0], by[1]);
        scratch.unmount().unwrap();
    };
    play();
    as_ordinary_user(play);
}

#[test]
fn every_way_to_change_a_file_is_told() {
    let scratch = observed();
    scratch.write("a", vec![b'x'; 10_000]).unwrap();
    let mut watch = scratch.watch("a").unwrap();
    let told = |watch: &mut Watch, script: &str| {
        let lines = lines_below(&scratch, watch, script);
        let quiet = |line: &String| !line.starts_with("opened") && !line.starts_with("closed");
        lines.into_iter().filter(quiet).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut watch, "truncate -s 5000 a"), ["truncated a 5000"]);
    assert_eq!(
        told(&mut watch, "fallocate -l 8192 a"),
        ["truncated a 8192"]
    );
    assert_eq!(
        told(&mut watch, "fallocate -p -o 4096 -l 4096 a"),
        ["written a 4096..8192"]
    );
    assert_eq!(
        told(&mut watch, "printf abc >> a"),
        ["written a 8192..8195"]
    );
    assert_eq!(
        told(&mut watch, "printf abc > a"),
        ["truncated a 0", "written a 0..3"]
    );
    let mapped = "import mmap, os
fd = os.open('a', os.O_RDWR)
m = mmap.mmap(fd, 3)
m[1:2] = b'B'
m.close()";
    assert_eq!(
        told(&mut watch, &format!("/usr/bin/python3 -c \"{mapped}\"")),
        ["written a 0..3"],
        "a page, up to the end"
    );
    assert_eq!(told(&mut watch, "ln a b"), [""; 0], "a name elsewhere");
    assert_eq!(told(&mut watch, "ln -f b a; rm b"), [""; 0]);
    assert_eq!(told(&mut watch, "chmod 600 a"), [""; 0]);
    assert_eq!(told(&mut watch, "echo y > c; mv c a"), ["renamed c a"]);
    scratch.unmount().unwrap();
}

/// The same as `lines` for a watch that sees `a` alone.
fn lines_below(scratch: &Scratch, watch: &mut Watch, script: &str) -> Vec<String> {
    sh(scratch, script);
    // Closing is told in the background. The kernel keeps the order, so what comes last ends it.
    sh(scratch, "chmod 644 a; cat a > /dev/null");
    let mut lines: Vec<String> = Vec::new();
    loop {
        let event = watch.next_within(PATIENCE);
        let event = event.unwrap_or_else(|| panic!("{script}: only {lines:?}"));
        lines.push(line(&event));
        if lines.ends_with(&["opened a to read".into(), "closed a to read".into()]) {
            lines.truncate(lines.len() - 2);
            return lines;
        }
    }
}

#[test]
fn changes_through_our_own_api_are_told() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    scratch.write("dir/a", "hello").unwrap();
    scratch.write("dir/a", "hi").unwrap();
    scratch.append("dir/a", "!").unwrap();
    scratch.rename("dir/a", "b").unwrap();
    scratch.symlink("s", "b").unwrap();
    writeln!(scratch.create("b").unwrap(), "opened").unwrap();
    scratch.remove("dir").unwrap();
    let told: Vec<_> = std::iter::from_fn(|| watch.try_next()).collect();
    let lines: Vec<_> = told.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "created dir Directory",
            "created dir/a File",
            "written dir/a 0..5",
            "truncated dir/a 0",
            "written dir/a 0..3",
            "renamed dir/a b",
            "created s Symlink",
            "truncated b 0",
            "opened b to write",
            "written b 0..7",
            "closed b to write",
            "removed dir",
        ]
    );
    scratch.unmount().unwrap();
}

#[test]
fn a_watch_tells_of_its_path_and_what_is_below() {
    let scratch = observed();
    let mut watch = scratch.watch("in").unwrap();
    sh(
        &scratch,
        "echo 1 > other; mkdir in in/x; echo 2 > in/x/f; mv other in/o; mv in/o gone; mv in out; rm gone",
    );
    let told: Vec<_> = std::iter::from_fn(|| watch.try_next()).collect();
    let lines: HashSet<_> = told.iter().map(line).collect();
    let expected = [
        "created in Directory",
        "created in/x Directory",
        "created in/x/f File",
        "opened in/x/f to write",
        "written in/x/f 0..2",
        "closed in/x/f to write",
        "renamed other in/o",
        "renamed in/o gone",
        "renamed in out",
    ];
    assert_eq!(lines, expected.map(String::from).into());
    scratch.unmount().unwrap();
}

#[test]
fn an_open_file_is_told_by_the_path_that_it_has_then() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    let script =
        "mkdir d; exec 3> d/f; mv d e; echo 1 >&3; rm e/f; echo 2 >&3; rmdir e; echo 3 >&3";
    assert_eq!(
        lines(&scratch, &mut watch, script),
        [
            "created d Directory",
            "created d/f File",
            "opened d/f to write",
            "renamed d e",
            "written e/f 0..2",
            "removed e/f",
            // One with the write after the next event, which is of something else.
            "written e/f 2..6",
            "removed e",
            "closed e/f to write",
        ]
    );
    scratch.unmount().unwrap();
}

#[test]
fn the_files_that_stood_there_before_have_names_too() {
    let scratch = observed();
    scratch.write("a/b/c", "1").unwrap();
    sh(&scratch, "ln a/b/c a/d; rm a/b/c");
    let mut watch = scratch.watch("a").unwrap();
    sh(&scratch, "echo 2 >> a/d");
    let told = until(&mut watch, "a/d");
    assert!(told.is_empty(), "{told:?}");
    scratch.unmount().unwrap();
}

#[test]
fn where_opens_are_not_seen_a_watch_is_refused_with_the_remedy() {
    let scratch = Scratch::new().unwrap();
    for error in [
        scratch.watch(".").map(drop).unwrap_err(),
        scratch.follow("a").map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotObserved { .. }));
        let text = error.to_string();
        assert!(text.contains("profile(Profile::Observed)"), "{text}");
    }
    scratch.unmount().unwrap();
}

fn is_readable(fd: impl AsFd, timeout: Duration) -> bool {
    let mut events = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).unwrap();
    poll(&mut events, Some(&timeout)).unwrap() > 0
}

#[test]
fn a_watch_is_readable_while_events_wait() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    assert!(!is_readable(&watch, Duration::ZERO));
    for _ in 0..3 {
        scratch.write("a", "1").unwrap();
        scratch.remove("a").unwrap();
        assert!(is_readable(&watch, PATIENCE));
        assert_eq!(
            watch.try_next().as_ref().map(line).unwrap(),
            "created a File"
        );
        assert!(is_readable(&watch, Duration::ZERO), "more wait");
        assert_eq!(std::iter::from_fn(|| watch.try_next()).count(), 2);
        assert!(!is_readable(&watch, Duration::ZERO));
    }
    scratch.unmount().unwrap();
    assert!(is_readable(&watch, PATIENCE), "the end is told");
    assert_eq!(watch.try_next(), None);
    assert!(watch.has_ended());
    assert!(is_readable(&watch, Duration::ZERO), "and stays so");
}

#[test]
fn a_watch_wakes_whoever_waits_for_it_every_time() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    std::thread::scope(|scope| {
        let counter = scope.spawn(|| {
            watch
                .by_ref()
                .filter(|it| matches!(it, Event::Removed { .. }))
                .count()
        });
        for _ in 0..20_000 {
            scratch.create_dir("a").unwrap();
            scratch.remove("a").unwrap();
        }
        scratch.unmount().unwrap();
        assert_eq!(counter.join().unwrap(), 20_000);
    });
}

#[test]
fn who_waits_for_an_event_is_told_when_the_mount_is_gone() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || watch.next());
        std::thread::sleep(Duration::from_millis(20));
        scratch.unmount().unwrap();
        assert_eq!(waiting.join().unwrap(), None);
    });
}

#[test]
fn who_never_reads_slows_nobody_and_holds_little() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    // 1 GiB in 65,536 writes, to two files by turns; half of it rewrites what is there.
    let script = "import os
a, b = (os.open(n, os.O_CREAT | os.O_WRONLY) for n in 'ab')
block = b'x' * 16384
for turn in range(2):
    for n in range(8192):
        for f in a, b: os.pwrite(f, block, n * 16384); os.pwrite(f, block, n * 16384)
";
    let began = Instant::now();
    let report = scratch.run(["/usr/bin/python3", "-c", script]).unwrap();
    assert!(report.status.exit.success(), "{}", report.stderr.to_text());
    println!(
        "FIGURE 1 GiB in 16 KiB writes, never read: {:?}",
        began.elapsed()
    );
    let of_a = |event: &Event| event.path().is_some_and(|path| path.to_string() == "a");
    let told: Vec<_> = std::iter::from_fn(|| watch.try_next())
        .filter(of_a)
        .collect();
    let lines: Vec<_> = told.iter().map(line).collect();
    assert_eq!(
        lines[..3],
        [
            "created a File",
            "opened a to write",
            "written a 0..134217728"
        ]
    );
    assert!(lines.len() <= 4, "{lines:?}");
    scratch.unmount().unwrap();
}

#[test]
fn what_a_slow_reader_misses_is_counted() {
    let scratch = observed();
    let mut watch = scratch.watch("a").unwrap();
    let script = "import os
for n in range(20000):
    os.close(os.open('a', os.O_CREAT | os.O_WRONLY))
    os.unlink('a')
";
    let report = scratch.run(["/usr/bin/python3", "-c", script]).unwrap();
    assert!(report.status.exit.success());
    // Created, opened, closed, removed; the last closing may still be on its way.
    let mut told = 0;
    while told < 80_000 {
        let event = watch
            .next_within(PATIENCE)
            .expect("nothing is lost without a word");
        told += match event {
            Event::Lost { count } => count,
            _ => 1,
        };
    }
    assert_eq!(told, 80_000);
    assert_eq!(watch.try_next(), None);
    scratch.unmount().unwrap();
}

#[test]
fn several_watchers_are_told_the_same() {
    let scratch = observed();
    let mut watches = [(); 3].map(|()| scratch.watch(".").unwrap());
    drop(scratch.watch(".").unwrap());
    sh(&scratch, "echo 1 > a; rm a");
    scratch.create_dir("last").unwrap();
    let told = watches.each_mut().map(|watch| until(watch, "last"));
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
    assert_eq!(line(&told[0][0]), "created a File");
    scratch.unmount().unwrap();
}

#[test]
fn directories_nested_by_the_thousand_do_no_harm() {
    let scratch = observed();
    let mut watch = scratch.watch(".").unwrap();
    let script = "import os
for n in range(3000):
    os.mkdir('d')
    os.chdir('d')
open('f', 'w').close()
";
    let report = scratch.run(["/usr/bin/python3", "-c", script]).unwrap();
    assert!(report.status.exit.success(), "{}", report.stderr.to_text());
    // Their paths together are longer than what is kept.
    let mut told = 0;
    while told < 3003 {
        told += match watch.next_within(PATIENCE).unwrap() {
            Event::Lost { count } => count,
            _ => 1,
        };
    }
    assert_eq!(told, 3003);
    assert_eq!(watch.try_next(), None);
    scratch.unmount().unwrap();
}

#[cfg(feature = "tokio")]
#[test]
fn a_watch_is_a_stream() {
    use std::future::poll_fn;
    use std::pin::Pin;

    use futures_core::Stream;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let scratch = observed();
    let watch = scratch.watch(".").unwrap();
    let said = runtime.block_on(async {
        let mut stream = watch.into_stream().unwrap();
        let writer = std::thread::spawn(move || {
            sh(
                &scratch,
                "for n in 1 2 3 4 5; do echo $n > a; rm a; sleep 0.01; done",
            );
            scratch.unmount().unwrap();
        });
        let mut said = Vec::new();
        while let Some(event) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            said.push(line(&event));
        }
        writer.join().unwrap();
        said
    });
    assert_eq!(said.iter().filter(|line| *line == "removed a").count(), 5);
}

/// What it costs to see, and to be told: `cargo test --release --test it -- --ignored figures_of_watching --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures_of_watching() {
    let sources = "for n in $(seq 60); do printf '#include \"h.h\"\\nint f%d(int x) { return x + %d; }\\n' $n $n > f$n.c; done; echo 'int g(int);' > h.h";
    let build = "for n in $(seq 60); do cc -c f$n.c -o f$n.o; done; ar rc lib.a f*.o";
    let small = "import os
for n in range(20000):
    f = os.open(f'{n % 100}', os.O_CREAT | os.O_WRONLY)
    os.write(f, b'x' * 100)
    os.close(f)
";
    let works: [(&str, Vec<&str>); 2] = [
        ("60 compilations", vec!["sh", "-c", build]),
        (
            "20,000 open-write-close",
            vec!["/usr/bin/python3", "-c", small],
        ),
    ];
    for (what, command) in works {
        for (how, profile, watches, reads) in [
            ("fast", Profile::Fast, false, false),
            ("observed", Profile::Observed, false, false),
            ("watched, not read", Profile::Observed, true, false),
            ("watched and read", Profile::Observed, true, true),
        ] {
            let mut times = Vec::new();
            let mut events = 0;
            for _ in 0..7 {
                let scratch = Scratch::builder().profile(profile).build().unwrap();
                sh(&scratch, sources);
                let watch = watches.then(|| scratch.watch(".").unwrap());
                std::thread::scope(|scope| {
                    let (kept, read) = if reads { (None, watch) } else { (watch, None) };
                    let reader = read.map(|watch| scope.spawn(move || watch.count()));
                    let began = Instant::now();
                    scratch.run(command.clone()).unwrap();
                    times.push(began.elapsed());
                    scratch.unmount().unwrap();
                    events = reader.map_or(0, |it| it.join().unwrap());
                    drop(kept);
                });
            }
            times.sort();
            println!(
                "FIGURE {what}, {how}: median {:?}, best {:?}, {events} events read",
                times[3], times[0]
            );
        }
    }
}
