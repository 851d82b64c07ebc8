//! What tools put into `/tmp`, `/var/tmp`, `/dev/shm` and `$TMPDIR`, and their IPC objects: the job's own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::support::site::{Call, Site, Told, both, may_be_root, until, with_own_mounts};

const HELP_SIZE: &str = "help: raise the limit with --size";

/// As root, as the user of the other tests, and as one who owns nothing there.
fn as_each_user(test: impl Fn(&Site, &dyn Fn(&[&str]) -> Told) + Sync) {
    both(|site| {
        test(site, &|words| site.run(words));
        if rustix::process::geteuid().is_root() && !site.is_root() {
            test(site, &|words| {
                let mut command = site.command(&[&["run"], words].concat());
                command.uid(4321).gid(4321);
                Call::start(command).finish()
            });
        }
    });
}

/// Once as `/tmp` is, and once where something is mounted in it, so that an ordinary user has no overlay of all of it.
fn with_and_without_a_mount(test: impl Fn() + Sync) {
    test();
    if !may_be_root("beside a mount in /tmp") {
        return;
    }
    with_own_mounts(|| {
        let place = tempfile::tempdir_in("/tmp").unwrap();
        let deep = place.path().join("deep/er");
        fs::create_dir_all(&deep).unwrap();
        rustix::mount::mount("tests", &deep, "tmpfs", MountFlags::empty(), None).unwrap();
        test();
        rustix::mount::unmount(&deep, UnmountFlags::empty()).unwrap();
    });
}

/// A path in one of these directories that nothing outside of a job has.
fn nowhere(directory: &str, site: &Site) -> String {
    let path = format!("{directory}/{}", site.endless().replace(' ', "-"));
    assert!(!Path::new(&path).exists(), "{path}");
    path
}

#[test]
fn jobs_at_once_that_use_one_name_have_a_file_each() {
    both(|site| {
        let names = ["/tmp", "/var/tmp", "/dev/shm"].map(|directory| nowhere(directory, site));
        let script = "number=$0 ready=$1 go=$2; shift 2; for file; do echo $number > $file; done; \
                      echo > $ready; cat $go; cat $@";
        let calls = ["1", "2", "3"].map(|number| {
            let [ready, go] = ["ready", "go"].map(|name| {
                site.mkfifo(&format!("{name}{number}"));
                site.text(&format!("{name}{number}"))
            });
            let words = ["--", "sh", "-c", script, number, &ready, &go];
            let names = names.iter().map(String::as_str);
            let call = site.start(&words.into_iter().chain(names).collect::<Vec<_>>());
            (number, ready, go, call)
        });
        for (_, ready, ..) in &calls {
            fs::read(ready).unwrap();
        }
        for (number, _, go, call) in calls {
            fs::write(go, "").unwrap();
            call.finish()
                .ended(0)
                .printing(&format!("{number}\n").repeat(3));
        }
        assert!(!names.iter().any(|name| Path::new(name).exists()));
    });
}

#[test]
fn two_jobs_at_once_have_a_server_each_behind_one_name() {
    both(|site| {
        let name = nowhere("/tmp", site);
        let script = "import socket, sys\n\
                      server = socket.socket(socket.AF_UNIX)\n\
                      server.bind(sys.argv[1])\n\
                      server.listen()\n\
                      open(sys.argv[2], 'w').close()\n\
                      open(sys.argv[3]).close()\n\
                      client = socket.socket(socket.AF_UNIX)\n\
                      client.connect(sys.argv[1])\n\
                      server.accept()[0].send(sys.argv[2].encode())\n\
                      print(client.recv(4096).decode())";
        let calls = ["1", "2"].map(|number| {
            let [ready, go] = ["ready", "go"].map(|name| {
                site.mkfifo(&format!("{name}{number}"));
                site.text(&format!("{name}{number}"))
            });
            let call = site.start(&["--", "python3", "-c", script, &name, &ready, &go]);
            (ready, go, call)
        });
        for (ready, ..) in &calls {
            fs::read(ready).unwrap();
        }
        for (ready, go, call) in calls {
            fs::write(go, "").unwrap();
            call.finish().ended(0).printing(&format!("{ready}\n"));
        }
    });
}

#[test]
fn what_the_caller_has_in_tmp_is_read_and_executed_and_stays_as_it_is() {
    with_and_without_a_mount(|| as_each_user(what_the_caller_has));
}

fn what_the_caller_has(site: &Site, run: &dyn Fn(&[&str]) -> Told) {
    site.write("dir/file", "caller's\n");
    site.script("dir/tool", "#!/bin/sh\necho tool\n");
    site.script("./tool", "#!/bin/sh\necho beside\n");
    let (dir, before) = (site.text("dir"), site.listing());
    let work = "set -e; cd $0; cat file; ./tool; mv file other; cat other; rm tool; \
                    [ $(echo *) = other ]";
    // Another user may not write there, nor in a job.
    let may_write = fs::metadata(&dir)
        .map(|it| it.permissions().mode())
        .unwrap()
        & 0o200
        != 0;
    assert!(may_write);
    run(&["--", "sh", "-c", "cat $0/file; $0/tool", &dir])
        .ended(0)
        .printing("caller's\ntool\n");
    run(&["--", "./tool"]).ended(0).printing("beside\n");
    assert_eq!(site.listing(), before);
    site.run(&["--", "sh", "-c", work, &dir])
        .ended(0)
        .printing("caller's\ntool\ncaller's\n");
    let everything = "rm -rf $0/* $0/../*; [ ! -e $0/file ]";
    site.run(&["--", "sh", "-c", everything, &dir]).ended(0);
    assert_eq!(site.listing(), before);
    site.run(&["--tmp", "host", "--", "rm", "-r", &dir])
        .ended(0);
    assert!(!site.exists("dir"));
}

/// Makes it root's, with a mode that lets others in; the test is for root and whom it becomes.
fn give_to_root(path: &Path, mode: u32) {
    std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_belongs_to_root_is_executed_opened_and_filled_as_without_a_job() {
    if !may_be_root("all of it") {
        return;
    }
    with_and_without_a_mount(|| {
        as_each_user(|site, run| {
            for name in ["all/programs", "all/open", "all/closed"] {
                site.create_dir(name);
            }
            fs::copy("/bin/echo", site.path("all/programs/say")).unwrap();
            give_to_root(&site.path("all/programs/say"), 0o711);
            give_to_root(&site.path("all/programs"), 0o755);
            let (device, mode) = (rustix::fs::FileType::CharacterDevice, 0o666.into());
            let (null, number) = (site.path("all/null"), rustix::fs::makedev(1, 3));
            let _ = fs::remove_file(&null);
            rustix::fs::mknodat(rustix::fs::CWD, &null, device, mode, number).unwrap();
            give_to_root(&null, 0o666);
            site.write("all/open/theirs", "theirs\n");
            give_to_root(&site.path("all/open/theirs"), 0o644);
            give_to_root(&site.path("all/open"), 0o777);
            give_to_root(&site.path("all/closed"), 0o755);
            give_to_root(&site.path("all"), 0o755);
            let (all, before) = (site.text("all"), site.listing());
            // By its path, by its name in PATH, and by a path that only a script tells.
            let say = format!("{all}/programs/say");
            run(&["--", &say, "path"]).ended(0).printing("path\n");
            let path = format!("PATH={all}/programs:/usr/bin:/bin");
            let word = ["--", "--env", &path, "sh", "-c", "say name"];
            run(&word).ended(0).printing("name\n");
            let script = format!(
                "{say} script; cat </dev/zero | head -c 5 >{all}/null; stat -c %F {all}/null"
            );
            let told = run(&["--", "sh", "-c", &script]).ended(0);
            told.printing("script\ncharacter special file\n");
            let fill =
                "set -e; cd $0; cat theirs; echo > new; mkdir dir; rm theirs; mv new dir; ls . dir";
            let told = run(&["--", "sh", "-c", fill, &format!("{all}/open")]);
            told.ended(0).printing("theirs\n.:\ndir\n\ndir:\nnew\n");
            if !site.is_root() {
                let refused = ["--", "touch", &format!("{all}/closed/new")];
                run(&refused).ended(1).saying(&["Permission denied"]);
            }
            assert_eq!(site.listing(), before);
        });
    });
}

#[test]
fn a_directory_of_the_users_below_one_of_roots_can_be_written_to() {
    with_and_without_a_mount(|| {
        both(|site| {
            site.create_dir("mine");
            site.write("mine/file", "old\n");
            let before = site.listing();
            let fill = "cd $0; echo new >> file; mv file other; mkdir dir; cat other; ls";
            let told = site.run(&["--", "sh", "-c", fill, &site.text("mine")]);
            told.ended(0).printing("old\nnew\ndir\nother\n");
            assert_eq!(site.listing(), before);
        });
    });
}

#[test]
fn a_fifo_that_only_a_script_names_leads_to_the_caller() {
    both(|site| {
        site.mkfifo("fifo");
        let fifo = site.text("fifo");
        let script = format!("echo through>'{fifo}'");
        let call = site.start(&["--", "sh", "-c", &script]);
        assert_eq!(fs::read(&fifo).unwrap(), b"through\n");
        call.finish().ended(0);
        let set = format!("THERE={fifo}");
        let call = site.start(&["--", "--env", &set, "sh", "-c", "echo $0 > $THERE", "again"]);
        assert_eq!(fs::read(&fifo).unwrap(), b"again\n");
        call.finish().ended(0);
    });
}

#[test]
fn what_is_mounted_below_a_mount_is_not_in_the_way() {
    if !may_be_root("all of it") {
        return;
    }
    with_own_mounts(|| {
        both(|site| {
            // A directory stands for /tmp, in which all of this lies.
            let here = site.path("tmp");
            site.create_dir("tmp/below");
            let flags = MountFlags::empty();
            for at in [&here.join("below"), &here] {
                rustix::mount::mount("tests", at, "tmpfs", flags, Some(c"mode=1777")).unwrap();
            }
            fs::write(here.join("file"), "there\n").unwrap();
            fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
            let set = format!("TMPDIR={}", here.display());
            let work = "cat $TMPDIR/file; rm $TMPDIR/file && ls $TMPDIR";
            let told = site.run(&["--", "--env", &set, "sh", "-c", work]);
            told.ended(0).printing("there\n");
            rustix::mount::unmount(&here, UnmountFlags::empty()).unwrap();
            rustix::mount::unmount(here.join("below"), UnmountFlags::empty()).unwrap();
        });
    });
}

#[test]
fn temporary_files_go_with_a_job_that_is_ended() {
    both(|site| {
        let [here, there] = ["/tmp", "/var/tmp"].map(|directory| nowhere(directory, site));
        // Its TMPDIR is looked at when the test ends.
        let work = format!(
            "echo > {here}; echo > {there}; seq 300000 | sort -R -S 200K -o /dev/null; mktemp; mktemp -p /tmp; {}",
            site.endless()
        );
        site.run(&["--timeout", "1s", "--", "sh", "-c", &work])
            .ended(124);
        let call = site.start(&["--", "sh", "-c", &work]);
        until("the job works", || site.endless_ones() == 1);
        call.signal(rustix::process::Signal::KILL);
        call.finish();
        site.expect_nothing_left();
        assert!(![here, there].iter().any(|name| Path::new(name).exists()));
    });
}

#[test]
fn ipc_objects_are_the_jobs_own() {
    both(|site| {
        let script = "import ctypes, sys\n\
                      c = ctypes.CDLL(None, use_errno=True)\n\
                      key = int(sys.argv[1])\n\
                      assert c.shmget(key, 1 << 20, 0o1600) >= 0, 'shm'\n\
                      assert c.msgget(key, 0o1600) >= 0, 'msg'\n\
                      assert c.semget(key, 1, 0o1600) >= 0, 'sem'\n\
                      assert c.mq_open(b'/notapipe', 0o102, 0o600, None) >= 0, 'mq'\n\
                      open('/dev/shm/notapipe', 'w').write('x')\n\
                      print(len(open('/proc/sysvipc/shm').readlines()))";
        // One that would fail in the second run, if the first left something with it.
        let key = (std::process::id() | 0x4e00_0000).to_string();
        for _ in 0..2 {
            let told = site.run(&["--", "python3", "-c", script, &key]);
            told.ended(0).printing("2\n");
        }
        for kind in ["shm", "msg", "sem"] {
            let left = fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap();
            assert!(!left.contains(&key), "{left}");
        }
    });
}

#[test]
fn shared_memory_of_root_counts_for_the_size() {
    let Some(site) = Site::of_root() else { return };
    let script = "import ctypes; print(ctypes.CDLL(None).shmget(0, 2 << 20, 0o1600) >= 0)";
    for (size, fits) in [("1M", "False\n"), ("4M", "True\n")] {
        let told = site.run(&["--size", size, "--", "python3", "-c", script]);
        told.ended(0).printing(fits);
    }
}

#[test]
fn temporary_files_are_inside_the_size() {
    both(|site| {
        let told = site.run(&[
            "--size",
            "1M",
            "--",
            "sh",
            "-c",
            "head -c 3M /dev/zero > /tmp/big",
        ]);
        told.ended(1).saying(&[
            "No space left",
            "/tmp",
            "was full: it may hold 1 MiB",
            HELP_SIZE,
        ]);
        for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
            let fill =
                format!("head -c 700K /dev/zero > a; head -c 700K /dev/zero > {directory}/b");
            let words = ["--size", "1M", "-o", "a", "--", "sh", "-c", &fill];
            site.run(&words).ended(125).saying(&[
                "700 KiB",
                "/tmp",
                "limit of 1 MiB together",
                HELP_SIZE,
            ]);
            assert!(site.listing().is_empty());
        }
        // While it goes on, too.
        let fill = format!(
            "head -c 700K /dev/zero > a; head -c 700K /dev/zero > /tmp/b; {}",
            site.endless()
        );
        site.run(&["--size", "1M", "--", "sh", "-c", &fill])
            .ended(125)
            .saying(&["limit of 1 MiB together"]);
        let told = site.run(&[
            "--size",
            "1M",
            "--",
            "sh",
            "-c",
            "head -c 900K /dev/zero > /tmp/b",
        ]);
        told.ended(0).silently();
    });
}

#[test]
fn variables_lead_to_a_view_of_where_they_point() {
    both(|site| {
        site.create_dir("temporary");
        site.write("temporary/file", "caller's\n");
        let there = site.text("temporary");
        for name in ["TMPDIR", "TMP", "TEMP"] {
            let set = format!("{name}={there}");
            let work = format!("cat ${name}/file; echo > ${name}/made; echo ${name}; ls ${name}");
            let told = site.run(&["--", "--env", &set, "sh", "-c", &work]);
            told.ended(0)
                .printing(&format!("caller's\n{there}\nfile\nmade\n"));
            assert_eq!(
                site.listing(),
                ["temporary/", "temporary/file: caller\\'s\\n"]
            );
        }
    });
}

#[test]
fn a_job_without_namespaces_has_a_directory_for_them() {
    both(|site| {
        let work = "set -e; [ $TMP = $TMPDIR ]; [ $TEMP = $TMPDIR ]; file=$(mktemp); \
                    head -c 500K /dev/zero > $file; mkdir $TMPDIR/d; ls -A; echo ${file%/*}; touch out";
        let public = ["--mount", "public", "--changed=all/", "--size", "1M"];
        let told = site.run(&[&public[..], &["--", "sh", "-c", work]].concat());
        let said = told.ended(0).text();
        let path = Path::new(said.trim_end());
        assert_eq!(said.lines().count(), 1, "it is not listed: {said}");
        assert!(!path.exists());
        assert_eq!(site.listing(), ["all/", "all/out: "]);
        let fill = "head -c 3M /dev/zero > $TMPDIR/big";
        let told = site.run(&["--mount", "public", "--size", "1M", "--", "sh", "-c", fill]);
        told.ended(1).saying(&["the mount was full", HELP_SIZE]);
        // What is there under that name is the caller's.
        site.write("in/.notapipe-tmp/file", "caller's");
        let words = ["--mount", "public", "-i", ".=in", "--", "sh", "-c"];
        let told = site.run(&[&words[..], &["cat .notapipe-tmp/file; ls -A; mktemp -u"]].concat());
        let said = told.ended(0).text();
        assert!(said.starts_with("caller's.notapipe-tmp\n/"), "{said}");
        assert!(said.contains("/.notapipe-tmp1/tmp."), "{said}");
        let told = site.run(&[
            "--mount",
            "public",
            "--tmp",
            "host",
            "--",
            "sh",
            "-c",
            "echo $TMP",
        ]);
        told.ended(0).printing("\n");
    });
}

#[test]
fn a_report_of_a_job_without_namespaces_is_about_its_files() {
    both(|site| {
        let words = ["--mount", "public", "--report", "report", "--", "sh", "-c"];
        site.run(&[&words[..], &["mktemp; touch made"]].concat())
            .ended(0);
        let report: serde_json::Value = serde_json::from_slice(&site.read("report")).unwrap();
        let created = &report["steps"][0]["files"]["created"];
        assert_eq!(created, &serde_json::json!(["made"]), "{report}");
    });
}

#[test]
fn sockets_of_the_caller_can_be_connected_to() {
    both(|site| {
        site.create_dir("sockets");
        let path = site.path("sockets/one");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1][4:]); \
                      s.send(b'reached')";
        // Not a word of the command that is a path: it is found where the kernel lists it.
        let word = format!("at: {}", path.display());
        let call = site.start(&["--", "python3", "-c", script, &word]);
        let (mut stream, _) = listener.accept().unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "reached");
        call.finish().ended(0);
    });
}

#[test]
fn tools_that_lie_in_shared_memory_are_found() {
    both(|site| {
        let room = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let tool = room.path().join("tool");
        fs::write(
            &tool,
            "#!/bin/sh\ncat ${0%/*}/data; echo changed > ${0%/*}/data; mktemp -u\n",
        )
        .unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(room.path().join("data"), "there\n").unwrap();
        fs::set_permissions(room.path().join("data"), fs::Permissions::from_mode(0o666)).unwrap();
        let tool = tool.to_str().unwrap();
        for word in ["./tool", tool] {
            let mut command = site.command(&["run", "--", word]);
            command.current_dir(room.path()).env("TMPDIR", "/dev/shm");
            let told = Call::start(command).finish().ended(0).text();
            assert!(told.starts_with("there\n/dev/shm/tmp."), "{told}");
            assert_eq!(fs::read(room.path().join("data")).unwrap(), b"there\n");
        }
    });
}

#[test]
fn what_is_mounted_below_tmp_is_seen_and_stays_as_it_is() {
    if !may_be_root("all of it") {
        return;
    }
    with_own_mounts(|| {
        both(|site| {
            site.create_dir("mounted");
            site.create_dir("mine");
            site.write("mine/file", "mine\n");
            let mounted = site.text("mounted");
            let flags = MountFlags::empty();
            rustix::mount::mount("none", &*mounted, "tmpfs", flags, Some(c"mode=777")).unwrap();
            fs::write(site.path("mounted/file"), "there\n").unwrap();
            let work = "cat $0/mounted/file $0/mine/file; mktemp -p /tmp > name; [ -e $(cat name) ]; \
                        rm -rf $0/mounted/* $0/mine/*; echo new > $0/mounted/new; ls $0/mounted";
            let here = site.work();
            let told = site.run(&["--", "sh", "-c", work, here.to_str().unwrap()]);
            let told = told.ended(0).printing("there\nmine\nfile\n");
            assert!(
                told.stderr.contains("Read-only file system"),
                "{}",
                told.stderr
            );
            // It may be where temporary files belong.
            let set = format!("TMPDIR={mounted}");
            let told = site.run(&[
                "--",
                "--env",
                &set,
                "sh",
                "-c",
                "mktemp -u; echo > $TMPDIR/new",
            ]);
            assert!(told.ended(0).text().starts_with(&mounted));
            assert_eq!(
                site.listing(),
                [
                    "mine/",
                    "mine/file: mine\\n",
                    "mounted/",
                    "mounted/file: there\\n"
                ]
            );
            rustix::mount::unmount(&*mounted, UnmountFlags::empty()).unwrap();
        });
    });
}

#[test]
fn a_job_in_a_job_in_a_job_has_its_own_too() {
    both(|site| {
        let program = site.program();
        let program = program.to_str().unwrap();
        site.script(
            "tool",
            "#!/bin/sh\nfor dir in /tmp /var/tmp /dev/shm; do echo > $dir/same; done\n",
        );
        let tool = site.text("tool");
        let nest =
            format!("{program} run -- {program} run -- {tool} && ls /tmp/same /var/tmp/same");
        let told = site.run(&["--", "sh", "-c", &nest]).ended(2);
        told.saying(&["/tmp/same", "/var/tmp/same"]);
    });
}

#[test]
fn process_numbers_do_not_begin_alike() {
    both(|site| {
        let number = || site.run(&["--", "sh", "-c", "echo $$"]).ended(0).text();
        let first = number();
        // One in twenty thousand is the same.
        assert!((0..3).any(|_| number() != first), "{first}");
    });
}

#[test]
fn a_compiler_that_is_ended_leaves_nothing() {
    both(|site| {
        let mut source = Vec::new();
        for number in 0..20_000 {
            writeln!(source, "int f{number}(int x) {{ for (int j = 0; j < x; j++) x += j * {number}; return x; }}")
                .unwrap();
        }
        site.write("big.c", source);
        let words = [
            "--timeout",
            "300ms",
            "-i",
            "big.c",
            "--",
            "gcc",
            "-O2",
            "-c",
            "big.c",
        ];
        let mut command = site.command(&[&["run"], &words[..]].concat());
        let before = temporary_files();
        command.env_remove("TMPDIR");
        Call::start(command).finish().ended(124);
        let made: Vec<_> = temporary_files()
            .into_iter()
            .filter(|it| !before.contains(it))
            .collect();
        assert!(made.is_empty(), "{made:?}");
    });
}

/// Those of a compiler.
fn temporary_files() -> Vec<String> {
    let entries = fs::read_dir("/tmp").unwrap().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with("cc") && name.ends_with(".s"))
        .collect()
}

#[test]
fn a_database_spills_into_the_job() {
    both(|site| {
        let script = "import os, sqlite3\n\
                      db = sqlite3.connect('db'); db.execute('pragma temp_store=1'); db.execute('pragma cache_size=10')\n\
                      db.execute('create table t(x)')\n\
                      db.executemany('insert into t values (?)', ((os.urandom(500).hex(),) for _ in range(4000)))\n\
                      sorted = db.execute('select x from t order by x'); print(len(sorted.fetchmany(3)))\n\
                      print(os.statvfs('/var/tmp').f_blocks > os.statvfs('/var/tmp').f_bfree)";
        let told = site.run(&[
            "--",
            "--env",
            "SQLITE_TMPDIR=/var/tmp",
            "python3",
            "-c",
            script,
        ]);
        told.ended(0).printing("3\nTrue\n");
    });
}
