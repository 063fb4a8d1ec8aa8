//! IP addresses and ranges: text in, canonical values out.
//!
//! Objects that were written before Kubernetes became strict may hold IPv4 octets with leading zeros
//! (`172.30.0.041`). They are decimal, as Go's `ParseIPSloppy` reads them, and rules carry the canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One of the two families; every rule belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are compiled and printed.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// 0 for IPv4, 1 for IPv6: where the family stands in a pair.
    pub fn index(self) -> usize {
        match self {
            Family::V4 => 0,
            Family::V6 => 1,
        }
    }

    /// Kubernetes' name: `IPv4` or `IPv6`.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// An address, or `None`. An IPv4 address in IPv6 clothes (`::ffff:192.0.2.1`) is an IPv4 address, as in Go.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    // Nearly all are written as the standard library reads them, which is quicker than what follows.
    if let Ok(canonical) = text.parse() {
        return Some(IpAddr::V4(canonical));
    }
    let text = text.trim();
    if text.contains(':') {
        let address: Ipv6Addr = text.parse().ok()?;
        return Some(match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6(address),
        });
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parse_octet(parts.next()?)?;
    }
    match parts.next() {
        None => Some(IpAddr::V4(Ipv4Addr::from(octets))),
        Some(_) => None,
    }
}

fn parse_octet(text: &str) -> Option<u8> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = text.trim_start_matches('0');
    if significant.is_empty() { Some(0) } else { significant.parse().ok() }
}

/// A range of addresses; the bits behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of `prefix` bits around `address`; `None` if the family has no such prefix.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let family = Family::of(address);
        (prefix <= family.bits()).then(|| Cidr { address: mask(address, prefix), prefix })
    }

    /// Exactly one address.
    pub fn host(address: IpAddr) -> Cidr {
        Cidr { address, prefix: Family::of(address).bits() }
    }

    /// `203.0.113.0/25`, with sloppy octets and a sloppy prefix (`203.0.113.000/025`), or `None`.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (address, prefix) = text.trim().split_once('/')?;
        Cidr::new(parse_address(address)?, parse_octet(prefix)?)
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that all its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether `address` lies in it; never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && mask(address, self.prefix) == self.address
    }

    /// The first and the last address.
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        let last = match self.address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V4((u32::from(v4) | host).into())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                IpAddr::V6((u128::from(v6) | host).into())
            }
        };
        (self.address, last)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == self.family().bits() {
            return self.address.fmt(f);
        }
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & bits).into())
        }
        IpAddr::V6(v6) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & bits).into())
        }
    }
}

/// The same addresses in as few ranges: sorted, without one that lies in another, siblings merged.
///
/// Interval sets of the kernel refuse overlapping ranges, so every set of ranges goes through here.
pub fn disjoint(ranges: impl IntoIterator<Item = Cidr>) -> Vec<Cidr> {
    let mut sorted: Vec<Cidr> = ranges.into_iter().collect();
    // A range sorts before all that it holds: same first address, smaller prefix.
    sorted.sort();
    let mut kept: Vec<Cidr> = Vec::with_capacity(sorted.len());
    for range in sorted {
        if kept.last().is_some_and(|last| last.contains(range.address)) {
            continue;
        }
        kept.push(range);
        while let [.., left, right] = kept[..] {
            let Some(parent) = parent_of(left, right) else { break };
            kept.truncate(kept.len() - 2);
            kept.push(parent);
        }
    }
    kept
}

fn parent_of(left: Cidr, right: Cidr) -> Option<Cidr> {
    if left.prefix != right.prefix || left.prefix == 0 || left.family() != right.family() {
        return None;
    }
    let parent = Cidr::new(left.address, left.prefix - 1)?;
    (parent.contains(right.address) && left != right).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sloppy_addresses_become_canonical() {
        for (text, want) in [
            ("172.30.0.041", Some("172.30.0.41")),
            ("1.2.3.004", Some("1.2.3.4")),
            (" 10.180.00.001 ", Some("10.180.0.1")),
            ("0.0.0.0", Some("0.0.0.0")),
            ("FD00:0::01", Some("fd00::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("256.0.0.1", None),
            ("1.2.3", None),
            ("1.2.3.4.5", None),
            ("+1.2.3.4", None),
            ("", None),
            ("example.com", None),
        ] {
            assert_eq!(parse_address(text).map(|address| address.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn ranges_lose_their_host_bits() {
        for (text, want) in [
            ("203.0.113.000/025", Some("203.0.113.0/25")),
            ("203.0.113.77/24", Some("203.0.113.0/24")),
            ("10.0.0.1/32", Some("10.0.0.1")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::1/64", Some("fd00::/64")),
            ("::/0", Some("::/0")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
            ("10.0.0.0/", None),
        ] {
            assert_eq!(Cidr::parse(text).map(|range| range.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn disjoint_ranges_hold_the_same_addresses() {
        let ranges = |texts: &[&str]| texts.iter().map(|text| Cidr::parse(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(
            disjoint(ranges(&[
                "10.1.0.0/16",
                "10.0.0.0/8",
                "10.0.0.0/8",
                "192.0.2.128/25",
                "192.0.2.0/25",
                "fd00::/64"
            ])),
            ranges(&["10.0.0.0/8", "192.0.2.0/24", "fd00::/64"]),
        );
        assert_eq!(disjoint(ranges(&["0.0.0.0/1", "128.0.0.0/1"])), ranges(&["0.0.0.0/0"]));
    }

    #[test]
    fn bounds_are_the_first_and_last_address() {
        let bounds = |text: &str| {
            let (first, last) = Cidr::parse(text).unwrap().bounds();
            format!("{first}-{last}")
        };
        assert_eq!(bounds("203.0.113.0/25"), "203.0.113.0-203.0.113.127");
        assert_eq!(bounds("0.0.0.0/0"), "0.0.0.0-255.255.255.255");
        assert_eq!(bounds("10.0.0.1/32"), "10.0.0.1-10.0.0.1");
    }
}
