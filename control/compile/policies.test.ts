/**
 * The four levels, canaries, denials and look-ups, with features made for the purpose: real features come and go,
 * what they stand on stays.
 */

import { describe, expect, test, vi } from "vitest";
import type { KubernetesObject } from "../../cluster/model.ts";
import { configMap, ingress, modelOf, secret, service, slice } from "../../tests/cluster-model.ts";
import type { Readers } from "../annotations/reader.ts";
import type { CanaryContext, Feature } from "../features/feature.ts";
import { compile, createCompiler } from "./compile.ts";
import type { CompileOptions } from "./options.ts";

vi.mock("../features/index.ts", async () => {
  const { flag, integer, reference, text, url } = await import("../annotations/readers.ts");
  const { deny } = await import("../features/feature.ts");
  const { structures } = await import("../features/structure.ts");
  // Their names are no fields of the policies, so the types of `defineFeature` are left out here.
  const feature = (
    name: string,
    spec: Omit<Feature, "name" | "doc" | "settings" | "always"> & { readonly settings?: Readers },
  ) =>
    ({
      doc: "For tests.",
      settings: {},
      name,
      always: name.startsWith("always"),
      ...spec,
    }) as unknown as Feature;
  const anything = (policy: unknown) => policy as ReturnType<Feature["compile"]>;
  const featureList = [
    feature("always-timeouts", {
      scope: "route",
      onInvalid: "ignore",
      annotations: { timeout: integer("Seconds.", { default: 5, setting: "timeout" }) },
      compile: ({ timeout }) => (timeout === 5 ? undefined : anything({ seconds: timeout })),
    }),
    feature("guard", {
      scope: "route",
      onInvalid: "deny",
      annotations: {
        "guard-secret": reference("A Secret.", "Secret", { aliases: ["old-guard-secret"] }),
        "guard-level": integer("A level.", { max: 9 }),
      },
      compile(values, context) {
        const found = (context as CanaryContext).secret(values["guard-secret"] as { name: string });
        if (found.kind === "Missing") return deny(found.reason);
        return anything({ users: [...found.object.data.keys()] });
      },
    }),
    feature("host-name", {
      scope: "host",
      onInvalid: "deny",
      annotations: { "host-name": text("A name.", { pattern: /^[a-z]+$/, expected: "a lower-case word" }) },
      compile: (values) => anything({ name: values["host-name"] }),
      addedHosts: (values) => [{ host: `${values["host-name"]}.example.com`, policies: {} }],
    }),
    feature("mirror", {
      scope: "route",
      onInvalid: "omit",
      annotations: { mirror: url("Where to.") },
      compile(values, context) {
        const found = (context as CanaryContext).destination(values.mirror as never);
        if (found.kind === "Missing") {
          context.remark("error", "mirror", `${found.reason}.`);
          return undefined;
        }
        return anything(found.destination);
      },
    }),
    feature("split", {
      scope: "canary",
      onInvalid: "omit",
      annotations: { "split-weight": integer("Percent.", { default: 0 }) },
      compile: (values, context) =>
        anything({ backend: (context as CanaryContext).canaryBackend, weight: values["split-weight"] }),
    }),
    feature("spread", {
      scope: "backend",
      onInvalid: "ignore",
      annotations: { spread: text("How.") },
      compile: (values) => anything({ by: values.spread }),
    }),
    feature("edge-logs", {
      scope: "edge",
      onInvalid: "omit",
      annotations: {},
      settings: { logs: flag("Logs.", { default: false }) },
      compile: (_, __, settings) => (settings.logs ? anything({ on: true }) : undefined),
    }),
    feature("rewrite", {
      scope: "route",
      onInvalid: "omit",
      annotations: { rewrite: text("A target.") },
      compile: (values, context) =>
        anything({ target: values.rewrite, origin: (context as CanaryContext).origin }),
      turnsHostToRegex: (values, { path }) => values.rewrite !== path,
    }),
  ];
  return { features: {}, featureList, groups: [...featureList, ...structures] };
});

const web = [service("shop/web", ["80"]), slice("shop/web", ["80"], ["10.0.0.1"])];

function run(objects: readonly KubernetesObject[], options?: CompileOptions) {
  const { config, diagnostics } = compile(modelOf(...web, ...objects), options);
  return {
    config,
    told: diagnostics.map(
      ({ severity, object, field, message }) => `${severity} ${object} ${field}: ${message}`,
    ),
  };
}

const one = (nginx: Readonly<Record<string, string>>) =>
  ingress("shop/a", { rules: { h: ["/ web:80"] }, nginx });
const rootOf = (objects: readonly KubernetesObject[], options?: CompileOptions) =>
  run(objects, options).config.hosts.h?.routes.at(-1);

describe("routes", () => {
  test("the ConfigMap gives a default, an annotation goes before it", () => {
    const settings = configMap("ingress-nginx/ingress-nginx-controller", { timeout: "7" });
    expect(rootOf([one({})])?.policies).toBeUndefined();
    expect(rootOf([one({}), settings])?.policies).toEqual({ "always-timeouts": { seconds: 7 } });
    expect(rootOf([one({ timeout: "9" }), settings])?.policies).toEqual({
      "always-timeouts": { seconds: 9 },
    });
    expect(rootOf([one({ timeout: "5" }), settings])?.policies).toBeUndefined();
  });

  test("another ConfigMap by name", () => {
    const settings = configMap("infra/nginx", { timeout: "7" });
    expect(rootOf([one({}), settings], { configMap: "infra/nginx" })?.policies).toEqual({
      "always-timeouts": { seconds: 7 },
    });
  });

  test("an unreadable default is told once, at the ConfigMap, and ignored", () => {
    const { config, told } = run([
      one({}),
      configMap("ingress-nginx/ingress-nginx-controller", { timeout: "soon" }),
    ]);
    expect(config.hosts.h?.routes.at(-1)?.policies).toBeUndefined();
    expect(told).toEqual([
      expect.stringMatching(/^error ingress-nginx\/ingress-nginx-controller data\.timeout: "soon" was given/),
    ]);
  });

  test.each([
    ["unreadable", { "guard-secret": "a/b/c" }],
    ["another value of the feature unreadable", { "guard-secret": "users", "guard-level": "12" }],
    ["missing Secret", { "guard-secret": "nobody" }],
    ["another namespace", { "guard-secret": "blog/users" }],
    ["line break", { "guard-secret": "users\nx" }],
    ["under an alias", { "old-guard-secret": "a b" }],
  ])("a guard that cannot be made denies its route: %s", (_, nginx) => {
    const objects = [
      secret("shop/users", { me: "x" }),
      secret("blog/users", { me: "x" }),
      one(nginx),
      ingress("shop/b", { rules: { i: ["/ web:80"] } }),
    ];
    const { config, told } = run(objects);
    expect(config.hosts.h?.routes[0]).toMatchObject({ denied: expect.any(String) });
    expect(config.hosts.h?.routes[0]).not.toHaveProperty("policies");
    expect(config.hosts.i?.routes[0]).not.toHaveProperty("denied");
    expect(told.filter((line) => line.startsWith("error shop/a nginx.ingress.kubernetes.io/"))).toHaveLength(
      1,
    );
  });

  test("another namespace where the operator allows it, and an alias", () => {
    const objects = [
      secret("blog/users", { me: "x" }),
      one({ "old-guard-secret": "blog/users" }),
      configMap("ingress-nginx/ingress-nginx-controller", { "allow-cross-namespace-resources": "true" }),
    ];
    expect(rootOf(objects)?.policies).toEqual({ guard: { users: ["me"] } });
  });

  test("a Secret that comes later opens the route, without anyone touching the Ingress", () => {
    const compiler = createCompiler();
    const object = one({ "guard-secret": "users" });
    const before = compiler.compile(modelOf(...web, object));
    expect(before.config.hosts.h?.routes[0]?.denied).toBe("Secret shop/users does not exist");
    const after = compiler.compile(modelOf(...web, object, secret("shop/users", { me: "x" })));
    expect(after.config.hosts.h?.routes[0]?.policies).toEqual({ guard: { users: ["me"] } });
    expect(after.diagnostics).toEqual([]);
  });

  test("a rewrite turns the host to regular expressions, unless it is none; the catch-all is told apart", () => {
    const { config } = run([
      one({ rewrite: "/" }),
      ingress("shop/b", { rules: { i: ["/x web:80"] }, nginx: { rewrite: "/$1" } }),
      ingress("shop/c", { defaultBackend: "web:80", nginx: { rewrite: "/" } }),
    ]);
    expect([config.hosts.h?.matching, config.hosts.i?.matching]).toEqual(["kubernetes", "regex"]);
    expect(config.hosts.i?.routes.map((route) => route.policies)).toEqual([
      { rewrite: { target: "/$1", origin: "rule" } },
      { rewrite: { target: "/$1", origin: "host" } },
    ]);
    expect(config.hosts["*"]?.routes[0]?.policies).toEqual({ rewrite: { target: "/", origin: "catch-all" } });
  });
});

describe("destinations", () => {
  const mirror = (to: string, options?: CompileOptions) => {
    const { config, told } = run([one({ mirror: to }), service("other/api", ["8080"])], options);
    return { policy: config.hosts.h?.routes[0]?.policies, backends: Object.keys(config.backends), told };
  };
  test.each([
    ["http://api.other.svc.cluster.local:8080/x?y=$arg_y", "other/api:8080"],
    ["http://api.other.svc:8080/", "other/api:8080"],
    ["http://api.other:8080", "other/api:8080"],
    ["https://web/", "shop/web:443"],
    ["http://10.1.2.3:81/", "/10.1.2.3:81"],
  ])("%s is the backend %s", (to, backend) => {
    const { policy, backends } = mirror(to);
    expect(policy).toMatchObject({ mirror: { kind: "Backend", backend } });
    expect(backends).toContain(backend);
  });

  test("any other name is public; the request's own host may stand in it", () => {
    expect(mirror("https://auth.example.org/a").policy).toEqual({
      mirror: { kind: "Url", scheme: "https", host: "auth.example.org", target: ["/a"] },
    });
    expect(mirror("https://$host/oauth2/auth").policy).toEqual({
      mirror: { kind: "Self", scheme: "https", target: ["/oauth2/auth"] },
    });
  });

  test.each([
    "http://localhost/",
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0x7f000001/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://169.254.169.254/latest/meta-data",
    "http://metadata.google.internal/",
    "http://[fd00:ec2::254]/",
    "http://0.0.0.0/",
    "http://pod-0.web.shop.svc.cluster.local/",
    "http://user@example.org/",
    "http://$arg_host/",
    "http://$http_x_host/",
    "http://a..b/",
    "ftp://example.org/",
    "//example.org/",
    "http://example.org/$secret_variable",
    "http://example.org/a b",
  ])("%s is refused, and told", (to) => {
    const { policy, told } = mirror(to);
    expect(policy).toBeUndefined();
    expect(told).toEqual([expect.stringMatching(/^error shop\/a nginx\.ingress\.kubernetes\.io\/mirror: /)]);
  });

  test("development may call this machine", () => {
    expect(mirror("http://127.0.0.1:9000/", { allowLocalAddresses: true }).policy).toMatchObject({
      mirror: { kind: "Backend", backend: "/127.0.0.1:9000" },
    });
  });
});

describe("hosts, backends, edge, canaries", () => {
  test("the oldest Ingress decides for a host, and the others are told", () => {
    const { config, told } = run([
      ingress("shop/a", { rules: { h: ["/a web:80"] }, nginx: { "host-name": "young" } }),
      ingress("shop/b", {
        rules: { h: ["/b web:80"] },
        nginx: { "host-name": "old" },
        created: "2024-01-01T00:00:00Z",
      }),
    ]);
    expect(config.hosts.h?.policies).toEqual({ "host-name": { name: "old" } });
    expect(Object.keys(config.hosts)).toEqual(["h", "old.example.com"]);
    expect(told).toEqual([expect.stringMatching(/^warning shop\/a .*host-name: .*shop\/b/)]);
  });

  test("an unreadable guard of a host refuses the whole host", () => {
    const { config } = run([one({ "host-name": "NO" })]);
    expect(config.hosts.h).toMatchObject({ denied: expect.stringContaining('"NO"') });
    expect(config.hosts.h).not.toHaveProperty("policies");
  });

  test("the oldest Ingress that names a backend decides for it, whatever the host", () => {
    const { config } = run([
      ingress("shop/a", { rules: { h: ["/ web:80"] }, nginx: { spread: "young" } }),
      ingress("shop/b", {
        rules: { i: ["/ web:80"] },
        nginx: { spread: "old" },
        created: "2024-01-01T00:00:00Z",
      }),
    ]);
    expect(config.backends["shop/web:80"]?.policies).toEqual({ spread: { by: "old" } });
  });

  test("edge policies come from the ConfigMap", () => {
    const { config } = run([configMap("ingress-nginx/ingress-nginx-controller", { logs: "true" })]);
    expect(config.policies).toEqual({ "edge-logs": { on: true } });
  });

  test("the canary's annotations and backend become a policy of the main route; its other annotations do not", () => {
    const { config, told } = run([
      one({ timeout: "9" }),
      ingress("shop/canary", {
        rules: { h: ["/ new:80"] },
        nginx: { canary: "true", "split-weight": "10", timeout: "3" },
        created: "2020-01-01T00:00:00Z",
      }),
      ingress("shop/second", {
        rules: { h: ["/ newer:80"] },
        nginx: { canary: "true", "split-weight": "20" },
      }),
    ]);
    expect(config.hosts.h?.routes).toEqual([
      {
        path: "/",
        pathType: "Prefix",
        ingress: "shop/a",
        backend: "shop/web:80",
        policies: { "always-timeouts": { seconds: 9 }, split: { backend: "shop/new:80", weight: 10 } },
      },
    ]);
    expect(Object.keys(config.backends)).toEqual(["shop/new:80", "shop/web:80"]);
    expect(told).toContainEqual(expect.stringMatching(/^error shop\/second .*shop\/canary/));
  });
});
