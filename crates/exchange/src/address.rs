//! Addresses as text.

use std::io::Write;
use std::net::IpAddr;

/// Appends an address. That of a client stands in most requests that are passed on and in most lines of a log, and the
/// library's way to print one costs as much as all the rest of a line.
pub fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (at, byte) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                if byte >= 100 {
                    out.push(b'0' + byte / 100);
                }
                if byte >= 10 {
                    out.push(b'0' + byte / 10 % 10);
                }
                out.push(b'0' + byte % 10);
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_the_library_writes() {
        for text in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "127.0.0.1", "::1", "2001:db8::a:0:0:1"] {
            let mut out = b"for=".to_vec();
            push_address(text.parse().unwrap(), &mut out);
            assert_eq!(out, [b"for=", text.as_bytes()].concat());
        }
    }
}
