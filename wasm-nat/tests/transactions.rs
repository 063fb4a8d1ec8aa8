//! Any sequence of changes, applied as transactions, ends where compiling the end state afresh ends; and every
//! transaction on the way leaves a table in which nothing names what is not there.

mod nft_model;

use nft_model::Tables;
use proptest::prelude::*;
use std::net::IpAddr;
use wasm_nat::address::{Cidr, Family};
use wasm_nat::balance::Balance;
use wasm_nat::machine::Machine;
use wasm_nat::model::{
    Endpoint, EndpointPort, EndpointSlice, LocalDetector, Node, NodePortAddresses, ObjectName, Policy,
    Protocol, Service, ServicePort, Settings,
};
use wasm_nat::simulate::{Packet, Trace, TraceRule};

/// What a test does to the cluster.
#[derive(Clone, Debug)]
enum Change {
    Service(u8, ServiceShape),
    NoService(u8),
    Slice(u8, SliceShape),
    NoSlice(u8),
    MasqueradeAll(bool),
    /// The kernel refuses the plan: it is rolled back, and the next one starts from the committed state.
    Refused,
}

#[derive(Clone, Debug)]
struct ServiceShape {
    ports: u8,
    cluster_ip: u8,
    external_ip: bool,
    node_port: bool,
    load_balancer: bool,
    ranges: bool,
    internal_local: bool,
    external_local: bool,
    affinity: bool,
    balance: u8,
    headless: bool,
}

#[derive(Clone, Debug)]
struct SliceShape {
    service: u8,
    /// (address, state, local)
    endpoints: Vec<(u8, u8, bool)>,
}

fn change() -> impl Strategy<Value = Change> {
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
        1 => any::<bool>().prop_map(Change::MasqueradeAll),
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

fn machine(masquerade_all: bool) -> Machine {
    let mut machine = Machine::default();
    configure(&mut machine, masquerade_all);
    machine
}

fn configure(machine: &mut Machine, masquerade_all: bool) {
    let node = Node {
        name: Some(machine.names.intern("here")),
        zone: None,
        addresses: vec![IpAddr::from([192, 168, 0, 2])],
    };
    let settings = Settings {
        local_detector: LocalDetector::Cidrs(vec![Cidr::parse("10.0.0.0/8").unwrap()]),
        node_port_addresses: vec![NodePortAddresses::Primary],
        masquerade_all,
        ..Settings::default()
    };
    machine.configure(settings, node);
}

fn apply(machine: &mut Machine, change: &Change) {
    match change {
        Change::Service(number, shape) => machine.upsert_service(service(*number, shape), vec![]),
        Change::NoService(number) => machine.delete_service(&service_name(*number)),
        Change::Slice(number, shape) => {
            let slice = slice(machine, *number, shape);
            machine.upsert_slice(slice, vec![]);
        }
        Change::NoSlice(number) => machine.delete_slice(&slice_name(*number)),
        Change::MasqueradeAll(on) => configure(machine, *on),
        Change::Refused => {}
    }
}

/// All packets that could tell two rule sets apart.
fn traces(machine: &mut Machine) -> Vec<Trace> {
    let sources = ["10.180.0.3", "10.0.9.9", "192.168.0.2", "203.0.113.9", "203.0.113.200"];
    let mut places: Vec<(IpAddr, u16)> = Vec::new();
    for port in [80, 81, 82, 83] {
        places.extend((1..6).map(|last| (IpAddr::from([172, 30, 0, last]), port)));
        places.extend([1, 10, 11, 12, 13].map(|last| (IpAddr::from([198, 51, 100, last]), port)));
    }
    places.extend((30_000..30_032).map(|port| (IpAddr::from([192, 168, 0, 2]), port)));
    let mut traces = Vec::new();
    for source in sources {
        for (destination, port) in &places {
            for protocol in Protocol::ALL {
                let source = source.parse().unwrap();
                let packet =
                    Packet { source, destination: *destination, protocol, port: *port, interface: None };
                let mut trace = machine.trace(&packet);
                // Numbers depend on history; the object and the chain's kind do not.
                trace.rules = trace.rules.into_iter().filter_map(|rule| rule.object.map(named)).collect();
                traces.push(trace);
            }
        }
    }
    traces
}

fn named(object: String) -> TraceRule {
    TraceRule { table: String::new(), chain: String::new(), rule: String::new(), object: Some(object) }
}

/// Applies the staged plan transaction by transaction.
fn carry_out(machine: &mut Machine, tables: &mut Tables) {
    while let Some(transaction) = machine.next_transaction() {
        tables.apply(&transaction.text);
        tables.check_closed();
    }
    machine.commit();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn changes_end_where_a_fresh_compile_ends(groups in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..10)) {
        let mut running = machine(false);
        let mut tables = Tables::default();
        running.reconcile(vec![]);
        carry_out(&mut running, &mut tables);
        for group in &groups {
            for change in group {
                apply(&mut running, change);
                if matches!(change, Change::Refused) {
                    running.plan();
                    running.next_transaction();
                    running.rollback();
                }
            }
            running.plan();
            carry_out(&mut running, &mut tables);
            running.plan();
            prop_assert!(running.is_empty(), "nothing has changed");
            running.rollback();
        }
        let mut rendered = Tables::default();
        for transaction in running.render(None) {
            rendered.apply(&transaction.text);
        }
        tables.forget_unused_chains();
        prop_assert_eq!(&tables, &rendered);
        // Restarted: what the kernel lists is what is wanted.
        let mut fresh = machine(false);
        for change in groups.iter().flatten() {
            apply(&mut fresh, change);
        }
        fresh.reconcile(tables.listings());
        let mut left = Vec::new();
        while let Some(transaction) = fresh.next_transaction() {
            left.push(transaction.text);
        }
        prop_assert!(left.is_empty(), "a restart writes {left:?}");
        fresh.commit();
        prop_assert_eq!(traces(&mut fresh), traces(&mut running));
    }
}

/// Services enough for several transactions of a phase, each with this many endpoints.
fn large(machine: &mut Machine, endpoints: impl Fn(u16) -> u8) {
    for number in 0..4_000u16 {
        let [high, low] = number.to_be_bytes();
        let name = ObjectName::new("default", &format!("s{number}"));
        let mut service = Service::new(name.clone());
        service.cluster_ips = vec![IpAddr::from([172, 30, high, low])];
        service.ports =
            vec![ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None }];
        machine.upsert_service(service, vec![]);
        let endpoint = |last| Endpoint {
            address: IpAddr::from([10, high, low, last]),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zone: None,
            hint_zones: vec![],
            hint_nodes: vec![],
        };
        machine.upsert_slice(
            EndpointSlice {
                name: name.clone(),
                service: name,
                family: Some(Family::V4),
                ports: vec![EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
                endpoints: (1..=endpoints(number)).map(endpoint).collect(),
            },
            vec![],
        );
    }
}

#[test]
fn transactions_that_go_side_by_side_may_come_in_any_order() {
    let mut machine = machine(false);
    large(&mut machine, |_| 3);
    machine.reconcile(vec![]);
    let mut groups: Vec<Vec<String>> = Vec::new();
    while let Some(transaction) = machine.next_transaction() {
        match groups.last_mut() {
            Some(group) if transaction.beside => group.push(transaction.text),
            _ => groups.push(vec![transaction.text]),
        }
    }
    machine.commit();
    assert!(groups.iter().any(|group| group.len() > 1), "large plans have some side by side");
    let mut tables = Tables::default();
    for text in groups.iter().flat_map(|group| group.iter().rev()) {
        tables.apply(text);
        tables.check_closed();
    }
    let mut rendered = Tables::default();
    for transaction in machine.render(None) {
        rendered.apply(&transaction.text);
    }
    tables.forget_unused_chains();
    assert!(tables == rendered, "the end is the same");
}

#[test]
fn a_large_change_of_all_kinds_takes_few_transactions() {
    let mut machine = machine(false);
    large(&mut machine, |number| 2 + u8::from(number % 2 == 0));
    machine.reconcile(vec![]);
    while machine.next_transaction().is_some() {}
    machine.commit();
    // Each Service has one more or one less: elements come, go and are replaced in turns.
    large(&mut machine, |number| 2 + u8::from(number % 2 == 1));
    machine.plan();
    let mut operations = 0;
    let mut transactions = 0;
    while let Some(transaction) = machine.next_transaction() {
        operations += transaction.operations;
        transactions += 1;
    }
    assert!(transactions < 20, "{transactions} transactions for {operations} operations");
}

/// A machine with Services enough for several parts of a first load, whose plan has handed out `taken` transactions to
/// a kernel that held nothing.
fn half_loaded(taken: usize) -> (Machine, Tables) {
    let mut machine = machine(false);
    large(&mut machine, |_| 3);
    machine.reconcile(vec![]);
    let mut tables = Tables::default();
    for _ in 0..taken {
        let transaction = machine.next_transaction().expect("the load is larger");
        tables.apply(&transaction.text);
        tables.check_closed();
    }
    (machine, tables)
}

fn rendered(machine: &mut Machine) -> Tables {
    let mut rendered = Tables::default();
    for transaction in machine.render(None) {
        rendered.apply(&transaction.text);
    }
    rendered
}

#[test]
fn a_load_that_was_refused_half_way_goes_on_from_what_the_kernel_has_taken() {
    for taken in 1..3 {
        let (mut machine, mut tables) = half_loaded(taken);
        machine.rollback();
        machine.reconcile(tables.listings());
        carry_out(&mut machine, &mut tables);
        tables.forget_unused_chains();
        assert!(tables == rendered(&mut machine), "{taken} taken");
        machine.plan();
        assert!(machine.is_empty(), "nothing is left");
    }
}

#[test]
fn a_load_that_was_refused_half_way_can_begin_anew() {
    let (mut machine, _) = half_loaded(2);
    machine.rollback();
    let mut tables = Tables::default();
    machine.reconcile(vec![]);
    carry_out(&mut machine, &mut tables);
    assert!(tables == rendered(&mut machine), "the end is the same");
}

#[test]
fn what_changes_during_a_load_is_planned_after_it() {
    let (mut machine, mut tables) = half_loaded(1);
    large(&mut machine, |number| if number == 3_999 { 2 } else { 3 });
    machine.delete_service(&ObjectName::new("default", "s0"));
    carry_out(&mut machine, &mut tables);
    machine.plan();
    carry_out(&mut machine, &mut tables);
    tables.forget_unused_chains();
    assert!(tables == rendered(&mut machine), "the end is the same");
}

#[test]
fn a_question_during_a_load_is_answered_from_all_of_it() {
    let (mut machine, _) = half_loaded(1);
    assert_eq!(
        rendered(&mut machine),
        rendered(&mut {
            let mut whole = self::machine(false);
            large(&mut whole, |_| 3);
            whole
        })
    );
}
