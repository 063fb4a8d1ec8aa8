/**
 * What a request costs in our Worker, beside a Worker that only rewrites the URL and fetches.
 *
 * Both run in the same plain `workerd serve` (each in a process of its own), in front of the same pod, under the
 * same load. The pod, the load and KV are processes beside it and not counted.
 */

import { join } from "node:path";
import type { EdgeConfig } from "../../edge-config/config.ts";
import { KvService } from "../../tests/edge/kv-service.ts";
import { bundleModule, WorkerdProcess, workerdVersion } from "../../tests/edge/workerd-process.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, medianRatio } from "../statistics.ts";
import { cpuMicroseconds, ScriptProcess } from "./processes.ts";
import { publish } from "./publish.ts";

const SUBJECTS = ["raw", "headers", "one", "many"] as const;
const NAMES = {
  raw: "rewrite the URL and fetch",
  headers: "the same, with nginx's eight headers",
  one: "Fairlead, 1 Ingress",
  many: "Fairlead, 10 000 Ingresses",
} as const;

const HOSTS = { raw: 1, headers: 1, one: 1, many: 10_000 } as const;
const PATHS = ["/api/v1/items?page=1", "/", "/assets/app.js", "/api/v1/items/42"];
const CONNECTIONS = 32;
/** Turns are short and many, so that what else the machine does falls on all alike. */
const TURN_MILLISECONDS = 250;
const TURNS_A_ROUND = 6;

export const bench: Bench = {
  title: "CPU of workerd for a request, and requests a second, transport direct",
  goals: [
    { what: "CPU a request beside raw, 1 Ingress", measure: "cpuOne", bound: { atMost: 1.15 } },
    { what: "CPU a request beside raw, 10 000 Ingresses", measure: "cpuMany", bound: { atMost: 1.15 } },
    { what: "requests a second beside raw, 1 Ingress", measure: "rateOne", bound: { atLeast: 0.9 } },
    { what: "requests a second beside raw, 10 000 Ingresses", measure: "rateMany", bound: { atLeast: 0.9 } },
    { what: "CPU of 10 000 Ingresses beside 1", measure: "cpuManyOverOne", bound: { atMost: 1.03 } },
  ],
  async run({ rounds, note }) {
    const upstream = new ScriptProcess(join(import.meta.dirname, "upstream.ts"));
    const load = new ScriptProcess(join(import.meta.dirname, "load.ts"));
    const kvs: KvService[] = [];
    const processes: Partial<Record<(typeof SUBJECTS)[number], WorkerdProcess>> = {};
    try {
      const pod = `127.0.0.1:${await upstream.line()}`;
      const worker = await bundleModule("worker/index.ts", { minify: true });
      for (const subject of SUBJECTS) {
        if (subject === "raw" || subject === "headers") {
          const module = subject === "raw" ? rawWorker(pod) : headersWorker(pod);
          processes[subject] = await WorkerdProcess.start({ module });
          continue;
        }
        const kv = await KvService.start();
        kvs.push(kv);
        await publish(kv, configOf(HOSTS[subject], pod));
        processes[subject] = await WorkerdProcess.start({
          module: worker,
          vars: { ORIGIN_TRANSPORT: "direct" },
          kv: { SHARDS: kv.address, POINTER: kv.address },
        });
      }
      const order = (subject: (typeof SUBJECTS)[number]) => ({
        port: processes[subject]?.port ?? 0,
        connections: CONNECTIONS,
        hosts: HOSTS[subject],
        paths: PATHS,
      });
      for (const subject of SUBJECTS) {
        note(`warming up: ${NAMES[subject]}`);
        const { failed } = await load.ask({
          ...order(subject),
          requests: Math.max(5_000, HOSTS[subject] * 2),
        });
        if (failed > 0) throw new Error(`${failed} requests to ${subject} failed`);
      }
      note(`${rounds * TURNS_A_ROUND} turns of each`);
      const results = await interleave(SUBJECTS, rounds * TURNS_A_ROUND, async (subject) => {
        const pid = processes[subject]?.pid ?? 0;
        const before = cpuMicroseconds(pid);
        const { requests, milliseconds, failed } = await load.ask({
          ...order(subject),
          milliseconds: TURN_MILLISECONDS,
        });
        if (failed > 0) throw new Error(`${failed} requests to ${subject} failed`);
        return { cpu: (cpuMicroseconds(pid) - before) / requests, rate: (requests / milliseconds) * 1000 };
      });
      const cpu = (subject: (typeof SUBJECTS)[number]) => results[subject].map((one) => one.cpu);
      const rate = (subject: (typeof SUBJECTS)[number]) => results[subject].map((one) => one.rate);
      const measures = {
        cpuOne: medianRatio(cpu("one"), cpu("raw")),
        cpuMany: medianRatio(cpu("many"), cpu("raw")),
        rateOne: medianRatio(rate("one"), rate("raw")),
        rateMany: medianRatio(rate("many"), rate("raw")),
        cpuManyOverOne: medianRatio(cpu("many"), cpu("one")),
        cpuHeaders: medianRatio(cpu("headers"), cpu("raw")),
        cpuOneOverHeaders: medianRatio(cpu("one"), cpu("headers")),
      };
      return {
        table: [
          ["", "CPU µs a request", "beside raw", "requests/s", "beside raw"],
          ...SUBJECTS.map((subject) => [
            NAMES[subject],
            median(cpu(subject)).toFixed(0),
            `${medianRatio(cpu(subject), cpu("raw")).toFixed(3)}×`,
            median(rate(subject)).toFixed(0),
            `${medianRatio(rate(subject), rate("raw")).toFixed(3)}×`,
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

/** The least that a Worker in front of a pod can do. */
function rawWorker(pod: string): string {
  return `export default {
  fetch(request) {
    const { url } = request;
    return fetch("http://${pod}" + url.slice(url.indexOf("/", 8)), request);
  },
};`;
}

/** The least that one can do that tells the pod what ingress-nginx tells it; every header costs on its way. */
function headersWorker(pod: string): string {
  return `const NAMES = ["X-Request-ID", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
  "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme"];
export default {
  fetch(request) {
    const { url } = request;
    const copy = new Request(request);
    for (const name of NAMES) copy.headers.set(name, "203.0.113.7");
    return fetch("http://${pod}" + url.slice(url.indexOf("/", 8)), copy);
  },
};`;
}

function configOf(hosts: number, pod: string): EdgeConfig {
  return {
    version: 1,
    hosts: Object.fromEntries(
      Array.from({ length: hosts }, (_, at) => [
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
      Array.from({ length: hosts }, (_, at) => [
        `default/h${at}:80`,
        { namespace: "default", service: `h${at}`, port: "80", endpoints: [pod] },
      ]),
    ),
  };
}
