//! A response as handlers make it and filters change it.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::{Body, Fields, FileIdentity, Name};

/// A response. `Date`, `Server`, `Connection`, `Transfer-Encoding` and, where the body's length is known,
/// `Content-Length` are the driver's affair; a handler sets `Content-Length` only with [`Body::Stream`]
/// (whose length it knows from elsewhere) or for the answer to HEAD.
#[derive(Debug, Default)]
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Reason phrase where it is not the usual one.
    pub reason: Option<Bytes>,
    /// Field lines.
    pub fields: Fields,
    /// The character set that the body is to be in, where whoever made the response says so apart from its fields.
    pub charset: Option<Box<[u8]>>,
    /// Body; of an answer to HEAD, what GET would have had (the driver does not send it).
    pub body: Body,
    /// The file that the body is the whole of, so that what is made of it can be used again. `None` for all else, and
    /// for a file that may still change without its times showing it.
    pub of_file: Option<Rc<FileIdentity>>,
    /// The connection must not be used again after this response.
    pub close: bool,
    /// What ends the response while nothing of its body comes.
    pub leave: Leave,
    /// For the access log, and for nobody else: variables of the application's environ. Each has a `:` before its name;
    /// the last of a name counts. They may become more until the body has ended.
    pub logged: Option<Rc<RefCell<Fields>>>,
}

/// When the client of a response counts as gone while whoever makes the body is silent. What is sent to one that is gone
/// tells as much, but that may be long after.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Leave {
    /// Not before something is sent to it.
    #[default]
    Unseen,
    /// When the connection is broken. One that only sends nothing more may still listen.
    Broken,
    /// When it sends nothing more, as in nginx: a socket that is closed looks the same.
    Ended,
}

impl Response {
    /// A response with no fields and no body.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A response with a whole body of the given type.
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status);
        response.fields.push_known(Name::ContentType, content_type.as_bytes());
        response.body = Body::Full(body.into());
        response
    }
}
