//! Outputs of a job reach the host whole, all of them or none.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::site::{Site, Who, over_each_backing};

#[test]
fn a_file_is_replaced_in_place_of_the_input_it_was_made_from() {
    over_each_backing(|site| {
        site.write("rom", "old");
        let inode = fs::metadata(site.path("rom")).unwrap().ino();
        let words = [
            "-i",
            "rom",
            "-o",
            "rom",
            "--",
            "sh",
            "-c",
            "printf + >> rom",
        ];
        site.run(&words).ended(0).silently();
        assert_eq!(site.listing(), ["rom: old+"]);
        // Not written into: whoever has the old one open keeps reading it.
        assert_ne!(fs::metadata(site.path("rom")).unwrap().ino(), inode);
    });
}

#[test]
fn a_directory_in_the_way_of_one_output_holds_back_all() {
    over_each_backing(|site| {
        site.write("a", "old");
        site.create_dir("place/out");
        let before = site.listing();
        let make = "echo new > a; echo new > b; echo new > out";
        let words = [
            "-o",
            "a",
            "-o",
            "out=place",
            "-o",
            "b",
            "--",
            "sh",
            "-c",
            make,
        ];
        site.run(&words).ended(125).saying(&[
            "\"out\"",
            "\"place\"",
            "a directory of that name is in the way",
        ]);
        assert_eq!(site.listing(), before);
    });
}

#[test]
fn a_destination_that_closes_meanwhile_holds_back_all() {
    let site = Site::new(Who::User);
    site.write("a", "old");
    site.create_dir("closing");
    let make = format!(
        "echo new > a; echo new > b; chmod 555 {}",
        site.text("closing")
    );
    let words = [
        "--tmp",
        "host",
        "-o",
        "a",
        "-o",
        "b=closing/",
        "--",
        "sh",
        "-c",
        &make,
    ];
    site.run(&words)
        .ended(125)
        .saying(&["\"b\"", "closing", "Permission denied"]);
    assert_eq!(site.listing(), ["a: old", "closing/"]);
}

#[test]
fn what_was_replaced_before_the_failure_is_put_back() {
    over_each_backing(|site| {
        site.write("a", "old");
        let time = fs::metadata(site.path("a")).unwrap().modified().unwrap();
        let make = "echo new > a; echo new > b; mkdir d; echo new > d/e; echo 1 > x";
        // Devices come last, when all files are in place.
        let words = [
            "-o",
            "a",
            "-o",
            "x=/dev/full",
            "-o",
            "b",
            "-o",
            "d",
            "--",
            "sh",
            "-c",
            make,
        ];
        site.run(&words)
            .ended(125)
            .saying(&["\"x\"", "/dev/full", "No space left on device"]);
        assert_eq!(site.listing(), ["a: old"]);
        assert_eq!(
            fs::metadata(site.path("a")).unwrap().modified().unwrap(),
            time
        );
    });
}

#[test]
fn a_failing_step_leaves_all_files_alone() {
    over_each_backing(|site| {
        site.write("a", "old");
        let words = [
            "-o",
            "a",
            "-o",
            "b",
            "-o",
            "new/c",
            "--",
            "sh",
            "-c",
            "echo > a; echo > b; echo > new/c; false",
        ];
        site.run(&words).ended(1).silently();
        assert_eq!(site.listing(), ["a: old"]);
    });
}

#[test]
fn an_output_that_nobody_made_leaves_all_files_alone() {
    over_each_backing(|site| {
        site.write("a", "old");
        let make = "echo new > a; echo > out.bim; echo > sub/other";
        let words = [
            "-i", "in=a", "-o", "a", "-o", "out.bin", "-o", "sub/x", "--", "sh", "-c", make,
        ];
        let told = site
            .run(&words)
            .ended(125)
            .saying(&["tools made: a, out.bim, sub/other"]);
        told.saying(&[
            "no outputs ",
            "\"out.bin\" (did you mean \"out.bim\"?)",
            "\"sub/x\"",
        ]);
        assert_eq!(site.listing(), ["a: old"]);
    });
}

#[test]
fn an_input_that_no_tool_touched_can_be_an_output() {
    over_each_backing(|site| {
        site.write("a", "same");
        site.run(&["-i", "a", "-o", "a=copy", "--", "true"])
            .ended(0)
            .silently();
        assert_eq!(site.listing(), ["a: same", "copy: same"]);
    });
}

#[test]
fn a_symlink_is_followed_and_its_target_replaced() {
    over_each_backing(|site| {
        site.write("real/file", "old");
        site.symlink("real/file", "link");
        site.symlink("real/new", "dangling");
        site.symlink("real", "way");
        let make = "echo new > link; echo made > dangling; echo through > x";
        let words = [
            "-o", "link", "-o", "dangling", "-o", "x=way/x", "--", "sh", "-c", make,
        ];
        site.run(&words).ended(0).silently();
        #[rustfmt::skip]
        let expected = [
            "dangling -> real/new", "link -> real/file", "real/", "real/file: new\\n", "real/new: made\\n",
            "real/x: through\\n", "way -> real",
        ];
        assert_eq!(site.listing(), expected);
    });
}

#[test]
fn devices_are_written_into() {
    over_each_backing(|site| {
        let words = [
            "-o",
            "x=/dev/null",
            "-o",
            "y=/dev/stderr",
            "--",
            "sh",
            "-c",
            "echo 1 > x; echo 2 > y",
        ];
        let told = site.run(&words).ended(0);
        assert_eq!((told.text().as_str(), told.stderr.as_str()), ("", "2\n"));
        let null = fs::metadata("/dev/null").unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(
            &null.file_type()
        ));
    });
}

#[test]
fn a_directory_is_merged_into_one_that_is_there() {
    over_each_backing(|site| {
        site.write("out/mine", "mine");
        site.write("out/shared", "old");
        let make = "mkdir -p out/deep; echo new > out/shared; echo new > out/deep/er; ln -s shared out/link";
        site.run(&["-o", "out", "--", "sh", "-c", make])
            .ended(0)
            .silently();
        #[rustfmt::skip]
        let expected = [
            "out/", "out/deep/", "out/deep/er: new\\n", "out/link -> shared", "out/mine: mine", "out/shared: new\\n",
        ];
        assert_eq!(site.listing(), expected);
    });
}

#[test]
fn what_has_no_place_on_the_host_is_left_behind_with_a_warning() {
    over_each_backing(|site| {
        let make = "mkdir d; mkfifo d/fifo; echo x > d/file";
        let told = site.run(&["-o", "d", "--", "sh", "-c", make]).ended(0);
        told.saying(&["notapipe: warning: ", "d/fifo", "FIFO"]);
        assert_eq!(site.listing(), ["d/", "d/file: x\\n"]);
    });
}

#[test]
fn delivered_files_are_the_users() {
    over_each_backing(|site| {
        site.run(&["-o", "new/file", "--", "touch", "new/file"])
            .ended(0)
            .silently();
        let owner = site.uid();
        for name in ["new", "new/file"] {
            let metadata = fs::metadata(site.path(name)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (owner, owner), "{name}");
        }
    });
}

#[test]
fn sparse_files_stay_sparse() {
    over_each_backing(|site| {
        let make = "truncate -s 1G x; printf end | dd of=x bs=1 seek=1G conv=notrunc status=none";
        site.run(&["--size", "1M", "-o", "x", "--", "sh", "-c", make])
            .ended(0)
            .silently();
        let metadata = fs::metadata(site.path("x")).unwrap();
        assert_eq!(metadata.len(), (1 << 30) + 3);
        assert!(
            metadata.blocks() * 512 < 1 << 20,
            "{} blocks",
            metadata.blocks()
        );
    });
}
