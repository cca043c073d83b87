use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

fn read(chunk: &Chunk) -> Vec<u8> {
    match chunk {
        Chunk::Data(bytes) => bytes.to_vec(),
        Chunk::File { file, start, len } => {
            let mut out = vec![0; *len as usize];
            file.read_exact_at(&mut out, *start).unwrap();
            out
        }
        Chunk::Flush => panic!("a buffer holds no flushes"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<u8>),
    PushFile(u64, u64),
    Pop,
    Slow,
    /// Read what was popped last: until then its range has to stay as it is.
    Send,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Step::Push),
        1 => (0u64..50, 0u64..50).prop_map(|(start, len)| Step::PushFile(start, len)),
        3 => Just(Step::Pop),
        2 => Just(Step::Slow),
        3 => Just(Step::Send),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_interleaving_gives_the_same_bytes(
        steps in proptest::collection::vec(step(), 0..80),
        memory in 0usize..100, temp_file in 0u64..300, cap in 0u64..300,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let space = TempSpace::new(dir.path(), cap);
        let foreign: Vec<u8> = (0..100).collect();
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.write_all_at(&foreign, 0).unwrap();
        let mut buffer = ResponseBuffer::new(ResponseLimits { memory, temp_file }, Arc::clone(&space));
        let (mut pushed, mut sent, mut popped) = (Vec::new(), Vec::new(), VecDeque::new());
        for step in steps {
            match step {
                Step::Push(bytes) => {
                    let could = buffer.has_room();
                    let before = buffer.in_memory;
                    pushed.extend_from_slice(&bytes);
                    buffer.push(bytes.clone().into());
                    prop_assert!(!could || before <= memory + 60);
                }
                Step::PushFile(start, len) => {
                    pushed.extend_from_slice(&foreign[start as usize..(start + len) as usize]);
                    buffer.push_file(Arc::clone(&file), start, len);
                }
                Step::Pop => popped.extend(buffer.pop()),
                Step::Slow => {
                    buffer.set_slow();
                    prop_assert!(buffer.in_memory <= memory || !buffer.has_room() || space.used() >= cap);
                }
                Step::Send => if let Some(chunk) = popped.pop_front() { sent.extend(read(&chunk)) },
            }
            prop_assert!(space.used() <= cap.min(temp_file));
        }
        while let Some(chunk) = buffer.pop() {
            popped.push_back(chunk);
        }
        prop_assert_eq!(buffer.len(), 0);
        prop_assert_eq!(buffer.in_memory, 0);
        for chunk in popped {
            sent.extend(read(&chunk));
        }
        prop_assert_eq!(sent, pushed);
        drop(buffer);
        prop_assert_eq!(space.used(), 0);
    }
}

fn limits(memory: usize, temp_file: u64) -> ResponseLimits {
    ResponseLimits { memory, temp_file }
}

#[test]
fn spills_to_one_range_and_stops_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let space = TempSpace::new(dir.path(), 1 << 20);
    let mut buffer = ResponseBuffer::new(limits(100, 1000), Arc::clone(&space));
    let mut pushed = 0;
    buffer.set_slow();
    while buffer.has_room() {
        buffer.push(Bytes::from(vec![7; 50]));
        pushed += 50;
    }
    assert_eq!((pushed, space.used()), (1100, 1000));
    assert!(matches!(buffer.pop(), Some(Chunk::Data(_))));
    assert!(matches!(buffer.pop(), Some(Chunk::Data(_))));
    assert!(buffer.has_room(), "memory is free again");
    let chunk = buffer.pop();
    assert!(matches!(chunk, Some(Chunk::File { start: 0, len: 1000, .. })));
    buffer.set_slow();
    buffer.push(Bytes::from(vec![8; 100]));
    assert!(!buffer.has_room(), "the client is still being sent the file");
    drop(chunk);
    assert!(buffer.has_room(), "a new file may begin");
    buffer.push(Bytes::from(vec![9; 10]));
    assert_eq!(space.used(), 10);
}

#[test]
fn without_disk_it_is_back_pressure() {
    let space = TempSpace::new("/nonexistent", 1 << 20);
    let mut buffer = ResponseBuffer::new(limits(100, 1000), space);
    buffer.set_slow();
    buffer.push(Bytes::from(vec![1; 100]));
    assert!(buffer.has_room(), "nobody has tried the disk yet");
    buffer.push(Bytes::from(vec![2; 10]));
    assert!(!buffer.has_room());
    assert_eq!(buffer.pop().map(|chunk| read(&chunk).len()), Some(100));
    assert!(buffer.has_room());
    assert_eq!(buffer.pop().map(|chunk| read(&chunk)), Some(vec![2; 10]));
    assert!(buffer.pop().is_none());
}

#[test]
fn the_cap_of_all_files_is_back_pressure_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let space = TempSpace::new(dir.path(), 500);
    let mut other = space.create().unwrap();
    other.append(&[0; 500]).unwrap();
    let mut buffer = ResponseBuffer::new(limits(100, 1000), Arc::clone(&space));
    buffer.set_slow();
    buffer.push(Bytes::from(vec![1; 150]));
    assert!(!buffer.has_room());
    drop(other);
    assert!(buffer.pop().is_some());
    buffer.set_slow();
    assert!(buffer.has_room());
    buffer.push(Bytes::from(vec![2; 150]));
    assert_eq!(space.used(), 150);
    assert_eq!(buffer.len(), 150);
}

#[test]
fn a_file_is_made_only_for_a_client_that_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let space = TempSpace::new(dir.path(), 1 << 20);
    let mut buffer = ResponseBuffer::new(limits(100, 1000), Arc::clone(&space));
    for fill in 1..4 {
        buffer.push(Bytes::from(vec![fill; 60]));
    }
    assert!(!buffer.has_room(), "until the client was seen to take or not to take");
    assert_eq!((buffer.in_memory, space.used()), (180, 0));
    buffer.set_slow();
    assert_eq!((buffer.in_memory, space.used()), (60, 120), "what is too much lies on the disk");
    assert!(buffer.has_room());
    assert_eq!(buffer.pop().map(|chunk| read(&chunk)), Some(vec![1; 60]));
    assert_eq!(buffer.pop().map(|chunk| read(&chunk)), Some([[2; 60], [3; 60]].concat()));
    buffer.push(Bytes::from(vec![4; 150]));
    assert_eq!((buffer.in_memory, buffer.len()), (150, 150), "it takes again");
}

#[test]
fn without_memory_there_is_room_for_one_piece() {
    let space = TempSpace::new("/nonexistent", 1 << 20);
    let mut buffer = ResponseBuffer::new(limits(0, 0), space);
    assert!(buffer.has_room());
    buffer.push(Bytes::from_static(b"x"));
    assert!(!buffer.has_room());
    assert!(buffer.pop().is_some() && buffer.has_room());
}
