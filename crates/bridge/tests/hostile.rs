//! A worker that writes whatever it likes into the region: the edge never panics and never hangs.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use bridge::edge::{BodyPart, BridgeError, EdgeThread, Progress, Region, SlotId};
use bridge::worker::Next;
use bridge::{MOST_CLAIMERS, REQUEST_RING, RESPONSE_RING};
use common::{connect, publish};
use proptest::prelude::*;
use sys::{Foreign, SharedRegion};

fn map(region: &Region) -> SharedRegion {
    let file = std::fs::File::from(region.memfd().try_clone_to_owned().unwrap());
    let length = file.metadata().unwrap().len() as usize;
    SharedRegion::map(&file, length).unwrap()
}

/// Where everything but the rings is, for one thread with four slots: header page, thread page, claimers (64 bytes
/// each), tickets and slots (a page each).
const CLAIMERS: usize = 64 * MOST_CLAIMERS as usize;
const WRITABLE: usize = 4096 * 2 + CLAIMERS + 2 * 4096;
const SLOTS_AT: usize = 4096 * 2 + CLAIMERS + 4096;
const RINGS_AT: usize = WRITABLE;
const RINGS: usize = (REQUEST_RING + RESPONSE_RING) as usize;

fn use_everything(edge: &mut EdgeThread, ids: &[SlotId]) {
    let mut dirty = Vec::new();
    edge.before_park();
    edge.awake();
    edge.drain_dirty(&mut dirty);
    assert!(dirty.iter().all(|&local| usize::from(local) < edge.slots()));
    for &id in ids {
        edge.state(id);
        let mut frames = 0;
        let _ = edge.read_frames(id, |_| {
            frames += 1;
            if frames % 2 == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let _ = edge.read_up_to_large(id, |_| ControlFlow::Continue(()));
        for part in [2, 1] {
            let mut offered = 0;
            let send = |pieces: &[Foreign<'_>]| {
                offered = pieces.iter().map(Foreign::len).sum();
                Ok(offered / part)
            };
            if let Ok(Some(Ok(sent))) = edge.send_body(id, 1 << 20, send, |_| {}) {
                assert!(sent == offered / part && offered <= RESPONSE_RING as usize);
            }
        }
        edge.cancel(id);
        let _ = edge.read_frames(id, |_| ControlFlow::Continue(()));
    }
    let _ = edge.claimed_by(0..MOST_CLAIMERS);
    edge.waiting();
    edge.repair();
    edge.repair();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_anywhere(
        writes in proptest::collection::vec(
            // Mostly where the edge looks: at the first claimers, and what stands around all of them.
            (prop_oneof![4 => 64..4096 * 2 + 65536_usize, 1 => 64..WRITABLE + 1024, 4 => SLOTS_AT - 4096..WRITABLE + 1024], any::<u64>()),
            1..60,
        ),
        slot_words in proptest::collection::vec(prop_oneof![any::<u64>(), 0..400_000_u64], 64),
        fill in any::<u8>(),
    ) {
        let region = Region::create(1, 4).unwrap();
        let mut edge = EdgeThread::new(region.clone(), 0);
        let ids: Vec<_> = (0..3).map(|_| publish(&mut edge, b"/", BodyPart::None).unwrap()).collect();
        let memory = map(&region);
        memory.copy_in(RINGS_AT, &vec![fill; 4 * RINGS]);
        for (i, word) in slot_words.iter().enumerate() {
            memory.copy_in(SLOTS_AT + 8 * i, &word.to_le_bytes());
        }
        for (at, word) in &writes {
            memory.copy_in(*at, &word.to_le_bytes());
        }
        use_everything(&mut edge, &ids);
        for id in ids {
            edge.free(id);
        }
        prop_assert_eq!(edge.free_slots(), 4);
        // The slots still serve.
        for _ in 0..4 {
            publish(&mut edge, b"/again", BodyPart::Bytes(b"x")).unwrap();
        }
    }

    /// The claim is real, and what follows in the ring is not.
    #[test]
    fn any_frames_in_a_claimed_slot(
        frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40), 0..50_u32), 0..8),
        valid_kinds in any::<bool>(),
        tail in prop_oneof![Just(None), any::<u32>().prop_map(Some)],
    ) {
        let region = Region::create(1, 4).unwrap();
        let (_socket, link, _) = connect(&region, 1);
        let mut edge = EdgeThread::new(region.clone(), 0);
        let id = publish(&mut edge, b"/", BodyPart::None).unwrap();
        let Next::Exchange(exchange) = link.claimer(0).unwrap().next() else { panic!("nothing to claim") };
        let mut bytes = Vec::new();
        for (kind, payload, wrong) in &frames {
            let length = if *wrong == 0 { 7 } else { payload.len() as u32 };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&[if valid_kinds { 16 + kind % 4 } else { *kind }, 0, 0, 0]);
            bytes.extend_from_slice(payload);
        }
        let memory = map(&region);
        let slot = SLOTS_AT + 128 * usize::from(id.slot);
        memory.copy_in(RINGS_AT + RINGS * usize::from(id.slot) + REQUEST_RING as usize, &bytes);
        let tail = tail.unwrap_or(bytes.len() as u32);
        memory.copy_in(slot + 64, &tail.to_le_bytes());
        use_everything(&mut edge, &[id]);
        std::mem::forget(exchange);
    }
}

fn claimed(region: &Arc<Region>) -> (EdgeThread, SlotId, SharedRegion) {
    let mut edge = EdgeThread::new(region.clone(), 0);
    let (_socket, link, _) = connect(region, 1);
    let id = publish(&mut edge, b"/", BodyPart::None).unwrap();
    let Next::Exchange(exchange) = link.claimer(0).unwrap().next() else { panic!("nothing to claim") };
    std::mem::forget(exchange);
    (edge, id, map(region))
}

fn put(memory: &SharedRegion, id: SlotId, bytes: &[u8]) {
    memory.copy_in(RINGS_AT + RINGS * usize::from(id.slot) + REQUEST_RING as usize, bytes);
    memory.copy_in(SLOTS_AT + 128 * usize::from(id.slot) + 64, &(bytes.len() as u32).to_le_bytes());
}

#[test]
fn what_breaks_the_order_of_frames_is_refused() {
    let head = [&[5, 0, 0, 0, 16, 0, 0, 0, 200, 0, 0, 0, 0][..], &[0]].concat();
    let head = {
        let mut head = head;
        head[0] = 6;
        head
    };
    let end = [1, 0, 0, 0, 19, 0, 0, 0, 0];
    let body = [1, 0, 0, 0, 17, 0, 0, 0, b'x'];
    let cases: [(&str, Vec<u8>, bool); 7] = [
        ("whole", [&head[..], &body, &end].concat(), true),
        ("body before head", body.to_vec(), false),
        ("end before head", end.to_vec(), false),
        ("two heads", [&head[..], &head].concat(), false),
        ("frame after end", [&head[..], &end, &body].concat(), false),
        ("cut frame", [&head[..], &body[..8]].concat(), false),
        ("unknown kind", vec![0, 0, 0, 0, 99, 0, 0, 0], false),
    ];
    for (name, bytes, fine) in cases {
        let region = Region::create(1, 4).unwrap();
        let (mut edge, id, memory) = claimed(&region);
        put(&memory, id, &bytes);
        let result = edge.read_frames(id, |_| ControlFlow::Continue(()));
        if fine {
            assert_eq!(result, Ok(Progress::Ended), "{name}");
        } else {
            assert!(matches!(result, Err(BridgeError::Broken(_))), "{name}: {result:?}");
        }
    }
}

#[test]
fn positions_that_cannot_be_are_refused() {
    for (first, then) in [(0, RESPONSE_RING + 1), (0, u32::MAX), (14, 5)] {
        let region = Region::create(1, 4).unwrap();
        let (mut edge, id, memory) = claimed(&region);
        put(&memory, id, &[6, 0, 0, 0, 16, 0, 0, 0, 200, 0, 0, 0, 0, 0]);
        let tail = SLOTS_AT + 128 * usize::from(id.slot) + 64;
        memory.copy_in(tail, &u32::to_le_bytes(first));
        assert_eq!(edge.read_frames(id, |_| ControlFlow::Continue(())), Ok(Progress::Drained));
        memory.copy_in(tail, &u32::to_le_bytes(then));
        assert!(edge.read_frames(id, |_| ControlFlow::Continue(())).is_err());
    }
}

/// Overwritten hints and tickets hide requests; a few ticks later they are found again.
#[test]
fn hidden_requests_are_found_again() {
    for damage in 0..4 {
        let region = Region::create(1, 4).unwrap();
        let (_socket, link, _) = connect(&region, 1);
        let mut edge = EdgeThread::new(region.clone(), 0);
        let memory = map(&region);
        let spoiled = publish(&mut edge, b"/0", BodyPart::None).unwrap();
        publish(&mut edge, b"/1", BodyPart::None).unwrap();
        let tickets = 4096 * 2 + 65536;
        match damage {
            0 => memory.copy_in(64, &u64::MAX.to_le_bytes()),
            1 => memory.copy_in(64, &1000_u64.to_le_bytes()),
            2 => memory.copy_in(tickets, &[0; 32]),
            _ => {
                // What stood first is gone, and with it its entry: nobody gets past it.
                assert!(edge.take_back(spoiled));
                memory.copy_in(tickets, &[0; 8]);
            }
        }
        edge.repair();
        edge.repair();
        let Next::Exchange(exchange) = link.claimer(0).unwrap().next() else { panic!("not found: {damage}") };
        assert!(exchange.request().path().starts_with(b"/"), "{damage}");
    }
}
