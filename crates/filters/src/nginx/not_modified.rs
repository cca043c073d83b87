//! The request's conditions, held against the response's validators as nginx does.
//!
//! It differs from RFC 9110 in two ways: `If-None-Match` does not switch `If-Modified-Since` off (both must
//! say that the client has it), and a condition on a date fails where there is no date.

use config::model::http::IfModifiedSince;
use exchange::{Body, Fields, Name, Request, Response, parse_http_date};

/// What the conditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The response is sent.
    GoOn,
    /// The client has it: 304.
    NotModified,
    /// 412.
    Failed,
}

/// Holds the request's conditions against a 200.
pub fn evaluate(request: &Request, response: &Response, mode: IfModifiedSince) -> Decision {
    let asked = &request.fields;
    let modified = response.fields.first(Name::LastModified).and_then(parse_http_date);
    let etag = response.fields.first(Name::ETag);
    if let Some(since) = asked.first(Name::IfUnmodifiedSince) {
        let kept =
            matches!((parse_http_date(since), modified), (Some(since), Some(modified)) if since >= modified);
        if !kept {
            return Decision::Failed;
        }
    }
    if asked.has(Name::IfMatch) && !listed(asked, Name::IfMatch, etag, false) {
        return Decision::Failed;
    }
    let since = asked.first(Name::IfModifiedSince);
    let matched = asked.has(Name::IfNoneMatch);
    if since.is_none() && !matched {
        return Decision::GoOn;
    }
    if since.is_some_and(|since| is_modified(since, modified, mode)) {
        return Decision::GoOn;
    }
    if matched && !listed(asked, Name::IfNoneMatch, etag, true) {
        return Decision::GoOn;
    }
    Decision::NotModified
}

/// Turns a 200 into a 304.
pub fn strip(response: &mut Response) {
    response.status = 304;
    response.reason = None;
    for name in [Name::ContentType, Name::ContentLength, Name::ContentEncoding, Name::AcceptRanges] {
        response.fields.remove(name);
    }
    response.body = Body::Empty;
}

fn is_modified(since: &[u8], modified: Option<u64>, mode: IfModifiedSince) -> bool {
    let Some(modified) = modified else { return true };
    let since = parse_http_date(since);
    match mode {
        IfModifiedSince::Off => true,
        IfModifiedSince::Exact => since != Some(modified),
        IfModifiedSince::Before => since.is_none_or(|since| since < modified),
    }
}

fn listed(fields: &Fields, name: Name, etag: Option<&[u8]>, weak: bool) -> bool {
    fields.all(name).any(|list| list == b"*" || etag.is_some_and(|etag| is_in(list, etag, weak)))
}

/// Whether a tag is in a list. It stands at the beginning of an element and nothing but space follows it
/// there: so a comma within a tag does not matter.
fn is_in(list: &[u8], etag: &[u8], weak: bool) -> bool {
    let without_mark = |tag: &'_ [u8]| if weak && tag.starts_with(b"W/") { 2 } else { 0 };
    let etag = &etag[without_mark(etag)..];
    let mut rest = list;
    while !rest.is_empty() {
        rest = &rest[without_mark(rest)..];
        if let Some(behind) = rest.strip_prefix(etag)
            && matches!(behind.trim_ascii_start(), [] | [b',', ..])
        {
            return true;
        }
        let comma = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
        rest = &rest[comma..];
        while let [b' ' | b'\t' | b',', behind @ ..] = rest {
            rest = behind;
        }
    }
    false
}
