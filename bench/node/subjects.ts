/**
 * What is measured: Fairlead's backends, and rule sets of kube-proxy's shape. Each can be loaded into an empty node.
 */
import { AgentRunner } from "../../tests/kernel/agent.ts";
import type { Lab } from "../../tests/kernel/lab.ts";
import { writeObjects } from "../../tests/kernel/manifest.ts";
import { must } from "../../tests/kernel/netns.ts";
import { WITH_DETECTOR } from "../../tests/kernel/node-under-test.ts";
import { type BulkService, bulkObjects, SERVICE_PORT, TARGET_PORT } from "./cluster.ts";
import { makeMemoryGroup } from "./kernel-memory.ts";
import { iptablesShape, nftablesShape } from "./kube-proxy-shape.ts";

export const SUBJECTS = [
  "fairlead nftables",
  "fairlead iptables (nft)",
  "fairlead iptables (legacy)",
  "kube-proxy's shape, nftables",
  "kube-proxy's shape, iptables-nft",
  "kube-proxy's shape, iptables-legacy",
] as const;
/** The last Service alone, in one rule: what translating a connection costs, whoever asks for it. */
export const LEAST = "one rule of nftables";
/** Rendered before, so that one `nft` is all that is measured, as it is with the shapes. */
export const RULES = "fairlead nftables, its rules alone";
export type Subject = (typeof SUBJECTS)[number] | typeof LEAST | typeof RULES;

export interface Loaded {
  /** From the start of the process until it has ended and the kernel has the rules. */
  readonly milliseconds: number;
  /** Kernel memory that stays; absent where the machine does not count it. */
  readonly kernelMiB: number | undefined;
}

const SECONDS = 600;

/** Loads the rules for these Services into node-a, which has none. */
export async function load(lab: Lab, subject: Subject, services: readonly BulkService[]): Promise<Loaded> {
  switch (subject) {
    case "fairlead nftables":
      return loadOurs(lab, new AgentRunner(lab, { backend: "nftables" }), services);
    case "fairlead iptables (nft)":
      return loadOurs(lab, new AgentRunner(lab, { backend: "iptables", variant: "nft" }), services);
    case "fairlead iptables (legacy)":
      return loadOurs(lab, new AgentRunner(lab, { backend: "iptables", variant: "legacy" }), services);
    case RULES:
      return timed(lab, ["nft", "-f", "-"], await rendered(lab, services));
    case "kube-proxy's shape, nftables":
      return timed(lab, ["nft", "-f", "-"], nftablesShape(services));
    case LEAST:
      return timed(lab, ["nft", "-f", "-"], oneRule(services.at(-1)));
    // kube-proxy adds `--noflush`, with which the nft variant takes 20 times as long: the faster way is the peer.
    case "kube-proxy's shape, iptables-nft":
      return timed(lab, ["iptables-nft-restore"], iptablesShape(services));
    case "kube-proxy's shape, iptables-legacy":
      return timed(lab, ["iptables-legacy-restore"], iptablesShape(services));
    default:
      return subject satisfies never;
  }
}

function oneRule(service: BulkService | undefined): string {
  const { clusterIP = "", endpoints = [] } = service ?? {};
  return [
    "add table ip least",
    "add chain ip least prerouting { type nat hook prerouting priority -100; }",
    `add rule ip least prerouting ip daddr ${clusterIP} tcp dport ${SERVICE_PORT} dnat to ${endpoints[0]}:${TARGET_PORT}`,
    "",
  ].join("\n");
}

async function loadOurs(lab: Lab, agent: AgentRunner, services: readonly BulkService[]): Promise<Loaded> {
  try {
    const manifest = agent.file("cluster.json");
    await writeObjects(manifest, bulkObjects(services));
    return await timed(lab, agent.command("--once", "-f", manifest, ...WITH_DETECTOR), "", agent.environment);
  } finally {
    agent.remove();
  }
}

async function rendered(lab: Lab, services: readonly BulkService[]): Promise<string> {
  const agent = new AgentRunner(lab, { backend: "nftables" });
  try {
    const manifest = agent.file("cluster.json");
    await writeObjects(manifest, bulkObjects(services));
    const { code, stdout, stderr } = await agent.nat("render", manifest, {}, ...WITH_DETECTOR);
    if (code !== 0) throw new Error(stderr);
    return stdout;
  } finally {
    agent.remove();
  }
}

async function timed(
  lab: Lab,
  command: readonly string[],
  input: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Loaded> {
  const group = makeMemoryGroup();
  try {
    const inside = ["ip", "netns", "exec", lab.namespaces.real("node-a"), ...command];
    const [program = "", ...args] = [...(group?.through ?? []), ...inside];
    const started = performance.now();
    await must(program, args, { input, env, seconds: SECONDS });
    const milliseconds = performance.now() - started;
    const bytes = await group?.kernelBytes();
    return { milliseconds, kernelMiB: bytes === undefined ? undefined : bytes / 2 ** 20 };
  } finally {
    // Charges that stay with the rules are handed to the parent group.
    group?.remove();
  }
}

/** Removes every rule of node-a, whosesoever. */
export async function clear(lab: Lab): Promise<void> {
  await lab.namespaces.must("node-a", "nft", ["flush", "ruleset"], { seconds: SECONDS });
  for (const program of ["iptables-legacy-restore", "ip6tables-legacy-restore"]) {
    const empty = "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n";
    await lab.namespaces.must("node-a", program, [], { input: empty, seconds: SECONDS });
  }
  await lab.forgetConnections();
}
