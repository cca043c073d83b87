//! `upstream_status`: what is known of groups of servers, of caches and of certificates, for people and for programs.

mod prometheus;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cache::{STATUSES, ZoneStatus};
use config::model::http::Http;
use exchange::{Method, Request, Response};
use serde_json::{Map, Value, json};
use upstream::{Group, PeerStatus};

use crate::configuration::Configuration;

/// The page; the error is the status for methods that do not read.
pub fn respond(request: &Request, configuration: &Configuration) -> Result<Response, u16> {
    if !matches!(request.method, Method::Get | Method::Head) {
        return Err(405);
    }
    let Some(http) = configuration.model.http.as_deref() else { return Err(404) };
    let groups = groups(http, configuration);
    let caches: Vec<ZoneStatus> = configuration.caches.zones().iter().map(|zone| zone.status()).collect();
    let certificates = certificates(configuration);
    let accepts = |kind: &[u8]| {
        let mut values = request.fields.all(exchange::Name::Accept);
        values.any(|value| value.windows(kind.len()).any(|part| part.eq_ignore_ascii_case(kind)))
    };
    let mut response = match format(&request.query) {
        Some(b"prometheus") => {
            Response::text(200, prometheus::MEDIA_TYPE, prometheus::text_of(groups, &caches, &certificates))
        }
        Some(b"json") => Response::text(200, "application/json", json_of(groups, &caches, &certificates)),
        None if accepts(b"application/json") => {
            Response::text(200, "application/json", json_of(groups, &caches, &certificates))
        }
        _ => Response::text(200, "text/plain", text_of(groups, &caches, &certificates)),
    };
    response.fields.push_known(exchange::Name::CacheControl, b"no-store");
    Ok(response)
}

/// Those that the configuration names.
fn groups<'c>(
    http: &'c Http,
    configuration: &'c Configuration,
) -> impl Iterator<Item = (&'c Group, Option<&'c str>)> {
    let all = http.upstreams.iter().zip(&configuration.groups);
    all.filter(|(upstream, _)| !upstream.implicit)
        .map(|(upstream, group)| (&**group, upstream.zone.as_deref()))
}

/// Certificates by the files that they are in, or by their names, and until when they are good.
fn certificates(configuration: &Configuration) -> Vec<(String, i64)> {
    let files: HashMap<&str, &Path> = configuration
        .model
        .tls
        .certificates
        .iter()
        .filter_map(|known| Some((&*known.name, &*known.files.as_ref()?.chain)))
        .collect();
    let shown = |name: String| files.get(&*name).map(|chain| chain.display().to_string()).unwrap_or(name);
    let all = configuration.tls.store().expirations();
    let mut all: Vec<(String, i64)> = all.into_iter().map(|(name, until)| (shown(name), until)).collect();
    all.sort_unstable();
    all.dedup_by(|second, first| second.0 == first.0);
    all
}

/// The argument `format`.
fn format(query: &[u8]) -> Option<&[u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"format="))
}

fn json_of<'c>(
    groups: impl Iterator<Item = (&'c Group, Option<&'c str>)>,
    caches: &[ZoneStatus],
    certificates: &[(String, i64)],
) -> String {
    let groups = groups.map(|(group, zone)| {
        let peers: Vec<Value> = (0..).zip(group.status()).map(|(id, peer)| peer_json(id, &peer)).collect();
        let queue = group.queued().map(|(size, most)| json!({ "size": size, "max_size": most }));
        let keepalive = group.keepalive.is_some().then(|| group.idle());
        let shown = json!({ "zone": zone, "keepalive": keepalive, "queue": queue, "peers": peers });
        (group.name.clone(), shown)
    });
    let groups: Map<_, _> = groups.collect();
    let caches = caches.iter().map(|zone| {
        let served = STATUSES.iter().zip(zone.served);
        let served = served.map(|(status, count)| (status.to_ascii_lowercase(), json!(count)));
        let shown = json!({
            "size": zone.size,
            "max_size": zone.max_size,
            "keys": zone.keys,
            "cold": zone.cold,
            "requests": served.collect::<Map<_, _>>(),
        });
        (zone.name.clone(), shown)
    });
    let caches: Map<_, _> = caches.collect();
    let certificates = certificates.iter().map(|(name, until)| (name.clone(), json!({ "not_after": until })));
    let certificates: Map<_, _> = certificates.collect();
    json!({ "upstreams": groups, "caches": caches, "certificates": certificates }).to_string() + "\n"
}

fn peer_json(id: u32, peer: &PeerStatus) -> Value {
    let responses = (1..).zip(peer.responses).map(|(class, count)| (format!("{class}xx"), json!(count)));
    let mut responses: Map<_, _> = responses.collect();
    responses.insert("total".to_owned(), json!(peer.responses.iter().sum::<u64>()));
    json!({
        "id": id,
        "server": peer.address,
        "name": peer.server,
        "backup": peer.backup,
        "weight": peer.weight,
        "state": peer.state,
        "active": peer.active,
        "max_conns": (peer.max_conns > 0).then_some(peer.max_conns),
        "requests": peer.requests,
        "responses": responses,
        "fails": peer.fails,
        "unavail": peer.unavailable,
        "health_checks": {
            "checks": peer.checks,
            "fails": peer.checks_failed,
            "unhealthy": peer.unhealthy,
        },
        "header_time": (peer.header_time > 0).then_some(peer.header_time),
        "response_time": (peer.response_time > 0).then_some(peer.response_time),
    })
}

fn text_of<'c>(
    groups: impl Iterator<Item = (&'c Group, Option<&'c str>)>,
    caches: &[ZoneStatus],
    certificates: &[(String, i64)],
) -> String {
    let mut text = String::new();
    for (group, _) in groups {
        let _ = write!(text, "upstream {}", group.name);
        if group.keepalive.is_some() {
            let _ = write!(text, " keepalive={}", group.idle());
        }
        if let Some((size, most)) = group.queued() {
            let _ = write!(text, " queue={size}/{most}");
        }
        text.push('\n');
        for peer in group.status() {
            let [_, ok, redirects, refused, failed] = peer.responses;
            let _ = writeln!(
                text,
                "  {} {}{} weight={} active={} requests={} 2xx={ok} 3xx={redirects} 4xx={refused} 5xx={failed} \
                 fails={} unavail={} checks={} checks_failed={}",
                peer.address,
                peer.state,
                if peer.backup { " backup" } else { "" },
                peer.weight,
                peer.active,
                peer.requests,
                peer.fails,
                peer.unavailable,
                peer.checks,
                peer.checks_failed,
            );
        }
    }
    for zone in caches {
        let state = if zone.cold { " cold" } else { "" };
        let _ = write!(text, "cache {}{state} size={} keys={}", zone.name, zone.size, zone.keys);
        for (status, count) in STATUSES.iter().zip(zone.served) {
            let _ = write!(text, " {}={count}", status.to_ascii_lowercase());
        }
        text.push('\n');
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    for (name, until) in certificates {
        let days = (until - now).div_euclid(86400);
        let _ = writeln!(text, "certificate {name} not_after={until} days={days}");
    }
    text
}
