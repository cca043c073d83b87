use config::model::http::{
    Condition, Content, Defined, FileTest, If, Op, Rewrite, RewriteFlag, Source, Value, Variable,
};
use exchange::Request;
use proptest::prelude::*;

use super::*;
use crate::testing::{DEFINED, Edge, defined, regex, request, value, variable};

/// `rewrite`, written as in the file.
fn rewrite(pattern: &str, replacement: &str, flag: &str) -> Op {
    let (replacement, keep_args) = match replacement.strip_suffix('?') {
        Some(rest) => (rest, false),
        None => (replacement, true),
    };
    let flag = match flag {
        "last" => RewriteFlag::Last,
        "break" => RewriteFlag::Break,
        "redirect" => RewriteFlag::Redirect,
        "permanent" => RewriteFlag::Permanent,
        _ => RewriteFlag::None,
    };
    Op::Rewrite(Box::new(Rewrite { regex: regex(pattern), replacement: value(replacement), keep_args, flag }))
}

fn set(name: &str, text: &str) -> Op {
    Op::Set { variable: defined(name), value: value(text) }
}

fn returns(status: u16, text: Option<&str>) -> Op {
    Op::Return { status, text: text.map(value) }
}

fn branch(condition: Condition, settings: u32, content: Option<Content>, ops: Vec<Op>) -> Op {
    Op::If(Box::new(If { condition, settings, content, ops }))
}

fn matches(name: &str, pattern: &str, negated: bool) -> Condition {
    Condition::Matches { variable: variable(name), regex: regex(pattern), negated }
}

fn equals(name: &str, text: &str, negated: bool) -> Condition {
    Condition::Equals { variable: variable(name), value: value(text), negated }
}

struct Ran {
    result: Result<Rewritten, RewriteError>,
    request: Request,
    state: State,
    edge: Edge,
}

impl Ran {
    /// Path and arguments as they are then.
    fn uri(&self) -> (&str, &str) {
        (str::from_utf8(&self.request.path).unwrap(), str::from_utf8(&self.request.query).unwrap())
    }

    fn outcome(&self) -> &Outcome {
        &self.result.as_ref().unwrap().outcome
    }

    fn stored(&self, name: &str) -> &str {
        str::from_utf8(self.state.stored(defined(name))).unwrap()
    }
}

fn run(ops: &[Op], mut request: Request) -> Ran {
    let named: Vec<_> =
        DEFINED.iter().map(|name| Defined { name: (*name).to_owned(), source: Source::Stored }).collect();
    let (ops, variables) = (Ops::compile(ops, &named).unwrap(), Variables::compile(&named).unwrap());
    let (mut state, edge) = (State::new(), Edge::default());
    let result = variables.run(&ops, &mut request, &mut state, &edge);
    Ran { result, request, state, edge }
}

fn location(text: &str, status: u16) -> Outcome {
    Outcome::Return { status, answer: Answer::Location(text.into()) }
}

#[test]
fn a_rewrite_replaces_the_path_and_keeps_the_arguments() {
    // Pattern, replacement, query, then path and arguments.
    let cases = [
        ("^/a/(.*)$", "/b/$1", "x=1", "/b/c d", "x=1"),
        ("^/a/(.*)$", "/b/$1?", "x=1", "/b/c d", ""),
        ("^/a/(.*)$", "/b?y=$1", "x=1", "/b", "y=c d&x=1"),
        ("^/a/(.*)$", "/b?y=2?", "x=1", "/b", "y=2"),
        ("^/a/(.*)$", "/b?y=2", "", "/b", "y=2"),
        ("^/a/(.*)$", "/b?y=?z", "x=1", "/b", "y=?z&x=1"),
        ("^/a", "/b?$args", "x=1", "/b", "x=1&x=1"),
        ("^/a", "/b?y=$arg_x?", "x=1", "/b", "y=1"),
        ("^/a", "/b$is_args$args?", "x=1", "/b?x=1", ""),
        ("^/none", "/b", "x=1", "/a/c d", "x=1"),
        ("c", "$uri/more", "", "/a/c d/more", ""),
    ];
    for (pattern, replacement, query, path, args) in cases {
        let ran = run(&[rewrite(pattern, replacement, "last")], request("/a/c d", "/a/c d", query));
        assert_eq!(ran.uri(), (path, args), "{pattern} {replacement}");
        let matched = pattern != "^/none";
        assert_eq!(*ran.outcome(), if matched { Outcome::Again } else { Outcome::Continue });
        let rewritten = ran.result.unwrap();
        assert_eq!((rewritten.rewritten, rewritten.target_changed), (matched, matched));
    }
}

#[test]
fn captures_of_an_escaped_path_are_escaped_in_arguments_and_redirects() {
    let cases = [
        ("/a/(.*)", "/b/$1", "last", "/a%26b%20+%3F", ("/b/&b +?", "")),
        ("/a/(.*)", "/b?y=$1&z=$1", "last", "/a%26b%20+%3F", ("/b", "y=%26b%20%2B%3F&z=%26b%20%2B%3F")),
        ("/a/(.*)", "/b?y=$1", "last", "/a/unescaped", ("/b", "y=&b +?")),
        ("/a/(?<a>.*)", "/b?y=$a", "last", "/a%26b%20+%3F", ("/b", "y=&b +?")),
    ];
    for (pattern, replacement, flag, raw, expected) in cases {
        let ran = run(&[rewrite(pattern, replacement, flag)], request("/a/&b +?", raw, ""));
        assert_eq!(ran.uri(), expected, "{pattern} {replacement}");
    }
    let ran = run(&[rewrite("/a/(.*)", "/b/$1", "redirect")], request("/a/&b +?", "/a%26b%20+%3F", ""));
    // Escaped on the way in, and decoded again up to the question mark where that is harmless.
    assert_eq!(*ran.outcome(), location("/b/&b%20+?", 302));
}

#[test]
fn redirects_decode_what_needs_no_escape_up_to_the_question_mark() {
    let cases = [
        ("/b/%41%2f%20%25", "/b/A/%20%25"),
        ("/b%3Fx%41?%41", "/b?x%41?%41"),
        ("/b?%41", "/b?%41"),
        ("/b%C3%A4", "/b%C3%A4"),
        ("/b%zz%4", "/bzz"),
    ];
    for (replacement, expected) in cases {
        let ran = run(&[rewrite("^", replacement, "permanent")], request("/", "/", ""));
        assert_eq!(*ran.outcome(), location(expected, 301), "{replacement}");
    }
}

#[test]
fn redirects_append_the_arguments() {
    let cases = [
        ("/b", "redirect", "/b?x=1", 302),
        ("/b?y=2", "permanent", "/b?y=2&x=1", 301),
        ("/b?", "permanent", "/b", 301),
        ("/b?y=2?", "redirect", "/b?y=2", 302),
        ("http://example.com$uri", "", "http://example.com/a?x=1", 302),
        ("https://example.com/", "break", "https://example.com/?x=1", 302),
        ("https://example.com/?", "permanent", "https://example.com/", 301),
        ("$scheme://example.com$request_uri?", "last", "http://example.com/a?x=1", 302),
    ];
    for (replacement, flag, expected, status) in cases {
        let ops = [rewrite("^", replacement, flag), returns(500, None)];
        let ran = run(&ops, request("/a", "/a", "x=1"));
        assert_eq!(*ran.outcome(), location(expected, status), "{replacement} {flag}");
        assert_eq!(ran.uri(), ("/a", "x=1"));
    }
}

#[test]
fn flags_decide_what_comes_after_a_rewrite() {
    let then = |flag: &str, more: Vec<Op>| {
        let mut ops = vec![rewrite("^/a", "/b", flag)];
        ops.extend(more);
        run(&ops, request("/a", "/a", ""))
    };
    let cases = [
        (then("last", vec![set("a", "x")]), "/b", Outcome::Again, ""),
        (then("break", vec![set("a", "x")]), "/b", Outcome::Continue, ""),
        (then("", vec![set("a", "x")]), "/b", Outcome::Again, "x"),
        (then("", vec![rewrite("^/b", "/c", ""), set("a", "$uri")]), "/c", Outcome::Again, "/c"),
        (then("", vec![Op::Break, set("a", "x")]), "/b", Outcome::Continue, ""),
        (then("", vec![rewrite("^/b", "/c", "break")]), "/c", Outcome::Continue, ""),
    ];
    for (index, (ran, path, outcome, stored)) in cases.iter().enumerate() {
        assert_eq!(ran.uri().0, *path, "{index}");
        assert_eq!(ran.outcome(), outcome, "{index}");
        assert_eq!(ran.stored("a"), *stored, "{index}");
        assert!(ran.result.as_ref().unwrap().rewritten);
    }
}

#[test]
fn a_path_that_becomes_empty_is_an_error() {
    let ran = run(&[rewrite("^/(.*)$", "$1", "last")], request("/", "/", ""));
    assert_eq!(ran.result, Err(RewriteError::EmptyPath));
}

#[test]
fn a_return_answers_with_text_location_or_page() {
    let cases = [
        (200, Some("hi $uri"), Answer::Text(b"hi /a".to_vec())),
        (200, None, Answer::Text(vec![])),
        (204, None, Answer::Text(vec![])),
        (301, Some("https://x$uri"), Answer::Location(b"https://x/a".to_vec())),
        (302, Some("/b"), Answer::Location(b"/b".to_vec())),
        (303, Some("/b"), Answer::Location(b"/b".to_vec())),
        (304, Some("x"), Answer::Text(b"x".to_vec())),
        (307, Some("/b"), Answer::Location(b"/b".to_vec())),
        (308, Some("/b"), Answer::Location(b"/b".to_vec())),
        (404, None, Answer::Page),
        (404, Some(""), Answer::Page),
        (404, Some("gone"), Answer::Text(b"gone".to_vec())),
        (404, Some("$arg_none"), Answer::Text(vec![])),
        (444, None, Answer::Page),
    ];
    for (status, text, answer) in cases {
        let ran = run(&[returns(status, text), set("a", "x")], request("/a", "/a", ""));
        assert_eq!(*ran.outcome(), Outcome::Return { status, answer }, "{status} {text:?}");
        assert_eq!(ran.stored("a"), "");
    }
}

#[test]
fn conditions_hold_as_documented() {
    let truth = |name: &str| Condition::True(variable(name));
    let file = |test, path: &str, negated| Condition::File { test, path: value(path), negated };
    let cases = [
        (truth("arg_x"), true),
        (truth("arg_zero"), false),
        (truth("arg_none"), false),
        (truth("arg_empty"), false),
        (truth("arg_zeros"), true),
        (equals("arg_x", "1", false), true),
        (equals("arg_x", "1", true), false),
        (equals("arg_x", "$arg_one", false), true),
        (equals("arg_x", "2", true), true),
        (equals("arg_none", "", false), true),
        (matches("uri", "^/(a)", false), true),
        (matches("uri", "~*^/A", false), true),
        (matches("uri", "^/A", false), false),
        (matches("uri", "^/A", true), true),
        (matches("arg_none", "^$", false), true),
        (file(FileTest::File, "/file", false), true),
        (file(FileTest::File, "$uri", true), true),
        (file(FileTest::Directory, "/directory", false), true),
        (file(FileTest::Exists, "/directory", false), true),
        (file(FileTest::Executable, "/directory", false), true),
        (file(FileTest::Executable, "/none", false), false),
    ];
    for (condition, expected) in cases {
        let request = request("/a", "/a", "x=1&one=1&zero=0&empty=&zeros=00");
        let ran = run(&[branch(condition.clone(), 7, None, vec![set("a", "held")])], request);
        assert_eq!(ran.stored("a") == "held", expected, "{condition:?}");
        assert_eq!(ran.result.unwrap().settings, expected.then_some(7));
    }
}

#[test]
fn the_last_if_that_holds_decides_what_holds_from_there_on() {
    let truth = || Condition::True(variable("uri"));
    let never = || Condition::True(variable("arg_none"));
    let ops = [
        branch(truth(), 1, Some(Content::StubStatus), vec![set("a", "1")]),
        branch(truth(), 2, None, vec![set("b", "2")]),
        branch(never(), 3, Some(Content::EmptyGif), vec![returns(403, None)]),
        set("c", "3"),
    ];
    let ran = run(&ops, request("/a", "/a", ""));
    assert_eq!((ran.stored("a"), ran.stored("b"), ran.stored("c")), ("1", "2", "3"));
    let rewritten = ran.result.unwrap();
    assert_eq!((rewritten.settings, rewritten.content), (Some(2), Some(Content::StubStatus)));
    assert!(rewritten.back, "and a server of the location's own answers again");
    let turned = [
        branch(truth(), 2, None, vec![]),
        branch(truth(), 1, Some(Content::StubStatus), vec![]),
        branch(never(), 3, None, vec![]),
    ];
    assert!(!run(&turned, request("/a", "/a", "")).result.unwrap().back);
    assert_eq!((rewritten.outcome, rewritten.rewritten), (Outcome::Continue, false));
}

#[test]
fn what_ends_the_run_inside_an_if_ends_it() {
    let inside = |op: Op| {
        let ops = [branch(Condition::True(variable("uri")), 1, None, vec![op]), set("a", "after")];
        run(&ops, request("/a", "/a", ""))
    };
    for op in [Op::Break, returns(403, None), rewrite("^", "/b", "last"), rewrite("^", "/b", "break")] {
        assert_eq!(inside(op).stored("a"), "");
    }
    assert_eq!(inside(rewrite("^", "/b", "")).stored("a"), "after");
    assert_eq!(*inside(rewrite("^", "/b", "")).outcome(), Outcome::Again);
}

#[test]
fn a_condition_leaves_its_groups_to_what_follows() {
    let ops = [
        branch(matches("uri", "^/(.)(?<b>.)", false), 1, None, vec![set("a", "$1$2")]),
        set("c", "$1"),
        branch(matches("uri", "^none", false), 1, None, vec![]),
        set("d", "<$1>"),
    ];
    let ran = run(&ops, request("/xy", "/xy", ""));
    assert_eq!((ran.stored("a"), ran.stored("b"), ran.stored("c"), ran.stored("d")), ("xy", "y", "x", "<>"));
}

#[test]
fn groups_in_a_set_are_escaped_until_a_rewrite_has_matched() {
    // So it is in nginx, whose engine begins quoting.
    let ops = [
        branch(matches("uri", "^/(.*)$", false), 1, None, vec![]),
        set("a", "$1"),
        rewrite("^/(.*)$", "/$1", ""),
        set("b", "$1"),
    ];
    let ran = run(&ops, request("/x y", "/x%20y", ""));
    assert_eq!((ran.stored("a"), ran.stored("b")), ("x%20y", "x y"));
    let ran = run(&ops, request("/x y", "/x y", ""));
    assert_eq!(ran.stored("a"), "x y");
}

#[test]
fn variables_that_are_there_by_themselves_can_be_set() {
    let ops = [set("args", "y=2"), set("limit_rate", "10$arg_y"), set("a", "$args")];
    let ran = run(&ops, request("/", "/", "x=1"));
    assert_eq!(ran.uri(), ("/", "y=2"));
    assert_eq!(ran.stored("a"), "y=2");
    assert_eq!(ran.edge.set.take(), [(Variable::LimitRate, b"102".to_vec())]);
    let rewritten = ran.result.unwrap();
    assert!(rewritten.target_changed && !rewritten.rewritten);
}

#[test]
fn a_set_sees_what_was_set_before() {
    let ran = run(&[set("a", "1"), set("a", "$a$a"), set("a", "$a$a")], request("/", "/", ""));
    assert_eq!(ran.stored("a"), "1111");
}

#[test]
fn a_pattern_that_is_given_up_is_an_error() {
    let path = format!("/{}!", "a".repeat(64));
    for op in [
        rewrite("^/(?=(a+)+$)", "/b", "last"),
        branch(matches("uri", "^/(?=(a+)+$)", false), 1, None, vec![]),
    ] {
        let ran = run(&[op], request(&path, &path, ""));
        assert!(matches!(ran.result, Err(RewriteError::Match(_))));
    }
}

fn any_op() -> impl Strategy<Value = Op> {
    let pattern = prop::sample::select(vec!["^/(.*)$", "(.)(.)", "^/a", "x$", "(?<a>[a-z]+)", "(?!a)(.)"]);
    let text =
        prop::sample::select(vec!["/", "$1", "/$1?$2", "$uri?", "/b?x=$args", "http://$1", "$a$b", "%41?%4"]);
    let flag = prop::sample::select(vec!["", "", "last", "break", "redirect", "permanent"]);
    let name = prop::sample::select(vec!["a", "b", "args"]);
    let leaf = prop_oneof![
        4 => (pattern.clone(), text.clone(), flag).prop_map(|(pattern, text, flag)| rewrite(pattern, text, flag)),
        3 => (name, text.clone()).prop_map(|(name, text)| set(name, text)),
        1 => (200_u16..500, text).prop_map(|(status, text)| returns(status, Some(text))),
        1 => Just(Op::Break),
    ];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        (pattern.clone(), any::<bool>(), prop::collection::vec(inner, 0..3))
            .prop_map(|(pattern, negated, ops)| branch(matches("uri", pattern, negated), 1, None, ops))
    })
}

proptest! {
    #[test]
    fn no_directives_panic(
        ops in prop::collection::vec(any_op(), 0..8), path in "/[ax%+ ?]{0,5}", raw in "/[ax%+]{0,5}", query in "[x=&]{0,3}",
    ) {
        let ran = run(&ops, request(&path, &raw, &query));
        match ran.result {
            Ok(rewritten) => prop_assert!(rewritten.rewritten || ran.request.path == path.as_bytes()),
            Err(error) => prop_assert_eq!(error, RewriteError::EmptyPath),
        }
    }
}

#[test]
fn values_of_the_tests_are_what_they_look_like() {
    assert_eq!(
        value("a$uri-${b}c$12"),
        Value(vec![
            config::model::http::Part::Text(b"a".to_vec()),
            config::model::http::Part::Variable(Variable::Uri),
            config::model::http::Part::Text(b"-".to_vec()),
            config::model::http::Part::Variable(Variable::Defined(1)),
            config::model::http::Part::Text(b"c".to_vec()),
            config::model::http::Part::Variable(Variable::Capture(1)),
            config::model::http::Part::Text(b"2".to_vec()),
        ])
    );
}
