import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { parseObject } from "../cluster/objects/parse.ts";
import { parseCounts, parseOwners } from "./kernel/nft-counters.ts";
import { CachedCounters, type Counters, ownersFrom, readCounters } from "./service-counters.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "./testing/namespace.ts";

test("counts, several in a line", () => {
  expect(
    parseCounts(
      "\t\telements = { 8000:6000 counter packets 3 bytes 180, 8001:10 counter packets 0 bytes 0 }",
    ),
  ).toEqual([
    { number: 0x8000_6000, packets: 3 },
    { number: 0x8001_0010, packets: 0 },
  ]);
  expect(parseCounts("\t\tflags dynamic")).toEqual([]);
});

test("owners of numbers, of addresses and node ports", () => {
  const lines = [
    "\t\ttype ipv4_addr . inet_proto . inet_service : classid",
    '\t\telements = { 172.30.0.41 . 17 . 53 comment "shop/web/udp/dns" : 8000:6001,',
    '\t\t\t     fd01::41 . 6 . 80 comment "shop/web/tcp" : 8000:8002 }',
    '\t\telements = { 6 . 30080 comment "shop/web/tcp/http" : 8000:4012, 6 . 30081 comment "shop/odd/tcp" : 8000:e014 }',
  ];
  expect(lines.flatMap(parseOwners)).toEqual([
    { number: 0x8000_6000, label: "shop/web/udp/dns" },
    { number: 0x8000_8000, label: "shop/web/tcp" },
    { number: 0x8000_4010, label: "shop/web/tcp/http" },
    { number: 0x8000_e010, label: "shop/odd/tcp" },
  ]);
});

const nothing: Counters = {
  services: [],
  refusals: [],
  masqueraded: new Map(),
  invalid: new Map(),
  rules: [],
};

test("one reading serves all who ask at once, and those who ask soon after", async () => {
  let readings = 0;
  const counters = new CachedCounters({
    read: async () => {
      readings++;
      await new Promise((resolve) => setTimeout(resolve, 50));
      return nothing;
    },
  });
  expect(await Promise.all([counters.get(), counters.get()])).toEqual([nothing, nothing]);
  await counters.get();
  expect(readings).toBe(1);
});

test("a program that fails or hangs costs its counters only: those that were read last are told", async () => {
  const stop = new AbortController();
  const { signal } = stop;
  const masquerading: Counters = { ...nothing, masqueraded: new Map([["IPv4", 3]]) };
  const readings: (() => Promise<Counters>)[] = [
    async () => readCounters("nftables", ["IPv4"], { through: ["false"] }),
    async () => readCounters("nftables", ["IPv4"], { through: ["false"] }),
    async () => masquerading,
    async () => readCounters("nftables", ["IPv4"], { through: ["sh", "-c", "exec sleep 600"], signal }),
  ];
  const failures: string[] = [];
  const counters = new CachedCounters({
    read: () => (readings.shift() ?? (async () => nothing))(),
    onFailure: (message, isAgain) => failures.push(`${isAgain ? "again: " : ""}${message}`),
    patienceMs: 50,
    share: 1,
  });
  expect(await counters.get()).toBeUndefined();
  expect(await counters.get()).toBeUndefined();
  expect(failures).toEqual([expect.stringMatching(/^nft /), `again: ${failures[0]}`]);
  expect(await counters.get()).toEqual(masquerading);
  // It hangs; who asks again waits as long again, and for the same one.
  expect(await counters.get()).toEqual(masquerading);
  expect(await counters.get()).toEqual(masquerading);
  expect(readings).toEqual([]);
  stop.abort();
  await vi.waitFor(() => expect(failures).toHaveLength(3), { timeout: 15_000 });
  expect(failures[2]).toMatch(/stopped/);
  expect(await counters.get()).toEqual(nothing);
});

const reason = whyNoKernel(["nft"]);

describe.skipIf(reason !== undefined)(`in a namespace${reason === undefined ? "" : ` (${reason})`}`, () => {
  let space: TestNamespace;
  beforeAll(() => {
    space = makeNamespace("count");
  });
  afterAll(() => space.remove());

  test("connections by Service port, refusals by chain; nothing where there is no table", async () => {
    expect(await readCounters("nftables", ["IPv4", "IPv6"], space)).toEqual({
      services: [],
      refusals: [],
      masqueraded: new Map(),
      invalid: new Map(),
      rules: [],
    });
    space.run(`nft -f - <<'END'
add table ip fairlead
add map ip fairlead service-ips { type ipv4_addr . inet_proto . inet_service : classid; }
add map ip fairlead service-nodeports { type inet_proto . inet_service : classid; }
add set ip fairlead connections { type classid; size 524288; flags dynamic; }
add element ip fairlead service-ips { 127.0.0.9 . udp . 5353 comment "shop/web/udp/dns" : 0x80006000 }
add element ip fairlead service-ips { 127.0.0.10 . udp . 5353 comment "shop/web/udp/dns" : 0x80006002 }
add element ip fairlead service-ips { 127.0.0.8 . udp . 5353 comment "shop/idle/udp/dns" : 0x80008000 }
add chain ip fairlead no-endpoints
add chain ip fairlead service
add chain ip fairlead services
add chain ip fairlead output { type nat hook output priority -100; policy accept; }
add rule ip fairlead no-endpoints counter drop
add rule ip fairlead services meta priority set ip daddr . meta l4proto . th dport map @service-ips goto service
add rule ip fairlead service update @connections { meta priority & 0xffffe010 counter }
add rule ip fairlead service goto no-endpoints
add rule ip fairlead output jump services
add chain ip fairlead postrouting { type nat hook postrouting priority 100; policy accept; }
add rule ip fairlead postrouting meta mark 1 counter masquerade
END`);
    space.run(`bash -c 'for i in 9 10 10; do echo x > /dev/udp/127.0.0.$i/5353 || true; done' 2>/dev/null`);
    expect(await readCounters("nftables", ["IPv4"], space)).toEqual({
      services: [
        {
          family: "IPv4",
          namespace: "shop",
          service: "web",
          protocol: "udp",
          port: "dns",
          through: "address",
          connections: 3,
        },
      ],
      refusals: [{ family: "IPv4", reason: "no-endpoints", connections: 3 }],
      masqueraded: new Map([["IPv4", 0]]),
      invalid: new Map(),
      rules: [],
    });
  });
});

test("iptables: by the comments that kube-proxy's rules have", async () => {
  const rules = `*nat
[5:300] -A KUBE-SERVICES -d 172.30.0.41/32 -p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
[0:0] -A KUBE-SERVICES -d 172.30.0.43/32 -p tcp -m comment --comment "shop/idle cluster IP" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKM
[2:120] -A KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
[1:60] -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
[9:9] -A OTHER -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j KUBE-EXT-CDGGSHYLG3RE2FKL
COMMIT`;
  const filter = `*filter
[4:240] -A KUBE-SERVICES -d 172.30.0.42/32 -p tcp -m comment --comment "shop/empty has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
[3:180] -A KUBE-SERVICES -d 172.30.0.44/32 -p tcp -m comment --comment "shop/far has no local endpoints" -m tcp --dport 80 -j DROP
[7:420] -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
[2:120] -A KUBE-SERVICES -d 198.51.100.9/32 -p tcp -m comment --comment "shop/lb:http traffic not accepted by KUBE-FW-725HGKZRJ7FIV26U" -m tcp --dport 80 -j DROP
COMMIT`;
  const script = `case "$3" in nat) echo '${rules}';; filter) echo '${filter}';; esac`;
  const through = ["sh", "-c", `shift 0; ${script}`];
  const counters = await readCounters("iptables", ["IPv4"], { through });
  expect(counters).toEqual({
    services: [
      {
        family: "IPv4",
        namespace: "shop",
        service: "web",
        protocol: "tcp",
        port: "http",
        through: "address",
        connections: 5,
      },
      {
        family: "IPv4",
        namespace: "shop",
        service: "web",
        protocol: "tcp",
        port: "http",
        through: "node port",
        connections: 2,
      },
    ],
    refusals: [
      { family: "IPv4", reason: "no-endpoints", connections: 4 },
      { family: "IPv4", reason: "no-local-endpoints", connections: 3 },
      { family: "IPv4", reason: "source-not-allowed", connections: 2 },
    ],
    masqueraded: new Map([["IPv4", 1]]),
    invalid: new Map([["IPv4", 7]]),
    rules: [
      { family: "IPv4", table: "nat", rules: 4 },
      { family: "IPv4", table: "filter", rules: 4 },
    ],
  });
});

test("IPVS: virtual servers by the objects of the cluster, node ports summed up, marks by who has them", async () => {
  const servers = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  172.30.0.41:80                      5       30       25     2000     9000
  -> 10.180.0.1:8080                     5       30       25     2000     9000
TCP  192.0.2.1:30080                     2       12       10      800     3600
TCP  198.51.100.1:30080                  1        6        5      400     1800
UDP  172.30.0.43:53                      0        0        0        0        0
SCTP 172.30.0.49:9000                    9        9        9        9        9
TCP  [fd00:172:30::41]:80                4       24       20     1600     7200
FWM  2701131776                          3       18       15     1200     5400
FWM  2701131776 IPv6                     6       18       15     1200     5400
FWM  77                                  8        8        8        8        8
`;
  const sets = `create KUBE-IPVS-IN-CLUSTER hash:ip,port family inet hashsize 1024 maxelem 1048576 skbinfo
add KUBE-IPVS-IN-CLUSTER 192.0.2.1,tcp:30081 skbmark 0xa1000000
add KUBE-IPVS-IN-CLUSTER 203.0.113.9,tcp:80 skbmark 0xa1000000
create KUBE-6-IPVS-IN-CLUSTER hash:ip,port family inet6 hashsize 1024 maxelem 1048576 skbinfo
add KUBE-6-IPVS-IN-CLUSTER 2001:db8::9,tcp:80 skbmark 0xa1000000
`;
  const rules = `*mangle
[4:240] -A KUBE-PROXY-FIREWALL -m set --match-set KUBE-IPVS-NO-LOCAL dst,dst -j DROP
[9:540] -A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN
[2:120] -A KUBE-SOURCE-RANGES-FIREWALL -j DROP
COMMIT
*filter
[1:60] -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
[3:180] -A KUBE-IPVS-FILTER -p tcp -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
[5:300] -A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE --random-fully
[6:360] -A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`;
  const { model } = buildClusterModel(
    objectsOf(
      { metadata: { name: "web", namespace: "shop" }, spec: spec("172.30.0.41", "fd00:172:30::41") },
      {
        metadata: { name: "lb", namespace: "shop" },
        spec: { ...spec("172.30.0.42", "fd00:172:30::42"), type: "LoadBalancer" },
        status: { loadBalancer: { ingress: [{ ip: "203.0.113.9" }, { ip: "2001:db8::9" }] } },
      },
    ),
  );
  const script = `case "$0" in ipvsadm) echo '${servers}';; ipset) echo '${sets}';; iptables-save) echo '${rules}';; esac`;
  const counters = await readCounters("ipvs", ["IPv4", "IPv6"], {
    through: ["sh", "-c", script],
    owners: () => ownersFrom(model, []),
  });
  const of = (service: string, family: string, through: string, connections: number) => {
    const [namespace, name] = ["shop", service];
    return { family, protocol: "tcp", namespace, service: name, port: "http", through, connections };
  };
  expect(counters).toEqual({
    services: [
      of("web", "IPv4", "address", 5),
      of("web", "IPv4", "node port", 3),
      {
        family: "IPv4",
        protocol: "sctp",
        namespace: "",
        service: "172.30.0.49:9000",
        port: "",
        through: "address",
        connections: 9,
      },
      of("web", "IPv6", "address", 4),
      of("lb", "IPv4", "address", 3),
      of("lb", "IPv6", "address", 6),
    ],
    refusals: [
      { family: "IPv4", reason: "no-local-endpoints", connections: 4 },
      { family: "IPv4", reason: "source-not-allowed", connections: 2 },
      { family: "IPv4", reason: "undefined-port", connections: 3 },
    ],
    masqueraded: new Map([
      ["IPv4", 11],
      ["IPv6", 0],
    ]),
    invalid: new Map([
      ["IPv4", 1],
      ["IPv6", 0],
    ]),
    rules: [],
  });
});

function spec(...clusterIPs: readonly string[]) {
  const nodePort = clusterIPs.includes("172.30.0.41") ? 30_080 : 30_081;
  return { clusterIPs, ports: [{ name: "http", port: 80, protocol: "TCP", nodePort }] };
}

function objectsOf(...services: readonly object[]) {
  return services.flatMap(
    (service) => parseObject({ apiVersion: "v1", kind: "Service", ...service }, "test").objects,
  );
}
