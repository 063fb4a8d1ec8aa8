/**
 * `fairlead nat render` and `fairlead nat trace`: the rules of a node, and what they do to a packet, from manifests alone.
 *
 * Nothing here asks the kernel or needs rights: the rules are those that `fairlead agent` would load with the same flags
 * into a node that has none. What the kernel really holds is told by `fairlead agent explain`.
 */

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { ClusterCompiler } from "../../agent/compiler.ts";
import { formatDiagnostic } from "../../cluster/diagnostic.ts";
import type { IpFamily, Protocol } from "../../cluster/model.ts";
import type { NatPacket, NatTrace } from "../../wasm-nat/nat.ts";
import { ignoreEmptyVariables } from "../empty-variables.ts";
import { CommandFailure, UsageError } from "../failure.ts";
import { addFileOption, readCluster } from "../manifest-input.ts";
import {
  addNatOptions,
  addressList,
  interfaceName,
  type NatFlags,
  natSettings,
  packetAddress,
  packetSocket,
} from "../nat-input.ts";
import { printTrace } from "../nat-trace.ts";

interface RenderFlags extends NatFlags {
  readonly family?: IpFamily;
}

interface TraceFlags extends NatFlags {
  readonly nodeAddresses?: readonly string[];
  readonly from?: string;
  readonly to?: string;
  readonly proto: string;
  readonly interface?: string;
  readonly packets?: string;
  readonly json?: true;
}

export function registerNat(program: Command): void {
  const nat = program
    .command("nat")
    .summary("print a node's rules, or what they do to a packet")
    .description("Prints the NAT rules of a node, or what they do to a packet, from manifests alone.");
  registerRender(nat);
  registerTrace(nat);
  ignoreEmptyVariables(nat);
}

function registerRender(nat: Command): void {
  const command = nat
    .command("render")
    .summary("print the rules that `fairlead agent` would load")
    .description(
      "Prints the complete rules that `fairlead agent` would load, as input of the backend's program.",
    )
    .argument("[paths...]", "more manifests");
  addFileOption(addNatOptions(command))
    .addOption(
      new Option(
        "--family <family>",
        "only the rules of this family: ipv4 or ipv6 (default: both)",
      ).argParser(ipFamily),
    )
    .action(async (morePaths: readonly string[], flags: RenderFlags) => {
      const families = flags.family === undefined ? BOTH : [flags.family];
      const { nat: compiler } = await compileFiles(flags, morePaths, families);
      const { printTransactions } = await import("../../agent/kernel/transactions.ts");
      const texts = compiler.render(flags.family);
      process.stdout.write(printTransactions(texts));
    });
}

function registerTrace(nat: Command): void {
  const command = nat
    .command("trace")
    .summary("tell what happens to a packet, and by which rules")
    .description(
      "Walks the rules for the first packet of a connection: verdict, endpoints, masquerading, and the rules that decided.",
    )
    .argument("[paths...]", "more manifests");
  addFileOption(addNatOptions(command))
    .option("--from <ip>", "where the packet comes from")
    .option("--to <ip:port>", "where it is sent; without a port for icmp")
    .option("--proto <protocol>", "tcp, udp, sctp or icmp", "tcp")
    .option("--interface <name>", "by which interface it comes in (for --pod-interface)", interfaceName)
    .option(
      "--node-addresses <ips>",
      "addresses of the node that its Node object does not tell, by commas (bridges of Pods, further interfaces)",
      addressList,
    )
    .option(
      "--packets <file>",
      "many packets, one a line: FROM TO PROTO [INTERFACE]; - for standard input; each is answered by one line of JSON",
    )
    .option("--json", "print the answer as JSON")
    .action(runTrace);
}

async function runTrace(morePaths: readonly string[], flags: TraceFlags): Promise<void> {
  const ask = packetsToAsk(flags);
  if (flags.packets === "-" && [...(flags.file ?? []), ...morePaths].includes("-"))
    throw new UsageError("-f - and --packets - both read standard input; one of them has to be a file.");
  const { nat } = await compileFiles(flags, morePaths, BOTH, flags.nodeAddresses);
  if (ask.kind === "one") {
    const trace = nat.trace(ask.packet);
    process.stdout.write(flags.json ? `${traceJson(trace)}\n` : printTrace(ask.packet, trace));
    return;
  }
  for (const line of packetLines(await readPackets(ask.file))) {
    const answer =
      line.kind === "packet" ? traceJson(nat.trace(line.packet)) : JSON.stringify({ error: line.error });
    process.stdout.write(`${answer}\n`);
  }
}

type PacketsToAsk =
  | { readonly kind: "one"; readonly packet: NatPacket }
  | { readonly kind: "many"; readonly file: string };

function packetsToAsk({ from, to, proto, interface: comesInBy, packets }: TraceFlags): PacketsToAsk {
  if (packets !== undefined) {
    if (from !== undefined || to !== undefined || comesInBy !== undefined)
      throw new UsageError(
        "--packets takes the place of --from, --to and --interface; give one or the other.",
      );
    return { kind: "many", file: packets };
  }
  if (from === undefined || to === undefined)
    throw new UsageError("--from IP and --to IP:PORT are needed (or --packets FILE): they name the packet.");
  try {
    return { kind: "one", packet: readPacket(from, to, proto, comesInBy) };
  } catch (error) {
    throw error instanceof InvalidArgumentError ? new UsageError(error.message) : error;
  }
}

/** Throws an `InvalidArgumentError`. `comesInBy` is the name of an interface. */
function readPacket(from: string, to: string, protocol: string, comesInBy?: string): NatPacket {
  const isIcmp = /^icmp(v6)?$/i.test(protocol);
  const source = packetAddress(from);
  // No Service has port 0, so a packet there meets the very rules that one without ports meets.
  const target = isIcmp ? { address: packetAddress(to), port: 0 } : packetSocket(to);
  if (source.includes(":") !== target.address.includes(":"))
    throw new InvalidArgumentError(`${source} and ${target.address} are not of one family.`);
  return {
    from: source,
    to: target.address,
    port: target.port,
    protocol: isIcmp ? "TCP" : packetProtocol(protocol),
    ...(comesInBy !== undefined && { interface: comesInBy }),
  };
}

type PacketLine =
  | { readonly kind: "packet"; readonly packet: NatPacket }
  | { readonly kind: "wrong"; readonly error: string };

/** A wrong line is answered in its place, so that answers and questions stay in step. */
function* packetLines(text: string): Generator<PacketLine> {
  for (const [index, line] of text.split("\n").entries()) {
    const [from, to, protocol = "tcp", comesInBy, ...more] = line.trim().split(/\s+/);
    if (!from) continue;
    try {
      if (to === undefined || more.length > 0)
        throw new InvalidArgumentError(`${JSON.stringify(line)} is not FROM TO PROTO [INTERFACE].`);
      const named = comesInBy === undefined ? undefined : interfaceName(comesInBy);
      yield { kind: "packet", packet: readPacket(from, to, protocol, named) };
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      yield { kind: "wrong", error: `line ${index + 1}: ${error.message}` };
    }
  }
}

async function readPackets(file: string): Promise<string> {
  if (file === "-") return readAll(process.stdin);
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CommandFailure(`could not read ${file}: ${reason}.`);
  }
}

/** The contract of the command: these keys in this order, and nothing else. */
function traceJson({ verdict, endpoints, masquerade, rules }: NatTrace): string {
  return JSON.stringify({ verdict, endpoints, masquerade, rules });
}

const BOTH = ["IPv4", "IPv6"] as const satisfies readonly IpFamily[];

/** Reads, compiles and tells what is wrong on stderr. Fails where nothing could be read at all. */
async function compileFiles(
  flags: NatFlags & { readonly file?: readonly string[] },
  morePaths: readonly string[],
  families: readonly IpFamily[],
  furtherAddresses: readonly string[] = [],
): Promise<ClusterCompiler> {
  const settings = natSettings(flags);
  const paths = [...(flags.file ?? []), ...morePaths];
  const { createClusterCompiler } = await import("../../agent/compiler.ts");
  const [{ model, diagnostics }, compiler] = await Promise.all([
    readCluster(paths),
    createClusterCompiler(settings, families, () => furtherAddresses),
  ]);
  compiler.note(model);
  compiler.handOver();
  const lines = [...diagnostics, ...compiler.diagnostics()].map(formatDiagnostic);
  process.stderr.write(lines.map((line) => `${line}\n`).join(""));
  const isNothing = Object.values(model).every((objects) => objects.size === 0);
  if (isNothing) throw new CommandFailure(`no object could be read from ${paths.join(", ")}.`);
  return compiler;
}

function ipFamily(text: string): IpFamily {
  const family = BOTH.find((name) => name.toLowerCase() === text.toLowerCase());
  if (family === undefined) throw new InvalidArgumentError("Allowed choices are ipv4, ipv6.");
  return family;
}

const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const satisfies readonly Protocol[];

function packetProtocol(text: string): Protocol {
  const protocol = PROTOCOLS.find((name) => name === text.toUpperCase());
  if (protocol === undefined)
    throw new InvalidArgumentError("Allowed choices of protocol are tcp, udp, sctp, icmp.");
  return protocol;
}
