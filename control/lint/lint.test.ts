import { describe, expect, test } from "vitest";
import type { Ingress } from "../../cluster/model.ts";
import { configMap, ingress, modelOf, service, slice } from "../../tests/cluster-model.ts";
import { lint } from "./lint.ts";
import { translateSnippet } from "./snippets.ts";

const web = [service("shop/web", ["80"]), slice("shop/web", ["80"], ["10.0.0.1"])];
const reportOf = (object: Ingress, ...others: readonly Ingress[]) => {
  const report = lint(modelOf(...web, object, ...others));
  const found = report.ingresses.find(
    ({ ingress: name }) => name === `${object.meta.namespace}/${object.meta.name}`,
  );
  if (found === undefined) throw new Error("The report has no such Ingress.");
  return { ...found, summary: report.summary };
};
const verdicts = (object: Ingress) =>
  Object.fromEntries(
    reportOf(object).annotations.map(({ name, verdict }) => [name.replace(/^.*\//, ""), verdict]),
  );

describe("verdicts", () => {
  test("each annotation has one, with its reason; those of others are left alone", () => {
    const object = ingress("shop/a", {
      rules: { h: ["/ web:80"] },
      nginx: {
        "enable-cors": "true",
        "cors-max-age": "1h",
        "server-alias": "b.example.com",
        "proxy-buffer-size": "on",
        "server-snippet": "deny all;",
        "enable-corse": "true",
        "cors-expose-headers": "",
      },
      annotations: { "cert-manager.io/issuer": "x", "kubernetes.io/ingress.class": "nginx" },
    });
    expect(verdicts(object)).toEqual({
      "enable-cors": "honoured",
      "cors-max-age": "refused",
      "server-alias": "honoured with a difference",
      "proxy-buffer-size": "ignored",
      "server-snippet": "refused",
      "enable-corse": "ignored",
      "cors-expose-headers": "ignored",
      "ingress.class": "honoured",
    });
    const { annotations } = reportOf(object);
    expect(annotations.every(({ reason }) => /^["A-Z`].*[.)]$/s.test(reason))).toBe(true);
    expect(annotations.find(({ name }) => name.endsWith("enable-corse"))?.advice).toContain(
      "/enable-cors is meant",
    );
  });

  test("the newer prefix wins, and the older one is told so", () => {
    const object = ingress("shop/a", {
      rules: { h: ["/ web:80"] },
      nginx: { "enable-cors": "false" },
      annotations: { "ingress.kubernetes.io/enable-cors": "true" },
    });
    const { annotations } = reportOf(object);
    expect(annotations.map(({ name, verdict }) => [name, verdict])).toEqual([
      ["ingress.kubernetes.io/enable-cors", "ignored"],
      ["nginx.ingress.kubernetes.io/enable-cors", "honoured"],
    ]);
  });

  test.each([
    ["moves as it is", { "enable-cors": "true" }],
    ["moves with differences", { "server-alias": "b.example.com" }],
    ["needs work", { "configuration-snippet": "more_set_headers 'A: b';" }],
    ["needs work", { "enable-cors": "ja" }],
  ])("%s: %j", (outcome, nginx) => {
    const report = reportOf(ingress("shop/a", { rules: { h: ["/ web:80"] }, nginx }));
    expect(report.outcome).toBe(outcome);
    expect(report.summary).toMatch(/^1 Ingress: .*; 1 annotation: .* surprises\.$/);
  });

  test("the ConfigMap's keys", () => {
    const { configMap: report } = lint(
      modelOf(
        configMap("ingress-nginx/ingress-nginx-controller", {
          "service-upstream": "true",
          "worker-processes": "4",
          "http-snippet": "x;",
          typo: "1",
        }),
      ),
    );
    expect(report?.settings.map(({ name, verdict }) => [name, verdict])).toEqual([
      ["http-snippet", "refused"],
      ["service-upstream", "honoured"],
      ["typo", "ignored"],
      ["worker-processes", "ignored"],
    ]);
  });
});

describe("surprises", () => {
  const names = (object: Ingress, ...others: readonly Ingress[]) =>
    reportOf(object, ...others).surprises.map(({ name }) => name);
  test.each([
    [["trailing-slash"], ingress("shop/a", { rules: { h: ["/x/ web:80"] } })],
    [["implementation-specific"], ingress("shop/a", { rules: { h: ["ImplementationSpecific /x web:80"] } })],
    [["no-regex-without-asking"], ingress("shop/a", { rules: { h: ["/x(.*) web:80"] } })],
    [["wildcard-is-one-label"], ingress("shop/a", { rules: { "*.example.com": ["/ web:80"] } })],
    [
      ["default-backend-is-its-own-hosts"],
      ingress("shop/a", { rules: { h: ["/x web:80"] }, defaultBackend: "web:80" }),
    ],
    [
      ["regex-is-not-exact"],
      ingress("shop/a", { rules: { h: ["Exact /x web:80"] }, nginx: { "use-regex": "true" } }),
    ],
    [
      ["old-prefix"],
      ingress("shop/a", {
        rules: { h: ["/ web:80"] },
        annotations: { "ingress.kubernetes.io/enable-cors": "true" },
      }),
    ],
    [[], ingress("shop/a", { rules: { h: ["/ web:80", "Exact /x web:80"] } })],
  ])("%j", (want, object) => {
    expect(names(object)).toEqual(want);
  });

  test("regular expressions leak to the other Ingresses of the host, and the one that asks is named", () => {
    const victim = ingress("shop/victim", { rules: { h: ["/x web:80"] } });
    const asker = ingress("shop/asker", { rules: { h: ["/y web:80"] }, nginx: { "use-regex": "true" } });
    expect(reportOf(victim, asker).surprises).toEqual([
      { name: "regex-leaks", message: expect.stringContaining("shop/asker") },
    ]);
    expect(names(asker, victim)).toEqual([]);
  });

  test("an old rewrite in an old manifest", () => {
    const old = {
      ...ingress("shop/a", { rules: { h: ["/x web:80"] }, nginx: { "rewrite-target": "/" } }),
      apiVersion: "extensions/v1beta1" as const,
    };
    expect(names(old)).toContain("old-rewrite");
    expect(names({ ...old, apiVersion: "networking.k8s.io/v1" })).not.toContain("old-rewrite");
  });
});

describe("snippets", () => {
  test.each([
    ['more_set_headers "X-Frame-Options: DENY";', /X-Frame-Options: "DENY".*custom-headers/],
    ["add_header X-A 'b c' always;", /X-A: "b c"/],
    ["return 301 https://new.example.com/;", /permanent-redirect: "https:\/\/new\.example\.com\/"/],
    ["return 307 /x;", /temporal-redirect: "\/x" with .*307/],
    ["return 403;", /denylist-source-range: "0\.0\.0\.0\/0,::\/0"/],
    ["proxy_read_timeout 2m;", /proxy-read-timeout: "120"/],
    ["client_max_body_size 8m;", /proxy-body-size: "8m"/],
    ["proxy_set_header Host internal;", /upstream-vhost: "internal"/],
  ])("%s", (text, want) => {
    expect(translateSnippet(text)).toEqual([
      expect.objectContaining({ instead: expect.stringMatching(want) }),
    ]);
  });

  test("variables, blocks and the rest have no counterpart, and nothing inside a block is taken for more", () => {
    const text = `
      # more_set_headers "A: b";
      add_header X-Ip $remote_addr;
      if ($http_user_agent ~ "x{2}") { return 301 /x; }
      location /y { if (1) { return 403; } add_header A b; }
      set $a "b;c";
      proxy_pass http://169.254.169.254`;
    const lines = translateSnippet(text);
    expect(lines.map(({ directive }) => directive.split(" ")[0])).toEqual([
      "add_header",
      "if",
      "location",
      "set",
      "proxy_pass",
    ]);
    expect(lines.every(({ instead, note }) => instead === undefined && note !== undefined)).toBe(true);
  });

  test("nonsense is no crash", () => {
    for (const text of ["", ";;;", "}}}{{{", '"', "'a", "a{b", "\u0000", "{".repeat(5000)])
      expect(Array.isArray(translateSnippet(text))).toBe(true);
  });
});
