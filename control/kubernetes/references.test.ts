/** Which Secrets and ConfigMaps are fetched: what Ingresses that count name, and nothing else. */

import { describe, expect, test } from "vitest";
import { configMap, ingress, modelOf } from "../../tests/cluster-model.ts";
import { createReferences } from "./references.ts";

const CONTROLLER = "ingress-nginx/ingress-nginx-controller";

function named(annotations: Readonly<Record<string, string>>): readonly [string[], string[]] {
  const model = modelOf(ingress("shop/web", { nginx: annotations }));
  const { secrets, configMaps } = createReferences({})(model);
  return [[...secrets], [...configMaps].filter((name) => name !== CONTROLLER)];
}

describe("createReferences", () => {
  test.each([
    ["a name means the own namespace", { "auth-secret": "users" }, [["shop/users"], []]],
    ["the own namespace may be spelled out", { "auth-secret": "shop/users" }, [["shop/users"], []]],
    ["another namespace is none of its business", { "auth-secret": "bank/users" }, [[], []]],
    ["space around is no part of a name", { "auth-secret": " users " }, [["shop/users"], []]],
    ["what is no name names nothing", { "auth-secret": "../users" }, [[], []]],
    ["nothing", { "auth-secret": "" }, [[], []]],
    [
      "ConfigMaps too",
      { "custom-headers": "headers", "auth-proxy-set-headers": "more" },
      [[], ["shop/headers", "shop/more"]],
    ],
  ] as const)("%s", (_, annotations, expected) => {
    expect(named(annotations)).toEqual(expected);
  });

  test("another namespace, where the controller's ConfigMap allows it", () => {
    const allowed = configMap(CONTROLLER, { "allow-cross-namespace-resources": "true" });
    const model = modelOf(ingress("shop/web", { nginx: { "auth-secret": "bank/users" } }), allowed);
    expect([...createReferences({})(model).secrets]).toEqual(["bank/users"]);
  });

  test("an Ingress of another class names nothing; TLS Secrets are never fetched", () => {
    const model = modelOf(
      ingress("shop/theirs", { className: "traefik", nginx: { "auth-secret": "users" } }),
      ingress("shop/ours", {
        className: "nginx",
        tls: [{ hosts: ["a.example.com"], secretName: "web-tls" }],
      }),
    );
    expect([...createReferences({ ingressClass: "nginx" })(model).secrets]).toEqual([]);
  });

  test("the same Ingresses give the very same answer", () => {
    const references = createReferences({});
    const model = modelOf(ingress("shop/web", { nginx: { "auth-secret": "users" } }));
    expect(references({ ...model, services: new Map() })).toBe(references(model));
  });
});
