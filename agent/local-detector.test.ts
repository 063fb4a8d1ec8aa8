import { expect, test } from "vitest";
import type { Node } from "../cluster/model.ts";
import { resolveLocalDetector } from "./local-detector.ts";

const node = (podCIDRs: readonly string[]): Node => ({
  kind: "Node",
  meta: { namespace: "", name: "n1", labels: {}, annotations: {} },
  addresses: [],
  podCIDRs,
  taints: [],
  deleting: false,
});
const byNode = { node: "n1", localDetector: { kind: "nodePodCidrs" } } as const;
const BOTH = ["IPv4", "IPv6"] as const;

test("the ranges of the Node, canonical", () => {
  expect(resolveLocalDetector(byNode, BOTH, node(["10.180.00.0/24", "FD00:0:10:180::/64"]))).toEqual({
    detector: { kind: "cidrs", cidrs: ["10.180.0.0/24", "fd00:0:10:180::/64"] },
    diagnostics: [],
  });
});

test("a family without a range is told, and an unreadable one costs itself", () => {
  const { detector, diagnostics } = resolveLocalDetector(byNode, BOTH, node(["10.180.0.0/24", "fd00::/200"]));
  expect(detector).toEqual({ kind: "cidrs", cidrs: ["10.180.0.0/24"] });
  expect(diagnostics.map(({ message }) => message)).toEqual([
    '"fd00::/200" is no range; it is left out',
    "no range of IPv6 is there, so no IPv6 packet counts as a Pod's until there is one",
  ]);
  expect(resolveLocalDetector(byNode, ["IPv4"], undefined)).toMatchObject({
    detector: { kind: "cidrs", cidrs: [] },
    diagnostics: [{ kind: "Node", object: "n1", field: "spec.podCIDRs" }],
  });
});

test("everything else is as it was chosen", () => {
  const localDetector = { kind: "interface", name: "cni0" } as const;
  expect(resolveLocalDetector({ node: "n1", localDetector }, BOTH, undefined)).toEqual({
    detector: localDetector,
    diagnostics: [],
  });
});
