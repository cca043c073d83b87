use config::model::http::{Value, Variable};
use proptest::prelude::*;

use super::*;

/// `$name` in single words, everything else as it stands.
fn format(escape: LogEscape, line: &[&str]) -> LogFormat {
    let part = |text: &&str| match text.strip_prefix('$') {
        Some(name) => Part::Variable(Variable::built_in(name).unwrap()),
        None => Part::Text((*text).into()),
    };
    LogFormat { name: "test".to_owned(), escape, line: Value(line.iter().map(part).collect()) }
}

fn line(format: &LogFormat, mut value: impl FnMut(&Variable) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = b"before\n".to_vec();
    let mut lookup = |variable: &Variable, out: &mut Vec<u8>| {
        let value = value(variable);
        // What a callback left behind before it found out is not written.
        out.extend_from_slice(value.as_deref().unwrap_or(b"rubbish"));
        value.is_some()
    };
    render(format, &mut lookup, &mut out);
    assert!(out.starts_with(b"before\n"));
    out.split_off(7)
}

#[test]
fn combined_is_nginxs() {
    let format = format(
        LogEscape::Default,
        &[
            "$remote_addr",
            " - ",
            "$remote_user",
            " [",
            "$time_local",
            "] \"",
            "$request",
            "\" ",
            "$status",
            " ",
            "$body_bytes_sent",
            " \"",
            "$http_referer",
            "\" \"",
            "$http_user_agent",
            "\"",
        ],
    );
    let line = line(&format, |variable| {
        Some(match variable {
            Variable::RemoteAddr => b"192.0.2.7".to_vec(),
            Variable::TimeLocal => b"24/Nov/2026:16:00:00 +0000".to_vec(),
            Variable::Request => b"GET /caf\xC3\xA9?q=\"\\ HTTP/1.1".to_vec(),
            Variable::Status => b"200".to_vec(),
            Variable::BodyBytesSent => b"1234".to_vec(),
            Variable::Http(name) if name == b"user_agent" => Vec::new(),
            _ => return None,
        })
    });
    assert_eq!(
        line.as_slice(),
        br#"192.0.2.7 - - [24/Nov/2026:16:00:00 +0000] "GET /caf\xC3\xA9?q=\x22\x5C HTTP/1.1" 200 1234 "-" """#
            .iter()
            .chain(b"\n")
            .copied()
            .collect::<Vec<_>>()
    );
}

#[test]
fn each_escape_has_its_own_nothing() {
    for (escape, nothing, odd) in [
        (LogEscape::Default, &b"<->\n"[..], &b"<\\x0A\\x22\\x7F\\xFF>\n"[..]),
        (LogEscape::Json, b"<>\n", b"<\\n\\\"\x7F\\u00FF>\n"),
        (LogEscape::None, b"<>\n", b"<\n\"\x7F\xFF>\n"),
    ] {
        let format = format(escape, &["<", "$uri", ">"]);
        assert_eq!(line(&format, |_| None), nothing);
        assert_eq!(line(&format, |_| Some(Vec::new())), b"<>\n");
        assert_eq!(line(&format, |_| Some(b"\n\"\x7F\xFF".to_vec())), odd);
    }
}

#[test]
fn json_is_nginxs() {
    let format = format(LogEscape::Json, &["$uri"]);
    assert_eq!(
        line(&format, |_| Some(b"\"\\/\n\r\t\x08\x0C\x00\x1F\xC3\xA9".to_vec())),
        b"\\\"\\\\/\\n\\r\\t\\b\\f\\u0000\\u001F\xC3\xA9\n"
    );
}

proptest! {
    #[test]
    fn one_event_is_one_line(one: Vec<u8>, two: Vec<u8>) {
        let format = format(LogEscape::Default, &["$uri", " \"", "$args", "\""]);
        let line = line(&format, |variable| Some(if *variable == Variable::Uri { &one } else { &two }.clone()));
        let (end, text) = line.split_last().unwrap();
        prop_assert_eq!(*end, b'\n');
        prop_assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)));
        // The value cannot leave its quotes either.
        prop_assert_eq!(text.split(|&byte| byte == b'"').count(), 3);
    }

    #[test]
    fn json_stays_json(value: Vec<u8>) {
        let format = format(LogEscape::Json, &["{\"v\":\"", "$uri", "\"}"]);
        let line = line(&format, |_| Some(value.clone()));
        prop_assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(line.len() - 1));
        let parsed: serde_json::Value = serde_json::from_slice(&line).unwrap();
        if let Ok(text) = std::str::from_utf8(&value) {
            prop_assert_eq!(parsed["v"].as_str(), Some(text));
        }
    }

    #[test]
    fn none_changes_nothing(value: Vec<u8>) {
        let format = format(LogEscape::None, &["<", "$uri", ">"]);
        prop_assert_eq!(line(&format, |_| Some(value.clone())), [b"<", value.as_slice(), b">\n"].concat());
    }
}
