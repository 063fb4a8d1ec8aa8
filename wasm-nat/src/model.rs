//! What the compiler knows of the cluster: typed, canonical, complete. Nothing here reads text of Kubernetes.
//!
//! In: values made by `abi::wire` (or by a test). Out: types. Not here: what any of it means for a packet.

use crate::address::{Cidr, Family};
use crate::balance::{Balance, Scheduler, Weights};
use crate::hash::Hashed;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

/// `namespace/name`. Cheap to clone: the text is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Rc<str>);

impl ObjectName {
    /// From the two parts.
    pub fn new(namespace: &str, name: &str) -> ObjectName {
        let mut text = String::with_capacity(namespace.len() + 1 + name.len());
        text.push_str(namespace);
        text.push('/');
        text.push_str(name);
        ObjectName(text.into())
    }

    /// From `namespace/name`; `None` if there is no slash or a part is empty.
    pub fn parse(text: &str) -> Option<ObjectName> {
        // Byte by byte: a search that is made for long texts takes longer to begin than a name is long.
        let slash = text.bytes().position(|byte| byte == b'/')?;
        let mut name = text.bytes().skip(slash + 1);
        let fits = slash > 0 && name.len() > 0 && !name.any(|byte| byte == b'/');
        fits.then(|| ObjectName(text.into()))
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transport protocol that a Service port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
}

impl Protocol {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Lower case, as the kernel's tools spell it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// From either spelling: `TCP` or `tcp`.
    pub fn parse(text: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints of this node.
    Local,
}

/// A Service, as far as NAT is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// When it was made: seconds and nanoseconds of UTC. A Service without one counts as younger than any with one.
    pub created: Option<(i64, u32)>,
    /// Why there is nothing to program, if so.
    pub ignored: Option<Ignored>,
    /// At most one an address family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses in `status.loadBalancer.ingress` whose `ipMode` is `VIP` or absent.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; `None` when there is none, `Some` of nothing when none could be read: closed.
    pub source_ranges: Option<Vec<Cidr>>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: Policy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: Policy,
    /// `spec.healthCheckNodePort`, where load balancers ask for the node's own endpoints.
    pub health_check_node_port: Option<u16>,
    /// Seconds of `sessionAffinity: ClientIP`.
    pub affinity_seconds: Option<u32>,
    /// How a new connection chooses its endpoint: annotation `fairlead.dev/balance`.
    pub balance: Balance,
    /// Annotation `fairlead.dev/weights`; `None` when all endpoints weigh the same.
    pub weights: Option<Weights>,
    /// Annotation `fairlead.dev/ipvs-scheduler`; only IPVS looks at it, and it goes before `balance`.
    pub scheduler: Option<Scheduler>,
}

impl Service {
    /// A Service of type ClusterIP without ports, to be filled in.
    pub fn new(name: ObjectName) -> Service {
        Service {
            name,
            created: None,
            ignored: None,
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: None,
            ports: Vec::new(),
            internal_policy: Policy::Cluster,
            external_policy: Policy::Cluster,
            health_check_node_port: None,
            affinity_seconds: None,
            balance: Balance::Random,
            weights: None,
            scheduler: None,
        }
    }

    /// The ClusterIP of `family`. Without one a Service has nothing in that family, node ports included.
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        if self.ignored.is_some() {
            return None;
        }
        self.cluster_ips.iter().copied().find(|address| Family::of(*address) == family)
    }
}

/// Why a Service is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// `clusterIP: None`, or no ClusterIP at all.
    Headless,
    /// `type: ExternalName`.
    ExternalName,
    /// Label `service.kubernetes.io/service-proxy-name`: another proxy takes care of it.
    OtherProxy,
    /// Label `service.kubernetes.io/headless`.
    HeadlessLabel,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for a single unnamed port.
    pub name: Rc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// At ClusterIPs, external IPs and load balancer addresses.
    pub port: u16,
    /// At the node's addresses; `None` when there is none.
    pub node_port: Option<u16>,
}

/// An EndpointSlice of one family.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// Its name.
    pub name: ObjectName,
    /// Label `kubernetes.io/service-name`, in the slice's namespace.
    pub service: ObjectName,
    /// `addressType`; `None` for FQDN, which holds nothing that a kernel could dial.
    pub family: Option<Family>,
    /// Its ports; those without a number are left out.
    pub ports: Vec<EndpointPort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One entry of a slice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Matches the name of the Service port.
    pub name: Rc<str>,
    /// Matches the protocol of the Service port.
    pub protocol: Protocol,
    /// Where the endpoint listens.
    pub port: u16,
}

/// One entry of a slice's `endpoints`.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The first address; the API calls further ones fungible.
    pub address: IpAddr,
    /// nil in the API means ready.
    pub ready: bool,
    /// nil in the API means the same as ready.
    pub serving: bool,
    /// Being deleted.
    pub terminating: bool,
    /// Where it runs.
    pub node: Option<Name>,
    /// Where that is.
    pub zone: Option<Name>,
    /// `hints.forZones`.
    pub hint_zones: Vec<Name>,
    /// `hints.forNodes`.
    pub hint_nodes: Vec<Name>,
}

/// The name of a node or zone, as a number of [`Names`]. Endpoints share few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(u32);

/// Names of nodes and zones, each stored once and for good: a cluster has few. Names of ports, each stored once for as long as
/// a port has it: who may make Services chooses them.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: Hashed<Rc<str>, Name>,
    texts: Vec<Rc<str>>,
    of_ports: Hashed<Rc<str>, ()>,
    /// So many names of ports there may be before those that nobody has any more are looked for.
    most_of_ports: usize,
}

const LEAST_PORT_NAMES: usize = 256;

impl Names {
    /// The number of a name, given on first sight.
    pub fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).expect("fewer than 2^32 names"));
        let shared: Rc<str> = text.into();
        self.texts.push(shared.clone());
        self.numbers.insert(shared, name);
        name
    }

    /// The text of a number.
    pub fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }

    /// The name of a port, shared with all who ask for the same.
    pub fn of_port(&mut self, text: &str) -> Rc<str> {
        if let Some((shared, ())) = self.of_ports.get_key_value(text) {
            return shared.clone();
        }
        if self.of_ports.len() >= self.most_of_ports {
            self.of_ports.retain(|name, ()| Rc::strong_count(name) > 1);
            self.most_of_ports = (2 * self.of_ports.len()).max(LEAST_PORT_NAMES);
        }
        let shared: Rc<str> = text.into();
        self.of_ports.insert(shared.clone(), ());
        shared
    }
}

/// The node that the rules are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// `metadata.name`; endpoints with this `nodeName` are local.
    pub name: Option<Name>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Name>,
    /// Its addresses, the primary one of each family first.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// The address that stands for the node in `family`.
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

/// Which kernel interface the rules are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// One table a family, few chains, large maps.
    #[default]
    Nftables,
    /// `iptables-restore --noflush`, legacy or nft variant.
    Iptables,
    /// Virtual servers; for those who come from kube-proxy's IPVS mode.
    Ipvs,
}

/// Which traffic counts as coming from a pod of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// Unknown: then ClusterIP traffic is not masqueraded, and nothing takes the short cut of external policy Local.
    #[default]
    None,
    /// A source address in one of these ranges. A family without a range has no detector.
    Cidrs(Vec<Cidr>),
    /// Came in by this interface (a bridge of pods).
    Interface(String),
    /// Came in by an interface whose name starts so.
    InterfacePrefix(String),
}

/// Which addresses of the node have node ports. Several may be combined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The primary address of each family.
    Primary,
    /// Every address of the node but loopback.
    All,
    /// The node's addresses in this range.
    Range(Cidr),
}

/// A port of the node that a ConfigMap exposes (ingress-nginx's TCP and UDP services).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedService {
    /// Of the node's port and of the Service's.
    pub protocol: Protocol,
    /// At every address that has node ports.
    pub node_port: u16,
    /// Whose port.
    pub service: ObjectName,
    /// Which of its ports.
    pub port: ExposedPort,
}

/// How a ConfigMap names a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExposedPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(Rc<str>),
}

/// What the operator chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The renderer.
    pub backend: BackendKind,
    /// Families to program, in the order of [`Family::BOTH`].
    pub families: Vec<Family>,
    /// Which traffic counts as coming from a pod.
    pub local_detector: LocalDetector,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// Drop what the connection table calls invalid (iptables, IPVS): where it is not liberal about TCP windows, answers of
    /// asymmetric routes would reach clients untranslated, who would end the connection.
    pub drop_invalid: bool,
    /// The one bit of the packet mark that asks for masquerading: 14 means 0x4000, kube-proxy's default.
    pub masquerade_bit: u8,
    /// Which addresses have node ports.
    pub node_port_addresses: Vec<NodePortAddresses>,
    /// The cluster's Service ranges, if known: addresses in them that belong to no Service are dropped (nftables).
    pub service_cidrs: Vec<Cidr>,
    /// Ports exposed by ConfigMaps.
    pub exposed: Vec<ExposedService>,
    /// The scheduler of Services that name none (IPVS).
    pub ipvs_scheduler: Option<Scheduler>,
    /// Virtual servers and addresses in these ranges belong to somebody else: they are left alone (IPVS).
    pub ipvs_excluded: Vec<Cidr>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            backend: BackendKind::Nftables,
            families: Family::BOTH.to_vec(),
            local_detector: LocalDetector::None,
            masquerade_all: false,
            drop_invalid: false,
            masquerade_bit: 14,
            node_port_addresses: vec![NodePortAddresses::Primary],
            service_cidrs: Vec::new(),
            exposed: Vec::new(),
            ipvs_scheduler: None,
            ipvs_excluded: Vec::new(),
        }
    }
}

impl Settings {
    /// The packet mark that asks for masquerading.
    pub fn masquerade_mark(&self) -> u32 {
        1 << (self.masquerade_bit & 31)
    }
}

/// What stands in the way of what somebody asked for, as data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Kind of the object, as Kubernetes spells it.
    pub kind: &'static str,
    /// `namespace/name`, or a bare name.
    pub object: String,
    /// Where in the object.
    pub field: Option<String>,
    /// One sentence: what came, what was expected, what happens now.
    pub message: String,
}

/// Severities, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was asked for is not done.
    Error,
    /// Done, with a difference worth knowing.
    Warning,
    /// A note.
    Info,
}

impl Diagnostic {
    /// About a Service.
    pub fn service(severity: Severity, service: &ObjectName, field: &str, message: String) -> Diagnostic {
        Diagnostic {
            severity,
            kind: "Service",
            object: service.to_string(),
            field: (!field.is_empty()).then(|| field.to_owned()),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_are_shared_and_go_with_their_last_port() {
        let mut names = Names::default();
        let kept: Vec<Rc<str>> = (0..300).map(|number| names.of_port(&format!("kept-{number}"))).collect();
        for number in 0..100_000 {
            names.of_port(&format!("gone-{number}"));
        }
        assert!(names.of_ports.len() <= 2 * kept.len(), "{} names", names.of_ports.len());
        for name in &kept {
            assert!(Rc::ptr_eq(&names.of_port(name), name));
        }
    }
}
