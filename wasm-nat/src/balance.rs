//! How a new connection chooses its endpoint, where the Service says so by annotation.
//!
//! In: the chosen endpoints and the annotations `fairlead.dev/balance` and `fairlead.dev/weights`. Out: *slots*: a
//! list of endpoints, each as often as its share, from which the kernel takes one by random number, counter or hash.
//! Not here: which endpoints may serve (`endpoints`), and the order of slots between changes (`diff::arrange`).

use crate::address::parse_address;
use crate::model::{Endpoint, Name, Names};
use std::net::IpAddr;

/// Annotation `fairlead.dev/balance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Balance {
    /// Independent random choices: kube-proxy's behaviour, and the default.
    #[default]
    Random,
    /// One after the other, counted for this Service alone on this node.
    RoundRobin,
    /// By the source address: a client stays with its endpoint while the number of endpoints stays the same.
    SourceHash,
    /// By source address and port through a Maglev table (Eisenbud et al., NSDI 2016): every node sends a connection
    /// to the same endpoint, and a change of endpoints moves few connections.
    Maglev,
}

impl Balance {
    /// The value of the annotation, or `None`.
    pub fn parse(text: &str) -> Option<Balance> {
        match text.trim() {
            "random" => Some(Balance::Random),
            "round-robin" => Some(Balance::RoundRobin),
            "source-hash" => Some(Balance::SourceHash),
            "maglev" => Some(Balance::Maglev),
            _ => None,
        }
    }

    /// As the annotation spells it.
    pub fn name(self) -> &'static str {
        match self {
            Balance::Random => "random",
            Balance::RoundRobin => "round-robin",
            Balance::SourceHash => "source-hash",
            Balance::Maglev => "maglev",
        }
    }
}

/// How IPVS chooses, where somebody names it: annotation `fairlead.dev/ipvs-scheduler`, or for all Services by a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheduler(&'static str);

impl Scheduler {
    /// Round robin: kube-proxy's default.
    pub const ROUND_ROBIN: Scheduler = Scheduler("rr");
    /// Round robin by weight.
    pub const WEIGHTED_ROUND_ROBIN: Scheduler = Scheduler("wrr");
    /// By hash of the source address.
    pub const SOURCE_HASH: Scheduler = Scheduler("sh");
    /// Maglev.
    pub const MAGLEV: Scheduler = Scheduler("mh");

    /// All that Linux has (`net/netfilter/ipvs`); each is a module of its own.
    pub const NAMES: [&'static str; 14] =
        ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos"];

    /// By the kernel's name, or `None`.
    pub fn parse(text: &str) -> Option<Scheduler> {
        let text = text.trim();
        Scheduler::NAMES.into_iter().find(|name| *name == text).map(Scheduler)
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// Annotation `fairlead.dev/weights`: `SELECTOR=WEIGHT[, …]`, the first selector that fits an endpoint decides.
///
/// A selector is an address (`10.180.0.1`), `node:NAME`, `zone:NAME` or `*`; a weight is 0 to 100. An endpoint that
/// nothing fits weighs 1. Weight 0 takes an endpoint out, unless all that may serve weigh 0: then all weigh the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights(Vec<(Selector, u8)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Selector {
    Address(IpAddr),
    Node(Name),
    Zone(Name),
    Any,
}

impl Weights {
    /// The value of the annotation, or the entry that cannot be read.
    pub fn parse(text: &str, names: &mut Names) -> Result<Weights, String> {
        let mut entries = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            entries.push(parse_entry(entry, names).ok_or_else(|| entry.to_owned())?);
        }
        Ok(Weights(entries))
    }

    /// The weight of one endpoint.
    pub fn weight(&self, endpoint: &Endpoint) -> u8 {
        let fits = |selector: &Selector| match selector {
            Selector::Address(address) => endpoint.address == *address,
            Selector::Node(node) => endpoint.node == Some(*node),
            Selector::Zone(zone) => endpoint.zone == Some(*zone),
            Selector::Any => true,
        };
        self.0.iter().find(|(selector, _)| fits(selector)).map_or(1, |(_, weight)| *weight)
    }
}

fn parse_entry(entry: &str, names: &mut Names) -> Option<(Selector, u8)> {
    let (selector, weight) = entry.rsplit_once('=')?;
    let selector = selector.trim();
    let weight = weight.trim();
    let weight: u8 = weight.bytes().all(|byte| byte.is_ascii_digit()).then(|| weight.parse().ok())??;
    let selector = match selector.split_once(':') {
        Some(("node", node)) if !node.is_empty() => Selector::Node(names.intern(node)),
        Some(("zone", zone)) if !zone.is_empty() => Selector::Zone(names.intern(zone)),
        _ if selector == "*" => Selector::Any,
        _ => Selector::Address(parse_address(selector)?),
    };
    (weight <= 100).then_some((selector, weight))
}

/// One endpoint of a Service port: where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Where it listens.
    pub port: u16,
}

impl std::fmt::Display for Target {
    /// `10.180.0.1:80`, `[fd00::1]:80`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::net::SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// Each target as often as its share, in order of the targets. `weighted` is sorted by target, without duplicates.
///
/// Weights are divided by their greatest common divisor first, so equal weights give one slot each.
pub fn slots(weighted: &[(Target, u8)], balance: Balance) -> Vec<Target> {
    let divisor = weighted.iter().fold(0, |divisor, (_, weight)| gcd(divisor, u32::from(*weight)));
    // All weigh 0: better all than none.
    let share = |weight: u8| u32::from(weight).checked_div(divisor).unwrap_or(1);
    if balance == Balance::Maglev {
        let shares: Vec<(Target, u32)> = weighted
            .iter()
            .map(|(target, weight)| (*target, share(*weight)))
            .filter(|(_, n)| *n > 0)
            .collect();
        return maglev(&shares);
    }
    let mut slots = Vec::with_capacity(weighted.len());
    for (target, weight) in weighted {
        slots.extend(std::iter::repeat_n(*target, share(*weight) as usize));
    }
    slots
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Sizes of Maglev tables: primes, so that every step visits every slot. About 100 slots an endpoint keep the shares
/// within a few percent; few sizes, far apart, because a change of size moves every connection.
const MAGLEV_SIZES: [(usize, usize); 4] = [(10, 1021), (40, 4093), (160, 16381), (usize::MAX, 65521)];

/// The table of the paper: endpoints take turns (as many as their share) to claim their next preferred free slot.
fn maglev(shares: &[(Target, u32)]) -> Vec<Target> {
    if shares.len() < 2 {
        return shares.iter().map(|(target, _)| *target).collect();
    }
    let size = MAGLEV_SIZES.iter().find(|(most, _)| shares.len() <= *most).map_or(65521, |(_, size)| *size);
    let mut preferences: Vec<(usize, usize)> = shares
        .iter()
        .map(|(target, _)| {
            let offset = hash(target, 0) % size as u64;
            let skip = hash(target, 1) % (size as u64 - 1) + 1;
            (offset as usize, skip as usize)
        })
        .collect();
    let mut table: Vec<Option<Target>> = vec![None; size];
    let mut free = size;
    'fill: loop {
        for ((target, share), (next, skip)) in shares.iter().zip(&mut preferences) {
            for _ in 0..*share {
                while table[*next].is_some() {
                    *next = (*next + *skip) % size;
                }
                table[*next] = Some(*target);
                free -= 1;
                if free == 0 {
                    break 'fill;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// A hash that is the same on every node: FNV-1a of the target, then the finalizer of splitmix64.
fn hash(target: &Target, seed: u64) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325 ^ seed;
    let mut byte = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    match target.address {
        IpAddr::V4(address) => address.octets().into_iter().for_each(&mut byte),
        IpAddr::V6(address) => address.octets().into_iter().for_each(&mut byte),
    }
    target.port.to_be_bytes().into_iter().for_each(&mut byte);
    state ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(last: u8) -> Target {
        Target { address: IpAddr::from([10, 180, 0, last]), port: 80 }
    }

    fn shares(slots: &[Target], of: Target) -> usize {
        slots.iter().filter(|slot| **slot == of).count()
    }

    #[test]
    fn equal_weights_take_one_slot_each() {
        assert_eq!(slots(&[(target(1), 1), (target(2), 1)], Balance::Random), [target(1), target(2)]);
        assert_eq!(slots(&[(target(1), 50), (target(2), 50)], Balance::Random), [target(1), target(2)]);
    }

    #[test]
    fn weights_are_shares_of_slots() {
        let got = slots(&[(target(1), 20), (target(2), 60), (target(3), 0)], Balance::RoundRobin);
        assert_eq!(got, [target(1), target(2), target(2), target(2)]);
        assert_eq!(slots(&[(target(1), 0), (target(2), 0)], Balance::Random), [target(1), target(2)]);
    }

    #[test]
    fn weights_are_read() {
        let mut names = Names::default();
        let weights = Weights::parse("10.180.0.001=3, node:a=0 ,zone:b = 7,*=2", &mut names).unwrap();
        let mut endpoint = Endpoint {
            address: target(1).address,
            ready: true,
            serving: true,
            terminating: false,
            node: Some(names.intern("a")),
            zone: Some(names.intern("b")),
            hint_zones: vec![],
            hint_nodes: vec![],
        };
        assert_eq!(weights.weight(&endpoint), 3);
        endpoint.address = target(2).address;
        assert_eq!(weights.weight(&endpoint), 0);
        endpoint.node = None;
        assert_eq!(weights.weight(&endpoint), 7);
        endpoint.zone = None;
        assert_eq!(weights.weight(&endpoint), 2);
        for bad in ["10.0.0.1", "10.0.0.1=101", "x=1", "node:=1", "10.0.0.1=-1", "10.0.0.1=+1", "=1"] {
            assert_eq!(Weights::parse(bad, &mut names), Err(bad.to_owned()));
        }
    }

    #[test]
    fn maglev_is_even_and_moves_little() {
        let four: Vec<_> = (1..=4).map(|last| (target(last), 1)).collect();
        let before = slots(&four, Balance::Maglev);
        assert_eq!(before.len(), 1021);
        for (each, _) in &four {
            assert!((250..=260).contains(&shares(&before, *each)), "{}", shares(&before, *each));
        }
        let after = slots(&four[..3], Balance::Maglev);
        let moved = before.iter().zip(&after).filter(|(a, b)| **a != target(4) && a != b).count();
        assert!(moved < 1021 / 5, "{moved} of the others' slots moved");
    }

    #[test]
    fn maglev_of_one_needs_no_table() {
        assert_eq!(slots(&[(target(1), 1)], Balance::Maglev), [target(1)]);
        assert_eq!(slots(&[], Balance::Maglev), []);
    }
}
