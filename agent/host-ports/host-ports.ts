/** Host ports as the agent runs them: Pods in, side rules out; the sweeper of UDP flows is told when they stand. */

import type { Pod } from "../../cluster/model.ts";
import { HOST_PORTS, type UdpSweeper } from "../conntrack.ts";
import type { SideRulesSource } from "../side-rules/runner.ts";
import { hostPortRules } from "./rules.ts";

/** `pods`: those that are known now. */
export function hostPortSource(
  node: string,
  pods: () => Iterable<Pod>,
  sweeper: UdpSweeper | undefined,
): SideRulesSource {
  return {
    wanted: async () => {
      const { udpPorts, ...wanted } = hostPortRules(pods(), node);
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
