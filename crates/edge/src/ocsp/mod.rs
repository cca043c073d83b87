//! OCSP: what issuers say of certificates.

mod responder;
mod stapling;

pub use stapling::keep;
