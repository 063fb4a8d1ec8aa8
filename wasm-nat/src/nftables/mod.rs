//! The nftables backend: one table a family, a constant number of chains, a few large maps, element-only updates.
//!
//! kube-proxy's layout has chains and an anonymous map for every Service, and the kernel walks all sets of a table for
//! each rule that names one: programming is quadratic. Here Services are elements, so programming is linear and a
//! change costs its own elements.
//!
//! In: decisions. Out: transactions for `nft -f -`, in which no address is there before its endpoints, and none of
//! them is gone before it. Other tables are never named.

pub mod elements;
pub mod numbers;
pub mod parse;
pub mod rules;
pub mod table;

use crate::address::{Cidr, Family};
use crate::backend::{Backend, Basis, Delta, View};
use crate::balance::Target;
use crate::diff::{Program, Transaction, arrange, difference};
use crate::model::{Diagnostic, LocalDetector, ObjectName, Policy, Severity};
use crate::ruleset::{At, NodePortMatch, NodeRules, Pool, PortRules, RuleSet};
use crate::simulate::{Packet, Trace};
use elements::{Answer, Element, MapName, Placement, elements};
use numbers::{LOCAL_SET, MOST_AFFINITY_ENDPOINTS, MOST_SERVICE_PORTS, NumberPool, SERVICE_MASK, cluster_set};
use parse::Listing;
use rules::{PickChain, TABLE, family_word, node_chains};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use table::Table;

/// Changes with the names or types of maps and chains: a table of another layout is replaced as a whole.
const LAYOUT: &str = "fairlead layout 1";

/// Operations of one transaction of a plan that is larger: the kernel holds its lock while it commits one.
const CHUNK: usize = 5000;

/// What the backend knows beside the committed decisions.
#[derive(Debug, Default)]
pub struct Nftables {
    /// By Service, in the order of its ports.
    placements: BTreeMap<ObjectName, Vec<Placement>>,
    tables: [TableState; 2],
    staged: Option<Staged>,
}

/// One family's table as it was committed, without its elements.
#[derive(Clone, Debug, Default)]
struct TableState {
    /// Absent: there is no table.
    node: Option<NodeRules>,
    numbers: NumberPool,
    /// Chains that pick, with the number of sets that go there.
    picks: BTreeMap<PickChain, u32>,
    /// Chains that nothing uses any more. They go with the next transaction: kernels before 6.2 hold on to a chain for
    /// a moment after its last reference went.
    stale: BTreeSet<String>,
}

/// A plan that is neither committed nor rolled back.
#[derive(Debug)]
struct Staged {
    operations: VecDeque<Operation>,
    /// All in one transaction, however many.
    whole: bool,
    placements: BTreeMap<ObjectName, Vec<Placement>>,
    /// Every Service is in `placements`.
    fresh: bool,
    tables: [StagedTable; 2],
}

#[derive(Debug, Default)]
struct StagedTable {
    node: Option<NodeRules>,
    /// Given out for this plan.
    taken: Vec<u32>,
    /// To be given back when it is committed.
    released: Vec<u32>,
    /// The pool that replaces the committed one, in a fresh plan.
    numbers: Option<NumberPool>,
    /// Changes of uses; in a fresh plan all uses.
    picks: BTreeMap<PickChain, i64>,
    /// Stale chains that remain after this plan.
    stale: BTreeSet<String>,
}

#[derive(Debug)]
enum Operation {
    /// Commands for tables, maps, sets, chains and rules: before the elements of the same transaction.
    Structure(String),
    Add(Family, Element),
    Delete(Family, Element),
    /// After the elements of the same transaction.
    DeleteChain(Family, String),
}

impl Backend for Nftables {
    fn stage(&mut self, committed: &RuleSet, delta: &mut Delta, basis: Basis, diagnostics: &mut Vec<Diagnostic>) {
        debug_assert!(self.staged.is_none());
        let mut stage = Stage::new(self, committed, delta, basis);
        stage.structure();
        stage.place(delta, diagnostics);
        stage.elements(committed, delta);
        self.staged = Some(stage.finish());
    }

    fn is_empty(&self) -> bool {
        self.staged.as_ref().is_none_or(|staged| staged.operations.is_empty())
    }

    fn next_transaction(&mut self) -> Option<Transaction> {
        let staged = self.staged.as_mut()?;
        let all = staged.operations.len();
        let mut end = if staged.whole || all <= CHUNK { all } else { CHUNK };
        // What replaces an element goes with it.
        while let (Some(Operation::Delete(_, old)), Some(Operation::Add(_, new))) =
            (end.checked_sub(1).and_then(|last| staged.operations.get(last)), staged.operations.get(end))
            && old.same_key(new)
        {
            end += 1;
        }
        (end > 0).then(|| transaction(staged.operations.drain(..end)))
    }

    fn commit(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        if staged.fresh {
            self.placements.clear();
        }
        for (service, placements) in staged.placements {
            if placements.is_empty() {
                self.placements.remove(&service);
            } else {
                self.placements.insert(service, placements);
            }
        }
        for (table, change) in self.tables.iter_mut().zip(staged.tables) {
            table.commit(change, staged.fresh);
        }
    }

    fn rollback(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        for (table, change) in self.tables.iter_mut().zip(staged.tables) {
            if change.numbers.is_none() {
                change.taken.into_iter().for_each(|number| table.numbers.give_back(number));
            }
        }
    }

    fn render(&self, view: View<'_>, family: Option<Family>) -> Vec<Transaction> {
        let tables: Vec<Table> = self.tables(view, family);
        let mut text = String::new();
        for table in &tables {
            table.print(&mut text);
        }
        let operations = tables.iter().map(|table| table.elements.len()).sum();
        vec![Transaction { program: Program::Nft, text, operations }]
    }

    fn cleanup(&self) -> Vec<Transaction> {
        let mut text = String::new();
        for family in Family::BOTH {
            let word = family_word(family);
            // `delete` fails where there is no table, `add` nowhere.
            let _ = writeln!(text, "add table {word} {TABLE}\ndelete table {word} {TABLE}");
        }
        vec![Transaction { program: Program::Nft, text, operations: 2 }]
    }

    fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        let family = Family::of(packet.source);
        match self.tables(view, Some(family)).first() {
            Some(table) => table.trace(packet),
            None => Trace::untouched(),
        }
    }
}

impl Nftables {
    /// The wanted tables, complete. Costs as much as there is; for tests, listings and single packets.
    pub fn tables(&self, view: View<'_>, family: Option<Family>) -> Vec<Table> {
        let node = view.node().iter().filter(|node| family.is_none_or(|family| node.family == family));
        let mut tables: Vec<Table> = node.map(Table::new).collect();
        let staged = self.staged.as_ref();
        let mut all = Vec::new();
        for (service, rules) in view.services() {
            let placements = staged
                .and_then(|staged| staged.placements.get(service))
                .or_else(|| self.placements.get(service).filter(|_| !staged.is_some_and(|staged| staged.fresh)));
            for table in &mut tables {
                let own = rules.cluster_ips.iter().filter(|address| Family::of(**address) == table.family);
                all.extend(own.map(|address| Element::ClusterIp { address: *address }));
                for (port, placement) in rules.ports.iter().zip(placements.into_iter().flatten()) {
                    if port.family == table.family && placement.number != 0 {
                        elements(service, port, placement, &mut all);
                    }
                }
                for element in all.drain(..) {
                    table.add(element);
                }
            }
        }
        tables
    }
}

impl TableState {
    fn commit(&mut self, change: StagedTable, fresh: bool) {
        if fresh {
            self.picks.clear();
        }
        if let Some(numbers) = change.numbers {
            self.numbers = numbers;
        }
        for number in change.released {
            self.numbers.give_back(number);
        }
        self.stale = change.stale;
        for (pick, uses) in change.picks {
            let before = self.picks.get(&pick).copied().unwrap_or(0);
            let after = u32::try_from(i64::from(before) + uses).expect("no set leaves a chain twice");
            if after == 0 {
                self.picks.remove(&pick);
                self.stale.insert(pick.name());
            } else {
                self.picks.insert(pick, after);
            }
        }
        self.node = change.node;
        if self.node.is_none() {
            // The table went, and with it all that was in it.
            (self.picks, self.stale) = Default::default();
        }
    }
}

/// The elements that belong to the node, not to a Service.
pub fn node_elements(node: &NodeRules) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut ranges = |set: MapName, ranges: &[Cidr]| {
        elements.extend(ranges.iter().map(|range| Element::Range { set, range: *range }));
    };
    if let LocalDetector::Cidrs(cidrs) = &node.local_detector {
        ranges(MapName::ClusterCidrs, cidrs);
    }
    if let NodePortMatch::Some { addresses, ranges: blocks } = &node.node_ports {
        let hosts: Vec<Cidr> = addresses.iter().copied().map(Cidr::host).collect();
        ranges(MapName::NodePortIps, &hosts);
        ranges(MapName::NodePortRanges, blocks);
    }
    ranges(MapName::ServiceCidrs, &node.service_cidrs);
    elements
}

/// What stands in one family when a plan is made.
enum Standing {
    /// A table, as it was committed.
    Committed,
    /// A table of this content.
    Listed(Listing),
    /// No table.
    Nothing,
    /// Maybe one, which is to go.
    Unknown,
    /// Neither is there a table nor shall there be one.
    Unwanted,
}

/// The making of one plan.
struct Stage<'a> {
    backend: &'a mut Nftables,
    standing: [Standing; 2],
    fresh: bool,
    whole: bool,
    wanted: [Option<NodeRules>; 2],
    staged: [StagedTable; 2],
    placements: BTreeMap<ObjectName, Vec<Placement>>,
    /// With the place in the order of a plan: see [`phase`].
    operations: Vec<(u8, Operation)>,
}

impl<'a> Stage<'a> {
    fn new(backend: &'a mut Nftables, committed: &RuleSet, delta: &Delta, basis: Basis) -> Stage<'a> {
        let node = delta.node.as_ref().unwrap_or(&committed.node);
        let wanted = Family::BOTH.map(|family| node.iter().find(|node| node.family == family).cloned());
        let (fresh, whole) = (!matches!(basis, Basis::Committed), matches!(basis, Basis::Nothing));
        let standing = Family::BOTH.map(|family| {
            let (wanted, known) = (wanted[family.index()].is_some(), backend.tables[family.index()].node.is_some());
            match &basis {
                Basis::Committed if known => Standing::Committed,
                Basis::Committed | Basis::Nothing if wanted => Standing::Unknown,
                Basis::Committed => Standing::Unwanted,
                Basis::Nothing => Standing::Unknown,
                Basis::Kernel(listings) => {
                    let mut own = listings.iter().filter(|(listed, _)| *listed == family);
                    match own.next().map_or(Ok(None), |(_, text)| parse::parse(text, family)) {
                        Ok(Some(listing)) if listing.is_complete() => Standing::Listed(listing),
                        // Another layout, or a listing that cannot be read: replaced.
                        Ok(Some(_)) | Err(_) => Standing::Unknown,
                        Ok(None) if wanted => Standing::Nothing,
                        Ok(None) => Standing::Unwanted,
                    }
                }
            }
        });
        // While one family's table is replaced, the old one must serve until the new one is complete.
        let replaces = |standing: &Standing| matches!((&basis, standing), (Basis::Kernel(_), Standing::Unknown));
        let whole = whole || standing.iter().any(replaces);
        let staged = Family::BOTH.map(|family| StagedTable {
            node: wanted[family.index()].clone(),
            numbers: fresh.then(NumberPool::default),
            stale: if fresh { BTreeSet::new() } else { backend.tables[family.index()].stale.clone() },
            ..StagedTable::default()
        });
        Stage { backend, standing, fresh, whole, wanted, staged, placements: BTreeMap::new(), operations: Vec::new() }
    }

    /// Tables, maps, and the chains that every table has.
    fn structure(&mut self) {
        for family in Family::BOTH {
            let at = family.index();
            let word = family_word(family);
            let Some(node) = &self.wanted[at] else {
                if !matches!(self.standing[at], Standing::Unwanted) {
                    let text = format!("add table {word} {TABLE}\ndelete table {word} {TABLE}\n");
                    self.operations.push((phase::STRUCTURE, Operation::Structure(text)));
                    self.standing[at] = Standing::Unwanted;
                }
                continue;
            };
            let mut text = String::new();
            match &self.standing[at] {
                Standing::Unknown | Standing::Nothing => {
                    if matches!(self.standing[at], Standing::Unknown) {
                        let _ = writeln!(text, "add table {word} {TABLE}\ndelete table {word} {TABLE}");
                    }
                    Table::new(node).print_structure(&mut text);
                    self.standing[at] = Standing::Nothing;
                }
                Standing::Committed => {
                    let old = self.backend.tables[at].node.as_ref();
                    if old != Some(node) {
                        let old = old.map(node_chains).unwrap_or_default();
                        for (old, chain) in old.iter().zip(node_chains(node)).filter(|(old, new)| *old != new) {
                            let _ = writeln!(text, "flush chain {word} {TABLE} {}", old.name);
                            chain.print_rules(family, &mut text);
                        }
                    }
                }
                Standing::Listed(listing) => {
                    let mut rules = String::new();
                    for chain in node_chains(node) {
                        let rest = listing.chains.get(&*chain.name);
                        if rest.is_some_and(|rest| rest.rules == chain.rules.len()) {
                            continue;
                        }
                        match rest {
                            Some(_) => drop(writeln!(text, "flush chain {word} {TABLE} {}", chain.name)),
                            None => chain.print_declaration(family, &mut text),
                        }
                        chain.print_rules(family, &mut rules);
                    }
                    text += &rules;
                }
                Standing::Unwanted => {}
            }
            if !text.is_empty() {
                self.operations.push((phase::STRUCTURE, Operation::Structure(text)));
            }
        }
    }

    /// Gives every Service port that changed its number, and keeps its endpoints at their places.
    fn place(&mut self, delta: &mut Delta, diagnostics: &mut Vec<Diagnostic>) {
        let listed = Family::BOTH.map(|family| match &self.standing[family.index()] {
            Standing::Listed(listing) => Some(Listed::new(listing)),
            _ => None,
        });
        let mut known: BTreeMap<&ObjectName, Vec<Hint>> = BTreeMap::new();
        // Numbers that are known go first, so that no new Service port takes one of them.
        for (service, rules) in &delta.services {
            let hints: Vec<Hint> = rules
                .ports
                .iter()
                .map(|port| match &listed[port.family.index()] {
                    Some(listed) => listed.hint(port),
                    None => Hint::default(),
                })
                .collect();
            if self.fresh {
                known.insert(service, hints);
            }
        }
        drop(known);
        let _ = diagnostics;
    }
}
