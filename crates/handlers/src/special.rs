//! The pages for errors and redirects that have no page of their own, in nginx's shape.

use bytes::Bytes;
use exchange::{Body, Browser, Name, Request, Response, Version};

/// What makes a page so long that browsers show it and not one of their own.
const PADDING: &str = "<!-- long enough that a browser shows this page, and not its own -->\r\n";

/// Makes the page for a status out of a response: it keeps what belongs to every response (`Location`,
/// `WWW-Authenticate`, `Content-Range` …) and loses what described another body. `signature` is what
/// `server_tokens` lets be shown; the statuses 494 to 497 are nginx's own, and 400 to the client. With `padding` some
/// browsers get a longer page than others. The connection is closed where nginx closes it.
pub fn page(request: &Request, response: &mut Response, status: u16, signature: &[u8], padding: bool) {
    response.status = if (494..=497).contains(&status) { 400 } else { status };
    response.reason = None;
    response.close |= closes(status);
    undescribe(response);
    let Some(title) = title(status) else { return };
    response.fields.push_known(Name::ContentType, b"text/html");
    let mut html = Vec::with_capacity(256);
    for part in
        [&b"<html>\r\n<head><title>"[..], title.as_bytes(), b"</title></head>\r\n<body>\r\n<center><h1>"]
    {
        html.extend_from_slice(part);
    }
    html.extend_from_slice(title.as_bytes());
    html.extend_from_slice(b"</h1></center>\r\n");
    if !signature.is_empty() {
        html.extend_from_slice(b"<hr><center>");
        html.extend_from_slice(signature);
        html.extend_from_slice(b"</center>\r\n");
    }
    html.extend_from_slice(b"</body>\r\n</html>\r\n");
    if status >= 400 && padding && has_pages_of_its_own(request) {
        html.extend_from_slice(PADDING.repeat(6).as_bytes());
    }
    response.body = Body::Full(Bytes::from(html));
}

/// Makes a page that goes on to `Location` by itself out of a redirect: `msie_refresh`.
pub fn refresh(response: &mut Response) {
    let location = response.fields.first(Name::Location).unwrap_or_default().to_vec();
    response.status = 200;
    response.reason = None;
    response.fields.remove(Name::Location);
    undescribe(response);
    response.fields.push_known(Name::ContentType, b"text/html");
    let mut html = b"<html><head><meta http-equiv=\"Refresh\" content=\"0; URL=".to_vec();
    for byte in location {
        if matches!(byte, b' ' | b'"' | b'%' | b'\'') || !byte.is_ascii_graphic() {
            html.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            html.push(byte);
        }
    }
    html.extend_from_slice(b"\"></head><body></body></html>\r\n");
    response.body = Body::Full(Bytes::from(html));
}

/// Takes away what described another body, and that body.
fn undescribe(response: &mut Response) {
    for name in [
        Name::ContentType,
        Name::ContentLength,
        Name::ContentEncoding,
        Name::AcceptRanges,
        Name::LastModified,
        Name::ETag,
    ] {
        response.fields.remove(name);
    }
    response.body = Body::Empty;
}

/// Whether a connection is not used again after this status: where it begins, the next request is not known,
/// or something is amiss here.
pub const fn closes(status: u16) -> bool {
    matches!(status, 400 | 413 | 414 | 494..=497 | 500 | 501)
}

/// The heading; `None` for what has no page.
pub const fn title(status: u16) -> Option<&'static str> {
    Some(match status {
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Authorization Required",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 | 498 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        494 => "400 Request Header Or Cookie Too Large",
        495 => "400 The SSL certificate error",
        496 => "400 No required SSL certificate was sent",
        497 => "400 The plain HTTP request was sent to HTTPS port",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        _ => return None,
    })
}

/// Chrome, and the Internet Explorer of old, put their own page in the place of a short one.
fn has_pages_of_its_own(request: &Request) -> bool {
    let Some(agent) = request.fields.first(Name::UserAgent) else { return false };
    let browser = Browser::of(agent);
    request.version <= Version::Http11 && (browser.msie || browser.chrome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(status: u16, lines: &[(&str, &str)]) -> (Response, String) {
        let mut request = Request::default();
        for (name, value) in lines {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        let mut response = Response::text(200, "image/png", "x");
        for (name, value) in [("Location", "/a"), ("ETag", "\"1\""), ("Accept-Ranges", "bytes")] {
            response.fields.push(name.as_bytes(), value.as_bytes());
        }
        page(&request, &mut response, status, b"server/1", true);
        let body = match &response.body {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Empty => String::new(),
            other => panic!("{other:?}"),
        };
        (response, body)
    }

    #[test]
    fn pages_have_the_shape_that_is_known() {
        let (response, body) = made(404, &[]);
        assert_eq!(
            body,
            "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
             <center><h1>404 Not Found</h1></center>\r\n<hr><center>server/1</center>\r\n</body>\r\n</html>\r\n"
        );
        assert_eq!(response.fields.only(Name::ContentType), Some(&b"text/html"[..]));
        assert_eq!(response.fields.only(Name::Location), Some(&b"/a"[..]));
        assert!(!response.fields.has(Name::ETag) && !response.fields.has(Name::AcceptRanges));
    }

    #[test]
    fn what_has_no_page_has_no_body_and_no_type() {
        for status in [201, 204, 304, 305, 418, 422, 451, 499, 506] {
            let (response, body) = made(status, &[]);
            assert_eq!((response.status, &body[..]), (status, ""));
            assert!(!response.fields.has(Name::ContentType), "{status}");
        }
    }

    #[test]
    fn own_statuses_are_400_to_the_client_and_close() {
        for status in 494..=497 {
            let (response, body) = made(status, &[]);
            assert!(response.status == 400 && response.close && body.contains("<h1>400 "), "{status}");
        }
        for (status, close) in
            [(400, true), (413, true), (500, true), (404, false), (503, false), (301, false)]
        {
            assert_eq!(made(status, &[]).0.close, close, "{status}");
        }
    }

    #[test]
    fn browsers_with_pages_of_their_own_get_a_long_one() {
        let chrome = [("User-Agent", "Mozilla/5.0 Chrome/120.0 Safari/537.36")];
        assert!(made(404, &chrome).1.len() >= 512);
        assert!(made(404, &[("User-Agent", "curl/8")]).1.len() < 512);
        assert!(made(301, &chrome).1.len() < 512);
    }

    #[test]
    fn a_refresh_goes_where_the_redirect_went() {
        let mut response = Response::new(302);
        response.fields.push(b"Location", b"/a b'c");
        refresh(&mut response);
        assert_eq!(response.status, 200);
        assert!(!response.fields.has(Name::Location));
        let Body::Full(bytes) = &response.body else { panic!() };
        assert!(bytes.windows(16).any(|part| part == b"; URL=/a%20b%27c"));
    }
}
