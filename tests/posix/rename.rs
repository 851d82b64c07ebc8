//! rename(2) and renameat2(2).

use crate::harness::*;

cases! {
    Anyone: moves_a_file, replaces_a_file, onto_itself, onto_a_hard_link_of_itself,
        directories_replace_only_empty_directories, kinds_must_agree, not_into_itself, moves_between_directories,
        wrong_paths, the_dots, noreplace, exchange, exchange_of_a_directory_and_a_file, flags_that_exclude_each_other,
        whiteout, open_files_stay_open, a_replaced_open_file_lives_on, symlinks_are_moved_not_followed,
        moves_the_times, failures_change_nothing, trailing_slashes, a_directory_moves_with_all_below,
        needs_permission_in_both_directories, of_other_kinds, a_chain_of_names, dotdot_follows_the_move;
}

fn moves_a_file() {
    make("a", "content");
    see!(rename("a", "b"));
    see!(names("."));
    see!(facts("b"));
    see!(contents("b"));
    see!(facts("a").err());
    see!(rename("b", "a"));
    see!(contents("a"));
    see!(facts("b").err());
}

fn replaces_a_file() {
    make("a", "new");
    make("b", "a longer old content");
    link("b", "c").unwrap();
    see!(rename("a", "b"));
    see!(contents("b"));
    see!(contents("c"));
    see!(facts("c"));
    see!(facts("."));
    see!(names("."));
}

fn onto_itself() {
    make("a", "content");
    mkdir("d", 0o755).unwrap();
    see!(relation_after("a", || rename("a", "a")));
    see!(relation_after(".", || rename("a", "./a")));
    see!(rename("d", "d"));
    see!(rename("d", "./d/"));
    see!(rename_with("a", "a", Rename::NOREPLACE));
    see!(rename_with("a", "a", Rename::EXCHANGE));
    see!(names("."));
}

fn onto_a_hard_link_of_itself() {
    make("a", "content");
    link("a", "b").unwrap();
    see!(relation_after("a", || rename("a", "b")));
    see!(facts("a"));
    see!(facts("b"));
    see!(rename_with("a", "b", Rename::NOREPLACE));
    see!(rename_with("a", "b", Rename::EXCHANGE));
    see!(names("."));
}

fn directories_replace_only_empty_directories() {
    mkdir("a", 0o755).unwrap();
    make("a/f", "");
    mkdir("empty", 0o700).unwrap();
    mkdir("full", 0o755).unwrap();
    make("full/g", "");
    see!(rename("a", "full"));
    see!(rename("a", "empty"));
    see!(facts("empty"));
    see!(names("empty"));
    see!(facts("a").err());
    see!(rename("full", "empty"));
    see!(rename("full", "new"));
    see!(facts("."));
}

fn kinds_must_agree() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    mkdir("full", 0o755).unwrap();
    make("full/g", "");
    symlink("d", "l").unwrap();
    see!(rename("f", "d"));
    see!(rename("f", "full"));
    see!(rename("d", "f"));
    see!(rename("l", "d"));
    see!(rename("d", "l"));
    see!(rename("f", "l"));
    see!(names("."));
    see!(facts("l"));
}

fn not_into_itself() {
    mkdir("a", 0o755).unwrap();
    mkdir("a/b", 0o755).unwrap();
    mkdir("a/b/c", 0o755).unwrap();
    see!(rename("a", "a/x"));
    see!(rename("a", "a/b"));
    see!(rename("a", "a/b/c"));
    see!(rename("a", "a/b/c/d"));
    see!(rename("a/b", "a"));
    see!(rename("a/b/c", "a"));
    see!(rename_with("a", "a/b", Rename::EXCHANGE));
    see!(rename_with("a/b", "a", Rename::EXCHANGE));
    see!(rename_with("a", "a/b/c", Rename::NOREPLACE));
    make("f", "");
    see!(rename("f", "f/x"));
    see!(names("a/b"));
}

fn moves_between_directories() {
    mkdir("a", 0o755).unwrap();
    mkdir("b", 0o755).unwrap();
    mkdir("a/sub", 0o755).unwrap();
    make("a/f", "content");
    see!(facts("a"));
    see!(rename("a/sub", "b/sub"));
    see!(facts("a"));
    see!(facts("b"));
    see!(rename("a/f", "b/sub/f"));
    see!(facts("b/sub"));
    see!(contents("b/sub/f"));
    mkdir("a/sub", 0o755).unwrap();
    see!(rename("a/sub", "b/sub"));
    see!(unlink("b/sub/f"));
    see!(rename("a/sub", "b/sub"));
    see!(facts("a"));
    see!(facts("b"));
}

fn wrong_paths() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    see!(rename("none", "x"));
    see!(rename("none", "none"));
    see!(rename("f", "none/x"));
    see!(rename("none/f", "x"));
    see!(rename("f/f", "x"));
    see!(rename("f", "f/x"));
    see!(rename("", "x"));
    see!(rename("f", ""));
    see!(rename("f", "x".repeat(256)));
    see!(rename("x".repeat(256), "f"));
    see!(rename("f", "x".repeat(255)));
    see!(names(".").map(|names| names.len()));
}

fn the_dots() {
    mkdir("d", 0o755).unwrap();
    mkdir("e", 0o755).unwrap();
    see!(rename("d/.", "x"));
    see!(rename("d/..", "x"));
    see!(rename("d", "e/."));
    see!(rename("d", "e/.."));
    see!(rename(".", "x"));
    see!(rename("..", "x"));
    see!(names("."));
}

fn noreplace() {
    make("a", "a");
    make("b", "b");
    mkdir("d", 0o755).unwrap();
    symlink("none", "dangling").unwrap();
    see!(rename_with("a", "b", Rename::NOREPLACE));
    see!(rename_with("a", "d", Rename::NOREPLACE));
    see!(rename_with("d", "b", Rename::NOREPLACE));
    see!(rename_with("a", "dangling", Rename::NOREPLACE));
    see!(rename_with("none", "b", Rename::NOREPLACE));
    see!(rename_with("a", "c", Rename::NOREPLACE));
    see!(contents("c"));
    see!(names("."));
}

fn exchange() {
    make("a", "content of a");
    make("b", "b");
    mkdir("d", 0o755).unwrap();
    make("d/c", "c");
    see!(rename_with("a", "b", Rename::EXCHANGE));
    see!(contents("a"));
    see!(contents("b"));
    see!(rename_with("a", "d/c", Rename::EXCHANGE));
    see!(contents("a"));
    see!(contents("d/c"));
    see!(rename_with("a", "none", Rename::EXCHANGE));
    see!(rename_with("none", "a", Rename::EXCHANGE));
    see!(facts("."));
    see!(names("."));
    see!(relation_after("d", || rename_with(
        "a",
        "d/c",
        Rename::EXCHANGE
    )));
    // Through another name, as the names themselves lead elsewhere afterwards.
    link("a", "watched").unwrap();
    see!(relation_after("watched", || rename_with(
        "a",
        "d/c",
        Rename::EXCHANGE
    )));
}

fn exchange_of_a_directory_and_a_file() {
    mkdir("d", 0o755).unwrap();
    make("d/inside", "inside");
    mkdir("e", 0o755).unwrap();
    make("e/f", "content");
    symlink("none", "l").unwrap();
    see!(rename_with("d", "e/f", Rename::EXCHANGE));
    see!(contents("d"));
    see!(contents("e/f/inside"));
    see!(facts("."));
    see!(facts("e"));
    see!(facts("e/f/.."));
    see!(rename_with("d", "l", Rename::EXCHANGE));
    see!(readlink("d"));
    see!(contents("l"));
    see!(rename_with("e/f", "e", Rename::EXCHANGE));
    see!(rmdir("e/f"));
}

fn flags_that_exclude_each_other() {
    make("a", "a");
    make("b", "b");
    see!(rename_with("a", "b", Rename::NOREPLACE | Rename::EXCHANGE));
    see!(rename_with("a", "b", Rename::WHITEOUT | Rename::EXCHANGE));
    see!(rename_with("a", "b", Rename::from_bits_retain(1 << 7)));
    see!(contents("a"));
    see!(contents("b"));
}

/// In a user namespace as well: it cannot be opened as a device (since Linux 5.8).
fn whiteout() {
    make("a", "a");
    make("b", "b");
    make("c", "c");
    see!(rename_with("a", "b", Rename::WHITEOUT));
    see!(facts("a"));
    see!(contents("b"));
    see!(facts("."));
    see!(rename_with("c", "b", Rename::WHITEOUT | Rename::NOREPLACE));
    see!(rename_with("c", "d", Rename::WHITEOUT | Rename::NOREPLACE));
    see!(facts("c"));
    see!(rename_with("c", "a", Rename::EXCHANGE));
    mkdir("dir", 0o755).unwrap();
    see!(rename_with("dir", "moved", Rename::WHITEOUT));
    see!(facts("dir"));
    see!(facts("."));
    see!(unlink("dir"));
}

fn open_files_stay_open() {
    make("a", "content");
    let file = reopen("a");
    see!(rename("a", "b"));
    see!(write(&file, "CON"));
    see!(contents("b"));
    mkdir("d", 0o755).unwrap();
    see!(rename("b", "d/b"));
    see!(ftruncate(&file, 3));
    see!(contents("d/b"));
    see!(rename("d", "e"));
    see!(facts_of(&file));
    see!(contents("e/b"));
}

fn a_replaced_open_file_lives_on() {
    make("a", "new");
    make("b", "old");
    let old = reopen("b");
    see!(rename("a", "b"));
    see!(facts_of(&old));
    see!(read(&old, 10));
    see!(write(&old, " and still here"));
    see!(pread(&old, 100, 0));
    see!(contents("b"));
    mkdir("d", 0o755).unwrap();
    mkdir("e", 0o755).unwrap();
    let directory = open("e", O::RDONLY | O::DIRECTORY, 0).unwrap();
    see!(rename("d", "e"));
    see!(facts_of(&directory));
}

fn symlinks_are_moved_not_followed() {
    make("f", "content");
    symlink("f", "l").unwrap();
    see!(rename("l", "m"));
    see!(readlink("m"));
    make("g", "other");
    see!(rename("g", "m"));
    see!(facts("m"));
    see!(contents("f"));
}

fn moves_the_times() {
    make("a", "");
    mkdir("d", 0o755).unwrap();
    mkdir("e", 0o755).unwrap();
    see!(rename("a", "d/a"));
    see!(relation_after("d", || rename("d/a", "e/a")));
    see!(relation_after("d", || rename("e/a", "d/a")));
    see!(relation_after("e", || rename("d/a", "e/a")));
    see!(relation_after("e", || rename("e/a", "e/b")));
    see!(relation_after("e", || rename("e/none", "e/c")));
    make("a", "");
    link("a", "watched").unwrap();
    see!(relation_after("watched", || rename("a", "z")));
    make("y", "");
    see!(relation_after("watched", || rename("y", "z")));
}

fn failures_change_nothing() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "");
    make("f", "content");
    see!(relation_after(".", || rename("f", "d")));
    see!(relation_after("f", || rename("f", "d")));
    see!(relation_after("d", || rename("f", "d")));
    see!(facts("."));
    see!(contents("f"));
}

fn trailing_slashes() {
    make("f", "");
    mkdir("d", 0o755).unwrap();
    see!(rename("f/", "g"));
    see!(rename("f", "g/"));
    see!(rename("d/", "e"));
    see!(rename("e", "h/"));
    see!(rename("h/", "i/"));
    see!(names("."));
}

fn a_directory_moves_with_all_below() {
    mkdir("a", 0o755).unwrap();
    mkdir("a/b", 0o755).unwrap();
    make("a/b/f", "deep");
    see!(contents("a/b/f"));
    see!(rename("a", "z"));
    see!(contents("z/b/f"));
    see!(facts("a/b/f").err());
    mkdir("a", 0o755).unwrap();
    see!(facts("a/b").err());
    see!(rename("z/b", "a/b"));
    see!(contents("a/b/f"));
    see!(rmdir("z"));
}

fn needs_permission_in_both_directories() {
    mkdir("a", 0o755).unwrap();
    mkdir("b", 0o755).unwrap();
    make("a/f", "");
    mkdir("a/d", 0o755).unwrap();
    see!(chmod("b", 0o555));
    see!(rename("a/f", "b/f"));
    see!(rename("a/d", "b/d"));
    see!(chmod("b", 0o755));
    see!(chmod("a", 0o555));
    see!(rename("a/f", "b/f"));
    see!(rename("a/f", "a/g"));
    // A directory that changes its parent is written to itself.
    see!(chmod("a", 0o755));
    let d = if facts("a/d").is_ok() { "a/d" } else { "b/d" };
    see!(chmod(d, 0o555));
    see!(rename(d, "moved"));
}

fn of_other_kinds() {
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    mknod("socket", libc::S_IFSOCK | 0o600, 0).unwrap();
    see!(rename("fifo", "socket"));
    see!(facts("socket"));
    make("f", "");
    see!(rename("f", "socket"));
    see!(facts("socket"));
}

fn a_chain_of_names() {
    make("n0", "travelled far");
    for number in 0..200 {
        rename(format!("n{number}"), format!("n{}", number + 1)).unwrap();
    }
    see!(contents("n200"));
    see!(names("."));
    see!(facts("."));
}

fn dotdot_follows_the_move() {
    mkdir("a", 0o755).unwrap();
    mkdir("b", 0o755).unwrap();
    mkdir("a/d", 0o755).unwrap();
    make("b/mark", "in b");
    see!(chdir("a/d"));
    see!(rename("../d", "../../b/d"));
    see!(contents("../mark"));
    see!(names(".."));
}
