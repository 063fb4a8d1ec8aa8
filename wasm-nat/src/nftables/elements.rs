//! Elements of the table's maps and sets as typed values: printed here, read back by `parse`, walked by `simulate`.
//!
//! In: the decisions for one Service port and the numbers it was given. Out: elements. Everything that differs between
//! Services is an element; chains and maps are the same for every cluster.

use super::numbers::*;
use super::rules::{Affinity, Method, Pick, PickChain, TableId, chains, client, family_word};
use crate::address::{Cidr, Family};
use crate::balance::{Balance, Target};
use crate::model::{ObjectName, Policy, Protocol};
use crate::names;
use crate::print;
use crate::ruleset::{At, Path, Pool, PortRules};
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::rc::Rc;

/// Maps and sets of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapName {
    /// Set, slot → address and port.
    Endpoints(Protocol),
    /// Number of an endpoint → address and port.
    AffinityEndpoints(Protocol),
    /// Set, slot → number of an endpoint.
    AffinitySlots,
    /// Set and source range.
    SourceRanges,
    /// Set → chain.
    Services,
    /// Address, protocol, port → set and path.
    ServiceIps,
    /// Protocol, port → set and path.
    ServiceNodePorts,
    /// Addresses whose undefined ports are refused.
    ClusterIps,
    /// Source ranges of pods.
    ClusterCidrs,
    /// Addresses of the node that have node ports.
    NodePortIps,
    /// Ranges in which the node's addresses have node ports.
    NodePortRanges,
    /// Ranges of Service addresses.
    ServiceCidrs,
    /// Filled by packets: client of a Service port → number of an endpoint.
    Affinity,
    /// Filled by packets: source, twice.
    Hairpin,
    /// Filled by packets: number of a Service port, with a counter.
    Connections,
}

impl MapName {
    /// All of them, in the order in which they are made.
    pub const ALL: [MapName; 19] = [
        MapName::Endpoints(Protocol::Tcp),
        MapName::Endpoints(Protocol::Udp),
        MapName::Endpoints(Protocol::Sctp),
        MapName::AffinityEndpoints(Protocol::Tcp),
        MapName::AffinityEndpoints(Protocol::Udp),
        MapName::AffinityEndpoints(Protocol::Sctp),
        MapName::AffinitySlots,
        MapName::SourceRanges,
        MapName::Services,
        MapName::ServiceIps,
        MapName::ServiceNodePorts,
        MapName::ClusterIps,
        MapName::ClusterCidrs,
        MapName::NodePortIps,
        MapName::NodePortRanges,
        MapName::ServiceCidrs,
        MapName::Affinity,
        MapName::Hairpin,
        MapName::Connections,
    ];

    /// Its place in [`MapName::ALL`].
    pub fn index(self) -> usize {
        match self {
            MapName::Endpoints(protocol) => protocol as usize,
            MapName::AffinityEndpoints(protocol) => 3 + protocol as usize,
            MapName::AffinitySlots => 6,
            MapName::SourceRanges => 7,
            MapName::Services => 8,
            MapName::ServiceIps => 9,
            MapName::ServiceNodePorts => 10,
            MapName::ClusterIps => 11,
            MapName::ClusterCidrs => 12,
            MapName::NodePortIps => 13,
            MapName::NodePortRanges => 14,
            MapName::ServiceCidrs => 15,
            MapName::Affinity => 16,
            MapName::Hairpin => 17,
            MapName::Connections => 18,
        }
    }

    /// Its name in the kernel.
    pub fn name(self) -> &'static str {
        match self {
            MapName::Endpoints(Protocol::Tcp) => "tcp-endpoints",
            MapName::Endpoints(Protocol::Udp) => "udp-endpoints",
            MapName::Endpoints(Protocol::Sctp) => "sctp-endpoints",
            MapName::AffinityEndpoints(Protocol::Tcp) => "tcp-affinity-endpoints",
            MapName::AffinityEndpoints(Protocol::Udp) => "udp-affinity-endpoints",
            MapName::AffinityEndpoints(Protocol::Sctp) => "sctp-affinity-endpoints",
            MapName::AffinitySlots => "affinity-slots",
            MapName::SourceRanges => "source-ranges",
            MapName::Services => "services",
            MapName::ServiceIps => "service-ips",
            MapName::ServiceNodePorts => "service-nodeports",
            MapName::ClusterIps => "cluster-ips",
            MapName::ClusterCidrs => "cluster-cidrs",
            MapName::NodePortIps => "nodeport-ips",
            MapName::NodePortRanges => "nodeport-ranges",
            MapName::ServiceCidrs => "service-cidrs",
            MapName::Affinity => "affinity",
            MapName::Hairpin => "hairpin",
            MapName::Connections => "connections",
        }
    }

    /// Packets fill it, not transactions.
    pub fn is_dynamic(self) -> bool {
        matches!(self, MapName::Affinity | MapName::Hairpin | MapName::Connections)
    }

    /// Values beside keys.
    fn is_map(self) -> bool {
        !matches!(
            self,
            MapName::SourceRanges
                | MapName::ClusterIps
                | MapName::ClusterCidrs
                | MapName::NodePortIps
                | MapName::NodePortRanges
                | MapName::ServiceCidrs
                | MapName::Hairpin
                | MapName::Connections
        )
    }

    /// The command that makes it.
    pub fn print_add(self, table: TableId, out: &mut String) {
        let family = table.family;
        let word = family_word(family);
        let address = match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let kind = if self.is_map() { "map" } else { "set" };
        let _ = write!(out, "add {kind} {table} {} {{ ", self.name());
        let _ = match self {
            // A slot has no type of its own in nft's language: the type of `numgen` has to be named by `typeof`, and
            // then the values' too. `nft` 1.0.6 crashes when it lists one that was declared by `jhash`.
            MapName::Endpoints(protocol) => {
                write!(out, "typeof meta priority . numgen random mod 2 : {word} daddr . {protocol} dport;")
            }
            MapName::AffinitySlots => {
                write!(out, "typeof meta priority . numgen random mod 2 : meta priority;")
            }
            MapName::AffinityEndpoints(protocol) => {
                write!(out, "typeof meta priority : {word} daddr . {protocol} dport;")
            }
            MapName::Services => write!(out, "type classid : verdict;"),
            MapName::ServiceIps => {
                write!(out, "type {address} . inet_proto . inet_service : classid;")
            }
            MapName::ServiceNodePorts => write!(out, "type inet_proto . inet_service : classid;"),
            MapName::ClusterIps | MapName::NodePortIps => write!(out, "type {address};"),
            MapName::SourceRanges => write!(out, "type classid . {address}; flags interval;"),
            MapName::ClusterCidrs | MapName::NodePortRanges | MapName::ServiceCidrs => {
                write!(out, "type {address}; flags interval;")
            }
            // Room for a million clients; it takes memory only as they come.
            MapName::Affinity => {
                let client = client(family);
                write!(
                    out,
                    "typeof meta priority . {client} : meta priority; size 1048576; flags dynamic,timeout;"
                )
            }
            MapName::Hairpin => {
                write!(out, "type {address} . {address}; size 262144; flags dynamic,timeout;")
            }
            // Room for all numbers twice. A counter takes a place on every processor, and most nodes send to few of a
            // cluster's Services: so it is there from the first packet on, not with the Service.
            MapName::Connections => write!(out, "type classid; size 524288; flags dynamic;"),
        };
        out.push_str(" }\n");
    }
}

/// An element. Equality, order and hash do not look at the [`Label`], which is for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// Of [`MapName::Endpoints`].
    Endpoint {
        /// Which map.
        protocol: Protocol,
        /// The set.
        set: u32,
        /// Its slot.
        slot: u32,
        /// What stands there.
        target: Target,
    },
    /// Of [`MapName::AffinityEndpoints`].
    AffinityEndpoint {
        /// Which map.
        protocol: Protocol,
        /// The set and the number of the endpoint in it.
        endpoint: u32,
        /// The endpoint.
        target: Target,
    },
    /// Of [`MapName::AffinitySlots`].
    AffinitySlot {
        /// The set.
        set: u32,
        /// Its slot.
        slot: u32,
        /// The set and the number of the endpoint in it.
        endpoint: u32,
    },
    /// Of [`MapName::SourceRanges`].
    SourceRange {
        /// The set.
        set: u32,
        /// Who may.
        range: Cidr,
    },
    /// Of [`MapName::Services`].
    Service {
        /// The set.
        set: u32,
        /// Where it goes on.
        answer: Answer,
    },
    /// Of [`MapName::ServiceIps`].
    Address {
        /// Destination address.
        address: IpAddr,
        /// Protocol.
        protocol: Protocol,
        /// Destination port.
        port: u16,
        /// Set and path.
        value: u32,
        /// Whose.
        label: Label,
    },
    /// Of [`MapName::ServiceNodePorts`].
    NodePort {
        /// Protocol.
        protocol: Protocol,
        /// Destination port.
        port: u16,
        /// Set and path.
        value: u32,
        /// Whose.
        label: Label,
    },
    /// Of [`MapName::ClusterIps`].
    ClusterIp {
        /// The address.
        address: IpAddr,
    },
    /// Of one of the sets that hold addresses and ranges of the node.
    Range {
        /// Which set.
        set: MapName,
        /// The range, or one address.
        range: Cidr,
    },
}

/// Where a set goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// To an endpoint.
    Pick(PickChain),
    /// To the refusal.
    NoEndpoints,
    /// Nowhere.
    NoLocalEndpoints,
    /// Read back, and none of the names that this version gives.
    Unknown(Rc<str>),
}

impl Answer {
    /// Name of the chain.
    pub fn chain(&self) -> String {
        match self {
            Answer::Pick(pick) => pick.name(),
            Answer::NoEndpoints => chains::NO_ENDPOINTS.to_owned(),
            Answer::NoLocalEndpoints => chains::NO_LOCAL_ENDPOINTS.to_owned(),
            Answer::Unknown(name) => name.to_string(),
        }
    }
}

/// By the chain's name alone, which is all that a listing tells of it.
impl Hash for Answer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Answer::Unknown(name) => name.hash(state),
            Answer::NoEndpoints => chains::NO_ENDPOINTS.hash(state),
            Answer::NoLocalEndpoints => chains::NO_LOCAL_ENDPOINTS.hash(state),
            Answer::Pick(pick) => pick.name().hash(state),
        }
    }
}

/// Whose element it is, for the comment beside it. All labels are equal.
#[derive(Clone, Debug, Default)]
pub struct Label(pub Option<(ObjectName, Rc<str>)>);

impl PartialEq for Label {
    fn eq(&self, _: &Label) -> bool {
        true
    }
}
impl Eq for Label {}
impl Hash for Label {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Label) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Label {
    fn cmp(&self, _: &Label) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Element {
    /// The map that it belongs to.
    pub fn map(&self) -> MapName {
        match self {
            Element::Endpoint { protocol, .. } => MapName::Endpoints(*protocol),
            Element::AffinityEndpoint { protocol, .. } => MapName::AffinityEndpoints(*protocol),
            Element::AffinitySlot { .. } => MapName::AffinitySlots,
            Element::SourceRange { .. } => MapName::SourceRanges,
            Element::Service { .. } => MapName::Services,
            Element::Address { .. } => MapName::ServiceIps,
            Element::NodePort { .. } => MapName::ServiceNodePorts,
            Element::ClusterIp { .. } => MapName::ClusterIps,
            Element::Range { set, .. } => *set,
        }
    }

    /// Whether both have the same place in the same map, so that only one of them can be there.
    pub fn same_key(&self, other: &Element) -> bool {
        use Element::*;
        match (self, other) {
            (
                Endpoint { protocol: a, set: b, slot: c, .. },
                Endpoint { protocol: x, set: y, slot: z, .. },
            ) => (a, b, c) == (x, y, z),
            (
                AffinityEndpoint { protocol: a, endpoint: b, .. },
                AffinityEndpoint { protocol: x, endpoint: y, .. },
            ) => (a, b) == (x, y),
            (AffinitySlot { set: a, slot: b, .. }, AffinitySlot { set: x, slot: y, .. }) => (a, b) == (x, y),
            (Service { set: a, .. }, Service { set: x, .. }) => a == x,
            (
                Address { address: a, protocol: b, port: c, .. },
                Address { address: x, protocol: y, port: z, .. },
            ) => (a, b, c) == (x, y, z),
            (NodePort { protocol: a, port: b, .. }, NodePort { protocol: x, port: y, .. }) => {
                (a, b) == (x, y)
            }
            _ => self == other,
        }
    }

    /// `key` as `nft` reads it.
    pub fn print_key(&self, out: &mut String) {
        match self {
            Element::Endpoint { set, slot, .. } | Element::AffinitySlot { set, slot, .. } => {
                print::hexadecimal(*set, out);
                out.push_str(" . ");
                print::decimal(*slot, out);
            }
            Element::AffinityEndpoint { endpoint, .. } => print::hexadecimal(*endpoint, out),
            // With its length also where it is one address: `nft` 1.0.6 deletes a key without one in the wrong byte order.
            Element::SourceRange { set, range } => {
                let _ = write!(out, "{set:#x} . {}/{}", range.address(), range.prefix());
            }
            Element::Service { set, .. } => print::hexadecimal(*set, out),
            Element::Address { address, protocol, port, .. } => {
                print::address(*address, out);
                out.push_str(" . ");
                print_port(*protocol, *port, out);
            }
            Element::NodePort { protocol, port, .. } => print_port(*protocol, *port, out),
            Element::ClusterIp { address } => print::address(*address, out),
            Element::Range { range, .. } => {
                let _ = write!(out, "{range}");
            }
        }
    }

    /// `key`, `key : value` or `key comment "…" : value` as `nft` reads it.
    pub fn print(&self, out: &mut String) {
        self.print_key(out);
        if let Element::Address { label, protocol, .. } | Element::NodePort { label, protocol, .. } = self
            && let Label(Some((service, port))) = label
        {
            let readable = names::readable(service, *protocol, port);
            out.push_str(" comment \"");
            out.push_str(&names::shortened(&readable));
            out.push('"');
        }
        match self {
            Element::Endpoint { target, .. } | Element::AffinityEndpoint { target, .. } => {
                out.push_str(" : ");
                print::address(target.address, out);
                out.push_str(" . ");
                print::decimal(target.port.into(), out);
            }
            Element::AffinitySlot { endpoint: value, .. }
            | Element::Address { value, .. }
            | Element::NodePort { value, .. } => {
                out.push_str(" : ");
                print::hexadecimal(*value, out);
            }
            Element::Service { answer, .. } => {
                out.push_str(" : goto ");
                out.push_str(&answer.chain());
            }
            Element::SourceRange { .. } | Element::ClusterIp { .. } | Element::Range { .. } => {}
        }
    }
}

fn print_port(protocol: Protocol, port: u16, out: &mut String) {
    out.push_str(protocol.name());
    out.push_str(" . ");
    print::decimal(port.into(), out);
}

/// What a Service port was given beside its decisions: part of the committed state, since it depends on history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Number of the Service port in its family.
    pub number: u32,
    /// Numbers of its endpoints, for session affinity; in order of the targets.
    pub endpoints: Vec<(Target, u16)>,
    /// The number that an endpoint was given last, which may have gone since; 0: none.
    pub last_endpoint: u16,
}

impl Placement {
    fn endpoint(&self, target: Target) -> Option<u16> {
        let place = self.endpoints.binary_search_by_key(&target, |(target, _)| *target).ok()?;
        Some(self.endpoints[place].1)
    }
}

/// Adds all elements of one Service port to `out`.
pub fn elements(service: &ObjectName, port: &PortRules, placement: &Placement, out: &mut Vec<Element>) {
    let set = cluster_set(placement.number);
    for entry in &port.entries {
        let value = set
            | match entry.path {
                Path::Internal(Policy::Cluster) => 0,
                Path::Internal(Policy::Local) => LOCAL_SET,
                Path::External { policy, restricted } => {
                    let path = if policy == Policy::Local { FROM_OUTSIDE_LOCAL } else { FROM_OUTSIDE };
                    let through = if matches!(entry.at, At::NodePort(_)) { NODE_PORT } else { 0 };
                    path | through | if restricted { RESTRICTED } else { 0 }
                }
            };
        let label = Label(Some((service.clone(), port.name.clone())));
        out.push(match entry.at {
            At::Address(address, number) => {
                Element::Address { address, protocol: port.protocol, port: number, value, label }
            }
            At::NodePort(number) => Element::NodePort { protocol: port.protocol, port: number, value, label },
        });
    }
    out.extend(port.source_ranges.iter().map(|range| Element::SourceRange { set, range: *range }));
    for (policy, set) in [(Policy::Cluster, set), (Policy::Local, set | LOCAL_SET)] {
        if let Some(pool) = port.pool(policy) {
            pool_elements(service, port, placement, policy, set, pool, out);
        }
    }
}

fn pool_elements(
    service: &ObjectName,
    port: &PortRules,
    placement: &Placement,
    policy: Policy,
    set: u32,
    pool: &Pool,
    out: &mut Vec<Element>,
) {
    let protocol = port.protocol;
    let slots = match pool {
        Pool::Slots(slots) => slots,
        Pool::Refuse => return out.push(Element::Service { set, answer: Answer::NoEndpoints }),
        Pool::Drop => return out.push(Element::Service { set, answer: Answer::NoLocalEndpoints }),
    };
    let numbered = || (0u32..).zip(slots);
    if port.affinity_seconds.is_none() {
        out.extend(numbered().map(|(slot, target)| Element::Endpoint {
            protocol,
            set,
            slot,
            target: *target,
        }));
    } else {
        let base = set & SERVICE_MASK;
        let local = set & LOCAL_SET;
        let number = |target: &Target| {
            let number =
                placement.endpoint(*target).expect("every target of a pool with affinity has a number");
            affinity_endpoint(base, number)
        };
        out.extend(numbered().map(|(slot, target)| Element::AffinitySlot {
            set,
            slot,
            endpoint: number(target),
        }));
        let mut targets = slots.clone();
        targets.sort_unstable();
        targets.dedup();
        out.extend(targets.into_iter().map(|target| Element::AffinityEndpoint {
            protocol,
            endpoint: number(&target) | local,
            target,
        }));
    }
    let chain = pick_chain(service, port, policy, slots.len());
    out.push(Element::Service { set, answer: Answer::Pick(chain) });
}

fn pick_chain(service: &ObjectName, port: &PortRules, policy: Policy, slots: usize) -> PickChain {
    let method = match port.balance {
        _ if slots == 1 => Method::Random,
        Balance::Random => Method::Random,
        Balance::RoundRobin => Method::Counter,
        Balance::SourceHash => Method::SourceAddress,
        Balance::Maglev => Method::SourceAddressAndPort,
    };
    let local = policy == Policy::Local;
    let owner = (method == Method::Counter).then(|| {
        let prefix = if local { "local" } else { "cluster" };
        names::chain_name(prefix, service, port.protocol, &port.name).into()
    });
    PickChain {
        protocol: port.protocol,
        pick: Pick { method, slots: slots as u32 },
        affinity: port.affinity_seconds.map(|seconds| Affinity { seconds, local }),
        owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_know_their_places() {
        for (place, map) in MapName::ALL.into_iter().enumerate() {
            assert_eq!(map.index(), place);
        }
        assert!(MapName::ALL.is_sorted(), "their order is that of the elements");
    }
}
