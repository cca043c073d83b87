use std::io::{Read, Seek, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use exchange::{
    Body, Chunk, ChunkStream, Coding, FileBody, FileIdentity, Method, Name, Piece, Request, Response,
    StreamError,
};
use proptest::prelude::*;

use super::*;
use crate::encoder::Encoder;

fn options() -> CompressOptions {
    CompressOptions {
        codings: Coding::ALL.to_vec(),
        types: ["text/*", "application/json"].map(str::to_owned).to_vec(),
        min_length: 20,
        levels: Levels::default(),
    }
}

fn filters() -> Filters {
    Filters::new(Some(options()))
}

fn request(accept: &str) -> Request {
    let mut request = Request::default();
    request.fields.push(b"Accept-Encoding", accept.as_bytes());
    request
}

fn page(fields: &[(&str, &str)]) -> Response {
    let mut response = Response::text(200, "text/html; charset=utf-8", "<p>hello".repeat(100));
    for (name, value) in fields {
        response.fields.push(name.as_bytes(), value.as_bytes());
    }
    response
}

fn field(response: &Response, name: Name) -> &str {
    response.fields.first(name).map_or("", |value| std::str::from_utf8(value).unwrap())
}

/// What a real decoder makes of the beginning of a compressed body.
fn decode(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader: Box<dyn Read> = match coding {
        "" => Box::new(data),
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(data)),
        "br" => Box::new(brotli::Decompressor::new(data, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::with_buffer(data).unwrap()),
        other => panic!("{other}"),
    };
    // A body that goes on later ends early for the decoder: what it gave until then counts.
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = reader.read(&mut buffer) {
        out.extend_from_slice(&buffer[..n]);
    }
    out
}

/// Decodes a whole body and demands that it ends where it should.
fn decode_whole(coding: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(data).read_to_end(&mut out).map(drop),
        "br" => brotli::Decompressor::new(data, 4096).read_to_end(&mut out).map(drop),
        "zstd" => zstd::stream::read::Decoder::with_buffer(data).unwrap().read_to_end(&mut out).map(drop),
        other => panic!("{other}"),
    }
    .unwrap();
    out
}

/// A body that broke off must not show in the next one, whose context is the same.
#[test]
fn a_body_that_breaks_off_leaves_the_next_one_whole() {
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (coding, levels) in Coding::ALL.iter().flat_map(|&coding| (1..=9).map(move |level| (coding, level))) {
        let spare = Rc::default();
        let levels = Levels { gzip: levels, br: levels, zstd: levels };
        for (length, flush) in [(1, false), (1, true), (1000, false), (100_000, false), (100_000, true)] {
            let mut broken = Encoder::new(coding, levels, None, &spare).unwrap();
            broken.write(&noise[..length]).unwrap();
            if flush {
                broken.flush().unwrap();
                broken.write(b"and more").unwrap();
            }
            drop(broken);
            let next = Encoder::new(coding, levels, None, &spare).unwrap().whole(&noise[..2000]).unwrap();
            assert!(
                decode_whole(coding.as_str(), &next) == noise[..2000],
                "{coding:?} at {levels:?} behind {length} bytes, flushed: {flush}"
            );
        }
    }
}

struct Script(std::vec::IntoIter<Option<Chunk>>);

impl Script {
    fn body(steps: Vec<Option<Chunk>>) -> Body {
        Body::Stream(Box::new(Self(steps.into_iter())))
    }
}

impl ChunkStream for Script {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        match self.0.next() {
            None => Poll::Ready(None),
            Some(None) => Poll::Pending,
            Some(Some(chunk)) => Poll::Ready(Some(Ok(chunk))),
        }
    }
}

/// All that a body sends; at each flush, how much had been sent until then.
fn drain(body: Body) -> Result<(Vec<u8>, Vec<usize>), StreamError> {
    let (mut out, mut flushes) = (Vec::new(), Vec::new());
    let mut stream = match body {
        Body::Empty => return Ok((out, flushes)),
        Body::Full(bytes) => return Ok((bytes.to_vec(), flushes)),
        Body::File(_) => panic!("a file is not compressed"),
        Body::Stream(stream) => stream,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut idle = 0;
    loop {
        match stream.poll_chunk(&mut cx) {
            Poll::Pending => {
                idle += 1;
                assert!(idle < 100_000, "the stream stands still");
            }
            Poll::Ready(None) => return Ok((out, flushes)),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => {
                assert!(!bytes.is_empty());
                out.extend_from_slice(&bytes);
            }
            Poll::Ready(Some(Ok(Chunk::Flush))) => flushes.push(out.len()),
            Poll::Ready(Some(Ok(Chunk::File { .. }))) => panic!("not compressed"),
        }
    }
}

#[test]
fn a_page_is_compressed_and_says_so() {
    for coding in ["zstd", "br", "gzip"] {
        let mut response =
            page(&[("ETag", "\"a\""), ("Vary", "Cookie"), ("Accept-Ranges", "bytes"), ("Content-MD5", "x")]);
        filters().apply(&request(coding), &mut response);
        assert_eq!(field(&response, Name::ContentEncoding), coding);
        assert_eq!(field(&response, Name::ETag), "W/\"a\"");
        assert_eq!(field(&response, Name::Vary), "Cookie, Accept-Encoding");
        assert!(!response.fields.has(Name::AcceptRanges) && response.fields.named(b"content-md5").is_none());
        let (body, _) = drain(response.body).unwrap();
        assert!(body.len() < 200);
        assert_eq!(decode_whole(coding, &body), "<p>hello".repeat(100).as_bytes());
    }
}

#[test]
fn contexts_are_used_again_and_again() {
    let filters = filters();
    for round in 0..20 {
        for coding in ["zstd", "gzip", "br"] {
            let mut abandoned = Response::text(200, "text/html", "");
            abandoned.body = Script::body(vec![Some(Chunk::Data(Bytes::from_static(b"left"))), None]);
            filters.apply(&request(coding), &mut abandoned);
            if let Body::Stream(stream) = &mut abandoned.body {
                assert!(
                    stream.poll_chunk(&mut Context::from_waker(Waker::noop())).is_pending()
                        || coding != "zstd"
                );
            }
            drop(abandoned);
            let text = format!("{round} ").repeat(50);
            let mut response = Response::text(200, "text/plain", text.clone());
            filters.apply(&request(coding), &mut response);
            assert_eq!(decode_whole(coding, &drain(response.body).unwrap().0), text.as_bytes());
        }
    }
}

#[test]
fn what_must_not_be_compressed_is_not() {
    let untouched = |name: &str, request: &Request, mut response: Response, vary: bool| {
        let length = response.body.len();
        filters().apply(request, &mut response);
        assert_eq!(
            (response.body.len(), field(&response, Name::Vary)),
            (length, if vary { "Accept-Encoding" } else { "" }),
            "{name}"
        );
        assert_ne!(field(&response, Name::ContentEncoding), "zstd", "{name}");
    };
    let zstd = request("zstd");
    untouched("not asked for", &request("identity"), page(&[]), true);
    untouched("refused", &request("gzip;q=0, deflate"), page(&[]), true);
    untouched("coded already", &zstd, page(&[("Content-Encoding", "gzip")]), false);
    untouched("no-transform", &zstd, page(&[("Cache-Control", "public, No-Transform")]), false);
    untouched("short", &zstd, Response::text(200, "text/html", "short"), false);
    untouched("an image", &zstd, Response::text(200, "image/png", "x".repeat(100)), false);
    untouched("events", &zstd, Response::text(200, "text/event-stream", "x".repeat(100)), false);
    untouched("no type", &zstd, Response { status: 200, body: page(&[]).body, ..Response::default() }, false);
    for status in [204, 205, 304, 416] {
        untouched("no content", &zstd, Response { status, ..page(&[]) }, false);
    }
    untouched("a part", &zstd, Response { status: 206, ..page(&[("Content-Range", "bytes 0-1/2")]) }, true);
    let mut off = page(&[]);
    Filters::new(None).apply(&zstd, &mut off);
    assert!(!off.fields.has(Name::Vary) && !off.fields.has(Name::ContentEncoding));
}

#[test]
fn events_are_compressed_where_the_list_names_them() {
    let filters =
        Filters::new(Some(CompressOptions { types: vec!["text/event-stream".into()], ..options() }));
    let mut response = Response::text(200, "text/event-stream; charset=utf-8", "data: x\n\n".repeat(10));
    filters.apply(&request("gzip"), &mut response);
    assert_eq!(field(&response, Name::ContentEncoding), "gzip");
}

#[test]
fn vary_is_merged() {
    for (before, after) in [
        (&[("Vary", "*")][..], &["*"][..]),
        (&[("Vary", "accept-encoding, Cookie")], &["accept-encoding, Cookie"]),
        (&[("Vary", "Cookie"), ("Vary", "Origin")], &["Cookie, Origin, Accept-Encoding"]),
    ] {
        let mut response = page(before);
        filters().apply(&request(""), &mut response);
        assert_eq!(
            response.fields.all(Name::Vary).collect::<Vec<_>>(),
            after.iter().map(|a| a.as_bytes()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_length() {
    let mut head = request("br");
    head.method = Method::Head;
    let mut empty = Response::text(200, "text/html", "");
    empty.fields.push_known(Name::ContentLength, b"5000");
    for mut response in [page(&[]), empty] {
        filters().apply(&head, &mut response);
        assert_eq!(field(&response, Name::ContentEncoding), "br");
        assert!(!response.fields.has(Name::ContentLength));
        assert_eq!(response.body.len(), None);
        assert_eq!(drain(response.body).unwrap().0, b"");
    }
    let mut short = Response::text(200, "text/html", "");
    short.fields.push_known(Name::ContentLength, b"5");
    filters().apply(&head, &mut short);
    assert_eq!((field(&short, Name::ContentEncoding), field(&short, Name::ContentLength)), ("", "5"));
}

#[test]
fn conditions_of_the_application_s_responses() {
    let same = |name: &str, value: &str, accept: &str, mut response: Response| {
        let mut request = request(accept);
        request.fields.push(name.as_bytes(), value.as_bytes());
        filters().apply(&request, &mut response);
        response
    };
    let tagged = || page(&[("ETag", "\"a\""), ("Content-Length", "800"), ("Set-Cookie", "a=1")]);
    for (accept, etag) in [("", "\"a\""), ("gzip", "W/\"a\"")] {
        let response = same("If-None-Match", "W/\"a\"", accept, tagged());
        assert_eq!((response.status, response.body.is_empty()), (304, true));
        assert_eq!((field(&response, Name::ETag), field(&response, Name::Vary)), (etag, "Accept-Encoding"));
        assert!(response.fields.has(Name::SetCookie));
        for name in [Name::ContentType, Name::ContentLength, Name::ContentEncoding] {
            assert!(!response.fields.has(name), "{name:?}");
        }
    }
    assert_eq!(same("If-None-Match", "\"b\"", "", tagged()).status, 200);
    assert_eq!(same("If-None-Match", "*", "", page(&[])).status, 200, "no validators, no verdict");
    let failed = same("If-Match", "\"b\"", "gzip", tagged());
    assert_eq!((failed.status, field(&failed, Name::ContentType)), (412, "text/plain; charset=utf-8"));
    assert!(!failed.fields.has(Name::ContentEncoding) && !failed.fields.has(Name::ContentLength));
    assert_eq!(same("If-None-Match", "*", "", Response { status: 404, ..tagged() }).status, 404);
    let dated = page(&[("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]);
    assert_eq!(same("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT", "", dated).status, 304);
}

fn file(content: &[u8]) -> Arc<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    Arc::new(file)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(next).collect()
}

#[test]
fn files_and_large_bodies_in_steps() {
    for content in [noise(300_000), vec![0; 3_000_000]] {
        for coding in ["zstd", "br", "gzip"] {
            let pieces = vec![
                Piece { prefix: Bytes::from_static(b"<a>"), start: 10, len: 100 },
                Piece { prefix: Bytes::new(), start: 0, len: content.len() as u64 },
            ];
            let body = FileBody { file: file(&content), pieces, suffix: Bytes::from_static(b"<z>") };
            let expected = [b"<a>", &content[10..110], &content, b"<z>"].concat();
            for body in [Body::File(body), Body::Full(expected.clone().into())] {
                let mut response = Response { body, ..Response::text(200, "text/plain", "") };
                filters().apply(&request(coding), &mut response);
                assert_eq!(response.body.len(), None);
                assert!(decode_whole(coding, &drain(response.body).unwrap().0) == expected, "{coding}");
            }
        }
    }
}

#[test]
fn a_truncated_file_is_an_error_and_no_shorter_page() {
    let pieces = vec![Piece { prefix: Bytes::new(), start: 0, len: 500_000 }];
    let body = Body::File(FileBody { file: file(&vec![b'x'; 100_000]), pieces, suffix: Bytes::new() });
    let mut response = Response { body, ..Response::text(200, "text/plain", "") };
    filters().apply(&request("gzip"), &mut response);
    assert!(drain(response.body).is_err());
}

fn of_file(content: &[u8], modified: i64) -> Response {
    let size = content.len() as u64;
    let identity =
        FileIdentity { device: 1, inode: 2, size, modified: (modified, 0), changed: (modified, 0) };
    let pieces = vec![Piece { prefix: Bytes::new(), start: 0, len: size }];
    let body = Body::File(FileBody { file: file(content), pieces, suffix: Bytes::new() });
    let mut response =
        Response { body, of_file: Some(Rc::new(identity)), ..Response::text(200, "text/plain", "") };
    response.fields.push_known(Name::ETag, b"\"strong\"");
    response
}

#[test]
fn a_file_is_compressed_once_for_each_coding() {
    let content = b"the quick brown fox ".repeat(10_000);
    let filters = filters();
    for coding in ["zstd", "br", "gzip"] {
        let mut first = of_file(&content, 5);
        filters.apply(&request(coding), &mut first);
        assert_eq!(first.body.len(), None);
        let mut meanwhile = of_file(&content, 5);
        filters.apply(&request(coding), &mut meanwhile);
        assert_eq!(meanwhile.body.len(), None, "the first is not whole yet");
        let sent = drain(first.body).unwrap().0;
        let mut second = of_file(&content, 5);
        filters.apply(&request(coding), &mut second);
        assert_eq!(second.body.len(), Some(sent.len() as u64));
        assert_eq!(field(&second, Name::ContentEncoding), coding);
        assert_eq!(field(&second, Name::ETag), "W/\"strong\"");
        assert!(drain(second.body).unwrap().0 == sent);
        let mut head = of_file(&content, 5);
        filters.apply(&Request { method: Method::Head, ..request(coding) }, &mut head);
        assert_eq!(head.body.len(), Some(sent.len() as u64), "as of GET");
        assert!(decode_whole(coding, &sent) == content);
    }
}

#[test]
fn a_file_that_has_changed_is_compressed_anew() {
    let filters = filters();
    let (old, new) = (vec![b'a'; 100_000], vec![b'b'; 100_000]);
    for (content, modified) in [(&old, 1), (&new, 2), (&old, 1)] {
        let mut response = of_file(content, modified);
        filters.apply(&request("gzip"), &mut response);
        let sent = drain(response.body).unwrap().0;
        assert!(decode_whole("gzip", &sent) == *content);
    }
}

#[test]
fn what_broke_off_is_not_kept() {
    let filters = filters();
    for whole in [false, true] {
        let mut response = of_file(&vec![b'x'; 500_000], 1);
        let Body::File(body) = &mut response.body else { panic!() };
        if !whole {
            body.file = file(&vec![b'x'; 100_000]);
        }
        filters.apply(&request("gzip"), &mut response);
        assert_eq!(response.body.len(), None);
        assert_eq!(drain(response.body).is_ok(), whole);
    }
}

#[test]
fn a_part_of_a_file_is_not_taken_for_the_whole() {
    let filters = filters();
    let content = noise(100_000);
    let mut response = of_file(&content, 1);
    filters.apply(&request("gzip"), &mut response);
    drain(response.body).unwrap();
    let mut part = of_file(&content, 1);
    let Body::File(body) = &mut part.body else { panic!() };
    body.pieces[0].len = 50_000;
    filters.apply(&request("gzip"), &mut part);
    assert!(decode_whole("gzip", &drain(part.body).unwrap().0) == content[..50_000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the cuts, pauses and flushes: the body is whole, and what was flushed can be decoded.
    #[test]
    fn streams_round_trip(
        steps in proptest::collection::vec((0u8..4, 1usize..3000), 0..25),
        coding in 0usize..3,
    ) {
        let coding = Coding::ALL[coding].as_str();
        let source = noise(3000);
        let (mut whole, mut at_flush, mut script) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, len) in steps {
            script.push(match kind {
                0 => None,
                1 => {
                    at_flush.push(whole.len());
                    Some(Chunk::Flush)
                }
                2 => {
                    whole.extend_from_slice(&source[..len]);
                    Some(Chunk::Data(source[..len].to_vec().into()))
                }
                _ => {
                    whole.extend_from_slice(&source[3000 - len..]);
                    Some(Chunk::File { file: file(&source), start: (3000 - len) as u64, len: len as u64 })
                }
            });
        }
        let mut response = Response { body: Script::body(script), ..Response::text(200, "text/plain", "") };
        filters().apply(&request(coding), &mut response);
        prop_assert_eq!(field(&response, Name::ContentEncoding), coding);
        let (out, flushes) = drain(response.body).unwrap();
        prop_assert!(decode_whole(coding, &out) == whole);
        prop_assert_eq!(flushes.len(), at_flush.len());
        for (sent, written) in flushes.into_iter().zip(at_flush) {
            prop_assert!(decode(coding, &out[..sent]) == whole[..written], "{} at {}", coding, written);
        }
    }
}
