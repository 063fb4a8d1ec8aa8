/** What happens when manifests change while the edge serves. */

import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serviceManifests } from "./support/backend.ts";
import { Edge, ingress } from "./support/edge.ts";

/** The contract of `fairlead dev`. */
const LIVE_WITHIN_MILLISECONDS = 2000;

let edge: Edge;

beforeAll(async () => {
  edge = await Edge.start({
    backends: { a: 1, b: 1 },
    manifests: { "steady.yaml": ingress("a", { host: "steady.example.com" }) },
  });
});

afterAll(() => edge?.stop());

async function podOf(host: string, path = "/"): Promise<string | number> {
  const reply = await edge.request({ host, path });
  return reply.status === 200 ? reply.echo.pod : reply.status;
}

/** Asks until the answer is the wanted one, at most for as long as the contract allows. */
async function becomes(host: string, want: string | number, path = "/"): Promise<void> {
  const until = performance.now() + LIVE_WITHIN_MILLISECONDS;
  let got = await podOf(host, path);
  while (got !== want && performance.now() < until) {
    await wait(20);
    got = await podOf(host, path);
  }
  expect(got).toBe(want);
}

describe("a saved file is live within two seconds", () => {
  test("a new file, a changed one, a deleted one", async () => {
    expect(await podOf("saved.example.com")).toBe(404);
    edge.write("saved.yaml", ingress("a", { name: "saved", host: "saved.example.com" }));
    await becomes("saved.example.com", "a-0");
    edge.write("saved.yaml", ingress("b", { name: "saved", host: "saved.example.com" }));
    await becomes("saved.example.com", "b-0");
    edge.remove("saved.yaml");
    await becomes("saved.example.com", 404);
  });

  test("a Service that comes later heals its Ingress, and one that loses its endpoints answers 503", async () => {
    await edge.apply({ "healing.yaml": ingress("later", { host: "healing.example.com" }) });
    expect(await podOf("healing.example.com")).toBe(503);
    edge.write("later.yaml", serviceManifests("later", [{ port: edge.backend("a").port }]));
    await becomes("healing.example.com", "a-0");
    edge.write("later.yaml", serviceManifests("later", [{ port: edge.backend("a").port, ready: false }]));
    await becomes("healing.example.com", 503);
  });
});

test("twenty reloads under constant load: no request fails, and none is answered by what was before", async () => {
  const route = (service: string): string => ingress(service, { name: "moving", host: "moving.example.com" });
  await edge.apply({ "moving.yaml": route("a") });
  let loading = true;
  const answers = new Map<string | number, number>();
  const clients = Array.from({ length: 8 }, async (_, client) => {
    while (loading) {
      const answer = await podOf(
        client % 2 === 0 ? "moving.example.com" : "steady.example.com",
        `/${client}`,
      );
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
  });
  for (let reload = 1; reload <= 20; reload++) {
    const service = reload % 2 === 1 ? "b" : "a";
    await edge.apply({ "moving.yaml": route(service) });
    expect(await podOf("moving.example.com")).toBe(`${service}-0`);
  }
  loading = false;
  await Promise.all(clients);
  expect([...answers.keys()].sort()).toEqual(["a-0", "b-0"]);
  // The load was one: far more requests than reloads.
  expect([...answers.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThan(500);
});

describe("what cannot be read costs only itself", () => {
  const good = ingress("a", { name: "good", host: "good.example.com" });

  test.each<[string, string | Uint8Array, RegExp]>([
    ["YAML that is none", `${good}---\nkind: [Ingress\n`, /^error: File .*bad\.yaml line \d+: /],
    [
      "wrong types",
      `${good}---\n{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: bad}, spec: {rules: 5}}\n`,
      /^error: Ingress default\/bad spec\.rules: the number 5 came where a list is expected/,
    ],
    [
      "a wrong path",
      `${good}---\n${ingress("a", { name: "bad", host: "bad.example.com", paths: { nowhere: "Exact" } }).replace("---\n", "")}`,
      /^error: Ingress default\/bad spec\.rules\[0\]\.http\.paths\[0\]\.path: "nowhere" does not begin with \//,
    ],
    [
      "unknown fields",
      good.replace('"spec":{', '"spec":{"ruels":[],'),
      /^warning: Ingress default\/good spec\.ruels: the field is not known here and is ignored; is rules meant\?/,
    ],
    [
      "an unknown kind",
      `${good}---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n`,
      /^info: Deployment web: /,
    ],
    ["NUL bytes", `${good}---\na: \u0000\n`, /it holds a NUL byte/],
    [
      "aliases that explode",
      `${good}---\n${["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", ...Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${Array(10).fill(`*a${i}`).join(", ")}]`)].join("\n")}\n`,
      /its aliases stand for more than 100000 values/,
    ],
    [
      "20 MB of nonsense",
      `${good}---\n${"nonsense: [\n".repeat(1_800_000)}`,
      /^error: File .*bad\.yaml line \d+: /,
    ],
    [
      "20 MB of bytes",
      Buffer.concat([Buffer.from(`${good}---\n`), Buffer.alloc(20 * 1024 * 1024, 0xc3)]),
      /it holds bytes that are not UTF-8 text/,
    ],
  ])("%s", async (_name, text, said) => {
    const from = edge.dev.stderr.length;
    await edge.settled(() => edge.write("bad.yaml", text as string));
    await edge.dev.waitFor(edge.dev.stderr, said, from);
    expect(await podOf("good.example.com")).toBe("a-0");
    expect(await podOf("steady.example.com")).toBe("a-0");
    // Once it is gone, so is what was said about it.
    const before = edge.dev.stderr.length;
    await edge.settled(() => edge.remove("bad.yaml"));
    await edge.dev.waitFor(
      edge.dev.stderr,
      new RegExp(`^resolved: .*${said.source.replace(/^\^/, "")}`),
      before,
    );
    expect(await podOf("good.example.com")).toBe(404);
  });

  test("an empty file holds nothing and is no mistake", async () => {
    const from = edge.dev.stderr.length;
    await edge.settled(() => edge.write("bad.yaml", ""));
    expect(edge.dev.stderr.slice(from).filter((line) => line.startsWith("error:"))).toEqual([]);
    await edge.settled(() => edge.remove("bad.yaml"));
  });

  test("a file that becomes broken keeps what it served until it is whole again", async () => {
    await edge.apply({ "fragile.yaml": ingress("a", { name: "fragile", host: "fragile.example.com" }) });
    const from = edge.dev.stderr.length;
    await edge.settled(() => edge.write("fragile.yaml", "kind: Ingress\n  broken: [\n"));
    await edge.dev.waitFor(
      edge.dev.stderr,
      /^error: File .*fragile\.yaml line \d+: .*; the document is skipped$/,
      from,
    );
    await edge.dev.waitFor(edge.dev.stderr, /these stay as they were: Ingress default\/fragile$/, from);
    expect(await podOf("fragile.example.com")).toBe("a-0");
    await edge.apply({ "fragile.yaml": ingress("b", { name: "fragile", host: "fragile.example.com" }) });
    expect(await podOf("fragile.example.com")).toBe("b-0");
  });
});
