/**
 * How packets of Pods are told: the operator's choice, made into what the compiler knows.
 *
 * Ranges and interfaces are passed on. The Pod ranges of this node (kube-proxy's `NodeCIDR`) are its Node object's, and
 * change with it; until it has any, nothing counts as a Pod's, which is told.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import { parseIpRange } from "../cluster/ip-address.ts";
import type { IpFamily, Node } from "../cluster/model.ts";
import type { NatLocalDetector } from "../wasm-nat/nat.ts";
import type { NatSettings } from "./settings.ts";

export interface ResolvedDetector {
  readonly detector: NatLocalDetector;
  readonly diagnostics: readonly Diagnostic[];
}

export function resolveLocalDetector(
  { localDetector, node: name }: Pick<NatSettings, "localDetector" | "node">,
  families: readonly IpFamily[],
  node: Node | undefined,
): ResolvedDetector {
  if (localDetector.kind !== "nodePodCidrs") return { detector: localDetector, diagnostics: [] };
  const ranges = (node?.podCIDRs ?? []).map((text) => ({ text, range: parseIpRange(text) }));
  const tell = (message: string): Diagnostic => ({
    severity: "warning",
    kind: "Node",
    object: name,
    field: "spec.podCIDRs",
    message,
  });
  const unreadable = ranges.filter(({ range }) => range === undefined);
  const missing = families.filter((family) => !ranges.some(({ range }) => range?.family === family));
  return {
    detector: {
      kind: "cidrs",
      cidrs: ranges.flatMap(({ range }) => (range === undefined ? [] : [range.text])),
    },
    diagnostics: [
      ...unreadable.map(({ text }) => tell(`${JSON.stringify(text)} is no range; it is left out`)),
      ...missing.map((family) =>
        tell(`no range of ${family} is there, so no ${family} packet counts as a Pod's until there is one`),
      ),
    ],
  };
}
