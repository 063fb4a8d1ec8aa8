//! The state machine: the cluster as it is known, what was committed to the kernel, and what changed since.
//!
//! In: objects one by one, then a question (plan, trace, render). Out: transactions of the backend. A change is compiled
//! alone: its Service, and those with whom it contests an address.
//!
//! `plan` → every transaction applied → `commit`; or `rollback`, after which what was planned counts as changed again.
//!
//! Where nothing stands, a plan is made in parts while it is carried out: each is some thousand elements of whole
//! Services, so the kernel's program works on one part while the next is compiled, and little of it stands in memory.

use crate::address::Family;
use crate::backend::{Backend, Basis, Delta, View};
use crate::claims::Claims;
use crate::compile::{Context, claims_of, compile_node, compile_service};
use crate::diff::Transaction;
use crate::hash::Hashed;
use crate::iptables::Iptables;
use crate::ipvs::Ipvs;
use crate::model::{
    BackendKind, Diagnostic, EndpointSlice, Names, Node, ObjectName, Policy, Service, Settings,
};
use crate::nftables::Nftables;
use crate::ruleset::{Path, Pool, RuleSet, ServiceRules};
use crate::simulate::{Packet, Trace};
use std::collections::BTreeMap;
use std::vec;

/// See the module.
pub struct Machine {
    /// Names of nodes, zones and ports, for whoever makes the objects.
    pub names: Names,
    settings: Settings,
    node: Node,
    /// Boxed: up to half of a hash map is room, which should be small.
    services: Hashed<ObjectName, Box<Service>>,
    /// By Service, which may not be known; in order of their names. Most have one, so a map of them would be mostly room.
    slices: Hashed<ObjectName, Vec<EndpointSlice>>,
    /// The Service of each slice.
    homes: Hashed<ObjectName, ObjectName>,
    claims: Claims,
    /// Services to be compiled, in the order in which they changed; some more than once.
    changed: Vec<ObjectName>,
    node_changed: bool,
    committed: RuleSet,
    /// Nothing was committed yet: what stands in the kernel is unknown.
    pristine: bool,
    staged: Option<Staged>,
    /// For an audit, of a backend that wants listings as a whole.
    heard: Vec<(Family, String)>,
    backend: Box<dyn Backend>,
    diagnostics: Diagnostics,
}

#[derive(Default)]
struct Diagnostics {
    /// Of objects as they were read, by kind and name.
    read: BTreeMap<(&'static str, ObjectName), Vec<Diagnostic>>,
    /// Of Services as they were compiled.
    compiled: BTreeMap<ObjectName, Vec<Diagnostic>>,
}

struct Staged {
    delta: Delta,
    /// What `changed` and `node_changed` were.
    changed: Vec<ObjectName>,
    node_changed: bool,
    /// Only of a first load.
    load: Option<Load>,
}

/// A first load under way.
#[derive(Debug, Default)]
struct Load {
    /// Services of later parts, sorted.
    rest: vec::IntoIter<ObjectName>,
    /// This is not the first part; those before are committed, whether the kernel has taken them yet or not.
    begun: bool,
    /// No transaction of this part was handed out.
    fresh: bool,
    /// The last transaction that was handed out only added.
    added_only: bool,
}

fn create_backend(kind: BackendKind) -> Box<dyn Backend> {
    match kind {
        BackendKind::Nftables => Box::new(Nftables::default()),
        BackendKind::Iptables => Box::new(Iptables::default()),
        BackendKind::Ipvs => Box::new(Ipvs::default()),
    }
}

impl Default for Machine {
    fn default() -> Machine {
        Machine::new(Settings::default(), Node::default())
    }
}

impl Machine {
    /// Without objects.
    pub fn new(settings: Settings, node: Node) -> Machine {
        Machine {
            names: Names::default(),
            backend: create_backend(settings.backend),
            settings,
            node,
            services: Hashed::default(),
            slices: Hashed::default(),
            homes: Hashed::default(),
            claims: Claims::default(),
            changed: Vec::new(),
            node_changed: true,
            committed: RuleSet::default(),
            pristine: true,
            staged: None,
            heard: Vec::new(),
            diagnostics: Diagnostics::default(),
        }
    }

    /// Settings and node. A change of either concerns every Service.
    pub fn configure(&mut self, settings: Settings, node: Node) {
        if settings == self.settings && node == self.node {
            return;
        }
        self.rollback();
        if settings.backend != self.settings.backend {
            self.backend = create_backend(settings.backend);
            self.committed = RuleSet::default();
            self.pristine = true;
        }
        (self.settings, self.node) = (settings, node);
        self.node_changed = true;
        self.claims = Claims::default();
        self.changed.extend(self.services.keys().cloned());
        let context = Context { node: &self.node, settings: &self.settings };
        for service in self.services.values() {
            for (claim, claimant) in claims_of(service, context) {
                self.claims.add(claim, claimant, &mut self.changed);
            }
        }
    }

    /// A Service as it is now, and what was odd about it when it was read.
    pub fn upsert_service(&mut self, service: Service, diagnostics: Vec<Diagnostic>) {
        let name = service.name.clone();
        self.diagnostics.read("Service", &name, diagnostics);
        let before = self.services.get(&name);
        if before.is_some_and(|before| **before == service) {
            return;
        }
        let context = Context { node: &self.node, settings: &self.settings };
        for (claim, claimant) in before.into_iter().flat_map(|before| claims_of(before, context)) {
            self.claims.remove(claim, &claimant, &mut self.changed);
        }
        for (claim, claimant) in claims_of(&service, context) {
            self.claims.add(claim, claimant, &mut self.changed);
        }
        self.services.insert(name.clone(), Box::new(service));
        self.changed.push(name);
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, name: &ObjectName) {
        self.diagnostics.read("Service", name, Vec::new());
        let Some(service) = self.services.remove(name) else { return };
        let context = Context { node: &self.node, settings: &self.settings };
        for (claim, claimant) in claims_of(&service, context) {
            self.claims.remove(claim, &claimant, &mut self.changed);
        }
        self.changed.push(name.clone());
    }

    /// An EndpointSlice as it is now, and what was odd about it when it was read.
    pub fn upsert_slice(&mut self, mut slice: EndpointSlice, diagnostics: Vec<Diagnostic>) {
        self.diagnostics.read("EndpointSlice", &slice.name, diagnostics);
        // The text of the Service's own name, where it is known.
        if let Some((service, _)) = self.services.get_key_value(&slice.service) {
            slice.service = service.clone();
        }
        let home = slice.service.clone();
        if let Some(before) = self.homes.insert(slice.name.clone(), home.clone())
            && before != home
        {
            self.remove_slice(before, &slice.name);
        }
        let slices = self.slices.entry(home.clone()).or_default();
        match slices.binary_search_by(|other| other.name.cmp(&slice.name)) {
            Ok(place) if slices[place] == slice => return,
            Ok(place) => slices[place] = slice,
            Err(place) => {
                slices.reserve_exact(1);
                slices.insert(place, slice);
            }
        }
        self.changed.push(home);
    }

    /// An EndpointSlice is gone.
    pub fn delete_slice(&mut self, name: &ObjectName) {
        self.diagnostics.read("EndpointSlice", name, Vec::new());
        if let Some(home) = self.homes.remove(name) {
            self.remove_slice(home, name);
        }
    }

    fn remove_slice(&mut self, home: ObjectName, name: &ObjectName) {
        if let Some(slices) = self.slices.get_mut(&home) {
            slices.retain(|slice| slice.name != *name);
            if slices.is_empty() {
                self.slices.remove(&home);
            }
        }
        self.changed.push(home);
    }

    /// Prepares the transactions from the committed state to the wanted one, and returns the diagnostics of what was
    /// compiled.
    pub fn plan(&mut self) -> Vec<Diagnostic> {
        let basis = if self.pristine { Basis::Nothing } else { Basis::Committed };
        self.stage(basis)
    }

    /// Like [`Machine::plan`], from what the kernel holds.
    pub fn reconcile(&mut self, listings: Vec<(Family, String)>) -> Vec<Diagnostic> {
        self.stage(Basis::Kernel(listings))
    }

    /// Like [`Machine::plan`], from nothing, whatever stands there.
    pub fn replace(&mut self) -> Vec<Diagnostic> {
        self.stage(Basis::Nothing)
    }

    fn stage(&mut self, basis: Basis) -> Vec<Diagnostic> {
        self.rollback();
        let part = self.backend.part_of_load();
        if part > 0 && matches!(&basis, Basis::Kernel(listings) if listings.is_empty()) {
            // What was committed stands no more.
            self.changed.extend(self.committed.services.keys().cloned());
            let mut rest = self.take_changed().into_iter();
            let changed = self.next_part(&mut rest, part);
            return self.stage_services(basis, changed, Some(Load { rest, fresh: true, ..Load::default() }));
        }
        let changed = self.take_changed();
        self.stage_services(basis, changed, None)
    }

    /// Sorted, each once.
    fn take_changed(&mut self) -> Vec<ObjectName> {
        let mut changed = std::mem::take(&mut self.changed);
        // Stable, because it finds runs that are in order: objects mostly come sorted.
        changed.sort();
        changed.dedup();
        changed
    }

    /// Takes Services out of `rest`, at least one if there are any, whose elements are not many more than `most`.
    fn next_part(&self, rest: &mut vec::IntoIter<ObjectName>, most: usize) -> Vec<ObjectName> {
        let mut weight = 0;
        let fits = |name: &&ObjectName| {
            weight += self.weight(name);
            weight <= most
        };
        let count = rest.as_slice().iter().take_while(fits).count();
        rest.take(count.max(1)).collect()
    }

    /// About how many elements a Service has.
    fn weight(&self, name: &ObjectName) -> usize {
        let Some(service) = self.services.get(name) else { return 0 };
        let endpoints: usize =
            self.slices.get(name).into_iter().flatten().map(|slice| slice.endpoints.len()).sum();
        let places = service.cluster_ips.len() + service.external_ips.len() + service.load_balancer_ips.len();
        service.cluster_ips.len() + service.ports.len() * (1 + places + endpoints)
    }

    /// The next part of a first load; false where there is none. What was handed out until now counts as committed.
    fn stage_rest(&mut self) -> bool {
        let Some(load) = self.staged.as_mut().and_then(|staged| staged.load.as_mut()) else { return false };
        let (mut rest, added_only) = (std::mem::take(&mut load.rest), load.added_only);
        if rest.as_slice().is_empty() {
            return false;
        }
        self.commit();
        let part = self.next_part(&mut rest, self.backend.part_of_load());
        let load = Load { rest, begun: true, fresh: true, added_only };
        self.stage_services(Basis::Committed, part, Some(load));
        true
    }

    /// Compiles `changed`, which is sorted, and stages it; from another basis than what was committed, with all other
    /// Services.
    fn stage_services(
        &mut self,
        basis: Basis,
        changed: Vec<ObjectName>,
        load: Option<Load>,
    ) -> Vec<Diagnostic> {
        let whole = !matches!(basis, Basis::Committed);
        let context = Context { node: &self.node, settings: &self.settings };
        let node = (whole || self.node_changed).then(|| compile_node(context));
        let mut told = Vec::new();
        let mut services: Vec<(ObjectName, ServiceRules)> = Vec::with_capacity(changed.len());
        if whole && load.is_none() {
            let others = self.committed.services.iter();
            let others = others.filter(|(name, _)| changed.binary_search(name).is_err());
            services.extend(others.map(|(name, rules)| (name.clone(), rules.clone())));
        }
        for name in &changed {
            let mut diagnostics = Vec::new();
            let rules = match self.services.get(name) {
                Some(service) => {
                    let slices = self.slices.get(name).map_or(&[][..], Vec::as_slice);
                    compile_service(service, slices, context, &self.claims, &mut diagnostics)
                }
                None => ServiceRules::default(),
            };
            services.push((name.clone(), rules));
            told.extend(diagnostics.iter().cloned());
            self.diagnostics.compiled(name, diagnostics);
        }
        // Built as a whole from what is sorted, a tree needs no search.
        let mut delta = Delta { node, services: services.into_iter().collect() };
        let mut placed = Vec::new();
        self.backend.stage(&self.committed, &mut delta, basis, &mut placed);
        for diagnostic in &placed {
            if let Some(name) = ObjectName::parse(&diagnostic.object) {
                self.diagnostics.compiled.entry(name).or_default().push(diagnostic.clone());
            }
        }
        told.extend(placed);
        told.sort();
        let node_changed = std::mem::take(&mut self.node_changed);
        self.staged = Some(Staged { delta, changed, node_changed, load });
        told
    }

    /// Forgets what was heard for an audit, and rolls back a staged plan: nobody knows how much of it stands.
    pub fn begin_audit(&mut self) {
        self.rollback();
        self.heard = Vec::new();
        self.backend.begin_audit();
    }

    /// Takes whole lines of a family's listing, for [`Machine::is_intact`]. A family without any has no table.
    pub fn hear(&mut self, family: Family, lines: String) {
        if self.backend.hear(family, &lines) {
            return;
        }
        match self.heard.iter_mut().find(|(of, _)| *of == family) {
            Some((_, text)) => text.push_str(&lines),
            None => self.heard.push((family, lines)),
        }
    }

    /// Whether the kernel holds what was committed, by the listings that were heard. They are forgotten.
    ///
    /// True: [`Machine::reconcile`] with these listings has nothing to write but what has changed since the commit. That is
    /// not looked at here, and is still planned afterwards. With nftables an answer costs no memory but for chains, and it is
    /// stricter: false also where Service ports have other numbers, or slots another order, in a way that fits together.
    /// Somebody else's hand was there; `reconcile` takes that over and writes nothing, and then it is what was committed.
    pub fn is_intact(&mut self) -> bool {
        self.rollback();
        let heard = std::mem::take(&mut self.heard);
        self.backend.is_intact(&self.committed, heard)
    }

    /// The answer of an audit, whose listings come line by line.
    #[cfg(test)]
    pub fn audit(&mut self, listings: &[(Family, String)]) -> bool {
        self.begin_audit();
        for (family, text) in listings {
            self.hear(*family, String::new());
            text.split_inclusive('\n').for_each(|line| self.hear(*family, line.to_owned()));
        }
        self.is_intact()
    }

    /// Prepares the removal of real servers whose connections have ended, as `ipvsadm -Ln` tells in `listing`. To be
    /// committed or rolled back like a plan; changes of the cluster are not part of it.
    pub fn drain(&mut self, listing: &str) {
        self.rollback();
        self.backend.stage_drained(listing);
        let (delta, changed) = (Delta::default(), Vec::new());
        self.staged = Some(Staged { delta, changed, node_changed: false, load: None });
    }

    /// Whether the staged plan has no transaction left.
    pub fn is_empty(&self) -> bool {
        self.backend.is_empty()
    }

    /// The next transaction of the staged plan.
    pub fn next_transaction(&mut self) -> Option<Transaction> {
        let mut transaction = self.backend.next_transaction();
        while transaction.is_none() && self.stage_rest() {
            transaction = self.backend.next_transaction();
        }
        let mut transaction = transaction?;
        if let Some(load) = self.staged.as_mut().and_then(|staged| staged.load.as_mut()) {
            // Parts are of different Services, and count on nothing but chains of those before.
            transaction.beside |= load.fresh && load.added_only && transaction.adds_only;
            load.fresh = false;
            load.added_only = transaction.adds_only;
        }
        Some(transaction)
    }

    /// The staged plan stands in the kernel.
    pub fn commit(&mut self) {
        let Some(Staged { delta, load, .. }) = self.staged.take() else { return };
        self.backend.commit();
        if let Some(load) = load {
            if !load.begun {
                self.committed = RuleSet::default();
            }
            // Nobody has asked for them.
            self.changed.extend(load.rest);
        }
        if let Some(node) = delta.node {
            self.committed.node = node;
        }
        for (name, rules) in delta.services {
            if rules == ServiceRules::default() {
                self.committed.services.remove(&name);
            } else {
                self.committed.services.insert(name, rules);
            }
        }
        self.pristine = false;
    }

    /// The staged plan does not stand in the kernel, or not all of it.
    pub fn rollback(&mut self) {
        let Some(staged) = self.staged.take() else { return };
        self.backend.rollback();
        self.changed.extend(staged.changed);
        self.node_changed |= staged.node_changed;
        let Some(load) = staged.load else { return };
        self.changed.extend(load.rest);
        if load.begun {
            // Parts that count as committed may not stand: all begins anew.
            self.backend = create_backend(self.settings.backend);
            self.committed = RuleSet::default();
            self.pristine = true;
            self.changed.extend(self.services.keys().cloned());
            self.node_changed = true;
        }
    }

    /// The wanted rules, complete.
    pub fn render(&mut self, family: Option<Family>) -> Vec<Transaction> {
        self.look(|backend, view| backend.render(view, family))
    }

    /// What happens to a packet under the wanted rules.
    pub fn trace(&mut self, packet: &Packet) -> Trace {
        self.look(|backend, view| backend.trace(view, packet))
    }

    /// Shows what is wanted. What changed since the last plan is planned for it; that plan is then to be walked or
    /// rolled back like any other.
    fn look<T>(&mut self, look: impl FnOnce(&dyn Backend, View<'_>) -> T) -> T {
        let in_parts = self.staged.as_ref().and_then(|staged| staged.load.as_ref());
        if self.node_changed
            || !self.changed.is_empty()
            || in_parts.is_some_and(|load| !load.rest.as_slice().is_empty())
        {
            self.plan();
        }
        let delta = self.staged.as_ref().map(|staged| &staged.delta);
        look(&*self.backend, View::new(&self.committed, delta))
    }

    /// Of all objects, as they were read and as they were compiled, what has changed since the last plan included
    /// (`look` says how); sorted.
    pub fn diagnostics(&mut self) -> Vec<Diagnostic> {
        if self.staged.is_none() {
            self.look(|_, _| ());
        }
        let read = self.diagnostics.read.values().flatten();
        let mut all: Vec<Diagnostic> =
            read.chain(self.diagnostics.compiled.values().flatten()).cloned().collect();
        all.sort();
        all
    }

    /// Numbers of objects: Services, EndpointSlices.
    pub fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.homes.len())
    }

    /// Service ports whose traffic of one family under policy Local finds no endpoint here although there are some elsewhere:
    /// (internal, external).
    pub fn no_local_endpoints(&self, family: Family) -> (usize, usize) {
        let ports = self.committed.services.values().flat_map(|rules| &rules.ports);
        let starved = ports.filter(|port| port.family == family && port.local == Some(Pool::Drop));
        starved.fold((0, 0), |(internal, external), port| {
            let has = |wanted: fn(&Path) -> bool| port.entries.iter().any(|entry| wanted(&entry.path));
            let inside = has(|path| matches!(path, Path::Internal(Policy::Local)));
            let outside = has(|path| matches!(path, Path::External { policy: Policy::Local, .. }));
            (internal + usize::from(inside), external + usize::from(outside))
        })
    }
}

impl Diagnostics {
    fn read(&mut self, kind: &'static str, name: &ObjectName, diagnostics: Vec<Diagnostic>) {
        if diagnostics.is_empty() {
            self.read.remove(&(kind, name.clone()));
        } else {
            self.read.insert((kind, name.clone()), diagnostics);
        }
    }

    fn compiled(&mut self, name: &ObjectName, diagnostics: Vec<Diagnostic>) {
        if diagnostics.is_empty() {
            self.compiled.remove(name);
        } else {
            self.compiled.insert(name.clone(), diagnostics);
        }
    }
}
