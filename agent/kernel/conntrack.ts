/**
 * Connection tracking through `conntrack`: reads the flows of one protocol, deletes flows.
 *
 * In: family and protocol, or a description of flows. Out: flows as values, one by one, while the table is read: it may
 * hold a million. Nothing is decided here (`../conntrack.ts` decides).
 *
 * `conntrack -D` reads the whole table once for each call, whatever it is told to delete, so it is called once for each
 * group of flows that have destination and answering address in common, never once for each flow.
 */

import { hostPort } from "../../cluster/ip-address.ts";
import type { IpFamily, Protocol } from "../../cluster/model.ts";
import { type CommandOptions, runCommand } from "./command.ts";
import { KernelError } from "./kernel-error.ts";

export interface Flow {
  /** As the client sent it. */
  readonly destination: string;
  readonly destinationPort: number;
  /** Who answers: the endpoint, or the destination itself where the flow was not translated. */
  readonly replySource: string;
  readonly replySourcePort: number;
  readonly zone: number;
}

export type ConntrackOptions = Pick<CommandOptions, "through" | "signal"> & { readonly timeoutMs?: number };

const LIST_TIMEOUT_MS = 60_000;

/** Calls `take` for every UDP flow of the family. */
export async function listUdpFlows(
  family: IpFamily,
  take: (flow: Flow) => void,
  options: ConntrackOptions = {},
): Promise<void> {
  const result = await runCommand(
    "conntrack",
    ["-L", "-p", "udp", "-f", familyName(family), "-o", "extended"],
    {
      timeoutMs: LIST_TIMEOUT_MS,
      ...options,
      onLine: (line) => {
        const flow = parseFlow(line);
        if (flow !== undefined) take(flow);
      },
    },
  );
  if (result.code !== 0) throw conntrackError(result);
}

/** Entries to one destination, by who answers them; most first. */
export async function countFlows(
  family: IpFamily,
  {
    address,
    port,
    protocol,
  }: { readonly address: string; readonly port: number; readonly protocol: Protocol },
  options: ConntrackOptions = {},
): Promise<readonly { readonly endpoint: string; readonly entries: number }[]> {
  const counts = new Map<string, number>();
  const result = await runCommand(
    "conntrack",
    [
      ...["-L", "-p", protocol.toLowerCase(), "-f", familyName(family)],
      ...["--orig-dst", address, "--orig-port-dst", String(port), "-o", "extended"],
    ],
    {
      timeoutMs: LIST_TIMEOUT_MS,
      ...options,
      onLine: (line) => {
        const flow = parseFlow(line);
        if (flow === undefined) return;
        const endpoint = hostPort(flow.replySource, flow.replySourcePort);
        counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
      },
    },
  );
  if (result.code !== 0) throw conntrackError(result);
  return [...counts]
    .map(([endpoint, entries]) => ({ endpoint, entries }))
    .sort((a, b) => b.entries - a.entries || (a.endpoint < b.endpoint ? -1 : 1));
}

/** Flows with a destination in common, and who answers them; without an answering address: whoever does. */
export type FlowGroup = Omit<Flow, "replySource" | "replySourcePort"> &
  Partial<Pick<Flow, "replySource" | "replySourcePort">>;

/** Deletes every UDP flow of a group; how many there were. */
export async function deleteUdpFlows(
  family: IpFamily,
  { destination, destinationPort, replySource, replySourcePort, zone }: FlowGroup,
  options: ConntrackOptions = {},
): Promise<number> {
  const result = await runCommand(
    "conntrack",
    [
      ...["-D", "-p", "udp", "-f", familyName(family), "-w", String(zone)],
      ...["--orig-dst", destination, "--orig-port-dst", String(destinationPort)],
      ...(replySource === undefined ? [] : ["--reply-src", replySource]),
      ...(replySourcePort === undefined ? [] : ["--reply-port-src", String(replySourcePort)]),
      // The answer names each flow; nobody reads it.
      ...["-o", "id"],
    ],
    { timeoutMs: LIST_TIMEOUT_MS, ...options, onLine: () => {} },
  );
  const deleted = /(\d+) flow entries have been deleted/.exec(result.errors);
  // Code 1 with a count of 0: they were gone already.
  if (deleted === null) throw conntrackError(result);
  return Number(deleted[1]);
}

/**
 * `ipv4 2 udp 17 99 src=10.0.0.2 dst=10.96.0.10 sport=1001 dport=53 [UNREPLIED] src=10.180.0.1 dst=10.0.0.2 sport=53 dport=1001 mark=0 zone=3 use=1`:
 * the first tuple is the client's, the second the answer's.
 */
export function parseFlow(line: string): Flow | undefined {
  const match =
    /\bsrc=\S+ dst=(\S+) sport=\d+ dport=(\d+) .*?\bsrc=(\S+) dst=\S+ sport=(\d+) dport=\d+(?:.* zone=(\d+))?/.exec(
      line,
    );
  if (match === null) return undefined;
  const [, destination = "", destinationPort = "", replySource = "", replySourcePort = "", zone = "0"] =
    match;
  return {
    destination,
    destinationPort: Number(destinationPort),
    replySource,
    replySourcePort: Number(replySourcePort),
    zone: Number(zone),
  };
}

function familyName(family: IpFamily): string {
  return family === "IPv4" ? "ipv4" : "ipv6";
}

function conntrackError({ code, errors }: { readonly code: number; readonly errors: string }): KernelError {
  const reason = errors
    .split("\n")
    .map((line) => line.replace(/^conntrack v\S+ \(conntrack-tools\): /, "").trim())
    .find((line) => line !== "");
  return new KernelError({ program: "conntrack", reason: reason ?? `it ended with code ${code}` });
}
