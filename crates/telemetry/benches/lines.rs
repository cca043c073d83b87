//! Nanoseconds per line of an access log: `cargo bench -p telemetry`.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::model::http::{LogEscape, LogFormat, Part, Value, Variable};
use telemetry::{AccessEvent, AccessFormat, FieldSource};

const AGENT: &[u8] =
    b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
const REFERER: &[u8] = b"https://shop.example/shop/items/?page=1";

struct Fields;

impl FieldSource for Fields {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"referer" => Some(REFERER),
            b"user-agent" => Some(AGENT),
            _ => None,
        }
    }
}

fn main() {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let mut out = Vec::with_capacity(4096);
    for (name, request) in [
        ("combined", &b"GET /shop/items/4711/?page=2&sort=price HTTP/1.1"[..]),
        ("combined, a request to escape", b"GET /caf\xC3\xA9/\"items\"/4711/?page=2 HTTP/1.1"),
    ] {
        for escape in [LogEscape::Default, LogEscape::Json] {
            let format = combined(escape);
            report(&format!("{name}, {escape:?}"), || {
                out.clear();
                let mut lookup =
                    |variable: &Variable, out: &mut Vec<u8>| lookup(variable, request, second, out);
                telemetry::render_log_format(black_box(&format), &mut lookup, &mut out);
                black_box(&out);
            });
        }
    }
    let format = AccessFormat::default();
    let event = AccessEvent {
        remote: Some(([192, 0, 2, 17], 4711).into()),
        local: None,
        scheme: "http",
        method: b"GET",
        target: b"/shop/items/4711/?page=2&sort=price",
        path: b"/shop/items/4711/",
        query: b"page=2&sort=price",
        version: "HTTP/1.1",
        status: 200,
        bytes: 12345,
        duration: Duration::from_millis(7),
        queued: None,
        attempts: 1,
        pid: 42,
        time: second,
        request_fields: &Fields,
        response_fields: &(),
    };
    report("gunicorn's default", || {
        out.clear();
        format.render(black_box(&event), &mut out);
        black_box(&out);
    });
}

fn combined(escape: LogEscape) -> LogFormat {
    let variable = |name| Part::Variable(Variable::built_in(name).expect("a variable of nginx"));
    let text = |text: &str| Part::Text(text.into());
    let line = Value(vec![
        variable("remote_addr"),
        text(" - "),
        variable("remote_user"),
        text(" ["),
        variable("time_local"),
        text("] \""),
        variable("request"),
        text("\" "),
        variable("status"),
        text(" "),
        variable("body_bytes_sent"),
        text(" \""),
        variable("http_referer"),
        text("\" \""),
        variable("http_user_agent"),
        text("\""),
    ]);
    LogFormat { name: "combined".to_owned(), escape, line }
}

fn lookup(variable: &Variable, request: &[u8], second: i64, out: &mut Vec<u8>) -> bool {
    match variable {
        Variable::RemoteAddr => out.extend_from_slice(b"192.0.2.17"),
        Variable::TimeLocal => telemetry::time_local(second, out),
        Variable::Request => out.extend_from_slice(request),
        Variable::Status => out.extend_from_slice(b"200"),
        Variable::BodyBytesSent => out.extend_from_slice(b"12345"),
        Variable::Http(name) if name == b"referer" => out.extend_from_slice(REFERER),
        Variable::Http(name) if name == b"user_agent" => out.extend_from_slice(AGENT),
        _ => return false,
    }
    true
}

/// Prints the fastest of several rounds: what disturbs a round only makes it slower.
fn report(name: &str, mut work: impl FnMut()) {
    const ITERATIONS: u32 = 200_000;
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ITERATIONS {
                work();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ITERATIONS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:40} {best:8.1} ns");
}
