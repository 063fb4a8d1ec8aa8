//! Any sequence of changes, applied as transactions, ends where compiling the end state afresh ends; and every
//! transaction on the way leaves a table in which nothing names what is not there.

mod nft_model;

use nft_model::cluster::{Change, NodeShape, ServiceShape, SliceShape, apply, carry_out, change, machine};
use nft_model::{COUNTERS, Table, Tables};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use wasm_nat::address::Family;
use wasm_nat::machine::Machine;
use wasm_nat::model::{Endpoint, EndpointPort, EndpointSlice, ObjectName, Protocol, Service, ServicePort};
use wasm_nat::simulate::{Packet, Trace, TraceRule, Verdict};

/// All packets that could tell two rule sets apart.
fn traces(machine: &mut Machine) -> Vec<Trace> {
    let sources = ["10.180.0.3", "10.0.9.9", "192.168.0.2", "127.0.0.1", "203.0.113.9", "203.0.113.200"];
    let mut places: Vec<(IpAddr, u16)> = Vec::new();
    for port in [80, 81, 82, 83] {
        places.extend((1..6).map(|last| (IpAddr::from([172, 30, 0, last]), port)));
        places.extend([1, 10, 11, 12, 13].map(|last| (IpAddr::from([198, 51, 100, last]), port)));
    }
    for node in [[192, 168, 0, 2], [127, 0, 0, 1]] {
        places.extend((30_000..30_032).map(|port| (IpAddr::from(node), port)));
    }
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

/// Nobody has inherited what was counted for somebody else.
fn check_counters(tables: &Tables) {
    for table in tables.0.values() {
        let own = table.countable();
        for (number, (label, _)) in table.elements.get(COUNTERS).into_iter().flatten() {
            // A Service port that another one has taken all addresses from keeps its number.
            let now: Vec<&String> = own.iter().filter(|(of, _)| of == number).map(|(_, now)| now).collect();
            assert!(now.is_empty() || now.contains(&label), "{number} counted for {label} is {now:?}'s");
        }
    }
}

/// Numbers with a counter that no packet can meet.
fn counted_for_nobody(tables: &Tables) -> Vec<String> {
    let of = |table: &nft_model::Table| {
        let own: BTreeSet<String> = table.countable().into_iter().map(|(number, _)| number).collect();
        let counted = table.elements.get(COUNTERS).into_iter().flatten().map(|(number, _)| number.clone());
        counted.filter(|number| !own.contains(number)).collect::<Vec<String>>()
    };
    tables.0.values().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn changes_end_where_a_fresh_compile_ends(groups in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..10)) {
        let mut running = machine(NodeShape::default());
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
            tables.receive();
            carry_out(&mut running, &mut tables);
            check_counters(&tables);
            running.plan();
            prop_assert!(running.is_empty(), "nothing has changed");
            running.rollback();
        }
        let mut rendered = Tables::default();
        for transaction in running.render(None) {
            rendered.apply(&transaction.text);
        }
        tables.forget_unused_chains();
        tables.0.values_mut().for_each(|table| drop(table.elements.remove(COUNTERS)));
        prop_assert_eq!(&tables, &rendered);
        tables.receive();
        // Restarted: what the kernel lists is what is wanted.
        let mut fresh = machine(NodeShape::default());
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
        // Restarted, and much has changed meanwhile.
        let mut other = machine(NodeShape::default());
        for change in groups.iter().take(groups.len() / 2).flatten() {
            apply(&mut other, change);
        }
        other.reconcile(tables.listings());
        carry_out(&mut other, &mut tables);
        prop_assert_eq!(counted_for_nobody(&tables), Vec::<String>::new());
    }
}

/// Services enough for several transactions of a phase, each with this many endpoints.
fn large(machine: &mut Machine, endpoints: impl Fn(u16) -> u8) {
    for number in 0..10_000u16 {
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
    let mut machine = machine(NodeShape::default());
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
    let mut machine = machine(NodeShape::default());
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
    let mut machine = machine(NodeShape::default());
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
            let mut whole = self::machine(NodeShape::default());
            large(&mut whole, |_| 3);
            whole
        })
    );
}

/// A machine of a few Services, and a table of another layout that it finds.
fn of_another_layout() -> (Machine, Tables) {
    let mut machine = small(NOT_ASKED);
    let mut tables = Tables::default();
    machine.reconcile(vec![]);
    carry_out(&mut machine, &mut tables);
    let declaration = &mut tables.0.get_mut("ip fairlead").unwrap().declaration;
    *declaration = declaration.replace("layout", "older layout");
    (small(NOT_ASKED), tables)
}

/// Before every switch of the kernel's and after it there is a table that packets are led through whole: the old one, or one
/// of the new ones. And none is led through a table in the transaction that makes it.
#[test]
fn a_table_that_is_replaced_has_a_stand_in() {
    let (mut machine, mut tables) = of_another_layout();
    let (old, new) = (tables.clone(), rendered(&mut machine));
    let [old, new] = [&old, &new].map(|tables| &tables.0["ip fairlead"]);
    let serving = |tables: &Tables| -> Vec<(String, Table)> {
        let mut all = tables.0.clone();
        all.retain(|id, table| id.starts_with("ip ") && table.serves());
        all.into_iter().collect()
    };
    machine.reconcile(tables.listings());
    let mut told = Vec::new();
    let mut before = serving(&tables);
    while let Some(transaction) = machine.next_transaction() {
        let was_there: Vec<String> = tables.0.keys().cloned().collect();
        tables.apply(&transaction.text);
        let now = serving(&tables);
        assert!(now.iter().all(|(_, table)| table == old || table == new), "{}", transaction.text);
        assert!(now.iter().any(|one| before.contains(one)), "a packet on its way: {}", transaction.text);
        assert!(now.iter().all(|(id, _)| was_there.contains(id)), "{}", transaction.text);
        told.push(
            now.into_iter().map(|(id, table)| format!("{id} {}", if table == *old { "old" } else { "new" })),
        );
        before = serving(&tables);
    }
    machine.commit();
    let told: Vec<String> = told.into_iter().map(|tables| tables.collect::<Vec<_>>().join(", ")).collect();
    let [old, new, stand_in] = ["ip fairlead old", "ip fairlead new", "ip fairlead-stand-in new"];
    assert_eq!(
        told,
        [
            old.to_owned(),
            format!("{old}, {stand_in}"),
            stand_in.to_owned(),
            stand_in.to_owned(),
            stand_in.to_owned(),
            format!("{new}, {stand_in}"),
            new.to_owned(),
            new.to_owned(),
        ]
    );
    machine.plan();
    assert!(machine.is_empty(), "nothing is left");
}

#[test]
fn a_stand_in_that_was_left_goes_with_the_next_plan() {
    for taken in 1..8 {
        let (mut machine, mut tables) = of_another_layout();
        machine.reconcile(tables.listings());
        for _ in 0..taken {
            tables.apply(&machine.next_transaction().unwrap().text);
        }
        machine.rollback();
        machine.reconcile(tables.listings());
        carry_out(&mut machine, &mut tables);
        assert!(tables == rendered(&mut machine), "{taken} taken");
        machine.reconcile(tables.listings());
        assert!(machine.is_empty(), "nothing is left: {taken} taken");
    }
}

#[test]
fn a_stand_in_that_was_only_planned_is_not_looked_for() {
    let (mut machine, tables) = of_another_layout();
    machine.reconcile(tables.listings());
    machine.rollback();
    let mut current = rendered(&mut machine);
    machine.reconcile(current.listings());
    carry_out(&mut machine, &mut current);
    assert!(!machine.next_transaction().is_some_and(|next| next.text.contains("stand-in")));
}

/// Node ports at 127.0.0.1 are asked for.
const ASKED: NodeShape = NodeShape { masquerade_all: false, localhost: true };
const NOT_ASKED: NodeShape = NodeShape { masquerade_all: false, localhost: false };

/// One Service, with the node port 30000.
fn small(shape: NodeShape) -> Machine {
    let mut machine = machine(shape);
    let service = ServiceShape {
        ports: 0,
        cluster_ip: 1,
        external_ip: false,
        node_port: true,
        load_balancer: false,
        ranges: false,
        internal_local: false,
        external_local: false,
        affinity: false,
        balance: 0,
        headless: false,
    };
    apply(&mut machine, &Change::Service(0, service));
    apply(&mut machine, &Change::Slice(0, SliceShape { service: 0, endpoints: vec![(1, 3, true)] }));
    machine
}

#[test]
fn loopback_has_node_ports_for_the_node_alone_where_they_are_asked_for() {
    for (name, shape, source, destination, verdict, masquerade) in [
        ("localhost", ASKED, "127.0.0.1", "127.0.0.1", Verdict::Dnat, true),
        ("any loopback address", ASKED, "127.0.0.1", "127.0.0.9", Verdict::Dnat, true),
        ("the node to loopback", ASKED, "192.168.0.2", "127.0.0.1", Verdict::Dnat, true),
        ("from the wire", ASKED, "203.0.113.9", "127.0.0.1", Verdict::Drop, false),
        ("from a pod", ASKED, "10.180.0.3", "127.0.0.1", Verdict::Drop, false),
        ("an address of the node", ASKED, "203.0.113.9", "192.168.0.2", Verdict::Dnat, true),
        ("::1", ASKED, "::1", "::1", Verdict::Untouched, false),
        ("not asked for", NOT_ASKED, "127.0.0.1", "127.0.0.1", Verdict::Untouched, false),
        ("not asked for, from the wire", NOT_ASKED, "203.0.113.9", "127.0.0.1", Verdict::Untouched, false),
    ] {
        let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
        let packet = Packet { source, destination, protocol: Protocol::Tcp, port: 30_000, interface: None };
        let trace = small(shape).trace(&packet);
        assert_eq!((trace.verdict, trace.masquerade), (verdict, masquerade), "{name}: {trace:#?}");
    }
}

#[test]
fn asking_and_no_longer_asking_changes_a_rule_and_a_chain() {
    let mut machine = small(NOT_ASKED);
    let mut tables = Tables::default();
    machine.reconcile(vec![]);
    carry_out(&mut machine, &mut tables);
    let without = tables.clone();
    let mut change = |shape: NodeShape| {
        apply(&mut machine, &Change::Node(shape));
        machine.plan();
        let mut told = String::new();
        while let Some(transaction) = machine.next_transaction() {
            tables.apply(&transaction.text);
            told += &transaction.text;
        }
        machine.commit();
        (told, tables.clone())
    };
    let (told, with) = change(ASKED);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines.iter().filter(|line| line.contains("loopback-guard")).collect::<Vec<_>>(),
        [
            &"add chain ip fairlead loopback-guard { type filter hook prerouting priority -300; policy accept; }",
            &"add rule ip fairlead loopback-guard ip daddr 127.0.0.0/8 iifname != \"lo\" counter drop comment \"6XGF3INE\"",
        ]
    );
    assert!(lines.iter().all(|line| line.split(' ').nth(2) == Some("ip")), "no other family: {told}");
    assert!(with == rendered(&mut small(ASKED)), "{told}");
    let (told, again) = change(NOT_ASKED);
    assert!(told.contains("delete chain ip fairlead loopback-guard\n"), "{told}");
    assert!(again == without, "{told}");
}

#[test]
fn a_restart_with_another_answer_extends_the_table_that_is_there() {
    let mut tables = rendered(&mut small(NOT_ASKED));
    let mut machine = small(ASKED);
    machine.reconcile(tables.listings());
    carry_out(&mut machine, &mut tables);
    assert!(tables == rendered(&mut machine));

    // The guard goes with the next change; until then it does no harm. And it stays if it is wanted again before.
    let mut machine = small(NOT_ASKED);
    machine.reconcile(tables.listings());
    carry_out(&mut machine, &mut tables);
    apply(&mut machine, &Change::Node(ASKED));
    machine.plan();
    carry_out(&mut machine, &mut tables);
    assert!(tables == rendered(&mut machine));
}
