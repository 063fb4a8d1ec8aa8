/** The control API of `fairlead dev`: the control service's own, over the files. */

import { get } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let api: string;

beforeAll(async () => {
  edge = await Edge.start({
    backends: { web: 1 },
    manifests: ingress("web", { name: "web", host: "api.example.com" }),
  });
  const line = await edge.dev.waitFor(edge.dev.stderr, /^the control API is at /);
  api = line.slice("the control API is at ".length);
});

afterAll(() => edge?.stop());

async function ask(
  path: string,
): Promise<{ readonly status: number; readonly body: Record<string, unknown> }> {
  const answer = await fetch(`${api}${path}`);
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}

test("is ready once the edge is", async () => {
  expect(await ask("/readyz")).toEqual({ status: 200, body: { ready: true } });
});

test("explains where a request goes", async () => {
  const { body } = await ask(`/v1/explain?url=${encodeURIComponent("http://api.example.com/x")}`);
  expect(body).toMatchObject({
    route: { ingress: "default/web" },
    backend: { endpoints: [`127.0.0.1:${edge.backend("web").port}`] },
  });
});

test("tells what is wrong, as soon as the files say so", async () => {
  await edge.apply({ "bad.yaml": ingress("missing", { name: "bad", host: "bad.example.com" }) });
  const { body } = await ask("/v1/diagnostics?object=default/bad");
  expect(body.diagnostics).toMatchObject([{ object: "default/bad", cluster: "local" }]);
  const { body: status } = await ask("/v1/status");
  expect(status).toMatchObject({ ready: true, edge: { hosts: 2 } });
});

test("takes no states, and answers under no foreign name", async () => {
  const pushed = await fetch(`${api}/v1/clusters/local/state`, { method: "PUT", body: "{}" });
  expect(pushed.status).toBe(405);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    get(`${api}/v1/status`, { headers: { Host: "evil.example.com" } }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    }).on("error", reject);
  });
  expect(status).toBe(403);
});
