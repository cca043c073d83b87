//! Sans-I/O HTTP/1 codec (RFC 9112): bytes in, ranges and events out. No sockets, no clock, no runtime.
//!
//! A server reads into a buffer and calls [`parse_request_head`] whenever bytes have arrived. What it
//! returns has passed every check that keeps two parties from disagreeing on where a message ends; there
//! is no second call that could be forgotten. The body is then taken by [`RequestHead::framing`]:
//! nothing, so many bytes, or a [`ChunkedDecoder`]. Responses are written with [`ResponseEncoder`].
//! Who asks others reads what they answer with [`parse_response_head`].
//!
//! ```
//! use http1::{BodyFraming, Limits, Policy, RequestHead, parse_request_head};
//!
//! let buf = b"POST /login?next=/ HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nok";
//! let mut head = RequestHead::default();
//! let consumed = parse_request_head(buf, &Limits::default(), &Policy::default(), &mut head)?.unwrap();
//! assert_eq!(head.path(buf), b"/login");
//! assert_eq!(head.framing, BodyFraming::Length(2));
//! assert_eq!(&buf[consumed..], b"ok");
//! # Ok::<(), http1::HeadError>(())
//! ```
#![forbid(unsafe_code)]

mod chunked;
mod connection;
mod encode;
mod error;
mod essential;
mod field;
mod flaw;
mod framing;
mod head;
mod limits;
mod lines;
mod name;
mod reason;
mod response;
mod salvage;
mod span;
mod syntax;
mod target;

pub use chunked::{ChunkedDecoder, ChunkedEvent, TrailerSection, may_trail, trailer_allowed};
pub use connection::{ConnectionOptions, list_elements};
pub use encode::{
    CONTINUE, CRLF, ChunkHeader, EncodeError, LAST_CHUNK, ResponseEncoder, encode_chunk, encode_chunk_size,
    encode_last_chunk, encode_response_head, is_field_value, is_token,
};
pub use error::{ChunkedError, HeadError};
pub use field::FieldLine;
pub use flaw::describe_response;
pub use framing::{BodyFraming, response_body_allowed};
pub use head::{Policy, RequestHead, UnderscoreFields, Version, parse_request_head};
pub use limits::Limits;
pub use name::Name;
pub use reason::reason_phrase;
pub use response::{AnswerTo, ResponseError, ResponseFraming, ResponseHead, parse_response_head};
pub use salvage::{Flaw, Salvage};
pub use span::Span;
pub use target::{Authority, RequestTarget, Scheme, parse_authority};
