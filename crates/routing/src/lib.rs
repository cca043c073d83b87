//! Which server and location a request belongs to, and what the configuration makes of it on the way: rewrites and
//! variables. The run-time side of [`config::model::http`].
//!
//! A [`Routing`] is compiled once for each event loop and belongs to that thread; the blocks of a server are when the
//! first request comes to it. What it remembers about a request
//! is in a [`State`], which is used again for the next one. Nothing here does I/O: what only the edge knows is asked
//! of an [`Environment`].
//!
//! The way of a request: [`Listens::listen`] when the connection is accepted; [`validate_host`] and [`Listen::find`]
//! give the server, whose [`Ops`] run first ([`Variables::run`]); [`Routing::find`] gives the location, whose own run
//! next, and on [`Outcome::Again`] the search begins anew, at most [`URI_CHANGES`] times.
#![forbid(unsafe_code)]

pub mod escape;
mod location;
mod names;
mod pattern;
mod rewrite;
mod routing;
mod server;
#[cfg(test)]
mod testing;
mod variables;

pub use location::{Found, Kind, LimitExcept, Location};
pub use pattern::{Captures, MatchError, PatternError, Regex};
pub use rewrite::{Answer, Ops, Outcome, RewriteError, Rewritten, URI_CHANGES};
pub use routing::{LocationId, Routing, RoutingError};
pub use server::{Host, InvalidHost, Listen, Listens, validate_host};
pub use variables::{Environment, Scope, State, Variables, cookie, forwarded_address, request_variable};
