//! The request as it is passed on: whom to, with which target, line and fields.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::model::http::{
    Balance, Family, ProxyPass, ProxyTarget, ServerVersion, Upstream, UpstreamAddress, Variable,
};
use exchange::{Method, Name, Request};
use routing::escape::{Escape, escape};
use telemetry::error_log::Level;
use upstream::{Bind, Group, Key, Via};

use super::super::kept::Keeping;
use super::super::visit::Visit;
use super::place::ProxyPlace;

/// Whom to ask, and for what.
pub(super) struct Target {
    pub group: Arc<Group>,
    /// Its number among the site's, if it has one.
    pub pool: Option<u32>,
    pub key: Key,
    /// By which protocol.
    pub family: Family,
    /// `http://`
    pub scheme: &'static str,
    /// TLS is spoken.
    pub tls: bool,
    pub host: Vec<u8>,
    pub port: Vec<u8>,
    /// The request's target.
    pub uri: Vec<u8>,
    /// Name and port of a server whose addresses have to be asked for first.
    pub unresolved: Option<(String, u16)>,
}

/// The head of the request, and what follows from it.
pub(super) struct Head {
    pub bytes: Vec<u8>,
    /// The method is HEAD: the answer has no body.
    pub without_body: bool,
    /// Nobody knows whether what the configuration says of the body's length is so.
    pub odd_framing: bool,
    /// It may be sent twice.
    pub is_idempotent: bool,
    /// It asks the server to keep the connection, or at least not to close it.
    pub keeps: bool,
}

impl Visit<'_, '_> {
    /// Finds out whom to ask; else the status for it.
    pub(super) fn target(&mut self, request: &Request, pass: &ProxyPass) -> Result<Target, u16> {
        let site = self.site;
        let family = pass.family;
        match &pass.target {
            ProxyTarget::Fixed { upstream: id, https, host, port, uri, .. } => {
                let Some(group) = site.configuration.groups.get(*id as usize) else {
                    return Err(500);
                };
                let key = self.key(request, site.http().upstreams.get(*id as usize));
                Ok(Target {
                    family,
                    group: Arc::clone(group),
                    pool: Some(*id),
                    key,
                    scheme: family.scheme(*https),
                    tls: *https,
                    host: host.clone(),
                    port: port.clone(),
                    uri: match family {
                        Family::Proxy | Family::Grpc => self.uri(request, uri, pass.location.len()),
                        _ => Vec::new(),
                    },
                    unresolved: None,
                })
            }
            ProxyTarget::Variable(value) => {
                let url = self.value(value, request);
                self.variable_target(request, family, &url)
            }
        }
    }

    fn variable_target(&mut self, request: &Request, family: Family, url: &[u8]) -> Result<Target, u16> {
        let refuse = |visit: &Self, what: std::fmt::Arguments<'_>| {
            visit.facts.log(Level::Error, Some(request), what);
            Err(500)
        };
        let shown = String::from_utf8_lossy(url).into_owned();
        let split = family.split_scheme(url).map(|(https, rest)| (https, std::str::from_utf8(rest)));
        let Some((https, Ok(rest))) = split else {
            return refuse(self, format_args!("invalid URL prefix in \"{shown}\""));
        };
        let scheme = family.scheme(https);
        let url = match config::nginx::Url::parse(rest, family == Family::Proxy) {
            Ok(url) => url,
            Err(why) => return refuse(self, format_args!("{why} in upstream \"{rest}\"")),
        };
        // Where there is no usual port, none may be missing.
        let usual = family.port(https).unwrap_or(0);
        let (host, port) = url.shown(usual);
        let site = self.site;
        let port_number = url.port.unwrap_or(usual);
        let same = |known: &Upstream| {
            if !known.implicit {
                return !url.is_unix && url.port.is_none() && known.name.eq_ignore_ascii_case(url.host);
            }
            let (name, port) = known.name.rsplit_once(':').unwrap_or_default();
            !url.is_unix && name.eq_ignore_ascii_case(url.host) && port.parse() == Ok(port_number)
        };
        let named = site.http().upstreams.iter().position(same);
        let mut unresolved = None;
        let (group, pool, key) = if let Some(at) = named {
            let key = self.key(request, site.http().upstreams.get(at));
            (Arc::clone(&site.configuration.groups[at]), Some(at as u32), key)
        } else if let Some(address) = literal(&url, usual) {
            let name = if url.is_unix { format!("unix:{}", url.host) } else { url.text.to_owned() };
            (Group::of_addresses(name, [address]), None, Key::None)
        } else if port_number == 0 {
            return refuse(self, format_args!("no port in upstream \"{rest}\""));
        } else {
            unresolved = Some((url.host.to_owned(), port_number));
            (Group::of_addresses(url.text.to_owned(), []), None, Key::None)
        };
        let uri = match url.uri.as_bytes() {
            _ if !matches!(family, Family::Proxy | Family::Grpc) => Vec::new(),
            b"" => self.uri(request, b"", 0),
            // With variables it is the whole of it.
            uri => safe(uri.to_vec()),
        };
        Ok(Target { family, group, pool, key, scheme, tls: https, host, port, uri, unresolved })
    }

    /// Finds out where a server is, if only its name is known; else the status for it.
    pub(super) async fn find_server(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        target: &mut Target,
    ) -> Result<(), u16> {
        let Some((name, port)) = target.unresolved.take() else { return Ok(()) };
        let Some(model) = &place.settings.resolver else {
            let what = format_args!("no resolver defined to resolve {name}");
            self.facts.log(Level::Error, Some(request), what);
            return Err(502);
        };
        let resolver = self.site.resolver(model);
        match resolver.resolve(&name, place.settings.resolver_timeout).await {
            Ok(found) => {
                let addresses = found.iter().map(|ip| UpstreamAddress::Ip((*ip, port).into()));
                target.group = Group::of_addresses(target.group.name.clone(), addresses);
                Ok(())
            }
            Err(why) => {
                let what = format_args!("{name} could not be resolved ({})", why.as_str());
                self.facts.log(Level::Error, Some(request), what);
                Err(502)
            }
        }
    }

    /// What decides who of a group is asked.
    fn key(&mut self, request: &Request, upstream: Option<&Upstream>) -> Key {
        match upstream.map(|upstream| &upstream.balance) {
            Some(Balance::IpHash) => {
                Key::Address(request.peer.remote.map(|remote| remote.ip().to_canonical()))
            }
            Some(Balance::Hash { key, .. }) => Key::Text(self.value(key, request)),
            _ => Key::None,
        }
    }

    /// The request's target: as it came, or with the location's path replaced.
    fn uri(&self, request: &Request, own: &[u8], replaced: usize) -> Vec<u8> {
        if own.is_empty() && !self.target_changed {
            let mut uri = Vec::with_capacity(request.target.len());
            routing::request_variable(&Variable::RequestUri, request, &mut uri);
            return safe(uri);
        }
        let mut uri = Vec::new();
        let replaced = if self.location_valid && !own.is_empty() { replaced } else { 0 };
        if self.location_valid {
            uri.extend_from_slice(own);
        }
        let rest = request.path.get(replaced..).unwrap_or_default();
        // What came without an escape needs none, unless the configuration has made it.
        if request.raw_path.contains(&b'%') || self.internal {
            escape(rest, Escape::Uri, &mut uri);
        } else {
            uri.extend_from_slice(rest);
        }
        if !request.query.is_empty() {
            uri.push(b'?');
            uri.extend_from_slice(&request.query);
        }
        safe(uri)
    }

    /// Whether the client's body does not come along, while variables tell of it.
    pub(super) fn is_bodiless(&self, request: &Request) -> bool {
        self.is_inner() && !request.has_body()
    }

    /// The head of the request. `Err`: the status, because a field of the configuration would be none.
    pub(super) fn head(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        uri: &[u8],
        keeping: Option<&Keeping>,
    ) -> Result<Head, u16> {
        let settings = &place.settings;
        let cacheable = Keeping::is_cacheable(keeping);
        let mut out = Vec::with_capacity(1024);
        let method = settings.method.as_ref().map(|method| self.value(method, request));
        // What answers GET answers HEAD too.
        let converts = keeping.is_some_and(|keeping| keeping.settings.convert_head);
        let own = if converts && request.method == Method::Head { b"GET" } else { request.method.as_bytes() };
        let method = method.as_deref().unwrap_or(own);
        if !http1::is_token(method) {
            let shown = String::from_utf8_lossy(method).into_owned();
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("invalid method \"{shown}\" in proxy_method"),
            );
            return Err(500);
        }
        out.extend_from_slice(method);
        out.push(b' ');
        out.extend_from_slice(uri);
        let is_http2 = place.is_http2();
        let version: &[u8] = match settings.version {
            _ if is_http2 => b" HTTP/2.0\r\n",
            ServerVersion::Http10 => b" HTTP/1.0\r\n",
            ServerVersion::Http11 | ServerVersion::Http2 => b" HTTP/1.1\r\n",
        };
        out.extend_from_slice(version);
        let without_body = method == b"HEAD";
        let is_idempotent = Method::of(method).is_idempotent();
        let mut odd_framing = false;
        let mut keeps = !place.own.connection;
        for (name, value) in &settings.set_headers {
            let line = out.len();
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            let from = out.len();
            self.append(value, request, &mut out);
            let frames = name.eq_ignore_ascii_case(b"content-length")
                || name.eq_ignore_ascii_case(b"transfer-encoding");
            // nginx says how long a body is that does not come along (`proxy_set_header Content-Length
            // $content_length`), and the server waits for it.
            let is_of_client = frames && self.is_bodiless(request) && settings.set_body.is_none();
            if out.len() == from || (is_of_client && out[from..] != *b"0") {
                out.truncate(line);
                continue;
            }
            odd_framing |= frames;
            keeps &= !name.eq_ignore_ascii_case(b"connection") || !has_close(&out[from..]);
            if !http1::is_field_value(&out[from..]) {
                let name = String::from_utf8_lossy(name).into_owned();
                let what = format_args!("invalid value of \"{name}\" in proxy_set_header");
                self.facts.log(Level::Error, Some(request), what);
                return Err(400);
            }
            // What is about a connection has no place in HTTP/2.
            if is_http2 && is_about_connections(name) {
                out.truncate(line);
                continue;
            }
            out.extend_from_slice(b"\r\n");
        }
        if place.own.te && takes_trailers(request) {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        if place.own.host {
            let asked = self.facts.upstream.borrow();
            field(&mut out, b"Host", asked.as_ref().map_or(b"", |asked| &asked.host));
        }
        if place.own.connection {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        {
            let asked = self.facts.upstream.borrow();
            let (length, chunked) =
                asked.as_ref().map_or((None, false), |asked| (asked.body_length, asked.chunked));
            if let Some(length) = length.filter(|_| place.own.content_length) {
                field(&mut out, b"Content-Length", length.to_string().as_bytes());
            }
            if chunked && place.own.transfer_encoding {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
        }
        if settings.pass_headers {
            for (known, name, value) in request.fields.iter() {
                // What is kept is whole, and for those too that have other conditions.
                if place.passes_on(known, name)
                    && !(cacheable && is_condition(known))
                    && !(is_http2 && is_about_connections(name))
                {
                    field(&mut out, name, value);
                }
            }
        }
        if cacheable {
            for (known, name, variable) in [
                (Name::IfModifiedSince, &b"If-Modified-Since"[..], Variable::UpstreamCacheLastModified),
                (Name::IfNoneMatch, b"If-None-Match", Variable::UpstreamCacheEtag),
            ] {
                let asked = self.facts.upstream.borrow();
                let mut value = Vec::new();
                if place.passes_on(known, name)
                    && asked.as_ref().is_some_and(|asked| asked.variable(&variable, &mut value))
                {
                    field(&mut out, name, &value);
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(Head { bytes: out, without_body, odd_framing, is_idempotent, keeps })
    }

    /// TLS, where it is spoken; `Err`: it cannot be.
    pub(super) fn via(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        target: &Target,
    ) -> Result<Option<Via>, u16> {
        if !target.tls {
            return Ok(None);
        }
        let name = match &place.settings.tls.name {
            Some(name) => self.value(name, request),
            None => target.host.clone(),
        };
        match place.tls() {
            Ok(tls) => {
                let tls = self.tls_as(request, place, tls)?;
                Ok(Some(Via { tls, name: String::from_utf8_lossy(&name).into_owned() }))
            }
            Err(why) => {
                self.facts.log(Level::Error, Some(request), format_args!("proxy_ssl: {why}"));
                Err(500)
            }
        }
    }

    /// `proxy_bind`
    pub(super) fn bind(&mut self, request: &Request, place: &ProxyPlace) -> Option<Bind> {
        let value = place.settings.bind.as_ref()?;
        let text = self.value(value, request);
        let text = std::str::from_utf8(&text).ok()?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let parsed = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).or_else(|_| text.parse());
        if parsed.is_err() && !text.is_empty() && text != "off" {
            self.facts.log(Level::Error, Some(request), format_args!("invalid local address \"{text}\""));
        }
        Some(Bind { address: parsed.ok()?, transparent: place.settings.bind_transparent })
    }
}

/// Fields that HTTP/2 does not have (RFC 9113 §8.2.2).
fn is_about_connections(name: &[u8]) -> bool {
    [&b"connection"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a `Connection` says that no request will follow.
fn has_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Whether the client says that it takes fields behind a body.
fn takes_trailers(request: &Request) -> bool {
    request.fields.all(Name::Te).any(|value| {
        value.split(|byte| *byte == b',').any(|one| {
            let name = one.split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"trailers")
        })
    })
}

/// What a request says of what its sender has already, or of the part that it wants.
pub(super) const fn is_condition(name: Name) -> bool {
    matches!(
        name,
        Name::IfModifiedSince
            | Name::IfUnmodifiedSince
            | Name::IfNoneMatch
            | Name::IfMatch
            | Name::Range
            | Name::IfRange
    )
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The address that a URL names without anybody having to be asked.
fn literal(url: &config::nginx::Url<'_>, usual: u16) -> Option<UpstreamAddress> {
    if url.is_unix {
        return Some(UpstreamAddress::Unix(url.host.into()));
    }
    let bare = url.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(url.host);
    let ip: IpAddr = bare.parse().ok()?;
    Some(UpstreamAddress::Ip(SocketAddr::new(ip, url.port.unwrap_or(usual))))
}

/// A target that cannot end its line, and begins as one.
fn safe(uri: Vec<u8>) -> Vec<u8> {
    let is_safe = |byte: &u8| *byte > b' ' && *byte != 0x7F;
    let begins = !matches!(uri.first(), None | Some(b'?'));
    if begins && uri.iter().all(is_safe) {
        return uri;
    }
    let mut out = Vec::with_capacity(uri.len() + 1);
    if !begins {
        out.push(b'/');
    }
    for byte in &uri {
        if is_safe(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}
