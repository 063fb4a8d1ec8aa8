/**
 * What `fairlead nat trace` says of vectors, in the words of the tables.
 */

import { FAMILIES, HOSTS, hostPort, namespaceOf } from "./addresses.ts";
import type { AgentRunner } from "./agent.ts";
import type { PodNetwork } from "./lab.ts";
import { type Finding, MASQUERADED, type Vector } from "./table.ts";

/** The answer to one packet, as the command prints it. */
interface Trace {
  readonly verdict: "dnat" | "reject" | "drop" | "untouched";
  readonly endpoints: readonly string[];
  readonly masquerade: boolean;
}

/** node-a has this address, but its Node object does not tell: the kernel knows it, and who traces from manifests has to be told. */
const UNTOLD_ADDRESS = FAMILIES.map((family) => HOSTS["node-a-pods"][family]).join(",");

/** Findings by the vector's place in the list. */
export async function predict(
  agent: AgentRunner,
  manifest: string,
  flags: readonly string[],
  vectors: readonly Vector[],
  podNetwork: PodNetwork,
): Promise<readonly (readonly Finding[])[]> {
  const packets = vectors.map((vector) => packetLine(vector, podNetwork));
  const { code, stdout, stderr } = await agent.nat(
    "trace",
    manifest,
    { input: packets.join("\n") },
    ...flags,
    "--node-addresses",
    UNTOLD_ADDRESS,
    "--packets",
    "-",
    "--json",
  );
  if (code !== 0) throw new Error(`fairlead nat trace ended with ${code}: ${stderr}`);
  return stdout
    .trim()
    .split("\n")
    .map((line) => findingsOf(JSON.parse(line) as Trace));
}

function packetLine({ from, source, address, port, protocol }: Vector, podNetwork: PodNetwork): string {
  const target = protocol === "icmp" ? address : hostPort(address, port);
  return `${source} ${target} ${protocol} ${interfaceOf(from, podNetwork) ?? ""}`;
}

/** By which of node-a's interfaces a host's packets come in; none for its own. */
function interfaceOf(from: Vector["from"], podNetwork: PodNetwork): string | undefined {
  const namespace = namespaceOf(from);
  switch (namespace) {
    case "node-a":
      return undefined;
    case "a1":
    case "a2":
    case "pod":
      return podNetwork === "bridged" ? "cni0" : `veth-${namespace}`;
    default:
      return "eth0";
  }
}

export function findingsOf({ verdict, endpoints, masquerade }: Trace): readonly Finding[] {
  if (verdict !== "dnat") return [verdict];
  return endpoints.map((endpoint) => `${endpoint}${masquerade ? MASQUERADED : ""}`).sort();
}
