import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatDiagnostic } from "../diagnostic.ts";
import type { Ingress, KubernetesObject, Service } from "../model.ts";
import { readDocuments } from "../yaml/documents.ts";
import { parseObject } from "./parse.ts";

function parse(yaml: string): {
  objects: readonly KubernetesObject[];
  said: readonly string[];
  lost: number;
} {
  const [document] = [...readDocuments(yaml)];
  if (document?.kind !== "read") throw new Error("the test's own YAML is broken");
  const { objects, diagnostics, lost } = parseObject(document.value, "test.yaml:1");
  return { objects, said: diagnostics.map(formatDiagnostic), lost };
}

function only<K extends KubernetesObject["kind"]>(
  yaml: string,
  kind: K,
): Extract<KubernetesObject, { kind: K }> {
  const { objects, said } = parse(yaml);
  expect(said).toEqual([]);
  const [object] = objects;
  expect(object?.kind).toBe(kind);
  return object as Extract<KubernetesObject, { kind: K }>;
}

const V1_PATHS = (paths: string): string => `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  rules:
  - host: shop.example.com
    http:
      paths:
${paths.replaceAll(/^/gm, "      ")}
`;

describe("Ingress", () => {
  test("networking.k8s.io/v1", () => {
    const ingress = only(
      `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: shop
  creationTimestamp: "2026-01-31T13:00:00+01:00"
  annotations: {nginx.ingress.kubernetes.io/enable-cors: "true"}
spec:
  ingressClassName: nginx
  defaultBackend: {service: {name: fallback, port: {name: http}}}
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
  - host: Shop.Example.com
    http:
      paths:
      - {path: /a, pathType: Exact, backend: {service: {name: web, port: {number: 80}}}}
      - {pathType: Prefix, backend: {resource: {apiGroup: k8s.example.com, kind: Bucket, name: pictures}}}
  - host: "*.example.com"
`,
      "Ingress",
    );
    expect(ingress).toEqual({
      kind: "Ingress",
      apiVersion: "networking.k8s.io/v1",
      meta: {
        name: "web",
        namespace: "shop",
        creationTimestamp: "2026-01-31T12:00:00Z",
        labels: {},
        annotations: { "nginx.ingress.kubernetes.io/enable-cors": "true" },
      },
      ingressClassName: "nginx",
      defaultBackend: { kind: "Service", name: "fallback", port: { name: "http" } },
      tls: [{ hosts: ["shop.example.com"], secretName: "shop-tls" }],
      rules: [
        {
          host: "shop.example.com",
          paths: [
            {
              path: "/a",
              pathType: "Exact",
              backend: { kind: "Service", name: "web", port: { number: 80 } },
            },
            {
              path: "/",
              pathType: "Prefix",
              backend: {
                kind: "Resource",
                apiGroup: "k8s.example.com",
                resourceKind: "Bucket",
                name: "pictures",
              },
            },
          ],
        },
        { host: "*.example.com" },
      ],
    });
  });

  test.each(["extensions/v1beta1", "networking.k8s.io/v1beta1"] as const)("%s", (apiVersion) => {
    const ingress = only(
      `
apiVersion: ${apiVersion}
kind: Ingress
metadata: {name: web}
spec:
  backend: {serviceName: fallback, servicePort: "8080"}
  rules:
  - http:
      paths:
      - backend: {serviceName: web, servicePort: 80}
      - {path: "/x/([0-9]+)", backend: {serviceName: web, servicePort: http}}
`,
      "Ingress",
    );
    expect(ingress).toMatchObject({
      apiVersion,
      meta: { namespace: "default" },
      defaultBackend: { name: "fallback", port: { number: 8080 } },
      rules: [
        {
          host: "",
          paths: [
            { path: "/", pathType: "ImplementationSpecific", backend: { name: "web", port: { number: 80 } } },
            { path: "/x/([0-9]+)", pathType: "ImplementationSpecific", backend: { port: { name: "http" } } },
          ],
        },
      ],
    });
  });

  /** A bad path costs itself; the good one beside it stays. */
  test.each<[string, string, string]>([
    [
      "no path type",
      "- {path: /b, backend: {service: {name: b, port: {number: 80}}}}",
      "paths[1].pathType: it is required in networking.k8s.io/v1 and missing; Exact, Prefix, ImplementationSpecific are expected; the path is ignored",
    ],
    [
      "an unknown path type",
      "- {path: /b, pathType: exact, backend: {service: {name: b, port: {number: 80}}}}",
      'paths[1].pathType: "exact" came where Exact, Prefix, ImplementationSpecific is expected',
    ],
    [
      "no slash",
      "- {path: b, pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}",
      'paths[1].path: "b" does not begin with /',
    ],
    [
      "two slashes",
      "- {path: /a//b, pathType: Exact, backend: {service: {name: b, port: {number: 80}}}}",
      'paths[1].path: "/a//b" holds "//", which no path of type Exact may',
    ],
    [
      "a dot segment",
      "- {path: /a/.., pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}",
      'paths[1].path: "/a/.." ends with "/.."',
    ],
    [
      "an escaped slash",
      '- {path: "/a%2Fb", pathType: Prefix, backend: {service: {name: b, port: {number: 80}}}}',
      'holds "%2F"',
    ],
    [
      "a line break",
      '- {path: "/a\\nb", pathType: ImplementationSpecific, backend: {service: {name: b, port: {number: 80}}}}',
      'paths[1].path: "/a\\nb" holds a control character',
    ],
    ["no backend", "- {path: /b, pathType: Exact}", "paths[1].backend: it is required and missing"],
    [
      "a backend of v1beta1",
      "- {path: /b, pathType: Exact, backend: {serviceName: b, servicePort: 80}}",
      "serviceName: the field is not known here and is ignored; networking.k8s.io/v1 writes service.name",
    ],
    [
      "no port",
      "- {path: /b, pathType: Exact, backend: {service: {name: b}}}",
      "service.port: it is required and missing",
    ],
    [
      "an empty port",
      "- {path: /b, pathType: Exact, backend: {service: {name: b, port: {}}}}",
      "neither number (1 to 65535) nor name is given",
    ],
    [
      "both ports",
      "- {path: /b, pathType: Exact, backend: {service: {name: b, port: {number: 80, name: http}}}}",
      'both number 80 and name "http" are given where one is expected',
    ],
    [
      "a port beyond 65535",
      "- {path: /b, pathType: Exact, backend: {service: {name: b, port: {number: 65536}}}}",
      "the number 65536 came where a whole number from 0 to 65535 is expected",
    ],
    [
      "a port as text",
      '- {path: /b, pathType: Exact, backend: {service: {name: b, port: {number: "80"}}}}',
      'service.port.number: "80" came where a whole number',
    ],
    [
      "a name that is none",
      "- {path: /b, pathType: Exact, backend: {service: {name: B_b, port: {number: 80}}}}",
      '"B_b" is no name of a Service',
    ],
    [
      "service and resource",
      "- {path: /b, pathType: Exact, backend: {service: {name: b, port: {number: 80}}, resource: {kind: X, name: y}}}",
      "both service and resource are given",
    ],
    ["no map", "- text", '"text" came where a map is expected'],
    [
      "a number as name",
      "- {path: /b, pathType: Exact, backend: {service: {name: 5, port: {number: 80}}}}",
      "service.name: the number 5 came where text is expected (quote it)",
    ],
  ])("a path with %s costs itself", (_name, path, want) => {
    const good = "- {path: /a, pathType: Exact, backend: {service: {name: a, port: {number: 80}}}}";
    const { objects, said, lost } = parse(V1_PATHS(`${good}\n${path}`));
    expect(said.join("\n")).toContain(want);
    expect(
      said.filter((line) => line.startsWith("error: Ingress shop/web spec.rules[0].http.paths[1]")),
    ).not.toEqual([]);
    expect(lost).toBe(0);
    expect((objects[0] as Ingress).rules).toEqual([
      { host: "shop.example.com", paths: [expect.objectContaining({ path: "/a" })] },
    ]);
  });

  test.each<[string, string, string]>([
    [
      "an address",
      "10.0.0.1",
      'host: "10.0.0.1" is an IP address where a host name is expected; the rule is ignored',
    ],
    ["a port", "a.example.com:8080", 'host: "a.example.com:8080" has a port'],
    ["a bare star", '"*"', 'host: "*" came where a host name or one such as *.example.com is expected'],
    ["a star within", "a.*.example.com", 'host: "a.*.example.com" came where'],
    ["a scheme", "https://a.example.com", 'host: "https://a.example.com" is no host name'],
    ["a place for a name", "<yourchoice>.example.com", 'host: "<yourchoice>.example.com" is no host name'],
    ["a number", "5", "host: the number 5 came where text is expected"],
  ])("a host with %s costs its rule", (_name, host, want) => {
    const paths =
      "http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}";
    const { objects, said } = parse(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - {host: ${host}, ${paths}}
  - {host: good.example.com, ${paths}}
`);
    expect(said).toEqual([expect.stringContaining(`error: Ingress default/web spec.rules[0].${want}`)]);
    expect((objects[0] as Ingress).rules.map((rule) => rule.host)).toEqual(["good.example.com"]);
  });

  test("fields at the wrong place are told, with where they belong", () => {
    const { objects, said } = parse(`
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: web}
annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: "true"}
spec:
  rules:
  - http:
      paths: [{backend: {serviceName: web, servicePort: 80}}]
      tls: [{secretName: tls}]
`);
    expect(said).toEqual([
      "warning: Ingress default/web annotations: the field is not known here and is ignored; annotations belong into metadata.annotations (test.yaml:1)",
      "warning: Ingress default/web spec.rules[0].http.tls: the field is not known here and is ignored; tls belongs into spec.tls (test.yaml:1)",
    ]);
    expect((objects[0] as Ingress).meta.annotations).toEqual({});
    expect((objects[0] as Ingress).rules[0]?.paths).toHaveLength(1);
  });

  test("a rule whose paths cannot be read still claims its host", () => {
    const { objects } = parse(V1_PATHS("- {path: b}"));
    expect((objects[0] as Ingress).rules).toEqual([{ host: "shop.example.com", paths: [] }]);
  });
});

describe("what costs the whole object", () => {
  test.each<[string, string, string]>([
    [
      "no metadata",
      "{apiVersion: v1, kind: Service}",
      "metadata: it is required and missing; the object is skipped",
    ],
    [
      "no name",
      "{apiVersion: v1, kind: Service, metadata: {namespace: x}}",
      "metadata.name: it is required and missing",
    ],
    [
      "a generated name",
      "{apiVersion: v1, kind: Pod, metadata: {generateName: x-}}",
      "error: Pod default/x- metadata.name: it is required and missing",
    ],
    [
      "a name with capitals",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: Web}}",
      'metadata.name: "Web" is no name',
    ],
    [
      "a Service named like a host",
      "{apiVersion: v1, kind: Service, metadata: {name: a.b}, spec: {}}",
      'metadata.name: "a.b" is no name',
    ],
    [
      "a namespace that is none",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: a/b}}",
      'metadata.namespace: "a/b" is no name',
    ],
    [
      "metadata that is a list",
      "{apiVersion: v1, kind: ConfigMap, metadata: []}",
      "metadata: a list came where a map is expected",
    ],
    [
      "an annotation that is no text",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {x: true}}}",
      'metadata.annotations["x"]: the boolean true came where text is expected; write "true" in quotes',
    ],
    [
      "labels that are a list",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: [x]}}",
      "metadata.labels: a list came where a map of text to text is expected",
    ],
    [
      "a value that is no text",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: 5}}",
      'data["x"]: the number 5 came where text is expected; write "5" in quotes',
    ],
    [
      "a time that is none",
      "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, creationTimestamp: yesterday}}",
      'metadata.creationTimestamp: "yesterday" came where a time',
    ],
    [
      "a spec that is text",
      "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: text}",
      'spec: "text" came where a map is expected',
    ],
    [
      "rules that are a map",
      "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a}, spec: {rules: {}}}",
      "spec.rules: a map came where a list is expected",
    ],
    [
      "a policy that is none",
      "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}], externalTrafficPolicy: local}}",
      'spec.externalTrafficPolicy: "local" came where Cluster, Local is expected',
    ],
    [
      "a source range that is none",
      "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0]}}",
      'spec.loadBalancerSourceRanges[0]: "10.0.0.0" is no range such as 203.0.113.0/24',
    ],
    [
      "a slice without a type",
      "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, labels: {kubernetes.io/service-name: x}}, endpoints: []}",
      "addressType: it is required and missing",
    ],
    [
      "base64 that is none",
      "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {password: 'hunter2!'}}",
      'data["password"]: the value is not base64 (plain text belongs into stringData)',
    ],
    [
      "an unknown version of a kind of ours",
      "{apiVersion: networking.k8s.io/v2, kind: Ingress, metadata: {name: a}}",
      'apiVersion: "networking.k8s.io/v2" came where networking.k8s.io/v1, networking.k8s.io/v1beta1, extensions/v1beta1 is expected',
    ],
  ])("%s", (_name, yaml, want) => {
    const { objects, said, lost } = parse(yaml);
    expect(objects).toEqual([]);
    expect(lost).toBe(1);
    expect(said.join("\n")).toContain(want);
    expect(said[0]).toMatch(/^error: /);
  });

  test("the value of a Secret is never told", () => {
    for (const data of ["{a: 'hunter2!'}", "{a: 12345}", "{a: [hunter2]}", "hunter2"]) {
      const { said } = parse(
        `{apiVersion: v1, kind: Secret, metadata: {name: a}, data: ${data}, stringData: ${data}}`,
      );
      expect(said).not.toEqual([]);
      expect(said.join("\n")).not.toMatch(/hunter2|12345/);
    }
  });
});

describe("what is no object of ours", () => {
  test.each<[string, string, string]>([
    [
      "a list",
      "[1, 2]",
      "error: File test.yaml:1: a list came where a Kubernetes object is expected; it is skipped",
    ],
    ["text", "hello", 'error: File test.yaml:1: "hello" came where a Kubernetes object is expected'],
    [
      "settings of something else",
      "{replicas: 2}",
      "error: File test.yaml:1: a document without apiVersion and kind is no Kubernetes object",
    ],
    [
      "no apiVersion",
      "{kind: Ingress}",
      "error: File test.yaml:1: a Ingress without apiVersion is no Kubernetes object",
    ],
    [
      "an unknown kind",
      "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}",
      "info: Deployment web: objects of apps/v1 Deployment have no meaning here and are skipped",
    ],
    [
      "a kind of another group",
      "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: web}}",
      "info: Service default/web: objects of serving.knative.dev/v1 Service have no meaning here",
    ],
    [
      "a slice of nobody",
      "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: []}",
      'warning: EndpointSlice default/a metadata.labels["kubernetes.io/service-name"]: the slice names no Service',
    ],
  ])("%s", (_name, yaml, want) => {
    const { objects, said } = parse(yaml);
    expect(objects).toEqual([]);
    expect(said).toEqual([expect.stringContaining(want)]);
  });
});

test.each<[string, string, string]>([
  [
    "a second address of a family",
    "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIPs: [172.30.0.41, 172.30.0.42], ports: [{port: 80}]}}",
    'error: Service default/web spec.clusterIPs: "172.30.0.42" is a second address of IPv4; it is ignored',
  ],
  [
    "a clusterIP that is not the first of clusterIPs",
    "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: banana, clusterIPs: [172.30.0.41], ports: [{port: 80}]}}",
    'error: Service default/web spec.clusterIP: "banana" is not the first of clusterIPs, "172.30.0.41"; it is ignored',
  ],
  [
    "an annotation of ours that is not known",
    "{apiVersion: v1, kind: Service, metadata: {name: web, annotations: {fairlead.dev/balnce: maglev}}, spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}}",
    "the annotation is not known here and is ignored; is fairlead.dev/balance meant?",
  ],
  [
    "an endpoint without addresses",
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: []}]}",
    "error: EndpointSlice default/web endpoints[0].addresses: it is required and missing",
  ],
  [
    "a hint without a name",
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{}]}}]}",
    "endpoints[0].hints.forZones[0].name: it is required and missing; the hint is ignored",
  ],
  [
    "an address of a Node that is none",
    "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: zz}, {type: Hostname, address: n1}]}}",
    'error: Node n1 status.addresses[0].address: "zz" is no IP address; the address is ignored',
  ],
])("%s costs itself, and is told", (_name, yaml, want) => {
  const { objects, said } = parse(yaml);
  expect(objects).toHaveLength(1);
  expect(said).toEqual([expect.stringContaining(want)]);
});

describe("lists", () => {
  test("whose items are none", () => {
    const { objects, said } = parse("{apiVersion: v1, kind: List, items: {}}");
    expect(objects).toEqual([]);
    expect(said).toEqual([
      expect.stringContaining("items: a map came where a list is expected; the List is skipped"),
    ]);
  });

  test("of any kind, within each other", () => {
    const { objects, said } = parse(`
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- apiVersion: networking.k8s.io/v1
  kind: IngressClassList
  items:
  - {metadata: {name: nginx}, spec: {controller: k8s.io/ingress-nginx}}
- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: B}}]}
- {apiVersion: v1, kind: ServiceList, items: null}
`);
    expect(objects.map((object) => `${object.kind} ${object.meta.name}`)).toEqual([
      "ConfigMap a",
      "IngressClass nginx",
    ]);
    expect(said).toEqual([expect.stringContaining("error: ConfigMap default/B metadata.name")]);
    expect(said[0]).toContain("(test.yaml:1 items[2] items[0])");
  });

  test("deeper than anybody nests them are refused", () => {
    let value: unknown = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a" } };
    for (let i = 0; i < 20; i++) value = { apiVersion: "v1", kind: "List", items: [value] };
    const { objects, diagnostics, lost } = parseObject(value);
    expect(objects).toEqual([]);
    expect(lost).toBe(1);
    expect(diagnostics[0]?.message).toContain("lists within lists");
  });
});

describe("Service", () => {
  test("defaults of the API", () => {
    expect(
      only("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}", "Service"),
    ).toEqual({
      kind: "Service",
      meta: { namespace: "default", name: "web", labels: {}, annotations: {} },
      type: "ClusterIP",
      clusterIPs: [],
      ports: [{ name: "", protocol: "TCP", port: 80, targetPort: 80 }],
      externalIPs: [],
      loadBalancerSourceRanges: [],
      loadBalancerIngress: [],
      internalTrafficPolicy: "Cluster",
      externalTrafficPolicy: "Cluster",
      publishNotReadyAddresses: false,
      allocateLoadBalancerNodePorts: true,
    });
  });

  test("all of it, with sloppy addresses", () => {
    const service = only(
      `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.041
  clusterIPs: [172.30.0.041, "FD00:0:0::1"]
  selector: {app: web}
  sessionAffinity: ClientIP
  externalIPs: [1.2.3.004, 1.2.3.4]
  loadBalancerSourceRanges: [" 203.0.113.000/025 "]
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080, appProtocol: http}
  - {name: dns, port: 80, protocol: UDP}
status:
  loadBalancer:
    ingress: [{ip: 5.6.7.8}, {ip: 5.6.7.9, ipMode: Proxy}, {hostname: lb.example.com}]
`,
      "Service",
    );
    expect(service).toMatchObject({
      clusterIPs: ["172.30.0.41", "fd00::1"],
      selector: { app: "web" },
      sessionAffinityTimeoutSeconds: 10_800,
      externalIPs: ["1.2.3.4"],
      loadBalancerSourceRanges: ["203.0.113.0/25"],
      ports: [
        { name: "http", port: 80, targetPort: "web", nodePort: 30_080, appProtocol: "http" },
        { name: "dns", port: 80, protocol: "UDP", targetPort: 80 },
      ],
      loadBalancerIngress: [
        { ip: "5.6.7.8", ipMode: "VIP" },
        { ip: "5.6.7.9", ipMode: "Proxy" },
        { hostname: "lb.example.com", ipMode: "VIP" },
      ],
    });
  });

  test.each<[string, string, string]>([
    ["no number", "{name: b}", "spec.ports[1].port: it is required and missing; the port is ignored"],
    [
      "zero",
      "{name: b, port: 0}",
      "spec.ports[1].port: the number 0 came where a whole number from 1 to 65535 is expected",
    ],
    [
      "a target port in quotes",
      '{name: b, port: 81, targetPort: "8080"}',
      'targetPort: "8080" came where a number from 1 to 65535 or a port name is expected (without quotes)',
    ],
    [
      "no name",
      "{port: 81}",
      "spec.ports[1].name: it is required where a Service has several ports, and missing",
    ],
    ["a name taken", "{name: a, port: 81}", 'spec.ports[1].name: "a" is the name of another port already'],
    ["a number taken", "{name: b, port: 80}", "spec.ports[1].port: 80/TCP is another port already"],
    [
      "a protocol that is none",
      "{name: b, port: 81, protocol: tcp}",
      'protocol: "tcp" came where TCP, UDP, SCTP is expected',
    ],
  ])("a port with %s costs itself", (_name, port, want) => {
    const { objects, said } = parse(
      `{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: a, port: 80}, ${port}]}}`,
    );
    expect(said).toEqual([expect.stringContaining(want)]);
    expect((objects[0] as Service).ports.map((one) => one.name)).toEqual(["a"]);
  });

  test("an ExternalName that is no name leaves the Service without endpoint", () => {
    const { objects, said } = parse(
      "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: ExternalName, externalName: 'a b'}}",
    );
    expect(said).toEqual([expect.stringContaining('spec.externalName: "a b" is no DNS name')]);
    expect(objects[0]).not.toHaveProperty("externalName");
  });
});

test("EndpointSlice: what is absent has its meaning", () => {
  const slice = only(
    `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}, {name: all, port: null}]
endpoints:
- {addresses: [10.180.00.001]}
- {addresses: [10.180.0.2], conditions: {ready: false}}
- {addresses: [10.180.0.3], conditions: {ready: false, serving: true, terminating: true}, nodeName: n1, zone: z1}
- {addresses: [10.180.0.4], conditions: null, targetRef: {kind: Pod, name: p}, hints: {forZones: [{name: z1}], forNodes: [{name: n1}]}}
`,
    "EndpointSlice",
  );
  expect(slice.ports).toEqual([
    { name: "", protocol: "TCP", port: 8080 },
    { name: "all", protocol: "TCP" },
  ]);
  expect(slice.endpoints).toEqual([
    {
      addresses: ["10.180.0.1"],
      ready: true,
      serving: true,
      terminating: false,
      hintsForZones: [],
      hintsForNodes: [],
    },
    {
      addresses: ["10.180.0.2"],
      ready: false,
      serving: false,
      terminating: false,
      hintsForZones: [],
      hintsForNodes: [],
    },
    {
      addresses: ["10.180.0.3"],
      ready: false,
      serving: true,
      terminating: true,
      nodeName: "n1",
      zone: "z1",
      hintsForZones: [],
      hintsForNodes: [],
    },
    {
      addresses: ["10.180.0.4"],
      ready: true,
      serving: true,
      terminating: false,
      hintsForZones: ["z1"],
      hintsForNodes: ["n1"],
      pod: "default/p",
    },
  ]);
});

test("Endpoints become slices: one for each subset and family", () => {
  const { objects, said } = parse(`
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets:
- addresses: [{ip: 10.0.0.1, nodeName: n1, targetRef: {kind: Pod, name: p}}, {ip: "fd00::1"}]
  notReadyAddresses: [{ip: 10.0.0.2}]
  ports: [{name: http, port: 8080}]
- addresses: [{ip: 10.0.0.3}]
`);
  expect(said).toEqual([]);
  expect(objects).toMatchObject([
    {
      source: "Endpoints",
      serviceName: "web",
      addressType: "IPv4",
      ports: [{ name: "http", port: 8080 }],
      endpoints: [
        { addresses: ["10.0.0.1"], ready: true, nodeName: "n1", pod: "shop/p" },
        { addresses: ["10.0.0.2"], ready: false, serving: false },
      ],
    },
    { addressType: "IPv6", endpoints: [{ addresses: ["fd00::1"] }] },
    { addressType: "IPv4", ports: [], endpoints: [{ addresses: ["10.0.0.3"] }] },
  ]);
});

test("ConfigMap: keys that YAML takes for numbers are text", () => {
  const map = only(
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tcp-services}\ndata:\n  27017: "default/tcp-svc:27017"\n',
    "ConfigMap",
  );
  expect({ ...map.data }).toEqual({ "27017": "default/tcp-svc:27017" });
});

test("Secret: stringData wins over data", () => {
  const secret = only(
    "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: YQ==, b: Yg==}, stringData: {b: c}}",
    "Secret",
  );
  expect(secret.type).toBe("Opaque");
  expect([...secret.data].map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([
    ["a", "a"],
    ["b", "c"],
  ]);
});

test("Node and Pod", () => {
  expect(
    only(
      `
apiVersion: v1
kind: Node
metadata: {name: n1, namespace: ignored, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {podCIDR: 10.0.0.0/24, taints: [{key: a, effect: NoSchedule}]}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
`,
      "Node",
    ),
  ).toMatchObject({
    meta: { namespace: "", name: "n1" },
    addresses: [{ type: "InternalIP", address: "192.168.0.2" }],
    podCIDRs: ["10.0.0.0/24"],
    taints: [{ key: "a", effect: "NoSchedule" }],
    deleting: true,
  });
  expect(
    only(
      `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  nodeName: n1
  hostNetwork: true
  containers: [{name: a, image: x, ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP, hostPort: 53, hostIP: 127.0.0.1}]}]
  initContainers: [{name: side, restartPolicy: Always, ports: [{name: side, containerPort: 1}]}, {name: init, ports: [{containerPort: 2}]}]
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}], conditions: [{type: Ready, status: "False"}]}
`,
      "Pod",
    ),
  ).toMatchObject({
    nodeName: "n1",
    hostNetwork: true,
    podIPs: ["10.0.0.1", "fd00::1"],
    ready: false,
    terminating: false,
    containerPorts: [
      { name: "http", containerPort: 8080, protocol: "TCP" },
      { containerPort: 53, protocol: "UDP", hostPort: 53, hostIP: "127.0.0.1" },
      { name: "side", containerPort: 1 },
    ],
  });
});

test("keys that JavaScript has by heart are ordinary labels", () => {
  const map = only(
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"__proto__":"x","constructor":"y"}}}',
    "ConfigMap",
  );
  expect(Object.keys(map.meta.labels).sort()).toEqual(["__proto__", "constructor"]);
  expect(map.meta.annotations.constructor).toBeUndefined();
  expect(({} as Record<string, unknown>).x).toBeUndefined();
});

test("whatever JSON holds, nothing throws and every loss has an error", () => {
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom<unknown>(null, true, 0, -1, 80, 1.5, "", "a", "10.0.0.1", "TCP", "Prefix", "/", "IPv4"),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(
        fc.constantFrom(
          ...[
            "name",
            "namespace",
            "labels",
            "annotations",
            "rules",
            "http",
            "paths",
            "path",
            "pathType",
            "backend",
            "service",
            "port",
            "number",
          ],
          ...[
            "ports",
            "targetPort",
            "protocol",
            "host",
            "tls",
            "hosts",
            "endpoints",
            "addresses",
            "conditions",
            "ready",
            "subsets",
            "data",
          ],
          ...[
            "addressType",
            "status",
            "spec",
            "selector",
            "clusterIP",
            "clusterIPs",
            "loadBalancer",
            "ingress",
            "ip",
            "__proto__",
            "type",
          ],
        ),
        tie("value"),
        { maxKeys: 6 },
      ),
    ),
  })).value;
  const object = fc.tuple(
    fc.constantFrom(
      "Ingress",
      "IngressClass",
      "Service",
      "EndpointSlice",
      "Endpoints",
      "Secret",
      "ConfigMap",
      "Node",
      "Pod",
      "List",
    ),
    fc.constantFrom("v1", "networking.k8s.io/v1", "extensions/v1beta1", "discovery.k8s.io/v1"),
    json,
    json,
    json,
    json,
  );
  fc.assert(
    fc.property(object, ([kind, apiVersion, spec, status, data, name]) => {
      const raw = {
        kind,
        apiVersion,
        metadata: {
          name: typeof name === "string" ? name : "a",
          labels: { "kubernetes.io/service-name": "a" },
        },
        spec,
        status,
        data,
        items: data,
        endpoints: spec,
        ports: status,
        subsets: spec,
        addressType: "IPv4",
      };
      const { diagnostics, lost } = parseObject(raw, "x");
      if (lost > 0) expect(diagnostics.some((diagnostic) => diagnostic.severity === "error")).toBe(true);
      for (const diagnostic of diagnostics)
        expect(formatDiagnostic(diagnostic)).not.toMatch(/[\n\r]|undefined|\[object/);
    }),
    { numRuns: 2000 },
  );
});
