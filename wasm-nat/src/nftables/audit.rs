//! Whether the kernel still holds what was committed, without a second copy of it: elements on both sides are added up
//! as hashes, in whatever order they come.
//!
//! In: a listing, line by line, and the committed decisions. Out: yes or no. Not here: what would have to be done (`stage`),
//! whose rules for tables and chains are used here, too, and where equal elements are sought one by one. What packets filled
//! in plays no part.

use super::Nftables;
use super::elements::{Element, Placement};
use super::node_elements;
use super::parse::{Reader, Sink};
use super::stage::{Found, found, gather, missing_chains, missing_pick};
use crate::address::Family;
use crate::ruleset::{NodeRules, RuleSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Of elements in any order. SipHash, since hashes that are added up must have nothing to do with each other: with
/// `WordHasher` two endpoints that change places could give the sum of before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    count: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, element: &Element) {
        let mut hasher = DefaultHasher::new();
        element.hash(&mut hasher);
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

impl Sink for Sum {
    fn take(&mut self, element: Element) {
        self.add(&element);
    }
}

/// What was heard of each family's table.
pub(super) type Heard = [Option<Reader<Sum>>; 2];

impl Nftables {
    /// Of what was heard, and nothing is heard afterwards.
    pub(super) fn is_as_committed(&mut self, committed: &RuleSet) -> bool {
        let mut heard = std::mem::take(&mut self.heard);
        Family::BOTH.into_iter().all(|family| {
            let wanted = committed.node(family);
            let read = heard[family.index()].take().map_or(Ok(None), Reader::finish);
            match (wanted, found(read, wanted.is_some())) {
                (None, Found::NoTable) => true,
                (Some(node), Found::Table(listing)) => {
                    let mut missing = String::new();
                    missing_chains(&listing, node, &mut missing);
                    for pick in self.tables[family.index()].picks.keys() {
                        missing_pick(&listing, &pick.chain(), family, &mut missing);
                    }
                    missing.is_empty() && Some(listing.elements) == self.sum(committed, node)
                }
                _ => false,
            }
        })
    }

    /// Of all elements in a family; `None` where a Service port without a number could have one now.
    fn sum(&self, committed: &RuleSet, node: &NodeRules) -> Option<Sum> {
        let family = node.family;
        let has_room = self.tables[family.index()].numbers.has_room();
        let mut sum = Sum::default();
        node_elements(node).iter().for_each(|element| sum.add(element));
        let mut elements = Vec::new();
        for (service, rules) in &committed.services {
            let placements: &[Placement] = self.placements.get(service).map_or(&[], Vec::as_slice);
            let mut own = rules.ports.iter().zip(placements).filter(|(port, _)| port.family == family);
            if has_room && own.any(|(_, placement)| placement.number == 0) {
                return None;
            }
            gather(service, rules, placements, family, &mut elements);
            elements.drain(..).for_each(|element| sum.take(element));
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Balance;
    use crate::compile::{Context, compile_node};
    use crate::model::{Node, ObjectName, Protocol, Settings};
    use crate::ruleset::{PortRules, ServiceRules};

    /// So that it gets one when another Service goes: a reconcile would give it to it, too.
    #[test]
    fn a_port_without_a_number_is_left_out_only_while_there_is_none() {
        let port = PortRules {
            family: Family::V4,
            protocol: Protocol::Tcp,
            name: "http".into(),
            entries: vec![],
            cluster: None,
            local: None,
            affinity_seconds: None,
            balance: Balance::Random,
            scheduler: None,
            source_ranges: vec![],
        };
        let name = ObjectName::new("default", "web");
        let mut committed = RuleSet::default();
        let rules = ServiceRules { ports: vec![port], ..ServiceRules::default() };
        committed.services.insert(name.clone(), rules);
        let mut backend = Nftables::default();
        backend.placements.insert(name, vec![Placement { number: 0, endpoints: vec![], last_endpoint: 0 }]);
        let context = Context { node: &Node::default(), settings: &Settings::default() };
        let [v4, v6] = compile_node(context).try_into().expect("both families");
        assert_eq!(backend.sum(&committed, &v4), None);
        while backend.tables[0].numbers.take().is_some() {}
        assert!(backend.sum(&committed, &v4).is_some(), "there is none left");
        assert!(backend.sum(&committed, &v6).is_some(), "it is none of this family");
    }
}
