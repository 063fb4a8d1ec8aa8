//! What the kernel holds, read back.
//!
//! In: one text a family, of sections that each begin with a line `## NAME`:
//!
//! | section | printed by |
//! |---|---|
//! | `ipvsadm` | `ipvsadm -Ln` (both families) |
//! | `ipset` | `ipset save`, of all sets or of ours |
//! | `link` | `ip -o link show dev kube-ipvs0` and `ip -o address show dev kube-ipvs0`; empty where there is none |
//! | `iptables` | `iptables-save` or `ip6tables-save` |
//!
//! Out: the objects that are ours, in the types that they are printed from. What somebody else made is left out, and so
//! is every line that cannot be read: what is not seen is made anew.

use super::objects::Object;
use super::plan::LINK;
use super::rules::{HOOKS, TableName};
use super::servers::{Marks, Real, Server, ServerKey};
use super::sets::{Entry, Key, SetName};
use crate::address::{Cidr, Family, parse_address};
use crate::balance::{Scheduler, Target};
use crate::model::Protocol;
use crate::ruleset::NodeRules;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Sets that only live while one is replaced.
pub const TEMPORARY_SET: &str = "FAIRLEAD-NEW-";

/// One family's part of the kernel.
#[derive(Debug, Default)]
pub struct Listing {
    /// Virtual servers.
    pub servers: BTreeMap<ServerKey, Server>,
    /// Real servers with their weights and connections.
    pub reals: BTreeMap<(ServerKey, Target), (u32, u64)>,
    /// Elements of our sets.
    pub entries: BTreeSet<Entry>,
    /// Our sets, each with the line that makes it after its name.
    pub sets: BTreeMap<SetName, String>,
    /// Left behind by somebody who was interrupted.
    pub temporary_sets: Vec<String>,
    /// The dummy link is there.
    pub has_link: bool,
    /// It is up.
    pub is_up: bool,
    /// Addresses on it, of this family.
    pub addresses: BTreeSet<IpAddr>,
    /// Rules of every chain of every table, as they are printed; a chain without rules is there, too.
    pub chains: BTreeMap<(TableName, String), Vec<String>>,
}

/// A weight that nobody wants: of a real server that does not translate addresses.
const WRONG_WEIGHT: u32 = u32::MAX;

impl Listing {
    /// Reads the text of one family.
    pub fn parse(text: &str, family: Family) -> Listing {
        let mut listing = Listing::default();
        let mut section = "";
        let mut server: Option<ServerKey> = None;
        let mut table: Option<TableName> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("## ") {
                section = name.trim();
                continue;
            }
            match section {
                "ipvsadm" => listing.ipvsadm(line, family, &mut server),
                "ipset" => listing.ipset(line, family),
                "link" => listing.link(line, family),
                "iptables" => listing.iptables(line, &mut table),
                _ => {}
            }
        }
        listing
    }

    fn ipvsadm(&mut self, line: &str, family: Family, server: &mut Option<ServerKey>) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("->") => {
                let Some(key) = *server else { return };
                let mut real = || -> Option<((ServerKey, Target), (u32, u64))> {
                    let target = parse_target(words.next()?)?;
                    let is_nat = words.next()? == "Masq";
                    let weight = words.next()?.parse().ok()?;
                    let active: u64 = words.next()?.parse().ok()?;
                    let inactive: u64 = words.next()?.parse().ok()?;
                    Some(((key, target), (if is_nat { weight } else { WRONG_WEIGHT }, active + inactive)))
                };
                self.reals.extend(real());
            }
            Some(kind) => {
                *server = None;
                let words: Vec<&str> = words.collect();
                let Some((key, rest)) = parse_key(kind, &words) else { return };
                let of = match key {
                    ServerKey::At(_, address, _) => Family::of(address),
                    ServerKey::Mark(family, _) => family,
                };
                if of == family {
                    *server = Some(key);
                    self.servers.insert(key, parse_server(key, rest));
                }
            }
            None => {}
        }
    }

    fn ipset(&mut self, line: &str, family: Family) {
        let mut words = line.splitn(3, ' ');
        let (Some(verb), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
        if name.starts_with(TEMPORARY_SET) {
            if verb == "create" {
                self.temporary_sets.push(name.to_owned());
            }
            return;
        }
        let Some((of, set)) = SetName::parse(name) else { return };
        if of != family {
            return;
        }
        match verb {
            "create" => drop(self.sets.insert(set, rest.to_owned())),
            "add" => {
                let mut words = rest.split_whitespace();
                let Some(key) = words.next().and_then(|text| parse_element(text, set)) else { return };
                let mark = match (words.next(), words.next()) {
                    (Some("skbmark"), Some(mark)) => parse_mark(mark),
                    _ => None,
                };
                self.entries.insert(Entry { family, set, key, mark });
            }
            _ => {}
        }
    }

    /// `2: kube-ipvs0: <BROADCAST,NOARP,UP> …` or `2: kube-ipvs0    inet 172.30.0.41/32 scope global …`
    fn link(&mut self, line: &str, family: Family) {
        let mut words = line.split_whitespace().skip(1);
        if words.next().map(|name| name.trim_end_matches(':')) != Some(LINK) {
            return;
        }
        self.has_link = true;
        match (words.next(), words.next()) {
            (Some("inet" | "inet6"), Some(address)) => {
                let address = address.split('/').next().and_then(parse_address);
                let is_ours = |address: &IpAddr| match address {
                    IpAddr::V4(_) => true,
                    // The kernel gives every link one.
                    IpAddr::V6(address) => !address.is_unicast_link_local(),
                };
                self.addresses
                    .extend(address.filter(|address| Family::of(*address) == family && is_ours(address)));
            }
            (Some(flags), _) => {
                self.is_up |= flags.trim_matches(['<', '>']).split(',').any(|flag| flag == "UP")
            }
            _ => {}
        }
    }

    fn iptables(&mut self, line: &str, table: &mut Option<TableName>) {
        if let Some(name) = line.strip_prefix('*') {
            *table = TableName::ALL.into_iter().find(|table| table.name() == name.trim());
        }
        let Some(table) = *table else { return };
        if let Some(chain) = line.strip_prefix(':') {
            let name = chain.split(' ').next().unwrap_or_default();
            self.chains.entry((table, name.to_owned())).or_default();
        } else if line.starts_with("-A ") || line.starts_with('[') {
            // Counters, if they were asked for.
            let rule = line.split_once("] ").map_or(line, |(_, rule)| rule);
            let Some(name) = rule.split(' ').nth(1) else { return };
            self.chains.entry((table, name.to_owned())).or_default().push(rule.trim_end().to_owned());
        }
    }

    /// Everything of ours. A virtual server is ours if it answers at an address of the dummy link, at one that our sets
    /// know, at a node port that they know, or at one of our marks, and nothing is ours in the ranges of others.
    pub fn objects(&self, node: &NodeRules) -> Vec<Object> {
        let is_excluded = |address: IpAddr| node.excluded.iter().any(|range| range.contains(address));
        let marks = Marks::new(node.masquerade_mark);
        let mut known: BTreeSet<Key> = self.entries.iter().map(|entry| entry.key).collect();
        known.extend(self.addresses.iter().copied().map(Key::Address));
        let is_node_port = |protocol: Protocol, port: u16| {
            let entry = Entry {
                family: node.family,
                set: SetName::NodePort(protocol),
                key: Key::Port(port),
                mark: None,
            };
            self.entries.contains(&entry)
        };
        let is_ours = |key: &ServerKey| match *key {
            ServerKey::Mark(_, mark) => marks.number(mark).is_some(),
            ServerKey::At(_, address, _) if is_excluded(address) => false,
            ServerKey::At(protocol, address, port) => {
                known.contains(&Key::Address(address))
                    || known.contains(&Key::At(address, protocol, port))
                    || ((node.addresses.is_empty() || node.addresses.contains(&address))
                        && is_node_port(protocol, port))
            }
        };
        let servers =
            self.servers.values().filter(|server| is_ours(&server.key)).copied().map(Object::Server);
        let reals = self.reals.iter().filter(|((server, _), _)| is_ours(server));
        let reals = reals.map(|((server, target), (weight, _))| {
            Object::Real(Real { server: *server, target: *target, weight: *weight })
        });
        let addresses =
            self.addresses.iter().copied().filter(|address| !is_excluded(*address)).map(Object::Address);
        let entries = self.entries.iter().copied().map(Object::Entry);
        servers.chain(reals).chain(addresses).chain(entries).collect()
    }

    /// Connections of the real servers.
    pub fn connections(&self) -> BTreeMap<(ServerKey, Target), u64> {
        self.reals.iter().map(|(key, (_, connections))| (*key, *connections)).collect()
    }

    /// Whether a chain of the kernel's jumps to ours, in whatever words.
    pub fn has_hook(&self, hook: &super::rules::Hook) -> bool {
        let jump = format!("-j {}", hook.to);
        let rules = self.chains.get(&(hook.table, hook.from.to_owned()));
        rules.is_some_and(|rules| rules.iter().any(|rule| rule.ends_with(&jump)))
    }

    /// Jumps into our chains, as they are printed.
    pub fn hooks(&self) -> Vec<(TableName, &str)> {
        let mut found = Vec::new();
        for ((table, chain), rules) in &self.chains {
            let ours = HOOKS.iter().filter(|hook| hook.table == *table && hook.from == chain);
            for hook in ours {
                let jump = format!("-j {}", hook.to);
                found.extend(
                    rules.iter().filter(|rule| rule.ends_with(&jump)).map(|rule| (*table, rule.as_str())),
                );
            }
        }
        found
    }
}

fn parse_key<'a>(kind: &str, words: &'a [&'a str]) -> Option<(ServerKey, &'a [&'a str])> {
    let (at, rest) = words.split_first()?;
    if kind == "FWM" {
        let mark = at.parse().ok()?;
        return Some(match rest.split_first() {
            Some((&"IPv6", rest)) => (ServerKey::Mark(Family::V6, mark), rest),
            _ => (ServerKey::Mark(Family::V4, mark), rest),
        });
    }
    let protocol = Protocol::parse(kind)?;
    let Target { address, port } = parse_target(at)?;
    Some((ServerKey::At(protocol, address, port), rest))
}

/// `rr`, `sh (sh-fallback) persistent 600`, `rr persistent 600 mask 255.255.255.0`
fn parse_server(key: ServerKey, words: &[&str]) -> Server {
    let mut server = Server { key, scheduler: Scheduler::ROUND_ROBIN, persistent_seconds: None };
    let mut flags = "";
    let mut is_known = false;
    let mut words = words.iter();
    if let Some(scheduler) = words.next().and_then(|name| Scheduler::parse(name)) {
        server.scheduler = scheduler;
        is_known = true;
    }
    while let Some(word) = words.next() {
        match *word {
            "persistent" => {
                server.persistent_seconds = words.next().and_then(|text| text.parse().ok());
                is_known &= server.persistent_seconds.is_some();
            }
            word if word.starts_with('(') => flags = word.trim_matches(['(', ')']),
            _ => is_known = false,
        }
    }
    if !is_known || flags != server.flags() {
        // As nobody wants it: it is changed.
        server.persistent_seconds = Some(0);
    }
    server
}

fn parse_target(text: &str) -> Option<Target> {
    let (address, port) = text.rsplit_once(':')?;
    let address = parse_address(address.trim_matches(['[', ']']))?;
    Some(Target { address, port: port.parse().ok()? })
}

fn parse_element(text: &str, set: SetName) -> Option<Key> {
    let mut parts = text.split(',');
    let first = parts.next()?;
    if set.kind() == "bitmap:port" {
        return first.parse().ok().map(Key::Port);
    }
    let address = parse_address(first)?;
    let Some(service) = parts.next() else { return Some(Key::Address(address)) };
    let (protocol, port) = service.split_once(':')?;
    let (protocol, port) = (Protocol::parse(protocol)?, port.parse().ok()?);
    match (parts.next(), set.kind()) {
        (None, _) => Some(Key::At(address, protocol, port)),
        (Some(_), "hash:ip,port,ip") => Some(Key::Itself(address, protocol, port)),
        (Some(range), _) => {
            let range = Cidr::parse(range).or_else(|| parse_address(range).map(Cidr::host))?;
            Some(Key::From(address, protocol, port, range))
        }
    }
}

/// `0x46000001`, or `0x1/0xff` with a mask, which is not how ours are.
fn parse_mark(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}
