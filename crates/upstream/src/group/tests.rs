use std::collections::BTreeMap;

use config::model::http::{UpstreamServer, Value};
use proptest::prelude::*;

use super::*;

fn server(port: u16) -> UpstreamServer {
    UpstreamServer {
        name: format!("127.0.0.1:{port}"),
        addresses: vec![UpstreamAddress::Ip(([127, 0, 0, 1], port).into())],
        resolve: None,
        weight: 1,
        max_conns: 0,
        max_fails: 1,
        fail_timeout: Duration::from_secs(10),
        backup: false,
        down: false,
    }
}

fn group(servers: Vec<UpstreamServer>, balance: Balance) -> Arc<Group> {
    Group::new(&Upstream { name: "u".to_owned(), implicit: false, servers, balance, keepalive: None })
}

fn port(lease: &Lease) -> u16 {
    match &lease.peer.address {
        UpstreamAddress::Ip(address) => address.port(),
        UpstreamAddress::Unix(_) => 0,
    }
}

fn next(group: &Arc<Group>, key: Key) -> Option<u16> {
    group.choose(key, 0).lease().map(|lease| port(&lease))
}

fn text(key: &str) -> Key {
    Key::Text(key.as_bytes().to_vec())
}

#[test]
fn the_round_is_smooth() {
    let heavy = UpstreamServer { weight: 5, ..server(1) };
    let group = group(vec![heavy, server(2), server(3)], Balance::RoundRobin);
    let round: Vec<u16> = (0..7).filter_map(|_| next(&group, Key::None)).collect();
    assert_eq!(round, [1, 1, 2, 1, 3, 1, 1], "nginx's own example");
}

#[test]
fn one_that_failed_is_left_out_and_backups_come_last() {
    let backup = UpstreamServer { backup: true, ..server(3) };
    let down = UpstreamServer { down: true, ..server(4) };
    let group = group(vec![server(1), server(2), backup, down], Balance::RoundRobin);
    let mut choice = group.choose(Key::None, 0);
    let first = choice.lease().unwrap();
    assert!(first.failed() && choice.use_up());
    let second = choice.lease().unwrap();
    assert!(second.failed() && choice.use_up());
    assert_eq!((port(&first), port(&second)), (1, 2));
    let third = choice.lease().unwrap();
    assert!(port(&third) == 3 && !choice.use_up() && choice.lease().is_none());
    assert_eq!(next(&group, Key::None), Some(3), "the others are thought to be down");
}

#[test]
fn the_only_one_is_never_thought_to_be_down() {
    let group = group(vec![server(1)], Balance::RoundRobin);
    for _ in 0..3 {
        let mut choice = group.choose(Key::None, 0);
        assert!(!choice.lease().unwrap().failed() && !choice.use_up() && choice.lease().is_none());
    }
}

#[test]
fn connections_are_counted_until_the_lease_is_dropped() {
    let limited = UpstreamServer { max_conns: 1, ..server(1) };
    let group = group(vec![limited, UpstreamServer { max_conns: 2, ..server(2) }], Balance::RoundRobin);
    let held: Vec<_> = (0..4).map(|_| group.choose(Key::None, 0).lease()).collect();
    assert_eq!(held.iter().flatten().map(port).collect::<Vec<_>>(), [1, 2, 2]);
    drop(held);
    assert!(next(&group, Key::None).is_some());
}

#[test]
fn the_fewest_connections_are_next() {
    let group =
        group(vec![server(1), server(2), UpstreamServer { weight: 2, ..server(3) }], Balance::LeastConn);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(group.choose(Key::None, 0).lease().unwrap());
    }
    let mut count = BTreeMap::new();
    for lease in &held {
        *count.entry(port(lease)).or_insert(0) += 1;
    }
    assert_eq!(count, BTreeMap::from([(1, 2), (2, 2), (3, 4)]));
}

#[test]
fn an_address_stays_with_its_server() {
    let group = group(vec![server(1), server(2), server(3)], Balance::IpHash);
    let of = |ip: &str| next(&group, Key::Address(ip.parse().ok()));
    assert_eq!(of("192.0.2.1"), of("192.0.2.200"), "the last octet does not count");
    let all: std::collections::BTreeSet<_> = (0..50).map(|n| of(&format!("192.0.{n}.1"))).collect();
    assert_eq!(all.len(), 3);
}

#[test]
fn a_consistent_hash_moves_few() {
    let key = Value::text(*b"x");
    let of = |ports: &[u16]| {
        group(
            ports.iter().map(|port| server(*port)).collect(),
            Balance::Hash { key: key.clone(), consistent: true },
        )
    };
    let (all, fewer) = (of(&[1, 2, 3, 4]), of(&[1, 2, 3]));
    let moved = (0..400).filter(|n| {
        let before = next(&all, text(&n.to_string()));
        before != Some(4) && before != next(&fewer, text(&n.to_string()))
    });
    assert_eq!(moved.count(), 0);
}

fn many(count: u16) -> Vec<UpstreamServer> {
    (0..count).map(server).collect()
}

#[test]
fn many_equal_ones_go_round() {
    let group = group(many(1000), Balance::RoundRobin);
    for _ in 0..3 {
        let round: Vec<u16> = (0..1000).filter_map(|_| next(&group, Key::None)).collect();
        assert_eq!(round, (0..1000).collect::<Vec<_>>());
    }
}

#[test]
fn many_with_weights_get_their_shares_evenly() {
    let mut servers = many(100);
    servers[7].weight = 10;
    let group = group(servers, Balance::RoundRobin);
    let round: Vec<u16> = (0..1090).filter_map(|_| next(&group, Key::None)).collect();
    let heavy: Vec<usize> = (0..1090).filter(|n| round[*n] == 7).collect();
    assert_eq!(heavy.len(), 100);
    let apart = heavy.windows(2).map(|two| two[1] - two[0]);
    assert!(apart.clone().all(|n| (9..=12).contains(&n)), "{:?}", apart.collect::<Vec<_>>());
    assert!((0..100).filter(|n| *n != 7).all(|n| round.iter().filter(|port| **port == n).count() == 10));
}

#[test]
fn of_many_those_that_failed_are_looked_at_once() {
    let servers = many(500).into_iter().map(|s| UpstreamServer { fail_timeout: Duration::ZERO, ..s });
    let group = group(servers.collect(), Balance::RoundRobin);
    let mut choice = group.choose(Key::None, 0);
    for _ in 0..499 {
        choice.lease().unwrap().failed();
        choice.use_up();
    }
    let last = choice.lease().map(|lease| port(&lease));
    assert_eq!(last, Some(499));
    std::thread::sleep(Duration::from_millis(20));
    let round: std::collections::BTreeSet<_> = (0..600).filter_map(|_| next(&group, Key::None)).collect();
    assert_eq!(round.len(), 500, "their time is over");
}

#[test]
fn of_many_one_that_answers_is_back_at_once() {
    let mut servers = many(40);
    servers[0].fail_timeout = Duration::from_millis(300);
    servers[0].max_fails = 2;
    let group = group(servers, Balance::RoundRobin);
    let held = group.choose(Key::None, 0).lease().unwrap();
    assert_eq!(port(&held), 0);
    held.failed();
    assert!(held.failed());
    // A round in which it is passed over.
    assert!((0..80).all(|_| next(&group, Key::None) != Some(0)));
    std::thread::sleep(Duration::from_millis(320));
    let lease = (0..80).find_map(|_| {
        let lease = group.choose(Key::None, 0).lease().unwrap();
        (port(&lease) == 0).then_some(lease)
    });
    let lease = lease.expect("one request looks whether it still fails");
    assert!((0..80).all(|_| next(&group, Key::None) != Some(0)), "and only one");
    std::thread::sleep(Duration::from_millis(2));
    lease.answered();
    assert!((0..80).any(|_| next(&group, Key::None) == Some(0)));
}

#[test]
fn of_many_one_that_is_full_waits_for_a_place() {
    let mut servers = many(40);
    servers[3].max_conns = 1;
    let group = group(servers, Balance::RoundRobin);
    let mut held: Vec<_> = (0..40).map(|_| group.choose(Key::None, 0).lease().unwrap()).collect();
    assert_eq!(port(&held[3]), 3);
    assert!((0..80).all(|_| next(&group, Key::None) != Some(3)));
    held.remove(3);
    assert!((0..80).any(|_| next(&group, Key::None) == Some(3)));
    assert!((0..80).any(|_| next(&group, Key::None) == Some(3)), "as often as it is free");
}

proptest! {
    /// Whatever the way: no server twice for one request, none that is down, and all others in the end.
    #[test]
    fn each_is_asked_once(
        kind in 0_usize..7,
        servers in proptest::collection::vec((1_u32..5, any::<bool>(), any::<bool>()), 1..90),
        key in "[a-z]{0,4}",
    ) {
        let balance = [
            Balance::RoundRobin,
            Balance::LeastConn,
            Balance::IpHash,
            Balance::Hash { key: Value::default(), consistent: false },
            Balance::Hash { key: Value::default(), consistent: true },
            Balance::Random { two: false },
            Balance::Random { two: true },
        ][kind].clone();
        let mut all = Vec::new();
        for (n, (weight, backup, down)) in servers.iter().enumerate() {
            let (weight, backup, down) = (*weight, *backup && n > 0, *down);
            all.push(UpstreamServer { weight, backup, down, ..server(n as u16) });
        }
        let up: Vec<u16> = (0..).zip(&all).filter(|(_, s)| !s.down).map(|(n, _)| n).collect();
        let group = group(all, balance);
        let key = if kind == 2 { Key::Address(Some([192, 0, 2, 1].into())) } else { text(&key) };
        let mut choice = group.choose(key, 0);
        let mut asked = Vec::new();
        while let Some(lease) = choice.lease() {
            asked.push(port(&lease));
            prop_assert!(asked.len() <= up.len());
        }
        asked.sort_unstable();
        prop_assert_eq!(asked, up);
    }
}
