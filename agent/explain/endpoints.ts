/**
 * Each endpoint of a Service port, and why packets go there or not.
 *
 * In: slices, this node, and where the compiler lets packets go. Out: words. Who is in is the compiler's decision, never
 * made here a second time; this only says which of the known reasons fits.
 */

import { hostPort } from "../../cluster/ip-address.ts";
import type { Endpoint, EndpointSlice, Node, Protocol } from "../../cluster/model.ts";

export interface ExplainedEndpoint {
  /** `10.180.0.1:8080` */
  readonly endpoint: string;
  readonly node?: string;
  readonly zone?: string;
  readonly state: "ready" | "serving, not ready" | "terminating, serving" | "terminating" | "not ready";
  readonly isIn: boolean;
  readonly why: string;
}

export interface EndpointQuestion {
  readonly slices: readonly EndpointSlice[];
  readonly portName: string;
  readonly protocol: Protocol;
  readonly family: "IPv4" | "IPv6";
  readonly nodeName: string;
  readonly node: Node | undefined;
  /** Traffic policy on the path of the packet. */
  readonly policy: "Cluster" | "Local";
  /** Where the compiler's rules let it go. */
  readonly chosen: ReadonlySet<string>;
}

const ZONE = "topology.kubernetes.io/zone";

export function explainEndpoints(question: EndpointQuestion): readonly ExplainedEndpoint[] {
  const found = new Map<string, ExplainedEndpoint>();
  for (const slice of question.slices) {
    if (slice.addressType !== question.family) continue;
    for (const { name, protocol, port } of slice.ports) {
      if (name !== question.portName || protocol !== question.protocol || port === undefined) continue;
      for (const endpoint of slice.endpoints) {
        const text = hostPort(endpoint.addresses[0] ?? "", port);
        if (!found.has(text)) found.set(text, explainEndpoint(text, endpoint, question));
      }
    }
  }
  return [...found.values()].sort((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
}

function explainEndpoint(text: string, endpoint: Endpoint, question: EndpointQuestion): ExplainedEndpoint {
  const isIn = question.chosen.has(text);
  return {
    endpoint: text,
    ...(endpoint.nodeName === undefined ? {} : { node: endpoint.nodeName }),
    ...(endpoint.zone === undefined ? {} : { zone: endpoint.zone }),
    state: stateOf(endpoint),
    isIn,
    why: isIn ? whyIn(endpoint, question) : whyOut(endpoint, question),
  };
}

function stateOf({ ready, serving, terminating }: Endpoint): ExplainedEndpoint["state"] {
  if (ready) return "ready";
  if (terminating) return serving ? "terminating, serving" : "terminating";
  return serving ? "serving, not ready" : "not ready";
}

function whyIn(endpoint: Endpoint, { policy, nodeName }: EndpointQuestion): string {
  const where = policy === "Local" ? ` and on this node (${nodeName})` : "";
  if (!endpoint.ready) return `it terminates and still serves${where}, and no endpoint is ready`;
  const hinted = endpoint.hintsForZones.length + endpoint.hintsForNodes.length > 0;
  return `it is ready${where}${hinted && policy === "Cluster" ? ", and its hints allow this node" : ""}`;
}

function whyOut(endpoint: Endpoint, question: EndpointQuestion): string {
  const { policy, nodeName, node } = question;
  if (policy === "Local" && endpoint.nodeName !== nodeName)
    return `the traffic policy is Local and it is on ${endpoint.nodeName ?? "no node"}, not on ${nodeName}`;
  if (!endpoint.ready) {
    if (!endpoint.serving) return "it does not serve";
    if (!endpoint.terminating) return "it is not ready";
    return "it terminates, and others are ready";
  }
  const { hintsForNodes, hintsForZones } = endpoint;
  const zone = node?.meta.labels[ZONE];
  if (hintsForNodes.length > 0 && !hintsForNodes.includes(nodeName))
    return `its hints name the nodes ${hintsForNodes.join(", ")}, and this is ${nodeName}`;
  if (hintsForZones.length > 0 && (zone === undefined || !hintsForZones.includes(zone)))
    return `its hints name the zones ${hintsForZones.join(", ")}, and this node is in ${zone ?? "none"}`;
  return "it has the weight 0, or an older Service owns this destination";
}
