/** Random edge configurations for property tests: any hosts, hostile names included; small backends; some secrets. */

import fc from "fast-check";
import type { Backend, EdgeConfig, HostConfig, Route } from "../../edge-config/config.ts";
import type { RoutePolicies } from "../../edge-config/policies.ts";

const HOSTILE = [
  "__proto__",
  "constructor",
  "hasOwnProperty",
  "toString.valueOf",
  "*",
  "*.example.com",
  "*.com",
  "*.*.com",
  "*.",
  ".",
  "",
  'a"b\\c.example',
  "line\nbreak.example",
  "nul\u0000.example",
  "bücher.example",
  "\ud800.example",
  "💥.example",
  "a".repeat(300),
];

const label = fc.stringMatching(/^[a-z0-9-]{1,8}$/);

export const hostName = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(label, label).map(([one, two]) => `${one}.${two}.example`) },
  { weight: 2, arbitrary: label.map((one) => `*.${one}.example`) },
  { weight: 2, arbitrary: fc.constantFrom(...HOSTILE) },
  { weight: 1, arbitrary: fc.string() },
);

export const endpoints = fc.uniqueArray(
  fc.tuple(fc.nat(255), fc.nat(255), fc.nat(65_535)).map(([c, d, port]) => `10.0.${c}.${d}:${port}`),
  { maxLength: 5 },
);

const backendKey = fc.oneof(
  fc.nat(20).map((n) => `shop-web${n}-80`),
  fc.constantFrom("__proto__", "constructor"),
);

const policies: fc.Arbitrary<RoutePolicies | undefined> = fc.option(
  fc.record({
    cors: fc.record({
      allowOrigins: fc.array(fc.string(), { maxLength: 2 }),
      allowMethods: fc.string(),
      allowHeaders: fc.string(),
      allowCredentials: fc.boolean(),
      maxAgeSeconds: fc.nat(),
    }),
  }),
  { nil: undefined },
);

const route: fc.Arbitrary<Route> = fc
  .record({
    path: fc.oneof(fc.constant("/"), fc.string()),
    pathType: fc.constantFrom("Exact", "Prefix"),
    ingress: fc.constantFrom("shop/web", undefined),
    backend: fc.option(backendKey, { nil: undefined }),
    denied: fc.option(fc.string(), { nil: undefined }),
    policies,
  })
  .map(({ path, pathType, ...rest }) => ({ path, pathType, ...defined(rest) }));

/** The fields that are not undefined: `exactOptionalPropertyTypes` tells the two apart, and so does JSON. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

const hostConfig: fc.Arbitrary<HostConfig> = fc
  .record({
    matching: fc.constantFrom("kubernetes", "nginx", "regex"),
    routes: fc.array(route, { maxLength: 5 }),
    denied: fc.option(fc.string(), { nil: undefined }),
  })
  .map(({ matching, routes, denied }) => ({ matching, routes, ...defined({ denied }) }));

/** Whole configurations in which every named backend exists. */
export const edgeConfig: fc.Arbitrary<EdgeConfig> = fc
  .record({
    hosts: fc.uniqueArray(fc.tuple(hostName, hostConfig), { maxLength: 60, selector: ([name]) => name }),
    endpointLists: fc.array(endpoints, { minLength: 1, maxLength: 8 }),
  })
  .map(({ hosts, endpointLists }) => {
    const names = new Set<string>();
    for (const [, host] of hosts) {
      for (const { backend } of host.routes) if (backend !== undefined) names.add(backend);
    }
    const backends = [...names].map((name, at): [string, Backend] => [
      name,
      {
        namespace: "shop",
        service: name,
        port: "80",
        endpoints: endpointLists[at % endpointLists.length] ?? [],
      },
    ]);
    return { version: 1, hosts: Object.fromEntries(hosts), backends: Object.fromEntries(backends) } as const;
  });
