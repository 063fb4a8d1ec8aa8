//! The iptables backend: kube-proxy's chains, found through trees instead of lists, written chain by chain.
//!
//! kube-proxy's mode iptables walks one rule for each address of each Service for the first packet of every connection,
//! and writes those rules anew with every change. Here `tree` finds the Service in a number of rules that grows with the
//! logarithm of their number, and a change writes the chains of its Service and one or two of a tree.
//!
//! One way: decisions → [`service`] (chains of a Service, and what goes into the trees) and [`stock`] (chains of the
//! node) → [`rule`] (typed, printed) → [`stage`] (what differs from what stands) → [`units`] (transactions). [`listing`]
//! reads back; `trace` walks the same typed rules.
//!
//! Rules of others are never named. Session affinity is kept by the match `recent`, whose lists hold 100 clients of an
//! endpoint by default (`ip_list_tot` of module `xt_recent`); the one that was not seen the longest is forgotten first.
//! `fairlead.dev/balance`: round-robin counts anew with every change of the legacy variant's tables; source-hash keeps a
//! client at its endpoint, but for few when the endpoints change; maglev cannot be had, and a diagnostic says so.

pub mod listing;
pub mod rule;
pub mod service;
pub mod stage;
pub mod stock;
#[cfg(test)]
mod tests;
mod trace;
pub mod tree;
pub mod units;

use crate::address::Family;
use crate::backend::{Backend, Basis, Delta, View};
use crate::balance::Balance;
use crate::diff::Transaction;
use crate::model::{Diagnostic, ObjectName, Severity};
use crate::ruleset::{NodeRules, Pool, PortRules, RuleSet, ServiceRules};
use crate::simulate::{Packet, Trace};
use listing::Listing;
use rule::{Spelling, Table};
use service::hashes_sources;
use stage::{ServiceChange, TreeChanges, Trees, from_committed, from_listing};
use std::collections::{BTreeSet, VecDeque};
use tree::Tree;
use units::Queue;

/// What the backend knows beside the committed decisions.
#[derive(Debug, Default)]
pub struct Iptables {
    /// By family; absent: nothing is programmed.
    families: [Option<Trees>; 2],
    /// The programs are those of the nft variant, as far as a listing has told.
    is_legacy: bool,
    staged: Option<Staged>,
}

/// A plan that is neither committed nor rolled back.
#[derive(Debug)]
struct Staged {
    queues: VecDeque<Queue>,
    families: [StagedTrees; 2],
}

#[derive(Debug)]
enum StagedTrees {
    /// Over what was committed.
    Changes(Box<TreeChanges>),
    /// Instead of it.
    Whole(Option<Trees>),
}

impl Backend for Iptables {
    fn stage(
        &mut self,
        committed: &RuleSet,
        delta: &mut Delta,
        basis: Basis,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        debug_assert!(self.staged.is_none());
        report_differences(delta, diagnostics);
        let staged = Family::BOTH.map(|family| self.stage_family(family, committed, delta, &basis));
        let [(v4, v4_trees), (v6, v6_trees)] = staged;
        let queues = [v4, v6].into_iter().filter(|queue| !queue.is_empty()).collect();
        self.staged = Some(Staged { queues, families: [v4_trees, v6_trees] });
    }

    fn is_empty(&self) -> bool {
        self.staged.as_ref().is_none_or(|staged| staged.queues.is_empty())
    }

    fn next_transaction(&mut self) -> Option<Transaction> {
        let queues = &mut self.staged.as_mut()?.queues;
        let transaction = queues.front_mut()?.next_transaction();
        if queues.front().is_some_and(Queue::is_empty) {
            queues.pop_front();
        }
        transaction
    }

    fn commit(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        for (committed, staged) in self.families.iter_mut().zip(staged.families) {
            match (committed, staged) {
                (committed, StagedTrees::Whole(trees)) => *committed = trees,
                (Some(trees), StagedTrees::Changes(changes)) => {
                    for (items, changes) in trees.iter_mut().zip(*changes) {
                        for (bits, item) in changes {
                            match item {
                                Some(item) => drop(items.insert(bits, item)),
                                None => drop(items.remove(&bits)),
                            }
                        }
                    }
                }
                (None, StagedTrees::Changes(_)) => {}
            }
        }
    }

    fn rollback(&mut self) {
        self.staged = None;
    }

    fn render(&self, view: View<'_>, family: Option<Family>) -> Vec<Transaction> {
        let wanted = view.node().iter().filter(|node| family.is_none_or(|family| node.family == family));
        let whole = wanted.map(|node| {
            let mut queue = Queue::new(node.family);
            from_listing(&Listing::default(), Some(node), view.services(), &mut queue);
            queue.whole()
        });
        whole.collect()
    }

    fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        let node = view.node().iter().find(|node| node.family == packet.family());
        match (node, self.trees(packet.family())) {
            (Some(node), Some(trees)) => trace::trace(view, node, trees, packet),
            _ => Trace::untouched(),
        }
    }
}

impl Iptables {
    fn stage_family(
        &mut self,
        family: Family,
        committed: &RuleSet,
        delta: &Delta,
        basis: &Basis,
    ) -> (Queue, StagedTrees) {
        let mut queue = Queue::new(family);
        let view = View::new(committed, Some(delta));
        let wanted = view.node().iter().find(|node| node.family == family);
        let standing = committed.node(family);
        if let (Basis::Committed, Some(wanted), Some(standing), Some(trees)) =
            (basis, wanted, standing, &self.families[family.index()])
        {
            queue.for_variant(!self.is_legacy);
            let services = changed_services(committed, delta, wanted != standing);
            let changes = from_committed(trees, (standing, wanted), services, &mut queue);
            return (queue, StagedTrees::Changes(Box::new(changes)));
        }
        let listed = match basis {
            Basis::Kernel(listings) => {
                listings.iter().find(|(of, _)| *of == family).map(|(_, text)| text.clone())
            }
            // Nothing is listed: what was committed is believed to stand, but not that nobody has touched it.
            Basis::Committed | Basis::Nothing => standing.map(|node| listing_of(node, committed)),
        };
        let mut listing = Listing::parse(listed.as_deref().unwrap_or(""));
        match basis {
            Basis::Kernel(_) if listed.is_some() => self.is_legacy = !listing.is_nft,
            Basis::Kernel(_) => {}
            Basis::Committed | Basis::Nothing => listing.is_doubtful = true,
        }
        queue.for_variant(!self.is_legacy);
        let trees = from_listing(&listing, wanted, view.services(), &mut queue);
        (queue, StagedTrees::Whole(trees))
    }

    /// The wanted trees of a family, if it is programmed.
    fn trees(&self, family: Family) -> Option<[Tree<'_, service::Item>; 5]> {
        let committed = self.families[family.index()].as_ref();
        match self.staged.as_ref().map(|staged| &staged.families[family.index()]) {
            Some(StagedTrees::Whole(trees)) => trees.as_ref().map(|trees| trees.each_ref().map(Tree::new)),
            Some(StagedTrees::Changes(changes)) => {
                committed.map(|trees| std::array::from_fn(|tree| Tree::changed(&trees[tree], &changes[tree])))
            }
            None => committed.map(|trees| trees.each_ref().map(Tree::new)),
        }
    }
}

/// Services whose chains may differ: those of the delta, or all if the node's own rules changed.
fn changed_services<'a>(
    committed: &'a RuleSet,
    delta: &'a Delta,
    all: bool,
) -> Box<dyn Iterator<Item = ServiceChange<'a>> + 'a> {
    const NONE: &ServiceRules =
        &ServiceRules { cluster_ips: Vec::new(), health_check_node_port: None, ports: Vec::new() };
    let change = move |service: &'a ObjectName| {
        let old = committed.services.get(service).unwrap_or(NONE);
        ServiceChange { service, old, new: delta.services.get(service).unwrap_or(old) }
    };
    if all {
        let names: BTreeSet<&ObjectName> = committed.services.keys().chain(delta.services.keys()).collect();
        Box::new(names.into_iter().map(change))
    } else {
        Box::new(delta.services.keys().map(change))
    }
}

/// What `iptables-save` would print for committed decisions, and what nobody else has there.
fn listing_of(node: &NodeRules, committed: &RuleSet) -> String {
    let mut queue = Queue::new(node.family);
    let view = View::new(committed, None);
    from_listing(&Listing::default(), Some(node), view.services(), &mut queue);
    let mut text = String::new();
    for line in queue.whole().text.lines().filter(|line| !line.starts_with("-I ")) {
        text.push_str(line);
        text.push('\n');
        let table = Table::ALL.into_iter().find(|table| line.strip_prefix('*') == Some(table.name()));
        for hook in table.into_iter().flat_map(stock::hooks) {
            let rule = hook.rule.text(node.family, Spelling::Listed);
            text.push_str(&format!("-A {} {rule}\n", hook.builtin));
        }
    }
    text
}

/// What this backend cannot do as it was asked for.
fn report_differences(delta: &Delta, diagnostics: &mut Vec<Diagnostic>) {
    for (service, rules) in &delta.services {
        let hashed =
            rules.ports.iter().filter(|port| matches!(port.balance, Balance::SourceHash | Balance::Maglev));
        let by_chance = |port: &&PortRules| {
            let pools = [&port.cluster, &port.local].into_iter().flatten().map(Pool::slots);
            pools.into_iter().any(|slots| slots.len() > 1 && !hashes_sources(port, slots))
        };
        if let Some(port) = hashed.into_iter().find(by_chance) {
            diagnostics.push(Diagnostic::service(
                Severity::Warning,
                service,
                "metadata.annotations[fairlead.dev/balance]",
                format!(
                    "{} is asked for; iptables can hash an IPv4 source address for at most 32 endpoints, and neither IPv6 \
                     addresses nor ports, so endpoints are chosen at random where it cannot",
                    port.balance.name()
                ),
            ));
        }
    }
}
