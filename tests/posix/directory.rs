//! mkdir(2) and rmdir(2).

use crate::harness::*;

cases! {
    Anyone: counts_links, wrong_paths, removes_only_empty_ones, the_dots, modes, moves_the_times,
        deep_trees, needs_a_permission, made_again_is_another, by_many_processes_at_once, sizes;
}

fn counts_links() {
    see!(facts("."));
    see!(mkdir("d", 0o755));
    see!(facts("."));
    see!(facts("d"));
    see!(mkdir("d/a", 0o755));
    see!(mkdir("d/b", 0o755));
    make("d/f", "");
    see!(facts("d"));
    see!(rmdir("d/a"));
    see!(facts("d"));
    see!(facts("d/b/.."));
    see!(facts("d/."));
}

fn wrong_paths() {
    make("f", "");
    symlink("none", "dangling").unwrap();
    see!(mkdir("f", 0o755));
    see!(mkdir("f/d", 0o755));
    see!(mkdir("none/d", 0o755));
    see!(mkdir("", 0o755));
    see!(mkdir("dangling", 0o755));
    see!(mkdir("d", 0o755));
    see!(mkdir("d", 0o755));
    see!(mkdir("slashes//", 0o755));
    see!(rmdir("none"));
    see!(rmdir("none/d"));
    see!(rmdir("f"));
    see!(rmdir("f/d"));
    see!(rmdir("dangling"));
    see!(rmdir(""));
    see!(rmdir("slashes///"));
    see!(names("."));
}

fn removes_only_empty_ones() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    see!(rmdir("d"));
    see!(unlink("d/f"));
    mkdir("d/sub", 0o755).unwrap();
    see!(rmdir("d"));
    see!(rename("d/sub", "sub"));
    see!(rmdir("d"));
    see!(rmdir("d"));
    symlink("none", "sub/l").unwrap();
    see!(rmdir("sub"));
}

fn the_dots() {
    mkdir("d", 0o755).unwrap();
    mkdir("d/e", 0o755).unwrap();
    see!(rmdir("d/."));
    see!(rmdir("d/.."));
    see!(rmdir("d/e/.."));
    see!(rmdir("."));
    see!(rmdir(".."));
    see!(mkdir(".", 0o755));
    see!(mkdir("..", 0o755));
    see!(mkdir("d/.", 0o755));
    see!(mkdir("d/new/..", 0o755));
}

fn modes() {
    for mode in [0o000, 0o700, 0o777, 0o1777, 0o2755, 0o4755] {
        let name = format!("d{mode:o}");
        see!(name, mkdir(&*name, mode));
        see!(name, facts(&*name));
    }
}

fn moves_the_times() {
    mkdir("d", 0o755).unwrap();
    see!(relation_after("d", || mkdir("d/a", 0o755)));
    see!(relation_after("d", || mkdir("d/a", 0o755)));
    see!(relation_after("d/a", || mkdir("d/b", 0o755)));
    see!(relation_after("d", || rmdir("d/a")));
    see!(relation_after("d", || rmdir("d/a")));
    see!(relation_after("d", || open(
        "d/f",
        O::CREATE | O::RDWR,
        0o644
    )));
    see!(relation_after("d", || open(
        "d/f",
        O::CREATE | O::RDWR,
        0o644
    )));
    see!(relation_after("d", || names("d")));
    see!(relation_after("d", || write(&reopen("d/f"), "content")));
}

fn deep_trees() {
    let start = open(".", O::RDONLY | O::DIRECTORY, 0).unwrap();
    for level in 0..300 {
        mkdir("level", 0o755).unwrap();
        chdir("level").unwrap();
        if level % 100 == 0 {
            make("f", format!("level {level}"));
        }
    }
    see!(rustix::process::getcwd(Vec::new()).is_ok());
    for _ in 0..299 {
        chdir("..").unwrap();
    }
    see!(contents("f"));
    see!(rustix::process::fchdir(&start));
    see!(contents("level/f"));
}

fn needs_a_permission() {
    mkdir("d", 0o555).unwrap();
    mkdir("e", 0o755).unwrap();
    mkdir("e/sub", 0o755).unwrap();
    see!(chmod("e", 0o555));
    see!(mkdir("d/sub", 0o755));
    see!(rmdir("e/sub"));
    see!(chmod("e", 0o600));
    see!(rmdir("e/sub"));
    see!(mkdir("e/other", 0o755));
}

fn made_again_is_another() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    let old = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    see!(unlink("d/f"));
    see!(rmdir("d"));
    see!(mkdir("d", 0o755));
    see!(names("d"));
    see!(
        "another inode",
        facts("d").unwrap().inode() != facts_of(&old).unwrap().inode()
    );
    see!(facts_of(&old));
}

fn by_many_processes_at_once() {
    at_the_same_time(4, |number| {
        for entry in 0..50 {
            // One of the four makes it; all find it afterwards.
            let made = mkdir(format!("d{entry}"), 0o755);
            assert!(matches!(made, Ok(()) | Err(rustix::io::Errno::EXIST)));
            make(format!("d{entry}/f{number}").as_str(), "");
        }
    });
    see!(facts("."));
    see!(names("."));
    see!(names("d49"));
}

fn sizes() {
    mkdir("d", 0o755).unwrap();
    see!(facts("d"));
    for number in 0..100 {
        make(format!("d/{number}").as_str(), "");
    }
    see!(facts("d"));
    see!(rename("d/1", "d/one"));
    see!(facts("d"));
    for number in 50..100 {
        unlink(format!("d/{number}")).unwrap();
    }
    see!(facts("d"));
}
