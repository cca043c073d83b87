use proptest::prelude::*;

use super::*;
use crate::DEFAULT_FORMAT;

struct Lines<'a>(&'a [(&'a str, &'a [u8])]);

impl FieldSource for Lines<'_> {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

fn rendered(format: &str, change: impl FnOnce(&mut AccessEvent<'_>)) -> String {
    let request = Lines(&[
        ("Referer", b"http://a/\"x"),
        ("User-Agent", b"curl/8"),
        ("Authorization", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ]);
    let response = Lines(&[("Content-Type", b"text/html")]);
    let mut event = AccessEvent {
        remote: "192.0.2.7:4321".parse().ok(),
        local: "127.0.0.1:8000".parse().ok(),
        scheme: "http",
        method: b"GET",
        target: b"/a%20b?x=1",
        path: b"/a b",
        query: b"x=1",
        version: "HTTP/1.1",
        status: 200,
        bytes: 1234,
        duration: Duration::new(2, 3_456_000),
        queued: Some(Duration::from_micros(15)),
        attempts: 1,
        pid: 77,
        time: 0,
        request_fields: &request,
        response_fields: &response,
    };
    change(&mut event);
    let mut out = Vec::new();
    AccessFormat::compile(format).unwrap().render(&event, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn gunicorns_default_line() {
    let line = rendered(DEFAULT_FORMAT, |_| {});
    let time = &line[line.find('[').unwrap()..=line.find(']').unwrap()];
    assert_eq!(
        line,
        format!(
            "192.0.2.7 - Aladdin {time} \"GET /a%20b?x=1 HTTP/1.1\" 200 1234 \"http://a/\\\"x\" \"curl/8\"\n"
        )
    );
    assert_eq!(time.len(), 28);
}

#[test]
fn a_variable_of_the_application_is_what_its_worker_has_told() {
    const TOLD: Lines<'_> = Lines(&[(":shop.user", b"Ada\n"), ("shop.user", b"a field of the response")]);
    let line = rendered("%({Shop.User}e)s %({none}e)s", |event| event.response_fields = &TOLD);
    assert_eq!(line, "Ada\\x0A -\n");
}

#[test]
fn every_other_atom() {
    assert_eq!(
        rendered("%(m)s|%(U)s|%(q)s|%(H)s|%(b)s|%(B)d|%(T)s|%(D)s|%(M)s|%(L)s|%(p)s", |_| {}),
        "GET|/a b|x=1|HTTP/1.1|1234|1234|2|2003456|2003|2.003456|<77>\n"
    );
    assert_eq!(
        rendered("%({User-Agent}i)s %({none}i)s %({content-type}o)s %({wsgi.url_scheme}e)s", |_| {}),
        "curl/8 - text/html http\n"
    );
    assert_eq!(
        rendered(
            "%({HTTP_USER_AGENT}e)s %({SERVER_PORT}e)s %({REMOTE_ADDR}e)s %(queue)s %(attempts)s",
            |_| {}
        ),
        "curl/8 8000 192.0.2.7 0.000015 1\n"
    );
    assert_eq!(rendered("100%% [%(s)5s] [%(s)-5s]", |_| {}), "100% [  200] [200  ]\n");
}

#[test]
fn what_is_not_known_is_a_dash() {
    let line = rendered("%(h)s %(r)s %(m)s %(U)s %(queue)s", |event| {
        event.remote = None;
        event.method = b"";
        event.path = b"";
        event.queued = None;
    });
    assert_eq!(line, "- - - - -\n");
    assert_eq!(rendered("%(h)s", |e| e.remote = "[::ffff:192.0.2.7]:1".parse().ok()), "192.0.2.7\n");
}

proptest! {
    #[test]
    fn no_request_can_forge_a_line_or_leave_its_quotes(
        method: Vec<u8>, target: Vec<u8>, path: Vec<u8>, query: Vec<u8>, agent: Vec<u8>,
    ) {
        let agent = [("user-agent", agent.as_slice())];
        let agent = Lines(&agent);
        let format = AccessFormat::compile("\"%(r)s\" \"%(U)s\" \"%(q)s\" \"%(a)s\"").unwrap();
        let mut out = Vec::new();
        rendered("", |event| {
            let hostile = AccessEvent {
                method: &method, target: &target, path: &path, query: &query, request_fields: &agent, ..*event
            };
            format.render(&hostile, &mut out);
        });
        assert_one_line(&out);
    }
}

fn assert_one_line(line: &[u8]) {
    let (end, text) = line.split_last().unwrap();
    assert_eq!(*end, b'\n');
    assert!(text.iter().all(|b| matches!(b, b' '..=b'~')));
    // Unescaped quotes: exactly the format's eight.
    let (mut quotes, mut escaped) = (0, false);
    for &byte in text {
        quotes += usize::from(byte == b'"' && !escaped);
        escaped = byte == b'\\' && !escaped;
    }
    assert_eq!(quotes, 8, "{}", String::from_utf8_lossy(text));
}
