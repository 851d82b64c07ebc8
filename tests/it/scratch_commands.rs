//! `notapipe mount` with what it is filled from and saved to, and the commands for live mounts, as root and as an
//! ordinary user.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::site::{Call, Site, Told, Who, both, eventually, until};

/// A site with a mount point, and a directory for sockets of its own.
struct Ground<'s>(&'s Site);

impl<'s> Ground<'s> {
    fn new(site: &'s Site) -> Self {
        site.create_dir("m");
        site.create_dir("run");
        site.chmod("run", 0o700);
        Self(site)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command(words);
        command.env("XDG_RUNTIME_DIR", self.0.path("run"));
        command
    }

    fn call(&self, words: &[&str]) -> Told {
        Call::start(self.command(words)).finish()
    }

    /// `notapipe mount` in the background, with these options, over `m`.
    fn mount(&self, options: &[&str]) -> Told {
        self.call(&[&["mount", "--size", "16M", "--background"], options, &["m"]].concat())
    }

    /// The same in the foreground, ready.
    fn mount_here(&self, options: &[&str]) -> Call {
        let words = [&["mount", "--size", "16M"], options, &["m"]].concat();
        let call = Call::start(self.command(&words));
        until("mounted", || self.is_mounted());
        // The socket comes a moment later.
        until("answering", || {
            self.command(&["status", "m"])
                .output()
                .unwrap()
                .status
                .success()
        });
        call
    }

    fn is_mounted(&self) -> bool {
        !crate::support::site::mounts_below(&self.0.path("m")).is_empty()
    }

    fn shell(&self, script: &str) -> Told {
        let told = Call::start(self.0.tool(&["sh", "-c", script])).finish();
        told.ended(0)
    }

    fn status(&self) -> serde_json::Value {
        let told = self.call(&["status", "--json", "m"]).ended(0);
        serde_json::from_slice(&told.stdout).unwrap()
    }

    /// Whether its user sees something there: root may not enter a user's mount.
    fn has(&self, name: &str) -> bool {
        let mut test = self.0.tool(&["test", "-e", name]);
        test.status().unwrap().success()
    }

    /// What a tar that was saved holds, sorted.
    fn members(&self, archive: &str) -> Vec<String> {
        let told = self.shell(&format!("tar tf {archive} | sort"));
        told.text().lines().map(str::to_owned).collect()
    }
}

fn on_ground(test: impl Fn(&Ground<'_>)) {
    both(|site| test(&Ground::new(site)));
}

#[test]
fn filled_from_a_directory() {
    on_ground(|ground| {
        ground.0.write("project/src/A.asm", "nop");
        ground.0.symlink("src/A.asm", "project/link");
        ground.mount(&["--from", "project"]).ended(0).silently();
        ground
            .shell("cat m/link; echo changed >m/src/A.asm; echo new >m/new")
            .printing("nop");
        ground.call(&["umount", "m"]).ended(0).silently();
        // Nothing goes back.
        assert_eq!(ground.0.read("project/src/A.asm"), b"nop");
        assert!(!ground.0.exists("project/new"));
    });
}

#[test]
fn filled_from_every_archive_and_from_a_pipe() {
    on_ground(|ground| {
        ground.0.write("in/a/b", "content");
        ground.shell("cd in; tar cf ../t.tar a; tar czf ../t.tar.gz a; tar c --zstd -f ../t.tar.zst a; tar cJf ../t.tar.xz a; zip -qr ../t.zip a");
        for archive in ["t.tar", "t.tar.gz", "t.tar.zst", "t.tar.xz", "t.zip"] {
            ground.mount(&["--from", archive]).ended(0).silently();
            ground.shell("cat m/a/b").printing("content");
            ground.call(&["umount", "m"]).ended(0);
            let mut command =
                ground.command(&["mount", "--background", "--read-only", "--from", "-", "m"]);
            command.stdin(fs::File::open(ground.0.path(archive)).unwrap());
            Call::start(command).finish().ended(0).silently();
            ground.shell("cat m/a/b").printing("content");
            ground.call(&["umount", "m"]).ended(0);
        }
    });
}

#[test]
fn what_cannot_be_filled_is_not_mounted() {
    on_ground(|ground| {
        ground.0.write("text", "no archive at all");
        ground.shell("mkdir d; head -c 20M /dev/zero >d/big; tar cf big.tar d; head -c 9M big.tar >cut.tar; tar cPf evil.tar ../work/text 2>/dev/null || tar cPf evil.tar /etc/hostname");
        for (from, told) in [
            ("absent", "cannot read \""),
            ("text", "is no archive: neither tar"),
            (
                "d",
                "the limit of 16 MiB is reached, at least 20 MiB are needed\nhelp: raise the limit with --size, to 20M at least",
            ),
            ("big.tar", "the limit of 16 MiB is reached"),
            ("evil.tar", "is refused: as a path, it"),
        ] {
            let said = ground.mount(&["--from", from]).ended(125);
            assert!(said.stderr.contains(told), "{from}: {}", said.stderr);
            assert!(!ground.is_mounted());
        }
        ground
            .call(&[
                "mount",
                "--size",
                "32M",
                "--background",
                "--from",
                "cut.tar",
                "m",
            ])
            .ended(125)
            .saying(&["cut off"]);
    });
}

/// The server has left the terminal by then, so that its caller must hand the signal on.
#[test]
fn filling_in_the_background_is_interrupted_by_a_signal() {
    on_ground(|ground| {
        let mut command = ground.command(&["mount", "--background", "--from", "-", "m"]);
        // An archive that never comes.
        command.stdin(Stdio::piped());
        let mut call = Call::start(command);
        let mut stdin = call.stdin();
        stdin.write_all(&[0x1f]).unwrap();
        until("there are two", || ground.0.servers().len() == 2);
        call.signal(rustix::process::Signal::INT);
        call.finish().ended(130).silently();
        drop(stdin);
        until("both are gone", || ground.0.servers().is_empty());
        assert!(!ground.is_mounted());
    });
}

/// Called from within, it is no reason itself why it cannot be done.
#[test]
fn unmounting_from_within_names_who_else_is_there() {
    on_ground(|ground| {
        ground.mount(&[]).ended(0);
        let script = format!(
            "cd m; \"{}\" umount .; echo $?",
            ground.0.program().display()
        );
        let mut shell = ground.0.tool(&["sh", "-c", &script]);
        shell.env("XDG_RUNTIME_DIR", ground.0.path("run"));
        let told = Call::start(shell).finish().ended(0).printing("125\n");
        assert!(
            told.stderr.contains("in use by sh -c cd m; "),
            "{}",
            told.stderr
        );
        assert_eq!(
            told.stderr.matches("(process ").count(),
            1,
            "{}",
            told.stderr
        );
        ground.call(&["umount", "m"]).ended(0);
    });
}

/// Every way in which a mount may end.
#[test]
fn saved_however_it_ends() {
    on_ground(|ground| {
        let ends = [
            "notapipe umount",
            "fusermount3 -u",
            "umount",
            "SIGTERM",
            "SIGINT",
            "SIGHUP",
        ];
        for end in ends {
            if end == "umount" && !ground.0.is_root() {
                continue; // not allowed to
            }
            println!("{end}");
            ground.0.write("saved.tar.gz", "the old one");
            ground.0.chmod("saved.tar.gz", 0o640);
            let server = ground.mount_here(&["--save", "saved.tar.gz"]);
            ground.shell("mkdir m/d; echo one >m/d/f; ln -s f m/d/l; ln m/d/f m/hard");
            assert_eq!(ground.0.read("saved.tar.gz"), b"the old one");
            let code = match end {
                "notapipe umount" => {
                    let told = ground.call(&["umount", "-v", "m"]).ended(0);
                    let saved = format!("notapipe: saved to {}\n", ground.0.text("saved.tar.gz"));
                    assert_eq!(told.stderr, saved);
                    // It is there when the command returns.
                    assert_eq!(ground.members("saved.tar.gz").len(), 4);
                    0
                }
                "fusermount3 -u" | "umount" => {
                    ground.shell(&format!("{end} m"));
                    0
                }
                signal => {
                    let number = match signal {
                        "SIGTERM" => 15,
                        "SIGINT" => 2,
                        _ => 1,
                    };
                    server.signal(rustix::process::Signal::from_named_raw(number).unwrap());
                    128 + number
                }
            };
            server.finish().ended(code).silently();
            assert!(!ground.is_mounted());
            assert_eq!(ground.members("saved.tar.gz"), ["d/", "d/f", "d/l", "hard"]);
            assert_eq!(ground.0.mode("saved.tar.gz"), 0o640);
            assert!(
                !ground
                    .0
                    .listing()
                    .iter()
                    .any(|name| name.starts_with(".notapipe")),
                "{:?}",
                ground.0.listing()
            );
        }
    });
}

/// The archives that are saved and those that are shown are of one kind.
#[test]
fn a_fifo_is_in_no_snapshot_and_not_saved_and_that_is_told() {
    on_ground(|ground| {
        let warning = "notapipe: warning: \"f\" is a FIFO: left behind\n";
        for place in ["saved.tar", "saved.zip", "saved/"] {
            let mount = ground.mount_here(&["--save", place]);
            ground.shell("mkfifo m/f; echo x > m/x");
            let told = ground.call(&["snapshot", "m", "-o", "s.tar"]).ended(0);
            assert_eq!(told.stderr, warning);
            ground
                .call(&["snapshot", "-q", "m", "-o", "s.tar"])
                .ended(0)
                .silently();
            ground.shell("tar tf s.tar").printing("x\n");
            ground.call(&["umount", "m"]).ended(0);
            let told = mount.finish().ended(0);
            assert_eq!(told.stderr, warning, "{place}");
        }
        ground
            .shell("tar tf saved.tar; unzip -Z1 saved.zip; ls saved")
            .printing("x\nx\nx\n");
    });
}

#[test]
fn a_mount_in_use_is_saved_and_taken_away_by_a_signal() {
    on_ground(|ground| {
        let server = ground.mount_here(&["--save", "saved.tar"]);
        ground.shell("echo kept >m/f");
        let mut user = ground.0.tool(&["sleep", "60"]);
        user.current_dir(ground.0.path("m"));
        let user = Call::start(user);
        ground
            .call(&["umount", "m"])
            .ended(125)
            .saying(&["in use by sleep"]);
        assert!(ground.is_mounted());
        server.signal(rustix::process::Signal::TERM);
        server
            .finish()
            .ended(143)
            .saying(&["it is gone for them now"]);
        assert_eq!(ground.members("saved.tar"), ["f"]);
        user.signal(rustix::process::Signal::KILL);
        user.finish();
    });
}

#[test]
fn a_lazy_umount_saves_when_the_last_user_is_gone() {
    on_ground(|ground| {
        let server = ground.mount_here(&["--save", "saved.tar"]);
        let script = "exec 3>m/late; echo ready; read line; echo late >&3";
        let mut holder = ground.0.tool(&["sh", "-c", script]);
        holder.stdin(Stdio::piped());
        let mut holder = Call::start(holder);
        until("open", || ground.has("m/late"));
        ground.call(&["umount", "--lazy", "m"]).ended(0).silently();
        assert!(!ground.is_mounted());
        assert!(!ground.0.exists("saved.tar"));
        holder.stdin().write_all(b"go\n").unwrap();
        holder.finish().ended(0);
        server.finish().ended(0);
        ground.shell("tar xOf saved.tar late").printing("late\n");
    });
}

#[test]
fn saved_as_a_directory() {
    on_ground(|ground| {
        // One that is made.
        ground.mount(&["--save", "out/"]).ended(0);
        ground.shell("mkdir m/d; echo one >m/d/f; chmod 640 m/d/f; ln -s f m/d/l; touch -d @5 m/d");
        ground.call(&["umount", "m"]).ended(0);
        ground
            .shell("cat out/d/l; stat -c '%a %Y' out/d/f out/d | head -c 3; stat -c %Y out/d; stat -c %a out")
            .printing("one\n6405\n755\n");
        // One that is replaced as a whole, since it is also where it came from.
        ground.0.write("out/stale", "to go");
        ground.0.chmod("out", 0o750);
        ground.mount(&["--from", "out", "--save", "out"]).ended(0);
        ground.shell("rm m/stale; echo two >m/new");
        ground.call(&["umount", "m"]).ended(0);
        ground
            .shell("ls -A out; cat out/new; stat -c %a out")
            .printing("d\nnew\ntwo\n750\n");
        // An empty one.
        ground.0.create_dir("empty");
        ground.mount(&["--save", "empty"]).ended(0);
        ground.shell("echo x >m/x");
        ground.call(&["umount", "m"]).ended(0);
        assert_eq!(ground.0.read("empty/x"), b"x\n");
        let left = ground.0.listing();
        assert!(
            !left.iter().any(|name| name.contains(".notapipe")),
            "{left:?}"
        );
    });
}

#[test]
fn a_destination_that_will_fail_is_refused_before() {
    on_ground(|ground| {
        ground.0.write("full/precious", "do not replace");
        ground.0.write("file.tar", "");
        for (save, told) in [
            (
                "full",
                "the directory is not empty, and is replaced as a whole",
            ),
            ("full/", "the directory is not empty"),
            ("game.gb", "its name is no archive's; end it with .tar"),
            ("absent/x.tar", "No such file or directory"),
            ("file.tar/", "Not a directory"),
            ("m/x.tar", "it lies in the mount itself"),
            ("m", "it lies in the mount itself"),
            ("/proc/x.tar", ""),
        ] {
            let said = ground.mount(&["--save", save]).ended(125);
            assert!(said.stderr.contains(told), "{save}: {}", said.stderr);
            assert!(!ground.is_mounted(), "{save}");
        }
        assert_eq!(ground.0.read("full/precious"), b"do not replace");
    });
}

#[test]
fn what_cannot_be_saved_is_rescued() {
    on_ground(|ground| {
        ground.0.create_dir("gone");
        ground.mount(&["--save", "gone/saved.tar"]).ended(0);
        ground.shell("echo precious >m/f; rmdir gone");
        let told = ground.call(&["umount", "m"]).ended(125);
        assert!(!ground.is_mounted());
        let marker = "everything is in \"";
        let at = told
            .stderr
            .find(marker)
            .unwrap_or_else(|| panic!("{}", told.stderr));
        let rescue = told.stderr[at + marker.len()..].split('"').next().unwrap();
        assert_eq!(
            fs::metadata(rescue)
                .map(|m| {
                    use std::os::unix::fs::PermissionsExt;
                    m.permissions().mode() & 0o777
                })
                .unwrap(),
            0o600
        );
        ground
            .shell(&format!("tar xOf {rescue} f"))
            .printing("precious\n");
        fs::remove_file(rescue).unwrap();
    });
}

#[test]
fn listed_while_they_live() {
    on_ground(|ground| {
        ground.0.create_dir("second");
        ground.mount(&["--save", "s.tar"]).ended(0);
        ground.shell("head -c 5000 /dev/zero >m/f");
        ground
            .call(&["mount", "--size", "1M", "--background", "second"])
            .ended(0);
        let told = ground.call(&["list"]).ended(0);
        let lines: Vec<_> = told.text().lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with("PATH "), "{lines:?}");
        let ours: Vec<Vec<&str>> = lines
            .iter()
            .filter(|line| line.contains(&ground.0.text("")))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(ours.len(), 2, "{lines:?}");
        assert_eq!(
            ours[0][..6],
            [&*ground.0.text("m"), "8", "KiB", "16", "MiB", "1"]
        );
        assert!(ours[0].last().unwrap().ends_with("s.tar"));
        let age = ours[1][6];
        assert!(
            age.starts_with(|c: char| c.is_ascii_digit()) && age.ends_with('s'),
            "{age}"
        );
        // The older one is older, and both grow older still.
        let ages = || {
            let told = ground.call(&["list", "--json"]).ended(0);
            let all: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
            let age_of = |path: &str| {
                let found = all
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|it| it["path"] == *path);
                found.unwrap()["age_seconds"].as_f64().unwrap()
            };
            (
                age_of(&ground.0.text("m")),
                age_of(&ground.0.text("second")),
            )
        };
        let (first, second) = ages();
        assert!(first > second && second > 0.0, "{first} {second}");
        assert!(ages() > (first, second));
        assert_eq!(ours[1][0], ground.0.text("second"));
        let told = ground.call(&["list", "--json"]).ended(0);
        let all: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let paths: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["path"].as_str().unwrap())
            .collect();
        assert!(paths.contains(&&*ground.0.text("m")), "{paths:?}");
        ground.call(&["umount", "second"]).ended(0);
        ground.call(&["umount", "m"]).ended(0);
        let told = ground.call(&["list"]).ended(0).text();
        assert!(!told.contains(&ground.0.text("")), "{told}");
        assert_eq!(
            fs::read_dir(ground.0.path("run/notapipe")).unwrap().count(),
            0
        );
    });
}

#[test]
fn the_status_tells_what_is_used() {
    on_ground(|ground| {
        ground
            .mount(&[
                "--inodes",
                "50",
                "--name",
                "mine",
                "--read-only",
                "--from",
                "/etc/hostname",
            ])
            .ended(125);
        ground.mount(&["--inodes", "50", "--name", "mine"]).ended(0);
        ground.shell("head -c 10000 /dev/zero >m/f");
        let status = ground.status();
        assert_eq!(status["path"], ground.0.text("m"));
        assert_eq!(status["used_bytes"], 12288);
        assert_eq!(status["limit_bytes"], 16 << 20);
        assert_eq!(status["used_inodes"], 2);
        assert_eq!(status["limit_inodes"], 50);
        assert_eq!(status["name"], "mine");
        assert_eq!(status["read_only"], false);
        assert!(status["requests"]["total"].as_u64().unwrap() > 0);
        let text = ground.call(&["status", "m"]).ended(0).text();
        assert!(
            text.contains("used         12 KiB of 16 MiB (0%)"),
            "{text}"
        );
        ground.call(&["umount", "m"]).ended(0);
        ground
            .call(&["status", "m"])
            .ended(125)
            .saying(&["\"m\" is no notapipe mount"]);
        for command in [
            &["resize", "--size", "1M", "m"][..],
            &["snapshot", "m", "-o", "x.tar"],
        ] {
            ground
                .call(command)
                .ended(125)
                .saying(&["is no notapipe mount"]);
        }
    });
}

#[test]
fn resized_while_in_use_and_never_below_what_is_used() {
    on_ground(|ground| {
        ground.mount(&[]).ended(0);
        ground.shell("head -c 10M /dev/zero >m/f");
        ground
            .call(&["resize", "m", "--size", "4M"])
            .ended(125)
            .saying(&["a limit of 4 MiB is too small: 10 MiB (10485760 bytes) are used"]);
        ground
            .call(&["resize", "m", "--inodes", "2", "--size", "4M"])
            .ended(125);
        assert_eq!(ground.status()["limit_bytes"], 16 << 20);
        ground
            .call(&["resize", "m", "--size", "10M"])
            .ended(0)
            .silently();
        let script = "if echo more >m/g 2>/dev/null; then exit 1; fi; stat -f -c '%f %b' m";
        ground.shell(script).printing("0 2560\n");
        ground.call(&["resize", "m", "--size", "32M"]).ended(0);
        ground
            .shell("head -c 20M /dev/zero >m/g; stat -c %s m/g")
            .printing("20971520\n");
        ground
            .call(&["resize", "m", "--inodes", "2"])
            .ended(125)
            .saying(&["a limit of 2 inodes is too small: 3 are used"]);
        ground.call(&["resize", "m", "--inodes", "3"]).ended(0);
        ground.shell("if touch m/h 2>/dev/null; then exit 1; fi");
        ground.call(&["resize", "m"]).ended(2);
        ground.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn a_snapshot_is_of_one_moment() {
    on_ground(|ground| {
        ground.mount(&[]).ended(0);
        ground.shell("head -c 1M /dev/urandom >m/ballast; echo 0 >m/a; echo 0 >m/b");
        // `a` is always as far as `b`, or one further.
        let script = "i=1; while [ -e m/go ]; do echo $i >m/.t; mv m/.t m/a; echo $i >m/.t; mv m/.t m/b; i=$((i+1)); done";
        ground.shell("touch m/go");
        let writer = Call::start(ground.0.tool(&["sh", "-c", script]));
        for format in ["tar", "tar.gz", "tar.zst", "tar.xz", "zip"] {
            for _ in 0..2 {
                let name = format!("s.{format}");
                ground
                    .call(&["snapshot", "m", "-o", &name])
                    .ended(0)
                    .silently();
                let read = match format {
                    "zip" => format!(
                        "unzip -p {name} a; unzip -p {name} b; unzip -p {name} ballast | cmp - m/ballast"
                    ),
                    _ => format!(
                        "tar xOf {name} a; tar xOf {name} b; tar xOf {name} ballast | cmp - m/ballast"
                    ),
                };
                let told = ground.shell(&read).text();
                let numbers: Vec<u64> = told.lines().map(|line| line.parse().unwrap()).collect();
                let [a, b] = numbers[..] else {
                    panic!("{told}")
                };
                assert!(a == b || a == b + 1, "{a} {b}");
            }
        }
        ground.shell("rm m/go");
        writer.finish().ended(0);
        let mut to_stdout = ground.command(&["snapshot", "m", "-o", "-"]);
        to_stdout.stdout(fs::File::create(ground.0.path("stdout.tar")).unwrap());
        Call::start(to_stdout).finish().ended(0);
        ground.shell("tar xOf stdout.tar ballast | cmp - m/ballast");
        ground
            .call(&["snapshot", "m", "-o", "x.rar"])
            .ended(125)
            .saying(&["end it with .tar"]);
        ground
            .call(&["snapshot", "m", "-o", "absent/x.tar"])
            .ended(125);
        ground.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn a_snapshot_has_what_was_written_through_a_mapping() {
    on_ground(|ground| {
        ground.mount(&[]).ended(0);
        let script = "import mmap, sys\n\
            f = open('m/f', 'w+b'); f.truncate(8192)\n\
            m = mmap.mmap(f.fileno(), 8192); m[4096:4102] = b'mapped'\n\
            open('ready', 'w').close(); sys.stdin.readline()";
        let mut writer = ground.0.tool(&["python3", "-c", script]);
        writer.stdin(Stdio::piped());
        let mut writer = Call::start(writer);
        until("mapped", || ground.has("ready"));
        ground.call(&["snapshot", "m", "-o", "s.tar"]).ended(0);
        ground
            .shell("tar xOf s.tar f | tail -c 4096 | head -c 6")
            .printing("mapped");
        writer.stdin().write_all(b"\n").unwrap();
        writer.finish().ended(0);
        ground.call(&["umount", "m"]).ended(0);
    });
}

#[test]
fn what_a_killed_server_leaves_is_cleaned_up() {
    on_ground(|ground| {
        let server = ground.mount_here(&[]);
        let sockets = || fs::read_dir(ground.0.path("run/notapipe")).unwrap().count();
        assert_eq!(sockets(), 1);
        server.signal(rustix::process::Signal::KILL);
        server.finish();
        until("unmounted by the watchdog", || !ground.is_mounted());
        assert_eq!(sockets(), 1);
        let told = ground.call(&["list"]).ended(0).text();
        assert!(!told.contains(&ground.0.text("m")), "{told}");
        assert_eq!(sockets(), 0);
        ground
            .call(&["umount", "m"])
            .ended(125)
            .saying(&["no notapipe mount stands there"]);
    });
}

#[test]
fn without_a_socket_the_kernel_unmounts() {
    on_ground(|ground| {
        // Somebody else could put sockets there.
        ground.0.create_dir("run/notapipe");
        ground.0.chmod("run/notapipe", 0o777);
        let user = ground.0.uid();
        let told = ground.mount(&[]).ended(0);
        // It takes the next directory.
        assert_eq!(told.stderr, "");
        assert_eq!(
            fs::read_dir(ground.0.path("run/notapipe")).unwrap().count(),
            0
        );
        ground.call(&["status", "m"]).ended(0);
        let fallback = format!("/tmp/notapipe-{user}");
        let fallback = match user {
            0 => Path::new("/run/notapipe"),
            _ => Path::new(&fallback),
        };
        let sockets: Vec<_> = fs::read_dir(fallback)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let device = ground.shell("stat -c %Hd-%Ld m").text();
        let device = device.trim();
        let ours = sockets
            .iter()
            .find(|path| path.file_stem().is_some_and(|stem| stem == device));
        fs::remove_file(ours.unwrap_or_else(|| panic!("{device} {sockets:?}"))).unwrap();
        ground
            .call(&["status", "m"])
            .ended(125)
            .saying(&["does not answer"]);
        ground.call(&["umount", "m"]).ended(0);
        assert!(!ground.is_mounted());
    });
}

#[test]
fn memory_comes_back() {
    both(|site| {
        let ground = Ground::new(site);
        ground
            .call(&[
                "mount",
                "--size",
                "256M",
                "--inodes",
                "100K",
                "--background",
                "m",
            ])
            .ended(0);
        let pid = ground.status()["pid"].as_u64().unwrap();
        let resident = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        let before = resident();
        let script = "import os\n\
            os.mkdir('m/d')\n\
            for i in range(20000):\n    open(f'm/d/{i}', 'w').close()\n\
            b = b'x' * (1 << 20)\n\
            f = open('m/big', 'wb')\n\
            for i in range(200): f.write(b)";
        Call::start(ground.0.tool(&["python3", "-c", script]))
            .finish()
            .ended(0);
        let full = resident();
        ground.shell("rm -r m/d m/big");
        let back = eventually(|| {
            let now = resident();
            if now < before + 16 {
                Ok(now)
            } else {
                Err(format!("{now} MiB, before {before}"))
            }
        });
        println!(
            "FIGURE resident MiB of the server: {before} at first, {full} full, {back} emptied"
        );
        ground.call(&["umount", "m"]).ended(0);
    });
}

/// mount(8) looks for programs in directories of its own, so that it gets a `/usr/local/bin` with ours in it, which
/// nobody else sees.
#[test]
fn mount8_and_fstab_know_it() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let _ground = Ground::new(&site);
    site.create_dir("bin");
    let script = r#"
        set -e
        ln -s "$1" bin/notapipe
        mount --bind bin /usr/local/bin
        export XDG_RUNTIME_DIR=$PWD/run
        mount -t fuse.notapipe src m -o size=8M,mode=1777,allow_other
        findmnt -n -o SOURCE,FSTYPE m
        stat -c %a m
        stat -f -c %b m
        echo x >m/f
        umount m
        echo "tab $PWD/m fuse.notapipe size=4M,noexec,nosuid,nodev,noauto,nofail,x-systemd.automount,save=$PWD/saved.tar 0 0" >fstab
        mount --fstab fstab "$PWD/m"
        findmnt -n -o SOURCE,OPTIONS m
        cp /bin/true m/
        if m/true 2>/dev/null; then exit 1; fi
        notapipe list | grep -q "$PWD/m "
        notapipe umount m
        tar tf saved.tar
        set +e
        mount -t fuse.notapipe src m -o size=nonsense; echo $?
        mount -t fuse.notapipe src m -o from=/absent; echo $?
        ln -s "$1" bin/mount.fuse.notapipe
        bin/mount.fuse.notapipe src m -n -o rw,size=1M -t fuse.notapipe; echo $?
        notapipe umount m
    "#;
    let program = site.program().into_os_string().into_string().unwrap();
    let told =
        Call::start(site.tool(&["unshare", "-m", "sh", "-c", script, "sh", &program])).finish();
    let text = told.text();
    let lines: Vec<_> = text.lines().collect();
    let flags = "rw,nosuid,nodev,noexec";
    assert!(
        lines.len() == 8 && lines[3].contains(flags),
        "{text}\n{}",
        told.stderr
    );
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["src", "fuse.notapipe"]
    );
    assert_eq!(lines[1..3], ["1777", "2048"]);
    assert!(lines[3].starts_with("tab "));
    assert_eq!(lines[4..], ["true", "1", "32", "0"]);
    told.saying(&[
        "the mount option size=\"nonsense\" cannot be used",
        "cannot read \"/absent\"",
    ]);
}

#[test]
fn completions_and_manual_pages() {
    let site = Site::new(Who::User);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let told = site.call(&["completions", shell]).ended(0);
        for command in ["mount", "snapshot", "resize"] {
            assert!(told.text().contains(command), "{shell}");
        }
    }
    site.call(&["completions", "csh"]).ended(2);
    site.create_dir("man1");
    site.call(&["man", "man1"]).ended(0).silently();
    let pages = site.listing();
    for page in [
        "notapipe.1",
        "notapipe-run.1",
        "notapipe-mount.1",
        "notapipe-doctor.1",
    ] {
        let found = pages
            .iter()
            .find(|line| line.starts_with(&format!("man1/{page}:")));
        assert!(found.is_some(), "{page}");
    }
    let page = String::from_utf8(site.read("man1/notapipe-mount.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("fstab"), "{page}");
    assert!(site.call(&["man"]).ended(0).text().contains(".SH"));
    site.call(&["man", "absent"]).ended(125);
}

#[test]
fn every_command_teaches() {
    let site = Site::new(Who::User);
    for command in [
        "run",
        "mount",
        "umount",
        "list",
        "status",
        "snapshot",
        "resize",
        "doctor",
        "completions",
        "man",
    ] {
        let told = site.call(&[command, "--help"]).ended(0);
        assert!(told.text().contains("Usage: notapipe"), "{command}");
        if command == "run" {
            continue; // Its usage line is as long as it is.
        }
        let longest = told.text().lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(104), "{command}: {longest:?}");
    }
}
