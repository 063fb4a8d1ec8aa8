/** The agent as a process, in a network namespace. What packets do is in `tests/kernel`. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../../agent/testing/namespace.ts";

const COMMAND = join(import.meta.dirname, "..", "..", "bin", "fairlead.mjs");
const WAIT = { timeout: 30_000, interval: 20 } as const;
/** Each test starts several processes, on a machine that others use too. */
vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 });

const reason = whyNoKernel(["nft", "conntrack", "curl"]);

interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

function service(name: string, address: string, endpoint: string, more = ""): string {
  return `
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${address}, ports: [{ port: 53, protocol: UDP }]${more} }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ port: 5353, protocol: UDP }]
endpoints: [{ addresses: [${endpoint}], nodeName: n1 }]
---`;
}

const NODE = `
apiVersion: v1
kind: Node
metadata: { name: n1 }
status: { addresses: [{ type: InternalIP, address: 127.0.0.1 }] }
---`;

describe.skipIf(reason !== undefined)(
  `fairlead agent in a namespace${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    let space: TestNamespace;
    let folder: string;
    let manifest: string;
    const running: Running[] = [];

    beforeAll(() => {
      space = makeNamespace("cmd");
      folder = mkdtempSync(join(tmpdir(), "fairlead-agent-"));
      manifest = join(folder, "cluster.yaml");
    });
    afterEach(async () => {
      for (const { child } of running.splice(0)) await end(child, "SIGKILL");
      await agent("--cleanup");
    });
    afterAll(() => {
      space.remove();
      rmSync(folder, { recursive: true });
    });

    const words = (args: readonly string[]): readonly [string, readonly string[]] => {
      const [first = "", ...rest] = [...space.through, process.execPath, COMMAND, "agent", ...args];
      return [first, rest];
    };
    const agent = (...args: readonly string[]): Promise<Finished> =>
      new Promise((resolve) => {
        execFile(...words(args), (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
        );
      });
    const onFiles = (...args: readonly string[]): Promise<Finished> =>
      agent("--node", "n1", "-f", manifest, ...args);
    const spawned = (...args: readonly string[]): Running => {
      const child = spawn(...words(args), { stdio: ["ignore", "pipe", "pipe"] });
      const texts = { stdout: "", stderr: "" };
      for (const name of ["stdout", "stderr"] as const)
        child[name]?.setEncoding("utf8").on("data", (text: string) => {
          texts[name] += text;
        });
      const started: Running = { child, stdout: () => texts.stdout, stderr: () => texts.stderr };
      running.push(started);
      return started;
    };
    const start = async (...args: readonly string[]): Promise<Running> => {
      const started = spawned("--node", "n1", "-f", manifest, ...args);
      await vi.waitFor(() => expect(started.stdout(), started.stderr()).toBe("ready\n"), WAIT);
      return started;
    };
    const end = async (child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<number | null> => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
      return child.exitCode;
    };
    /** As editors and ConfigMap mounts write. */
    const write = (...parts: readonly string[]): void => {
      writeFileSync(`${manifest}.new`, parts.join("\n"));
      renameSync(`${manifest}.new`, manifest);
    };
    const table = (): string => space.run("nft list ruleset ip");

    test("--once programs and ends; --dry-run tells what is left to do; --cleanup leaves nothing", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      const before = await onFiles("--dry-run");
      expect(before).toMatchObject({ code: 0, stderr: "" });
      expect(before.stdout).toContain("# nft -f -\n");
      expect(before.stdout).toContain("172.30.0.10 . udp . 53");
      expect(table()).toBe("");

      expect(await onFiles("--once")).toEqual({ code: 0, stdout: "", stderr: "" });
      expect(table()).toContain("172.30.0.10 . udp . 53");
      const after = await onFiles("--dry-run");
      expect(after.stdout).toBe("");
      expect(after.stderr).toContain("nothing to do");

      write(NODE, service("dns", "172.30.0.10", "10.180.0.11"));
      const change = await onFiles("--dry-run");
      expect(change.stdout).toContain("10.180.0.11 . 5353");
      expect(change.stdout).not.toContain("add chain");

      expect((await agent("--cleanup")).code).toBe(0);
      expect(space.run("nft list ruleset")).toBe("");
      expect(await agent("--cleanup")).toEqual({ code: 0, stdout: "", stderr: "" });
    });

    test("--healthz-listen none and --metrics-listen none: nobody listens", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      const { child, stderr } = await start("--healthz-listen", "none", "--metrics-listen", "none");
      const closed = once(child, "close");
      expect(space.run("ss -Hltn")).toBe("");
      await end(child, "SIGTERM");
      await closed;
      expect(stderr()).toBe("");
    });

    test("follows its files, repairs what somebody else does, and leaves the rules when it ends", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      const { child, stderr } = await start();
      expect(table()).toContain("10.180.0.10 . 5353");

      write(NODE, service("dns", "172.30.0.10", "10.180.0.12"));
      await vi.waitFor(() => expect(table()).toContain("10.180.0.12 . 5353"), WAIT);
      expect(table()).not.toContain("10.180.0.10 . 5353");

      space.run("nft flush ruleset");
      await vi.waitFor(() => expect(table()).toContain("10.180.0.12 . 5353"), WAIT);
      await vi.waitFor(() => expect(stderr()).toContain("the rules are written anew"), WAIT);

      rmSync(manifest);
      await vi.waitFor(() => expect(stderr()).toContain("cluster.yaml"), WAIT);
      expect(table()).toContain("10.180.0.12 . 5353");
      expect(await end(child, "SIGTERM")).toBe(0);
      expect(table()).toContain("10.180.0.12 . 5353");
    });

    test("nothing that can be read: the rules stay, and one sentence says so", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      await onFiles("--once");
      const whole = table();
      write("kind: Service\n  metadata: [\n");
      const broken = await onFiles("--once");
      expect(broken.code).toBe(1);
      expect(broken.stderr).toContain("cluster.yaml");
      expect(broken.stderr).toMatch(/no object could be read from .*; the rules stay as they are\.\n$/);
      expect(table()).toBe(whole);
    });

    test("what kube-proxy has left is removed, and nothing of anybody else", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      space.run(
        "nft 'table ip kube-proxy { chain services { accept; }; }; table ip other { chain services { accept; }; }'",
      );
      space.run("nft 'table ip6 kube-proxy { chain services { accept; }; }'");
      space.run(
        `printf '*nat\\n:KUBE-SERVICES - [0:0]\\n:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]\\n:KUBE-KUBELET-CANARY - [0:0]\\n:MINE - [0:0]\\n-A PREROUTING -j KUBE-SERVICES\\n-A PREROUTING -j MINE\\n-A KUBE-SERVICES -j KUBE-SVC-TCOU7JCQXEZGVUNU\\nCOMMIT\\n' | iptables-nft-restore --noflush`,
      );
      expect((await onFiles("--once")).stderr).toBe("");
      const rules = space.run("nft list ruleset");
      expect(rules).not.toContain("kube-proxy");
      expect(rules).not.toContain("KUBE-SERVICES");
      expect(rules).not.toContain("KUBE-SVC");
      expect(rules).toContain("KUBE-KUBELET-CANARY");
      expect(rules).toContain("jump MINE");
      expect(rules).toContain("table ip other");
      space.run("nft delete table ip other; nft delete table ip nat");
    });

    test("health of the node, of Services and the mode, as kube-proxy tells them", async () => {
      write(
        NODE,
        service("dns", "172.30.0.10", "10.180.0.10"),
        service(
          "lb",
          "172.30.0.11",
          "10.180.0.11",
          ", type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31999",
        ),
      );
      await start();
      const get = (url: string): string => space.run(`curl -s -D - ${url}`);
      const health = await vi.waitFor(() => get("http://127.0.0.1:10256/healthz"), WAIT);
      expect(health).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      expect(health).toContain('"nodeEligible":true,"healthy":true');
      expect(get("http://127.0.0.1:10256/livez")).not.toContain("nodeEligible");
      expect(get("http://127.0.0.1:10256/other")).toMatch(/^HTTP\/1\.1 404 /);
      const local = await vi.waitFor(() => get("http://127.0.0.1:31999/"), WAIT);
      expect(local).toContain("X-Load-Balancing-Endpoint-Weight: 1\r\n");
      expect(get("http://127.0.0.1:10249/proxyMode")).toMatch(/\r\n\r\nnftables$/);
      const metrics = get("http://127.0.0.1:10249/metrics");
      expect(metrics).toContain('kubeproxy_proxy_healthz_total{code="200"} 1\n');
      expect(metrics).toContain("kubeproxy_sync_proxy_rules_service_changes_total 2\n");
    });

    test("is ready when its first rules are in the kernel, not before", async () => {
      rmSync(manifest, { force: true });
      const agentWithNothing = spawned("--node", "n1", "-f", manifest);
      const status = (path: string): string =>
        space.run(`curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:10256${path} || true`);
      await vi.waitFor(() => expect(status("/livez")).toBe("200"), WAIT);
      expect(status("/readyz")).toBe("503");
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      await vi.waitFor(() => expect(agentWithNothing.stdout()).toBe("ready\n"), WAIT);
      expect(status("/readyz")).toBe("200");
      rmSync(manifest);
      await vi.waitFor(() => expect(agentWithNothing.stderr()).toContain("cluster.yaml"), WAIT);
      expect(status("/readyz")).toBe("200");
    });

    test("an API server without an address ends the agent with one sentence", async () => {
      const variables = ["KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT=6443", "KUBECONFIG="];
      const [first = "", ...rest] = [...space.through, "env", ...variables, process.execPath, COMMAND];
      const ended = await new Promise<Finished>((resolve) => {
        execFile(first, [...rest, "agent", "--node", "n1"], WAIT, (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
        );
      });
      expect(ended).toMatchObject({ code: 1, stdout: "" });
      expect(ended.stderr).toMatch(
        /^fairlead: KUBERNETES_SERVICE_HOST "" and [^\n]+ set them to [^\n]+\.\n$/,
      );
    });

    test("a UDP flow of a Service that was deleted while no agent ran is removed", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"), service("log", "172.30.0.14", "10.180.0.14"));
      await onFiles("--once");
      const flows = (): string => space.run("conntrack -L -p udp 2>/dev/null || true");
      const add = (to: string, from: string, port: number): string =>
        space.run(
          `conntrack -I -p udp -s 10.180.0.9 -d ${to} --sport 4000 --dport ${port} -r ${from} -q 10.180.0.9 --reply-port-src 5353 --reply-port-dst 4000 -t 100 2>&1`,
        );
      add("172.30.0.14", "10.180.0.14", 53);
      add("172.30.0.10", "10.180.0.10", 53);
      add("172.30.0.10", "10.180.0.99", 54);
      expect(flows()).toContain("172.30.0.14");
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      await onFiles("--once");
      expect(flows()).not.toContain("172.30.0.14");
      expect(flows()).toContain("src=10.180.0.10 ");
      expect(flows()).toContain("dport=54");
    });

    test("explain tells what the kernel holds and what does not fit; watch counts", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"), service("log", "172.30.0.14", "10.180.0.14"));
      await onFiles("--once");
      const ask = (...more: readonly string[]): Promise<Finished> =>
        agent("explain", "--node", "n1", "-f", manifest, "--to", "172.30.0.10:53", "--proto", "udp", ...more);
      const held = JSON.parse((await ask("--json")).stdout) as Record<string, unknown>;
      expect(held).toMatchObject({
        owner: { service: "shop/dns", kind: "ClusterIP" },
        endpoints: [{ endpoint: "10.180.0.10:5353", isIn: true, state: "ready" }],
        kernel: { endpoints: ["10.180.0.10:5353"], connections: 0 },
        findings: [],
      });
      space.run("bash -c 'echo x > /dev/udp/172.30.0.10/53' || true");
      write(NODE, service("dns", "172.30.0.10", "10.180.0.11"));
      const text = (await ask()).stdout;
      expect(text).toContain("should be    dnat\n");
      expect(text).toContain("note: The kernel lacks 10.180.0.11:5353");
      const page = await agent("watch", "--count", "1");
      expect(page.stdout).toContain("SERVICE PORT");
    });

    test("watch ends with its reader", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      await onFiles("--once");
      const [first, args] = words(["watch", "--interval", "0.2"]);
      const ended = await new Promise<Finished>((resolve) => {
        const pipe = ["-c", 'set -o pipefail; timeout 30 "$@" | head -2', "bash", first, ...args];
        execFile("bash", pipe, (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
        );
      });
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      expect(ended.stdout.split("\n")).toHaveLength(3);
    });

    test("beside a running agent nothing is programmed or removed, and one may ask", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      const { child } = await start();
      const other = join(folder, "other.yaml");
      writeFileSync(other, [NODE, service("log", "172.30.0.14", "10.180.0.14")].join("\n"));
      const refused =
        /^fairlead: An agent runs in this network namespace and would undo this: end it first[^\n]*\.\n$/;
      const standing = table();
      for (const flags of [["--cleanup"], ["--cleanup-own"], ["--node", "n1", "-f", other, "--once"]]) {
        const { code, stdout, stderr } = await agent(...flags);
        expect({ code, stdout }, flags.join(" ")).toEqual({ code: 1, stdout: "" });
        expect(stderr).toMatch(refused);
        expect(table()).toBe(standing);
      }
      const plan = await agent("--node", "n1", "-f", other, "--dry-run");
      expect(plan.code).toBe(0);
      expect(plan.stdout).toContain("172.30.0.14 . udp . 53");
      const asked = ["explain", "--node", "n1", "-f", manifest, "--to", "172.30.0.10:53", "--proto", "udp"];
      expect((await agent(...asked)).code).toBe(0);
      expect(table()).toBe(standing);
      await end(child, "SIGTERM");
      expect((await agent("--node", "n1", "-f", other, "--once")).code).toBe(0);
      expect(table()).toContain("172.30.0.14 . udp . 53");
      expect((await agent("--cleanup")).code).toBe(0);
      expect(table()).toBe("");
    });

    test("a second agent waits until the first one has ended", async () => {
      write(NODE, service("dns", "172.30.0.10", "10.180.0.10"));
      const first = await start();
      const second = start();
      await vi.waitFor(() => expect(running[1]?.stderr()).toContain("waits until it has ended"), WAIT);
      await end(first.child, "SIGTERM");
      await second;
    });
  },
);

const run = (...args: readonly string[]): Promise<Finished> =>
  new Promise((resolve) => {
    execFile(process.execPath, [COMMAND, "agent", ...args], (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });

test("--init-only fails where there are no settings of a kernel", async () => {
  expect(await run("--node", "n1", "--init-only", "--proc-sys", "/nonexistent")).toEqual({
    code: 1,
    stdout: "",
    stderr:
      "fairlead: /nonexistent (--proc-sys) does not hold the kernel's settings: it has no folder net.\n",
  });
});

describe("wrong usage", () => {
  test.each([
    [["--once"], "--node (or FAIRLEAD_NODE) is missing"],
    [["--node", "n1", "-f", "-"], "-f - is not for an agent"],
    [["--node", "n1", "--once", "--cleanup"], "exclude each other"],
    [["--cleanup", "--cleanup-own"], "exclude each other"],
    [["--cleanup-own", "--dry-run"], "--cleanup-own knows no --dry-run"],
    [["--node", "n1", "--metrics-listen", "here"], "no address with a port"],
    [["--node", "n1", "--conntrack-min", "-1"], "no whole number"],
  ])("%j", async (args, sentence) => {
    const { code, stderr, stdout } = await run(...args);
    expect(stderr).toContain(sentence);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });
});
