import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

/** Each test starts several processes, on a machine that others use too. */
vi.setConfig({ testTimeout: 90_000 });

const COMMAND = join(import.meta.dirname, "..", "..", "bin", "fairlead.mjs");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fairlead-nat-"));
  writeFileSync(join(folder, "cluster.yaml"), CLUSTER);
});
afterAll(() => rmSync(folder, { recursive: true }));

const CLUSTER = `
apiVersion: v1
kind: Node
metadata: { name: n1 }
status: { addresses: [{ type: InternalIP, address: 192.168.0.2 }, { type: InternalIP, address: "fd00::2" }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  type: NodePort
  clusterIPs: [172.30.0.41, "fd01::41"]
  ports: [{ name: http, port: 80, nodePort: 30080 }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-4, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: [10.180.0.12] }, { addresses: [10.180.0.11] }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-6, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv6
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: ["fd00:1::11"] }]
---
apiVersion: v1
kind: Service
metadata: { name: empty, namespace: shop }
spec: { clusterIP: 172.30.0.42, ports: [{ port: 80 }] }
`;

interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function fairlead(args: readonly string[], input = ""): Promise<Finished> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [COMMAND, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
    child.stdin?.end(input);
  });
}

const nat = (verb: "render" | "trace", ...args: readonly string[]): Promise<Finished> =>
  fairlead(["nat", verb, "-f", join(folder, "cluster.yaml"), "--node", "n1", ...args]);

describe("trace", () => {
  test("JSON has these keys, in this order, and sorted endpoints", async () => {
    const { code, stdout } = await nat("trace", "--from", "10.180.0.1", "--to", "172.30.0.41:80", "--json");
    expect(code).toBe(0);
    const answer = JSON.parse(stdout) as Record<string, unknown>;
    expect(Object.keys(answer)).toEqual(["verdict", "endpoints", "masquerade", "rules"]);
    expect(answer).toMatchObject({
      verdict: "dnat",
      endpoints: ["10.180.0.11:8080", "10.180.0.12:8080"],
      masquerade: false,
    });
    expect(JSON.stringify(answer.rules)).toContain("Service shop/web port http");
  });

  test.each([
    ["10.180.0.1", "172.30.0.42:80", "reject"],
    ["203.0.113.9", "192.168.0.2:30080", "dnat"],
    ["203.0.113.9", "192.168.0.2:30081", "untouched"],
    ["fd00:1::1", "[fd01::41]:80", "dnat"],
  ])("%s → %s: %s", async (from, to, verdict) => {
    const { stdout } = await nat("trace", "--from", from, "--to", to, "--json");
    expect(JSON.parse(stdout)).toMatchObject({ verdict });
    const text = await nat("trace", "--from", from, "--to", to);
    expect(text.stdout).toMatch(new RegExp(`^verdict +${verdict}`, "m"));
  });

  test("many packets, a line each, in step even where a line is wrong", async () => {
    const packets =
      "10.180.0.1 172.30.0.41:80 tcp\nnonsense\n10.180.0.1 172.30.0.42 icmp\n\n10.0.0.1 10.0.0.2:53 udp\n";
    const path = join(folder, "packets");
    writeFileSync(path, packets);
    const fromFile = await nat("trace", "--packets", path);
    const piped = await fairlead(
      ["nat", "trace", "-f", join(folder, "cluster.yaml"), "--node", "n1", "--packets", "-", "--json"],
      packets,
    );
    expect(piped.stdout).toBe(fromFile.stdout);
    const answers = piped.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly verdict?: string; readonly error?: string });
    expect(answers.map(({ verdict }) => verdict)).toEqual(["dnat", undefined, "reject", "untouched"]);
    expect(answers[1]?.error).toBe('line 2: "nonsense" is not FROM TO PROTO [INTERFACE].');
  });
});

test("render prints what the backend's program takes, by family", async () => {
  const both = await nat("render");
  expect(both.code).toBe(0);
  expect(both.stdout).toContain("add table ip fairlead");
  expect(both.stdout).toContain("add table ip6 fairlead");
  const one = await nat("render", "--family", "ipv6");
  expect(one.stdout).toContain("fd01::41");
  expect(one.stdout).not.toContain("172.30.0.41");
});

test("what the compiler finds is told on stderr, and costs the younger Service its address alone", async () => {
  const service = (name: string, created: string, clusterIP: string) => `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop, creationTimestamp: "${created}" }
spec: { clusterIP: ${clusterIP}, externalIPs: [203.0.113.50], ports: [{ port: 80 }] }
---`;
  const path = join(folder, "conflict.yaml");
  writeFileSync(
    path,
    service("young", "2025-01-02T00:00:00Z", "172.30.0.43") +
      service("old", "2024-01-02T00:00:00Z", "172.30.0.44"),
  );
  for (const more of [["render"], ["trace", "--from", "10.0.0.1", "--to", "203.0.113.50:80"]]) {
    const { code, stderr } = await fairlead(["nat", ...more, "-f", path, "--node", "n1"]);
    expect(stderr).toMatch(/203\.0\.113\.50:80\/tcp.*shop\/old.*shop\/young/);
    expect(code).toBe(0);
  }
});

describe("wrong usage", () => {
  test.each([
    [["trace", "--node", "n1"], 2, "--from IP and --to IP:PORT are needed"],
    [["trace", "--node", "n1", "--from", "10.0.0.1", "--to", "[fd00::1]:80"], 2, "not of one family"],
    [["trace", "--node", "n1", "--from", "10.0.0.1", "--to", "10.0.0.2"], 2, "no address with a port"],
    [["trace", "--node", "n1", "--from", "a", "--to", "10.0.0.2:1"], 2, "no IP address"],
    [["trace", "--from", "10.0.0.1", "--to", "10.0.0.2:1"], 2, "--node"],
    [["render", "--node", "n1"], 2, "-f PATH is missing"],
    [["render", "--node", "n1", "-f", "/nonexistent"], 1, "/nonexistent"],
    [["render", "--node", "n1", "--family", "ipv5"], 2, "ipv4, ipv6"],
  ])("%j", async (args, code, sentence) => {
    const files = args.includes("-f") || args[0] === "render" ? [] : ["-f", join(folder, "cluster.yaml")];
    const finished = await fairlead(["nat", ...args, ...files]);
    expect(finished.stderr).toContain(sentence);
    expect(finished.code).toBe(code);
    expect(finished.stdout).toBe("");
  });
});
