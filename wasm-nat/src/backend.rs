//! What every renderer offers the state machine.
//!
//! A backend turns decisions into its own tables and knows what it gave each Service there (numbers, chains). It holds
//! no decisions: those that were committed are the machine's, those that changed come with the call.

use crate::address::Family;
use crate::diff::Transaction;
use crate::model::{Diagnostic, ObjectName};
use crate::ruleset::{NodeRules, RuleSet, ServiceRules};
use crate::simulate::{Packet, Trace};
use std::collections::BTreeMap;

/// What changed in the decisions.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// The node's own rules, if they changed.
    pub node: Option<Vec<NodeRules>>,
    /// Services that were compiled anew; one without rules is gone. A backend may reorder their slots.
    pub services: BTreeMap<ObjectName, ServiceRules>,
}

/// What a plan starts from.
#[derive(Clone, Debug)]
pub enum Basis {
    /// What was committed. The delta holds what changed since.
    Committed,
    /// Nothing, and whatever stands there goes in the same transaction. The delta holds everything.
    Nothing,
    /// What the kernel holds: for each family the listing of its table, if there is one. The delta holds everything.
    Kernel(Vec<(Family, String)>),
}

/// Committed decisions with a delta over them: what is wanted.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    committed: &'a RuleSet,
    delta: Option<&'a Delta>,
}

impl<'a> View<'a> {
    /// `delta` over `committed`.
    pub fn new(committed: &'a RuleSet, delta: Option<&'a Delta>) -> View<'a> {
        View { committed, delta }
    }

    /// The node's own rules.
    pub fn node(&self) -> &'a [NodeRules] {
        match self.delta.and_then(|delta| delta.node.as_ref()) {
            Some(node) => node,
            None => &self.committed.node,
        }
    }

    /// One Service's rules, if it has any.
    pub fn service(&self, name: &ObjectName) -> Option<&'a ServiceRules> {
        match self.delta.and_then(|delta| delta.services.get(name)) {
            Some(rules) => Some(rules),
            None => self.committed.services.get(name),
        }
    }

    /// All Services in order of their names.
    pub fn services(&self) -> impl Iterator<Item = (&'a ObjectName, &'a ServiceRules)> {
        let changed = self.delta.map(|delta| &delta.services);
        let kept = self.committed.services.iter();
        let kept = kept.filter(move |(name, _)| changed.is_none_or(|changed| !changed.contains_key(*name)));
        let mut all: Vec<_> = kept.chain(changed.into_iter().flatten()).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all.into_iter()
    }
}

/// A renderer.
pub trait Backend {
    /// Prepares the transactions that lead from the basis to the wanted state. A staged plan before was rolled back.
    fn stage(
        &mut self,
        committed: &RuleSet,
        delta: &mut Delta,
        basis: Basis,
        diagnostics: &mut Vec<Diagnostic>,
    );

    /// How many elements of a first load should be planned at once, about; 0: all of them. Where nothing stands, Services can
    /// be written in parts, so that the kernel's program works on one part while the next is made.
    fn part_of_load(&self) -> usize {
        0
    }

    /// Prepares the removal of what only waits for its connections to end, as far as `listing` says that they have. Only IPVS
    /// has such things; its listing is that of `ipvsadm -Ln`.
    fn stage_drained(&mut self, _listing: &str) {}

    /// Forgets what was heard.
    fn begin_audit(&mut self) {}

    /// Takes whole lines of a family's listing for [`Backend::is_intact`]; false: it wants listings as a whole.
    fn hear(&mut self, _family: Family, _lines: &str) -> bool {
        false
    }

    /// Whether the kernel holds what was committed, as far as the listings tell, or what was heard of them; that is forgotten.
    /// Nothing is staged before or after.
    fn is_intact(&mut self, committed: &RuleSet, listings: Vec<(Family, String)>) -> bool {
        let services = committed.services.iter().map(|(name, rules)| (name.clone(), rules.clone()));
        let mut delta = Delta { node: Some(committed.node.clone()), services: services.collect() };
        self.stage(committed, &mut delta, Basis::Kernel(listings), &mut Vec::new());
        let is_intact = self.is_empty();
        self.rollback();
        is_intact
    }

    /// Whether the staged plan has no transaction.
    fn is_empty(&self) -> bool;

    /// The next transaction of the staged plan.
    fn next_transaction(&mut self) -> Option<Transaction>;

    /// The staged plan stands in the kernel.
    fn commit(&mut self);

    /// The staged plan does not; what was given out for it is taken back.
    fn rollback(&mut self);

    /// The complete rules, of one family or all.
    fn render(&self, view: View<'_>, family: Option<Family>) -> Vec<Transaction>;

    /// What happens to a packet under the wanted rules.
    fn trace(&self, view: View<'_>, packet: &Packet) -> Trace;
}
