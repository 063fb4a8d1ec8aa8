//! The making of one plan: what stands, what is wanted, and the operations between them.

use super::elements::{Answer, Element, MapName, Placement, elements};
use super::numbers::{COUNTED_MASK, MOST_AFFINITY_ENDPOINTS, MOST_SERVICE_PORTS, NumberPool, service_number};
use super::operations::{Action, Operation, Phase, delete_chain};
use super::parse::{self, ListedChain, Listing, Read};
use super::place::Before;
use super::rules::{Chain, PickChain, TableId, node_chains};
use super::table::Table;
use super::{Nftables, Staged, StagedTable, node_elements};
use crate::address::Family;
use crate::backend::{Basis, Delta};
use crate::diff::difference;
use crate::model::{Diagnostic, ObjectName, Severity};
use crate::ruleset::{NodeRules, PortRules, RuleSet, ServiceRules};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::rc::Rc;

/// What stands in one family when a plan is made.
enum Standing {
    /// A table, as it was committed.
    Committed,
    /// A table of this content.
    Listed(Listing),
    /// No table, or one that this plan replaces.
    Nothing,
    /// Neither is there a table nor shall there be one.
    Unwanted,
}

/// What a listing says of one family.
pub(super) enum Found<E> {
    /// There is no table.
    NoTable,
    /// One that can be brought to what is wanted.
    Table(Listing<E>),
    /// One that is to go: of another layout, not to be read, or not wanted.
    Useless,
}

pub(super) fn found<E>(read: Read<E>, wanted: bool) -> Found<E> {
    match read {
        Ok(None) => Found::NoTable,
        Ok(Some(listing)) if wanted && listing.is_whole() => Found::Table(listing),
        Ok(Some(_)) | Err(_) => Found::Useless,
    }
}

pub(super) struct Stage<'a> {
    backend: &'a mut Nftables,
    standing: [Standing; 2],
    /// A table may be there that is to go: unreadable, of another layout, or not wanted any more.
    clears: [bool; 2],
    fresh: bool,
    whole: bool,
    wanted: [Option<NodeRules>; 2],
    staged: [StagedTable; 2],
    /// Of the Services of the delta.
    placements: BTreeMap<ObjectName, Vec<Placement>>,
    operations: Vec<Operation>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        backend: &'a mut Nftables,
        committed: &RuleSet,
        delta: &Delta,
        basis: Basis,
    ) -> Stage<'a> {
        let node = delta.node.as_ref().unwrap_or(&committed.node);
        let wanted = Family::BOTH.map(|family| node.iter().find(|node| node.family == family).cloned());
        let fresh = !matches!(basis, Basis::Committed);
        let found = Family::BOTH.map(|family| {
            let wanted = wanted[family.index()].is_some();
            let empty = if wanted { Standing::Nothing } else { Standing::Unwanted };
            match &basis {
                Basis::Committed if backend.tables[family.index()].node.is_none() => (empty, wanted),
                Basis::Committed if wanted => (Standing::Committed, false),
                Basis::Committed | Basis::Nothing => (empty, true),
                Basis::Kernel(listings) => {
                    let own = listings.iter().find(|(listed, _)| *listed == family);
                    match found(own.map_or(Ok(None), |(_, text)| parse::parse(text, family)), wanted) {
                        Found::NoTable => (empty, false),
                        Found::Table(listing) => (Standing::Listed(listing), false),
                        Found::Useless => (empty, true),
                    }
                }
            }
        });
        let clears = [found[0].1, found[1].1];
        // A table that is replaced must serve until the new one is complete.
        let whole = clears.contains(&true);
        let staged = Family::BOTH.map(|family| StagedTable {
            node: wanted[family.index()].clone(),
            numbers: fresh.then(NumberPool::default),
            stale: if fresh { BTreeSet::new() } else { backend.tables[family.index()].stale.clone() },
            ..StagedTable::default()
        });
        Stage {
            backend,
            standing: found.map(|(standing, _)| standing),
            clears,
            fresh,
            whole,
            wanted,
            staged,
            placements: BTreeMap::new(),
            operations: Vec::new(),
        }
    }

    /// Tables, maps, and the chains that every table has.
    pub(super) fn structure(&mut self) {
        for family in Family::BOTH {
            let id = TableId::own(family);
            let mut text = String::new();
            if self.clears[family.index()] {
                self.commands(Phase::Emptied, printed(|text| id.print_emptying(text)));
                id.print_removal(&mut text);
            }
            if let Some(node) = &self.wanted[family.index()] {
                match &self.standing[family.index()] {
                    Standing::Committed => {
                        let old = self.backend.tables[family.index()].node.as_ref();
                        if old != Some(node) {
                            let stale = &mut self.staged[family.index()].stale;
                            changed_chains(old, node, stale, &mut text);
                        }
                    }
                    Standing::Listed(listing) => {
                        self.staged[family.index()].stale = missing_chains(listing, node, &mut text);
                    }
                    Standing::Nothing => {
                        Table::print_structure(node, id, &mut text);
                        let serving = printed(|text| Table::print_serving(node, id, text));
                        if self.clears[family.index()] {
                            self.commands(Phase::Serves, serving);
                        } else {
                            text += &serving;
                        }
                    }
                    Standing::Unwanted => {}
                }
            }
            self.commands(Phase::Structure, text);
            let is_replaced = self.clears[family.index()] && self.wanted[family.index()].is_some();
            if is_replaced || self.backend.stand_in {
                self.stand_in_goes(family);
            }
        }
    }

    /// Gives every Service port that changed its number, and keeps its endpoints at their places.
    pub(super) fn place(
        &mut self,
        committed: &RuleSet,
        delta: &mut Delta,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        // One for each port, in order.
        let mut before = Vec::with_capacity(delta.services.len());
        for (service, rules) in &delta.services {
            self.before(committed.services.get(service), service, rules, &mut before);
        }
        for (at, standing) in self.standing.iter().enumerate() {
            if let (Standing::Listed(listing), Some(numbers)) = (standing, &mut self.staged[at].numbers)
                && let Some((highest, _)) = listing.remembered.last_key_value()
            {
                numbers.had(*highest);
            }
        }
        let mut before = before.into_iter();
        let placements = delta.services.iter_mut().map(|(service, rules)| {
            let ports = rules.ports.iter_mut().zip(&mut before);
            let placements =
                ports.map(|(port, before)| self.place_port(service, port, before, diagnostics)).collect();
            (service.clone(), placements)
        });
        self.placements = placements.collect();
    }

    /// Adds what each port had. Numbers that are known are taken here, before any new one is given.
    fn before(
        &mut self,
        old: Option<&ServiceRules>,
        service: &ObjectName,
        new: &ServiceRules,
        out: &mut Vec<Before>,
    ) {
        if self.fresh {
            let find = |port: &PortRules| {
                let at = port.family.index();
                let Standing::Listed(listing) = &self.standing[at] else { return Before::default() };
                let mut before = Before::listed(listing, port);
                let numbers = self.staged[at].numbers.as_mut().expect("a fresh plan has its own numbers");
                if !numbers.take_this(before.number) {
                    before = Before::default();
                }
                before
            };
            return out.extend(new.ports.iter().map(find));
        }
        let placements = self.backend.placements.get(service).map_or(&[][..], Vec::as_slice);
        let mut known: Vec<(&PortRules, &Placement)> =
            old.map_or(&[][..], |old| &old.ports).iter().zip(placements).collect();
        out.extend(new.ports.iter().map(|port| {
            let same = |(old, _): &(&PortRules, &Placement)| {
                (old.family, old.protocol, &old.name) == (port.family, port.protocol, &port.name)
            };
            match known.iter().position(same) {
                // What is remembered for longer than it should be from now on is left behind under the old number.
                Some(place) if !remembers_less(known[place].0, port) => {
                    let (old, placement) = known.swap_remove(place);
                    Before::committed(old, placement)
                }
                _ => Before::default(),
            }
        }));
        for (port, placement) in known.into_iter().filter(|(_, placement)| placement.number != 0) {
            self.staged[port.family.index()].released.push(placement.number);
        }
    }

    fn place_port(
        &mut self,
        service: &ObjectName,
        port: &mut PortRules,
        before: Before,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Placement {
        let at = port.family.index();
        let mut tell = |field: &str, message: String| {
            diagnostics.push(Diagnostic::service(Severity::Error, service, field, message));
        };
        let number = match before.number {
            0 => {
                match self.staged[at].numbers.as_mut().unwrap_or(&mut self.backend.tables[at].numbers).take()
                {
                    Some(number) => {
                        self.staged[at].taken.push(number);
                        number
                    }
                    None => {
                        let limit = format!(
                            "the node has {MOST_SERVICE_PORTS} ports of Services already, which is as many as there are numbers; this one is left out"
                        );
                        tell("spec.ports", limit);
                        0
                    }
                }
            }
            known => known,
        };
        let (placement, fits) = before.carry_over(port, number);
        if !fits {
            let limit = format!(
                "with session affinity a port can have {MOST_AFFINITY_ENDPOINTS} endpoints on a node; the others get no traffic"
            );
            tell("spec.sessionAffinity", limit);
        }
        placement
    }

    /// The elements that go and those that come.
    pub(super) fn elements(&mut self, committed: &RuleSet, delta: &Delta) {
        for family in Family::BOTH {
            let at = family.index();
            let Some(node) = self.wanted[at].clone() else { continue };
            let mut new = Vec::new();
            for ((service, rules), placements) in delta.services.iter().zip(self.placements.values()) {
                gather(service, rules, placements, family, &mut new);
            }
            let mut old = Vec::new();
            match &self.standing[at] {
                Standing::Committed => {
                    for service in delta.services.keys() {
                        if let Some(rules) = committed.services.get(service) {
                            let placements =
                                self.backend.placements.get(service).map_or(&[][..], Vec::as_slice);
                            gather(service, rules, placements, family, &mut old);
                        }
                    }
                    count_picks(&mut self.staged[at].picks, &old, -1);
                    let before = self.backend.tables[at].node.as_ref();
                    if before != Some(&node) {
                        old.extend(before.map(node_elements).unwrap_or_default());
                        new.extend(node_elements(&node));
                    }
                }
                Standing::Nothing => {
                    if self.clears[at] {
                        self.stand_in(&node, &new);
                    }
                    new.extend(node_elements(&node));
                }
                Standing::Listed(_) => new.extend(node_elements(&node)),
                Standing::Unwanted => {}
            }
            count_picks(&mut self.staged[at].picks, &new, 1);
            self.pick_chains(family);
            if let Standing::Listed(listing) = &mut self.standing[at] {
                old = std::mem::take(&mut listing.elements);
                new.iter_mut().for_each(forget_pick);
            }
            self.element_operations(family, old, new);
        }
    }

    /// All that is wanted, in a table beside the one that is replaced. The kernel gives a packet that begins with the old
    /// rules the new maps, which the old rules do not know: what it misses in both tables it finds here.
    fn stand_in(&mut self, node: &NodeRules, elements: &[Element]) {
        let id = TableId::stand_in(node.family);
        let mut table = Table::new(node);
        elements.iter().cloned().for_each(|element| table.add(element));
        table.sort();
        let text = printed(|text| {
            // One that somebody was killed beside.
            id.print_removal(text);
            Table::print_structure(node, id, text);
            table.print_services(id, text);
        });
        self.commands(Phase::StandIn, text);
        self.commands(Phase::StandInServes, printed(|text| Table::print_serving(node, id, text)));
    }

    fn stand_in_goes(&mut self, family: Family) {
        let id = TableId::stand_in(family);
        self.commands(Phase::StandInEmptied, printed(|text| id.print_emptying(text)));
        self.commands(Phase::StandInGone, printed(|text| id.print_removal(text)));
    }

    /// Chains that come into use, and those that nothing uses since an earlier plan.
    fn pick_chains(&mut self, family: Family) {
        let at = family.index();
        let id = TableId::own(family);
        let mut text = String::new();
        let standing = &self.standing[at];
        for (pick, uses) in &self.staged[at].picks {
            let name = pick.name();
            match standing {
                Standing::Committed => {
                    let before = self.backend.tables[at].picks.get(pick).copied().unwrap_or(0);
                    if before > 0 || *uses <= 0 || self.staged[at].stale.remove(&name) {
                        continue;
                    }
                    pick.chain().print_add(id, &mut text);
                }
                Standing::Listed(listing) => {
                    self.staged[at].stale.remove(&name);
                    missing_pick(listing, &pick.chain(), family, &mut text);
                }
                Standing::Nothing | Standing::Unwanted => pick.chain().print_add(id, &mut text),
            }
        }
        let serves = matches!(standing, Standing::Committed | Standing::Listed(_));
        self.commands(if serves { Phase::Chains } else { Phase::NewChains }, text);
    }

    fn element_operations(&mut self, family: Family, old: Vec<Element>, new: Vec<Element>) {
        self.forget_connections(family, &old, &new);
        let (gone, added) = difference(sorted(old), sorted(new));
        let mut push = |phase, action| self.operations.push(Operation { phase, action });
        // Both are sorted by key, so what is replaced is found in one walk.
        let mut added = added.into_iter().peekable();
        for element in gone {
            while let Some(next) = added.next_if(|next| *next < element && !next.same_key(&element)) {
                push(Phase::of(&next), Action::Add(family, next));
            }
            match added.next_if(|next| next.same_key(&element)) {
                Some(next) => {
                    push(Phase::of(&element), Action::Delete(family, element));
                    push(Phase::of(&next), Action::Add(family, next));
                }
                None => push(Phase::of_gone(&element), Action::Delete(family, element)),
            }
        }
        for element in added {
            push(Phase::of(&element), Action::Add(family, element));
        }
    }

    /// What was counted under a number that nobody has any more goes: the next one to get it must not inherit it. A
    /// listing tells what was counted, which is more where a packet was on its way while its Service went.
    fn forget_connections(&mut self, family: Family, old: &[Element], new: &[Element]) {
        let at = family.index();
        let mut counted: BTreeSet<u32> = match &self.standing[at] {
            Standing::Listed(listing) => listing.counted.iter().copied().collect(),
            _ => old.iter().filter_map(counted_as).collect(),
        };
        if counted.is_empty() {
            return;
        }
        let taken: BTreeSet<u32> = self.staged[at].taken.iter().copied().collect();
        let is_new = |number: u32| service_number(number).is_some_and(|number| taken.contains(&number));
        for number in new.iter().filter_map(counted_as).filter(|number| !is_new(*number)) {
            counted.remove(&number);
        }
        let forget =
            |number| Operation { phase: Phase::GoneAddresses, action: Action::Forget(family, number) };
        self.operations.extend(counted.into_iter().map(forget));
    }

    /// The plan. Stale chains alone are no reason to write.
    pub(super) fn finish(mut self) -> Staged {
        if !self.operations.is_empty() {
            for family in Family::BOTH {
                let at = family.index();
                let keep = matches!(self.standing[at], Standing::Listed(_));
                if self.wanted[at].is_some() && !keep {
                    for chain in std::mem::take(&mut self.staged[at].stale) {
                        let action = delete_chain(family, &chain);
                        self.operations.push(Operation { phase: Phase::GoneChains, action });
                    }
                }
            }
        }
        self.operations.sort_by_key(|operation| operation.phase);
        Staged {
            operations: self.operations.into(),
            whole: self.whole,
            last: None,
            placements: self.placements,
            fresh: self.fresh,
            tables: self.staged,
        }
    }

    fn commands(&mut self, phase: Phase, text: String) {
        let count = text.lines().count();
        if count > 0 {
            self.operations.push(Operation { phase, action: Action::Commands(text, count) });
        }
    }
}

fn printed(print: impl FnOnce(&mut String)) -> String {
    let mut text = String::new();
    print(&mut text);
    text
}

fn remembers_less(old: &PortRules, new: &PortRules) -> bool {
    old.affinity_seconds.is_some_and(|old| new.affinity_seconds.is_none_or(|new| new < old))
}

/// All elements of a Service in a family.
pub(super) fn gather(
    service: &ObjectName,
    rules: &ServiceRules,
    placements: &[Placement],
    family: Family,
    out: &mut Vec<Element>,
) {
    let own = rules.cluster_ips.iter().filter(|address| Family::of(**address) == family);
    out.extend(own.map(|address| Element::ClusterIp { address: *address }));
    for (port, placement) in rules.ports.iter().zip(placements) {
        if port.family == family && placement.number != 0 {
            elements(service, port, placement, out);
        }
    }
}

/// In order: by map, then by key. Those of one map mostly come so, since numbers are given in the order of Services, and
/// what comes in order the stable sort leaves alone; it would not see it while those of all maps stand between each other.
fn sorted(elements: Vec<Element>) -> Vec<Element> {
    // A listing's are.
    if elements.is_sorted() {
        return elements;
    }
    let count = elements.len();
    let mut by_map = [const { Vec::new() }; MapName::ALL.len()];
    for element in elements {
        by_map[element.map().index()].push(element);
    }
    let mut sorted = Vec::with_capacity(count);
    for mut elements in by_map {
        elements.sort();
        sorted.append(&mut elements);
    }
    sorted
}

/// The number under which connections to it are counted.
fn counted_as(element: &Element) -> Option<u32> {
    match element {
        Element::Address { value, .. } | Element::NodePort { value, .. } => Some(value & COUNTED_MASK),
        _ => None,
    }
}

fn count_picks(picks: &mut BTreeMap<PickChain, i64>, elements: &[Element], by: i64) {
    for element in elements {
        if let Element::Service { answer: Answer::Pick(pick), .. } = element {
            match picks.get_mut(pick) {
                Some(uses) => *uses += by,
                None => drop(picks.insert(pick.clone(), by)),
            }
        }
    }
}

/// A listing knows chains by name alone.
fn forget_pick(element: &mut Element) {
    if let Element::Service { answer, .. } = element {
        *answer = Answer::Unknown(answer.chain().into());
    }
}

/// Rewrites the chains whose rules differ, makes those that come, and leaves those that go to `stale`. A chain's hook never
/// changes.
fn changed_chains(old: Option<&NodeRules>, new: &NodeRules, stale: &mut BTreeSet<String>, text: &mut String) {
    let id = TableId::own(new.family);
    let mut old: BTreeMap<_, _> = old.map(node_chains).unwrap_or_default().into_iter().map(by_name).collect();
    for (name, chain) in node_chains(new).into_iter().map(by_name) {
        let standing = old.remove(&name);
        if standing.as_ref() == Some(&chain) {
            continue;
        }
        if standing.is_some() || stale.remove(&*name) {
            let _ = writeln!(text, "flush chain {id} {name}");
        } else {
            chain.print_declaration(id, text);
        }
        chain.print_rules(id, text);
    }
    stale.extend(old.into_keys().map(|name| name.to_string()));
}

fn by_name(chain: Chain) -> (Rc<str>, Chain) {
    (chain.name.clone(), chain)
}

/// Makes what a listing lacks; returns the chains that only the listing has.
pub(super) fn missing_chains<E>(
    listing: &Listing<E>,
    node: &NodeRules,
    text: &mut String,
) -> BTreeSet<String> {
    let id = TableId::own(node.family);
    let mut rules = String::new();
    let mut foreign: BTreeSet<String> = listing.chains.keys().cloned().collect();
    for chain in node_chains(node) {
        foreign.remove(&*chain.name);
        let there = listing.chains.get(&*chain.name);
        if there.is_some_and(|there| is_same(there, &chain, node.family)) {
            continue;
        }
        if there.is_some() {
            let _ = writeln!(text, "flush chain {id} {}", chain.name);
        } else {
            chain.print_declaration(id, text);
        }
        chain.print_rules(id, &mut rules);
    }
    *text += &rules;
    foreign
}

/// Makes a chain that picks, if a listing lacks it or has other rules in it.
pub(super) fn missing_pick<E>(listing: &Listing<E>, chain: &Chain, family: Family, text: &mut String) {
    let id = TableId::own(family);
    match listing.chains.get(&*chain.name) {
        Some(there) if is_same(there, chain, family) => {}
        Some(_) => {
            let _ = writeln!(text, "flush chain {id} {}", chain.name);
            chain.print_rules(id, text);
        }
        None => chain.print_add(id, text),
    }
}

fn is_same(there: &ListedChain, chain: &Chain, family: Family) -> bool {
    let has_rules = there.rules == chain.rules.len() && there.hook.is_some() == chain.hook.is_some();
    has_rules && (chain.rules.is_empty() || there.seal == chain.seal(family))
}
