//! What happens to one packet: the question and the answer that every backend gives by walking its own typed rules.
//!
//! In: the first packet of a connection, as it reaches the node. Out: a verdict, the endpoints it may go to, and the rules
//! that decided. Not here: the walk itself, which belongs to each backend (its rules are its own), and the kernel, which
//! has the last word in `tests/kernel`.

use crate::address::Family;
use crate::backend::View;
use crate::balance::Target;
use crate::model::{ObjectName, Protocol};
use crate::ruleset::{At, NodeRules};
use std::net::IpAddr;

/// The first packet of a connection, as it reaches the node, or leaves one of its processes if the source is the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// What it is addressed to; of the same family.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The destination's port.
    pub port: u16,
    /// Where it comes in; only the interface detectors look at it.
    pub interface: Option<String>,
}

impl Packet {
    /// The family of both addresses.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes to an endpoint.
    Dnat,
    /// ICMP port unreachable.
    Reject,
    /// Silence.
    Drop,
    /// Nothing here concerns it.
    Untouched,
}

impl Verdict {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Dnat => "dnat",
            Verdict::Reject => "reject",
            Verdict::Drop => "drop",
            Verdict::Untouched => "untouched",
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Those between which chance, a counter or a hash decides; sorted, each once.
    pub endpoints: Vec<Target>,
    /// The endpoint sees an address of the node instead of the source, whichever endpoint is chosen.
    pub masquerade: bool,
    /// The endpoints for which alone it is masqueraded: the source itself. Empty when `masquerade` says all.
    pub hairpin: Vec<Target>,
    /// In the order in which the packet met them.
    pub rules: Vec<TraceRule>,
}

/// A rule that decided something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRule {
    /// `ip fairlead`, `nat`, …
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// As the backend's program prints it; for a map with the element that matched.
    pub rule: String,
    /// The object behind it: `Service default/web port http (ClusterIP 172.30.0.41:80/tcp)`.
    pub object: Option<String>,
}

impl Trace {
    /// Nothing here concerns the packet.
    pub fn untouched() -> Trace {
        Trace {
            verdict: Verdict::Untouched,
            endpoints: Vec::new(),
            masquerade: false,
            hairpin: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// The packet goes to one of `endpoints`. `marked`: the rules ask for masquerading on the way there.
    ///
    /// What is translated to an address of the node itself and comes from elsewhere never meets postrouting, so it keeps
    /// its source whatever the rules asked. What goes back to its source (hairpin) is always masqueraded.
    pub fn dnat(
        packet: &Packet,
        node: &NodeRules,
        mut endpoints: Vec<Target>,
        marked: bool,
        rules: Vec<TraceRule>,
    ) -> Trace {
        endpoints.sort_unstable();
        endpoints.dedup();
        let own = |address: IpAddr| node.addresses.contains(&address);
        let leaves = |target: &Target| is_local(node, packet.source) || !own(target.address);
        let masqueraded = |target: &Target| leaves(target) && (marked || target.address == packet.source);
        let masquerade = endpoints.iter().all(masqueraded);
        let hairpin =
            if masquerade { Vec::new() } else { endpoints.iter().copied().filter(masqueraded).collect() };
        Trace { verdict: Verdict::Dnat, endpoints, masquerade, hairpin, rules }
    }

    /// The packet is refused or dropped.
    pub fn refused(verdict: Verdict, rules: Vec<TraceRule>) -> Trace {
        Trace { verdict, rules, ..Trace::untouched() }
    }
}

/// A source or destination that the kernel's routing table calls local: the node's own addresses, and loopback.
pub fn is_local(node: &NodeRules, address: IpAddr) -> bool {
    address.is_loopback() || node.addresses.contains(&address)
}

/// `Service default/web port http (ClusterIP 172.30.0.41:80/tcp)`: the object behind an entry.
pub fn object_of(
    view: View<'_>,
    service: &ObjectName,
    family: Family,
    at: At,
    protocol: Protocol,
) -> Option<String> {
    let ports = view.service(service)?.ports.iter();
    let mut ports = ports.filter(|port| port.family == family && port.protocol == protocol);
    ports.find_map(|port| {
        let entry = port.entries.iter().find(|entry| entry.at == at)?;
        let named = if port.name.is_empty() { String::new() } else { format!(" port {}", port.name) };
        let place = match at {
            At::Address(address, number) => Target { address, port: number }.to_string(),
            At::NodePort(number) => number.to_string(),
        };
        Some(format!("Service {service}{named} ({} {place}/{protocol})", entry.kind.name()))
    })
}
