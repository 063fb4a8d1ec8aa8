import { describe, expect, test } from "vitest";
import { buildClusterModel } from "./build.ts";
import { endpointsOfExposed, readExposedServices } from "./exposed-services.ts";
import { readManifestText } from "./files.ts";
import type { ConfigMap } from "./model.ts";

function configMap(data: Readonly<Record<string, string>>): ConfigMap {
  return {
    kind: "ConfigMap",
    meta: { namespace: "ingress-nginx", name: "tcp-services", labels: {}, annotations: {} },
    data,
  };
}

describe("entries", () => {
  test("come out in order of their ports, numbers as numbers and names as names", () => {
    const { exposed, diagnostics } = readExposedServices(
      configMap({ "9000": "shop/db:5432", "853": " shop/dns:dns-tls ", "53": "shop/dns:53:" }),
      "TCP",
    );
    expect(exposed).toEqual([
      { protocol: "TCP", nodePort: 53, service: "shop/dns", port: 53 },
      { protocol: "TCP", nodePort: 853, service: "shop/dns", port: "dns-tls" },
      { protocol: "TCP", nodePort: 9000, service: "shop/db", port: 5432 },
    ]);
    expect(diagnostics).toEqual([]);
  });

  test.each([
    ["shop/db:5432:PROXY", { decode: true, encode: false }],
    ["shop/db:5432:proxy", { decode: true, encode: false }],
    ["shop/db:5432:PROXY:", { decode: true, encode: false }],
    ["shop/db:5432::PROXY", { decode: false, encode: true }],
    ["shop/db:5432:Proxy:pROXY", { decode: true, encode: true }],
    ["shop/db:5432::", undefined],
  ])("%s: the PROXY protocol from clients, and to pods", (value, want) => {
    const { exposed, diagnostics } = readExposedServices(configMap({ "9000": value }), "TCP");
    expect(exposed.map(({ proxyProtocol }) => proxyProtocol)).toEqual([want]);
    expect(diagnostics).toEqual([]);
  });

  test.each([
    ["http", "shop/db:5432", "a port from 1 to 65535"],
    ["0", "shop/db:5432", "a port from 1 to 65535"],
    ["65536", "shop/db:5432", "a port from 1 to 65535"],
    ["9000", "shop/db", "namespace/service:port"],
    ["9000", "db:5432", "namespace/service:port"],
    ["9000", "a/b/c:5432", "namespace/service:port"],
    ["9000", "shop/db:", "namespace/service:port"],
    ["9000", "shop/db:0", "a port of the Service"],
    ["9000", "shop/db:5432:PROXY:PROXY:more", "namespace/service:port"],
    ["", "", "a port from 1 to 65535"],
    ["80", "shop/db:5432", "port 80 is reserved"],
    ["442", "shop/db:5432", "port 442 is reserved"],
    ["443", "shop/db:5432", "port 443 is reserved"],
    ["8181", "shop/db:5432", "port 8181 is reserved"],
    ["10245", "shop/db:5432", "port 10245 is reserved"],
    ["10246", "shop/db:5432", "port 10246 is reserved"],
    ["10247", "shop/db:5432", "port 10247 is reserved"],
    ["10254", "shop/db:5432", "port 10254 is reserved"],
  ])("%j: %j costs itself only", (key, value, message) => {
    const { exposed, diagnostics } = readExposedServices(
      configMap({ [key]: value, "7": "shop/echo:7" }),
      "TCP",
    );
    expect(exposed.map(({ nodePort }) => nodePort)).toEqual([7]);
    expect(diagnostics).toMatchObject([
      { severity: "error", kind: "ConfigMap", object: "ingress-nginx/tcp-services", field: `data[${key}]` },
    ]);
    expect(diagnostics[0]?.message).toContain(message);
  });

  test("two spellings of one port are one entry", () => {
    const { exposed, diagnostics } = readExposedServices(
      configMap({ "0053": "shop/a:1", "53": "shop/b:2" }),
      "UDP",
    );
    expect(exposed).toEqual([{ protocol: "UDP", nodePort: 53, service: "shop/a", port: 1 }]);
    expect(diagnostics[0]?.message).toContain("port 53 is exposed by another entry already");
  });

  test("UDP has no PROXY protocol; its fields are ignored, and told", () => {
    const { exposed, diagnostics } = readExposedServices(configMap({ "53": "shop/dns:53:PROXY" }), "UDP");
    expect(exposed).toEqual([{ protocol: "UDP", nodePort: 53, service: "shop/dns", port: 53 }]);
    expect(diagnostics).toMatchObject([{ severity: "warning", field: "data[53]" }]);
  });

  test("another word than PROXY is ignored, and told", () => {
    const { exposed, diagnostics } = readExposedServices(configMap({ "53": "shop/dns:53:TLS" }), "TCP");
    expect(exposed).toEqual([{ protocol: "TCP", nodePort: 53, service: "shop/dns", port: 53 }]);
    expect(diagnostics[0]).toMatchObject({ severity: "warning", message: expect.stringContaining('"TLS"') });
  });
});

describe("endpoints", () => {
  const { model } = buildClusterModel(
    readManifestText(
      `
apiVersion: v1
kind: Service
metadata: { namespace: shop, name: dns }
spec: { ports: [{ name: query, port: 53, targetPort: 5353, protocol: UDP }, { name: query-tcp, port: 53, targetPort: 5354 }, { name: new, port: 80, targetPort: 53 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { namespace: shop, name: dns-1, labels: { kubernetes.io/service-name: dns } }
addressType: IPv4
ports: [{ name: query, port: 5353, protocol: UDP }, { name: query-tcp, port: 5354 }]
endpoints: [{ addresses: [10.180.0.2] }, { addresses: [10.180.0.1] }, { addresses: [10.180.0.3], conditions: { ready: false } }]
---
apiVersion: v1
kind: Service
metadata: { namespace: shop, name: idle }
spec: { ports: [{ port: 53, protocol: UDP }] }
`,
      "test",
    ).objects,
  );
  test.each([
    ["UDP", "shop/dns", 53, ["10.180.0.1:5353", "10.180.0.2:5353"]],
    ["TCP", "shop/dns", 53, ["10.180.0.1:5354", "10.180.0.2:5354"]],
    ["TCP", "shop/dns", "query-tcp", ["10.180.0.1:5354", "10.180.0.2:5354"]],
    ["TCP", "shop/dns", "query", 'Service shop/dns has no TCP port "query"'],
    ["TCP", "shop/dns", 5354, "Service shop/dns has no TCP port 5354"],
    ["UDP", "shop/nowhere", 53, "Service shop/nowhere does not exist"],
    ["UDP", "shop/idle", 53, "Service shop/idle has no ready endpoint for its UDP port 53"],
  ] as const)("%s %s:%s", (protocol, service, port, want) => {
    expect(endpointsOfExposed({ protocol, service, port }, model)).toEqual(
      typeof want === "string" ? { kind: "none", reason: want } : { kind: "endpoints", endpoints: want },
    );
  });
});
