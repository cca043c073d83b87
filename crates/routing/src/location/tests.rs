use proptest::prelude::*;

use super::*;
use crate::Routing;
use crate::testing::{location, regex, server};

use config::model::http::Http;

/// `= /a`, `/a`, `^~ /a`, `~ pattern`, `~* pattern`, `@name`; with ` >` at its end it redirects to its slash.
fn parse(text: &str, settings: u32) -> model::Location {
    let (text, auto_redirect) = text.strip_suffix(" >").map_or((text, false), |text| (text, true));
    let matcher = match text.split_once(' ') {
        Some(("=", uri)) => Matcher::Exact(uri.into()),
        Some(("^~", uri)) => Matcher::Prefix { uri: uri.into(), without_regex: true },
        Some(("~", pattern)) => Matcher::Regex(regex(pattern)),
        Some(("~*", pattern)) => Matcher::Regex(regex(&format!("~*{pattern}"))),
        _ if text.starts_with('@') => Matcher::Named(text.into()),
        _ => Matcher::Prefix { uri: text.into(), without_regex: false },
    };
    model::Location { auto_redirect, ..location(matcher, settings) }
}

fn add(locations: &mut model::Locations, location: model::Location) {
    match location.matcher {
        Matcher::Regex(_) => locations.regexes.push(location),
        Matcher::Named(_) => locations.named.push(location),
        Matcher::Exact(_) | Matcher::Prefix { .. } => locations.prefixes.push(location),
    }
}

/// Locations, each with those within it; the settings are the places in depth-first order.
struct Block(&'static str, &'static [Block]);

fn build(blocks: &[Block], next: &mut u32) -> model::Locations {
    let mut locations = model::Locations::default();
    for Block(text, inner) in blocks {
        let mut location = parse(text, *next);
        *next += 1;
        location.locations = build(inner, next);
        add(&mut locations, location);
    }
    locations
}

fn routing(locations: model::Locations) -> Routing {
    Routing::compile(&Http { servers: vec![server(locations)], ..Http::default() }.into()).unwrap()
}

/// The settings of the location found, and whether it redirects.
fn find(routing: &Routing, path: &[u8], state: &mut State) -> Option<(u32, bool)> {
    let found = routing.find(0, path, state).unwrap()?;
    Some((routing.location(found.location).unwrap().settings, found.redirect))
}

fn check(blocks: &[Block], cases: &[(&str, Option<u32>)]) {
    let routing = routing(build(blocks, &mut 0));
    for (path, expected) in cases {
        let found = find(&routing, path.as_bytes(), &mut State::new());
        assert_eq!(found, expected.map(|settings| (settings, false)), "{path}");
    }
}

#[test]
fn locations_are_found_as_nginx_documents_it() {
    let blocks = [
        Block("= /", &[]),
        Block("/", &[]),
        Block("/documents/", &[]),
        Block("^~ /images/", &[]),
        Block(r"~* \.(gif|jpg|jpeg)$", &[]),
    ];
    let cases = [
        ("/", Some(0)),
        ("/index.html", Some(1)),
        ("/documents/document.html", Some(2)),
        ("/images/1.gif", Some(3)),
        ("/documents/1.JPG", Some(4)),
        ("/documents", Some(1)),
        ("*", None),
    ];
    check(&blocks, &cases);
}

#[test]
fn an_exact_location_wins_and_the_first_pattern_does() {
    let blocks = [
        Block("/a", &[]),
        Block("= /a", &[]),
        Block("~ /b", &[]),
        Block("~ ^/ab", &[]),
        Block("/abc", &[]),
        Block("= /ab", &[]),
    ];
    let cases = [
        ("/a", Some(1)),
        ("/ax", Some(0)),
        ("/ab", Some(5)),
        ("/abc", Some(3)),
        ("/ab/b", Some(2)),
        ("/Abc", None),
        ("/x", None),
    ];
    check(&blocks, &cases);
}

#[test]
fn nested_locations_are_asked_before_patterns_beside_their_parent() {
    const INNER: &[Block] = &[
        Block("/static/img/", &[]),
        Block(r"~ \.php$", &[Block("~ admin", &[])]),
        Block("= /static/one", &[]),
    ];
    let blocks = [
        Block("/static/", INNER),      // 0; 1, 2 (3 within), 4
        Block(r"~ \.(php|png)$", &[]), // 5
        Block("^~ /safe/", INNER),     // 6; 7, 8 (9 within), 10
        Block("~ ^/re/", &[Block("/re/a", &[]), Block("= /re/exact.png", &[]), Block("~ ^/re/b", &[])]), // 11; 12, 13, 14
    ];
    let cases = [
        ("/static/x", Some(0)),
        ("/static/img/x", Some(1)),
        ("/static/x.php", Some(2)),
        ("/static/admin.php", Some(3)),
        ("/static/one", Some(4)),
        // The inner prefix was found, but a pattern beside the outer one is asked still.
        ("/static/img/x.png", Some(5)),
        ("/static/x.png", Some(5)),
        ("/safe/x.png", Some(6)),
        ("/safe/x.php", Some(8)),
        ("/re/x", Some(11)),
        // Within a pattern nginx finds patterns only.
        ("/re/ab", Some(11)),
        ("/re/b", Some(14)),
        ("/re/exact.png", Some(5)),
    ];
    check(&blocks, &cases);
}

#[test]
fn whether_patterns_are_asked_is_the_outer_locations_word() {
    // `^~` within a location keeps the patterns beside it away, not those beside its parent.
    const INNER: &[Block] = &[Block("^~ /a/b/", &[]), Block("~ x", &[])];
    let blocks = [Block("/a/", INNER), Block("~ y", &[])];
    check(&blocks, &[("/a/b/x", Some(1)), ("/a/x", Some(2)), ("/a/b/y", Some(3)), ("/a/y", Some(3))]);
}

#[test]
fn a_path_that_lacks_its_slash_is_redirected() {
    let blocks = [
        Block("/app/ >", &[]),
        Block("= /exact/ >", &[]),
        Block("/both/ >", &[]),
        Block("= /both", &[]),
        Block("/plain/", &[]),
        Block("/ä b/ >", &[]),
        Block("/a", &[]),
        Block("/app!", &[]),
        Block("~ ^/app$", &[]),
        Block("~ ^/re", &[Block("/re/ >", &[])]),
    ];
    let routing = routing(build(&blocks, &mut 0));
    let cases = [
        ("/app", Some((0, true))),
        ("/app/", Some((0, false))),
        ("/app/x", Some((0, false))),
        ("/exact", Some((1, true))),
        ("/exact/", Some((1, false))),
        ("/both", Some((3, false))),
        ("/plain", None),
        ("/ap", Some((6, false))),
        ("/app!", Some((7, false))),
        ("/re", Some((9, false))),
    ];
    let mut state = State::new();
    for (path, expected) in cases {
        assert_eq!(find(&routing, path.as_bytes(), &mut state), expected, "{path}");
    }
    let found = routing.find(0, "/ä b".as_bytes(), &mut state).unwrap().unwrap();
    assert_eq!(routing.location(found.location).unwrap().redirect, b"/%C3%A4%20b/");
}

#[test]
fn an_exact_location_beside_a_prefix_leads_to_the_slash_too() {
    let blocks =
        [Block("/app/ >", &[Block("/app/in/ >", &[]), Block("= /app/in/", &[])]), Block("= /app/", &[])];
    let routing = routing(build(&blocks, &mut 0));
    for (path, to) in [("/app", "/app/"), ("/app/in", "/app/in/")] {
        let found = routing.find(0, path.as_bytes(), &mut State::new()).unwrap().unwrap();
        assert!(found.redirect, "{path}");
        assert_eq!(routing.location(found.location).unwrap().redirect, to.as_bytes());
    }
}

#[test]
fn named_locations_are_found_by_name_only() {
    let routing = routing(build(&[Block("@app", &[]), Block("/", &[])], &mut 0));
    let id = routing.named(0, b"@app").unwrap().unwrap();
    assert_eq!(routing.location(id).unwrap().kind, Kind::Named);
    assert_eq!(routing.named(0, b"@none"), Ok(None));
    assert_eq!(find(&routing, b"@app", &mut State::new()), None);
}

#[test]
fn only_the_pattern_that_won_leaves_its_groups() {
    let routing = routing(build(&[Block("~ ^/(a)/(x)$", &[]), Block("~ ^/(a)/(.*)$", &[])], &mut 0));
    let mut state = State::new();
    assert_eq!(find(&routing, b"/a/y", &mut state), Some((1, false)));
    assert_eq!(state.captures().group(2), b"y");
}

#[test]
fn limit_except_holds_for_other_methods() {
    let limit = LimitExcept { methods: vec!["GET".into(), "PUT".into()], settings: 0, content: None };
    let concerned = |method: &str| limit.concerns(method.as_bytes());
    assert!(
        !concerned("GET") && !concerned("HEAD") && !concerned("PUT") && concerned("POST") && concerned("get")
    );
}

#[test]
fn a_pattern_that_is_given_up_is_an_error() {
    let routing = routing(build(&[Block("~ ^/(?=(a+)+$)", &[])], &mut 0));
    let path = format!("/{}!", "a".repeat(64));
    assert!(routing.find(0, path.as_bytes(), &mut State::new()).is_err());
}

/// nginx's search, over the model as it stands: whether it is over, the settings, and whether it redirects.
fn naive(locations: &model::Locations, path: &[u8], in_pattern: bool) -> Option<(bool, u32, bool)> {
    let uri = |location: &model::Location| match &location.matcher {
        Matcher::Exact(uri) | Matcher::Prefix { uri, .. } => uri.clone(),
        Matcher::Regex(_) | Matcher::Named(_) => unreachable!("not among prefixes"),
    };
    let is_exact = |location: &model::Location| matches!(location.matcher, Matcher::Exact(_));
    let all = if in_pattern { [].as_slice() } else { locations.prefixes.as_slice() };
    let same = |wanted: &[u8], exact: bool| {
        all.iter().find(|location| uri(location) == wanted && is_exact(location) == exact)
    };
    if let Some(location) = same(path, true) {
        return Some((true, location.settings, false));
    }
    let with_slash = [path, b"/"].concat();
    let (exact, prefix) = (same(&with_slash, true), same(&with_slash, false));
    if same(path, false).is_none()
        && [exact, prefix].into_iter().flatten().any(|location| location.auto_redirect)
    {
        return exact.or(prefix).map(|location| (true, location.settings, true));
    }
    let prefixes = all.iter().filter(|location| !is_exact(location) && path.starts_with(&uri(location)));
    // Of equals the first: the checks let no other through.
    let longest = prefixes.rev().max_by_key(|location| uri(location).len());
    let mut best = None;
    if let Some(outer) = longest {
        match naive(&outer.locations, path, false) {
            Some(found @ (true, ..)) => return Some(found),
            Some(found) => best = Some(found),
            None => best = Some((false, outer.settings, false)),
        }
        if matches!(outer.matcher, Matcher::Prefix { without_regex: true, .. }) {
            return best;
        }
    }
    for location in &locations.regexes {
        let Matcher::Regex(pattern) = &location.matcher else { continue };
        if Regex::compile(pattern).unwrap().is_match(path).unwrap() {
            let inner = naive(&location.locations, path, true).map(|(_, settings, _)| settings);
            return Some((true, inner.unwrap_or(location.settings), false));
        }
    }
    best
}

fn any_locations() -> impl Strategy<Value = model::Locations> {
    let one = r"(= |\^~ )?/[ab/!]{0,5}|/[ab/!]{0,4}/ >|= /[ab]{1,2}/ >|~ \^?[ab/]{1,3}\$?";
    let blocks = prop::collection::vec((one, 0_u32..1000), 0..14).prop_map(|all| {
        let mut locations = model::Locations::default();
        for (text, settings) in all {
            add(&mut locations, parse(&text, settings));
        }
        locations
    });
    blocks.prop_recursive(3, 40, 4, |inner| {
        (inner.clone(), prop::collection::vec(inner, 0..4)).prop_map(|(mut outer, nested)| {
            let places = outer.prefixes.iter_mut().chain(&mut outer.regexes);
            for (place, locations) in places.zip(nested) {
                place.locations = locations;
            }
            outer
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_finds_what_a_search_through_all_finds(
        locations in any_locations(),
        paths in prop::collection::vec(r"/[ab/!]{0,6}\n?", 10),
    ) {
        let routing = routing(locations.clone());
        let mut state = State::new();
        for path in &paths {
            let expected = naive(&locations, path.as_bytes(), false).map(|(_, settings, redirect)| (settings, redirect));
            prop_assert_eq!(find(&routing, path.as_bytes(), &mut state), expected, "{:?}", path);
        }
    }
}
