//! PEP 3333, with `wsgiref.validate` around every application.

mod support;

use std::io::{Read, Seek, Write};

use bridge::edge::BodyPart;
use serde_json::json;
use support::{Ask, Site, with_each_python};

/// One application for all: the path chooses the function.
const APP: &str = r#"
import json, sys, io, gzip
from wsgiref.validate import validator

HELLO = [("Content-Type", "text/plain"), ("Content-Length", "5")]
PLAIN = [("Content-Type", "text/plain")]
closed = []
kept = []

def hello(environ, start_response):
    start_response("200 OK", list(HELLO))
    return [b"hello"]

def environ_(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [json.dumps({k: v if isinstance(v, (str, bool, int, tuple)) else repr(type(v)) for k, v in environ.items()}).encode()]

def no_length(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [b"12345678"]

def reads(environ, start_response):
    stream = environ["wsgi.input"]
    got = [stream.read(0), stream.readline(), stream.readline(3), stream.read(4), next(iter(stream)), stream.readlines(1), stream.readlines()]
    got += [stream.read(5), stream.readline(5), stream.readlines(5)]
    start_response("200 OK", list(PLAIN))
    return [json.dumps([x.decode() if isinstance(x, bytes) else [y.decode() for y in x] for x in got]).encode()]

def echo(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]

def lines(environ, start_response):
    start_response("200 OK", list(PLAIN))
    count = sum(1 for _ in environ["wsgi.input"].readlines(-1))
    return [str(count).encode()]

def generator(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b""
    yield b"one "
    yield b""
    yield b"two"

def big(environ, start_response):
    start_response("200 OK", list(PLAIN))
    for i in range(64):
        yield bytes([65 + i % 26]) * 20000

def writes(environ, start_response):
    write = start_response("200 OK", list(PLAIN))
    write(b"written ")
    return [b"returned"]

def empty(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return []

def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []

def raises(environ, start_response):
    raise ValueError("no %s luck")

def raises_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"half"
    raise ValueError("late")

def replaces(environ, start_response):
    start_response("200 OK", list(PLAIN))
    try:
        raise ValueError
    except ValueError:
        start_response("503 Busy", [("Content-Type", "text/x")], sys.exc_info())
    return [b"replaced"]

def replaces_late(environ, start_response):
    start_response("200 OK", list(PLAIN))
    yield b"half"
    try:
        raise KeyError("the first cause")
    except KeyError:
        start_response("503 Busy", list(PLAIN), sys.exc_info())

def twice(environ, start_response):
    start_response("200 OK", list(PLAIN))
    start_response("200 OK", list(PLAIN))
    return [b"x"]

def never(environ, start_response):
    return [b"x"]

def too_many(environ, start_response):
    start_response("200 OK", list(HELLO))
    return [b"hel", b"lo world"]

def too_few(environ, start_response):
    start_response("200 OK", list(HELLO))
    return [b"he"]

def header(environ, start_response):
    name, value = json.loads(environ["wsgi.input"].read())
    start_response("200 OK", [(name, value)])
    return [b""]

def status(environ, start_response):
    start_response(json.loads(environ["wsgi.input"].read()), [])
    return [b""]

class Result:
    def __init__(self, pieces):
        self.pieces = iter(pieces)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.pieces)
    def close(self):
        closed.append(1)

def closes(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return Result([b"a", b"b"])

def closes_on_error(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return Result(["no bytes"])

def closed_(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return [str(len(closed)).encode()]

def keeps(environ, start_response):
    kept.append(start_response)
    kept.append(start_response("200 OK", list(PLAIN)))
    return [b"kept"]

def uses_kept(environ, start_response):
    errors = []
    for call in (lambda: kept[1](b"x"), lambda: kept[0]("200 OK", [])):
        try:
            call()
        except RuntimeError as error:
            errors.append(str(error))
    start_response("200 OK", list(PLAIN))
    return ["; ".join(errors).encode()]

def file_(environ, start_response):
    file = open("payload", "rb")
    file.read(3)
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](file, 4096)

def file_part(environ, start_response):
    file = open("payload", "rb")
    start_response("200 OK", PLAIN + [("Content-Length", "4")])
    return environ["wsgi.file_wrapper"](file)

def file_memory(environ, start_response):
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory" * 5000))

def file_gzip(environ, start_response):
    with gzip.open("payload.gz", "wb") as file:
        file.write(b"unpacked")
    start_response("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](gzip.open("payload.gz", "rb"))

def errors(environ, start_response):
    environ["wsgi.errors"].write("to the error log\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", list(PLAIN))
    return [b""]

def route(environ, start_response):
    name = environ["PATH_INFO"].strip("/") or "hello"
    return globals()[name](environ, start_response)

checked = validator(route)
# These break the rules on purpose, or hide the wrapped file from the server.
UNCHECKED = {"never", "twice", "header", "status", "closes_on_error", "file_", "file_part", "file_memory", "file_gzip", "keeps",
             "uses_kept", "reads", "replaces_late", "lines", "environ_", "too_many"}

def application(environ, start_response):
    if environ["PATH_INFO"].strip("/") in UNCHECKED:
        return route(environ, start_response)
    return checked(environ, start_response)
"#;

#[test]
fn answers_are_what_the_application_said() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
        let mut worker = site.spawn(1);
        let mut get = |target: &str| site.get(&mut worker, target);
        let hello = get("/hello");
        assert_eq!(
            (hello.status, hello.reason.as_str(), hello.text(), hello.failed),
            (200, "OK", "hello", false)
        );
        assert_eq!(hello.fields.len(), 2);
        let generator = get("/generator");
        assert_eq!((generator.text(), generator.field("Content-Length")), ("one two", None));
        assert_eq!(get("/writes").text(), "written returned");
        assert_eq!((get("/empty").status, get("/empty").body.len()), (200, 0));
        let no_content = get("/no_content");
        assert_eq!((no_content.status, no_content.fields.len()), (204, 0));
        let big = get("/big");
        assert_eq!(
            (big.body.len(), big.body[0], big.body[20000], big.failed),
            (64 * 20000, b'A', b'B', false)
        );
        let replaced = get("/replaces");
        assert_eq!((replaced.status, replaced.text(), replaced.fields.len()), (503, "replaced", 1));
        get("/keeps");
        assert_eq!(
            get("/uses_kept").text(),
            "the response has ended already; the response has ended already"
        );
        get("/errors");
        site.wait_for_log("to the error log");
    });
}

#[test]
fn one_piece_without_a_length_gets_one_unless_it_must_not() {
    let mut site = Site::start(&support::any_python(), &[("app.py", APP)], &json!({}));
    let mut worker = site.spawn(1);
    // The validator wraps the list, so that it is no list any more.
    assert_eq!(site.get(&mut worker, "/environ_").field("Content-Length").map(str::len), Some(3));
    assert_eq!(site.get(&mut worker, "/no_length").field("Content-Length"), None);
    let head = site.ask(&mut worker, &Ask { method: "HEAD", path: b"/environ_", ..Ask::default() });
    assert_eq!(
        (head.field("Content-Length").map(str::len), head.body.len(), head.failed),
        (Some(3), 0, false)
    );
    let head = site.ask(&mut worker, &Ask { method: "HEAD", path: b"/hello", ..Ask::default() });
    assert_eq!((head.field("Content-Length"), head.body.len(), head.failed), (Some("5"), 0, false));
}

#[test]
fn the_environ_is_whole() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({"workers": 3}));
        let mut worker = site.spawn(1);
        let fields = [
            ("Host", "shop.example"),
            ("X-Twice", "a"),
            ("cookie", "a=1"),
            ("x-twice", "b"),
            ("Cookie", "b=2"),
            ("Content-Type", "text/x"),
            ("Content-Length", "2"),
            ("Accept", ""),
        ];
        for round in 0..3 {
            let ask = Ask {
                method: "POST",
                target: "/mount/environ_?q=%20",
                path: b"/mount/environ_/",
                query: "q=%20",
                script: "/mount",
                https: round == 1,
                version: if round == 2 { 10 } else { 11 },
                fields: &fields,
                body: BodyPart::Bytes(b"{}"),
                ..Ask::default()
            };
            let answer = site.ask(&mut worker, &ask);
            let environ: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
            let mut expected = json!({
                "REQUEST_METHOD": "POST", "SCRIPT_NAME": "/mount", "PATH_INFO": "/environ_/", "QUERY_STRING": "q=%20",
                "RAW_URI": "/mount/environ_?q=%20", "REQUEST_URI": "/mount/environ_?q=%20",
                "SERVER_NAME": "shop.example", "SERVER_PORT": "8000", "REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "4711",
                "SERVER_PROTOCOL": if round == 2 { "HTTP/1.0" } else { "HTTP/1.1" },
                "SERVER_SOFTWARE": "monoceros/0.1.0", "CONTENT_TYPE": "text/x", "CONTENT_LENGTH": "2",
                "HTTP_HOST": "shop.example", "HTTP_X_TWICE": "a,b", "HTTP_COOKIE": "a=1; b=2", "HTTP_ACCEPT": "",
                "wsgi.version": [1, 0], "wsgi.url_scheme": if round == 1 { "https" } else { "http" },
                "wsgi.multithread": false, "wsgi.multiprocess": true, "wsgi.run_once": false, "wsgi.input_terminated": true,
                "wsgi.early_hints": "<class 'monoceros.EarlyHints'>",
                "wsgi.input": "<class 'monoceros.Input'>", "wsgi.errors": "<class '_io.TextIOWrapper'>",
                "wsgi.file_wrapper": "<class 'type'>",
            });
            if round == 1 {
                expected["HTTPS"] = json!("on");
            }
            assert_eq!(environ, expected);
        }
        // Nothing of one request is left in the next.
        let answer = site.get(&mut worker, "/environ_");
        let environ: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!((&environ["SCRIPT_NAME"], &environ["QUERY_STRING"]), (&json!(""), &json!("")));
        assert!(environ.get("CONTENT_LENGTH").is_none() && environ.get("HTTP_COOKIE").is_none());
        // A path of bytes that are no UTF-8 is a native string.
        let ask = Ask { path: b"/environ_", script: "/other", fields: &[], ..Ask::default() };
        let environ: serde_json::Value = serde_json::from_str(site.ask(&mut worker, &ask).text()).unwrap();
        assert_eq!((&environ["SCRIPT_NAME"], &environ["PATH_INFO"]), (&json!("/other"), &json!("/environ_")));
    });
}

#[test]
fn a_chunked_request_has_a_length_by_then() {
    let mut site = Site::start(&support::any_python(), &[("app.py", APP)], &json!({}));
    let mut worker = site.spawn(1);
    let ask =
        Ask { method: "POST", path: b"/echo", body: BodyPart::Bytes(b"came in chunks"), ..Ask::default() };
    assert_eq!(site.ask(&mut worker, &ask).text(), "came in chunks");
}

#[test]
fn the_body_is_read_alike_from_memory_and_from_a_file() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
        let mut worker = site.spawn(1);
        let body = b"first\nsecond\nthird\nfourth\nfifth\nlast";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(body).unwrap();
        let expected =
            r#"["", "first\n", "sec", "ond\n", "third\n", ["fourth\n"], ["fifth\n", "last"], "", "", []]"#;
        for from_file in [false, true] {
            let part = if from_file { BodyPart::File(body.len() as u64) } else { BodyPart::Bytes(body) };
            let ask =
                Ask { method: "POST", path: b"/reads", body: part, file: Some(&file), ..Ask::default() };
            assert_eq!(site.ask(&mut worker, &ask).text(), expected, "from a file: {from_file}");
        }
        // Longer than a block, with a line across its edge; and no more of the file than is the body.
        file.rewind().unwrap();
        let long: Vec<u8> = (0..40_000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
        file.write_all(&long).unwrap();
        file.write_all(b"not the body\n").unwrap();
        let part = BodyPart::File(long.len() as u64);
        let ask = Ask { method: "POST", path: b"/lines", body: part, file: Some(&file), ..Ask::default() };
        assert_eq!(site.ask(&mut worker, &ask).text(), "40000");
        let length = long.len().to_string();
        let fields = [("Content-Length", length.as_str())];
        let ask = Ask {
            method: "POST",
            path: b"/echo",
            fields: &fields,
            body: part,
            file: Some(&file),
            ..Ask::default()
        };
        assert_eq!(site.ask(&mut worker, &ask).body, long);
    });
}

#[test]
fn errors_are_answered_and_logged_with_their_traceback() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
        let mut worker = site.spawn(1);
        let raised = site.get(&mut worker, "/raises?x=1");
        assert_eq!(
            (raised.status, raised.field("Content-Type"), raised.failed),
            (500, Some("text/html"), false)
        );
        assert!(raised.text().contains("Internal Server Error"));
        // The answer leaves before the log is written.
        site.wait_for_log("ValueError: no %s luck");
        let log = site.log();
        assert!(
            log.contains(
                "[ERROR] Error handling request GET /raises?x=1\nTraceback (most recent call last):"
            ),
            "{log}"
        );
        assert!(log.contains("in raises") && log.contains("ValueError: no %s luck"), "{log}");
        let late = site.get(&mut worker, "/raises_late");
        assert_eq!((late.status, late.text(), late.failed), (200, "half", true));
        let replaced = site.get(&mut worker, "/replaces_late");
        assert_eq!((replaced.status, replaced.text(), replaced.failed), (200, "half", true));
        site.wait_for_log("the first cause");
        for (target, words) in [("/twice", "without exc_info"), ("/never", "start_response")] {
            assert_eq!(site.get(&mut worker, target).status, 500);
            site.wait_for_log(words);
        }
        assert_eq!(site.get(&mut worker, "/hello").text(), "hello");
    });
}

#[test]
fn the_length_that_was_promised_is_kept_or_the_answer_fails() {
    let mut site = Site::start(&support::any_python(), &[("app.py", APP)], &json!({}));
    let mut worker = site.spawn(1);
    let many = site.get(&mut worker, "/too_many");
    assert_eq!((many.text(), many.failed), ("hello", false));
    let few = site.get(&mut worker, "/too_few");
    assert_eq!((few.text(), few.failed), ("he", true));
    site.wait_for_log("6 bytes more than its Content-Length says");
    site.wait_for_log("3 bytes fewer than its Content-Length says");
}

#[test]
fn what_no_header_may_hold_is_refused() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
        let mut worker = site.spawn(1);
        let mut ask = |path: &[u8], value: serde_json::Value| {
            let body = value.to_string();
            let body = BodyPart::Bytes(body.as_bytes());
            site.ask(&mut worker, &Ask { method: "POST", path, body, ..Ask::default() })
        };
        let good = [("X", "caf\u{e9}", "caf\u{e9}"), ("X-A", " a\tb ", "a\tb"), ("X_B", "", "")];
        for (name, value, sent) in good {
            assert_eq!(ask(b"/header", json!([name, value])).field(name), Some(sent), "{name}: {value:?}");
        }
        let bad = [
            json!(["X\n", "a"]),
            json!(["X Y", "a"]),
            json!(["", "a"]),
            json!(["X:", "a"]),
            json!(["X", "a\r\nSet-Cookie: b"]),
            json!(["X", "a\nb"]),
            json!(["X", "a\u{0}b"]),
            json!(["X", "\u{20ac}"]),
            json!(["X\u{e9}", "a"]),
            json!(["X", 1]),
            json!(["Content-Length", "+5"]),
            json!(["Content-Length", "5, 5"]),
            json!(["Content-Length", ""]),
        ];
        for header in bad {
            assert_eq!(ask(b"/header", header.clone()).status, 500, "{header}");
        }
        // These belong to the connection.
        for name in ["Connection", "transfer-encoding", "Keep-Alive", "Upgrade"] {
            let answer = ask(b"/header", json!([name, "x"]));
            assert_eq!((answer.status, answer.field(name)), (200, None), "{name}");
        }
        for (status, code) in [("404 Not Found", 404), ("299", 299), ("200 ", 200), ("599 caf\u{e9}", 599)] {
            assert_eq!(ask(b"/status", json!(status)).status, code, "{status}");
        }
        for status in
            ["", "20", "200OK", "abc def", "100 Continue", "200 a\r\nb: c", "200 \u{20ac}", "+20 OK"]
        {
            assert_eq!(ask(b"/status", json!(status)).reason, "Internal Server Error", "{status}");
        }
        assert_eq!(ask(b"/status", json!(200)).status, 500);
    });
}

#[test]
fn close_is_called_however_it_ends() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP)], &json!({}));
        let mut worker = site.spawn(1);
        assert_eq!(site.get(&mut worker, "/closes").text(), "ab");
        let failed = site.get(&mut worker, "/closes_on_error");
        assert_eq!(failed.status, 500);
        assert_eq!(site.get(&mut worker, "/closed_").text(), "2");
        site.wait_for_log("the body must consist of bytes, not str");
    });
}

#[test]
fn a_client_that_leaves_stops_the_iteration_and_still_closes() {
    const ENDLESS: &str = r#"
closed = []
class Endless:
    def __iter__(self):
        return self
    def __next__(self):
        return b"x" * 10000
    def close(self):
        closed.append(1)
def application(environ, start_response):
    start_response("200 OK", [])
    return [str(len(closed)).encode()] if environ["PATH_INFO"] == "/closed" else Endless()
"#;
    let mut site = Site::start(&support::any_python(), &[("app.py", ENDLESS)], &json!({}));
    let mut worker = site.spawn(1);
    let id = site.publish(&Ask::default());
    let mut answer = support::Answer::default();
    while answer.body.len() < 1_000_000 {
        assert!(!site.read(id, &mut answer));
    }
    site.edge.cancel(id);
    while !site.read(id, &mut answer) {
        std::thread::yield_now();
    }
    assert_eq!(site.get(&mut worker, "/closed").text(), "1");
    assert!(!site.log().contains("ERROR"), "{}", site.log());
}

#[test]
fn files_cross_as_descriptors_and_what_is_none_is_read() {
    with_each_python(|python| {
        let mut site = Site::start(python, &[("app.py", APP), ("payload", "0123456789")], &json!({}));
        let mut worker = site.spawn(1);
        let whole = site.get(&mut worker, "/file_");
        assert_eq!((whole.files.as_slice(), whole.body.len(), whole.failed), (&[(3, 7)][..], 0, false));
        let mut text = String::new();
        let mut file = worker.take_file();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123456789");
        assert_eq!(site.get(&mut worker, "/file_part").files, [(0, 4)]);
        worker.take_file();
        let head = site.ask(&mut worker, &Ask { method: "HEAD", path: b"/file_part", ..Ask::default() });
        assert_eq!((head.field("Content-Length"), head.files.len(), head.failed), (Some("4"), 0, false));
        assert_eq!(site.get(&mut worker, "/file_memory").text(), "in memory".repeat(5000));
        assert_eq!(site.get(&mut worker, "/file_gzip").text(), "unpacked");
    });
}
