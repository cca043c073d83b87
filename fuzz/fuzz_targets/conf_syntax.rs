//! Any text is read to its end, every place lies in its text, and what was read reads the same when printed.
#![no_main]

use conf_syntax::{Directives, Limits, MemoryLoader, Parsed, Sources, Span, parse_with_limits, parts, quote};
use libfuzzer_sys::fuzz_target;

// A NUL ends the main file; what follows it is a second one that it can include as `a`.
fuzz_target!(|data: &[u8]| {
    let mut files = data.splitn(2, |&b| b == 0);
    let (main, other) = (files.next().unwrap_or_default(), files.next().unwrap_or_default());
    let (sources, parsed) = read(main, other);
    for error in &parsed.errors {
        let related = error.related.iter().map(|r| r.span);
        error.span.into_iter().chain(related).for_each(|span| check(&sources, span));
    }
    let (mut text, mut is_plain) = (Vec::new(), true);
    print(&sources, parsed.directives(&sources), &mut text, &mut is_plain);
    if is_plain {
        let (again, parsed) = read(&text, b"");
        assert_eq!(parsed.errors, []);
        let mut printed = Vec::new();
        print(&again, parsed.directives(&again), &mut printed, &mut is_plain);
        assert_eq!(printed, text);
    }
});

fn read(main: &[u8], other: &[u8]) -> (Sources, Parsed) {
    let mut loader = MemoryLoader::default();
    loader.insert("main", main);
    loader.insert("a", other);
    let limits = Limits { bytes: 1 << 20, depth: 32, word: 1 << 20, errors: 20, ..Limits::default() };
    let mut sources = Sources::default();
    let parsed = parse_with_limits(&mut sources, "main".as_ref(), &mut loader, limits);
    (sources, parsed)
}

/// Lua blocks are another language, and a word `include` that was recovered would be obeyed.
fn print(sources: &Sources, list: Directives<'_>, out: &mut Vec<u8>, is_plain: &mut bool) {
    for directive in list {
        check(sources, directive.span);
        *is_plain &= directive.name.value != b"include";
        for word in std::iter::once(directive.name).chain(directive.args) {
            check(sources, word.span);
            let _ = parts(word.value).count();
            out.extend_from_slice(&quote(word.value));
            out.push(b' ');
        }
        match directive.block {
            None => out.extend(b";\n"),
            Some(block) => {
                check(sources, block.span);
                *is_plain &= block.raw.is_none();
                out.extend(b"{\n");
                print(sources, block.directives, out, is_plain);
                out.extend(b"}\n");
            }
        }
    }
}

fn check(sources: &Sources, span: Span) {
    assert!(span.start <= span.end && span.end as usize <= sources.text(span.file).len());
    let excerpt = sources.excerpt(span, 2);
    let _ = &excerpt.text[excerpt.range];
    assert!(sources.line_column(span).line >= 1);
}
