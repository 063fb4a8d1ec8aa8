//! What each address of each Service does to a packet: the decisions, before any backend gives them a shape.
//!
//! In: made by `compile`. Out: data that every backend renders and every test reads. Not here: chains, maps, names in
//! the kernel.

use crate::address::{Cidr, Family};
use crate::balance::{Balance, Scheduler, Target};
use crate::hash::Hashed;
use crate::model::{LocalDetector, ObjectName, Policy, Protocol};
use std::net::IpAddr;
use std::rc::Rc;

/// All decisions for one node. Equal models give equal rule sets, but for the order of slots (see [`Pool::Slots`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// What does not belong to one Service; one a family that is programmed.
    pub node: Vec<NodeRules>,
    /// By Service; one without any rule is absent.
    pub services: Hashed<ObjectName, ServiceRules>,
}

impl RuleSet {
    /// The node's own rules in `family`, if it is programmed.
    pub fn node(&self, family: Family) -> Option<&NodeRules> {
        self.node.iter().find(|rules| rules.family == family)
    }
}

/// What holds for every Service on this node, in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRules {
    /// The family.
    pub family: Family,
    /// Which traffic counts as coming from a pod. `Cidrs` holds only ranges of this family, disjoint, and is never empty.
    pub local_detector: LocalDetector,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// Drop forwarded packets that the connection table calls invalid.
    pub drop_invalid: bool,
    /// The bit of the packet mark that asks for masquerading.
    pub masquerade_mark: u32,
    /// Where node ports are.
    pub node_ports: NodePortMatch,
    /// Loopback addresses were named for node ports: with nftables they have them then (IPv4).
    pub names_loopback: bool,
    /// Addresses of Services; one that belongs to none is dropped. Disjoint.
    pub service_cidrs: Vec<Cidr>,
    /// The node's own addresses in this family, for the simulator: the kernel asks its routing table.
    pub addresses: Vec<IpAddr>,
    /// What belongs to somebody else (IPVS). Disjoint.
    pub excluded: Vec<Cidr>,
}

impl NodeRules {
    /// For a node of which nothing is known.
    pub fn nothing(family: Family) -> NodeRules {
        NodeRules {
            family,
            local_detector: LocalDetector::None,
            masquerade_all: false,
            drop_invalid: false,
            masquerade_mark: 1 << 14,
            node_ports: NodePortMatch::All,
            names_loopback: false,
            service_cidrs: Vec::new(),
            addresses: Vec::new(),
            excluded: Vec::new(),
        }
    }
}

/// The addresses of a node that have node ports; what becomes of loopback each backend knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortMatch {
    /// Every address that the kernel calls local.
    All,
    /// Some of them.
    Some {
        /// These very addresses.
        addresses: Vec<IpAddr>,
        /// Every local address in these ranges. Disjoint.
        ranges: Vec<Cidr>,
    },
}

/// The decisions for one Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceRules {
    /// ClusterIPs whose undefined ports are this Service's to refuse: its own, unless an older Service has the same.
    pub cluster_ips: Vec<IpAddr>,
    /// A TCP port of the node at which health checks are to be let in (iptables, IPVS).
    pub health_check_node_port: Option<u16>,
    /// One for each family and port, in order of family, then of `spec.ports`.
    pub ports: Vec<PortRules>,
}

/// The decisions for one port of one Service in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRules {
    /// The family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// Name of the port, maybe empty.
    pub name: Rc<str>,
    /// The addresses at which it is reached; sorted.
    pub entries: Vec<Entry>,
    /// For traffic under policy Cluster; `None` when no entry asks.
    pub cluster: Option<Pool>,
    /// For traffic under policy Local; `None` when no entry asks.
    pub local: Option<Pool>,
    /// Seconds for which a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How IPVS shall choose, where `balance` does not say it.
    pub scheduler: Option<Scheduler>,
    /// Who may reach the restricted entries. Disjoint; of nothing: nobody.
    pub source_ranges: Vec<Cidr>,
}

impl PortRules {
    /// The pool that traffic under `policy` goes to.
    pub fn pool(&self, policy: Policy) -> Option<&Pool> {
        match policy {
            Policy::Cluster => self.cluster.as_ref(),
            Policy::Local => self.local.as_ref(),
        }
    }
}

/// One way to reach a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What a packet is addressed to.
    pub at: At,
    /// What it is to Kubernetes.
    pub kind: EntryKind,
    /// What happens to the packet on its way to a pool.
    pub path: Path,
}

/// What a packet is addressed to; the protocol is that of the [`PortRules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// A virtual address.
    Address(IpAddr, u16),
    /// An address of the node that has node ports.
    NodePort(u16),
}

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.ports[].nodePort`.
    NodePort,
    /// A ConfigMap of exposed services.
    Exposed,
}

impl EntryKind {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            EntryKind::ClusterIp => "ClusterIP",
            EntryKind::ExternalIp => "external IP",
            EntryKind::LoadBalancer => "load balancer IP",
            EntryKind::NodePort => "node port",
            EntryKind::Exposed => "exposed port",
        }
    }
}

/// What happens to a packet between its entry and a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// ClusterIP: masqueraded if the settings ask for it, or when it does not come from a pod.
    Internal(Policy),
    /// From outside.
    ///
    /// - Policy Cluster: masqueraded, then the cluster pool.
    /// - Policy Local: from a pod, the cluster pool as it is; from the node, masqueraded and the cluster pool; else the
    ///   local pool, so that the client's address is kept.
    ///
    /// `restricted`: sources outside of [`PortRules::source_ranges`] are dropped before anything else.
    External {
        /// `externalTrafficPolicy`, or Cluster for an exposed port.
        policy: Policy,
        /// `loadBalancerSourceRanges` apply.
        restricted: bool,
    },
}

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// One of these, each as often as its share; never empty. A backend keeps endpoints at their places between changes,
    /// so two rule sets are the same when their slots are the same in any order.
    Slots(Vec<Target>),
    /// No endpoint anywhere: ICMP port unreachable.
    Refuse,
    /// Endpoints, but none that this traffic may reach here: silence.
    Drop,
}

impl Pool {
    /// The slots; none for the other kinds.
    pub fn slots(&self) -> &[Target] {
        match self {
            Pool::Slots(slots) => slots,
            Pool::Refuse | Pool::Drop => &[],
        }
    }
}
