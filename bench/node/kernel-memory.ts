/**
 * Kernel memory that a program leaves behind, by the accounting of a memory cgroup of its own: rules are charged to whoever
 * loaded them, and stay charged when he is gone.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

export interface MemoryGroup {
  /** Put before a command: runs it in the group. */
  readonly through: readonly string[];
  /** Bytes of kernel memory that stay charged: what ended programs and transactions leave is freed a moment later. */
  readonly kernelBytes: () => Promise<number>;
  readonly remove: () => void;
}

let groups = 0;

/** A fresh group, or undefined where the machine lets nobody make one that counts kernel memory. */
export function makeMemoryGroup(): MemoryGroup | undefined {
  for (const { parent, kernelBytes } of candidates()) {
    groups++;
    const folder = join(parent, `fairlead-bench-${process.pid}-${groups}`);
    try {
      mkdirSync(folder);
      kernelBytes(folder);
    } catch {
      continue;
    }
    return {
      through: ["sh", "-c", `echo $$ > ${folder}/cgroup.procs && exec "$@"`, "sh"],
      kernelBytes: () => settled(() => kernelBytes(folder)),
      remove: () => rmdirSync(folder),
    };
  }
  return undefined;
}

const SETTLED_MS = 300;
const LONGEST_MS = 10_000;

/** The reading that has stayed the lowest for a while. */
async function settled(read: () => number): Promise<number> {
  const began = performance.now();
  let lowest = { bytes: read(), sinceMs: began };
  for (;;) {
    await wait(20);
    const now = { bytes: read(), sinceMs: performance.now() };
    if (now.bytes < lowest.bytes) lowest = now;
    if (now.sinceMs - lowest.sinceMs > SETTLED_MS || now.sinceMs - began > LONGEST_MS) return lowest.bytes;
  }
}

interface Candidate {
  readonly parent: string;
  readonly kernelBytes: (folder: string) => number;
}

/** Version 2 first: its `memory.stat` has had a line for all kernel memory since Linux 5.18. */
function candidates(): readonly Candidate[] {
  const own = readFileSync("/proc/self/cgroup", "utf8");
  const found: Candidate[] = [];
  if (existsSync("/sys/fs/cgroup/memory.stat") || existsSync("/sys/fs/cgroup/cgroup.controllers")) {
    found.push({ parent: "/sys/fs/cgroup", kernelBytes: kernelBytesOfVersion2 });
  }
  const version1 = /^\d+:(?:[^:]*,)?memory:(.*)$/m.exec(own)?.[1];
  if (version1 !== undefined) {
    found.push({ parent: join("/sys/fs/cgroup/memory", version1), kernelBytes: kernelBytesOfVersion1 });
  }
  return found;
}

function kernelBytesOfVersion2(folder: string): number {
  const line = /^kernel (\d+)$/m.exec(readFileSync(join(folder, "memory.stat"), "utf8"));
  if (line === null) throw new Error("this kernel does not tell kernel memory");
  return Number(line[1]);
}

function kernelBytesOfVersion1(folder: string): number {
  return Number(readFileSync(join(folder, "memory.kmem.usage_in_bytes"), "utf8"));
}
