//! Conditions of a GET or HEAD that the application left to us, as nginx's filter of that name.

use exchange::{Body, Method, Name, Precondition, Request, Response, Validators, parse_http_date};

/// Names that describe a body which a 304 does not have (RFC 9110 §15.4.5).
const OF_THE_BODY: [Name; 4] =
    [Name::ContentType, Name::ContentLength, Name::ContentEncoding, Name::AcceptRanges];

/// Holds the request's conditions against a 200 with validators.
pub fn evaluate(request: &Request, response: &Response) -> Precondition {
    if response.status != 200 || !matches!(request.method, Method::Get | Method::Head) {
        return Precondition::Met;
    }
    let etag = response.fields.first(Name::ETag);
    let last_modified = response.fields.first(Name::LastModified).and_then(parse_http_date);
    if etag.is_none() && last_modified.is_none() {
        return Precondition::Met;
    }
    Validators { etag, last_modified, date_is_strong: false }.evaluate(request)
}

/// Whether the body will be sent.
pub fn goes_on(verdict: Precondition) -> bool {
    verdict == Precondition::Met
}

/// Turns the response into what the verdict says.
pub fn apply(verdict: Precondition, response: &mut Response) {
    response.status = match verdict {
        Precondition::Met => return,
        Precondition::NotModified => 304,
        Precondition::Failed => 412,
    };
    response.reason = None;
    for name in OF_THE_BODY {
        response.fields.remove(name);
    }
    response.body = Body::Empty;
    if verdict == Precondition::Failed {
        response.fields.remove(Name::ETag);
        response.fields.remove(Name::LastModified);
        response.fields.push_known(Name::ContentType, b"text/plain; charset=utf-8");
        response.body = Body::Full(bytes::Bytes::from_static(b"412 Precondition Failed\n"));
    }
}
