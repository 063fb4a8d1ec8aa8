//! A table as the kernel would hold it, moved by the text of transactions. It knows only the commands that the crate
//! prints, and panics at any that the kernel would refuse.

pub mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use wasm_nat::address::Family;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables(
    /// By family and name, as commands name them.
    pub BTreeMap<String, Table>,
);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub declaration: String,
    /// Map → declaration.
    pub maps: BTreeMap<String, String>,
    /// Map → key → (comment, value).
    pub elements: BTreeMap<String, BTreeMap<String, (String, String)>>,
    /// Chain → (declaration, rules).
    pub chains: BTreeMap<String, (String, Vec<String>)>,
}

impl Tables {
    pub fn apply(&mut self, text: &str) {
        self.check_reach(text);
        for line in text.lines() {
            self.command(line);
        }
    }

    /// Where a table serves, no element of this transaction leads to a chain that is empty before it: a packet that is on its
    /// way meets the new element and the old chain.
    fn check_reach(&self, text: &str) {
        for line in text.lines().filter(|line| line.starts_with("add element")) {
            let id = line.split(' ').skip(2).take(2).collect::<Vec<_>>().join(" ");
            let Some(table) = self.0.get(&id).filter(|table| table.serves()) else { continue };
            for (_, chain) in line.split(", ").filter_map(|element| element.split_once(" : goto ")) {
                let chain = chain.trim_end_matches(" }");
                let rules = table.chains.get(chain).map_or(0, |(_, rules)| rules.len());
                assert!(rules > 0, "an element leads to {chain}, which is new: {line}");
            }
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let body = || {
            line.split_once('{').map_or("", |(_, body)| body).trim().trim_end_matches('}').trim().to_owned()
        };
        let (id, name) = (words[2..4].join(" "), words.get(4).map_or("", |name| name));
        if words[1] == "table" {
            match words[0] {
                "add" => drop(
                    self.0.entry(id).or_insert_with(|| Table { declaration: body(), ..Table::default() }),
                ),
                "flush" => {
                    let table = self.0.get_mut(&id).unwrap_or_else(|| panic!("no table: {line}"));
                    table.chains.values_mut().for_each(|(_, rules)| rules.clear());
                }
                _ => drop(self.0.remove(&id).unwrap_or_else(|| panic!("no table: {line}"))),
            }
            return;
        }
        let table = self.0.get_mut(&id).unwrap_or_else(|| panic!("no table: {line}"));
        match (words[0], words[1]) {
            ("add", "map" | "set") => drop(table.maps.insert(name.to_owned(), body())),
            ("add", "chain") => drop(table.chains.entry(name.to_owned()).or_insert_with(|| (body(), vec![]))),
            ("delete", "chain") => {
                drop(table.chains.remove(name).unwrap_or_else(|| panic!("no chain: {line}")))
            }
            ("flush", "chain") => {
                table.chains.get_mut(name).unwrap_or_else(|| panic!("no chain: {line}")).1.clear()
            }
            ("add", "rule") => {
                table
                    .chains
                    .get_mut(name)
                    .unwrap_or_else(|| panic!("no chain: {line}"))
                    .1
                    .push(words[5].to_owned());
            }
            (verb, "element") => {
                assert!(table.maps.contains_key(name), "no map: {line}");
                let elements = table.elements.entry(name.to_owned()).or_default();
                for element in body().split(", ") {
                    let (left, value) = element.split_once(" : ").unwrap_or((element, ""));
                    let (key, comment) = left.split_once(" comment ").unwrap_or((left, ""));
                    let key = key.trim().to_owned();
                    if verb == "add" {
                        let before = elements.insert(key, (comment.to_owned(), value.to_owned()));
                        assert!(before.is_none() || name == COUNTERS, "added twice: {element} of {line}");
                    } else {
                        assert!(elements.remove(&key).is_some(), "not there: {element} of {line}");
                    }
                }
                if elements.is_empty() {
                    table.elements.remove(name);
                }
            }
            _ => panic!("{line}"),
        }
    }

    /// Nothing names what is not there: chains, sets, endpoints. A table that no packet is led into leads nowhere.
    pub fn check_closed(&self) {
        for table in self.0.values().filter(|table| table.serves()) {
            let none = BTreeMap::new();
            let of = |map: &str| table.elements.get(map).unwrap_or(&none);
            let services = of("services");
            for (key, (_, answer)) in services {
                let chain = answer.strip_prefix("goto ").unwrap();
                let (_, rules) = table.chains.get(chain).unwrap_or_else(|| panic!("{key} names {chain}"));
                assert!(!rules.is_empty(), "{chain} is empty");
                // `… mod N …`: every slot must be there.
                let slots = rules.iter().find_map(|rule| rule.split_once(" mod ").map(|(_, rest)| rest));
                let slots: u32 = slots.map_or(0, |rest| rest.split(' ').next().unwrap().parse().unwrap());
                let map = if chain.contains("affinity-") {
                    "affinity-slots"
                } else if rules[0].contains("@tcp-endpoints") {
                    "tcp-endpoints"
                } else if rules[0].contains("@udp-endpoints") {
                    "udp-endpoints"
                } else {
                    "sctp-endpoints"
                };
                for slot in 0..slots {
                    let (_, value) = of(map)
                        .get(&format!("{key} . {slot}"))
                        .unwrap_or_else(|| panic!("{key} lacks slot {slot} of {map}"));
                    if map == "affinity-slots" {
                        let wanted = format!("{:#x}", hex(value) | (hex(key) & 1));
                        assert!(
                            NUMBERED.iter().any(|map| of(map).contains_key(&wanted)),
                            "slot {slot} of {key} names {wanted}"
                        );
                    }
                }
            }
            for (key, (_, value)) in of("service-ips").iter().chain(of("service-nodeports")) {
                let value = hex(value);
                let set = if value & 0x1ffe == 0 { value } else { value & 0xffff_e000 };
                assert!(services.contains_key(&format!("{set:#x}")), "{key} names {value:#x}");
            }
        }
    }

    /// A packet comes to every address and node port, and leaves a counter; whose it is stands in its comment.
    pub fn receive(&mut self) {
        for table in self.0.values_mut() {
            for (number, label) in table.countable() {
                table.elements.entry(COUNTERS.to_owned()).or_default().insert(number, (label, String::new()));
            }
        }
    }

    /// Chains wait for the next plan before they go.
    pub fn forget_unused_chains(&mut self) {
        for table in self.0.values_mut() {
            let used: BTreeSet<String> = table
                .elements
                .get("services")
                .into_iter()
                .flat_map(|services| services.values())
                .map(|(_, answer)| answer.trim_start_matches("goto ").to_owned())
                .collect();
            table.chains.retain(|name, _| {
                let picks =
                    ["lb-", "affinity-", "local-affinity-", "round-robin-", "source-hash-", "maglev-"];
                used.contains(name) || !picks.iter().any(|prefix| name.starts_with(prefix))
            });
        }
    }

    /// As `nft -nn list table` prints them.
    pub fn listings(&self) -> Vec<(Family, String)> {
        let listing = |(id, table): (&String, &Table)| {
            let family = id.strip_suffix(" fairlead")?;
            let mut out = format!("table {id} {{\n");
            let comment =
                table.declaration.trim_start_matches("comment ").trim_end_matches("; ").trim_end_matches(';');
            let _ = writeln!(out, "\tcomment {comment}");
            for (map, declaration) in &table.maps {
                let kind = if declaration.contains(" : ") { "map" } else { "set" };
                let _ = writeln!(out, "\t{kind} {map} {{\n\t\ttype whatever");
                if let Some(elements) = table.elements.get(map) {
                    let printed: Vec<String> = elements
                        .iter()
                        .map(|(key, (_, value))| {
                            let value = if value.is_empty() { String::new() } else { format!(" : {value}") };
                            format!("{key}{value}")
                        })
                        .collect();
                    let _ = writeln!(out, "\t\telements = {{ {} }}", printed.join(",\n\t\t\t     "));
                }
                out.push_str("\t}\n");
            }
            for (chain, (declaration, rules)) in &table.chains {
                let _ = writeln!(out, "\tchain {chain} {{");
                for line in (!declaration.is_empty()).then_some(declaration).into_iter().chain(rules) {
                    let _ = writeln!(out, "\t\t{line}");
                }
                out.push_str("\t}\n");
            }
            out.push_str("}\n");
            Some((if family == "ip" { Family::V4 } else { Family::V6 }, out))
        };
        self.0.iter().filter_map(listing).collect()
    }
}

impl Table {
    /// Packets are led into it.
    pub fn serves(&self) -> bool {
        self.chains.values().any(|(hook, rules)| !hook.is_empty() && !rules.is_empty())
    }

    /// The numbers under which packets can be counted now, and whose they are.
    pub fn countable(&self) -> BTreeSet<(String, String)> {
        let of = |map: &str| self.elements.get(map).into_iter().flatten();
        of("service-ips")
            .chain(of("service-nodeports"))
            .map(|(_, (label, value))| (format!("{:#x}", hex(value) & 0xffff_e010), label.clone()))
            .collect()
    }
}

/// Packets fill it; `add` does no harm to an element that is there.
pub const COUNTERS: &str = "connections";

const NUMBERED: [&str; 3] = ["tcp-affinity-endpoints", "udp-affinity-endpoints", "sctp-affinity-endpoints"];

fn hex(text: &str) -> u32 {
    u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}
