//! Numbers of Service ports and of their endpoints, and the order of slots: what a Service port is given beside its
//! decisions. It depends on history, so that a change touches few elements and session affinity outlives it.
//!
//! In: what was given before, from the committed state or from a listing of the kernel. Out: a [`Placement`], and slots
//! in an order that keeps what can be kept.

use super::elements::{Element, Placement};
use super::numbers::{
    LOCAL_SET, MOST_AFFINITY_ENDPOINTS, SERVICE_MASK, affinity_endpoint, cluster_set, endpoint_number,
    service_number,
};
use super::parse::Listing;
use crate::balance::{Balance, Target};
use crate::diff::arrange;
use crate::model::Protocol;
use crate::ruleset::{At, Pool, PortRules};

/// What a Service port had before. The default: nothing.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// 0: none.
    pub number: u32,
    /// Slots of the cluster set.
    pub cluster: Vec<Target>,
    /// Slots of the local set.
    pub local: Vec<Target>,
    /// Numbers of endpoints; sorted.
    pub endpoints: Vec<(Target, u16)>,
    /// The number that was given last, as far as is known.
    pub last_endpoint: u16,
}

impl Before {
    /// As it was committed.
    pub fn committed(rules: &PortRules, placement: &Placement) -> Before {
        let slots = |pool: &Option<Pool>| pool.as_ref().map_or(Vec::new(), |pool| pool.slots().to_vec());
        Before {
            number: placement.number,
            cluster: slots(&rules.cluster),
            local: slots(&rules.local),
            endpoints: placement.endpoints.clone(),
            last_endpoint: placement.last_endpoint,
        }
    }

    /// As the kernel holds it: the Service port is known by any of its addresses.
    pub fn listed(listing: &Listing, port: &PortRules) -> Before {
        let known =
            port.entries.iter().find_map(|entry| value_at(&listing.elements, entry.at, port.protocol));
        let Some(number) = known.and_then(service_number) else { return Before::default() };
        let set = cluster_set(number);
        let endpoints = affinity_endpoints(&listing.elements, port.protocol, set);
        let slots = |set| slots(&listing.elements, port.protocol, set, &endpoints);
        let remembered = listing.remembered.get(&number);
        // Its clients are left behind, see `Stage::before`.
        if remembered
            .is_some_and(|all| port.affinity_seconds.is_none_or(|wanted| u64::from(wanted) < all.seconds))
        {
            return Before::default();
        }
        let remembered = remembered.map(|all| all.endpoint);
        let last_endpoint = endpoints.iter().map(|(_, number)| *number).chain(remembered).max().unwrap_or(0);
        Before { number, cluster: slots(set), local: slots(set | LOCAL_SET), endpoints, last_endpoint }
    }

    /// Brings the slots of `port` into the order that they had, and numbers its endpoints. False: too many of them for
    /// session affinity; those beyond the limit were taken out.
    pub fn carry_over(&self, port: &mut PortRules, number: u32) -> (Placement, bool) {
        let mut fits = true;
        let mut endpoints = Vec::new();
        let mut last_endpoint = self.last_endpoint;
        if port.affinity_seconds.is_some() {
            let mut targets: Vec<Target> = pools(port).flat_map(|slots| slots.iter().copied()).collect();
            targets.sort_unstable();
            targets.dedup();
            if targets.len() > usize::from(MOST_AFFINITY_ENDPOINTS) {
                targets.truncate(usize::from(MOST_AFFINITY_ENDPOINTS));
                pools(port).for_each(|slots| slots.retain(|target| targets.binary_search(target).is_ok()));
                fits = false;
            }
            (endpoints, last_endpoint) = number_endpoints(&self.endpoints, last_endpoint, targets);
        }
        // The places in a Maglev table are the method itself.
        if port.balance != Balance::Maglev {
            for (pool, standing) in [(&mut port.cluster, &self.cluster), (&mut port.local, &self.local)] {
                if let Some(Pool::Slots(slots)) = pool {
                    arrange(standing, slots);
                }
            }
        }
        (Placement { number, endpoints, last_endpoint }, fits)
    }
}

fn pools(port: &mut PortRules) -> impl Iterator<Item = &mut Vec<Target>> {
    [&mut port.cluster, &mut port.local].into_iter().filter_map(|pool| match pool {
        Some(Pool::Slots(slots)) => Some(slots),
        _ => None,
    })
}

/// Each target keeps its number. A new one gets the next one after `last`, the number that was given last, in a circle: clients
/// of an endpoint that went are remembered under its number, and must not all be handed to the one that came. Also says which
/// number is the last one now.
fn number_endpoints(before: &[(Target, u16)], last: u16, targets: Vec<Target>) -> (Vec<(Target, u16)>, u16) {
    let known = |target: &Target| {
        let place = before.binary_search_by_key(target, |(target, _)| *target).ok()?;
        Some(before[place].1)
    };
    let mut kept: Vec<u16> = targets.iter().filter_map(known).collect();
    kept.sort_unstable();
    let mut last = last;
    let mut next = || loop {
        last = last % MOST_AFFINITY_ENDPOINTS + 1;
        // There are no more targets than numbers, so one is found before the circle is closed.
        if kept.binary_search(&last).is_err() {
            return last;
        }
    };
    let numbered =
        targets.into_iter().map(|target| (target, known(&target).unwrap_or_else(&mut next))).collect();
    (numbered, last)
}

fn value_at(elements: &[Element], at: At, protocol: Protocol) -> Option<u32> {
    // Elements are sorted: those of a map stand together, in the order of their keys.
    let place = elements.partition_point(|element| match (element, at) {
        (Element::Address { address, protocol: of, port, .. }, At::Address(wanted, number)) => {
            (*address, *of, *port) < (wanted, protocol, number)
        }
        (Element::NodePort { protocol: of, port, .. }, At::NodePort(number)) => {
            (*of, *port) < (protocol, number)
        }
        (_, At::Address(..)) => before_addresses(element),
        (_, At::NodePort(_)) => before_addresses(element) || matches!(element, Element::Address { .. }),
    });
    match (elements.get(place)?, at) {
        (Element::Address { address, protocol: of, port, value, .. }, At::Address(wanted, number)) => {
            ((*address, *of, *port) == (wanted, protocol, number)).then_some(*value)
        }
        (Element::NodePort { protocol: of, port, value, .. }, At::NodePort(number)) => {
            ((*of, *port) == (protocol, number)).then_some(*value)
        }
        _ => None,
    }
}

fn before_addresses(element: &Element) -> bool {
    matches!(
        element,
        Element::Endpoint { .. }
            | Element::AffinityEndpoint { .. }
            | Element::AffinitySlot { .. }
            | Element::SourceRange { .. }
            | Element::Service { .. }
    )
}

/// All numbered endpoints of both sets of a Service port, sorted by target. A number stands for one of them, whatever somebody
/// has made of the table: the cluster set's.
fn affinity_endpoints(elements: &[Element], protocol: Protocol, set: u32) -> Vec<(Target, u16)> {
    let first = affinity_endpoint(set, 0);
    let start = elements.partition_point(|element| match element {
        Element::Endpoint { .. } => true,
        Element::AffinityEndpoint { protocol: of, endpoint, .. } => (*of, *endpoint) < (protocol, first),
        _ => false,
    });
    let own = elements[start..].iter().map_while(|element| match element {
        Element::AffinityEndpoint { protocol: of, endpoint, target }
            if *of == protocol && endpoint & SERVICE_MASK == set =>
        {
            Some((*target, endpoint_number(*endpoint)))
        }
        _ => None,
    });
    let mut endpoints: Vec<(Target, u16)> = own.collect();
    // In the order of numbers, the cluster set's before the local one's.
    endpoints.dedup_by_key(|(_, number)| *number);
    endpoints.sort_unstable();
    endpoints.dedup_by_key(|(target, _)| *target);
    endpoints
}

/// The targets of one set in the order of their slots.
fn slots(elements: &[Element], protocol: Protocol, set: u32, numbered: &[(Target, u16)]) -> Vec<Target> {
    let start = elements.partition_point(|element| match element {
        Element::Endpoint { protocol: of, set: own, .. } => (*of, *own) < (protocol, set),
        _ => false,
    });
    let direct: Vec<Target> = elements[start..]
        .iter()
        .map_while(|element| match element {
            Element::Endpoint { protocol: of, set: own, target, .. } if (*of, *own) == (protocol, set) => {
                Some(*target)
            }
            _ => None,
        })
        .collect();
    if !direct.is_empty() {
        return direct;
    }
    let start = elements.partition_point(|element| match element {
        Element::Endpoint { .. } | Element::AffinityEndpoint { .. } => true,
        Element::AffinitySlot { set: own, .. } => *own < set,
        _ => false,
    });
    elements[start..]
        .iter()
        .map_while(|element| match element {
            Element::AffinitySlot { set: own, endpoint, .. } if *own == set => {
                Some(endpoint_number(*endpoint))
            }
            _ => None,
        })
        .filter_map(|number| numbered.iter().find(|(_, own)| *own == number).map(|(target, _)| *target))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(last: u8) -> Target {
        Target { address: [10, 180, 0, last].into(), port: 80 }
    }

    #[test]
    fn no_number_is_read_for_two_endpoints() {
        let set = cluster_set(1);
        let element = |endpoint, last| {
            let target = target(last);
            Element::AffinityEndpoint { protocol: Protocol::Tcp, endpoint, target }
        };
        let (first, second) = (affinity_endpoint(set, 1), affinity_endpoint(set, 2));
        // Somebody has put another endpoint where the first one stands in the local set.
        let listed = [
            element(first, 1),
            element(first | LOCAL_SET, 2),
            element(second, 2),
            element(second | LOCAL_SET, 2),
        ];
        assert_eq!(affinity_endpoints(&listed, Protocol::Tcp, set), [(target(1), 1), (target(2), 2)]);
    }

    #[test]
    fn endpoints_keep_their_numbers_and_new_ones_get_fresh_ones() {
        let before = [(target(1), 1), (target(2), 2), (target(3), 3)];
        let given = number_endpoints(&before, 3, vec![target(1), target(4)]);
        assert_eq!(given, (vec![(target(1), 1), (target(4), 4)], 4));
        let given = number_endpoints(&[], 0, vec![target(1), target(4)]);
        assert_eq!(given, (vec![(target(1), 1), (target(4), 2)], 2));
        assert_eq!(number_endpoints(&before, 3, vec![]), (vec![], 3));
        // The third one had gone before.
        let given = number_endpoints(&before[..2], 3, vec![target(1), target(2), target(4)]);
        assert_eq!(given, (vec![(target(1), 1), (target(2), 2), (target(4), 4)], 4));
        let worn = [(target(1), 1), (target(2), MOST_AFFINITY_ENDPOINTS)];
        let given = number_endpoints(&worn, MOST_AFFINITY_ENDPOINTS, vec![target(1), target(3), target(4)]);
        assert_eq!(given, (vec![(target(1), 1), (target(3), 2), (target(4), 3)], 3));
    }
}
