//! Which endpoints may serve: one pure function, whose comment is the specification.
//!
//! In: the endpoints of one Service port in one family, and how the Service may be reached. Out: the cluster set, the
//! local set, and whether there is any endpoint anywhere. Not here: addresses and verdicts (`compile`).

use crate::model::{Endpoint, Node, Policy};

/// How a Service port may be reached, as far as endpoints are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// `internalTrafficPolicy`.
    pub internal: Policy,
    /// `externalTrafficPolicy`; `None` when nothing from outside reaches it (no node port, external IP or load
    /// balancer address): then the field means nothing.
    pub external: Option<Policy>,
    /// A ConfigMap exposes it, which always means the cluster set.
    pub exposed: bool,
}

impl Reach {
    fn wants_cluster(self) -> bool {
        self.internal == Policy::Cluster || self.external.is_some() || self.exposed
    }

    fn wants_local(self) -> bool {
        self.internal == Policy::Local || self.external == Some(Policy::Local)
    }
}

/// What [`select`] found: places in its input, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// For traffic under policy Cluster; `None` when there is no such traffic.
    pub cluster: Option<Vec<usize>>,
    /// For traffic under policy Local; `None` when there is no such traffic.
    pub local: Option<Vec<usize>>,
    /// Some endpoint, here or elsewhere, could serve: then an empty set drops packets (another node may take them),
    /// otherwise it refuses them.
    pub any: bool,
}

/// Chooses endpoints as kube-proxy does (KEP-1669, KEP-2086, KEP-2433, KEP-3015).
///
/// 1. The **cluster set** exists when internal policy is Cluster or anything from outside reaches the Service. It
///    holds the ready endpoints that the topology mode admits; if there are none, every endpoint that is serving while
///    it terminates, wherever it is.
/// 2. The **local set** exists when internal policy is Local, or external policy is Local and anything from outside
///    reaches the Service. It holds this node's ready endpoints; if there are none, this node's endpoints that are
///    serving while they terminate. Hints never apply to it.
/// 3. **Any** is whether the cluster holds an endpoint that is ready, or serving while it terminates.
/// 4. The **topology mode** is *node* when every ready endpoint has a node hint and one of them names this node;
///    else *zone* when every ready endpoint has a zone hint and one of them names this node's zone; else none. So one
///    ready endpoint without a hint disables hints, endpoints that are not ready do not count, and a node without a
///    zone has no zone mode.
pub fn select<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    node: &Node,
    reach: Reach,
) -> Selection {
    let draining = |endpoint: &Endpoint| endpoint.serving && endpoint.terminating;
    let numbered = || endpoints.clone().enumerate();
    let mut selection = Selection {
        cluster: None,
        local: None,
        any: endpoints.clone().any(|endpoint| endpoint.ready || draining(endpoint)),
    };
    if reach.wants_cluster() {
        let mode = topology(endpoints.clone(), node);
        let admitted = |endpoint: &Endpoint| endpoint.ready && mode.admits(endpoint);
        selection.cluster = Some(first_choice(numbered(), admitted, draining));
    }
    if reach.wants_local() {
        let here = |endpoint: &Endpoint| is_local(endpoint, node);
        selection.local = Some(first_choice(
            numbered(),
            |endpoint| here(endpoint) && endpoint.ready,
            |endpoint| here(endpoint) && draining(endpoint),
        ));
    }
    selection
}

/// Whether an endpoint runs on this node.
pub fn is_local(endpoint: &Endpoint, node: &Node) -> bool {
    node.name.is_some() && endpoint.node == node.name
}

fn first_choice<'a>(
    endpoints: impl Iterator<Item = (usize, &'a Endpoint)> + Clone,
    preferred: impl Fn(&Endpoint) -> bool,
    otherwise: impl Fn(&Endpoint) -> bool,
) -> Vec<usize> {
    let places = |fits: &dyn Fn(&Endpoint) -> bool| -> Vec<usize> {
        endpoints.clone().filter(|(_, endpoint)| fits(endpoint)).map(|(place, _)| place).collect()
    };
    let chosen = places(&preferred);
    if chosen.is_empty() { places(&otherwise) } else { chosen }
}

enum Topology {
    None,
    Node(crate::model::Name),
    Zone(crate::model::Name),
}

impl Topology {
    fn admits(&self, endpoint: &Endpoint) -> bool {
        match self {
            Topology::None => true,
            Topology::Node(node) => endpoint.hint_nodes.contains(node),
            Topology::Zone(zone) => endpoint.hint_zones.contains(zone),
        }
    }
}

fn topology<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone, node: &Node) -> Topology {
    let ready = || endpoints.clone().filter(|endpoint| endpoint.ready);
    if let Some(name) = node.name
        && ready().all(|endpoint| !endpoint.hint_nodes.is_empty())
        && ready().any(|endpoint| endpoint.hint_nodes.contains(&name))
    {
        return Topology::Node(name);
    }
    if let Some(zone) = node.zone
        && ready().all(|endpoint| !endpoint.hint_zones.is_empty())
        && ready().any(|endpoint| endpoint.hint_zones.contains(&zone))
    {
        return Topology::Zone(zone);
    }
    Topology::None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Names;
    use std::net::IpAddr;

    /// `ready`, `draining` (serving while terminating), `gone` (neither), then `@node`, `~node-hint`, `^zone-hint`.
    fn endpoints(names: &mut Names, texts: &[&str]) -> Vec<Endpoint> {
        texts
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let mut words = text.split(' ');
                let state = words.next().unwrap();
                let mut endpoint = Endpoint {
                    address: IpAddr::from([10, 180, 0, i as u8 + 1]),
                    ready: state == "ready",
                    serving: state != "gone",
                    terminating: state == "draining",
                    node: None,
                    zone: None,
                    hint_zones: vec![],
                    hint_nodes: vec![],
                };
                for word in words {
                    let name = names.intern(&word[1..]);
                    match &word[..1] {
                        "@" => endpoint.node = Some(name),
                        "~" => endpoint.hint_nodes.push(name),
                        "^" => endpoint.hint_zones.push(name),
                        _ => panic!("{word}"),
                    }
                }
                endpoint
            })
            .collect()
    }

    #[test]
    fn every_rule() {
        let internal = |policy| Reach { internal: policy, external: None, exposed: false };
        let both = |internal, external| Reach { internal, external: Some(external), exposed: false };
        use Policy::{Cluster, Local};
        type Want = (Option<Vec<usize>>, Option<Vec<usize>>, bool);
        let table: Vec<(&str, &[&str], Reach, Want)> = vec![
            (
                "ready ones only",
                &["ready", "gone", "draining"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            ("none", &[], internal(Cluster), (Some(vec![]), None, false)),
            ("only gone", &["gone"], internal(Cluster), (Some(vec![]), None, false)),
            (
                "draining when none is ready",
                &["draining", "gone"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            (
                "internal Local: no cluster set",
                &["ready @here", "ready @there"],
                internal(Local),
                (None, Some(vec![0]), true),
            ),
            ("internal Local, only remote", &["ready @there"], internal(Local), (None, Some(vec![]), true)),
            ("no node name is not local", &["ready"], internal(Local), (None, Some(vec![]), true)),
            (
                "local draining when no local is ready",
                &["draining @here", "ready @there"],
                internal(Local),
                (None, Some(vec![0]), true),
            ),
            (
                "external Local: both sets",
                &["ready @here", "ready @there"],
                both(Cluster, Local),
                (Some(vec![0, 1]), Some(vec![0]), true),
            ),
            (
                "both Local and reachable from outside: both sets",
                &["ready @there"],
                both(Local, Local),
                (Some(vec![0]), Some(vec![]), true),
            ),
            (
                "internal Local, external Cluster",
                &["ready @here", "ready @there"],
                both(Local, Cluster),
                (Some(vec![0, 1]), Some(vec![0]), true),
            ),
            ("zone hints", &["ready ^a", "ready ^b"], internal(Cluster), (Some(vec![0]), None, true)),
            (
                "one without a hint disables them",
                &["ready ^a", "ready"],
                internal(Cluster),
                (Some(vec![0, 1]), None, true),
            ),
            (
                "one without a hint that is not ready does not",
                &["ready ^a", "ready ^b", "gone"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            (
                "no hint for this zone",
                &["ready ^b", "ready ^c"],
                internal(Cluster),
                (Some(vec![0, 1]), None, true),
            ),
            (
                "several zones a hint",
                &["ready ^b ^a", "ready ^c"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            (
                "node hints before zone hints",
                &["ready ~here ^a", "ready ~there ^a"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            (
                "zone hints when no node hint names this node",
                &["ready ~x ^a", "ready ~y ^b"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
            (
                "hints never apply to the local set",
                &["ready @here ^b", "ready @there ^a"],
                both(Cluster, Local),
                (Some(vec![1]), Some(vec![0]), true),
            ),
            (
                "draining ones ignore topology",
                &["draining ^b", "draining ^a"],
                internal(Cluster),
                (Some(vec![0, 1]), None, true),
            ),
            (
                "ready and terminating (publishNotReadyAddresses) counts as ready",
                &["ready", "draining"],
                internal(Cluster),
                (Some(vec![0]), None, true),
            ),
        ];
        for (name, texts, reach, (cluster, local, any)) in table {
            let mut names = Names::default();
            let node =
                Node { name: Some(names.intern("here")), zone: Some(names.intern("a")), addresses: vec![] };
            let endpoints = endpoints(&mut names, texts);
            let got = select(endpoints.iter(), &node, reach);
            assert_eq!(got, Selection { cluster, local, any }, "{name}");
        }
    }

    #[test]
    fn a_node_without_zone_has_no_zone_mode() {
        let mut names = Names::default();
        let node = Node { name: Some(names.intern("here")), zone: None, addresses: vec![] };
        let endpoints = endpoints(&mut names, &["ready ^a", "ready ^b"]);
        let reach = Reach { internal: Policy::Cluster, external: None, exposed: false };
        assert_eq!(select(endpoints.iter(), &node, reach).cluster, Some(vec![0, 1]));
    }

    #[test]
    fn an_exposed_port_wants_the_cluster_set() {
        let reach = Reach { internal: Policy::Local, external: None, exposed: true };
        let mut names = Names::default();
        let endpoints = endpoints(&mut names, &["ready @there"]);
        let node = Node { name: Some(names.intern("here")), ..Node::default() };
        let got = select(endpoints.iter(), &node, reach);
        assert_eq!(got, Selection { cluster: Some(vec![0]), local: Some(vec![]), any: true });
    }
}
