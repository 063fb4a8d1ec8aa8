//! Single changes, to the letter.

use super::cluster::*;
use super::kernel::Kernel;
use crate::balance::{Balance, Scheduler, Weights};
use crate::diff::{Program, Transaction};
use crate::machine::Machine;
use crate::model::Protocol::*;
use crate::model::*;
use std::collections::BTreeMap;
use std::fmt::Write;

fn one_family() -> Settings {
    Settings { families: vec![crate::address::Family::V4], ..settings() }
}

fn started(services: Vec<(Service, &[&str])>) -> (Machine, Kernel) {
    let mut machine = machine(one_family());
    for (service, endpoints) in services {
        add(&mut machine, service, endpoints);
    }
    let mut kernel = Kernel::default();
    machine.plan();
    kernel.carry_out(&mut machine);
    (machine, kernel)
}

fn told(transactions: &[crate::diff::Transaction]) -> String {
    transactions.iter().fold(String::new(), |mut text, transaction| {
        let _ = write!(text, "# {}\n{}", transaction.program.name(), transaction.text);
        text
    })
}

fn change(
    machine: &mut Machine,
    kernel: &mut Kernel,
    of: &str,
    protocol: Protocol,
    endpoints: &[&str],
) -> String {
    let slice = slice(machine, of, protocol, endpoints);
    machine.upsert_slice(slice, vec![]);
    machine.plan();
    told(&kernel.carry_out(machine))
}

#[test]
fn a_service_comes_endpoints_first_and_goes_address_first() {
    let (mut machine, mut kernel) = started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1"])]);
    let mut second = service("second", "172.30.0.2", Udp);
    second.affinity_seconds = Some(600);
    add(&mut machine, second, &["10.180.0.2", "10.180.0.1"]);
    machine.plan();
    assert_eq!(
        told(&kernel.carry_out(&mut machine)),
        "# ipset-restore\n\
         add KUBE-CLUSTER-IP 172.30.0.2,udp:80 -exist\n\
         add KUBE-LOOP-BACK 10.180.0.1,udp:8080,10.180.0.1 -exist\n\
         add KUBE-LOOP-BACK 10.180.0.2,udp:8080,10.180.0.2 -exist\n\
         add KUBE-IPVS-IPS 172.30.0.2 -exist\n\
         # ipvsadm-restore\n\
         -A -u 172.30.0.2:80 -s rr -p 600\n\
         -a -u 172.30.0.2:80 -r 10.180.0.1:8080 -m -w 1\n\
         -a -u 172.30.0.2:80 -r 10.180.0.2:8080 -m -w 1\n\
         # ip-batch\n\
         address replace 172.30.0.2/32 dev kube-ipvs0\n"
    );
    machine.delete_service(&ObjectName::new("default", "second"));
    machine.plan();
    assert_eq!(
        told(&kernel.carry_out(&mut machine)),
        "# ip-batch\n\
         address delete 172.30.0.2/32 dev kube-ipvs0\n\
         # ipvsadm-restore\n\
         -D -u 172.30.0.2:80\n\
         # ipset-restore\n\
         del KUBE-CLUSTER-IP 172.30.0.2,udp:80 -exist\n\
         del KUBE-LOOP-BACK 10.180.0.1,udp:8080,10.180.0.1 -exist\n\
         del KUBE-LOOP-BACK 10.180.0.2,udp:8080,10.180.0.2 -exist\n\
         del KUBE-IPVS-IPS 172.30.0.2 -exist\n"
    );
}

#[test]
fn an_endpoint_that_leaves_waits_for_its_connections() {
    let (mut machine, mut kernel) =
        started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1", "10.180.0.2"])]);
    let gone = change(&mut machine, &mut kernel, "web", Tcp, &["10.180.0.1"]);
    assert!(gone.contains("-e -t 172.30.0.1:80 -r 10.180.0.2:8080 -m -w 0\n"), "{gone}");

    kernel.waiting_connections = 1;
    machine.drain(&kernel.servers());
    assert!(machine.is_empty(), "it has a connection");
    machine.commit();
    machine.reconcile(kernel.listings());
    assert!(machine.is_empty(), "an audit finds nothing wrong with it");
    machine.rollback();

    // It comes back before they have ended.
    let back = change(&mut machine, &mut kernel, "web", Tcp, &["10.180.0.1", "10.180.0.2"]);
    assert!(back.contains("-e -t 172.30.0.1:80 -r 10.180.0.2:8080 -m -w 1\n"), "{back}");
    change(&mut machine, &mut kernel, "web", Tcp, &["10.180.0.1"]);

    // A restart in between, with nothing but the listing to know from.
    let mut restarted = super::cluster::machine(one_family());
    add(&mut restarted, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    restarted.reconcile(kernel.listings());
    assert!(restarted.is_empty());
    restarted.commit();
    kernel.waiting_connections = 0;
    restarted.drain(&kernel.servers());
    assert_eq!(
        told(&kernel.carry_out(&mut restarted)),
        "# ipvsadm-restore\n-d -t 172.30.0.1:80 -r 10.180.0.2:8080\n"
    );
    restarted.drain(&kernel.servers());
    assert!(restarted.is_empty());
}

#[test]
fn udp_does_not_wait() {
    let (mut machine, mut kernel) =
        started(vec![(service("dns", "172.30.0.1", Udp), &["10.180.0.1", "10.180.0.2"])]);
    let gone = change(&mut machine, &mut kernel, "dns", Udp, &["10.180.0.1"]);
    assert!(gone.contains("-d -u 172.30.0.1:80 -r 10.180.0.2:8080\n"), "{gone}");
}

#[test]
fn schedulers_come_from_annotations_weights_and_the_setting() {
    let scheduler = |change: fn(&mut Service, &mut Names), default: Option<Scheduler>| {
        let mut machine = machine(Settings { ipvs_scheduler: default, ..one_family() });
        let mut service = service("web", "172.30.0.1", Tcp);
        change(&mut service, &mut machine.names);
        add(&mut machine, service, &["10.180.0.1", "10.180.0.2"]);
        let mut kernel = Kernel::default();
        machine.plan();
        kernel.carry_out(&mut machine);
        let (options, reals) = &kernel.servers["-t 172.30.0.1:80"];
        format!("{options} {:?}", reals.values().collect::<Vec<_>>())
    };
    assert_eq!(scheduler(|_, _| {}, None), "-s rr [1, 1]");
    assert_eq!(scheduler(|_, _| {}, Scheduler::parse("lc")), "-s lc [1, 1]");
    assert_eq!(
        scheduler(|service, _| service.scheduler = Scheduler::parse("nq"), Scheduler::parse("lc")),
        "-s nq [1, 1]"
    );
    assert_eq!(
        scheduler(|service, _| service.balance = Balance::SourceHash, Scheduler::parse("lc")),
        "-s sh -b sh-fallback [1, 1]"
    );
    assert_eq!(
        scheduler(|service, _| service.balance = Balance::Maglev, None),
        "-s mh -b mh-fallback,mh-port [1, 1]"
    );
    let weigh = |service: &mut Service, names: &mut Names| {
        service.weights = Weights::parse("10.180.0.1=30,*=10", names).ok();
    };
    assert_eq!(scheduler(weigh, None), "-s wrr [3, 1]");
}

#[test]
fn what_is_somebody_elses_stays() {
    let mut kernel = Kernel::default();
    for key in ["-t 192.168.0.2:443", "-t 172.30.9.9:80", "-f 7"] {
        kernel.servers.insert(key.to_owned(), ("-s rr".to_owned(), [("10.9.9.9:443".to_owned(), 1)].into()));
    }
    // On the dummy link, and so ours but for the setting.
    kernel.has_link = true;
    kernel.addresses = ["172.30.9.9/32".to_owned(), "172.30.8.8/32".to_owned()].into();
    kernel.servers.insert("-t 172.30.8.8:80".to_owned(), ("-s rr".to_owned(), [].into()));
    let mut machine = machine(Settings { ipvs_excluded: vec![cidr("172.30.9.0/24")], ..one_family() });
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    machine.reconcile(kernel.listings());
    kernel.carry_out(&mut machine);
    let keys: Vec<&str> = kernel.servers.keys().map(String::as_str).collect();
    assert_eq!(keys, ["-f 7", "-t 172.30.0.1:80", "-t 172.30.9.9:80", "-t 192.168.0.2:443"]);
    assert_eq!(
        kernel.addresses.iter().map(String::as_str).collect::<Vec<_>>(),
        ["172.30.0.1/32", "172.30.9.9/32"]
    );
}

#[test]
fn a_link_that_is_down_is_raised_without_an_address_of_its_own() {
    let (_, kernel) = started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1"])]);
    let mut machine = machine(one_family());
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    let down =
        kernel.listings().into_iter().map(|(family, text)| (family, text.replace(",UP,LOWER_UP>", ">")));
    machine.reconcile(down.collect());
    let told = told(&kernel.clone().carry_out(&mut machine));
    assert!(told.contains("link set kube-ipvs0 addrgenmode none\nlink set kube-ipvs0 up\n"), "{told}");
}

#[test]
fn rules_that_translate_in_our_chains_serve_until_ipvs_can() {
    let (_, wanted) = started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1"])]);
    let mut kernel = Kernel::default();
    let nat = kernel.tables.entry((4, "nat".to_owned())).or_default();
    nat.insert(
        "KUBE-SERVICES".to_owned(),
        vec!["-A KUBE-SERVICES -d 172.30.0.1/32 -j KUBE-SVC-X".to_owned()],
    );
    let mut machine = machine(one_family());
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    machine.reconcile(kernel.listings());
    let transactions = kernel.carry_out(&mut machine);
    let place = |program: Program, part: &str| {
        let is_it = |one: &Transaction| one.program == program && one.text.contains(part);
        transactions.iter().position(is_it).unwrap_or_else(|| panic!("no {part} in {}", told(&transactions)))
    };
    let nat = place(Program::IptablesRestore, "*nat");
    assert!(
        place(Program::IptablesRestore, "*filter") < place(Program::IpvsadmRestore, "-A -t 172.30.0.1:80")
    );
    assert!(place(Program::IpvsadmRestore, "-a -t 172.30.0.1:80") < nat);
    assert!(place(Program::IpBatch, "address replace 172.30.0.1/32") < nat);
    assert_eq!(kernel, wanted);

    // Where nobody serves, what is masqueraded is known before the first packet comes.
    let mut machine = self::machine(one_family());
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    let mut kernel = Kernel::default();
    machine.reconcile(kernel.listings());
    let transactions = kernel.carry_out(&mut machine);
    let nat = transactions.iter().position(|one| one.text.contains("*nat")).unwrap();
    let servers = transactions.iter().position(|one| one.program == Program::IpvsadmRestore).unwrap();
    assert!(nat < servers, "{}", told(&transactions));
}

#[test]
fn sets_of_kube_proxy_are_replaced_in_service() {
    let (_, wanted) = started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1"])]);
    let mut kernel = wanted.clone();
    let (header, _) = kernel.sets.get_mut("KUBE-CLUSTER-IP").unwrap();
    *header = "hash:ip,port family inet hashsize 1024 maxelem 65536".to_owned();
    let mut machine = machine(one_family());
    add(&mut machine, service("web", "172.30.0.1", Tcp), &["10.180.0.1"]);
    machine.reconcile(kernel.listings());
    let transactions = kernel.carry_out(&mut machine);
    assert_eq!(transactions.len(), 1, "{}", told(&transactions));
    assert_eq!(kernel, wanted);
}

/// The lines of transactions that have a word in them.
fn lines_with(transactions: &[Transaction], word: &str) -> Vec<String> {
    let lines = transactions.iter().flat_map(|transaction| transaction.text.lines());
    lines.filter(|line| line.contains(word)).map(str::to_owned).collect()
}

fn checked(port: Option<u16>) -> Service {
    let mut service = service("web", "172.30.0.1", Tcp);
    service.cluster_ips.push(ip("fd00:172:30::1"));
    service.external_policy = Policy::Local;
    service.load_balancer_ips = vec![ip("198.51.100.3")];
    service.health_check_node_port = port;
    service
}

#[test]
fn health_checks_are_let_in_at_ports_of_a_set() {
    let mut machine = machine(settings());
    add(&mut machine, checked(Some(32100)), &["10.180.0.1"]);
    let mut kernel = Kernel::default();
    machine.plan();
    let made = kernel.carry_out(&mut machine);
    assert_eq!(
        lines_with(&made, "HEALTH-CHECK"),
        [
            "create KUBE-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535 -exist",
            "create KUBE-6-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535 -exist",
            "add KUBE-HEALTH-CHECK-NODE-PORT 32100 -exist",
            "add KUBE-6-HEALTH-CHECK-NODE-PORT 32100 -exist",
            "-A KUBE-IPVS-FILTER -p tcp -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN",
            "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT",
            "-A KUBE-IPVS-FILTER -p tcp -m set --match-set KUBE-6-HEALTH-CHECK-NODE-PORT dst -j RETURN",
            "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-6-HEALTH-CHECK-NODE-PORT dst -j ACCEPT",
        ]
    );
    machine.upsert_service(checked(Some(32101)), vec![]);
    machine.plan();
    assert_eq!(
        told(&kernel.carry_out(&mut machine)),
        "# ipset-restore\n\
         add KUBE-HEALTH-CHECK-NODE-PORT 32101 -exist\n\
         add KUBE-6-HEALTH-CHECK-NODE-PORT 32101 -exist\n\
         # ipset-restore\n\
         del KUBE-HEALTH-CHECK-NODE-PORT 32100 -exist\n\
         del KUBE-6-HEALTH-CHECK-NODE-PORT 32100 -exist\n"
    );
    machine.upsert_service(checked(None), vec![]);
    machine.plan();
    assert_eq!(
        told(&kernel.carry_out(&mut machine)),
        "# ipset-restore\n\
         del KUBE-HEALTH-CHECK-NODE-PORT 32101 -exist\n\
         del KUBE-6-HEALTH-CHECK-NODE-PORT 32101 -exist\n"
    );
}

#[test]
fn health_checks_of_kube_proxy_are_taken_over_and_those_of_a_version_without_them_are_added() {
    let start = || {
        let mut machine = machine(settings());
        add(&mut machine, checked(Some(32100)), &["10.180.0.1"]);
        machine
    };
    let mut machine = start();
    let mut wanted = Kernel::default();
    machine.plan();
    wanted.carry_out(&mut machine);
    let filter = (4, "filter".to_owned());

    // As kube-proxy has them: its words, a port of a Service that is gone.
    let mut kernel = wanted.clone();
    kernel.sets.get_mut("KUBE-HEALTH-CHECK-NODE-PORT").unwrap().1.insert("32199".to_owned(), String::new());
    let chains = kernel.tables.get_mut(&filter).unwrap();
    *chains.get_mut("KUBE-NODE-PORT").unwrap() = vec!["-A KUBE-NODE-PORT -m comment --comment \"Kubernetes health check node port\" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT".to_owned()];
    let mut machine = start();
    machine.reconcile(kernel.listings());
    let transactions = kernel.carry_out(&mut machine);
    assert_eq!(transactions.len(), 2, "{}", told(&transactions));
    assert_eq!(kernel, wanted);

    // As a version without them leaves the node.
    let mut kernel = wanted.clone();
    kernel.sets.retain(|name, _| !name.contains("HEALTH-CHECK"));
    for ((_, name), table) in &mut kernel.tables {
        table.values_mut().for_each(|rules| {
            rules.retain(|rule| !rule.contains("HEALTH-CHECK") && !rule.contains("health check"))
        });
        if name == "filter" {
            table.remove("KUBE-NODE-PORT");
        }
    }
    let mut machine = start();
    machine.reconcile(kernel.listings());
    kernel.carry_out(&mut machine);
    let sorted = |mut kernel: Kernel| {
        // The jump is put before those that are there.
        kernel.tables.values_mut().flat_map(BTreeMap::values_mut).for_each(|rules| rules.sort());
        kernel
    };
    assert_eq!(sorted(kernel), sorted(wanted));
}

#[test]
fn drift_is_repaired_by_as_little_as_it_takes() {
    let (mut machine, wanted) =
        started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1", "10.180.0.2"])]);
    type Damage = (&'static str, fn(&mut Kernel));
    let damages: [Damage; 7] = [
        ("real server", |kernel| drop(kernel.servers.get_mut("-t 172.30.0.1:80").unwrap().1.pop_first())),
        ("scheduler", |kernel| kernel.servers.get_mut("-t 172.30.0.1:80").unwrap().0 = "-s mh".to_owned()),
        ("virtual server", |kernel| drop(kernel.servers.pop_first())),
        ("address", |kernel| kernel.addresses.clear()),
        ("element", |kernel| kernel.sets.get_mut("KUBE-CLUSTER-IP").unwrap().1.clear()),
        ("rule", |kernel| {
            drop(
                kernel
                    .tables
                    .get_mut(&(4, "nat".to_owned()))
                    .unwrap()
                    .get_mut("KUBE-POSTROUTING")
                    .unwrap()
                    .pop(),
            )
        }),
        ("jump", |kernel| {
            kernel.tables.get_mut(&(4, "nat".to_owned())).unwrap().get_mut("OUTPUT").unwrap().clear()
        }),
    ];
    for (name, damage) in damages {
        let mut kernel = wanted.clone();
        damage(&mut kernel);
        machine.reconcile(kernel.listings());
        let transactions = kernel.carry_out(&mut machine);
        assert_eq!(transactions.len(), 1, "{name}: {}", told(&transactions));
        assert_eq!(kernel, wanted, "{name}");
    }
}

#[test]
fn without_a_wanted_family_nothing_of_ours_is_left() {
    let mut local = service("local", "172.30.0.3", Sctp);
    local.external_policy = Policy::Local;
    local.ports[0].node_port = Some(30003);
    let mut tcp = service("tcp", "172.30.0.4", Tcp);
    tcp.ports[0].node_port = Some(30004);
    let (mut machine, mut kernel) = started(vec![(local, &["10.180.0.1"]), (tcp, &["10.180.0.1"])]);
    let others = kernel.tables.get_mut(&(4, "nat".to_owned())).unwrap().get_mut("OUTPUT").unwrap();
    others.push("-A OUTPUT -j ACCEPT".to_owned());
    configure(&mut machine, Settings { families: vec![], ..settings() });
    machine.reconcile(kernel.listings());
    kernel.carry_out(&mut machine);
    assert!(kernel.servers.is_empty() && kernel.sets.is_empty() && !kernel.has_link, "{kernel:#?}");
    let rules: Vec<&String> = kernel.tables.values().flat_map(|table| table.values().flatten()).collect();
    assert_eq!(rules, ["-A OUTPUT -j ACCEPT"]);
    machine.reconcile(kernel.listings());
    assert!(machine.is_empty());
}

#[test]
fn an_audit_finds_drift_and_leaves_what_is_pending() {
    let (mut machine, mut kernel) = started(vec![(service("web", "172.30.0.1", Tcp), &["10.180.0.1"])]);
    assert!(machine.audit(&kernel.listings()));
    add(&mut machine, service("later", "172.30.0.2", Tcp), &["10.180.0.2"]);
    assert!(machine.audit(&kernel.listings()), "what is pending is no drift");
    let harmed: Vec<_> = kernel
        .listings()
        .into_iter()
        .map(|(of, text)| (of, text.replace("10.180.0.1", "10.180.0.9")))
        .collect();
    assert_ne!(harmed, kernel.listings());
    assert!(!machine.audit(&harmed));
    machine.plan();
    assert!(!kernel.carry_out(&mut machine).is_empty());
    assert!(machine.audit(&kernel.listings()));
}
