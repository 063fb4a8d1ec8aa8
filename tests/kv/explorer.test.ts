/**
 * The same client and publisher against the KV of a real `wrangler dev`, through its local explorer, and
 * read back through the binding of a Worker that runs in it.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createKvClient, type KvClient } from "../../control/kv/client.ts";
import { createPublisher, LOCAL_PACE } from "../../control/kv/publisher.ts";
import { decodeHostRecord } from "../../edge-config/host-record.ts";
import { decodePointer, POINTER_KEY } from "../../edge-config/pointer.ts";
import { readShard } from "../../edge-config/shard.ts";

const WORKER = `export default {
  async fetch(request, env) {
    return Response.json([...(await env.SHARDS.get(await request.json()))]);
  },
};`;

const CONFIG = `name = "kv-reader"
main = "worker.js"
compatibility_date = "2026-10-01"
[[kv_namespaces]]
binding = "SHARDS"
id = "fairlead-local"
`;

let folder: string;
let wrangler: ChildProcess;
let origin: string;
let client: KvClient;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fairlead-explorer-"));
  await writeFile(join(folder, "worker.js"), WORKER);
  await writeFile(join(folder, "wrangler.toml"), CONFIG);
  const bin = resolve("node_modules/wrangler/bin/wrangler.js");
  wrangler = spawn(
    process.execPath,
    [bin, "dev", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0"],
    {
      cwd: folder,
      env: { ...process.env, CI: "1", WRANGLER_SEND_METRICS: "false" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  origin = await readyLine(wrangler);
  client = createKvClient({ baseUrl: `${origin}/cdn-cgi/local/explorer/api`, namespaceId: "fairlead-local" });
}, 60_000);

afterAll(async () => {
  if (wrangler.exitCode === null && wrangler.kill("SIGTERM")) await once(wrangler, "exit");
  await rm(folder, { recursive: true, force: true });
});

function readyLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const read = (part: Buffer): void => {
      output += part.toString();
      const ready = /Ready on (http:\/\/127\.0\.0\.1:\d+)/.exec(output)?.[1];
      if (ready !== undefined) resolve(ready);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    child.once("exit", (code) => reject(new Error(`wrangler ended with ${code}:\n${output}`)));
  });
}

/** What the Worker's binding gives for these keys, in one bulk read. */
async function throughBinding(keys: readonly string[]): Promise<Map<string, string | null>> {
  const response = await fetch(origin, { method: "POST", body: JSON.stringify(keys) });
  return new Map((await response.json()) as [string, string | null][]);
}

test("all five calls work, keys of any spelling included", async () => {
  expect(await client.get("missing")).toBeUndefined();
  await client.put("t/a b?c%2Fd", "välue");
  await client.putAll(new Map([["t/x", "1"], ["t/y", "2"]])); // biome-ignore format: one line reads better
  expect([...(await client.list("t/"))].sort()).toEqual(["t/a b?c%2Fd", "t/x", "t/y"]);
  expect(await client.get("t/a b?c%2Fd")).toBe("välue");
  await client.deleteAll(["t/x", "t/missing"]);
  expect([...(await client.list("t/"))].sort()).toEqual(["t/a b?c%2Fd", "t/y"]);
});

test("what is published is what a Worker reads with two reads", async () => {
  const publisher = createPublisher({ client, pace: LOCAL_PACE });
  publisher.submit({
    version: 1,
    hosts: {
      "*.shop.example": {
        matching: "kubernetes",
        routes: [{ path: "/", pathType: "Prefix", ingress: "shop/web", backend: "shop-web-80" }],
      },
    },
    backends: {
      "shop-web-80": { namespace: "shop", service: "web", port: "80", endpoints: ["10.0.0.1:80"] },
    },
  });
  await publisher.settled();
  await publisher.close();

  const pointer = await decodePointer(
    (await throughBinding([POINTER_KEY])).get(POINTER_KEY) ?? "",
    undefined,
  );
  if (pointer.kind === "refused") throw new Error(pointer.reason);
  const { exact, wildcard } = pointer.loaded.locate("eu.shop.example");
  expect(exact).toBeUndefined();
  if (wildcard === undefined) throw new Error("The pointer has no shard for *.shop.example.");
  const shard = await readShard(wildcard, (await throughBinding([wildcard])).get(wildcard) ?? "");
  if (shard.kind === "refused") throw new Error(shard.reason);
  const record = await decodeHostRecord(
    "*.shop.example",
    shard.shard.record("*.shop.example") ?? "",
    undefined,
  );
  expect(record.backends.get("shop-web-80")?.endpoints).toEqual(["10.0.0.1:80"]);
});
