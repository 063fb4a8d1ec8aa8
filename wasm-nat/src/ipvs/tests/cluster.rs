//! Clusters for tests: pods 10.0.0.0/8 and fd00:10::/32, this node 192.168.0.2 and 192.168.100.2, small words for
//! Services and endpoints.

use crate::address::{Cidr, Family};
use crate::machine::Machine;
use crate::model::*;
use crate::simulate::Packet;
use std::net::IpAddr;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        backend: BackendKind::Ipvs,
        local_detector: LocalDetector::Cidrs(vec![cidr("10.0.0.0/8"), cidr("fd00:10::/32")]),
        node_port_addresses: vec![NodePortAddresses::All],
        ..Settings::default()
    }
}

pub fn machine(settings: Settings) -> Machine {
    let mut machine = Machine::default();
    configure(&mut machine, settings);
    machine
}

pub fn configure(machine: &mut Machine, settings: Settings) {
    let node = Node {
        name: Some(machine.names.intern("here")),
        zone: None,
        addresses: ["192.168.0.2", "192.168.100.2", "fd00:192:168::2"].map(ip).to_vec(),
    };
    machine.configure(settings, node);
}

/// A Service with port 80 named `http`.
pub fn service(name: &str, cluster_ip: &str, protocol: Protocol) -> Service {
    Service {
        created: Some((1, 0)),
        cluster_ips: vec![ip(cluster_ip)],
        ports: vec![ServicePort { name: "http".into(), protocol, port: 80, node_port: None }],
        ..Service::new(ObjectName::new("default", name))
    }
}

/// Endpoints of `http` at port 8080; `+` before an address: on this node; `-`: it drains; `!`: it does not serve.
pub fn slice(machine: &mut Machine, of: &str, protocol: Protocol, endpoints: &[&str]) -> EndpointSlice {
    let (here, there) = (machine.names.intern("here"), machine.names.intern("there"));
    let bare = |text: &str| ip(text.trim_start_matches(['+', '-', '!']));
    let endpoint = |text: &&str| Endpoint {
        address: bare(text),
        ready: !text.contains(['-', '!']),
        serving: !text.contains('!'),
        terminating: text.contains('-'),
        node: Some(if text.contains('+') { here } else { there }),
        zone: None,
        hint_zones: vec![],
        hint_nodes: vec![],
    };
    EndpointSlice {
        name: ObjectName::new("default", &format!("{of}-1")),
        service: ObjectName::new("default", of),
        family: Some(endpoints.first().map_or(Family::V4, |text| Family::of(bare(text)))),
        ports: vec![EndpointPort { name: "http".into(), protocol, port: 8080 }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

pub fn add(machine: &mut Machine, service: Service, endpoints: &[&str]) {
    let name = service.name.as_str().trim_start_matches("default/").to_owned();
    let slice = slice(machine, &name, service.ports[0].protocol, endpoints);
    machine.upsert_service(service, vec![]);
    machine.upsert_slice(slice, vec![]);
}

pub fn packet(source: &str, destination: &str, port: u16, protocol: Protocol) -> Packet {
    Packet { source: ip(source), destination: ip(destination), protocol, port, interface: None }
}
