/**
 * The control service on a real API server that holds a large cluster: how soon a change is in KV, where its time went,
 * and what that costs.
 *
 * Server, local KV (the explorer of the Worker's own runtime) and control service are processes of their own.
 * A change is timed from its arrival at a watch of ours, which is beside the service's own, to the line in which the
 * service tells that the pointer is written.
 */

import type { PublicationTimings } from "../../control/kv/publisher.ts";
import { type ApiServer, type Manifest, pathOf } from "../../tests/kubernetes/support/api-server.ts";
import type { ControlProcess } from "../../tests/kubernetes/support/control-process.ts";
import { LocalEdge } from "../../tests/kubernetes/support/local-edge.ts";
import { ingress } from "../../tests/kubernetes/support/objects.ts";
import type { Bench } from "../bench.ts";
import { addressOf, changedSlice, ENDPOINTS_EACH, hostName, INGRESSES, placeOf } from "../control/cluster.ts";
import { startFilledServer } from "../control/filled-server.ts";
import { highestResidentMiB, loadAverage, published, startControl } from "../control/service.ts";

const CHANGES_A_ROUND = 60;
/** Not counted: code is compiled as it becomes hot. */
const WARM_UP_CHANGES = 100;
const STAGES = ["gatherMs", "compileMs", "waitedMs", "cutMs", "writeMs"] as const;

export const bench: Bench = {
  title: `the control service beside a real API server: ${INGRESSES} Ingresses, ${INGRESSES * ENDPOINTS_EACH} endpoints`,
  goals: [
    {
      what: "event to finished KV write, p99, in milliseconds",
      measure: "eventToKvP99Ms",
      bound: { atMost: 150 },
    },
    { what: "of which not the KV write, p99, in milliseconds", measure: "ownP99Ms", bound: { atMost: 20 } },
    {
      what: "a changed Ingress: event to finished KV write, p99, in milliseconds",
      measure: "ingressEventToKvP99Ms",
      bound: { atMost: 150 },
    },
    { what: "KV writes a change", measure: "writesAChange", bound: { atMost: 2 } },
    { what: "largest resident memory, in MiB", measure: "rssMiB", bound: { atMost: 500 } },
  ],
  async run({ rounds, note }) {
    const closing = new AsyncDisposableStack();
    try {
      const server = await startFilledServer(note);
      closing.defer(() => server.remove());
      const edge = await LocalEdge.start();
      closing.defer(() => edge.stop());
      note("starting the control service");
      const { control, firstMs } = await startControl(server, edge);
      closing.defer(() => control.end());
      const count = CHANGES_A_ROUND * rounds;
      const loads = [loadAverage()];
      note(`${count} changed slices, one after the other`);
      const slices = await measureChanges({ server, control, edge }, count, SLICE);
      loads.push(loadAverage());
      note(`${count} changed Ingresses`);
      const ingresses = await measureChanges({ server, control, edge }, count, INGRESS);
      loads.push(loadAverage());
      const { gitVersion } = (await server.api.request({ path: "/version" })) as {
        readonly gitVersion: string;
      };
      const measures = {
        firstPublicationSeconds: firstMs / 1_000,
        eventToKvP50Ms: quantile(slices.totalsMs, 0.5),
        eventToKvP99Ms: quantile(slices.totalsMs, 0.99),
        ownP50Ms: quantile(slices.ownMs, 0.5),
        ownP99Ms: quantile(slices.ownMs, 0.99),
        ingressEventToKvP50Ms: quantile(ingresses.totalsMs, 0.5),
        ingressEventToKvP99Ms: quantile(ingresses.totalsMs, 0.99),
        ingressOwnP50Ms: quantile(ingresses.ownMs, 0.5),
        ingressOwnP99Ms: quantile(ingresses.ownMs, 0.99),
        writesAChange: (slices.writes + ingresses.writes) / (2 * count),
        rssMiB: highestResidentMiB(control),
        loadAverage: Math.max(...loads),
      };
      const row = (
        name: string,
        of: (changes: Changes) => readonly number[],
      ): readonly [string, string, string, string, string] => [
        name,
        quantile(of(slices), 0.5).toFixed(1),
        quantile(of(slices), 0.99).toFixed(1),
        quantile(of(ingresses), 0.5).toFixed(1),
        quantile(of(ingresses), 0.99).toFixed(1),
      ];
      return {
        table: [
          ["", "slice p50", "p99", "Ingress p50", "p99"],
          row("event to finished KV write, ms", ({ totalsMs }) => totalsMs),
          row("of which not the KV write, ms", ({ ownMs }) => ownMs),
          ...STAGES.map((stage) =>
            row(`  ${stage}`, ({ timings }) => timings.map((one) => one[stage] ?? Number.NaN)),
          ),
          ["start to first publication, s", measures.firstPublicationSeconds.toFixed(1), "", "", ""],
          ["resident memory, MiB", measures.rssMiB.toFixed(0), "", "", ""],
          ["load average of the machine", ...loads.map((load) => load.toFixed(1)), ""],
        ],
        measures,
        versions: { node: process.version, kubernetes: gitVersion },
      };
    } finally {
      await closing.disposeAsync();
    }
  },
};

interface KindOfChange {
  /** Where its events come from. */
  readonly path: string;
  readonly patch: (index: number, turn: number) => { readonly of: Manifest; readonly body: unknown };
}

const SLICE: KindOfChange = {
  path: "/apis/discovery.k8s.io/v1/endpointslices",
  patch: (index, turn) => ({
    of: changedSlice(index, turn),
    body: { endpoints: [{ addresses: [addressOf(index, turn)], conditions: { ready: true } }] },
  }),
};

const INGRESS: KindOfChange = {
  path: "/apis/networking.k8s.io/v1/ingresses",
  patch: (index, turn) => {
    const { name, namespace } = placeOf(index);
    const annotations = { "nginx.ingress.kubernetes.io/proxy-body-size": `${9 + turn}m` };
    return { of: ingress(name, hostName(index), { namespace }), body: { metadata: { annotations } } };
  },
};

interface Changes {
  readonly totalsMs: readonly number[];
  readonly ownMs: readonly number[];
  readonly timings: readonly PublicationTimings[];
  /** Keys written by all of them. */
  readonly writes: number;
}

interface Machinery {
  readonly server: ApiServer;
  readonly control: ControlProcess;
  readonly edge: LocalEdge;
}

async function measureChanges(
  { server, control, edge }: Machinery,
  count: number,
  { path, patch }: KindOfChange,
): Promise<Changes> {
  const stop = new AbortController();
  let arrived = Promise.withResolvers<number>();
  const { metadata } = (await server.api.request({ path, query: { limit: "1" } })) as {
    readonly metadata: { readonly resourceVersion: string };
  };
  const watching = (async () => {
    const query = { watch: "true", resourceVersion: metadata.resourceVersion };
    for await (const lines of server.api.lines({ path, query, signal: stop.signal }))
      if (lines.length > 0) arrived.resolve(performance.now());
  })().catch(() => {});
  const totalsMs: number[] = [];
  let publishedBefore = 0;
  let writesBefore = 0;
  for (let turn = 0; turn < count + WARM_UP_CHANGES; turn++) {
    if (turn === WARM_UP_CHANGES) {
      publishedBefore = published(control).length;
      writesBefore = edge.kv.writes.flat().length;
    }
    arrived = Promise.withResolvers();
    const line = control.nextLine((text) => text.includes('"published"'));
    const { of, body } = patch((turn * 7) % INGRESSES, turn);
    await server.api.request({
      method: "PATCH",
      path: pathOf(of),
      contentType: "application/merge-patch+json",
      body,
    });
    const eventMs = await arrived.promise;
    const doneMs = await line;
    if (turn >= WARM_UP_CHANGES) totalsMs.push(Math.max(0, doneMs - eventMs));
  }
  stop.abort();
  await watching;
  const timings = published(control).slice(publishedBefore);
  if (timings.length !== count)
    throw new Error(`${count} changes made ${timings.length} publications instead of one each`);
  return {
    totalsMs,
    ownMs: totalsMs.map((totalMs, at) => totalMs - (timings[at]?.writeMs ?? Number.NaN)),
    timings,
    writes: edge.kv.writes.flat().length - writesBefore,
  };
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}
