//! A plan's operations, and transactions made of them.
//!
//! Operations come in phases, so that whatever names something stands in a later transaction than it, and is gone in an
//! earlier one. Within a transaction order does not matter to packets: the kernel applies it at once.

use super::elements::Element;
use super::rules::{TABLE, family_word};
use super::table::print_elements;
use crate::address::Family;
use crate::diff::{Program, Transaction};
use std::collections::VecDeque;
use std::fmt::Write;

/// Operations of one transaction of a plan that is larger: the kernel holds its lock while it commits one. Half as many
/// take a tenth longer in all, for as many more starts of the program; twice as many gain nothing.
pub const CHUNK: usize = 10_000;

/// When an operation happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Tables, maps, and the chains that every table has.
    Structure,
    /// Chains that pick.
    Chains,
    /// Endpoints, source ranges, sets of the node.
    Endpoints,
    /// Where a set goes on: names a chain, counts on endpoints.
    Services,
    /// Addresses and node ports: name a set.
    Addresses,
    /// Addresses that go.
    GoneAddresses,
    /// Sets that go.
    GoneServices,
    /// Endpoints that go.
    GoneEndpoints,
    /// Chains that nothing names since an earlier plan.
    GoneChains,
}

impl Phase {
    /// When an element is written.
    pub fn of(element: &Element) -> Phase {
        match element {
            Element::Endpoint { .. }
            | Element::AffinityEndpoint { .. }
            | Element::AffinitySlot { .. }
            | Element::SourceRange { .. }
            | Element::Range { .. } => Phase::Endpoints,
            Element::Service { .. } => Phase::Services,
            Element::Address { .. } | Element::NodePort { .. } | Element::ClusterIp { .. } => {
                Phase::Addresses
            }
        }
    }

    /// When an element goes that nothing replaces.
    pub fn of_gone(element: &Element) -> Phase {
        match Phase::of(element) {
            Phase::Addresses => Phase::GoneAddresses,
            Phase::Services => Phase::GoneServices,
            // What is left of a set's ranges must not close it before the new ones are there, nor overlap with them.
            _ if matches!(element, Element::SourceRange { .. } | Element::Range { .. }) => Phase::Endpoints,
            _ => Phase::GoneEndpoints,
        }
    }
}

/// One step of a plan.
#[derive(Debug)]
pub struct Operation {
    /// When.
    pub phase: Phase,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Commands, and how many.
    Commands(String, usize),
    /// An element goes.
    Delete(Family, Element),
    /// An element comes.
    Add(Family, Element),
}

impl Operation {
    fn weight(&self) -> usize {
        match self.action {
            Action::Commands(_, count) => count,
            Action::Delete(..) | Action::Add(..) => 1,
        }
    }

    /// Comes, and cannot overlap with what is there: in a transaction without deletions it takes no other one's place, and
    /// others of its phase may come at the same time.
    fn stands_alone(&self) -> bool {
        matches!(
            self.action,
            Action::Add(
                _,
                Element::Endpoint { .. }
                    | Element::AffinityEndpoint { .. }
                    | Element::AffinitySlot { .. }
                    | Element::Service { .. }
                    | Element::Address { .. }
                    | Element::NodePort { .. }
                    | Element::ClusterIp { .. }
            )
        )
    }

    /// `next` takes the place of what this one deletes, so both belong to one transaction.
    fn is_replaced_by(&self, next: &Operation) -> bool {
        match (&self.action, &next.action) {
            (Action::Delete(family, old), Action::Add(of, new)) => family == of && old.same_key(new),
            _ => false,
        }
    }
}

/// The next transaction: all that is left, or as much as the kernel should take at once. A plan that is larger than one
/// transaction is cut where a phase ends, too, so that those of one phase can go side by side. `before` is the phase
/// of which the last transaction was made, if it may have others beside it.
pub fn chunk(
    operations: &mut VecDeque<Operation>,
    whole: bool,
    before: &mut Option<Phase>,
) -> Option<Transaction> {
    let mut end = operations.len();
    if !whole && end > CHUNK {
        let phase = operations[0].phase;
        end = operations.iter().take(CHUNK).take_while(|operation| operation.phase == phase).count();
    }
    while let (Some(last), Some(next)) =
        (end.checked_sub(1).and_then(|last| operations.get(last)), operations.get(end))
        && last.is_replaced_by(next)
    {
        end += 1;
    }
    let operations: Vec<Operation> = operations.drain(..end).collect();
    let phase = operations.first()?.phase;
    let adds_only = operations.iter().all(Operation::stands_alone);
    let bulk = adds_only && operations.iter().all(|operation| operation.phase == phase);
    let now = bulk.then_some(phase);
    let beside = bulk && now == *before;
    *before = now;
    Some(Transaction { beside, adds_only, ..transaction(operations) })
}

fn transaction(operations: Vec<Operation>) -> Transaction {
    let mut text = String::with_capacity(operations.len() * 40);
    let count = operations.iter().map(Operation::weight).sum();
    for phase in operations.chunk_by(|a, b| a.phase == b.phase) {
        for operation in phase {
            if let Action::Commands(commands, _) = &operation.action {
                text.push_str(commands);
            }
        }
        for verb in ["delete", "add"] {
            let elements: Vec<(Family, &Element)> = phase
                .iter()
                .filter_map(|operation| match &operation.action {
                    Action::Delete(family, element) if verb == "delete" => Some((*family, element)),
                    Action::Add(family, element) if verb == "add" => Some((*family, element)),
                    _ => None,
                })
                .collect();
            for group in elements.chunk_by(|(a, old), (b, new)| a == b && old.map() == new.map()) {
                print_elements(verb, group[0].0, group.iter().map(|(_, element)| *element), &mut text);
            }
        }
    }
    Transaction { program: Program::Nft, text, operations: count, beside: false, adds_only: false }
}

/// `delete chain`, which the kernel refuses while something names it.
pub fn delete_chain(family: Family, chain: &str) -> Action {
    let mut text = String::new();
    let _ = writeln!(text, "delete chain {} {TABLE} {chain}", family_word(family));
    Action::Commands(text, 1)
}
