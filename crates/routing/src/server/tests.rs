use proptest::prelude::*;

use super::*;
use crate::testing::regex;

fn name(text: &str) -> ServerName {
    match text {
        _ if text.starts_with('~') => ServerName::Regex(regex(&text[1..])),
        _ if text.starts_with("*.") => ServerName::Leading(text.into()),
        _ if text.starts_with('.') => ServerName::Dotted(text.into()),
        _ if text.ends_with(".*") => ServerName::Trailing(text.into()),
        _ => ServerName::Exact(text.into()),
    }
}

/// Names get the numbers of their places, the default server is 99.
fn listen(names: &[&str]) -> model::Listen {
    let names = names.iter().enumerate().map(|(index, text)| (name(text), index as ServerId)).collect();
    model::Listen { default_server: 99, names, ..model::Listen::default() }
}

fn find(listens: &Listens, host: &str) -> ServerId {
    listens.listen(0, None).unwrap().find(host.as_bytes(), &mut State::new()).unwrap()
}

#[test]
fn names_are_tried_from_the_most_to_the_least_certain() {
    let names = [
        "example.com",
        "*.example.com",
        "*.com",
        "www.*",
        "www.example.*",
        r"~^(?<a>\w+)\.example\.(?:net|org)$",
        r"~^any\.",
        ".dotted.com",
        "",
        "*.b.example.com",
    ];
    let listens = Listens::compile(&[listen(&names)]).unwrap();
    let cases = [
        ("example.com", 0),
        ("www.example.com", 1),
        ("a.b.c.example.com", 1),
        ("x.b.example.com", 9),
        ("b.example.com", 1),
        ("other.com", 2),
        ("com", 99),
        ("dotted.com", 7),
        ("x.dotted.com", 7),
        ("xdotted.com", 2),
        ("www.org", 3),
        ("www.example.org", 4),
        ("www.example", 3),
        ("www", 99),
        ("any.example.net", 5),
        ("any.example.info", 6),
        ("none.info", 99),
        ("", 8),
        (".example.com", 1),
    ];
    for (host, server) in cases {
        assert_eq!(find(&listens, host), server, "{host}");
    }
}

#[test]
fn a_pattern_of_a_name_leaves_its_groups() {
    let listens = Listens::compile(&[listen(&[r"~^(?<a>\w+)\.(\w+)$"])]).unwrap();
    let mut state = State::new();
    assert_eq!(listens.listen(0, None).unwrap().find(b"one.two", &mut state).unwrap(), 0);
    assert_eq!(state.captures().group(2), b"two");
    assert_eq!(state.stored(crate::testing::defined("a")), b"one");
}

#[test]
fn an_address_of_its_own_comes_before_the_wildcard() {
    let mut wildcard = listen(&["a"]);
    let own = model::Listen { default_server: 7, ..listen(&[]) };
    wildcard.by_address = vec![("127.0.0.1".parse().unwrap(), own)];
    let listens = Listens::compile(&[wildcard]).unwrap();
    let default = |local: Option<&str>| {
        let listen = listens.listen(0, local.map(|address| address.parse().unwrap())).unwrap();
        listen.find(b"none", &mut State::new()).unwrap()
    };
    assert_eq!(default(Some("127.0.0.1")), 7);
    assert_eq!(default(Some("::ffff:127.0.0.1")), 7);
    assert_eq!(default(Some("127.0.0.2")), 99);
    assert_eq!(default(None), 99);
    assert!(listens.listen(1, None).is_none());
}

#[test]
fn hosts_are_checked_and_normalised() {
    let cases: &[(&str, Option<(&str, u16)>)] = &[
        ("example.com", Some(("example.com", 0))),
        ("EXAMPLE.com:8080", Some(("example.com", 8080))),
        ("example.com.", Some(("example.com", 0))),
        ("example.com.:80", Some(("example.com", 80))),
        ("example.com:", Some(("example.com", 0))),
        ("example.com:65535", Some(("example.com", 65535))),
        ("example.com:65536", None),
        ("example.com:x", None),
        ("example.com:80:80", None),
        ("a..b", None),
        ("..", None),
        (".", None),
        ("", None),
        (":80", None),
        (".a", Some((".a", 0))),
        ("a/b", None),
        ("a b", None),
        ("a\\b", None),
        ("a@b", None),
        ("a\0", None),
        ("é", None),
        ("%41", Some(("%41", 0))),
        ("_x~!$&'()*+,;=-", Some(("_x~!$&'()*+,;=-", 0))),
        ("[::1]", Some(("[::1]", 0))),
        ("[2001:DB8::1]:443", Some(("[2001:db8::1]", 443))),
        ("[::1", None),
        ("[::1]x", None),
        ("[::1%lo]", None),
        ("[::1]]", None),
        ("[1..2]", None),
        ("a[b]", None),
        ("127.0.0.1", Some(("127.0.0.1", 0))),
    ];
    for (text, expected) in cases {
        let host = validate_host(text.as_bytes()).ok();
        let found = host.as_ref().map(|host| (str::from_utf8(&host.name).unwrap(), host.port));
        assert_eq!(found, *expected, "{text}");
    }
}

/// What nginx's documentation says, without any table.
fn naive(names: &[&str], host: &str) -> ServerId {
    let matching = |matches: &dyn Fn(&str) -> bool| {
        let found = names.iter().enumerate().filter(|(_, text)| matches(text));
        // The longest, of equals the first.
        found
            .min_by_key(|(_, text)| usize::MAX - text.trim_matches(['*', '.']).len())
            .map(|(n, _)| n as ServerId)
    };
    let exact = names.iter().position(|text| *text == host).map(|n| n as ServerId);
    let leading = || {
        matching(&|text| match text.strip_prefix('*') {
            Some(rest) => host.ends_with(rest),
            None => text.starts_with('.') && (host.ends_with(text) || host == &text[1..]),
        })
    };
    let trailing = || matching(&|text| text.strip_suffix('*').is_some_and(|rest| host.starts_with(rest)));
    exact.or_else(leading).or_else(trailing).unwrap_or(99)
}

proptest! {
    #[test]
    fn tables_find_what_a_search_through_all_names_finds(
        names in prop::collection::vec(r"(\*\.|\.)?[ab](\.[ab]){0,3}|[ab](\.[ab]){0,2}\.\*", 0..12),
        hosts in prop::collection::vec(r"[ab]{1,2}(\.[ab]){0,4}", 10),
    ) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listens = Listens::compile(&[listen(&names)]).unwrap();
        for host in &hosts {
            prop_assert_eq!(find(&listens, host), naive(&names, host), "{} in {:?}", host, &names);
        }
    }

    #[test]
    fn no_host_panics(host: Vec<u8>) {
        if let Ok(host) = validate_host(&host) {
            prop_assert!(!host.name.is_empty() && !host.name.iter().any(u8::is_ascii_uppercase));
        }
    }
}
