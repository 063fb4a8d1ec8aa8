//! Reads back what `nft list table ip fairlead` prints: typed elements, and how many rules each chain has.
//!
//! In: the listing, as nft 1.0.6 and later print it (`-n` or not), whole or piece by piece. Out: [`Listing`], or the line
//! that makes no sense. An element goes to a [`Sink`] as it is read, so whoever only adds them up need not keep them.
//! Of what packets filled in, only numbers count: those under which they were counted, and those under which session affinity
//! remembers clients. The rules' texts are skipped: versions of `nft` print the same rule differently, so only a chain's seal
//! tells what they were, and their number whether somebody took one away.

use super::elements::{Answer, Element, Label, MapName};
use super::numbers::{endpoint_number, service_number};
use crate::address::{Cidr, Family, parse_address};
use crate::balance::Target;
use crate::model::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A table as it stands in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing<E = Vec<Element>> {
    /// The table's comment.
    pub comment: String,
    /// Sorted, where they are a list.
    pub elements: E,
    /// Numbers under which packets were counted.
    pub counted: Vec<u32>,
    /// Numbers of Service ports under which clients are remembered.
    pub remembered: BTreeMap<u32, Remembered>,
    /// Maps and sets that are there.
    pub maps: BTreeSet<MapName>,
    /// Number of rules of each chain, the base chain's declaration not counted; with its hook's line if it has one.
    pub chains: BTreeMap<String, ListedChain>,
}

/// What session affinity remembers under the number of a Service port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The highest number of an endpoint.
    pub endpoint: u16,
    /// The longest time-out; a part of a second does not count.
    pub seconds: u64,
}

impl<E> Listing<E> {
    /// A table of this layout with all its maps: elements can be added to it.
    pub fn is_whole(&self) -> bool {
        self.comment == super::LAYOUT && self.maps.len() == MapName::ALL.len()
    }
}

/// Where elements go as they are read.
pub trait Sink: Default {
    /// In the order of the listing.
    fn take(&mut self, element: Element);
}

impl Sink for Vec<Element> {
    fn take(&mut self, element: Element) {
        self.push(element);
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

/// What [`Reader::finish`] says: `Ok(None)` if the listing holds no table of ours.
pub type Read<E> = Result<Option<Listing<E>>, String>;

/// Reads a listing that is there as a whole.
pub fn parse(text: &str, family: Family) -> Read<Vec<Element>> {
    let mut reader = Reader::<Vec<Element>>::new(family);
    reader.read(text);
    let mut listing = reader.finish();
    if let Ok(Some(listing)) = &mut listing {
        listing.elements.sort_unstable();
    }
    listing
}

/// Reads a listing as it comes. It keeps the structure, and of the elements what the sink makes of them.
#[derive(Debug)]
pub struct Reader<E> {
    family: Family,
    listing: Listing<E>,
    block: Block,
    found: bool,
    /// The beginning of an element that goes on in the next line.
    begun: String,
    /// What made no sense first; nothing is read after it.
    failure: Option<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Block {
    #[default]
    Outside,
    Table,
    /// `None`: no map of ours.
    Map(Option<MapName>),
    /// Within the braces of a map's elements.
    Elements(Option<MapName>),
    Chain(String),
}

impl<E: Sink> Reader<E> {
    /// Before anything of the listing.
    pub fn new(family: Family) -> Reader<E> {
        Reader {
            family,
            listing: Listing::default(),
            block: Block::Outside,
            found: false,
            begun: String::new(),
            failure: None,
        }
    }

    /// Whole lines: however many, up to a line break or the end of the listing.
    pub fn read(&mut self, lines: &str) {
        for line in lines.lines() {
            if self.failure.is_some() {
                return;
            }
            self.failure = self.line(line).err();
        }
    }

    /// All lines were read.
    pub fn finish(self) -> Read<E> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.block != Block::Outside => Err("the listing ends within a block".to_owned()),
            None => Ok(self.found.then_some(self.listing)),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Block::Elements(map) = self.block {
            return self.elements(map, line);
        }
        let words = line.trim();
        if words.is_empty() {
            return Ok(());
        }
        self.block = match (std::mem::take(&mut self.block), words) {
            (Block::Outside, words) if words.starts_with("table ") => {
                self.found = true;
                Block::Table
            }
            (Block::Table, "}") => Block::Outside,
            (Block::Table, words) if words.starts_with("comment ") => {
                self.listing.comment = words["comment ".len()..].trim_matches('"').to_owned();
                Block::Table
            }
            (Block::Table, words) => match words.split(' ').collect::<Vec<_>>()[..] {
                ["map" | "set", name, "{"] => {
                    // A map of another name is none of ours; its lines are skipped.
                    let map = MapName::ALL.into_iter().find(|map| map.name() == name);
                    self.listing.maps.extend(map);
                    Block::Map(map)
                }
                ["chain", name, "{"] => {
                    self.listing.chains.insert(name.to_owned(), ListedChain::default());
                    Block::Chain(name.to_owned())
                }
                _ => return Err(format!("{words:?} came where a map, set or chain is expected")),
            },
            (Block::Map(_) | Block::Chain(_), "}") => Block::Table,
            (Block::Map(map), words) => match words.strip_prefix("elements = {") {
                Some(elements) => {
                    self.block = Block::Elements(map);
                    return self.elements(map, elements);
                }
                None => Block::Map(map),
            },
            (Block::Chain(name), words) => {
                let chain = self.listing.chains.entry(name.clone()).or_default();
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
            (Block::Outside | Block::Elements(_), words) => {
                return Err(format!("{words:?} came where a table is expected"));
            }
        };
        Ok(())
    }

    /// Reads `element, element …`, as far as the line goes, and what stands behind the closing brace.
    fn elements(&mut self, map: Option<MapName>, line: &str) -> Result<(), String> {
        let joined;
        let mut rest = line;
        if !self.begun.is_empty() {
            joined = std::mem::take(&mut self.begun) + "\n" + line;
            rest = &joined;
        }
        while let Some(end) = end_of_element(rest) {
            let element = rest[..end].trim();
            if map == Some(MapName::Connections) {
                self.listing.counted.extend(counted(element));
            } else if map == Some(MapName::Affinity) {
                if let Some((number, one)) = remembered(element) {
                    let all = self.listing.remembered.entry(number).or_default();
                    all.endpoint = all.endpoint.max(one.endpoint);
                    all.seconds = all.seconds.max(one.seconds);
                }
            } else if let Some(map) = map.filter(|map| !map.is_dynamic())
                && !element.is_empty()
            {
                let read = self.element(map, element);
                let read = read.ok_or_else(|| format!("{element:?} came as an element of {}", map.name()))?;
                self.listing.elements.take(read);
            }
            let closes = rest.as_bytes()[end] == b'}';
            rest = &rest[end + 1..];
            if closes {
                self.block = Block::Map(map);
                return self.line(rest);
            }
        }
        if !rest.trim().is_empty() {
            self.begun = rest.to_owned();
        }
        Ok(())
    }

    fn element(&self, map: MapName, text: &str) -> Option<Element> {
        // `key [comment "…"] [: value]`; a key of IPv6 addresses holds colons, but not with blanks around them.
        let (left, value) = match text.rsplit_once(" : ") {
            Some((left, value)) => (left, Some(value.trim())),
            None => (text, None),
        };
        let key = left.split(" comment ").next()?;
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
            MapName::Affinity | MapName::Hairpin | MapName::Connections => return None,
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

/// `8000:2000 counter packets 3 bytes 180`.
fn counted(element: &str) -> Option<u32> {
    class(element.split(' ').next()?)
}

/// `8000:6000 . 203.0.113.1 timeout 3h expires 2h59m57s648ms : 8000:6002`.
fn remembered(element: &str) -> Option<(u32, Remembered)> {
    let (key, value) = element.rsplit_once(" : ")?;
    let endpoint = class(value.trim())?;
    let timeout = key.split_once(" timeout ").and_then(|(_, rest)| rest.split(' ').next());
    let seconds = timeout.and_then(whole_seconds).unwrap_or(0);
    Some((service_number(endpoint)?, Remembered { endpoint: endpoint_number(endpoint), seconds }))
}

/// `2h59m57s648ms`.
fn whole_seconds(text: &str) -> Option<u64> {
    let mut seconds = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
        let unit = rest[digits..].bytes().position(|byte| byte.is_ascii_digit());
        let end = unit.map_or(rest.len(), |unit| digits + unit);
        let each = match &rest[digits..end] {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            "ms" => 0,
            _ => return None,
        };
        seconds += rest[..digits].parse::<u64>().ok()? * each;
        rest = &rest[end..];
    }
    Some(seconds)
}

/// Where the comma or brace behind an element is.
fn end_of_element(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.bytes().position(|byte| {
        quoted ^= byte == b'"';
        !quoted && (byte == b',' || byte == b'}')
    })
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
		elements = { 172.30.0.41 . tcp . 80 comment "a, } odd : one" : 8000:2000,
			     172.30.0.42 . udp . 53 : 8000:4000 }
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
		elements = { 8000:6000 . 203.0.113.1 timeout 3h expires 2h59m57s648ms : 8000:6008,
			     8000:6000 . 203.0.113.2 timeout 3h expires 2h59m57s648ms : 8000:6002 }
	}

	set connections {
		type classid
		size 524288
		flags dynamic
		elements = { 8000:2000 counter packets 3 bytes 180, 8000:2010 counter packets 0 bytes 0 }
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
        assert_eq!(listing.counted, [0x8000_2000, 0x8000_2010]);
        assert_eq!(listing.remembered, BTreeMap::from([(3, Remembered { endpoint: 4, seconds: 10_800 })]));
        assert_eq!(listing.maps.len(), 6);
        let chains: Vec<_> =
            listing.chains.iter().map(|(name, chain)| (name.as_str(), chain.rules)).collect();
        assert_eq!(chains, [("empty", 0), ("lb-tcp-2", 1), ("prerouting", 1)]);
        assert!(listing.chains["prerouting"].hook.is_some());
    }

    #[test]
    fn a_listing_may_come_in_pieces() {
        let whole = parse(LISTING, Family::V4).unwrap().unwrap();
        for lines in 1..7 {
            let mut reader = Reader::<Vec<Element>>::new(Family::V4);
            let all: Vec<&str> = LISTING.split_inclusive('\n').collect();
            all.chunks(lines).for_each(|piece| reader.read(&piece.concat()));
            let mut listing = reader.finish().unwrap().unwrap();
            listing.elements.sort_unstable();
            assert_eq!(listing, whole, "{lines} lines at a time");
        }
    }

    #[test]
    fn elements_may_stand_on_any_lines() {
        let want = parse(LISTING, Family::V4).unwrap().unwrap();
        for (from, to) in [
            ("172.30.0.41 . tcp . 80 comment", "172.30.0.41 . tcp . 80\n\t\t comment"),
            (",\n\t\t\t     8000:2000 . 1", ", 8000:2000 . 1"),
            ("10.180.0.2 . 80 }", "10.180.0.2 . 80\n}"),
            ("10.180.0.2 . 80 }\n\t}", "10.180.0.2 . 80 } }"),
        ] {
            let text = LISTING.replace(from, to);
            assert_ne!(text, LISTING);
            assert_eq!(parse(&text, Family::V4), Ok(Some(want.clone())), "{text}");
        }
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
    fn time_outs() {
        for (text, want) in [("3h", 10_800), ("1d2h3m4s5ms", 93_784), ("648ms", 0), ("10m", 600), ("", 0)] {
            assert_eq!(whole_seconds(text), Some(want), "{text}");
        }
        assert_eq!([whole_seconds("3"), whole_seconds("h"), whole_seconds("3y")], [None; 3]);
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
