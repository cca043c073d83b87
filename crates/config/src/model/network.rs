//! An IP network in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An IP network. `10.0.0.1` alone is a network of one address; host bits past the prefix are an error when
/// parsed, as in Python's `ipaddress.ip_network`, on which gunicorn leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidNetwork {
    /// The address is none.
    Address,
    /// The prefix length is no number or too large.
    Prefix,
    /// Bits are set past the prefix; the field is the network that was probably meant.
    HostBits(IpNetwork),
}

impl IpNetwork {
    /// Its lowest address.
    pub const fn first(self) -> IpAddr {
        self.address
    }

    /// Its highest address.
    pub fn last(self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => IpAddr::V4(a | !mask4(Ipv4Addr::BROADCAST, self.prefix)),
            IpAddr::V6(a) => IpAddr::V6(a | !mask6(Ipv6Addr::from_bits(u128::MAX), self.prefix)),
        }
    }

    /// Whether `address` lies in the network. An IPv4 address mapped into IPv6, as a dual-stack socket shows it,
    /// counts as the IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match (self.address, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => mask4(a, self.prefix) == n,
            (IpAddr::V6(n), IpAddr::V6(a)) => mask6(a, self.prefix) == n,
            _ => false,
        }
    }

    /// How many leading bits are the network's: 0 to 32, for IPv6 to 128.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }
}

impl FromStr for IpNetwork {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((a, p)) => (a, Some(p)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork::Address)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => {
                p.parse().ok().filter(|p| *p <= widest).ok_or(InvalidNetwork::Prefix)?
            }
            Some(_) => return Err(InvalidNetwork::Prefix),
        };
        let network = match address {
            IpAddr::V4(a) => IpAddr::V4(mask4(a, prefix)),
            IpAddr::V6(a) => IpAddr::V6(mask6(a, prefix)),
        };
        let result = Self { address: network, prefix };
        if network == address { Ok(result) } else { Err(InvalidNetwork::HostBits(result)) }
    }
}

fn mask4(a: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Ipv4Addr::from_bits(a.to_bits() & mask)
}

fn mask6(a: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Ipv6Addr::from_bits(a.to_bits() & mask)
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for IpNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom(format_args!("`{text}` is no IP network")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_follows_the_prefix_and_unmaps_ipv4() {
        let net: IpNetwork = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.1".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.0.1".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        let all: IpNetwork = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let six: IpNetwork = "2001:db8::/32".parse().unwrap();
        assert!(six.contains("2001:db8:ffff::1".parse().unwrap()));
        assert!("::/0".parse::<IpNetwork>().unwrap().contains("::1".parse().unwrap()));
    }

    #[test]
    fn a_network_ends_with_all_host_bits_set() {
        let last = |text: &str| text.parse::<IpNetwork>().unwrap().last().to_string();
        assert_eq!(last("10.1.0.0/16"), "10.1.255.255");
        assert_eq!(last("10.1.2.3/32"), "10.1.2.3");
        assert_eq!(last("0.0.0.0/0"), "255.255.255.255");
        assert_eq!(last("2001:db8::/112"), "2001:db8::ffff");
    }

    #[test]
    fn malformed_networks_are_told_apart() {
        assert_eq!("10.0.0".parse::<IpNetwork>(), Err(InvalidNetwork::Address));
        assert_eq!("10.0.0.0/33".parse::<IpNetwork>(), Err(InvalidNetwork::Prefix));
        assert_eq!("10.0.0.0/+8".parse::<IpNetwork>(), Err(InvalidNetwork::Prefix));
        let meant = "10.0.0.0/8".parse().unwrap();
        assert_eq!("10.0.0.1/8".parse::<IpNetwork>(), Err(InvalidNetwork::HostBits(meant)));
    }
}
