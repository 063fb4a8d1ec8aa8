import { expect, test } from "vitest";
import type { ConfigMap } from "../cluster/model.ts";
import { readExposedServices } from "./exposed-services.ts";

function configMap(data: Readonly<Record<string, string>>): ConfigMap {
  return {
    kind: "ConfigMap",
    meta: { namespace: "ingress-nginx", name: "tcp-services", labels: {}, annotations: {} },
    data,
  };
}

test("entries come out in order of their ports, numbers as numbers and names as names", () => {
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
  ["http", "shop/db:5432", "a port from 1 to 65535"],
  ["0", "shop/db:5432", "a port from 1 to 65535"],
  ["65536", "shop/db:5432", "a port from 1 to 65535"],
  ["9000", "shop/db", "namespace/service:port"],
  ["9000", "db:5432", "namespace/service:port"],
  ["9000", "a/b/c:5432", "namespace/service:port"],
  ["9000", "shop/db:", "namespace/service:port"],
  ["9000", "shop/db:0", "a port of the Service"],
  ["9000", "shop/db:5432:PROXY", "PROXY"],
  ["9000", "shop/db:5432::proxy", "PROXY"],
  ["9000", "shop/db:5432:PROXY:PROXY:more", "namespace/service:port"],
  ["", "", "a port from 1 to 65535"],
])("entry %j: %j costs itself only", (key, value, message) => {
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

test("UDP has no PROXY protocol; its fields are ignored", () => {
  const { exposed } = readExposedServices(configMap({ "53": "shop/dns:53:PROXY" }), "UDP");
  expect(exposed).toHaveLength(1);
});
