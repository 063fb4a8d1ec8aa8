import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { Ingress, KubernetesObject, ObjectName } from "../../cluster/model.ts";
import { SortedMap } from "../../cluster/sorted-map.ts";
import { ANY_HOST, type EdgeConfig } from "../../edge-config/config.ts";
import { configMap, ingress, ingressClass, modelOf, service, slice } from "../../tests/cluster-model.ts";
import { type CompileResult, compile, createCompiler } from "./compile.ts";
import type { CompileOptions } from "./options.ts";

const web = [
  service("shop/web", ["http=80>8080"]),
  slice("shop/web", ["http=8080"], ["10.0.0.2", "10.0.0.1"]),
];

function run(objects: readonly KubernetesObject[], options?: CompileOptions) {
  return compile(modelOf(...objects), options);
}

/** `Prefix /a → shop/web:80`, in the order in which routes match. */
function routes(config: EdgeConfig, host: string): readonly string[] {
  return (config.hosts[host]?.routes ?? []).map(
    ({ pathType, path, backend, ingress: by }) => `${pathType} ${path} → ${backend ?? 404} by ${by}`,
  );
}

function told(diagnostics: readonly Diagnostic[], object: string): readonly string[] {
  return diagnostics
    .filter((one) => one.object === object)
    .map(({ severity, field, message }) => `${severity} ${field ?? ""}: ${message}`);
}

describe("routes", () => {
  test("longest path first, Exact before Prefix, ImplementationSpecific as Prefix", () => {
    const { config } = run([
      ...web,
      ingress("shop/a", {
        rules: {
          h: [
            "/ web:80",
            "/foo web:80",
            "Exact /foo web:80",
            "ImplementationSpecific /foo/bar web:80",
            "/foo/ web:80",
          ],
        },
      }),
    ]);
    expect(config.hosts.h?.matching).toBe("kubernetes");
    expect(config.hosts.h?.routes.map(({ pathType, path }) => `${pathType} ${path}`)).toEqual([
      "Prefix /foo/bar",
      "Exact /foo",
      "Prefix /foo/",
      "Prefix /foo",
      "Prefix /",
    ]);
  });

  test("the oldest Ingress wins, then the last name; both are named", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/undated", { rules: { h: ["/ web:81"] } }),
      ingress("shop/young", { rules: { h: ["/ web:82"] }, created: "2024-01-02T00:00:00Z" }),
      ingress("shop/old", { rules: { h: ["/ web:80"] }, created: "2024-01-01T00:00:00Z" }),
      ingress("shop/z", { rules: { i: ["/ web:80"] } }),
      ingress("shop/a", { rules: { i: ["/ web:81"] } }),
    ]);
    expect(routes(config, "h")).toEqual(["Prefix / → shop/web:80 by shop/old"]);
    expect(routes(config, "i")).toEqual(["Prefix / → shop/web:80 by shop/z"]);
    const young = told(diagnostics, "shop/young");
    expect(young).toContainEqual(
      expect.stringMatching(/^error spec\.rules\[0\]\.http\.paths\[0\]: .*shop\/old/),
    );
  });

  test("Exact and Prefix of the same path may have different owners", () => {
    const { config } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["Exact /x web:80"] } }),
      ingress("shop/b", { rules: { h: ["/x web:http"] } }),
    ]);
    expect(routes(config, "h")).toEqual([
      "Exact /x → shop/web:80 by shop/a",
      "Prefix /x → shop/web:http by shop/b",
    ]);
  });

  test("a repeated path within one Ingress counts once", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["/x web:80", "/x web:http"] } }),
    ]);
    expect(routes(config, "h")).toEqual(["Prefix /x → shop/web:80 by shop/a"]);
    expect(told(diagnostics, "shop/a").filter((line) => line.includes("repeats"))).toHaveLength(1);
  });

  test("a Resource backend is left out and told, and its host still exists", () => {
    const object = ingress("shop/a", { rules: { h: ["/x web:80"], only: [] } });
    const resource = {
      kind: "Resource",
      apiGroup: "k8s.example.com",
      resourceKind: "Bucket",
      name: "icons",
    } as const;
    const withResource = {
      ...object,
      rules: [
        ...object.rules,
        { host: "r", paths: [{ path: "/icons", pathType: "Prefix" as const, backend: resource }] },
      ],
    };
    const { config, diagnostics } = run([...web, withResource]);
    expect(config.hosts.r).toEqual({ matching: "kubernetes", routes: [] });
    expect(routes(config, "h")).toHaveLength(1);
    expect(told(diagnostics, "shop/a")).toEqual([
      expect.stringMatching(
        /^error spec\.rules\[2\]\.http\.paths\[0\]\.backend\.resource: names the Bucket "icons"/,
      ),
    ]);
  });
});

describe("defaults", () => {
  test("an Ingress with a default backend and no rules answers every host that nobody has", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/old", { defaultBackend: "web:80", created: "2024-01-01T00:00:00Z" }),
      ingress("shop/young", { defaultBackend: "web:http" }),
      ingress("shop/a", { rules: { h: ["/x web:80"] } }),
    ]);
    expect(routes(config, ANY_HOST)).toEqual(["Prefix / → shop/web:80 by shop/old"]);
    // A host that matches never falls through to the rules without a host.
    expect(routes(config, "h")).toEqual(["Prefix /x → shop/web:80 by shop/a"]);
    expect(told(diagnostics, "shop/young")).toEqual([expect.stringContaining("shop/old")]);
  });

  test("with rules, it answers the Ingress' own hosts and no other", () => {
    const { config } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["/x web:80"], whole: null }, defaultBackend: "web:http" }),
    ]);
    expect(routes(config, "h")).toEqual([
      "Prefix /x → shop/web:80 by shop/a",
      "Prefix / → shop/web:http by shop/a",
    ]);
    expect(routes(config, "whole")).toEqual(["Prefix / → shop/web:http by shop/a"]);
    expect(config.hosts[ANY_HOST]).toBeUndefined();
  });

  test("a written / beats a default backend", () => {
    const { config } = run([
      ...web,
      ingress("shop/z", { rules: { "": ["/ web:80"] } }),
      ingress("shop/old", { defaultBackend: "web:http", created: "2020-01-01T00:00:00Z" }),
    ]);
    expect(routes(config, ANY_HOST)).toEqual(["Prefix / → shop/web:80 by shop/z"]);
  });

  test("the host's own / carries the annotations of its oldest Ingress", () => {
    const { config } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["/x web:80"] }, nginx: { "enable-cors": "true" } }),
    ]);
    const [, root] = config.hosts.h?.routes ?? [];
    expect(root).toMatchObject({ path: "/", pathType: "Prefix", ingress: "shop/a", policies: { cors: {} } });
    expect(root).not.toHaveProperty("backend");
  });

  test("the operator's default backend comes last", () => {
    const { config } = run([...web, ingress("shop/a", { rules: { h: ["/x web:80"] } })], {
      defaultBackend: "shop/web",
    });
    expect(routes(config, "h")[1]).toBe("Prefix / → shop/web:80 by shop/a");
    expect(routes(config, ANY_HOST)).toEqual(["Prefix / → shop/web:80 by undefined"]);
  });
});

describe("backends", () => {
  const one = (to: string, objects: readonly KubernetesObject[], options?: CompileOptions) => {
    const { config, diagnostics } = run(
      [ingress("shop/a", { rules: { h: [`/ ${to}`] } }), ...objects],
      options,
    );
    return { endpoints: Object.values(config.backends)[0]?.endpoints, told: told(diagnostics, "shop/a") };
  };

  test.each([
    ["number", "web:80", ["10.0.0.1:8080", "10.0.0.2:8080"]],
    ["name", "web:http", ["10.0.0.1:8080", "10.0.0.2:8080"]],
    ["number of targetPort", "web:8080", ["10.0.0.1:8080", "10.0.0.2:8080"]],
    ["unknown number", "web:81", []],
    ["unknown name", "web:grpc", []],
    ["unknown Service", "nobody:80", []],
  ])("port by %s", (_, to, want) => {
    const { endpoints, told: lines } = one(to, web);
    expect(endpoints).toEqual(want);
    expect(lines.length > 0).toBe(want.length === 0);
  });

  test("port by the text of targetPort, a named container port", () => {
    const objects = [service("shop/web", ["80>container"]), slice("shop/web", ["9000"], ["10.0.0.1"])];
    expect(one("web:container", objects).endpoints).toEqual(["10.0.0.1:9000"]);
  });

  test("slices are merged, families too; what is not ready is out; duplicates count once", () => {
    const { endpoints } = one("web:80", [
      service("shop/web", ["http=80"], { clusterIPs: ["None"] }),
      slice("shop/web", ["http=8080"], ["10.0.0.2", "10.0.0.3!", "10.0.0.1"], "a"),
      slice("shop/web", ["http=8081"], ["10.0.0.1"], "b"),
      slice("shop/web", ["http=8080"], ["10.0.0.1"], "c"),
      slice("shop/web", ["http=8080"], ["fd00::1"], "d"),
    ]);
    expect(endpoints).toEqual(["10.0.0.1:8080", "10.0.0.1:8081", "10.0.0.2:8080", "[fd00::1]:8080"]);
  });

  test("loopback endpoints only where the operator develops", () => {
    const objects = [service("shop/web", ["80"]), slice("shop/web", ["80"], ["127.0.0.1", "10.0.0.1"])];
    expect(one("web:80", objects)).toMatchObject({
      endpoints: ["10.0.0.1:80"],
      told: [expect.stringContaining("127.0.0.1:80")],
    });
    expect(one("web:80", objects, { allowLocalAddresses: true }).endpoints).toEqual([
      "10.0.0.1:80",
      "127.0.0.1:80",
    ]);
  });

  test("service-upstream takes the ClusterIP, and not that of a headless Service", () => {
    const nginx = { "service-upstream": "true" };
    const endpoints = (clusterIp: string) =>
      run([
        ingress("shop/a", { rules: { h: ["/ web:80"] }, nginx }),
        service("shop/web", ["http=80>8080"], { clusterIPs: [clusterIp] }),
        slice("shop/web", ["http=8080"], ["10.0.0.1"]),
      ]).config.backends["shop/web:80"]?.endpoints;
    expect(endpoints("172.30.0.41")).toEqual(["172.30.0.41:80"]);
    expect(endpoints("None")).toEqual(["10.0.0.1:8080"]);
  });

  describe("ExternalName", () => {
    const external = (externalName: string, ports: readonly string[] = []) =>
      service("shop/web", ports, { type: "ExternalName", externalName, clusterIPs: [] });
    test.each([
      ["port of the Ingress, undeclared", external("api.example.com"), "web:8443", ["api.example.com:8443"]],
      [
        "numeric targetPort",
        external("api.example.com", ["https=443>8443"]),
        "web:443",
        ["api.example.com:8443"],
      ],
      ["by name", external("api.example.com.", ["https=443"]), "web:https", ["api.example.com:443"]],
      ["unknown name", external("api.example.com"), "web:https", []],
      ["loopback", external("localhost"), "web:80", []],
      ["an address in disguise", external("127.0.0.1"), "web:80", []],
      ["metadata", external("169.254.169.254"), "web:80", []],
      ["no DNS name", external("a_b!"), "web:80", []],
    ])("%s", (_, object, to, want) => {
      const { endpoints, told: lines } = one(to, [object]);
      expect(endpoints).toEqual(want);
      expect(lines.length > 0).toBe(want.length === 0);
    });

    test("a name inside the cluster is that Service, and a circle ends", () => {
      const objects = [
        external("api.other.svc.cluster.local"),
        service("other/api", ["http=80>8080"]),
        slice("other/api", ["http=8080"], ["10.0.0.9"]),
      ];
      expect(one("web:80", objects).endpoints).toEqual(["10.0.0.9:8080"]);
      expect(one("web:80", [external("web.shop.svc")]).endpoints).toEqual([]);
    });
  });

  test("two backends whose ingress-nginx names are equal stay two", () => {
    const { config } = run([
      ingress("a-b/x", { rules: { h: ["/ c:80"] } }),
      ingress("a/x", { rules: { i: ["/ b-c:80"] } }),
    ]);
    expect(Object.keys(config.backends)).toEqual(["a-b/c:80", "a/b-c:80"]);
  });
});

describe("classes", () => {
  const objects = [
    ...web,
    ingressClass("nginx", true),
    ingressClass("other"),
    ingress("shop/field", { rules: { a: ["/ web:80"] }, className: "nginx" }),
    ingress("shop/both", {
      rules: { b: ["/ web:80"] },
      className: "other",
      annotations: { "kubernetes.io/ingress.class": "nginx" },
    }),
    ingress("shop/annotation", {
      rules: { c: ["/ web:80"] },
      annotations: { "kubernetes.io/ingress.class": "nginx" },
    }),
    ingress("shop/foreign", {
      rules: { d: ["/ web:80"] },
      annotations: { "kubernetes.io/ingress.class": "gce" },
    }),
    ingress("shop/neither", { rules: { e: ["/ web:80"] } }),
  ];
  test("without a choice every Ingress counts", () => {
    expect(Object.keys(run(objects).config.hosts)).toEqual(["a", "b", "c", "d", "e"]);
  });
  test("the field decides before the annotation, and the default class takes the rest", () => {
    expect(Object.keys(run(objects, { ingressClass: "nginx" }).config.hosts)).toEqual(["a", "c", "e"]);
    expect(Object.keys(run(objects, { ingressClass: "other" }).config.hosts)).toEqual(["b"]);
  });
});

describe("annotations", () => {
  test("use-regex turns the whole host, in ingress-nginx's order", () => {
    const { config } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["Exact /foo/bar/bar web:80", "/ web:80"] } }),
      ingress("shop/b", {
        rules: { h: ["/foo/bar/[a-z]{3} web:80", "/(?=x) web:80"] },
        nginx: { "use-regex": "true" },
      }),
    ]);
    expect(config.hosts.h?.matching).toBe("regex");
    expect(config.hosts.h?.routes.map((route) => route.path)).toEqual([
      "/foo/bar/[a-z]{3}",
      "/foo/bar/bar",
      "/",
    ]);
  });

  test("server-alias copies the host; a real host keeps its name", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/a", { rules: { h: ["/ web:80"] }, nginx: { "server-alias": "alias.example.com, real" } }),
      ingress("shop/b", { rules: { real: ["/x web:80"] } }),
    ]);
    expect(config.hosts["alias.example.com"]).toBe(config.hosts.h);
    expect(routes(config, "real")).toEqual(["Prefix /x → shop/web:80 by shop/b"]);
    expect(told(diagnostics, "shop/a")).toEqual([expect.stringContaining('"real"')]);
  });

  test("a canary makes no route; alone it makes no host", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/main", { rules: { h: ["/ web:80"] } }),
      ingress("shop/canary", {
        rules: { h: ["/ web:http"], lone: ["/ web:http"] },
        nginx: { canary: "true" },
      }),
    ]);
    expect(routes(config, "h")).toEqual(["Prefix / → shop/web:80 by shop/main"]);
    expect(config.hosts.lone).toBeUndefined();
    expect(told(diagnostics, "shop/canary")).toContainEqual(expect.stringContaining('"lone"'));
  });

  test("a canary whose mark cannot be read is left out, and its main Ingress serves", () => {
    const { config, diagnostics } = run([
      ...web,
      ingress("shop/z", { rules: { h: ["/ web:http"] }, nginx: { canary: "yes" } }),
      ingress("shop/main", { rules: { h: ["/ web:80"] } }),
    ]);
    expect(routes(config, "h")).toEqual(["Prefix / → shop/web:80 by shop/main"]);
    expect(told(diagnostics, "shop/z")).toEqual([expect.stringMatching(/^error .*canary: "yes" was given/)]);
  });
});

/** A cluster in which much depends on order: shared hosts, ages, canaries, aliases, classes. */
const objectsOf = fc.array(
  fc.record({
    name: fc.constantFrom("a", "b", "c", "d", "e", "f"),
    space: fc.constantFrom("shop", "blog"),
    host: fc.constantFrom("", "h", "i", "www.i", "*.h"),
    path: fc.constantFrom("/", "/x", "/x/", "/x/y", "Exact /x"),
    to: fc.constantFrom("web:80", "web:http", "none:80"),
    created: fc.constantFrom(undefined, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
    nginx: fc.constantFrom(
      {},
      { canary: "true" },
      { "enable-cors": "true" },
      { "use-regex": "true" },
      { "server-alias": "i,j" },
      { "from-to-www-redirect": "true" },
      { "service-upstream": "true" },
      { "enable-cors": "maybe" },
    ),
    defaultBackend: fc.constantFrom(undefined, "web:80"),
  }),
  { maxLength: 12 },
);

type Sketch = typeof objectsOf extends fc.Arbitrary<readonly (infer T)[]> ? T : never;

function toIngress({ name, space, host, path: text, to, created, nginx, defaultBackend }: Sketch) {
  return ingress(`${space}/${name}`, {
    rules: { [host]: [`${text} ${to}`] },
    nginx,
    ...(created === undefined ? {} : { created }),
    ...(defaultBackend === undefined ? {} : { defaultBackend }),
  });
}

function uniqueByName(objects: readonly KubernetesObject[]): readonly KubernetesObject[] {
  return [
    ...new Map(
      objects.map((object) => [`${object.kind} ${object.meta.namespace}/${object.meta.name}`, object]),
    ).values(),
  ];
}

function withChanges<T>(
  record: Readonly<Record<string, T>>,
  changes: ReadonlyMap<string, T | undefined>,
): Readonly<Record<string, T | undefined>> {
  const entries = Object.entries<T | undefined>({ ...record, ...Object.fromEntries(changes) });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

function printed({ config, diagnostics }: Pick<CompileResult, "config" | "diagnostics">): string {
  return JSON.stringify({ config, diagnostics });
}

describe("laws", () => {
  test("the same objects in any order give the same bytes", () => {
    fc.assert(
      fc.property(objectsOf, fc.infiniteStream(fc.nat()), (sketches, dice) => {
        const objects = uniqueByName([...web, service("blog/web", ["http=80"]), ...sketches.map(toIngress)]);
        const shuffled = objects
          .map((object) => ({ object, at: dice.next().value ?? 0 }))
          .sort((a, b) => a.at - b.at)
          .map(({ object }) => object);
        expect(printed(run(shuffled))).toBe(printed(run(objects)));
      }),
    );
  });

  test("a compiler with memory gives what one without gives", () => {
    fc.assert(
      fc.property(
        fc.array(objectsOf, { maxLength: 6 }),
        fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
        (states, switches) => {
          const compiler = createCompiler();
          let before: EdgeConfig | undefined;
          const kept = new Map<string, KubernetesObject>();
          for (const [index, sketches] of states.entries()) {
            for (const object of sketches.map(toIngress)) kept.set(object.meta.name, object);
            const objects = [
              ...web,
              ...(switches[index]
                ? [service("blog/web", ["http=80"]), slice("blog/web", ["http=81"], [`10.0.0.${index}`])]
                : []),
              ...(switches[5 - index]
                ? [configMap("ingress-nginx/ingress-nginx-controller", { "service-upstream": "true" })]
                : []),
              ...kept.values(),
            ];
            const { config, diagnostics, delta } = compiler.compile(modelOf(...objects));
            expect(printed({ config, diagnostics })).toBe(printed(run(objects)));
            if (delta !== undefined) {
              expect(delta.since).toBe(before);
              expect({
                ...delta.since,
                hosts: withChanges(delta.since.hosts, delta.hosts),
                backends: withChanges(delta.since.backends, delta.backends),
              }).toEqual(config);
            }
            before = config;
          }
        },
      ),
    );
  });

  test("a few changed Ingresses of many, those that come and go included, give what all at once give", () => {
    const edit = fc.record({
      sketch: objectsOf.map(([one]) => one),
      ours: fc.boolean(),
      isGone: fc.boolean(),
    });
    fc.assert(
      fc.property(
        objectsOf,
        fc.array(fc.array(edit, { maxLength: 3 }), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(undefined, "shop/web"),
        (first, steps, defaultBackend) => {
          const options: CompileOptions = {
            ingressClass: "nginx",
            ...(defaultBackend === undefined ? {} : { defaultBackend: defaultBackend as ObjectName }),
          };
          const compiler = createCompiler(options);
          const named = (sketch: Sketch, ours = true): [ObjectName, Ingress] => {
            const made = toIngress(sketch);
            return [
              `${sketch.space}/${sketch.name}`,
              { ...made, ingressClassName: ours ? "nginx" : "others" },
            ];
          };
          let ingresses = SortedMap.from(first.map((sketch) => named(sketch)));
          let before: EdgeConfig | undefined;
          const rest = modelOf(...web, service("blog/web", ["http=80"]));
          for (const step of [[], ...steps]) {
            const changes = new Map<ObjectName, Ingress | undefined>();
            for (const { sketch, ours, isGone } of step) {
              if (sketch === undefined) continue;
              const [name, made] = named(sketch, ours);
              changes.set(name, isGone ? undefined : made);
            }
            ingresses = ingresses.with(changes);
            const model = { ...rest, ingresses };
            const { config, diagnostics, delta } = compiler.compile(model);
            expect(printed({ config, diagnostics })).toBe(printed(compile(model, options)));
            if (delta !== undefined) {
              expect(delta.since).toBe(before);
              expect({
                ...delta.since,
                hosts: withChanges(delta.since.hosts, delta.hosts),
                backends: withChanges(delta.since.backends, delta.backends),
              }).toEqual(config);
            }
            before = config;
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test("endpoints that come and go change one backend each time, and the delta names it", () => {
    const compiler = createCompiler();
    const steady = [
      ...web,
      service("shop/api", ["80"]),
      ingress("shop/a", { rules: { h: ["/ web:80"], i: ["/ api:80"] } }),
    ];
    let before = compiler.compile(modelOf(...steady)).config;
    const withEndpoints = (...addresses: readonly string[]) =>
      compiler.compile(modelOf(...steady, slice("shop/api", ["80"], addresses)));
    for (const addresses of [["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], [], ["10.0.0.3"]]) {
      const { config, delta, diagnostics } = withEndpoints(...addresses);
      const endpoints = addresses.map((address) => `${address}:80`);
      expect(config.backends["shop/api:80"]?.endpoints).toEqual(endpoints);
      expect(config.hosts).toBe(before.hosts);
      expect(delta?.since).toBe(before);
      expect([...(delta?.backends ?? [])]).toEqual(
        addresses.length === 0 && before.backends["shop/api:80"]?.endpoints.length === 0
          ? []
          : [["shop/api:80", config.backends["shop/api:80"]]],
      );
      expect(told(diagnostics, "shop/a")).toHaveLength(addresses.length === 0 ? 1 : 0);
      before = config;
    }
    // Slices that are other objects and say the same are no change at all.
    const same = withEndpoints("10.0.0.3");
    expect(same.config).toBe(before);
    expect(same.delta?.backends.size).toBe(0);
  });

  test("what did not change is the very same object", () => {
    const compiler = createCompiler();
    const rest = [
      ingress("shop/a", { rules: { h: ["/ web:80"] } }),
      ingress("shop/b", { rules: { i: ["/ web:http"] } }),
    ];
    const before = compiler.compile(modelOf(...web, ...rest)).config;
    const after = compiler.compile(
      modelOf(
        ...web,
        ...rest,
        service("shop/api", ["80"]),
        slice("shop/api", ["80"], ["10.0.0.9"]),
        ingress("shop/c", { rules: { i: ["/api api:80"] } }),
      ),
    ).config;
    expect(after.hosts.h).toBe(before.hosts.h);
    expect(after.hosts.i).not.toBe(before.hosts.i);
    expect(after.backends["shop/web:80"]).toBe(before.backends["shop/web:80"]);
  });
});
