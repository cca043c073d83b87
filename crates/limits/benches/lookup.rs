//! Nanoseconds per question: `cargo bench -p limits`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use config::model::http::{AccessRule, LimitReq, LogLevel, Refusal, Value, Who, Zone};
use limits::access::Access;
use limits::{Zones, proxy_protocol};

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 51234 443\r\n";

fn main() {
    for count in [4, 100, 10_000] {
        let access = Access::new(&rules(count));
        let mut addresses = (0..u32::MAX).cycle().step_by(2_654_435_761);
        report(&format!("access, {count} networks"), || {
            let address = addresses.next().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
            black_box(access.verdict(black_box(address)));
        });
    }
    let zones = Zones::new(
        &[Zone { name: "one".into(), key: Value::default(), size: 10 << 20, rate: Some(1_000_000_000) }],
        None,
    );
    let refusal = Refusal { status: 503, level: LogLevel::Error, dry_run: false };
    let limit = LimitReq { zone: 0, burst: 1000, delay: 1000 };
    let limits = zones.rate_limits(&[limit], refusal).expect("the zone is there");
    for (name, clients) in [("one client", 1), ("50,000 clients", 50_000), ("more than fit", 500_000)] {
        let mut now = 0u64;
        report(&format!("rate, {name}"), || {
            now += 1;
            let key = ((now % clients) as u32).to_be_bytes();
            black_box(limits.check(&[black_box(key)], now));
        });
    }
    report("PROXY protocol, version 1", || {
        black_box(proxy_protocol::parse(black_box(PROXY))).expect("it is valid");
    });
}

/// Networks of 24 bits all over the addresses, allowed and denied in turn, then all denied.
fn rules(count: u32) -> Vec<AccessRule> {
    let network = |at: u32| {
        let first = Ipv4Addr::from_bits(at.wrapping_mul(2_654_435_761) & !0xff);
        Who::Network(format!("{first}/24").parse().expect("it is a network"))
    };
    let mut rules: Vec<_> = (0..count).map(|at| AccessRule { who: network(at), deny: at % 2 == 0 }).collect();
    rules.push(AccessRule { who: Who::All, deny: true });
    rules
}

/// Prints the fastest of several rounds: what disturbs a round only makes it slower.
fn report(name: &str, mut work: impl FnMut()) {
    const ITERATIONS: u32 = 200_000;
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ITERATIONS {
                work();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ITERATIONS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:32} {best:7.1} ns");
}
