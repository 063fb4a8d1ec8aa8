//! Clusters for tests: one address plan (pods 10.0.0.0/8 and fd00:10::/32, this node 192.168.0.2), small words for
//! Services and endpoints.

use crate::address::{Cidr, Family};
use crate::machine::Machine;
use crate::model::{
    BackendKind, Endpoint, EndpointPort, EndpointSlice, LocalDetector, Node, NodePortAddresses, ObjectName,
    Protocol, Service, ServicePort, Settings,
};
use crate::simulate::{Packet, Trace};
use std::net::IpAddr;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

pub fn name(text: &str) -> ObjectName {
    ObjectName::new("default", text)
}

pub fn settings() -> Settings {
    Settings {
        backend: BackendKind::Iptables,
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

/// From here on nothing of ours is to be left.
pub fn want_no_family(machine: &mut Machine) {
    configure(machine, Settings { families: vec![], ..settings() });
}

pub fn configure(machine: &mut Machine, settings: Settings) {
    let node = Node {
        name: Some(machine.names.intern("here")),
        zone: None,
        addresses: vec![ip("192.168.0.2"), ip("fd00:192:168::2")],
    };
    machine.configure(settings, node);
}

/// A Service with TCP port 80 named `http`.
pub fn service(of: &str, cluster_ip: &str) -> Service {
    Service {
        created: Some((1, 0)),
        cluster_ips: vec![ip(cluster_ip)],
        ports: vec![port("http", Protocol::Tcp, 80, None)],
        ..Service::new(name(of))
    }
}

pub fn port(name: &str, protocol: Protocol, port: u16, node_port: Option<u16>) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port }
}

/// A slice of `of` whose endpoints serve `http` at TCP port 8080; `+` before an address: on this node.
pub fn slice(machine: &mut Machine, of: &str, endpoints: &[&str]) -> EndpointSlice {
    let (here, there) = (machine.names.intern("here"), machine.names.intern("there"));
    let first = endpoints.first().map_or("10.0.0.1", |text| text.trim_start_matches('+'));
    let endpoint = |text: &&str| Endpoint {
        address: ip(text.trim_start_matches('+')),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(if text.starts_with('+') { here } else { there }),
        zone: None,
        hint_zones: vec![],
        hint_nodes: vec![],
    };
    EndpointSlice {
        name: name(&format!("{of}-1")),
        service: name(of),
        family: Some(Family::of(ip(first))),
        ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

pub fn add(machine: &mut Machine, service: Service, endpoints: &[&str]) {
    let of = service.name.to_string();
    machine.upsert_service(service, vec![]);
    let slice = slice(machine, of.trim_start_matches("default/"), endpoints);
    machine.upsert_slice(slice, vec![]);
}

/// From `source` to `destination`, as `address:port`, by TCP.
pub fn trace(machine: &mut Machine, source: &str, destination: &str) -> Trace {
    let to: std::net::SocketAddr = destination.parse().unwrap();
    let packet = Packet {
        source: ip(source),
        destination: to.ip(),
        protocol: Protocol::Tcp,
        port: to.port(),
        interface: None,
    };
    machine.trace(&packet)
}
