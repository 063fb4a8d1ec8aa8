//! The nftables backend: one table a family, a constant number of chains, a few large maps, element-only updates.
//!
//! kube-proxy's layout has chains and an anonymous map for every Service, and the kernel walks all sets of a table for
//! each rule that names one: programming is quadratic. Here Services are elements, so programming is linear and a
//! change costs its own elements.
//!
//! In: decisions. Out: transactions for `nft -f -`, in which no address is there before its endpoints, and none of
//! them is gone before it. Other tables are never named.

mod audit;
pub mod elements;
pub mod numbers;
pub mod operations;
pub mod parse;
pub mod place;
pub mod rules;
mod stage;
pub mod table;

use crate::address::{Cidr, Family};
use crate::backend::{Backend, Basis, Delta, View};
use crate::diff::{Program, Transaction};
use crate::hash::Hashed;
use crate::model::{Diagnostic, LocalDetector, ObjectName};
use crate::ruleset::{NodePortMatch, NodeRules, RuleSet};
use crate::simulate::{Packet, Trace};
use audit::Heard;
use elements::{Element, MapName, Placement};
use numbers::NumberPool;
use operations::{CHUNK, Operation, Phase, chunk};
use parse::Reader;
use rules::PickChain;
use stage::{Stage, gather};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use table::Table;

/// Changes with the names or types of maps and chains: a table of another layout is replaced as a whole.
const LAYOUT: &str = "fairlead layout 2";

/// What the backend knows beside the committed decisions.
#[derive(Debug, Default)]
pub struct Nftables {
    /// By Service, in the order of its ports.
    placements: Hashed<ObjectName, Vec<Placement>>,
    tables: [TableState; 2],
    staged: Option<Staged>,
    /// A plan that was rolled back may have left a table beside one that it was to replace.
    stand_in: bool,
    /// For an audit.
    heard: Heard,
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
    /// Of which phase the transaction was that was taken last, if others of it may go beside that one.
    last: Option<Phase>,
    /// Of the Services of the delta.
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

impl Backend for Nftables {
    fn stage(
        &mut self,
        committed: &RuleSet,
        delta: &mut Delta,
        basis: Basis,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        debug_assert!(self.staged.is_none());
        let mut stage = Stage::new(self, committed, delta, basis);
        stage.structure();
        stage.place(committed, delta, diagnostics);
        stage.elements(committed, delta);
        self.staged = Some(stage.finish());
    }

    fn part_of_load(&self) -> usize {
        CHUNK
    }

    fn begin_audit(&mut self) {
        self.heard = Heard::default();
    }

    fn hear(&mut self, family: Family, lines: &str) -> bool {
        self.heard[family.index()].get_or_insert_with(|| Reader::new(family)).read(lines);
        true
    }

    fn is_intact(&mut self, committed: &RuleSet, _: Vec<(Family, String)>) -> bool {
        self.is_as_committed(committed)
    }

    fn is_empty(&self) -> bool {
        self.staged.as_ref().is_none_or(|staged| staged.operations.is_empty())
    }

    fn next_transaction(&mut self) -> Option<Transaction> {
        let staged = self.staged.as_mut()?;
        self.stand_in |= staged.operations.front().is_some_and(|next| next.phase == Phase::StandIn);
        chunk(&mut staged.operations, staged.whole, &mut staged.last)
    }

    fn commit(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        self.stand_in = false;
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
        let tables = self.tables(view, family);
        let mut text = String::new();
        for table in &tables {
            table.print(&mut text);
        }
        let operations = tables.iter().map(|table| table.elements.len()).sum();
        vec![Transaction {
            program: Program::Nft,
            text,
            operations,
            beside: false,
            adds_only: false,
            elements_only: false,
        }]
    }

    fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        let family = Family::of(packet.source);
        match self.tables(view, Some(family)).first() {
            Some(table) => table.trace(view, packet),
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
            let placements = staged.and_then(|staged| staged.placements.get(service)).or_else(|| {
                self.placements.get(service).filter(|_| !staged.is_some_and(|staged| staged.fresh))
            });
            let placements = placements.map_or(&[][..], |placements| placements);
            for table in &mut tables {
                gather(service, rules, placements, table.family, &mut all);
                for element in all.drain(..) {
                    table.add(element);
                }
            }
        }
        tables.iter_mut().for_each(Table::sort);
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
