//! JSON of the wire: its own structs, checked and converted. Nothing inside of the crate derives serde.
//!
//! Keys are those of `README.md`. What an object holds that cannot be read is left out, and a diagnostic tells.

use crate::address::{Cidr, Family, parse_address};
use crate::balance::{Balance, Scheduler, Weights};
use crate::machine::Machine;
use crate::model::{
    BackendKind, Diagnostic, Endpoint, EndpointPort, EndpointSlice, ExposedPort, ExposedService, Ignored,
    LocalDetector, Names, Node, NodePortAddresses, ObjectName, Policy, Protocol, Service, ServicePort,
    Settings, Severity,
};
use crate::simulate::{Packet, Trace};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

/// Borrowed from the input unless it holds escapes: `serde` borrows a `Cow` only where it is a field by itself, so in a
/// `Vec`, an `Option` or a tuple each bare one would be copied.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// `IPv4` or `IPv6`.
pub fn family(text: &str) -> Result<Family, String> {
    Family::BOTH
        .into_iter()
        .find(|family| family.name() == text)
        .ok_or_else(|| format!("{text:?} came as a family where IPv4 or IPv6 was expected"))
}

/// `NatSettings` of `nat.ts`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsWire {
    backend: String,
    node: NodeWire,
    families: Option<Vec<String>>,
    local_detector: Option<DetectorWire>,
    masquerade_all: Option<bool>,
    drop_invalid: Option<bool>,
    masquerade_bit: Option<u8>,
    node_port_addresses: Option<Vec<String>>,
    service_cidrs: Option<Vec<String>>,
    exposed: Option<Vec<ExposedWire>>,
    ipvs_scheduler: Option<String>,
    ipvs_excluded: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct NodeWire {
    name: String,
    zone: Option<String>,
    addresses: AddressesWire,
}

#[derive(Deserialize)]
struct AddressesWire {
    #[serde(rename = "IPv4", default)]
    v4: Vec<String>,
    #[serde(rename = "IPv6", default)]
    v6: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
enum DetectorWire {
    None,
    Cidrs { cidrs: Vec<String> },
    Interface { name: String },
    InterfacePrefix { prefix: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExposedWire {
    protocol: String,
    node_port: u16,
    service: String,
    port: ExposedPortWire,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExposedPortWire {
    Number(u16),
    Name(String),
}

impl SettingsWire {
    /// Settings and node. What can be done without is left out with a diagnostic; the rest is an error of the caller.
    pub fn read(
        self,
        names: &mut Names,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<(Settings, Node), String> {
        let node = Node {
            name: Some(names.intern(&self.node.name)),
            zone: self.node.zone.as_deref().map(|zone| names.intern(zone)),
            addresses: addresses(&self.node.addresses, &self.node.name, diagnostics),
        };
        let backend = match self.backend.as_str() {
            "nftables" => BackendKind::Nftables,
            "iptables" => BackendKind::Iptables,
            "ipvs" => BackendKind::Ipvs,
            other => {
                return Err(format!(
                    "{other:?} came as a backend where nftables, iptables or ipvs was expected"
                ));
            }
        };
        let all = || Family::BOTH.to_vec();
        let mut families = match self.families {
            Some(families) => families.iter().map(|text| family(text)).collect::<Result<Vec<_>, _>>()?,
            None => all(),
        };
        families.sort_unstable();
        families.dedup();
        let ranges =
            |texts: &[String]| texts.iter().map(|text| range(text)).collect::<Result<Vec<Cidr>, String>>();
        let local_detector = match self.local_detector {
            None | Some(DetectorWire::None) => LocalDetector::None,
            Some(DetectorWire::Cidrs { cidrs }) => LocalDetector::Cidrs(ranges(&cidrs)?),
            Some(DetectorWire::Interface { name }) => LocalDetector::Interface(name),
            Some(DetectorWire::InterfacePrefix { prefix }) => LocalDetector::InterfacePrefix(prefix),
        };
        let masquerade_bit = self.masquerade_bit.unwrap_or(14);
        if masquerade_bit > 31 {
            return Err(format!("{masquerade_bit} came as the bit of a mark where 0 to 31 was expected"));
        }
        let node_port_addresses = match self.node_port_addresses {
            Some(choices) => {
                choices.iter().map(|choice| node_port_addresses(choice)).collect::<Result<Vec<_>, _>>()?
            }
            None if backend == BackendKind::Nftables => vec![NodePortAddresses::Primary],
            None => vec![NodePortAddresses::All],
        };
        let exposed = self.exposed.unwrap_or_default();
        let settings = Settings {
            backend,
            families,
            local_detector,
            masquerade_all: self.masquerade_all.unwrap_or(false),
            drop_invalid: self.drop_invalid.unwrap_or(false),
            masquerade_bit,
            node_port_addresses,
            service_cidrs: ranges(&self.service_cidrs.unwrap_or_default())?,
            exposed: exposed.into_iter().map(ExposedWire::read).collect::<Result<Vec<_>, _>>()?,
            ipvs_scheduler: match self.ipvs_scheduler.as_deref() {
                None => None,
                Some(text) => Some(Scheduler::parse(text).ok_or_else(|| {
                    format!(
                        "{text:?} came as IPVS scheduler where one of {} was expected",
                        Scheduler::NAMES.join(", ")
                    )
                })?),
            },
            ipvs_excluded: ranges(&self.ipvs_excluded.unwrap_or_default())?,
        };
        Ok((settings, node))
    }
}

fn addresses(wire: &AddressesWire, node: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (family, text) in
        wire.v4.iter().map(|text| (Family::V4, text)).chain(wire.v6.iter().map(|text| (Family::V6, text)))
    {
        match parse_address(text).filter(|address| Family::of(*address) == family) {
            Some(address) => addresses.push(address),
            None => diagnostics.push(Diagnostic {
                severity: Severity::Error,
                kind: "Node",
                object: node.to_owned(),
                field: Some("status.addresses".to_owned()),
                message: format!(
                    "{text:?} came where an {} address was expected; it is left out",
                    family.name()
                ),
            }),
        }
    }
    addresses
}

fn range(text: &str) -> Result<Cidr, String> {
    Cidr::parse(text).ok_or_else(|| format!("{text:?} came where a range such as 10.0.0.0/8 was expected"))
}

fn node_port_addresses(text: &str) -> Result<NodePortAddresses, String> {
    Ok(match text {
        "primary" => NodePortAddresses::Primary,
        "all" => NodePortAddresses::All,
        _ => NodePortAddresses::Range(range(text)?),
    })
}

impl ExposedWire {
    fn read(self) -> Result<ExposedService, String> {
        Ok(ExposedService {
            protocol: protocol(&self.protocol)?,
            node_port: self.node_port,
            service: object_name(&self.service)?,
            port: match self.port {
                ExposedPortWire::Number(number) => ExposedPort::Number(number),
                ExposedPortWire::Name(name) => ExposedPort::Name(name.into()),
            },
        })
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::parse(text)
        .ok_or_else(|| format!("{text:?} came as a protocol where TCP, UDP or SCTP was expected"))
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    ObjectName::parse(text).ok_or_else(|| format!("{text:?} came where namespace/name was expected"))
}

/// Input of `apply`.
#[derive(Deserialize)]
pub struct Changes<'a> {
    #[serde(rename = "S", borrow, default)]
    services: Vec<ServiceWire<'a>>,
    #[serde(rename = "D", borrow, default)]
    deleted_services: Vec<Text<'a>>,
    #[serde(rename = "E", borrow, default)]
    slices: Vec<SliceWire<'a>>,
    #[serde(rename = "F", borrow, default)]
    deleted_slices: Vec<Text<'a>>,
}

impl Changes<'_> {
    /// Hands all of it to the machine.
    pub fn apply(self, machine: &mut Machine) -> Result<(), String> {
        for name in &self.deleted_services {
            machine.delete_service(&object_name(name)?);
        }
        for name in &self.deleted_slices {
            machine.delete_slice(&object_name(name)?);
        }
        for wire in self.services {
            let mut diagnostics = Vec::new();
            let service = wire.read(&mut machine.names, &mut diagnostics)?;
            machine.upsert_service(service, diagnostics);
        }
        for wire in self.slices {
            let mut diagnostics = Vec::new();
            let slice = wire.read(&mut machine.names, &mut diagnostics)?;
            machine.upsert_slice(slice, diagnostics);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct ServiceWire<'a> {
    #[serde(rename = "n", borrow)]
    name: Text<'a>,
    #[serde(rename = "t", borrow, default)]
    created: Option<Text<'a>>,
    #[serde(rename = "l", borrow, default)]
    labels: Vec<Text<'a>>,
    #[serde(rename = "k", borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(rename = "c", borrow, default)]
    cluster_ips: Vec<Text<'a>>,
    #[serde(rename = "x", borrow, default)]
    external_ips: Vec<Text<'a>>,
    #[serde(rename = "b", borrow, default)]
    load_balancer_ips: Vec<Text<'a>>,
    #[serde(rename = "r", borrow, default)]
    source_ranges: Vec<Text<'a>>,
    #[serde(rename = "p", borrow, default)]
    ports: Vec<(Text<'a>, Text<'a>, u16, u16)>,
    #[serde(rename = "i", default)]
    internal_local: bool,
    #[serde(rename = "e", default)]
    external_local: bool,
    #[serde(rename = "h", default)]
    health_check_node_port: Option<u16>,
    #[serde(rename = "a", default)]
    affinity_seconds: Option<u32>,
    #[serde(rename = "m", borrow, default)]
    balance: Option<Text<'a>>,
    #[serde(rename = "w", borrow, default)]
    weights: Option<Text<'a>>,
    #[serde(rename = "s", borrow, default)]
    scheduler: Option<Text<'a>>,
}

impl ServiceWire<'_> {
    fn read(self, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) -> Result<Service, String> {
        let name = object_name(&self.name)?;
        let mut tell = |field: &str, message: String| {
            diagnostics.push(Diagnostic::service(Severity::Error, &name, field, message));
        };
        let mut read_addresses = |field: &str, texts: &[Text<'_>]| -> Vec<IpAddr> {
            let mut addresses: Vec<IpAddr> = Vec::with_capacity(texts.len());
            for text in texts.iter().filter(|text| !matches!(text.0.as_ref(), "None" | "")) {
                match parse_address(text) {
                    Some(address) if addresses.contains(&address) => {}
                    Some(address) => addresses.push(address),
                    None => {
                        tell(field, format!("{text:?} came where an IP address was expected; it is left out"))
                    }
                }
            }
            addresses
        };
        let cluster_ips = read_addresses("spec.clusterIPs", &self.cluster_ips);
        let external_ips = read_addresses("spec.externalIPs", &self.external_ips);
        let load_balancer_ips = read_addresses("status.loadBalancer.ingress", &self.load_balancer_ips);
        // None of several that can be read closes the door; it must not stand open because somebody mistyped.
        let source_ranges = (!self.source_ranges.is_empty()).then(|| {
            let mut ranges = Vec::new();
            for text in &self.source_ranges {
                match Cidr::parse(text.trim()) {
                    Some(range) => ranges.push(range),
                    None => tell(
                        "spec.loadBalancerSourceRanges",
                        format!("{text:?} came where a range such as 203.0.113.0/24 was expected; it admits nobody"),
                    ),
                }
            }
            ranges
        });
        let balance = self.balance.as_deref().map_or(Balance::Random, |text| {
            Balance::parse(text).unwrap_or_else(|| {
                let expected =
                    "random, round-robin, source-hash or maglev was expected; the choice is random";
                tell("metadata.annotations[fairlead.dev/balance]", format!("{text:?} came where {expected}"));
                Balance::Random
            })
        });
        let weights = self.weights.as_deref().and_then(|text| match Weights::parse(text, names) {
            Ok(weights) => Some(weights),
            Err(entry) => {
                let expected =
                    "SELECTOR=WEIGHT with an address, node:NAME, zone:NAME or * and 0 to 100 was expected";
                tell(
                    "metadata.annotations[fairlead.dev/weights]",
                    format!("{entry:?} came where {expected}; all endpoints weigh the same"),
                );
                None
            }
        });
        let scheduler = self.scheduler.as_deref().and_then(|text| {
            let scheduler = Scheduler::parse(text);
            if scheduler.is_none() {
                tell(
                    "metadata.annotations[fairlead.dev/ipvs-scheduler]",
                    format!(
                        "{text:?} came where one of {} was expected; the default is taken",
                        Scheduler::NAMES.join(", ")
                    ),
                );
            }
            scheduler
        });
        let mut ports = Vec::with_capacity(self.ports.len());
        for (name, protocol_name, port, node_port) in &self.ports {
            ports.push(ServicePort {
                name: names.of_port(name),
                protocol: protocol(protocol_name)?,
                port: *port,
                node_port: (*node_port != 0).then_some(*node_port),
            });
        }
        let policy = |local: bool| if local { Policy::Local } else { Policy::Cluster };
        Ok(Service {
            created: self.created.as_deref().and_then(parse_time),
            ignored: ignored(&self.labels, self.kind.as_deref(), &cluster_ips),
            cluster_ips,
            external_ips,
            load_balancer_ips,
            source_ranges,
            ports,
            internal_policy: policy(self.internal_local),
            external_policy: policy(self.external_local),
            health_check_node_port: self.health_check_node_port.filter(|port| *port > 0),
            affinity_seconds: self.affinity_seconds,
            balance,
            weights,
            scheduler,
            name,
        })
    }
}

fn ignored(labels: &[Text<'_>], kind: Option<&str>, cluster_ips: &[IpAddr]) -> Option<Ignored> {
    let labelled = |name: &str| labels.iter().any(|label| label.0 == name);
    if labelled("service.kubernetes.io/service-proxy-name") {
        Some(Ignored::OtherProxy)
    } else if labelled("service.kubernetes.io/headless") {
        Some(Ignored::HeadlessLabel)
    } else if kind == Some("ExternalName") {
        Some(Ignored::ExternalName)
    } else {
        cluster_ips.is_empty().then_some(Ignored::Headless)
    }
}

#[derive(Deserialize)]
struct SliceWire<'a> {
    #[serde(rename = "n", borrow)]
    name: Text<'a>,
    #[serde(rename = "s", borrow)]
    service: Text<'a>,
    #[serde(rename = "f", borrow)]
    address_type: Text<'a>,
    #[serde(rename = "p", borrow, default)]
    ports: Vec<(Text<'a>, Text<'a>, u16)>,
    #[serde(rename = "e", borrow, default)]
    endpoints: Vec<EndpointWire<'a>>,
}

#[derive(Deserialize)]
struct EndpointWire<'a> {
    #[serde(rename = "a", borrow)]
    address: Text<'a>,
    #[serde(rename = "s", default = "ready_and_serving")]
    state: u8,
    #[serde(rename = "n", borrow, default)]
    node: Option<Text<'a>>,
    #[serde(rename = "z", borrow, default)]
    zone: Option<Text<'a>>,
    #[serde(rename = "h", borrow, default)]
    hint_zones: Vec<Text<'a>>,
    #[serde(rename = "o", borrow, default)]
    hint_nodes: Vec<Text<'a>>,
}

const READY: u8 = 1;
const SERVING: u8 = 2;
const TERMINATING: u8 = 4;

fn ready_and_serving() -> u8 {
    READY | SERVING
}

impl SliceWire<'_> {
    fn read(self, names: &mut Names, diagnostics: &mut Vec<Diagnostic>) -> Result<EndpointSlice, String> {
        let name = object_name(&self.name)?;
        let namespace = name.as_str().split('/').next().unwrap_or_default();
        let family = family(&self.address_type).ok();
        let mut ports = Vec::with_capacity(self.ports.len());
        for (name, protocol_name, port) in &self.ports {
            let (name, protocol) = (names.of_port(name), protocol(protocol_name)?);
            ports.push(EndpointPort { name, protocol, port: *port });
        }
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for (place, endpoint) in self.endpoints.iter().enumerate().filter(|_| family.is_some()) {
            let address =
                parse_address(&endpoint.address).filter(|address| Some(Family::of(*address)) == family);
            let Some(address) = address else {
                diagnostics.push(Diagnostic {
                    severity: Severity::Error,
                    kind: "EndpointSlice",
                    object: name.to_string(),
                    field: Some(format!("endpoints[{place}].addresses[0]")),
                    message: format!(
                        "{:?} came where an {} address was expected; the endpoint is left out",
                        endpoint.address, self.address_type
                    ),
                });
                continue;
            };
            endpoints.push(Endpoint {
                address,
                ready: endpoint.state & READY != 0,
                serving: endpoint.state & SERVING != 0,
                terminating: endpoint.state & TERMINATING != 0,
                node: endpoint.node.as_deref().map(|node| names.intern(node)),
                zone: endpoint.zone.as_deref().map(|zone| names.intern(zone)),
                hint_zones: endpoint.hint_zones.iter().map(|zone| names.intern(zone)).collect(),
                hint_nodes: endpoint.hint_nodes.iter().map(|node| names.intern(node)).collect(),
            });
        }
        Ok(EndpointSlice {
            service: ObjectName::new(namespace, &self.service),
            ports,
            family,
            endpoints,
            name,
        })
    }
}

/// Seconds since 1970 and nanoseconds of `2026-01-31T23:59:59.5Z` or with an offset (RFC 3339).
fn parse_time(text: &str) -> Option<(i64, u32)> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(digits) => digits.split_at(digits.find(|c: char| !c.is_ascii_digit())?),
        None => ("", rest),
    };
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let offset_seconds = match offset.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), ..] if offset.len() == 6 => {
            let start = text.len() - 6;
            let seconds = number(start + 1..start + 3)? * 3600 + number(start + 4..start + 6)? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    // Days since 1970 of a Gregorian date, with the year beginning in March so that the leap day is its last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second - offset_seconds, nanoseconds))
}

/// `NatPacket` of `nat.ts`.
#[derive(Deserialize)]
pub struct PacketWire<'a> {
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    to: Text<'a>,
    port: u16,
    #[serde(borrow, default)]
    protocol: Option<Text<'a>>,
    #[serde(borrow, default)]
    interface: Option<Text<'a>>,
}

impl PacketWire<'_> {
    /// A packet, or what is wrong with it.
    pub fn read(self) -> Result<Packet, String> {
        let address = |text: &str| {
            parse_address(text).ok_or_else(|| format!("{text:?} came where an IP address was expected"))
        };
        let (source, destination) = (address(&self.from)?, address(&self.to)?);
        if Family::of(source) != Family::of(destination) {
            return Err(format!(
                "a packet cannot come from {source} and go to {destination}: the families differ"
            ));
        }
        Ok(Packet {
            source,
            destination,
            protocol: protocol(self.protocol.as_deref().unwrap_or("TCP"))?,
            port: self.port,
            interface: self.interface.map(|text| text.0.into_owned()),
        })
    }
}

/// `NatTrace` of `nat.ts`.
#[derive(Serialize)]
pub struct TraceWire<'a> {
    verdict: &'static str,
    endpoints: Vec<String>,
    masquerade: bool,
    hairpin: Vec<String>,
    rules: Vec<TraceRuleWire<'a>>,
}

#[derive(Serialize)]
struct TraceRuleWire<'a> {
    table: &'a str,
    chain: &'a str,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a str>,
}

impl<'a> TraceWire<'a> {
    /// To be serialised.
    pub fn new(trace: &'a Trace) -> TraceWire<'a> {
        let texts = |targets: &[crate::balance::Target]| {
            let mut texts: Vec<String> = targets.iter().map(ToString::to_string).collect();
            texts.sort();
            texts
        };
        let rules = trace.rules.iter().map(|rule| TraceRuleWire {
            table: &rule.table,
            chain: &rule.chain,
            rule: &rule.rule,
            object: rule.object.as_deref(),
        });
        TraceWire {
            verdict: trace.verdict.name(),
            endpoints: texts(&trace.endpoints),
            masquerade: trace.masquerade,
            hairpin: texts(&trace.hairpin),
            rules: rules.collect(),
        }
    }
}

/// `NatDiagnostic` of `nat.ts`.
#[derive(Serialize)]
pub struct DiagnosticWire<'a> {
    severity: &'static str,
    kind: &'a str,
    object: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    message: &'a str,
}

/// To be serialised.
pub fn diagnostics(diagnostics: &[Diagnostic]) -> Vec<DiagnosticWire<'_>> {
    diagnostics.iter().map(DiagnosticWire::new).collect()
}

impl<'a> DiagnosticWire<'a> {
    fn new(diagnostic: &'a Diagnostic) -> DiagnosticWire<'a> {
        let Diagnostic { severity, kind, object, field, message } = diagnostic;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        DiagnosticWire { severity, kind, object, field: field.as_deref(), message }
    }
}

/// Output of `plan`, `replace` and `reconcile`.
#[derive(Serialize)]
pub struct Plan<'a> {
    /// No transaction.
    pub empty: bool,
    /// Of what was compiled.
    pub diagnostics: Vec<DiagnosticWire<'a>>,
}

/// Output of `status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    services: usize,
    endpoint_slices: usize,
    no_local_endpoints: ByFamily,
}

#[derive(Serialize)]
struct ByFamily {
    #[serde(rename = "IPv4")]
    v4: NoLocalEndpoints,
    #[serde(rename = "IPv6")]
    v6: NoLocalEndpoints,
}

#[derive(Serialize)]
struct NoLocalEndpoints {
    internal: usize,
    external: usize,
}

impl Status {
    /// Of a machine.
    pub fn new(machine: &Machine) -> Status {
        let (services, endpoint_slices) = machine.counts();
        let of = |family| {
            let (internal, external) = machine.no_local_endpoints(family);
            NoLocalEndpoints { internal, external }
        };
        let no_local_endpoints = ByFamily { v4: of(Family::V4), v6: of(Family::V6) };
        Status { services, endpoint_slices, no_local_endpoints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_without_escapes_are_borrowed() {
        let texts: Vec<Text<'_>> = serde_json::from_str(r#"["tcp", "a\u0062c"]"#).unwrap();
        assert!(matches!(texts[0].0, Cow::Borrowed("tcp")));
        assert_eq!(&*texts[1], "abc");
    }

    #[test]
    fn times_are_seconds_since_1970() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2000-02-29T12:00:00Z", Some((951_825_600, 0))),
            ("2026-11-23T06:50:32.25Z", Some((1_795_416_632, 250_000_000))),
            ("2026-11-23T07:50:32+01:00", Some((1_795_416_632, 0))),
            ("yesterday", None),
            ("2026-11-23", None),
        ] {
            assert_eq!(parse_time(text), want, "{text}");
        }
    }
}
