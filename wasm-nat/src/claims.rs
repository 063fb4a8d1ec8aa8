//! Who owns an address and port when several Services name the same one.
//!
//! The oldest owns it, as Kubernetes' allocators would have decided; without a date a Service counts as younger than
//! any with one, and equals are told apart by name. A node port that a Service asks for itself goes before one that a
//! ConfigMap exposes. In: each Service's claims. Out: owners, and whom a change concerns.

use crate::address::Family;
use crate::hash::Hashed;
use crate::model::{ObjectName, Protocol, Service};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

/// What can be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A virtual address and port.
    Address(IpAddr, Protocol, u16),
    /// A port at the node's addresses.
    NodePort(Family, Protocol, u16),
    /// All undefined ports of a ClusterIP.
    ClusterIp(IpAddr),
}

impl std::fmt::Display for Claim {
    /// `172.30.0.41:80/tcp`, `node port 30080/tcp (IPv4)`, `172.30.0.41`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Claim::Address(address, protocol, port) => {
                write!(f, "{}/{protocol}", std::net::SocketAddr::new(*address, *port))
            }
            Claim::NodePort(family, protocol, port) => {
                write!(f, "node port {port}/{protocol} ({})", family.name())
            }
            Claim::ClusterIp(address) => address.fmt(f),
        }
    }
}

/// Orders claimants: the smallest owns. Cheap to clone: what a Service claims is kept once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claimant(Rc<Rank>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    by_config_map: bool,
    undated: bool,
    created: (i64, u32),
    name: ObjectName,
}

impl Claimant {
    /// A Service; `by_config_map` if it is a ConfigMap that claims on its behalf.
    pub fn new(service: &Service, by_config_map: bool) -> Claimant {
        Claimant(Rc::new(Rank {
            by_config_map,
            undated: service.created.is_none(),
            created: service.created.unwrap_or_default(),
            name: service.name.clone(),
        }))
    }
}

/// All claims.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    owners: Hashed<Claim, Claimant>,
    /// Those who wait behind the owner. Nearly always empty.
    waiting: BTreeMap<Claim, BTreeSet<Claimant>>,
}

impl Claims {
    /// Adds a claim. Everyone whom it concerns, beside the claimant, goes to `concerned`.
    pub fn add(&mut self, claim: Claim, claimant: Claimant, concerned: &mut Vec<ObjectName>) {
        let owner = match self.owners.entry(claim) {
            Entry::Occupied(owner) => owner.into_mut(),
            Entry::Vacant(place) => {
                place.insert(claimant);
                return;
            }
        };
        if *owner == claimant {
            return;
        }
        concerned.push(owner.0.name.clone());
        let loser = if claimant < *owner { std::mem::replace(owner, claimant) } else { claimant };
        let waiting = self.waiting.entry(claim).or_default();
        // Everyone who waits is told who owns now.
        concerned.extend(waiting.iter().map(|other| other.0.name.clone()));
        waiting.insert(loser);
    }

    /// Takes a claim back. Everyone whom it concerns goes to `concerned`.
    pub fn remove(&mut self, claim: Claim, claimant: &Claimant, concerned: &mut Vec<ObjectName>) {
        if let Some(waiting) = self.waiting.get_mut(&claim) {
            if !waiting.remove(claimant) && self.owners.get(&claim) == Some(claimant) {
                concerned.extend(waiting.iter().map(|other| other.0.name.clone()));
                if let Some(heir) = waiting.pop_first() {
                    self.owners.insert(claim, heir);
                }
            }
            if waiting.is_empty() {
                self.waiting.remove(&claim);
            }
        } else if self.owners.get(&claim) == Some(claimant) {
            self.owners.remove(&claim);
        }
    }

    /// Who owns it, if anyone claims it.
    pub fn owner(&self, claim: Claim) -> Option<&ObjectName> {
        self.owners.get(&claim).map(|owner| &owner.0.name)
    }

    /// Whether `claimant`, who has made the claim, owns it: a Service by itself, or that way by a ConfigMap.
    pub fn owns(&self, claim: Claim, claimant: &Claimant) -> bool {
        // Where nobody waits, nobody else has made it.
        !self.waiting.contains_key(&claim) || self.owners.get(&claim) == Some(claimant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, created: Option<i64>) -> Service {
        let mut service = Service::new(ObjectName::parse(name).unwrap());
        service.created = created.map(|seconds| (seconds, 0));
        service
    }

    #[test]
    fn the_oldest_owns_and_the_next_inherits() {
        let claim = Claim::NodePort(Family::V4, Protocol::Tcp, 30080);
        let claimants: Vec<Claimant> =
            [("a/undated", None), ("b/young", Some(20)), ("c/old", Some(10)), ("a/same", Some(20))]
                .into_iter()
                .map(|(name, created)| Claimant::new(&service(name, created), false))
                .collect();
        let mut claims = Claims::default();
        let mut concerned = Vec::new();
        for claimant in &claimants {
            claims.add(claim, claimant.clone(), &mut concerned);
        }
        let mut order = Vec::new();
        while let Some(owner) = claims.owner(claim).cloned() {
            order.push(owner.to_string());
            concerned.clear();
            let claimant = claimants.iter().find(|claimant| claimant.0.name == owner).unwrap();
            claims.remove(claim, claimant, &mut concerned);
            assert_eq!(concerned.len(), claimants.len() - order.len(), "everyone who waits hears of it");
        }
        assert_eq!(order, ["c/old", "a/same", "b/young", "a/undated"]);
        assert!(claims.waiting.is_empty());
    }

    #[test]
    fn a_services_own_node_port_goes_first() {
        let claim = Claim::NodePort(Family::V4, Protocol::Tcp, 9000);
        let mut claims = Claims::default();
        let mut concerned = Vec::new();
        claims.add(claim, Claimant::new(&service("a/old", Some(1)), true), &mut concerned);
        claims.add(claim, Claimant::new(&service("b/young", Some(2)), false), &mut concerned);
        assert_eq!(claims.owner(claim).unwrap().as_str(), "b/young");
    }
}
