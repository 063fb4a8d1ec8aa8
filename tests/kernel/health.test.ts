/**
 * What load balancers, dashboards and operators ask of a running agent, asked over the wire: health checks of Services
 * and of the node, metrics and the mode. The answers are kube-proxy's, byte for byte where programs read them.
 */
import { rename, rm, writeFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { type DualAddress, FAMILIES, HOSTS, type HostName, hostPort, namespaceOf } from "./addresses.ts";
import { NODES, nodeObject, objectsOf, writeObjects } from "./manifest.ts";
import { describeNode, eventually, type NodeUnderTest, serviceWith } from "./node-under-test.ts";
import type { EndpointText } from "./services.ts";

const SERVICE_PORT = 31_999;
const NODE_PORT = 10_256;
const METRICS_PORT = 10_249;
const NODE_A = { name: "node-a", zone: "zone-a", podCIDRs: ["10.180.0.0/24", "fd00:10:180::/64"] } as const;

interface Answer {
  /** `refused` where nobody listens, `broken` where somebody stopped to while we asked. */
  readonly status: number | "refused" | "broken";
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

async function get(node: NodeUnderTest, from: HostName, url: string, seconds = 3): Promise<Answer> {
  const { lab } = node;
  const { code, stdout, stderr } = await lab.namespaces.run(namespaceOf(from), "curl", [
    ...["--silent", "--show-error", "--globoff", "--noproxy", "*", "--include"],
    ...["--max-time", String(seconds), url],
  ]);
  // 7: could not connect. 52, 56: the connection ended before an answer.
  if (code === 7) return { status: "refused", headers: new Map(), body: "" };
  if (code === 52 || code === 56) return { status: "broken", headers: new Map(), body: "" };
  if (code !== 0) throw new Error(`curl ${url} ended with ${code}: ${stderr}`);
  const [head = "", ...rest] = stdout.split("\r\n\r\n");
  const [first = "", ...lines] = head.split("\r\n");
  const headers = lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  return { status: Number(first.split(" ")[1]), headers: new Map(headers), body: rest.join("\r\n\r\n") };
}

/** A program of the agent is this shell script, until what is returned is called. */
async function replaceProgram(
  node: NodeUnderTest,
  name: string,
  script: string,
): Promise<() => Promise<void>> {
  const file = node.agent.file(name);
  const aside = node.agent.file(`${name}.aside`);
  await rename(file, aside).catch(() => {});
  await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return async () => {
    await rm(file);
    await rename(aside, file).catch(() => {});
  };
}

describeNode("health and metrics", ["nftables", "iptables-legacy"], (node, { backend }) => {
  const start = async (endpoints: readonly EndpointText[]) => {
    await node().write([serviceWith("lb-local", endpoints)]);
    const agent = node().start();
    await node().until("10.180.0.11:8080", "client", "lb-local vip http");
    return agent;
  };
  const check = (family: (typeof FAMILIES)[number] = "ipv4") =>
    get(node(), "client", `http://${hostPort(HOSTS["node-a"][family], SERVICE_PORT)}/any/path`);
  const untilStatus = (status: Answer["status"]) =>
    eventually(check, (answer) => answer.status === status, `the health check to be ${status}`);

  it("the health check of a Service follows its ready endpoints here", async () => {
    const agent = await start(["a1", "b1"]);
    await untilStatus(200);
    for (const family of FAMILIES) {
      const { status, headers, body } = await check(family);
      expect(status).toBe(200);
      expect(headers.get("content-type")).toBe("application/json");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("x-load-balancing-endpoint-weight")).toBe("1");
      expect(body).toBe(
        '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "lb-local"\n\t},\n\t"localEndpoints": 1,\n\t"serviceProxyHealthy": true\n}',
      );
      expect(headers.get("content-length")).toBe(String(body.length));
    }

    await node().write([serviceWith("lb-local", ["a1 terminating", "b1"])]);
    await untilStatus(503);
    const { headers, body } = await check();
    expect(headers.get("x-load-balancing-endpoint-weight")).toBe("0");
    expect(JSON.parse(body)).toMatchObject({ localEndpoints: 0, serviceProxyHealthy: true });
    // Taken out of the load balancer, while those that still come are served.
    expect(await node().ask("client", "lb-local vip http")).toBe("10.180.0.11:8080");

    await node().write([]);
    await untilStatus("refused");
    await agent.end("SIGTERM");
  });

  it("the health check of a Service follows the node's addresses", async () => {
    const service = objectsOf(serviceWith("lb-local", ["a1"]));
    const at = (...addresses: readonly DualAddress[]) =>
      writeObjects(node().manifest, [nodeObject({ ...NODE_A, addresses }), ...NODES.slice(1), ...service]);
    const until = (host: HostName, status: Answer["status"], family: (typeof FAMILIES)[number] = "ipv4") =>
      eventually(
        () => get(node(), "client", `http://${hostPort(HOSTS[host][family], SERVICE_PORT)}/`),
        (answer) => answer.status === status,
        `the health check at ${host} to be ${status} by ${family}`,
        30,
      );
    await at(HOSTS["node-a"]);
    const primary = node().start("--nodeport-addresses", "primary");
    for (const family of FAMILIES) await until("node-a", 200, family);
    await at(HOSTS["node-a-second"]);
    for (const family of FAMILIES) {
      await until("node-a-second", 200, family);
      await until("node-a", "refused", family);
    }
    // An address that nobody has yet keeps none of the others.
    await at({ ipv4: "192.168.100.77", ipv6: HOSTS["node-a"].ipv6 });
    await until("node-a", 200, "ipv6");
    await eventually(
      async () => primary.output,
      (said) => said.includes(`healthCheckNodePort ${SERVICE_PORT} cannot be listened to at 192.168.100.77`),
      "the address to be told of",
    );
    await primary.end("SIGTERM");

    // A range chooses among what the interfaces have, whatever the Node says; looked at from time to time.
    await at(HOSTS["node-a"]);
    const ranges = node().start("--nodeport-addresses", "192.168.0.0/24,192.168.77.0/24");
    await until("node-a", 200);
    const address = (verb: "add" | "delete") =>
      node().lab.namespaces.must("node-a", "ip", ["address", verb, "192.168.77.2/32", "dev", "eth1"]);
    await address("add");
    await eventually(
      () => get(node(), "node-a", `http://192.168.77.2:${SERVICE_PORT}/`),
      (answer) => answer.status === 200,
      "the health check to be at the new address",
      30,
    );
    await address("delete");
    await ranges.end("SIGTERM");
  });

  const metrics = () =>
    get(node(), "loopback", `http://${hostPort(HOSTS.loopback.ipv4, METRICS_PORT)}/metrics`, 15);

  const startReady = async () => {
    const agent = await start(["a1"]);
    await eventually(
      async () => agent.output,
      (said) => said.includes("ready\n"),
      "the agent to be ready",
    );
    return agent;
  };

  it("programs that hang keep no metrics back", async () => {
    const agent = await startReady();
    const program = backend === "nftables" ? "nft" : "iptables-save";
    const restore = await replaceProgram(node(), program, "exec sleep 30");
    try {
      const { status, body } = await metrics();
      expect(status).toBe(200);
      expect(body).toMatch(/^kubeproxy_sync_proxy_rules_duration_seconds_count/m);
    } finally {
      await restore();
    }
    await agent.end("SIGKILL");
  });

  if (backend === "iptables")
    it("one family's program that fails is told of that one", async () => {
      const agent = await startReady();
      const restore = await replaceProgram(node(), "ip6tables-restore", "cat >/dev/null; exit 1");
      try {
        await node().write([serviceWith("lb-local", ["a2"])]);
        await node().until("10.180.0.12:8080", "client", "lb-local vip http");
        const failures = 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} ';
        const { body } = await eventually(
          metrics,
          ({ body }) => body.includes(failures) && !body.includes(`${failures}0`),
          "a failure of IPv6",
        );
        expect(body).toContain(`${failures.replace("IPv6", "IPv4")}0\n`);
      } finally {
        await restore();
      }
      await node().until("[fd00:10:180::12]:8080", "client", "lb-local vip http", "ipv6");
      await agent.end("SIGTERM");
    });

  it("the node tells its health and its mode", async () => {
    const agent = await start(["a1"]);
    for (const path of ["healthz", "livez"]) {
      const url = `http://${hostPort(HOSTS["node-a"].ipv4, NODE_PORT)}/${path}`;
      const { body } = await eventually(
        () => get(node(), "client", url),
        ({ status }) => status === 200,
        `/${path} to say that all is well`,
      );
      expect(JSON.parse(body)).toHaveProperty("lastUpdated");
    }
    const local = (path: string) =>
      get(node(), "loopback", `http://${hostPort(HOSTS.loopback.ipv4, METRICS_PORT)}/${path}`);
    await eventually(
      () => local("proxyMode"),
      ({ status }) => status === 200,
      "the metrics server",
    );
    expect(await local("proxyMode")).toMatchObject({ status: 200, body: backend });
    const { body } = await local("metrics");
    for (const name of [
      "kubeproxy_sync_proxy_rules_duration_seconds_count",
      "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
      "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
      "kubeproxy_network_programming_duration_seconds_count",
    ]) {
      expect(body).toMatch(new RegExp(`^${name}[{ ]`, "m"));
    }
    expect(
      (await get(node(), "client", `http://${hostPort(HOSTS["node-a"].ipv4, METRICS_PORT)}/metrics`)).status,
    ).toBe("refused");
    await agent.end("SIGTERM");
  });
});
