use std::io::{Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use config::model::http::{self as model, AddHeader, Expires, Part, Proxied, SubFilters, Variable};
use exchange::{Chunk, ChunkStream, Coding, FileBody, Piece, StreamError, Version};

use super::*;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

/// An answer to every question, and the log.
#[derive(Default)]
struct Here {
    value: Vec<u8>,
    disabled: bool,
    log: Vec<String>,
    at_end: Option<Rc<AtEnd>>,
}

impl FilterContext for Here {
    fn value(&mut self, _: &Value, _: &Request, response: &Response) -> Vec<u8> {
        if self.value == b"$status" { response.status.to_string().into() } else { self.value.clone() }
    }

    fn trailer(&mut self, _: &[u8], _: &[u8]) {}

    fn at_end(&mut self, trailers: &Rc<AtEnd>) -> bool {
        self.at_end = Some(Rc::clone(trailers));
        true
    }

    fn gzip_disabled(&mut self, _: &[Regex], _: &[u8]) -> bool {
        self.disabled
    }

    fn log(&mut self, _: LogLevel, text: fmt::Arguments<'_>) {
        self.log.push(text.to_string());
    }
}

fn compression() -> model::Compression {
    model::Compression {
        gzip: false,
        brotli: false,
        zstd: false,
        types: Some(vec![b"text/css".to_vec()]),
        min_length: 20,
        gzip_level: 1,
        brotli_level: 4,
        zstd_level: 3,
        vary: false,
        http10: false,
        proxied: vec![Proxied::Off],
        disable: Vec::new(),
    }
}

fn filters() -> NginxFilters {
    NginxFilters {
        if_modified_since: IfModifiedSince::Exact,
        headers: None,
        gunzip: false,
        sub: None,
        charset: charset::Label::new(None, &Rc::default()),
        compression: Compression::new(&compression(), &Shared::default()),
        ranges: range::Ranges::new(None),
        trailers: None,
    }
}

fn compressing(change: impl FnOnce(&mut model::Compression)) -> NginxFilters {
    let mut settings = model::Compression { gzip: true, ..compression() };
    change(&mut settings);
    NginxFilters { compression: Compression::new(&settings, &Shared::default()), ..filters() }
}

fn substituting(pairs: &[(&str, &str)], last_modified: bool) -> NginxFilters {
    let pairs = pairs.iter().map(|(text, by)| (Value::text(*text), Value::text(*by))).collect();
    let settings = SubFilters { pairs, once: false, types: Some(Vec::new()), last_modified };
    NginxFilters { sub: Some(sub::Substitution::new(&settings)), ..filters() }
}

fn request(lines: &[(&str, &str)]) -> Request {
    let mut request = Request::default();
    for (name, value) in lines {
        request.fields.push(name.as_bytes(), value.as_bytes());
    }
    request
}

fn page(body: impl Into<Bytes>) -> Response {
    let mut response = Response::text(200, "text/html", body);
    for (name, value) in [("Last-Modified", MODIFIED), ("ETag", "\"1-a\""), ("Accept-Ranges", "bytes")] {
        response.fields.push(name.as_bytes(), value.as_bytes());
    }
    response
}

const HOW: How = How { clock: || (784_111_777, 0), ranges: true, conditions: true };

/// The verdict over a page of ten digits, and the page.
fn filtered(filters: &NginxFilters, request: &Request) -> (Verdict, Response) {
    let mut response = page("0123456789");
    let verdict = filters.apply(request, &mut response, HOW, &mut Here::default());
    (verdict, response)
}

fn field(response: &Response, name: Name) -> &str {
    response.fields.first(name).map_or("", |value| std::str::from_utf8(value).unwrap())
}

fn whole(body: Body) -> Result<Vec<u8>, StreamError> {
    let mut stream = match body {
        Body::Empty => return Ok(Vec::new()),
        Body::Full(bytes) => return Ok(bytes.to_vec()),
        Body::File(_) => panic!("a file as it is"),
        Body::Stream(stream) => stream,
    };
    let mut out = Vec::new();
    for _ in 0..100_000 {
        match stream.poll_chunk(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending | Poll::Ready(Some(Ok(Chunk::Flush))) => {}
            Poll::Ready(None) => return Ok(out),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => out.extend_from_slice(&bytes),
            Poll::Ready(Some(Ok(Chunk::File { .. }))) => panic!("a file as it is"),
        }
    }
    panic!("the stream stands still");
}

/// Hands out pieces of a body.
struct Pieces(std::vec::IntoIter<Bytes>);

impl ChunkStream for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Chunk::Data(bytes))))
    }
}

fn in_pieces(data: &[u8], size: usize) -> Body {
    let pieces: Vec<_> = data.chunks(size).map(Bytes::copy_from_slice).collect();
    Body::Stream(Box::new(Pieces(pieces.into_iter())))
}

fn file(content: &[u8]) -> Body {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let piece = Piece { prefix: Bytes::new(), start: 0, len: content.len() as u64 };
    Body::File(FileBody { file: Arc::new(file), pieces: vec![piece], suffix: Bytes::new() })
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn conditions_as_nginx_weighs_them() {
    for (lines, status) in [
        (&[][..], 200),
        (&[("If-Modified-Since", MODIFIED)][..], 304),
        (&[("If-Modified-Since", LATER)], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
        (&[("If-None-Match", "\"1-a\"")], 304),
        (&[("If-None-Match", "W/\"1-a\"")], 304),
        (&[("If-None-Match", "\"x\", \"1-a\" , \"y\"")], 304),
        (&[("If-None-Match", "\"1-ab\"")], 200),
        (&[("If-None-Match", "\"1-a\"b")], 200),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"1-a\""), ("If-Modified-Since", LATER)], 200),
        (&[("If-None-Match", "\"x\""), ("If-Modified-Since", MODIFIED)], 200),
        (&[("If-Match", "\"1-a\"")], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", "W/\"1-a\"")], 412),
        (&[("If-Match", "\"x\"")], 412),
        (&[("If-Unmodified-Since", MODIFIED)], 200),
        (&[("If-Unmodified-Since", LATER)], 200),
        (&[("If-Unmodified-Since", EARLIER)], 412),
        (&[("If-Unmodified-Since", "yesterday")], 412),
    ] {
        let (verdict, response) = filtered(&filters(), &request(lines));
        assert_eq!(response.status, status, "{lines:?}");
        assert_eq!(verdict, if status == 412 { Verdict::Refuse(412) } else { Verdict::Send });
        if status == 304 {
            assert!(!response.fields.has(Name::ContentType) && !response.fields.has(Name::AcceptRanges));
            assert!(response.fields.has(Name::ETag) && response.body.is_empty());
        }
    }
}

#[test]
fn if_modified_since_in_its_three_ways() {
    for (mode, since, status) in [
        (IfModifiedSince::Off, MODIFIED, 200),
        (IfModifiedSince::Before, MODIFIED, 304),
        (IfModifiedSince::Before, LATER, 304),
        (IfModifiedSince::Before, EARLIER, 200),
        (IfModifiedSince::Before, "yesterday", 200),
    ] {
        let filters = NginxFilters { if_modified_since: mode, ..filters() };
        let (_, response) = filtered(&filters, &request(&[("If-Modified-Since", since)]));
        assert_eq!(response.status, status, "{mode:?} {since}");
    }
    let mut response = Response::text(200, "text/html", "no date, no tag");
    let asked = request(&[("If-Unmodified-Since", LATER)]);
    assert_eq!(filters().apply(&asked, &mut response, HOW, &mut Here::default()), Verdict::Refuse(412));
    let mut response = page("stored");
    let put = Request { method: Method::Put, ..asked.clone() };
    assert_eq!(
        filters().apply(&put, &mut response, HOW, &mut Here::default()),
        Verdict::Send,
        "it has happened"
    );
    let mut response = page("an error page");
    let how = How { conditions: false, ..HOW };
    assert_eq!(filters().apply(&asked, &mut response, how, &mut Here::default()), Verdict::Send);
}

#[test]
fn ranges_and_what_they_do_to_the_fields() {
    let ranged = |lines: &[(&str, &str)]| filtered(&filters(), &request(lines));
    let (_, response) = ranged(&[]);
    assert_eq!((response.status, field(&response, Name::AcceptRanges)), (200, "bytes"));
    let (_, response) = ranged(&[("Range", "bytes=2-4")]);
    assert_eq!((response.status, field(&response, Name::ContentRange)), (206, "bytes 2-4/10"));
    assert!(!response.fields.has(Name::AcceptRanges));
    assert_eq!(whole(response.body).unwrap(), b"234");
    let (_, response) = ranged(&[("Range", "bytes=0-1,-1")]);
    assert!(field(&response, Name::ContentType).starts_with("multipart/byteranges; boundary="));
    assert!(!response.fields.has(Name::ContentRange));
    let (verdict, response) = ranged(&[("Range", "bytes=10-")]);
    assert_eq!(verdict, Verdict::Refuse(416));
    assert_eq!(field(&response, Name::ContentRange), "bytes */10");
    assert!(!response.fields.has(Name::ETag) && response.body.is_empty());
    for (condition, status) in
        [("\"1-a\"", 206), ("\"x\"", 200), ("W/\"1-a\"", 200), (MODIFIED, 206), (LATER, 200), ("x", 200)]
    {
        let (_, response) = ranged(&[("Range", "bytes=0-0"), ("If-Range", condition)]);
        assert_eq!(response.status, status, "{condition}");
    }
    for field in ["lines=0-1", "bytes=", "bytes"] {
        assert_eq!(ranged(&[("Range", field)]).1.status, 200, "{field}");
    }
}

#[test]
fn ranges_where_they_are_not_allowed() {
    let asked = request(&[("Range", "bytes=0-0")]);
    let none = NginxFilters { ranges: range::Ranges::new(Some(0)), ..filters() };
    let (_, response) = filtered(&none, &asked);
    assert_eq!((response.status, field(&response, Name::AcceptRanges)), (200, ""));
    let mut response = page("an application's");
    let how = How { ranges: false, ..HOW };
    filters().apply(&asked, &mut response, how, &mut Here::default());
    assert_eq!((response.status, field(&response, Name::AcceptRanges)), (200, "bytes"), "its own affair");
    let mut response = page("an error page");
    response.status = 404;
    filters().apply(&asked, &mut response, HOW, &mut Here::default());
    assert_eq!((response.status, field(&response, Name::AcceptRanges)), (404, ""));
}

#[test]
fn ranges_of_a_file() {
    let mut response = page("");
    response.body = file(b"0123456789");
    filters().apply(&request(&[("Range", "bytes=3-4")]), &mut response, HOW, &mut Here::default());
    let Body::File(FileBody { pieces, .. }) = &response.body else { panic!("still the file") };
    assert_eq!((pieces[0].start, pieces[0].len), (3, 2));
    response = page("");
    response.body = file(b"0123456789");
    filters().apply(&request(&[("Range", "bytes=0-0,8-")]), &mut response, HOW, &mut Here::default());
    let Body::File(FileBody { pieces, suffix, .. }) = &response.body else { panic!("still the file") };
    assert_eq!(pieces.iter().map(|piece| (piece.start, piece.len)).collect::<Vec<_>>(), [(0, 1), (8, 2)]);
    assert!(
        pieces[1].prefix.ends_with(b"\r\nContent-Range: bytes 8-9/10\r\n\r\n") && suffix.ends_with(b"--\r\n")
    );
}

fn adding(lines: &[(&str, &str, bool)], expires: Option<Expires>) -> NginxFilters {
    let mut add = Vec::new();
    for (name, value, always) in lines {
        let value = match *value {
            "$" => Value(vec![Part::Variable(Variable::Host)]),
            text => Value::text(text),
        };
        add.push(AddHeader { name: name.as_bytes().to_vec(), value, always: *always });
    }
    NginxFilters { headers: Headers::of(expires, &add), ..filters() }
}

#[test]
fn headers_by_status() {
    let filters = adding(&[("X-A", "1", false), ("X-B", "2", true), ("X-C", "", true)], Some(Expires::Max));
    for status in [200, 201, 204, 206, 301, 302, 303, 304, 307, 308, 400, 404, 500, 202] {
        let mut response = Response::new(status);
        filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
        let usual = !matches!(status, 400 | 404 | 500 | 202);
        assert_eq!(response.fields.named(b"X-A").is_some(), usual, "{status}");
        assert_eq!(response.fields.has(Name::Expires), usual, "{status}");
        assert!(response.fields.named(b"X-B").is_some() && response.fields.named(b"X-C").is_none());
    }
}

#[test]
fn some_headers_are_replaced_and_the_others_added() {
    let lines =
        [("Cache-Control", "public", false), ("ETag", "\"new\"", false), ("Last-Modified", "", false)];
    let filters = adding(&lines, Some(Expires::Access(60)));
    let mut response = page("x");
    response.fields.push(b"Cache-Control", b"private");
    response.fields.push(b"Cache-Control", b"no-store");
    filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
    let control: Vec<_> = response.fields.all(Name::CacheControl).collect();
    assert_eq!(control, [&b"max-age=60"[..], b"public"]);
    assert_eq!(response.fields.only(Name::ETag), Some(&b"\"new\""[..]));
    assert!(!response.fields.has(Name::LastModified));
}

#[test]
fn a_header_that_is_written_over_several_lines_is_sent_on_one() {
    let filters = adding(&[("X-A", "a;\n    b\t\x02c\n", false)], None);
    let mut response = page("x");
    filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
    assert_eq!(response.fields.named(b"X-A"), Some(&b"a;     b\t c"[..]));
}

#[test]
fn variables_are_asked_for_when_their_turn_has_come() {
    let filters = adding(
        &[("X-Status", "$", true)],
        Some(Expires::Variable(Value(vec![Part::Variable(Variable::Host)]))),
    );
    let mut here = Here { value: b"$status".to_vec(), ..Here::default() };
    let mut response = page("x");
    let asked = request(&[("If-None-Match", "*")]);
    filters.apply(&asked, &mut response, HOW, &mut here);
    assert_eq!(response.fields.named(b"X-Status"), Some(&b"304"[..]));
    assert_eq!(field(&response, Name::CacheControl), "max-age=304", "the variable's text is a time too");
}

#[test]
fn compression_by_nginx_s_conditions() {
    let long = "<p>hello".repeat(100);
    let tried =
        |filters: &NginxFilters, lines: &[(&str, &str)], change: &dyn Fn(&mut Request, &mut Response)| {
            let mut request = request(lines);
            let mut response = page(long.clone());
            change(&mut request, &mut response);
            filters.apply(&request, &mut response, HOW, &mut Here { disabled: true, ..Here::default() });
            (field(&response, Name::ContentEncoding).to_owned(), field(&response, Name::Vary).to_owned())
        };
    let gzip = [("Accept-Encoding", "gzip, br, zstd")];
    let is = |coding: &str| (coding.to_owned(), String::new());
    let same: &dyn Fn(&mut Request, &mut Response) = &|_, _| {};
    let filters = compressing(|_| {});
    assert_eq!(tried(&filters, &gzip, same), is("gzip"));
    assert_eq!(tried(&filters, &[], same), is(""));
    assert_eq!(tried(&filters, &[("Accept-Encoding", "gzip;q=0")], same), is(""));
    assert_eq!(tried(&filters, &gzip, &|_, response| response.status = 404), is("gzip"));
    assert_eq!(tried(&filters, &gzip, &|_, response| response.status = 500), is(""));
    let typed = |name: &'static str| {
        move |_: &mut Request, response: &mut Response| {
            response.fields.set(Name::ContentType, name.as_bytes());
        }
    };
    assert_eq!(tried(&filters, &gzip, &typed("Text/CSS; charset=x")), is("gzip"));
    assert_eq!(tried(&filters, &gzip, &typed("image/png")), is(""));
    assert_eq!(tried(&compressing(|s| s.types = None), &gzip, &typed("image/png")), is("gzip"));
    assert_eq!(tried(&compressing(|s| s.min_length = 10_000), &gzip, same), is(""));
    assert_eq!(tried(&filters, &gzip, &|request, _| request.version = Version::Http10), is(""));
    let http10 = compressing(|s| s.http10 = true);
    assert_eq!(tried(&http10, &gzip, &|request, _| request.version = Version::Http10), is("gzip"));
    let all = compressing(|s| (s.brotli, s.zstd) = (true, true));
    assert_eq!(tried(&all, &gzip, same), is("zstd"));
    assert_eq!(tried(&all, &[("Accept-Encoding", "gzip, br;q=0.9, zstd;q=0.5")], same), is("gzip"));
    let disable = vec![Regex { pattern: b"x".to_vec(), caseless: false, names: Vec::new() }];
    let disabling = compressing(|s| s.disable = disable);
    assert_eq!(tried(&disabling, &[gzip[0], ("User-Agent", "x")], same), is(""));
    assert_eq!(tried(&disabling, &gzip, same), is("gzip"), "without a user agent nothing matches");
    let vary = compressing(|s| s.vary = true);
    assert_eq!(tried(&vary, &[], same), (String::new(), "Accept-Encoding".into()));
    assert_eq!(tried(&vary, &gzip, &typed("image/png")), is(""));
}

#[test]
fn what_proxies_get_compressed() {
    let via = request(&[("Via", "1.1 p"), ("Accept-Encoding", "gzip"), ("Authorization", "x")]);
    for (proxied, lines, expected) in [
        (&[Proxied::Off][..], &[][..], false),
        (&[Proxied::Any], &[], true),
        (&[Proxied::Auth], &[], true),
        (&[Proxied::Expired], &[("Expires", EARLIER)], true),
        (&[Proxied::Expired], &[("Expires", LATER)], false),
        (&[Proxied::NoCache], &[("Expires", EARLIER)], false),
        (&[Proxied::NoCache], &[("Cache-Control", "private, No-Cache")], true),
        (&[Proxied::NoCache], &[("Cache-Control", "no-cache=x")], false),
        (&[Proxied::Private, Proxied::NoStore], &[("Cache-Control", "no-store")], true),
        (&[Proxied::NoLastModified], &[], false),
        (&[Proxied::NoEtag], &[], false),
        (&[Proxied::Expired], &[], true),
    ] {
        let filters = compressing(|settings| settings.proxied = proxied.to_vec());
        let mut response = page("<p>hello".repeat(100));
        for (name, value) in lines {
            response.fields.push(name.as_bytes(), value.as_bytes());
        }
        filters.apply(&via, &mut response, HOW, &mut Here::default());
        assert_eq!(response.fields.has(Name::ContentEncoding), expected, "{proxied:?} {lines:?}");
    }
}

#[test]
fn what_is_compressed_has_no_ranges_and_a_weak_tag() {
    let filters = compressing(|_| {});
    let mut response = page("<p>hello".repeat(100));
    let asked = request(&[("Accept-Encoding", "gzip"), ("Range", "bytes=0-1")]);
    filters.apply(&asked, &mut response, HOW, &mut Here::default());
    assert_eq!((response.status, field(&response, Name::ETag)), (200, "W/\"1-a\""));
    assert!(!response.fields.has(Name::AcceptRanges));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&whole(response.body).unwrap()[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, "<p>hello".repeat(100));
}

#[test]
fn a_file_is_compressed_once_and_what_was_made_of_it_never_taken_for_it() {
    let shared = Shared::default();
    let settings = model::Compression { gzip: true, ..compression() };
    let compression = || Compression::new(&settings, &shared);
    let plain = NginxFilters { compression: compression(), ..filters() };
    let changing = NginxFilters { compression: compression(), ..substituting(&[("hello", "HELLO")], true) };
    let identity =
        Rc::new(exchange::FileIdentity { device: 1, inode: 1, size: 800, modified: (1, 0), changed: (1, 0) });
    let asked = request(&[("Accept-Encoding", "gzip")]);
    let sent = |filters: &NginxFilters| {
        let mut response = page("<p>hello".repeat(100));
        response.of_file = Some(Rc::clone(&identity));
        filters.apply(&asked, &mut response, HOW, &mut Here::default());
        let Body::Full(packed) = response.body else { panic!("at once") };
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        (packed, text)
    };
    let (first, text) = sent(&plain);
    assert_eq!(text, "<p>hello".repeat(100));
    assert_eq!(sent(&changing).1, "<p>HELLO".repeat(100), "as long as the file, and not the file");
    let elsewhere = NginxFilters { compression: compression(), ..filters() };
    assert_eq!(sent(&elsewhere).0.as_ptr(), first.as_ptr(), "the very same bytes");
}

#[test]
fn substitution_in_memory_in_pieces_and_of_files() {
    let filters = substituting(&[("HELLO", "bye"), ("<p>", "")], false);
    let text = "<p>hello".repeat(20_000);
    for body in [
        Body::Full(text.clone().into()),
        Body::Full(text[..8 * 100].to_owned().into()),
        in_pieces(text.as_bytes(), 7),
        file(text.as_bytes()),
    ] {
        let times = body.len().unwrap_or(text.len() as u64) as usize / 8;
        let mut response = page("");
        response.body = body;
        response.fields.push(b"Content-Length", b"160000");
        let asked = request(&[("Range", "bytes=0-1")]);
        filters.apply(&asked, &mut response, HOW, &mut Here::default());
        assert_eq!(response.status, 200);
        for gone in [Name::ContentLength, Name::ETag, Name::LastModified, Name::AcceptRanges] {
            assert!(!response.fields.has(gone), "{gone:?}");
        }
        assert_eq!(String::from_utf8(whole(response.body).unwrap()).unwrap(), "bye".repeat(times));
    }
}

#[test]
fn substitution_by_type_and_what_it_leaves() {
    let filters = substituting(&[("a", "b")], true);
    let (_, response) = filtered(&filters, &Request::default());
    assert_eq!(field(&response, Name::ETag), "W/\"1-a\"");
    assert!(response.fields.has(Name::LastModified));
    for (name, value) in [("Content-Type", "text/plain"), ("Content-Encoding", "gzip")] {
        let mut response = page("aaa");
        response.fields.remove_named(name.as_bytes());
        response.fields.push(name.as_bytes(), value.as_bytes());
        filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
        assert_eq!(field(&response, Name::ETag), "\"1-a\"", "{value}");
        assert_eq!(whole(response.body).unwrap(), b"aaa");
    }
    let mut response = page("aaa");
    let head = Request { method: Method::Head, ..Request::default() };
    filters.apply(&head, &mut response, HOW, &mut Here::default());
    assert_eq!(response.body.len(), None, "no length that GET would not have");
}

#[test]
fn what_is_looked_for_may_be_a_variable() {
    let variable = || Value(vec![Part::Variable(Variable::Host)]);
    let settings = SubFilters {
        pairs: vec![(variable(), Value::text("x"))],
        once: true,
        types: None,
        last_modified: true,
    };
    let filters = NginxFilters { sub: Some(sub::Substitution::new(&settings)), ..filters() };
    for (value, expected) in [("34", "012x56789"), ("", "0123456789")] {
        let mut response = page("0123456789");
        let mut here = Here { value: value.into(), ..Here::default() };
        filters.apply(&Request::default(), &mut response, HOW, &mut here);
        assert_eq!(whole(response.body).unwrap(), expected.as_bytes());
    }
}

#[test]
fn gunzip_for_those_who_cannot() {
    let filters = NginxFilters { gunzip: true, ..filters() };
    let text = "<p>hello".repeat(50_000);
    let packed = gzipped(text.as_bytes());
    let two_members = [gzipped(b"one, "), gzipped(b"two")].concat();
    for (body, expected) in [
        (Body::Full(packed.clone().into()), text.as_bytes()),
        (in_pieces(&packed, 13), text.as_bytes()),
        (file(&packed), text.as_bytes()),
        (Body::Full(two_members.into()), b"one, two"),
    ] {
        let mut response = page("");
        response.body = body;
        response.fields.push(b"Content-Encoding", b"gzip");
        filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
        assert!(!response.fields.has(Name::ContentEncoding));
        assert_eq!(field(&response, Name::ETag), "W/\"1-a\"");
        assert_eq!(whole(response.body).unwrap(), expected);
    }
    let mut response = page(packed.clone());
    response.fields.push(b"Content-Encoding", b"gzip");
    filters.apply(&request(&[("Accept-Encoding", "gzip")]), &mut response, HOW, &mut Here::default());
    assert_eq!(whole(response.body).unwrap(), packed, "who takes gzip gets it");
    let mut response = page(packed[..packed.len() / 2].to_vec());
    response.fields.push(b"Content-Encoding", b"gzip");
    filters.apply(&Request::default(), &mut response, HOW, &mut Here::default());
    assert!(whole(response.body).is_err(), "cut off in the middle");
}

#[test]
fn what_was_unpacked_can_be_changed_and_packed_again() {
    let compression = model::Compression { brotli: true, ..compression() };
    let filters = NginxFilters {
        gunzip: true,
        compression: Compression::new(&compression, &Shared::default()),
        ..substituting(&[("hello", "bye")], false)
    };
    let mut response = page(gzipped("<p>hello".repeat(100).as_bytes()));
    response.fields.push(b"Content-Encoding", b"gzip");
    filters.apply(&request(&[("Accept-Encoding", "br")]), &mut response, HOW, &mut Here::default());
    assert_eq!(field(&response, Name::ContentEncoding), "br");
    let packed = whole(response.body).unwrap();
    let mut text = String::new();
    brotli::Decompressor::new(&packed[..], 4096).read_to_string(&mut text).unwrap();
    assert_eq!(text, "<p>bye".repeat(100));
}

#[test]
fn charset_is_appended_where_it_belongs() {
    let labelling = |replace| {
        let types = Some(vec![b"text/plain".to_vec()]);
        let charset = model::Charset { charset: Some(Value::text("utf-8")), source: None, types, replace };
        NginxFilters { charset: charset::Label::new(Some(&charset), &Rc::default()), ..filters() }
    };
    for (status, given, replace, expected, complains) in [
        (200, "text/html", false, "text/html; charset=utf-8", false),
        (404, "TEXT/plain; format=flowed", false, "TEXT/plain; format=flowed; charset=utf-8", false),
        (302, "text/html", false, "text/html", false),
        (200, "image/png", false, "image/png", false),
        (200, "text/html; charset=koi8-r", false, "text/html; charset=koi8-r", false),
        (200, "text/html; charset=koi8-r", true, "text/html; charset=koi8-r", true),
        (200, "text/html; Charset=\"UTF-8\"", true, "text/html; charset=utf-8", false),
        (200, "", false, "", false),
    ] {
        let mut response = page("x");
        response.status = status;
        response.fields.set(Name::ContentType, given.as_bytes());
        let mut here = Here::default();
        labelling(replace).apply(&Request::default(), &mut response, HOW, &mut here);
        assert_eq!(field(&response, Name::ContentType), expected);
        assert_eq!(!here.log.is_empty(), complains, "{given} {replace}");
    }
}

#[test]
fn trailers_stand_behind_the_body_where_they_can() {
    let add = |name: &str, value: &str, always| AddHeader {
        name: name.as_bytes().to_vec(),
        value: Value::text(value),
        always,
    };
    let add = [add("X-A", "1", false), add("X-B", "2", true), add("X-C", "", true)];
    let filters = NginxFilters { trailers: Trailers::of(&add), ..filters() };
    let sent = |change: &dyn Fn(&mut Request, &mut Response)| {
        let (mut request, mut response) = (Request::default(), page("0123456789"));
        change(&mut request, &mut response);
        filters.apply(&request, &mut response, HOW, &mut Here::default());
        let mut names = String::new();
        if let Body::Stream(stream) = &mut response.body {
            for (_, name, value) in stream.trailers().unwrap_or_default().iter() {
                for part in [name, b"=", value, b" "] {
                    names.push_str(&String::from_utf8_lossy(part));
                }
            }
        }
        (names, response.body)
    };
    let (names, body) = sent(&|_, response| response.fields.push(b"Content-Length", b"10"));
    assert_eq!((&names[..], &whole(body).unwrap()[..]), ("X-A=1 X-B=2 ", &b"0123456789"[..]));
    assert_eq!(sent(&|_, response| response.status = 404).0, "X-B=2 ");
    assert_eq!(sent(&|_, response| response.body = in_pieces(b"abc", 1)).0, "X-A=1 X-B=2 ");
    assert_eq!(sent(&|_, response| response.status = 304).0, "");
    assert_eq!(sent(&|request, _| request.method = Method::Head).0, "");
    assert_eq!(sent(&|request, _| request.version = Version::Http10).0, "");
}

#[test]
fn variables_of_trailers_are_read_when_the_body_has_ended() {
    let variable = Value(vec![Part::Variable(Variable::RequestTime)]);
    let add = [
        AddHeader { name: b"X-A".to_vec(), value: Value::text("1"), always: false },
        AddHeader { name: b"X-B".to_vec(), value: variable, always: false },
        AddHeader { name: b"X-C".to_vec(), value: Value::text(""), always: false },
    ];
    let filters = NginxFilters { trailers: Trailers::of(&add), ..filters() };
    for body in [in_pieces(b"0123456789", 3), page("0123456789").body, Body::Empty] {
        let expected = match &body {
            Body::Empty => "",
            _ => "0123456789",
        };
        let mut response = Response { body, ..page("") };
        response.fields.push(b"Content-Length", b"10");
        let mut here = Here::default();
        filters.apply(&Request::default(), &mut response, HOW, &mut here);
        assert!(!response.fields.has(Name::ContentLength));
        let at_end = here.at_end.unwrap();
        let Body::Stream(mut stream) = response.body else { panic!("no stream") };
        let mut cx = Context::from_waker(Waker::noop());
        let mut text = Vec::new();
        while let Poll::Ready(Some(chunk)) = stream.poll_chunk(&mut cx) {
            assert_eq!(at_end.due(), None);
            let Ok(Chunk::Data(data)) = chunk else { panic!("no data") };
            text.extend_from_slice(&data);
        }
        assert_eq!(text, expected.as_bytes());
        assert_eq!(at_end.due(), Some(expected.len() as u64), "it waits for its values");
        assert!(stream.poll_chunk(&mut cx).is_pending());
        let mut told = 0;
        at_end
            .fill(|value| value.as_text().map_or_else(|| b"late".to_vec(), <[u8]>::to_vec), |_, _| told += 1);
        assert_eq!((at_end.due(), told), (None, 2));
        assert!(matches!(stream.poll_chunk(&mut cx), Poll::Ready(None)));
        let trailers = stream.trailers().unwrap();
        let trailers: Vec<_> = trailers.iter().map(|(_, name, value)| (name, value)).collect();
        assert_eq!(trailers, [(&b"X-A"[..], &b"1"[..]), (b"X-B", b"late")]);
    }
}

#[test]
fn what_a_request_takes_is_known_beforehand() {
    let weight = |filters: &NginxFilters, lines: &[(&str, &str)]| {
        filters.accepted(&request(lines), &mut Here::default()).weight(Coding::Gzip)
    };
    assert_eq!(
        weight(&filters(), &[("Accept-Encoding", "gzip;q=0.5")]),
        500,
        "`gzip off` is about the filter"
    );
    assert_eq!(weight(&filters(), &[("Accept-Encoding", "gzip"), ("Via", "1.1 p")]), 0);
    assert_eq!(weight(&filters(), &[]), 0);
}
