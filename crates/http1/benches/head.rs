//! Nanoseconds per parsed and per encoded head: `cargo bench -p http1`.

use std::hint::black_box;
use std::time::Instant;

use http1::{Limits, Policy, RequestHead, ResponseEncoder, Version, parse_request_head};

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

const BROWSER: &[u8] = b"GET /shop/items/4711/?page=2&sort=price HTTP/1.1\r\n\
Host: shop.example\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://shop.example/shop/items/?page=1\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: csrftoken=0123456789abcdef0123456789abcdef; sessionid=fedcba9876543210fedcba9876543210\r\n\r\n";

fn main() {
    let (limits, policy) = (Limits::default(), Policy::default());
    for (name, bytes) in [("small request", SMALL), ("browser request, 17 fields", BROWSER)] {
        let mut head = RequestHead::default();
        report(name, || {
            let outcome = parse_request_head(black_box(bytes), &limits, &policy, &mut head);
            assert_eq!(black_box(outcome), Ok(Some(bytes.len())));
        });
    }
    let mut out = Vec::with_capacity(4096);
    report("response head, 4 fields", || {
        out.clear();
        let mut head = ResponseEncoder::new(&mut out, Version::Http11, black_box(200), None).unwrap();
        head.field(b"Server", black_box(b"monoceros")).unwrap();
        head.field(b"Date", black_box(b"Mon, 23 Nov 2026 11:00:00 GMT")).unwrap();
        head.field(b"Content-Type", black_box(b"text/html; charset=utf-8")).unwrap();
        head.content_length(black_box(12345));
        head.finish();
        black_box(&out);
    });
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
    println!("{name:32} {best:7.1} ns");
}
