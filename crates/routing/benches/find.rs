//! Nanoseconds to find a server and a location: `cargo bench -p routing`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use config::model::http::{
    Content, HeadSettings, Http, Listen, Location, Locations, Matcher, Regex, Server, ServerName,
};
use routing::{Routing, State, validate_host};

fn main() {
    for servers in [1, 100, 1000] {
        let routing = compile(servers, &Locations::default());
        let mut state = State::new();
        for (name, host) in [
            ("exact", format!("www.example{}.com", servers / 2)),
            ("leading wildcard", format!("a.b.wild{}.com", servers / 2)),
            ("default", "a.name.that.nobody.has".to_owned()),
        ] {
            let listen = routing.listens.listen(0, None).unwrap();
            report(&format!("{servers} servers, {name}"), || {
                let host = validate_host(black_box(host.as_bytes())).unwrap();
                black_box(listen.find(&host.name, &mut state).unwrap());
            });
        }
    }
    for count in [1, 100, 1000] {
        let prefixes = (0..count)
            .map(|n| location(Matcher::Prefix { uri: format!("/section{n}/").into(), without_regex: false }));
        let locations = Locations { prefixes: prefixes.collect(), ..Locations::default() };
        find(&format!("{count} prefix locations"), &locations, &format!("/section{}/page.html", count / 2));
    }
    for count in [4, 20, 200] {
        let endings = (0..count).map(|n| pattern(&format!(r"\.end{n}$")));
        let locations = Locations { regexes: endings.collect(), ..Locations::default() };
        find(&format!("{count} endings, the last"), &locations, &format!("/some/file.end{}", count - 1));
        find(&format!("{count} endings, none"), &locations, "/some/file.html");
        let beginnings = (0..count).map(|n| pattern(&format!("^/api{n}/([0-9]+)/(.*)$")));
        let locations = Locations { regexes: beginnings.collect(), ..Locations::default() };
        find(&format!("{count} beginnings, the last"), &locations, &format!("/api{}/12/x", count - 1));
        find(&format!("{count} beginnings, none"), &locations, "/some/file.html");
    }
}

fn find(name: &str, locations: &Locations, path: &str) {
    let routing = compile(1, locations);
    let mut state = State::new();
    report(name, || {
        black_box(routing.find(0, black_box(path.as_bytes()), &mut state).unwrap());
    });
}

fn compile(servers: u32, locations: &Locations) -> Routing {
    let names = (0..servers).flat_map(|n| {
        [
            (ServerName::Exact(format!("www.example{n}.com").into()), n),
            (ServerName::Leading(format!("*.wild{n}.com").into()), n),
        ]
    });
    let http = Http {
        listens: vec![Listen { names: names.collect(), ..Listen::default() }],
        servers: (0..servers).map(|_| server(locations.clone())).collect(),
        ..Http::default()
    };
    Routing::compile(&http.into()).unwrap()
}

fn server(locations: Locations) -> Server {
    Server {
        tls: None,
        name: b"bench".to_vec(),
        head: HeadSettings {
            header_timeout: Duration::from_secs(60),
            header_buffer: 1024,
            large_buffers: 4,
            large_buffer_size: 8192,
            max_headers: 1000,
            ignore_invalid: true,
            underscores: false,
            merge_slashes: true,
            http2: config::model::http::Http2::default(),
            verify_client: config::model::tls::Verify::Off,
        },
        settings: 0,
        rewrite: Vec::new(),
        locations,
    }
}

fn pattern(pattern: &str) -> Location {
    location(Matcher::Regex(Regex { pattern: pattern.into(), caseless: false, names: Vec::new() }))
}

fn location(matcher: Matcher) -> Location {
    Location {
        matcher,
        settings: 0,
        rewrite: Vec::new(),
        content: Content::Files,
        limit_except: None,
        locations: Locations::default(),
        auto_redirect: false,
    }
}

/// Prints the fastest of several rounds: what disturbs a round only makes it slower.
fn report(name: &str, mut work: impl FnMut()) {
    const ITERATIONS: u32 = 20_000;
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ITERATIONS {
                work();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ITERATIONS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:32} {best:8.1} ns");
}
