//! TLS. Everything that knows the library (rustls, with aws-lc for the arithmetic) is here and nowhere else.
//!
//! ```text
//! master:  files ─ Files ─► model::tls::Contents                     load, pem, key
//! edge:    Contents ─► Store ─► Offer (one for each server)           store, offer
//!          socket ─ handshake (asks which Offer) ─► Encrypted         handshake, encrypted
//! ```
//! OCSP has its requests and answers here ([`ocsp`]); who asks is the edge.
//!
//! The [`Store`] knows certificates by name and lets them be replaced while it is used: a renewed file, or one that
//! came from somewhere else, is there for the next handshake. [`handshake`] hands the client's hello to whoever
//! chooses the offer, so that a protocol that is only spoken in the handshake (`acme-tls/1`) finds its place there.

mod certificate;
mod clients;
mod compress;
mod der;
mod early;
mod encrypted;
mod handshake;
mod key;
mod load;
pub mod ocsp;
mod offer;
mod pem;
mod ratchet;
pub mod servers;
mod sessions;
mod store;

pub use certificate::{ClientCertificate, Field};
pub use clients::Flaw;
pub use encrypted::{Encrypted, Session};
pub use handshake::{Begun, Choice, Failure, Hello, Negotiated, handshake};
pub use load::{Files, Loaded};
pub use offer::Offer;
pub use ratchet::Ratchet;
pub use sessions::Sessions;
pub use store::{Shown, Store};
