//! An audit says of every table whether it is what was committed; it says no whenever a reconcile would write something,
//! and otherwise only where that would take over other numbers or another order.

mod nft_model;

use nft_model::cluster::{Change, NodeShape, ServiceShape, SliceShape, apply, carry_out, change, machine};
use nft_model::{Table, Tables};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wasm_nat::address::Family;
use wasm_nat::machine::Machine;
use wasm_nat::model::{Node, Settings};

/// The answer for listings that come in pieces of some lines.
fn is_intact(machine: &mut Machine, listings: &[(Family, String)]) -> bool {
    machine.begin_audit();
    for (family, text) in listings {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.chunks(7).for_each(|piece| machine.hear(*family, piece.concat()));
    }
    machine.is_intact()
}

fn rendered(machine: &mut Machine) -> Tables {
    let mut tables = Tables::default();
    machine.render(None).iter().for_each(|transaction| tables.apply(&transaction.text));
    tables
}

fn shape(balance: u8) -> ServiceShape {
    ServiceShape {
        ports: 2,
        cluster_ip: 1 + balance,
        external_ip: false,
        node_port: true,
        load_balancer: true,
        ranges: true,
        internal_local: balance == 0,
        external_local: true,
        affinity: balance == 1,
        balance,
        headless: false,
    }
}

/// Has something in every map that transactions fill, and chains of every method.
fn loaded() -> (Machine, Tables) {
    let mut machine = machine(NodeShape::default());
    for (number, balance) in [(0, 0), (1, 1), (2, 3), (3, 5)] {
        apply(&mut machine, &Change::Service(number, shape(balance)));
        if number < 3 {
            let endpoints = vec![(1, 3, true), (2, 3, false), (3, 3, true)];
            apply(&mut machine, &Change::Slice(number, SliceShape { service: number, endpoints }));
        }
    }
    let mut tables = Tables::default();
    machine.reconcile(vec![]);
    carry_out(&mut machine, &mut tables);
    (machine, tables)
}

fn ip(tables: &mut Tables) -> &mut Table {
    tables.0.get_mut("ip fairlead").expect("IPv4 is programmed")
}

/// Of one map: key → (comment, value).
type Elements = BTreeMap<String, (String, String)>;

/// (map, key) of every element.
fn places(table: &Table) -> Vec<(String, String)> {
    let of = |(map, elements): (&String, &Elements)| {
        elements.keys().map(|key| (map.clone(), key.clone())).collect::<Vec<_>>()
    };
    table.elements.iter().flat_map(of).collect()
}

#[test]
fn what_nobody_has_touched_is_intact() {
    let (mut machine, mut tables) = loaded();
    let empty = ["cluster-cidrs", "nodeport-ips", "source-ranges", "affinity-slots", "service-nodeports"];
    assert!(
        empty.iter().all(|map| ip(&mut tables).elements.contains_key(*map)),
        "the cluster is large enough"
    );
    assert!(is_intact(&mut machine, &tables.listings()));
    assert!(is_intact(&mut machine, &tables.listings()), "also when it is asked again");
}

#[test]
fn each_element_counts() {
    let (mut machine, tables) = loaded();
    let table = ip(&mut tables.clone()).clone();
    for (map, key) in places(&table) {
        let with = |change: &dyn Fn(&mut Elements)| {
            let mut harmed = tables.clone();
            change(ip(&mut harmed).elements.get_mut(&map).unwrap());
            harmed.listings()
        };
        let without = with(&|elements| drop(elements.remove(&key)));
        assert!(!is_intact(&mut machine, &without), "{map} without {key}");

        let elements = &table.elements[&map];
        let value = &elements[&key];
        if let Some(another) = elements.values().find(|another| *another != value) {
            let changed = with(&|elements| drop(elements.insert(key.clone(), another.clone())));
            assert!(!is_intact(&mut machine, &changed), "{map}: {key} is {another:?}, not {value:?}");
        }
    }
    assert!(is_intact(&mut machine, &tables.listings()), "no answer changes anything");
}

#[test]
fn each_chain_rule_and_map_counts() {
    let (mut machine, tables) = loaded();
    let table = ip(&mut tables.clone()).clone();
    let mut check = |what: &str, name: &str, harm: &dyn Fn(&mut Table)| {
        let mut harmed = tables.clone();
        harm(ip(&mut harmed));
        assert_ne!(harmed, tables, "{what} {name}");
        assert!(!is_intact(&mut machine, &harmed.listings()), "{what} {name}");
    };
    for name in table.maps.keys() {
        check("no map", name, &|table| drop(table.maps.remove(name)));
    }
    for (name, (hook, rules)) in &table.chains {
        check("no chain", name, &|table| drop(table.chains.remove(name)));
        check("another rule in", name, &|table| table.chains.get_mut(name).unwrap().1.push("accept".into()));
        if !hook.is_empty() {
            check("no hook of", name, &|table| table.chains.get_mut(name).unwrap().0.clear());
        }
        if !rules.is_empty() {
            check("no first rule in", name, &|table| drop(table.chains.get_mut(name).unwrap().1.remove(0)));
            check("rules of another seal in", name, &|table| {
                let rule = &mut table.chains.get_mut(name).unwrap().1[0];
                let (text, _) = rule.rsplit_once(" comment ").expect("the first rule bears the seal");
                *rule = format!("{text} comment \"OTHERONE\"");
            });
        }
    }
}

/// What somebody does to the table of IPv4.
type Hand = fn(&mut Table);

#[test]
fn what_is_added_counts_where_it_is_ours() {
    fn add(table: &mut Table, map: &str, key: &str, value: &str) {
        let elements = table.elements.entry(map.to_owned()).or_default();
        assert!(elements.insert(key.to_owned(), (String::new(), value.to_owned())).is_none());
    }
    let hands: [(&str, Hand, bool); 9] = [
        ("an address", |table| add(table, "service-ips", "172.30.9.9 . tcp . 80", "0x80002000"), false),
        ("an endpoint", |table| add(table, "tcp-endpoints", "0x80002000 . 9", "10.180.0.9 . 80"), false),
        ("a range", |table| add(table, "cluster-cidrs", "10.99.0.0/16", ""), false),
        ("no element at all", |table| add(table, "udp-endpoints", "what", "ever"), false),
        ("another layout", |table| table.declaration = "comment \"layout 0\";".into(), false),
        ("a client remembered", |table| add(table, "affinity", "0x80002000 . 1.2.3.4", "0x80002002"), true),
        ("a hairpin", |table| add(table, "hairpin", "10.180.0.1 . 10.180.0.1", ""), true),
        ("somebody's chain", |table| drop(table.chains.insert("theirs".into(), Default::default())), true),
        ("somebody's map", |table| drop(table.maps.insert("theirs".into(), String::new())), true),
    ];
    let (mut machine, tables) = loaded();
    for (what, hand, want) in hands {
        let mut touched = tables.clone();
        hand(ip(&mut touched));
        assert_ne!(touched, tables, "{what}");
        assert_eq!(is_intact(&mut machine, &touched.listings()), want, "{what}");
    }
}

#[test]
fn counters_and_comments_do_not_count() {
    let (mut machine, mut tables) = loaded();
    tables.receive();
    let mut listings = tables.listings();
    let text = &mut listings[0].1;
    let before = text.clone();
    *text = text.replace(" . tcp . 80 :", " . tcp . 80 comment \"a, } odd : one\" :");
    assert_ne!(*text, before);
    assert!(is_intact(&mut machine, &listings));
}

#[test]
fn tables_must_be_there_where_they_are_wanted_and_nowhere_else() {
    let (mut machine, tables) = loaded();
    let listings = tables.listings();
    assert_eq!(listings.len(), 2);
    assert!(!is_intact(&mut machine, &[]), "nothing is listed");
    for family in Family::BOTH {
        let other: Vec<_> = listings.iter().filter(|(of, _)| *of != family).cloned().collect();
        assert!(!is_intact(&mut machine, &other), "no table for {family:?}");
        let with = |text: &str| [&other[..], &[(family, text.to_owned())]].concat();
        assert!(!is_intact(&mut machine, &with("")), "nothing is listed for {family:?}");
        assert!(!is_intact(&mut machine, &with("Error: no such table")), "no listing for {family:?}");
        let (_, text) = listings.iter().find(|(of, _)| *of == family).unwrap();
        let torn = &text[..text.len() - 2];
        assert!(!is_intact(&mut machine, &with(torn)), "the listing for {family:?} ends early");
    }
    let node = Node { name: None, zone: None, addresses: vec![] };
    machine.configure(Settings { families: vec![], ..Settings::default() }, node);
    assert!(is_intact(&mut machine, &listings), "that no table is wanted is not committed yet");
    machine.plan();
    while machine.next_transaction().is_some() {}
    machine.commit();
    assert!(is_intact(&mut machine, &[]), "none is wanted");
    assert!(!is_intact(&mut machine, &listings[..1]), "one is there");
}

#[test]
fn endpoints_that_change_places_are_noticed_and_taken_over() {
    let (mut machine, tables) = loaded();
    let mut swapped = tables.clone();
    let endpoints = ip(&mut swapped).elements.get_mut("tcp-endpoints").unwrap();
    let set = endpoints.keys().find(|key| key.ends_with(" . 1")).unwrap().replace(" . 1", "");
    let [first, second] = [0, 1].map(|slot| format!("{set} . {slot}"));
    let [a, b] = [&first, &second].map(|key| endpoints[key].clone());
    endpoints.insert(first, b);
    endpoints.insert(second, a);
    assert!(!is_intact(&mut machine, &swapped.listings()));
    machine.reconcile(swapped.listings());
    assert!(machine.is_empty(), "it is as good as before");
    machine.commit();
    assert!(is_intact(&mut machine, &swapped.listings()));
    assert!(!is_intact(&mut machine, &tables.listings()));
}

/// What somebody does to the table of IPv4 at random; numbers choose among what is there.
#[derive(Clone, Debug)]
enum Harm {
    Element(usize),
    /// The value of another element of the same map.
    Value(usize, usize),
    Swap(usize, usize),
    Endpoint(u8),
    Map(usize),
    Chain(usize),
    Rule(usize),
    Foreign,
    Table,
    UnusedChains,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        3 => any::<usize>().prop_map(Harm::Element),
        3 => any::<(usize, usize)>().prop_map(|(a, b)| Harm::Value(a, b)),
        5 => any::<(usize, usize)>().prop_map(|(a, b)| Harm::Swap(a, b)),
        1 => any::<u8>().prop_map(Harm::Endpoint),
        1 => any::<usize>().prop_map(Harm::Map),
        1 => any::<usize>().prop_map(Harm::Chain),
        1 => any::<usize>().prop_map(Harm::Rule),
        1 => Just(Harm::Foreign),
        1 => Just(Harm::Table),
        1 => Just(Harm::UnusedChains),
    ]
}

fn inflict(tables: &mut Tables, harm: &Harm) {
    if let Harm::UnusedChains = harm {
        return tables.forget_unused_chains();
    }
    let Some(table) = tables.0.get_mut("ip fairlead") else { return };
    let places = places(table);
    let place = |number: usize| places.get(number.checked_rem(places.len())?).cloned();
    // Two of one map.
    let pair = |a: usize, b: usize| {
        let (map, first) = place(a)?;
        let own: Vec<&String> = places.iter().filter(|(of, _)| *of == map).map(|(_, key)| key).collect();
        let second = own[b % own.len()].clone();
        Some((map, first, second))
    };
    let name = |names: Vec<&String>, number: usize| {
        names.get(number.checked_rem(names.len())?).map(|name| (*name).clone())
    };
    match *harm {
        Harm::Element(number) => {
            if let Some((map, key)) = place(number) {
                table.elements.get_mut(&map).unwrap().remove(&key);
            }
        }
        Harm::Value(a, b) => {
            if let Some((map, first, second)) = pair(a, b) {
                let elements = table.elements.get_mut(&map).unwrap();
                let value = elements[&second].clone();
                elements.insert(first, value);
            }
        }
        Harm::Swap(a, b) => {
            if let Some((map, first, second)) = pair(a, b) {
                let elements = table.elements.get_mut(&map).unwrap();
                let values = [&first, &second].map(|key| elements[key].clone());
                elements.extend([second, first].into_iter().zip(values));
            }
        }
        Harm::Endpoint(last) => {
            let elements = table.elements.entry("tcp-endpoints".to_owned()).or_default();
            elements.insert("0x8fffe000 . 0".to_owned(), (String::new(), format!("10.180.0.{last} . 80")));
        }
        Harm::Map(number) => {
            if let Some(map) = name(table.maps.keys().collect(), number) {
                table.maps.remove(&map);
                table.elements.remove(&map);
            }
        }
        Harm::Chain(number) => {
            if let Some(chain) = name(table.chains.keys().collect(), number) {
                table.chains.remove(&chain);
            }
        }
        Harm::Rule(number) => {
            if let Some(chain) = name(table.chains.keys().collect(), number) {
                table.chains.get_mut(&chain).unwrap().1.pop();
            }
        }
        Harm::Foreign => drop(table.chains.insert("theirs".to_owned(), Default::default())),
        Harm::Table => drop(tables.0.remove("ip fairlead")),
        Harm::UnusedChains => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn an_audit_finds_what_a_reconcile_would_write(
        groups in prop::collection::vec(prop::collection::vec(change(), 1..8), 1..4),
        harms in prop::collection::vec(harm(), 0..3),
        pending in prop::collection::vec(change(), 0..4),
    ) {
        let mut running = machine(NodeShape::default());
        let mut tables = Tables::default();
        running.reconcile(vec![]);
        carry_out(&mut running, &mut tables);
        for group in &groups {
            group.iter().for_each(|change| apply(&mut running, change));
            running.plan();
            carry_out(&mut running, &mut tables);
        }
        let mut harmed = tables.clone();
        harms.iter().for_each(|harm| inflict(&mut harmed, harm));
        let listings = harmed.listings();
        let committed = rendered(&mut running);

        let intact = is_intact(&mut running, &listings);
        running.reconcile(listings.clone());
        let writes_nothing = running.is_empty();
        prop_assert_eq!(intact, writes_nothing && rendered(&mut running) == committed, "{:?}", harms);
        running.rollback();

        // What is pending makes no difference to the answer, and the answer none to what is pending.
        pending.iter().for_each(|change| apply(&mut running, change));
        prop_assert_eq!(is_intact(&mut running, &listings), intact);
        running.plan();
        running.next_transaction();
        prop_assert_eq!(is_intact(&mut running, &listings), intact, "a plan was staged");
        running.plan();
        carry_out(&mut running, &mut tables);
        prop_assert!(is_intact(&mut running, &tables.listings()));
        tables.forget_unused_chains();
        prop_assert_eq!(&tables, &rendered(&mut running));
    }

    #[test]
    fn what_a_reconcile_takes_over_is_intact(
        changes in prop::collection::vec(change(), 1..12),
        harms in prop::collection::vec(harm(), 0..3),
    ) {
        let mut running = machine(NodeShape::default());
        let mut tables = Tables::default();
        running.reconcile(vec![]);
        carry_out(&mut running, &mut tables);
        changes.iter().for_each(|change| apply(&mut running, change));
        running.plan();
        carry_out(&mut running, &mut tables);
        harms.iter().for_each(|harm| inflict(&mut tables, harm));
        running.reconcile(tables.listings());
        while let Some(transaction) = running.next_transaction() {
            tables.apply(&transaction.text);
        }
        running.commit();
        prop_assert!(is_intact(&mut running, &tables.listings()), "{:?}", harms);
    }
}
