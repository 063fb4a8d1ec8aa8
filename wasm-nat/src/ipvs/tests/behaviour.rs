//! What becomes of packets, as `trace` walks them. The real kernel answers the same in `tests/kernel`.

use super::cluster::*;
use crate::machine::Machine;
use crate::model::Protocol::*;
use crate::model::*;
use crate::simulate::Verdict;

fn cluster() -> Machine {
    let mut machine = machine(settings());
    let both = ["+10.180.0.1", "10.180.1.1"];
    add(&mut machine, service("web", "172.30.0.1", Tcp), &both);
    add(&mut machine, service("empty", "172.30.0.2", Tcp), &[]);
    let mut local = service("local", "172.30.0.3", Tcp);
    local.external_policy = Policy::Local;
    local.load_balancer_ips = vec![ip("198.51.100.3")];
    local.ports[0].node_port = Some(30003);
    local.health_check_node_port = Some(32100);
    add(&mut machine, local.clone(), &both);
    let mut remote = Service { name: ObjectName::new("default", "remote"), ..local.clone() };
    remote.cluster_ips = vec![ip("172.30.0.4")];
    remote.load_balancer_ips = vec![ip("198.51.100.4")];
    remote.ports[0].node_port = Some(30004);
    remote.health_check_node_port = None;
    add(&mut machine, remote, &["10.180.1.1"]);
    let mut ranges = service("ranges", "172.30.0.5", Tcp);
    ranges.load_balancer_ips = vec![ip("198.51.100.5")];
    ranges.source_ranges = Some(vec![cidr("203.0.113.0/25")]);
    ranges.external_ips = vec![ip("198.51.100.15")];
    ranges.ports[0].node_port = Some(30006);
    add(&mut machine, ranges, &both);
    let mut inside = service("inside", "172.30.0.6", Tcp);
    inside.internal_policy = Policy::Local;
    add(&mut machine, inside, &["10.180.1.1"]);
    // The number of its port is that of another Service's node port.
    let mut odd = service("odd", "172.30.0.7", Tcp);
    odd.ports[0].port = 30006;
    add(&mut machine, odd, &["10.180.1.9"]);
    // An external IP that is the node's own address: its other ports stay the node's.
    let mut own = service("own", "172.30.0.8", Tcp);
    own.external_ips = vec![ip("192.168.0.2")];
    add(&mut machine, own, &["10.180.1.9"]);
    add(&mut machine, service("six", "fd00:172:30::1", Udp), &["+fd00:10::1", "fd00:10::2"]);
    machine
}

#[test]
fn packets_meet_what_the_documentation_says() {
    use Verdict::*;
    let mut machine = cluster();
    let (pod, node, client, far) = ("10.180.0.9", "192.168.0.2", "203.0.113.10", "203.0.113.200");
    let both = &["10.180.0.1:8080", "10.180.1.1:8080"][..];
    let (here, there) = (&both[..1], &both[1..]);
    let nobody = &[][..];
    for (name, source, destination, port, verdict, endpoints, masquerade) in [
        ("pod to ClusterIP", pod, "172.30.0.1", 80, Dnat, both, false),
        ("node to ClusterIP", node, "172.30.0.1", 80, Dnat, both, true),
        ("the kernel's choice of source", "172.30.0.1", "172.30.0.1", 80, Dnat, both, true),
        ("client to ClusterIP", client, "172.30.0.1", 80, Dnat, both, true),
        ("undefined port", pod, "172.30.0.1", 81, Reject, nobody, false),
        ("undefined port, from the node", node, "172.30.0.1", 81, Reject, nobody, false),
        ("no endpoint", pod, "172.30.0.2", 80, Reject, nobody, false),
        ("ICMP echo: the address is the node's own", pod, "172.30.0.1", 0, Untouched, nobody, false),
        ("unknown address", pod, "172.30.0.99", 80, Untouched, nobody, false),
        ("policy Local, pod", pod, "198.51.100.3", 80, Dnat, both, false),
        ("policy Local, node", node, "198.51.100.3", 80, Dnat, both, true),
        ("policy Local, client", client, "198.51.100.3", 80, Dnat, here, false),
        ("policy Local, node port, pod", pod, "192.168.0.2", 30003, Dnat, both, false),
        ("policy Local, node port, client", client, "192.168.100.2", 30003, Dnat, here, false),
        ("policy Local, ClusterIP", client, "172.30.0.3", 80, Dnat, both, true),
        ("policy Local, none here, pod", pod, "198.51.100.4", 80, Dnat, there, false),
        ("policy Local, none here, client", client, "198.51.100.4", 80, Drop, nobody, false),
        ("policy Local, none here, node port", client, "192.168.0.2", 30004, Drop, nobody, false),
        ("allowed source", client, "198.51.100.5", 80, Dnat, both, true),
        ("forbidden source", far, "198.51.100.5", 80, Drop, nobody, false),
        ("forbidden source: the node", node, "198.51.100.5", 80, Drop, nobody, false),
        ("ranges say nothing of external IPs", far, "198.51.100.15", 80, Dnat, both, true),
        ("ranges say nothing of node ports", far, "192.168.100.2", 30006, Dnat, both, true),
        ("internal policy Local", pod, "172.30.0.6", 80, Drop, nobody, false),
        ("a health check", client, "192.168.0.2", 32100, Untouched, nobody, false),
        ("a health check at a Service's address", client, "198.51.100.3", 32100, Untouched, nobody, false),
        ("the node's own port", client, "192.168.0.2", 22, Untouched, nobody, false),
        (
            "an external IP that is the node's",
            client,
            "192.168.0.2",
            80,
            Dnat,
            &["10.180.1.9:8080"][..],
            true,
        ),
        ("a port like a node port", pod, "172.30.0.7", 30006, Dnat, &["10.180.1.9:8080"][..], false),
    ] {
        let trace = machine.trace(&packet(source, destination, port, Tcp));
        let got: Vec<String> = trace.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(
            (trace.verdict, got, trace.masquerade),
            (verdict, endpoints.iter().map(|text| (*text).to_owned()).collect(), masquerade),
            "{name}: {trace:#?}"
        );
    }
    let trace = machine.trace(&packet("fd00:99::1", "fd00:172:30::1", 80, Udp));
    assert_eq!((trace.verdict, trace.endpoints.len(), trace.masquerade), (Dnat, 2, true));
    let hairpin = machine.trace(&packet("10.180.0.1", "172.30.0.1", 80, Tcp));
    assert_eq!((hairpin.masquerade, hairpin.hairpin.len()), (false, 1));
    assert_eq!(
        hairpin.rules.last().and_then(|rule| rule.object.as_deref()),
        Some("Service default/web port http (ClusterIP 172.30.0.1:80/tcp)")
    );
}

#[test]
fn without_a_detector_pods_are_like_others() {
    let mut settings = settings();
    settings.local_detector = LocalDetector::None;
    let mut machine = machine(settings);
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    let masquerade = |machine: &mut Machine, source: &str| {
        machine.trace(&packet(source, "172.30.0.1", 80, Tcp)).masquerade
    };
    assert!(!masquerade(&mut machine, "203.0.113.10"));
    assert!(!masquerade(&mut machine, "192.168.0.2"));
    assert!(masquerade(&mut machine, "172.30.0.1"), "nobody could answer to the virtual address");
}
