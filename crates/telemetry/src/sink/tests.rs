use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::OwnedFd;

use super::*;

fn sink(file: impl Into<File>) -> Sink {
    Sink::new(file.into())
}

#[test]
fn a_full_disk_loses_lines_and_tells_it_once() {
    let mut sink = sink(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert!(
        matches!(sink.accept(Batch::Lines(b"one\ntwo\n")), Change::Failed(why) if why.kind() == ErrorKind::StorageFull)
    );
    assert!(matches!(sink.accept(Batch::Lines(b"three\n")), Change::None));
    assert_eq!(sink.lost, 3);
    // The disk filled up within a line: the next one begins on its own.
    let (mut reader, writer) = io::pipe().unwrap();
    sink.file = OwnedFd::from(writer).into();
    sink.torn = true;
    assert!(matches!(sink.accept(Batch::Lines(b"four\n")), Change::Recovered(3)));
    drop(sink);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "\nfour\n");
}

#[test]
fn a_reader_that_does_not_read_blocks_nobody() {
    let (mut reader, writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut sink = sink(OwnedFd::from(writer));
    let batch = "0123456789abcdefg\n".repeat(1000);
    let mut failures = 0;
    for _ in 0..100 {
        failures += usize::from(matches!(sink.accept(Batch::Lines(batch.as_bytes())), Change::Failed(_)));
    }
    assert_eq!(failures, 1);
    assert!(sink.lost > 0 && sink.waiting.len() <= MOST_WAITING);
    let (kept, end) = (100 * 1000 - sink.lost, b"end\n");
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    while !matches!(sink.accept(Batch::Lines(end)), Change::Recovered(_)) {
        std::thread::yield_now();
    }
    drop(sink);
    let text = reading.join().unwrap();
    assert_eq!(text.lines().filter(|line| *line == "0123456789abcdefg").count() as u64, kept);
    assert!(text.lines().all(|line| line == "0123456789abcdefg" || line == "end"));
}

#[test]
fn a_member_without_its_end_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log.gz");
    let mut sink = sink(OpenOptions::new().append(true).create(true).open(&path).unwrap());
    assert!(matches!(sink.accept(Batch::Member(b"whole", 3)), Change::None));
    // What a disk does that fills up within the second one.
    sink.file.write_all(b"ha").unwrap();
    sink.member = Some(7);
    sink.fail(b"half", b"lf", ErrorKind::StorageFull.into());
    assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    assert_eq!(sink.lost, 7);
    // Nothing is inserted between members, as a line end is after half a line.
    assert!(matches!(sink.accept(Batch::Member(b"next", 1)), Change::None));
    assert_eq!(std::fs::read(&path).unwrap(), b"wholenext");
}

#[test]
fn a_full_disk_counts_the_lines_of_a_member() {
    let mut sink = sink(OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert!(matches!(sink.accept(Batch::Member(b"\n\n\n", 5)), Change::Failed(_)));
    assert_eq!(sink.lost, 5);
}
