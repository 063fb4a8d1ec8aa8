//! ipsets and their elements as typed values: printed here, read back by `listing`, walked by `tables`.
//!
//! They let a constant number of iptables rules know every Service. Names and types are those of kube-proxy's IPVS mode
//! where it has the same set, so that a node can be taken over while it serves; two sets are ours alone.

use crate::address::{Cidr, Family};
use crate::model::{Protocol, Severity};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// The sets of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// ClusterIPs and ports.
    ClusterIp,
    /// External IPs and ports under policy Cluster.
    ExternalIp,
    /// External IPs and ports under policy Local.
    ExternalIpLocal,
    /// Load balancer addresses and ports.
    LoadBalancer,
    /// Those of them under policy Local.
    LoadBalancerLocal,
    /// Those of them that not everybody may reach.
    LoadBalancerFirewall,
    /// Who may reach those.
    LoadBalancerSourceCidr,
    /// Node ports.
    NodePort(Protocol),
    /// Those of them under policy Local.
    NodePortLocal(Protocol),
    /// Ports at which the node answers health checks of load balancers.
    HealthCheckNodePort,
    /// Endpoint, port, and the endpoint again: what it sends to itself.
    LoopBack,
    /// Addresses that are on the dummy link.
    IpvsIps,
    /// Address and port under policy Local → mark of the virtual server for traffic from pods and from the node.
    InCluster,
    /// Address and port whose endpoints are all elsewhere, where they may not be reached.
    NoLocalEndpoints,
}

impl SetName {
    /// All of them, in the order in which they are made.
    pub const ALL: [SetName; 18] = [
        SetName::ClusterIp,
        SetName::ExternalIp,
        SetName::ExternalIpLocal,
        SetName::LoadBalancer,
        SetName::LoadBalancerLocal,
        SetName::LoadBalancerFirewall,
        SetName::LoadBalancerSourceCidr,
        SetName::NodePort(Protocol::Tcp),
        SetName::NodePort(Protocol::Udp),
        SetName::NodePort(Protocol::Sctp),
        SetName::NodePortLocal(Protocol::Tcp),
        SetName::NodePortLocal(Protocol::Udp),
        SetName::NodePortLocal(Protocol::Sctp),
        SetName::HealthCheckNodePort,
        SetName::LoopBack,
        SetName::IpvsIps,
        SetName::InCluster,
        SetName::NoLocalEndpoints,
    ];

    /// Its name in the kernel.
    pub fn name(self, family: Family) -> String {
        let prefix = match family {
            Family::V4 => "KUBE-",
            Family::V6 => "KUBE-6-",
        };
        let mut name = format!("{prefix}{}", self.suffix());
        // The kernel's limit; kube-proxy cuts its names at the same place.
        name.truncate(31);
        name
    }

    fn suffix(self) -> &'static str {
        match self {
            SetName::ClusterIp => "CLUSTER-IP",
            SetName::ExternalIp => "EXTERNAL-IP",
            SetName::ExternalIpLocal => "EXTERNAL-IP-LOCAL",
            SetName::LoadBalancer => "LOAD-BALANCER",
            SetName::LoadBalancerLocal => "LOAD-BALANCER-LOCAL",
            SetName::LoadBalancerFirewall => "LOAD-BALANCER-FW",
            SetName::LoadBalancerSourceCidr => "LOAD-BALANCER-SOURCE-CIDR",
            SetName::NodePort(Protocol::Tcp) => "NODE-PORT-TCP",
            SetName::NodePort(Protocol::Udp) => "NODE-PORT-UDP",
            SetName::NodePort(Protocol::Sctp) => "NODE-PORT-SCTP-HASH",
            SetName::NodePortLocal(Protocol::Tcp) => "NODE-PORT-LOCAL-TCP",
            SetName::NodePortLocal(Protocol::Udp) => "NODE-PORT-LOCAL-UDP",
            SetName::NodePortLocal(Protocol::Sctp) => "NODE-PORT-LOCAL-SCTP-HASH",
            SetName::HealthCheckNodePort => "HEALTH-CHECK-NODE-PORT",
            SetName::LoopBack => "LOOP-BACK",
            SetName::IpvsIps => "IPVS-IPS",
            SetName::InCluster => "IPVS-IN-CLUSTER",
            SetName::NoLocalEndpoints => "IPVS-NO-LOCAL",
        }
    }

    /// The set of a kernel's name.
    pub fn parse(name: &str) -> Option<(Family, SetName)> {
        let mut all = Family::BOTH.into_iter().flat_map(|family| SetName::ALL.map(|set| (family, set)));
        all.find(|(family, set)| set.name(*family) == name)
    }

    /// What it is made of. `bitmap:port` knows TCP and UDP only, hence the hash for SCTP.
    pub fn kind(self) -> &'static str {
        match self {
            SetName::LoadBalancerSourceCidr => "hash:ip,port,net",
            SetName::NodePort(Protocol::Tcp | Protocol::Udp)
            | SetName::NodePortLocal(Protocol::Tcp | Protocol::Udp)
            | SetName::HealthCheckNodePort => "bitmap:port",
            SetName::LoopBack => "hash:ip,port,ip",
            SetName::IpvsIps => "hash:ip",
            _ => "hash:ip,port",
        }
    }

    /// A full set refuses elements, and then Services silently fail (kubernetes/kubernetes#129389: the default is
    /// 65536). The number is a limit only; memory is taken as elements come.
    pub fn most_elements(self) -> usize {
        match self.kind() {
            "bitmap:port" => 1 << 16,
            // All endpoints of the cluster, each port and protocol by itself.
            "hash:ip,port,ip" => 1 << 22,
            _ => 1 << 20,
        }
    }

    /// The rest of the line that makes it, as `ipset save` prints it up to what the kernel chose.
    pub fn header(self, family: Family) -> String {
        let kind = self.kind();
        if kind == "bitmap:port" {
            return format!("{kind} range 0-65535");
        }
        let family = match family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        let marks = if self == SetName::InCluster { " skbinfo" } else { "" };
        format!("{kind} family {family} hashsize 1024 maxelem {}{marks}", self.most_elements())
    }

    /// Whether a set with this header (after the name) serves: the kernel grows hashes by itself, so their size and seed
    /// do not count, and a set of somebody else's with another limit has to be replaced.
    pub fn fits(self, family: Family, header: &str) -> bool {
        let words = |text: &str| {
            let mut words: Vec<String> = Vec::new();
            let mut rest = text.split_whitespace();
            while let Some(word) = rest.next() {
                match word {
                    "hashsize" | "bucketsize" | "initval" => drop(rest.next()),
                    word => words.push(word.to_owned()),
                }
            }
            words
        };
        words(header) == words(&self.header(family))
    }
}

/// How bad it is that a set holds so many.
pub fn fullness(elements: usize, most: usize) -> Option<Severity> {
    match elements {
        _ if elements > most => Some(Severity::Error),
        _ if elements.saturating_mul(5) >= most.saturating_mul(4) => Some(Severity::Warning),
        _ => None,
    }
}

/// What identifies an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `172.30.0.41,tcp:80`
    At(IpAddr, Protocol, u16),
    /// `10.180.0.1,tcp:80,10.180.0.1`
    Itself(IpAddr, Protocol, u16),
    /// `198.51.100.1,tcp:80,203.0.113.0/24`; never all addresses, which the kernel refuses.
    From(IpAddr, Protocol, u16, Cidr),
    /// `30080`
    Port(u16),
    /// `172.30.0.41`
    Address(IpAddr),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::At(address, protocol, port) => write!(f, "{address},{protocol}:{port}"),
            Key::Itself(address, protocol, port) => write!(f, "{address},{protocol}:{port},{address}"),
            Key::From(address, protocol, port, range) => write!(f, "{address},{protocol}:{port},{range}"),
            Key::Port(port) => write!(f, "{port}"),
            Key::Address(address) => write!(f, "{address}"),
        }
    }
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Of which family's sets.
    pub family: Family,
    /// Which set.
    pub set: SetName,
    /// What.
    pub key: Key,
    /// The mark that it stands for; [`SetName::InCluster`] only.
    pub mark: Option<u32>,
}

impl Entry {
    /// Line of `ipset restore` that adds it, or gives it its mark.
    pub fn print_add(&self, set: &str, out: &mut String) {
        let _ = write!(out, "add {set} {}", self.key);
        if let Some(mark) = self.mark {
            let _ = write!(out, " skbmark {mark:#010x}");
        }
        out.push_str(" -exist\n");
    }

    /// Line of `ipset restore` that takes it away.
    pub fn print_delete(&self, out: &mut String) {
        let _ = writeln!(out, "del {} {} -exist", self.set.name(self.family), self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for set in SetName::ALL {
            for family in Family::BOTH {
                assert!(set.name(family).len() <= 31, "the kernel's limit: {}", set.name(family));
                assert_eq!(SetName::parse(&set.name(family)), Some((family, set)));
            }
        }
        let health_checks = SetName::HealthCheckNodePort;
        assert_eq!(SetName::parse("KUBE-HEALTH-CHECK-NODE-PORT"), Some((Family::V4, health_checks)));
        assert_eq!(SetName::parse("KUBE-6-HEALTH-CHECK-NODE-PORT"), Some((Family::V6, health_checks)));
        assert_eq!(SetName::parse("KUBE-LOAD-BALANCER-SOURCE-IP"), None);
        assert_eq!(SetName::parse("cali40masq-ipam-pools"), None);
    }

    #[test]
    fn a_set_fits_by_type_and_limit() {
        let listed =
            "hash:ip,port family inet hashsize 4096 maxelem 1048576 bucketsize 12 initval 0xe5351062";
        assert!(SetName::ClusterIp.fits(Family::V4, listed));
        assert!(!SetName::ClusterIp.fits(Family::V6, listed));
        assert!(!SetName::InCluster.fits(Family::V4, listed), "it has no marks");
        // As kube-proxy makes it.
        assert!(!SetName::ClusterIp.fits(Family::V4, "hash:ip,port family inet hashsize 1024 maxelem 65536"));
        assert!(SetName::NodePort(Protocol::Tcp).fits(Family::V6, "bitmap:port range 0-65535"));
    }

    #[test]
    fn a_set_complains_before_it_is_full() {
        assert_eq!(fullness(79, 100), None);
        assert_eq!(fullness(80, 100), Some(Severity::Warning));
        assert_eq!(fullness(100, 100), Some(Severity::Warning));
        assert_eq!(fullness(101, 100), Some(Severity::Error));
    }
}
