/**
 * What of a ConfigMap of exposed ports the kernel can do: every plain entry. One that asks for the PROXY protocol is the
 * gateway's; a rule of the kernel cannot speak it, and its Service would read the header it waits for out of its clients'
 * first bytes. So it is refused here.
 */

import { type ExposedServices, readExposedServices } from "../cluster/exposed-services.ts";
import type { ConfigMap } from "../cluster/model.ts";

export function readTranslatedServices(configMap: ConfigMap, protocol: "TCP" | "UDP"): ExposedServices {
  const { exposed, diagnostics } = readExposedServices(configMap, protocol);
  const { namespace, name } = configMap.meta;
  const refused = exposed.filter(({ proxyProtocol }) => proxyProtocol !== undefined);
  return {
    exposed: exposed.filter(({ proxyProtocol }) => proxyProtocol === undefined),
    diagnostics: [
      ...diagnostics,
      ...refused.map(({ nodePort }) => ({
        severity: "error" as const,
        kind: "ConfigMap",
        object: `${namespace}/${name}`,
        field: `data[${nodePort}]`,
        message:
          "the PROXY protocol is asked for, and address translation cannot speak it; the entry is left to the gateway",
      })),
    ],
  };
}
