//! Messages to a syslog server by datagrams, as nginx sends them (RFC 3164).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use config::model::http::Syslog;

use crate::clock;
use crate::file::OpenError;

/// Seconds between two words about messages that were dropped.
const TELL_EVERY: i64 = 60;
/// The port when the server's address has none.
const PORT: u16 = 514;

/// A syslog server.
///
/// Nothing here waits: what the kernel does not take at once is dropped and counted.
#[derive(Debug)]
pub(crate) struct Peer {
    server: String,
    address: Address,
    facility: u8,
    severity: u8,
    /// What stands between the time and the message: ` host tag: `.
    sender: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Address {
    Udp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

#[derive(Debug)]
struct State {
    socket: Option<Socket>,
    message: Vec<u8>,
    /// The second of the last attempt to make a socket that failed.
    failed: i64,
    dropped: u64,
    told: i64,
}

impl Peer {
    /// Finds the server's address; a name is looked up, once. No server has to listen.
    pub(crate) fn new(syslog: &Syslog) -> Result<Self, OpenError> {
        let address =
            match syslog.server.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Udp(resolve(&syslog.server).map_err(|source| OpenError {
                    log: format!("syslog:server={}", syslog.server),
                    source,
                })?),
            };
        let mut sender = Vec::new();
        if !syslog.nohostname {
            sender.push(b' ');
            sender.extend(rustix::system::uname().nodename().to_bytes().to_ascii_lowercase());
        }
        sender.push(b' ');
        sender.extend_from_slice(syslog.tag.as_bytes());
        sender.extend_from_slice(b": ");
        let state = State { socket: None, message: Vec::new(), failed: i64::MIN, dropped: 0, told: i64::MIN };
        Ok(Self {
            server: syslog.server.clone(),
            address,
            facility: syslog.facility,
            severity: syslog.severity,
            sender,
            state: Mutex::new(state),
        })
    }

    /// Sends at the severity of the configuration.
    pub(crate) fn send(&self, second: i64, message: &[u8]) {
        self.send_at(self.severity, second, message);
    }

    /// Sends at a severity, from 0 (emerg) to 7 (debug).
    pub(crate) fn send_at(&self, severity: u8, second: i64, message: &[u8]) {
        // Told without the lock: the error log may be this very server.
        if let Some((dropped, why)) = self.attempt(severity, second, message) {
            crate::warning!("syslog server {}: {why}; {dropped} messages were dropped", self.server);
        }
    }

    /// What there is to tell, if it did not work.
    fn attempt(&self, severity: u8, second: i64, message: &[u8]) -> Option<(u64, io::Error)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let why = self.transmit(state, severity, second, message).err()?;
        state.dropped += 1;
        if second.saturating_sub(state.told) < TELL_EVERY {
            return None;
        }
        state.told = second;
        Some((std::mem::take(&mut state.dropped), why))
    }

    fn transmit(&self, state: &mut State, severity: u8, second: i64, message: &[u8]) -> io::Result<()> {
        if state.socket.is_none() {
            if state.failed == second {
                return Err(io::ErrorKind::NotConnected.into());
            }
            state.socket = Some(self.address.connect().inspect_err(|_| state.failed = second)?);
        }
        let priority = u32::from(self.facility) * 8 + u32::from(severity);
        state.message.clear();
        state.message.extend_from_slice(format!("<{priority}>").as_bytes());
        state.message.extend_from_slice(&clock::written(second).syslog);
        state.message.extend_from_slice(&self.sender);
        state.message.extend_from_slice(message);
        let sent = match &state.socket {
            Some(Socket::Udp(socket)) => socket.send(&state.message),
            Some(Socket::Unix(socket)) => socket.send(&state.message),
            None => Ok(0),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) => {
                // A server that was started anew is another socket. One that is merely behind is not.
                if error.kind() != io::ErrorKind::WouldBlock {
                    state.socket = None;
                }
                Err(error)
            }
        }
    }
}

impl Address {
    fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Udp(server) => {
                let own = match server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let socket = UdpSocket::bind(own)?;
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(socket))
            }
            Self::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

fn resolve(server: &str) -> io::Result<SocketAddr> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let found = match server.rsplit_once(':') {
        // A colon within brackets belongs to an IPv6 address.
        Some((_, port)) if port.parse::<u16>().is_ok() => server.to_socket_addrs(),
        _ => (server.trim_start_matches('[').trim_end_matches(']'), PORT).to_socket_addrs(),
    };
    found?.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
}

#[cfg(test)]
mod tests;
