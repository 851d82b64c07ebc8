//! O_APPEND from several processes: every record whole, none lost.

use crate::harness::*;

cases! {
    Anyone: four_processes_lose_no_byte, appending_beside_a_truncate_leaves_no_gap_unzeroed,
        two_descriptors_of_one_process_take_turns;
}

fn four_processes_lose_no_byte() {
    const PROCESSES: usize = 4;
    const RECORDS: usize = 300;
    make("log", "");
    at_the_same_time(PROCESSES, |number| {
        let log = open("log", O::WRONLY | O::APPEND, 0).unwrap();
        for record in 0..RECORDS {
            // Of many lengths, so that they lie across pages.
            let line = format!("{number} {record:03} {}\n", "x".repeat(record));
            assert_eq!(write(&log, &line), Ok(line.len()));
        }
    });
    let Bytes(all) = contents("log").unwrap();
    let mut lines: Vec<_> = all.split_inclusive(|&byte| byte == b'\n').collect();
    // Each process's own records stand in the order in which it wrote them.
    let ordered = (0..PROCESSES).all(|number| {
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line[0] == b'0' + number as u8)
            .collect();
        own.is_sorted() && own.len() == RECORDS
    });
    see!("in order", ordered);
    lines.sort_unstable();
    see!("all records", Bytes(lines.concat()));
    see!(facts("log"));
}

fn appending_beside_a_truncate_leaves_no_gap_unzeroed() {
    let log = open("log", O::RDWR | O::CREATE | O::APPEND, 0o644).unwrap();
    see!(write(&log, vec![b'x'; 6_000]));
    see!(truncate("log", 10));
    see!(write(&log, "y"));
    see!(truncate("log", 5_000));
    see!(write(&log, "z"));
    see!(contents("log"));
}

fn two_descriptors_of_one_process_take_turns() {
    make("log", "");
    let a = open("log", O::WRONLY | O::APPEND, 0).unwrap();
    let b = open("log", O::WRONLY | O::APPEND, 0).unwrap();
    for number in 0..5 {
        write(&a, format!("a{number} ")).unwrap();
        write(&b, format!("b{number} ")).unwrap();
    }
    see!(contents("log"));
    see!(seek(&a, 0, libc::SEEK_CUR));
}
