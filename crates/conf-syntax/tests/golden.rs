//! Files beside what is expected of them: `valid/*.conf` beside a `.dump` of their directives, `invalid/*.conf`
//! beside their `.errors`, with what could still be made out.
//!
//! `UPDATE_GOLDEN=1 cargo nextest run -p conf-syntax golden` writes the expectations anew; read the difference.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use conf_syntax::{Directives, DiskLoader, Parsed, Quoting, Sources, Span, Word, parse};

#[test]
fn golden_valid() {
    for path in files("tests/valid") {
        let mut sources = Sources::default();
        let parsed = parse(&mut sources, &path, &mut DiskLoader);
        assert!(parsed.errors.is_empty(), "{}", errors(&sources, &parsed));
        let mut dump = String::new();
        directives(&sources, parsed.directives(&sources), 0, &mut dump);
        compare(&path.with_extension("dump"), &dump);
    }
}

#[test]
fn golden_invalid() {
    for path in files("tests/invalid") {
        let mut sources = Sources::default();
        let parsed = parse(&mut sources, &path, &mut DiskLoader);
        assert!(!parsed.errors.is_empty(), "{} has no error", path.display());
        let mut dump = errors(&sources, &parsed);
        dump.push_str("---\n");
        directives(&sources, parsed.directives(&sources), 0, &mut dump);
        compare(&path.with_extension("errors"), &dump);
    }
}

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "conf")).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (number, (found, expected)) in (1..).zip(found.lines().zip(expected.lines())) {
        assert_eq!(found, expected, "{}:{number}", path.display());
    }
    assert_eq!(found.len(), expected.len(), "{}: one is longer", path.display());
}

/// One line for each directive: place, words, and where the block is.
fn directives(sources: &Sources, list: Directives<'_>, depth: usize, out: &mut String) {
    for directive in list {
        write!(out, "{:indent$}{}", "", place(sources, directive.span), indent = depth * 2).unwrap();
        for word in std::iter::once(directive.name).chain(directive.args) {
            write!(out, " {}", shown(word)).unwrap();
        }
        match directive.block {
            Some(block) => {
                write!(out, " {{}} to {}", place(sources, Span { start: block.span.end, ..block.span }))
                    .unwrap();
                if let Some(raw) = block.raw {
                    write!(out, " raw {:?}", String::from_utf8_lossy(sources.bytes(raw))).unwrap();
                }
                out.push('\n');
                directives(sources, block.directives, depth + 1, out);
            }
            None => out.push('\n'),
        }
    }
}

fn shown(word: Word<'_>) -> String {
    let text = word.value.escape_ascii();
    match word.quoted {
        Quoting::None => text.to_string(),
        Quoting::Single => format!("'{text}'"),
        Quoting::Double => format!("\"{text}\""),
    }
}

fn errors(sources: &Sources, parsed: &Parsed) -> String {
    let mut out = String::new();
    for error in &parsed.errors {
        if let Some(span) = error.span {
            let excerpt = sources.excerpt(span, 1);
            writeln!(out, "{} {:?}", place(sources, span), &excerpt.text[excerpt.range]).unwrap();
        }
        writeln!(out, "  {:?}: {error}", error.kind).unwrap();
        if let Some(help) = &error.help {
            writeln!(out, "  help: {help}").unwrap();
        }
        if let Some(related) = &error.related {
            writeln!(out, "  {}: {}", place(sources, related.span), related.label).unwrap();
        }
    }
    out
}

/// With the file's name only; the directory is that of the test.
fn place(sources: &Sources, span: Span) -> String {
    let name = sources.path(span.file).file_name().unwrap_or_default();
    let location = sources.line_column(span);
    format!("{}:{}:{}", name.display(), location.line, location.column)
}
