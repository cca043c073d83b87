//! A server's answer becomes the response.

use buffering::{ResponseBuffer, ResponseLimits};
use bytes::Bytes;
use cache::Stored;
use config::model::http::{CacheSettings, ProxyPass, ProxyTarget};
use exchange::{Body, Fields, Leave, Method, Name, Request, Response, Version, parse_http_date};
use http1::ResponseHead;

use super::super::kept::{self, Keeping};
use super::super::visit::{Step, Visit};
use super::outgoing::Head;
use super::place::{Match, ProxyPlace, Redirect};
use super::straight::{Answered, Source};
use super::tunnel::Tunnel;
use super::wants_next;

impl Visit<'_, '_> {
    pub(super) fn answered(
        &mut self,
        request: &mut Request,
        place: &ProxyPlace,
        pass: &ProxyPass,
        asked: &Head,
        answer: Answered,
        mut keeping: Option<Box<Keeping>>,
    ) -> Step {
        let Answered { head, bytes, mut body } = answer;
        let settings = &place.settings;
        let fresh = keeping
            .as_ref()
            .map(|_| cache::weigh(head.lines(&bytes), settings.ignore, kept::seconds()))
            .unwrap_or_default();
        if keeping.is_some() {
            let is_meant = |cache: &CacheSettings, _: &Stored| wants_next(cache.use_stale, head.status);
            let stale = match self.stale_for(keeping.as_mut(), is_meant) {
                None if head.status == 304 => keeping
                    .as_mut()
                    .and_then(|keeping| self.renewed(request, keeping, &fresh, settings.ignore)),
                stale => stale,
            };
            if let Some(stored) = stale {
                let _ = body.take_whole();
                return self.kept(request, place, pass, &stored);
            }
        }
        if let Some(asked) = self.facts.upstream.borrow_mut().as_mut() {
            asked.head = bytes.clone();
        }
        let accel = Accel::of(&head, &bytes);
        if !settings.ignore.accel_limit_rate
            && let Some(rate) = accel.limit_rate
        {
            *self.facts.limit_rate.borrow_mut() = Some(rate.to_vec());
        }
        if settings.intercept_errors && head.status >= 300 && self.has_error_page(head.status) {
            if let Some(keeping) = &keeping {
                Self::remember(keeping, head.status, Some(&fresh));
            }
            let mut challenges = Fields::new();
            for (_, value) in head.lines(&bytes).filter(|(n, _)| n.eq_ignore_ascii_case(b"www-authenticate"))
            {
                challenges.push_known(Name::WwwAuthenticate, value);
            }
            if head.status == 401 && !challenges.is_empty() {
                let mut response = Response::new(401);
                response.fields = challenges;
                return Step::special(response);
            }
            return Step::Page(head.status);
        }
        if !settings.ignore.accel_redirect
            && let Some(to) = accel.redirect
        {
            let to = to.to_vec();
            let mut response = Response::new(head.status);
            for line in &head.fields {
                let (name, value) = (line.name.of(&bytes), line.value.of(&bytes));
                match line.known {
                    Name::SetCookie => match self.cookie(request, place, value) {
                        Some(changed) => response.fields.push(name, &changed),
                        None => response.fields.push(name, value),
                    },
                    _ => response.fields.push(name, value),
                }
            }
            if settings.ignore.accel_charset {
                response.fields.remove(Name::XAccelCharset);
            }
            drop(body);
            return self.accelerate(request, &response, &to);
        }
        let mut response = Response::new(head.status);
        set_reason(&mut response, &head, &bytes);
        self.pass_fields(request, place, pass, &head, &bytes, &mut response.fields);
        self.take_own_type(&response.fields);
        if let Source::Server(body) = &body
            && let Some(lease) = body.lease()
        {
            self.stick(request, lease, &mut response.fields);
        }
        if !settings.ignore.accel_charset
            && let Some(charset) = accel.charset
        {
            response.charset = Some(charset.into());
        }
        let cacheable = Keeping::is_cacheable(keeping.as_deref()) && !fresh.forbidden;
        self.facts.passed.set(!cacheable);
        self.facts.keeps.set(cacheable);
        let ranges = settings.force_ranges || (cacheable && fresh.ranges);
        self.facts.ranges.set(ranges && response.status == 200);
        if head.status == 101 {
            if let Source::Server(body) = body
                && let Some((stream, input, deadline)) = body.into_stream()
            {
                self.company().tunnel =
                    Some(Tunnel { stream, input, deadline, timeout: settings.read_timeout });
            }
            return Step::respond(response);
        }
        if let Some(rate) = &settings.limit_rate {
            let rate = self.value(rate, request);
            if let Source::Server(body) = &mut body
                && let Some(rate) = super::super::pace::size(&rate).filter(|rate| *rate > 0)
            {
                body.set_rate(rate);
            }
        }
        // Of an answer to HEAD the fields say what GET would have had; of all others the body does.
        if !asked.without_body {
            response.fields.remove(Name::ContentLength);
        }
        let buffering = match accel.buffering {
            Some(says) if !settings.ignore.accel_buffering => says,
            _ => settings.buffering,
        };
        // What is kept is for others, too.
        if !settings.ignore_client_abort && !cacheable {
            response.leave = Leave::Ended;
        }
        let keeping = keeping.filter(|_| buffering);
        // As in nginx: what answers GET, as a whole.
        let is_stored = keeping.is_none() && head.status == 200 && request.method == Method::Get;
        let store = settings.store.as_ref().filter(|_| is_stored && buffering && !asked.without_body);
        if let Some(whole) = body.take_whole() {
            if let Some(keeping) = keeping {
                let kept = if whole.is_empty() { Body::Empty } else { Body::Full(whole) };
                if matches!(kept, Body::Empty) && !asked.without_body {
                    say_empty(request, &mut response);
                }
                let (status, without) = (head.status, asked.without_body);
                let (memory, length) = (settings.memory, head.content_length);
                response.body = self.put_in_cache(
                    request,
                    *keeping,
                    fresh,
                    status,
                    without,
                    || bytes,
                    kept,
                    length,
                    memory,
                );
                return Step::respond(response);
            }
            if !whole.is_empty() {
                response.body = Body::Full(whole);
            } else if !asked.without_body {
                say_empty(request, &mut response);
            }
            if let Some(store) = store {
                let body = std::mem::take(&mut response.body);
                let modified = modified(&head, &bytes);
                response.body =
                    self.put_in_store(request, store, modified, body, head.content_length, settings.memory);
            }
            return Step::respond(response);
        }
        if let Some(length) = head.content_length {
            // Of an answer to HEAD it is there already.
            response.fields.set(Name::ContentLength, length.to_string().as_bytes());
        }
        if let Some(keeping) = keeping {
            let kept = body.at_once(settings.pass_trailers);
            let (status, without) = (head.status, asked.without_body);
            let (memory, length) = (settings.memory, head.content_length);
            response.body =
                self.put_in_cache(request, *keeping, fresh, status, without, || bytes, kept, length, memory);
            return Step::respond(response);
        }
        if let Some(store) = store {
            response.leave = Leave::Unseen;
            let body = body.at_once(settings.pass_trailers);
            let modified = modified(&head, &bytes);
            response.body =
                self.put_in_store(request, store, modified, body, head.content_length, settings.memory);
            return Step::respond(response);
        }
        response.body = if buffering {
            let limits = ResponseLimits {
                memory: usize::try_from(settings.memory).unwrap_or(usize::MAX),
                temp_file: settings.temp_file,
            };
            let buffer = || ResponseBuffer::new(limits, self.event_loop.process.temp.clone());
            body.buffered(buffer, settings.pass_trailers)
        } else {
            body.direct(settings.pass_trailers)
        };
        Step::respond(response)
    }

    /// What is kept becomes the response.
    pub(super) fn kept(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        pass: &ProxyPass,
        stored: &Stored,
    ) -> Step {
        let (head, bytes) = (&stored.head, &stored.meta.head);
        let settings = &place.settings;
        if let Some(asked) = self.facts.upstream.borrow_mut().as_mut() {
            asked.head = bytes.clone();
        }
        let accel = Accel::of(head, bytes);
        if !settings.ignore.accel_limit_rate
            && let Some(rate) = accel.limit_rate
        {
            *self.facts.limit_rate.borrow_mut() = Some(rate.to_vec());
        }
        let mut response = Response::new(head.status);
        set_reason(&mut response, head, bytes);
        self.pass_fields(request, place, pass, head, bytes, &mut response.fields);
        self.take_own_type(&response.fields);
        if !settings.ignore.accel_charset
            && let Some(charset) = accel.charset
        {
            response.charset = Some(charset.into());
        }
        self.facts.passed.set(false);
        self.facts.keeps.set(true);
        let ranges = settings.force_ranges || response.fields.has(Name::AcceptRanges);
        self.facts.ranges.set(ranges && response.status == 200);
        if !stored.meta.without_body {
            response.fields.remove(Name::ContentLength);
            response.body = stored.body();
            if matches!(response.body, Body::Empty) {
                say_empty(request, &mut response);
            }
        }
        Step::respond(response)
    }

    /// The fields that go on to the client.
    fn pass_fields(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        pass: &ProxyPass,
        head: &ResponseHead,
        bytes: &Bytes,
        fields: &mut Fields,
    ) {
        fields.reserve(head.fields.len() + 2, bytes.len() + 64);
        let block = fields.copy_block(bytes);
        for line in &head.fields {
            let (known, name, value) = (line.known, line.name.of(bytes), line.value.of(bytes));
            match known {
                Name::Connection | Name::KeepAlive | Name::TransferEncoding => continue,
                Name::Trailer if !place.settings.pass_trailers => continue,
                // It is the connection's affair; HTTP/2 has no such field (RFC 9113 §8.2.2).
                Name::Upgrade if request.version == Version::Http2 => continue,
                // Of what may be there once, the first counts.
                Name::ContentType
                | Name::LastModified
                | Name::ETag
                | Name::Location
                | Name::Expires
                | Name::ContentEncoding
                    if fields.has(known) =>
                {
                    continue;
                }
                // As nginx, which has none then.
                Name::ContentType if value.is_empty() => continue,
                _ if place.hides(known, name) => continue,
                Name::Location => {
                    if let Some(changed) = self.redirected(request, place, pass, value, 0) {
                        fields.push(name, &changed);
                        continue;
                    }
                }
                Name::SetCookie => {
                    if let Some(changed) = self.cookie(request, place, value) {
                        fields.push(name, &changed);
                        continue;
                    }
                }
                Name::Other if name.eq_ignore_ascii_case(b"refresh") => {
                    let url = value.windows(4).position(|four| four.eq_ignore_ascii_case(b"url="));
                    if let Some(at) = url
                        && let Some(changed) = self.redirected(request, place, pass, value, at + 4)
                    {
                        fields.push(name, &changed);
                        continue;
                    }
                }
                _ => {}
            }
            fields.push_within(block, known, line.name.range(), line.value.range());
        }
    }

    /// `proxy_redirect`: the field's value with its URL, from `at` on, replaced; `None` if no rule is for it.
    fn redirected(
        &mut self,
        request: &Request,
        place: &ProxyPlace,
        pass: &ProxyPass,
        value: &[u8],
        at: usize,
    ) -> Option<Vec<u8>> {
        let url = &value[at..];
        for redirect in &place.redirects {
            let (from, to) = match redirect {
                Redirect::Default => {
                    let ProxyTarget::Fixed { url: own, uri, .. } = &pass.target else { continue };
                    if uri.is_empty() {
                        ([own, &b"/"[..]].concat(), b"/".to_vec())
                    } else {
                        (own.clone(), pass.location.clone())
                    }
                }
                Redirect::Prefix(from, to) => {
                    let from = self.value(from, request);
                    if !url.starts_with(&from) {
                        continue;
                    }
                    (from, self.value(to, request))
                }
                Redirect::Regex(regex, to) => {
                    if !matches!(self.state.execute(regex, url), Ok(true)) {
                        continue;
                    }
                    (url.to_vec(), self.value(to, request))
                }
            };
            let Some(rest) = url.strip_prefix(from.as_slice()) else { continue };
            let mut changed = [&value[..at], &to, rest].concat();
            // A path is made a URL, as that of a redirect of one's own.
            if at == 0 && changed.starts_with(b"/") && self.settings().absolute_redirect {
                changed = self.absolute(request, &changed);
            }
            return http1::is_field_value(&changed).then_some(changed);
        }
        None
    }

    /// `proxy_cookie_domain`, `proxy_cookie_path`, `proxy_cookie_flags`; `None` if nothing changes.
    fn cookie(&mut self, request: &Request, place: &ProxyPlace, value: &[u8]) -> Option<Vec<u8>> {
        if place.cookie_domains.is_empty() && place.cookie_paths.is_empty() && place.cookie_flags.is_empty() {
            return None;
        }
        let mut parts: Vec<Vec<u8>> = value.split(|byte| *byte == b';').map(<[u8]>::to_vec).collect();
        for part in &mut parts[1..] {
            let Some(equals) = part.iter().position(|byte| *byte == b'=') else { continue };
            let (name, old) = (part[..equals].trim_ascii(), &part[equals + 1..]);
            let changed = if name.eq_ignore_ascii_case(b"domain") {
                self.cookie_value(request, &place.cookie_domains, old, true)
            } else if name.eq_ignore_ascii_case(b"path") {
                self.cookie_value(request, &place.cookie_paths, old, false)
            } else {
                None
            };
            if let Some(changed) = changed {
                part.truncate(equals + 1);
                part.extend_from_slice(&changed);
            }
        }
        self.cookie_flags(request, place, &mut parts);
        let changed = parts.join(&b';');
        http1::is_field_value(&changed).then_some(changed)
    }

    fn cookie_value(
        &mut self,
        request: &Request,
        pairs: &[(Match, config::model::http::Value)],
        old: &[u8],
        is_domain: bool,
    ) -> Option<Vec<u8>> {
        for (which, to) in pairs {
            match which {
                Match::Text(from) => {
                    let from = self.value(from, request);
                    if is_domain {
                        // A dot in front stays, and means nothing.
                        let bare = old.strip_prefix(b".").unwrap_or(old);
                        if bare.eq_ignore_ascii_case(&from) {
                            let to = self.value(to, request);
                            return Some([&old[..old.len() - bare.len()], &to].concat());
                        }
                    } else if let Some(rest) = old.strip_prefix(from.as_slice()) {
                        return Some([&self.value(to, request)[..], rest].concat());
                    }
                }
                Match::Regex(regex) => {
                    if matches!(self.state.execute(regex, old), Ok(true)) {
                        return Some(self.value(to, request));
                    }
                }
            }
        }
        None
    }

    fn cookie_flags(&mut self, request: &Request, place: &ProxyPlace, parts: &mut Vec<Vec<u8>>) {
        let name = parts[0].split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii().to_vec();
        for (which, flags) in &place.cookie_flags {
            let is_meant = match which {
                Match::Text(text) => self.value(text, request).eq_ignore_ascii_case(&name),
                Match::Regex(regex) => matches!(self.state.execute(regex, &name), Ok(true)),
            };
            if !is_meant {
                continue;
            }
            for flag in flags {
                let flag = self.value(flag, request).to_ascii_lowercase();
                let is = |part: &[u8], what: &[u8]| {
                    let end = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
                    part[..end].trim_ascii().eq_ignore_ascii_case(what)
                };
                let (what, text): (&[u8], &[u8]) = match flag.as_slice() {
                    b"secure" => (b"secure", b" Secure"),
                    b"httponly" => (b"httponly", b" HttpOnly"),
                    b"samesite=strict" => (b"samesite", b" SameSite=Strict"),
                    b"samesite=lax" => (b"samesite", b" SameSite=Lax"),
                    b"samesite=none" => (b"samesite", b" SameSite=None"),
                    b"nosecure" => (b"secure", b""),
                    b"nohttponly" => (b"httponly", b""),
                    b"nosamesite" => (b"samesite", b""),
                    _ => continue,
                };
                let mut at = 0;
                parts.retain(|part| {
                    at += 1;
                    at == 1 || !is(part, what)
                });
                if !text.is_empty() {
                    parts.push(text.to_vec());
                }
            }
            return;
        }
    }
}

/// `Last-Modified`
fn modified(head: &ResponseHead, bytes: &Bytes) -> Option<u64> {
    let mut lines = head.lines(bytes);
    lines.find(|(name, _)| Name::of(name) == Name::LastModified).and_then(|(_, date)| parse_http_date(date))
}

/// What is asked with GET for a HEAD has a length although it has no bytes to count.
fn say_empty(request: &Request, response: &mut Response) {
    if request.method == Method::Head && !matches!(response.status, 204 | 304) {
        response.fields.push_known(Name::ContentLength, b"0");
    }
}

fn set_reason(response: &mut Response, head: &ResponseHead, bytes: &Bytes) {
    let reason = head.reason.of(bytes);
    if reason != http1::reason_phrase(head.status).unwrap_or_default().as_bytes() {
        let start = head.reason.start as usize;
        response.reason = Some(bytes.slice(start..start + reason.len()));
    }
}

/// What an answer says to nginx and not to the client.
struct Accel<'a> {
    redirect: Option<&'a [u8]>,
    limit_rate: Option<&'a [u8]>,
    buffering: Option<bool>,
    charset: Option<&'a [u8]>,
}

impl<'a> Accel<'a> {
    fn of(head: &'a ResponseHead, bytes: &'a [u8]) -> Self {
        let mut accel = Self { redirect: None, limit_rate: None, buffering: None, charset: None };
        for line in &head.fields {
            let value = line.value.of(bytes);
            match line.known {
                Name::XAccelRedirect => accel.redirect = Some(value).filter(|value| !value.is_empty()),
                Name::XAccelLimitRate if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                    accel.limit_rate = Some(value);
                }
                Name::XAccelBuffering if value.eq_ignore_ascii_case(b"no") => accel.buffering = Some(false),
                Name::XAccelBuffering if value.eq_ignore_ascii_case(b"yes") => accel.buffering = Some(true),
                Name::XAccelCharset if !value.is_empty() => accel.charset = Some(value),
                _ => {}
            }
        }
        accel
    }
}
