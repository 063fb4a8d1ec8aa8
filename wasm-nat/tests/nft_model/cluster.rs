//! A small cluster, and changes of it that come at random.

use super::Tables;
use proptest::prelude::*;
use std::net::IpAddr;
use wasm_nat::address::{Cidr, Family};
use wasm_nat::balance::Balance;
use wasm_nat::machine::Machine;
use wasm_nat::model::{
    Endpoint, EndpointPort, EndpointSlice, LocalDetector, Node, NodePortAddresses, ObjectName, Policy,
    Protocol, Service, ServicePort, Settings,
};

/// What a test does to the cluster.
#[derive(Clone, Debug)]
pub enum Change {
    Service(u8, ServiceShape),
    NoService(u8),
    Slice(u8, SliceShape),
    NoSlice(u8),
    Node(NodeShape),
    /// The kernel refuses the plan: it is rolled back, and the next one starts from the committed state.
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct NodeShape {
    pub masquerade_all: bool,
    /// Node ports at 127.0.0.1, too.
    pub localhost: bool,
}

#[derive(Clone, Debug)]
pub struct ServiceShape {
    pub ports: u8,
    pub cluster_ip: u8,
    pub external_ip: bool,
    pub node_port: bool,
    pub load_balancer: bool,
    pub ranges: bool,
    pub internal_local: bool,
    pub external_local: bool,
    pub affinity: bool,
    pub balance: u8,
    pub headless: bool,
}

#[derive(Clone, Debug)]
pub struct SliceShape {
    pub service: u8,
    /// (address, state, local)
    pub endpoints: Vec<(u8, u8, bool)>,
}

pub fn change() -> impl Strategy<Value = Change> {
    let service = (
        (0u8..3, 1u8..6, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (any::<bool>(), any::<bool>(), prop::bool::weighted(0.3), 0u8..6, prop::bool::weighted(0.1)),
    )
        .prop_map(
            |(
                (ports, cluster_ip, external_ip, node_port, load_balancer, ranges),
                (internal_local, external_local, affinity, balance, headless),
            )| {
                ServiceShape {
                    ports,
                    cluster_ip,
                    external_ip,
                    node_port,
                    load_balancer,
                    ranges,
                    internal_local,
                    external_local,
                    affinity,
                    balance,
                    headless,
                }
            },
        );
    let slice = (0u8..4, prop::collection::vec((1u8..9, 0u8..4, any::<bool>()), 0..6))
        .prop_map(|(service, endpoints)| SliceShape { service, endpoints });
    prop_oneof![
        4 => (0u8..4, service).prop_map(|(name, shape)| Change::Service(name, shape)),
        1 => (0u8..4).prop_map(Change::NoService),
        6 => (0u8..5, slice).prop_map(|(name, shape)| Change::Slice(name, shape)),
        1 => (0u8..5).prop_map(Change::NoSlice),
        1 => any::<(bool, bool)>()
            .prop_map(|(masquerade_all, localhost)| Change::Node(NodeShape { masquerade_all, localhost })),
        1 => Just(Change::Refused),
    ]
}

fn service_name(number: u8) -> ObjectName {
    ObjectName::new("default", &format!("s{number}"))
}

fn slice_name(number: u8) -> ObjectName {
    ObjectName::new("default", &format!("e{number}"))
}

fn service(number: u8, shape: &ServiceShape) -> Service {
    let mut service = Service::new(service_name(number));
    service.created = Some((i64::from(number), 0));
    service.cluster_ips = vec![IpAddr::from([172, 30, 0, shape.cluster_ip])];
    service.ports = (0..=shape.ports)
        .map(|port| ServicePort {
            name: format!("p{port}").into(),
            protocol: Protocol::ALL[usize::from(port) % 3],
            port: 80 + u16::from(port),
            node_port: (shape.node_port || shape.load_balancer)
                .then(|| 30_000 + u16::from(number * 8 + port)),
        })
        .collect();
    if shape.external_ip {
        service.external_ips = vec![IpAddr::from([198, 51, 100, 1])];
    }
    if shape.load_balancer {
        service.load_balancer_ips = vec![IpAddr::from([198, 51, 100, 10 + number])];
        service.source_ranges = shape.ranges.then(|| vec![Cidr::parse("203.0.113.0/25").unwrap()]);
    }
    let policy = |local| if local { Policy::Local } else { Policy::Cluster };
    service.internal_policy = policy(shape.internal_local);
    service.external_policy = policy(shape.external_local);
    service.affinity_seconds = shape.affinity.then_some(60);
    service.balance = match shape.balance {
        3 => Balance::RoundRobin,
        4 => Balance::SourceHash,
        5 => Balance::Maglev,
        _ => Balance::Random,
    };
    service.ignored = shape.headless.then_some(wasm_nat::model::Ignored::Headless);
    service
}

fn slice(machine: &mut Machine, number: u8, shape: &SliceShape) -> EndpointSlice {
    let (here, there) = (machine.names.intern("here"), machine.names.intern("there"));
    EndpointSlice {
        name: slice_name(number),
        service: service_name(shape.service),
        family: Some(Family::V4),
        ports: (0..3)
            .map(|port: u16| EndpointPort {
                name: format!("p{port}").into(),
                protocol: Protocol::ALL[usize::from(port) % 3],
                port: 8080 + port,
            })
            .collect(),
        endpoints: shape
            .endpoints
            .iter()
            .map(|(address, state, local)| Endpoint {
                address: IpAddr::from([10, 180, 0, *address]),
                ready: *state >= 2,
                serving: *state >= 1,
                terminating: *state == 1,
                node: Some(if *local { here } else { there }),
                zone: None,
                hint_zones: vec![],
                hint_nodes: vec![],
            })
            .collect(),
    }
}

pub fn machine(shape: NodeShape) -> Machine {
    let mut machine = Machine::default();
    configure(&mut machine, shape);
    machine
}

fn configure(machine: &mut Machine, shape: NodeShape) {
    let node = Node {
        name: Some(machine.names.intern("here")),
        zone: None,
        addresses: vec![IpAddr::from([192, 168, 0, 2])],
    };
    let localhost = NodePortAddresses::Range(Cidr::parse("127.0.0.0/8").unwrap());
    let settings = Settings {
        local_detector: LocalDetector::Cidrs(vec![Cidr::parse("10.0.0.0/8").unwrap()]),
        node_port_addresses: [NodePortAddresses::Primary]
            .into_iter()
            .chain(shape.localhost.then_some(localhost))
            .collect(),
        masquerade_all: shape.masquerade_all,
        ..Settings::default()
    };
    machine.configure(settings, node);
}

pub fn apply(machine: &mut Machine, change: &Change) {
    match change {
        Change::Service(number, shape) => machine.upsert_service(service(*number, shape), vec![]),
        Change::NoService(number) => machine.delete_service(&service_name(*number)),
        Change::Slice(number, shape) => {
            let slice = slice(machine, *number, shape);
            machine.upsert_slice(slice, vec![]);
        }
        Change::NoSlice(number) => machine.delete_slice(&slice_name(*number)),
        Change::Node(shape) => configure(machine, *shape),
        Change::Refused => {}
    }
}

/// Applies the staged plan transaction by transaction.
pub fn carry_out(machine: &mut Machine, tables: &mut Tables) {
    while let Some(transaction) = machine.next_transaction() {
        tables.apply(&transaction.text);
        tables.check_closed();
    }
    machine.commit();
}
