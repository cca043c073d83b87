//! The states of a slot, one step after the other.

mod common;

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use bridge::edge::{
    BodyPart, EdgeThread, Message, Progress, PublishError, Region, ResponseFrame, SlotId, SlotState,
};
use bridge::worker::{Exchange, Next, RequestBody};
use bridge::{MOST_CLAIMERS, REQUEST_RING, RESPONSE_RING};
use common::{connect, publish, publish_with, wait_for};

fn exchange(next: Next) -> Exchange {
    match next {
        Next::Exchange(exchange) => exchange,
        other => panic!("no exchange but {other:?}"),
    }
}

fn frames(edge: &mut EdgeThread, id: SlotId) -> (Vec<ResponseFrame>, Progress) {
    let mut frames = Vec::new();
    let progress = edge.read_frames(id, |frame| {
        frames.push(frame);
        ControlFlow::Continue(())
    });
    (frames, progress.unwrap())
}

#[test]
fn a_request_and_its_response() {
    let region = Region::create(2, 4).unwrap();
    let (socket, link, claimers) = connect(&region, 2);
    let mut edge = EdgeThread::new(region.clone(), 1);
    let id = publish(&mut edge, b"/a", BodyPart::Bytes(b"hello")).unwrap();
    assert_eq!((edge.free_slots(), edge.waiting(), edge.state(id)), (3, 1, SlotState::Ready));
    let other = publish(&mut edge, b"/b", BodyPart::None).unwrap();
    assert!(edge.take_back(other));
    assert_eq!((edge.waiting(), region.ready()), (2, 1), "who has left waits no longer");
    assert!(!edge.before_park());
    let mut claimer = link.claimer(1).unwrap();
    let mut ours = exchange(claimer.next());
    assert!(matches!(edge.state(id), SlotState::Claimed { claimer: 1, at } if at > 0));
    assert!(!edge.take_back(id), "it is claimed");
    assert_eq!(edge.claimed_by(claimers), [id]);
    assert_eq!(ours.request().path(), b"/a");
    let fields: Vec<_> = ours.request().headers().collect();
    assert_eq!(fields, [(&b"Host"[..], &b"example.org"[..]), (b"Accept", b"*/*")]);
    assert_eq!(ours.take_body(), Ok(RequestBody::Bytes(b"hello".to_vec())));
    ours.head(201, b"Made", [(&b"X-A"[..], &b"b"[..])]).unwrap();
    ours.body(b"some").unwrap();
    assert_eq!(frames(&mut edge, id).0.len(), 0, "nothing was flushed");
    ours.body(b"thing").unwrap();
    ours.end(false).unwrap();
    // The bell was rung once, and the slot marked.
    let mut count = [0; 8];
    rustix::io::read(region.eventfd(1), &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
    let mut dirty = Vec::new();
    edge.drain_dirty(&mut dirty);
    assert_eq!(dirty, [edge.local(id) as u16]);
    let (seen, progress) = frames(&mut edge, id);
    assert_eq!(progress, Progress::Ended);
    let [
        ResponseFrame::Head(head),
        ResponseFrame::Body(a),
        ResponseFrame::Body(b),
        ResponseFrame::End { failed: false },
    ] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!((head.status(), head.reason()), (201, &b"Made"[..]));
    assert_eq!(head.fields().collect::<Vec<_>>(), [(&b"X-A"[..], &b"b"[..])]);
    assert_eq!([&a[..], b].concat(), b"something");
    edge.free(id);
    assert_eq!(edge.free_slots(), 4);
    drop((socket, ours));
}

#[test]
fn what_nobody_touched_is_taken_back() {
    let region = Region::create(1, 2).unwrap();
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let first = publish(&mut edge, b"/1", BodyPart::None).unwrap();
    let second = publish(&mut edge, b"/2", BodyPart::None).unwrap();
    assert_eq!(publish(&mut edge, b"/3", BodyPart::None), Err(PublishError::Full));
    assert!(edge.take_back(first));
    assert!(!edge.take_back(first), "once");
    let third = publish(&mut edge, b"/3", BodyPart::None).unwrap();
    assert_eq!(third.slot, first.slot, "the slot is used again");
    let mut claimer = link.claimer(0).unwrap();
    assert_eq!(exchange(claimer.next()).request().path(), b"/2");
    assert_eq!(exchange(claimer.next()).request().path(), b"/3");
    // Dropped exchanges have failed.
    assert!(
        matches!(frames(&mut edge, second), (f, Progress::Ended) if matches!(f[..], [ResponseFrame::End { failed: true }]))
    );
}

#[test]
fn a_request_that_fell_out_of_the_ring_is_repaired() {
    let region = Region::create(1, 4).unwrap();
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let old = publish(&mut edge, b"/old", BodyPart::None).unwrap();
    for _ in 0..6 {
        let id = publish(&mut edge, b"/other", BodyPart::None).unwrap();
        assert!(edge.take_back(id));
    }
    edge.repair();
    let mut claimer = link.claimer(0).unwrap();
    let theirs = exchange(claimer.next());
    assert_eq!(theirs.request().path(), b"/old");
    drop(theirs);
    assert_eq!(frames(&mut edge, old).1, Progress::Ended, "under its first name");
}

#[test]
fn sizes() {
    let region = Region::create(1, 1).unwrap();
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let large = vec![7; RESPONSE_RING as usize];
    assert_eq!(publish(&mut edge, b"/", BodyPart::Bytes(&large)), Err(PublishError::TooLarge));
    assert_eq!(edge.free_slots(), 1, "the slot is not lost");
    let fits = &large[..REQUEST_RING as usize - 256];
    publish(&mut edge, b"/", BodyPart::Bytes(fits)).unwrap();
    let mut theirs = exchange(link.claimer(0).unwrap().next());
    assert_eq!(theirs.take_body(), Ok(RequestBody::Bytes(fits.to_vec())));
    // A head that cannot fit fails the response, and does not hang.
    assert!(theirs.head(200, b"OK", [(&b"X"[..], &large[..])]).is_err());
    let chunks = [bytes::Bytes::from_static(b"ab"), bytes::Bytes::from_static(b"cd")];
    let id = edge.busy().next().unwrap();
    assert_eq!(frames(&mut edge, id).1, Progress::Ended);
    edge.free(id);
    publish(&mut edge, b"/", BodyPart::Chunks(&chunks)).unwrap();
    let mut theirs = exchange(link.claimer(0).unwrap().next());
    assert_eq!(theirs.take_body(), Ok(RequestBody::Bytes(b"abcd".to_vec())));
}

#[test]
fn a_full_ring_holds_the_worker_and_a_cancel_lets_it_go() {
    let region = Region::create(1, 1).unwrap();
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let id = publish(&mut edge, b"/", BodyPart::None).unwrap();
    let mut theirs = exchange(link.claimer(0).unwrap().next());
    let size = 3 * RESPONSE_RING as usize;
    let worker = std::thread::spawn(move || {
        theirs.head(200, b"OK", []).unwrap();
        theirs.body(&vec![b'x'; size]).unwrap();
        theirs.flush().unwrap();
        let endless = loop {
            if let Err(gone) = theirs.body(&[b'y'; 1000]) {
                break gone;
            }
        };
        assert!(theirs.is_cancelled());
        assert!(theirs.end(false).is_err());
        endless
    });
    let mut got = 0;
    let mut stopped = 0;
    while got < size {
        let progress = edge.read_frames(id, |frame| match frame {
            ResponseFrame::Body(bytes) => {
                got += bytes.len();
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
        stopped += usize::from(progress.unwrap() == Progress::Stopped);
        std::thread::yield_now();
    }
    assert!(stopped > 0, "the sink's stop was obeyed");
    edge.cancel(id);
    worker.join().unwrap();
    let mut ends = 0;
    let progress = edge.read_frames(id, |frame| {
        assert!(matches!(frame, ResponseFrame::End { failed: true }));
        ends += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((progress, ends), (Ok(Progress::Ended), 1));
    edge.free(id);
}

#[test]
fn the_memory_of_large_answers_is_given_back_when_nobody_has_used_it_for_a_while() {
    let region = Region::create(1, 2).unwrap();
    let taken = || rustix::fs::fstat(region.memfd()).unwrap().st_blocks * 512;
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region.clone(), 0);
    let mut claimer = link.claimer(0).unwrap();
    let small = taken();
    let mut answer = |edge: &mut EdgeThread| {
        let id = publish(edge, b"/", BodyPart::Bytes(&vec![1; 100_000])).unwrap();
        let mut theirs = exchange(claimer.next());
        theirs.head(200, b"OK", []).unwrap();
        theirs.body(&vec![2; 500_000]).unwrap();
        theirs.end(false).unwrap();
        assert_eq!(frames(edge, id).1, Progress::Ended);
        id
    };
    let busy = answer(&mut edge);
    let free = answer(&mut edge);
    edge.free(free);
    let both = taken();
    assert!(both > small + 1_200_000, "{small} {both}");
    let now = std::time::Instant::now();
    let after = |seconds| now + std::time::Duration::from_secs(seconds);
    edge.trim(now);
    edge.trim(after(9));
    assert_eq!(taken(), both);
    edge.trim(after(11));
    let one = taken();
    assert!(one < both - 500_000 && one > small + 600_000, "that of the other is in use: {one}");
    edge.free(busy);
    edge.trim(after(12));
    let again = answer(&mut edge);
    edge.free(again);
    edge.trim(after(30));
    assert!(taken() > one - 100_000, "it was used since");
    edge.trim(after(41));
    assert!(taken() < small + 200_000);
    let id = answer(&mut edge);
    edge.free(id);
}

#[test]
fn what_a_worker_may_ask_for_is_in_place_before_it_has_the_request() {
    let region = Region::create(1, 1).unwrap();
    let (_socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let has_it = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let worker = std::thread::spawn({
        let has_it = has_it.clone();
        move || {
            link.ready().unwrap();
            let mut theirs = exchange(link.claimer(0).unwrap().next());
            has_it.store(true, std::sync::atomic::Ordering::SeqCst);
            theirs.head(200, b"OK", []).unwrap();
            theirs.end(false).unwrap();
        }
    });
    let mut before = None;
    let put = |id| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        before = Some((id, has_it.load(std::sync::atomic::Ordering::SeqCst)));
    };
    let id = publish_with(&mut edge, b"/", BodyPart::File(9), put).unwrap();
    edge.before_park();
    assert_eq!(before, Some((id, false)));
    worker.join().unwrap();
    assert!(has_it.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn files_go_both_ways_over_the_socket() {
    let region = Region::create(1, 1).unwrap();
    let (socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    let id = publish(&mut edge, b"/", BodyPart::File(9)).unwrap();
    let link = std::sync::Arc::new(link);
    let control = {
        let link = link.clone();
        std::thread::spawn(move || link.run_control())
    };
    let worker = std::thread::spawn(move || {
        link.ready().unwrap();
        let mut theirs = exchange(link.claimer(0).unwrap().next());
        assert_eq!(theirs.take_body(), Ok(RequestBody::File { len: 9 }));
        let file = theirs.body_file().unwrap();
        theirs.head(200, b"OK", []).unwrap();
        theirs.file(file, 2, 5).unwrap();
        theirs.end(false).unwrap();
        assert!(matches!(link.claimer(0).unwrap().next(), Next::Stopped));
    });
    assert!(matches!(wait_for(&socket), Message::Ready));
    let Message::Give { slot, ticket } = wait_for(&socket) else { panic!("no GIVE") };
    assert_eq!(edge.resolve(slot, ticket), Some(id));
    assert_eq!(edge.resolve(slot, ticket + 1), None);
    let mut file = std::fs::File::from(sys::sealed_memfd("test", b"the body.").unwrap());
    socket.send_body(slot, ticket, file.as_fd()).unwrap();
    let Message::File { slot, ticket, fd } = wait_for(&socket) else { panic!("no FILE") };
    assert_eq!(edge.resolve(slot, ticket), Some(id));
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    assert_eq!(text, "the body.");
    assert!(file.write(b"x").is_err());
    let mut seen = Vec::new();
    while frames_into(&mut edge, id, &mut seen) != Progress::Ended {}
    assert!(matches!(
        seen[1..],
        [ResponseFrame::File { offset: 2, length: 5 }, ResponseFrame::End { failed: false }]
    ));
    edge.free(id);
    socket.send_stop().unwrap();
    worker.join().unwrap();
    drop(socket);
    assert_eq!(control.join().unwrap(), bridge::worker::Ended::Stopped);
}

fn frames_into(edge: &mut EdgeThread, id: SlotId, seen: &mut Vec<ResponseFrame>) -> Progress {
    let (mut more, progress) = frames(edge, id);
    seen.append(&mut more);
    progress
}

#[test]
fn claimers_are_stopped_released_and_used_again() {
    let region = Region::create(1, 4).unwrap();
    let (_socket, link, range) = connect(&region, 3);
    let mut edge = EdgeThread::new(region.clone(), 0);
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let mut claimer = link.claimer(i).unwrap();
            std::thread::spawn(move || {
                loop {
                    match claimer.next() {
                        Next::Stopped => return true,
                        Next::Interrupted => {}
                        Next::Exchange(_) => return false,
                    }
                }
            })
        })
        .collect();
    assert!(link.claimer(3).is_err());
    region.stop_claimers(range.clone());
    for thread in threads {
        assert!(thread.join().unwrap());
    }
    publish(&mut edge, b"/", BodyPart::None).unwrap();
    assert!(matches!(link.claimer(0).unwrap().next(), Next::Stopped), "even with a request waiting");
    region.release_claimers(range.clone());
    assert_eq!(region.allocate_claimers(3), Ok(range));
    assert!(region.allocate_claimers(MOST_CLAIMERS - 2).is_err());
    assert!(matches!(link.claimer(0).unwrap().next(), Next::Exchange(_)));
}

#[test]
fn a_claimer_with_a_high_number_is_woken_too() {
    let region = Region::create(1, 1).unwrap();
    let below = region.allocate_claimers(1600).unwrap();
    let (_socket, link, range) = connect(&region, 1);
    assert_eq!(range, 1600..1601);
    let mut edge = EdgeThread::new(region.clone(), 0);
    let worker = std::thread::spawn(move || {
        let mut claimer = link.claimer(0).unwrap();
        loop {
            match claimer.next() {
                Next::Interrupted => {}
                next => return matches!(next, Next::Exchange(_)),
            }
        }
    });
    while region.are_away(range.clone()) {
        std::thread::yield_now();
    }
    publish(&mut edge, b"/", BodyPart::None).unwrap();
    edge.before_park();
    assert!(worker.join().unwrap());
    region.release_claimers(below);
}

#[test]
fn an_edge_that_is_gone_ends_everything() {
    let region = Region::create(1, 1).unwrap();
    let (socket, link, _) = connect(&region, 1);
    let mut edge = EdgeThread::new(region, 0);
    publish(&mut edge, b"/", BodyPart::None).unwrap();
    let mut claimer = link.claimer(0).unwrap();
    let mut theirs = exchange(claimer.next());
    drop(socket);
    assert_eq!(link.run_control(), bridge::worker::Ended::Gone);
    assert!(theirs.body(&[0; 10]).is_err());
    assert!(theirs.body_file().is_err());
    assert!(matches!(claimer.next(), Next::Stopped));
}
