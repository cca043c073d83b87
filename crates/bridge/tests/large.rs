//! Large bodies, sent from the ring by the kernel.

mod common;

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bridge::edge::{BodyPart, EdgeThread, Progress, Region, ResponseFrame, SlotId};
use bridge::worker::{Exchange, Next};
use common::{connect, publish};
use proptest::prelude::*;

/// A request that a worker has just claimed.
fn claimed() -> (EdgeThread, SlotId, Exchange, impl Sized) {
    let region = Region::create(1, 1).unwrap();
    let (socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let id = publish(&mut edge, b"/", BodyPart::None).unwrap();
    let Next::Exchange(theirs) = link.claimer(0).unwrap().next() else { panic!("no exchange") };
    (edge, id, theirs, (socket, link))
}

/// What the frames are, in words.
fn words(edge: &mut EdgeThread, id: SlotId, up_to_large: bool) -> (Vec<String>, Progress) {
    let mut words = Vec::new();
    let sink = |frame| {
        words.push(match frame {
            ResponseFrame::Head(head) => format!("head {}", head.status()),
            ResponseFrame::Body(bytes) => format!("body {}", bytes.len()),
            other => format!("{other:?}"),
        });
        ControlFlow::Continue(())
    };
    let progress = if up_to_large { edge.read_up_to_large(id, sink) } else { edge.read_frames(id, sink) };
    (words, progress.unwrap())
}

fn never(_: &[sys::Foreign<'_>]) -> io::Result<usize> {
    panic!("there is nothing to send")
}

#[expect(clippy::needless_pass_by_value, reason = "as it is called")]
fn no_rest(rest: bytes::Bytes) {
    panic!("{} bytes are left", rest.len())
}

#[test]
fn much_stays_behind_the_head_and_little_does_not() {
    let (mut edge, id, mut theirs, _link) = claimed();
    theirs.head(200, b"OK", []).unwrap();
    theirs.body(&vec![1; 10_000]).unwrap();
    theirs.flush().unwrap();
    assert_eq!(words(&mut edge, id, true), (vec!["head 200".into(), "body 10000".into()], Progress::Drained));
    theirs.body(&vec![2; 100_000]).unwrap();
    theirs.flush().unwrap();
    assert_eq!(words(&mut edge, id, true), (vec![], Progress::Stopped));
    // Whoever asks for it has it none the less.
    assert_eq!(
        words(&mut edge, id, false),
        (vec!["body 65528".into(), "body 34472".into()], Progress::Drained)
    );
    theirs.end(false).unwrap();
}

#[test]
fn what_is_no_body_and_what_is_little_is_not_offered() {
    let (mut edge, id, mut theirs, _link) = claimed();
    theirs.head(200, b"OK", []).unwrap();
    theirs.body(&vec![1; 100_000]).unwrap();
    theirs.flush().unwrap();
    assert!(edge.send_body(id, u64::MAX, never, no_rest).unwrap().is_none(), "the head is not taken");
    assert_eq!(words(&mut edge, id, true), (vec!["head 200".into()], Progress::Stopped));
    assert!(edge.send_body(id, 60_000, never, no_rest).unwrap().is_none(), "more than is wanted");
    // Only what fits wholly into what is wanted.
    let sent = edge.send_body(id, 70_000, |pieces| Ok(pieces.iter().map(sys::Foreign::len).sum()), no_rest);
    assert_eq!(sent.unwrap().unwrap().unwrap(), 65_528);
    let refused = edge.send_body(id, u64::MAX, |_| Err(io::ErrorKind::WouldBlock.into()), no_rest);
    assert_eq!(refused.unwrap().unwrap().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let mut left = 0;
    let sent = edge.send_body(id, u64::MAX, |_| Ok(472), |rest| left = rest.len());
    assert_eq!((sent.unwrap().unwrap().unwrap(), left), (472, 34_000), "a refusal takes nothing");
    theirs.body(&vec![2; 16_000]).unwrap();
    theirs.end(false).unwrap();
    assert!(edge.send_body(id, u64::MAX, never, no_rest).unwrap().is_none(), "little");
    let end = "End { failed: false }".to_owned();
    assert_eq!(words(&mut edge, id, true), (vec!["body 16000".into(), end], Progress::Ended));
    assert!(edge.send_body(id, u64::MAX, never, no_rest).unwrap().is_none(), "the end");
}

#[test]
fn nothing_is_sent_for_a_request_that_was_cancelled() {
    let (mut edge, id, mut theirs, _link) = claimed();
    theirs.head(200, b"OK", []).unwrap();
    theirs.body(&vec![1; 100_000]).unwrap();
    theirs.flush().unwrap();
    words(&mut edge, id, true);
    edge.cancel(id);
    assert!(edge.send_body(id, u64::MAX, never, no_rest).unwrap().is_none());
    drop(theirs);
    assert_eq!(words(&mut edge, id, true), (vec!["End { failed: true }".into()], Progress::Ended));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The worker writes pieces of any size, more than a ring holds; the client takes now and then a little. Part of
    /// it is sent from the ring, part is read: it is all there, in order.
    #[test]
    fn every_byte_comes_once_and_in_order(
        pieces in proptest::collection::vec(prop_oneof![0..2000_usize, 10_000..200_000_usize], 1..12),
        turns in proptest::collection::vec((any::<bool>(), 1..150_000_usize), 1..20),
    ) {
        let all: Vec<u8> = (0..pieces.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let (mut edge, id, mut theirs, _link) = claimed();
        let worker = std::thread::spawn({
            let all = Arc::new(all.clone());
            move || {
                theirs.head(200, b"OK", []).unwrap();
                let mut at = 0;
                for length in pieces {
                    theirs.body(&all[at..at + length]).unwrap();
                    at += length;
                }
                theirs.end(false).unwrap();
            }
        });
        let (ours, client) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let (mut got, mut ended, mut direct) = (Vec::new(), false, 0);
        let mut turns = turns.into_iter().cycle();
        let mut block = vec![0; 150_000];
        while !ended {
            let (reads, takes) = turns.next().unwrap();
            let mut drain = |got: &mut Vec<u8>, most: usize| {
                let count = (&client).read(&mut block[..most]).unwrap_or(0);
                got.extend_from_slice(&block[..count]);
                count
            };
            drain(&mut got, takes);
            let mut rest = bytes::Bytes::new();
            let sent = edge.send_body(id, u64::MAX, |p| sys::send_foreign(&ours, b"", p), |bytes| rest = bytes);
            direct += sent.unwrap().and_then(Result::ok).unwrap_or(0);
            // What the kernel has comes before what was left.
            if !rest.is_empty() || reads {
                while drain(&mut got, 150_000) > 0 {}
                got.extend_from_slice(&rest);
                let progress = edge.read_frames(id, |frame| {
                    if let ResponseFrame::Body(bytes) = frame {
                        got.extend_from_slice(&bytes);
                    }
                    if takes % 3 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                ended = progress.unwrap() == Progress::Ended;
            } else {
                let progress = edge.read_up_to_large(id, |frame| {
                    if let ResponseFrame::Body(bytes) = frame {
                        while drain(&mut got, 150_000) > 0 {}
                        got.extend_from_slice(&bytes);
                    }
                    ControlFlow::Continue(())
                });
                ended = progress.unwrap() == Progress::Ended;
            }
        }
        worker.join().unwrap();
        drop(ours);
        client.set_nonblocking(false).unwrap();
        (&client).read_to_end(&mut got).unwrap();
        prop_assert_eq!(got.len(), all.len());
        prop_assert!(got == all, "the bytes differ");
        prop_assert!(direct <= all.len());
    }
}
