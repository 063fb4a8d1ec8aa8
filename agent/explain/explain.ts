/**
 * `fairlead agent explain`: everything about one destination on a live node, side by side: what the cluster says, what the
 * rules should do, what the kernel holds, and who is connected.
 *
 * In: settings, the present state of the cluster, a question. Out: an `Explanation`. It asks the API server (or the files)
 * and the kernel, never a running agent: it has to work where the agent does not.
 */

import { hostPort } from "../../cluster/ip-address.ts";
import type { ClusterModel, IpFamily, ObjectName } from "../../cluster/model.ts";
import type { NatTrace } from "../../wasm-nat/nat.ts";
import type { ClusterCompiler } from "../compiler.ts";
import { claimsOf, type Destination } from "../destinations.ts";
import { CommandError } from "../kernel/command.ts";
import { countFlows } from "../kernel/conntrack.ts";
import { KernelError } from "../kernel/kernel-error.ts";
import type { KernelOptions } from "../kernel/transactions.ts";
import { localAddresses, nodeAddresses } from "../node-addresses.ts";
import type { NatSettings } from "../settings.ts";
import { type ExplainedEndpoint, explainEndpoints } from "./endpoints.ts";
import { askKernel, type KernelHoldings } from "./kernel.ts";

export interface ExplainQuestion {
  readonly destination: Destination;
  /** Where the packet comes from; absent: from this node for a ClusterIP and loopback, from outside for everything else. */
  readonly from?: string | undefined;
}

export interface Explanation {
  readonly destination: string;
  readonly from: string;
  /** The Service port that has it, and what the destination is to it. */
  readonly owner?: { readonly service: ObjectName; readonly port: string; readonly kind: string };
  /** Others that claim it, and do not have it. */
  readonly others: readonly ObjectName[];
  readonly trace: NatTrace;
  readonly endpoints: readonly ExplainedEndpoint[];
  readonly kernel: KernelHoldings | { readonly unreadable: string };
  /** Entries of the connection table to this destination, by who answers; absent where it cannot be read. */
  readonly connections?: readonly { readonly endpoint: string; readonly entries: number }[];
  /** Sentences about what does not fit together. */
  readonly findings: readonly string[];
}

/** An address that nobody has (RFC 5737, RFC 3849): stands for a client outside. */
const OUTSIDE: Readonly<Record<IpFamily, string>> = { IPv4: "203.0.113.1", IPv6: "2001:db8::1" };

/** `undefined`: somebody outside. */
function usualSource(destination: string, kind: string | undefined, own: string | undefined) {
  if (/^127\.|^::1$/.test(destination)) return destination;
  return kind === "ClusterIP" ? own : undefined;
}

export async function explainDestination(
  question: ExplainQuestion,
  model: ClusterModel,
  compiler: ClusterCompiler,
  settings: NatSettings,
  kernelOptions: KernelOptions = {},
): Promise<Explanation> {
  const { destination } = question;
  const family: IpFamily = destination.address.includes(":") ? "IPv6" : "IPv4";
  const node = compiler.node();
  const addresses = nodeAddresses(node)[family];
  const nodePortAddresses = compiler.nodePortAddresses();
  const hasNodePorts = (address: string): boolean =>
    nodePortAddresses?.includes(address) ?? (addresses.includes(address) || localAddresses().has(address));
  const claims = claimsOf(destination, model, compiler.exposed(), hasNodePorts);
  const owner = claims[0];
  const from =
    question.from ?? usualSource(destination.address, owner?.kind, addresses[0]) ?? OUTSIDE[family];
  const traceFrom = (source: string): NatTrace =>
    compiler.nat.trace({
      from: source,
      to: destination.address,
      port: destination.port,
      protocol: destination.protocol,
    });
  const trace = traceFrom(from);

  const isInternal = owner?.kind === "ClusterIP";
  const endpoints =
    owner === undefined
      ? []
      : explainEndpoints({
          slices: model.endpointSlices.get(owner.name) ?? [],
          portName: owner.port.name,
          protocol: destination.protocol,
          family,
          nodeName: settings.node,
          node,
          policy: isInternal ? owner.service.internalTrafficPolicy : externalPolicy(),
          chosen: new Set(trace.endpoints),
        });
  const kernel = await askKernel(
    {
      backend: settings.backend,
      destination,
      isNodeAddress: hasNodePorts(destination.address),
      rules: trace.rules,
    },
    kernelOptions,
  ).catch((error: unknown) => ({ unreadable: error instanceof Error ? error.message : String(error) }));
  const connections = await countFlows(family, destination, kernelOptions).catch((error: unknown) => {
    if (error instanceof CommandError || error instanceof KernelError) return undefined;
    throw error;
  });
  const told: Omit<Explanation, "findings"> = {
    destination: `${hostPort(destination.address, destination.port)}/${destination.protocol.toLowerCase()}`,
    from,
    ...(owner === undefined
      ? {}
      : { owner: { service: owner.name, port: owner.port.name, kind: owner.kind } }),
    others: claims.slice(1).map(({ name }) => name),
    trace,
    endpoints,
    kernel,
    ...(connections === undefined ? {} : { connections }),
  };
  return { ...told, findings: findingsOf(told, endpointsOfEveryPath()) };

  /** Pods and this node go by another set than clients outside under policy Local; the kernel holds both. */
  function endpointsOfEveryPath(): ReadonlySet<string> {
    const traces = [
      trace,
      ...[addresses[0], OUTSIDE[family]].flatMap((source) => source ?? []).map(traceFrom),
    ];
    const found = new Set(traces.flatMap((one) => one.endpoints));
    // Whom a source range keeps out does not learn where others go.
    if (traces.some(({ verdict }) => verdict === "drop"))
      for (const { endpoint, state } of endpoints)
        if (state === "ready" || state === "terminating, serving") found.add(endpoint);
    return found;
  }

  /** Pods and this node are not bound by an external policy Local. */
  function externalPolicy(): "Cluster" | "Local" {
    const isShort = addresses.includes(from);
    return owner?.kind === "exposed port" || isShort
      ? "Cluster"
      : (owner?.service.externalTrafficPolicy ?? "Cluster");
  }
}

function findingsOf(
  { owner, others, trace, kernel, connections, destination }: Omit<Explanation, "findings">,
  wanted: ReadonlySet<string>,
): readonly string[] {
  const findings: string[] = [];
  if (owner === undefined && trace.verdict === "untouched")
    findings.push(`No Service of the cluster has ${destination}.`);
  if (others.length > 0)
    findings.push(
      `${others.join(", ")} claim this destination too; the oldest Service, ${owner?.service}, has it.`,
    );
  if ("unreadable" in kernel) {
    findings.push(`The kernel could not be read: ${kernel.unreadable}`);
    return findings;
  }
  const { endpoints: held = [] } = kernel;
  const missing = trace.endpoints.filter((endpoint) => !held.includes(endpoint));
  if (owner !== undefined && kernel.lines.length === 0)
    findings.push("The kernel holds nothing for it: no agent has programmed this state (is it running?).");
  else if (missing.length > 0)
    findings.push(
      `The kernel lacks ${missing.join(", ")}: the agent is behind, or its last transaction was refused.`,
    );
  const extra = held.filter((endpoint) => !wanted.has(endpoint));
  if (extra.length > 0)
    findings.push(
      `The kernel still leads to ${extra.join(", ")}, where nothing should go any more: no agent runs, it is behind, or its last transaction was refused.`,
    );
  const stale = (connections ?? []).filter(({ endpoint }) => !held.includes(endpoint));
  if (held.length > 0 && stale.length > 0)
    findings.push(
      `${stale.map(({ endpoint, entries }) => `${entries} connection(s) to ${endpoint}`).join(", ")}: such connections go on, new ones go elsewhere.`,
    );
  return findings;
}
