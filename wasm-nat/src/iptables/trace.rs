//! What happens to one packet, by a walk through the typed rules.
//!
//! In: the trees, the wanted decisions and a packet. Out: a trace. Chains of trees and Services are made as the packet
//! comes to them, so a walk costs what the packet meets. Where chance or a memory of earlier packets decides, all ways
//! are walked; nothing is remembered of any client.

use super::rule::{ChainName, Match, Rule, Spelling, Table, Verdict as RuleVerdict};
use super::service::{Action, Item, TreeName, address_bits, address_of, service_chains};
use super::stock;
use super::tree::{Bits, Cell, Part, Tree};
use crate::backend::View;
use crate::balance::Target;
use crate::model::ObjectName;
use crate::ruleset::{At, NodeRules};
use crate::simulate::{Packet, Trace, TraceRule, Verdict, is_local, object_of};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Walks the packet through `nat`, and where that leaves it alone through `filter`.
pub fn trace(view: View<'_>, node: &NodeRules, trees: [Tree<'_, Item>; 5], packet: &Packet) -> Trace {
    let mut walk = Walk {
        view,
        node,
        trees,
        packet,
        chains: BTreeMap::new(),
        rules: Vec::new(),
        translated: Vec::new(),
    };
    let from_node = is_local(node, packet.source);
    let to_node = is_local(node, packet.destination);
    walk.hooks(Table::Nat, if from_node { "OUTPUT" } else { "PREROUTING" });
    if !walk.translated.is_empty() {
        let marked =
            walk.translated.iter().any(|(target, marked)| *marked && target.address != packet.source);
        let endpoints = walk.translated.iter().map(|(target, _)| *target).collect();
        return Trace::dnat(packet, node, endpoints, marked, walk.rules);
    }
    let path: &[&str] = match (from_node, to_node) {
        (true, true) => &["OUTPUT", "INPUT"],
        (true, false) => &["OUTPUT"],
        (false, true) => &["INPUT"],
        (false, false) => &["FORWARD"],
    };
    walk.rules.clear();
    for builtin in path {
        match walk.hooks(Table::Filter, builtin) {
            Step::Ends(RuleVerdict::Reject) => return Trace::refused(Verdict::Reject, walk.rules),
            Step::Ends(RuleVerdict::Drop) => return Trace::refused(Verdict::Drop, walk.rules),
            _ => {}
        }
    }
    Trace::untouched()
}

/// Where the walk through a chain has led.
enum Step {
    /// To its end.
    Through {
        /// The mark's bit is set.
        marked: bool,
    },
    /// A rule ended the walk.
    Ends(RuleVerdict),
}

/// A rule with the object behind it.
type KnownRule = (Rule, Option<Rc<str>>);

struct Walk<'a> {
    view: View<'a>,
    node: &'a NodeRules,
    trees: [Tree<'a, Item>; 5],
    packet: &'a Packet,
    /// Those that have been named so far.
    chains: BTreeMap<(Table, ChainName), Rc<[KnownRule]>>,
    rules: Vec<TraceRule>,
    /// Endpoints, and whether the packet was marked on the way there.
    translated: Vec<(Target, bool)>,
}

impl Walk<'_> {
    fn hooks(&mut self, table: Table, builtin: &str) -> Step {
        for (name, rules) in stock::chains(table, self.node) {
            self.learn(table, name.into(), rules.into_iter().map(|rule| (rule, None)).collect());
        }
        for tree in TreeName::ALL {
            if table_of(tree) == table {
                self.learn_tree(tree, Cell::ROOT, 0);
            }
        }
        // Inserted one before the other.
        let hooks = stock::hooks(table).into_iter().rev().filter(|hook| hook.builtin == builtin);
        let rules: Vec<KnownRule> = hooks.map(|hook| (hook.rule, None)).collect();
        self.rules(table, builtin, &rules, false)
    }

    fn learn(&mut self, table: Table, name: ChainName, rules: Vec<KnownRule>) {
        self.chains.entry((table, name)).or_insert_with(|| rules.into());
    }

    /// Makes the chain of a cell, and those of the Services that it names.
    fn learn_tree(&mut self, tree: TreeName, cell: Cell, depth: u8) {
        let parts = self.trees[tree as usize].chain(cell, depth);
        let (name, rules) = stock::tree_chain(tree, cell, &parts, self.node);
        let mut objects: Vec<Option<Rc<str>>> = Vec::new();
        let mut below = Vec::new();
        let mut services = Vec::new();
        for part in &parts {
            match part {
                Part::Item(bits, item) => {
                    let count = if matches!(item.action, Action::Masquerade(_)) { 2 } else { 1 };
                    objects.extend(std::iter::repeat_n(self.object(tree, *bits, item), count));
                    services.push(item.service.clone());
                }
                Part::Cell(cell) => {
                    objects.push(None);
                    below.push(*cell);
                }
            }
        }
        let objects = objects.into_iter().chain(std::iter::repeat(None));
        self.learn(table_of(tree), name, rules.into_iter().zip(objects).collect());
        // Only the way of this packet is walked down.
        let wanted = self.bits(tree);
        for cell in below {
            let (first, last) = cell.bounds();
            if first <= wanted && wanted <= last {
                self.learn_tree(tree, cell, depth + 1);
            } else {
                self.learn(table_of(tree), stock::cell_name(tree, cell, self.node.family), Vec::new());
            }
        }
        if table_of(tree) == Table::Nat {
            services.iter().for_each(|service| self.learn_service(service));
        }
    }

    /// What the packet is addressed to, as the tree sees it.
    fn bits(&self, tree: TreeName) -> Bits {
        let address = if tree.has_addresses() { address_bits(self.packet.destination) } else { 0 };
        Bits::new(address, self.packet.protocol, self.packet.port)
    }

    fn object(&self, tree: TreeName, bits: Bits, item: &Item) -> Option<Rc<str>> {
        let family = self.node.family;
        let at = match tree.has_addresses() {
            true => At::Address(address_of(family, bits.address), bits.port()),
            false => At::NodePort(bits.port()),
        };
        object_of(self.view, &item.service, family, at, bits.protocol()).map(Rc::from)
    }

    fn learn_service(&mut self, service: &ObjectName) {
        let Some(rules) = self.view.service(service) else { return };
        for chain in service_chains(service, rules, self.node).chains {
            let object: Rc<str> = describe_port(service, &chain.port).into();
            let rules = chain.rules.into_iter().map(|rule| (rule, Some(object.clone()))).collect();
            self.learn(Table::Nat, chain.name, rules);
        }
    }

    fn rules(&mut self, table: Table, chain: &str, rules: &[KnownRule], mut marked: bool) -> Step {
        for (rule, object) in rules {
            let Some(chance) = self.matches(rule, marked) else { continue };
            let before = self.rules.len();
            self.rules.push(TraceRule {
                table: table.name().to_owned(),
                chain: chain.to_owned(),
                rule: format!("-A {chain} {}", rule.text(self.node.family, Spelling::Wanted)),
                object: object.as_ref().map(|object| object.to_string()),
            });
            match &rule.verdict {
                RuleVerdict::Mark(_) => marked = true,
                RuleVerdict::Unmark(_) => marked = false,
                RuleVerdict::Return => return Step::Through { marked },
                RuleVerdict::Dnat(target) => {
                    self.translated.push((*target, marked));
                    return Step::Ends(rule.verdict.clone());
                }
                RuleVerdict::Jump(next) => {
                    let next_rules = self.chains.get(&(table, next.clone())).cloned();
                    let next_rules = next_rules.unwrap_or_else(|| Rc::from([]));
                    match self.rules(table, next, &next_rules, marked) {
                        // Another packet may take the next rule.
                        Step::Ends(_) if chance => {}
                        Step::Ends(verdict) => return Step::Ends(verdict),
                        Step::Through { marked: after } => {
                            // Only what changed something is worth telling.
                            if after == marked {
                                self.rules.truncate(before);
                            }
                            marked = after;
                        }
                    }
                }
                verdict => return Step::Ends(verdict.clone()),
            }
        }
        Step::Through { marked }
    }

    /// `None`: it does not match. Otherwise whether chance has a say.
    fn matches(&self, rule: &Rule, marked: bool) -> Option<bool> {
        let Packet { source, destination, protocol, port, interface } = self.packet;
        let mut fits = rule.source.as_ref().is_none_or(|is| is.test(|range| range.contains(*source)));
        fits &= rule.destination.as_ref().is_none_or(|is| is.test(|range| range.contains(*destination)));
        fits &= rule.protocol.is_none_or(|of| of == *protocol);
        fits &= rule.input.as_ref().is_none_or(|is| {
            is.test(|name| {
                let interface = interface.as_deref().filter(|_| !is_local(self.node, *source)).unwrap_or("");
                match name.strip_suffix('+') {
                    Some(prefix) => interface.starts_with(prefix),
                    None => interface == &**name,
                }
            })
        });
        let mut chance = false;
        for each in &rule.matches {
            fits &= match each {
                Match::Comment(_)
                | Match::New
                | Match::NeitherEstablishedNorTranslated
                | Match::Remember { .. } => true,
                Match::Ports(first, last) => (first..=last).contains(&port),
                Match::SourceIsLocal => is_local(self.node, *source),
                Match::DestinationIsLocal => is_local(self.node, *destination),
                Match::Marked(_) => marked,
                Match::NotMarked(_) => !marked,
                Match::Established | Match::Invalid | Match::Recall { .. } => false,
                Match::Chance { .. } | Match::SourceHash { .. } | Match::Every(_) => {
                    chance = true;
                    true
                }
            };
        }
        fits.then_some(chance)
    }
}

fn table_of(tree: TreeName) -> Table {
    match tree {
        TreeName::NatAddresses | TreeName::NatNodePorts => Table::Nat,
        TreeName::FilterAddresses | TreeName::FilterNodePorts | TreeName::HealthChecks => Table::Filter,
    }
}

/// `Service default/web port http`.
fn describe_port(service: &ObjectName, port: &str) -> String {
    let port = if port.is_empty() { String::new() } else { format!(" port {port}") };
    format!("Service {service}{port}")
}
