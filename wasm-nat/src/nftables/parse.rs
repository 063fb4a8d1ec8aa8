//! Reads back what `nft list table ip fairlead` prints: typed elements, and how many rules each chain has.
//!
//! In: the listing, as nft 1.0.6 and later print it (`-n` or not). Out: [`Listing`], or the line that makes no sense.
//! What packets filled in (affinity, hairpin) is skipped, and so are the rules' texts: versions of `nft` print the same
//! rule differently, so only a chain's seal tells what they were, and their number whether somebody took one away.

use super::elements::{Answer, Element, Label, MapName};
use crate::address::{Cidr, Family, parse_address};
use crate::balance::Target;
use crate::model::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A table as it stands in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The table's comment.
    pub comment: String,
    /// Sorted.
    pub elements: Vec<Element>,
    /// Maps and sets that are there.
    pub maps: BTreeSet<MapName>,
    /// Number of rules of each chain, the base chain's declaration not counted; with its hook's line if it has one.
    pub chains: BTreeMap<String, ListedChain>,
}

impl Listing {
    /// A table of this layout with all its maps: elements can be added to it.
    pub fn is_whole(&self) -> bool {
        self.comment == super::LAYOUT && self.maps.len() == MapName::ALL.len()
    }
}

/// A chain of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedChain {
    /// `type nat hook prerouting …`.
    pub hook: Option<String>,
    /// How many.
    pub rules: usize,
    /// The comment of the first one.
    pub seal: String,
}

/// Reads a listing. `Ok(None)` if it holds no table of ours.
pub fn parse(text: &str, family: Family) -> Result<Option<Listing>, String> {
    let mut listing = Listing::default();
    let mut reader = Reader { text, at: 0, family };
    let mut block = Block::Outside;
    let mut found = false;
    while let Some(line) = reader.line() {
        let words = line.trim();
        if words.is_empty() {
            continue;
        }
        block = match (block, words) {
            (Block::Outside, words) if words.starts_with("table ") => {
                found = true;
                Block::Table
            }
            (Block::Table, "}") => Block::Outside,
            (Block::Table, words) if words.starts_with("comment ") => {
                listing.comment = words["comment ".len()..].trim_matches('"').to_owned();
                Block::Table
            }
            (Block::Table, words) => match words.split(' ').collect::<Vec<_>>()[..] {
                ["map" | "set", name, "{"] => {
                    // A map of another name is none of ours; its lines are skipped.
                    let map = MapName::ALL.into_iter().find(|map| map.name() == name);
                    listing.maps.extend(map);
                    Block::Map(map)
                }
                ["chain", name, "{"] => {
                    listing.chains.insert(name.to_owned(), ListedChain::default());
                    Block::Chain(name.to_owned())
                }
                _ => return Err(format!("{words:?} came where a map, set or chain is expected")),
            },
            (Block::Map(_) | Block::Chain(_), "}") => Block::Table,
            (Block::Map(map), words) if words.starts_with("elements = {") => {
                reader.rewind_to(line, "{");
                reader.elements(map.filter(|map| !map.is_dynamic()), &mut listing.elements)?;
                Block::Map(map)
            }
            (Block::Map(map), _) => Block::Map(map),
            (Block::Chain(name), words) => {
                let chain = listing.chains.entry(name.clone()).or_default();
                if words.starts_with("type ") {
                    chain.hook = Some(words.to_owned());
                } else if !words.starts_with("comment ") {
                    if chain.rules == 0
                        && let Some((_, comment)) = words.rsplit_once(" comment \"")
                    {
                        chain.seal = comment.trim_end_matches('"').to_owned();
                    }
                    chain.rules += 1;
                }
                Block::Chain(name)
            }
            (Block::Outside, words) => return Err(format!("{words:?} came where a table is expected")),
        };
    }
    if block != Block::Outside {
        return Err("the listing ends within a block".to_owned());
    }
    listing.elements.sort_unstable();
    Ok(found.then_some(listing))
}

#[derive(PartialEq, Eq)]
enum Block {
    Outside,
    Table,
    Map(Option<MapName>),
    Chain(String),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    family: Family,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split('\n').next().unwrap_or_default();
        self.at = (self.at + line.len() + 1).min(self.text.len());
        Some(line)
    }

    /// Goes back into `line`, the last that was read, to just behind `mark`.
    fn rewind_to(&mut self, line: &str, mark: &str) {
        let start = line.as_ptr() as usize - self.text.as_ptr() as usize;
        self.at = start + line.find(mark).map_or(line.len(), |place| place + mark.len());
    }

    /// Reads `element, element … }`.
    fn elements(&mut self, map: Option<MapName>, out: &mut Vec<Element>) -> Result<(), String> {
        loop {
            let rest = &self.text[self.at..];
            let mut quoted = false;
            let end = rest
                .bytes()
                .position(|byte| {
                    quoted ^= byte == b'"';
                    !quoted && (byte == b',' || byte == b'}')
                })
                .ok_or("the listing ends within a list of elements")?;
            let element = rest[..end].trim();
            self.at += end + 1;
            if let Some(map) = map
                && !element.is_empty()
            {
                let read = self.element(map, element);
                out.push(read.ok_or_else(|| format!("{element:?} came as an element of {}", map.name()))?);
            }
            if rest.as_bytes()[end] == b'}' {
                return Ok(());
            }
        }
    }

    fn element(&self, map: MapName, text: &str) -> Option<Element> {
        // `key [counter packets N bytes N] [comment "…"] [: value]`; a key of IPv6 addresses holds colons, but not
        // with blanks around them.
        let (left, value) = match text.rsplit_once(" : ") {
            Some((left, value)) => (left, Some(value.trim())),
            None => (text, None),
        };
        let key = left.split(" counter ").next()?.split(" comment ").next()?;
        let mut key = key.split(" . ").map(str::trim);
        let element = match map {
            MapName::Endpoints(protocol) => Element::Endpoint {
                protocol,
                set: class(key.next()?)?,
                slot: number(key.next()?)?,
                target: self.target(value?)?,
            },
            MapName::AffinityEndpoints(protocol) => Element::AffinityEndpoint {
                protocol,
                endpoint: class(key.next()?)?,
                target: self.target(value?)?,
            },
            MapName::AffinitySlots => Element::AffinitySlot {
                set: class(key.next()?)?,
                slot: number(key.next()?)?,
                endpoint: class(value?)?,
            },
            MapName::SourceRanges => {
                Element::SourceRange { set: class(key.next()?)?, range: self.range(key.next()?)? }
            }
            MapName::Services => Element::Service {
                set: class(key.next()?)?,
                answer: Answer::Unknown(value?.strip_prefix("goto ")?.into()),
            },
            MapName::ServiceIps => Element::Address {
                address: self.address(key.next()?)?,
                protocol: protocol(key.next()?)?,
                port: port(key.next()?)?,
                value: class(value?)?,
                label: Label::default(),
            },
            MapName::ServiceNodePorts => Element::NodePort {
                protocol: protocol(key.next()?)?,
                port: port(key.next()?)?,
                value: class(value?)?,
                label: Label::default(),
            },
            MapName::ClusterIps => Element::ClusterIp { address: self.address(key.next()?)? },
            MapName::ClusterCidrs
            | MapName::NodePortIps
            | MapName::NodePortRanges
            | MapName::ServiceCidrs => Element::Range { set: map, range: self.range(key.next()?)? },
            MapName::Affinity | MapName::Hairpin => return None,
        };
        key.next().is_none().then_some(element)
    }

    fn address(&self, text: &str) -> Option<IpAddr> {
        parse_address(text).filter(|address| Family::of(*address) == self.family)
    }

    fn range(&self, text: &str) -> Option<Cidr> {
        if text.contains('/') { Cidr::parse(text) } else { self.address(text).map(Cidr::host) }
    }

    fn target(&self, text: &str) -> Option<Target> {
        let (address, number) = text.split_once(" . ")?;
        Some(Target { address: self.address(address.trim())?, port: port(number.trim())? })
    }
}

/// A number of `meta priority`: `8000:2000`, `0x80002000`, or the names of two values.
fn class(text: &str) -> Option<u32> {
    match text {
        "none" => Some(0),
        "root" => Some(u32::MAX),
        _ => match text.split_once(':') {
            Some((major, minor)) => {
                let half = |text: &str| match text {
                    "" => Some(0),
                    _ => u16::from_str_radix(text, 16).ok().map(u32::from),
                };
                Some((half(major)? << 16) | half(minor)?)
            }
            None => text.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()),
        },
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok()
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "6" => Some(Protocol::Tcp),
        "17" => Some(Protocol::Udp),
        "132" => Some(Protocol::Sctp),
        _ => Protocol::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 printed it.
    const LISTING: &str = r#"table ip fairlead {
	comment "layout 1"
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : classid
		counter
		elements = { 172.30.0.41 . tcp . 80 counter packets 3 bytes 180 comment "a, } odd : one" : 8000:2000,
			     172.30.0.42 . udp . 53 counter packets 0 bytes 0 : 8000:4000 }
	}

	map tcp-endpoints {
		typeof meta priority . numgen random mod 2 : ip daddr . tcp dport
		elements = { 8000:2000 . 0 : 10.180.0.1 . 80,
			     8000:2000 . 1 : 10.180.0.2 . 80 }
	}

	map affinity {
		type classid . ipv4_addr : classid
		size 65536
		flags dynamic,timeout
		elements = { 8000:6000 . 203.0.113.1 timeout 3h expires 2h59m57s648ms : 8000:6002 }
	}

	map services {
		type classid : verdict
		elements = { 8000:2000 : goto lb-tcp-2, 8000:4000 : goto no-endpoints }
	}

	set cluster-cidrs {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8 }
	}

	map somebody-elses {
		type ipv4_addr : mark
		elements = { 1.2.3.4 : 0x00000001 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}

	chain lb-tcp-2 {
		meta l4proto tcp dnat ip to meta priority . numgen random mod 2 map @tcp-endpoints
	}

	chain empty {
	}
}
"#;

    #[test]
    fn a_listing_is_read() {
        let listing = parse(LISTING, Family::V4).unwrap().unwrap();
        let mut elements = Vec::new();
        for element in &listing.elements {
            let mut text = format!("{}: ", element.map().name());
            element.print(&mut text);
            elements.push(text);
        }
        elements.sort();
        assert_eq!(
            elements,
            [
                "cluster-cidrs: 10.0.0.0/8",
                "service-ips: 172.30.0.41 . tcp . 80 : 0x80002000",
                "service-ips: 172.30.0.42 . udp . 53 : 0x80004000",
                "services: 0x80002000 : goto lb-tcp-2",
                "services: 0x80004000 : goto no-endpoints",
                "tcp-endpoints: 0x80002000 . 0 : 10.180.0.1 . 80",
                "tcp-endpoints: 0x80002000 . 1 : 10.180.0.2 . 80",
            ]
        );
        assert_eq!(listing.comment, "layout 1");
        assert_eq!(listing.maps.len(), 5);
        let chains: Vec<_> =
            listing.chains.iter().map(|(name, chain)| (name.as_str(), chain.rules)).collect();
        assert_eq!(chains, [("empty", 0), ("lb-tcp-2", 1), ("prerouting", 1)]);
        assert!(listing.chains["prerouting"].hook.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert_eq!(parse("", Family::V4), Ok(None));
        for bad in [
            "table ip fairlead {\n",
            "table ip fairlead {\n map service-ips {\n elements = { 1.2.3.4 . tcp",
            "table ip fairlead {\n map service-ips {\n elements = { fd00::1 . tcp . 80 : 8000:2000 }\n }\n}\n",
            "Error: no such table",
        ] {
            assert!(parse(bad, Family::V4).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_every_spelling() {
        for (text, want) in [
            ("8000:2000", 0x8000_2000),
            ("8000:", 0x8000_0000),
            (":1", 1),
            ("0x80002000", 0x8000_2000),
            ("none", 0),
        ] {
            assert_eq!(class(text), Some(want), "{text}");
        }
        assert_eq!(class("8000"), None);
    }
}
