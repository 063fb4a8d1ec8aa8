/**
 * `fairlead gateway follow` beside a real API server, with the rights that `deploy/gateway` gives it, and the real HAProxy.
 *
 * HAProxy and the pods live in a network namespace, where every address is ours to give (an API server takes no endpoint
 * on loopback); the program outside of it reaches HAProxy by its socket, as from the container beside it.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { makeNamespace, type TestNamespace, whyNoKernel } from "../../agent/testing/namespace.ts";
import { connectKubernetes } from "../../cluster/watch/api.ts";
import type { ApiError } from "../../cluster/watch/api-error.ts";
import { createHaproxyMaster } from "../../gateway/haproxy/master.ts";
import { FairleadProgram } from "../e2e/support/fairlead-program.ts";
import { freePorts } from "../free-ports.ts";
import { createAuthority } from "../gateway/certificates.ts";
import { ApiServer, type Manifest } from "./support/api-server.ts";
import { kustomizeBase } from "./support/deploy.ts";
import { ingress, namespace, service, slice } from "./support/objects.ts";

const GATEWAY = fileURLToPath(new URL("../../deploy/gateway/kustomization.yaml", import.meta.url));
const WAIT = { timeout: 30_000, interval: 50 } as const;
const PODS = ["10.0.0.11", "10.0.0.12", "10.0.0.13"] as const;

/** Every pod says its address, over HTTP at port 8080 and over TLS at 8443. Prints a line once all listen. */
const POD_PROGRAM = `const http = require("node:http"), https = require("node:https"), fs = require("node:fs");
const [cert, key, ...addresses] = process.argv.slice(1);
const files = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
let left = addresses.length * 2;
for (const address of addresses) {
  const answer = (_, response) => response.end(address);
  const listening = () => --left === 0 && console.log("listening");
  http.createServer(answer).listen(8080, address, listening);
  https.createServer(files, answer).listen(8443, address, listening);
}`;

const reason = whyNoKernel(["haproxy", "curl", "openssl"]);

describe.skipIf(reason !== undefined)(
  `the gateway and the API server${reason === undefined ? "" : ` (${reason})`}`,
  () => {
    let server: ApiServer;
    let space: TestNamespace;
    let folder: string;
    let pods: ChildProcess;
    let haproxy: ChildProcess;
    let program: FairleadProgram;
    let statusPort: number;

    const tcpServices = (data: Readonly<Record<string, string>>): Manifest =>
      ({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "tcp-services", namespace: "ingress-nginx" },
        data,
      }) as Manifest;

    /** Which pod answers at a port of the gateway; `""` where none does. */
    const plain = (port: number): string =>
      space.run(`curl -s --max-time 5 http://127.0.0.1:${port}/ || true`);
    const tls = (host: string): string =>
      space.run(
        `curl -s --max-time 5 --cacert ${folder}/ca.crt --connect-to ::127.0.0.1:9443 https://${host}/ || true`,
      );
    const readyz = async (): Promise<string> =>
      await (await fetch(`http://127.0.0.1:${statusPort}/readyz`)).text();

    beforeAll(async () => {
      server = await ApiServer.start();
      space = makeNamespace("gateway");
      folder = await mkdtemp(join(tmpdir(), "fairlead-gateway-"));
      const authority = await createAuthority();
      const { cert, key } = await authority.issue("vault.example.com");
      await writeFile(join(folder, "ca.crt"), authority.ca);
      await writeFile(join(folder, "pod.crt"), cert);
      await writeFile(join(folder, "pod.key"), key);
      await writeFile(join(folder, "keys"), `k1:${Buffer.alloc(32, 1).toString("base64")}`);
      await authority.close();
      for (const address of PODS) space.run(`ip address add ${address}/32 dev lo`);
      pods = inSpace(process.execPath, "-e", POD_PROGRAM, `${folder}/pod.crt`, `${folder}/pod.key`, ...PODS);
      if (pods.stdout !== null) await once(createInterface(pods.stdout), "line");

      await server.apply(namespace("fairlead"), namespace("ingress-nginx"));
      const rights = kustomizeBase(GATEWAY).filter(
        ({ kind }) => kind === "ServiceAccount" || /Role(Binding)?$/.test(kind),
      );
      await server.apply(...rights);
      await server.apply(tcpServices({ "9000": "default/web:80" }), service("web"), slice("web", [PODS[0]]));
      const kubeconfig = await server.kubeconfigOf("fairlead", "fairlead-gateway");
      [statusPort = 0] = await freePorts(1);
      program = new FairleadProgram([
        ...["gateway", "follow", "--kubeconfig", kubeconfig, "--status-listen", `127.0.0.1:${statusPort}`],
        ...["--out", join(folder, "out"), "--master-socket", join(folder, "master.sock")],
        ...["--keys-file", join(folder, "keys"), "--allowed-cidrs", "10.0.0.0/8"],
        ...["--listen", "127.0.0.1:9080", "--health-listen", "127.0.0.1:9081"],
        ...["--passthrough-listen", ":9443", "--tcp-services", "ingress-nginx/tcp-services"],
        ...["--all-tcp-services", "--max-connections", "200", "--reload-distance", "0.05"],
      ]);
      await program.waitFor(program.stdout, /^ready$/);
      // Its ports are none of the pods', which have them on other addresses of this very machine.
      const configuration = join(folder, "out", "current", "haproxy.cfg");
      haproxy = inSpace("haproxy", "-W", "-db", "-S", join(folder, "master.sock"), "-f", configuration);
    });
    afterAll(async () => {
      await program?.end();
      for (const child of [haproxy, pods]) {
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue;
        const ended = once(child, "exit");
        child.kill("SIGTERM");
        await ended;
      }
      space?.remove();
      await server?.remove();
      if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    });

    function inSpace(...words: readonly string[]): ChildProcess {
      const [first = "", ...rest] = [...space.through, ...words];
      return spawn(first, rest, { stdio: ["ignore", "pipe", "ignore"] });
    }

    test("TCP services and their endpoints are followed, endpoints without a reload", async () => {
      await vi.waitFor(() => expect(plain(9000)).toBe(PODS[0]), WAIT);
      await vi.waitFor(async () => expect(await readyz()).toBe("ok\n"), WAIT);
      const master = createHaproxyMaster(join(folder, "master.sock"));
      const before = await master.processes();
      await server.apply(slice("web", [PODS[1]]));
      await vi.waitFor(() => expect(plain(9000)).toBe(PODS[1]), WAIT);
      expect(await master.processes()).toEqual(before);

      await server.apply(tcpServices({ "9000": "default/web:80", "9001": "default/web:http" }));
      await vi.waitFor(() => expect(plain(9001)).toBe(PODS[1]), WAIT);
      await server.apply(tcpServices({ "9001": "default/web:http" }));
      await vi.waitFor(() => expect(plain(9000)).toBe(""), WAIT);
      expect(plain(9001)).toBe(PODS[1]);
    });

    test("a host with ssl-passthrough comes, moves and leaves", async () => {
      const vault = {
        ...service("vault"),
        spec: { ports: [{ name: "http", port: 80, targetPort: 8443 }] },
      } as Manifest;
      const endpoints = (address: string): Manifest =>
        ({
          ...slice("vault", [address]),
          ports: [{ name: "http", port: 8443, protocol: "TCP" }],
        }) as Manifest;
      const annotations = { "nginx.ingress.kubernetes.io/ssl-passthrough": "true" };
      const host = ingress("vault", "vault.example.com", { annotations });
      await server.apply(vault, endpoints(PODS[2]), host);
      await vi.waitFor(() => expect(tls("vault.example.com")).toBe(PODS[2]), WAIT);
      await server.apply(endpoints(PODS[0]));
      await vi.waitFor(() => expect(tls("vault.example.com")).toBe(PODS[0]), WAIT);
      await server.delete(host);
      await vi.waitFor(() => expect(tls("vault.example.com")).toBe(""), WAIT);
    });

    test("without the API server HAProxy goes on, and what changed meanwhile comes with it", async () => {
      await vi.waitFor(() => expect(plain(9001)).toBe(PODS[1]), WAIT);
      await server.stop();
      await vi.waitFor(
        async () => expect(await readyz()).toMatch(/is disconnected since|does not answer/),
        WAIT,
      );
      expect(plain(9001)).toBe(PODS[1]);
      await server.start();
      await server.apply(slice("web", [PODS[2]]));
      await vi.waitFor(() => expect(plain(9001)).toBe(PODS[2]), WAIT);
      await vi.waitFor(async () => expect(await readyz()).toBe("ok\n"), WAIT);
    }, 120_000);

    test("its rights are to read, and no Secret", async () => {
      const api = connectKubernetes({
        kubeconfig: await server.kubeconfigOf("fairlead", "fairlead-gateway"),
      });
      const denied = [
        { path: "/api/v1/namespaces/default/secrets" },
        { path: "/api/v1/namespaces/ingress-nginx/configmaps" },
        { path: "/api/v1/namespaces/ingress-nginx/configmaps/other" },
        { path: "/api/v1/pods" },
        { path: "/api/v1/nodes" },
        { method: "DELETE", path: "/api/v1/namespaces/default/services/web" },
      ] as const;
      for (const attempt of denied)
        await expect(api.request(attempt), attempt.path).rejects.toSatisfy(
          (error) => (error as ApiError).status === 403,
        );
      api.close();
    });
  },
);
