//! Certificates that come by themselves: orders, renewal, challenges.
#![forbid(unsafe_code)]
