use proptest::prelude::*;

use super::*;
use crate::testing::{defined, regex};
use crate::variables::State;

fn compile(pattern: &str) -> Regex {
    Regex::compile(&regex(pattern)).unwrap()
}

/// The groups as texts, if it matches.
fn groups(regex: &Regex, subject: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut captures = Captures::default();
    let matched = regex.captures(subject, &mut captures).unwrap();
    assert_eq!(regex.is_match(subject).unwrap(), matched);
    matched.then(|| (1..=9).map(|number| captures.group(number).to_vec()).collect())
}

fn is_linear(regex: &Regex) -> bool {
    regex.linear().is_some()
}

#[test]
fn patterns_of_everyday_configurations_run_in_linear_time() {
    let patterns = [
        r"\.php$",
        r"~*\.(?:css|js|png|jpe?g|gif|ico|svg|woff2?)$",
        r"^/api/v(\d+)/(.*)$",
        r"^(?<a>[^.]+)\.example\.com$",
        r"(?P<b>\w+)|(?'c'[[:alpha:]]+)",
        r"^/~(.+?)(/.*)?$",
        r"/\.(?#hidden)ht",
        r"^/[\w\-./]{1,64}\Q.(x)\E\h*$",
        r"~*^/(wp-(admin|content|includes)|xmlrpc\.php)",
        r"\.(git|svn|hg)(/|$)",
        r"^/a{,b}$|^/{x}|^/x{2}|\x41\x{42}\075",
        r"[]a-c-]|[^]]|[\d.]|[\]\\]",
        r"(?i)FOO(?-i:bar)|(?s:.)",
        r"|a|",
    ];
    for pattern in patterns {
        let linear = compile(pattern);
        assert_eq!(is_linear(&linear), pattern != r"^/a{,b}$|^/{x}|^/x{2}|\x41\x{42}\075", "{pattern}");
    }
}

#[test]
fn what_only_pcre_knows_runs_there() {
    let cases: &[(&str, &[u8], bool)] = &[
        (r"^/(?!static/)", b"/static/x", false),
        (r"^/(?!static/)", b"/other", true),
        (r"(?<=/)x", b"/x", true),
        (r"(?<!/)x", b"/x", false),
        (r"^/(a|b)/\1$", b"/a/a", true),
        (r"^/(a|b)/\1$", b"/a/b", false),
        (r"^/(?<a>\w)\k<a>$", b"/xx", true),
        (r"^a++b", b"aab", true),
        (r"^a++ab", b"aab", false),
        (r"^(?>a|ab)c", b"abc", false),
        (r"a\Rb", b"a\r\nb", true),
        (r"(?x) a b # comment", b"ab", true),
        (r"(?m)^b", b"a\nb", true),
        (r"^\((?:[^()]|(?R))*\)$|^(x(?1)?y)$", b"xxyy", true),
        (r"^[[:^upper:]]$", b"A", false),
        (r"(*UTF8)^.$", "é".as_bytes(), true),
        (r"^(a|b)?+b", b"bb", true),
        (r"\p{Lu}", b"A", true),
    ];
    for &(pattern, subject, matches) in cases {
        let regex = compile(pattern);
        assert!(!is_linear(&regex), "{pattern}");
        assert_eq!(regex.is_match(subject).unwrap(), matches, "{pattern}");
    }
}

#[test]
fn bytes_are_matched_as_by_pcre_without_utf() {
    let cases: &[(&str, &[u8], bool)] = &[
        // A dollar sign matches at the end, and before a newline there.
        (r"^/a$", b"/a", true),
        (r"^/a$", b"/a\n", true),
        (r"^/a$", b"/a\n\n", false),
        (r"^/a\Z", b"/a\n", true),
        (r"^/a\z", b"/a\n", false),
        (r"^/a$\n", b"/a\n", true),
        // No Unicode: digits, letters, case and the dot are of bytes.
        (r"^\d$", "٣".as_bytes(), false),
        (r"^\w+$", "é".as_bytes(), false),
        (r"~*^É$", "é".as_bytes(), false),
        (r"^.$", "é".as_bytes(), false),
        (r"^..$", "é".as_bytes(), true),
        (r"^é+$", b"\xc3\xa9\xa9", true),
        (r"^.$", b"\n", false),
        (r"^.$", b"\r", true),
        (r"^\xe9$", b"\xe9", true),
        (r"^[^a]$", b"\xff", true),
        (r"^\h$", b"\xa0", true),
        (r"^\v$", b"\x85", true),
        (r"^\s$", b"\x0b", true),
        (r"^\N$", b"\n", false),
        (r"~*^[[:upper:]]$", b"a", true),
        (r"^[[:punct:]]$", b"~", true),
        (r"^/{id}$", b"/{id}", true),
        (r"^a{2,3}$", b"aaa", true),
        (r"^\08$", b"\x008", true),
        (r"^[\b]$", b"\x08", true),
        (r"^a(?i)b|c$", b"C", true),
        (r"x&&y[a&&b]", b"x&&y&", true),
        (r"^\Qa.b\E+$", b"a.bb", true),
        (r"^$", b"", true),
        (r"^$", b"\n", true),
    ];
    for &(pattern, subject, matches) in cases {
        assert_eq!(compile(pattern).is_match(subject).unwrap(), matches, "{pattern} on {subject:?}");
    }
}

#[test]
fn groups_that_took_no_part_are_empty() {
    let regex = compile(r"^/(a)?(b)?(c)$");
    let groups = groups(&regex, b"/bc").unwrap();
    assert_eq!(groups[..4], [b"".to_vec(), b"b".to_vec(), b"c".to_vec(), b"".to_vec()]);
}

#[test]
fn named_groups_set_their_variables_wherever_the_pattern_runs() {
    for pattern in [r"^/(?<a>\w+)/(?<b>x)?", r"^/(?<a>\w+)/(?<b>x)?(?!y)"] {
        let regex = compile(pattern);
        let mut state = State::new();
        assert!(state.execute(&regex, b"/one/two").unwrap());
        assert_eq!(state.captures().group(1), b"one");
        assert_eq!(state.stored(defined("a")), b"one");
        assert_eq!(state.stored(defined("b")), b"");
        assert!(!state.execute(&regex, b"none").unwrap());
        assert_eq!(state.captures().group(1), b"one", "a pattern that does not match changes nothing");
    }
}

#[test]
fn a_pattern_without_groups_leaves_none() {
    let mut state = State::new();
    state.execute(&compile("(a)"), b"a").unwrap();
    state.execute(&compile("a"), b"a").unwrap();
    assert_eq!(state.captures().group(1), b"");
}

#[test]
fn a_tenth_group_can_have_a_name_but_no_number() {
    let mut state = State::new();
    state.execute(&compile(r"(.)(.)(.)(.)(.)(.)(.)(.)(.)(?<a>.)"), b"0123456789").unwrap();
    assert_eq!(state.captures().group(9), b"8");
    assert_eq!(state.captures().group(10), b"");
    assert_eq!(state.captures().group(0), b"");
    assert_eq!(state.stored(defined("a")), b"9");
}

#[test]
fn a_pattern_that_never_ends_is_given_up() {
    let regex = compile(r"^(?=(a+)+$)b");
    let mut subject = vec![b'a'; 64];
    subject.push(b'!');
    let error = regex.is_match(&subject).unwrap_err();
    assert!(error.to_string().contains("given up"), "{error}");
}

#[test]
fn what_is_no_pattern_is_reported_with_pcres_words() {
    for pattern in ["(", "a)", "*a", "[a", "(?<1>a)", r"\", "[[:nope:]]", "a**", r"[a-\d]", "(?<a>x)(?<a>y)"]
    {
        let error = Regex::compile(&regex(pattern)).unwrap_err();
        assert_eq!(error.pattern, pattern);
        assert!(!error.reason.is_empty());
    }
    let error = Regex::compile(&regex("ab(?<1>")).unwrap_err();
    assert!(error.reason.contains("offset 5"), "of the pattern as it stands: {error}");
}

#[test]
fn a_pattern_that_is_no_utf8_matches_its_bytes() {
    let mut model = regex("^(?=.)");
    model.pattern.extend(b"\xff$");
    let regex = Regex::compile(&model).unwrap();
    assert!(regex.is_match(b"\xff").unwrap());
    assert!(!regex.is_match(b"\xfe").unwrap());
}

#[test]
fn many_patterns_give_the_first_that_matches() {
    let many = |count: usize| {
        let mut all: Vec<_> = (0..count).map(|n| compile(&format!("^/{n}(/.*)?$"))).collect();
        all.push(compile("^/(.*)$"));
        PatternList::new(all)
    };
    for count in [3, 50] {
        let list = many(count);
        assert_eq!(list.set.is_some(), count == 50);
        let mut state = State::new();
        assert_eq!(list.first(b"/2/x", &mut state).unwrap(), Some(2));
        assert_eq!(state.captures().group(1), b"/x");
        assert_eq!(list.first(b"/2/x\n", &mut state).unwrap(), Some(2), "$ matches before the newline");
        assert_eq!(state.captures().group(1), b"/x");
        assert_eq!(list.first(b"/other", &mut state).unwrap(), Some(count));
        assert_eq!(list.first(b"other", &mut state).unwrap(), None);
        let long = ["/1/", &"x".repeat(200)].concat();
        assert_eq!(list.first(long.as_bytes(), &mut state).unwrap(), Some(1));
    }
}

/// Patterns of all that both engines share, and much that they do not.
fn any_pattern() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "/", r"\.", "B", "-", "]", "}", "{", "&"]),
        3 => prop::sample::select(vec![".", r"\d", r"\w", r"\W", r"\s", r"\h", r"\V", r"\N", r"\S"]),
        3 => prop::sample::select(vec!["[ab]", "[^a]", "[a-]", "[]a]", "[^]b]", r"[\w.-]", r"[\D]", "[a&&b]", "[[:alpha:]/]", "[[:^digit:]]", "[b[]", r"[\b-a]"]),
        2 => prop::sample::select(vec!["^", "$", r"\A", r"\Z", r"\z", r"\b", r"\B"]),
        1 => prop::sample::select(vec![r"\Qa.\E", r"\x61", r"\x{62}", "(?#c)", "(?i)", "(?-i)", r"\141"]),
    ];
    let leaf = atom.prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        let quantifier =
            prop::sample::select(vec!["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,1}?", "{2,}"]);
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..5).prop_map(|all| all.concat()),
            2 => prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("(?:{})", all.join("|"))),
            3 => prop::collection::vec(inner.clone(), 1..4).prop_map(|all| format!("({})", all.join("|"))),
            3 => (inner.clone(), quantifier.clone()).prop_map(|(inner, q)| format!("({inner}){q}")),
            2 => (inner.clone(), quantifier).prop_map(|(inner, q)| format!("{inner}{q}")),
            1 => inner.prop_map(|inner| format!("(?i:{inner})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever is translated matches the same, group by group, as in PCRE.
    #[test]
    fn the_linear_engine_agrees_with_pcre(
        pattern in any_pattern(),
        caseless: bool,
        subjects in prop::collection::vec(r"[abAB/.\-\]{}& \n1\xE9]{0,8}", 8),
    ) {
        let Some(linear) = Linear::compile(pattern.as_bytes(), caseless) else { return Ok(()) };
        let exact = Backtracking::compile(pattern.as_bytes(), caseless);
        prop_assert!(exact.is_ok(), "{pattern} is translated to {} but {exact:?}", linear.source);
        let groups_of = |engine: Engine, groups: usize| Regex {
            pattern: pattern.as_bytes().into(), caseless, engine, groups, names: Vec::new(),
        };
        let count = linear.regex.captures_len() - 1;
        let exact = exact.unwrap();
        prop_assert_eq!(exact.regex.captures_len() - 1, count);
        let source = linear.source.clone();
        let linear = groups_of(Engine::Linear(Box::new(linear)), count);
        let exact = groups_of(Engine::Backtracking(exact), count);
        for subject in subjects {
            prop_assert_eq!(
                groups(&linear, subject.as_bytes()), groups(&exact, subject.as_bytes()),
                "{} became {}, on {:?}", &pattern, &source, &subject
            );
        }
    }

    /// Any text is translated, compiled by PCRE, or refused.
    #[test]
    fn no_pattern_panics(pattern in prop::collection::vec(any::<u8>(), 0..40), subject: Vec<u8>) {
        let model = model::Regex { pattern, caseless: false, names: Vec::new() };
        if let Ok(regex) = Regex::compile(&model) {
            let _ = regex.captures(&subject, &mut Captures::default());
        }
    }
}
