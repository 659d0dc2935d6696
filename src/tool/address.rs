//! Which addresses a tool may reach, and the resolver that pins a connection to addresses that were judged.
//!
//! Invariants: the address that is judged is the address that is connected to, so a name that changes between the two
//! gains nothing; an address of unknown use is not public.
//! Deliberately absent: proxies, which would resolve names out of our sight.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// True for an address of the public internet: not private, loopback, link-local (where clouds keep their metadata),
/// shared (carrier NAT), multicast, reserved or documentation; an IPv4 address inside an IPv6 one is judged itself.
/// After the IANA special-purpose registries of IPv4 and IPv6.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0                                       // this network
        || a == 10 || a == 127                                 // private, loopback
        || (a == 100 && (64..128).contains(&b))                // shared: carrier NAT
        || (a == 169 && b == 254)                              // link-local, metadata
        || (a == 172 && (16..32).contains(&b))                 // private
        || (a == 192 && b == 0 && (c == 0 || c == 2))          // protocol assignments, documentation
        || (a == 192 && b == 88 && c == 99)                    // the former 6to4 relay
        || (a == 192 && b == 168)                              // private
        || (a == 198 && (b == 18 || b == 19))                  // benchmarks
        || (a == 198 && b == 51 && c == 100)                   // documentation
        || (a == 203 && b == 0 && c == 113)                    // documentation
        || a >= 224; // multicast, reserved, broadcast
    !special
}

/// Only global unicast, 2000::/3, is public; what it holds for special use isn't.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let special = match (a, b) {
        (0x2001, ..0x0200) => true, // protocol assignments, Teredo, ORCHID
        (0x2001, 0x0db8) => true,   // documentation
        (0x3fff, ..0x1000) => true, // documentation
        _ => false,
    };
    a & 0xe000 == 0x2000 && !special
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64 or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(v4(g, h)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// A name has no address that may be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has addresses, and none is public.
    #[error("`{host}` is at {address}, which is no public address; `allow_private = true` in the tool file allows it")]
    Private {
        /// The host that was asked for.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// It can't be resolved.
    #[error("`{host}` can't be resolved: {reason}")]
    Unknown {
        /// The host that was asked for.
        host: String,
        /// What the system says.
        reason: String,
    },
}

/// Resolves names by the system and gives only addresses that may be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    pub(super) allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let found = found.map(|all| all.take(ADDRESSES_MAX).collect());
            let addresses = judged(&host, found, allow_private)?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// The addresses that may be reached, of those that were found.
fn judged(
    host: &str,
    found: std::io::Result<Vec<SocketAddr>>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, AddressError> {
    let unknown = |reason: String| AddressError::Unknown { host: host.to_owned(), reason };
    let found = found.map_err(|error| unknown(error.to_string()))?;
    let first = found.first().ok_or_else(|| unknown("it has no address".to_owned()))?.ip();
    let reachable: Vec<_> = found.iter().copied().filter(|one| allow_private || is_public(one.ip())).collect();
    if reachable.is_empty() {
        return Err(AddressError::Private { host: host.to_owned(), address: first });
    }
    Ok(reachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
            "100::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn addresses_that_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.1.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(is_public(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn a_name_with_public_and_private_addresses_is_pinned_to_the_public_ones() {
        let all = |texts: &[&str]| Ok(texts.iter().map(|text| text.parse().expect("an address")).collect());
        let kept = judged("mixed", all(&["10.0.0.1:0", "1.1.1.1:0", "[::1]:0"]), false).expect("one is public");
        assert_eq!(kept, ["1.1.1.1:0".parse().expect("an address")]);
        let refused = judged("inside", all(&["10.0.0.1:0"]), false).expect_err("none is public");
        assert!(refused.to_string().contains("`inside` is at 10.0.0.1"), "{refused}");
        assert_eq!(judged("inside", all(&["10.0.0.1:0"]), true).map(|kept| kept.len()), Ok(1));
        assert!(matches!(judged("nothing", Ok(Vec::new()), true), Err(AddressError::Unknown { .. })));
    }
}
