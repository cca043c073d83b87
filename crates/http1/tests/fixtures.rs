//! Runs the fixtures in `valid/` and `invalid/`; README.md there says how to read them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use http1::{BodyFraming, Limits, Policy, UnderscoreFields, Version};

mod common;
use common::{End, Request, serve};

#[test]
fn valid_streams_are_read_to_their_end() {
    run("valid", 30, |end| assert_eq!(end, &End::Clean));
}

#[test]
fn invalid_streams_are_refused() {
    run("invalid", 60, |end| assert!(matches!(end, End::Head(_) | End::Body(_)), "not refused: {end:?}"));
}

fn run(folder: &str, at_least: usize, check: impl Fn(&End)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "http") {
            continue;
        }
        count += 1;
        let case = Case::parse(&fs::read_to_string(&path).unwrap());
        let outcome = |pieces: Vec<&[u8]>| serve(pieces, &case.limits, &case.policy);
        let whole = outcome(vec![&case.stream]);
        let name = path.display();
        assert_eq!(describe(&whole), case.expected, "\n{name}");
        check(&whole.1);
        assert_eq!(outcome(case.stream.chunks(1).collect()), whole, "\n{name} byte by byte");
        for cut in 0..=case.stream.len() {
            let (a, b) = case.stream.split_at(cut);
            assert_eq!(outcome(vec![a, b]), whole, "\n{name} cut at {cut}");
        }
    }
    assert!(count >= at_least, "only {count} fixtures found");
}

struct Case {
    stream: Vec<u8>,
    limits: Limits,
    policy: Policy,
    expected: String,
}

impl Case {
    fn parse(text: &str) -> Self {
        let (stream, expected) = text.split_once("=>\n").expect("no => line");
        let mut case = Self {
            stream: Vec::new(),
            limits: Limits::default(),
            policy: Policy::default(),
            expected: expected.trim_end().to_owned(),
        };
        for line in stream.lines() {
            if let Some(setting) = line.strip_prefix("#: ") {
                case.set(setting);
            } else if !line.starts_with("# ") {
                unescape(line, &mut case.stream);
            }
        }
        case
    }

    fn set(&mut self, setting: &str) {
        let (name, value) = setting.split_once(' ').unwrap_or((setting, ""));
        let slot = match name {
            "request_line" => &mut self.limits.request_line,
            "fields" => &mut self.limits.fields,
            "field_size" => &mut self.limits.field_size,
            "head" => &mut self.limits.head,
            "trailers" => &mut self.limits.trailers,
            "chunk_extension" => &mut self.limits.chunk_extension,
            "chunk_extensions_total" => &mut self.limits.chunk_extensions_total,
            "bare_lf" => return self.policy.bare_lf = true,
            "unconventional_methods" => return self.policy.unconventional_methods = true,
            "underscore_fields" => {
                self.policy.underscore_fields = match value {
                    "keep" => UnderscoreFields::Keep,
                    "refuse" => UnderscoreFields::Refuse,
                    other => panic!("unknown policy {other}"),
                };
                return;
            }
            other => panic!("unknown setting {other}"),
        };
        *slot = value.parse().unwrap();
    }
}

fn unescape(line: &str, out: &mut Vec<u8>) {
    let mut rest = line.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'\\' {
            out.push(*first);
            rest = after;
            continue;
        }
        let (byte, length) = match after[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'0' => (0, 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(std::str::from_utf8(&after[1..3]).unwrap(), 16).unwrap(), 3),
            b'{' => {
                let end = after.iter().position(|&b| b == b'}').unwrap();
                let (text, times) = std::str::from_utf8(&after[1..end]).unwrap().rsplit_once('*').unwrap();
                let mut unit = Vec::new();
                unescape(text, &mut unit);
                out.extend(unit.repeat(times.parse().unwrap()));
                rest = &after[end + 1..];
                continue;
            }
            other => panic!("unknown escape {}", char::from(other)),
        };
        out.push(byte);
        rest = &after[length..];
    }
}

/// The outcome as a fixture writes it.
fn describe((requests, end): &(Vec<Request>, End)) -> String {
    let mut out = String::new();
    for request in requests {
        describe_request(request, &mut out);
    }
    match end {
        End::Clean => {}
        End::Incomplete => out.push_str("incomplete\n"),
        End::Head(error) => writeln!(out, "{} {error}", error.status()).unwrap(),
        End::Body(error) => writeln!(out, "{} {error}", error.status()).unwrap(),
    }
    out.trim_end().to_owned()
}

fn describe_request(request: &Request, out: &mut String) {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut line = |text: String| writeln!(out, "{}", text.trim_end()).unwrap();
    line(format!("request {} {} {}", text(&request.method), text(&request.target), request.version.as_str()));
    if request.form == "origin" {
        assert_eq!(&request.target[..request.path.len()], &request.path);
    } else {
        line(format!("form {}", request.form));
        line(format!("path {}", text(&request.path)));
    }
    if let Some(query) = &request.query {
        line(format!("query {}", text(query)));
    }
    match &request.host {
        None => line("host none".into()),
        Some(host) => {
            line(format!("host {}", text(host)));
            if let Some(port) = request.port {
                line(format!("port {port}"));
            }
            assert!(request.authority.as_ref().unwrap().starts_with(host));
        }
    }
    for (name, value) in request.fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")) {
        line(format!("field {}: {}", text(name), text(value)));
    }
    for option in &request.options {
        line(format!("option {}", text(option)));
    }
    if request.dropped > 0 {
        line(format!("dropped {}", request.dropped));
    }
    match request.framing {
        BodyFraming::None => {}
        BodyFraming::Length(length) => line(format!("length {length}")),
        BodyFraming::Chunked => line("chunked".into()),
    }
    if request.keep_alive != (request.version == Version::Http11) {
        line(format!("keep-alive {}", if request.keep_alive { "yes" } else { "no" }));
    }
    if request.expect_continue {
        line("expect-continue".into());
    }
    if request.upgrade {
        line("upgrade".into());
    }
    if !request.body.is_empty() {
        line(format!("body {}", text(&request.body)));
    }
    for (name, value) in &request.trailers {
        line(format!("trailer {}: {}", text(name), text(value)));
    }
}
