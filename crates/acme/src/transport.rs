//! HTTPS to an authority: one request, one connection. There are a dozen in three months, so nothing is kept open, and
//! what comes back is held to be hostile: bounded in size and time.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use listen::tls::servers;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The largest response: a chain of certificates has some kilobytes.
const RESPONSE_SIZE: usize = 1024 * 1024;
/// Fields of a response's head.
const FIELDS: usize = 100;
/// How long connecting to one address may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the other side may be silent.
const SILENCE: Duration = Duration::from_secs(20);
/// How long all of a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// Where systems keep the certificates that they trust.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/share/ssl/certs/ca-bundle.crt",
];

const AGENT: &str = concat!("monoceros/", env!("CARGO_PKG_VERSION"));
const NO_WISH: u64 = u64::MAX;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is of no use.
    #[error("{0}")]
    Address(String),
    /// The connection failed.
    #[error("{host}: {error}")]
    Connection {
        /// With whom.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// The other side does not speak HTTP as it should.
    #[error("{0}")]
    Response(&'static str),
    /// A status that says that something is wrong, without a problem that says what.
    #[error("the authority answered with status {0}, and did not say why")]
    Status(u16),
}

impl From<TransportError> for instant_acme::Error {
    fn from(error: TransportError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// A client of authorities.
#[derive(Debug, Clone)]
pub struct Transport {
    tls: Arc<ClientConfig>,
    /// What the last response's `Retry-After` said, in seconds.
    retry_after: Arc<AtomicU64>,
}

impl Transport {
    /// `trusted`: a file of certificates to verify the other side by, else the system's. `verify` off: it is not verified.
    pub fn new(trusted: Option<&Path>, verify: bool) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(servers::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier = if verify { servers::trusted(roots(trusted)?, None)? } else { servers::anybody(true) };
        let verified = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut tls = verified.with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls), retry_after: Arc::new(AtomicU64::new(NO_WISH)) })
    }

    /// What the last response's `Retry-After` said, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        Some(self.retry_after.load(Ordering::Relaxed)).filter(|&seconds| seconds != NO_WISH)
    }

    async fn exchange(
        self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, instant_acme::Error> {
        self.retry_after.store(NO_WISH, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        // A way to the bytes of this kind of body that needs no other crate.
        let mut body = BytesResponse::from(Response::new(body)).body;
        let body = body.into_bytes().await.map_err(instant_acme::Error::Other)?;
        let tls = Arc::clone(&self.tls);
        let blocking = tokio::task::spawn_blocking(move || fetch(&tls, &head, &body));
        let response = match tokio::time::timeout(REQUEST_TIME + CONNECT_TIME, blocking).await {
            Ok(Ok(response)) => response?,
            // Name resolution has no time limit of its own.
            Ok(Err(_)) | Err(_) => {
                return Err(TransportError::Response("the authority takes too long").into());
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wish =
            response.headers().get(http::header::RETRY_AFTER).and_then(|v| retry_after(v.as_bytes(), now));
        self.retry_after.store(wish.unwrap_or(NO_WISH), Ordering::Relaxed);
        let status = response.status();
        if !status.is_success() && !is_problem(&response) {
            return Err(TransportError::Status(status.as_u16()).into());
        }
        let (parts, body) = response.into_parts();
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

fn roots(trusted: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = match trusted {
        Some(path) => path,
        None => SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists()).ok_or(
            "the system has no file of trusted certificates (package ca-certificates), and none is configured",
        )?,
    };
    let unusable = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    // Some systems' files hold one or the other that nobody can read.
    if trusted.is_some() {
        let mut store = RootCertStore::empty();
        for certificate in &all {
            store.add(certificate.clone()).map_err(|error| unusable(&error))?;
        }
    }
    if all.is_empty() { Err(unusable(&"no certificate in it")) } else { Ok(all) }
}

/// RFC 7807, and what other content types servers in front of authorities give their errors.
fn is_problem(response: &Response<Bytes>) -> bool {
    let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/problem+json"))
}

/// Seconds from now.
fn retry_after(value: &[u8], now: u64) -> Option<u64> {
    let text = str::from_utf8(value).ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(seconds).filter(|&seconds| seconds != NO_WISH),
        Err(_) => exchange::parse_http_date(text.as_bytes()).map(|at| at.saturating_sub(now)),
    }
}

fn fetch(
    tls: &Arc<ClientConfig>,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<Response<Bytes>, TransportError> {
    let (host, port) = whither(&head.uri)?;
    let until = Instant::now() + REQUEST_TIME;
    let failed = |error: io::Error| TransportError::Connection { host: host.to_owned(), error };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TransportError::Address(format!("\"{host}\" is no name of a host")))?;
    let socket = connect(host, port).map_err(failed)?;
    let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other).map_err(failed)?;
    let mut stream = Bounded { stream: rustls::StreamOwned::new(session, socket), until };
    stream.write_all(&request_text(head, body)).map_err(failed)?;
    stream.flush().map_err(failed)?;
    read_response(&mut stream, head.method == http::Method::HEAD).map_err(|error| match error {
        Unread::Broken(error) => failed(error),
        Unread::Nonsense(why) => TransportError::Response(why),
    })
}

/// Gets a URL of `http` or `https` and tells the status. Blocks, at most `time`, but for the resolution of the name.
pub(crate) fn status(url: &str, time: Duration) -> Result<u16, TransportError> {
    let until = Instant::now() + time;
    let uri: Uri = url.parse().map_err(|_| TransportError::Address(format!("\"{url}\" is no URL")))?;
    let is_secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let failed = |error: io::Error| TransportError::Connection { host: host.clone(), error };
    let request = Request::get(uri.clone()).body(()).map_err(|e| TransportError::Address(e.to_string()))?;
    let text = request_text(&request.into_parts().0, &Bytes::new());
    let socket = connect(&host, port).map_err(failed)?;
    socket.set_read_timeout(Some(time)).map_err(failed)?;
    let outcome = if is_secure {
        let tls = Transport::new(None, true).map_err(TransportError::Address)?.tls;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| TransportError::Address(format!("\"{host}\" is no name of a host")))?;
        let session = ClientConnection::new(tls, name).map_err(io::Error::other).map_err(failed)?;
        status_of(&mut Bounded { stream: rustls::StreamOwned::new(session, socket), until }, &text)
    } else {
        status_of(&mut Bounded { stream: socket, until }, &text)
    };
    outcome.map_err(|error| match error {
        Unread::Broken(error) => failed(error),
        Unread::Nonsense(why) => TransportError::Response(why),
    })
}

fn status_of(stream: &mut (impl Read + Write), request: &[u8]) -> Result<u16, Unread> {
    stream.write_all(request).and_then(|()| stream.flush()).map_err(Unread::Broken)?;
    let mut input = Input { stream, bytes: Vec::new(), is_at_end: false };
    loop {
        if let Some((length, response, _)) = parse_head(&input.bytes)? {
            input.bytes.drain(..length);
            if !response.status().is_informational() {
                return Ok(response.status().as_u16());
            }
        } else if !input.more()? {
            return Err(Unread::Nonsense("the connection ended before the response"));
        }
    }
}

fn whither(uri: &Uri) -> Result<(&str, u16), TransportError> {
    // RFC 8555 §6.1
    if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
        return Err(TransportError::Address(format!(
            "an authority is spoken to by https only, not by {uri}"
        )));
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    Ok((host, uri.port_u16().unwrap_or(443)))
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()?.take(4) {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(socket) => {
                socket.set_read_timeout(Some(SILENCE))?;
                socket.set_write_timeout(Some(SILENCE))?;
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn request_text(head: &http::request::Parts, body: &Bytes) -> Vec<u8> {
    let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = head.uri.authority().map_or("", |authority| authority.as_str());
    // A URL without a path (RFC 9112 §3.2.1).
    let root = if target.starts_with('/') { "" } else { "/" };
    let mut text = format!(
        "{} {root}{target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {AGENT}\r\nAccept-Language: en\r\nConnection: close\r\n",
        head.method
    )
    .into_bytes();
    for (name, value) in &head.headers {
        if name != http::header::USER_AGENT {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    if head.method == http::Method::POST {
        text.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}

/// A stream that takes no longer than it may, however little comes at a time.
struct Bounded<S> {
    stream: S,
    until: Instant,
}

impl<S: Read> Read for Bounded<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self.stream.read(buf) {
            // What a socket's time limit is to Unix.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }
}

impl<S: Write> Write for Bounded<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Why there is no response in a stream.
#[derive(Debug)]
enum Unread {
    Broken(io::Error),
    Nonsense(&'static str),
}

/// Reads one response.
fn read_response(stream: &mut impl Read, to_head: bool) -> Result<Response<Bytes>, Unread> {
    let mut input = Input { stream, bytes: Vec::new(), is_at_end: false };
    loop {
        let (length, mut response, framing) = loop {
            if let Some(head) = parse_head(&input.bytes)? {
                break head;
            }
            if !input.more()? {
                return Err(Unread::Nonsense("the connection ended before the response"));
            }
        };
        input.bytes.drain(..length);
        if response.status().is_informational() {
            continue;
        }
        let has_body =
            !to_head && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if has_body {
            *response.body_mut() = match framing {
                Framing::Length(length) => input.exactly(length)?,
                Framing::Chunked => input.chunks()?,
                Framing::End => {
                    while input.more()? {}
                    Bytes::from(std::mem::take(&mut input.bytes))
                }
            };
        }
        return Ok(response);
    }
}

enum Framing {
    Length(usize),
    Chunked,
    End,
}

fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Response<Bytes>, Framing)>, Unread> {
    const BAD: Unread = Unread::Nonsense("what the other side sends is no HTTP");
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = parsed.parse(bytes) else {
        return if parsed_partly(bytes) { Ok(None) } else { Err(BAD) };
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BAD)?;
    let mut lengths = Vec::new();
    let mut chunked = false;
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| BAD)?;
        if name == http::header::CONTENT_LENGTH {
            let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            lengths.push(digits.and_then(|text| text.parse::<usize>().ok()).ok_or(BAD)?);
        } else if name == http::header::TRANSFER_ENCODING {
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") || chunked {
                return Err(BAD);
            }
            chunked = true;
        }
        response.headers_mut().append(name, value);
    }
    lengths.dedup();
    let framing = match (chunked, lengths.as_slice()) {
        (true, []) => Framing::Chunked,
        (false, []) => Framing::End,
        (false, [length]) => Framing::Length(*length),
        _ => return Err(BAD),
    };
    Ok(Some((length, response, framing)))
}

/// Whether it may become a head.
fn parsed_partly(bytes: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    matches!(httparse::Response::new(&mut fields).parse(bytes), Ok(httparse::Status::Partial))
}

struct Input<'a, R> {
    stream: &'a mut R,
    bytes: Vec<u8>,
    is_at_end: bool,
}

impl<R: Read> Input<'_, R> {
    /// Reads more; false at the end.
    fn more(&mut self) -> Result<bool, Unread> {
        if self.is_at_end {
            return Ok(false);
        }
        if self.bytes.len() > RESPONSE_SIZE {
            return Err(Unread::Nonsense("the response is too large"));
        }
        let mut buf = [0; 16 * 1024];
        let count = self.stream.read(&mut buf).map_err(Unread::Broken)?;
        self.is_at_end = count == 0;
        self.bytes.extend_from_slice(&buf[..count]);
        Ok(count > 0)
    }

    fn exactly(&mut self, length: usize) -> Result<Bytes, Unread> {
        if length > RESPONSE_SIZE {
            return Err(Unread::Nonsense("the response is too large"));
        }
        while self.bytes.len() < length {
            if !self.more()? {
                return Err(Unread::Nonsense("the connection ended within the response"));
            }
        }
        Ok(self.bytes.drain(..length).collect::<Vec<u8>>().into())
    }

    fn chunks(&mut self) -> Result<Bytes, Unread> {
        let mut body = Vec::new();
        loop {
            let (begin, length) = loop {
                match httparse::parse_chunk_size(&self.bytes) {
                    Ok(httparse::Status::Complete(chunk)) => break chunk,
                    Ok(httparse::Status::Partial) if self.bytes.len() < 4096 => {
                        if !self.more()? {
                            return Err(Unread::Nonsense("the connection ended within the response"));
                        }
                    }
                    _ => return Err(Unread::Nonsense("the response's chunks make no sense")),
                }
            };
            self.exactly(begin)?;
            if length == 0 {
                // What trailers may follow is of no interest.
                return Ok(body.into());
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > RESPONSE_SIZE - body.len() {
                return Err(Unread::Nonsense("the response is too large"));
            }
            body.extend_from_slice(&self.exactly(length)?);
            if self.exactly(2)? != b"\r\n"[..] {
                return Err(Unread::Nonsense("the response's chunks make no sense"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buf[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn read(text: &[u8]) -> Result<Response<Bytes>, Unread> {
        let slow = read_response(&mut Slow(text), false);
        let fast = read_response(&mut { text }, false);
        assert_eq!(slow.as_ref().ok().map(Response::body), fast.as_ref().ok().map(Response::body));
        fast
    }

    #[test]
    fn responses_are_read_however_they_come() {
        for text in [
            &b"HTTP/1.1 201 Created\r\nReplay-Nonce: abc\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 201 Created\r\nReplay-Nonce: abc\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nReplay-Nonce: abc\r\n\r\nhello",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nReplay-Nonce: abc\r\n\r\nhello",
        ] {
            let response = read(text).unwrap();
            assert_eq!((response.status().as_u16(), &response.body()[..]), (201, &b"hello"[..]));
            assert_eq!(response.headers()["replay-nonce"], "abc");
        }
        let to_head = read_response(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"[..], true).unwrap();
        assert!(to_head.body().is_empty());
    }

    #[test]
    fn responses_that_make_no_sense_are_refused() {
        for text in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
        ] {
            assert!(read(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        endless.resize(RESPONSE_SIZE * 2, b'x');
        assert!(read_response(&mut &endless[..], false).is_err());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(b"120", 0), Some(120));
        assert_eq!(retry_after(b"Thu, 01 Jan 1970 00:02:00 GMT", 20), Some(100));
        assert_eq!(retry_after(b"Thu, 01 Jan 1970 00:00:10 GMT", 20), Some(0));
        assert_eq!(retry_after(b"soon", 0), None);
    }

    #[test]
    fn authorities_are_spoken_to_by_https_only() {
        assert!(whither(&Uri::from_static("http://ca.example/dir")).is_err());
        assert_eq!(whither(&Uri::from_static("https://ca.example/dir")).unwrap(), ("ca.example", 443));
        assert_eq!(whither(&Uri::from_static("https://[::1]:14000/dir")).unwrap(), ("::1", 14000));
    }
}
