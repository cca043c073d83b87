//! Other servers: which of a group is asked, the connections to them, and the client side of HTTP/1, HTTP/2,
//! FastCGI, uwsgi and SCGI.
//!
//! A [`Group`] says who is next and remembers who failed; all event loops of a process share it. Connections belong
//! to one event loop, which keeps idle ones in a [`Pool`]. [`Connection::ask`] sends one request and returns when the
//! head of its answer is there; the body is an [`AnswerBody`], read as fast as it comes ([`buffered`]) or as fast as
//! somebody takes it ([`direct`]).
//!
//! An answer is not trusted: what could be read in two ways is refused, and a connection is only used again if its
//! answer ended exactly where it said.
#![forbid(unsafe_code)]

mod answer;
mod attempt;
mod balance;
mod body;
mod connect;
mod connection;
mod crc32;
mod failure;
mod group;
mod http2;
mod incoming;
mod pool;
mod resolver;
mod sender;
mod stream;
mod successor;
mod tls;

pub use answer::{buffered, direct};
pub use attempt::{Attempt, Complaints};
pub use body::{AnswerBody, Broken, Held, Rate};
pub use connect::{Bind, Route, Via};
pub use connection::{
    Answer, Asked, Asking, AskingHttp1, Client, Connection, Limits, Nobody, Outgoing, OutgoingBody,
};
pub use failure::{Again, Failure, Fault, errno};
pub use group::{Choice, Found, Group, Key, Lease, Peer, PeerStatus, Place, Waits};
pub use pool::Pool;
pub use resolver::{Resolver, Service, Unresolved};
pub use stream::Stream;
pub use successor::Successor;
pub use tls::Tls;
