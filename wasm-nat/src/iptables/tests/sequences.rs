//! Any sequence of changes, applied as transactions, ends where compiling the end state afresh ends; every transaction on
//! the way is one that the kernel takes; a restart on what is there writes nothing.

use super::cluster::*;
use super::model::Kernel;
use crate::address::Family;
use crate::balance::Balance;
use crate::machine::Machine;
use crate::model::*;
use proptest::prelude::*;
use std::net::IpAddr;

#[derive(Clone, Debug)]
enum Change {
    Service(u8, Shape),
    NoService(u8),
    Endpoints(u8, bool, Vec<(u8, u8, bool)>),
    Settings(bool, u8, u8),
    /// The kernel refuses the plan after some of its transactions; the agent reads back and starts from there.
    Broken(u8),
    /// The plan is not carried out at all, and made anew.
    Refused,
}

#[derive(Clone, Debug)]
struct Shape {
    address: u8,
    far: bool,
    ports: u8,
    node_ports: bool,
    external: bool,
    balancer: Option<bool>,
    local: (bool, bool),
    affinity: bool,
    balance: u8,
    both: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let where_to = (0u8..40, prop::bool::weighted(0.2), prop_oneof![3 => 1u8..4, 1 => 7u8..20]);
    let how = (any::<bool>(), any::<bool>(), prop::option::of(any::<bool>()));
    let what = (any::<(bool, bool)>(), prop::bool::weighted(0.3), 0u8..5, any::<bool>());
    (where_to, how, what).prop_map(
        |((address, far, ports), (node_ports, external, balancer), (local, affinity, balance, both))| Shape {
            address,
            far,
            ports,
            node_ports,
            external,
            balancer,
            local,
            affinity,
            balance,
            both,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let endpoints = prop::collection::vec((1u8..9, 0u8..3, any::<bool>()), 0..5);
    prop_oneof![
        6 => (0u8..24, shape()).prop_map(|(number, shape)| Change::Service(number, shape)),
        2 => (0u8..24).prop_map(Change::NoService),
        6 => (0u8..24, any::<bool>(), endpoints).prop_map(|(n, v6, endpoints)| Change::Endpoints(n, v6, endpoints)),
        1 => (any::<bool>(), 0u8..5, 0u8..4).prop_map(|(all, detector, ports)| Change::Settings(all, detector, ports)),
        1 => (0u8..4).prop_map(Change::Broken),
        1 => Just(Change::Refused),
    ]
}

fn make_service(number: u8, shape: &Shape) -> Service {
    let policy = |local| if local { Policy::Local } else { Policy::Cluster };
    let v4 = if shape.far {
        IpAddr::from([10, 96, shape.address, 1])
    } else {
        IpAddr::from([172, 30, 0, shape.address])
    };
    let v6 = format!("fd00:172:30::{:x}", shape.address);
    let mut service = service(&format!("s{number}"), &v4.to_string());
    service.created = Some((i64::from(number), 0));
    if shape.both {
        service.cluster_ips.push(ip(&v6));
    }
    let ports = (0..shape.ports).map(|each| {
        let node_port = 30_000 + u16::from(number) * 32 + u16::from(each);
        let node_port = (shape.node_ports || shape.balancer.is_some()).then_some(node_port);
        port(&format!("p{each}"), Protocol::ALL[usize::from(each) % 3], 80 + u16::from(each), node_port)
    });
    service.ports = ports.collect();
    if shape.external {
        service.external_ips = vec![ip("198.51.100.7"), ip("2001:db8::7")];
    }
    if let Some(ranges) = shape.balancer {
        service.load_balancer_ips = vec![IpAddr::from([198, 51, 100, 100 + number]), ip("2001:db8::1")];
        service.source_ranges = ranges.then(|| vec![cidr("203.0.113.0/25"), cidr("192.168.0.0/16")]);
    }
    (service.internal_policy, service.external_policy) = (policy(shape.local.0), policy(shape.local.1));
    service.health_check_node_port =
        (shape.balancer.is_some() && shape.local.1).then_some(31_000 + u16::from(number));
    service.affinity_seconds = shape.affinity.then_some(60);
    service.balance =
        [Balance::Random, Balance::Random, Balance::RoundRobin, Balance::SourceHash, Balance::Maglev]
            [usize::from(shape.balance)];
    service
}

fn make_slice(machine: &mut Machine, number: u8, v6: bool, endpoints: &[(u8, u8, bool)]) -> EndpointSlice {
    let of = format!("s{number}");
    let mut slice = slice(machine, &of, &[]);
    let (here, there) = (machine.names.intern("here"), machine.names.intern("there"));
    slice.family = Some(if v6 { Family::V6 } else { Family::V4 });
    slice.name = name(&format!("{of}-{v6}"));
    slice.ports = (0..20)
        .map(|each: u16| EndpointPort {
            name: format!("p{each}").into(),
            protocol: Protocol::ALL[usize::from(each) % 3],
            port: 8080 + each,
        })
        .collect();
    let endpoint = |(last, state, local): &(u8, u8, bool)| Endpoint {
        address: if v6 { ip(&format!("fd00:10::{last}")) } else { IpAddr::from([10, 180, 0, *last]) },
        ready: *state == 2,
        serving: *state >= 1,
        terminating: *state == 1,
        node: Some(if *local { here } else { there }),
        zone: None,
        hint_zones: vec![],
        hint_nodes: vec![],
    };
    slice.endpoints = endpoints.iter().map(endpoint).collect();
    slice
}

fn make_settings(all: bool, detector: u8, ports: u8) -> Settings {
    Settings {
        masquerade_all: all,
        local_detector: match detector {
            0 => LocalDetector::None,
            1 => LocalDetector::Cidrs(vec![cidr("10.0.0.0/9"), cidr("10.192.0.0/10"), cidr("fd00:10::/32")]),
            2 => LocalDetector::Interface("cbr0".into()),
            3 => LocalDetector::InterfacePrefix("veth".into()),
            _ => settings().local_detector,
        },
        node_port_addresses: match ports {
            0 => vec![NodePortAddresses::Primary],
            1 => {
                vec![NodePortAddresses::Range(cidr("192.168.0.0/16")), NodePortAddresses::Range(cidr("::/0"))]
            }
            2 => vec![NodePortAddresses::Range(cidr("127.0.0.1/32"))],
            _ => vec![NodePortAddresses::All],
        },
        families: if detector == 3 { vec![Family::V4] } else { Family::BOTH.to_vec() },
        ..settings()
    }
}

fn make(machine: &mut Machine, change: &Change) {
    match change {
        Change::Service(number, shape) => machine.upsert_service(make_service(*number, shape), vec![]),
        Change::NoService(number) => machine.delete_service(&name(&format!("s{number}"))),
        Change::Endpoints(number, v6, endpoints) => {
            let slice = make_slice(machine, *number, *v6, endpoints);
            machine.upsert_slice(slice, vec![]);
        }
        Change::Settings(all, detector, ports) => configure(machine, make_settings(*all, *detector, *ports)),
        Change::Broken(_) | Change::Refused => {}
    }
}

/// Applies the staged plan; with `most`, only so many of its transactions.
fn carry_out(machine: &mut Machine, kernel: &mut Kernel, most: Option<u8>) -> Result<(), String> {
    let mut count = 0;
    while let Some(transaction) = machine.next_transaction() {
        if most == Some(count) {
            machine.rollback();
            return Ok(());
        }
        kernel.apply(&transaction)?;
        count += 1;
    }
    machine.commit();
    Ok(())
}

fn check(groups: &[Vec<Change>]) -> Result<(), String> {
    let mut running = machine(settings());
    let mut kernel = Kernel::new();
    running.reconcile(kernel.listings());
    carry_out(&mut running, &mut kernel, None)?;
    for group in groups {
        let mut broken = None;
        for change in group {
            make(&mut running, change);
            match change {
                Change::Broken(most) => broken = Some(*most),
                Change::Refused => {
                    running.plan();
                    running.next_transaction();
                    running.rollback();
                }
                _ => {}
            }
        }
        running.plan();
        carry_out(&mut running, &mut kernel, broken)?;
        if broken.is_some() {
            running.reconcile(kernel.listings());
            carry_out(&mut running, &mut kernel, None)?;
        }
        running.plan();
        if !running.is_empty() {
            return Err("nothing has changed, and there is a plan".into());
        }
        if !running.audit(&kernel.listings()) {
            return Err("nobody has touched it, and an audit finds something".into());
        }
    }
    let mut rendered = Kernel::new();
    running.render(None).iter().try_for_each(|transaction| rendered.apply(transaction))?;
    let families = groups.iter().flatten().rfind(|change| matches!(change, Change::Settings(..)));
    let families = match families {
        Some(Change::Settings(_, 3, _)) => vec![Family::V4],
        _ => Family::BOTH.to_vec(),
    };
    for family in Family::BOTH {
        if families.contains(&family) && kernel.family(family) != rendered.family(family) {
            return Err(format!(
                "{family:?}: applied\n{}\nrendered\n{}",
                kernel.family(family).listing(),
                rendered.family(family).listing()
            ));
        }
        if !families.contains(&family) && *kernel.family(family) != super::model::Tables::new() {
            return Err(format!("{family:?} is not wanted\n{}", kernel.family(family).listing()));
        }
    }
    let mut restarted = machine(settings());
    groups.iter().flatten().for_each(|change| make(&mut restarted, change));
    restarted.reconcile(kernel.listings());
    if let Some(transaction) = restarted.next_transaction() {
        return Err(format!("a restart writes\n{}", transaction.text));
    }
    restarted.commit();
    want_no_family(&mut restarted);
    restarted.reconcile(kernel.listings());
    while let Some(transaction) = restarted.next_transaction() {
        kernel.apply(&transaction)?;
    }
    if kernel != Kernel::new() {
        return Err(format!("no family is wanted\n{:?}", kernel.listings()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn changes_end_where_a_fresh_compile_ends(groups in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..12)) {
        if let Err(why) = check(&groups) {
            return Err(TestCaseError::fail(why));
        }
    }
}
