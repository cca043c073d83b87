//! Why a server did not answer.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use bytes::Bytes;
use exchange::BodySource;
use gateway::GatewayError;
use http1::ResponseError;

/// Why a server did not answer, and when that was.
pub struct Failure {
    /// What was wrong.
    pub fault: Fault,
    /// What was going on, as nginx's log has it.
    pub action: &'static str,
    /// Something of the request may have reached the server.
    pub sent: bool,
    /// The connection was a kept one, which the server may have closed in the meantime, or on which it may have sent
    /// what nobody asked for.
    pub reused: bool,
    /// What another server, or the same once more, can be given of a body that is passed on as it comes.
    pub again: Option<Again>,
}

/// A body that was passed on in part to a server that has done nothing with it.
pub struct Again {
    /// What was taken of it.
    pub given: VecDeque<Bytes>,
    /// Where the rest comes from; `None`: from where that came from.
    pub rest: Option<Box<dyn BodySource>>,
}

impl Failure {
    /// A kept connection failed, which may have been closed meanwhile: it says nothing of its server.
    pub const fn is_of_kept(&self) -> bool {
        self.reused
            && (matches!(self.fault, Fault::Connect(..) | Fault::Tls(_) | Fault::Closed | Fault::Io(..))
                || self.fault.is_invalid())
    }
}

/// What was wrong.
#[derive(Debug)]
pub enum Fault {
    /// It could not be connected to. The text says to whom where that is no IP address.
    Connect(io::Error, String),
    /// There was no handshake of TLS.
    Tls(String),
    /// It took or sent nothing for too long.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// The connection failed; what was tried.
    Io(&'static str, io::Error),
    /// What it sent is no answer; the words for it.
    Invalid(ResponseError, Box<str>),
    /// What it sent is no answer in the protocol of a gateway.
    Gateway(GatewayError),
    /// What was wrong in HTTP/2, and whether that was what it sent.
    Http2(String, bool),
    /// It says that it has done nothing with the request (RFC 9113 §8.7); with this error code.
    Refused(u32),
    /// Too many interim responses.
    Flood,
    /// The client is gone.
    Gone,
    /// The client's body broke off: the status for it.
    Body(u16),
}

impl Fault {
    /// What came from the beginning of a head on is none.
    pub(crate) fn invalid(error: ResponseError, came: &[u8]) -> Self {
        Self::Invalid(error, http1::describe_response(came, error).into())
    }

    /// It answered, but what it sent is none.
    pub const fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::Invalid(..) | Self::Gateway(_) | Self::Http2(_, true) | Self::Refused(_) | Self::Flood
        )
    }

    /// What it sent does not even look like an answer.
    pub const fn is_noise(&self) -> bool {
        match self {
            Self::Invalid(error, _) => !matches!(error, ResponseError::TooLarge),
            Self::Gateway(error) => !matches!(error, GatewayError::TooLarge),
            _ => false,
        }
    }

    /// A server that cannot be reached is an everyday thing. What else keeps from connecting (no such socket, no
    /// permission) is for somebody to put right, and nginx's `crit`.
    pub fn is_critical(&self) -> bool {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
        };
        let Self::Connect(error, _) = self else { return false };
        error.raw_os_error().is_some()
            && !matches!(
                error.kind(),
                ConnectionRefused
                    | ConnectionReset
                    | HostUnreachable
                    | NetworkDown
                    | NetworkUnreachable
                    | TimedOut
            )
    }

    /// The status that the client gets.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Timeout => 504,
            Self::Gone => 499,
            Self::Body(status) => *status,
            _ => 502,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error, to) if to.is_empty() => write!(f, "connect() failed ({})", errno(error)),
            Self::Connect(error, to) => write!(f, "connect() to {to} failed ({})", errno(error)),
            Self::Tls(words) => f.write_str(words),
            Self::Timeout => f.write_str("upstream timed out (110: Connection timed out)"),
            Self::Closed => f.write_str("upstream prematurely closed connection"),
            Self::Io(call, error) => write!(f, "{call}() failed ({})", errno(error)),
            Self::Invalid(_, words) => write!(f, "upstream sent {words}"),
            Self::Gateway(error) => write!(f, "upstream {error}"),
            Self::Http2(words, _) => write!(f, "upstream {words}"),
            Self::Refused(code) => write!(f, "upstream rejected request with error {code}"),
            Self::Flood => f.write_str("upstream sent too many interim responses"),
            Self::Gone => f.write_str(
                "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too",
            ),
            Self::Body(_) => f.write_str("the client's body broke off, so upstream connection is closed too"),
        }
    }
}

/// An error of the system as nginx writes it: `111: Connection refused`.
pub fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("{number}: {}", text.split(" (os error").next().unwrap_or(&text)),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_as_nginx_tells_them() {
        let refused = || io::Error::from_raw_os_error(111);
        let missing = io::Error::from_raw_os_error(2);
        for (fault, text) in [
            (Fault::Connect(refused(), String::new()), "connect() failed (111: Connection refused)"),
            (
                Fault::Connect(missing, "unix:/s".to_owned()),
                "connect() to unix:/s failed (2: No such file or directory)",
            ),
            (Fault::invalid(ResponseError::StatusLine, b""), "upstream sent no valid HTTP/1.0 header"),
            (Fault::invalid(ResponseError::TooLarge, b""), "upstream sent too big header"),
        ] {
            assert_eq!(fault.to_string(), text);
        }
    }
}
