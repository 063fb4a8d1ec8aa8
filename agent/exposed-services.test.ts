import { describe, expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { formatDiagnostic } from "../cluster/diagnostic.ts";
import { readManifestText } from "../cluster/files.ts";
import type { ConfigMap } from "../cluster/model.ts";
import { createClusterCompiler } from "./compiler.ts";
import { readTranslatedServices } from "./exposed-services.ts";
import type { NatSettings } from "./settings.ts";

function configMap(data: Readonly<Record<string, string>>): ConfigMap {
  return {
    kind: "ConfigMap",
    meta: { namespace: "ingress-nginx", name: "tcp-services", labels: {}, annotations: {} },
    data,
  };
}

const OWN = new Map([[10256, "--healthz-listen"]]);

test("a port of the agent's own is refused, and costs itself only; of UDP it has none", () => {
  const entries = configMap({ "10256": "shop/db:5432", "7": "shop/echo:7" });
  const { exposed, diagnostics } = readTranslatedServices(entries, "TCP", OWN);
  expect(exposed.map(({ nodePort }) => nodePort)).toEqual([7]);
  expect(diagnostics.map(formatDiagnostic)).toEqual([
    "error: ConfigMap ingress-nginx/tcp-services data[10256]: port 10256 is this agent's own (--healthz-listen); the entry is ignored",
  ]);
  expect(readTranslatedServices(entries, "UDP", OWN).exposed).toHaveLength(2);
});

describe("the compiler tells", () => {
  const CONFIG_MAP = (data: string): string => `
apiVersion: v1
kind: ConfigMap
metadata: { namespace: default, name: tcp }
data: { ${data} }
---`;
  const SERVICE = (name: string, spec: string): string => `
apiVersion: v1
kind: Service
metadata: { namespace: shop, name: ${name} }
spec: { ${spec}, ports: [{ name: web, port: 80 }] }
---`;
  const SETTINGS: NatSettings = {
    node: "n1",
    backend: "nftables",
    localDetector: { kind: "none" },
    masqueradeAll: false,
    dropInvalid: false,
    masqueradeBit: 14,
    serviceCidrs: [],
    nodePortAddresses: ["primary"],
    tcpServices: "default/tcp",
  };
  const modelOf = (yaml: string) => buildClusterModel(readManifestText(yaml, "test").objects).model;

  test("of entries and of a ConfigMap that name what is not there, until it is", async () => {
    const compiler = await createClusterCompiler(SETTINGS, ["IPv4"]);
    const told = (yaml: string): readonly string[] => {
      compiler.note(modelOf(yaml));
      compiler.handOver();
      return compiler
        .diagnostics()
        .filter(({ kind }) => kind === "ConfigMap")
        .map((one) => formatDiagnostic(one).replace("warning: ConfigMap default/tcp ", ""));
    };
    expect(told(SERVICE("web", "clusterIP: 10.96.0.1"))).toEqual([
      "warning: ConfigMap default/tcp: was named as the ConfigMap of TCP services, but does not exist; none is exposed.",
    ]);
    const entries = CONFIG_MAP(
      '"9001": shop/web:web, "9002": shop/none:80, "9003": shop/web:81, "9004": shop/db:80',
    );
    const services = SERVICE("web", "clusterIP: 10.96.0.1") + SERVICE("db", "clusterIP: None");
    const headless = "data[9004]: Service shop/db is headless, so no rule leads to it; the port is closed.";
    expect(told(entries + services)).toEqual([
      "data[9002]: Service shop/none does not exist; the port is closed until there is one.",
      "data[9003]: Service shop/web has no TCP port 81; the port is closed until there is one.",
      headless,
    ]);
    const later = SERVICE("none", "clusterIP: 10.96.0.2");
    expect(told(entries + services + later)).toEqual([
      "data[9003]: Service shop/web has no TCP port 81; the port is closed until there is one.",
      headless,
    ]);
  });
});

test.each(["shop/db:5432:PROXY", "shop/db:5432::proxy", "shop/db:5432:PROXY:PROXY"])(
  "%s is left to the gateway and costs itself only",
  (value) => {
    const { exposed, diagnostics } = readTranslatedServices(
      configMap({ "9000": value, "7": "shop/echo:7" }),
      "TCP",
      new Map(),
    );
    expect(exposed).toEqual([{ protocol: "TCP", nodePort: 7, service: "shop/echo", port: 7 }]);
    expect(diagnostics).toMatchObject([{ severity: "error", field: "data[9000]" }]);
    expect(diagnostics[0]?.message).toContain("PROXY");
  },
);

test("UDP has no PROXY protocol; its fields are ignored", () => {
  const { exposed } = readTranslatedServices(configMap({ "53": "shop/dns:53:PROXY" }), "UDP", OWN);
  expect(exposed).toEqual([{ protocol: "UDP", nodePort: 53, service: "shop/dns", port: 53 }]);
});
