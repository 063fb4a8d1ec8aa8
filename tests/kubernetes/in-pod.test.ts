/**
 * `fairlead control` as a Pod starts it: no kubeconfig, the files of its service account where Kubernetes mounts them, and
 * the API server's address in the environment. Those files have a fixed place, so the program gets a file tree of its own.
 */

import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiServer } from "./support/api-server.ts";
import { kustomizeBase } from "./support/deploy.ts";
import { ingress, namespace } from "./support/objects.ts";

const DEPLOY = fileURLToPath(new URL("../../deploy/kubernetes/control/kustomization.yaml", import.meta.url));
const PROGRAM = fileURLToPath(new URL("../../bin/fairlead.mjs", import.meta.url));
const isRoot = process.getuid?.() === 0;

let server: ApiServer;
const folder = mkdtempSync(join(tmpdir(), "fairlead-in-pod-"));

beforeAll(async () => {
  server = await ApiServer.start();
  await server.apply(namespace("fairlead"), namespace("ingress-nginx"), ingress("web", "web.example.com"));
});
afterAll(async () => {
  await server?.remove();
  rmSync(folder, { recursive: true });
});

test.skipIf(!isRoot)("a Pod's service account is enough to follow the cluster", async () => {
  const rights = kustomizeBase(DEPLOY).filter(
    ({ kind }) => kind === "ServiceAccount" || /Role(Binding)?$/.test(kind),
  );
  await server.apply(...rights);
  const kubeconfig = readFileSync(await server.kubeconfigOf("fairlead", "fairlead-control"), "utf8");
  const [, port = ""] = /server: https:\/\/127\.0\.0\.1:(\d+)/.exec(kubeconfig) ?? [];
  const [, token = ""] = /token: ([^}]+)\}/.exec(kubeconfig) ?? [];
  writeFileSync(join(folder, "token"), token);
  writeFileSync(join(folder, "namespace"), "fairlead");
  copyFileSync(join(server.folder, "certificates", "apiserver.crt"), join(folder, "ca.crt"));

  const mounted = "/var/run/secrets/kubernetes.io/serviceaccount";
  const script = `mount -t tmpfs none /run && mkdir -p ${mounted} && cp "$0"/* ${mounted} && exec "$@"`;
  const child = spawn(
    "unshare",
    [
      ...["--mount", "sh", "-c", script, folder],
      ...[process.execPath, PROGRAM, "control", "--kubernetes", "--log", "json"],
      // Nobody is there: whatever is published has no part in this.
      ...["--kv-api", "http://127.0.0.1:9", "--kv-namespace", "edge", "--listen", "127.0.0.1:0"],
    ],
    {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        KUBERNETES_SERVICE_HOST: "127.0.0.1",
        KUBERNETES_SERVICE_PORT: port,
      },
    },
  );
  const listed = new Map<string, number>();
  try {
    for await (const line of createInterface(child.stderr)) {
      if (!line.startsWith("{")) throw new Error(line);
      const { message, kind, objects } = JSON.parse(line) as LogLine;
      if (message === "the watch is disconnected") throw new Error(line);
      if (message === "listed") listed.set(kind, objects);
      if (listed.size >= 4) break;
    }
    expect(Object.fromEntries(listed)).toMatchObject({ Ingress: 1, IngressClass: 0, EndpointSlice: 0 });
  } finally {
    child.kill("SIGKILL");
  }
});

interface LogLine {
  readonly message: string;
  readonly kind: string;
  readonly objects: number;
}
