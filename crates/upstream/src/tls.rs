//! TLS to a server. Everything here that knows the library (rustls) is in this module.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use config::model::http::{Identity, ProxyTls};
use listen::tls::{Loaded, servers};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, version};

/// Bytes that one read of the socket takes at most: a record of the largest size, and a bit.
const READ_SIZE: usize = 17 * 1024;
/// Bytes that are encrypted before they have to leave.
const WRITE_SIZE: usize = 64 * 1024;
/// Servers whose sessions are kept.
const SESSIONS: usize = 256;

/// How TLS is spoken to the servers of one place.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    session_reuse: bool,
}

impl PartialEq for Tls {
    /// Whether it is the very same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Compiles what the configuration says; `http2`: servers are told that HTTP/2 will be spoken. The error is for the log.
    pub fn new(model: &ProxyTls, http2: bool) -> Result<Self, String> {
        let mut versions = Vec::new();
        if model.tls12 {
            versions.push(&version::TLS12);
        }
        if model.tls13 {
            versions.push(&version::TLS13);
        }
        let verifier = if model.verify {
            if model.trusted.is_empty() {
                return Err("no proxy_ssl_trusted_certificate for proxy_ssl_verify".to_owned());
            }
            let trusted = model.trusted.iter().map(|der| CertificateDer::from(der.0.clone())).collect();
            servers::trusted(trusted, model.revocations.as_deref())?
        } else {
            // Not even the handshake's signature is looked at: that would say that the key is the certificate's, which
            // nobody asks about, and certificates of the first version, which many sign for themselves, cannot be read
            // for it.
            servers::anybody(false)
        };
        let builder = ClientConfig::builder_with_provider(servers::provider())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        if http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        config.enable_sni = model.server_name;
        config.resumption = resumption(model.session_reuse);
        let tls = Self { config: Arc::new(config), session_reuse: model.session_reuse };
        match &model.identity {
            Some(Identity::Fixed { chain, key, form }) => Ok(tls.showing(&Loaded::of(chain, key, *form)?)),
            // Who it is shows with each request.
            Some(Identity::Named(_)) | None => Ok(tls),
        }
    }

    /// The same with this certificate for servers that ask for one. No session of another goes on by it, and no
    /// connection is used that was another's.
    pub fn showing(&self, identity: &Loaded) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        let certified = CertifiedKey::clone(identity.certified());
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        config.resumption = resumption(self.session_reuse);
        Self { config: Arc::new(config), session_reuse: self.session_reuse }
    }

    /// Shakes hands with the server of this name; a port in it does not count.
    pub(crate) async fn connect(&self, socket: listen::Socket, name: &str) -> Result<Encrypted, String> {
        let host = match name.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { name }
            }
            _ => name,
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("invalid name \"{host}\""))?;
        let mut tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| error.to_string())?;
        tls.set_buffer_limit(Some(WRITE_SIZE));
        let mut stream = Encrypted { socket, tls, waiting: BytesMut::new(), debt: 0, is_over: false };
        poll_fn(|cx| {
            loop {
                ready!(stream.poll_flush(cx, &mut 0)).map_err(|error| error.to_string())?;
                if !stream.tls.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                if let Err(error) = ready!(stream.poll_take_in(cx)) {
                    // What went wrong is told to the other side, if it still listens.
                    let _ = stream.poll_flush(cx, &mut 0);
                    return Poll::Ready(Err(words(&error)));
                }
                if stream.is_over {
                    return Poll::Ready(Err("peer closed connection in SSL handshake".to_owned()));
                }
            }
        })
        .await?;
        Ok(stream)
    }
}

fn resumption(reuse: bool) -> Resumption {
    if reuse { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() }
}

/// A stream once its handshake has begun.
pub struct Encrypted {
    socket: listen::Socket,
    tls: ClientConnection,
    /// What was read and the session has no room for yet.
    waiting: BytesMut,
    /// Bytes that are encrypted and not told as written.
    debt: usize,
    /// The socket has ended.
    is_over: bool,
}

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

impl Encrypted {
    /// Reads behind what `buf` holds. 0 is the end, if the server has said that it is one.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            let before = buf.len();
            let room = buf.capacity().saturating_sub(before).max(1);
            buf.resize(before + room, 0);
            let read = self.tls.reader().read(&mut buf[before..]);
            buf.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && self.is_over
                        && self.waiting.is_empty() =>
                {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            ready!(self.poll_take_in(cx))?;
        }
    }

    /// Writes some of the bytes. What is told as written, the kernel has: whoever has nothing more to write has no need to
    /// come back. Until then the same bytes are to be offered again, as with any socket.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut left = 0;
        if self.debt == 0 {
            ready!(self.poll_flush(cx, &mut left))?;
            left = 0;
            self.debt = self.tls.writer().write_vectored(bufs)?;
            if self.debt == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        let count = match self.poll_flush(cx, &mut left) {
            Poll::Ready(Ok(())) => self.debt,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            // All but the last byte is told as it leaves, give or take what records add: so a slow server is seen to take
            // something.
            Poll::Pending => left.min(self.debt - 1),
        };
        let count = count.min(total);
        self.debt -= count;
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    /// Ready when all that was encrypted has left; adds to `left` how much has.
    fn poll_flush(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut out = Outlet(&mut self.socket);
            match self.tls.write_tls(&mut out) {
                Ok(count) => *left += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown_write(&mut self) {
        self.tls.send_close_notify();
        let _ = self.tls.write_tls(&mut Outlet(&mut self.socket));
        self.socket.shutdown_write();
    }

    /// Reads from the socket, and lets the session make of it what it can.
    fn poll_take_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            let mut waiting = std::mem::take(&mut self.waiting);
            let taken = self.feed(&waiting)?;
            waiting.advance(taken);
            self.waiting = waiting;
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.reserve(READ_SIZE);
            if ready!(self.socket.poll_read(cx, scratch))? == 0 {
                self.is_over = true;
                return Poll::Ready(Ok(()));
            }
            let taken = self.feed(scratch)?;
            self.waiting.extend_from_slice(&scratch[taken..]);
            Poll::Ready(Ok(()))
        })
    }

    /// Gives the session what was read; says how much it has taken. Its plaintext is to be taken before it takes more.
    fn feed(&mut self, input: &[u8]) -> io::Result<usize> {
        let mut left = input;
        while !left.is_empty() {
            if self.tls.read_tls(&mut left)? == 0 {
                // A closed session takes nothing more.
                return Ok(input.len());
            }
            let state = self.tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        Ok(input.len() - left.len())
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        // So that the other side knows that nothing is missing.
        self.tls.send_close_notify();
        let _ = self.tls.write_tls(&mut Outlet(&mut self.socket));
    }
}

/// The socket, for the library to write to.
struct Outlet<'s>(&'s mut listen::Socket);

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is wrong, in words like nginx's where a certificate is.
fn words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, .. })) => {
            format!("upstream SSL certificate does not match \"{}\"", expected.to_str())
        }
        Some(Error::InvalidCertificate(why)) => format!("upstream SSL certificate verify error: ({why})"),
        _ => format!("SSL_do_handshake() failed ({error})"),
    }
}
