//! Any sequence of changes ends where compiling the end state afresh ends; every line on the way is one that the kernel
//! takes; a restart on what is there writes nothing.

use super::cluster::*;
use super::kernel::Kernel;
use crate::machine::Machine;
use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Clone, Debug)]
enum Change {
    Service(u8, Shape),
    NoService(u8),
    Endpoints(u8, Vec<(u8, u8)>),
    /// The kernel takes so many of the plan's transactions, and the agent reads back and starts from there.
    Broken(u8),
    /// Connections of endpoints that have left end.
    Drain,
    Families(u8),
}

#[derive(Clone, Debug)]
struct Shape {
    protocol: u8,
    node_port: bool,
    external: bool,
    balancer: Option<bool>,
    local: (bool, bool),
    affinity: bool,
    both: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let flags = (any::<bool>(), any::<bool>(), any::<(bool, bool)>(), any::<bool>(), any::<bool>());
    (0u8..3, prop::option::of(any::<bool>()), flags).prop_map(
        |(protocol, balancer, (node_port, external, local, affinity, both))| Shape {
            protocol,
            node_port,
            external,
            balancer,
            local,
            affinity,
            both,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (0u8..6, shape()).prop_map(|(number, shape)| Change::Service(number, shape)),
        2 => (0u8..6).prop_map(Change::NoService),
        6 => (0u8..6, prop::collection::vec((1u8..6, 0u8..6), 0..4)).prop_map(|(n, list)| Change::Endpoints(n, list)),
        1 => (0u8..4).prop_map(Change::Broken),
        1 => Just(Change::Drain),
        1 => (0u8..3).prop_map(Change::Families),
    ]
}

fn make_service(number: u8, shape: &Shape) -> Service {
    let policy = |local| if local { Policy::Local } else { Policy::Cluster };
    let protocol = Protocol::ALL[usize::from(shape.protocol)];
    let mut service = service(&format!("s{number}"), &format!("172.30.0.{number}"), protocol);
    service.created = Some((i64::from(number), 0));
    if shape.both {
        service.cluster_ips.push(ip(&format!("fd00:172:30::{number:x}")));
    }
    // One of them has the number of the others' external port, which is at an address of the node.
    let node_port = if number == 5 { 80 } else { 30_000 + u16::from(number) };
    service.ports[0].node_port = shape.node_port.then_some(node_port);
    if shape.external {
        // Shared by all: the oldest owns it, and the next inherits.
        service.external_ips = vec![ip("198.51.100.7"), ip("192.168.100.2"), ip("2001:db8::7")];
    }
    if let Some(ranges) = shape.balancer {
        service.load_balancer_ips = vec![IpAddr::from([198, 51, 100, 100 + number])];
        service.source_ranges = ranges.then(|| vec![cidr("203.0.113.0/25"), cidr("0.0.0.0/0")]);
    }
    (service.internal_policy, service.external_policy) = (policy(shape.local.0), policy(shape.local.1));
    // Two of them ask for the same port.
    service.health_check_node_port =
        (shape.local.1 && shape.balancer.is_some()).then_some(32_100 + u16::from(number / 2));
    service.affinity_seconds = shape.affinity.then_some(60);
    service
}

fn make_slice(machine: &mut Machine, number: u8, list: &[(u8, u8)]) -> EndpointSlice {
    let endpoints: Vec<String> = list
        .iter()
        .map(|(last, state)| {
            format!("{}10.180.0.{last}", ["", "+", "-", "+-", "!", "+!"][usize::from(*state)])
        })
        .collect();
    let texts: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let mut made = slice(machine, &format!("s{number}"), Protocol::Tcp, &texts);
    made.ports = Protocol::ALL
        .into_iter()
        .map(|protocol| EndpointPort { name: "http".into(), protocol, port: 8080 })
        .collect();
    made
}

fn families(choice: u8) -> Settings {
    use crate::address::Family;
    let families = [Family::BOTH.to_vec(), vec![Family::V4], vec![Family::V6]];
    Settings { families: families[usize::from(choice)].clone(), ..settings() }
}

#[derive(Default)]
struct World {
    services: BTreeMap<u8, Shape>,
    endpoints: BTreeMap<u8, Vec<(u8, u8)>>,
    families: u8,
}

impl World {
    fn machine(&self) -> Machine {
        let mut machine = machine(families(self.families));
        for (number, shape) in &self.services {
            machine.upsert_service(make_service(*number, shape), vec![]);
        }
        for (number, list) in &self.endpoints {
            let slice = make_slice(&mut machine, *number, list);
            machine.upsert_slice(slice, vec![]);
        }
        machine
    }
}

fn drained(kernel: &mut Kernel, machine: &mut Machine) {
    kernel.waiting_connections = 0;
    machine.drain(&kernel.servers());
    kernel.carry_out(machine);
    kernel.waiting_connections = 2;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_sequence_ends_where_a_fresh_start_ends(changes in prop::collection::vec(change(), 1..25)) {
        let mut world = World::default();
        let mut kernel = Kernel { waiting_connections: 2, ..Kernel::default() };
        let mut machine = world.machine();
        machine.plan();
        kernel.carry_out(&mut machine);
        for change in changes {
            let mut most = usize::MAX;
            match change {
                Change::Service(number, shape) => {
                    machine.upsert_service(make_service(number, &shape), vec![]);
                    world.services.insert(number, shape);
                }
                Change::NoService(number) => {
                    machine.delete_service(&ObjectName::new("default", &format!("s{number}")));
                    world.services.remove(&number);
                }
                Change::Endpoints(number, list) => {
                    let slice = make_slice(&mut machine, number, &list);
                    machine.upsert_slice(slice, vec![]);
                    world.endpoints.insert(number, list);
                }
                Change::Broken(count) => most = usize::from(count),
                Change::Drain => drained(&mut kernel, &mut machine),
                Change::Families(choice) => {
                    world.families = choice;
                    let mut names = Names::default();
                    let node = Node {
                        name: Some(names.intern("here")),
                        zone: None,
                        addresses: ["192.168.0.2", "192.168.100.2", "fd00:192:168::2"].map(ip).to_vec(),
                    };
                    machine.configure(families(choice), node);
                }
            }
            machine.plan();
            if most == usize::MAX {
                kernel.carry_out(&mut machine);
            } else {
                for _ in 0..most {
                    let Some(transaction) = machine.next_transaction() else { break };
                    kernel.apply(&transaction);
                }
                machine.rollback();
                machine.reconcile(kernel.listings());
                kernel.carry_out(&mut machine);
            }
            prop_assert!(machine.audit(&kernel.listings()), "nobody has touched it");
        }
        machine.reconcile(kernel.listings());
        let mut rest = String::new();
        while let Some(transaction) = machine.next_transaction() {
            rest += &transaction.text;
        }
        machine.rollback();
        prop_assert!(rest.is_empty(), "a restart writes:\n{rest}");

        drained(&mut kernel, &mut machine);
        let mut fresh = Kernel { waiting_connections: 2, ..Kernel::default() };
        let mut again = world.machine();
        again.plan();
        fresh.carry_out(&mut again);
        let (mut got, mut want) = (kernel.without_numbers(), fresh.without_numbers());
        // A family that went may leave empty tables of the kernel's own chains.
        for kernel in [&mut got, &mut want] {
            kernel.tables.values_mut().for_each(|table| table.retain(|_, rules| !rules.is_empty()));
            kernel.tables.retain(|_, table| !table.is_empty());
        }
        prop_assert_eq!(got, want);
    }
}
