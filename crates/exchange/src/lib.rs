//! The vocabulary of a request and its response.
#![forbid(unsafe_code)]
