//! Whatever stands in a configuration of nginx's language: an answer, never a panic; files of real deployments lack
//! nothing but what is not there yet; and a large file costs what its size says.

mod certificates;
mod machine;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use certificates::Certificates;
use conf_syntax::{DiskLoader, Loader, MemoryLoader};
use config::nginx::{Nginx, NginxReport, directive_names, read_with};
use machine::Machine;
use proptest::prelude::*;

fn run(text: &str) -> Result<Nginx, NginxReport> {
    let mut loader = MemoryLoader::default();
    loader.insert("/etc/nginx/nginx.conf", text);
    read_with(
        "/etc/nginx/nginx.conf".as_ref(),
        "/srv".as_ref(),
        &[],
        &mut loader,
        &Machine::default(),
        &Certificates,
    )
}

/// Words that mean something somewhere, and some that never do.
const WORDS: &[&str] = &[
    "on",
    "off",
    "0",
    "1",
    "16",
    "99999999999999999999",
    "8k",
    "1m",
    "2g",
    "5s",
    "10ms",
    "1h30m",
    "-1",
    "@1h",
    "+5",
    "/",
    "/a",
    "/a/",
    "~",
    "~*",
    "=",
    "^~",
    "@x",
    "~^/(?<n>.*)$",
    "~(",
    "$host",
    "$x",
    "$arg_a",
    "${x}",
    "$",
    "${",
    "$1",
    "(",
    ")",
    "($x)",
    "($x",
    "=)",
    "!=",
    "!~*",
    "-f",
    "!-d",
    "\"\"",
    "\"a b\"",
    "'",
    "*",
    "*.a",
    ".a",
    "a.*",
    "a..b",
    "80",
    "81-83",
    "*:80",
    "[::]:80",
    "[::1",
    "unix:/a",
    "unix:",
    "127.0.0.1:80",
    "default_server",
    "backlog=5",
    "so_keepalive=1:2:3",
    "zone=z:1m",
    "zone=z",
    "rate=5r/s",
    "burst=5",
    "nodelay",
    "escape=json",
    "combined",
    "if=$x",
    "buffer=4k",
    "syslog:server=127.0.0.1",
    "=404",
    "=200",
    "404",
    "502",
    "default",
    "10.0.0.0/8",
    "10.0.0.0-10.0.0.9",
    "all",
    "50%",
    "modified",
    "max",
    "none",
    "server_names",
    "GET",
    "wsgi",
    "a:b",
    "text/html",
    "always",
    "\u{e9}\u{10348}",
];

/// A directive, with a block perhaps.
fn directive(names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let words = || prop::collection::vec(prop::sample::select(WORDS), 0..4);
    let names = prop::sample::select(names);
    let line = (names.clone(), words()).prop_map(|(name, words)| format!("{name} {};\n", words.join(" ")));
    line.prop_recursive(4, 60, 6, move |inner| {
        let block = prop_oneof![
            prop::sample::select(vec![
                "http",
                "server",
                "location",
                "if",
                "limit_except",
                "map",
                "geo",
                "types",
                "app",
                "split_clients",
                "events"
            ]),
            names.clone(),
        ];
        (block, words(), prop::collection::vec(inner, 0..6))
            .prop_map(|(name, words, inner)| format!("{name} {} {{\n{}}}\n", words.join(" "), inner.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_soup_has_an_answer(lines in prop::collection::vec(directive(directive_names().collect()), 0..12)) {
        let soup = lines.concat();
        for text in [
            soup.clone(),
            format!("events {{}} http {{ {soup} }}"),
            format!("events {{}} http {{ server {{ listen 80; {soup} }} }}"),
            format!("events {{}} http {{ server {{ listen 80; location /a {{ {soup} }} }} }}"),
        ] {
            match run(&text) {
                Ok(nginx) => prop_assert_eq!(nginx.listeners.len(), nginx.http.listens.len()),
                Err(report) => {
                    prop_assert!(!report.lines.is_empty());
                    prop_assert!(!report.report().render(false).is_empty());
                }
            }
        }
    }

    #[test]
    fn any_words_have_an_answer(name in prop::sample::select(directive_names().collect::<Vec<_>>()), words in prop::collection::vec("[ -~\\n]{0,12}", 0..5)) {
        let words: Vec<_> = words.iter().map(|w| format!("\"{}\"", w.replace('\\', "\\\\").replace('"', "\\\""))).collect();
        let line = format!("{name} {};", words.join(" "));
        let _ = run(&line);
        let _ = run(&format!("events {{ {line} }} http {{ {line} server {{ {line} location / {{ {line} if \
             ($host) {{ {line} }} }} }} }}"));
    }
}

/// The disk, and a main file that is not there: some files are made to be included in `http`.
struct Wrapped {
    main: PathBuf,
    text: String,
}

impl Loader for Wrapped {
    fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        if path == self.main { Ok(self.text.clone().into_bytes()) } else { DiskLoader.read(path, limit) }
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        DiskLoader.glob(pattern)
    }
}

#[test]
fn real_files_lack_only_what_is_not_there_yet() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf-syntax/tests/valid");
    let mut told = 0;
    for name in ["django", "hardened", "mailman", "netbox", "sentry", "weblate"] {
        let path = directory.join(name).with_extension("conf");
        let is_whole = fs::read_to_string(&path).unwrap().lines().any(|line| line.starts_with("http"));
        let text = if is_whole {
            format!("include {};", path.display())
        } else {
            format!("events {{}} http {{ include {}; }}", path.display())
        };
        let main = directory.join("main.conf");
        let mut loader = Wrapped { main: main.clone(), text };
        let Err(report) =
            read_with(&main, Path::new("/srv"), &[], &mut loader, &Machine::default(), &Certificates)
        else {
            continue;
        };
        for line in &report.lines {
            // The machine of the tests has no user `nginx`, and knows none of the servers behind; one of the files has
            // its certificates elsewhere.
            let is_expected = [
                "is not there yet",
                "getpwnam",
                "host not found in upstream",
                "no \"ssl_certificate\" is defined",
            ];
            let is_expected = is_expected.iter().any(|words| line.contains(words));
            assert!(is_expected, "{name}: {line}");
            told += 1;
        }
    }
    assert!(told > 5, "most of them name servers behind, or TLS: {told}");
}

#[test]
fn ten_thousand_servers_share_what_is_equal() {
    let mut text = String::from("events {} http { types { text/html html; text/css css; } gzip on; ");
    for i in 0..10_000 {
        let _ = write!(
            text,
            "server {{ listen 80; server_name s{i}.example www.s{i}.example; location / {{ try_files $uri =404; }} \
             location ~ \\.php$ {{ return 404; }} location /static/ {{ expires 30d; }} }} "
        );
    }
    text.push('}');
    let begun = Instant::now();
    let nginx = run(&text).unwrap();
    let taken = begun.elapsed();
    assert_eq!((nginx.http.servers.len(), nginx.http.settings.len(), nginx.http.types.len()), (10_000, 3, 1));
    assert_eq!(nginx.listeners.len(), 1);
    // Far above what it takes, far below what anything quadratic would.
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}
