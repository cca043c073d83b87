//! A server without sockets: takes a stream of bytes in pieces and writes down all it makes of it.

use http1::{
    BodyFraming, ChunkedDecoder, ChunkedError, ChunkedEvent, HeadError, Limits, Policy, RequestHead,
    RequestTarget, Version, parse_request_head,
};

/// Everything that can be seen of one request, in bytes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub form: &'static str,
    pub path: Vec<u8>,
    pub query: Option<Vec<u8>>,
    pub version: Version,
    pub authority: Option<Vec<u8>>,
    pub host: Option<Vec<u8>>,
    pub port: Option<u16>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub options: Vec<Vec<u8>>,
    pub dropped: u32,
    pub framing: BodyFraming,
    pub keep_alive: bool,
    pub expect_continue: bool,
    pub upgrade: bool,
    pub body: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How reading a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two requests.
    Clean,
    /// In the middle of one.
    Incomplete,
    Head(HeadError),
    Body(ChunkedError),
}

/// Reads requests until the stream ends or is refused. `pieces` are fed one after the other.
pub fn serve<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
    policy: &Policy,
) -> (Vec<Request>, End) {
    let mut server = Server {
        limits,
        policy,
        buf: Vec::new(),
        head: RequestHead::default(),
        body: Body::Head,
        done: Vec::new(),
    };
    for piece in pieces {
        server.buf.extend_from_slice(piece);
        if let Err(end) = server.turn() {
            return (server.done, end);
        }
    }
    let end = match server.body {
        Body::Head if server.buf.is_empty() => End::Clean,
        _ => End::Incomplete,
    };
    (server.done, end)
}

struct Server<'l> {
    limits: &'l Limits,
    policy: &'l Policy,
    buf: Vec<u8>,
    head: RequestHead,
    body: Body,
    done: Vec<Request>,
}

enum Body {
    Head,
    Length(Request, u64),
    Chunked(Request, Box<ChunkedDecoder>),
}

impl Server<'_> {
    fn turn(&mut self) -> Result<(), End> {
        loop {
            match std::mem::replace(&mut self.body, Body::Head) {
                Body::Head => {
                    if self.buf.is_empty() {
                        return Ok(());
                    }
                    let outcome = parse_request_head(&self.buf, self.limits, self.policy, &mut self.head);
                    let Some(consumed) = outcome.map_err(End::Head)? else { return Ok(()) };
                    assert!(consumed <= self.buf.len(), "consumed past the end");
                    let request = describe(&self.head, &self.buf);
                    self.buf.drain(..consumed);
                    match request.framing {
                        BodyFraming::None => self.done.push(request),
                        BodyFraming::Length(left) => self.body = Body::Length(request, left),
                        BodyFraming::Chunked => {
                            self.body = Body::Chunked(request, Box::new(ChunkedDecoder::new(self.limits)));
                        }
                    }
                }
                Body::Length(mut request, left) => {
                    let take = left.min(self.buf.len() as u64);
                    request.body.extend(self.buf.drain(..take as usize));
                    if take < left {
                        self.body = Body::Length(request, left - take);
                        return Ok(());
                    }
                    self.done.push(request);
                }
                Body::Chunked(mut request, mut decoder) => match decoder
                    .decode(&self.buf)
                    .map_err(End::Body)?
                {
                    ChunkedEvent::NeedMore => {
                        self.buf.clear();
                        self.body = Body::Chunked(request, decoder);
                        return Ok(());
                    }
                    ChunkedEvent::Data(range) => {
                        assert!(!range.is_empty() && range.end <= self.buf.len(), "data outside the input");
                        request.body.extend_from_slice(&self.buf[range.clone()]);
                        self.buf.drain(..range.end);
                        self.body = Body::Chunked(request, decoder);
                    }
                    ChunkedEvent::End { consumed } => {
                        assert!(consumed <= self.buf.len(), "consumed past the end");
                        self.buf.drain(..consumed);
                        request.trailers = own(decoder.trailers().iter());
                        self.done.push(request);
                    }
                },
            }
        }
    }
}

fn own<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fn describe(head: &RequestHead, buf: &[u8]) -> Request {
    Request {
        method: head.method.of(buf).to_vec(),
        target: head.target.of(buf).to_vec(),
        form: match head.form {
            Some(RequestTarget::Origin { .. }) => "origin",
            Some(RequestTarget::Absolute { .. }) => "absolute",
            Some(RequestTarget::Authority { .. }) => "authority",
            Some(RequestTarget::Asterisk) => "asterisk",
            None => panic!("a parsed head without a form"),
        },
        path: head.path(buf).to_vec(),
        query: head.query(buf).map(<[u8]>::to_vec),
        version: head.version,
        authority: head.authority.map(|span| span.of(buf).to_vec()),
        host: head.host.map(|span| span.of(buf).to_vec()),
        port: head.port,
        fields: own(head.lines(buf)),
        options: head.connection_options(buf).map(<[u8]>::to_vec).collect(),
        dropped: head.dropped,
        framing: head.framing,
        keep_alive: head.keep_alive,
        expect_continue: head.expect_continue,
        upgrade: head.upgrade,
        body: Vec::new(),
        trailers: Vec::new(),
    }
}
