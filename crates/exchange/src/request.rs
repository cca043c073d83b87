//! A request as every handler sees it.

use std::net::SocketAddr;

use crate::{Fields, Name, Version};

/// Request methods that code distinguishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// CONNECT
    Connect,
    /// TRACE
    Trace,
    /// Any other token, as received.
    Other(Box<[u8]>),
}

impl Method {
    /// The method of a token; methods are case-sensitive (RFC 9110 §9.1).
    pub fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            other => Self::Other(other.into()),
        }
    }

    /// The token.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Delete => b"DELETE",
            Self::Options => b"OPTIONS",
            Self::Patch => b"PATCH",
            Self::Connect => b"CONNECT",
            Self::Trace => b"TRACE",
            Self::Other(token) => token,
        }
    }

    /// Whether nothing is asked for but to see something (RFC 9110 §9.2.1).
    pub const fn is_safe(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether a request may be sent again when nobody knows if it ran (RFC 9110 §9.2.2).
    pub const fn is_idempotent(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// What the client's connection is secured by, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    #[default]
    Http,
    /// TLS, here or at a trusted proxy.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; `None` for a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it connected to; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
}

/// A request: its head, checked. Used again for the next one on a connection (see [`Request::clear`]).
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// The method that the client has sent, where an internal redirect asks with another.
    pub method_sent: Option<Method>,
    /// In one that is asked within the client's: what is not its own, and variables show all the same.
    pub within: Option<Box<OfClient>>,
    /// The first line as it came, of a head that is refused because that is no request line; for the logs.
    pub line: Vec<u8>,
    /// For the error log: the lines of the head that were left out, each with a line feed behind it; of a head that is
    /// refused, what is wrong with it, in quotation marks.
    pub flaw: Vec<u8>,
    /// Version.
    pub version: Version,
    /// The request target as received.
    pub target: Vec<u8>,
    /// The path, percent-decoded once, dot segments and double slashes resolved; begins with `/`
    /// (or is `*` for the asterisk form).
    pub path: Vec<u8>,
    /// The path as received (still percent-encoded), without the query.
    pub raw_path: Vec<u8>,
    /// What follows the first `?`, without it; as received.
    pub query: Vec<u8>,
    /// The configuration has said what the query is, even if that is nothing.
    pub query_set: bool,
    /// The authority: of an absolute-form target, else of Host; lower case is not forced. Empty on an
    /// HTTP/1.0 request without Host.
    pub authority: Vec<u8>,
    /// Where the application is mounted, as a trusted proxy says (`SCRIPT_NAME`); empty if none does.
    pub script_name: Vec<u8>,
    /// Field lines.
    pub fields: Fields,
    /// Scheme, after the forwarded fields of a trusted proxy.
    pub scheme: Scheme,
    /// Client address, after the forwarded fields of a trusted proxy.
    pub peer: Peer,
    /// The length that the head announced: `Some(0)` without a body, `None` when chunked.
    pub content_length: Option<u64>,
    /// Bytes of the head as it came; 0 where it came compressed.
    pub head_length: usize,
    /// It came before the end of the TLS handshake, which may be a copy of somebody else's (RFC 8470).
    pub in_early_data: bool,
}

/// What a request within the client's has of that one.
#[derive(Clone, Debug, Default)]
pub struct OfClient {
    /// Its method.
    pub method: Method,
    /// Its field lines that are about its own body, or the part of the answer that it wants.
    pub left_out: Fields,
}

impl Request {
    /// Takes a field out, for variables only to be shown.
    pub fn leave_out(&mut self, name: Name) {
        if let Some(client) = &mut self.within {
            for value in self.fields.all(name) {
                client.left_out.push_known(name, value);
            }
        }
        self.fields.remove(name);
    }

    /// From now on it asks with this method.
    pub fn ask_with(&mut self, method: Method) {
        let before = std::mem::replace(&mut self.method, method);
        self.method_sent.get_or_insert(before);
    }

    /// Whether it is the method that it asks with because somebody here has said so.
    pub fn is_asked_with(&self, method: &Method) -> bool {
        self.method_sent.is_some() && self.method == *method
    }

    /// Empties everything and keeps the memory.
    pub fn clear(&mut self) {
        self.method = Method::Get;
        self.method_sent = None;
        self.within = None;
        self.line.clear();
        self.flaw.clear();
        self.target.clear();
        self.path.clear();
        self.raw_path.clear();
        self.query.clear();
        self.query_set = false;
        self.authority.clear();
        self.script_name.clear();
        self.fields.clear();
        self.scheme = Scheme::Http;
        self.peer = Peer::default();
        self.content_length = Some(0);
        self.head_length = 0;
        self.in_early_data = false;
    }

    /// Whether a body follows (perhaps an empty chunked one).
    pub const fn has_body(&self) -> bool {
        !matches!(self.content_length, Some(0))
    }
}
