/** Which Ingresses are told where they are reached, and which lose what we had told. */

import { expect, test } from "vitest";
import { ingress, modelOf } from "../../tests/cluster-model.ts";
import { loadBalancerIngress, statusPatch } from "./ingress-status.ts";

const OURS = '[{"hostname":"edge.example.net"}]';
const THEIRS = '[{"ip":"192.0.2.1"}]';

/** What is patched of one Ingress with this class and status. */
function patched(className: string, status: string | undefined, isServed = true): unknown {
  const made = ingress("shop/web", { className });
  const rules = {
    classes: modelOf(made).ingressClasses,
    ingressClass: "nginx",
    wanted: loadBalancerIngress(["edge.example.net"]),
  };
  const patch = statusPatch(made, rules, isServed, status);
  return patch === undefined ? [] : [patch.ingress];
}

test.each([
  ["ours, nothing told yet", "nginx", "[]", true, [[{ hostname: "edge.example.net" }]]],
  ["ours, told already", "nginx", OURS, true, []],
  ["ours, told by the controller before us", "nginx", THEIRS, true, [[{ hostname: "edge.example.net" }]]],
  ["ours, but nothing of it is served", "nginx", OURS, false, [[]]],
  ["another's, with another's status", "traefik", THEIRS, true, []],
  ["given away, with our status", "traefik", OURS, true, [[]]],
  ["gone meanwhile", "nginx", undefined, true, []],
] as const)("%s", (_, className, status, isServed, expected) => {
  expect(patched(className, status, isServed)).toEqual(expected);
});

test("ports and modes that an API server adds make no difference", () => {
  expect(patched("nginx", '[{"hostname":"edge.example.net","ports":[]}]')).toEqual([]);
});

test("names and addresses", () => {
  expect(loadBalancerIngress(["edge.example.net", "203.0.113.1", "2001:db8::1"])).toEqual([
    { hostname: "edge.example.net" },
    { ip: "203.0.113.1" },
    { ip: "2001:db8::1" },
  ]);
});
