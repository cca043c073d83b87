use proptest::prelude::*;

use super::*;

#[test]
fn a_line_is_gunicorns() {
    let line = gunicorn(0, 42, Level::Info, None, format_args!("Booting {}", "a\nb"), None);
    let line = String::from_utf8(line).unwrap();
    let (time, rest) = line.split_at(27);
    assert!(time.starts_with('[') && time.ends_with(']'), "{time}");
    assert_eq!(rest, " [42] [INFO] Booting a\\nb\n");
}

#[test]
fn a_block_keeps_its_lines() {
    let block = Some("Traceback\n  File \"x\"\x1b\n\n");
    let text = gunicorn(0, 1, Level::Error, None, format_args!("boot failed"), block);
    assert!(text.ends_with(b"[ERROR] boot failed\nTraceback\n  File \"x\"\\x1B\n"));
    let text = nginx(0, (1, 1), Level::Error, None, format_args!("boot failed"), block);
    assert!(text.ends_with(b" [error] 1#1: boot failed\nTraceback\n  File \"x\"\\x1B\n"));
}

/// Without its time.
fn line(level: Level, context: Option<&Context<'_>>, message: fmt::Arguments<'_>) -> String {
    let line = String::from_utf8(nginx(0, (123, 124), level, context, message, None)).unwrap();
    let (time, rest) = line.split_at(19);
    assert!(time.chars().all(|c| c.is_ascii_digit() || "/ :".contains(c)), "{time}");
    rest.to_owned()
}

#[test]
fn a_line_is_nginxs() {
    assert_eq!(line(Level::Notice, None, format_args!("start")), " [notice] 123#124: start\n");
    let context = Context {
        connection: 7,
        client: Some(b"192.0.2.1"),
        server: Some(b"shop.example"),
        request: Some(b"GET /a HTTP/1.1"),
        host: Some(b"shop.example"),
        ..Context::default()
    };
    assert_eq!(
        line(Level::Error, Some(&context), format_args!("open() \"{}\" failed (2: No such file)", "/srv/a")),
        " [error] 123#124: *7 open() \"/srv/a\" failed (2: No such file), client: 192.0.2.1, server: shop.example, \
         request: \"GET /a HTTP/1.1\", host: \"shop.example\"\n"
    );
    let context = Context {
        action: Some("reading response header from upstream"),
        upstream: Some(b"app:shop"),
        referrer: Some(b"http://x/\"\r\n"),
        ..context
    };
    assert_eq!(
        line(Level::Warning, Some(&context), format_args!("gone")),
        " [warn] 123#124: *7 gone while reading response header from upstream, client: 192.0.2.1, server: \
         shop.example, request: \"GET /a HTTP/1.1\", upstream: \"app:shop\", host: \"shop.example\", referrer: \
         \"http://x/\\x22\\x0D\\x0A\"\n"
    );
    let other = gunicorn(0, 9, Level::Alert, Some(&Context::default()), format_args!("x"), None);
    assert!(other.ends_with(b" [9] [CRITICAL] x\n"));
}

proptest! {
    #[test]
    fn no_line_is_forged(message: String, request: Vec<u8>, long in 0_usize..3000) {
        let message = message + &"\u{e9}".repeat(long);
        let context = Context { connection: 1, request: Some(&request), ..Context::default() };
        let line = nginx(0, (1, 1), Level::Error, Some(&context), format_args!("{message}"), None);
        prop_assert!(line.len() <= MOST);
        let text = std::str::from_utf8(&line).unwrap();
        prop_assert!(text.strip_suffix('\n').is_some_and(|text| !text.contains(char::is_control)));
    }
}
