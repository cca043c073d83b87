use config::model::http::{LimitConn, Value, Zone};
use proptest::prelude::*;

use super::*;
use crate::Zones;

/// One zone and limit for each (size, most).
fn limits(of: &[(u64, u32)], dry_run: bool) -> ConnectionLimits {
    let zones: Vec<_> = (0..of.len())
        .map(|at| Zone { name: format!("zone{at}"), key: Value::default(), size: of[at].0, rate: None })
        .collect();
    let limits: Vec<_> = (0u32..).zip(of).map(|(zone, &(_, limit))| LimitConn { zone, limit }).collect();
    let refusal = Refusal { status: 503, level: LogLevel::Error, dry_run };
    Zones::new(&zones, None).connection_limits(&limits, refusal).unwrap()
}

fn states(limits: &ConnectionLimits) -> usize {
    limits.limits.iter().map(|limit| limit.states.shards.all().map(|shard| shard.len()).sum::<usize>()).sum()
}

fn enter(limits: &ConnectionLimits, keys: &[&str]) -> Option<Guards> {
    match limits.enter(keys).decision {
        Decision::Passed(guards) => Some(guards),
        Decision::Rejected => None,
    }
}

#[test]
fn a_key_counts_until_its_guards_are_dropped() {
    let limits = limits(&[(1 << 20, 2)], false);
    let first = enter(&limits, &["a"]).unwrap();
    let second = enter(&limits, &["a"]).unwrap();
    assert!(enter(&limits, &["a"]).is_none());
    let other = enter(&limits, &["b"]).unwrap();
    drop(first);
    let third = enter(&limits, &["a"]).unwrap();
    assert!(enter(&limits, &["a"]).is_none());
    drop((second, third, other));
    assert_eq!(states(&limits), 0);
}

#[test]
fn who_is_refused_by_one_limit_counts_in_none() {
    let limits = limits(&[(1 << 20, 10), (1 << 20, 1)], false);
    let held = enter(&limits, &["a", "s"]).unwrap();
    assert!(enter(&limits, &["b", "s"]).is_none());
    assert_eq!(states(&limits), 2);
    drop(held);
    assert_eq!(states(&limits), 0);
}

#[test]
fn the_words_are_those_of_nginx() {
    let limits = limits(&[(1 << 20, 1)], false);
    let first = limits.enter(&["a"]);
    assert_eq!(first.status.unwrap().as_str(), "PASSED");
    let second = limits.enter(&["a"]);
    assert_eq!(second.status.unwrap().as_str(), "REJECTED");
    let notice = second.notice.unwrap();
    assert_eq!(notice.level, LogLevel::Error);
    assert_eq!(notice.to_string(), "limiting connections by zone \"zone0\"");
}

#[test]
fn no_key_is_no_limit_and_no_status() {
    let limits = limits(&[(1 << 20, 1)], false);
    for key in [String::new(), "x".repeat(256)] {
        let (first, second) = (limits.enter(&[&key]), limits.enter(&[&key]));
        assert!(matches!(&second.decision, Decision::Passed(guards) if guards.is_empty()));
        assert_eq!((first.status, second.status), (None, None));
        assert_eq!(second.notice.is_some(), !key.is_empty());
    }
    assert!(enter(&limits, &[&"x".repeat(255)]).is_some_and(|guards| !guards.is_empty()));
}

#[test]
fn a_dry_run_refuses_nobody() {
    let limits = limits(&[(1 << 20, 1)], true);
    let _held = limits.enter(&["a"]);
    let over = limits.enter(&["a"]);
    assert!(matches!(&over.decision, Decision::Passed(guards) if guards.is_empty()));
    assert_eq!(over.status.unwrap().as_str(), "REJECTED_DRY_RUN");
    assert_eq!(over.notice.unwrap().to_string(), "limiting connections, dry run, by zone \"zone0\"");
}

#[test]
fn a_full_zone_refuses_new_keys() {
    let limits = limits(&[(2 * 64, 10)], false);
    let held = [enter(&limits, &["a"]).unwrap(), enter(&limits, &["b"]).unwrap()];
    let full = limits.enter(&["c"]);
    assert!(matches!(full.decision, Decision::Rejected));
    assert_eq!(full.notice.unwrap().to_string(), "could not allocate node in limit_conn zone \"zone0\"");
    let known = enter(&limits, &["a"]);
    assert!(known.is_some());
    drop((held, known));
    assert!(enter(&limits, &["c"]).is_some());
}

#[test]
fn event_loops_share_a_zone() {
    let limits = limits(&[(1 << 20, 10)], false);
    let held: Vec<Guards> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..100).filter_map(|_| enter(&limits, &["a"])).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 10);
    std::thread::spawn(move || drop(held)).join().unwrap();
    assert_eq!(states(&limits), 0);
}

proptest! {
    #[test]
    fn never_more_than_the_limit_and_nothing_is_left(
        steps in prop::collection::vec((0usize..4, any::<bool>(), any::<prop::sample::Index>()), 1..200),
    ) {
        let limits = limits(&[(1 << 20, 3)], false);
        let keys = ["a", "b", "c", "d"];
        let mut held: Vec<(usize, Guards)> = Vec::new();
        for (key, comes, which) in steps {
            if comes || held.is_empty() {
                let before = held.iter().filter(|(other, _)| *other == key).count();
                let entered = enter(&limits, &[keys[key]]);
                prop_assert_eq!(entered.is_some(), before < 3);
                held.extend(entered.map(|guards| (key, guards)));
            } else {
                held.swap_remove(which.index(held.len()));
            }
        }
        held.clear();
        prop_assert_eq!(states(&limits), 0);
    }
}
