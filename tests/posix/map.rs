//! mmap(2): what is written in memory is in the file, and the other way round.

use rustix::mm::{MapFlags, ProtFlags};

use crate::harness::*;

cases! {
    Anyone: shared_writes_are_read, writes_are_seen_in_a_mapping, private_writes_stay_private,
        another_process_sees_it, the_tail_of_the_last_page, outlives_its_descriptor,
        protection_follows_the_open_mode, growing_under_a_mapping, truncating_under_a_mapping,
        past_the_end_is_sigbus, holes_in_a_mapping, moves_the_times_by_msync, refuses_other_kinds,
        two_mappings_are_one, a_mapping_beside_direct_io, survives_a_rename, locked_in_memory;
}

fn shared_writes_are_read() {
    make("f", vec![b'.'; 10_000]);
    let file = reopen("f");
    let map = Map::shared(&file, 0, 10_000).unwrap();
    map.write(5, b"mapped");
    map.write(9_990, b"at the end");
    see!(pread(&file, 20, 0));
    see!(pread(&file, 20, 9_985));
    see!(contents("f"));
    see!(map.sync());
    see!(contents("f"));
    map.write(4_093, b"across a page");
    drop(map);
    see!(contents("f"));
    see!(pread(&file, 20, 4_090));
    see!(facts("f"));
}

fn writes_are_seen_in_a_mapping() {
    make("f", vec![b'.'; 8_192]);
    let file = reopen("f");
    let map = Map::read_only(&file, 0, 8_192).unwrap();
    see!(map.read(4_090, 10));
    see!(pwrite(&file, "written", 4_090));
    see!(map.read(4_085, 20));
    see!(rustix::io::pwritev(
        &file,
        &[std::io::IoSlice::new(b"vector")],
        0
    ));
    see!(map.read(0, 10));
    see!(fallocate(
        &file,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
        0,
        4_096
    ));
    see!(map.read(0, 10));
}

fn private_writes_stay_private() {
    make("f", vec![b'.'; 8_192]);
    let file = open("f", O::RDONLY, 0).unwrap();
    let map = Map::private(&file, 0, 8_192).unwrap();
    map.write(0, b"mine");
    see!(map.read(0, 10));
    see!(contents("f"));
    see!(pwrite(&reopen("f"), "untouched page", 5_000));
    see!(map.read(5_000, 20));
    see!(map.read(0, 10));
    see!(map.sync());
    drop(map);
    see!(contents("f"));
}

fn another_process_sees_it() {
    make("f", vec![b'.'; 8_192]);
    let file = reopen("f");
    let map = Map::shared(&file, 0, 8_192).unwrap();
    let (to_child, to_parent) = (PipeSignal::new(), PipeSignal::new());
    let child = fork(|| {
        // Not the inherited mapping: one of its own, through an open of its own.
        let own = Map::shared(reopen("f"), 0, 8_192).unwrap();
        to_child.wait();
        see!("the child sees", own.read(100, 12));
        see!("the child reads", pread(&reopen("f"), 12, 100));
        own.write(200, b"from the child");
        to_parent.send();
        to_child.wait();
        see!("the child sees again", own.read(300, 12));
    });
    map.write(100, b"from parent!");
    to_child.send();
    to_parent.wait();
    see!(map.read(200, 14));
    see!(pread(&file, 14, 200));
    see!(pwrite(&file, "by a write()", 300));
    to_child.send();
    wait_for(child);
}

fn the_tail_of_the_last_page() {
    make("f", "short");
    let file = reopen("f");
    let map = Map::shared(&file, 0, 4_096).unwrap();
    see!(map.read(0, 10));
    map.write(3, b"REST AND BEYOND");
    see!(contents("f"));
    see!(facts("f"));
    see!(map.sync());
    drop(map);
    see!(facts("f"));
    see!(contents("f"));
    // tmpfs shows what was written past the end when the file grows; mmap(2) leaves it open.
    see!(ftruncate(&file, 30));
    let zeros = format!("Ok(\"shoRE{}\")", "\\x00".repeat(25));
    let left = format!("Ok(\"shoREST AND BEYOND{}\")", "\\x00".repeat(12));
    allowed(
        Difference::NothingPastTheEnd,
        "after growing",
        contents("f"),
        &left,
        &zeros,
    );
}

fn outlives_its_descriptor() {
    make("f", vec![b'.'; 4_096]);
    let map = Map::shared(reopen("f"), 0, 4_096).unwrap();
    map.write(0, b"no descriptor is open");
    see!(map.sync());
    see!(contents("f"));
    map.write(10, b"and again");
    drop(map);
    see!(contents("f"));
}

fn protection_follows_the_open_mode() {
    make("f", vec![b'.'; 4_096]);
    let reader = open("f", O::RDONLY, 0).unwrap();
    let writer = open("f", O::WRONLY, 0).unwrap();
    let path = open("f", O::PATH, 0).unwrap();
    see!(Map::shared(&reader, 0, 4_096).err());
    see!(Map::read_only(&reader, 0, 4_096).err());
    see!(Map::private(&reader, 0, 4_096).err());
    see!(Map::shared(&writer, 0, 4_096).err());
    see!(Map::read_only(&writer, 0, 4_096).err());
    see!(Map::read_only(&path, 0, 4_096).err());
    see!(Map::read_only(&reader, 1, 4_096).err());
    let execute = ProtFlags::READ | ProtFlags::EXEC;
    see!(Map::new(&reader, 0, 4_096, MapFlags::PRIVATE, execute).err());
}

fn growing_under_a_mapping() {
    make("f", vec![b'x'; 100]);
    let file = reopen("f");
    let map = Map::shared(&file, 0, 3 * 4_096).unwrap();
    see!(ftruncate(&file, 3 * 4_096));
    see!(map.read(4_090, 10));
    map.write(8_190, b"grown");
    see!(pwrite(&file, "written", 5_000));
    see!(map.read(5_000, 10));
    see!(contents("f"));
    drop(map);
    see!(contents("f"));
    see!(facts("f"));
}

fn truncating_under_a_mapping() {
    make("f", vec![b'x'; 3 * 4_096]);
    let file = reopen("f");
    let map = Map::shared(&file, 0, 3 * 4_096).unwrap();
    map.write(0, b"dirty");
    map.write(9_000, b"dirty and cut off");
    see!(ftruncate(&file, 5_000));
    see!(map.read(4_990, 20));
    see!(ftruncate(&file, 3 * 4_096));
    see!(map.read(4_990, 20));
    see!(map.read(9_000, 20));
    see!(contents("f"));
}

fn past_the_end_is_sigbus() {
    make("f", "one page");
    let map = Map::shared(reopen("f"), 0, 3 * 4_096).unwrap();
    let read = fork(|| drop(map.read(4_096, 1)));
    see!(signal_of_child(read));
    let write = fork(|| map.write(2 * 4_096, b"x"));
    see!(signal_of_child(write));
    see!(map.read(4_095, 1));
    see!(facts("f"));
}

fn holes_in_a_mapping() {
    let file = create("f");
    see!(ftruncate(&file, 1 << 20));
    let map = Map::shared(&file, 0, 1 << 20).unwrap();
    see!(map.read(500_000, 20));
    map.write(500_000, b"in a hole");
    see!(map.sync());
    see!(pread(&file, 20, 499_995));
    drop(map);
    see!(contents("f"));
}

fn moves_the_times_by_msync() {
    make("f", vec![b'.'; 4_096]);
    let map = Map::shared(reopen("f"), 0, 4_096).unwrap();
    see!(relation_after("f", || {
        map.write(0, b"x");
        map.sync()
    }));
    see!(relation_after("f", || map.read(0, 1)));
}

fn refuses_other_kinds() {
    mkdir("d", 0o755).unwrap();
    see!(Map::read_only(open("d", O::RDONLY, 0).unwrap(), 0, 4_096).err());
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    see!(Map::read_only(open("fifo", O::RDWR, 0).unwrap(), 0, 4_096).err());
    make("f", "");
    see!(Map::read_only(reopen("f"), 0, 0).err());
    see!(Map::read_only(reopen("f"), 0, 4_096).err());
}

fn two_mappings_are_one() {
    make("f", vec![b'.'; 3 * 4_096]);
    let all = Map::shared(reopen("f"), 0, 3 * 4_096).unwrap();
    let part = Map::shared(reopen("f"), 4_096, 4_096).unwrap();
    all.write(5_000, b"whole");
    see!(part.read(904, 10));
    part.write(4_090, b"part");
    see!(all.read(8_180, 10));
}

fn a_mapping_beside_direct_io() {
    make("f", vec![b'.'; 8_192]);
    let map = Map::shared(reopen("f"), 0, 8_192).unwrap();
    let direct = open("f", O::RDWR | O::DIRECT, 0).unwrap();
    map.write(0, b"mapped");
    see!(pread(&direct, 4_096, 0));
    see!(pwrite(&direct, vec![b'd'; 4_096], 4_096));
    see!(map.read(4_096, 10));
}

fn survives_a_rename() {
    make("f", vec![b'.'; 4_096]);
    make("other", "other");
    let map = Map::shared(reopen("f"), 0, 4_096).unwrap();
    map.write(0, b"before");
    see!(rename("f", "g"));
    map.write(100, b"after");
    see!(rename("other", "g"));
    map.write(200, b"replaced");
    see!(map.read(0, 6));
    see!(map.read(200, 8));
    see!(contents("g"));
}

fn locked_in_memory() {
    make("f", vec![b'x'; 8_192]);
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    let map = Map::new(
        reopen("f"),
        0,
        8_192,
        flags,
        ProtFlags::READ | ProtFlags::WRITE,
    )
    .unwrap();
    map.write(4_000, b"populated");
    see!(map.read(3_990, 30));
    see!(contents("f"));
}
