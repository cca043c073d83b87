//! Sans-I/O HTTP/1 codec (RFC 9112).
#![forbid(unsafe_code)]
