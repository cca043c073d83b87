use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use config::model::http::{UpstreamQueue, UpstreamServer, Value};
use proptest::prelude::*;

use super::*;

fn server(port: u16) -> UpstreamServer {
    let address = UpstreamAddress::Ip(([127, 0, 0, 1], port).into());
    UpstreamServer::new(format!("127.0.0.1:{port}"), vec![address])
}

fn group(servers: Vec<UpstreamServer>, balance: Balance) -> Arc<Group> {
    Group::new(&Upstream { balance, ..Upstream::new("u".to_owned(), servers) }, &[], 0, false)
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
    // Longer than a busy machine may take for what lies between.
    servers[0].fail_timeout = Duration::from_secs(2);
    servers[0].max_fails = 2;
    let group = group(servers, Balance::RoundRobin);
    let held = group.choose(Key::None, 0).lease().unwrap();
    assert_eq!(port(&held), 0);
    held.failed();
    assert!(held.failed());
    // A round in which it is passed over.
    assert!((0..80).all(|_| next(&group, Key::None) != Some(0)));
    std::thread::sleep(Duration::from_millis(2020));
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

#[test]
fn one_that_came_up_again_starts_slowly() {
    for count in [2, 40] {
        let mut servers = many(count);
        servers[0].slow_start = Duration::from_secs(3600);
        servers[0].fail_timeout = Duration::ZERO;
        let group = group(servers, Balance::RoundRobin);
        let of_first = || (0..400).filter(|_| next(&group, Key::None) == Some(0)).count();
        assert_eq!(of_first(), 400 / usize::from(count));
        let failed = (0..count).find_map(|_| {
            let lease = group.choose(Key::None, 0).lease()?;
            (port(&lease) == 0 && lease.failed()).then_some(lease)
        });
        assert!(failed.is_some());
        std::thread::sleep(Duration::from_millis(5));
        let again = (0..2 * count).find_map(|_| {
            let lease = group.choose(Key::None, 0).lease()?;
            (port(&lease) == 0).then_some(lease)
        });
        std::thread::sleep(Duration::from_millis(5));
        again.unwrap().answered();
        assert!(of_first() <= 3, "it has hardly any of its weight");
    }
}

#[test]
fn the_one_that_answers_sooner_is_next() {
    let which = LeastTime { last_byte: true, inflight: false };
    let group = group(vec![server(1), server(2)], Balance::LeastTime(which));
    let slow = group.choose(Key::None, 0).lease().unwrap();
    let quick = group.choose(Key::None, 0).lease().unwrap();
    assert_eq!((port(&slow), port(&quick)), (1, 2));
    quick.answered();
    drop(quick);
    std::thread::sleep(Duration::from_millis(120));
    slow.answered();
    drop(slow);
    assert!((0..10).all(|_| next(&group, Key::None) == Some(2)));
    let held: Vec<_> = (0..9).filter_map(|_| group.choose(Key::None, 0).lease()).collect();
    assert!(held.iter().any(|lease| port(lease) == 1), "many at once take their time too");
}

#[test]
fn one_that_keeps_others_waiting_is_not_asked() {
    let which = LeastTime { last_byte: false, inflight: true };
    let group = group(vec![server(1), server(2)], Balance::LeastTime(which));
    let held = group.choose(Key::None, 0).lease().unwrap();
    assert_eq!(port(&held), 1);
    std::thread::sleep(Duration::from_millis(60));
    assert!((0..10).all(|_| next(&group, Key::None) == Some(2)));
    held.has_head(200);
    drop(held);
    let peer = &group.members().primary.peers[0];
    assert_eq!(peer.load(), 0);
}

#[test]
fn who_was_there_before_comes_back() {
    let mut servers = vec![server(1), server(2), server(3)];
    servers[1].route = "b".to_owned();
    servers[2].drain = true;
    let route =
        Upstream { sticky: Some(Sticky::Route(Vec::new())), ..Upstream::new("u".to_owned(), servers) };
    let group = Group::new(&route, &[], 0, false);
    let led = |id: &[u8]| {
        let mut choice = group.choose(Key::None, 0);
        choice.lead(id.to_vec());
        port(&choice.lease().unwrap())
    };
    assert!((0..5).all(|_| led(b"b") == 2));
    // What `md5sum` says of 127.0.0.1:3.
    let sid = group.members().primary.peers[2].sid.clone();
    assert_eq!(sid, b"73c418f48cafa3c2b9f36efeb19875f8".to_vec());
    assert!((0..5).all(|_| led(&sid) == 3), "one that is drained keeps those that it has");
    assert!((0..9).all(|_| next(&group, Key::None) != Some(3)), "and gets no others");
    let mut choice = group.choose(Key::None, 0);
    choice.lead(b"b".to_vec());
    let first = choice.lease().unwrap();
    let second = choice.lease().unwrap();
    assert_eq!((port(&first), port(&second)), (2, 1), "when it fails, another is asked");
}

#[test]
fn addresses_come_and_go() {
    let mut named = server(1);
    named.addresses.clear();
    named.resolve = Some(resolve(0, Some("http")));
    let upstream = Upstream::new("u".to_owned(), vec![named, server(9)]);
    let group = Group::new(&upstream, &[], 0, false);
    let found = |ports: &[u16]| -> Vec<Found> {
        let address = |port: &u16| UpstreamAddress::Ip(([127, 0, 0, 1], *port).into());
        ports.iter().map(|port| Found { address: address(port), weight: 1, backup: false }).collect()
    };
    let round = |group: &Arc<Group>| {
        let mut all: Vec<u16> = (0..4).filter_map(|_| next(group, Key::None)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(round(&group), [9]);
    group.set_addresses(0, &found(&[1, 2]));
    assert_eq!(round(&group), [1, 2, 9]);
    let held = group.choose(Key::None, 0).lease().unwrap();
    group.set_addresses(0, &found(&[2, 3]));
    assert_eq!(round(&group), [2, 3, 9]);
    drop(held);
    let after = Group::new(&upstream, std::slice::from_ref(&group), 0, false);
    assert_eq!(round(&after), [2, 3, 9], "until the name was asked for again");
    group.set_addresses(0, &[]);
    assert_eq!(round(&group), [9]);
}

fn resolve(port: u16, service: Option<&str>) -> config::model::http::Resolve {
    config::model::http::Resolve { host: "a".to_owned(), port, service: service.map(str::to_owned) }
}

#[test]
fn addresses_go_on_when_a_reload_changes_the_rest_of_the_server() {
    let named = |port, weight| {
        let mut named = server(port);
        named.addresses.clear();
        (named.resolve, named.weight) = (Some(resolve(port, None)), weight);
        named
    };
    let before = Group::new(&Upstream::new("u".to_owned(), vec![named(80, 1)]), &[], 0, false);
    let address = UpstreamAddress::Ip(([127, 0, 0, 7], 80).into());
    before.set_addresses(0, &[Found { address, weight: 1, backup: false }]);
    let reloaded =
        |servers| Group::new(&Upstream::new("u".to_owned(), servers), &[Arc::clone(&before)], 0, false);
    let after = reloaded(vec![server(1), named(81, 5)]).peers();
    assert_eq!(after[1].address, UpstreamAddress::Ip(([127, 0, 0, 7], 81).into()));
    assert_eq!(after[1].weight, 5);
    let mut other = named(80, 1);
    other.resolve = Some(resolve(0, Some("http")));
    assert!(reloaded(vec![other]).peers().is_empty(), "what a service has is another question");
}

#[test]
fn one_that_is_not_healthy_is_not_asked() {
    for count in [3, 50] {
        let upstream = Upstream::new("u".to_owned(), many(count));
        let group = Group::new(&upstream, &[], 0b10, false);
        let peers = group.peers();
        let asked = || {
            (0..2 * count).filter_map(|_| next(&group, Key::None)).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(asked().is_empty() && group.status()[0].state == "checking");
        group.found_to_be(&peers[0], 0b10, true);
        group.found_to_be(&peers[1], 0b10, true);
        group.found_to_be(&peers[2], 0b10, false);
        assert_eq!(asked().into_iter().collect::<Vec<_>>(), [0, 1]);
        group.found_to_be(&peers[1], 0b1, false);
        group.found_to_be(&peers[2], 0b10, true);
        assert_eq!(asked().into_iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(group.status()[1].state, "unhealthy");
        let after = Group::new(&upstream, std::slice::from_ref(&group), 0b10, true);
        let states: Vec<_> = after.status().iter().take(3).map(|peer| peer.state).collect();
        assert_eq!(states, ["up", "checking", "up"]);
    }
}

proptest! {
    /// Whatever the way: no server twice for one request, none that is down, and all others in the end.
    #[test]
    fn each_is_asked_once(
        kind in 0_usize..9,
        servers in proptest::collection::vec((1_u32..5, any::<bool>(), any::<bool>()), 1..90),
        key in "[a-z]{0,4}",
    ) {
        let balance = [
            Balance::RoundRobin,
            Balance::LeastConn,
            Balance::IpHash,
            Balance::Hash { key: Value::default(), consistent: false },
            Balance::Hash { key: Value::default(), consistent: true },
            Balance::Random { two: false, time: None },
            Balance::Random { two: true, time: None },
            Balance::Random { two: true, time: Some(LeastTime { last_byte: true, inflight: false }) },
            Balance::LeastTime(LeastTime { last_byte: false, inflight: true }),
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

#[test]
fn who_waits_has_a_turn_in_order() {
    let servers = vec![UpstreamServer { max_conns: 1, ..server(1) }];
    let queue = Some(UpstreamQueue { requests: 2, timeout: Duration::from_secs(1) });
    let model = Upstream { queue, ..Upstream::new("u".to_owned(), servers) };
    let group = Group::new(&model, &[], 0, false);
    let mut cx = Context::from_waker(Waker::noop());
    let choice = || group.choose(Key::None, 0);
    let lease = choice().lease().unwrap();
    let (mut first, mut second, mut third) = (choice(), choice(), choice());
    assert!(first.lease().is_none());
    let wait = |choice: &Choice| match choice.queue_up() {
        Waits::Here(place, _) => place,
        other => panic!("{other:?}"),
    };
    let (one, two) = (wait(&first), wait(&second));
    assert!(matches!(third.queue_up(), Waits::Full));
    assert_eq!(group.queued(), Some((2, 2)));
    assert!(one.poll_lease(&mut first, &mut cx).is_pending());
    drop(lease);
    // Neither one that comes now nor the second may overtake.
    assert!(third.lease().is_none() && two.poll_lease(&mut second, &mut cx).is_pending());
    let Poll::Ready(lease) = one.poll_lease(&mut first, &mut cx) else { panic!("no server") };
    drop(one);
    assert!(two.poll_lease(&mut second, &mut cx).is_pending());
    drop(lease);
    assert!(two.poll_lease(&mut second, &mut cx).is_ready());
    drop(two);
    assert!(third.lease().is_some());
    // Nobody waits for what was tried already.
    assert!(matches!(second.queue_up(), Waits::No));
}
