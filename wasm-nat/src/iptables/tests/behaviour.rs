//! What happens to packets: the table of the documentation, walked through this backend's rules.

use super::cluster::*;
use crate::model::*;
use crate::simulate::Verdict;

/// Pods 10.0.0.0/8, this node 192.168.0.2, a client outside 203.0.113.9.
fn cluster() -> crate::machine::Machine {
    let mut machine = machine(Settings {
        exposed: vec![ExposedService {
            protocol: Protocol::Tcp,
            node_port: 9100,
            service: name("both-local"),
            port: ExposedPort::Number(80),
        }],
        ..settings()
    });
    let balancer = |of: &str, cluster_ip: &str, last: u8, ranges: &[&str], policy: Policy| Service {
        load_balancer_ips: vec![ip(&format!("198.51.100.{last}"))],
        source_ranges: (!ranges.is_empty()).then(|| ranges.iter().map(|range| cidr(range)).collect()),
        external_policy: policy,
        ports: vec![port("http", Protocol::Tcp, 80, Some(30_000 + u16::from(last)))],
        ..service(of, cluster_ip)
    };
    add(&mut machine, service("web", "172.30.0.1"), &["+10.180.0.1", "10.180.1.1"]);
    add(&mut machine, service("empty", "172.30.0.2"), &[]);
    let local =
        |of: &str, cluster_ip: &str| Service { internal_policy: Policy::Local, ..service(of, cluster_ip) };
    add(&mut machine, local("int-local", "172.30.0.3"), &["+10.180.0.1", "10.180.1.1"]);
    add(&mut machine, local("int-remote", "172.30.0.4"), &["10.180.1.1"]);
    add(&mut machine, balancer("lb", "172.30.0.5", 5, &[], Policy::Cluster), &["+10.180.0.1", "10.180.1.1"]);
    add(
        &mut machine,
        balancer("lb-local", "172.30.0.6", 6, &[], Policy::Local),
        &["+10.180.0.1", "10.180.1.1"],
    );
    add(&mut machine, balancer("lb-remote", "172.30.0.7", 7, &[], Policy::Local), &["10.180.1.1"]);
    add(&mut machine, balancer("lb-empty", "172.30.0.8", 8, &[], Policy::Local), &[]);
    let ranges = &["203.0.113.0/25"];
    add(&mut machine, balancer("ranges", "172.30.0.9", 9, ranges, Policy::Cluster), &["10.180.1.1"]);
    add(&mut machine, balancer("ranges-empty", "172.30.0.10", 10, ranges, Policy::Cluster), &[]);
    add(&mut machine, service("host", "172.30.0.11"), &["+192.168.0.2"]);
    let both = Service {
        internal_policy: Policy::Local,
        ..balancer("both-local", "172.30.0.12", 12, &[], Policy::Local)
    };
    add(&mut machine, both, &["10.180.1.1"]);
    add(&mut machine, service("six", "fd00:172:30::1"), &["fd00:10:180::1"]);
    machine
}

#[test]
fn packets() {
    let mut machine = cluster();
    let (pod, node, client, banned) = ("10.0.0.9", "192.168.0.2", "203.0.113.9", "203.0.113.200");
    let all: &[&str] = &["10.180.0.1:8080", "10.180.1.1:8080"];
    let (here, there): (&[&str], &[&str]) = (&all[..1], &all[1..]);
    use Verdict::*;
    for (from, to, verdict, endpoints, masquerade) in [
        (pod, "172.30.0.1:80", Dnat, all, false),
        (node, "172.30.0.1:80", Dnat, all, true),
        (client, "172.30.0.1:80", Dnat, all, true),
        (pod, "172.30.0.1:81", Untouched, &[], false),
        (pod, "172.30.0.99:80", Untouched, &[], false),
        (pod, "172.30.0.2:80", Reject, &[], false),
        (node, "172.30.0.2:80", Reject, &[], false),
        (pod, "172.30.0.3:80", Dnat, here, false),
        (client, "172.30.0.3:80", Dnat, here, true),
        (pod, "172.30.0.4:80", Drop, &[], false),
        (node, "172.30.0.4:80", Drop, &[], false),
        (pod, "198.51.100.5:80", Dnat, all, true),
        (client, "198.51.100.5:80", Dnat, all, true),
        (client, "192.168.0.2:30005", Dnat, all, true),
        (node, "127.0.0.1:30005", Dnat, all, true),
        (client, "192.168.0.3:30005", Untouched, &[], false),
        (pod, "198.51.100.6:80", Dnat, all, false),
        (node, "198.51.100.6:80", Dnat, all, true),
        (client, "198.51.100.6:80", Dnat, here, false),
        (client, "192.168.0.2:30006", Dnat, here, false),
        (pod, "198.51.100.7:80", Dnat, there, false),
        (node, "198.51.100.7:80", Dnat, there, true),
        (client, "198.51.100.7:80", Drop, &[], false),
        (client, "192.168.0.2:30007", Drop, &[], false),
        (client, "198.51.100.8:80", Reject, &[], false),
        (node, "198.51.100.8:80", Reject, &[], false),
        (client, "192.168.0.2:30008", Reject, &[], false),
        (client, "198.51.100.9:80", Dnat, there, true),
        (banned, "198.51.100.9:80", Drop, &[], false),
        (pod, "198.51.100.9:80", Drop, &[], false),
        (banned, "192.168.0.2:30009", Dnat, there, true),
        (banned, "198.51.100.10:80", Reject, &[], false),
        (client, "198.51.100.10:80", Reject, &[], false),
        (client, "172.30.0.11:80", Dnat, &["192.168.0.2:8080"], false),
        (node, "172.30.0.11:80", Dnat, &["192.168.0.2:8080"], true),
        (pod, "172.30.0.12:80", Drop, &[], false),
        (client, "198.51.100.12:80", Drop, &[], false),
        (pod, "192.168.0.2:30012", Dnat, there, false),
        (pod, "192.168.0.2:9100", Dnat, there, true),
        (client, "192.168.0.2:9100", Dnat, there, true),
        ("fd00:10::9", "[fd00:172:30::1]:80", Dnat, &["[fd00:10:180::1]:8080"], false),
        ("2001:db8::9", "[fd00:172:30::1]:80", Dnat, &["[fd00:10:180::1]:8080"], true),
        ("fd00:192:168::2", "[::1]:30005", Untouched, &[], false),
    ] {
        let got = trace(&mut machine, from, to);
        let found: Vec<String> = got.endpoints.iter().map(|target| target.to_string()).collect();
        assert_eq!(
            (got.verdict, found.iter().map(String::as_str).collect::<Vec<_>>(), got.masquerade),
            (verdict, endpoints.to_vec(), masquerade),
            "{from} to {to}: {:#?}",
            got.rules
        );
        assert_eq!(got.rules.is_empty(), verdict == Untouched, "{from} to {to}");
    }
}

#[test]
fn hairpins_are_masqueraded_alone() {
    let mut machine = cluster();
    let got = trace(&mut machine, "10.180.0.1", "172.30.0.1:80");
    assert_eq!((got.verdict, got.masquerade), (Verdict::Dnat, false));
    assert_eq!(got.hairpin.iter().map(|target| target.to_string()).collect::<Vec<_>>(), ["10.180.0.1:8080"]);
}

#[test]
fn the_deciding_rules_name_their_objects() {
    let mut machine = cluster();
    let told = |from, to, machine: &mut crate::machine::Machine| -> Vec<String> {
        trace(machine, from, to).rules.into_iter().filter_map(|rule| rule.object).collect()
    };
    assert_eq!(
        told("203.0.113.9", "198.51.100.8:80", &mut machine),
        ["Service default/lb-empty port http (load balancer IP 198.51.100.8:80/tcp)"]
    );
    let met = told("10.0.0.9", "172.30.0.3:80", &mut machine);
    assert_eq!(met[0], "Service default/int-local port http (ClusterIP 172.30.0.3:80/tcp)");
    assert!(met[1..].iter().all(|object| object == "Service default/int-local port http"), "{met:?}");
    assert_eq!(
        told("203.0.113.9", "192.168.0.2:9100", &mut machine)[0],
        "Service default/both-local port http (exposed port 9100/tcp)"
    );
}

#[test]
fn interfaces_tell_pods() {
    let detector = LocalDetector::InterfacePrefix("veth".into());
    let mut machine = machine(Settings { local_detector: detector, ..settings() });
    add(&mut machine, service("web", "172.30.0.1"), &["10.180.1.1"]);
    for (interface, masquerade) in [(Some("veth12"), false), (Some("eth0"), true), (None, true)] {
        let packet = crate::simulate::Packet {
            source: ip("10.0.0.9"),
            destination: ip("172.30.0.1"),
            protocol: Protocol::Tcp,
            port: 80,
            interface: interface.map(str::to_owned),
        };
        assert_eq!(machine.trace(&packet).masquerade, masquerade, "{interface:?}");
    }
}
