//! Heads that are refused, or do not come: nginx's words for them, and what is allowed where something is too much.

use std::borrow::Cow;

use exchange::{Request, Version};
use http1::{HeadError, Limits};
use protocol::{Refusal, h1};
use telemetry::error_log::Level;

use super::visit::{Step, Visit};

/// What nginx does while it reads the fields of a head, as its error log has it.
pub(super) const READING_HEADERS: &str = "reading client request headers";
const READING_LINE: &str = "reading client request line";
const INVALID: &str = "client sent invalid request";

impl Visit<'_, '_> {
    /// A head that is refused. `None`: nobody is left to answer.
    pub(super) fn refuse(&mut self, request: &Request, refusal: Refusal) -> Option<Step> {
        let h1 = &self.place.h1;
        let words = words(refusal, request, h1);
        let level = if refusal == Refusal::TooLarge { Level::Error } else { Level::Info };
        let action = self.reading(request, is_of_line(refusal, request));
        let action = Some(action).filter(|_| refusal != Refusal::TooLarge);
        self.facts.log_about(level, Some(request), action, None, format_args!("{words}"));
        if let Refusal::Head(error) = refusal {
            self.facts.debug(format_args!("http head refused: {error}"));
        }
        // nginx's own number for heads that are too large; the client sees 400.
        let step = refusal.status().map(|status| Step::Page(if status == 431 { 494 } else { status }));
        if step.is_none() {
            self.unanswered = 400;
        }
        step
    }

    /// What was being done while a head was read.
    pub(super) fn reading(&self, request: &Request, is_line: bool) -> &'static str {
        match is_line {
            _ if request.version == Version::Http2 => "processing HTTP/2 connection",
            true if self.facts.pipelined => "reading client pipelined request line",
            true => READING_LINE,
            false => READING_HEADERS,
        }
    }

    /// A host that is none.
    pub(super) fn log_invalid_host(&self, request: &Request) {
        // Whoever names it in the target says it there.
        let is_line = request.version != Version::Http2 && !request.target.starts_with(b"/");
        let words = if is_line { IN_LINE } else { "client sent invalid host header" };
        let action = self.reading(request, is_line);
        self.facts.log_about(Level::Info, Some(request), Some(action), None, format_args!("{words}"));
    }

    /// Fields that are left out, for who wonders where they are.
    pub(super) fn log_left_out(&self, request: &Request) {
        for line in request.flaw.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line = String::from_utf8_lossy(line);
            let words = format_args!("client sent invalid header line: \"{line}\"");
            self.facts.log_about(Level::Info, Some(request), Some(READING_HEADERS), None, words);
        }
    }
}

const IN_LINE: &str = "client sent invalid host in request line";

/// Whether it was the request line that was no good, or did not come.
fn is_of_line(refusal: Refusal, request: &Request) -> bool {
    match refusal {
        Refusal::Path(_) | Refusal::Head(HeadError::Target) => true,
        _ => request.target.is_empty(),
    }
}

fn words(refusal: Refusal, request: &Request, h1: &h1::Settings) -> Cow<'static, str> {
    Cow::Borrowed(match refusal {
        Refusal::Gone => "client prematurely closed connection",
        Refusal::Reset => "recv() failed (104: Connection reset by peer)",
        Refusal::Timeout => {
            let seconds = h1.header_timeout.as_secs_f64();
            return format!(
                "client timed out (110: Connection timed out) (client_header_timeout {seconds}s)"
            )
            .into();
        }
        Refusal::Head(error) => return head_words(error, request, &h1.limits),
        Refusal::Path(_) => INVALID,
        Refusal::TooEarly => "the TLS handshake did not come to its end",
        Refusal::TooLarge => {
            let length = request.content_length.unwrap_or_default();
            return too_large(length, h1.max_body.unwrap_or_default()).into();
        }
    })
}

/// nginx's words, and what is allowed.
pub(super) fn too_large(length: u64, limit: u64) -> String {
    format!("client intended to send too large body: {length} bytes (client_max_body_size {limit})")
}

fn head_words(error: HeadError, request: &Request, limits: &Limits) -> Cow<'static, str> {
    let with = |words: &str| {
        let flaw = String::from_utf8_lossy(&request.flaw);
        let between = if flaw.is_empty() { "" } else { ": " };
        Cow::Owned(format!("{words}{between}{flaw}"))
    };
    Cow::Borrowed(match error {
        HeadError::Method => "client sent invalid method",
        HeadError::RequestLine if !request.line.contains(&b' ') => "client sent invalid method",
        HeadError::Version => "client sent invalid version",
        HeadError::Target if !request.target.is_empty() => IN_LINE,
        HeadError::LeadingEmptyLines
        | HeadError::RequestLine
        | HeadError::TargetByte
        | HeadError::Target
        | HeadError::MalformedVersion
        | HeadError::BareLf => INVALID,
        HeadError::RequestLineTooLong => {
            let limit = limits.request_line;
            return format!("client sent too long URI (large_client_header_buffers allow {limit} bytes)")
                .into();
        }
        HeadError::FieldTooLong | HeadError::HeadTooLong => {
            let limit = if error == HeadError::HeadTooLong { limits.head } else { limits.field_size };
            let words = with("client sent too long header line");
            return format!("{words} (large_client_header_buffers allow {limit} bytes)").into();
        }
        HeadError::TooManyFields => {
            return format!("client sent too many header lines (max_headers {})", limits.fields).into();
        }
        HeadError::FieldName | HeadError::FieldValue | HeadError::ObsFold | HeadError::Underscore => {
            return with("client sent invalid header line");
        }
        HeadError::HostMissing => "client sent HTTP/1.1 request without \"Host\" header",
        HeadError::HostMalformed => "client sent invalid host header",
        HeadError::HostRepeated => return with("client sent duplicate host header"),
        HeadError::ContentLength => "client sent invalid \"Content-Length\" header",
        HeadError::ContentLengthRepeated | HeadError::TransferEncodingRepeated => {
            return with("client sent duplicate header line");
        }
        HeadError::LengthAndEncoding => {
            "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"
        }
        HeadError::TransferEncoding | HeadError::TransferCoding => {
            return with("client sent unknown \"Transfer-Encoding\"");
        }
        HeadError::TransferEncodingVersion => {
            "client sent HTTP/1.0 request with \"Transfer-Encoding\" header"
        }
        HeadError::Expectation => "client sent unknown \"Expect\" header",
        HeadError::ExpectationRepeated => "client sent duplicate \"Expect\" header",
        error => return error.to_string().into(),
    })
}
