//! What one Service needs in the kernel: virtual servers, real servers, addresses, elements of sets.
//!
//! In: the decisions for its ports, the node, and the marks that its ports were given. Out: objects, of which two Services
//! may need the same (an address with several ports, an endpoint that meets itself): those are counted by `mod`.

use super::servers::{Marks, Real, Server, ServerKey};
use super::sets::{Entry, Key, SetName};
use crate::address::{Cidr, Family};
use crate::balance::{Balance, Scheduler, Target};
use crate::model::{ObjectName, Policy, Protocol};
use crate::ruleset::{At, EntryKind, NodePortMatch, NodeRules, Path, Pool, PortRules, ServiceRules};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

/// Something in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// An element of a set.
    Entry(Entry),
    /// A virtual server.
    Server(Server),
    /// A real server.
    Real(Real),
    /// An address of the dummy link.
    Address(IpAddr),
}

impl Object {
    /// Several Services may need it.
    pub fn is_shared(&self) -> bool {
        match self {
            Object::Address(_) => true,
            Object::Entry(entry) => {
                matches!(entry.set, SetName::LoopBack | SetName::IpvsIps | SetName::HealthCheckNodePort)
            }
            Object::Server(_) | Object::Real(_) => false,
        }
    }
}

/// A Service port, as far as marks are concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The Service.
    pub service: ObjectName,
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// Name of the port.
    pub port: Rc<str>,
}

impl PortKey {
    /// Of these rules.
    pub fn new(service: &ObjectName, port: &PortRules) -> PortKey {
        PortKey {
            service: service.clone(),
            family: port.family,
            protocol: port.protocol,
            port: port.name.clone(),
        }
    }
}

/// The number of a mark, by the port that has it.
pub type Numbers = BTreeMap<PortKey, u32>;

/// Whether a port needs a virtual server for its traffic from pods and from the node: under policy Local they reach other
/// endpoints than callers from outside.
pub fn needs_mark(port: &PortRules) -> bool {
    let is_local = |path: &Path| matches!(path, Path::External { policy: Policy::Local, .. });
    port.entries.iter().any(|entry| is_local(&entry.path)) && matches!(port.cluster, Some(Pool::Slots(_)))
}

/// The node's addresses that have node ports.
pub fn node_port_addresses(node: &NodeRules) -> Vec<IpAddr> {
    let own = node.addresses.iter().copied();
    let chosen: BTreeSet<IpAddr> = match &node.node_ports {
        NodePortMatch::All => own.collect(),
        NodePortMatch::Some { addresses, ranges } => own
            .filter(|address| ranges.iter().any(|range| range.contains(*address)))
            .chain(addresses.iter().copied())
            .collect(),
    };
    chosen.into_iter().filter(|address| !address.is_loopback()).collect()
}

/// Addresses of the node at which a Service port is reached as at a virtual address (an external IP that is the node's own):
/// a node port of the same number is not served there.
pub type Taken = BTreeSet<(Protocol, IpAddr, u16)>;

/// What of [`Taken`] these rules take.
pub fn taken<'a>(
    rules: &'a ServiceRules,
    node: &'a [NodeRules],
) -> impl Iterator<Item = (Protocol, IpAddr, u16)> + 'a {
    let is_own = |address: &IpAddr| node.iter().any(|node| node.addresses.contains(address));
    rules.ports.iter().flat_map(move |port| {
        port.entries.iter().filter_map(move |entry| match entry.at {
            At::Address(address, number) if is_own(&address) => Some((port.protocol, address, number)),
            At::Address(..) | At::NodePort(_) => None,
        })
    })
}

/// The port at which a Service has its health checks answered, if it has anything in the family of `node`.
pub fn health_check(rules: &ServiceRules, node: &NodeRules) -> Option<Object> {
    let family = node.family;
    let port = rules.health_check_node_port?;
    let set = SetName::HealthCheckNodePort;
    let is_there = rules.ports.iter().any(|port| port.family == family);
    is_there.then_some(Object::Entry(Entry { family, set, key: Key::Port(port), mark: None }))
}

/// The objects of one Service port. `node` is of its family, `mark` its mark if it needs one.
pub fn objects(port: &PortRules, node: &NodeRules, mark: Option<u32>, taken: &Taken) -> Vec<Object> {
    let (family, protocol) = (port.family, port.protocol);
    let mut out = Vec::new();
    let entry = |set: SetName, key: Key| Object::Entry(Entry { family, set, key, mark: None });
    let mut balanced: BTreeSet<Target> = BTreeSet::new();
    for way in &port.entries {
        let policy = match way.path {
            Path::Internal(policy) | Path::External { policy, .. } => policy,
        };
        let is_local = policy == Policy::Local;
        let Some(pool) = port.pool(policy) else { continue };
        let addresses = match way.at {
            At::Address(address, number) => vec![(address, number)],
            At::NodePort(number) => node_port_addresses(node)
                .into_iter()
                .map(|address| (address, number))
                .filter(|(address, number)| !taken.contains(&(protocol, *address, *number)))
                .collect(),
        };
        for (address, number) in &addresses {
            let (at, key) =
                (Key::At(*address, protocol, *number), ServerKey::At(protocol, *address, *number));
            let persistent_seconds = port.affinity_seconds;
            out.push(Object::Server(Server { key, scheduler: scheduler(port, pool), persistent_seconds }));
            out.extend(reals(key, pool));
            if *pool == Pool::Drop {
                out.push(entry(SetName::NoLocalEndpoints, at));
            }
            match way.kind {
                EntryKind::ClusterIp => out.push(entry(SetName::ClusterIp, at)),
                EntryKind::ExternalIp if is_local => out.push(entry(SetName::ExternalIpLocal, at)),
                EntryKind::ExternalIp => out.push(entry(SetName::ExternalIp, at)),
                EntryKind::LoadBalancer => {
                    out.push(entry(SetName::LoadBalancer, at));
                    if is_local {
                        out.push(entry(SetName::LoadBalancerLocal, at));
                    }
                }
                EntryKind::NodePort | EntryKind::Exposed => {
                    let by_address = protocol == Protocol::Sctp;
                    let key = if by_address { at } else { Key::Port(*number) };
                    out.push(entry(SetName::NodePort(protocol), key));
                    if is_local {
                        out.push(entry(SetName::NodePortLocal(protocol), key));
                    }
                }
            }
            if let Path::External { restricted: true, .. } = way.path {
                out.push(entry(SetName::LoadBalancerFirewall, at));
                for range in port.source_ranges.iter().copied().flat_map(halves) {
                    let key = Key::From(*address, protocol, *number, range);
                    out.push(entry(SetName::LoadBalancerSourceCidr, key));
                }
            }
            if let (Path::External { policy: Policy::Local, .. }, Some(mark)) = (way.path, mark) {
                out.push(Object::Entry(Entry { family, set: SetName::InCluster, key: at, mark: Some(mark) }));
            }
            if matches!(way.at, At::Address(..)) && !node.addresses.contains(address) {
                // An address that the node has anyway is neither put on the dummy link nor are its other ports refused.
                out.push(entry(SetName::IpvsIps, Key::Address(*address)));
                out.push(Object::Address(*address));
            }
        }
        balanced.extend(pool.slots());
    }
    if let (Some(mark), Some(pool)) = (mark, &port.cluster) {
        let key = ServerKey::Mark(family, mark);
        // A persistent virtual server by mark does not translate ports (`ip_vs_sched_persist`); the same client comes to
        // the same endpoint by hash, too, as long as the endpoints stay.
        let sticky = port.affinity_seconds.is_some();
        let scheduler = if sticky { Scheduler::SOURCE_HASH } else { scheduler(port, pool) };
        out.push(Object::Server(Server { key, scheduler, persistent_seconds: None }));
        out.extend(reals(key, pool));
        balanced.extend(pool.slots());
    }
    out.extend(
        balanced
            .into_iter()
            .map(|target| entry(SetName::LoopBack, Key::Itself(target.address, protocol, target.port))),
    );
    // The elements for ports are the same for every address of the node.
    out.sort_unstable();
    out.dedup();
    out
}

/// kube-proxy's default unless the Service or a setting says otherwise.
fn scheduler(port: &PortRules, pool: &Pool) -> Scheduler {
    let weighted = weights(pool).values().any(|weight| *weight > 1);
    match (port.scheduler, port.balance) {
        (Some(scheduler), _) => scheduler,
        (None, Balance::SourceHash) => Scheduler::SOURCE_HASH,
        (None, Balance::Maglev) => Scheduler::MAGLEV,
        (None, Balance::Random | Balance::RoundRobin) if weighted => Scheduler::WEIGHTED_ROUND_ROBIN,
        (None, Balance::Random | Balance::RoundRobin) => Scheduler::ROUND_ROBIN,
    }
}

fn reals(server: ServerKey, pool: &Pool) -> impl Iterator<Item = Object> {
    weights(pool).into_iter().map(move |(target, weight)| Object::Real(Real { server, target, weight }))
}

fn weights(pool: &Pool) -> BTreeMap<Target, u32> {
    let mut weights = BTreeMap::new();
    for target in pool.slots() {
        *weights.entry(*target).or_default() += 1;
    }
    weights
}

/// The kernel has no range of all addresses in a set; two halves are as good.
fn halves(range: Cidr) -> Vec<Cidr> {
    if range.prefix() > 0 {
        return vec![range];
    }
    let (first, last) = range.bounds();
    [first, last].into_iter().filter_map(|address| Cidr::new(address, 1)).collect()
}

/// The mark of a number, if there is one, for the node's settings. The last bit tells UDP, whose connections are not
/// waited for, from the others, so that it can be read back.
pub fn mark_of(node: &NodeRules, protocol: Protocol, number: u32) -> u32 {
    Marks::new(node.masquerade_mark).mark(number * 2 + u32::from(protocol == Protocol::Udp))
}
