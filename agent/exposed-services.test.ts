import { expect, test } from "vitest";
import type { ConfigMap } from "../cluster/model.ts";
import { readTranslatedServices } from "./exposed-services.ts";

function configMap(data: Readonly<Record<string, string>>): ConfigMap {
  return {
    kind: "ConfigMap",
    meta: { namespace: "ingress-nginx", name: "tcp-services", labels: {}, annotations: {} },
    data,
  };
}

test.each(["shop/db:5432:PROXY", "shop/db:5432::proxy", "shop/db:5432:PROXY:PROXY"])(
  "%s is left to the gateway and costs itself only",
  (value) => {
    const { exposed, diagnostics } = readTranslatedServices(
      configMap({ "9000": value, "7": "shop/echo:7" }),
      "TCP",
    );
    expect(exposed).toEqual([{ protocol: "TCP", nodePort: 7, service: "shop/echo", port: 7 }]);
    expect(diagnostics).toMatchObject([{ severity: "error", field: "data[9000]" }]);
    expect(diagnostics[0]?.message).toContain("PROXY");
  },
);

test("UDP has no PROXY protocol; its fields are ignored", () => {
  const { exposed } = readTranslatedServices(configMap({ "53": "shop/dns:53:PROXY" }), "UDP");
  expect(exposed).toEqual([{ protocol: "UDP", nodePort: 53, service: "shop/dns", port: 53 }]);
});
