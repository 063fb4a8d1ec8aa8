/**
 * A real Kubernetes API server in a process of its own, with its data in a folder of its own: started, restarted, killed,
 * frozen and compacted by tests. Objects are applied as `kubectl apply --server-side` does it.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connectKubernetes, type KubernetesApi } from "../../../cluster/watch/api.ts";
import { goProgramPath } from "../../../setup/go-programs.mjs";

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** Plurals that no rule gives. */
const PLURALS: Readonly<Record<string, string>> = {
  Ingress: "ingresses",
  IngressClass: "ingressclasses",
  NetworkPolicy: "networkpolicies",
};
const CLUSTER_SCOPED = new Set(["Namespace", "Node", "IngressClass", "ClusterRole", "ClusterRoleBinding"]);

export class ApiServer {
  readonly folder = mkdtempSync(join(tmpdir(), "fairlead-apiserver-"));
  #child: ChildProcess | undefined;
  #lines: string[] = [];
  #api: KubernetesApi | undefined;

  /** `data`: a folder of a server that was stopped, of which it works on a copy, at a port of its own. */
  static async start(data?: string): Promise<ApiServer> {
    const server = new ApiServer();
    if (data !== undefined) {
      cpSync(data, server.folder, { recursive: true });
      rmSync(join(server.folder, "port"));
    }
    await server.start();
    return server;
  }

  get kubeconfig(): string {
    return join(this.folder, "kubeconfig");
  }

  /** As an administrator. */
  get api(): KubernetesApi {
    this.#api ??= connectKubernetes({ kubeconfig: this.kubeconfig });
    return this.#api;
  }

  /** Starts it, or starts it again on the same port with the same data; `flags` are kube-apiserver's. */
  async start(...flags: readonly string[]): Promise<void> {
    this.#lines = [];
    const child = spawn(goProgramPath("apiserver"), ["--directory", this.folder, "--", ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(-4_000);
    });
    createInterface(child.stdout).on("line", (line) => {
      this.#lines.push(line);
      child.emit("line");
    });
    await this.#line(/^ready /, () => errors);
  }

  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGCONT");
    child.kill(signal);
    await ended;
  }

  /** Frozen: connections stay open and nothing answers, as when a network drops every packet. */
  freeze(): void {
    this.#child?.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child?.kill("SIGCONT");
  }

  /** Makes etcd forget every version before the present one. */
  async compact(): Promise<void> {
    this.#lines = [];
    this.#child?.kill("SIGUSR1");
    await this.#line(/^compacted /, () => "");
  }

  /** Stops it and deletes its data. */
  async remove(): Promise<void> {
    this.#api?.close();
    await this.stop("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  async apply(...manifests: readonly Manifest[]): Promise<void> {
    for (const manifest of manifests) {
      await this.api.request({
        method: "PATCH",
        path: pathOf(manifest),
        query: { fieldManager: "test", force: "true" },
        contentType: "application/apply-patch+yaml",
        body: manifest,
      });
    }
  }

  /** What the server would make of it; nothing is stored. */
  async dryRun(manifest: Manifest): Promise<void> {
    await this.api.request({
      method: "PATCH",
      path: pathOf(manifest),
      query: { fieldManager: "test", dryRun: "All", fieldValidation: "Strict" },
      contentType: "application/apply-patch+yaml",
      body: manifest,
    });
  }

  /** Runs the real kubectl against it, with `input` on its standard input; what it printed. */
  kubectl(words: readonly string[], input = ""): string {
    return execFileSync(goProgramPath("kubectl"), [...words], {
      input,
      encoding: "utf8",
      // Whatever the machine's own kubectl keeps at home stays out of it.
      env: { PATH: process.env.PATH, HOME: this.folder, KUBECONFIG: this.kubeconfig },
    });
  }

  async delete(manifest: Manifest): Promise<void> {
    await this.api.request({ method: "DELETE", path: pathOf(manifest) });
  }

  async get(manifest: Manifest): Promise<unknown> {
    return await this.api.request({ path: pathOf(manifest) });
  }

  /** A kubeconfig of a ServiceAccount, with a token that the server made for it. */
  async kubeconfigOf(namespace: string, name: string): Promise<string> {
    const { status } = (await this.api.request({
      method: "POST",
      path: `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
      body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} },
    })) as { readonly status: { readonly token: string } };
    const path = join(this.folder, `kubeconfig-${namespace}-${name}`);
    const admin = readFileSync(this.kubeconfig, "utf8");
    writeFileSync(path, admin.replace(/user: \{token: .*\}/, `user: {token: ${status.token}}`));
    return path;
  }

  async #line(pattern: RegExp, errors: () => string): Promise<void> {
    const child = this.#child;
    if (child === undefined) throw new Error("the API server was not started");
    while (!this.#lines.some((line) => pattern.test(line))) {
      const ended = await Promise.race([
        once(child, "line").then(() => false),
        once(child, "exit").then(() => true),
      ]);
      if (ended) throw new Error(`the API server ended with ${child.exitCode}:\n${errors()}`);
    }
  }
}

export function pathOf({ apiVersion, kind, metadata: { name, namespace = "default" } }: Manifest): string {
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const plural = PLURALS[kind] ?? `${kind.toLowerCase()}s`;
  return CLUSTER_SCOPED.has(kind)
    ? `${root}/${plural}/${name}`
    : `${root}/namespaces/${namespace}/${plural}/${name}`;
}
