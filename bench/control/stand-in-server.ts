/**
 * Lists and watches of a large cluster at any pace. A real API server on the machine of the benchmark takes a few hundred
 * changes a second at most and leaves no CPU for what is measured; this one says the same words over the same protocol
 * for nearly nothing. What `tests/kubernetes` proves, it need not.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { collectionPath, RESOURCES, type WatchedKind } from "../../cluster/watch/kinds.ts";
import type { Manifest } from "../../tests/kubernetes/support/api-server.ts";

export class StandInServer {
  readonly folder = mkdtempSync(join(tmpdir(), "fairlead-bench-"));
  readonly #objects = new Map<string, Map<string, unknown>>();
  readonly #watches = new Map<string, Set<ServerResponse>>();
  readonly #server: Server;
  #version = 1;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(manifests: Iterable<Manifest>): Promise<StandInServer> {
    const server = createServer();
    const standIn = new StandInServer(server);
    for (const manifest of manifests) standIn.#store(manifest);
    server.on("request", (request, response) => {
      const url = new URL(request.url ?? "/", "http://server.invalid");
      response.setHeader("content-type", "application/json");
      if (url.searchParams.get("watch") === "true" && !url.searchParams.has("fieldSelector")) {
        response.flushHeaders();
        const watches = standIn.#watches.get(url.pathname) ?? new Set();
        standIn.#watches.set(url.pathname, watches.add(response));
        response.once("close", () => watches.delete(response));
      } else if (url.searchParams.get("watch") === "true") response.flushHeaders();
      else if (request.method !== "GET") response.end("{}");
      else response.end(JSON.stringify(standIn.#page(url)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    writeFileSync(
      standIn.kubeconfig,
      JSON.stringify({
        "current-context": "bench",
        contexts: [{ name: "bench", context: { cluster: "bench", user: "bench" } }],
        clusters: [
          {
            name: "bench",
            cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true },
          },
        ],
        users: [{ name: "bench", user: {} }],
      }),
    );
    return standIn;
  }

  get kubeconfig(): string {
    return join(this.folder, "kubeconfig");
  }

  /** Tells every watch that the object has changed. */
  change(manifest: Manifest): void {
    const object = this.#store(manifest);
    const line = `${JSON.stringify({ type: "MODIFIED", object })}\n`;
    for (const watch of this.#watches.get(collectionPath(manifest.kind as WatchedKind)) ?? [])
      watch.write(line);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    rmSync(this.folder, { recursive: true, force: true });
  }

  #store(manifest: Manifest): unknown {
    const path = collectionPath(manifest.kind as WatchedKind);
    const { metadata } = manifest;
    const object = {
      ...manifest,
      apiVersion: RESOURCES[manifest.kind as WatchedKind].apiVersion,
      metadata: {
        creationTimestamp: "2026-01-01T00:00:00Z",
        uid: `${manifest.kind}-${metadata.namespace}-${metadata.name}`,
        ...metadata,
        resourceVersion: String(++this.#version),
      },
    };
    const objects = this.#objects.get(path) ?? new Map<string, unknown>();
    this.#objects.set(path, objects.set(`${metadata.namespace}/${metadata.name}`, object));
    return object;
  }

  #page({ pathname, searchParams }: URL): unknown {
    const named = /^metadata\.name=(.+)$/.exec(searchParams.get("fieldSelector") ?? "")?.[1];
    const objects = [...(this.#objects.get(pathname) ?? [])];
    const items = objects
      .filter(([key]) => !searchParams.has("fieldSelector") || key.endsWith(`/${named}`))
      .map(([, object]) => object);
    const from = Number(searchParams.get("continue") ?? 0);
    const to = from + Number(searchParams.get("limit") ?? items.length);
    return {
      metadata: {
        resourceVersion: String(this.#version),
        ...(to < items.length ? { continue: String(to) } : {}),
      },
      items: items.slice(from, to),
    };
  }
}
