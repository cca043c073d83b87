//! The handshake: from a socket to an encrypted stream.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use rustls::{HandshakeKind, ServerConnection};

use super::certificate::ClientCertificate;
use super::early;
use super::encrypted::Encrypted;
use super::offer::Offer;
use crate::socket::Socket;
use crate::stream::Stream;

/// The first byte of a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// A hello of SSL 2 begins with a length that has this bit.
const SSL2: u8 = 0x80;
/// Bytes of one read.
const READ_SIZE: usize = 4 * 1024;
/// A fatal alert: `unrecognized_name` (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A fatal alert: `handshake_failure` (RFC 8446 §6.2).
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// What the client says of itself.
#[derive(Debug)]
pub struct Hello<'a> {
    /// The server that it wants, lower case.
    pub server_name: Option<&'a str>,
    /// The protocols that it would speak.
    pub alpn: Vec<&'a [u8]>,
}

/// How to go on with a client.
#[derive(Clone)]
pub enum Choice {
    /// With this offer.
    Offer(Offer),
    /// Not at all: nobody has that name.
    Reject,
}

/// What came of a handshake.
pub enum Begun {
    /// The client speaks plain HTTP, or something else that is no TLS; this it has sent.
    Plain(Stream, BytesMut),
    /// An encrypted stream; its handshake may go on, as long as what is read from it is early data.
    Tls(Stream, Box<Negotiated>),
}

/// What both sides have agreed upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// IANA's number of the version: 0x0303 for TLS 1.2.
    pub version: u16,
    /// IANA's number of the cipher suite.
    pub suite: u16,
    /// IANA's number of the group; a session that goes on may have none.
    pub group: Option<u16>,
    /// The protocol within.
    pub alpn: Option<Box<[u8]>>,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// An earlier session goes on.
    pub resumed: bool,
    /// All cipher suites that the client has offered, but for those that are none.
    pub client_suites: Box<[u16]>,
    /// All its groups.
    pub client_groups: Box<[u16]>,
    /// The certificate that the client has shown.
    pub client: Option<Box<ClientCertificate>>,
    /// The session's name: it stays when the session goes on.
    pub session: [u8; 32],
}

/// Why there is no stream.
#[derive(Debug)]
pub enum Failure {
    /// The client left.
    Gone,
    /// It took too long.
    Timeout,
    /// It asked for a name that is to be rejected.
    Rejected,
    /// It could not be agreed with; the text is for the log.
    Failed(String),
}

/// Shakes hands. `input`: what has been read already. `choose` is asked once what the client wants is known, and may have
/// to wait itself, `is_late` whenever there is something to wait for.
pub async fn handshake(
    socket: Socket,
    input: BytesMut,
    choose: impl AsyncFnOnce(&Hello<'_>) -> Choice,
    mut is_late: impl FnMut(&mut Context<'_>) -> bool,
) -> Result<Begun, Failure> {
    let mut opening =
        Opening { socket, input, acceptor: Acceptor::default(), taken: BytesMut::new(), is_tls: false };
    let accepted = poll_fn(|cx| match opening.poll(cx) {
        Poll::Pending if is_late(cx) => Poll::Ready(Err(Failure::Timeout)),
        polled => polled,
    });
    let Some(accepted) = accepted.await? else {
        return Ok(Begun::Plain(Stream::Plain(opening.socket), opening.input));
    };
    let Opening { socket, input: mut behind, taken, .. } = opening;
    let hello = accepted.client_hello();
    let groups = hello.named_groups().unwrap_or_default();
    let server_name = hello.server_name().map(str::to_ascii_lowercase);
    let of_client = Negotiated {
        client_suites: hello
            .cipher_suites()
            .iter()
            .map(|suite| u16::from(*suite))
            .filter(|n| is_real(*n))
            .collect(),
        client_groups: groups.iter().map(|group| u16::from(*group)).filter(|n| is_real(*n)).collect(),
        server_name: server_name.as_deref().map(Into::into),
        ..Negotiated::default()
    };
    let alpn = hello.alpn().map(Iterator::collect).unwrap_or_default();
    let choice = {
        let hello = Hello { server_name: server_name.as_deref(), alpn };
        let mut choosing = pin!(choose(&hello));
        let chosen = poll_fn(|cx| match choosing.as_mut().poll(cx) {
            Poll::Pending if is_late(cx) => Poll::Ready(Err(Failure::Timeout)),
            polled => polled.map(Ok),
        });
        chosen.await?
    };
    let Choice::Offer(offer) = choice else {
        let _ = socket.try_write(&UNRECOGNIZED_NAME);
        return Err(Failure::Rejected);
    };
    if !offer.has_certificate_for(&accepted.client_hello()) {
        // The library would say `access_denied`, by which clients and scanners think of something else.
        let _ = socket.try_write(&HANDSHAKE_FAILURE);
        return Err(Failure::Failed("no suitable signature algorithm".to_owned()));
    }
    let clients = offer.clients();
    let mut session = agree(accepted, &taken, &mut behind, &offer)
        .map_err(|(error, alert)| refused(&socket, &error, alert))?;
    // Many handshakes may wait for their end.
    drop(taken);
    let name = name_session(&mut session);
    let mut stream = Encrypted::new(socket, session);
    // What the reads of the hello have brought behind it.
    stream.process().map_err(|error| failure(&error))?;
    let finished = poll_fn(|cx| match poll_finish(&mut stream, &mut behind, cx) {
        Poll::Pending if is_late(cx) => Poll::Ready(Err(Failure::Timeout)),
        polled => polled,
    });
    finished.await?;
    let mut negotiated = agreed(&mut stream, of_client);
    negotiated.session = name;
    if let (Some(clients), Some(chain)) = (clients, stream.session().peer_certificates())
        && let Some(own) = chain.first()
    {
        let client = ClientCertificate { der: own.as_ref().into(), verdict: clients.check(chain) };
        negotiated.client = Some(Box::new(client));
    }
    Ok(Begun::Tls(Stream::Tls(stream), Box::new(negotiated)))
}

/// Answers the hello. `taken`: what was read of it, and with it; `behind`: what was read and not yet looked at.
fn agree(
    accepted: Accepted,
    taken: &[u8],
    behind: &mut BytesMut,
    offer: &Offer,
) -> Result<ServerConnection, (rustls::Error, AcceptedAlert)> {
    if !early::is_offered(taken) {
        return accepted.into_connection(offer.config());
    }
    if !offer.takes_early_data() {
        return accepted.into_connection(offer.refusing_early_data());
    }
    let mut session = accepted.into_connection(offer.config())?;
    if session.early_data().is_some() {
        return Ok(session);
    }
    // Nothing has left yet: the same hello is answered anew.
    let mut again = Acceptor::default();
    let mut left = taken;
    while !left.is_empty() && again.read_tls(&mut left).is_ok() {
        if let Some(accepted) = again.accept()? {
            *behind = [left, behind].concat().as_slice().into();
            return accepted.into_connection(offer.refusing_early_data());
        }
    }
    Ok(session)
}

/// The name of the session that goes on, or a new one.
fn name_session(session: &mut ServerConnection) -> [u8; 32] {
    let mut name = [0; 32];
    match session.received_resumption_data().and_then(|data| data.first_chunk()) {
        Some(known) => name = *known,
        // Without random bytes there would have been no handshake.
        None => drop(aws_lc_rs::rand::fill(&mut name)),
    }
    session.set_resumption_data(&name);
    name
}

/// Numbers that clients only send to see whether somebody stumbles over them (RFC 8701), or that stand for something
/// else (`SCSV`).
fn is_real(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    let is_grease = high == low && low & 0x0f == 0x0a;
    !is_grease && !matches!(number, 0x00ff | 0x5600)
}

/// Until the hello is there.
struct Opening {
    socket: Socket,
    input: BytesMut,
    acceptor: Acceptor,
    /// What the acceptor has read.
    taken: BytesMut,
    /// What has come so far looks like TLS.
    is_tls: bool,
}

impl Opening {
    /// `None`: it is not TLS.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Accepted>, Failure>> {
        loop {
            if self.input.is_empty() {
                self.input.reserve(READ_SIZE);
                match ready!(self.socket.poll_read(cx, &mut self.input)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Gone)),
                    Ok(_) => {}
                }
            }
            let first = self.input[0];
            if !self.is_tls && first != HANDSHAKE && first & SSL2 == 0 {
                return Poll::Ready(Ok(None));
            }
            self.is_tls = true;
            if let Some(accepted) = self.take_in()? {
                return Poll::Ready(Ok(Some(accepted)));
            }
        }
    }

    /// Hands over what was read, as long as the hello is not whole.
    fn take_in(&mut self) -> Result<Option<Accepted>, Failure> {
        while !self.input.is_empty() {
            let mut left: &[u8] = &self.input;
            let taken =
                self.acceptor.read_tls(&mut left).map_err(|error| Failure::Failed(error.to_string()))?;
            self.taken.unsplit(self.input.split_to(taken));
            match self.acceptor.accept() {
                Ok(None) if taken > 0 => {}
                Ok(None) => return Err(Failure::Failed("the hello is too long".to_owned())),
                Ok(accepted) => return Ok(accepted),
                Err((error, alert)) => return Err(refused(&self.socket, &error, alert)),
            }
        }
        Ok(None)
    }
}

/// Tells the client by an alert, as far as there is room for it.
fn refused(socket: &Socket, error: &rustls::Error, mut alert: AcceptedAlert) -> Failure {
    let mut bytes = Vec::new();
    if alert.write_all(&mut bytes).is_ok() {
        let _ = socket.try_write(&bytes);
    }
    Failure::Failed(error.to_string())
}

/// From the hello to the end of the handshake, or to early data, with all that was read behind the hello.
fn poll_finish(
    stream: &mut Encrypted,
    behind: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    if !behind.is_empty() {
        let behind = std::mem::take(behind);
        stream.take_in(&behind).map_err(|error| failure(&error))?;
    }
    loop {
        match stream.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Gone)),
            Poll::Pending => return Poll::Pending,
        }
        if !stream.session().is_handshaking() || stream.has_early_data() {
            return Poll::Ready(Ok(()));
        }
        if stream.is_truncated() {
            return Poll::Ready(Err(Failure::Gone));
        }
        ready!(stream.poll_take_in(cx)).map_err(|error| failure(&error))?;
    }
}

fn failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        Failure::Failed(error.to_string())
    } else {
        Failure::Gone
    }
}

fn agreed(stream: &mut Encrypted, of_client: Negotiated) -> Negotiated {
    let session = stream.session();
    Negotiated {
        version: session.protocol_version().map_or(0, u16::from),
        suite: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
        group: session.negotiated_key_exchange_group().map(|group| group.name().into()),
        alpn: session.alpn_protocol().map(Into::into),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        ..of_client
    }
}
