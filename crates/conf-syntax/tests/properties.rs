//! What holds for any text.

use conf_syntax::{
    Block, Directives, Limits, MemoryLoader, Parsed, Sources, Span, parse, parse_with_limits, parts, quote,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A directive without its places.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    words: Vec<Vec<u8>>,
    block: Option<Vec<Statement>>,
}

fn read(files: &[(&str, &[u8])]) -> (Sources, Parsed) {
    let mut loader = MemoryLoader::default();
    for (path, text) in files {
        loader.insert(path, *text);
    }
    let mut sources = Sources::default();
    let limits = Limits { bytes: 1 << 20, depth: 16, word: 1 << 16, errors: 20, ..Limits::default() };
    let parsed = parse_with_limits(&mut sources, files[0].0.as_ref(), &mut loader, limits);
    check(&sources, &parsed);
    (sources, parsed)
}

/// Every place lies in its text, and what stands later has the later place.
fn check(sources: &Sources, parsed: &Parsed) {
    for error in &parsed.errors {
        let related = error.related.iter().map(|r| r.span);
        for span in error.span.into_iter().chain(related) {
            check_span(sources, span);
        }
        assert!(!error.message.is_empty());
    }
    check_directives(sources, parsed.directives(sources), None);
}

fn check_directives(sources: &Sources, list: Directives<'_>, parent: Option<Block<'_>>) {
    let mut before: Option<Span> = None;
    for directive in list {
        check_span(sources, directive.span);
        let mut at = directive.span.start;
        for word in std::iter::once(directive.name).chain(directive.args) {
            check_span(sources, word.span);
            assert!(word.span.file == directive.span.file && word.span.start >= at);
            at = word.span.end;
            let _ = parts(word.value).count();
        }
        assert!(directive.head().end == at && at <= directive.span.end);
        if let Some(parent) = parent.filter(|p| p.span.file == directive.span.file) {
            assert!(parent.span.start < directive.span.start && directive.span.end <= parent.span.end);
        }
        if let Some(before) = before.filter(|b| b.file == directive.span.file) {
            // The second holds where a file is included twice.
            assert!(before.end <= directive.span.start || before.start >= directive.span.start);
        }
        before = Some(directive.span);
        if let Some(block) = directive.block {
            check_span(sources, block.span);
            assert!(block.span.start >= at && block.span.end == directive.span.end);
            assert_eq!(sources.bytes(block.span)[0], b'{');
            if let Some(raw) = block.raw {
                check_span(sources, raw);
            }
            check_directives(sources, block.directives, Some(block));
        }
    }
}

fn check_span(sources: &Sources, span: Span) {
    assert!(span.start <= span.end && span.end as usize <= sources.text(span.file).len(), "{span:?}");
    let excerpt = sources.excerpt(span, 2);
    let _ = &excerpt.text[excerpt.range];
    let location = sources.line_column(span);
    assert!(location.line >= 1 && location.column >= 1);
    let _ = sources.line_text(span);
}

fn statements(list: Directives<'_>) -> Vec<Statement> {
    list.iter()
        .map(|d| Statement {
            words: std::iter::once(d.name).chain(d.args).map(|w| w.value.to_vec()).collect(),
            block: d.block.map(|b| statements(b.directives)),
        })
        .collect()
}

fn print(list: &[Statement], out: &mut Vec<u8>) {
    for statement in list {
        for word in &statement.words {
            out.extend_from_slice(&quote(word));
            out.push(b' ');
        }
        match &statement.block {
            None => out.extend(b";\n"),
            Some(inner) => {
                out.extend(b"{\n");
                print(inner, out);
                out.extend(b"}\n");
            }
        }
    }
}

fn printed(list: &[Statement]) -> Vec<u8> {
    let mut text = Vec::new();
    print(list, &mut text);
    text
}

/// Text that meets the lexer's corners far more often than random bytes do.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            " ", "\n", "\r\n", ";", "{", "}", "\"", "'", "\\", "$", "${", "#", ")", "a", "listen 80", "include a;",
            "include b;", "include [ab]*;", "include", "x_by_lua_block {", "[[", "[=[", "]]", "--", "\u{feff}", "é",
        ]).prop_map(|s| s.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-z]{1,8}".prop_map(String::into_bytes),
        "[a-z \\\\\"'{};#$\n\t\r]{0,8}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..6),
    ]
}

fn words() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(word(), 1..4).prop_filter("means more than its words", |words| is_plain_name(&words[0]))
}

fn statement() -> impl Strategy<Value = Statement> {
    let leaf = words().prop_map(|words| Statement { words, block: None });
    leaf.prop_recursive(4, 40, 6, |inner| {
        let block = prop::option::of(vec(inner, 0..6));
        (words(), block).prop_map(|(words, block)| Statement { words, block })
    })
}

/// Neither obeyed nor followed by another language.
fn is_plain_name(name: &[u8]) -> bool {
    name != b"include" && !name.ends_with(b"_by_lua_block")
}

fn is_plain(list: &[Statement]) -> bool {
    list.iter().all(|s| is_plain_name(&s.words[0]) && s.block.as_ref().is_none_or(|b| is_plain(b)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_to_its_end(main in text(), a in text(), b in text()) {
        let (sources, parsed) = read(&[("main", &main), ("a", &a), ("b", &b)]);
        prop_assert!(sources.files().count() <= 3);
        prop_assert!(parsed.errors.len() <= 21);
    }

    #[test]
    fn what_was_read_reads_the_same_when_printed(main in text()) {
        let (sources, parsed) = read(&[("main", &main), ("a", b""), ("b", b"")]);
        let found = statements(parsed.directives(&sources));
        prop_assume!(is_plain(&found));
        let (sources, parsed) = read(&[("main", &printed(&found))]);
        prop_assert_eq!(&parsed.errors, &[]);
        prop_assert_eq!(statements(parsed.directives(&sources)), found);
    }

    #[test]
    fn statements_survive_print_and_parse(list in vec(statement(), 0..6)) {
        let (sources, parsed) = read(&[("main", &printed(&list))]);
        prop_assert_eq!(&parsed.errors, &[]);
        prop_assert_eq!(statements(parsed.directives(&sources)), list);
    }

    #[test]
    fn an_include_is_what_it_includes(list in vec(statement(), 0..6), other in vec(statement(), 0..6), twice: bool) {
        let include: &[u8] = if twice { b"http { include b; include b; }" } else { b"http { include b; }" };
        let main = [&printed(&list), include, &printed(&list)[..]].concat();
        let (sources, parsed) = read(&[("main", &main), ("b", &printed(&other))]);
        prop_assert_eq!(&parsed.errors, &[]);
        prop_assert_eq!(sources.files().count(), 2);

        let inside = if twice { [&other[..], &other].concat() } else { other };
        let http = Statement { words: vec![b"http".to_vec()], block: Some(inside) };
        let inline = [&list[..], &[http], &list].concat();
        prop_assert_eq!(statements(parsed.directives(&sources)), inline);
    }
}

#[test]
fn megabytes_of_braces_are_an_error() {
    for unit in ["{", "a{", "}", ";", "a}", "a;}", "\"a\"b", "\"a\"", "a_by_lua_block{"] {
        let mut loader = MemoryLoader::default();
        loader.insert("main", unit.repeat((32 << 20) / unit.len()));
        let mut sources = Sources::default();
        let parsed = parse(&mut sources, "main".as_ref(), &mut loader);
        assert!(!parsed.errors.is_empty() && parsed.errors.len() <= 101, "{unit}");
    }
}
