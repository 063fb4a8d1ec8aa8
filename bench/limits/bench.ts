/**
 * What limits and affinity cost: a route with a session cookie and a limit that is never reached beside the same route
 * without, and a request that is refused beside one that is served. Limits are counted in the isolate (`local`).
 */

import { join } from "node:path";
import type { EdgeConfig, Route } from "../../edge-config/config.ts";
import { KvService } from "../../tests/edge/kv-service.ts";
import { bundleModule, WorkerdProcess, workerdVersion } from "../../tests/edge/workerd-process.ts";
import type { Bench } from "../bench.ts";
import { cpuMicroseconds, ScriptProcess } from "../edge/processes.ts";
import { publish } from "../edge/publish.ts";
import { interleave, median, medianRatio } from "../statistics.ts";

const SUBJECTS = ["plain", "guarded", "refused"] as const;
type Subject = (typeof SUBJECTS)[number];
const NAMES = {
  plain: "served, no policy",
  guarded: "served, affinity and a limit that is not reached",
  refused: "refused by the limit",
} as const;

const LIMIT = {
  key: "default/web",
  burstMultiplier: 5,
  exempt: [],
  requestStatus: 503,
  connectionStatus: 503,
};
const POLICIES: Readonly<Record<Subject, Route["policies"]>> = {
  plain: undefined,
  guarded: {
    affinity: {
      mode: "persistent",
      cookie: { name: "session", path: "/", conditionalSameSiteNone: false, secure: false },
      changeOnFailure: false,
    },
    rateLimit: { ...LIMIT, requestsPerSecond: 1_000_000 },
  },
  refused: { rateLimit: { ...LIMIT, requestsPerMinute: 1, burstMultiplier: 1 } },
};
/** Turns are short and many, so that what else the machine does falls on all alike. */
const TURN_MILLISECONDS = 250;
const TURNS_A_ROUND = 6;

export const bench: Bench = {
  title: "CPU of workerd for a request under limits, transport direct",
  goals: [
    { what: "CPU of affinity and a limit beside none", measure: "guarded", bound: { atMost: 1.2 } },
    { what: "CPU of a refused request beside a served one", measure: "refused", bound: { atMost: 0.3 } },
  ],
  async run({ rounds, note }) {
    const upstream = new ScriptProcess(join(import.meta.dirname, "..", "edge", "upstream.ts"));
    const load = new ScriptProcess(join(import.meta.dirname, "..", "edge", "load.ts"));
    const kvs: KvService[] = [];
    const processes = new Map<Subject, WorkerdProcess>();
    try {
      const pod = `127.0.0.1:${await upstream.line()}`;
      const module = await bundleModule("worker/index.ts");
      for (const subject of SUBJECTS) {
        const kv = await KvService.start();
        kvs.push(kv);
        await publish(kv, configOf(pod, POLICIES[subject]));
        const options = {
          module,
          vars: { ORIGIN_TRANSPORT: "direct" },
          kv: { SHARDS: kv.address, POINTER: kv.address },
        };
        processes.set(subject, await WorkerdProcess.start(options));
      }
      const order = (subject: Subject) => ({
        port: processes.get(subject)?.port ?? 0,
        connections: 32,
        hosts: 1,
        paths: ["/"],
      });
      for (const subject of SUBJECTS) await load.ask({ ...order(subject), requests: 5_000 });
      note(`${rounds * TURNS_A_ROUND} turns of each`);
      const results = await interleave(SUBJECTS, rounds * TURNS_A_ROUND, async (subject) => {
        const pid = processes.get(subject)?.pid ?? 0;
        const before = cpuMicroseconds(pid);
        const { requests, failed } = await load.ask({ ...order(subject), milliseconds: TURN_MILLISECONDS });
        // All but the one request that a minute allows are refused, or none is.
        if (subject === "refused" ? requests > 5 : failed > 0)
          throw new Error(`${subject}: ${failed} of ${requests} failed`);
        return (cpuMicroseconds(pid) - before) / (requests + failed);
      });
      const guarded = medianRatio(results.guarded, results.plain);
      const refused = medianRatio(results.refused, results.plain);
      return {
        table: [
          ["", "CPU µs a request", "beside plain"],
          ...SUBJECTS.map((subject) => [
            NAMES[subject],
            median(results[subject]).toFixed(0),
            `${medianRatio(results[subject], results.plain).toFixed(3)}×`,
          ]),
        ],
        measures: { guarded, refused },
        versions: { workerd: workerdVersion() },
      };
    } finally {
      await Promise.all([...processes.values()].map((one) => one.stop()));
      for (const kv of kvs) kv.stop();
      upstream.stop();
      load.stop();
    }
  },
};

function configOf(pod: string, policies: Route["policies"]): EdgeConfig {
  return {
    version: 1,
    hosts: {
      "h0.example.com": {
        matching: "kubernetes",
        routes: [
          {
            path: "/",
            pathType: "Prefix",
            ingress: "default/web",
            backend: "default/web:80",
            ...(policies === undefined ? {} : { policies }),
          },
        ],
      },
    },
    backends: { "default/web:80": { namespace: "default", service: "web", port: "80", endpoints: [pod] } },
  };
}
