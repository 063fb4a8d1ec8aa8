/** Which rule sets beside those of Services the operator has asked for, each with what it is made of. */

import type { IpFamily, Pod } from "../../cluster/model.ts";
import type { UdpSweeper } from "../conntrack.ts";
import { hostPortSource } from "../host-ports/host-ports.ts";
import type { AgentOptions } from "../options.ts";
import { outboundSource } from "../outbound/outbound.ts";
import { SideRulesRunner, type SideRulesSource } from "./runner.ts";
import type { SideRulesName } from "./side-rules.ts";

export function sideRuleNames({ outbound, hostPorts }: AgentOptions): readonly SideRulesName[] {
  return [
    ...(outbound === undefined ? [] : (["snat"] as const)),
    ...(hostPorts ? (["hostports"] as const) : []),
  ];
}

/** `pods`: those of this node; `undefined`: they are not known yet. One runner for each rule set beside those of Services that is in use. */
export function createSideRules(
  options: AgentOptions,
  families: readonly IpFamily[],
  pods: () => Iterable<Pod> | undefined,
  sweeper?: UdpSweeper,
): readonly SideRulesRunner[] {
  const { settings, outbound, say } = options;
  const sources: Readonly<Record<SideRulesName, () => SideRulesSource | undefined>> = {
    snat: () => outbound && outboundSource(outbound, settings.node, pods),
    hostports: () => hostPortSource(settings.node, pods, sweeper),
  };
  return sideRuleNames(options).flatMap((name) => {
    const source = sources[name]();
    return source === undefined
      ? []
      : [new SideRulesRunner({ name, backend: settings.backend, families, say, ...source })];
  });
}
