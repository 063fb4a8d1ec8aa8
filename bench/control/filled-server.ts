/**
 * A real API server that holds the cluster already. Filling it takes minutes, so its data is kept outside the repository
 * and every run works on a copy.
 */

import { createHash } from "node:crypto";
import { cpSync, existsSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { goProgramPath } from "../../setup/go-programs.mjs";
import { ApiServer, type Manifest, pathOf } from "../../tests/kubernetes/support/api-server.ts";
import { namespace } from "../../tests/kubernetes/support/objects.ts";
import { INGRESSES, NAMESPACES, objectsOf } from "./cluster.ts";

/** Requests at a time while the cluster is filled. */
const CONCURRENCY = 24;

export async function startFilledServer(note: (line: string) => void): Promise<ApiServer> {
  const data = keptData();
  if (!existsSync(data)) {
    note(`filling an API server with ${INGRESSES * 3} objects, once`);
    const server = await ApiServer.start();
    try {
      await fill(server.api);
      await server.stop();
      // Whoever is interrupted leaves no half data behind.
      cpSync(server.folder, `${data}.${process.pid}`, { recursive: true });
      renameSync(`${data}.${process.pid}`, data);
    } finally {
      await server.remove();
      rmSync(`${data}.${process.pid}`, { recursive: true, force: true });
    }
  }
  return await ApiServer.start(data);
}

/** Named by the server and by what fills it: another one of either begins anew. */
function keptData(): string {
  const server = goProgramPath("apiserver");
  const objects = JSON.stringify([INGRESSES, NAMESPACES, objectsOf(1)]);
  const hash = createHash("sha256").update(basename(server)).update(objects).digest("hex").slice(0, 16);
  return join(dirname(server), `bench-cluster-${hash}`);
}

async function fill(api: KubernetesApi): Promise<void> {
  const create = async (manifest: Manifest): Promise<void> => {
    const path = pathOf(manifest);
    await api.request({ method: "POST", path: path.slice(0, path.lastIndexOf("/")), body: manifest });
  };
  for (let team = 0; team < NAMESPACES; team++) await create(namespace(`team-${team}`));
  let next = 0;
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      while (next < INGRESSES) for (const manifest of objectsOf(next++)) await create(manifest);
    }),
  );
}
