/**
 * The node agent as a process beside a real API server: what is applied there is in the kernel, and what the kernel refuses is
 * an Event. The agent lives in a network namespace; a Unix socket leads out of it to the server, which listens on loopback.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../../agent/testing/namespace.ts";
import { ApiServer, type Manifest } from "./support/api-server.ts";
import { service, slice } from "./support/objects.ts";

const COMMAND = join(import.meta.dirname, "..", "..", "bin", "fairlead.mjs");
const WAIT = { timeout: 30_000, interval: 50 } as const;
/** What was refused is asked for again with growing pauses. */
const LONG_WAIT = { ...WAIT, timeout: 60_000 } as const;

/** Runs in the namespace: its loopback port is the API server's, by way of the socket. */
const INNER_RELAY = `const net = require("node:net");
net.createServer((client) => {
  const server = net.connect(process.argv[2]);
  client.pipe(server).pipe(client);
  for (const end of [client, server]) end.on("error", () => { client.destroy(); server.destroy(); });
}).listen(Number(process.argv[1]), "127.0.0.1", () => console.log("listening"));`;

const NODE = {
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "n1" },
} as const satisfies Manifest;

const reason = whyNoKernel(["nft", "conntrack", "curl"]);

describe.skipIf(reason !== undefined)(
  `the agent and the API server${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    let server: ApiServer;
    let space: TestNamespace;
    let outer: Server;
    let inner: ChildProcess;
    let agent: ChildProcess | undefined;
    let said = "";

    beforeAll(async () => {
      server = await ApiServer.start();
      space = makeNamespace("api");
      const port = Number(new URL(server.api.server).port);
      const socket = join(server.folder, "relay.sock");
      outer = createServer((client) => {
        const upstream = connect(port, "127.0.0.1");
        client.pipe(upstream).pipe(client);
        for (const end of [client, upstream])
          end.on("error", () => {
            client.destroy();
            upstream.destroy();
          });
      }).listen(socket);
      await once(outer, "listening");
      const [first = "", ...rest] = [
        ...space.through,
        process.execPath,
        "-e",
        INNER_RELAY,
        String(port),
        socket,
      ];
      inner = spawn(first, rest, { stdio: ["ignore", "pipe", "inherit"] });
      if (inner.stdout !== null) await once(inner.stdout, "data");
      await server.apply(NODE, service("web"), slice("web", ["10.0.0.11"]));
    });
    afterEach(async () => {
      if (agent !== undefined && agent.exitCode === null && agent.signalCode === null) {
        const ended = once(agent, "exit");
        agent.kill("SIGTERM");
        await ended;
      }
    });
    afterAll(async () => {
      inner?.kill();
      outer?.close();
      space?.remove();
      await server?.remove();
    });

    async function start(...flags: readonly string[]): Promise<void> {
      const [first = "", ...rest] = [
        ...space.through,
        ...[process.execPath, COMMAND, "agent", "--node", "n1", "--kubeconfig", server.kubeconfig],
        ...flags,
      ];
      said = "";
      agent = spawn(first, rest, { stdio: ["ignore", "pipe", "pipe"] });
      for (const stream of [agent.stdout, agent.stderr])
        stream?.setEncoding("utf8").on("data", (text: string) => {
          said += text;
        });
      await vi.waitFor(() => expect(said).toMatch(/^ready$/m), WAIT);
    }

    const rules = (): string => space.run("nft list ruleset");

    test("follows Services, EndpointSlices and its Node; says when it is to be left out", async () => {
      await start();
      expect(rules()).toContain("10.0.0.11 . 8080");
      await server.apply(slice("web", ["10.0.0.12"]));
      await vi.waitFor(() => expect(rules()).toContain("10.0.0.12 . 8080"), WAIT);
      expect(rules()).not.toContain("10.0.0.11 . 8080");

      const health = (): string => space.run("curl -s http://127.0.0.1:10256/healthz");
      expect(health()).toContain('"nodeEligible":true');
      await server.apply({
        ...NODE,
        spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }] },
      } as Manifest);
      await vi.waitFor(() => expect(health()).toContain('"nodeEligible":false'), WAIT);

      // Another proxy's Services are not even asked for.
      const foreign = service("foreign");
      const labels = { "service.kubernetes.io/service-proxy-name": "other" };
      await server.apply({ ...foreign, metadata: { ...foreign.metadata, labels } } as Manifest);
      await server.apply(service("third"));
      await vi.waitFor(() => expect(rules()).toContain("default/third/tcp/http"), WAIT);
      expect(rules()).not.toContain("default/foreign");
      await server.delete(service("web"));
      await vi.waitFor(() => expect(rules()).not.toContain("default/web/"), WAIT);
    });

    test("keeps the rules while the server is gone, and catches up", async () => {
      await server.apply(service("web"), slice("web", ["10.0.0.11"]));
      await start();
      await server.stop("SIGKILL");
      const isFollowed = (): readonly string[] =>
        space
          .run("curl -s http://127.0.0.1:10249/metrics")
          .match(/(?<=^fairlead_agent_watch_connected).*$/gm)
          ?.toSorted() ?? [];
      const kinds = ["EndpointSlice", "Node", "Service"];
      await vi.waitFor(() => expect(isFollowed()).toEqual(kinds.map((kind) => `{kind="${kind}"} 0`)), WAIT);
      space.run("nft flush ruleset");
      await vi.waitFor(() => expect(rules()).toContain("10.0.0.11 . 8080"), WAIT);
      await server.start();
      await server.apply(slice("web", ["10.0.0.13"]));
      await vi.waitFor(() => expect(rules()).toContain("10.0.0.13 . 8080"), WAIT);
      await vi.waitFor(() => expect(isFollowed()).toEqual(kinds.map((kind) => `{kind="${kind}"} 1`)), WAIT);
      await vi.waitFor(() => {
        for (const kind of kinds) {
          expect(said).toContain(`fairlead: ${kind}s cannot be followed: `);
          expect(said).toContain(`fairlead: ${kind}s are followed again.`);
        }
      }, WAIT);
    });

    test("serves hostPort of this node's Pods, which it asks for only then", async () => {
      const pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "p", namespace: "default" },
        spec: {
          nodeName: "n1",
          containers: [{ name: "c", image: "c", ports: [{ containerPort: 8080, hostPort: 8081 }] }],
        },
      } as Manifest;
      await start("--host-ports");
      expect(rules()).not.toContain("fairlead-hostports");
      await server.apply({
        apiVersion: "v1",
        kind: "ServiceAccount",
        metadata: { name: "default", namespace: "default" },
      });
      await server.apply(pod);
      await server.api.request({
        method: "PATCH",
        path: "/api/v1/namespaces/default/pods/p/status",
        contentType: "application/merge-patch+json",
        body: { status: { phase: "Running", podIP: "10.0.0.77", podIPs: [{ ip: "10.0.0.77" }] } },
      });
      await vi.waitFor(() => expect(rules()).toContain("8081 : 10.0.0.77 . 8080"), WAIT);
    });

    test("without rights to what only some things need, Services are served; the rest joins with its rights", {
      timeout: 180_000,
    }, async () => {
      const subject = { kind: "ServiceAccount", name: "narrow", namespace: "default" };
      const role = (name: string, rules: readonly object[]): readonly Manifest[] => [
        {
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "ClusterRole",
          metadata: { name },
          rules,
        } as Manifest,
        {
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "ClusterRoleBinding",
          metadata: { name },
          roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
          subjects: [subject],
        } as Manifest,
      ];
      const verbs = ["list", "watch"];
      await server.apply(
        { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "narrow", namespace: "default" } },
        {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: "tcp" },
          data: { "9000": "default/web:80" },
        } as Manifest,
        ...role("narrow", [
          { apiGroups: [""], resources: ["services", "nodes"], verbs },
          { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs },
          { apiGroups: [""], resources: ["events"], verbs: ["create"] },
        ]),
        service("web"),
        slice("web", ["10.0.0.11"]),
      );
      const policy = join(server.folder, "outbound.yaml");
      writeFileSync(
        policy,
        "nonMasqueradeCIDRs: [10.0.0.0/8]\negress: [{ namespace: default, sourceIPs: [127.0.0.1] }]\n",
      );
      space.run("nft flush ruleset");
      await start(
        ...["--kubeconfig", await server.kubeconfigOf("default", "narrow")],
        ...["--host-ports", "--outbound-policy", policy, "--tcp-services", "default/tcp"],
      );
      expect(space.run("curl -s http://127.0.0.1:10256/readyz")).toContain('"ready":true');
      expect(rules()).toContain("10.0.0.11 . 8080");
      for (const kind of ["Pod", "ConfigMap"]) {
        const sentence = new RegExp(
          `^fairlead: ${kind}s cannot be followed: 403 .*; what needs them waits\\.$`,
          "gm",
        );
        await vi.waitFor(() => expect(said.match(sentence)).toHaveLength(1), WAIT);
      }
      await vi.waitFor(
        () => expect(said).toMatch(/^fairlead: The outbound policy waits for [^\n]+\.$/m),
        WAIT,
      );
      expect(said).toMatch(/^fairlead: Host ports wait for [^\n]+\.$/m);
      expect(rules()).not.toMatch(/fairlead-snat|fairlead-hostports|tcp \. 9000|6 \. 9000/);
      await vi.waitFor(async () => {
        const { items } = (await server.api.request({ path: "/api/v1/namespaces/default/events" })) as {
          readonly items: readonly { readonly reason: string; readonly message: string }[];
        };
        expect(items).toContainEqual(
          expect.objectContaining({
            reason: "ResourceNotFollowed",
            message: expect.stringMatching(/^Pods cannot be followed: 403 /),
          }),
        );
      }, WAIT);

      await server.apply(...role("wide", [{ apiGroups: [""], resources: ["pods", "configmaps"], verbs }]));
      await vi.waitFor(() => expect(rules()).toContain("table ip fairlead-snat"), LONG_WAIT);
      await vi.waitFor(() => expect(rules()).toMatch(/(?:tcp|6) \. 9000/), LONG_WAIT);
    });

    test("a health check that cannot be listened to is an Event of its Service", async () => {
      const blocker = spawn(space.through[0] ?? "", [
        ...space.through.slice(1),
        process.execPath,
        "-e",
        'require("node:net").createServer().listen(31998, "0.0.0.0", () => console.log("up"))',
      ]);
      await once(blocker.stdout, "data");
      try {
        await start("--nodeport-addresses", "all");
        const web = service("lb");
        await server.apply({
          ...web,
          spec: {
            ports: [{ name: "http", port: 80, targetPort: 8080 }],
            type: "LoadBalancer",
            externalTrafficPolicy: "Local",
            healthCheckNodePort: 31998,
          },
        } as Manifest);
        await vi.waitFor(async () => {
          const { items } = (await server.api.request({ path: "/api/v1/namespaces/default/events" })) as {
            readonly items: readonly {
              readonly reason: string;
              readonly involvedObject: unknown;
              readonly message: string;
            }[];
          };
          expect(items).toContainEqual(
            expect.objectContaining({
              reason: "FailedToStartServiceHealthcheck",
              involvedObject: expect.objectContaining({ kind: "Service", name: "lb" }),
              message: expect.stringContaining("31998"),
            }),
          );
        }, WAIT);
      } finally {
        blocker.kill();
      }
    });
  },
);
