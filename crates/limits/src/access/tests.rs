use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn rules(text: &str) -> Vec<AccessRule> {
    text.split(';')
        .filter_map(|rule| rule.trim().split_once(' '))
        .map(|(word, who)| AccessRule {
            deny: word == "deny",
            who: match who {
                "all" => Who::All,
                "unix:" => Who::Unix,
                network => Who::Network(network.parse().unwrap()),
            },
        })
        .collect()
}

fn verdict(text: &str, address: &str) -> Verdict {
    let address = (address != "unix:").then(|| address.parse().unwrap());
    Access::new(&rules(text)).verdict(address)
}

/// nginx's loop over its arrays of rules.
fn scan(rules: &[AccessRule], address: Option<IpAddr>) -> Verdict {
    let is_about_ipv4 = |rule: &&AccessRule| match &rule.who {
        Who::All => true,
        Who::Unix => false,
        Who::Network(network) => network.first().is_ipv4(),
    };
    let address = match address {
        Some(IpAddr::V6(six)) if rules.iter().any(|rule| is_about_ipv4(&rule)) => {
            Some(six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4))
        }
        other => other,
    };
    let fits = |rule: &&AccessRule| match (&rule.who, address) {
        (Who::All, _) | (Who::Unix, None) => true,
        (Who::Unix, Some(_)) | (Who::Network(_), None) => false,
        (Who::Network(network), Some(address)) => match (network.first(), address) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                (0..network.prefix()).all(|bit| (net.to_bits() ^ a.to_bits()) >> (31 - bit) & 1 == 0)
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                (0..network.prefix()).all(|bit| (net.to_bits() ^ a.to_bits()) >> (127 - bit) & 1 == 0)
            }
            _ => false,
        },
    };
    match rules.iter().find(fits) {
        None => Verdict::Undecided,
        Some(rule) if rule.deny => Verdict::Denied,
        Some(_) => Verdict::Allowed,
    }
}

#[test]
fn the_example_of_nginx_documentation() {
    let text = "deny 192.168.1.1; allow 192.168.1.0/24; allow 10.1.1.0/16; allow 2001:0db8::/32; deny all"
        .replace("10.1.1.0/16", "10.1.0.0/16");
    for (address, expected) in [
        ("192.168.1.0", Verdict::Allowed),
        ("192.168.1.1", Verdict::Denied),
        ("192.168.1.2", Verdict::Allowed),
        ("192.168.2.0", Verdict::Denied),
        ("10.1.255.255", Verdict::Allowed),
        ("10.2.0.0", Verdict::Denied),
        ("0.0.0.0", Verdict::Denied),
        ("255.255.255.255", Verdict::Denied),
        ("2001:db8:ffff::1", Verdict::Allowed),
        ("2001:db9::", Verdict::Denied),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Verdict::Denied),
        ("::ffff:192.168.1.2", Verdict::Allowed),
        ("unix:", Verdict::Denied),
    ] {
        assert_eq!(verdict(&text, address), expected, "{address}");
    }
}

#[test]
fn an_earlier_rule_wins_whether_it_is_wider_or_narrower() {
    assert_eq!(verdict("allow 10.0.0.0/8; deny 10.1.0.0/16", "10.1.0.1"), Verdict::Allowed);
    assert_eq!(verdict("deny 10.1.0.0/16; allow 10.0.0.0/8", "10.1.0.1"), Verdict::Denied);
    assert_eq!(verdict("deny 10.1.0.0/16; allow 10.0.0.0/8", "10.2.0.1"), Verdict::Allowed);
    assert_eq!(verdict("deny 10.1.0.0/16; allow 10.1.0.0/16", "10.1.0.1"), Verdict::Denied);
    assert_eq!(verdict("deny 10.1.0.0/16", "10.2.0.1"), Verdict::Undecided);
}

#[test]
fn a_unix_socket_has_rules_of_its_own() {
    assert_eq!(verdict("allow unix:; deny all", "unix:"), Verdict::Allowed);
    assert_eq!(verdict("deny all; allow unix:", "unix:"), Verdict::Denied);
    assert_eq!(verdict("deny 0.0.0.0/0; deny ::/0", "unix:"), Verdict::Undecided);
    assert_eq!(verdict("deny unix:", "::1"), Verdict::Undecided);
}

#[test]
fn a_mapped_address_is_an_ipv6_one_where_no_rule_is_about_ipv4() {
    assert_eq!(verdict("deny ::ffff:0:0/96", "::ffff:10.0.0.1"), Verdict::Denied);
    assert_eq!(verdict("deny ::ffff:0:0/96; allow 127.0.0.1", "::ffff:10.0.0.1"), Verdict::Undecided);
}

#[test]
fn without_rules_nothing_is_decided() {
    assert_eq!(verdict("", "10.0.0.1"), Verdict::Undecided);
    assert_eq!(verdict("", "unix:"), Verdict::Undecided);
}

/// Few distinct bits at both ends, so that networks nest, touch and repeat.
fn network() -> impl Strategy<Value = IpNetwork> {
    let ipv4 = (any::<u8>(), any::<u8>(), 0u8..=32).prop_map(|(high, low, prefix)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let bits = (u32::from(high & 0b1100_0011) << 24 | u32::from(low & 7)) & mask;
        format!("{}/{prefix}", Ipv4Addr::from_bits(bits))
    });
    let ipv6 =
        (any::<u8>(), any::<u8>(), 0u8..=128, any::<bool>()).prop_map(|(high, low, prefix, mapped)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            let high = if mapped { 0xffff << 32 } else { u128::from(high & 0b1100_0011) << 120 };
            format!("{}/{prefix}", Ipv6Addr::from_bits((high | u128::from(low & 7)) & mask))
        });
    prop_oneof![ipv4, ipv6].prop_map(|text| text.parse().unwrap())
}

fn rule() -> impl Strategy<Value = AccessRule> {
    let who = prop_oneof![
        20 => network().prop_map(Who::Network),
        1 => Just(Who::All),
        1 => Just(Who::Unix),
    ];
    (who, any::<bool>()).prop_map(|(who, deny)| AccessRule { who, deny })
}

/// Addresses at the ends of a network, and beside them.
fn edges(network: IpNetwork) -> Vec<IpAddr> {
    match ends(network) {
        Ends::V4(first, last) => [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
            .to_vec(),
        Ends::V6(first, last) => [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
            .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
            .to_vec(),
    }
}

proptest! {
    #[test]
    fn the_stretches_say_what_a_scan_says(rules in prop::collection::vec(rule(), 0..24)) {
        let access = Access::new(&rules);
        prop_assert_eq!(access.verdict(None), scan(&rules, None));
        for rule in &rules {
            let Who::Network(network) = rule.who else { continue };
            for address in edges(network) {
                prop_assert_eq!(access.verdict(Some(address)), scan(&rules, Some(address)), "{}", address);
                if let IpAddr::V4(four) = address {
                    let mapped = Some(IpAddr::V6(four.to_ipv6_mapped()));
                    prop_assert_eq!(access.verdict(mapped), scan(&rules, mapped), "mapped {}", four);
                }
            }
        }
    }
}
