//! HTTP/2.

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::http::Http2;

const ALL: Context = Context::ALL;
const HEAD: Context = Context::HTTP.or(Context::SERVER);

/// The largest window (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u64 = (1 << 31) - 1;
/// The largest frame (RFC 9113 §4.2).
const LARGEST_FRAME: u64 = (1 << 24) - 1;

pub(super) const ROWS: &[Row] = &[
    Row::flag(
        "http2",
        HEAD,
        |l| &mut l.http2,
        "off",
        "Speaks HTTP/2: over TLS with clients that offer it, without TLS with those that begin with it.",
    )
    .differs(
        "A reload leaves connections open that are used: their next requests go by the new configuration.",
    ),
    Row::one(
        "http2_max_concurrent_streams",
        HEAD,
        Apply::Number(|l| &mut l.http2_streams),
        "128",
        "Requests that one connection may have open at once.",
    ),
    Row::one(
        "http2_body_preread_size",
        HEAD,
        Apply::Custom(|r, l, d| r.http2_body_preread_size(l, d)),
        "64k",
        "Bytes of a body that a client may send before somebody asks for it.",
    ),
    Row::one(
        "http2_chunk_size",
        ALL,
        Apply::Custom(|r, l, d| r.http2_chunk_size(l, d)),
        "8k",
        "Bytes of a response that leave before another response of the connection has its turn.",
    ),
    Row::one(
        "http2_recv_buffer_size",
        Context::HTTP,
        Apply::Quiet(Argument::Size, "memory is allocated as it is needed"),
        "256k",
        "Bytes of a worker's buffer for what clients send.",
    ),
    Row::one(
        "http2_pool_size",
        HEAD,
        Apply::Quiet(Argument::Size, "memory is allocated as it is needed"),
        "4k",
        "Bytes that memory is allocated in.",
    ),
    Row::one(
        "http2_streams_index_size",
        HEAD,
        Apply::Quiet(Argument::Number, "streams are found by a table that grows"),
        "32",
        "Places of the table of streams.",
    ),
    obsolete("http2_idle_timeout", HEAD, "`keepalive_timeout` says it"),
    obsolete("http2_max_concurrent_pushes", HEAD, "nothing is pushed"),
    obsolete("http2_max_field_size", HEAD, "`large_client_header_buffers` says it"),
    obsolete("http2_max_header_size", HEAD, "`large_client_header_buffers` says it"),
    obsolete("http2_max_requests", HEAD, "`keepalive_requests` says it"),
    obsolete("http2_push", ALL, "nothing is pushed").repeats(),
    obsolete("http2_push_preload", ALL, "nothing is pushed"),
    obsolete("http2_recv_timeout", HEAD, "`client_header_timeout` says it"),
];

const fn obsolete(name: &'static str, contexts: Context, doc: &'static str) -> Row {
    Row::new(name, contexts, Count::exactly(1), Apply::Custom(|r, _, d| r.obsolete(d)), "", doc)
        .differs("Ignored with a warning, as by nginx since 1.25.1.")
}

impl<'a> Reader<'a> {
    fn obsolete(&mut self, directive: Directive<'a>) {
        let name = directive.name.text().into_owned();
        let message = match directive.name.value {
            b"http2_idle_timeout" => instead(&name, "keepalive_timeout"),
            b"http2_max_requests" => instead(&name, "keepalive_requests"),
            b"http2_recv_timeout" => instead(&name, "client_header_timeout"),
            b"http2_max_field_size" | b"http2_max_header_size" => {
                instead(&name, "large_client_header_buffers")
            }
            _ => format!("the \"{name}\" directive is obsolete, ignored"),
        };
        self.warning(directive.name.span, message);
    }

    fn http2_body_preread_size(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let Some(size) = self.size(word, "http2_body_preread_size") else { return };
        if size > LARGEST_WINDOW {
            self.error(word.span, format!("the maximum body preread buffer size is {LARGEST_WINDOW}"));
            return;
        }
        level.http2_preread = Some(size);
    }

    fn http2_chunk_size(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let Some(size) = self.size(word, "http2_chunk_size") else { return };
        if size == 0 {
            self.error(word.span, "the http2 chunk size cannot be zero").help("8k is usual");
            return;
        }
        level.http2_chunk = Some(size.min(LARGEST_FRAME));
    }
}

fn instead(name: &str, other: &str) -> String {
    format!("the \"{name}\" directive is obsolete, use the \"{other}\" directive instead")
}

/// What a server says of HTTP/2.
pub(super) fn settle(level: &Level) -> Http2 {
    let usual = Http2::default();
    Http2 {
        enabled: level.http2.unwrap_or(usual.enabled),
        max_concurrent_streams: level
            .http2_streams
            .map_or(usual.max_concurrent_streams, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        preread: level.http2_preread.map_or(usual.preread, |n| n as u32),
    }
}
