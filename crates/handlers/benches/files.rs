//! Nanoseconds per request for a file that the cache knows: `cargo bench -p handlers --bench files`.

use std::hint::black_box;
use std::time::Instant;

use exchange::Request;
use handlers::files::{FileOptions, FileServer, Outcome};

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let forms = [("small.css", 1024), ("large.css", 100 * 1024), ("coded.css", 1024), ("coded.css.br", 512)];
    for (name, size) in forms {
        std::fs::write(dir.path().join(name), vec![b'x'; size]).expect("a file");
    }
    let server = FileServer::new(dir.path(), FileOptions::default()).expect("a file server");
    let mut bare = Request { path: b"/static/x".to_vec(), ..Request::default() };
    bare.fields.push(b"Host", b"127.0.0.1:8000");
    let mut browser = bare.clone();
    for name in
        ["User-Agent", "Accept", "Accept-Language", "Referer", "Cookie", "Sec-Fetch-Mode", "Connection"]
    {
        browser.fields.push(name.as_bytes(), b"a value of a usual length for it");
    }
    browser.fields.push(b"Accept-Encoding", b"gzip, deflate, br, zstd");
    let now = Instant::now();
    for (name, request, path) in [
        ("1 KiB from memory, 1 field", &bare, &b"small.css"[..]),
        ("1 KiB from memory, 9 fields", &browser, b"small.css"),
        ("1 KiB precompressed, 9 fields", &browser, b"coded.css"),
        ("100 KiB open file, 9 fields", &browser, b"large.css"),
        ("not there, 9 fields", &browser, b"none.css"),
    ] {
        report(name, || {
            // The driver of a connection asks the clock once per turn; here it is part of the price.
            black_box(Instant::now());
            match server.serve(black_box(request), black_box(path), now) {
                Outcome::Response(response) => drop(black_box(response)),
                Outcome::NotFound => {}
            }
        });
    }
}

fn report(name: &str, mut f: impl FnMut()) {
    const ROUNDS: u32 = 1_000_000;
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(|_| f());
            start.elapsed().as_nanos() / u128::from(ROUNDS)
        })
        .min();
    println!("{name:32} {:>6} ns", best.unwrap_or_default());
}
