//! The pages that the edge itself answers with.

use exchange::{Name, Response};

/// A small page that names the status.
pub fn page(status: u16) -> Response {
    let reason = http1::reason_phrase(status).unwrap_or("Error");
    let text = format!(
        "<!doctype html>\n<html><head><title>{status} {reason}</title></head>\n\
         <body><h1>{status} {reason}</h1></body></html>\n"
    );
    Response::text(status, "text/html", text)
}

/// The same, after which the connection is closed.
pub fn closing(status: u16) -> Response {
    let mut response = page(status);
    response.close = true;
    response
}

/// 503 with the time after which to try again, in seconds.
pub fn busy(retry_after: u64) -> Response {
    let mut response = page(503);
    response.fields.push_known(Name::RetryAfter, retry_after.to_string().as_bytes());
    response
}
