//! A plan's operations, and transactions made of them.
//!
//! Operations come in phases, so that whatever names something stands in a later transaction than it, or in the same, and is
//! gone in an earlier one. Within a transaction order does not matter to new packets: the kernel applies it at once. But a
//! packet makes one look-up after the other, and each sees what stands at that moment: one that has found how many endpoints
//! there are before the switch must still find the last of them behind it. Rules it sees as they stood when it began: what it
//! finds behind the switch must not lead it to a chain that was new with it.

use super::elements::{Element, MapName};
use super::rules::TableId;
use super::table::print_elements;
use crate::address::Family;
use crate::diff::{Program, Transaction};
use crate::print;
use std::collections::VecDeque;
use std::fmt::Write;

/// Operations of one transaction of a plan that is larger: the kernel holds its lock while it commits one, and each starts
/// a program.
pub const CHUNK: usize = 20_000;

/// When an operation happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A table beside one that is replaced, with all that is wanted: it serves what meets neither the old nor the new one whole.
    StandIn,
    /// Rules of its base chains.
    StandInServes,
    /// A table that goes has no rules any more. Its maps stay for packets that are on their way through the rules: with the
    /// table, a map would be gone for them at once, and a set would not.
    Emptied,
    /// Chains that pick, in a table that serves. A packet walks the chains as they were when it came in, but finds what stands
    /// now in maps: one that is on its way must not be sent to a chain that was empty when it began.
    Chains,
    /// Tables, maps, and the chains that every table has.
    Structure,
    /// Chains that pick, in a new table.
    NewChains,
    /// Sets of the node.
    Node,
    /// Endpoints, source ranges.
    Endpoints,
    /// Where a set goes on: names a chain, counts on endpoints.
    Services,
    /// Addresses and node ports: name a set.
    Addresses,
    /// Addresses that go, and what was counted for them.
    GoneAddresses,
    /// Sets that go.
    GoneServices,
    /// Endpoints that go.
    GoneEndpoints,
    /// Chains that nothing names since an earlier plan.
    GoneChains,
    /// Rules of the base chains of a table that replaces another one.
    Serves,
    /// What stood beside a table has no rules any more.
    StandInEmptied,
    /// And goes.
    StandInGone,
}

impl Phase {
    /// When an element is written.
    pub fn of(element: &Element) -> Phase {
        match element {
            Element::Endpoint { .. }
            | Element::AffinityEndpoint { .. }
            | Element::AffinitySlot { .. }
            | Element::SourceRange { .. } => Phase::Endpoints,
            Element::Range { .. } => Phase::Node,
            Element::Service { .. } => Phase::Services,
            Element::Address { .. } | Element::NodePort { .. } | Element::ClusterIp { .. } => {
                Phase::Addresses
            }
        }
    }

    /// A transaction is of one step: what comes before must be in force for all packets.
    ///
    /// For a moment after a transaction Linux 6.18 finds nothing in a set of ranges that came with it (`nft_rbtree_commit`), so
    /// what a set can decide on comes later than the set.
    fn step(self) -> u8 {
        match self {
            Phase::StandIn => 0,
            Phase::StandInServes => 1,
            Phase::Emptied => 2,
            Phase::Chains => 3,
            Phase::Structure | Phase::NewChains | Phase::Node => 4,
            Phase::Endpoints
            | Phase::Services
            | Phase::Addresses
            | Phase::GoneAddresses
            | Phase::GoneServices
            | Phase::GoneEndpoints
            | Phase::GoneChains => 5,
            Phase::Serves => 6,
            Phase::StandInEmptied => 7,
            Phase::StandInGone => 8,
        }
    }

    /// What goes had a name before this plan.
    fn is_unnamed(self) -> bool {
        self >= Phase::GoneServices
    }

    /// When an element goes that nothing replaces.
    pub fn of_gone(element: &Element) -> Phase {
        match Phase::of(element) {
            Phase::Addresses => Phase::GoneAddresses,
            Phase::Services => Phase::GoneServices,
            // What is left of a set's ranges must not close it before the new ones are there, nor overlap with them.
            Phase::Node => Phase::Node,
            _ if matches!(element, Element::SourceRange { .. }) => Phase::Endpoints,
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
    /// What packets have left under this number in [`MapName::Connections`] goes, if there is anything.
    Forget(Family, u32),
}

impl Operation {
    fn weight(&self) -> usize {
        match self.action {
            Action::Commands(_, count) => count,
            Action::Delete(..) | Action::Add(..) | Action::Forget(..) => 1,
        }
    }

    fn is_of_elements(&self) -> bool {
        !matches!(self.action, Action::Commands(..))
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

/// The next transaction: all that is left, or as much as the kernel should take at once. What goes stays for one of its own,
/// unless the table is written as a whole; what packets must meet from their beginning comes in one before. A plan that is
/// larger than one transaction is cut where a phase ends, too, so that those of one phase can go side by side; but what does
/// not grow with the Services comes together. `before` is the phase of which the last transaction was made, if it may have
/// others beside it.
pub fn chunk(
    operations: &mut VecDeque<Operation>,
    whole: bool,
    before: &mut Option<Phase>,
) -> Option<Transaction> {
    let phase = operations.front()?.phase;
    let is_large = operations.len() > CHUNK;
    let mut end = operations.iter().take_while(|operation| operation.phase.step() == phase.step()).count();
    if !whole && is_large {
        let belongs = |operation: &&Operation| operation.phase == phase || operation.phase <= Phase::Node;
        end = operations.iter().take(CHUNK.min(end)).take_while(belongs).count();
    } else if !whole && !phase.is_unnamed() {
        end = operations.iter().take(end).take_while(|operation| !operation.phase.is_unnamed()).count();
    }
    while let (Some(last), Some(next)) =
        (end.checked_sub(1).and_then(|last| operations.get(last)), operations.get(end))
        && last.is_replaced_by(next)
    {
        end += 1;
    }
    let operations: Vec<Operation> = operations.drain(..end).collect();
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
                print_elements(
                    verb,
                    TableId::own(group[0].0),
                    group.iter().map(|(_, element)| *element),
                    &mut text,
                );
            }
        }
        let forgotten: Vec<(Family, u32)> = phase
            .iter()
            .filter_map(|operation| match operation.action {
                Action::Forget(family, number) => Some((family, number)),
                _ => None,
            })
            .collect();
        for group in forgotten.chunk_by(|(a, _), (b, _)| a == b) {
            // `delete` fails where no packet has come, `add` nowhere.
            for verb in ["add", "delete"] {
                print_forgotten(verb, group, &mut text);
            }
        }
    }
    let elements_only = operations.iter().all(Operation::is_of_elements);
    Transaction {
        program: Program::Nft,
        text,
        operations: count,
        beside: false,
        adds_only: false,
        elements_only,
    }
}

fn print_forgotten(verb: &str, numbers: &[(Family, u32)], out: &mut String) {
    let table = TableId::own(numbers[0].0);
    let _ = write!(out, "{verb} element {table} {} {{ ", MapName::Connections.name());
    for (place, (_, number)) in numbers.iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        print::hexadecimal(*number, out);
    }
    out.push_str(" }\n");
}

/// `delete chain`, which the kernel refuses while something names it.
pub fn delete_chain(family: Family, chain: &str) -> Action {
    let mut text = String::new();
    let _ = writeln!(text, "delete chain {} {chain}", TableId::own(family));
    Action::Commands(text, 1)
}

#[cfg(test)]
mod tests {
    use super::super::elements::Answer;
    use super::*;
    use crate::balance::Target;
    use crate::model::Protocol;

    fn endpoint(slot: u32) -> Element {
        let target = Target { address: "10.180.0.1".parse().unwrap(), port: 80 };
        Element::Endpoint { protocol: Protocol::Tcp, set: 0x8000_2000, slot, target }
    }

    fn answer(chain: &str) -> Element {
        Element::Service { set: 0x8000_2000, answer: Answer::Unknown(chain.into()) }
    }

    /// A Service of two endpoints keeps one.
    fn plan() -> VecDeque<Operation> {
        let operation = |phase, action| Operation { phase, action };
        VecDeque::from([
            operation(Phase::Services, Action::Delete(Family::V4, answer("lb-tcp-2"))),
            operation(Phase::Services, Action::Add(Family::V4, answer("lb-tcp-1"))),
            operation(Phase::GoneEndpoints, Action::Delete(Family::V4, endpoint(1))),
        ])
    }

    #[test]
    fn a_packet_that_has_found_two_endpoints_still_finds_the_second() {
        let (mut operations, mut before) = (plan(), None);
        let first = chunk(&mut operations, false, &mut before).unwrap();
        assert!(first.text.contains("lb-tcp-1") && !first.text.contains("tcp-endpoints"), "{}", first.text);
        let second = chunk(&mut operations, false, &mut before).unwrap();
        assert!(second.text.contains("delete element ip fairlead tcp-endpoints"), "{}", second.text);
        assert!(chunk(&mut operations, false, &mut before).is_none());
    }

    #[test]
    fn a_table_that_is_written_as_a_whole_is_one_transaction() {
        let (mut operations, mut before) = (plan(), None);
        assert_eq!(chunk(&mut operations, true, &mut before).unwrap().operations, 3);
        assert!(operations.is_empty());
    }
}
