import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseElement } from "./kernel/nft-counters.ts";
import { CachedCounters, type Counters, readCounters } from "./service-counters.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "./testing/namespace.ts";

test.each([
  [
    '\t\telements = { 172.30.0.41 . 17 . 53 counter packets 3 bytes 180 comment "shop/web/udp/dns" : 8000:6000,',
    { key: "172.30.0.41 . 17 . 53", connections: 3, label: "shop/web/udp/dns" },
  ],
  [
    '\t\t\t     fd01::41 . 6 . 80 counter packets 0 bytes 0 comment "shop/web/tcp" : 8000:6000 }',
    { key: "fd01::41 . 6 . 80", connections: 0, label: "shop/web/tcp" },
  ],
  [
    '\t\telements = { 6 . 30080 counter packets 12 bytes 720 comment "shop/web/tcp/http" : 8000:4002 }',
    { key: "6 . 30080", connections: 12, label: "shop/web/tcp/http" },
  ],
  ["\t\tcounter", undefined],
  ["\t\ttype ipv4_addr . inet_proto . inet_service : classid", undefined],
])("%s", (line, count) => {
  expect(parseElement(line)).toEqual(count);
});

test("one reading serves all who ask at once, and those who ask soon after", async () => {
  let readings = 0;
  const nothing: Counters = { services: [], refusals: [], masqueraded: new Map(), rules: [] };
  const counters = new CachedCounters(async () => {
    readings++;
    await new Promise((resolve) => setTimeout(resolve, 50));
    return nothing;
  });
  expect(await Promise.all([counters.get(), counters.get()])).toEqual([nothing, nothing]);
  await counters.get();
  expect(readings).toBe(1);
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
      rules: [],
    });
    space.run(`nft -f - <<'END'
add table ip fairlead
add map ip fairlead service-ips { type ipv4_addr . inet_proto . inet_service : classid; counter; }
add map ip fairlead service-nodeports { type inet_proto . inet_service : classid; counter; }
add element ip fairlead service-ips { 127.0.0.9 . udp . 5353 comment "shop/web/udp/dns" : 0x80006000 }
add element ip fairlead service-ips { 127.0.0.8 . udp . 5353 comment "shop/idle/udp/dns" : 0x80006000 }
add chain ip fairlead no-endpoints
add chain ip fairlead services
add chain ip fairlead output { type nat hook output priority -100; policy accept; }
add rule ip fairlead no-endpoints counter drop
add rule ip fairlead services meta priority set ip daddr . meta l4proto . th dport map @service-ips goto no-endpoints
add rule ip fairlead output jump services
add chain ip fairlead postrouting { type nat hook postrouting priority 100; policy accept; }
add rule ip fairlead postrouting meta mark 1 counter masquerade
END`);
    space.run(`bash -c 'for i in 1 2 3; do echo x > /dev/udp/127.0.0.9/5353 || true; done' 2>/dev/null`);
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
    rules: [
      { family: "IPv4", table: "nat", rules: 4 },
      { family: "IPv4", table: "filter", rules: 3 },
    ],
  });
});
