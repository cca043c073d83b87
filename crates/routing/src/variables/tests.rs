use std::net::SocketAddr;

use config::model::http::{self as model, ServerName};
use proptest::prelude::*;

use super::*;
use crate::testing::{DEFINED, Edge, defined as id, regex, request, value, variable};

/// Defines the first variables of [`DEFINED`]; what is not given is stored.
fn variables(sources: Vec<model::Source>) -> Variables {
    let mut sources = sources.into_iter();
    let defined: Vec<_> = DEFINED
        .iter()
        .map(|name| model::Defined {
            name: (*name).to_owned(),
            source: sources.next().unwrap_or(model::Source::Stored),
        })
        .collect();
    Variables::compile(&defined).unwrap()
}

fn map(input: &str, default: &str) -> model::Map {
    model::Map {
        input: value(input),
        hostnames: false,
        volatile: false,
        default: value(default),
        exact: Vec::new(),
        leading: Vec::new(),
        trailing: Vec::new(),
        regexes: Vec::new(),
    }
}

fn source(map: model::Map) -> model::Source {
    model::Source::Map(Box::new(map))
}

struct Case {
    variables: Variables,
    state: State,
    request: Request,
    edge: Edge,
}

impl Case {
    fn new(sources: Vec<model::Source>, request: Request) -> Self {
        Self { variables: variables(sources), state: State::new(), request, edge: Edge::default() }
    }

    fn text(&mut self, text: &str) -> String {
        let scope = Scope { request: &self.request, environment: &self.edge };
        String::from_utf8(self.variables.text(&value(text), &mut self.state, scope).into_owned()).unwrap()
    }

    /// `None` where there is no such thing.
    fn variable(&mut self, name: &str) -> Option<String> {
        let scope = Scope { request: &self.request, environment: &self.edge };
        let mut out = Vec::new();
        let found = self.variables.variable(&variable(name), &mut self.state, scope, &mut out);
        found.then(|| String::from_utf8(out).unwrap())
    }
}

fn with_fields(fields: &[(&str, &str)]) -> Request {
    let mut request = request("/", "/", "");
    for (name, value) in fields {
        request.fields.push(name.as_bytes(), value.as_bytes());
    }
    request
}

#[test]
fn a_text_without_variables_is_not_copied() {
    let case = Case::new(vec![], Request::default());
    let scope = Scope { request: &case.request, environment: &case.edge };
    let literal = value("literal");
    assert!(matches!(case.variables.text(&literal, &mut State::new(), scope), Cow::Borrowed(b"literal")));
}

#[test]
fn nothing_is_not_the_same_as_an_empty_value() {
    let mut case = Case::new(vec![], with_fields(&[("X-Empty", "")]));
    assert_eq!(case.variable("http_x_empty").as_deref(), Some(""));
    assert_eq!(case.variable("http_x_none"), None);
    assert_eq!(case.variable("args"), None);
    assert_eq!(case.variable("is_args").as_deref(), Some(""));
    assert_eq!(case.variable("status").as_deref(), Some("404"));
    assert_eq!(case.variable("gzip_ratio"), None);
    assert_eq!(case.text("[$http_x_none$status$1]"), "[404]");
}

#[test]
fn the_request_tells_its_own_variables() {
    let mut request = request("/a b", "/a%20b", "x=1&Y=2");
    request.authority = b"Example.COM.:8080".to_vec();
    request.fields.push(b"Content-Length", b"12");
    request.peer.remote = Some(SocketAddr::from(([192, 0, 2, 1], 4711)));
    request.peer.local = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
    let mut case = Case::new(vec![], request);
    let cases = [
        ("uri", "/a b"),
        ("document_uri", "/a b"),
        ("request_uri", "/a%20b?x=1&Y=2"),
        ("request", "GET /a%20b?x=1&Y=2 HTTP/1.1"),
        ("args", "x=1&Y=2"),
        ("query_string", "x=1&Y=2"),
        ("is_args", "?"),
        ("request_method", "GET"),
        ("server_protocol", "HTTP/1.1"),
        ("scheme", "http"),
        ("https", ""),
        ("host", "example.com"),
        ("request_port", "8080"),
        ("is_request_port", ":"),
        ("content_length", "12"),
        ("remote_addr", "192.0.2.1"),
        ("remote_port", "4711"),
        ("server_addr", "127.0.0.1"),
        ("server_port", "80"),
        ("binary_remote_addr", "\u{0}"),
    ];
    for (name, expected) in cases {
        if name == "binary_remote_addr" {
            let mut out = Vec::new();
            assert_eq!(request_variable(&variable(name), &case.request, &mut out), Some(true));
            assert_eq!(out, [192, 0, 2, 1]);
        } else {
            assert_eq!(case.variable(name).as_deref(), Some(expected), "{name}");
        }
    }
    case.request.peer.remote = None;
    assert_eq!(case.variable("remote_addr").as_deref(), Some("unix:"));
    case.request.authority.clear();
    assert_eq!(case.variable("host"), None, "the edge then gives the server's name");
    for (target, uri) in [
        ("http://host/a?b", "/a?b"),
        ("http://host", "/"),
        ("http://host?x", "?x"),
        ("*", "*"),
        ("host:80", "host:80"),
    ] {
        case.request.target = target.into();
        assert_eq!(case.variable("request_uri").as_deref(), Some(uri));
    }
}

#[test]
fn an_argument_is_the_first_of_its_name_in_either_case() {
    let cases = [
        ("a=1&a=2", Some("1")),
        ("A=1", Some("1")),
        ("xa=1&a=2", Some("2")),
        ("a&a=2", Some("2")),
        ("a=", Some("")),
        ("a", None),
        ("ab=1", None),
        ("b=a=1", None),
        ("b=1&&a=x%20y=z", Some("x%20y=z")),
        ("", None),
    ];
    for (query, expected) in cases {
        let mut case = Case::new(vec![], request("/", "/", query));
        assert_eq!(case.variable("arg_a").as_deref(), expected, "{query}");
    }
}

#[test]
fn cookies_are_read_as_nginx_reads_them() {
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["a=1"], Some("1")),
        (&["b=2, a=1"], Some("1")),
        (&["a=1, b=2"], Some("1, b=2")),
        (&["b=2; a=1"], Some("1")),
        (&["b=2;a=1;c=3"], Some("1")),
        (&["A=1"], Some("1")),
        (&["b=2", "a=1; a=3"], Some("1")),
        (&["a = 1; b"], Some("1")),
        (&["a=\"q\""], Some("\"q\"")),
        (&["a="], Some("")),
        (&["ab=1; xa=2"], None),
        (&["a"], None),
        (&["a; a=1"], None),
        (&["a; b; a=1"], Some("1")),
        (&[], None),
    ];
    for (lines, expected) in cases {
        let fields: Vec<_> = lines.iter().map(|line| ("Cookie", *line)).collect();
        let mut case = Case::new(vec![], with_fields(&fields));
        assert_eq!(case.variable("cookie_a").as_deref(), *expected, "{lines:?}");
    }
}

#[test]
fn fields_of_one_name_are_joined() {
    let fields =
        [("X-A", "1"), ("Cookie", "c=1"), ("x-a", "2"), ("Cookie", "d=2"), ("Content-Type", "text/plain")];
    let mut case = Case::new(vec![], with_fields(&fields));
    assert_eq!(case.variable("http_x_a").as_deref(), Some("1, 2"));
    assert_eq!(case.variable("http_cookie").as_deref(), Some("c=1; d=2"));
    assert_eq!(case.variable("content_type").as_deref(), Some("text/plain"));
    assert_eq!(case.variable("content_length"), None);
}

#[test]
fn a_map_tries_strings_then_wildcards_then_patterns() {
    let mut table = map("$arg_x", "none");
    table.hostnames = true;
    table.exact = vec![(b"one".to_vec(), value("exact")), (Vec::new(), value("empty"))];
    table.leading = vec![
        (ServerName::Leading(b"*.example.com".to_vec()), value("leading")),
        (ServerName::Dotted(b".example.org".to_vec()), value("dotted")),
    ];
    table.trailing = vec![(ServerName::Trailing(b"www.*".to_vec()), value("trailing"))];
    table.regexes =
        vec![(regex(r"^/(\w+)/(?<b>\w+)"), value("$2-$b-$1")), (regex("~*^/x"), value("caseless"))];
    let mut case = Case::new(vec![source(table)], Request::default());
    let cases = [
        ("x=one", "exact"),
        ("x=ONE", "exact"),
        ("x=one.", "exact"),
        ("x=", "empty"),
        ("", "empty"),
        ("x=a.Example.com", "leading"),
        ("x=example.com", "none"),
        ("x=example.org", "dotted"),
        ("x=www.net.", "trailing"),
        ("x=/Foo/Bar", "Bar-Bar-Foo"),
        ("x=/X", "caseless"),
        ("x=other", "none"),
    ];
    for (query, expected) in cases {
        case.request.query = query.into();
        case.state.clear();
        assert_eq!(case.variable("a").as_deref(), Some(expected), "{query}");
    }
}

#[test]
fn what_a_map_gave_is_kept_unless_it_is_volatile() {
    let volatile = model::Map { volatile: true, ..map("$arg_x", "$arg_x") };
    let mut case =
        Case::new(vec![source(map("$arg_x", "$arg_x")), source(volatile)], request("/", "/", "x=1"));
    assert_eq!(case.text("$a$b"), "11");
    case.request.query = b"x=2".to_vec();
    assert_eq!(case.text("$a$b"), "12");
    case.state.store(id("b"), b"set");
    assert_eq!(case.text("$a$b"), "1set");
    case.state.clear();
    assert_eq!(case.text("$a$b"), "22");
}

#[test]
fn what_is_made_of_the_body_is_known_by_whatever_way() {
    let is_of_body = |by_value: &str, text| {
        let mut chooses = map("$arg_x", "none");
        chooses.exact = vec![(b"1".to_vec(), value(by_value))];
        let sources = [map("$b", "$b"), chooses, map("$request_body", "yes")];
        Case::new(sources.map(source).into(), Request::default()).variables.is_of_body(&value(text))
    };
    assert!(is_of_body("", "$request_body") && is_of_body("", "$uri$c"));
    assert!(is_of_body("[$c]", "$b") && is_of_body("[$c]", "$a"));
    assert!(!is_of_body("[$a]", "$a$b$uri$arg_x"), "a cycle is none");
}

#[test]
fn a_cycle_is_reported_and_ends() {
    let mut case = Case::new(vec![source(map("$b", "a$b$b")), source(map("$a", "b$a"))], Request::default());
    assert_eq!(case.text("$a"), "abb");
    let errors = case.edge.errors.take();
    assert!(errors.iter().all(|error| error == "cycle while evaluating variable \"a\""), "{errors:?}");
    assert!(!errors.is_empty());
}

#[test]
fn a_pattern_of_a_map_that_is_given_up_leads_to_the_default() {
    let mut table = map("$uri", "default");
    table.regexes = vec![(regex(r"^(?=(a+)+$)b"), value("never"))];
    let path = format!("{}!", "a".repeat(64));
    let mut case = Case::new(vec![source(table)], request(&path, "/", ""));
    assert_eq!(case.text("$a"), "default");
    assert!(case.edge.errors.take()[0].contains("given up"));
}

#[test]
fn stored_variables_are_nothing_or_empty_before() {
    let mut case = Case::new(vec![], Request::default());
    assert_eq!(case.variable("a"), None);
    case.variables.assume_empty([id("a"), id("b")].into_iter());
    case.variables.assume_absent([id("b")].into_iter());
    assert_eq!(case.variable("a").as_deref(), Some(""));
    assert_eq!(case.variable("b"), None);
    case.state.store(id("a"), b"x");
    case.state.store(id("a"), b"longer");
    assert_eq!(case.variable("a").as_deref(), Some("longer"));
    case.state.clear();
    assert_eq!(case.variable("a").as_deref(), Some(""));
}

#[test]
fn split_clients_hashes_as_nginx_does() {
    // What nginx's own function gives.
    for (text, hash) in [
        ("", 0),
        ("a", 0x9268_5f5e),
        ("ab", 0x1aa1_4063),
        ("abc", 0x1357_7c9b),
        ("test", 0x1812_752e),
        ("192.0.2.1", 0xc8da_48f3),
    ] {
        let found = split::murmur_hash2(text.as_bytes());
        assert_eq!(found, hash, "{text}: {found:#x}");
    }
}

#[test]
fn split_clients_gives_each_value_its_share() {
    let split = model::SplitClients {
        input: value("$arg_x"),
        parts: vec![
            (Some(50), value("half a percent")),
            (Some(2000), value("a fifth")),
            (None, value("rest")),
        ],
    };
    let compiled = SplitClients::compile(&split);
    let mut counts = [0_u32; 3];
    let mut case = Case::new(vec![model::Source::SplitClients(Box::new(split))], Request::default());
    for n in 0..10_000 {
        case.request.query = format!("x=client{n}").into();
        case.state.clear();
        let index =
            ["half a percent", "a fifth", "rest"].iter().position(|part| *part == case.text("$a")).unwrap();
        counts[index] += 1;
    }
    assert!((30..80).contains(&counts[0]) && (1900..2100).contains(&counts[1]), "{counts:?}");
    assert!(format!("{compiled:?}").contains(&(21_474_836_u32 + 858_993_459).to_string()), "{compiled:?}");
}

#[test]
fn split_clients_puts_clients_where_nginx_put_them() {
    let split = |parts: &[(Option<u32>, &str)]| {
        let parts = parts.iter().map(|(share, text)| (*share, value(text))).collect();
        model::Source::SplitClients(Box::new(model::SplitClients { input: value("$arg_x"), parts }))
    };
    let sources = vec![
        split(&[(Some(50), "half"), (Some(2000), "fifth"), (None, "rest")]),
        split(&[(Some(3333), "x"), (Some(6667), "y")]),
    ];
    let mut case = Case::new(sources, Request::default());
    let expected = [
        "rest y", "rest y", "rest y", "fifth x", "fifth x", "rest x", "rest y", "fifth x", "rest y",
        "rest y", "fifth x", "rest y",
    ];
    for (client, expected) in expected.into_iter().enumerate() {
        case.request.query = format!("x=client{client}").into();
        case.state.clear();
        assert_eq!(case.text("$a $b"), expected, "client{client}");
    }
}

#[test]
fn split_clients_that_share_out_everything_leave_no_gap() {
    let parts = vec![(Some(3333), value("x")), (Some(6667), value("y"))];
    let split = SplitClients::compile(&model::SplitClients { input: value("$uri"), parts });
    assert!(format!("{split:?}").contains("(None, "), "the last takes what rounding leaves: {split:?}");
    let partial = model::SplitClients { input: value("$uri"), parts: vec![(Some(1), value("x"))] };
    let mut case = Case::new(vec![model::Source::SplitClients(Box::new(partial))], request("/a", "/a", ""));
    assert_eq!(case.variable("a").as_deref(), Some(""));
}

fn geo(networks: &[(&str, &str)]) -> model::Geo {
    model::Geo {
        address: None,
        networks: networks
            .iter()
            .map(|(net, value)| (net.parse().unwrap(), value.as_bytes().to_vec()))
            .collect(),
        ranges: Vec::new(),
        default: b"default".to_vec(),
        proxies: Vec::new(),
        proxy_recursive: false,
        volatile: false,
    }
}

fn geo_value<'g>(geo: &'g Geo, address: &str) -> &'g str {
    str::from_utf8(geo.value(address.parse().ok())).unwrap()
}

#[test]
fn geo_takes_the_longest_network() {
    let geo = Geo::compile(&geo(&[
        ("10.0.0.0/8", "ten"),
        ("10.1.0.0/16", "ten.one"),
        ("10.1.2.3/32", "host"),
        ("10.1.2.3/32", "host again"),
        ("2001:db8::/32", "six"),
        ("255.255.255.255/32", "nobody"),
        ("::/1", "low six"),
    ]));
    let cases = [
        ("10.2.0.1", "ten"),
        ("10.1.0.0", "ten.one"),
        ("10.1.255.255", "ten.one"),
        ("10.1.2.3", "host again"),
        ("10.1.2.4", "ten.one"),
        ("11.0.0.0", "default"),
        ("::ffff:10.1.2.3", "host again"),
        ("2001:db8:1::1", "six"),
        ("2001:db9::", "low six"),
        ("ffff::", "default"),
        ("no address", "nobody"),
    ];
    for (address, value) in cases {
        assert_eq!(geo_value(&geo, address), value, "{address}");
    }
}

#[test]
fn geo_ranges_include_both_ends() {
    let mut model = geo(&[]);
    let range = |first: &str, last: &str, value: &str| {
        (first.parse().unwrap(), last.parse().unwrap(), value.as_bytes().to_vec())
    };
    model.ranges = vec![
        range("10.0.0.0", "10.0.0.255", "low"),
        range("10.0.0.7", "10.0.0.8", "inner"),
        range("10.0.1.0", "10.0.1.0", "one"),
    ];
    let geo = Geo::compile(&model);
    let cases = [
        ("10.0.0.6", "low"),
        ("10.0.0.7", "inner"),
        ("10.0.0.8", "inner"),
        ("10.0.0.9", "low"),
        ("10.0.0.255", "low"),
        ("10.0.1.0", "one"),
        ("10.0.1.1", "default"),
        ("9.255.255.255", "default"),
        ("::1", "default"),
    ];
    for (address, value) in cases {
        assert_eq!(geo_value(&geo, address), value, "{address}");
    }
}

#[test]
fn geo_looks_behind_proxies() {
    let mut model = geo(&[("192.0.2.1/32", "client"), ("10.0.0.0/8", "proxy")]);
    model.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let mut request =
        with_fields(&[("X-Forwarded-For", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2, 10.0.0.3")]);
    request.peer.remote = Some(SocketAddr::from(([10, 0, 0, 1], 1)));
    let recursive = model::Geo { proxy_recursive: true, ..model.clone() };
    let by_variable = model::Geo { address: Some(variable("arg_ip")), ..geo(&[("192.0.2.1/32", "client")]) };
    let sources = [model, recursive, by_variable].map(|geo| model::Source::Geo(Box::new(geo)));
    let mut case = Case::new(sources.into(), request);
    case.request.query = b"ip=192.0.2.1".to_vec();
    assert_eq!(case.text("$a, $b, $c"), "proxy, client, client");
    case.state.clear();
    case.request.peer.remote = Some(SocketAddr::from(([11, 0, 0, 1], 1)));
    case.request.query = b"ip=nonsense".to_vec();
    assert_eq!(case.text("$a, $b, $c"), "default, default, default");
}

#[test]
fn what_a_geo_gave_is_kept_unless_it_is_volatile() {
    let kept = model::Geo {
        address: Some(variable("arg_ip")),
        ..geo(&[("192.0.2.1/32", "1"), ("192.0.2.2/32", "2")])
    };
    let volatile = model::Geo { volatile: true, ..kept.clone() };
    let sources = [kept, volatile].map(|geo| model::Source::Geo(Box::new(geo)));
    let mut case = Case::new(sources.into(), request("/", "/", "ip=192.0.2.1"));
    assert_eq!(case.text("$a$b"), "11");
    case.request.query = b"ip=192.0.2.2".to_vec();
    assert_eq!(case.text("$a$b"), "12");
}

#[test]
fn forwarded_addresses_are_read_from_the_right() {
    let cases: &[(&[&str], bool, &str)] = &[
        (&["192.0.2.1"], false, "192.0.2.1"),
        (&["192.0.2.1,10.0.0.2"], false, "10.0.0.2"),
        (&["192.0.2.1,10.0.0.2"], true, "192.0.2.1"),
        (&["192.0.2.9, 192.0.2.1 , 10.0.0.2 "], true, "192.0.2.1"),
        (&["nonsense, 10.0.0.2"], true, "10.0.0.2"),
        (&["nonsense"], true, "10.0.0.1"),
        (&[""], true, "10.0.0.1"),
        (&["192.0.2.1", ""], true, "10.0.0.1"),
        (&["192.0.2.1", "10.0.0.2"], true, "192.0.2.1"),
        (&["192.0.2.1", "10.0.0.2"], false, "10.0.0.2"),
        (&["192.0.2.1", ", 10.0.0.2"], true, "10.0.0.2"),
        (&["192.0.2.1:80"], true, "192.0.2.1"),
        (&["[2001:db8::1]:80"], true, "2001:db8::1"),
        (&["[2001:db8::1]"], true, "2001:db8::1"),
        (&["2001:db8::1"], true, "2001:db8::1"),
        (&["192.0.2.1:0"], true, "10.0.0.1"),
        (&["192.0.2.1:+1"], true, "10.0.0.1"),
        (&["10.0.0.3, 10.0.0.2"], true, "10.0.0.3"),
    ];
    let proxies = ["10.0.0.0/8".parse().unwrap()];
    for (lines, recursive, expected) in cases {
        let lines = lines.iter().rev().map(|line| line.as_bytes());
        let address = forwarded_address("10.0.0.1".parse().unwrap(), lines.clone(), &proxies, *recursive);
        assert_eq!(address.to_string(), *expected, "{:?}", lines.collect::<Vec<_>>());
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "x",
        "/",
        "${uri}",
        "${args}",
        "${a}",
        "${b}",
        "${c}",
        "${d}",
        "$1",
        "$9",
        "${http_x}",
        "${cookie_y}",
        "${arg_z}",
        "${host}",
        "${status}",
        "${request}",
        "${request_uri}",
        "${remote_addr}",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn geo_finds_what_a_search_through_all_networks_finds(
        networks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..24),
        addresses: Vec<u32>,
    ) {
        let mut model = geo(&[]);
        for (index, (address, prefix)) in networks.iter().enumerate() {
            // Few addresses, so that networks lie in each other.
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            let network = std::net::Ipv4Addr::from_bits(address & 0xE007_0001 & mask);
            model.networks.push((format!("{network}/{prefix}").parse().unwrap(), format!("{index}").into()));
        }
        let compiled = Geo::compile(&model);
        for address in addresses.iter().map(|address| address & 0xE00F_0003) {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(address));
            let containing = model.networks.iter().filter(|(network, _)| network.contains(address));
            let expected = containing.max_by_key(|(network, _)| network.prefix());
            let expected = expected.map_or(model.default.as_slice(), |(_, value)| value);
            prop_assert_eq!(compiled.value(Some(address)), expected);
        }
    }

    #[test]
    fn no_text_panics(
        texts in prop::collection::vec(any_text(), 8),
        query in "[a-z=&;]{0,12}", cookie in "[y=; ]{0,12}", path in "[/a-z%]{0,8}", target in "[:/a-z?]{0,12}",
    ) {
        let maps = texts.chunks_exact(2).map(|two| {
            let mut table = map(&two[0], &two[1]);
            table.regexes.push((regex("(?<a>.)(.)"), value(&two[0])));
            table.volatile = two[0].len() % 2 == 0;
            source(table)
        });
        let mut request = request(&path, &target, &query);
        request.fields.push(b"Cookie", cookie.as_bytes());
        let mut case = Case::new(maps.collect(), request);
        case.state.execute(&crate::Regex::compile(&regex("(.)(/)?")).unwrap(), path.as_bytes()).unwrap();
        for text in &texts {
            case.text(text);
        }
    }
}
