/**
 * What a new isolate costs until its first routed answer, at 1 000 and at 10 000 Ingresses with five endpoints each,
 * beside an empty Worker that answers at once. A row shows the least that must happen: the same two reads and the same
 * question to the pod, and nothing else.
 *
 * Every round starts a new process. Wall time is from the start of the process to the answer, both with the same
 * pod and KV; CPU is that of the process for the first request, once it listens.
 */

import { join } from "node:path";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { POINTER_KEY } from "../../edge-config/pointer.ts";
import { ask } from "../../tests/edge/http-client.ts";
import { KvService } from "../../tests/edge/kv-service.ts";
import { bundleModule, WorkerdProcess, workerdVersion } from "../../tests/edge/workerd-process.ts";
import type { Bench } from "../bench.ts";
import { cpuMicroseconds, ScriptProcess } from "../edge/processes.ts";
import { publish } from "../edge/publish.ts";
import { interleave, median } from "../statistics.ts";

const SUBJECTS = ["empty", "reads", "1000", "10000"] as const;
type Subject = (typeof SUBJECTS)[number];
const ENDPOINTS_PER_HOST = 5;
const NAMES = {
  empty: "empty Worker",
  reads: "reads what 10 000 need from KV, asks the pod, no more",
  "1000": "Fairlead, 1 000 Ingresses",
  "10000": "Fairlead, 10 000 Ingresses",
} as const;

const EMPTY = 'export default { fetch: () => new Response("ok") };';

/** The least that must happen: the same two reads one after the other, and the question to the pod. */
function readingWorker(pod: string, keys: readonly string[]): string {
  return `export default {
  async fetch(request, environment) {
    for (const key of ${JSON.stringify(keys)}) await environment.SHARDS.get(key, { type: "text" });
    return fetch("http://${pod}/api/x", request);
  },
};`;
}

export const bench: Bench = {
  title: "from the start of an isolate to its first routed answer",
  goals: (["1000", "10000"] as const).flatMap((size) => [
    { what: `reads of KV, ${size} Ingresses`, measure: `kvReads${size}`, bound: { atMost: 2 } },
    { what: `KiB read and parsed, ${size} Ingresses`, measure: `kib${size}`, bound: { atMost: 256 } },
    {
      what: `milliseconds of CPU beyond the empty Worker's first answer, ${size} Ingresses`,
      measure: `cpu${size}`,
      bound: { atMost: 3 },
    },
    {
      what: `milliseconds from start to answer beyond the empty Worker, ${size} Ingresses`,
      measure: `wall${size}`,
      bound: { atMost: 10 },
    },
  ]),
  async run({ rounds, note }) {
    const upstream = new ScriptProcess(join(import.meta.dirname, "..", "edge", "upstream.ts"));
    const kvs = new Map<Subject, KvService>();
    try {
      const pod = `127.0.0.1:${await upstream.line()}`;
      const worker = await bundleModule("worker/index.ts", { minify: true });
      for (const size of ["1000", "10000"] as const) {
        const kv = await KvService.start();
        kvs.set(size, kv);
        await publish(kv, configOf(Number(size), pod));
      }
      const reads = new Map<Subject, readonly string[][]>();
      const start = async (subject: Subject) => {
        const kv = kvs.get(subject === "reads" ? "10000" : subject);
        const module =
          subject === "empty"
            ? EMPTY
            : subject === "reads"
              ? readingWorker(pod, (reads.get("10000") ?? []).flat())
              : worker;
        kv?.reads.splice(0);
        const startedAt = performance.now();
        const process = await WorkerdProcess.start(
          kv === undefined
            ? { module }
            : {
                module,
                vars: { ORIGIN_TRANSPORT: "direct" },
                kv: { SHARDS: kv.address, POINTER: kv.address },
              },
        );
        try {
          const before = cpuMicroseconds(process.pid);
          const { status } = await ask(process.port, { host: "h77.example.com", path: "/api/x" });
          const wall = performance.now() - startedAt;
          const cpu = (cpuMicroseconds(process.pid) - before) / 1000;
          if (status !== 200) throw new Error(`${subject} answered ${status}: ${process.log}`);
          if (kv !== undefined)
            reads.set(
              subject,
              kv.reads.map((keys) => [...keys]),
            );
          return { wall, cpu };
        } finally {
          await process.stop();
        }
      };
      for (const subject of [...SUBJECTS].reverse()) await start(subject); // Files of the disk come into memory.
      note(`${rounds * 3} starts of each`);
      const results = await interleave(SUBJECTS, rounds * 3, start);
      const wall = (subject: Subject) => median(results[subject].map((one) => one.wall));
      const cpu = (subject: Subject) => median(results[subject].map((one) => one.cpu));
      const kvOf = (subject: Subject) => kvs.get(subject === "reads" ? "10000" : subject);
      const kib = (subject: Subject) =>
        (reads.get(subject) ?? [])
          .flat()
          .reduce((sum, key) => sum + (kvOf(subject)?.values.get(key)?.length ?? 0), 0) / 1024;
      const measures: Record<string, number> = {};
      for (const size of ["1000", "10000"] as const) {
        measures[`kvReads${size}`] = reads.get(size)?.length ?? Number.NaN;
        measures[`kib${size}`] = kib(size);
        measures[`cpu${size}`] = cpu(size) - cpu("empty");
        measures[`wall${size}`] = wall(size) - wall("empty");
      }
      measures.cpuReads = cpu("reads") - cpu("empty");
      measures.wallReads = wall("reads") - wall("empty");
      return {
        table: [
          ["", "start to answer ms", "CPU of first request ms", "KV reads", "KiB read", "pointer KiB"],
          ...SUBJECTS.map((subject) => [
            NAMES[subject],
            wall(subject).toFixed(1),
            cpu(subject).toFixed(2),
            String(reads.get(subject)?.length ?? 0),
            kib(subject).toFixed(0),
            ((kvOf(subject)?.values.get(POINTER_KEY)?.length ?? 0) / 1024).toFixed(1),
          ]),
          [`bundle ${(worker.length / 1024).toFixed(0)} KiB`, "", "", "", "", ""],
        ],
        measures,
        versions: { workerd: workerdVersion() },
      };
    } finally {
      for (const kv of kvs.values()) kv.stop();
      upstream.stop();
    }
  },
};

/** The pod stands first among five endpoints of each host; the others are never asked here. */
function configOf(hosts: number, pod: string): EdgeConfig {
  const names = Array.from({ length: hosts }, (_, at) => at);
  return {
    version: 1,
    hosts: Object.fromEntries(
      names.map((at) => [
        `h${at}.example.com`,
        {
          matching: "kubernetes",
          routes: ["/assets", "/api", "/"].map((path) => ({
            path,
            pathType: "Prefix",
            ingress: `default/h${at}`,
            backend: `default/h${at}:80`,
          })),
        },
      ]),
    ),
    backends: Object.fromEntries(
      names.map((at) => [
        `default/h${at}:80`,
        {
          namespace: "default",
          service: `h${at}`,
          port: "80",
          endpoints: Array.from({ length: ENDPOINTS_PER_HOST }, () => pod),
        },
      ]),
    ),
  };
}
