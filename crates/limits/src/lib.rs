//! Who may ask, and how often.
//!
//! Everything is compiled from [`config::model::http`] and then asked with byte strings that are already
//! evaluated (keys, realms, paths): variables are the business of `routing`. There are no sockets and there is no
//! clock: a peer's address and the time are passed in. What several event loops share ([`Zones`]) is behind
//! locks that are held for one lookup and never across an await.
//!
//! An address is an `Option<IpAddr>` or `Option<SocketAddr>` throughout; `None` is a client of a Unix socket.
#![forbid(unsafe_code)]

pub mod access;
pub mod auth_basic;
pub mod bandwidth;
pub mod connections;
pub mod proxy_protocol;
pub mod rate;
pub mod realip;
pub mod referer;
pub mod secure_link;
mod table;
mod zones;

pub use zones::Zones;

/// Milliseconds of a clock that does not go back and is the same for all event loops of the process.
pub type Millis = u64;
