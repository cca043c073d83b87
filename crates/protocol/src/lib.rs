//! HTTP drivers: connection to exchange.
#![forbid(unsafe_code)]
