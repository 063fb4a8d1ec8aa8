//! Chains and rules of the table as typed values: printed here, walked by `simulate`.
//!
//! In: the node's rules, and which pick chains are in use. Out: chains. Not here: elements of maps (`elements`).
//!
//! All decisions are made in nat chains, which see the first packet of each connection and no other: established
//! connections cost nothing here. Only where node ports at 127.0.0.1 are asked for is there a chain that sees every packet,
//! `loopback-guard`: the kernel setting that they need would open loopback to the wire. Chains, in the order in which a
//! packet to a ClusterIP meets them:
//!
//! `prerouting`/`output` → `services` (which Service port?) → `service` (which path?) → `masqueraded` or
//! `unmasqueraded` → a pick chain shared by all Service ports with as many slots (`lb-tcp-3`) → DNAT.
//! From outside, `from-outside` and `from-outside-local` stand between. `postrouting` masquerades.
//!
//! Refusals are made in prerouting and output, which needs Linux 5.9: a packet to a Service without endpoints is
//! refused even where the node has no route to it.

use super::elements::MapName;
use super::numbers::*;
use crate::address::Family;
use crate::model::{LocalDetector, Protocol};
use crate::names::base32_sha256;
use crate::ruleset::{NodePortMatch, NodeRules};
use std::fmt::{self, Write};
use std::rc::Rc;

/// The table of either family.
pub const TABLE: &str = "fairlead";

/// What stands beside it while it is replaced as a whole.
pub const STAND_IN: &str = "fairlead-stand-in";

/// A table as commands name it: `ip fairlead`.
#[derive(Clone, Copy, Debug)]
pub struct TableId {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'static str,
}

impl TableId {
    /// The table of Services.
    pub fn own(family: Family) -> TableId {
        TableId { family, name: TABLE }
    }

    /// What stands beside it while it is replaced.
    pub fn stand_in(family: Family) -> TableId {
        TableId { family, name: STAND_IN }
    }

    /// Removes the rules of all its chains, whether it is there or not. A packet on its way through them still meets all of
    /// them, and every map.
    pub fn print_emptying(self, out: &mut String) {
        // `flush` fails where there is no table, `add` nowhere.
        let _ = writeln!(out, "add table {self}\nflush table {self}");
    }

    /// Removes it, whether it is there or not.
    pub fn print_removal(self, out: &mut String) {
        let _ = writeln!(out, "add table {self}\ndelete table {self}");
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", family_word(self.family), self.name)
    }
}

/// `ip` or `ip6`: the family of a table, and the word before `saddr` and `daddr`.
pub fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Unique in the table.
    pub name: Rc<str>,
    /// Where the kernel calls it, for a base chain.
    pub hook: Option<Hook>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Hooks of base chains; those of type nat see the first packet of a connection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// All packets that come in, before connections are known; priority -300.
    Arrival,
    /// Packets that come in; priority -100, where destinations are translated.
    Prerouting,
    /// Packets of the node's own processes; priority -100.
    Output,
    /// Packets that leave; priority 100, where sources are translated.
    Postrouting,
}

impl Hook {
    fn declaration(self) -> &'static str {
        match self {
            Hook::Arrival => "type filter hook prerouting priority -300; policy accept;",
            Hook::Prerouting => "type nat hook prerouting priority -100; policy accept;",
            Hook::Output => "type nat hook output priority -100; policy accept;",
            Hook::Postrouting => "type nat hook postrouting priority 100; policy accept;",
        }
    }
}

/// A rule: statements in order; the first that does not match ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(pub Vec<Statement>);

/// What a rule is made of. The register is `meta priority`, see [`super::numbers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Loads the register by destination address, protocol and port; ends the rule if there is no such element.
    LoadByAddress,
    /// Loads the register by protocol and port.
    LoadByNodePort,
    /// Keeps these bits of the register.
    Keep(u32),
    /// Sets these bits of the register.
    Set(u32),
    /// Clears the register.
    Clear,
    /// Matches if all of these bits are set.
    HasAll(u32),
    /// Matches if any of these bits is set.
    HasAny(u32),
    /// Matches if the source lies in this set.
    SourceIn(MapName),
    /// Matches if the destination lies in this set.
    DestinationIn(MapName),
    /// Matches if the Service port's source ranges do not hold the source.
    SourceNotAllowed,
    /// Matches by the incoming interface: its name, or with the flag the beginning of it.
    Interface(Rc<str>, bool),
    /// Matches if the source is an address of the node.
    SourceIsLocal,
    /// Matches if the destination is an address of the node.
    DestinationIsLocal,
    /// Matches if the destination is a loopback address.
    DestinationIsLoopback,
    /// Matches unless the destination is a loopback address.
    DestinationNotLoopback,
    /// Matches what came in by another link than loopback.
    NotByLoopback,
    /// Remembers the source for [`Statement::SourceIsDestination`]; ends the rule if the memory is full.
    RememberSource,
    /// Matches a translated packet that goes back to its source.
    SourceIsDestination,
    /// Sets the mark that asks for masquerading.
    Mark(u32),
    /// Matches packets with the mark, and clears it.
    TakeMark(u32),
    /// Replaces the register by the number of an endpoint, chosen from the slots of the set in the register.
    PickNumber(Pick),
    /// Remembers the endpoint in the register for this client, or refreshes what is remembered, for so many seconds.
    RememberEndpoint(u32),
    /// Replaces the register by what is remembered for this client.
    RecallEndpoint,
    /// Forgets what is remembered for this client.
    ForgetEndpoint,
    /// Translates to the endpoint whose number is in the register.
    DnatToNumber(Protocol),
    /// Translates to an endpoint, chosen from the slots of the set in the register.
    DnatToPick(Protocol, Pick),
    /// Continues as the set in the register says.
    Dispatch,
    /// Continues there, and comes back.
    Jump(&'static str),
    /// Continues there.
    Goto(&'static str),
    /// Leaves the chain.
    Return,
    /// Counts packets.
    Count,
    /// Counts packets by the number in the register; ends the rule if there is no room for another number.
    CountConnection,
    /// ICMP port unreachable.
    Reject,
    /// Silence.
    Drop,
    /// The node's address becomes the source, with a random port.
    Masquerade,
}

/// How a slot is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// The method.
    pub method: Method,
    /// Number of slots.
    pub slots: u32,
}

/// Methods of choosing a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// By random number.
    Random,
    /// By a counter of this rule.
    Counter,
    /// By the source address.
    SourceAddress,
    /// By source address and port.
    SourceAddressAndPort,
}

/// The same on every node, so that hashes choose the same slot everywhere.
const HASH_SEED: u32 = 0xfa1e_ad00;

impl Pick {
    fn print(self, family: Family, out: &mut impl Write) -> fmt::Result {
        let ip = family_word(family);
        let slots = self.slots;
        match self.method {
            Method::Random => write!(out, "numgen random mod {slots}"),
            Method::Counter => write!(out, "numgen inc mod {slots}"),
            Method::SourceAddress => write!(out, "jhash {ip} saddr mod {slots} seed {HASH_SEED:#x}"),
            Method::SourceAddressAndPort => {
                write!(out, "jhash {ip} saddr . th sport mod {slots} seed {HASH_SEED:#x}")
            }
        }
    }
}

impl Statement {
    /// As `nft` reads it.
    pub fn print(&self, family: Family, out: &mut impl Write) -> fmt::Result {
        let ip = family_word(family);
        match self {
            Statement::LoadByAddress => {
                write!(out, "meta priority set {ip} daddr . meta l4proto . th dport map @service-ips")
            }
            Statement::LoadByNodePort => {
                write!(out, "meta priority set meta l4proto . th dport map @service-nodeports")
            }
            Statement::Keep(bits) => write!(out, "meta priority set meta priority & {bits:#x}"),
            Statement::Set(bits) => write!(out, "meta priority set meta priority | {bits:#x}"),
            Statement::Clear => write!(out, "meta priority set 0"),
            Statement::HasAll(bits) => write!(out, "meta priority & {bits:#x} == {bits:#x}"),
            Statement::HasAny(bits) => write!(out, "meta priority & {bits:#x} != 0"),
            Statement::SourceIn(set) => write!(out, "{ip} saddr @{}", set.name()),
            Statement::DestinationIn(set) => write!(out, "{ip} daddr @{}", set.name()),
            Statement::SourceNotAllowed => {
                write!(out, "meta priority & {SERVICE_MASK:#x} . {ip} saddr != @source-ranges")
            }
            Statement::Interface(name, prefix) => {
                write!(out, "iifname \"{name}{}\"", if *prefix { "*" } else { "" })
            }
            Statement::SourceIsLocal => write!(out, "fib saddr type local"),
            Statement::DestinationIsLocal => write!(out, "fib daddr type local"),
            Statement::DestinationIsLoopback => write!(out, "{ip} daddr {}", loopback(family)),
            Statement::DestinationNotLoopback => write!(out, "{ip} daddr != {}", loopback(family)),
            Statement::NotByLoopback => write!(out, "iifname != \"lo\""),
            Statement::RememberSource => {
                write!(out, "update @hairpin {{ {ip} saddr . {ip} saddr timeout {HAIRPIN_SECONDS}s }}")
            }
            Statement::SourceIsDestination => write!(out, "ct status dnat {ip} saddr . {ip} daddr @hairpin"),
            Statement::Mark(mark) => write!(out, "meta mark set meta mark | {mark:#x}"),
            Statement::TakeMark(mark) => {
                write!(out, "meta mark & {mark:#x} == {mark:#x} meta mark set meta mark ^ {mark:#x}")
            }
            Statement::PickNumber(pick) => {
                write!(out, "meta priority set meta priority . ")?;
                pick.print(family, out)?;
                write!(out, " map @affinity-slots")
            }
            Statement::RememberEndpoint(seconds) => write!(
                out,
                "update @affinity {{ meta priority & {SERVICE_MASK:#x} . {} timeout {seconds}s : meta priority }}",
                client(family)
            ),
            Statement::RecallEndpoint => write!(
                out,
                "meta priority set meta priority & {SERVICE_MASK:#x} . {} map @affinity",
                client(family)
            ),
            Statement::ForgetEndpoint => write!(
                out,
                "delete @affinity {{ meta priority & {SERVICE_MASK:#x} . {} : meta priority }}",
                client(family)
            ),
            Statement::DnatToNumber(protocol) => write!(
                out,
                "meta l4proto {protocol} dnat {ip} to meta priority map @{}",
                MapName::AffinityEndpoints(*protocol).name()
            ),
            Statement::DnatToPick(protocol, pick) => {
                write!(out, "meta l4proto {protocol} dnat {ip} to meta priority . ")?;
                pick.print(family, out)?;
                write!(out, " map @{}", MapName::Endpoints(*protocol).name())
            }
            Statement::Dispatch => write!(out, "meta priority vmap @services"),
            Statement::Jump(chain) => write!(out, "jump {chain}"),
            Statement::Goto(chain) => write!(out, "goto {chain}"),
            Statement::Return => write!(out, "return"),
            Statement::Count => write!(out, "counter"),
            Statement::CountConnection => {
                write!(out, "update @connections {{ meta priority & {COUNTED_MASK:#x} counter }}")
            }
            Statement::Reject => match family {
                Family::V4 => write!(out, "reject with icmp type port-unreachable"),
                Family::V6 => write!(out, "reject with icmpv6 type port-unreachable"),
            },
            Statement::Drop => write!(out, "drop"),
            Statement::Masquerade => write!(out, "masquerade fully-random"),
        }
    }
}

fn loopback(family: Family) -> &'static str {
    match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1",
    }
}

/// What session affinity knows a client by.
///
/// In IPv6 the last 96 bits of its address: `nft` 1.0.6 takes four words of a key for granted when it stores a value
/// beside it, and overwrites the fifth. Clients that differ in the first 32 bits alone share an endpoint.
pub fn client(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip saddr",
        Family::V6 => "@nh,96,96",
    }
}

/// How long the first packet of a connection may take from prerouting to postrouting.
const HAIRPIN_SECONDS: u32 = 10;

impl Rule {
    /// As `nft` reads it.
    pub fn print(&self, family: Family, out: &mut impl Write) -> fmt::Result {
        for (i, statement) in self.0.iter().enumerate() {
            if i > 0 {
                out.write_char(' ')?;
            }
            statement.print(family, out)?;
        }
        Ok(())
    }

    /// As `nft` reads it.
    pub fn text(&self, family: Family) -> String {
        let mut text = String::new();
        self.print(family, &mut text).expect("writing to a string");
        text
    }
}

impl Chain {
    /// The commands that make it, with its rules, where there is none: `add chain`, then `add rule` for each.
    pub fn print_add(&self, table: TableId, out: &mut String) {
        self.print_declaration(table, out);
        self.print_rules(table, out);
    }

    /// `add chain`, which does no harm to a chain that is there.
    pub fn print_declaration(&self, table: TableId, out: &mut String) {
        let _ = match self.hook {
            Some(hook) => {
                writeln!(out, "add chain {table} {} {{ {} }}", self.name, hook.declaration())
            }
            None => writeln!(out, "add chain {table} {}", self.name),
        };
    }

    /// `add rule` for each rule. The first one carries the chain's seal.
    pub fn print_rules(&self, table: TableId, out: &mut String) {
        for (i, rule) in self.rules.iter().enumerate() {
            let _ = write!(out, "add rule {table} {} ", self.name);
            let _ = rule.print(table.family, out);
            if i == 0 {
                let _ = write!(out, " comment \"{}\"", self.seal(table.family));
            }
            out.push('\n');
        }
    }

    /// Tells rules of one text from those of another when they are read back, where `nft` prints every rule in its own
    /// way, but comments as they are: rules of other settings must not be taken for ours.
    pub fn seal(&self, family: Family) -> String {
        let mut text = String::new();
        for rule in &self.rules {
            let _ = rule.print(family, &mut text);
            text.push('\n');
        }
        base32_sha256(&text)[..8].to_owned()
    }
}

/// Names of chains that every table has.
pub mod chains {
    /// Nobody claims the port of this ClusterIP.
    pub const UNDEFINED_PORT: &str = "undefined-port";
    /// The address belongs to no Service.
    pub const UNALLOCATED: &str = "unallocated";
    /// The source lies in none of the ranges.
    pub const SOURCE_NOT_ALLOWED: &str = "source-not-allowed";
    /// No endpoint anywhere.
    pub const NO_ENDPOINTS: &str = "no-endpoints";
    /// No endpoint here.
    pub const NO_LOCAL_ENDPOINTS: &str = "no-local-endpoints";
    /// What comes from elsewhere and is addressed to loopback; where node ports there are asked for.
    pub const LOOPBACK_GUARD: &str = "loopback-guard";
    /// First: which Service port is it?
    pub const SERVICES: &str = "services";
    /// Then: on which path?
    pub const SERVICE: &str = "service";
    /// Under external policy Cluster, or further.
    pub const FROM_OUTSIDE: &str = "from-outside";
    /// Under external policy Local.
    pub const FROM_OUTSIDE_LOCAL: &str = "from-outside-local";
    /// Marks, then the set.
    pub const MASQUERADED: &str = "masqueraded";
    /// The set, watching out for hairpins.
    pub const UNMASQUERADED: &str = "unmasqueraded";
}

/// The chains of a node, whatever its Services, in an order in which each names only earlier ones.
pub fn node_chains(node: &NodeRules) -> Vec<Chain> {
    use Statement::*;
    use chains::*;
    let detector = match &node.local_detector {
        LocalDetector::None => None,
        LocalDetector::Cidrs(_) => Some(SourceIn(MapName::ClusterCidrs)),
        LocalDetector::Interface(name) => Some(Interface(name.as_str().into(), false)),
        LocalDetector::InterfacePrefix(prefix) => Some(Interface(prefix.as_str().into(), true)),
    };
    let chain = |name: &str, rules: Vec<Vec<Statement>>| Chain {
        name: name.into(),
        hook: None,
        rules: rules.into_iter().map(Rule).collect(),
    };
    let base =
        |name: &str, hook: Hook, rules: Vec<Vec<Statement>>| Chain { hook: Some(hook), ..chain(name, rules) };

    // An address of a Service that the host itself holds (a DNS cache on the node) is the host's to answer.
    let mut unallocated = vec![vec![DestinationIsLocal, Return]];
    let undefined_port = vec![vec![DestinationIsLocal, Return], vec![Count, Reject]];
    unallocated.push(vec![Count, Drop]);

    let mut services = vec![vec![LoadByAddress, Goto(SERVICE)]];
    let mut node_ports_at = |mut rule: Vec<Statement>| {
        if !node.names_loopback {
            rule.push(DestinationNotLoopback);
        }
        rule.extend([LoadByNodePort, Goto(SERVICE)]);
        services.push(rule);
    };
    match &node.node_ports {
        NodePortMatch::All => node_ports_at(vec![DestinationIsLocal]),
        NodePortMatch::Some { addresses, ranges } => {
            if !addresses.is_empty() {
                node_ports_at(vec![DestinationIn(MapName::NodePortIps)]);
            }
            if !ranges.is_empty() {
                node_ports_at(vec![DestinationIn(MapName::NodePortRanges), DestinationIsLocal]);
            }
        }
    }
    services.push(vec![DestinationIn(MapName::ClusterIps), Goto(UNDEFINED_PORT)]);
    if !node.service_cidrs.is_empty() {
        services.push(vec![DestinationIn(MapName::ServiceCidrs), Goto(UNALLOCATED)]);
    }

    let mut service = vec![vec![CountConnection], vec![HasAny(DETAIL_MASK), Goto(FROM_OUTSIDE)]];
    match (&detector, node.masquerade_all) {
        (_, true) => service.push(vec![Goto(MASQUERADED)]),
        (None, false) => service.push(vec![Goto(UNMASQUERADED)]),
        (Some(detector), false) => {
            service.push(vec![detector.clone(), Goto(UNMASQUERADED)]);
            service.push(vec![Goto(MASQUERADED)]);
        }
    }

    let from_outside = vec![
        vec![HasAll(RESTRICTED), SourceNotAllowed, Goto(SOURCE_NOT_ALLOWED)],
        vec![HasAll(super::numbers::FROM_OUTSIDE_LOCAL), Goto(chains::FROM_OUTSIDE_LOCAL)],
        vec![Keep(SERVICE_MASK)],
        vec![Goto(MASQUERADED)],
    ];
    let mut from_outside_local = vec![vec![Keep(SERVICE_MASK)]];
    from_outside_local.extend(detector.map(|detector| vec![detector, Goto(UNMASQUERADED)]));
    from_outside_local.push(vec![SourceIsLocal, Goto(MASQUERADED)]);
    from_outside_local.push(vec![Set(LOCAL_SET)]);
    from_outside_local.push(vec![Goto(UNMASQUERADED)]);

    let guard = node.names_loopback.then(|| {
        let strangers = vec![DestinationIsLoopback, NotByLoopback, Count, Drop];
        base(LOOPBACK_GUARD, Hook::Arrival, vec![strangers])
    });
    let mut all = vec![
        chain(NO_ENDPOINTS, vec![vec![Count, Reject]]),
        chain(NO_LOCAL_ENDPOINTS, vec![vec![Count, Drop]]),
        chain(UNDEFINED_PORT, undefined_port),
        chain(UNALLOCATED, unallocated),
        chain(SOURCE_NOT_ALLOWED, vec![vec![Count, Drop]]),
        chain(MASQUERADED, vec![vec![Mark(node.masquerade_mark)], vec![Dispatch]]),
        // The second rule is for a full memory: rather masquerade than break the hairpin of an endpoint.
        chain(UNMASQUERADED, vec![vec![RememberSource, Dispatch], vec![Goto(MASQUERADED)]]),
        chain(chains::FROM_OUTSIDE_LOCAL, from_outside_local),
        chain(chains::FROM_OUTSIDE, from_outside),
        chain(SERVICE, service),
        chain(SERVICES, services),
        base("prerouting", Hook::Prerouting, vec![vec![Jump(SERVICES)]]),
        base("output", Hook::Output, vec![vec![Jump(SERVICES)]]),
        base(
            "postrouting",
            Hook::Postrouting,
            vec![
                // First of all: what follows ends the walk, and no queue may see the number.
                vec![HasAny(OURS), Clear],
                vec![TakeMark(node.masquerade_mark), Count, Masquerade],
                vec![SourceIsDestination, Count, Masquerade],
            ],
        ),
    ];
    all.extend(guard);
    all
}

/// A chain that picks an endpoint, shared by all Service ports that pick in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PickChain {
    /// Its protocol: `nft` 1.0.6 takes a map of addresses and ports only with the protocol whose port it declares.
    pub protocol: Protocol,
    /// How.
    pub pick: Pick,
    /// With session affinity.
    pub affinity: Option<Affinity>,
    /// `HASH8-namespace/name/protocol/port` when the chain belongs to one Service port alone: a counter that several
    /// shared would be in turn for none of them.
    pub owner: Option<Rc<str>>,
}

/// Session affinity of a pick chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affinity {
    /// Seconds from the last new connection.
    pub seconds: u32,
    /// The local set: what is remembered counts only if it is a local endpoint.
    pub local: bool,
}

impl PickChain {
    /// `lb-tcp-3`, `affinity-10800s-lb-udp-2`, `round-robin-2-P4ZYZVCF-testing/service/tcp/http`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        if let Some(Affinity { seconds, local }) = self.affinity {
            let _ = write!(name, "{}affinity-{seconds}s-", if local { "local-" } else { "" });
        }
        let method = match self.pick.method {
            Method::Random => "lb",
            Method::Counter => "round-robin",
            Method::SourceAddress => "source-hash",
            Method::SourceAddressAndPort => "maglev",
        };
        let _ = match &self.owner {
            Some(owner) => write!(name, "{method}-{}-{owner}", self.pick.slots),
            None => write!(name, "{method}-{}-{}", self.protocol, self.pick.slots),
        };
        name
    }

    /// The chain itself.
    pub fn chain(&self) -> Chain {
        use Statement::*;
        let rules = match self.affinity {
            None => vec![vec![DnatToPick(self.protocol, self.pick)]],
            Some(Affinity { seconds, local }) => {
                let set = |rules: &mut Vec<Vec<Statement>>| {
                    if local {
                        rules.push(vec![Set(LOCAL_SET)]);
                    }
                };
                // `update` stores the choice only where nothing is remembered, and refreshes the time where something
                // is; so what is recalled is either the old endpoint or the one just chosen.
                let mut rules =
                    vec![vec![PickNumber(self.pick)], vec![RememberEndpoint(seconds)], vec![RecallEndpoint]];
                set(&mut rules);
                rules.push(vec![DnatToNumber(self.protocol)]);
                // The remembered endpoint is gone, or not one of this set: choose anew.
                rules.push(vec![ForgetEndpoint]);
                rules.push(vec![Keep(SERVICE_MASK)]);
                set(&mut rules);
                rules.push(vec![PickNumber(self.pick)]);
                rules.push(vec![RememberEndpoint(seconds)]);
                set(&mut rules);
                rules.push(vec![DnatToNumber(self.protocol)]);
                rules
            }
        };
        Chain { name: self.name().into(), hook: None, rules: rules.into_iter().map(Rule).collect() }
    }
}
