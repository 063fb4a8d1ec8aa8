/**
 * What of a ConfigMap of exposed ports the kernel can do: every plain entry. One that asks for the PROXY protocol is the
 * gateway's; a rule of the kernel cannot speak it, and its Service would read the header it waits for out of its clients'
 * first bytes. So it is refused here, and so is one at a port where this agent itself answers.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import {
  closedPort,
  type ExposedService,
  type ExposedServices,
  findExposedPort,
  readExposedServices,
} from "../cluster/exposed-services.ts";
import type { ClusterModel, ConfigMap, ObjectName, Service } from "../cluster/model.ts";
import { isProxied, SERVICE_PROXY_NAME } from "./proxied-service.ts";

/** TCP ports of the agent's own, and the option that moves each. */
export type OwnPorts = ReadonlyMap<number, string>;

export function readTranslatedServices(
  configMap: ConfigMap,
  protocol: "TCP" | "UDP",
  ownPorts: OwnPorts,
): ExposedServices {
  const { exposed, diagnostics } = readExposedServices(configMap, protocol);
  const object = `${configMap.meta.namespace}/${configMap.meta.name}` as const;
  const refusals = exposed.flatMap((one): readonly Diagnostic[] => {
    const message = whyRefused(one, ownPorts);
    if (message === undefined) return [];
    return [{ severity: "error", kind: "ConfigMap", object, field: `data[${one.nodePort}]`, message }];
  });
  return {
    exposed: exposed.filter((one) => whyRefused(one, ownPorts) === undefined),
    diagnostics: [...diagnostics, ...refusals],
  };
}

function whyRefused(
  { protocol, nodePort, proxyProtocol }: ExposedService,
  ownPorts: OwnPorts,
): string | undefined {
  const option = protocol === "TCP" ? ownPorts.get(nodePort) : undefined;
  if (option !== undefined) return `port ${nodePort} is this agent's own (${option}); the entry is ignored`;
  return proxyProtocol === undefined
    ? undefined
    : "the PROXY protocol is asked for, and address translation cannot speak it; the entry is left to the gateway";
}

/** About entries to whose Service no rule leads. Without endpoints one refuses, as at every other port of the Service. */
export function findUntranslated(
  configMap: ObjectName,
  exposed: readonly ExposedService[],
  model: Pick<ClusterModel, "services">,
): readonly Diagnostic[] {
  return exposed.flatMap((one) => {
    const found = findExposedPort(one, model);
    if (found.kind === "none") return [closedPort(configMap, one, found.reason)];
    if (isProxied(found.service)) return [];
    const message = `Service ${one.service} ${whyUntranslated(found.service)}, so no rule leads to it; the port is closed.`;
    return [
      { severity: "warning", kind: "ConfigMap", object: configMap, field: `data[${one.nodePort}]`, message },
    ];
  });
}

function whyUntranslated({ type, meta: { labels } }: Service): string {
  if (type === "ExternalName") return "is a name elsewhere (ExternalName)";
  return labels[SERVICE_PROXY_NAME] === undefined ? "is headless" : "belongs to another proxy";
}
