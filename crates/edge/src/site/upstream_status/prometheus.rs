//! The page as Prometheus reads it.

use std::fmt::{Display, Write as _};

use cache::{STATUSES, ZoneStatus};
use upstream::{Group, PeerStatus};

/// The text format of Prometheus.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4";

/// A figure of each server: name, kind, what it is, where it comes from.
type Figure = (&'static str, &'static str, &'static str, fn(&PeerStatus) -> u64);

const FIGURES: &[Figure] = &[
    ("up", "gauge", "Whether the server may be asked.", |peer| u64::from(peer.state == "up")),
    ("active", "gauge", "Requests that the server is being asked.", |peer| peer.active),
    ("requests_total", "counter", "Requests that the server was asked.", |peer| peer.requests),
    ("fails_total", "counter", "Attempts that failed.", |peer| peer.fails),
    ("unavailable_total", "counter", "How often it was then thought to be down.", |peer| peer.unavailable),
    ("checks_total", "counter", "Health checks.", |peer| peer.checks),
    ("checks_failed_total", "counter", "Health checks that failed.", |peer| peer.checks_failed),
];

pub fn text_of<'c>(
    groups: impl Iterator<Item = (&'c Group, Option<&'c str>)>,
    caches: &[ZoneStatus],
    certificates: &[(String, i64)],
) -> String {
    let mut page = Page::default();
    let groups: Vec<(&Group, Vec<PeerStatus>)> = groups.map(|(group, _)| (group, group.status())).collect();
    // Two servers of a group may have one address; no two lines may have the same labels.
    let peers = || {
        groups.iter().flat_map(|(group, peers)| {
            let numbered = (0..).zip(peers);
            numbered
                .map(|(id, peer): (u32, _)| (Labels { group: &group.name, id: id.to_string(), peer }, peer))
        })
    };
    for (name, kind, what, of) in FIGURES {
        page.begin(&format!("upstream_{name}"), kind, what);
        for (labels, peer) in peers() {
            page.line(&labels.all(), of(peer));
        }
    }
    page.begin("upstream_responses_total", "counter", "Answers by the first digit of their status.");
    for (labels, peer) in peers() {
        let [group, id, server] = labels.all();
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(peer.responses) {
            page.line(&[group, id, server, ("class", class)], count);
        }
    }
    let seconds = |millis: u64| millis as f64 / 1000.0;
    page.begin("upstream_response_seconds", "gauge", "The usual time until the last byte of an answer.");
    for (labels, peer) in peers() {
        page.line(&labels.all(), seconds(peer.response_time));
    }
    page.begin("upstream_keepalive", "gauge", "Connections that wait for a request.");
    for (group, _) in groups.iter().filter(|(group, _)| group.keepalive.is_some()) {
        page.line(&[("upstream", &group.name)], group.idle());
    }
    page.begin("upstream_queue", "gauge", "Requests that wait for a server.");
    for (group, _) in &groups {
        if let Some((size, _)) = group.queued() {
            page.line(&[("upstream", &group.name)], size);
        }
    }
    page.begin("cache_bytes", "gauge", "Bytes of the files of a cache.");
    for zone in caches {
        page.line(&[("cache", &zone.name)], zone.size);
    }
    page.begin("cache_keys", "gauge", "Keys that a cache knows of.");
    for zone in caches {
        page.line(&[("cache", &zone.name)], zone.keys);
    }
    page.begin("cache_requests_total", "counter", "Requests by what came of looking into a cache.");
    for zone in caches {
        for (status, count) in STATUSES.iter().zip(zone.served) {
            page.line(&[("cache", &zone.name), ("status", &status.to_ascii_lowercase())], count);
        }
    }
    page.begin(
        "certificate_not_after_seconds",
        "gauge",
        "Until when a certificate is good, in seconds since 1970.",
    );
    for (name, until) in certificates {
        page.line(&[("certificate", name)], until);
    }
    page.text
}

/// What a server is known by.
struct Labels<'s> {
    group: &'s str,
    id: String,
    peer: &'s PeerStatus,
}

impl Labels<'_> {
    fn all(&self) -> [(&str, &str); 3] {
        [("upstream", self.group), ("id", &self.id), ("server", &self.peer.address)]
    }
}

#[derive(Default)]
struct Page {
    text: String,
    name: String,
}

impl Page {
    fn begin(&mut self, name: &str, kind: &str, what: &str) {
        self.name = format!("monoceros_{name}");
        let name = &self.name;
        let _ = writeln!(self.text, "# HELP {name} {what}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// The value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out() {
        let mut page = Page::default();
        page.begin("a", "gauge", "What.");
        page.line(&[("x", "a\"b\\c\nd"), ("y", "z")], 1);
        assert_eq!(
            page.text,
            "# HELP monoceros_a What.\n# TYPE monoceros_a gauge\n\
             monoceros_a{x=\"a\\\"b\\\\c\\nd\",y=\"z\"} 1\n"
        );
    }
}
