/** A thousand hosts with ten paths each: every answer comes from the right Service and path. */

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Edge } from "./support/edge.ts";

const HOSTS = 1000;
const PATHS = 10;
const SERVICES = 5;

let edge: Edge;

const hostOf = (host: number): string => `host-${host}.many.example.com`;
const serviceOf = (host: number, path: number): string => `s${(host * 7 + path * 3) % SERVICES}`;

/** Paths nest (`/p3` within `/p3/deep`), so that the longest one has to be found. */
const pathOf = (path: number): string => (path % 2 === 0 ? `/p${path}` : `/p${path - 1}/deep`);

beforeAll(async () => {
  const manifests = Array.from({ length: HOSTS }, (_, host) =>
    JSON.stringify({
      apiVersion: "networking.k8s.io/v1",
      kind: "Ingress",
      metadata: { name: `many-${host}` },
      spec: {
        rules: [
          {
            host: hostOf(host),
            http: {
              paths: Array.from({ length: PATHS }, (_, path) => ({
                path: pathOf(path),
                pathType: "Prefix",
                backend: { service: { name: serviceOf(host, path), port: { number: 80 } } },
              })),
            },
          },
        ],
      },
    }),
  );
  edge = await Edge.start({
    backends: Object.fromEntries(Array.from({ length: SERVICES }, (_, service) => [`s${service}`, 1])),
    manifests: manifests.join("\n---\n"),
  });
});

afterAll(() => edge?.stop());

test("random probes", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(HOSTS - 1),
      fc.nat(PATHS - 1),
      fc.constantFrom("", "/", "/more", "?x=/p1"),
      async (host, path, tail) => {
        const target = `${pathOf(path)}${tail}`;
        const reply = await edge.request({ host: hostOf(host), path: target });
        expect(reply.status).toBe(200);
        expect(reply.echo).toMatchObject({
          pod: `${serviceOf(host, path)}-0`,
          url: target,
          headers: { host: hostOf(host) },
        });
      },
    ),
    { numRuns: 1000 },
  );
});

test("what no rule names is 404", async () => {
  for (const [host, path] of [
    [hostOf(0), "/"],
    [hostOf(0), "/p1"],
    [hostOf(999), "/p0deep"],
    [hostOf(1000), "/p0"],
  ] as const) {
    expect((await edge.request({ host, path })).status).toBe(404);
  }
});
