//! One Service and its endpoints → what each of its addresses does.
//!
//! In: a Service, its EndpointSlices, the node and the settings, and who owns contested addresses. Out:
//! [`ServiceRules`] and diagnostics. Nothing here remembers anything: the same input gives the same output, so a change
//! of one Service is compiled alone. Not here: the shape that a backend gives it.
//!
//! The order of the families, ports and entries is fixed; slots are in order of their targets.

use crate::address::{Cidr, Family, disjoint};
use crate::balance::{Balance, Target, slots};
use crate::claims::{Claim, Claimant, Claims};
use crate::endpoints::{Reach, is_local, select};
use crate::model::{
    BackendKind, Diagnostic, Endpoint, EndpointSlice, ExposedPort, ExposedService, LocalDetector, Node,
    NodePortAddresses, ObjectName, Policy, Protocol, Service, ServicePort, Settings, Severity,
};
use crate::ruleset::{At, Entry, EntryKind, NodePortMatch, NodeRules, Path, Pool, PortRules, ServiceRules};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What a Service is compiled against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The node.
    pub node: &'a Node,
    /// The settings.
    pub settings: &'a Settings,
}

/// The node's own rules, one for each family that is programmed.
pub fn compile_node(context: Context<'_>) -> Vec<NodeRules> {
    let Context { node, settings } = context;
    let of = |family: Family, ranges: &[Cidr]| -> Vec<Cidr> {
        disjoint(ranges.iter().copied().filter(|range| range.family() == family))
    };
    let rules = |family: Family| NodeRules {
        family,
        local_detector: match &settings.local_detector {
            LocalDetector::Cidrs(ranges) => match of(family, ranges) {
                ranges if ranges.is_empty() => LocalDetector::None,
                ranges => LocalDetector::Cidrs(ranges),
            },
            other => other.clone(),
        },
        masquerade_all: settings.masquerade_all,
        drop_invalid: settings.drop_invalid,
        masquerade_mark: settings.masquerade_mark(),
        node_ports: node_port_match(family, context),
        names_loopback: names_loopback(family, settings),
        service_cidrs: of(family, &settings.service_cidrs),
        addresses: node.addresses.iter().copied().filter(|address| Family::of(*address) == family).collect(),
        excluded: of(family, &settings.ipvs_excluded),
    };
    settings.families.iter().map(|family| rules(*family)).collect()
}

fn node_port_match(family: Family, Context { node, settings }: Context<'_>) -> NodePortMatch {
    let mut addresses = BTreeSet::new();
    let mut ranges = Vec::new();
    for choice in &settings.node_port_addresses {
        match choice {
            NodePortAddresses::All => return NodePortMatch::All,
            NodePortAddresses::Primary => addresses.extend(node.primary(family)),
            NodePortAddresses::Range(range) if range.family() != family => {}
            NodePortAddresses::Range(range) if range.prefix() == family.bits() => {
                addresses.insert(range.address());
            }
            NodePortAddresses::Range(range) => ranges.push(*range),
        }
    }
    NodePortMatch::Some { addresses: addresses.into_iter().collect(), ranges: disjoint(ranges) }
}

/// Whether somebody asks for node ports at 127.0.0.1 and not just at every address. ::1 cannot have any: an answer that is
/// translated back to it has no route, since IPv6 knows that address on the link `lo` alone and has no `route_localnet`.
fn names_loopback(family: Family, settings: &Settings) -> bool {
    let is_loopback = |choice: &NodePortAddresses| matches!(choice, NodePortAddresses::Range(range) if range.family() == family && range.address().is_loopback());
    family == Family::V4 && settings.node_port_addresses.iter().any(is_loopback)
}

/// Everything that the Service would own if it were alone, with who claims it.
pub fn claims_of(service: &Service, context: Context<'_>) -> Vec<(Claim, Claimant)> {
    let own = Claimant::new(service, false);
    let mut claims = Vec::new();
    for family in &context.settings.families {
        let Some(cluster_ip) = service.cluster_ip(*family) else { continue };
        claims.push((Claim::ClusterIp(cluster_ip), own.clone()));
        let health_check = service.health_check_node_port;
        claims.extend(health_check.map(|port| (Claim::NodePort(*family, Protocol::Tcp, port), own.clone())));
        for port in &service.ports {
            for (at, kind) in places(service, port, *family, context) {
                let claimant =
                    if kind == EntryKind::Exposed { Claimant::new(service, true) } else { own.clone() };
                claims.push((claim(at, *family, port), claimant));
            }
        }
    }
    claims
}

fn claim(at: At, family: Family, port: &ServicePort) -> Claim {
    match at {
        At::Address(address, number) => Claim::Address(address, port.protocol, number),
        At::NodePort(number) => Claim::NodePort(family, port.protocol, number),
    }
}

/// Where a Service port wants to be reached in a family, in the order of precedence within one Service.
fn places(
    service: &Service,
    port: &ServicePort,
    family: Family,
    context: Context<'_>,
) -> Vec<(At, EntryKind)> {
    let of_family = |addresses: &[IpAddr], kind: EntryKind| {
        let same = addresses.iter().filter(|address| Family::of(**address) == family);
        same.map(|address| (At::Address(*address, port.port), kind)).collect::<Vec<_>>()
    };
    let mut places = Vec::with_capacity(2);
    places.extend(
        service.cluster_ip(family).map(|address| (At::Address(address, port.port), EntryKind::ClusterIp)),
    );
    // Before external IPs: an address that is both keeps its source ranges.
    places.extend(of_family(&service.load_balancer_ips, EntryKind::LoadBalancer));
    places.extend(of_family(&service.external_ips, EntryKind::ExternalIp));
    places.extend(port.node_port.map(|number| (At::NodePort(number), EntryKind::NodePort)));
    let exposed = context.settings.exposed.iter().filter(|exposed| exposes(exposed, service, port));
    places.extend(exposed.map(|exposed| (At::NodePort(exposed.node_port), EntryKind::Exposed)));
    places
}

fn exposes(exposed: &ExposedService, service: &Service, port: &ServicePort) -> bool {
    exposed.service == service.name
        && exposed.protocol == port.protocol
        && match &exposed.port {
            ExposedPort::Number(number) => *number == port.port,
            ExposedPort::Name(name) => *name == port.name,
        }
}

/// Compiles one Service. `slices` are all of its EndpointSlices, in any order.
pub fn compile_service(
    service: &Service,
    slices: &[EndpointSlice],
    context: Context<'_>,
    claims: &Claims,
    diagnostics: &mut Vec<Diagnostic>,
) -> ServiceRules {
    let mut rules = ServiceRules::default();
    if service.ignored.is_some() {
        return rules;
    }
    report_foreign_addresses(service, context, diagnostics);
    for family in context.settings.families.iter().copied() {
        let Some(cluster_ip) = service.cluster_ip(family) else { continue };
        if claims.owns(Claim::ClusterIp(cluster_ip), &Claimant::new(service, false)) {
            rules.cluster_ips.push(cluster_ip);
        }
        if let Some(port) = service.health_check_node_port
            && claims.owns(Claim::NodePort(family, Protocol::Tcp, port), &Claimant::new(service, false))
        {
            rules.health_check_node_port = Some(port);
        }
        let mut taken = BTreeSet::new();
        for port in &service.ports {
            let port = Port { service, port, family, context };
            let entries = port.entries(claims, &mut taken, diagnostics);
            if !entries.is_empty() {
                rules.ports.push(port.compile(entries, slices));
            }
        }
    }
    // They stay for as long as the Service does, and most have one port: room for four would be the most of it.
    rules.ports.shrink_to_fit();
    rules.cluster_ips.shrink_to_fit();
    rules
}

/// One Service port in one family.
struct Port<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    family: Family,
    context: Context<'a>,
}

impl Port<'_> {
    /// The entries that it really has: nobody older owns them, and no earlier port of the same Service took them.
    fn entries(
        &self,
        claims: &Claims,
        taken: &mut BTreeSet<Claim>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Entry> {
        let Port { service, port, .. } = self;
        let mut entries = Vec::new();
        for (at, kind) in places(service, port, self.family, self.context) {
            let claim = claim(at, self.family, port);
            let claimant = Claimant::new(service, kind == EntryKind::Exposed);
            if !claims.owns(claim, &claimant) {
                let owner = claims.owner(claim);
                // Its own claim of another kind is no conflict between objects; the entry of that kind stands.
                if owner != Some(&service.name) {
                    diagnostics.push(conflict(service, kind, claim, owner));
                }
            } else if taken.insert(claim) {
                entries.push(Entry { at, kind, path: self.path(kind) });
            } else if kind == EntryKind::ClusterIp {
                diagnostics.push(Diagnostic::service(
                    Severity::Error,
                    &service.name,
                    "spec.ports",
                    format!(
                        "two ports have the number {}/{}; the later one is left out",
                        port.port, port.protocol
                    ),
                ));
            }
        }
        entries.sort();
        entries.shrink_to_fit();
        entries
    }

    fn path(&self, kind: EntryKind) -> Path {
        let Service { internal_policy, external_policy, source_ranges, .. } = self.service;
        match kind {
            EntryKind::ClusterIp => Path::Internal(*internal_policy),
            EntryKind::ExternalIp | EntryKind::NodePort => {
                Path::External { policy: *external_policy, restricted: false }
            }
            EntryKind::LoadBalancer => {
                let restricted = match source_ranges {
                    None => false,
                    // Ranges of the other family only: they say nothing about this one (kube-proxy filters them out).
                    Some(ranges) => {
                        ranges.is_empty() || ranges.iter().any(|range| range.family() == self.family)
                    }
                };
                Path::External { policy: *external_policy, restricted }
            }
            EntryKind::Exposed => Path::External { policy: Policy::Cluster, restricted: false },
        }
    }

    fn compile(&self, entries: Vec<Entry>, slices: &[EndpointSlice]) -> PortRules {
        let Port { service, port, family, context } = self;
        let candidates = self.candidates(slices);
        let from_outside =
            entries.iter().any(|entry| !matches!(entry.kind, EntryKind::ClusterIp | EntryKind::Exposed));
        let reach = Reach {
            internal: service.internal_policy,
            external: from_outside.then_some(service.external_policy),
            exposed: entries.iter().any(|entry| entry.kind == EntryKind::Exposed),
        };
        let selection = select(candidates.iter().map(|(endpoint, _)| *endpoint), context.node, reach);
        // IPVS has its own Maglev tables and wants weights; with them, each endpoint stands as often as its share.
        let own_tables = context.settings.backend == BackendKind::Ipvs;
        let layout = if own_tables { Balance::Random } else { service.balance };
        let pool = |places: Vec<usize>| {
            let weighted: Vec<(Target, u8)> = places
                .into_iter()
                .map(|place| {
                    let (endpoint, target) = candidates[place];
                    (target, service.weights.as_ref().map_or(1, |weights| weights.weight(endpoint)))
                })
                .collect();
            match slots(&weighted, layout) {
                slots if !slots.is_empty() => Pool::Slots(slots),
                _ if selection.any => Pool::Drop,
                _ => Pool::Refuse,
            }
        };
        let restricted =
            entries.iter().any(|entry| matches!(entry.path, Path::External { restricted: true, .. }));
        PortRules {
            family: *family,
            protocol: port.protocol,
            name: port.name.clone(),
            cluster: selection.cluster.map(pool),
            local: selection.local.map(pool),
            affinity_seconds: service.affinity_seconds,
            balance: service.balance,
            scheduler: service.scheduler.or(match service.balance {
                Balance::Random => context.settings.ipvs_scheduler,
                _ => None,
            }),
            source_ranges: if restricted { self.source_ranges() } else { Vec::new() },
            entries,
        }
    }

    /// The endpoints of this port, in order of their targets. Of two with the same target (a pod that moves between
    /// slices is in both for a moment) the one that serves more counts.
    fn candidates<'s>(&self, slices: &'s [EndpointSlice]) -> Vec<(&'s Endpoint, Target)> {
        let mut candidates: Vec<(&Endpoint, Target)> = Vec::new();
        for slice in slices.iter().filter(|slice| slice.family == Some(self.family)) {
            let same = slice
                .ports
                .iter()
                .filter(|port| port.name == self.port.name && port.protocol == self.port.protocol);
            for port in same {
                candidates.extend(
                    slice
                        .endpoints
                        .iter()
                        .map(|endpoint| (endpoint, Target { address: endpoint.address, port: port.port })),
                );
            }
        }
        let rank = |endpoint: &Endpoint| {
            (
                !endpoint.ready,
                !endpoint.serving,
                !endpoint.terminating,
                !is_local(endpoint, self.context.node),
            )
        };
        candidates.sort_by(|(a, a_target), (b, b_target)| {
            a_target.cmp(b_target).then_with(|| rank(a).cmp(&rank(b))).then_with(|| {
                // Whatever is left to tell them apart must not depend on the order of the slices.
                (&a.hint_nodes, &a.hint_zones, a.zone).cmp(&(&b.hint_nodes, &b.hint_zones, b.zone))
            })
        });
        candidates.dedup_by(|later, earlier| later.1 == earlier.1);
        candidates
    }

    /// `loadBalancerSourceRanges` of this family. If one holds the node's own address, the node may call its own load
    /// balancer, and such packets come with that very address as their source: it is added.
    fn source_ranges(&self) -> Vec<Cidr> {
        let Port { service, family, context, .. } = self;
        let ranges =
            service.source_ranges.iter().flatten().copied().filter(|range| range.family() == *family);
        let mut ranges: Vec<Cidr> = ranges.collect();
        let node = context.node.primary(*family);
        if node.is_some_and(|address| ranges.iter().any(|range| range.contains(address))) {
            let own =
                service.load_balancer_ips.iter().copied().filter(|address| Family::of(*address) == *family);
            ranges.extend(own.map(Cidr::host));
        }
        disjoint(ranges)
    }
}

fn conflict(service: &Service, kind: EntryKind, claim: Claim, owner: Option<&ObjectName>) -> Diagnostic {
    let field = match kind {
        EntryKind::ClusterIp => "spec.clusterIP",
        EntryKind::ExternalIp => "spec.externalIPs",
        EntryKind::LoadBalancer => "status.loadBalancer.ingress",
        EntryKind::NodePort => "spec.ports[].nodePort",
        EntryKind::Exposed => "",
    };
    let owner = owner.map_or("", ObjectName::as_str);
    let how = if kind == EntryKind::Exposed { "the ConfigMap's entry for" } else { "the younger" };
    Diagnostic::service(
        Severity::Error,
        &service.name,
        field,
        format!(
            "{claim} belongs to Service {owner}, which goes first; {how} Service {} gets no traffic there",
            service.name
        ),
    )
}

/// Addresses of a family in which the Service has no ClusterIP, or which is not programmed: they are left out.
fn report_foreign_addresses(service: &Service, context: Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let programmed = |family: &Family| context.settings.families.contains(family);
    let own = |address: &IpAddr| service.cluster_ip(Family::of(*address)).is_some();
    for (field, addresses) in [
        ("spec.externalIPs", &service.external_ips),
        ("status.loadBalancer.ingress", &service.load_balancer_ips),
    ] {
        for address in addresses.iter().filter(|address| programmed(&Family::of(**address)) && !own(address))
        {
            diagnostics.push(Diagnostic::service(
                Severity::Warning,
                &service.name,
                field,
                format!(
                    "{address} is an {} address and the Service has no ClusterIP of that family; the address is left out",
                    Family::of(*address).name()
                ),
            ));
        }
    }
    for range in service.source_ranges.iter().flatten() {
        let family = range.family();
        let addressed = service.load_balancer_ips.iter().any(|address| Family::of(*address) == family);
        if programmed(&family) && !addressed && !service.load_balancer_ips.is_empty() {
            diagnostics.push(Diagnostic::service(
                Severity::Warning,
                &service.name,
                "spec.loadBalancerSourceRanges",
                format!(
                    "{range} is an {} range and no load balancer address of the Service is; the range means nothing",
                    family.name()
                ),
            ));
        }
    }
}
