//! One family's rules, sets and virtual servers, complete: what `render` prints and a packet walks.

use super::objects::Object;
use super::rules::{Action, Chain, FILTER, FIREWALL, Match, Rule, SERVICES, TableName, chains};
use super::servers::{Marks, Server, ServerKey, TAG_MASK};
use super::sets::{Entry, Key, SetName};
use crate::backend::View;
use crate::balance::Target;
use crate::model::ObjectName;
use crate::ruleset::{At, NodeRules};
use crate::simulate::{Packet, Trace, TraceRule, Verdict, is_local, object_of};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// See the module.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The node's own rules.
    pub node: NodeRules,
    chains: Vec<Chain>,
    entries: BTreeMap<(SetName, Key), Option<u32>>,
    servers: BTreeMap<ServerKey, (Server, ObjectName)>,
    reals: BTreeMap<ServerKey, BTreeMap<Target, u32>>,
    addresses: BTreeSet<IpAddr>,
}

impl Tables {
    /// Without Services.
    pub fn new(node: &NodeRules) -> Tables {
        Tables {
            node: node.clone(),
            chains: chains(node),
            entries: BTreeMap::new(),
            servers: BTreeMap::new(),
            reals: BTreeMap::new(),
            addresses: BTreeSet::new(),
        }
    }

    /// Adds an object of a Service.
    pub fn add(&mut self, object: Object, service: &ObjectName) {
        match object {
            Object::Entry(entry) => drop(self.entries.insert((entry.set, entry.key), entry.mark)),
            Object::Server(server) => drop(self.servers.insert(server.key, (server, service.clone()))),
            Object::Real(real) => {
                self.reals.entry(real.server).or_default().insert(real.target, real.weight);
            }
            Object::Address(address) => drop(self.addresses.insert(address)),
        }
    }

    /// All objects, each once.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let family = self.node.family;
        let entries = self.entries.iter().map(move |((set, key), mark)| {
            Object::Entry(Entry { family, set: *set, key: *key, mark: *mark })
        });
        let servers = self.servers.values().map(|(server, _)| Object::Server(*server));
        let reals = self.reals.iter().flat_map(|(server, reals)| {
            reals.iter().map(|(target, weight)| {
                Object::Real(super::servers::Real { server: *server, target: *target, weight: *weight })
            })
        });
        let addresses = self.addresses.iter().copied().map(Object::Address);
        entries.chain(servers).chain(reals).chain(addresses)
    }

    /// What happens to a packet.
    pub fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        let mut walk = Walk { tables: self, packet, mark: 0, rules: Vec::new() };
        let comes_from_here = walk.is_local(packet.source);
        let stays_here = walk.is_local(packet.destination);
        if let Some(Outcome::Verdict(verdict)) = walk.chain(TableName::Mangle, FIREWALL) {
            return Trace::refused(verdict, walk.rules);
        }
        walk.chain(TableName::Nat, SERVICES);
        if !stays_here && !comes_from_here {
            return Trace::untouched();
        }
        // From outside `filter INPUT` comes first; what the node sends meets IPVS on its way out.
        if !comes_from_here && let Some(Outcome::Verdict(verdict)) = walk.chain(TableName::Filter, FILTER) {
            return Trace::refused(verdict, walk.rules);
        }
        let by_mark = ServerKey::Mark(self.node.family, walk.mark);
        let by_address = ServerKey::At(packet.protocol, packet.destination, packet.port);
        let found = [by_mark, by_address].into_iter().find_map(|key| self.servers.get(&key));
        let Some((server, service)) = found else {
            if comes_from_here
                && stays_here
                && let Some(Outcome::Verdict(verdict)) = walk.chain(TableName::Filter, FILTER)
            {
                return Trace::refused(verdict, walk.rules);
            }
            return Trace::untouched();
        };
        let mut printed = String::new();
        server.print("-A", &mut printed);
        let object = self.object(view, service, packet);
        walk.rules.push(TraceRule {
            table: "ipvs".to_owned(),
            chain: "virtual servers".to_owned(),
            rule: printed.trim_end().to_owned(),
            object,
        });
        let targets: Vec<Target> =
            self.reals.get(&server.key).into_iter().flatten().map(|(target, _)| *target).collect();
        if targets.is_empty() {
            return Trace::refused(Verdict::Reject, walk.rules);
        }
        let marked = walk.mark & self.node.masquerade_mark != 0;
        let tagged = walk.mark & TAG_MASK == Marks::new(self.node.masquerade_mark).tag() && comes_from_here;
        Trace::dnat(packet, &self.node, targets, marked || tagged, walk.rules)
    }

    fn object(&self, view: View<'_>, service: &ObjectName, packet: &Packet) -> Option<String> {
        let Packet { destination, protocol, port, .. } = *packet;
        let places = [At::Address(destination, port), At::NodePort(port)];
        places.into_iter().find_map(|at| object_of(view, service, self.node.family, at, protocol))
    }
}

enum Outcome {
    Verdict(Verdict),
    /// The chain, or the table, sees it no more.
    Return,
}

struct Walk<'a> {
    tables: &'a Tables,
    packet: &'a Packet,
    mark: u32,
    rules: Vec<TraceRule>,
}

impl Walk<'_> {
    /// An address of the node, on whichever link.
    fn is_local(&self, address: IpAddr) -> bool {
        is_local(&self.tables.node, address) || self.tables.addresses.contains(&address)
    }

    fn chain(&mut self, table: TableName, name: &str) -> Option<Outcome> {
        let tables = self.tables;
        let chain = tables.chains.iter().find(|chain| chain.table == table && chain.name == name)?;
        for rule in &chain.rules {
            if !rule.matches.iter().all(|part| self.matches(part)) {
                continue;
            }
            if !matches!(rule.action, Action::MapMark(_)) {
                self.tell(chain, rule);
            }
            match &rule.action {
                Action::Jump(to) => {
                    if let Some(verdict @ Outcome::Verdict(_)) = self.chain(table, to) {
                        return Some(verdict);
                    }
                }
                Action::Return | Action::Accept => return Some(Outcome::Return),
                Action::Drop => return Some(Outcome::Verdict(Verdict::Drop)),
                Action::Reject => return Some(Outcome::Verdict(Verdict::Reject)),
                Action::SetMark(bit) => self.mark |= bit,
                Action::TurnMark(bit) => self.mark ^= bit,
                Action::MapMark(set) => {
                    if let Some(Some(mark)) = tables.entries.get(&(*set, self.at())) {
                        self.tell(chain, rule);
                        self.mark = *mark;
                    }
                }
                Action::Masquerade => {}
            }
        }
        None
    }

    fn tell(&mut self, chain: &Chain, rule: &Rule) {
        let mut text = String::new();
        rule.print(chain.name, self.tables.node.family, &mut text);
        self.rules.push(TraceRule {
            table: chain.table.name().to_owned(),
            chain: chain.name.to_owned(),
            rule: text,
            object: None,
        });
    }

    fn at(&self) -> Key {
        Key::At(self.packet.destination, self.packet.protocol, self.packet.port)
    }

    fn matches(&self, part: &Match) -> bool {
        let Packet { source, destination, protocol, port, ref interface } = *self.packet;
        let holds = |set: SetName, key: Key| self.tables.entries.contains_key(&(set, key));
        match part {
            Match::Source(range) => range.contains(source),
            Match::DestinationIn(range) => range.contains(destination),
            Match::Interface(name) => {
                interface.as_deref().is_some_and(|interface| match name.strip_suffix('+') {
                    Some(prefix) => interface.starts_with(prefix),
                    None => interface == name,
                })
            }
            // Port 0 stands for a packet of none of the three, such as an ICMP echo.
            Match::OfProtocol(of) => *of == protocol && port != 0,
            Match::Destination(set) => holds(*set, self.at()),
            Match::DestinationPort(set) => holds(*set, Key::Port(port)),
            Match::DestinationAddress(set) => holds(*set, Key::Address(destination)),
            Match::SourceAddress(set) => holds(*set, Key::Address(source)),
            // Sources and ranges of other sets: endpoints that meet themselves are `Trace::dnat`'s.
            Match::DestinationAndSource(set) => self.tables.entries.keys().any(|(of, key)| match key {
                Key::From(address, of_protocol, at, range) => {
                    of == set
                        && (*address, *of_protocol, *at) == (destination, protocol, port)
                        && range.contains(source)
                }
                _ => false,
            }),
            Match::Mark(mark, mask) => self.mark & mask == *mark,
            Match::NotMark(mark, mask) => self.mark & mask != *mark,
            Match::New => true,
            Match::Established | Match::Invalid => false,
            Match::SourceIsLocal => self.is_local(source),
            Match::DestinationIsLocal => self.is_local(destination),
        }
    }
}
