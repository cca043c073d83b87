//! The fields that decide about the message itself: whom it is for, where it ends, what comes after it.

use crate::connection::{ConnectionOptions, Persistence};
use crate::error::HeadError;
use crate::field::FieldLine;
use crate::framing::BodyFraming;
use crate::head::{RequestHead, Version};
use crate::name::Name;
use crate::span::Span;
use crate::target::{RequestTarget, parse_authority};

/// The lines of the fields that decide about the message itself. Each but Connection may be there once.
#[derive(Default)]
pub(crate) struct Essential {
    host: Option<Span>,
    content_length: Option<Span>,
    transfer_encoding: Option<Span>,
    connection: bool,
    upgrade: bool,
    expect: bool,
    expect_other: bool,
    expect_again: bool,
    repeated: Option<HeadError>,
    /// Fields were left out.
    pub(crate) leaves_out: bool,
}

impl Essential {
    pub(crate) fn note(&mut self, line: &FieldLine, buf: &[u8]) {
        let (slot, repeated) = match line.known {
            Name::Host => (&mut self.host, HeadError::HostRepeated),
            Name::ContentLength => (&mut self.content_length, HeadError::ContentLengthRepeated),
            Name::TransferEncoding => (&mut self.transfer_encoding, HeadError::TransferEncodingRepeated),
            Name::Connection => return self.connection = true,
            Name::Upgrade => return self.upgrade = true,
            Name::Expect => {
                // A list in theory; nothing but this one has ever been defined.
                self.expect_again |= std::mem::replace(&mut self.expect, true);
                self.expect_other |= !line.value.of(buf).eq_ignore_ascii_case(b"100-continue");
                return;
            }
            _ => return,
        };
        if slot.replace(line.value).is_some() {
            self.repeated.get_or_insert(repeated);
        }
    }

    /// Decides all that the message itself hangs on, and refuses what is ambiguous.
    pub(crate) fn settle(&self, buf: &[u8], head: &mut RequestHead) -> Result<(), HeadError> {
        let value = |span: Option<Span>| span.map(|span| span.of(buf));
        if let Some(error) = self.repeated {
            return Err(error);
        }
        settle_host(buf, self.host, head)?;
        head.framing =
            BodyFraming::of_request(head.version, value(self.content_length), value(self.transfer_encoding))?;
        let http11 = head.version == Version::Http11;
        head.keep_alive = http11;
        if self.connection {
            let persistence = Persistence::of(head.version, ConnectionOptions::new(buf, &head.fields));
            head.keep_alive = persistence.keep_alive;
            head.upgrade = http11 && persistence.upgrade && self.upgrade;
        }
        // RFC 9110 §10.1.1: an expectation in an HTTP/1.0 request is ignored.
        if http11 {
            if self.expect_other {
                // As in nginx, what is said twice is a mistake before it is anything else.
                let again = self.expect_again;
                return Err(if again { HeadError::ExpectationRepeated } else { HeadError::Expectation });
            }
            head.expect_continue = self.expect && head.framing.has_body();
        }
        Ok(())
    }
}

/// Host must be there and well-formed even where the target decides (RFC 9112 §3.2).
fn settle_host(buf: &[u8], host: Option<Span>, head: &mut RequestHead) -> Result<(), HeadError> {
    let parse = |span: Span| parse_authority(span.of(buf)).map(|it| (span, it.host.len(), it.port));
    let mut authority = match host {
        Some(span) => Some(parse(span).ok_or(HeadError::HostMalformed)?),
        None if head.version == Version::Http11 => return Err(HeadError::HostMissing),
        None => None,
    };
    if let Some(
        RequestTarget::Absolute { authority: span, .. } | RequestTarget::Authority { authority: span },
    ) = head.form
    {
        authority = Some(parse(span).ok_or(HeadError::Target)?);
    }
    if let Some((span, host_len, port)) = authority {
        let start = span.start as usize;
        head.authority = Some(span);
        head.host = Some(Span::new(start, start + host_len));
        head.port = port;
    }
    Ok(())
}
