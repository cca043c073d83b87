//! `set_real_ip_from`: the client's address behind proxies that are believed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use config::model::http::{AccessRule, RealIp as Model, RealIpHeader};

use crate::access::{Access, Verdict};

/// `set_real_ip_from`, `real_ip_header` and `real_ip_recursive` of one place.
#[derive(Debug, Clone)]
pub struct RealIp {
    believed: Access,
    header: RealIpHeader,
    recursive: bool,
}

impl RealIp {
    /// Compiles the settings.
    pub fn new(model: &Model) -> Self {
        let rules: Vec<_> =
            model.from.iter().map(|who| AccessRule { who: who.clone(), deny: false }).collect();
        Self { believed: Access::new(&rules), header: model.header.clone(), recursive: model.recursive }
    }

    /// Where the address stands. With [`RealIpHeader::ProxyProtocol`] ask [`proxied`](Self::proxied), else
    /// [`forwarded`](Self::forwarded).
    pub const fn header(&self) -> &RealIpHeader {
        &self.header
    }

    /// The client's address by the PROXY protocol header, whose source is `source`; `None`: it stays `peer`'s.
    pub fn proxied(&self, peer: Option<SocketAddr>, source: SocketAddr) -> Option<SocketAddr> {
        self.believes(peer).then_some(source)
    }

    /// The client's address by the values of the header field, in the order of the request; `None`: it stays
    /// `peer`'s. A port of 0 means that none was said.
    ///
    /// Of `X-Forwarded-For` all fields count, as if they were joined; of others the first field. The last address
    /// of a field is taken; with `recursive` the one before it too, as long as the one that was taken is believed
    /// itself. A text that is no address ends the search. Unlike nginx, an IPv4 address with leading zeros is no
    /// address: others read it as octal.
    pub fn forwarded<V: AsRef<[u8]>>(&self, peer: Option<SocketAddr>, values: &[V]) -> Option<SocketAddr> {
        let values = match self.header {
            RealIpHeader::XForwardedFor => values,
            _ => &values[..values.len().min(1)],
        };
        let mut found = None;
        for value in values.iter().rev() {
            let mut value = value.as_ref();
            loop {
                if !self.believes(found.or(peer)) {
                    return found;
                }
                let (rest, address) = split_last(value);
                let Some(address) = parse_address(address) else { return found };
                found = Some(address);
                if !self.recursive {
                    return found;
                }
                match rest {
                    Some(rest) => value = rest,
                    None => break,
                }
            }
        }
        found
    }

    fn believes(&self, peer: Option<SocketAddr>) -> bool {
        // nginx looks a mapped address up among the IPv4 networks alone.
        let address = peer.map(|peer| peer.ip().to_canonical());
        self.believed.verdict(address) == Verdict::Allowed
    }
}

/// The last entry of a list, and what stands before it. Separators are commas and spaces; nginx does not look for
/// one in the first place of the text.
fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let is_separator = |byte: &u8| matches!(byte, b' ' | b',');
    let end = list.iter().rposition(|byte| !is_separator(byte)).map_or(list.len().min(1), |last| last + 1);
    let list = &list[..end];
    match list.iter().rposition(is_separator) {
        None | Some(0) => (None, list),
        Some(at) => (Some(&list[..at]), &list[at + 1..]),
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; port 0 when there is none.
fn parse_address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 0));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let port = match port.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if port.is_empty() => 0,
            None => return None,
        };
        return Some(SocketAddr::new(address.parse::<Ipv6Addr>().ok()?.into(), port));
    }
    let (address, port) = text.split_once(':')?;
    Some(SocketAddr::new(address.parse().ok()?, parse_port(port)?))
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| is_number && port > 0)
}

#[cfg(test)]
mod tests {
    use config::model::http::Who;
    use proptest::prelude::*;

    use super::*;

    fn real_ip(from: &[&str], header: RealIpHeader, recursive: bool) -> RealIp {
        let from = from
            .iter()
            .map(|who| match *who {
                "unix:" => Who::Unix,
                network => Who::Network(network.parse().unwrap()),
            })
            .collect();
        RealIp::new(&Model { from, header, recursive })
    }

    fn socket(text: &str) -> Option<SocketAddr> {
        (text != "unix:").then(|| text.parse().unwrap())
    }

    fn forwarded(from: &[&str], recursive: bool, peer: &str, values: &[&str]) -> Option<String> {
        real_ip(from, RealIpHeader::XForwardedFor, recursive)
            .forwarded(socket(peer), values)
            .map(|address| address.to_string())
    }

    const PROXY: &str = "10.0.0.1:999";

    #[test]
    fn the_last_address_counts() {
        for (values, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1:0")),
            (&["192.0.2.1, 192.0.2.2"], Some("192.0.2.2:0")),
            (&["192.0.2.1,192.0.2.2 , ,"], Some("192.0.2.2:0")),
            (&["192.0.2.1", "192.0.2.2"], Some("192.0.2.2:0")),
            (&["192.0.2.1:8080"], Some("192.0.2.1:8080")),
            (&["2001:db8::1"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]:443"], Some("[2001:db8::1]:443")),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1:0"], None),
            (&["192.0.2.1:+80"], None),
            (&["192.0.2.1:65536"], None),
            (&["[192.0.2.1]:80"], None),
            (&["[2001:db8::1]x"], None),
            (&["010.0.2.1"], None),
            (&[",192.0.2.1"], None),
            (&[" "], None),
            (&[""], None),
            (&[], None),
        ] {
            let found = forwarded(&["10.0.0.0/8"], false, PROXY, values);
            assert_eq!(found.as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn recursive_goes_back_to_the_last_that_is_not_believed() {
        for (values, expected) in [
            (&["192.0.2.1, 10.0.0.2"][..], Some("192.0.2.1:0")),
            (&["198.51.100.7, 192.0.2.1, 10.0.0.2"], Some("192.0.2.1:0")),
            (&["198.51.100.7, 192.0.2.1", "10.0.0.3, 10.0.0.2"], Some("192.0.2.1:0")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3:0")),
            (&["192.0.2.1, bogus, 10.0.0.2"], Some("10.0.0.2:0")),
            (&["bogus", "10.0.0.2"], Some("10.0.0.2:0")),
            (&["192.0.2.1", "bogus"], None),
        ] {
            let found = forwarded(&["10.0.0.0/8"], true, PROXY, values);
            assert_eq!(found.as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn only_who_is_believed_is_heard() {
        let values = ["192.0.2.1"];
        assert_eq!(forwarded(&["10.0.0.0/8"], true, "11.0.0.1:1", &values), None);
        assert_eq!(forwarded(&["10.0.0.0/8"], true, "unix:", &values), None);
        assert_eq!(forwarded(&["unix:"], true, PROXY, &values), None);
        let found = Some("192.0.2.1:0".to_owned());
        assert_eq!(forwarded(&["unix:"], true, "unix:", &values), found);
        assert_eq!(forwarded(&["10.0.0.0/8"], true, "[::ffff:10.0.0.1]:1", &values), found);
        assert_eq!(forwarded(&["2001:db8::/32"], true, "[2001:db8::9]:1", &values), found);
        assert_eq!(forwarded(&["::ffff:0:0/96"], true, "[::ffff:10.0.0.1]:1", &values), None);
    }

    #[test]
    fn of_other_fields_the_first_counts() {
        for header in [RealIpHeader::XRealIp, RealIpHeader::Field(b"X-Client".to_vec())] {
            let real_ip = real_ip(&["10.0.0.0/8"], header, true);
            let found = real_ip.forwarded(socket(PROXY), &["192.0.2.1", "192.0.2.2"]);
            assert_eq!(found, socket("192.0.2.1:0"));
        }
    }

    #[test]
    fn the_proxy_protocol_brings_address_and_port() {
        let real_ip = real_ip(&["10.0.0.0/8"], RealIpHeader::ProxyProtocol, false);
        let source = socket("192.0.2.1:5000").unwrap();
        assert_eq!(real_ip.proxied(socket(PROXY), source), Some(source));
        assert_eq!(real_ip.proxied(socket("11.0.0.1:1"), source), None);
    }

    proptest! {
        #[test]
        fn what_was_not_believed_is_never_gone_past(
            before in "[ ,0-9a-f.:\\[\\]]{0,40}",
            hops in 0usize..4,
        ) {
            let value = format!("{before}, 192.0.2.1{}", ", 10.0.0.2".repeat(hops));
            let found = forwarded(&["10.0.0.0/8"], true, PROXY, &[&value]);
            prop_assert_eq!(found.as_deref(), Some("192.0.2.1:0"));
        }
    }
}
