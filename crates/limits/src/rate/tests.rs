use std::collections::HashMap;

use config::model::http::{Value, Zone};
use proptest::prelude::*;

use super::*;
use crate::Zones;

const MEGABYTE: u64 = 1 << 20;

fn refusal(dry_run: bool) -> Refusal {
    Refusal { status: 503, level: LogLevel::Error, dry_run }
}

/// One zone and limit for each (size, rate in requests a second, burst, delay).
fn limits(of: &[(u64, u64, u64, u64)], dry_run: bool) -> RateLimits {
    let zones: Vec<_> = (0..of.len())
        .map(|at| Zone {
            name: format!("zone{at}"),
            key: Value::default(),
            size: of[at].0,
            rate: Some(of[at].1 * REQUEST),
        })
        .collect();
    let limits: Vec<_> =
        (0u32..).zip(of).map(|(zone, &(_, _, burst, delay))| LimitReq { zone, burst, delay }).collect();
    Zones::new(&zones, None).rate_limits(&limits, refusal(dry_run)).unwrap()
}

fn one(rate: u64, burst: u64, delay: u64) -> RateLimits {
    limits(&[(MEGABYTE, rate, burst, delay)], false)
}

fn states(limits: &RateLimits) -> usize {
    limits.limits.iter().map(|limit| limit.states.shards.all().map(|shard| shard.len()).sum::<usize>()).sum()
}

const fn delayed(millis: u64) -> Decision {
    Decision::Delayed(Duration::from_millis(millis))
}

/// Asks for `key` at each time.
fn decisions(limits: &RateLimits, key: &str, times: &[Millis]) -> Vec<Decision> {
    times.iter().map(|&now| limits.check(&[key], now).decision).collect()
}

#[test]
fn without_burst_requests_must_keep_their_distance() {
    let limits = one(10, 0, 0);
    let expected = [Decision::Passed, Decision::Rejected, Decision::Rejected, Decision::Passed];
    assert_eq!(decisions(&limits, "a", &[1000, 1000, 1099, 1100]), expected);
    assert_eq!(decisions(&limits, "b", &[1100]), [Decision::Passed]);
}

#[test]
fn burst_is_delayed_to_the_rate() {
    let limits = one(10, 3, 0);
    let expected = [Decision::Passed, delayed(100), delayed(200), delayed(300), Decision::Rejected];
    assert_eq!(decisions(&limits, "a", &[0; 5]), expected);
    assert_eq!(decisions(&limits, "a", &[150, 150]), [delayed(250), Decision::Rejected]);
}

#[test]
fn nodelay_lets_the_burst_through_at_once() {
    for delay in [3, u64::MAX] {
        let limits = one(10, 3, delay);
        assert_eq!(decisions(&limits, "a", &[0; 4]), [Decision::Passed; 4]);
        assert_eq!(
            decisions(&limits, "a", &[99, 100, 100]),
            [Decision::Rejected, Decision::Passed, Decision::Rejected]
        );
    }
}

#[test]
fn two_stages() {
    // nginx's documentation: `limit_req zone=one burst=5 delay=3`.
    let limits = one(1, 5, 3);
    let expected = [
        Decision::Passed,
        Decision::Passed,
        Decision::Passed,
        Decision::Passed,
        delayed(1000),
        delayed(2000),
        Decision::Rejected,
    ];
    assert_eq!(decisions(&limits, "a", &[0; 7]), expected);
}

#[test]
fn a_refused_request_does_not_count() {
    let limits = one(1, 0, 0);
    let expected = [Decision::Passed, Decision::Rejected, Decision::Rejected, Decision::Passed];
    assert_eq!(decisions(&limits, "a", &[0, 500, 999, 1000]), expected);
}

#[test]
fn milliseconds_that_make_no_request_are_not_lost() {
    let limits = one(1, 1, 1);
    assert_eq!(decisions(&limits, "a", &[0, 0]), [Decision::Passed; 2]);
    let outcome = limits.check(&["a"], 400);
    assert_eq!(outcome.decision, Decision::Rejected);
    assert_eq!(outcome.notice.unwrap().to_string(), "limiting requests, excess: 1.600 by zone \"zone0\"");
    assert_eq!(decisions(&limits, "a", &[1000]), [Decision::Passed]);
}

#[test]
fn a_clock_that_is_a_little_behind_gives_nothing() {
    let limits = one(1, 0, 0);
    assert_eq!(
        decisions(&limits, "a", &[100_000, 99_000, 41_000]),
        [Decision::Passed, Decision::Rejected, Decision::Rejected]
    );
    // The state's own time is kept.
    assert_eq!(decisions(&limits, "a", &[101_000]), [Decision::Passed]);
}

#[test]
fn no_key_is_no_limit_and_no_status() {
    let limits = one(1, 0, 0);
    let passed = Outcome { decision: Decision::Passed, status: None, notice: None };
    assert_eq!(limits.check(&[""], 0), passed);
    assert_eq!(limits.check(&[""], 0), passed);
    let long = limits.check(&["x".repeat(LONGEST_KEY + 1)], 0);
    assert_eq!((long.decision, long.status), (Decision::Passed, None));
    let notice = long.notice.unwrap();
    assert_eq!(notice.level, LogLevel::Error);
    assert!(notice.to_string().contains("more than 65535 bytes"), "{notice}");
    assert_eq!(states(&limits), 0);
}

#[test]
fn all_limits_count_or_none() {
    // By address 10 a second, by server 1 a second.
    let limits = limits(&[(MEGABYTE, 10, 0, 0), (MEGABYTE, 1, 0, 0)], false);
    let ask = |address: &str, server: &str, now| limits.check(&[address, server], now).decision;
    assert_eq!(ask("a", "s", 0), Decision::Passed);
    // The address would be refused 100 ms later had this counted for it.
    assert_eq!(ask("b", "s", 0), Decision::Rejected);
    assert_eq!(ask("b", "t", 0), Decision::Passed);
    assert_eq!(ask("b", "u", 99), Decision::Rejected);
    assert_eq!(ask("b", "u", 100), Decision::Passed);
    // Only one of two keys is there.
    assert_eq!(ask("c", "", 0), Decision::Passed);
    assert_eq!(ask("c", "", 0), Decision::Rejected);
    assert_eq!(ask("", "v", 0), Decision::Passed);
    assert_eq!(ask("", "v", 0), Decision::Rejected);
}

#[test]
fn the_longest_delay_holds_and_is_named() {
    let limits = limits(&[(MEGABYTE, 1, 9, 0), (MEGABYTE, 10, 9, 0)], false);
    assert_eq!(limits.check(&["a", "s"], 0).status, Some(RateStatus::Passed));
    let outcome = limits.check(&["a", "s"], 0);
    assert_eq!((outcome.decision, outcome.status), (delayed(1000), Some(RateStatus::Delayed)));
    let notice = outcome.notice.unwrap();
    assert_eq!(notice.level, LogLevel::Warn);
    assert_eq!(notice.to_string(), "delaying request, excess: 1.000, by zone \"zone0\"");
}

#[test]
fn a_dry_run_counts_and_refuses_nobody() {
    let limits = limits(&[(MEGABYTE, 1, 1, 0)], true);
    let outcomes: Vec<_> = (0..3).map(|_| limits.check(&["a"], 0)).collect();
    assert!(outcomes.iter().all(|outcome| outcome.decision == Decision::Passed));
    let status = |at: usize| outcomes[at].status.unwrap().as_str();
    assert_eq!([status(0), status(1), status(2)], ["PASSED", "DELAYED_DRY_RUN", "REJECTED_DRY_RUN"]);
    let notice = outcomes[2].notice.as_ref().unwrap().to_string();
    assert_eq!(notice, "limiting requests, dry run, excess: 2.000 by zone \"zone0\"");
}

#[test]
fn a_full_zone_forgets_the_oldest() {
    // 128 bytes for each address.
    let limits = limits(&[(4 * 128, 1, 0, 0)], false);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(decisions(&limits, key, &[0]), [Decision::Passed]);
    }
    // Asked again, `a` is not the oldest.
    assert_eq!(decisions(&limits, "a", &[0]), [Decision::Rejected]);
    assert_eq!(decisions(&limits, "e", &[0]), [Decision::Passed]);
    assert_eq!(states(&limits), 4);
    assert_eq!(decisions(&limits, "a", &[0]), [Decision::Rejected]);
    assert_eq!(decisions(&limits, "b", &[0]), [Decision::Passed]);
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let limits = limits(&[(4 * 128, 1, 0, 0)], false);
    let outcome = limits.check(&["x".repeat(500)], 0);
    assert_eq!((outcome.decision, outcome.status), (Decision::Rejected, Some(RateStatus::Rejected)));
    let notice = outcome.notice.unwrap();
    assert_eq!(notice.level, LogLevel::Alert);
    assert_eq!(notice.to_string(), "could not allocate node in limit_req zone \"zone0\"");
}

#[test]
fn idle_states_go_when_others_come() {
    let limits = one(1, 100, 100);
    let times: Vec<Millis> = vec![0; 70];
    decisions(&limits, "busy", &times);
    decisions(&limits, "idle", &[1]);
    assert_eq!(states(&limits), 2);
    // Not before a minute, and not while its bucket holds anything.
    decisions(&limits, "c", &[59_999]);
    assert_eq!(states(&limits), 3);
    let shards = &limits.limits[0].states.shards;
    let is_known = |key: &str| {
        let (hash, shard) = shards.locate(key.as_bytes());
        shards.lock(shard).contains(hash, key.as_bytes())
    };
    // Each key looks at two states of its shard: so many of them that all have their turn in each of the four. Which
    // keys these are is another matter in every run.
    let ask_all = |keys: &mut dyn Iterator<Item = String>, now: Millis| {
        let mut left = vec![16; shards.all().count()];
        assert_eq!(left.len(), 4);
        while left.iter().any(|left| *left > 0) {
            let key = keys.next().unwrap();
            let left = &mut left[shards.locate(key.as_bytes()).1];
            if *left > 0 {
                *left -= 1;
                decisions(&limits, &key, &[now]);
            }
        }
    };
    let mut keys = (0..).map(|number: u64| number.to_string());
    ask_all(&mut keys, 60_001);
    assert!(is_known("busy"));
    decisions(&limits, "busy", &[60_200]);
    ask_all(&mut keys, 140_000);
    assert!(!is_known("busy") && !is_known("idle") && !is_known("c"));
}

#[test]
fn event_loops_share_a_zone() {
    let limits = one(1, 99, 99);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..100).filter(|_| limits.check(&["a"], 0).decision == Decision::Passed).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
}

/// nginx's arithmetic over states that are never evicted, for one thread.
#[derive(Default)]
struct Reference {
    states: HashMap<(usize, String), (i64, Millis)>,
}

impl Reference {
    fn check(&mut self, of: &[(u64, u64, u64, u64)], keys: &[String], now: Millis) -> Decision {
        let mut counted = Vec::new();
        for (at, (&(_, rate, burst, delay), key)) in of.iter().zip(keys).enumerate() {
            if key.is_empty() {
                continue;
            }
            let rate = (rate * REQUEST) as i64;
            let excess = match self.states.get(&(at, key.clone())) {
                None => 0,
                Some(&(excess, last)) => (excess - rate * (now - last) as i64 / 1000 + 1000).max(0),
            };
            if excess > (burst * REQUEST) as i64 {
                return Decision::Rejected;
            }
            let wait = (excess - (delay * REQUEST) as i64).max(0) * 1000 / rate;
            counted.push(((at, key.clone()), excess, wait as u64));
        }
        let longest = counted.iter().map(|(_, _, wait)| *wait).max().unwrap_or(0);
        for (key, excess, _) in counted {
            self.states.insert(key, (excess, now));
        }
        if longest > 0 { delayed(longest) } else { Decision::Passed }
    }
}

proptest! {
    #[test]
    fn decisions_are_those_of_nginx(
        of in prop::collection::vec((Just(MEGABYTE), 1u64..200, 0u64..5, 0u64..5), 1..4),
        requests in prop::collection::vec((prop::collection::vec("[abc]?", 3), 0u64..400), 1..80),
    ) {
        let limits = limits(&of, false);
        let mut reference = Reference::default();
        let mut now = 0;
        for (keys, pause) in requests {
            now += pause;
            let keys = &keys[..of.len()];
            prop_assert_eq!(limits.check(keys, now).decision, reference.check(&of, keys, now), "at {}", now);
        }
    }

    #[test]
    fn memory_is_bounded(keys in prop::collection::vec((any::<u8>(), 0usize..300), 1..200)) {
        let limits = limits(&[(2048, 1, 0, 0), (1024, 1, 0, 0)], false);
        for (now, (key, length)) in keys.into_iter().enumerate() {
            let key = vec![key; length];
            limits.check(&[&key, &key], now as Millis);
            for limit in &limits.limits {
                for shard in limit.states.shards.all() {
                    shard.assert_consistent();
                }
            }
        }
    }
}
