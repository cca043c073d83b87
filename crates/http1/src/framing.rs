//! Where a message body ends (RFC 9112 §6.3), decided more strictly than the RFC asks: whatever two
//! parties could read differently is refused.

use crate::error::HeadError;
use crate::head::Version;
use crate::syntax::{is_token_byte, trim_ows};

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    #[default]
    None,
    /// So many bytes; may be 0. Below 2^63, so that it fits every signed file offset.
    Length(u64),
    /// Chunks, until the last: [`crate::ChunkedDecoder`].
    Chunked,
}

impl BodyFraming {
    /// Whether bytes of a body are to follow.
    pub const fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }

    /// From the value of the only Content-Length and the only Transfer-Encoding line.
    #[inline]
    pub(crate) fn of_request(
        version: Version,
        content_length: Option<&[u8]>,
        transfer_encoding: Option<&[u8]>,
    ) -> Result<Self, HeadError> {
        match (content_length, transfer_encoding) {
            (None, None) => Ok(Self::None),
            (Some(length), None) => parse_length(length).map(Self::Length).ok_or(HeadError::ContentLength),
            (Some(_), Some(_)) => Err(HeadError::LengthAndEncoding),
            // RFC 9112 §6.1: "treat the message as if the framing is faulty".
            (None, Some(_)) if version == Version::Http10 => Err(HeadError::TransferEncodingVersion),
            (None, Some(codings)) => {
                if codings.eq_ignore_ascii_case(b"chunked") {
                    Ok(Self::Chunked)
                } else {
                    Err(refuse_codings(codings))
                }
            }
        }
    }
}

/// Digits and nothing else: no sign, no list (`5, 5`), no empty value.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0u64, |length, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })?;
    i64::try_from(length).is_ok().then_some(length)
}

/// Which error a Transfer-Encoding other than `chunked` alone is.
#[cold]
fn refuse_codings(value: &[u8]) -> HeadError {
    let mut chunked = 0;
    let mut last_is_chunked = false;
    for coding in value.split(|&b| b == b',').map(trim_ows) {
        let name = coding.iter().position(|&b| !is_token_byte(b)).unwrap_or(coding.len());
        if name == 0 {
            return HeadError::TransferEncoding;
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        // With a parameter it is no `chunked` that anybody has defined, but counts as one here.
        chunked += usize::from(coding[..name].eq_ignore_ascii_case(b"chunked"));
    }
    match (last_is_chunked, chunked) {
        (true, 1) => HeadError::TransferCoding,
        (true, _) => HeadError::TransferEncodingRepeated,
        (false, _) => HeadError::TransferEncoding,
    }
}

/// Whether a response with this status has a body at all (RFC 9110 §6.4.1): not 1xx, 204 and 304. Those to
/// HEAD never have one, and a successful one to CONNECT turns the connection into a tunnel.
pub const fn response_body_allowed(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}
