//! The vocabulary of a request and its response, the same for every protocol and handler.
//!
//! A protocol driver turns bytes into a [`Request`] and its [`BodySource`]; a handler turns those into a
//! [`Response`]; filters change the response; the driver writes it. Nothing here does I/O.
#![forbid(unsafe_code)]

mod address;
mod body;
mod browser;
mod coding;
mod date;
mod fields;
mod precondition;
mod request;
mod response;
mod turn;
mod version;

pub use address::push_address;
pub use body::{
    Body, BodyError, BodySource, Chunk, ChunkStream, FileBody, FileIdentity, NoBody, Nothing, Piece,
    SendForeign, StreamError,
};
pub use browser::Browser;
pub use coding::{AcceptEncoding, Coding};
pub use date::{http_date, parse_http_date};
pub use fields::Fields;
pub use http1::Name;
pub use precondition::{Precondition, Validators};
pub use request::{Method, OfClient, Peer, Request, Scheme};
pub use response::{Leave, Response};
pub use turn::{OthersFirst, begin_turn, now, others_first};
pub use version::Version;
