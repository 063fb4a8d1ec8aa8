import { describe, expect, test } from "vitest";
import { findServicePort, servingEndpoints } from "./endpoints.ts";
import type { Endpoint, EndpointPort, EndpointSlice, Service, ServicePort } from "./model.ts";

const meta = { namespace: "shop", name: "web-1", labels: {}, annotations: {} };

function endpoint(address: string, conditions: Partial<Endpoint> = {}): Endpoint {
  return {
    addresses: [address],
    ready: true,
    serving: true,
    terminating: false,
    hintsForZones: [],
    hintsForNodes: [],
    ...conditions,
  };
}

function slice(
  ports: readonly Partial<EndpointPort>[],
  endpoints: readonly Endpoint[],
  more: Partial<EndpointSlice> = {},
): EndpointSlice {
  return {
    kind: "EndpointSlice",
    source: "EndpointSlice",
    meta,
    serviceName: "web",
    addressType: "IPv4",
    ports: ports.map((port) => ({ name: "", protocol: "TCP", ...port })),
    endpoints,
    ...more,
  };
}

function port(more: Partial<ServicePort> = {}): ServicePort {
  return { name: "http", protocol: "TCP", port: 80, targetPort: 8080, ...more };
}

const A = "10.180.0.1";
const B = "10.180.0.2";

describe("servingEndpoints", () => {
  test.each<[string, ServicePort, readonly EndpointSlice[], readonly string[]]>([
    ["nothing", port(), [], []],
    [
      "the slice's port, not the Service's",
      port(),
      [slice([{ name: "http", port: 9000 }], [endpoint(A)])],
      [`${A}:9000`],
    ],
    [
      "sorted, each once, over several slices",
      port(),
      [
        slice([{ name: "http", port: 80 }], [endpoint(B), endpoint(A)]),
        slice([{ name: "http", port: 80 }], [endpoint(A)]),
      ],
      [`${A}:80`, `${B}:80`],
    ],
    [
      "only ready ones",
      port(),
      [slice([{ name: "http", port: 80 }], [endpoint(A, { ready: false }), endpoint(B)])],
      [`${B}:80`],
    ],
    [
      "not one that terminates, though it serves",
      port(),
      [
        slice(
          [{ name: "http", port: 80 }],
          [endpoint(A, { ready: false, serving: true, terminating: true })],
        ),
      ],
      [],
    ],
    [
      "one that is not ready in one slice and ready in another",
      port(),
      [
        slice([{ name: "http", port: 80 }], [endpoint(A, { ready: false })]),
        slice([{ name: "http", port: 80 }], [endpoint(A)]),
      ],
      [`${A}:80`],
    ],
    [
      "the port of its name among several",
      port({ name: "metrics", targetPort: "m" }),
      [
        slice(
          [
            { name: "http", port: 80 },
            { name: "metrics", port: 9100 },
          ],
          [endpoint(A)],
        ),
      ],
      [`${A}:9100`],
    ],
    [
      "slices that give one name different numbers",
      port({ targetPort: "web" }),
      [
        slice([{ name: "http", port: 80 }], [endpoint(A)]),
        slice([{ name: "http", port: 81 }], [endpoint(B)]),
      ],
      [`${A}:80`, `${B}:81`],
    ],
    [
      "an unnamed Service port takes any port",
      port({ name: "", targetPort: "web" }),
      [slice([{ name: "x", port: 8443 }], [endpoint(A)])],
      [`${A}:8443`],
    ],
    ["the target port where the slice has no ports", port(), [slice([], [endpoint(A)])], [`${A}:8080`]],
    [
      "the target port where no name fits",
      port(),
      [slice([{ name: "other", port: 1 }], [endpoint(A)])],
      [`${A}:8080`],
    ],
    [
      "the target port where the slice's port has no number",
      port(),
      [slice([{ name: "http" }], [endpoint(A)])],
      [`${A}:8080`],
    ],
    [
      "nothing for a named target port that no slice has",
      port({ targetPort: "web" }),
      [slice([{ name: "other", port: 1 }], [endpoint(A)])],
      [],
    ],
    [
      "nothing of another protocol",
      port(),
      [slice([{ name: "http", port: 80, protocol: "UDP" }], [endpoint(A)])],
      [],
    ],
    [
      "IPv6 in brackets",
      port(),
      [slice([{ name: "http", port: 80 }], [endpoint("fd00::1")], { addressType: "IPv6" })],
      ["[fd00::1]:80"],
    ],
    [
      "names",
      port(),
      [slice([{ name: "http", port: 80 }], [endpoint("db.example.com")], { addressType: "FQDN" })],
      ["db.example.com:80"],
    ],
  ])("%s", (_name, servicePort, slices, want) => {
    expect(servingEndpoints(servicePort, slices)).toEqual(want);
    expect(servingEndpoints(servicePort, [...slices].reverse())).toEqual(want);
  });
});

test("findServicePort: by number, by the name of the target port, by its own name", () => {
  const ports = [
    port({ name: "a", port: 80, targetPort: "web" }),
    port({ name: "b", port: 81, targetPort: 80 }),
  ];
  const service = { ports } as unknown as Service;
  expect(findServicePort(service, { number: 80 })?.name).toBe("a");
  expect(findServicePort(service, { name: "web" })?.name).toBe("a");
  expect(findServicePort(service, { name: "b" })?.name).toBe("b");
  expect(findServicePort(service, { number: 82 })).toBeUndefined();
  expect(findServicePort(service, { name: "c" })).toBeUndefined();
});
