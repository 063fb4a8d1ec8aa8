/**
 * What `fairlead nat trace` says of vectors, in the words of the tables.
 */

import { hostPort } from "./addresses.ts";
import type { AgentRunner } from "./agent.ts";
import { type Finding, MASQUERADED, type Vector } from "./table.ts";

/** The answer to one packet, as the command prints it. */
interface Trace {
  readonly verdict: "dnat" | "reject" | "drop" | "untouched";
  readonly endpoints: readonly string[];
  readonly masquerade: boolean;
}

/** Findings by the vector's place in the list. */
export async function predict(
  agent: AgentRunner,
  manifest: string,
  flags: readonly string[],
  vectors: readonly Vector[],
): Promise<readonly (readonly Finding[])[]> {
  const packets = vectors.map((vector) => packetLine(vector));
  const { code, stdout, stderr } = await agent.nat(
    "trace",
    manifest,
    { input: packets.join("\n") },
    ...flags,
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

function packetLine({ source, address, port, protocol }: Vector): string {
  return `${source} ${protocol === "icmp" ? address : hostPort(address, port)} ${protocol}`;
}

export function findingsOf({ verdict, endpoints, masquerade }: Trace): readonly Finding[] {
  if (verdict !== "dnat") return [verdict];
  return endpoints.map((endpoint) => `${endpoint}${masquerade ? MASQUERADED : ""}`).sort();
}
