//! From objects that go and objects that come to transactions, in an order in which no address is there before its
//! endpoints and none of them is gone before it.
//!
//! In: the two lists, what stands around them (sets, chains, the link) and whose connections are waited for. Out:
//! texts for `ipset`, `iptables-restore`, `ipvsadm` and `ip`. None of the programs but `iptables-restore` is atomic; the
//! order makes each text harmless when it is the last that was applied.

use super::objects::Object;
use super::servers::{Real, Server, ServerKey};
use super::sets::Entry;
use crate::address::Family;
use crate::balance::Target;
use crate::diff::{Program, Transaction};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::net::IpAddr;

/// The dummy link that holds the virtual addresses: kube-proxy's name, which others (Calico) know.
pub const LINK: &str = "kube-ipvs0";

/// A real server that only waits for its connections to end.
pub type Leaving = BTreeSet<(ServerKey, Target)>;

/// Everything that changes, sorted by what it is.
#[derive(Debug, Default)]
pub struct Plan {
    /// Commands for the link itself.
    pub link: String,
    /// Commands that make or replace sets.
    pub sets: String,
    /// Texts that make chains and the jumps into them.
    pub chains: Vec<(Family, String)>,
    /// The same for chains in which somebody else's rules translate until then: written when IPVS can.
    pub chains_when_served: Vec<(Family, String)>,
    /// Texts that remove them.
    pub chains_gone: Vec<(Family, String)>,
    /// Commands that remove sets.
    pub sets_gone: String,
    /// Commands that remove the link.
    pub link_gone: String,
    entries: Vec<Entry>,
    entries_gone: Vec<Entry>,
    addresses: Vec<IpAddr>,
    addresses_gone: Vec<IpAddr>,
    servers: Vec<Server>,
    servers_changed: Vec<Server>,
    servers_gone: Vec<ServerKey>,
    reals: Vec<Real>,
    reals_changed: Vec<Real>,
    reals_gone: Vec<Real>,
    /// Real servers that begin to wait.
    pub left: Leaving,
    /// Real servers that do not wait any more.
    pub returned: Leaving,
}

/// What is known of the real servers when a plan is made.
pub struct Known<'a> {
    /// Those that wait already.
    pub leaving: &'a Leaving,
    /// Whether connections to a virtual server are waited for: not those of UDP, which has no end of a connection.
    pub is_graceful: &'a dyn Fn(ServerKey) -> bool,
    /// Connections of each real server, where they were listed.
    pub connections: Option<&'a BTreeMap<(ServerKey, Target), u64>>,
}

impl Plan {
    /// Sorts out what goes and what comes.
    pub fn objects(&mut self, gone: &[Object], added: &[Object], known: &Known<'_>) {
        let mut servers: BTreeMap<ServerKey, [Option<Server>; 2]> = BTreeMap::new();
        let mut reals: BTreeMap<(ServerKey, Target), [Option<u32>; 2]> = BTreeMap::new();
        let mut entries: BTreeMap<(Family, super::sets::SetName, super::sets::Key), [Option<Entry>; 2]> =
            BTreeMap::new();
        for (side, objects) in [gone, added].into_iter().enumerate() {
            for object in objects {
                match object {
                    Object::Server(server) => servers.entry(server.key).or_default()[side] = Some(*server),
                    Object::Real(real) => {
                        reals.entry((real.server, real.target)).or_default()[side] = Some(real.weight);
                    }
                    Object::Entry(entry) => {
                        entries.entry((entry.family, entry.set, entry.key)).or_default()[side] = Some(*entry);
                    }
                    Object::Address(address) if side == 0 => self.addresses_gone.push(*address),
                    Object::Address(address) => self.addresses.push(*address),
                }
            }
        }
        for [old, new] in entries.into_values() {
            match (old, new) {
                // Another mark: adding it again gives it.
                (_, Some(entry)) => self.entries.push(entry),
                (Some(entry), None) => self.entries_gone.push(entry),
                (None, None) => {}
            }
        }
        let mut made: BTreeSet<ServerKey> = BTreeSet::new();
        let mut unmade: BTreeSet<ServerKey> = BTreeSet::new();
        for (key, change) in servers {
            match change {
                [Some(_), Some(server)] => self.servers_changed.push(server),
                [None, Some(server)] => {
                    made.insert(key);
                    self.servers.push(server);
                }
                _ => {
                    unmade.insert(key);
                    self.servers_gone.push(key);
                }
            }
        }
        self.returned.extend(known.leaving.iter().filter(|(server, _)| unmade.contains(server)));
        for ((server, target), [old, new]) in reals {
            let waits = known.leaving.contains(&(server, target));
            let real = |weight: u32| Real { server, target, weight };
            match (old, new) {
                (None, Some(weight)) if waits && !made.contains(&server) => {
                    self.reals_changed.push(real(weight));
                    self.returned.insert((server, target));
                }
                (None, Some(weight)) => self.reals.push(real(weight)),
                (Some(_), Some(weight)) => {
                    self.reals_changed.push(real(weight));
                    self.returned.insert((server, target));
                }
                (Some(_), None) if unmade.contains(&server) => {}
                (Some(weight), None) => {
                    let connections =
                        known.connections.and_then(|listed| listed.get(&(server, target)).copied());
                    if !(known.is_graceful)(server) || connections == Some(0) {
                        self.reals_gone.push(real(0));
                        self.returned.insert((server, target));
                    } else {
                        if weight != 0 {
                            self.reals_changed.push(real(0));
                        }
                        self.left.insert((server, target));
                    }
                }
                (None, None) => {}
            }
        }
    }

    /// Real servers that wait no longer.
    pub fn drained(&mut self, gone: impl Iterator<Item = (ServerKey, Target)>) {
        for (server, target) in gone {
            self.reals_gone.push(Real { server, target, weight: 0 });
            self.returned.insert((server, target));
        }
    }

    /// Elements that come.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Elements that go.
    pub fn entries_gone(&self) -> &[Entry] {
        &self.entries_gone
    }

    /// The transactions, in their order.
    pub fn transactions(&self) -> VecDeque<Transaction> {
        let mut all = VecDeque::new();
        let mut push = |program: Program, text: String| {
            let operations =
                text.lines().filter(|line| !line.starts_with(['#', '*']) && *line != "COMMIT").count();
            if operations > 0 {
                all.push_back(Transaction {
                    program,
                    text,
                    operations,
                    beside: false,
                    adds_only: false,
                    elements_only: false,
                });
            }
        };
        push(Program::IpBatch, self.link.clone());
        let mut text = self.sets.clone();
        for entry in &self.entries {
            entry.print_add(&entry.set.name(entry.family), &mut text);
        }
        push(Program::IpsetRestore, text);
        for (family, text) in &self.chains {
            push(iptables(*family), text.clone());
        }
        let mut come = String::new();
        self.servers.iter().for_each(|server| server.print("-A", &mut come));
        self.servers_changed.iter().for_each(|server| server.print("-E", &mut come));
        self.reals.iter().for_each(|real| real.print("-a", &mut come));
        self.reals_changed.iter().for_each(|real| real.print("-e", &mut come));
        let mut go = String::new();
        self.reals_gone.iter().for_each(|real| real.print_delete(&mut go));
        for server in &self.servers_gone {
            let _ = writeln!(go, "-D {server}");
        }
        let mut addresses = String::new();
        for address in &self.addresses {
            let _ = writeln!(addresses, "address replace {} dev {LINK}", printed(*address));
        }
        for address in &self.addresses_gone {
            let _ = writeln!(addresses, "address delete {} dev {LINK}", printed(*address));
        }
        if addresses.is_empty() {
            come += &go;
            go.clear();
        }
        push(Program::IpvsadmRestore, come);
        push(Program::IpBatch, addresses);
        for (family, text) in &self.chains_when_served {
            push(iptables(*family), text.clone());
        }
        push(Program::IpvsadmRestore, go);
        for (family, text) in &self.chains_gone {
            push(iptables(*family), text.clone());
        }
        let mut text = String::new();
        self.entries_gone.iter().for_each(|entry| entry.print_delete(&mut text));
        push(Program::IpsetRestore, text + &self.sets_gone);
        push(Program::IpBatch, self.link_gone.clone());
        all
    }
}

fn iptables(family: Family) -> Program {
    match family {
        Family::V4 => Program::IptablesRestore,
        Family::V6 => Program::Ip6tablesRestore,
    }
}

fn printed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        // Nobody else on this link could have it, and it must be usable at once.
        IpAddr::V6(address) => format!("{address}/128"),
    }
}
