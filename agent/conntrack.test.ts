import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import {
  HOST_PORTS,
  isStale,
  sweepFamily,
  type UdpDestinations,
  UdpSweeper,
  udpPortsOf,
} from "./conntrack.ts";
import { type Flow, parseFlow } from "./kernel/conntrack.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "./testing/namespace.ts";

/** Enough for a machine that does other things, too. */
const WAIT = { timeout: 20_000 };

const destinations: UdpDestinations = {
  addresses: new Map([
    ["10.96.0.10:53", new Set(["10.180.0.1:5353"])],
    ["10.96.0.11:53", new Set()],
    ["[fd00::a]:53", new Set(["[fd01::1]:5353"])],
    ["0.0.0.0:5300", new Set(["10.180.0.1:5353"])],
    ["192.168.0.4:5300", new Set(["10.180.0.2:5353"])],
    ["192.168.0.5:5300", new Set()],
  ]),
  nodePorts: new Map([[30053, new Set(["10.180.0.1:5353", "192.168.0.2:5353"])]]),
  nodeAddresses: new Set(["192.168.0.2"]),
  hostPortAddresses: new Set(["192.168.0.2", "192.168.0.4", "192.168.0.5", "fd00::5"]),
};

function flow(
  destination: string,
  destinationPort: number,
  replySource: string,
  replySourcePort: number,
): Flow {
  return { destination, destinationPort, replySource, replySourcePort, zone: 0 };
}

describe("isStale", () => {
  test.each([
    ["answered by a serving endpoint", flow("10.96.0.10", 53, "10.180.0.1", 5353), false],
    ["answered by an endpoint that went away", flow("10.96.0.10", 53, "10.180.0.9", 5353), true],
    ["never translated", flow("10.96.0.10", 53, "10.96.0.10", 53), true],
    ["to a Service without endpoints", flow("10.96.0.11", 53, "10.180.0.1", 5353), true],
    ["to a port that is none of the Service's", flow("10.96.0.10", 54, "10.96.0.10", 54), false],
    ["to an address that is none of ours", flow("8.8.8.8", 53, "8.8.8.8", 53), false],
    ["IPv6, serving", flow("fd00::a", 53, "fd01::1", 5353), false],
    ["IPv6, gone", flow("fd00::a", 53, "fd01::2", 5353), true],
    ["to a node port, serving", flow("192.168.0.2", 30053, "10.180.0.1", 5353), false],
    ["to a node port, gone", flow("192.168.0.2", 30053, "10.180.0.9", 5353), true],
    ["to a node port, endpoint on the node", flow("192.168.0.2", 30053, "192.168.0.2", 5353), false],
    ["to a node port, untranslated", flow("192.168.0.2", 30053, "192.168.0.2", 30053), true],
    ["to a host port, the Pod", flow("192.168.0.2", 5300, "10.180.0.1", 5353), false],
    ["to a host port, another Pod", flow("192.168.0.2", 5300, "10.180.0.9", 5353), true],
    ["to a host port at an address of its own", flow("192.168.0.4", 5300, "10.180.0.1", 5353), true],
    ["to a host port whose own address is gone", flow("192.168.0.5", 5300, "10.180.0.1", 5353), false],
    ["to a host port of the other family", flow("fd00::5", 5300, "fd00::5", 5300), false],
    ["to a host port of another node", flow("192.168.0.3", 5300, "10.180.0.9", 5353), false],
    ["through us to another node's node port", flow("192.168.0.3", 30053, "10.180.0.9", 5353), false],
  ])("%s: %j", (_, given, want) => {
    expect(isStale(given, destinations)).toBe(want);
  });
});

describe("parseFlow", () => {
  test.each([
    [
      "ipv4     2 udp      17 99 src=10.0.0.2 dst=10.96.0.10 sport=1001 dport=53 [UNREPLIED] src=10.180.0.1 dst=192.168.0.2 sport=5353 dport=40000 mark=0 zone=7 use=1",
      { ...flow("10.96.0.10", 53, "10.180.0.1", 5353), zone: 7 },
    ],
    [
      "ipv6     10 udp      17 99 src=fd00::1 dst=fd00::2 sport=1000 dport=53 packets=1 bytes=40 src=fd00::3 dst=fd00::1 sport=53 dport=1000 packets=1 bytes=9 [ASSURED] mark=0 secctx=null use=1",
      flow("fd00::2", 53, "fd00::3", 53),
    ],
    ["", undefined],
    ["conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.", undefined],
  ])("%j", (line, want) => expect(parseFlow(line)).toEqual(want));
});

const MANIFEST = `
apiVersion: v1
kind: Service
metadata: { name: dns, namespace: shop }
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00::a"]
  externalIPs: [203.0.113.9]
  ports:
  - { name: dns, port: 53, protocol: UDP, targetPort: 5353, nodePort: 30053 }
  - { name: dns-tcp, port: 53, protocol: TCP, targetPort: 5353 }
status:
  loadBalancer: { ingress: [{ ip: 203.0.113.1 }, { ip: 203.0.113.2, ipMode: Proxy }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: dns-1, namespace: shop, labels: { kubernetes.io/service-name: dns } }
addressType: IPv4
ports: [{ name: dns, port: 5353, protocol: UDP }, { name: dns-tcp, port: 5353, protocol: TCP }]
endpoints:
- { addresses: [10.180.0.1] }
- { addresses: [10.180.0.2], conditions: { ready: false, serving: true, terminating: true } }
- { addresses: [10.180.0.3], conditions: { ready: false, serving: false } }
`;

test("UDP ports of a Service: its addresses, its node port, serving endpoints", () => {
  const { model } = buildClusterModel(readManifestText(MANIFEST, "test").objects);
  const service = model.services.get("shop/dns");
  if (service === undefined) throw new Error("the manifest lacks shop/dns");
  const slices = model.endpointSlices.get("shop/dns") ?? [];
  const endpoints = new Set(["10.180.0.1:5353", "10.180.0.2:5353"]);
  const dns = {
    destinations: ["10.96.0.10:53", "[fd00::a]:53", "203.0.113.9:53", "203.0.113.1:53"],
    nodePort: 30053,
    endpoints,
  };
  expect(udpPortsOf(service, slices)).toEqual([dns]);
  expect(udpPortsOf(service, slices, [{ protocol: "UDP", port: "dns", nodePort: 5300 }])).toEqual([
    dns,
    { destinations: [], nodePort: 5300, endpoints },
  ]);
  const foreign = { ...service.meta, labels: { "service.kubernetes.io/service-proxy-name": "" } };
  expect(udpPortsOf({ ...service, meta: foreign }, slices)).toEqual([]);
  expect(udpPortsOf({ ...service, clusterIPs: ["None"] }, slices)).toEqual([]);
});

const reason = whyNoKernel(["nft", "conntrack"]);

describe.skipIf(reason !== undefined)(
  `flows in a namespace${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    let space: TestNamespace;
    beforeAll(() => {
      space = makeNamespace("ct");
      space.run("nft add table ip t; nft 'add chain ip t p { type nat hook prerouting priority -100; }'");
    });
    afterAll(() => space.remove());

    let sourcePort = 1_000;
    const insert = (
      [destination, port, answers, answerPort]: readonly [string, number, string, number],
      more = "",
      protocol = "udp",
    ): string =>
      space.run(
        `conntrack -I -p ${protocol} -s 10.0.0.2 -d ${destination} --sport ${sourcePort++} --dport ${port} -t 600 ${
          destination === answers ? "" : `-g ${answers}:${answerPort}`
        } ${more} 2>&1`,
      );
    const left = (): readonly string[] =>
      space
        .run("conntrack -L -o extended 2>/dev/null")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => {
          const parsed = parseFlow(line);
          return `${parsed?.destination}:${parsed?.destinationPort} ${parsed?.replySource}:${parsed?.replySourcePort} ${parsed?.zone}`;
        })
        .sort();

    test("stale flows go, zone by zone; the others, and TCP, stay", async () => {
      insert(["10.96.0.10", 53, "10.180.0.1", 5353]);
      insert(["10.96.0.10", 53, "10.180.0.9", 5353]);
      insert(["10.96.0.10", 53, "10.180.0.9", 5353], "-w 7");
      insert(["10.96.0.10", 53, "10.180.0.1", 5353], "-w 7");
      insert(["10.96.0.10", 53, "10.96.0.10", 53]);
      insert(["10.96.0.10", 54, "10.96.0.10", 54]);
      insert(["10.96.0.11", 53, "10.180.0.1", 5353]);
      insert(["10.96.0.11", 53, "10.180.0.2", 5353]);
      insert(["192.168.0.3", 30053, "10.180.0.9", 5353]);
      insert(["10.96.0.11", 53, "10.180.0.1", 5353], "--state ESTABLISHED", "tcp");
      expect(await sweepFamily("IPv4", () => destinations, space)).toBe(5);
      expect(left()).toEqual([
        "10.96.0.10:53 10.180.0.1:5353 0",
        "10.96.0.10:53 10.180.0.1:5353 7",
        "10.96.0.10:54 10.96.0.10:54 0",
        "10.96.0.11:53 10.180.0.1:5353 0",
        "192.168.0.3:30053 10.180.0.9:5353 0",
      ]);
      space.run("conntrack -F 2>/dev/null");
    });

    test("IPv6", async () => {
      space.run("conntrack -I -p udp -s fd00::1 -d fd00::a --sport 7 --dport 53 -t 600 2>&1");
      space.run("conntrack -I -p udp -s fd00::1 -d fd00::b --sport 7 --dport 53 -t 600 2>&1");
      expect(await sweepFamily("IPv6", () => destinations, space)).toBe(1);
      expect(left()).toEqual(["fd00::b:53 fd00::b:53 0"]);
      space.run("conntrack -F 2>/dev/null");
    });

    /** As the agent tells: what was told is written, and stands. */
    const written = (it: UdpSweeper): void => {
      it.rulesChange();
      it.rulesChanged();
    };
    const sweeper = (): { readonly it: UdpSweeper; readonly deleted: number[] } => {
      const deleted: number[] = [];
      const it = new UdpSweeper({
        families: ["IPv4"],
        nodeAddresses: () => new Set(),
        hostPortAddresses: () => new Set(),
        kernel: { through: space.through },
        onSweep: (_, result) => deleted.push(result.deleted),
        confirmMs: 10,
      });
      return { it, deleted };
    };
    const port = (...endpoints: string[]) => ({
      destinations: ["10.96.0.10:53"],
      endpoints: new Set(endpoints),
    });

    test("an endpoint that goes, the last one that goes, a Service that goes: each time its flows go", async () => {
      const { it, deleted } = sweeper();
      it.update("shop/dns", [port("10.180.0.1:53", "10.180.0.2:53")]);
      written(it);
      for (const [ports, answers] of [
        [[port("10.180.0.1:53")], "10.180.0.2"],
        [[port()], "10.180.0.1"],
        [[], "10.180.0.1"],
      ] as const) {
        insert(["10.96.0.10", 53, answers, 53]);
        it.update("shop/dns", ports);
        written(it);
        await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      }
      await it.close();
      expect(deleted).toContain(1);
    });

    test("a Service that goes while the sweep before is ending has a sweep of its own", async () => {
      let sweeps = 0;
      const it = new UdpSweeper({
        families: ["IPv4"],
        nodeAddresses: () => new Set(),
        hostPortAddresses: () => new Set(),
        kernel: { through: space.through },
        confirmMs: 10,
        onSweep: () => {
          if (++sweeps !== 2) return;
          insert(["10.96.0.10", 53, "10.180.0.1", 53]);
          it.update("shop/dns", []);
          written(it);
        },
      });
      it.update("shop/dns", [port("10.180.0.1:53", "10.180.0.2:53")]);
      written(it);
      it.update("shop/dns", [port("10.180.0.1:53")]);
      written(it);
      await vi.waitFor(() => expect(sweeps).toBeGreaterThan(2), WAIT);
      await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      await it.close();
    });

    test("the second sweep takes what the first one could not see yet, also of a Service that is gone", async () => {
      const { it, deleted } = sweeper();
      it.update("shop/dns", [port("10.180.0.1:53")]);
      written(it);
      it.update("shop/dns", []);
      written(it);
      await vi.waitFor(() => expect(deleted).toHaveLength(1), { ...WAIT, interval: 1 });
      insert(["10.96.0.10", 53, "10.180.0.1", 53]);
      await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      await it.close();
    });

    test("what a refused write may have brought is missed when it does not come again", async () => {
      const { it } = sweeper();
      it.update("shop/dns", [port("10.180.0.1:53")]);
      it.rulesChange();
      // It was refused, and the Service has another address now.
      it.update("shop/dns", [{ ...port("10.180.0.1:53"), destinations: ["10.96.0.12:53"] }]);
      insert(["10.96.0.10", 53, "10.180.0.1", 53]);
      written(it);
      await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      await it.close();
    });

    test("flows are judged by the rules that stand and by those that are being written, not by what comes later", async () => {
      const { it, deleted } = sweeper();
      const [first, second, third] = ["10.180.0.1", "10.180.0.2", "10.180.0.3"] as const;
      it.update("shop/dns", [port(`${first}:53`)]);
      written(it);
      await vi.waitFor(() => expect(deleted).toHaveLength(2), WAIT);
      it.suspectAll();
      it.rulesChanged();
      // Before the sweep begins one endpoint is being written, and another is told.
      it.update("shop/dns", [port(`${second}:53`)]);
      it.rulesChange();
      it.update("shop/dns", [port(`${third}:53`)]);
      for (const answers of [first, second, third]) insert(["10.96.0.10", 53, answers, 53]);
      await vi.waitFor(() => expect(deleted).toHaveLength(4), WAIT);
      expect(deleted.slice(2)).toEqual([1, 0]);
      expect(left().join()).toContain(first);
      expect(left().join()).toContain(second);
      it.rulesChanged();
      await vi.waitFor(() => expect(left().join()).not.toContain(first), WAIT);
      expect(left().join()).toContain(second);
      await it.close();
      space.run("conntrack -F 2>/dev/null");
    });

    test("host ports count from the moment at which their own rules stand", async () => {
      const { it, deleted } = sweeper();
      const told = (pod: string): void =>
        it.update(HOST_PORTS, [{ ...port(`${pod}:53`), destinations: ["192.168.0.2:53"] }]);
      told("10.180.0.1");
      it.rulesChange(HOST_PORTS);
      it.rulesChanged(HOST_PORTS);
      await vi.waitFor(() => expect(deleted).toHaveLength(2), WAIT);
      insert(["192.168.0.2", 53, "10.180.0.1", 53]);
      told("10.180.0.2");
      it.rulesChange(HOST_PORTS);
      // Those of Services are written meanwhile.
      it.update("shop/dns", [port("10.180.0.3:53")]);
      written(it);
      await vi.waitFor(() => expect(deleted).toHaveLength(4), WAIT);
      expect(left()).toHaveLength(1);
      it.rulesChanged(HOST_PORTS);
      await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      await it.close();
    });

    test("a sweep that was due does not run beside the one that is asked for", async () => {
      let [running, most] = [0, 0];
      const it = new UdpSweeper({
        families: ["IPv4"],
        nodeAddresses: () => {
          most = Math.max(most, ++running);
          return new Set();
        },
        hostPortAddresses: () => new Set(),
        kernel: { through: ["sh", "-c", 'sleep 0.3; exec "$@"', "sh", ...space.through] },
        onSweep: () => --running,
      });
      it.update(HOST_PORTS, [port("10.180.0.1:53")]);
      it.rulesChange(HOST_PORTS);
      it.rulesChanged(HOST_PORTS);
      await it.sweepNow();
      expect({ running, most }).toEqual({ running: 0, most: 1 });
      await it.close();
    });

    test("a steady stream of changes does not put the sweep off for ever", async () => {
      const { it } = sweeper();
      it.update("shop/dns", [port("10.180.0.1:53")]);
      written(it);
      insert(["10.96.0.10", 53, "10.180.0.9", 53]);
      let at = 0;
      const stream = setInterval(() => {
        const endpoints = new Set([`10.180.1.${++at}:53`]);
        it.update("shop/other", [{ destinations: ["10.96.0.11:53"], endpoints }]);
        written(it);
      }, 20);
      try {
        await vi.waitFor(() => expect(left()).toEqual([]), WAIT);
      } finally {
        clearInterval(stream);
      }
      await it.close();
    });

    test("changes that leave nothing behind start no sweep", async () => {
      const { it, deleted } = sweeper();
      it.update("shop/dns", [port("10.180.0.1:53")]);
      written(it);
      await vi.waitFor(() => expect(deleted).toHaveLength(2), WAIT);
      vi.useFakeTimers();
      try {
        it.update("shop/dns", [port("10.180.0.1:53", "10.180.0.2:53")]);
        written(it);
        it.update("shop/dns", [port("10.180.0.1:53", "10.180.0.2:53")]);
        written(it);
        expect(vi.getTimerCount()).toBe(0);
        it.update("shop/dns", [port("10.180.0.2:53")]);
        written(it);
        expect(vi.getTimerCount()).toBe(1);
      } finally {
        vi.useRealTimers();
      }
      await it.close();
    });
  },
);
