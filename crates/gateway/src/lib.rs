//! Sans-I/O codecs of the protocols that pass requests on as variables: FastCGI, uwsgi and SCGI. They take bytes and
//! give bytes; a test drives them through every split of the input.
//!
//! A request is a list of [`Variable`]s; [`fastcgi`], [`uwsgi`] and [`scgi`] write it. What comes back is in all three
//! a head as CGI has it (RFC 3875 §6), of which [`cgi`] makes one of HTTP/1; FastCGI packs it into records.
#![forbid(unsafe_code)]

pub mod cgi;
pub mod fastcgi;
pub mod scgi;
pub mod uwsgi;

/// Name and value of a variable.
pub type Variable<'a> = (&'a [u8], &'a [u8]);

/// Why an answer is refused; the text goes on after `upstream `.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A record of another version than 1.
    #[error("sent unsupported FastCGI protocol version: {0}")]
    Version(u8),
    /// A record of a type that no application sends in an exchange.
    #[error("sent invalid FastCGI record type: {0}")]
    Type(u8),
    /// A record of another request than the only one.
    #[error("sent unexpected FastCGI request id: {0}")]
    RequestId(u16),
    /// An `END_REQUEST` of another length than 8.
    #[error("sent FastCGI end of request of invalid length: {0}")]
    EndLength(u16),
    /// The request ends, or its output, before the head did.
    #[error("prematurely closed FastCGI stdout")]
    Early,
    /// Complaints beyond all measure before the head.
    #[error("sent too much in FastCGI stderr")]
    Stderr,
    /// A complaint that the configuration names.
    #[error("sent in stderr what `fastcgi_catch_stderr` names")]
    Caught,
    /// The head is longer than it may be.
    #[error("sent too big header")]
    TooLarge,
    /// `Status` is no number of three digits, or one of an interim response.
    #[error("sent invalid status")]
    Status,
    /// What should be a head cannot be read as one.
    #[error("sent invalid header")]
    Field,
}

/// The variables are too long for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request is too big: {0}")]
pub struct TooBig(pub usize);
