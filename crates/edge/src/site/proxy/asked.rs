//! Whom a request was passed on to, for variables and logs.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::Stored;
use config::model::http::{Family, Variable};
use exchange::{Name, Request};
use upstream::Attempt;

use crate::site::environment;

/// See the module.
#[derive(Debug, Default)]
pub struct Asked {
    /// What kind of server is asked last.
    pub family: Family,
    /// In order; `true`: the first after an internal redirect.
    pub attempts: Vec<(bool, Rc<Attempt>)>,
    /// The head of the last answer, as it came.
    pub head: Bytes,
    /// `http://`, and the target that the servers are asked for, once they have been.
    pub url: (&'static str, Vec<u8>),
    /// `$proxy_host`
    pub host: Vec<u8>,
    /// `$proxy_port`
    pub port: Vec<u8>,
    /// Bytes of the body that is passed on; `None`: there is none, or its length is not known.
    pub body_length: Option<u64>,
    /// It is passed on in chunks.
    pub chunked: bool,
    /// `$upstream_cache_status`; empty without a cache.
    pub cache_status: &'static str,
    /// What is asked for anew, if the server may say that it is still the same.
    pub revalidates: Option<Arc<Stored>>,
}

impl Asked {
    /// The server that was asked last, and what for, as the error log has it.
    pub fn last(&self) -> Option<Vec<u8>> {
        let (scheme, uri) = &self.url;
        self.last_attempt().map(|attempt| url(scheme, &attempt.address, uri))
    }

    fn last_attempt(&self) -> Option<Rc<Attempt>> {
        self.attempts.last().and_then(|(_, attempt)| attempt.chain().last())
    }

    /// Why servers were left in the middle of their answers, with their URLs as the error log has them.
    pub fn given_up(&self) -> impl Iterator<Item = (Vec<u8>, String)> {
        let (scheme, uri) = &self.url;
        let all = self.attempts.iter().flat_map(|(_, attempt)| attempt.chain());
        all.filter_map(move |attempt| {
            let why = attempt.gave_up.borrow().clone()?;
            Some((url(scheme, &attempt.address, uri), why))
        })
    }

    /// Appends a variable; `false` if there is no such thing.
    pub fn variable(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            Variable::ProxyHost => put(&self.host, out),
            Variable::ProxyPort => put(&self.port, out),
            Variable::ProxyInternalBodyLength => {
                self.body_length.is_some_and(|length| put(length.to_string().as_bytes(), out))
            }
            Variable::ProxyInternalChunked => self.chunked && put(b"chunked", out),
            Variable::UpstreamCacheStatus => {
                !self.cache_status.is_empty() && put(self.cache_status.as_bytes(), out)
            }
            Variable::UpstreamCacheLastModified => {
                let modified = self.revalidates.as_ref().and_then(|stored| stored.meta.last_modified);
                modified.is_some_and(|modified| put(&exchange::http_date(modified), out))
            }
            Variable::UpstreamCacheEtag => self
                .revalidates
                .as_ref()
                .is_some_and(|stored| !stored.meta.etag.is_empty() && put(&stored.meta.etag, out)),
            Variable::UpstreamAddr => self.each(out, |attempt, text| text.push_str(&attempt.address)),
            Variable::UpstreamStatus => self.each(out, |attempt, text| match attempt.status.get() {
                0 => text.push('-'),
                status => text.push_str(&status.to_string()),
            }),
            Variable::UpstreamConnectTime => self.each(out, |a, text| seconds(a.connect_time.get(), text)),
            Variable::UpstreamHeaderTime => self.each(out, |a, text| seconds(a.header_time.get(), text)),
            Variable::UpstreamResponseTime => self.each(out, |a, text| seconds(a.response_time.get(), text)),
            Variable::UpstreamResponseLength => {
                self.each(out, |a, text| text.push_str(&a.length.get().to_string()))
            }
            Variable::UpstreamBytesReceived => {
                self.each(out, |a, text| text.push_str(&a.received.get().to_string()))
            }
            Variable::UpstreamBytesSent => self.each(out, |a, text| text.push_str(&a.sent.get().to_string())),
            Variable::UpstreamHttp(name) => self.field(name, out),
            Variable::UpstreamCookie(name) => self.cookie(name, out),
            Variable::UpstreamTrailer(name) => self.trailer(name, out),
            _ => false,
        }
    }

    fn each(&self, out: &mut Vec<u8>, mut write: impl FnMut(&Attempt, &mut String)) -> bool {
        let mut text = String::new();
        for (is_first, attempt) in &self.attempts {
            let mut between = if *is_first { " : " } else { ", " };
            for attempt in attempt.chain() {
                if !text.is_empty() {
                    text.push_str(between);
                }
                write(&attempt, &mut text);
                between = ", ";
            }
        }
        !text.is_empty() && put(text.as_bytes(), out)
    }

    /// The field lines of the last answer: it was checked when it came.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    fn field(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let mut found = false;
        for (_, value) in self.lines().filter(|(field, _)| environment::is_variable_of(name, field)) {
            if std::mem::replace(&mut found, true) {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(value);
        }
        found
    }

    fn cookie(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let cookies = self.lines().filter(|(field, _)| field.eq_ignore_ascii_case(b"set-cookie"));
        // The first that sets it counts. White space is spaces only, as in nginx.
        let mut values = cookies.filter_map(|(_, value)| {
            let first = value.split(|byte| *byte == b';').next()?;
            let equals = first.iter().position(|byte| *byte == b'=')?;
            trimmed(&first[..equals]).eq_ignore_ascii_case(name).then(|| trimmed(&first[equals + 1..]))
        });
        values.next().is_some_and(|value| !value.is_empty() && put(value, out))
    }

    pub(in crate::site) fn trailer(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(attempt) = self.last_attempt() else { return false };
        let trailers = attempt.trailers.borrow();
        let Some(fields) = &*trailers else { return false };
        environment::joined(fields, name, out)
    }
}

/// `$proxy_add_x_forwarded_for`
pub fn add_forwarded(request: &Request, out: &mut Vec<u8>) -> bool {
    for value in request.fields.all(Name::XForwardedFor) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    match request.peer.remote {
        Some(remote) => {
            exchange::push_address(remote.ip().to_canonical(), out);
            true
        }
        None => put(b"unix:", out),
    }
}

/// A server's URL as the error log has it.
pub(super) fn url(scheme: &str, server: &str, uri: &[u8]) -> Vec<u8> {
    // Of gRPC nginx tells the server only.
    let uri = if scheme.starts_with("grpc") { &[] } else { uri };
    let colon: &[u8] = if server.starts_with("unix:") { b":" } else { b"" };
    [scheme.as_bytes(), server.as_bytes(), colon, uri].concat()
}

fn put(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

fn seconds(time: Option<Duration>, text: &mut String) {
    let _ = match time {
        None => write!(text, "-"),
        Some(time) => write!(text, "{}.{:03}", time.as_secs(), time.subsec_millis()),
    };
}
