//! The making of a plan for one family: from what stands to what is wanted, in units that may be applied in order.
//!
//! A chain is written before the first that leads to it and deleted after the last. An address is refused before it is
//! no longer translated, and translated before it is no longer refused, so it is never left alone in between.

use super::listing::Listing;
use super::rule::{ChainName, Rule, Spelling, Table};
use super::service::{Chain, Item, ServiceChains, TreeName, service_chains};
use super::stock;
use super::tree::{Bits, Cell, Difference, Part, Tree, difference};
use super::units::{Queue, Unit};
use crate::address::Family;
use crate::model::ObjectName;
use crate::ruleset::{NodeRules, ServiceRules};
use std::collections::{BTreeMap, BTreeSet};

/// Items of the trees of one family, by [`TreeName`].
pub type Trees = [BTreeMap<Bits, Item>; 5];

/// Changes of the items of the trees; `None` is one that is gone.
pub type TreeChanges = [BTreeMap<Bits, Option<Item>>; 5];

/// The trees of a table: node ports first, since the root of the addresses leads there.
fn trees_of(table: Table) -> &'static [TreeName] {
    match table {
        Table::Nat => &[TreeName::NatNodePorts, TreeName::NatAddresses],
        Table::Filter => &[TreeName::HealthChecks, TreeName::FilterNodePorts, TreeName::FilterAddresses],
    }
}

/// From a listing to what is wanted: everything is compared, chain by chain. Returns the trees.
pub fn from_listing<'a>(
    listing: &Listing<'_>,
    wanted: Option<&NodeRules>,
    services: impl Iterator<Item = (&'a ObjectName, &'a ServiceRules)>,
    queue: &mut Queue,
) -> Option<Trees> {
    let mut whole = Whole { listing, queue, wanted: Default::default(), printed: String::new() };
    let Some(node) = wanted else {
        for table in [Table::Nat, Table::Filter] {
            whole.hooks(table, false);
            whole.stale(table);
        }
        return None;
    };
    let mut trees = Trees::default();
    let mut units = Vec::new();
    for (service, rules) in services {
        let ServiceChains { chains, items } = service_chains(service, rules, node);
        let mut unit = Unit::new(Table::Nat);
        chains.iter().for_each(|chain| whole.chain(&mut unit, &chain.name, &chain.rules));
        units.push(unit);
        for (tree, bits, item) in items {
            trees[tree as usize].insert(bits, item);
        }
    }
    whole.table(Table::Filter, node, &trees, Vec::new());
    whole.table(Table::Nat, node, &trees, units);
    Some(trees)
}

struct Whole<'a, 'q> {
    listing: &'a Listing<'a>,
    queue: &'q mut Queue,
    /// Names of what shall be there, by table.
    wanted: [BTreeSet<ChainName>; 2],
    /// Room for one rule.
    printed: String,
}

impl Whole<'_, '_> {
    fn table(&mut self, table: Table, node: &NodeRules, trees: &Trees, services: Vec<Unit>) {
        let mut unit = Unit::new(table);
        for (name, rules) in stock::chains(table, node) {
            self.chain(&mut unit, &name.into(), &rules);
        }
        self.queue.push(unit);
        services.into_iter().for_each(|unit| self.queue.push(unit));
        for tree in trees_of(table).iter().copied() {
            for (cell, parts) in Tree::new(&trees[tree as usize]).chains().iter().rev() {
                let (name, rules) = stock::tree_chain(tree, *cell, parts, node);
                let mut unit = Unit::new(table);
                self.chain(&mut unit, &name, &rules);
                self.queue.push(unit);
            }
        }
        self.hooks(table, true);
        self.stale(table);
    }

    fn chain(&mut self, unit: &mut Unit, name: &ChainName, rules: &[Rule]) {
        let family = self.queue.family();
        let listed = self.listing.chain(unit.table, name).filter(|_| !self.listing.is_doubtful);
        let stands = listed.is_some_and(|listed| {
            let same = |(rule, text): (&Rule, &&str)| {
                self.printed.clear();
                rule.print(family, Spelling::Listed, &mut self.printed).is_ok() && self.printed[1..] == **text
            };
            listed.len() == rules.len() && rules.iter().zip(listed).all(same)
        });
        if !stands {
            unit.write(family, name, rules);
        }
        self.wanted[unit.table as usize].insert(name.clone());
    }

    /// Inserts the jumps that are missing, and removes those that nobody wants and those that are there twice.
    fn hooks(&mut self, table: Table, wanted: bool) {
        let family = self.queue.family();
        let mut missing = if wanted { stock::hooks(table) } else { Vec::new() };
        let mut unit = Unit::new(table);
        for (builtin, text, _) in self.listing.hooks(table) {
            let is_it = |hook: &stock::Hook| {
                hook.builtin == builtin && hook.rule.text(family, Spelling::Listed) == text
            };
            match missing.iter().position(is_it) {
                Some(place) => drop(missing.remove(place)),
                None => unit.remove(builtin, text),
            }
        }
        for hook in missing {
            unit.insert(family, hook.builtin, &hook.rule);
        }
        self.queue.push(unit);
    }

    /// Deletes chains of ours that are not wanted.
    fn stale(&mut self, table: Table) {
        let held = self.listing.held(table);
        let (mut flushed, mut deleted) = (Vec::new(), Unit::new(table));
        for name in self.listing.ours(table).filter(|name| !self.wanted[table as usize].contains(*name)) {
            let mut unit = Unit::new(table);
            if self.listing.chain(table, name).is_some_and(|rules| !rules.is_empty()) {
                unit.write(self.queue.family(), &name.into(), &[]);
            }
            flushed.push(unit);
            if !held.contains(name) {
                deleted.delete(name.into());
            }
        }
        // They lead to each other: all are emptied before the first is deleted.
        flushed.into_iter().for_each(|unit| self.queue.push(unit));
        self.queue.push_divided(deleted);
    }
}

/// A Service before and after a change; the rules of one that is not there are empty.
pub struct ServiceChange<'a> {
    /// Its name.
    pub service: &'a ObjectName,
    /// What was committed.
    pub old: &'a ServiceRules,
    /// What is wanted.
    pub new: &'a ServiceRules,
}

/// From what was committed to what is wanted: the cost is that of the Services that changed.
pub fn from_committed<'a>(
    trees: &Trees,
    (old_node, new_node): (&NodeRules, &NodeRules),
    services: impl Iterator<Item = ServiceChange<'a>>,
    queue: &mut Queue,
) -> TreeChanges {
    let family = new_node.family;
    let (mut writes, mut deletes) = (Vec::new(), Vec::new());
    let (mut gone, mut added) = (Vec::new(), Vec::new());
    for ServiceChange { service, old, new } in services {
        let mut old = service_chains(service, old, old_node);
        let mut new = service_chains(service, new, new_node);
        service_units(family, &mut old, &mut new, &mut writes, &mut deletes);
        gone.append(&mut old.items);
        added.append(&mut new.items);
    }
    let mut changes = TreeChanges::default();
    for (tree, bits, _) in gone {
        changes[tree as usize].insert(bits, None);
    }
    for (tree, bits, item) in added {
        changes[tree as usize].insert(bits, Some(item));
    }
    for (items, changes) in trees.iter().zip(&mut changes) {
        changes.retain(|bits, change| items.get(bits) != change.as_ref());
    }
    // What is refused from now on, before nat lets go of it; what is refused no more, after nat has taken it.
    let growth: TreeChanges = std::array::from_fn(|tree| {
        let kept = changes[tree].iter().filter(|(_, item)| item.is_some());
        kept.map(|(bits, item)| (*bits, item.clone())).collect()
    });
    let none = TreeChanges::default();
    let mut moves = Moves { family, old_node, new_node, trees, queue };
    moves.stock(Table::Filter);
    moves.trees(Table::Filter, &none, &growth);
    moves.stock(Table::Nat);
    writes.into_iter().for_each(|unit| moves.queue.push(unit));
    moves.trees(Table::Nat, &none, &changes);
    deletes.into_iter().for_each(|unit| moves.queue.push(unit));
    moves.stale_stock(Table::Nat);
    moves.trees(Table::Filter, &growth, &changes);
    changes
}

/// Chains of one Service: those that are new or other, and those that are gone.
fn service_units(
    family: Family,
    old: &mut ServiceChains,
    new: &mut ServiceChains,
    writes: &mut Vec<Unit>,
    deletes: &mut Vec<Unit>,
) {
    let (mut write, mut delete) = (Unit::new(Table::Nat), Unit::new(Table::Nat));
    let before: BTreeMap<&str, &Chain> = old.chains.iter().map(|chain| (&*chain.name, chain)).collect();
    let after: BTreeSet<&str> = new.chains.iter().map(|chain| &*chain.name).collect();
    for chain in &new.chains {
        if before.get(&*chain.name).is_none_or(|old| old.rules != chain.rules) {
            write.write(family, &chain.name, &chain.rules);
        }
    }
    for chain in old.chains.iter().filter(|chain| !after.contains(&*chain.name)) {
        delete.delete(chain.name.clone());
    }
    writes.push(write);
    deletes.push(delete);
}

struct Moves<'a> {
    family: Family,
    old_node: &'a NodeRules,
    new_node: &'a NodeRules,
    trees: &'a Trees,
    queue: &'a mut Queue,
}

impl Moves<'_> {
    /// Chains that only the node's own rules change.
    fn stock(&mut self, table: Table) {
        if self.old_node == self.new_node {
            return;
        }
        let old: BTreeMap<_, _> = stock::chains(table, self.old_node).into_iter().collect();
        let mut unit = Unit::new(table);
        for (name, rules) in stock::chains(table, self.new_node) {
            if old.get(name) != Some(&rules) {
                unit.write(self.family, &name.into(), &rules);
            }
        }
        self.queue.push(unit);
    }

    fn stale_stock(&mut self, table: Table) {
        if self.old_node == self.new_node {
            return;
        }
        let new: BTreeMap<_, _> = stock::chains(table, self.new_node).into_iter().collect();
        let mut unit = Unit::new(table);
        for (name, _) in stock::chains(table, self.old_node) {
            if !new.contains_key(name) {
                unit.delete(name.into());
            }
        }
        self.queue.push(unit);
    }

    /// The trees of a table, from one set of changes over what was committed to another.
    fn trees(&mut self, table: Table, from: &TreeChanges, to: &TreeChanges) {
        let mut all_gone = Vec::new();
        for tree in trees_of(table).iter().copied() {
            let index = tree as usize;
            let old = Tree::changed(&self.trees[index], &from[index]);
            let new = Tree::changed(&self.trees[index], &to[index]);
            let Difference { written, gone } = difference(&old, &new, &to[index]);
            for (cell, parts) in written.iter().rev() {
                self.tree_chain(table, tree, *cell, parts);
            }
            let behind = |node| stock::tree_chain(tree, Cell::ROOT, &[], node).1;
            if !written.contains_key(&Cell::ROOT) && behind(self.old_node) != behind(self.new_node) {
                self.tree_chain(table, tree, Cell::ROOT, &new.chain(Cell::ROOT, 0));
            }
            all_gone.extend(gone.into_iter().map(|cell| stock::cell_name(tree, cell, self.family)));
        }
        for name in all_gone {
            let mut unit = Unit::new(table);
            unit.delete(name);
            self.queue.push(unit);
        }
    }

    fn tree_chain(&mut self, table: Table, tree: TreeName, cell: Cell, parts: &[Part<Item>]) {
        let (name, rules) = stock::tree_chain(tree, cell, parts, self.new_node);
        self.queue.push(Unit::chain(table, self.family, &name, &rules));
    }
}
