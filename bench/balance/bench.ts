/** What choosing one of a thousand endpoints costs, beside looking up one key of a Map (the floor of any choice by text). */

import type { Balancer, Endpoint } from "../../worker/balance/balancer.ts";
import { consistentHash } from "../../worker/balance/consistent-hash.ts";
import { ewma } from "../../worker/balance/ewma.ts";
import { withHealth } from "../../worker/balance/health.ts";
import { roundRobin } from "../../worker/balance/round-robin.ts";
import type { Exchange } from "../../worker/exchange.ts";
import type { Bench } from "../bench.ts";
import { interleave, median } from "../statistics.ts";

const ENDPOINTS = 1_000;
const PICKS = 200_000;

const SUBJECTS = ["floor", "roundRobin", "ewma", "consistentHash"] as const;
const NAMES = {
  floor: "Map.get",
  roundRobin: "round robin",
  ewma: "peak EWMA, two choices",
  consistentHash: "consistent hashing",
} as const;

export const bench: Bench = {
  title: `choosing one of ${ENDPOINTS} endpoints`,
  goals: [
    { what: "µs a choice, round robin", measure: "roundRobin", bound: { atMost: 1 } },
    { what: "µs a choice, EWMA", measure: "ewma", bound: { atMost: 1 } },
    { what: "µs a choice, consistent hashing", measure: "consistentHash", bound: { atMost: 2 } },
  ],
  async run({ rounds }) {
    const endpoints: readonly Endpoint[] = Array.from({ length: ENDPOINTS }, (_, at) => ({
      address: `10.180.${at >> 8}.${at & 255}:8080`,
    }));
    // A key that needs no request to be read: the cost of the ring alone.
    const exchange = (uri: string) => ({ target: { rawPath: uri, query: "" } }) as unknown as Exchange;
    const exchanges = Array.from({ length: 1_000 }, (_, at) => exchange(`/item/${at}`));
    const balancers: Readonly<Record<Exclude<(typeof SUBJECTS)[number], "floor">, Balancer>> = {
      roundRobin: withHealth(roundRobin(endpoints), endpoints),
      ewma: withHealth(ewma(endpoints), endpoints),
      consistentHash: withHealth(consistentHash(endpoints, [{ variable: "request_uri" }]), endpoints),
    };
    for (const [at, endpoint] of endpoints.entries()) {
      balancers.ewma.settle?.(endpoint, { kind: "answered", status: 200, milliseconds: 5 + (at % 20) });
    }
    const table = new Map(endpoints.map(({ address }) => [address, address]));
    const none: readonly Endpoint[] = [];
    let sink: unknown;
    const run = (subject: (typeof SUBJECTS)[number]): number => {
      const startedAt = performance.now();
      if (subject === "floor") {
        for (let i = 0; i < PICKS; i++) sink = table.get((endpoints[i % ENDPOINTS] as Endpoint).address);
      } else {
        const balancer = balancers[subject];
        for (let i = 0; i < PICKS; i++) sink = balancer.pick(exchanges[i % 1_000] as Exchange, none);
      }
      return ((performance.now() - startedAt) * 1_000) / PICKS;
    };
    for (const subject of SUBJECTS) run(subject);
    const results = await interleave(SUBJECTS, rounds, async (subject) => run(subject));
    if (sink === undefined) throw new Error("nothing was chosen");
    const measures = Object.fromEntries(SUBJECTS.map((subject) => [subject, median(results[subject])]));
    return {
      table: [
        ["", "µs a choice"],
        ...SUBJECTS.map((subject) => [NAMES[subject], median(results[subject]).toFixed(3)]),
      ],
      measures,
      versions: { node: process.version },
    };
  },
};
