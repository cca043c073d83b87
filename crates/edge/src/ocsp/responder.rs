//! Who answers for an issuer: one request over plain HTTP.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use config::model::tls::ResponderUrl;
use http1::{AnswerTo, Limits, ResponseFraming, ResponseHead, parse_response_head};
use listen::tls::ocsp::LARGEST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use upstream::Resolver;

/// Everything together, from the name to the last byte.
const LIMIT: Duration = Duration::from_secs(30);
/// One address.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of one read.
const READ: usize = 8 * 1024;
/// Bytes of a head.
const HEAD: usize = 16 * 1024;

/// Who is asked for names, and how long that may take.
pub struct Names {
    /// `None`: the system.
    pub resolver: Option<Resolver>,
    /// `resolver_timeout`
    pub limit: Duration,
}

/// Asks, and returns the body of the answer. The error is for the log.
pub async fn ask(url: &ResponderUrl, path: &str, names: &Names) -> Result<Vec<u8>, String> {
    let asked = async {
        let addresses = names.look_up(&url.host, url.port).await?;
        let mut wrong = format!("{} has no address", url.host);
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return exchange(stream, url, path).await,
                Ok(Err(error)) => wrong = format!("connect to {address}: {error}"),
                Err(_) => wrong = format!("connect to {address}: it takes too long"),
            }
        }
        Err(wrong)
    };
    timeout(LIMIT, asked).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
}

impl Names {
    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        let unresolved = |why: &dyn std::fmt::Display| format!("{host} could not be resolved ({why})");
        if let Some(resolver) = &self.resolver {
            let found = resolver.resolve(host, self.limit).await.map_err(|why| unresolved(&why.as_str()))?;
            return Ok(found.iter().map(|ip| (*ip, port).into()).collect());
        }
        let asked = (host.to_owned(), port);
        let found = tokio::task::spawn_blocking(move || asked.to_socket_addrs()).await;
        match found {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(why)) => Err(unresolved(&why)),
            Err(why) => Err(unresolved(&why)),
        }
    }
}

async fn exchange(mut stream: TcpStream, url: &ResponderUrl, path: &str) -> Result<Vec<u8>, String> {
    // HTTP/1.0, as nginx: the answer has no chunks.
    let request = format!(
        "GET {}{path} HTTP/1.0\r\nHost: {}\r\nAccept: application/ocsp-response\r\nUser-Agent: monoceros\r\n\r\n",
        url.base(),
        url.authority(),
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let limits = Limits { head: HEAD, field_size: HEAD, ..Limits::default() };
    let (mut head, mut input) = (ResponseHead::default(), Vec::new());
    let begin = loop {
        let parsed = parse_response_head(&input, &limits, true, AnswerTo::default(), &mut head);
        match parsed.map_err(|error| error.to_string())? {
            Some(length) if head.is_interim() => {
                input.drain(..length);
            }
            Some(length) => break length,
            None if read(&mut stream, &mut input).await? == 0 => {
                return Err("the responder closed the connection before its answer".to_owned());
            }
            None => {}
        }
    };
    if head.status != 200 {
        return Err(format!("the responder answered with status {}", head.status));
    }
    let length = match head.framing {
        ResponseFraming::Length(length) => Some(length),
        ResponseFraming::Close => None,
        ResponseFraming::None | ResponseFraming::Chunked => {
            return Err("the responder sent no body that HTTP/1.0 knows".to_owned());
        }
    };
    let mut body = input.split_off(begin);
    let most = usize::try_from(length.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    while body.len() < most {
        if body.len().min(most) > LARGEST || length.is_some_and(|_| most > LARGEST) {
            return Err("the responder sent too large an answer".to_owned());
        }
        if read(&mut stream, &mut body).await? == 0 {
            if length.is_some() {
                return Err("the responder closed the connection within its answer".to_owned());
            }
            break;
        }
    }
    body.truncate(most);
    Ok(body)
}

async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<usize, String> {
    let mut piece = [0; READ];
    let count = stream.read(&mut piece).await.map_err(|error| error.to_string())?;
    into.extend_from_slice(&piece[..count]);
    Ok(count)
}
