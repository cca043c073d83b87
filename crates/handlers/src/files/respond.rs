//! The answers.

use std::sync::Arc;

use exchange::{Body, FileBody, Method, Name, Piece, Request, Response};

use super::entry::{Content, Representation};
use super::range::{Ranges, content_range, part_head};

/// A short answer without a file.
pub fn error(status: u16) -> Response {
    let text = match status {
        400 => "400 Bad Request\n",
        403 => "403 Forbidden\n",
        404 => "404 Not Found\n",
        405 => "405 Method Not Allowed\n",
        412 => "412 Precondition Failed\n",
        416 => "416 Range Not Satisfiable\n",
        503 => "503 Service Unavailable\n",
        _ => return Response::text(500, "text/plain; charset=utf-8", "500 Internal Server Error\n"),
    };
    Response::text(status, "text/plain; charset=utf-8", text)
}

/// 304 with the fields that RFC 9110 §15.4.5 asks for.
pub fn not_modified(form: &Representation) -> Response {
    Response { status: 304, fields: form.validators.clone(), ..Response::default() }
}

/// 200, 206 or 416, by the request's `Range` and `If-Range`.
pub fn content(
    request: &Request,
    form: &Representation,
    media_type: Option<&[u8]>,
    boundary: impl FnOnce() -> String,
) -> Response {
    let mut response = Response { status: 200, fields: form.fields.clone(), ..Response::default() };
    if let Some(media_type) = media_type {
        response.fields.set(Name::ContentType, media_type);
    }
    // Range is defined for GET alone (RFC 9110 §14.2).
    let ranges = if request.method == Method::Get && request.fields.has(Name::Range) {
        match request.fields.only(Name::Range) {
            Some(field) if form.validators().if_range(&request.fields) => Ranges::parse(field, form.size),
            _ => Ranges::Whole,
        }
    } else {
        Ranges::Whole
    };
    match ranges {
        Ranges::Whole => {
            response.body = slice(form, 0, form.size);
            response.of_file.clone_from(&form.identity);
            // Of an answer to HEAD without a body only the field can say that GET's has none either.
            if form.size == 0 && request.method == Method::Head {
                response.fields.set(Name::ContentLength, b"0");
            }
        }
        Ranges::Unsatisfiable => {
            let mut refusal = error(416);
            let size = format!("bytes */{}", form.size);
            refusal.fields.push_known(Name::ContentRange, size.as_bytes());
            return refusal;
        }
        Ranges::Parts(parts) => {
            response.status = 206;
            if let [(start, len)] = parts[..] {
                let range = content_range(start, len, form.size);
                response.fields.push_known(Name::ContentRange, range.as_bytes());
                response.body = slice(form, start, len);
            } else {
                let media_type = media_type.unwrap_or(form.media_type());
                let boundary = boundary();
                response.body = multipart(form, &parts, &boundary, media_type);
                let media_type = format!("multipart/byteranges; boundary={boundary}");
                response.fields.set(Name::ContentType, media_type.as_bytes());
            }
        }
    }
    response
}

fn slice(form: &Representation, start: u64, len: u64) -> Body {
    match &form.content {
        _ if len == 0 => Body::Empty,
        Content::Memory(bytes) => Body::Full(bytes.slice(start as usize..(start + len) as usize)),
        Content::File(file) => Body::File(FileBody {
            file: Arc::clone(file),
            pieces: vec![Piece { prefix: bytes::Bytes::new(), start, len }],
            suffix: bytes::Bytes::new(),
        }),
    }
}

/// `multipart/byteranges` (RFC 9110 §14.6).
fn multipart(form: &Representation, parts: &[(u64, u64)], boundary: &str, media_type: &[u8]) -> Body {
    let head = |start, len| part_head(boundary, media_type, &content_range(start, len, form.size));
    let end = format!("\r\n--{boundary}--\r\n");
    match &form.content {
        Content::Memory(bytes) => {
            let mut whole = Vec::new();
            for &(start, len) in parts {
                whole.extend_from_slice(&head(start, len));
                whole.extend_from_slice(&bytes[start as usize..(start + len) as usize]);
            }
            whole.extend_from_slice(end.as_bytes());
            Body::Full(whole.into())
        }
        Content::File(file) => Body::File(FileBody {
            file: Arc::clone(file),
            pieces: parts
                .iter()
                .map(|&(start, len)| Piece { prefix: head(start, len), start, len })
                .collect(),
            suffix: end.into(),
        }),
    }
}

/// 301 to the same path with a slash. It stays on this host whatever the path holds: exactly one slash
/// begins it, and a backslash, which some clients take for a slash, is encoded.
pub fn redirect_to_directory(request: &Request) -> Response {
    let path = &request.path[..];
    let from = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
    let mut location = Vec::with_capacity(path.len() + request.query.len() + 3);
    location.push(b'/');
    encode(&mut location, &path[from..], |b| {
        matches!(b, b'/' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',')
    });
    location.push(b'/');
    if !request.query.is_empty() {
        location.push(b'?');
        // As received, but for what must not stand in a field.
        encode(&mut location, &request.query, |b| b.is_ascii_graphic());
    }
    let mut response = Response::text(301, "text/plain; charset=utf-8", "301 Moved Permanently\n");
    response.fields.push_known(Name::Location, &location);
    response
}

/// Percent-encodes all but unreserved characters and those that `keep` names.
fn encode(out: &mut Vec<u8>, text: &[u8], keep: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in text {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || keep(b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}
