//! The side that faces clients.

use std::num::NonZeroU32;

use super::Lowering;
use crate::gunicorn::effective::Origin;
use crate::host::Entry;
use crate::model::{
    Buffers, Coding, Compress, Edge, Files, Forwarded, HeaderMap, Http2, InvalidNetwork, IpNetwork, Levels,
    Limits, Location, SchemeHeader, Symlinks, Timeouts, Trusted,
};
use crate::report::Severity;

impl Lowering<'_> {
    pub(super) fn edge(&mut self) -> Edge {
        let head = self.size_between("limit_request_head", 1 << 10, 1 << 20) as u32;
        let or_head = |n: u64| if n == 0 { head } else { (n as u32).min(head) };
        let fields = self.int("limit_request_fields") as u32;
        let limits = Limits {
            request_line: or_head(self.int("limit_request_line")),
            fields: if fields == 0 { 32_768 } else { fields },
            field_size: or_head(self.int("limit_request_field_size")),
            head,
            body: Some(self.int("client_max_body_size")).filter(|n| *n > 0),
            keepalive_requests: self.int("keepalive_requests"),
        };
        for name in ["limit_request_line", "limit_request_field_size"] {
            // A default gives way to a head that is kept short.
            if self.int(name) > u64::from(head) && self.is_given(name) {
                let help = format!("raise limit_request_head to at least {}", self.int(name));
                self.error(
                    name,
                    0,
                    format!("{name} is more than limit_request_head ({head})"),
                    help.as_str(),
                );
            }
        }
        let timeouts = Timeouts {
            header: self.seconds("client_header_timeout"),
            body: self.seconds("client_body_timeout"),
            send: self.seconds("send_timeout"),
            keepalive: self.seconds("keepalive"),
            lingering: self.seconds("lingering_timeout"),
        };
        Edge {
            threads: self.edge_threads(),
            connections: self.int("edge_connections") as u32,
            limits,
            timeouts,
            buffers: self.buffers(),
            http2: self.http2(),
            server_tokens: self.flag("server_tokens"),
        }
    }

    /// HTTP/2, if it is spoken.
    fn http2(&mut self) -> Option<Http2> {
        const BYTES: std::ops::RangeInclusive<u64> = 1024..=16 << 20;
        let names = self.list("http_protocols").to_vec();
        let mut wanted = self.comes_by_itself() && !self.is_given("http_protocols");
        let mut has_http1 = wanted;
        for (i, name) in names.iter().enumerate() {
            match name.as_str() {
                "h1" => has_http1 = true,
                "h2" => wanted = true,
                "h3" => {
                    let message = "http_protocols: HTTP/3 is not there yet";
                    self.error("http_protocols", i, message, "write `h2,h1`");
                }
                other => {
                    let message = format!("http_protocols: `{other}` is no version of HTTP");
                    self.error("http_protocols", i, message, "write `h1`, or `h2,h1`");
                }
            }
        }
        if wanted && !has_http1 {
            let message = "http_protocols: HTTP/1 is always offered";
            self.error("http_protocols", 0, message, "write `h2,h1`");
        }
        let clear_text = match self.text("http2_cleartext") {
            None | Some("off") => false,
            Some("prior-knowledge") => true,
            Some(other) => {
                let message = format!("http2_cleartext: there is no `{other}`: RFC 9113 has no upgrade");
                self.error("http2_cleartext", 0, message, "write `prior-knowledge`");
                false
            }
        };
        if clear_text && !wanted {
            let message = "http2_cleartext: HTTP/2 is not among http_protocols";
            self.error("http2_cleartext", 0, message, "add `--http-protocols h2,h1`");
        }
        let streams = self.int("http2_max_concurrent_streams");
        if streams == 0 || streams > 10_000 {
            let message = "http2_max_concurrent_streams: it may be from 1 to 10000";
            self.error("http2_max_concurrent_streams", 0, message, None);
        }
        let window = self.int("http2_initial_window_size");
        if !BYTES.contains(&window) {
            let message = "http2_initial_window_size: it may be from 1024 to 16777216";
            self.error("http2_initial_window_size", 0, message, None);
        }
        wanted.then(|| Http2 {
            clear_text,
            max_concurrent_streams: streams as u32,
            window: window as u32,
            max_frame: self.int("http2_max_frame_size") as u32,
        })
    }

    fn edge_threads(&mut self) -> Option<NonZeroU32> {
        let text = self.text("edge_threads").unwrap_or("auto").to_owned();
        if text == "auto" {
            return None;
        }
        let number = text.parse::<NonZeroU32>().ok().filter(|n| n.get() <= 1024);
        if number.is_none() {
            let message = format!("edge_threads: `{text}` is not a number of threads");
            self.error("edge_threads", 0, message, "write `auto`, or a number from 1 to 1024");
        }
        number
    }

    fn buffers(&mut self) -> Buffers {
        if let Some(dir) = self.path("worker_tmp_dir")
            && self.input.host.entry(&dir) != Entry::Directory
        {
            let message = format!("worker_tmp_dir: `{}` is not a directory", dir.display());
            let help = "gunicorn would not start with it".to_owned();
            self.tell(Severity::Warning, "worker_tmp_dir", message, Some(help));
        }
        let temp_dir = self.path("tmp_upload_dir");
        if let Some(dir) = &temp_dir
            && self.input.host.entry(dir) != Entry::Directory
        {
            let message = format!("tmp_upload_dir: `{}` is not a directory", dir.display());
            self.error("tmp_upload_dir", 0, message, None);
        }
        Buffers {
            request: self.size_between("client_body_buffer_size", 0, 1 << 30),
            response: self.size_between("response_buffer_size", 4 << 10, 1 << 30),
            response_temp: self.int("response_max_temp_file_size"),
            temp_space: self.int("max_temp_space"),
            temp_dir,
        }
    }

    fn size_between(&mut self, name: &str, least: u64, most: u64) -> u64 {
        let n = self.int(name);
        if n < least || n > most {
            let help = format!("it may be from {least} to {most} bytes");
            self.error(name, 0, format!("{name}: a size of {n} is out of range"), help.as_str());
        }
        n.clamp(least, most)
    }

    /// Who is believed behind `app_pass` where all are. gunicorn's own files say so for the sake of a proxy in front of it,
    /// which overwrites what clients claim; here clients connect to the edge.
    fn who_is_direct(&mut self, networks: &[IpNetwork]) -> Option<Trusted> {
        let name = "forwarded_allow_ips";
        if matches!(self.effective.origin(name), Origin::Directive(_)) {
            let message = "forwarded_allow_ips is `*`: whoever can connect can claim any address and https";
            let help = "name the proxies' addresses or networks".to_owned();
            self.tell(Severity::Warning, name, message, Some(help));
            return None;
        }
        let message = "forwarded_allow_ips is `*`, which does not count for `app_pass`: clients may connect there \
                       directly, and could claim any address and https";
        let help = "name the proxies' addresses or networks in the `app` block, or `forwarded_allow_ips *;` if nobody \
                    else can connect";
        self.tell(Severity::Warning, name, message, Some(help.to_owned()));
        Some(Trusted::Networks(networks.to_vec()))
    }

    pub(super) fn forwarded(&mut self) -> Forwarded {
        let list = self.list("forwarded_allow_ips").to_vec();
        let mut networks = Vec::new();
        for (i, text) in list.iter().enumerate() {
            let message = |what: &str| format!("forwarded_allow_ips: {what}");
            match text.parse::<IpNetwork>() {
                Ok(network) => networks.push(network),
                Err(_) if text == "*" => {}
                Err(InvalidNetwork::HostBits(meant)) => self.error(
                    "forwarded_allow_ips",
                    i,
                    message(&format!("`{text}` has bits past its prefix")),
                    format!("did you mean `{meant}`, or the one address?").as_str(),
                ),
                Err(InvalidNetwork::Prefix) => {
                    self.error(
                        "forwarded_allow_ips",
                        i,
                        message(&format!("`{text}` has no valid prefix length")),
                        None,
                    );
                }
                Err(InvalidNetwork::Address) => self.error(
                    "forwarded_allow_ips",
                    i,
                    message(&format!("`{text}` is not an IP address or network")),
                    "write addresses or networks with commas, as `10.0.0.0/8,::1`, or `*`",
                ),
            }
        }
        let all = list.iter().any(|a| a == "*");
        let direct = (all && self.input.command_line.is_block()).then(|| self.who_is_direct(&networks));
        let trusted = if all { Trusted::Any } else { Trusted::Networks(networks) };
        Forwarded {
            trusted,
            direct: direct.flatten(),
            scheme_headers: self.scheme_headers(),
            forwarder_headers: self
                .list("forwarder_headers")
                .iter()
                .map(|h| h.to_ascii_uppercase())
                .collect(),
            header_map: match self.text("header_map") {
                Some("refuse") => HeaderMap::Refuse,
                Some("dangerous") => HeaderMap::Dangerous,
                _ => HeaderMap::Drop,
            },
        }
    }

    fn scheme_headers(&mut self) -> Vec<SchemeHeader> {
        let pairs = self.pairs("secure_scheme_headers").to_vec();
        let mut headers = Vec::new();
        for (name, value) in pairs {
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(is_token) {
                let message = format!("secure_scheme_headers: `{name}` is not the name of a header field");
                self.error("secure_scheme_headers", 0, message, None);
            }
            headers.push(SchemeHeader { name: name.to_ascii_lowercase(), value });
        }
        headers
    }

    /// `static` or `accel`.
    pub(super) fn locations(&mut self, name: &str) -> Vec<Location> {
        let pairs = self.pairs(name).to_vec();
        let mut locations: Vec<Location> = Vec::new();
        for (i, (url, dir)) in pairs.iter().enumerate() {
            if let Some(message) = url_fault(url) {
                self.error(name, i, format!("{name}: {message}"), "write it as `/static/=./staticfiles`");
                continue;
            }
            let dir_path = super::join(&self.base, dir);
            match self.input.host.entry(&dir_path) {
                Entry::Directory => {}
                Entry::File => {
                    self.error(name, i, format!("{name}: `{dir}` is not a directory"), None);
                }
                Entry::Missing => {
                    let help = format!("it is looked for at {}", dir_path.display());
                    self.error(
                        name,
                        i,
                        format!("{name}: the directory `{dir}` does not exist"),
                        help.as_str(),
                    );
                }
            }
            let url = if url.ends_with('/') { url.clone() } else { format!("{url}/") };
            if locations.iter().any(|l| l.url == url) {
                self.error(name, i, format!("{name}: `{url}` is there twice"), None);
            }
            locations.push(Location { url, dir: dir_path });
        }
        locations
    }

    pub(super) fn files(&mut self) -> Files {
        let index = self.list("index").to_vec();
        for (i, file) in index.iter().enumerate() {
            if file.contains(['/', '\0']) || file == ".." || file == "." {
                self.error("index", i, format!("index: `{file}` is not the name of a file"), None);
            }
        }
        Files {
            symlinks: match self.text("static_symlinks") {
                Some("follow") => Symlinks::Follow,
                Some("deny") => Symlinks::Deny,
                _ => Symlinks::Beneath,
            },
            index,
            sendfile: self.flag("sendfile"),
        }
    }

    pub(super) fn compress(&mut self) -> Option<Compress> {
        let words = self.list("compress").to_vec();
        let codings = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["off"] | [] => vec![],
            ["on"] => vec![Coding::Zstd, Coding::Br, Coding::Gzip],
            words => {
                let mut codings = Vec::new();
                for word in words {
                    match coding(word) {
                        Some(c) if codings.contains(&c) => {
                            self.error("compress", 0, format!("compress: `{word}` is there twice"), None);
                        }
                        Some(c) => codings.push(c),
                        None => self.error(
                            "compress",
                            0,
                            format!("compress: `{word}` is not a coding"),
                            "write some of `zstd`, `br`, `gzip` with commas, or `off`",
                        ),
                    }
                }
                codings
            }
        };
        let compress = Compress {
            types: self.media_types(),
            min_length: self.int("compress_min_length"),
            levels: self.levels(),
            codings,
        };
        (!compress.codings.is_empty()).then_some(compress)
    }

    fn media_types(&mut self) -> Vec<String> {
        let types: Vec<_> = self.list("compress_types").iter().map(|t| t.to_ascii_lowercase()).collect();
        for (i, media_type) in types.iter().enumerate() {
            let well_formed = media_type == "*"
                || media_type.split_once('/').is_some_and(|(kind, sub)| {
                    !kind.is_empty() && kind != "*" && !sub.is_empty() && !sub.contains(['/', ';', ' '])
                });
            if !well_formed {
                let message = format!("compress_types: `{media_type}` is not a media type");
                self.error("compress_types", i, message, "write it as `text/css`, `text/*`, or `*` for all");
            }
        }
        types
    }

    fn levels(&mut self) -> Levels {
        let mut levels = Levels { zstd: 3, br: 4, gzip: 5 };
        for item in self.list("compress_level").to_vec() {
            let parsed = item
                .split_once('=')
                .and_then(|(name, n)| Some((coding(name.trim())?, n.trim().parse().ok()?)));
            match parsed {
                Some((Coding::Zstd, n @ 1..=19)) => levels.zstd = n,
                Some((Coding::Br, n @ 0..=11)) => levels.br = n,
                Some((Coding::Gzip, n @ 1..=9)) => levels.gzip = n,
                _ => self.error(
                    "compress_level",
                    0,
                    format!("compress_level: `{item}` is not a level"),
                    "write it as `zstd=3,br=4,gzip=5`: zstd from 1 to 19, br from 0 to 11, gzip from 1 to 9",
                ),
            }
        }
        levels
    }
}

fn coding(word: &str) -> Option<Coding> {
    match word.to_ascii_lowercase().as_str() {
        "zstd" => Some(Coding::Zstd),
        "br" => Some(Coding::Br),
        "gzip" => Some(Coding::Gzip),
        _ => None,
    }
}

/// A prefix is compared with decoded, normalised paths: one that such a path cannot have would never match.
fn url_fault(url: &str) -> Option<String> {
    if !url.starts_with('/') {
        Some(format!("the URL prefix `{url}` does not begin with `/`"))
    } else if url.contains("//") || url.split('/').any(|s| s == "." || s == "..") {
        Some(format!("the URL prefix `{url}` is not a plain path, so that no request would match it"))
    } else if url.contains(['?', '#', '%', '\\']) || url.chars().any(char::is_control) {
        Some(format!("the URL prefix `{url}` has characters that no path has; write it without escapes"))
    } else {
        None
    }
}
