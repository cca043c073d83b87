//! What an exchange costs: `cargo bench -p bridge --bench hop`. Prints wall-clock nanoseconds and the processor time
//! of all threads, for one request at a time and for 64 in flight, with one and with two workers' threads.

#[path = "../tests/common/mod.rs"]
mod common;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bridge::edge::{BodyPart, EdgeThread, Progress, Region};
use bridge::worker::Next;
use common::{connect, publish};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    for (in_flight, claimers, exchanges) in [(1, 1, 100_000), (64, 1, 1_000_000), (64, 2, 1_000_000)] {
        run(in_flight, claimers, exchanges);
    }
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn run(in_flight: usize, claimers: u16, exchanges: u64) {
    let region = Region::create(1, 128).expect("a region");
    let (_socket, link, range) = connect(&region, claimers);
    let mut edge = EdgeThread::new(region.clone(), 0);
    std::thread::scope(|scope| {
        for i in 0..claimers {
            let mut claimer = link.claimer(i.into()).expect("a claimer");
            scope.spawn(move || {
                loop {
                    match claimer.next() {
                        Next::Exchange(mut exchange) => {
                            let fields: [(&[u8], &[u8]); 2] =
                                [(b"Content-Type", b"text/plain"), (b"Content-Length", b"13")];
                            let _ = exchange.head(200, b"OK", fields);
                            let _ = exchange.body(b"Hello, world!");
                            let _ = exchange.end(false);
                        }
                        Next::Interrupted => {}
                        Next::Stopped => return,
                    }
                }
            });
        }
        let (wall, used) = (Instant::now(), cpu());
        let (mut published, mut done) = (0, 0);
        let mut ids = vec![None; edge.slots()];
        let mut dirty = Vec::new();
        while done < exchanges {
            while published < exchanges && published - done < in_flight as u64 {
                let id = publish(&mut edge, b"/hello", BodyPart::None).expect("a slot");
                ids[edge.local(id)] = Some(id);
                published += 1;
            }
            if !edge.before_park() {
                let bell = region.eventfd(0);
                let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
                assert_eq!(
                    poll(&mut [PollFd::new(&bell, PollFlags::IN)], Some(&timeout)),
                    Ok(1),
                    "nobody rang"
                );
                let _ = rustix::io::read(bell, &mut [0; 8]);
            }
            edge.awake();
            edge.drain_dirty(&mut dirty);
            for local in dirty.drain(..) {
                let Some(id) = ids[usize::from(local)] else { continue };
                if edge.read_frames(id, |_| ControlFlow::Continue(())) == Ok(Progress::Ended) {
                    edge.free(id);
                    done += 1;
                }
            }
        }
        let (wall, used) = (wall.elapsed(), cpu().saturating_sub(used));
        println!(
            "{in_flight:>3} in flight, {claimers} claimers: {:>6} ns each, {:>6} ns of processor",
            wall.as_nanos() / u128::from(exchanges),
            used.as_nanos() / u128::from(exchanges),
        );
        region.stop_claimers(range);
    });
}
