//! A model of the kernel and its programs, as far as transactions go: refuses what the real ones refuse (tried on Linux 6.1
//! with ipvsadm 1.31, ipset 7.17 and iptables 1.8.9), and lists in their words.

use crate::address::Family;
use crate::diff::{Program, Transaction};
use crate::machine::Machine;
use std::collections::{BTreeMap, BTreeSet};

type Table = BTreeMap<String, Vec<String>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// Options that name a virtual server → its other options, and its real servers with their weights.
    pub servers: BTreeMap<String, (String, BTreeMap<String, u32>)>,
    /// Header and elements, each with what follows it.
    pub sets: BTreeMap<String, (String, BTreeMap<String, String>)>,
    pub has_link: bool,
    pub addresses: BTreeSet<String>,
    /// By family and name.
    pub tables: BTreeMap<(u8, String), Table>,
    /// What a listing tells of real servers with weight 0.
    pub waiting_connections: u32,
}

impl Kernel {
    /// Carries out the staged plan and commits it. Returns the transactions.
    pub fn carry_out(&mut self, machine: &mut Machine) -> Vec<Transaction> {
        let mut all = Vec::new();
        while let Some(transaction) = machine.next_transaction() {
            self.apply(&transaction);
            all.push(transaction);
        }
        machine.commit();
        all
    }

    pub fn apply(&mut self, transaction: &Transaction) {
        let mut table = String::new();
        for line in transaction.text.lines() {
            match transaction.program {
                Program::IpvsadmRestore => self.ipvsadm(line),
                Program::IpsetRestore => self.ipset(line),
                Program::IpBatch => self.ip(line),
                Program::IptablesRestore => self.iptables(4, line, &mut table),
                Program::Ip6tablesRestore => self.iptables(6, line, &mut table),
                Program::Nft => panic!("nft"),
            }
        }
    }

    fn ipvsadm(&mut self, line: &str) {
        let (verb, rest) = line.split_once(' ').unwrap();
        let end = [" -s ", " -r "].iter().find_map(|option| rest.find(option)).unwrap_or(rest.len());
        let (key, rest) = (rest[..end].to_owned(), rest[end..].trim());
        let (real, options) = match rest.strip_prefix("-r ") {
            Some(rest) => {
                let (real, options) = rest.split_once(' ').unwrap_or((rest, ""));
                (real.to_owned(), options)
            }
            None => (String::new(), rest),
        };
        let weight = || options.rsplit(' ').next().unwrap().parse().unwrap();
        match verb {
            "-A" => {
                let before = self.servers.insert(key, (options.to_owned(), BTreeMap::new()));
                assert!(before.is_none(), "Service already exists: {line}");
            }
            "-E" => self.servers.get_mut(&key).expect(line).0 = options.to_owned(),
            "-D" => drop(self.servers.remove(&key).expect(line)),
            "-a" => {
                let before = self.servers.get_mut(&key).expect(line).1.insert(real, weight());
                assert!(before.is_none(), "Destination already exists: {line}");
            }
            "-e" => *self.servers.get_mut(&key).expect(line).1.get_mut(&real).expect(line) = weight(),
            "-d" => drop(self.servers.get_mut(&key).expect(line).1.remove(&real).expect(line)),
            _ => panic!("{line}"),
        }
    }

    fn ipset(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let name = words[1].to_owned();
        match words[0] {
            "create" => {
                let header = words[2..].join(" ").trim_end_matches(" -exist").to_owned();
                let (standing, _) =
                    self.sets.entry(name).or_insert_with(|| (header.clone(), BTreeMap::new()));
                assert_eq!(*standing, header, "{line}");
                assert!(words[1].len() <= 31, "{line}");
            }
            "add" => {
                let rest = words[3..].join(" ").trim_end_matches("-exist").trim().to_owned();
                assert!(!words[2].ends_with("/0"), "{line}");
                self.sets.get_mut(&name).expect(line).1.insert(words[2].to_owned(), rest);
            }
            "del" => drop(self.sets.get_mut(&name).expect(line).1.remove(words[2])),
            "swap" => {
                let (first, second) = (self.sets[words[1]].clone(), self.sets[words[2]].clone());
                self.sets.insert(words[2].to_owned(), first);
                self.sets.insert(words[1].to_owned(), second);
            }
            "destroy" => {
                self.sets.remove(&name).expect(line);
                for rule in self.tables.values().flatten().flat_map(|(_, rules)| rules) {
                    assert!(!rule.contains(&format!("-set {name} ")), "Set is in use: {line}: {rule}");
                }
            }
            _ => panic!("{line}"),
        }
    }

    fn ip(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["link", "add", "name", "kube-ipvs0", "type", "dummy"] => {
                assert!(!std::mem::replace(&mut self.has_link, true), "File exists");
            }
            ["link", "set", "kube-ipvs0", ..] => assert!(self.has_link, "{line}"),
            ["link", "delete", "kube-ipvs0"] => {
                assert!(std::mem::take(&mut self.has_link), "{line}");
                self.addresses.clear();
            }
            ["address", "replace", address, "dev", "kube-ipvs0"] => {
                assert!(self.has_link, "{line}");
                self.addresses.insert(address.to_owned());
            }
            ["address", "delete", address, "dev", "kube-ipvs0"] => {
                assert!(self.addresses.remove(address), "Cannot assign requested address: {line}");
            }
            _ => panic!("{line}"),
        }
    }

    fn iptables(&mut self, family: u8, line: &str, name: &mut String) {
        if let Some(table) = line.strip_prefix('*') {
            *name = table.to_owned();
            let chains = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
            let table = self.tables.entry((family, name.clone())).or_default();
            for chain in chains {
                table.entry(chain.to_owned()).or_default();
            }
            return;
        }
        let words: Vec<&str> = line.split(' ').collect();
        for pair in words.windows(2).filter(|pair| pair[0].ends_with("-set")) {
            assert!(self.sets.contains_key(pair[1]), "no set {}: {line}", pair[1]);
        }
        let table = self.tables.get_mut(&(family, name.clone())).unwrap();
        if line == "COMMIT" {
            for rule in table.values().flatten() {
                let target = rule.rsplit("-j ").next().unwrap().split(' ').next().unwrap();
                assert!(
                    !target.starts_with("KUBE-") || table.contains_key(target),
                    "no chain {target}: {rule}"
                );
            }
            return;
        }
        if let Some(chain) = line.strip_prefix(':') {
            table.insert(chain.split(' ').next().unwrap().to_owned(), Vec::new());
            return;
        }
        let chain = line.split(' ').nth(1).unwrap();
        let rules = table.get_mut(chain).expect(line);
        let rule = format!("-A{}", &line[2..]);
        match &line[..2] {
            "-A" => rules.push(rule),
            "-I" => rules.insert(0, rule),
            "-D" => drop(rules.remove(rules.iter().position(|there| *there == rule).expect(line))),
            "-X" => {
                assert!(rules.is_empty(), "{line}");
                table.remove(chain);
            }
            _ => panic!("{line}"),
        }
    }

    /// As `ipvsadm -Ln` prints it.
    pub fn servers(&self) -> String {
        let mut out = String::from(
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
        );
        for (key, (options, reals)) in &self.servers {
            let words: Vec<&str> = key.split(' ').collect();
            let head = match words[..] {
                ["-t", at] => format!("TCP  {at}"),
                ["-u", at] => format!("UDP  {at}"),
                ["--sctp-service", at] => format!("SCTP {at}"),
                ["-f", mark] => format!("FWM  {mark}"),
                ["-f", mark, "-6"] => format!("FWM  {mark} IPv6"),
                _ => panic!("{key}"),
            };
            let options: Vec<&str> = options.split(' ').collect();
            let after = |name: &str| {
                options.iter().position(|option| *option == name).map(|place| options[place + 1])
            };
            let flags = after("-b").map_or(String::new(), |flags| format!(" ({flags})"));
            let persistent = after("-p").map_or(String::new(), |seconds| format!(" persistent {seconds}"));
            out += &format!("{head} {}{flags}{persistent}\n", after("-s").unwrap());
            for (real, weight) in reals {
                let connections = if *weight == 0 { self.waiting_connections } else { 3 };
                out += &format!("  -> {real:<28} Masq    {weight:<6} {connections:<10} 0         \n");
            }
        }
        out
    }

    pub fn listings(&self) -> Vec<(Family, String)> {
        let mut common = format!("## ipvsadm\n{}## ipset\n", self.servers());
        for (name, (header, elements)) in &self.sets {
            common += &format!("create {name} {header} bucketsize 12 initval 0xe5351062\n");
            for (element, rest) in elements {
                common += &format!("add {name} {element} {rest}\n");
            }
        }
        common += "## link\n";
        if self.has_link {
            common += "2: kube-ipvs0: <BROADCAST,NOARP,UP,LOWER_UP> mtu 1500 qdisc noop state DOWN\n";
            common += "2: kube-ipvs0    inet6 fe80::1c8f:aaff:fe0c:a262/64 scope link \\ valid_lft forever\n";
        }
        for address in &self.addresses {
            let word = if address.contains(':') { "inet6" } else { "inet" };
            common +=
                &format!("2: kube-ipvs0    {word} {address} scope global kube-ipvs0\\ valid_lft forever\n");
        }
        let of = |family: Family, number: u8| {
            let mut text = format!("{common}## iptables\n# Generated by iptables-save\n");
            for ((_, name), table) in self.tables.iter().filter(|((of, _), _)| *of == number) {
                text += &format!("*{name}\n");
                for chain in table.keys() {
                    text += &format!(":{chain} - [0:0]\n");
                }
                for rule in table.values().flatten() {
                    text += &format!("{rule}\n");
                }
                text += "COMMIT\n";
            }
            (family, text)
        };
        vec![of(Family::V4, 4), of(Family::V6, 6)]
    }

    /// The same with marks named after the places that have them: which number a port was given does not count.
    pub fn without_numbers(&self) -> Kernel {
        let mut kernel = self.clone();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (set, family) in [("KUBE-IPVS-IN-CLUSTER", ""), ("KUBE-6-IPVS-IN-CLUSTER", " -6")] {
            let Some((_, elements)) = kernel.sets.get_mut(set) else { continue };
            for (element, rest) in elements {
                let mark = u32::from_str_radix(rest.rsplit("0x").next().unwrap(), 16).unwrap();
                let name = names.entry(format!("-f {mark}{family}")).or_insert_with(|| element.clone());
                *rest = name.clone();
            }
        }
        kernel.servers = kernel
            .servers
            .into_iter()
            .map(|(key, server)| (names.get(&key).map_or(key, |name| format!("-f {name}")), server))
            .collect();
        kernel
    }
}
