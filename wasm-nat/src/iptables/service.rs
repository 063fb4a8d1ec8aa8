//! The chains of one Service, and where packets to it are handed to them.
//!
//! In: the decisions for a Service and the node's own rules. Out: chains of table `nat` named as kube-proxy names them
//! (`KUBE-SVC-` cluster policy, `KUBE-SVL-` local policy, `KUBE-EXT-` from outside, `KUBE-FW-` source ranges, `KUBE-SEP-`
//! endpoint), and items for the trees of both tables. Not here: the trees, and what every node has (`stock`).

use super::rule::{ChainName, Is, Match, Rule, Verdict};
use super::stock;
use super::tree::Bits;
use crate::address::{Cidr, Family};
use crate::balance::{Balance, Target};
use crate::model::{LocalDetector, ObjectName, Policy, Protocol};
use crate::names;
use crate::ruleset::{At, Entry, EntryKind, NodeRules, Path, Pool, PortRules, ServiceRules};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::rc::Rc;

/// A chain of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: ChainName,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// The port of the Service that it belongs to.
    pub port: Rc<str>,
}

/// The trees: one a table for addresses, one for node ports, and one of ports that are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeName {
    /// nat, virtual addresses.
    NatAddresses,
    /// nat, ports of the node.
    NatNodePorts,
    /// filter, virtual addresses.
    FilterAddresses,
    /// filter, ports of the node.
    FilterNodePorts,
    /// filter, ports of the node at which it answers health checks.
    HealthChecks,
}

impl TreeName {
    /// All of them, by their index.
    pub const ALL: [TreeName; 5] = [
        TreeName::NatAddresses,
        TreeName::NatNodePorts,
        TreeName::FilterAddresses,
        TreeName::FilterNodePorts,
        TreeName::HealthChecks,
    ];

    /// Its items are addresses; otherwise ports of the node.
    pub fn has_addresses(self) -> bool {
        matches!(self, TreeName::NatAddresses | TreeName::FilterAddresses)
    }
}

/// What happens to packets to one address and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whose it is.
    pub service: ObjectName,
    /// Name of its port, maybe empty.
    pub port: Rc<str>,
    /// What the address is to Kubernetes.
    pub kind: EntryKind,
    /// What happens.
    pub action: Action,
}

/// What an item does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// On to a chain.
    Jump(ChainName),
    /// Masqueraded, on to a chain.
    Masquerade(ChainName),
    /// No endpoint anywhere.
    Refuse,
    /// None that this traffic may reach here.
    Drop,
    /// What the named chain of table `nat` has not let through.
    Forbid(ChainName),
    /// Health checks, which a policy of the host may deny.
    Accept,
}

impl Item {
    /// `ns/name:port` and what the rule is for, as kube-proxy's comments say it.
    pub fn comment(&self) -> String {
        let mut text = port_name(&self.service, &self.port);
        let _ = match (&self.action, self.kind) {
            (Action::Refuse, _) => write!(text, " has no endpoints"),
            (Action::Drop, _) => write!(text, " has no local endpoints"),
            (Action::Forbid(chain), _) => write!(text, " traffic not accepted by {chain}"),
            (Action::Accept, _) => write!(text, " health check node port"),
            (_, EntryKind::ClusterIp) => write!(text, " cluster IP"),
            (_, EntryKind::ExternalIp) => write!(text, " external IP"),
            (_, EntryKind::LoadBalancer) => write!(text, " loadbalancer IP"),
            (_, EntryKind::NodePort) => Ok(()),
            (_, EntryKind::Exposed) => write!(text, " exposed port"),
        };
        text
    }

    /// Its rules; `matching` is a rule that matches where the packet goes.
    pub fn rules(&self, matching: impl Fn(Verdict, &str) -> Rule) -> Vec<Rule> {
        let comment = self.comment();
        let rule = |verdict| matching(verdict, &comment);
        match &self.action {
            Action::Jump(chain) => vec![rule(Verdict::Jump(chain.clone()))],
            Action::Masquerade(chain) => {
                vec![rule(Verdict::Jump(stock::MARK_MASQ.into())), rule(Verdict::Jump(chain.clone()))]
            }
            Action::Refuse => vec![rule(Verdict::Reject)],
            Action::Accept => vec![rule(Verdict::Accept)],
            Action::Drop | Action::Forbid(_) => vec![rule(Verdict::Drop)],
        }
    }
}

/// Everything that one Service has in one family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceChains {
    /// In an order in which each names only earlier ones.
    pub chains: Vec<Chain>,
    /// Items with the tree that they belong to.
    pub items: Vec<(TreeName, Bits, Item)>,
}

/// Makes the chains and items of a Service in the family of `node`.
pub fn service_chains(service: &ObjectName, rules: &ServiceRules, node: &NodeRules) -> ServiceChains {
    let mut made = ServiceChains::default();
    let ports: Vec<&PortRules> = rules.ports.iter().filter(|port| port.family == node.family).collect();
    for (place, port) in ports.iter().enumerate() {
        // Kubernetes refuses two ports of one name and protocol; a file may hold them.
        let twins = ports[..place]
            .iter()
            .filter(|other| (&other.name, other.protocol) == (&port.name, port.protocol));
        let names = Names::new(service, port, twins.count());
        Port { service, port, node, names, made: &mut made }.make();
    }
    if let Some(port) = rules.health_check_node_port.filter(|_| !ports.is_empty()) {
        let item = Item {
            service: service.clone(),
            port: "".into(),
            kind: EntryKind::NodePort,
            action: Action::Accept,
        };
        made.items.push((TreeName::HealthChecks, Bits::new(0, Protocol::Tcp, port), item));
    }
    made
}

/// `ns/name:port`, or `ns/name` where the port has no name.
fn port_name(service: &ObjectName, port: &str) -> String {
    if port.is_empty() { service.to_string() } else { format!("{service}:{port}") }
}

/// Names of the chains of a Service port: the first 16 characters of base32(SHA-256(`ns/name:port` + protocol)), and for
/// an endpoint `address:port` after that.
struct Names {
    text: String,
    hash: String,
}

impl Names {
    fn new(service: &ObjectName, port: &PortRules, twin: usize) -> Names {
        let mut text = format!("{}{}", port_name(service, &port.name), port.protocol);
        if twin > 0 {
            let _ = write!(text, "#{twin}");
        }
        let hash = hash16(&text);
        Names { text, hash }
    }

    fn chain(&self, prefix: &str) -> ChainName {
        format!("{prefix}{}", self.hash).into()
    }

    fn endpoint(&self, target: Target) -> ChainName {
        format!("KUBE-SEP-{}", hash16(&format!("{}{target}", self.text))).into()
    }
}

/// The first 16 characters of a hash.
pub fn hash16(text: &str) -> String {
    let mut hash = names::base32_sha256(text);
    hash.truncate(16);
    hash
}

/// The address as the first bits of a tree.
pub fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Whether the match `cluster` can divide these slots: it tells at most 32 parts. Its hash is of the address alone, so it cannot
/// do what Maglev is for; and of an IPv6 address it takes the first 32 bits only (up to Linux 6.18 at least: it counts words where
/// it means bytes), by which all clients of a network are one.
pub fn hashes_sources(port: &PortRules, slots: &[Target]) -> bool {
    port.balance == Balance::SourceHash && port.family == Family::V4 && slots.len() <= 32
}

/// A number for an endpoint, and another one for each further share of it.
fn seed_of(endpoint: &ChainName, share: u32) -> u32 {
    let hash = names::sha256(endpoint.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]).wrapping_add(share.wrapping_mul(0x9e37_79b9))
}

/// The making of one Service port.
struct Port<'a> {
    service: &'a ObjectName,
    port: &'a PortRules,
    node: &'a NodeRules,
    names: Names,
    made: &'a mut ServiceChains,
}

impl<'a> Port<'a> {
    fn make(mut self) {
        let port = self.port;
        let slots = |pool: &'a Option<Pool>| pool.as_ref().map_or(&[][..], Pool::slots);
        let (cluster, local) = (slots(&port.cluster), slots(&port.local));
        let mut endpoints: BTreeMap<Target, ChainName> = BTreeMap::new();
        for target in cluster.iter().chain(local) {
            endpoints.entry(*target).or_insert_with(|| self.names.endpoint(*target));
        }
        for (target, name) in &endpoints {
            let rules = self.endpoint_rules(*target, name);
            self.add(name.clone(), rules);
        }
        for (prefix, policy, slots) in
            [("KUBE-SVC-", Policy::Cluster, cluster), ("KUBE-SVL-", Policy::Local, local)]
        {
            if !slots.is_empty() {
                let mut rules = self.masquerade_rules(policy);
                rules.extend(self.pick_rules(slots, &endpoints));
                self.add(self.names.chain(prefix), rules);
            }
        }
        let mut outside = self.port.entries.iter().filter(|entry| entry.kind != EntryKind::Exposed);
        let policy = outside.find_map(|entry| match entry.path {
            Path::External { policy, .. } => Some(policy),
            Path::Internal(_) => None,
        });
        let reaches =
            |policy: &Policy| !cluster.is_empty() || (*policy == Policy::Local && !local.is_empty());
        if let Some(policy) = policy.filter(reaches) {
            let rules = self.external_rules(policy, !cluster.is_empty(), !local.is_empty());
            self.add(self.names.chain("KUBE-EXT-"), rules);
            if !self.port.source_ranges.is_empty() {
                let external = self.names.chain("KUBE-EXT-");
                let allowed = self.port.source_ranges.iter();
                let rules = allowed.map(|range| Rule::jump(&external).from(*range)).collect();
                self.add(self.names.chain("KUBE-FW-"), rules);
            }
        }
        for entry in &self.port.entries {
            self.dispatch(*entry);
        }
    }

    fn add(&mut self, name: ChainName, rules: Vec<Rule>) {
        self.made.chains.push(Chain { name, rules, port: self.port.name.clone() });
    }

    /// What goes back to the endpoint that it came from would not come back here, were it not masqueraded.
    fn endpoint_rules(&self, target: Target, name: &ChainName) -> Vec<Rule> {
        let mut dnat = Rule::new(Verdict::Dnat(target)).of(self.port.protocol);
        if let Some(seconds) = self.port.affinity_seconds {
            dnat = dnat.when(Match::Remember { list: name.clone(), seconds });
        }
        vec![Rule::jump(&stock::MARK_MASQ.into()).from(Cidr::host(target.address)), dnat]
    }

    /// Traffic to ClusterIPs that go to this pool. The pool is shared with traffic from outside, whose masquerading was
    /// decided before; so the address is matched once more.
    fn masquerade_rules(&self, policy: Policy) -> Vec<Rule> {
        let mut rules = Vec::new();
        for entry in &self.port.entries {
            if let (Path::Internal(of), At::Address(address, number)) = (entry.path, entry.at)
                && of == policy
            {
                let to = |verdict| self.matching(verdict, Cidr::host(address), number);
                let mark = Verdict::Jump(stock::MARK_MASQ.into());
                match (&self.node.local_detector, self.node.masquerade_all) {
                    (_, true) => rules.push(to(mark)),
                    (LocalDetector::None, false) => {}
                    (LocalDetector::Cidrs(ranges), false) => match ranges[..] {
                        [range] if range.prefix() == 0 => {}
                        [range] => rules.push(Rule { source: Some(Is::Other(range)), ..to(mark) }),
                        _ => rules.push(to(Verdict::Jump(stock::MARK_REMOTE.into()))),
                    },
                    (LocalDetector::Interface(name), false) => {
                        rules.push(Rule { input: Some(Is::Other(name.as_str().into())), ..to(mark) });
                    }
                    (LocalDetector::InterfacePrefix(prefix), false) => {
                        rules.push(Rule { input: Some(Is::Other(format!("{prefix}+").into())), ..to(mark) });
                    }
                }
            }
        }
        rules
    }

    fn matching(&self, verdict: Verdict, destination: Cidr, number: u16) -> Rule {
        Rule::new(verdict).to(destination).of(self.port.protocol).when(Match::Ports(number, number))
    }

    /// Remembered clients first, then by chance or by count. The i-th of n endpoints takes 1/(n-i) of what reaches its
    /// rule, the last one takes the rest; with weights, its share of the weights that are left.
    fn pick_rules(&self, slots: &[Target], endpoints: &BTreeMap<Target, ChainName>) -> Vec<Rule> {
        let jump = |target: &Target| Rule::jump(&endpoints[target]);
        let mut shares: BTreeMap<Target, u32> = BTreeMap::new();
        for target in slots {
            *shares.entry(*target).or_default() += 1;
        }
        let mut rules = Vec::new();
        if let Some(seconds) = self.port.affinity_seconds {
            for target in shares.keys() {
                rules.push(jump(target).when(Match::Recall { list: endpoints[target].clone(), seconds }));
            }
        }
        if self.port.balance == Balance::RoundRobin {
            let mut left = slots.len() as u32;
            for target in slots {
                let rule = jump(target);
                rules.push(if left > 1 { rule.when(Match::Every(left)) } else { rule });
                left -= 1;
            }
            return rules;
        }
        if hashes_sources(self.port, slots) {
            // As by chance, but each rule with a die of its own that falls the same for the same client on every node. An
            // endpoint more or less changes the odds of the others a little, so few clients move.
            let mut of = slots.len() as u32;
            for (place, target) in slots.iter().enumerate() {
                let rule = jump(target);
                let share = slots[..place].iter().filter(|earlier| *earlier == target).count();
                let seed = seed_of(&endpoints[target], share as u32);
                rules.push(if of > 1 { rule.when(Match::SourceHash { of, seed }) } else { rule });
                of -= 1;
            }
            return rules;
        }
        let mut of: u32 = shares.values().sum();
        for (target, share) in shares {
            let rule = jump(&target);
            rules.push(if share < of { rule.when(Match::Chance { share, of }) } else { rule });
            of -= share;
        }
        rules
    }

    fn external_rules(&self, policy: Policy, cluster: bool, local: bool) -> Vec<Rule> {
        let (mark, everywhere) = (stock::MARK_MASQ.into(), self.names.chain("KUBE-SVC-"));
        if policy == Policy::Cluster {
            return vec![Rule::jump(&mark), Rule::jump(&everywhere)];
        }
        let mut rules = Vec::new();
        if cluster {
            // From a pod, as if it had left the cluster and come back; so it keeps its address.
            match &self.node.local_detector {
                LocalDetector::None => {}
                LocalDetector::Cidrs(ranges) => {
                    rules.extend(ranges.iter().map(|range| Rule::jump(&everywhere).from(*range)));
                }
                LocalDetector::Interface(name) => {
                    rules.push(Rule {
                        input: Some(Is::This(name.as_str().into())),
                        ..Rule::jump(&everywhere)
                    });
                }
                LocalDetector::InterfacePrefix(prefix) => {
                    let input = Some(Is::This(format!("{prefix}+").into()));
                    rules.push(Rule { input, ..Rule::jump(&everywhere) });
                }
            }
            rules.push(Rule::jump(&mark).when(Match::SourceIsLocal));
            rules.push(Rule::jump(&everywhere).when(Match::SourceIsLocal));
        }
        if local {
            rules.push(Rule::jump(&self.names.chain("KUBE-SVL-")));
        }
        rules
    }

    /// Where packets to one address go. Those that `nat` leaves alone come to `filter` as they are.
    fn dispatch(&mut self, entry: Entry) {
        let Port { port, names, .. } = self;
        let (policy, external) = match entry.path {
            Path::Internal(policy) => (policy, false),
            Path::External { policy, .. } => (policy, true),
        };
        let restricted = matches!(entry.path, Path::External { restricted: true, .. });
        let usable = |policy| !port.pool(policy).map_or(&[][..], Pool::slots).is_empty();
        let refused = [&port.cluster, &port.local].into_iter().any(|pool| *pool == Some(Pool::Refuse));
        let (nat, filter) = match (external, policy) {
            _ if refused => (None, Some(Action::Refuse)),
            (false, _) if usable(policy) => {
                let prefix = if policy == Policy::Local { "KUBE-SVL-" } else { "KUBE-SVC-" };
                (Some(Action::Jump(names.chain(prefix))), None)
            }
            (false, _) => (None, Some(Action::Drop)),
            (true, Policy::Cluster) if !usable(Policy::Cluster) => (None, Some(Action::Drop)),
            // A port that a ConfigMap exposes is under policy Cluster whatever the Service's is.
            (true, _) if entry.kind == EntryKind::Exposed => {
                (Some(Action::Masquerade(names.chain("KUBE-SVC-"))), None)
            }
            (true, _) if restricted => {
                let firewall = names.chain("KUBE-FW-");
                let allowed =
                    !port.source_ranges.is_empty() && (usable(Policy::Cluster) || usable(Policy::Local));
                (allowed.then(|| Action::Jump(firewall.clone())), Some(Action::Forbid(firewall)))
            }
            (true, _) => {
                let here = policy == Policy::Cluster || usable(Policy::Local);
                let reaches = usable(Policy::Cluster) || usable(Policy::Local);
                let external = reaches.then(|| Action::Jump(names.chain("KUBE-EXT-")));
                (external, (!here).then_some(Action::Drop))
            }
        };
        let (nat_tree, filter_tree, bits) = match entry.at {
            At::Address(address, number) => (
                TreeName::NatAddresses,
                TreeName::FilterAddresses,
                Bits::new(address_bits(address), port.protocol, number),
            ),
            At::NodePort(number) => {
                (TreeName::NatNodePorts, TreeName::FilterNodePorts, Bits::new(0, port.protocol, number))
            }
        };
        let item = |action| Item {
            service: self.service.clone(),
            port: port.name.clone(),
            kind: entry.kind,
            action,
        };
        self.made.items.extend(nat.map(|action| (nat_tree, bits, item(action))));
        self.made.items.extend(filter.map(|action| (filter_tree, bits, item(action))));
    }
}

/// The rule for one address and port, or for one node port where there is no address.
pub fn matching(family: Family, tree: TreeName, bits: Bits) -> impl Fn(Verdict, &str) -> Rule {
    move |verdict, comment| {
        let rule = Rule::new(verdict).of(bits.protocol()).saying(comment);
        let rule = rule.when(Match::Ports(bits.port(), bits.port()));
        match tree.has_addresses() {
            true => rule.to(Cidr::host(address_of(family, bits.address))),
            false => rule,
        }
    }
}

/// The address that the first bits of a tree are.
pub fn address_of(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from(((bits >> 96) as u32).to_be_bytes()),
        Family::V6 => IpAddr::from(bits.to_be_bytes()),
    }
}
