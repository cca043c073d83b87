//! Many threads at once: nothing is lost, nothing runs twice, no body is mixed up.

mod common;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bridge::edge::{BodyPart, EdgeThread, Progress, Region, ResponseFrame, SlotId};
use bridge::worker::{Exchange, Next};
use common::{connect, publish};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How many requests each edge thread makes.
const REQUESTS: u64 = 100_000;
const EDGES: usize = 2;

#[derive(Default)]
struct Counts {
    ran: AtomicU64,
    answered: AtomicU64,
    taken_back: AtomicU64,
    cancelled: AtomicU64,
}

/// A generator that needs no crate: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What is sent for a request of this number, in both directions: mostly small, now and then larger than a ring.
fn size(number: u64) -> usize {
    match number % 1000 {
        0 => 300_000,
        n if n % 10 == 0 => (n * 61) as usize,
        n => (n % 200) as usize,
    }
}

fn fill(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|i| (number as usize ^ i.wrapping_mul(31)) as u8).collect()
}

fn serve(mut exchange: Exchange, counts: &Counts) {
    counts.ran.fetch_add(1, Ordering::Relaxed);
    let number: u64 = std::str::from_utf8(exchange.request().path()).unwrap().parse().unwrap();
    let body = fill(number, size(number));
    let _ = exchange.head(200, b"OK", [(&b"X-Number"[..], exchange_path(number).as_bytes())]);
    for piece in body.chunks(70_000) {
        if exchange.body(piece).is_err() {
            break;
        }
    }
    let _ = exchange.end(false);
}

fn exchange_path(number: u64) -> String {
    number.to_string()
}

struct InFlight {
    id: SlotId,
    number: u64,
    head: bool,
    got: Vec<u8>,
    cancelled: bool,
}

fn edge(region: &Arc<Region>, index: usize, counts: &Counts) {
    let mut edge = EdgeThread::new(region.clone(), index);
    let mut random = Random(0x9e37_79b9 + index as u64);
    let mut in_flight: HashMap<usize, InFlight> = HashMap::new();
    let mut published = 0;
    let mut dirty = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut tick = Instant::now();
    while published < REQUESTS || !in_flight.is_empty() {
        assert!(Instant::now() < deadline, "{} requests hang", in_flight.len());
        let burst = random.below(24);
        for _ in 0..burst {
            if published == REQUESTS || edge.free_slots() == 0 {
                break;
            }
            let number = index as u64 * REQUESTS + published;
            let id = publish(&mut edge, number.to_string().as_bytes(), BodyPart::None).unwrap();
            let new = InFlight { id, number, head: false, got: Vec::new(), cancelled: false };
            assert!(in_flight.insert(edge.local(id), new).is_none(), "a slot was given out twice");
            published += 1;
            if random.below(50) == 0 && edge.take_back(id) {
                counts.taken_back.fetch_add(1, Ordering::Relaxed);
                in_flight.remove(&edge.local(id));
            }
        }
        if tick.elapsed() > Duration::from_millis(500) {
            tick = Instant::now();
            edge.repair();
        }
        if !edge.before_park() && (published == REQUESTS || edge.free_slots() == 0) {
            let bell = region.eventfd(index);
            let timeout = Timespec { tv_sec: 2, tv_nsec: 0 };
            let rang = poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&timeout)).unwrap();
            if rang > 0 {
                rustix::io::read(bell, &mut [0; 8]).unwrap();
            }
        }
        edge.awake();
        edge.drain_dirty(&mut dirty);
        for local in dirty.drain(..) {
            let Some(it) = in_flight.get_mut(&usize::from(local)) else { continue };
            loop {
                let progress = edge.read_frames(it.id, |frame| {
                    match frame {
                        ResponseFrame::Head(head) => {
                            let (_, value) = head.fields().next().unwrap();
                            assert_eq!(value, exchange_path(it.number).as_bytes(), "somebody else's answer");
                            it.head = true;
                        }
                        ResponseFrame::Body(bytes) => it.got.extend_from_slice(&bytes),
                        ResponseFrame::End { failed } => assert!(!failed || it.cancelled),
                        ResponseFrame::File { .. } | ResponseFrame::Log(_) => panic!("a file"),
                    }
                    if it.got.len() % 3 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                let progress = progress.unwrap();
                if progress != Progress::Ended && it.number % 7 == 0 && !it.cancelled {
                    // In the middle of its answer, which may be waiting for room.
                    edge.cancel(it.id);
                    it.cancelled = true;
                }
                match progress {
                    Progress::Stopped => {}
                    Progress::Drained => break,
                    Progress::Ended => {
                        if it.cancelled {
                            counts.cancelled.fetch_add(1, Ordering::Relaxed);
                        } else {
                            assert!(it.head);
                            assert!(it.got == fill(it.number, size(it.number)), "the body of {}", it.number);
                            counts.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        edge.free(it.id);
                        in_flight.remove(&usize::from(local));
                        break;
                    }
                }
            }
        }
    }
    assert_eq!(edge.free_slots(), edge.slots());
}

#[test]
fn nothing_is_lost_or_doubled() {
    let region = Region::create(EDGES as u16, 70).unwrap();
    let counts = Counts::default();
    let (_a, first, range_a) = connect(&region, 1);
    let (_b, second, range_b) = connect(&region, 3);
    std::thread::scope(|scope| {
        for (link, number) in [(&first, 0), (&second, 0), (&second, 1), (&second, 2)] {
            let mut claimer = link.claimer(number).unwrap();
            let counts = &counts;
            scope.spawn(move || {
                loop {
                    match claimer.next() {
                        Next::Exchange(exchange) => serve(exchange, counts),
                        Next::Interrupted => {}
                        Next::Stopped => return,
                    }
                }
            });
        }
        let edges: Vec<_> = (0..EDGES)
            .map(|index| {
                let (region, counts) = (region.clone(), &counts);
                scope.spawn(move || edge(&region, index, counts))
            })
            .collect();
        let results: Vec<_> = edges.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        region.stop_claimers(range_a);
        region.stop_claimers(range_b);
        for result in results {
            result.unwrap();
        }
    });
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (ran, answered, back, cancelled) =
        (of(&counts.ran), of(&counts.answered), of(&counts.taken_back), of(&counts.cancelled));
    assert_eq!(ran + back, EDGES as u64 * REQUESTS, "each ran once or was taken back");
    assert_eq!(ran, answered + cancelled);
    assert!(
        back > 0 && answered > 0 && cancelled > 0,
        "the test does what it says: {back} {answered} {cancelled}"
    );
}

/// A worker that vanishes with requests in its hands: they are found, and others go on.
#[test]
fn what_a_dead_worker_held_is_found() {
    let region = Region::create(1, 16).unwrap();
    let (_dead, dying, dead_range) = connect(&region, 2);
    let (_alive, living, live_range) = connect(&region, 1);
    let mut edge = EdgeThread::new(region.clone(), 0);
    let ids: Vec<_> =
        (0..6).map(|i: u64| publish(&mut edge, i.to_string().as_bytes(), BodyPart::None).unwrap()).collect();
    let mut held = Vec::new();
    for i in 0..2 {
        let Next::Exchange(mut exchange) = dying.claimer(i).unwrap().next() else {
            panic!("nothing to claim")
        };
        exchange.head(200, b"OK", []).unwrap();
        held.push(exchange);
    }
    // It dies: nothing of it writes any more.
    held.into_iter().for_each(std::mem::forget);
    assert_eq!(edge.claimed_by(dead_range.clone()), ids[..2]);
    assert_eq!(edge.claimed_by(live_range.clone()), []);
    for id in edge.claimed_by(dead_range.clone()) {
        edge.free(id);
        publish(&mut edge, b"77", BodyPart::None).unwrap();
    }
    region.release_claimers(dead_range);
    let stop = AtomicBool::new(false);
    let counts = Counts::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut claimer = living.claimer(0).unwrap();
            while !stop.load(Ordering::Relaxed) {
                if let Next::Exchange(exchange) = claimer.next() {
                    serve(exchange, &counts);
                }
            }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut dirty = Vec::new();
        while edge.free_slots() < edge.slots() && Instant::now() < deadline {
            edge.before_park();
            edge.awake();
            edge.drain_dirty(&mut dirty);
            dirty.clear();
            for id in edge.busy().collect::<Vec<_>>() {
                if edge.read_frames(id, |_| ControlFlow::Continue(())) == Ok(Progress::Ended) {
                    edge.free(id);
                }
            }
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        region.stop_claimers(live_range);
    });
    assert_eq!(edge.free_slots(), edge.slots());
    assert_eq!(counts.ran.load(Ordering::Relaxed), 6);
}
