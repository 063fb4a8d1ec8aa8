/** The outbound policy as the agent runs it: settings and Pods in, side rules out. */

import { readFile } from "node:fs/promises";
import type { Pod } from "../../cluster/model.ts";
import { localAddresses } from "../node-addresses.ts";
import type { SideRulesSource } from "../side-rules/runner.ts";
import { type OutboundPolicy, policyFromCidrs, readPolicy } from "./policy.ts";
import { outboundRules } from "./rules.ts";

/** One of both; the file is read again whenever the rules are looked at. */
export type OutboundSettings =
  | { readonly kind: "cidrs"; readonly cidrs: readonly string[]; readonly randomFully: boolean }
  | { readonly kind: "file"; readonly path: string; readonly randomFully: boolean };

/** `pods`: those that are known now; `undefined`: not one of them, nor that there is none. */
export function outboundSource(
  settings: OutboundSettings,
  node: string,
  pods: () => Iterable<Pod> | undefined,
): SideRulesSource {
  return {
    wanted: async () => {
      const policy = await currentPolicy(settings);
      const own = localAddresses();
      const known = pods();
      // Without the fixed addresses the rest of it would send their Pods out by another one.
      if (known === undefined && policy.egress.length > 0)
        throw new Error("The outbound policy waits for the Pods of this node, so what stands stays.");
      return outboundRules(policy, known ?? [], node, (address) => own.has(address));
    },
  };
}

async function currentPolicy(settings: OutboundSettings): Promise<OutboundPolicy> {
  const { randomFully } = settings;
  if (settings.kind === "cidrs") return policyFromCidrs(settings.cidrs, randomFully);
  const text = await readFile(settings.path, "utf8").catch((error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`The outbound policy cannot be read, so what stands stays: ${reason}.`);
  });
  const reading = readPolicy(text, randomFully);
  if (reading.kind === "policy") return reading.policy;
  throw new Error(`The outbound policy ${settings.path} is not used: ${reading.problems.join("; ")}.`);
}
