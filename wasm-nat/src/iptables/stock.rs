//! Chains that every node has, the jumps that lead there, and the chains of the trees.
//!
//! In: the node's own rules, and parts of trees. Out: chains and rules. The names are kube-proxy's, so that taking over
//! from it (or handing back to it) is a matter of rewriting chains, never of a moment without rules: kube-proxy
//! deletes what it does not know of its own prefixes, and the chains of the trees have those.

use super::rule::{ChainName, Is, Match, Rule, Table, Verdict};
use super::service::{Item, TreeName, address_of, hash16, matching};
use super::tree::{ADDRESS_BITS, Cell, PROTOCOL_END, Part};
use crate::address::{Cidr, Family};
use crate::model::LocalDetector;
use crate::ruleset::{NodePortMatch, NodeRules};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Sets the bit of the mark that asks for masquerading.
pub const MARK_MASQ: &str = "KUBE-MARK-MASQ";
/// The same for what comes from none of several ranges of pods.
pub const MARK_REMOTE: &str = "KUBE-MARK-REMOTE";
/// Masquerades what is marked.
pub const POSTROUTING: &str = "KUBE-POSTROUTING";
/// Root of the trees of addresses.
pub const SERVICES: &str = "KUBE-SERVICES";
/// nat: root of the tree of node ports. filter: keeps strangers from loopback; root of the tree of health checks.
pub const NODE_PORTS: &str = "KUBE-NODEPORTS";
/// filter: root of the tree of node ports.
pub const EXTERNAL_SERVICES: &str = "KUBE-EXTERNAL-SERVICES";
/// Lets replies and masqueraded packets pass where the node forwards nothing else.
pub const FORWARD: &str = "KUBE-FORWARD";
/// Empty. Whoever looks for kube-proxy's rules looks for it.
pub const CANARY: &str = "KUBE-PROXY-CANARY";

/// Whether a chain of that name is one of ours, of this version or another, or of a kube-proxy in mode iptables.
pub fn is_ours(chain: &str) -> bool {
    const NAMES: [&str; 9] = [
        MARK_MASQ,
        MARK_REMOTE,
        POSTROUTING,
        SERVICES,
        NODE_PORTS,
        EXTERNAL_SERVICES,
        FORWARD,
        CANARY,
        "KUBE-PROXY-FIREWALL",
    ];
    const PREFIXES: [&str; 6] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"];
    NAMES.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// A jump from one of the kernel's own chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `PREROUTING`, …
    pub builtin: &'static str,
    /// The jump.
    pub rule: Rule,
}

/// The jumps of a table, in the order in which they are inserted: the last is met first.
pub fn hooks(table: Table) -> Vec<Hook> {
    let hook = |builtin, chain: &str, comment: &str| Hook {
        builtin,
        rule: Rule::jump(&chain.into()).saying(comment),
    };
    let first_packet = |builtin| Hook {
        builtin,
        rule: Rule::jump(&SERVICES.into()).when(Match::New).saying("kubernetes service portals"),
    };
    match table {
        Table::Nat => vec![
            hook("PREROUTING", SERVICES, "kubernetes service portals"),
            hook("OUTPUT", SERVICES, "kubernetes service portals"),
            hook("POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
        ],
        Table::Filter => vec![
            first_packet("INPUT"),
            first_packet("FORWARD"),
            first_packet("OUTPUT"),
            hook("INPUT", NODE_PORTS, "kubernetes health check service ports"),
            hook("FORWARD", FORWARD, "kubernetes forwarding rules"),
        ],
    }
}

/// The chains that differ at most with the node's own rules, in an order in which each names only earlier ones. The
/// roots of the trees are not among them.
pub fn chains(table: Table, node: &NodeRules) -> Vec<(&'static str, Vec<Rule>)> {
    let mark = node.masquerade_mark;
    match table {
        Table::Nat => {
            let mut chains = vec![
                (CANARY, vec![]),
                (MARK_MASQ, vec![Rule::new(Verdict::Mark(mark))]),
                (
                    POSTROUTING,
                    vec![
                        Rule::new(Verdict::Return).when(Match::NotMarked(mark)),
                        // A packet in a tunnel comes here a second time and is not to be masqueraded twice.
                        Rule::new(Verdict::Unmark(mark)),
                        Rule::new(Verdict::Masquerade).saying("kubernetes service traffic requiring SNAT"),
                    ],
                ),
            ];
            if let LocalDetector::Cidrs(ranges) = &node.local_detector
                && ranges.len() > 1
            {
                let mut rules: Vec<Rule> =
                    ranges.iter().map(|range| Rule::new(Verdict::Return).from(*range)).collect();
                rules.push(Rule::jump(&MARK_MASQ.into()));
                chains.push((MARK_REMOTE, rules));
            }
            chains
        }
        Table::Filter => {
            let invalid = node.drop_invalid.then(|| Rule::new(Verdict::Drop).when(Match::Invalid));
            // In kube-proxy the mark is looked at first; most packets are of connections that stand.
            let accepted = [
                Rule::new(Verdict::Accept)
                    .saying("kubernetes forwarding conntrack rule")
                    .when(Match::Established),
                Rule::new(Verdict::Accept).saying("kubernetes forwarding rules").when(Match::Marked(mark)),
            ];
            vec![(CANARY, vec![]), (FORWARD, invalid.into_iter().chain(accepted).collect())]
        }
    }
}

fn loopback(family: Family) -> Cidr {
    match family {
        Family::V4 => Cidr::new(Ipv4Addr::LOCALHOST.into(), 8).expect("a prefix of IPv4"),
        Family::V6 => Cidr::host(Ipv6Addr::LOCALHOST.into()),
    }
}

/// Node ports at 127.0.0.1 need `route_localnet`, under which the node takes packets to 127.0.0.0/8 from everywhere.
fn reaches_loopback(node: &NodeRules) -> bool {
    let loopback = loopback(Family::V4);
    node.family == Family::V4
        && match &node.node_ports {
            NodePortMatch::All => true,
            NodePortMatch::Some { addresses, ranges } => {
                let meets =
                    |range: &Cidr| range.contains(loopback.address()) || loopback.contains(range.address());
                addresses.iter().any(|address| loopback.contains(*address)) || ranges.iter().any(meets)
            }
        }
}

/// CVE-2020-8558, in kube-proxy's words.
fn guard_loopback() -> Rule {
    let loopback = loopback(Family::V4);
    Rule { source: Some(Is::Other(loopback)), ..Rule::new(Verdict::Drop) }
        .to(loopback)
        .saying("block incoming localnet connections")
        .when(Match::NeitherEstablishedNorTranslated)
}

/// The rules before those of a tree in its root.
fn before_root(tree: TreeName, node: &NodeRules) -> Vec<Rule> {
    if tree == TreeName::HealthChecks && reaches_loopback(node) { vec![guard_loopback()] } else { Vec::new() }
}

/// The rules behind those of a tree in its root: from addresses to node ports.
fn behind_root(tree: TreeName, node: &NodeRules) -> Vec<Rule> {
    let (chain, comment) = match tree {
        TreeName::NatAddresses => {
            (NODE_PORTS, "kubernetes service nodeports; NOTE: this must be the last rule in this chain")
        }
        TreeName::FilterAddresses => (EXTERNAL_SERVICES, "kubernetes service nodeports"),
        TreeName::NatNodePorts | TreeName::FilterNodePorts | TreeName::HealthChecks => return Vec::new(),
    };
    let rule = || {
        let rule = Rule::jump(&chain.into()).saying(comment);
        match node.family {
            Family::V4 => rule,
            // What is sent to ::1 cannot leave loopback, so it is never translated.
            Family::V6 => Rule { destination: Some(Is::Other(loopback(Family::V6))), ..rule },
        }
    };
    match &node.node_ports {
        NodePortMatch::All => vec![rule().when(Match::DestinationIsLocal)],
        NodePortMatch::Some { addresses, ranges } => {
            let addresses = addresses.iter().filter(|address| **address != IpAddr::V6(Ipv6Addr::LOCALHOST));
            let own = addresses.map(|address| rule().to(Cidr::host(*address)));
            let ranges = ranges.iter().map(|range| match range.prefix() {
                0 => rule().when(Match::DestinationIsLocal),
                _ => rule().to(*range).when(Match::DestinationIsLocal),
            });
            own.chain(ranges).collect()
        }
    }
}

/// Name and rules of one chain of a tree.
pub fn tree_chain(
    tree: TreeName,
    cell: Cell,
    parts: &[Part<Item>],
    node: &NodeRules,
) -> (ChainName, Vec<Rule>) {
    let mut rules =
        if cell == Cell::ROOT { before_root(tree, node) } else { Vec::with_capacity(parts.len()) };
    for part in parts {
        match part {
            Part::Item(bits, item) => rules.extend(item.rules(matching(node.family, tree, *bits))),
            Part::Cell(child) => rules.push(cell_rule(tree, *child, node.family)),
        }
    }
    if cell == Cell::ROOT {
        rules.extend(behind_root(tree, node));
    }
    (cell_name(tree, cell, node.family), rules)
}

/// The rule that hands packets to the chain of a cell.
fn cell_rule(tree: TreeName, cell: Cell, family: Family) -> Rule {
    let rule = Rule::jump(&cell_name(tree, cell, family));
    let (first, last) = cell.bounds();
    let rule = if tree.has_addresses() { rule.to(address_range(cell, family)) } else { rule };
    match cell.prefix() {
        ..=ADDRESS_BITS => rule,
        PROTOCOL_END => rule.of(first.protocol()),
        _ => rule.of(first.protocol()).when(Match::Ports(first.port(), last.port())),
    }
}

fn address_range(cell: Cell, family: Family) -> Cidr {
    let prefix = cell.prefix().min(family.bits());
    Cidr::new(address_of(family, cell.bounds().0.address), prefix).expect("a prefix of the family")
}

/// `KUBE-SERVICES`, `KUBE-SVC-172.30.64.0/18`, `KUBE-EXT-tcp-30000:30255`; a hash where the readable name is too long.
pub fn cell_name(tree: TreeName, cell: Cell, family: Family) -> ChainName {
    const LONGEST: usize = 28;
    // Of kube-proxy's own prefixes, so that it deletes them should it come back.
    let (root, prefix) = match tree {
        TreeName::NatAddresses | TreeName::FilterAddresses => (SERVICES, "KUBE-SVC-"),
        TreeName::NatNodePorts => (NODE_PORTS, "KUBE-EXT-"),
        TreeName::FilterNodePorts => (EXTERNAL_SERVICES, "KUBE-EXT-"),
        TreeName::HealthChecks => (NODE_PORTS, "KUBE-FW-"),
    };
    if cell == Cell::ROOT {
        return root.into();
    }
    let (first, last) = cell.bounds();
    let mut text = prefix.to_owned();
    if tree.has_addresses() {
        let range = address_range(cell, family);
        text += &format!("{}/{}", range.address(), range.prefix());
    }
    if cell.prefix() > ADDRESS_BITS {
        text += if tree.has_addresses() { "-" } else { "" };
        text += first.protocol().name();
    }
    if cell.prefix() > PROTOCOL_END {
        text += &format!("-{}:{}", first.port(), last.port());
    }
    if text.len() > LONGEST {
        text = format!("{prefix}{}", hash16(&text));
    }
    text.into()
}
