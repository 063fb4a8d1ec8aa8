/** Outbound policy and host ports on a kernel: a Pod, a node and the world, each in a namespace, joined by veth pairs. */

import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { buildClusterModel } from "../../cluster/build.ts";
import { readManifestText } from "../../cluster/files.ts";
import type { Pod } from "../../cluster/model.ts";
import type { BackendName } from "../backends/backend.ts";
import { hostPortRules } from "../host-ports/rules.ts";
import { removeLeftovers } from "../leftovers.ts";
import { policyFromCidrs, readPolicy } from "../outbound/policy.ts";
import { outboundRules } from "../outbound/rules.ts";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../testing/namespace.ts";
import { type SideRulesByFamily, SideRulesKeeper } from "./keeper.ts";

/** Every question starts two programs, on a machine that others use too. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

function podsOf(yaml: string): readonly Pod[] {
  return [...buildClusterModel(readManifestText(yaml, "test").objects).model.pods.values()];
}

const PODS = podsOf(`
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web }, creationTimestamp: "2026-01-01T00:00:00Z" }
spec:
  nodeName: n1
  containers: [{ name: c, ports: [{ containerPort: 8080, hostPort: 8000 }, { containerPort: 5353, hostPort: 5300, hostIP: 192.0.2.1, protocol: UDP }] }]
status: { phase: Running, podIP: 10.180.0.10, podIPs: [{ ip: 10.180.0.10 }, { ip: "fd00:180::10" }] }
---
apiVersion: v1
kind: Pod
metadata: { name: late, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z" }
spec: { nodeName: n1, containers: [{ name: c, ports: [{ containerPort: 80, hostPort: 8000 }] }] }
status: { phase: Running, podIP: 10.180.0.11 }
---
apiVersion: v1
kind: Pod
metadata: { name: elsewhere, namespace: shop }
spec: { nodeName: n2, containers: [{ name: c, ports: [{ containerPort: 80, hostPort: 8001 }] }] }
status: { phase: Running, podIP: 10.180.1.11 }
`);

describe("the outbound policy", () => {
  test("a file in ip-masq-agent's format, with fixed sources", () => {
    const reading = readPolicy(
      "nonMasqueradeCIDRs: [10.0.0.0/8, 'fd00::/8']\nmasqLinkLocal: true\nresyncInterval: 60s\negress: [{namespace: shop, podLabels: {app: web}, sourceIPs: [192.0.2.7]}]\n",
      true,
    );
    expect(reading).toEqual({
      kind: "policy",
      policy: {
        nonMasqueradeCidrs: ["10.0.0.0/8", "fd00::/8"],
        masqueradeLinkLocal: { IPv4: true, IPv6: false },
        egress: [{ namespace: "shop", podLabels: { app: "web" }, sourceIps: { IPv4: "192.0.2.7" } }],
        randomFully: true,
      },
    });
    expect(readPolicy("", true)).toMatchObject({ kind: "policy" });
  });

  test.each([
    ["nonMasqueradeCIDRs: [10.0.0.0]", "nonMasqueradeCIDRs[0]"],
    ["nonMasqueradeCidrs: []", "nonMasqueradeCidrs: no such key"],
    ["masqLinkLocal: yes please", "masqLinkLocal"],
    ["egress: [{sourceIPs: [192.0.2.7]}]", "a namespace or podLabels"],
    ["egress: [{namespace: a, sourceIPs: [192.0.2.7, 192.0.2.8]}]", "one address of each family"],
    ["- 1", "a map of keys"],
    ["a: [", "no YAML"],
  ])("%s is refused with a sentence", (yaml, sentence) => {
    const reading = readPolicy(yaml, true);
    expect(reading.kind === "wrong" && reading.problems.join("; ")).toContain(sentence);
  });

  test("a family without ranges is left alone; an address that the node does not own is told", () => {
    const { rules } = outboundRules(policyFromCidrs(["10.0.0.0/8"], true), PODS, "n1", () => true);
    expect(Object.keys(rules)).toEqual(["IPv4"]);
    const reading = readPolicy("egress: [{namespace: shop, sourceIPs: [192.0.2.9]}]", true);
    if (reading.kind !== "policy") throw new Error("not read");
    expect(outboundRules(reading.policy, PODS, "n1", () => false).notes).toEqual([
      "egress: this node does not own 192.0.2.9, so Pods that shall leave by it get another address of the node",
    ]);
  });
});

test("a Pod that has come to its end has neither a source address nor a host port; one that is ending sends on", () => {
  const job = (name: string, rest: string): readonly Pod[] =>
    podsOf(`
apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: billing${rest.includes("phase") ? "" : ', deletionTimestamp: "2026-01-03T00:00:00Z"'} }
spec: { nodeName: n1, containers: [{ name: c, ports: [{ containerPort: 80, hostPort: 8000 }] }] }
status: { podIP: 10.180.0.10${rest} }
`);
  const reading = readPolicy("egress: [{namespace: billing, sourceIPs: [192.0.2.7]}]", true);
  if (reading.kind !== "policy") throw new Error("not read");
  for (const phase of ["Succeeded", "Failed"]) {
    const ended = job("invoice", `, phase: ${phase}`);
    expect(outboundRules(reading.policy, ended, "n1", () => true).rules.IPv4?.nftBody, phase).not.toContain(
      "10.180.0.10",
    );
    expect(hostPortRules(ended, "n1").rules, phase).toEqual({});
  }
  const ending = job("ending", "");
  expect(outboundRules(reading.policy, ending, "n1", () => true).rules.IPv4?.nftBody).toContain(
    "10.180.0.10 : 192.0.2.7",
  );
  expect(hostPortRules(ending, "n1").rules).toEqual({});
});

test("the older of two Pods has the host port", () => {
  const { rules, notes } = hostPortRules(PODS, "n1");
  expect(notes).toEqual(["Pod shop/late: hostPort 8000/TCP belongs to the older Pod shop/web"]);
  expect(rules.IPv4?.nftBody).toContain("8000 : 10.180.0.10 . 8080");
  expect(rules.IPv4?.nftBody).not.toContain("10.180.1.11");
  expect(Object.keys(rules)).toEqual(["IPv4", "IPv6"]);
});

const reason = whyNoKernel(["nft", "iptables", "conntrack", "python3"]);
const BACKENDS = ["nftables", "iptables"] as const satisfies readonly BackendName[];

describe.skipIf(reason !== undefined).each(BACKENDS)(
  `%s in namespaces${reason === undefined ? "" : ` (${reason})`}`,
  (backend) => {
    let node: TestNamespace;
    let pod: TestNamespace;
    let world: TestNamespace;

    beforeAll(() => {
      [node, pod, world] = [makeNamespace("node"), makeNamespace("pod"), makeNamespace("world")];
      const join = (
        other: TestNamespace,
        link: string,
        inner: string,
        outer: string,
        inner6: string,
        outer6: string,
      ): void => {
        node.run(`ip link add ${link} type veth peer name eth0 netns ${other.name}`);
        node.run(
          `ip addr add ${inner} dev ${link}; ip -6 addr add ${inner6} dev ${link} nodad; ip link set ${link} up`,
        );
        other.run(
          `ip addr add ${outer} dev eth0; ip -6 addr add ${outer6} dev eth0 nodad; ip link set eth0 up`,
        );
        other.run(
          `ip route add default via ${inner.split("/")[0]}; ip -6 route add default via ${inner6.split("/")[0]}`,
        );
      };
      join(pod, "pod0", "10.180.0.1/24", "10.180.0.10/24", "fd00:180::1/64", "fd00:180::10/64");
      join(world, "world0", "192.0.2.1/24", "192.0.2.99/24", "2001:db8::1/64", "2001:db8::99/64");
      node.run("ip addr add 192.0.2.7/24 dev world0");
      node.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    });
    afterAll(() => {
      for (const space of [node, pod, world]) space.remove();
    });

    const keeper = (name: "snat" | "hostports", rules: SideRulesByFamily): SideRulesKeeper => {
      const made = new SideRulesKeeper({ name, backend, families: ["IPv4", "IPv6"], kernel: node });
      made.want(rules);
      return made;
    };

    /** One datagram there and its answer; who the asked one has seen: its client's address. */
    const ask = (
      from: TestNamespace,
      at: TestNamespace,
      listen: string,
      to: string,
      port: number,
      listenPort = port,
    ): string => {
      const family = to.includes(":") ? "AF_INET6" : "AF_INET";
      const server = `import socket,sys\ns=socket.socket(socket.${family},socket.SOCK_DGRAM);s.bind(("${listen}",${listenPort}));s.settimeout(30)\nd,a=s.recvfrom(99);s.sendto(a[0].encode(),a)`;
      const client = `import socket\nc=socket.socket(socket.${family},socket.SOCK_DGRAM);c.settimeout(0.25)\nfor i in range(80):\n  c.sendto(b"x",("${to}",${port}))\n  try:\n    print(c.recvfrom(99)[0].decode());break\n  except OSError: pass\nelse: print("silent")`;
      return execFileSync(
        "sh",
        [
          "-c",
          `ip netns exec ${at.name} python3 -c '${server}' & ip netns exec ${from.name} python3 -c '${client}'; wait`,
        ],
        { encoding: "utf8" },
      ).trim();
    };

    /** Connections one after another until `stop`, which tells how many each client address has had, and each error. */
    const connectAll = async (
      from: TestNamespace,
      at: TestNamespace,
      listen: string,
      listenPort: number,
      to: string,
      port: number,
    ): Promise<{ readonly stop: () => Promise<Readonly<Record<string, number>>> }> => {
      // Either ends when nobody writes to it any more, also where the test has ended early.
      const server = `import socket,sys,threading
s=socket.create_server(("${listen}",${listenPort}),backlog=512)
def serve():
  while True:
    c,a=s.accept();c.sendall(a[0].encode());c.close()
threading.Thread(target=serve,daemon=True).start()
print("listening",flush=True)
sys.stdin.read()`;
      const client = `import socket,sys,json,threading,collections
seen=collections.Counter()
stop=threading.Event()
threading.Thread(target=lambda:(sys.stdin.read(),stop.set())).start()
print("started",flush=True)
while not stop.is_set():
  try:
    with socket.create_connection(("${to}",${port}),5) as c: seen[c.recv(99).decode()]+=1
  except OSError as e: seen[type(e).__name__]+=1
print(json.dumps(seen))`;
      const start = async (space: TestNamespace, script: string, first: string) => {
        const child = spawn("ip", ["netns", "exec", space.name, "python3", "-c", script], {
          stdio: ["pipe", "pipe", "inherit"],
        });
        const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
        expect((await lines.next()).value).toBe(first);
        return { child, lines };
      };
      const asked = await start(at, server, "listening");
      const asking = await start(from, client, "started");
      const stop = async (): Promise<Readonly<Record<string, number>>> => {
        asking.child.stdin.end();
        const seen: Readonly<Record<string, number>> = JSON.parse((await asking.lines.next()).value ?? "");
        asked.child.stdin.end();
        return seen;
      };
      return { stop };
    };

    test("what leaves the cluster has an address of the node, a fixed one where the policy says so", async () => {
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7001)).toBe("10.180.0.10");
      const plain = outboundRules(policyFromCidrs(["10.0.0.0/8", "fd00::/8"], true), PODS, "n1", () => true);
      const snat = keeper("snat", plain.rules);
      expect(await snat.write()).toBe(true);
      expect(await snat.write()).toBe(false);
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7002)).toBe("192.0.2.1");
      expect(ask(pod, world, "2001:db8::99", "2001:db8::99", 7002)).toBe("2001:db8::1");
      const keep = outboundRules(
        policyFromCidrs(["10.0.0.0/8", "192.0.2.0/24"], true),
        PODS,
        "n1",
        () => true,
      );
      snat.want(keep.rules);
      expect(await snat.write()).toBe(true);
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7003)).toBe("10.180.0.10");
      expect(ask(pod, world, "2001:db8::99", "2001:db8::99", 7003)).toBe("fd00:180::10");

      const fixed = readPolicy(
        "egress: [{namespace: shop, podLabels: {app: web}, sourceIPs: [192.0.2.7]}]\nnonMasqueradeCIDRs: [10.0.0.0/8]",
        true,
      );
      if (fixed.kind !== "policy") throw new Error("not read");
      snat.want(outboundRules(fixed.policy, PODS, "n1", () => true).rules);
      expect(await snat.write()).toBe(true);
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7004)).toBe("192.0.2.7");

      // A restart writes nothing; somebody else's hand is noticed.
      const again = keeper("snat", outboundRules(fixed.policy, PODS, "n1", () => true).rules);
      expect(await again.write()).toBe(false);
      node.run(
        backend === "nftables"
          ? "nft flush chain ip fairlead-snat postrouting"
          : "iptables -t nat -F FAIRLEAD-SNAT",
      );
      expect(await again.write()).toBe(true);
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7005)).toBe("192.0.2.7");
    });

    test("a rule or a jump in whose place somebody has put another one is put back", async () => {
      const policy = readPolicy(
        "egress: [{namespace: shop, podLabels: {app: web}, sourceIPs: [192.0.2.7]}]\nnonMasqueradeCIDRs: [10.0.0.0/8]",
        true,
      );
      if (policy.kind !== "policy") throw new Error("not read");
      const snat = keeper("snat", outboundRules(policy.policy, PODS, "n1", () => true).rules);
      await snat.write();
      const list = (): string =>
        node.run(
          backend === "nftables" ? "nft list table ip fairlead-snat" : "iptables-save -t nat | grep FAIRLEAD",
        );
      const whole = list();
      const harms =
        backend === "nftables"
          ? ["nft delete element ip fairlead-snat sources '{ 10.180.0.10 : 192.0.2.7 }'"]
          : [
              "iptables -t nat -R FAIRLEAD-SNAT 5 -s 10.180.0.10/32 -j ACCEPT",
              "iptables -t nat -R POSTROUTING 1 -s 10.9.9.9/32 -j FAIRLEAD-SNAT",
              'iptables -t nat -R POSTROUTING 1 -s 10.9.9.9/32 -m comment --comment "fairlead outbound policy" -j FAIRLEAD-SNAT',
            ];
      for (const harm of harms) {
        node.run(harm);
        expect(list(), harm).not.toBe(whole);
        expect(await snat.write(), harm).toBe(true);
        // A jump without our comment may be anybody's.
        const own = list()
          .split("\n")
          .filter((line) => !line.endsWith("-s 10.9.9.9/32 -j FAIRLEAD-SNAT"));
        expect(own.join("\n"), harm).toBe(whole);
        expect(await snat.write(), harm).toBe(false);
        if (backend === "iptables")
          node.run("iptables -t nat -D POSTROUTING -s 10.9.9.9/32 -j FAIRLEAD-SNAT || true");
      }
      expect(ask(pod, world, "192.0.2.99", "192.0.2.99", 7006)).toBe("192.0.2.7");
    });

    test("host ports lead to the Pod, which sees the client; a Pod reaches itself", async () => {
      const ports = keeper("hostports", hostPortRules(PODS, "n1").rules);
      expect(await ports.write()).toBe(true);
      expect(await ports.write()).toBe(false);
      expect(ask(world, pod, "10.180.0.10", "192.0.2.1", 5300, 5353)).toBe("192.0.2.99");
      expect(ask(pod, pod, "10.180.0.10", "192.0.2.1", 5300, 5353)).toBe("10.180.0.1");
    });

    test("rules that are written anew refuse nobody meanwhile, and send nobody out by another address", async () => {
      const other = podsOf(`
apiVersion: v1
kind: Pod
metadata: { name: other, namespace: other, creationTimestamp: "2026-01-03T00:00:00Z" }
spec: { nodeName: n1, containers: [{ name: c, ports: [{ containerPort: 80, hostPort: 8002 }] }] }
status: { phase: Running, podIP: 10.180.0.12 }
`);
      const policy = readPolicy(
        "egress: [{sourceIPs: [192.0.2.7], podLabels: {app: web}}, {sourceIPs: [192.0.2.1], namespace: other}]\nnonMasqueradeCIDRs: [10.0.0.0/8]",
        true,
      );
      if (policy.kind !== "policy") throw new Error("not read");
      const snat = keeper("snat", {});
      const ports = keeper("hostports", {});
      const write = async (pods: readonly Pod[]): Promise<void> => {
        snat.want(outboundRules(policy.policy, pods, "n1", () => true).rules);
        ports.want(hostPortRules(pods, "n1").rules);
        expect([await snat.write(), await ports.write()]).toEqual([true, true]);
      };
      await write([...PODS, ...other]);
      const loads = [
        await connectAll(world, pod, "10.180.0.10", 8080, "192.0.2.1", 8000),
        await connectAll(pod, world, "192.0.2.99", 8088, "192.0.2.99", 8088),
      ];
      for (let turn = 0; turn < 40; turn++) await write(turn % 2 === 0 ? PODS : [...PODS, ...other]);
      const [inbound, outbound] = await Promise.all(loads.map(({ stop }) => stop()));
      // Who was asked has seen these clients.
      expect(Object.keys(inbound ?? {})).toEqual(["192.0.2.99"]);
      expect(Object.keys(outbound ?? {})).toEqual(["192.0.2.7"]);
      expect(node.run("nft list tables")).not.toContain("stand-in");
    });

    if (backend === "nftables")
      test("what an agent was killed beside goes with the next look, and the rules stay", async () => {
        const { rules } = hostPortRules(PODS, "n1");
        await keeper("hostports", rules).write();
        const tables = node.run("nft list tables");
        node.run(
          "nft add table ip fairlead-hostports-stand-in; nft add chain ip fairlead-hostports-stand-in c",
        );
        expect(await keeper("hostports", rules).write()).toBe(true);
        expect(node.run("nft list tables")).toBe(tables);
        node.run("nft add table ip6 fairlead-snat-stand-in");
        await removeLeftovers(backend, ["hostports"], node);
        expect(node.run("nft list tables")).not.toContain("stand-in");
      });

    test("rule sets that are no longer in use are removed, those that are stay", async () => {
      const held = (): string =>
        node
          .run("nft list ruleset; iptables-save -t nat")
          .match(/fairlead-(?:snat|hostports)|FAIRLEAD-\w+/g)
          ?.join(" ") ?? "";
      expect((await removeLeftovers(backend, ["snat", "hostports"], node)).removed).toEqual([]);
      await removeLeftovers(backend, ["hostports"], node);
      expect(held()).toMatch(/hostports/i);
      expect(held()).not.toMatch(/snat/i);
      await removeLeftovers(undefined, [], node);
      expect(held()).toBe("");
    });
  },
);
