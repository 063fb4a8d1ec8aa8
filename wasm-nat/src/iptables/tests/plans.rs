//! What plans write, in which order, and what they leave alone.

use super::cluster::*;
use super::model::Kernel;
use crate::address::Family;
use crate::machine::Machine;
use crate::model::*;

fn plan(machine: &mut Machine) -> Vec<String> {
    machine.plan();
    let texts =
        std::iter::from_fn(|| machine.next_transaction().map(|transaction| transaction.text)).collect();
    machine.commit();
    texts
}

fn start(machine: &mut Machine, kernel: &mut Kernel) -> usize {
    machine.reconcile(kernel.listings());
    let mut count = 0;
    while let Some(transaction) = machine.next_transaction() {
        kernel.apply(&transaction).unwrap();
        count += 1;
    }
    machine.commit();
    count
}

/// Chain names are those that kube-proxy's own tests hold.
#[test]
fn a_service_in_full() {
    let mut machine = machine(Settings { families: vec![Family::V4], ..settings() });
    let service = Service {
        cluster_ips: vec![ip("172.30.0.41")],
        ports: vec![port("p80", Protocol::Tcp, 80, None)],
        ..Service::new(ObjectName::new("ns1", "svc1"))
    };
    let slice = EndpointSlice {
        service: service.name.clone(),
        ports: vec![EndpointPort { name: "p80".into(), protocol: Protocol::Tcp, port: 80 }],
        ..slice(&mut machine, "svc1", &["10.180.0.1", "10.180.0.2"])
    };
    machine.upsert_service(service, vec![]);
    machine.upsert_slice(slice, vec![]);
    let [rendered] = &machine.render(None)[..] else { panic!("one program") };
    let lines: Vec<&str> = rendered.text.lines().filter(|line| !line.starts_with(':')).collect();
    assert_eq!(
        lines,
        [
            "*filter",
            "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT",
            "-A KUBE-NODEPORTS ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
            "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype --dst-type LOCAL -j KUBE-EXTERNAL-SERVICES",
            "-I INPUT 1 -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-I FORWARD 1 -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-I OUTPUT 1 -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-I INPUT 1 -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS",
            "-I FORWARD 1 -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD",
            "COMMIT",
            "*nat",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
            "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully",
            "-A KUBE-SEP-LXVODXWDISEETFEF -s 10.180.0.2/32 -j KUBE-MARK-MASQ",
            "-A KUBE-SEP-LXVODXWDISEETFEF -p tcp -j DNAT --to-destination 10.180.0.2:80",
            "-A KUBE-SEP-SXIVWICOYRO3J4NJ -s 10.180.0.1/32 -j KUBE-MARK-MASQ",
            "-A KUBE-SEP-SXIVWICOYRO3J4NJ -p tcp -j DNAT --to-destination 10.180.0.1:80",
            "-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O",
            "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
            "-A KUBE-SVC-XPGD46QRK7WJZT7O ! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ",
            "-A KUBE-SVC-XPGD46QRK7WJZT7O -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-SXIVWICOYRO3J4NJ",
            "-A KUBE-SVC-XPGD46QRK7WJZT7O -j KUBE-SEP-LXVODXWDISEETFEF",
            "-I PREROUTING 1 -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-I OUTPUT 1 -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            "-I POSTROUTING 1 -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING",
            "COMMIT",
        ]
    );
}

/// As many Services as make a tree, and one Service port that a change concerns.
fn many(machine: &mut Machine, count: u16) {
    for i in 0..count {
        let [high, low] = i.to_be_bytes();
        let pods: Vec<String> = (1..4).map(|last| format!("10.{}.{low}.{last}", high + 1)).collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        add(machine, service(&format!("s{i}"), &format!("172.30.{high}.{low}")), &pods);
    }
}

#[test]
fn one_endpoint_writes_three_chains() {
    let mut machine = machine(settings());
    many(&mut machine, 300);
    start(&mut machine, &mut Kernel::new());
    let slice = slice(&mut machine, "s7", &["10.1.7.1", "10.1.7.2", "10.1.7.9"]);
    machine.upsert_slice(slice, vec![]);
    let [text] = &plan(&mut machine)[..] else { panic!("one transaction") };
    let starts = |with: &str| text.lines().filter(|line| line.starts_with(with)).count();
    // The Service's chain, the endpoint that came, and the one that went.
    assert_eq!((starts("*"), starts(":"), starts("-A"), starts("-X")), (1, 3, 6, 1), "{text}");
}

#[test]
fn one_service_more_writes_one_chain_of_the_tree() {
    let mut machine = machine(settings());
    many(&mut machine, 300);
    start(&mut machine, &mut Kernel::new());
    add(&mut machine, service("new", "172.30.200.1"), &["10.9.9.9"]);
    let [text] = &plan(&mut machine)[..] else { panic!("one transaction") };
    assert!(text.lines().filter(|line| line.starts_with(':')).count() <= 4, "{text}");
}

/// While nat and filter are not one, a packet to a known address must never find neither.
#[test]
fn refusals_come_before_and_go_after() {
    let mut machine = machine(Settings { families: vec![Family::V4], ..settings() });
    add(&mut machine, service("falls", "172.30.0.1"), &["10.180.1.1"]);
    add(&mut machine, service("rises", "172.30.0.2"), &[]);
    start(&mut machine, &mut Kernel::new());
    let sections = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.starts_with('*') || line.starts_with("-A KUBE-SERVICES -d"));
        lines.map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" ")).collect()
    };
    let falls = slice(&mut machine, "falls", &[]);
    machine.upsert_slice(falls, vec![]);
    let rises = slice(&mut machine, "rises", &["10.180.1.1"]);
    machine.upsert_slice(rises, vec![]);
    let texts = plan(&mut machine);
    assert_eq!(
        sections(&texts.concat()),
        [
            "*filter",
            "-A KUBE-SERVICES -d 172.30.0.1/32",
            "-A KUBE-SERVICES -d 172.30.0.2/32",
            "*nat",
            "-A KUBE-SERVICES -d 172.30.0.2/32",
            "*filter",
            "-A KUBE-SERVICES -d 172.30.0.1/32",
        ]
    );
}

/// More than fits into one transaction: each of them leaves tables that hold together (the model sees to that), no address
/// is dispatched before the chains that it leads to, and the end is the same as without division.
#[test]
fn large_plans_are_divided() {
    let mut machine = machine(Settings { families: vec![Family::V4], ..settings() });
    many(&mut machine, 700);
    let mut kernel = Kernel::new();
    assert!(start(&mut machine, &mut kernel) > 4);
    let mut rendered = Kernel::new();
    machine.render(None).iter().for_each(|transaction| rendered.apply(transaction).unwrap());
    assert!(kernel == rendered);
    for i in 0..700 {
        machine.delete_service(&name(&format!("s{i}")));
    }
    machine.plan();
    let mut count = 0;
    while let Some(transaction) = machine.next_transaction() {
        kernel.apply(&transaction).unwrap();
        count += 1;
    }
    machine.commit();
    assert!(count > 4);
    assert_eq!(kernel.family(Family::V4).chain("nat", "KUBE-SVC-172.30.0.0/24"), None);
    want_no_family(&mut machine);
    start(&mut machine, &mut kernel);
    assert!(kernel == Kernel::new());
}

#[test]
fn rules_of_others_stay() {
    let mut machine = machine(settings());
    add(&mut machine, service("web", "172.30.0.1"), &["10.180.1.1"]);
    let foreign = "*nat\n:cali-PREROUTING - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n-A cali-PREROUTING -j RETURN\n\
        -A PREROUTING -m comment --comment \"cali:6gwbT8clXdHdC1b1\" -j cali-PREROUTING\nCOMMIT\n\
        *filter\n:KUBE-FIREWALL - [0:0]\n-A KUBE-FIREWALL -j RETURN\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n";
    let mut kernel = Kernel::new();
    kernel.family(Family::V4).apply(foreign).unwrap();
    let before = kernel.clone();
    start(&mut machine, &mut kernel);
    let first = &kernel.family(Family::V4).chain("nat", "PREROUTING").unwrap()[0];
    assert!(first.ends_with("-j KUBE-SERVICES"), "{first}");
    machine.delete_service(&name("web"));
    start(&mut machine, &mut kernel);
    want_no_family(&mut machine);
    start(&mut machine, &mut kernel);
    assert!(kernel == before);
    assert_eq!(start(&mut machine, &mut kernel), 0, "nothing is left to remove");
}

/// kube-proxy's rules, as it writes them for one Service, with chains of a Service that is no more.
const KUBE_PROXY: &str = "*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]
:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]
:KUBE-SVC-GNZBNJ2PO5MGZ6GT - [0:0]
:KUBE-SEP-RS4RBKLTHTF2IUXJ - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O
-A KUBE-SERVICES -d 172.30.0.42/32 -p tcp -m comment --comment \"ns2/svc2:p80 cluster IP\" -m tcp --dport 80 -j KUBE-SVC-GNZBNJ2PO5MGZ6GT
-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment \"ns1/svc1:p80 -> 10.180.0.1:80\" -j KUBE-SEP-SXIVWICOYRO3J4NJ
-A KUBE-SVC-GNZBNJ2PO5MGZ6GT -j KUBE-SEP-RS4RBKLTHTF2IUXJ
-A KUBE-SEP-SXIVWICOYRO3J4NJ -p tcp -m tcp -j DNAT --to-destination 10.180.0.1:80
COMMIT
";

#[test]
fn kube_proxys_rules_are_taken_over() {
    let mut machine = machine(Settings { families: vec![Family::V4], ..settings() });
    let service = Service {
        cluster_ips: vec![ip("172.30.0.41")],
        ports: vec![port("p80", Protocol::Tcp, 80, None)],
        ..Service::new(ObjectName::new("ns1", "svc1"))
    };
    machine.upsert_service(service, vec![]);
    let mut kernel = Kernel::new();
    kernel.family(Family::V4).apply(KUBE_PROXY).unwrap();
    machine.reconcile(kernel.listings());
    let mut texts = String::new();
    while let Some(transaction) = machine.next_transaction() {
        kernel.apply(&transaction).unwrap();
        texts += &transaction.text;
    }
    machine.commit();
    // The jumps that both have are never touched, so there is no moment without rules.
    for kept in ["-D PREROUTING", "-I PREROUTING", "-I POSTROUTING", "-I FORWARD", "-D FORWARD -m comment"] {
        assert!(!texts.contains(kept), "{texts}");
    }
    let mut rendered = Kernel::new();
    machine.render(None).iter().for_each(|transaction| rendered.apply(transaction).unwrap());
    let chains = |kernel: &mut Kernel| -> Vec<String> {
        let listing = kernel.family(Family::V4).listing();
        listing
            .lines()
            .filter(|line| line.starts_with(':') || line.contains("-A KUBE"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(chains(&mut kernel), chains(&mut rendered));
}

/// A chain of ours that somebody else's rule leads to cannot be deleted; the rest of the plan must not fail for it.
#[test]
fn chains_that_others_hold_are_emptied() {
    let mut machine = machine(Settings { families: vec![Family::V4], ..settings() });
    let mut kernel = Kernel::new();
    let held = "*nat\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:theirs-CHAIN - [0:0]\n-A KUBE-SVC-AAAAAAAAAAAAAAAA -j RETURN\n\
        -A theirs-CHAIN -j KUBE-SVC-AAAAAAAAAAAAAAAA\nCOMMIT\n";
    kernel.family(Family::V4).apply(held).unwrap();
    start(&mut machine, &mut kernel);
    assert_eq!(kernel.family(Family::V4).chain("nat", "KUBE-SVC-AAAAAAAAAAAAAAAA"), Some(&[][..]));
    machine.reconcile(kernel.listings());
    assert!(machine.is_empty());
}

#[test]
fn an_audit_finds_drift_and_leaves_what_is_pending() {
    let mut machine = machine(settings());
    let mut kernel = Kernel::new();
    add(&mut machine, service("web", "172.30.0.41"), &["10.180.0.1"]);
    start(&mut machine, &mut kernel);
    assert!(machine.audit(&kernel.listings()));
    add(&mut machine, service("later", "172.30.0.42"), &["10.180.0.2"]);
    assert!(machine.audit(&kernel.listings()), "what is pending is no drift");
    for (of, text) in kernel.listings() {
        let other = kernel.listings().into_iter().filter(|(family, _)| *family != of);
        let line = text.lines().find(|line| line.starts_with("-A KUBE-SERVICES")).unwrap();
        let harmed: Vec<_> = other.chain([(of, text.replace(&format!("{line}\n"), ""))]).collect();
        assert!(!machine.audit(&harmed), "{of:?} without {line}");
    }
    machine.plan();
    let mut operations = 0;
    while let Some(transaction) = machine.next_transaction() {
        operations += transaction.operations;
        kernel.apply(&transaction).unwrap();
    }
    machine.commit();
    assert!(operations > 0 && machine.audit(&kernel.listings()));
}
