//! The IPVS backend: a virtual server for each address and port, a dummy link that makes the addresses the node's own, and
//! a constant number of iptables rules that know Services by ipsets.
//!
//! In: decisions. Out: transactions for `ipset restore`, `iptables-restore`, `ipvsadm --restore` and `ip -batch`. A change
//! costs its own objects. Names are those of kube-proxy's IPVS mode where it has the same, so that its users find what
//! they know and a node can be taken over in service; what it cannot do and this can is told in `rules` (source ranges hold
//! for the node itself) and below (policy Local).
//!
//! Under `externalTrafficPolicy: Local`, callers from outside reach endpoints of this node only, and pods and the node
//! itself reach all. A virtual server has one list of real servers, so there are two: by address for the former, and
//! by mark for the latter; a set gives the mark.
//!
//! A TCP or SCTP endpoint that leaves gets weight 0 and is removed when its connections have ended: [`Ipvs::stage_drained`]
//! is told by a listing. Connections of a Service that is deleted end with it, since IPVS has nowhere to keep them.
//!
//! [`Basis::Nothing`] means a kernel that holds nothing of this: IPVS has no transaction that replaces what is unknown.
//! What may hold something is read back ([`Basis::Kernel`]); with no family wanted, that removes everything.

pub mod listing;
pub mod objects;
pub mod plan;
pub mod rules;
pub mod servers;
pub mod sets;
pub mod tables;
#[cfg(test)]
mod tests;

use crate::address::Family;
use crate::backend::{Backend, Basis, Delta, View};
use crate::balance::Target;
use crate::diff::{Transaction, difference};
use crate::model::{Diagnostic, ObjectName, Protocol};
use crate::nftables::numbers::NumberPool;
use crate::ruleset::{NodeRules, PortRules, RuleSet, ServiceRules};
use crate::simulate::{Packet, Trace};
use listing::{Listing, TEMPORARY_SET};
use objects::{Numbers, Object, PortKey, Taken, health_check, mark_of, needs_mark, objects, taken};
use plan::{Known, LINK, Leaving, Plan};
use rules::{Chain, HOOKS, TableName, chains};
use servers::{Marks, ServerKey};
use sets::{SetName, fullness};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use tables::Tables;

/// What the backend knows beside the committed decisions.
#[derive(Debug, Default)]
pub struct Ipvs {
    /// Of the marks.
    numbers: Numbers,
    pool: NumberPool,
    /// How many Service ports need each object that several may need.
    uses: BTreeMap<Object, u32>,
    /// Elements of each set.
    sizes: BTreeMap<(Family, SetName), usize>,
    leaving: Leaving,
    taken: Taken,
    staged: Option<Staged>,
}

/// A plan that is neither committed nor rolled back.
#[derive(Debug)]
struct Staged {
    transactions: VecDeque<Transaction>,
    /// Replaces what is known instead of changing it.
    fresh: bool,
    /// `None`: has none any more.
    numbers: BTreeMap<PortKey, Option<u32>>,
    pool: NumberPool,
    uses: BTreeMap<Object, i64>,
    sizes: BTreeMap<(Family, SetName), usize>,
    left: Leaving,
    returned: Leaving,
    taken: Taken,
}

impl Backend for Ipvs {
    fn stage(
        &mut self,
        committed: &RuleSet,
        delta: &mut Delta,
        basis: Basis,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        debug_assert!(self.staged.is_none());
        self.staged = Some(self.plan(committed, delta, &basis, diagnostics));
    }

    fn stage_drained(&mut self, listing: &str) {
        debug_assert!(self.staged.is_none());
        let connections = Family::BOTH
            .map(|family| Listing::parse(&format!("## ipvsadm\n{listing}"), family).connections());
        // One that is not listed was removed by somebody else.
        let [v4, v6] = &connections;
        let count = |key: &(ServerKey, Target)| v4.get(key).or_else(|| v6.get(key)).copied();
        let ended = self.leaving.iter().filter(|key| count(key) == Some(0)).copied();
        let vanished = self.leaving.iter().filter(|key| count(key).is_none()).copied();
        let mut plan = Plan::default();
        plan.drained(ended);
        plan.returned.extend(vanished);
        self.staged = Some(Staged {
            transactions: plan.transactions(),
            fresh: false,
            numbers: BTreeMap::new(),
            pool: self.pool.clone(),
            uses: BTreeMap::new(),
            sizes: self.sizes.clone(),
            left: Leaving::new(),
            returned: plan.returned,
            taken: self.taken.clone(),
        });
    }

    fn is_empty(&self) -> bool {
        self.staged.as_ref().is_none_or(|staged| staged.transactions.is_empty())
    }

    fn next_transaction(&mut self) -> Option<Transaction> {
        self.staged.as_mut()?.transactions.pop_front()
    }

    fn commit(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        if staged.fresh {
            self.numbers.clear();
            self.uses.clear();
            self.leaving.clear();
        }
        for (port, number) in staged.numbers {
            match number {
                Some(number) => drop(self.numbers.insert(port, number)),
                None => drop(self.numbers.remove(&port)),
            }
        }
        for (object, change) in staged.uses {
            let uses = self.uses.get(&object).copied().unwrap_or(0);
            match uses.saturating_add_signed(i32::try_from(change).unwrap_or(0)) {
                0 => drop(self.uses.remove(&object)),
                uses => drop(self.uses.insert(object, uses)),
            }
        }
        for gone in staged.returned {
            self.leaving.remove(&gone);
        }
        self.leaving.extend(staged.left);
        (self.pool, self.sizes, self.taken) = (staged.pool, staged.sizes, staged.taken);
    }

    fn rollback(&mut self) {
        self.staged = None;
    }

    fn render(&self, view: View<'_>, family: Option<Family>) -> Vec<Transaction> {
        let node: Vec<&NodeRules> =
            view.node().iter().filter(|node| family.is_none_or(|family| node.family == family)).collect();
        let mut plan = Plan::default();
        if !node.is_empty() {
            plan.link = make_link();
        }
        for node in &node {
            make_family(&mut plan, node);
        }
        let mut wanted: Vec<Object> = self.tables(view, family).iter().flat_map(Tables::objects).collect();
        wanted.sort_unstable();
        plan.objects(&[], &wanted, &self.known(&|_| true, None));
        plan.transactions().into()
    }

    fn trace(&self, view: View<'_>, packet: &Packet) -> Trace {
        match self.tables(view, Some(packet.family())).first() {
            Some(tables) => tables.trace(view, packet),
            None => Trace::untouched(),
        }
    }
}

impl Ipvs {
    /// Real servers that only wait for their connections to end.
    pub fn leaving(&self) -> impl Iterator<Item = &(ServerKey, Target)> {
        self.leaving.iter()
    }

    /// The wanted objects and rules of each family. Costs as much as there is; for tests, listings and single packets.
    pub fn tables(&self, view: View<'_>, family: Option<Family>) -> Vec<Tables> {
        let node = view.node().iter().filter(|node| family.is_none_or(|family| node.family == family));
        let mut tables: Vec<Tables> = node.map(Tables::new).collect();
        let all_taken: Taken = view.services().flat_map(|(_, rules)| taken(rules, view.node())).collect();
        for (service, rules) in view.services() {
            for table in &mut tables {
                if let Some(object) = health_check(rules, &table.node) {
                    table.add(object, service);
                }
            }
            for port in &rules.ports {
                let Some(table) = tables.iter_mut().find(|table| table.node.family == port.family) else {
                    continue;
                };
                let number = self.number(&PortKey::new(service, port));
                let mark = number.map(|number| mark_of(&table.node, port.protocol, number));
                for object in objects(port, &table.node, mark, &all_taken) {
                    table.add(object, service);
                }
            }
        }
        tables
    }

    /// The number of a port in the staged plan, or else the committed one.
    fn number(&self, port: &PortKey) -> Option<u32> {
        match self.staged.as_ref().map(|staged| (staged.numbers.get(port), staged.fresh)) {
            Some((Some(number), _)) => *number,
            Some((None, true)) => None,
            Some((None, false)) | None => self.numbers.get(port).copied(),
        }
    }

    fn known<'a>(
        &'a self,
        is_graceful: &'a dyn Fn(ServerKey) -> bool,
        connections: Option<&'a BTreeMap<(ServerKey, Target), u64>>,
    ) -> Known<'a> {
        Known { leaving: &self.leaving, is_graceful, connections }
    }

    fn plan(
        &self,
        committed: &RuleSet,
        delta: &Delta,
        basis: &Basis,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Staged {
        let fresh = !matches!(basis, Basis::Committed);
        let view = View::new(committed, Some(delta));
        let node = view.node();
        // A change of the node's addresses concerns everybody.
        let mut whole = fresh || delta.node.is_some();
        let mut now_taken = self.taken.clone();
        if !whole {
            for name in delta.services.keys() {
                for place in committed.services.get(name).into_iter().flat_map(|rules| taken(rules, node)) {
                    now_taken.remove(&place);
                }
            }
            now_taken.extend(delta.services.values().flat_map(|rules| taken(rules, node)));
            // Somebody else's node port may be concerned.
            whole = now_taken != self.taken;
        }
        if whole {
            now_taken = view.services().flat_map(|(_, rules)| taken(rules, node)).collect();
        }
        let services: Vec<(&ObjectName, &ServiceRules)> =
            if whole { view.services().collect() } else { delta.services.iter().collect() };
        let listings: Option<Vec<(Family, Listing)>> = match basis {
            Basis::Kernel(texts) => {
                Some(texts.iter().map(|(family, text)| (*family, Listing::parse(text, *family))).collect())
            }
            Basis::Committed | Basis::Nothing => None,
        };

        let (numbers, pool) =
            self.give_numbers(committed, &services, whole, fresh, listings.as_deref(), node);
        let number = |port: &PortKey| match numbers.get(port) {
            Some(number) => *number,
            None if fresh => None,
            None => self.numbers.get(port).copied(),
        };
        let mut wanted = all_objects(services.iter().copied(), node, &number, &now_taken);

        let mut plan = Plan::default();
        let mut uses: BTreeMap<Object, i64> = BTreeMap::new();
        let mut sizes = if fresh { BTreeMap::new() } else { self.sizes.clone() };
        let standing_listing: Vec<(Family, Listing)>;
        let (gone, added) = match basis {
            Basis::Committed => {
                let names = services.iter().map(|(name, _)| *name);
                let names: BTreeSet<&ObjectName> =
                    if whole { names.chain(committed.services.keys()).collect() } else { names.collect() };
                let standing = names.iter().filter_map(|name| committed.services.get_key_value(*name));
                let number = |port: &PortKey| self.numbers.get(port).copied();
                let standing = all_objects(standing, &committed.node, &number, &self.taken);
                let (gone, added) = difference(standing, wanted);
                (self.last_uses(gone, -1, &mut uses), self.last_uses(added, 1, &mut uses))
            }
            Basis::Nothing | Basis::Kernel(_) => {
                for object in wanted.iter().filter(|object| object.is_shared()) {
                    *uses.entry(*object).or_default() += 1;
                }
                wanted.sort_unstable();
                wanted.dedup();
                standing_listing = listings.unwrap_or_default();
                let standing = standing_listing.iter().flat_map(|(family, listing)| {
                    let unwanted = NodeRules::nothing(*family);
                    let node = node.iter().find(|node| node.family == *family).unwrap_or(&unwanted);
                    listing.objects(node)
                });
                let (gone, added) = difference(standing.collect(), wanted);
                self.structure_from(&standing_listing, node, &mut plan);
                // Elements of a set that is replaced go with it.
                let replaced = |object: &Object| match object {
                    Object::Entry(entry) => standing_listing.iter().any(|(family, listing)| {
                        *family == entry.family
                            && listing
                                .sets
                                .get(&entry.set)
                                .is_some_and(|header| !entry.set.fits(*family, header))
                    }),
                    _ => false,
                };
                let gone: Vec<Object> = gone.into_iter().filter(|object| !replaced(object)).collect();
                (gone, added)
            }
        };
        if matches!(basis, Basis::Committed) {
            change_structure(&committed.node, node, &mut plan);
        }
        let connections = match basis {
            Basis::Kernel(texts) => {
                let mut all = BTreeMap::new();
                for (family, text) in texts {
                    all.extend(Listing::parse(text, *family).connections());
                }
                Some(all)
            }
            Basis::Committed | Basis::Nothing => None,
        };
        let is_graceful = |key: ServerKey| match key {
            ServerKey::At(protocol, ..) => protocol != Protocol::Udp,
            ServerKey::Mark(family, mark) => {
                let of = |rules: &&NodeRules| rules.family == family;
                let node = node.iter().find(of).or_else(|| committed.node.iter().find(of));
                let number = node.and_then(|node| Marks::new(node.masquerade_mark).number(mark));
                number.is_none_or(|number| number % 2 == 0)
            }
        };
        let nobody = Leaving::new();
        let leaving = if fresh { &nobody } else { &self.leaving };
        plan.objects(
            &gone,
            &added,
            &Known { leaving, is_graceful: &is_graceful, connections: connections.as_ref() },
        );

        if fresh {
            for object in all_objects(services.iter().copied(), node, &number, &now_taken)
                .into_iter()
                .collect::<BTreeSet<_>>()
            {
                if let Object::Entry(entry) = object {
                    *sizes.entry((entry.family, entry.set)).or_default() += 1;
                }
            }
        } else {
            for entry in plan.entries() {
                *sizes.entry((entry.family, entry.set)).or_default() += 1;
            }
            for entry in plan.entries_gone() {
                let size = sizes.entry((entry.family, entry.set)).or_default();
                *size = size.saturating_sub(1);
            }
        }
        diagnostics.extend(complaints(&sizes));
        Staged {
            transactions: plan.transactions(),
            fresh,
            numbers,
            pool,
            uses,
            sizes,
            left: plan.left,
            returned: plan.returned,
            taken: now_taken,
        }
    }

    /// Gives each port that needs a mark its number: the one that it has, here or in the kernel, or a free one.
    fn give_numbers(
        &self,
        committed: &RuleSet,
        services: &[(&ObjectName, &ServiceRules)],
        whole: bool,
        fresh: bool,
        listings: Option<&[(Family, Listing)]>,
        node: &[NodeRules],
    ) -> (BTreeMap<PortKey, Option<u32>>, NumberPool) {
        let mut numbers: BTreeMap<PortKey, Option<u32>> = BTreeMap::new();
        let mut pool = if fresh { NumberPool::default() } else { self.pool.clone() };
        let wanting: Vec<(PortKey, &PortRules)> = services
            .iter()
            .flat_map(|(service, rules)| rules.ports.iter().map(|port| (PortKey::new(service, port), port)))
            .filter(|(_, port)| needs_mark(port))
            .collect();
        if !fresh {
            let names: BTreeSet<&ObjectName> = services.iter().map(|(name, _)| *name).collect();
            let wanted: BTreeSet<&PortKey> = wanting.iter().map(|(key, _)| key).collect();
            let of_changed = |key: &&PortKey| {
                names.contains(&key.service) || (whole && !committed.services.contains_key(&key.service))
            };
            for (key, number) in self.numbers.iter().filter(|(key, _)| of_changed(key)) {
                if !wanted.contains(key) {
                    // Free for the next plan: in this one its virtual server still goes.
                    numbers.insert(key.clone(), None);
                    pool.give_back(*number);
                }
            }
        }
        let listed = listings.map(|listings| marks_in(listings, node));
        let mut without = Vec::new();
        for (key, port) in wanting {
            if !fresh && self.numbers.contains_key(&key) {
                continue;
            }
            let had = listed.as_ref().and_then(|listed| {
                let places = port.entries.iter().filter_map(|entry| match entry.at {
                    crate::ruleset::At::Address(address, number) => {
                        listed.get(&sets::Key::At(address, port.protocol, number)).copied()
                    }
                    crate::ruleset::At::NodePort(_) => None,
                });
                let node = node.iter().find(|node| node.family == port.family);
                let node_ports = port.entries.iter().filter_map(|entry| match entry.at {
                    crate::ruleset::At::NodePort(number) => node.and_then(|node| {
                        objects::node_port_addresses(node).into_iter().find_map(|address| {
                            listed.get(&sets::Key::At(address, port.protocol, number)).copied()
                        })
                    }),
                    crate::ruleset::At::Address(..) => None,
                });
                places.chain(node_ports).next()
            });
            match had {
                Some(number) if pool.take_this(number) => drop(numbers.insert(key, Some(number))),
                _ => without.push(key),
            }
        }
        for key in without {
            let number = pool.take();
            numbers.insert(key, number);
        }
        (numbers, pool)
    }

    /// Of objects that come or go, those for which it is the first or the last use.
    fn last_uses(&self, objects: Vec<Object>, sign: i64, uses: &mut BTreeMap<Object, i64>) -> Vec<Object> {
        let mut changes: BTreeMap<Object, i64> = BTreeMap::new();
        let mut kept = Vec::with_capacity(objects.len());
        for object in objects {
            if object.is_shared() {
                *changes.entry(object).or_default() += sign;
            } else {
                kept.push(object);
            }
        }
        // `difference` has left each shared object on one side only.
        for (object, change) in changes {
            let before = i64::from(self.uses.get(&object).copied().unwrap_or(0));
            if (before == 0) != (before + change == 0) {
                kept.push(object);
            }
            *uses.entry(object).or_default() += change;
        }
        kept
    }

    /// Sets, chains and the link, from what was read back (or nothing).
    fn structure_from(&self, listings: &[(Family, Listing)], node: &[NodeRules], plan: &mut Plan) {
        let nothing = Listing::default();
        let of = |family: Family| {
            listings.iter().find(|(listed, _)| *listed == family).map_or(&nothing, |(_, listing)| listing)
        };
        let has_link = listings.iter().any(|(_, listing)| listing.has_link);
        let is_up = listings.iter().any(|(_, listing)| listing.is_up);
        if !node.is_empty() && !has_link {
            plan.link = make_link();
        } else if !node.is_empty() && !is_up {
            // As kube-proxy leaves it.
            plan.link = raise_link();
        }
        for family in Family::BOTH {
            let listing = of(family);
            for name in &listing.temporary_sets {
                let _ = writeln!(plan.sets, "destroy {name}");
            }
            match node.iter().find(|node| node.family == family) {
                Some(node) => repair_family(plan, node, listing),
                None => remove_family(plan, family, listing),
            }
        }
        if node.is_empty() && has_link {
            let _ = writeln!(plan.link_gone, "link delete {LINK}");
        }
    }
}

/// All objects of Services, each as often as it is needed.
fn all_objects<'a>(
    services: impl Iterator<Item = (&'a ObjectName, &'a ServiceRules)>,
    node: &[NodeRules],
    number: &dyn Fn(&PortKey) -> Option<u32>,
    taken: &Taken,
) -> Vec<Object> {
    let mut all = Vec::new();
    for (service, rules) in services {
        all.extend(node.iter().filter_map(|node| health_check(rules, node)));
        for port in &rules.ports {
            let Some(node) = node.iter().find(|node| node.family == port.family) else { continue };
            let number = if needs_mark(port) { number(&PortKey::new(service, port)) } else { None };
            all.extend(objects(port, node, number.map(|number| mark_of(node, port.protocol, number)), taken));
        }
    }
    all
}

/// Numbers of the marks in the kernel, by the places that have them.
fn marks_in(listings: &[(Family, Listing)], node: &[NodeRules]) -> BTreeMap<sets::Key, u32> {
    let mut found = BTreeMap::new();
    for (family, listing) in listings {
        let Some(node) = node.iter().find(|node| node.family == *family) else { continue };
        let marks = Marks::new(node.masquerade_mark);
        for entry in listing.entries.iter().filter(|entry| entry.set == SetName::InCluster) {
            if let Some(number) = entry.mark.and_then(|mark| marks.number(mark)) {
                found.insert(entry.key, number / 2);
            }
        }
    }
    found
}

fn make_link() -> String {
    format!("link add name {LINK} type dummy\n{}", raise_link())
}

fn raise_link() -> String {
    // No link-local address: nothing speaks there.
    format!("link set {LINK} addrgenmode none\nlink set {LINK} up\n")
}

/// Sets, chains and jumps where there is nothing.
fn make_family(plan: &mut Plan, node: &NodeRules) {
    repair_family(plan, node, &Listing::default());
}

/// Sets, chains and jumps where there are some.
fn repair_family(plan: &mut Plan, node: &NodeRules, listing: &Listing) {
    let family = node.family;
    for (place, set) in SetName::ALL.into_iter().enumerate() {
        let name = set.name(family);
        match listing.sets.get(&set) {
            None => drop(writeln!(plan.sets, "create {name} {} -exist", set.header(family))),
            Some(header) if set.fits(family, header) => {}
            Some(_) => {
                // Rules go on to use the old one until they have the new one; `objects` then fills it.
                let temporary = format!("{TEMPORARY_SET}{place}-{}", family.bits());
                let _ = writeln!(plan.sets, "create {temporary} {}", set.header(family));
                for entry in listing.entries.iter().filter(|entry| entry.set == set) {
                    entry.print_add(&temporary, &mut plan.sets);
                }
                let _ = writeln!(plan.sets, "swap {temporary} {name}\ndestroy {temporary}");
            }
        }
    }
    let mut at_once = String::new();
    let mut when_served = String::new();
    for table in TableName::ALL {
        let wanted: Vec<Chain> = chains(node).into_iter().filter(|chain| chain.table == table).collect();
        let printed = |chain: &Chain| -> Vec<String> {
            let print = |rule: &rules::Rule| {
                let mut text = String::new();
                rule.print(chain.name, family, &mut text);
                text
            };
            chain.rules.iter().map(print).collect()
        };
        let listed = |chain: &Chain| listing.chains.get(&(table, chain.name.to_owned()));
        let wrong: Vec<&Chain> =
            wanted.iter().filter(|chain| listed(chain) != Some(&printed(chain))).collect();
        let hooks: Vec<_> =
            HOOKS.iter().filter(|hook| hook.table == table && !listing.has_hook(hook)).collect();
        if wrong.is_empty() && hooks.is_empty() {
            continue;
        }
        // What translates in our chains' place (kube-proxy's iptables mode has the same names) serves until IPVS can.
        let others_serve = table == TableName::Nat
            && wrong.iter().any(|chain| listed(chain).is_some_and(|rules| !rules.is_empty()));
        let text = if others_serve { &mut when_served } else { &mut at_once };
        let _ = writeln!(text, "*{}", table.name());
        for chain in &wrong {
            let _ = writeln!(text, ":{} - [0:0]", chain.name);
        }
        for chain in &wrong {
            for rule in printed(chain) {
                let _ = writeln!(text, "{rule}");
            }
        }
        for hook in hooks {
            let mut line = String::new();
            hook.print(&mut line);
            // Before whatever else is there: a rule that accepts would hide Services.
            let _ = writeln!(text, "{}", line.replacen("-A ", "-I ", 1));
        }
        text.push_str("COMMIT\n");
    }
    for (texts, text) in [(&mut plan.chains, at_once), (&mut plan.chains_when_served, when_served)] {
        if !text.is_empty() {
            texts.push((family, text));
        }
    }
}

/// Chains, jumps and sets of a family that is not wanted, as far as they are there.
fn remove_family(plan: &mut Plan, family: Family, listing: &Listing) {
    let mut text = String::new();
    let ours = chains(&NodeRules::nothing(family));
    for table in TableName::ALL {
        let there: Vec<&Chain> = ours
            .iter()
            .filter(|chain| {
                chain.table == table && listing.chains.contains_key(&(table, chain.name.to_owned()))
            })
            .collect();
        if there.is_empty() {
            continue;
        }
        let _ = writeln!(text, "*{}", table.name());
        for chain in &there {
            let _ = writeln!(text, ":{} - [0:0]", chain.name);
        }
        for (_, rule) in listing.hooks().into_iter().filter(|(of, _)| *of == table) {
            let _ = writeln!(text, "{}", rule.replacen("-A ", "-D ", 1));
        }
        for chain in &there {
            let _ = writeln!(text, "-X {}", chain.name);
        }
        text.push_str("COMMIT\n");
    }
    if !text.is_empty() {
        plan.chains_gone.push((family, text));
    }
    for set in listing.sets.keys() {
        let _ = writeln!(plan.sets_gone, "destroy {}", set.name(family));
    }
}

/// Sets, chains and the link, from the node's rules as they were committed.
fn change_structure(old: &[NodeRules], new: &[NodeRules], plan: &mut Plan) {
    if old.is_empty() && !new.is_empty() {
        plan.link = make_link();
    }
    for family in Family::BOTH {
        let of = |rules: &[NodeRules]| rules.iter().find(|rules| rules.family == family).cloned();
        match (of(old), of(new)) {
            (Some(old), Some(new)) => repair_family(plan, &new, &as_listed(&old)),
            (None, Some(new)) => make_family(plan, &new),
            (Some(old), None) => remove_family(plan, family, &as_listed(&old)),
            (None, None) => {}
        }
    }
    if new.is_empty() && !old.is_empty() {
        let _ = writeln!(plan.link_gone, "link delete {LINK}");
    }
}

/// What a listing would show after the node's rules were written.
fn as_listed(node: &NodeRules) -> Listing {
    let mut listing = Listing { has_link: true, is_up: true, ..Listing::default() };
    for set in SetName::ALL {
        listing.sets.insert(set, set.header(node.family));
    }
    for chain in chains(node) {
        let rules = listing.chains.entry((chain.table, chain.name.to_owned())).or_default();
        for rule in &chain.rules {
            let mut text = String::new();
            rule.print(chain.name, node.family, &mut text);
            rules.push(text);
        }
    }
    for hook in HOOKS {
        let mut text = String::new();
        hook.print(&mut text);
        listing.chains.entry((hook.table, hook.from.to_owned())).or_default().push(text);
    }
    listing
}

fn complaints(sizes: &BTreeMap<(Family, SetName), usize>) -> impl Iterator<Item = Diagnostic> + '_ {
    sizes.iter().filter_map(|((family, set), size)| {
        let severity = fullness(*size, set.most_elements())?;
        let name = set.name(*family);
        let most = set.most_elements();
        Some(Diagnostic {
            severity,
            kind: "ipset",
            message: format!("{size} elements of at most {most}; what does not fit gets no traffic"),
            object: name,
            field: None,
        })
    })
}
