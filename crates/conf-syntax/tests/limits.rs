//! What a run may use, files that cannot be read, and `-g`.

use std::path::Path;

use conf_syntax::{
    Limits, MemoryLoader, Parsed, Sources, SyntaxErrorKind, parse, parse_option, parse_with_limits,
};

fn loader(files: &[(&str, &str)]) -> MemoryLoader {
    let mut loader = MemoryLoader::default();
    for (path, text) in files {
        loader.insert(path, *text);
    }
    loader
}

fn read(files: &[(&str, &str)], limits: Limits) -> (Sources, Parsed) {
    let mut sources = Sources::default();
    let parsed = parse_with_limits(&mut sources, files[0].0.as_ref(), &mut loader(files), limits);
    (sources, parsed)
}

/// Kind, message, and the text underlined.
fn errors(sources: &Sources, parsed: &Parsed) -> Vec<(SyntaxErrorKind, String, String)> {
    let shown = |e: &conf_syntax::SyntaxError| {
        let at = e.span.map(|s| String::from_utf8_lossy(sources.bytes(s)).into_owned());
        (e.kind, e.message.clone(), at.unwrap_or_default())
    };
    parsed.errors.iter().map(shown).collect()
}

#[test]
fn blocks_are_nested_up_to_the_limit() {
    let limits = Limits { depth: 3, ..Limits::default() };
    let (_, parsed) = read(&[("main", "a { b { c { d; } } }")], limits);
    assert!(parsed.errors.is_empty());
    let (sources, parsed) = read(&[("main", "a { b { c { d { e; } f } } } g")], limits);
    let expected = (SyntaxErrorKind::TooDeep, "blocks are nested more than 3 deep".into(), "d {".into());
    assert_eq!(errors(&sources, &parsed), [expected]);
    assert_eq!(parsed.directives(&sources).iter().count(), 1);
}

#[test]
fn blocks_of_an_included_file_count_from_those_around_it() {
    let limits = Limits { depth: 2, ..Limits::default() };
    let (_, parsed) = read(&[("main", "a { b { include x; } }"), ("x", "c { }")], limits);
    assert_eq!(parsed.errors[0].kind, SyntaxErrorKind::TooDeep);
}

#[test]
fn files_include_files_up_to_the_limit() {
    let limits = Limits { include_depth: 2, ..Limits::default() };
    let files = [("main", "include a;"), ("a", "include b; z;"), ("b", "y;")];
    let (sources, parsed) = read(&files, limits);
    let message = "\"b\" is included through more than 1 files".to_owned();
    assert_eq!(errors(&sources, &parsed), [(SyntaxErrorKind::IncludeDepth, message, "b".into())]);
    assert_eq!(parsed.directives(&sources).first().unwrap().name.value, b"z");
}

#[test]
fn includes_that_double_at_each_step_end() {
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let texts: Vec<String> = (1..=40).map(|n| format!("include {n}; include {n};")).collect();
    let mut files: Vec<(&str, &str)> =
        names.iter().map(String::as_str).zip(texts.iter().map(|t| &t[..])).collect();
    files.push(("40", "x;"));
    let limits = Limits { includes: 1000, ..Limits::default() };
    let (sources, parsed) = read(&files, limits);
    let found = errors(&sources, &parsed);
    assert_eq!(
        (found[0].0, &found[0].1[..]),
        (SyntaxErrorKind::TooLarge, "more than 1000 files are included")
    );

    let (_, parsed) = read(&files, Limits { bytes: 10_000, ..Limits::default() });
    assert_eq!(parsed.errors[0].kind, SyntaxErrorKind::TooLarge);
}

#[test]
fn all_texts_together_have_a_limit() {
    let files = [("main", "include a; include a;"), ("a", "x;")];
    assert!(read(&files, Limits { bytes: 25, ..Limits::default() }).1.errors.is_empty());
    for bytes in [24, 22, 20] {
        let (_, parsed) = read(&files, Limits { bytes, ..Limits::default() });
        let expected = format!("the configuration has more than {bytes} bytes, includes counted");
        assert_eq!(parsed.errors.len(), 1);
        assert_eq!(parsed.errors[0].message, expected);
    }
}

#[test]
fn all_words_together_have_a_limit() {
    let files = [("main", "x a; y { z b c; } x;")];
    assert!(read(&files, Limits { words: 7, ..Limits::default() }).1.errors.is_empty());
    let (sources, parsed) = read(&files, Limits { words: 5, ..Limits::default() });
    let message = "the configuration has more than 5 words".to_owned();
    assert_eq!(errors(&sources, &parsed), [(SyntaxErrorKind::TooLarge, message, String::new())]);
}

#[test]
fn words_are_long_up_to_the_limit() {
    let limits = Limits { word: 16, ..Limits::default() };
    assert!(read(&[("main", "x 1234567890123456; '12345678901234';")], limits).1.errors.is_empty());
    let (sources, parsed) = read(&[("main", "x 12345678901234567;")], limits);
    let message = "too long parameter \"1234567890...\" started".to_owned();
    assert_eq!(
        errors(&sources, &parsed),
        [(SyntaxErrorKind::TooLongParameter, message, "1234567890".into())]
    );
    let (sources, parsed) = read(&[("main", "x; y \"a; b; c; d; e; f; g;")], limits);
    let message = "too long parameter, probably missing terminating \"\"\" character".to_owned();
    assert_eq!(errors(&sources, &parsed)[0].1, message);
    assert_eq!(parsed.directives(&sources).iter().count(), 1);
}

#[test]
fn so_many_errors_are_told() {
    let (_, parsed) = read(&[("main", &"};".repeat(1000))], Limits::default());
    assert_eq!(parsed.errors.len(), 101);
    assert_eq!(parsed.errors[100].message, "too many errors, the rest is not read");
}

#[test]
fn the_errors_of_a_file_are_told_once() {
    let (sources, parsed) =
        read(&[("main", "include a; s { include a; }"), ("a", "x y }; include b;")], Limits::default());
    let kinds: Vec<_> = errors(&sources, &parsed).into_iter().map(|(kind, ..)| kind).collect();
    let expected = [SyntaxErrorKind::Unexpected; 3];
    // The brace twice over: it cuts `x y` off, and closes nothing; then the semicolon.
    assert_eq!(kinds[..2], expected[..2]);
    assert_eq!(kinds.last(), Some(&SyntaxErrorKind::Unreadable));
    assert_eq!(kinds.len(), 3);
}

#[test]
fn a_main_file_that_is_missing_has_no_place() {
    let mut sources = Sources::default();
    let parsed = parse(&mut sources, "/etc/site.conf".as_ref(), &mut loader(&[]));
    assert_eq!(parsed.errors.len(), 1);
    assert_eq!(parsed.errors[0].span, None);
    assert_eq!(parsed.errors[0].message, "open() \"/etc/site.conf\" failed (2: No such file or directory)");
    assert_eq!(sources.files().count(), 0);
    assert!(parsed.directives(&sources).is_empty());
}

#[test]
fn includes_are_relative_to_the_main_file_and_read_once() {
    let files = [
        ("/etc/m/site.conf", "include sub/a; include /srv/x; include sub/a; include \"s*/[!a]\";"),
        ("/etc/m/sub/a", "include sub/b;"),
        ("/etc/m/sub/b", "b;"),
        ("/srv/x", "include sub/b;"),
    ];
    let (sources, parsed) = read(&files, Limits::default());
    assert!(parsed.errors.is_empty());
    assert_eq!(parsed.directives(&sources).iter().count(), 4);
    let paths: Vec<&Path> = sources.files().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["/etc/m/site.conf", "/etc/m/sub/a", "/etc/m/sub/b", "/srv/x"].map(Path::new));
}

#[test]
fn an_option_has_no_blocks() {
    let mut sources = Sources::default();
    let mut option = |text: &str| {
        let mut loader = loader(&[("c/extra", "e { f; }")]);
        let parsed = parse_option(&mut sources, text.as_bytes(), "c/main".as_ref(), &mut loader);
        let found = errors(&sources, &parsed).into_iter().map(|(_, message, _)| message).collect::<Vec<_>>();
        (parsed.directives(&sources).iter().count(), found.join(", "))
    };
    assert_eq!(option("daemon off; user a;"), (2, String::new()));
    assert_eq!(option("include extra;"), (1, String::new()));
    assert_eq!(option("daemon off"), (0, "unexpected end of parameter, expecting \";\"".into()));
    assert_eq!(option("user 'a"), (0, "unexpected end of parameter, expecting \";\"".into()));
    assert_eq!(option("a; events {"), (1, "block directives are not supported in -g option".into()));
    assert_eq!(sources.files().count(), 1);
}
