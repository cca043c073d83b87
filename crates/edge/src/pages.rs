//! The pages that the edge itself answers with.

use exchange::{Method, Name, Request, Response};

/// A small page that names the status.
pub fn page(status: u16) -> Response {
    with_text(status, "")
}

/// For a client that speaks plain HTTP to a port of TLS.
pub fn not_tls() -> Response {
    let text = "<p>The plain HTTP request was sent to HTTPS port: the address begins with <code>https://</code>.</p>";
    let mut response = with_text(400, text);
    response.close = true;
    response
}

fn with_text(status: u16, text: &str) -> Response {
    let reason = http1::reason_phrase(status).unwrap_or("Error");
    let text = format!(
        "<!doctype html>\n<html><head><title>{status} {reason}</title></head>\n\
         <body><h1>{status} {reason}</h1>{text}</body></html>\n"
    );
    Response::text(status, "text/html", text)
}

/// The same, after which the connection is closed.
pub fn closing(status: u16) -> Response {
    let mut response = page(status);
    response.close = true;
    response
}

/// Sends a client to the same place by TLS.
pub fn to_tls(request: &Request, port: u16) -> Response {
    let authority = &request.authority;
    let host = match authority.iter().rposition(|&byte| byte == b':') {
        // A colon within brackets belongs to the address.
        Some(at) if authority[at..].iter().all(|byte| *byte != b']') => &authority[..at],
        _ => authority,
    };
    if host.is_empty() || !request.target.starts_with(b"/") {
        return closing(400);
    }
    let mut location = [b"https://", host].concat();
    if port != 443 {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    location.extend_from_slice(&request.target);
    // The other methods are asked again with their bodies.
    let status = if matches!(request.method, Method::Get | Method::Head) { 301 } else { 308 };
    let mut response = closing(status);
    response.fields.push_known(Name::Location, &location);
    response
}

/// 503 with the time after which to try again, in seconds.
pub fn busy(retry_after: u64) -> Response {
    let mut response = page(503);
    response.fields.push_known(Name::RetryAfter, retry_after.to_string().as_bytes());
    response
}
