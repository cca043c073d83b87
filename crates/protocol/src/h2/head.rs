//! The head of a request: what HTTP/2 says becomes what HTTP/1 would have said, and nothing else does.
//!
//! The codec has refused what is malformed by RFC 9113 §8.2 and §8.3: names with capitals, fields of connections,
//! pseudo-header fields that are unknown, repeated or late, and lengths that are not the body's. What is left to do
//! here keeps a request from meaning something else behind us.

use std::hash::{BuildHasher, Hasher, RandomState};

use ::h2::RecvStream;
use ::h2::ext::Protocol;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use exchange::{Method, Name, Request, Version};
use http::{HeaderMap, Uri, header};
use http1::{HeadError, UnderscoreFields};

use super::turns::Priority;
use crate::{Refusal, h1, path};

/// A request's head as the codec has it.
pub(super) struct Head {
    method: http::Method,
    uri: Uri,
    fields: HeaderMap,
    /// `:protocol`
    protocol: Option<Protocol>,
}

/// Bytes of a header list that the codec takes, by its measure (RFC 9113 §6.5.2). It answers longer ones itself and
/// nobody hears of them, so it is left more than a head may have.
pub(super) fn list_limit(settings: &h1::Settings) -> u32 {
    u32::try_from(settings.limits.head.saturating_mul(2)).unwrap_or(u32::MAX)
}

impl Head {
    pub(super) fn of(request: http::Request<RecvStream>) -> (Self, RecvStream) {
        let (mut parts, stream) = request.into_parts();
        let protocol = parts.extensions.remove();
        (Self { method: parts.method, uri: parts.uri, fields: parts.headers, protocol }, stream)
    }

    /// Whether a WebSocket is to begin.
    pub(super) fn is_web_socket(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
    }

    pub(super) fn priority(&self) -> Priority {
        self.fields.get("priority").map_or_else(Priority::default, |value| Priority::parse(value.as_bytes()))
    }

    /// Moves it into `request`. `is_whole`: no body follows.
    pub(super) fn read(
        self,
        settings: &h1::Settings,
        is_whole: bool,
        request: &mut Request,
    ) -> Result<(), Refusal> {
        request.clear();
        request.version = Version::Http2;
        let is_web_socket = self.is_web_socket();
        request.method =
            if is_web_socket { Method::Get } else { Method::of(self.method.as_str().as_bytes()) };
        self.target(request);
        let read = self.authority(request).and_then(|()| self.fields(settings, request));
        read.map_err(Refusal::Head)?;
        if !settings.policy.unconventional_methods && has_small_letters(request.method.as_bytes()) {
            return Err(Refusal::Head(HeadError::Method));
        }
        if is_web_socket {
            upgrade(request)?;
        }
        let length = request.fields.first(Name::ContentLength);
        request.content_length = match length.and_then(|v| str::from_utf8(v).ok()?.parse().ok()) {
            _ if is_whole || is_web_socket => Some(0),
            Some(length) => Some(length),
            None => None,
        };
        match (request.raw_path.as_slice(), &request.method) {
            (b"*", Method::Options) | (b"", Method::Connect) => {
                request.path.extend_from_slice(&request.raw_path);
            }
            ([b'/', ..], _) => path::normalize(&request.raw_path, settings.merge_slashes, &mut request.path)
                .map_err(Refusal::Path)?,
            _ => return Err(Refusal::Head(HeadError::Target)),
        }
        if let (Some(length), Some(limit)) = (request.content_length, settings.max_body)
            && length > limit
        {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }

    fn target(&self, request: &mut Request) {
        if let Some(path) = self.uri.path_and_query() {
            // Of a path `*` and of none the codec's type knows no query.
            request.target.extend_from_slice(path.as_str().as_bytes());
            request.raw_path.extend_from_slice(path.path().as_bytes());
            request.query.extend_from_slice(path.query().unwrap_or_default().as_bytes());
        } else if let Some(authority) = self.uri.authority() {
            request.target.extend_from_slice(authority.as_str().as_bytes());
        }
    }

    /// `:authority`, else `Host`; where both are, they have to say the same (RFC 9113 §8.3.1).
    fn authority(&self, request: &mut Request) -> Result<(), HeadError> {
        let mut hosts = self.fields.get_all(header::HOST).iter();
        let host = hosts.next().map(http::HeaderValue::as_bytes);
        if hosts.next().is_some() {
            return Err(HeadError::HostRepeated);
        }
        let authority = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let name = match (authority, host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(HeadError::HostMalformed);
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => return Err(HeadError::HostMissing),
        };
        // No user's name stands in front of the host (RFC 9113 §8.3.1).
        if name.is_empty() || http1::parse_authority(name).is_none() {
            return Err(HeadError::HostMalformed);
        }
        request.authority.extend_from_slice(name);
        request.fields.push_known(Name::Host, name);
        Ok(())
    }

    fn fields(&self, settings: &h1::Settings, request: &mut Request) -> Result<(), HeadError> {
        let limits = &settings.limits;
        let mut all = request.target.len() + request.authority.len();
        if request.target.len() > limits.request_line {
            return Err(HeadError::RequestLineTooLong);
        }
        if self.fields.len() > limits.fields {
            return Err(HeadError::TooManyFields);
        }
        if self.fields.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
            return Err(HeadError::ContentLengthRepeated);
        }
        let mut has_cookies = false;
        for (name, value) in &self.fields {
            let value = value.as_bytes();
            all += name.as_str().len() + value.len();
            if name.as_str().len() + value.len() > limits.field_size {
                return Err(HeadError::FieldTooLong);
            }
            if all > limits.head {
                return Err(HeadError::HeadTooLong);
            }
            // The codec takes what HTTP/1 would have cut off (RFC 9113 §8.2.1).
            if value.first().is_some_and(|b| is_space(*b)) || value.last().is_some_and(|b| is_space(*b)) {
                return Err(HeadError::FieldValue);
            }
            match *name {
                header::HOST => continue,
                header::COOKIE => {
                    has_cookies = true;
                    continue;
                }
                header::EXPECT if !value.eq_ignore_ascii_case(b"100-continue") => {
                    return Err(HeadError::Expectation);
                }
                _ => {}
            }
            let name = name.as_str().as_bytes();
            match settings.policy.underscore_fields {
                UnderscoreFields::Refuse if name.contains(&b'_') => return Err(HeadError::Underscore),
                UnderscoreFields::Drop if name.contains(&b'_') => continue,
                _ => {}
            }
            if settings.policy.plain_names_only && !name.iter().all(|b| is_plain(*b)) {
                continue;
            }
            request.fields.push(name, value);
        }
        if has_cookies {
            // Crumbs are one field to everybody else (RFC 9113 §8.2.3).
            let crumbs: Vec<&[u8]> =
                self.fields.get_all(header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
            request.fields.push_known(Name::Cookie, &crumbs.join(b"; ".as_slice()));
        }
        Ok(())
    }
}

/// What a client of HTTP/1 sends to begin a WebSocket (RFC 6455 §4.1), as RFC 8441 §5 has it: all but the key and its
/// answer, which are there to tell a server of WebSockets from others.
fn upgrade(request: &mut Request) -> Result<(), Refusal> {
    // There is no body, but what follows; a length of it would be somebody's trap.
    if request.fields.has(Name::ContentLength) {
        return Err(Refusal::Head(HeadError::FieldValue));
    }
    request.fields.push(b"upgrade", b"websocket");
    request.fields.push(b"connection", b"Upgrade");
    if !request.fields.iter().any(|(_, name, _)| name.eq_ignore_ascii_case(b"sec-websocket-key")) {
        let mut nonce = [0; 16];
        for half in nonce.chunks_mut(8) {
            half.copy_from_slice(&RandomState::new().build_hasher().finish().to_ne_bytes());
        }
        request.fields.push(b"sec-websocket-key", STANDARD.encode(nonce).as_bytes());
    }
    Ok(())
}

/// As nginx and gunicorn refuse them on HTTP/1.
fn has_small_letters(method: &[u8]) -> bool {
    method.iter().any(|byte| byte.is_ascii_lowercase() || *byte == b'#')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Of these the names of fields are made that everybody understands.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}
