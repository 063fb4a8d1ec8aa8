/**
 * What features cost: CPU of workerd for a request through routes with policies, beside a Worker that only rewrites
 * the URL and fetches; and how the time of a user's pattern grows with a hostile path.
 *
 * The processes around the one that is measured are those of `bench/edge`.
 */

import { join } from "node:path";
import type { EdgeConfig, Route } from "../../edge-config/config.ts";
import { compilePattern } from "../../edge-config/pattern/loaded.ts";
import { encodePointer, POINTER_KEY } from "../../edge-config/pointer.ts";
import { cutShards } from "../../edge-config/shards.ts";
import { KvService } from "../../tests/edge/kv-service.ts";
import { bundleModule, WorkerdProcess, workerdVersion } from "../../tests/edge/workerd-process.ts";
import type { Bench } from "../bench.ts";
import { cpuMicroseconds, ScriptProcess } from "../edge/processes.ts";
import { interleave, median, medianRatio } from "../statistics.ts";

const SUBJECTS = ["raw", "none", "unused", "four"] as const;
type Subject = (typeof SUBJECTS)[number];

const NAMES: Readonly<Record<Subject, string>> = {
  raw: "rewrite the URL and fetch",
  none: "Fairlead, no features",
  unused: "Fairlead, features on other routes",
  four: "Fairlead, CORS + rewrite + allowlist + canary",
};

const PATHS = ["/api/v1/items?page=1", "/api/", "/api/assets/app.js", "/api/v1/items/42"];
const CONNECTIONS = 32;
/** Turns are short and many, so that what else the machine does falls on all alike. */
const TURN_MILLISECONDS = 250;
const TURNS_A_ROUND = 6;

/** About 1 kB, as people write them, with every nested repetition that a backtracking engine fears. */
const PATTERN = `/(?:${Array.from({ length: 60 }, (_, at) => `(?:a+b?)+x${at}y`).join("|")})*(a|aa)+$`;
const LENGTHS = [1024, 2048, 4096, 8192] as const;

export const bench: Bench = {
  title: "CPU of workerd for a request through features; the time of a 1 kB pattern on hostile paths",
  goals: [
    { what: "CPU a request beside raw, four features", measure: "cpuFour", bound: { atMost: 1.4 } },
    { what: "CPU of features on other routes beside none", measure: "cpuUnused", bound: { atMost: 1.03 } },
    {
      what: "time of the pattern on 8 times the path (linear is 8, quadratic 64)",
      measure: "growth",
      bound: { atMost: 16 },
    },
  ],
  async run({ rounds, note }) {
    const upstream = new ScriptProcess(join(import.meta.dirname, "../edge/upstream.ts"));
    const load = new ScriptProcess(join(import.meta.dirname, "../edge/load.ts"));
    const kvs: KvService[] = [];
    const processes: Partial<Record<Subject, WorkerdProcess>> = {};
    try {
      const pod = `127.0.0.1:${await upstream.line()}`;
      const worker = await bundleModule("worker/index.ts");
      processes.raw = await WorkerdProcess.start({ module: rawWorker(pod) });
      for (const subject of ["none", "unused", "four"] as const) {
        const kv = await KvService.start();
        kvs.push(kv);
        await publish(kv, configOf(subject, pod));
        processes[subject] = await WorkerdProcess.start({
          module: worker,
          vars: { ORIGIN_TRANSPORT: "direct" },
          kv: { SHARDS: kv.address, POINTER: kv.address },
        });
      }
      const order = (subject: Subject) => ({
        port: processes[subject]?.port ?? 0,
        connections: CONNECTIONS,
        hosts: 1,
        paths: PATHS,
      });
      for (const subject of SUBJECTS) {
        note(`warming up: ${NAMES[subject]}`);
        const { failed } = await load.ask({ ...order(subject), requests: 5_000 });
        if (failed > 0) throw new Error(`${failed} requests to ${subject} failed`);
      }
      note(`${rounds * TURNS_A_ROUND} turns of each`);
      const cpu = await interleave(SUBJECTS, rounds * TURNS_A_ROUND, async (subject) => {
        const pid = processes[subject]?.pid ?? 0;
        const before = cpuMicroseconds(pid);
        const { requests, failed } = await load.ask({ ...order(subject), milliseconds: TURN_MILLISECONDS });
        if (failed > 0) throw new Error(`${failed} requests to ${subject} failed`);
        return (cpuMicroseconds(pid) - before) / requests;
      });
      note("patterns");
      const times = patternTimes(rounds);
      const measures = {
        cpuNone: medianRatio(cpu.none, cpu.raw),
        cpuFour: medianRatio(cpu.four, cpu.raw),
        cpuUnused: medianRatio(cpu.unused, cpu.none),
        growth: (times[8192] ?? Number.NaN) / (times[1024] ?? Number.NaN),
      };
      return {
        table: [
          ["", "CPU µs a request", "beside raw"],
          ...SUBJECTS.map((subject) => [
            NAMES[subject],
            median(cpu[subject]).toFixed(0),
            `${medianRatio(cpu[subject], cpu.raw).toFixed(3)}×`,
          ]),
          ...LENGTHS.map((length) => [
            `a pattern of ${PATTERN.length} bytes, a path of ${length}`,
            ((times[length] ?? 0) * 1000).toFixed(0),
            "",
          ]),
        ],
        measures,
        versions: { workerd: workerdVersion() },
      };
    } finally {
      await Promise.all(Object.values(processes).map((one) => one?.stop()));
      for (const kv of kvs) kv.stop();
      upstream.stop();
      load.stop();
    }
  },
};

/**
 * Milliseconds of CPU for one match that fails at the very end, by length of the path. The least of each: whatever
 * else the machine does only adds to it.
 */
function patternTimes(rounds: number): Readonly<Record<number, number>> {
  const compiled = compilePattern(PATTERN, { ignoreCase: true });
  if (compiled.kind === "refused") throw new Error(`the pattern ${compiled.reason}`);
  const times: Record<number, number> = {};
  const pathOf = (length: number): string => `/${"a".repeat(length - 2)}!`;
  // What is compiled and built at first use shall count for no length.
  for (let round = 0; round < 5; round++) compiled.pattern.test(pathOf(8192));
  for (const length of LENGTHS) {
    const path = pathOf(length);
    const samples: number[] = [];
    for (let round = 0; round < Math.max(rounds, 15); round++) {
      const before = process.cpuUsage();
      if (compiled.pattern.test(path)) throw new Error("the pattern matched");
      samples.push(process.cpuUsage(before).user / 1000);
    }
    times[length] = Math.min(...samples);
  }
  return times;
}

/** The least that a Worker in front of a pod can do. */
function rawWorker(pod: string): string {
  return `export default {
  fetch(request) {
    const { url } = request;
    return fetch("http://${pod}" + url.slice(url.indexOf("/", 8)), request);
  },
};`;
}

const FOUR: NonNullable<Route["policies"]> = {
  accessList: { deny: [], allow: ["203.0.113.0/24", "198.51.100.0/24", "2001:db8::/32"] },
  canary: {
    backend: "default/next:80",
    header: { name: "x-canary", match: { kind: "AlwaysNever" } },
    cookie: "canary",
    weight: 20,
    weightTotal: 100,
    sticky: true,
  },
  cors: {
    allowOrigins: ["https://*.example.com"],
    allowMethods: "GET, PUT, POST, DELETE, PATCH, OPTIONS",
    allowHeaders: "Content-Type,Authorization",
    allowCredentials: true,
    maxAgeSeconds: 600,
  },
  rewrite: { kind: "Template", target: ["/", 2], redirects: false },
};

function configOf(subject: "none" | "unused" | "four", pod: string): EdgeConfig {
  const backend = { namespace: "default", port: "80", endpoints: [pod] };
  const route = (path: string, policies?: Route["policies"]): Route => ({
    path,
    pathType: "Prefix",
    ingress: "default/web",
    backend: "default/web:80",
    ...(policies === undefined ? {} : { policies }),
  });
  const routes =
    subject === "four"
      ? [route("/api(/|$)(.*)", FOUR)]
      : subject === "unused"
        ? [route("/other", { ...FOUR, rewrite: { kind: "Prefix", target: "/" } }), route("/api")]
        : [route("/other"), route("/api")];
  return {
    version: 1,
    hosts: { "h0.example.com": { matching: subject === "four" ? "regex" : "kubernetes", routes } },
    backends: {
      "default/next:80": { ...backend, service: "next" },
      "default/web:80": { ...backend, service: "web" },
    },
  };
}

async function publish(kv: KvService, config: EdgeConfig): Promise<void> {
  const { directory, shards } = await cutShards(config);
  for (const [name, text] of shards) kv.values.set(name, text);
  const pointer = {
    ...directory,
    version: 1,
    generation: 1,
    epoch: 0,
    createdAt: "2026-01-01T00:00:00.000Z",
  } as const;
  kv.values.set(POINTER_KEY, await encodePointer(pointer, undefined));
}
