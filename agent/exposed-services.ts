/**
 * TCP and UDP ports that a ConfigMap exposes, in the format of ingress-nginx's `--tcp-services-configmap` and
 * `--udp-services-configmap`: `"9000": default/example:8080`.
 *
 * In: the ConfigMap's data. Out: which Service port is exposed at which port of the node, in order of the ports, and
 * diagnostics. An entry is `namespace/service:port`; a port number is that of the Service, anything else the name of one.
 * Not here: whether there is such a Service, and what exposing means (that of a node port; `wasm-nat`).
 *
 * A third or fourth field `PROXY` asks for the PROXY protocol, which no rule of a kernel can speak: such an entry is
 * refused, since its Service would read the header it waits for out of its clients' first bytes.
 */

import type { Diagnostic } from "../cluster/diagnostic.ts";
import type { ConfigMap, ObjectName, Protocol } from "../cluster/model.ts";

export interface ExposedService {
  readonly protocol: Protocol;
  /** At every address of the node that has node ports. */
  readonly nodePort: number;
  readonly service: ObjectName;
  /** A number is the Service's port, a text its name. */
  readonly port: number | string;
}

export interface ExposedServices {
  readonly exposed: readonly ExposedService[];
  readonly diagnostics: readonly Diagnostic[];
}

export function readExposedServices({ meta, data }: ConfigMap, protocol: "TCP" | "UDP"): ExposedServices {
  const exposed = new Map<number, ExposedService>();
  const diagnostics: Diagnostic[] = [];
  for (const [key, value] of Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = readEntry(key, value, protocol);
    const problem =
      typeof entry === "string"
        ? entry
        : exposed.has(entry.nodePort)
          ? `port ${entry.nodePort} is exposed by another entry already; this one is ignored`
          : undefined;
    if (typeof entry !== "string" && problem === undefined) exposed.set(entry.nodePort, entry);
    if (problem === undefined) continue;
    diagnostics.push({
      severity: "error",
      kind: "ConfigMap",
      object: `${meta.namespace}/${meta.name}`,
      field: `data[${key}]`,
      message: problem,
    });
  }
  return {
    exposed: [...exposed.values()].sort((a, b) => a.nodePort - b.nodePort),
    diagnostics,
  };
}

/** The entry, or what is wrong with it. */
function readEntry(key: string, value: string, protocol: "TCP" | "UDP"): ExposedService | string {
  const nodePort = /^[0-9]{1,6}$/.test(key.trim()) ? Number(key) : Number.NaN;
  if (!(nodePort >= 1 && nodePort <= 65535))
    return `${JSON.stringify(key)} came where a port from 1 to 65535 is expected; the entry is ignored`;
  const [reference = "", portText = "", ...proxy] = value.trim().split(":");
  const [namespace = "", name = "", ...more] = reference.split("/");
  if (namespace === "" || name === "" || more.length > 0 || portText === "" || proxy.length > 2)
    return `${JSON.stringify(value)} came where namespace/service:port is expected; the entry is ignored`;
  // UDP has no PROXY protocol in ingress-nginx either: there the fields are ignored.
  if (protocol === "TCP" && proxy.some((field) => field.toUpperCase() === "PROXY"))
    return "the PROXY protocol is asked for, and address translation cannot speak it; the entry is ignored";
  const number = /^[0-9]+$/.test(portText) ? Number(portText) : undefined;
  if (number !== undefined && !(number >= 1 && number <= 65535))
    return `${portText} came where a port of the Service is expected; the entry is ignored`;
  return { protocol, nodePort, service: `${namespace}/${name}`, port: number ?? portText };
}
