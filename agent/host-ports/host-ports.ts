/** Host ports as the agent runs them: Pods in, side rules out; the sweeper of UDP flows is told when they stand. */

import type { Pod } from "../../cluster/model.ts";
import { HOST_PORTS, type UdpSweeper } from "../conntrack.ts";
import type { SideRulesSource } from "../side-rules/runner.ts";
import { hostPortRules } from "./rules.ts";

/** `pods`: those of this node that are known now; `undefined`: none are known yet, and what stands stays. */
export function hostPortSource(
  node: string,
  pods: () => Iterable<Pod> | undefined,
  sweeper: UdpSweeper | undefined,
): SideRulesSource {
  return {
    wanted: async () => {
      const known = pods();
      if (known === undefined)
        throw new Error("Host ports wait for the Pods of this node, so what stands stays.");
      const { udpPorts, ...wanted } = hostPortRules(known, node);
      sweeper?.update(HOST_PORTS, udpPorts);
      return wanted;
    },
    onWrite: () => sweeper?.rulesChange(HOST_PORTS),
    onWritten: (wrote) => {
      // Rules that were missing have let flows pass untranslated.
      if (wrote) sweeper?.suspectAll(HOST_PORTS);
      sweeper?.rulesChanged(HOST_PORTS);
    },
  };
}
