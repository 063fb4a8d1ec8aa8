//! The iptables rules around the virtual servers: a constant number, whatever the cluster. Printed here exactly as
//! `iptables-save` lists them, and walked by `tables`.
//!
//! A packet to a Service meets them in this order. From outside: `mangle PREROUTING` (source ranges, policy Local),
//! `nat PREROUTING` (mark for masquerading), `filter INPUT` (ports that no Service has; health checks are let in), then
//! IPVS, which rewrites it, and `nat POSTROUTING`. From the node: `mangle OUTPUT`, `nat OUTPUT`, IPVS, `nat POSTROUTING`; it passes `filter OUTPUT`
//! after IPVS, which is why nothing is decided there, and why the source ranges are in `mangle`, where kube-proxy's IPVS
//! mode has them in `filter INPUT` and so does not hold its own node to them.

use super::servers::{Marks, TAG_MASK};
use super::sets::SetName;
use crate::address::{Cidr, Family};
use crate::model::{LocalDetector, Protocol};
use crate::ruleset::{NodePortMatch, NodeRules};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Tables, in the order in which they are written: what drops goes before what leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableName {
    /// Source ranges, policy Local.
    Mangle,
    /// Ports that no Service has; what a firewall must let through.
    Filter,
    /// Masquerading.
    Nat,
}

impl TableName {
    /// All of them.
    pub const ALL: [TableName; 3] = [TableName::Mangle, TableName::Filter, TableName::Nat];

    /// As iptables spells it.
    pub fn name(self) -> &'static str {
        match self {
            TableName::Mangle => "mangle",
            TableName::Filter => "filter",
            TableName::Nat => "nat",
        }
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// The source lies in a range.
    Source(Cidr),
    /// The destination lies in a range.
    DestinationIn(Cidr),
    /// Came in by this interface; with `+` at its end, by one whose name begins so.
    Interface(String),
    /// Its protocol.
    OfProtocol(Protocol),
    /// Destination address and port are in a set.
    Destination(SetName),
    /// The destination's port is in a set of ports.
    DestinationPort(SetName),
    /// The destination's address is in a set of addresses.
    DestinationAddress(SetName),
    /// The source's address is in a set of addresses.
    SourceAddress(SetName),
    /// Destination address and port and the source are in a set.
    DestinationAndSource(SetName),
    /// The mark, under a mask.
    Mark(u32, u32),
    /// Any other mark, under a mask.
    NotMark(u32, u32),
    /// The first packet of a connection.
    New,
    /// A later one, or one that belongs to it.
    Established,
    /// Nobody knows of what.
    Invalid,
    /// The kernel calls the source its own address.
    SourceIsLocal,
    /// The kernel calls the destination its own address.
    DestinationIsLocal,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// On to a chain, and back.
    Jump(&'static str),
    /// Back.
    Return,
    /// No other rule of this table sees it.
    Accept,
    /// Silence.
    Drop,
    /// ICMP port unreachable.
    Reject,
    /// Sets a bit of the mark.
    SetMark(u32),
    /// Turns a bit of the mark.
    TurnMark(u32),
    /// The mark that the set has for destination address and port.
    MapMark(SetName),
    /// From an address of this node, with a random port: two clients that chose the same one do not collide.
    Masquerade,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// All of them, in the order of `iptables-save`: address, interface and protocol first.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
}

/// A chain of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Its table.
    pub table: TableName,
    /// Its name.
    pub name: &'static str,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A jump from a chain of the kernel's into one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The table.
    pub table: TableName,
    /// The kernel's chain.
    pub from: &'static str,
    /// Ours.
    pub to: &'static str,
    /// For people, in kube-proxy's words where it has the same.
    pub comment: &'static str,
}

/// Source ranges, policy Local.
pub const FIREWALL: &str = "KUBE-PROXY-FIREWALL";
/// Those who may.
pub const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
/// What is marked for masquerading.
pub const SERVICES: &str = "KUBE-SERVICES";
/// ClusterIPs.
pub const CLUSTER_IP: &str = "KUBE-CLUSTER-IP";
/// Load balancer addresses.
pub const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
/// nat: node ports. filter: health checks, which a firewall must let in.
pub const NODE_PORT: &str = "KUBE-NODE-PORT";
/// Marks.
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// Masquerades.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// Ports that no Service has.
pub const FILTER: &str = "KUBE-IPVS-FILTER";
/// What a firewall must let through.
pub const FORWARD: &str = "KUBE-FORWARD";

/// From chains of the kernel's to ours.
pub const HOOKS: [Hook; 8] = [
    Hook {
        table: TableName::Mangle,
        from: "PREROUTING",
        to: FIREWALL,
        comment: "kubernetes service source ranges",
    },
    Hook {
        table: TableName::Mangle,
        from: "OUTPUT",
        to: FIREWALL,
        comment: "kubernetes service source ranges",
    },
    Hook { table: TableName::Filter, from: "INPUT", to: FILTER, comment: "kubernetes ipvs access filter" },
    Hook { table: TableName::Filter, from: "INPUT", to: NODE_PORT, comment: "kubernetes health check rules" },
    Hook { table: TableName::Filter, from: "FORWARD", to: FORWARD, comment: "kubernetes forwarding rules" },
    Hook { table: TableName::Nat, from: "PREROUTING", to: SERVICES, comment: "kubernetes service portals" },
    Hook { table: TableName::Nat, from: "OUTPUT", to: SERVICES, comment: "kubernetes service portals" },
    Hook {
        table: TableName::Nat,
        from: "POSTROUTING",
        to: POSTROUTING,
        comment: "kubernetes postrouting rules",
    },
];

/// All chains of one family.
pub fn chains(node: &NodeRules) -> Vec<Chain> {
    use Action::*;
    use Match::*;
    let marks = Marks::new(node.masquerade_mark);
    let masquerade_mark = node.masquerade_mark;
    let rule = |matches: &[Match], action: Action| Rule { matches: matches.to_vec(), action };
    let chain = |table: TableName, name: &'static str, rules: Vec<Rule>| Chain { table, name, rules };

    let mut firewall = vec![rule(&[New, Destination(SetName::LoadBalancerFirewall)], Jump(SOURCE_RANGES))];
    // Under policy Local, pods and the node itself reach all endpoints: by a virtual server of their own.
    let mut insiders: Vec<Vec<Match>> =
        from_pods(&node.local_detector).into_iter().map(|pods| vec![pods]).collect();
    insiders.push(vec![SourceIsLocal]);
    firewall.extend(insiders.iter().map(|insider| rule(insider, MapMark(SetName::InCluster))));
    firewall.push(rule(&[Mark(marks.tag(), TAG_MASK)], Return));
    firewall.push(rule(&[New, Destination(SetName::NoLocalEndpoints)], Drop));

    let mut services = vec![
        rule(&[Destination(SetName::LoadBalancer)], Jump(LOAD_BALANCER)),
        rule(&[Destination(SetName::ClusterIp)], Jump(CLUSTER_IP)),
        rule(&[Destination(SetName::ExternalIp)], Jump(MARK_MASQ)),
        // The port of a Service may have the number of a node port.
        rule(&[DestinationAddress(SetName::IpvsIps)], Return),
        rule(&[DestinationIn(loopback(node.family))], Return),
    ];
    // What the node sends to itself meets postrouting, so nothing may be marked that has no virtual server.
    match &node.node_ports {
        NodePortMatch::All => services.push(rule(&[DestinationIsLocal], Jump(NODE_PORT))),
        NodePortMatch::Some { addresses, ranges } => {
            let hosts =
                addresses.iter().map(|address| rule(&[DestinationIn(Cidr::host(*address))], Jump(NODE_PORT)));
            services.extend(hosts);
            let blocks = ranges
                .iter()
                .map(|range| rule(&[DestinationIn(*range), DestinationIsLocal], Jump(NODE_PORT)));
            services.extend(blocks);
        }
    }
    let cluster_ip = match &node.local_detector {
        _ if node.masquerade_all => vec![rule(&[], Jump(MARK_MASQ))],
        // The kernel gives a process of the node the virtual address as its source, to which nobody could answer.
        LocalDetector::None => vec![rule(&[SourceAddress(SetName::IpvsIps)], Jump(MARK_MASQ))],
        detector => {
            let mut rules: Vec<Rule> =
                from_pods(detector).into_iter().map(|pods| rule(&[pods], Return)).collect();
            rules.push(rule(&[], Jump(MARK_MASQ)));
            rules
        }
    };
    let mut node_port = Vec::new();
    for protocol in Protocol::ALL {
        let of = |set: SetName| match protocol {
            Protocol::Sctp => [OfProtocol(protocol), Destination(set)],
            Protocol::Tcp | Protocol::Udp => [OfProtocol(protocol), DestinationPort(set)],
        };
        node_port.push(rule(&of(SetName::NodePortLocal(protocol)), Return));
        node_port.push(rule(&of(SetName::NodePort(protocol)), Jump(MARK_MASQ)));
    }
    let postrouting = vec![
        rule(&[DestinationAndSource(SetName::LoopBack)], Masquerade),
        rule(&[Mark(marks.tag(), TAG_MASK), SourceIsLocal], Masquerade),
        rule(&[NotMark(masquerade_mark, masquerade_mark)], Return),
        // Cleared, so that a packet that is wrapped and sent on is not masqueraded again.
        rule(&[], TurnMark(masquerade_mark)),
        rule(&[], Masquerade),
    ];
    let health_check = [OfProtocol(Protocol::Tcp), DestinationPort(SetName::HealthCheckNodePort)];
    let mut filter: Vec<Rule> =
        [SetName::ClusterIp, SetName::ExternalIp, SetName::ExternalIpLocal, SetName::LoadBalancer]
            .into_iter()
            .map(|set| rule(&[Destination(set)], Return))
            .collect();
    // A load balancer may send its checks to the Service's own address.
    filter.push(rule(&health_check, Return));
    // Daemons of the node listen on all of its addresses, but a Service's address is not theirs. ICMP is answered.
    filter.extend(
        Protocol::ALL
            .into_iter()
            .map(|protocol| rule(&[OfProtocol(protocol), New, DestinationAddress(SetName::IpvsIps)], Reject)),
    );
    let invalid = node.drop_invalid.then(|| rule(&[Invalid], Drop));
    let accepted = [rule(&[Mark(masquerade_mark, masquerade_mark)], Accept), rule(&[Established], Accept)];
    let forward = invalid.into_iter().chain(accepted).collect();
    vec![
        chain(TableName::Mangle, FIREWALL, firewall),
        chain(
            TableName::Mangle,
            SOURCE_RANGES,
            vec![rule(&[DestinationAndSource(SetName::LoadBalancerSourceCidr)], Return), rule(&[], Drop)],
        ),
        chain(TableName::Filter, FILTER, filter),
        chain(TableName::Filter, NODE_PORT, vec![rule(&health_check, Accept)]),
        chain(TableName::Filter, FORWARD, forward),
        chain(TableName::Nat, SERVICES, services),
        chain(TableName::Nat, CLUSTER_IP, cluster_ip),
        chain(
            TableName::Nat,
            LOAD_BALANCER,
            vec![rule(&[Destination(SetName::LoadBalancerLocal)], Return), rule(&[], Jump(MARK_MASQ))],
        ),
        chain(TableName::Nat, NODE_PORT, node_port),
        chain(TableName::Nat, MARK_MASQ, vec![rule(&[], SetMark(masquerade_mark))]),
        chain(TableName::Nat, POSTROUTING, postrouting),
    ]
}

fn loopback(family: Family) -> Cidr {
    let (address, prefix) = match family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), 8),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), 128),
    };
    Cidr::new(address, prefix).expect("a prefix of its family")
}

/// Conditions of which one holds for traffic of pods.
fn from_pods(detector: &LocalDetector) -> Vec<Match> {
    match detector {
        LocalDetector::None => Vec::new(),
        LocalDetector::Cidrs(cidrs) => cidrs.iter().copied().map(Match::Source).collect(),
        LocalDetector::Interface(name) => vec![Match::Interface(name.clone())],
        LocalDetector::InterfacePrefix(prefix) => vec![Match::Interface(format!("{prefix}+"))],
    }
}

impl Rule {
    /// `-A CHAIN …`, as `iptables-save` prints it.
    pub fn print(&self, chain: &str, family: Family, out: &mut String) {
        let _ = write!(out, "-A {chain}");
        for part in &self.matches {
            out.push(' ');
            part.print(family, out);
        }
        let _ = match &self.action {
            Action::Jump(chain) => write!(out, " -j {chain}"),
            Action::Return => write!(out, " -j RETURN"),
            Action::Accept => write!(out, " -j ACCEPT"),
            Action::Drop => write!(out, " -j DROP"),
            Action::Reject => {
                let icmp = match family {
                    Family::V4 => "icmp",
                    Family::V6 => "icmp6",
                };
                write!(out, " -j REJECT --reject-with {icmp}-port-unreachable")
            }
            Action::SetMark(bit) => write!(out, " -j MARK --set-xmark {bit:#x}/{bit:#x}"),
            Action::TurnMark(bit) => write!(out, " -j MARK --set-xmark {bit:#x}/0x0"),
            Action::MapMark(set) => write!(out, " -j SET --map-set {} dst,dst --map-mark", set.name(family)),
            Action::Masquerade => write!(out, " -j MASQUERADE --random-fully"),
        };
    }
}

impl Match {
    fn print(&self, family: Family, out: &mut String) {
        let mut set = |name: SetName, directions: &str| {
            write!(out, "-m set --match-set {} {directions}", name.name(family))
        };
        let _ = match self {
            Match::Destination(name) => set(*name, "dst,dst"),
            Match::DestinationPort(name) | Match::DestinationAddress(name) => set(*name, "dst"),
            Match::SourceAddress(name) => set(*name, "src"),
            Match::DestinationAndSource(name) => set(*name, "dst,dst,src"),
            Match::Source(range) => write!(out, "-s {}/{}", range.address(), range.prefix()),
            Match::DestinationIn(range) => write!(out, "-d {}/{}", range.address(), range.prefix()),
            Match::Interface(name) => write!(out, "-i {name}"),
            Match::OfProtocol(protocol) => write!(out, "-p {protocol}"),
            Match::Mark(mark, mask) => write!(out, "-m mark --mark {mark:#x}/{mask:#x}"),
            Match::NotMark(mark, mask) => write!(out, "-m mark ! --mark {mark:#x}/{mask:#x}"),
            Match::New => write!(out, "-m conntrack --ctstate NEW"),
            Match::Established => write!(out, "-m conntrack --ctstate RELATED,ESTABLISHED"),
            Match::Invalid => write!(out, "-m conntrack --ctstate INVALID"),
            Match::SourceIsLocal => write!(out, "-m addrtype --src-type LOCAL"),
            Match::DestinationIsLocal => write!(out, "-m addrtype --dst-type LOCAL"),
        };
    }
}

impl Hook {
    /// `-A PREROUTING …`, as `iptables-save` prints it.
    pub fn print(&self, out: &mut String) {
        let _ = write!(out, "-A {} -m comment --comment \"{}\" -j {}", self.from, self.comment, self.to);
    }
}
