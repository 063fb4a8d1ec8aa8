/**
 * What load balancers, dashboards and operators ask of a running agent, asked over the wire: health checks of Services
 * and of the node, metrics and the mode. The answers are kube-proxy's, byte for byte where programs read them.
 */
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, type HostName, hostPort, namespaceOf } from "./addresses.ts";
import { describeNode, eventually, type NodeUnderTest, serviceWith } from "./node-under-test.ts";
import type { EndpointText } from "./services.ts";

const SERVICE_PORT = 31_999;
const NODE_PORT = 10_256;
const METRICS_PORT = 10_249;

interface Answer {
  /** `refused` where nobody listens, `broken` where somebody stopped to while we asked. */
  readonly status: number | "refused" | "broken";
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

async function get(node: NodeUnderTest, from: HostName, url: string): Promise<Answer> {
  const { lab } = node;
  const { code, stdout, stderr } = await lab.namespaces.run(namespaceOf(from), "curl", [
    ...["--silent", "--show-error", "--globoff", "--noproxy", "*", "--max-time", "3", "--include", url],
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
