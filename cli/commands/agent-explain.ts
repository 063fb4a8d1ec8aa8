/**
 * `fairlead agent explain --to IP:PORT`: what the cluster says about a destination, what the rules should do, and what the
 * kernel of this node holds for it.
 */

import { type Command, InvalidArgumentError } from "commander";
import type { Explanation } from "../../agent/explain/explain.ts";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { Protocol } from "../../cluster/model.ts";
import { addSourceOptions, type SourceFlags, sourceSettings } from "../agent-source.ts";
import { asSentence, CommandFailure, UsageError } from "../failure.ts";
import {
  addNatOptions,
  type NatFlags,
  natSettings,
  packetAddress,
  packetSocket,
  type Socket,
} from "../nat-input.ts";

interface Flags extends NatFlags, SourceFlags {
  readonly to?: Socket;
  readonly from?: string;
  readonly proto: Protocol;
  readonly json?: true;
}

export function registerAgentExplain(agent: Command): void {
  const command = agent
    .command("explain")
    .summary("tell what this node's kernel holds for a destination, and why")
    .description(
      "Tells what the cluster says about a destination, what the rules should do, what the kernel of this node holds for it, and who is connected. It asks no running agent.",
    )
    .argument("[paths...]", "more manifests");
  addSourceOptions(addNatOptions(command))
    .option("--to <ip:port>", "the destination", packetSocket)
    .option(
      "--from <ip>",
      "where the packet comes from (default: this node for a ClusterIP, a client outside for everything else)",
      packetAddress,
    )
    .option("--proto <protocol>", "tcp, udp or sctp", transport, "TCP" as Protocol)
    .option("--json", "print the explanation as JSON")
    .action(runExplain);
}

async function runExplain(morePaths: readonly string[], flags: Flags): Promise<void> {
  const { to, from, proto } = flags;
  if (to === undefined) throw new UsageError("--to IP:PORT is missing: it names the destination.");
  if (from !== undefined && from.includes(":") !== to.address.includes(":"))
    throw new UsageError(`--from ${from} and --to ${to.address} are not of one family.`);
  const settings = natSettings(flags);
  const source = sourceSettings(flags, morePaths);
  const say = (line: string): void => void process.stderr.write(`fairlead: ${asSentence(line)}\n`);
  const [
    { readOnce },
    { configMapNames, createClusterCompiler },
    { explainDestination },
    { interfaceAddresses },
  ] = await Promise.all([
    import("../../agent/sources/open.ts"),
    import("../../agent/compiler.ts"),
    import("../../agent/explain/explain.ts"),
    import("../../agent/node-addresses.ts"),
  ]);
  const [{ model, diagnostics }, compiler] = await Promise.all([
    readOnce(source, { node: settings.node, configMaps: configMapNames(settings), pods: false }, say),
    // Which addresses are this node's is asked of the node, as the kernel's rules do.
    createClusterCompiler(settings, ["IPv4", "IPv6"], interfaceAddresses),
  ]).catch((error: unknown) => {
    throw new CommandFailure(error instanceof Error ? error.message : String(error));
  });
  compiler.note(model);
  compiler.handOver();
  const destination = { ...to, protocol: proto };
  const explanation = await explainDestination({ destination, from }, model, compiler, settings);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(explanation, undefined, 2)}\n`);
    return;
  }
  const about = explanation.owner?.service;
  const said = [...diagnostics, ...compiler.diagnostics()].filter(({ object }) => object === about);
  process.stdout.write(
    printExplanation(explanation) + said.map((one) => `${formatDiagnostic(one)}\n`).join(""),
  );
}

function printExplanation(explanation: Explanation): string {
  const { destination, from, owner, trace, endpoints, kernel, connections, findings } = explanation;
  const lines = [
    `${destination} from ${from}`,
    owner === undefined
      ? "service      none"
      : `service      ${owner.service}${owner.port === "" ? "" : ` port ${owner.port}`} (${owner.kind})`,
    `should be    ${trace.verdict}${trace.masquerade ? ", masqueraded" : ""}`,
  ];
  if (endpoints.length > 0) lines.push("endpoints");
  for (const { endpoint, isIn, state, node, zone, why } of endpoints) {
    const place = [node, zone].filter((name) => name !== undefined).join(", ");
    lines.push(
      `  ${isIn ? "in " : "out"} ${endpoint.padEnd(24)} ${state}${place === "" ? "" : ` (${place})`}: ${why}`,
    );
  }
  lines.push(trace.rules.length === 0 ? "rules        none" : "rules");
  lines.push(...trace.rules.map(({ table, chain, rule }) => `  ${table} ${chain}: ${rule}`));
  if ("unreadable" in kernel) lines.push("kernel       unreadable");
  else {
    const counted = kernel.connections === undefined ? "" : `, ${kernel.connections} new connections counted`;
    lines.push(kernel.lines.length === 0 ? "kernel       nothing" : `kernel       holds${counted}`);
    lines.push(...kernel.lines.map((line) => `  ${line}`));
  }
  if (connections !== undefined) {
    const all = connections.reduce((sum, { entries }) => sum + entries, 0);
    lines.push(`connections  ${all} in the connection table`);
    lines.push(
      ...connections
        .slice(0, 20)
        .map(({ endpoint, entries }) => `  ${String(entries).padStart(7)} ${endpoint}`),
    );
  }
  lines.push(...findings.map((finding) => `note: ${finding}`));
  return `${lines.join("\n")}\n`;
}

const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const satisfies readonly Protocol[];

function transport(text: string): Protocol {
  const protocol = PROTOCOLS.find((name) => name === text.toUpperCase());
  if (protocol === undefined) throw new InvalidArgumentError("Allowed choices are tcp, udp, sctp.");
  return protocol;
}
