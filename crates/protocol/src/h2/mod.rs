//! HTTP/2 (RFC 9113) on one connection, on top of the codec of the crate `h2`.
//!
//! The connection's owner calls [`Connection::accept`] until there is nothing more, and serves each [`Exchange`] in
//! a task of its own: [`Exchange::read_head`], then the body, then [`Exchange::respond`]. When the connection ends,
//! its exchanges find their client gone.
//!
//! What the codec leaves to us stands around it: `wire` below it collects what it writes, `frames` counts what the
//! client's frames cost, `turns` says whose data is next, so that what one connection holds in memory is bounded
//! whatever the client does: [`Settings::max_concurrent_streams`] heads, each with [`Settings::preread`] bytes of its
//! body, and some 64 KiB of responses beside what the exchanges hold themselves.
//!
//! A WebSocket that begins by Extended CONNECT (RFC 8441) becomes what HTTP/1 would have sent (`head`): a GET with
//! `Upgrade`. So everybody behind knows what to do with it, and 101 is the word for yes as ever; to the client it is 200
//! (`response`), and then bytes go both ways (`tunnel`).

mod connection;
mod exchange;
mod frames;
mod head;
mod response;
mod section;
mod tunnel;
mod turns;
mod wire;

pub use self::connection::{Connection, Ended};
pub use self::exchange::{DetachedBody, Exchange};

/// The first bytes of a client that speaks HTTP/2 without having asked (RFC 9113 §3.3).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What `SETTINGS_MAX_FRAME_SIZE` is without a word of it, and the least that it can be (RFC 9113 §6.5.2).
pub const SMALLEST_MAX_FRAME: u32 = 16 * 1024;

/// What holds for a connection, beside what holds for HTTP/1 too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Streams that the client may have open at once.
    pub max_concurrent_streams: u32,
    /// Bytes of a body that the client may send before somebody asks for it.
    pub preread: u32,
    /// Bytes of a frame that the client may send.
    pub max_frame: u32,
    /// Clients may begin WebSockets.
    pub connects: bool,
}
