/**
 * The whole Worker inside workerd, with KV as Cloudflare's tools give it: what control writes is what the Worker reads.
 * Pods are one stub for all addresses (`vitest.config.ts`) that tells which one was asked.
 */

import { reset } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { beforeEach, describe, expect, test } from "vitest";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { encodePointer, POINTER_KEY } from "../../edge-config/pointer.ts";
import { cutShards } from "../../edge-config/shards.ts";

/** What the stub tells. */
interface Echo {
  readonly url: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
}

let generation = 0;

async function publish(config: EdgeConfig): Promise<void> {
  const { directory, shards } = await cutShards(config);
  for (const [name, text] of shards) await env.SHARDS.put(name, text);
  generation++;
  const createdAt = new Date(Date.UTC(2026, 0, 1) + generation * 1000).toISOString();
  const { policies } = config;
  const pointer = {
    ...directory,
    version: 1,
    generation,
    epoch: 0,
    createdAt,
    ...(policies === undefined ? {} : { policies }),
  } as const;
  await env.POINTER.put(POINTER_KEY, await encodePointer(pointer, undefined));
}

/** Every request looks for a newer configuration first (`vitest.config.ts`). */
function ask(url: string, init: RequestInit = {}): Promise<Response> {
  return exports.default.fetch(url, { redirect: "manual", ...init });
}

beforeEach(async () => {
  await reset();
});

const backend = (...endpoints: readonly string[]) => ({
  namespace: "default",
  service: "web",
  port: "80",
  endpoints,
});
const route = { path: "/", pathType: "Prefix", ingress: "default/web", backend: "default-web-80" } as const;

test("a request goes to the pod of its route, with the headers of the edge", async () => {
  await publish({
    version: 1,
    hosts: { "shop.example.com": { matching: "kubernetes", routes: [route] } },
    backends: { "default-web-80": backend("10.0.0.1:8080") },
  });
  const response = await ask("https://shop.example.com/a//b?c=d", {
    headers: { "CF-Connecting-IP": "203.0.113.7" },
  });
  expect([response.status, response.headers.get("server")]).toEqual([200, "fairlead"]);
  const echo: Echo = await response.json();
  expect(echo.url).toBe("http://10.0.0.1:8080/a//b?c=d");
  expect(echo.headers).toMatchObject({
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-host": "shop.example.com",
    "x-forwarded-port": "443",
    "x-forwarded-proto": "https",
  });
});

test("a pointer that names missing shards changes nothing", async () => {
  const config = (endpoint: string): EdgeConfig => ({
    version: 1,
    hosts: { "shop.example.com": { matching: "kubernetes", routes: [route] } },
    backends: { "default-web-80": backend(endpoint) },
  });
  await publish(config("10.0.0.1:80"));
  await ask("http://shop.example.com/");
  await publish(config("10.0.0.2:80"));
  for (const { name } of (await env.SHARDS.list({ prefix: "s/" })).keys) await env.SHARDS.delete(name);
  expect(((await (await ask("http://shop.example.com/")).json()) as Echo).url).toBe("http://10.0.0.1/");
  const status = await (await ask("http://shop.example.com/.fairlead/status")).json<{
    lastError: { message: string };
  }>();
  expect(status.lastError.message).toContain("missing");
});

describe("what the compiler wrote", () => {
  const files = import.meta.glob<EdgeConfig>("../golden/routing/*.edge.json", {
    eager: true,
    import: "default",
  });
  test.each(Object.entries(files))("%s", async (_file, config) => {
    await publish(config);
    let asked = 0;
    for (const [name, host] of Object.entries(config.hosts)) {
      if (host.matching === "regex" || host.policies !== undefined) continue;
      const hostname = name === "*" ? "nobody.example.test" : name.replace("*", "any");
      for (const { path, backend: backendName, denied, policies } of host.routes) {
        if (policies !== undefined) continue;
        const endpoints = backendName === undefined ? undefined : config.backends[backendName]?.endpoints;
        const response = await ask(`http://${hostname}${path}`);
        asked++;
        if (host.denied !== undefined) expect(response.status).toBe(403);
        else if (denied !== undefined || endpoints?.length === 0) expect(response.status).toBe(503);
        else if (endpoints === undefined) expect(response.status).toBe(404);
        else {
          const { host: reached } = new URL(((await response.json()) as Echo).url);
          expect(endpoints.map((endpoint) => new URL(`http://${endpoint}`).host)).toContain(reached);
        }
      }
    }
    expect(asked).toBeGreaterThan(0);
  });
});
