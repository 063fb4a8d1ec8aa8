/**
 * A day of a busy cluster in minutes: Services and endpoints that come, change and go, thousands of them, through one
 * running agent. At the end the kernel must hold what a fresh agent would write, and the process what it held at the
 * start: no descriptors, no children, no memory that grows with the changes instead of the cluster.
 */
import { readdirSync, readFileSync, readlinkSync, renameSync } from "node:fs";
import { expect, it } from "vitest";
import { FAMILIES, HOSTS, hostPort } from "./addresses.ts";
import type { RunningAgent } from "./agent.ts";
import { ipvsSnapshot } from "./ipvs-state.ts";
import { type KubernetesObject, NODES, objectsOf, writeObjects } from "./manifest.ts";
import { bulkService } from "./many-services.ts";
import {
  describeNode,
  eventually,
  type NodeUnderTest,
  type ProgrammerName,
  serviceWith,
  WITH_DETECTOR,
} from "./node-under-test.ts";
import { randomNumbers } from "./random.ts";
import { snapshot, withoutNumbers } from "./rules.ts";

export interface Churn {
  readonly services: number;
  /** How often the cluster's state is written anew. */
  readonly rounds: number;
  /** Services that are others in each of them. */
  readonly changesARound: number;
}

/** What one Service is at the moment; `undefined`: it is not there. */
interface BulkState {
  readonly endpoints: number;
  /** Endpoints of different variants are different Pods. */
  readonly variant: number;
  readonly sticky: boolean;
}

const MOST_ENDPOINTS = 4;
const VARIANTS = 50;
const MIB = 1024 * 1024;
const METRICS_PORT = 10_249;

export function describeChurn(programmer: ProgrammerName, { services, rounds, changesARound }: Churn): void {
  describeNode("churn", [programmer], (node) => {
    const changes = rounds * changesARound;
    it(`${changes} changes leave nothing behind`, { timeout: 1_800_000 }, async () => {
      const random = randomNumbers(20_261_129);
      const below = (limit: number) => Math.floor(random() * limit);
      const some = (): BulkState => ({
        endpoints: below(MOST_ENDPOINTS + 1),
        variant: below(VARIANTS),
        sticky: random() < 0.1,
      });
      const state: (BulkState | undefined)[] = Array.from({ length: services }, some);
      const first = [...state];

      await write(node(), state, "a1");
      const agent = node().start();
      await untilWritten(node(), agent, "a1");
      const atFirst = await kernelOf(node(), programmer);
      const idle = await processOf(agent);
      const memory: number[] = [];

      for (let round = 1; round <= rounds; round++) {
        for (const index of chosen(services, changesARound, below)) {
          state[index] = state[index] === undefined || random() < 0.85 ? some() : undefined;
        }
        const pod = round % 2 === 0 ? "a1" : "b1";
        await write(node(), state, pod);
        await untilWritten(node(), agent, pod);
        memory.push(residentBytes(agent));
      }

      expect(await countedChanges(node())).toBeGreaterThan(0.9 * changes);
      // The same state once more: whatever is there beside it was left by what came in between.
      await write(node(), first, "b1");
      await untilWritten(node(), agent, "b1");
      await write(node(), first, "a1");
      await untilWritten(node(), agent, "a1");
      // IPVS lets endpoints that have left go a look later, when it has seen that nobody is connected to them.
      const wanted = comparable(atFirst, programmer);
      await eventually(
        async () => {
          const now = comparable(await kernelOf(node(), programmer), programmer);
          const isSame = now.join("\n") === wanted.join("\n");
          return { isSame, left: without(now, wanted), missing: without(wanted, now) };
        },
        ({ isSame }) => isSame,
        "the kernel to hold what it held at first",
        30,
      );
      // A moment ago it has read what stands, and a child's pipes close after it; what leaks stays open for ever.
      await eventually(
        () => processOf(agent),
        ({ descriptors }) => descriptors <= idle.descriptors,
        `the agent to hold no more than at first: ${JSON.stringify(idle)}`,
      );
      expectNoGrowth(memory);
      await agent.end("SIGTERM");

      // A fresh compiler over the same manifest finds nothing to do.
      const fresh = await node().agent.agent("--once", "--dry-run", "-f", node().manifest, ...WITH_DETECTOR);
      expect({ code: fresh.code, stdout: fresh.stdout }).toEqual({ code: 0, stdout: "" });
      expect(fresh.stderr).toContain("nothing to do");
    });
  });
}

function without(lines: readonly string[], others: readonly string[]): readonly string[] {
  const known = new Set(others);
  return lines.filter((line) => !known.has(line));
}

/** `count` different numbers below `limit`. */
function chosen(limit: number, count: number, below: (limit: number) => number): readonly number[] {
  const all = Array.from({ length: limit }, (_, index) => index);
  return Array.from({ length: count }, () => all.splice(below(all.length), 1)[0] ?? 0);
}

function objectsAt(index: number, { endpoints, variant, sticky }: BulkState): readonly KubernetesObject[] {
  const addresses = Array.from(
    { length: endpoints },
    (_, nth) => `10.${1 + (index >> 8)}.${index & 255}.${1 + nth + MOST_ENDPOINTS * variant}`,
  );
  const [service = {}, ...slices] = bulkService(index, addresses);
  const spec = service.spec as KubernetesObject;
  return [sticky ? { ...service, spec: { ...spec, sessionAffinity: "ClientIP" } } : service, ...slices];
}

async function write(
  node: NodeUnderTest,
  state: readonly (BulkState | undefined)[],
  witness: "a1" | "b1",
): Promise<void> {
  const bulk = state.flatMap((one, index) => (one === undefined ? [] : objectsAt(index, one)));
  // In one step: half a file would be read once more for nothing.
  const unfinished = `${node.manifest}.unfinished`;
  await writeObjects(unfinished, [...NODES, ...bulk, ...objectsOf(serviceWith("single", [witness]))]);
  renameSync(unfinished, node.manifest);
}

async function untilWritten(node: NodeUnderTest, agent: RunningAgent, witness: "a1" | "b1"): Promise<void> {
  for (const family of FAMILIES)
    await eventually(
      async () => ({ answer: await node.ask("pod", "single cluster http", family), said: agent.output }),
      ({ answer }) => answer === hostPort(HOSTS[witness][family], 8080) || agent.hasEnded,
      `the witness to be ${witness} in ${family}`,
      60,
    );
  expect(agent.hasEnded, agent.output).toBe(false);
}

function kernelOf({ lab }: NodeUnderTest, programmer: ProgrammerName): Promise<readonly string[]> {
  return programmer === "ipvs" ? ipvsSnapshot(lab) : snapshot(lab);
}

function comparable(lines: readonly string[], programmer: ProgrammerName): readonly string[] {
  return programmer === "nftables" ? withoutNumbers(lines) : lines;
}

/**
 * Descriptors, at a moment at which nothing is under way. Programs that wait for the next change, and the three pipes of each,
 * are as they should be: they read from a socket, those at work from a file.
 */
async function processOf(agent: RunningAgent): Promise<{ descriptors: number; busy: number }> {
  const look = () => {
    const children = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8")
      .split(" ")
      .filter(Boolean);
    const waiting = children.filter(readsFromSocket).length;
    return {
      descriptors: readdirSync(`/proc/${agent.pid}/fd`).length - 3 * waiting,
      busy: children.length - waiting,
    };
  };
  let before = look();
  return eventually(
    async () => {
      const now = look();
      const isStill = now.descriptors === before.descriptors;
      before = now;
      return { ...now, isStill };
    },
    ({ busy, isStill }) => busy === 0 && isStill,
    "the agent to rest",
  ).then(({ descriptors, busy }) => ({ descriptors, busy }));
}

function readsFromSocket(pid: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/0`).startsWith("socket:");
  } catch {
    // It has ended by now.
    return false;
  }
}

function residentBytes({ pid }: RunningAgent): number {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

/** What the agent itself has counted. */
async function countedChanges({ lab }: NodeUnderTest): Promise<number> {
  const url = `http://127.0.0.1:${METRICS_PORT}/metrics`;
  const text = await lab.namespaces.must("node-a", "curl", ["--silent", "--noproxy", "*", url]);
  const total = (name: string) => Number(new RegExp(`^${name} (\\d+)`, "m").exec(text)?.[1]);
  return Math.max(
    total("kubeproxy_sync_proxy_rules_service_changes_total"),
    total("kubeproxy_sync_proxy_rules_endpoint_changes_total"),
  );
}

/** Memory that grows with the changes goes on growing; what a collector leaves lying about levels off. */
function expectNoGrowth(memory: readonly number[]): void {
  const part = (from: number, to: number) => {
    const sorted = memory.slice(from * memory.length, to * memory.length).sort((a, b) => a - b);
    return (sorted[Math.floor(sorted.length / 2)] ?? 0) / MIB;
  };
  const [middle, last] = [part(1 / 3, 2 / 3), part(2 / 3, 1)];
  console.info(
    `resident memory: ${part(0, 0.1).toFixed(0)} MiB at the start, ${middle.toFixed(0)} in the middle, ${last.toFixed(0)} at the end`,
  );
  if (memory.length >= LEAST_TO_JUDGE) expect(last).toBeLessThan(middle * 1.1 + 8);
}

/** Fewer rounds are all start. */
const LEAST_TO_JUDGE = 40;
