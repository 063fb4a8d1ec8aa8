/**
 * The control service on a real API server that holds a large cluster: how soon a change is in KV, what that costs, and
 * whether a storm of changes is absorbed.
 *
 * API server, local KV (the explorer of the Worker's own runtime) and control service are processes beside this one.
 * A change is timed from its arrival at a watch of ours, which is beside the service's own, to the line in which the
 * service tells that the pointer is written.
 */

import { readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import type { KubernetesApi } from "../../cluster/watch/api.ts";
import { ApiServer, type Manifest, pathOf } from "../../tests/kubernetes/support/api-server.ts";
import { ControlProcess } from "../../tests/kubernetes/support/control-process.ts";
import { eventually, LocalEdge } from "../../tests/kubernetes/support/local-edge.ts";
import { ingress, namespace, service, slice } from "../../tests/kubernetes/support/objects.ts";
import type { Bench } from "../bench.ts";

const INGRESSES = 10_000;
const ENDPOINTS_EACH = 5;
const NAMESPACES = 100;
/** Requests at a time while the cluster is filled, and in the storm. */
const CONCURRENCY = 24;
const CHANGES_A_ROUND = 40;
const STORM_SECONDS = 60;
const STORM_CHANGES_A_SECOND = 1_000;
/** Services whose last state is looked at after the storm. */
const SAMPLES = 100;

export const bench: Bench = {
  title: `the control service beside a real API server: ${INGRESSES} Ingresses, ${INGRESSES * ENDPOINTS_EACH} endpoints`,
  goals: [
    {
      what: "event to finished KV write, p99, in milliseconds",
      measure: "eventToKvP99Ms",
      bound: { atMost: 150 },
    },
    { what: "of which not the KV write, p99, in milliseconds", measure: "ownP99Ms", bound: { atMost: 20 } },
    { what: "KV writes a change", measure: "writesAChange", bound: { atMost: 2 } },
    { what: "largest resident memory, in MiB", measure: "rssMiB", bound: { atMost: 500 } },
    { what: "states wrong after the storm", measure: "wrongAfterStorm", bound: { atMost: 0 } },
  ],
  async run({ rounds, note }) {
    const closing = new AsyncDisposableStack();
    try {
      const server = await ApiServer.start();
      closing.defer(() => server.remove());
      const edge = await LocalEdge.start();
      closing.defer(() => edge.stop());
      note(`filling the API server with ${INGRESSES * 3} objects`);
      const filledMs = await timed(() => fill(server.api));

      note("starting the control service");
      const startedMs = performance.now();
      const control = await ControlProcess.start(server, edge);
      closing.defer(() => control.end());
      await eventually(
        async () => published(control).length,
        (count) => count > 0,
        120,
      );
      const firstMs = performance.now() - startedMs;
      await eventually(
        () => edge.get(hostName(INGRESSES - 1)),
        ({ pod }) => pod !== undefined,
      );

      const count = CHANGES_A_ROUND * rounds;
      note(`${count} changes, one after the other`);
      const writesBefore = edge.kv.writes.flat().length;
      const changes = await measureChanges(server, control, count);
      await wait(500);
      const writes = edge.kv.writes.flat().length - writesBefore;

      note(`a storm of ${STORM_CHANGES_A_SECOND} changes a second for ${STORM_SECONDS} s`);
      const storm = await raiseStorm(server.api);
      const publishedInStorm = published(control).length;
      const settledMs = await timed(() => settle(edge, storm.last));
      let wrong = 0;
      for (const [index, address] of storm.last)
        if ((await edge.get(hostName(index))).pod !== address) wrong++;

      const totals = changes.map(({ totalMs }) => totalMs);
      const own = changes.map(({ totalMs, writeMs }) => totalMs - writeMs);
      const measures = {
        fillSeconds: filledMs / 1_000,
        firstPublicationSeconds: firstMs / 1_000,
        eventToKvP50Ms: quantile(totals, 0.5),
        eventToKvP99Ms: quantile(totals, 0.99),
        ownP50Ms: quantile(own, 0.5),
        ownP99Ms: quantile(own, 0.99),
        writesAChange: writes / count,
        rssMiB: highestResidentMiB(control.pid),
        stormChangesASecond: storm.changes / STORM_SECONDS,
        stormPublications: publishedInStorm - 1 - count,
        stormSettledSeconds: settledMs / 1_000,
        wrongAfterStorm: wrong,
      };
      return {
        table: [
          ["", "p50", "p99"],
          [
            "event to finished KV write, ms",
            measures.eventToKvP50Ms.toFixed(1),
            measures.eventToKvP99Ms.toFixed(1),
          ],
          ["of which not the KV write, ms", measures.ownP50Ms.toFixed(1), measures.ownP99Ms.toFixed(1)],
          ["start to first publication, s", measures.firstPublicationSeconds.toFixed(1), ""],
          ["storm: changes a second that the API server took", measures.stormChangesASecond.toFixed(0), ""],
          ["storm: publications", String(measures.stormPublications), ""],
          ["storm: last change to its state at the edge, s", measures.stormSettledSeconds.toFixed(2), ""],
        ],
        measures,
        versions: { node: process.version, kubernetes: await versionOf(server.api) },
      };
    } finally {
      await closing.disposeAsync();
    }
  },
};

function hostName(index: number): string {
  return `host-${index}.example.com`;
}

function placeOf(index: number): { readonly name: string; readonly namespace: string } {
  return { name: `web-${index}`, namespace: `team-${index % NAMESPACES}` };
}

/** Object `index` with its last endpoint in another place each `turn`. */
function sliceOf(index: number, turn: number): Manifest {
  const { name, namespace: inNamespace } = placeOf(index);
  const base = `10.${index >> 8}.${index & 255}`;
  const steady = turn < 0 ? ENDPOINTS_EACH : 0;
  const addresses =
    steady > 0 ? Array.from({ length: steady }, (_, pod) => `${base}.${pod + 1}`) : [addressOf(index, turn)];
  return slice(name, addresses, inNamespace);
}

function addressOf(index: number, turn: number): string {
  return `10.${index >> 8}.${index & 255}.${10 + ((turn + Math.floor(turn / INGRESSES)) % 200)}`;
}

async function fill(api: KubernetesApi): Promise<void> {
  const create = async (manifest: Manifest): Promise<void> => {
    const path = pathOf(manifest);
    await api.request({ method: "POST", path: path.slice(0, path.lastIndexOf("/")), body: manifest });
  };
  for (let team = 0; team < NAMESPACES; team++) await create(namespace(`team-${team}`));
  await inParallel(INGRESSES, async (index) => {
    const { name, namespace: inNamespace } = placeOf(index);
    await create(service(name, inNamespace));
    await create(sliceOf(index, -1));
    await create(
      ingress(name, hostName(index), {
        namespace: inNamespace,
        annotations: {
          "nginx.ingress.kubernetes.io/enable-cors": "true",
          "nginx.ingress.kubernetes.io/cors-allow-origin": "https://shop.example.com",
          "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
        },
      }),
    );
  });
}

interface Change {
  readonly totalMs: number;
  readonly writeMs: number;
}

async function measureChanges(
  server: ApiServer,
  control: ControlProcess,
  count: number,
): Promise<readonly Change[]> {
  const stop = new AbortController();
  let arrived = Promise.withResolvers<number>();
  const path = "/apis/discovery.k8s.io/v1/endpointslices";
  const { metadata } = (await server.api.request({ path, query: { limit: "1" } })) as {
    readonly metadata: { readonly resourceVersion: string };
  };
  const watching = (async () => {
    const query = { watch: "true", resourceVersion: metadata.resourceVersion };
    for await (const lines of server.api.lines({ path, query, signal: stop.signal }))
      if (lines.length > 0) arrived.resolve(performance.now());
  })().catch(() => {});
  const changes: Change[] = [];
  // The first few are not counted: code is compiled as it becomes hot.
  for (let turn = 0; turn < count + 10; turn++) {
    arrived = Promise.withResolvers();
    const before = published(control).length;
    const line = control.nextLine((text) => text.includes('"published"'));
    await server.api.request({
      method: "PATCH",
      path: pathOf(sliceOf(turn * 7, 0)),
      contentType: "application/merge-patch+json",
      body: { endpoints: [{ addresses: [addressOf(turn * 7, turn)], conditions: { ready: true } }] },
    });
    const eventMs = await arrived.promise;
    const doneMs = await line;
    const last = published(control).at(-1);
    if (turn >= 10)
      changes.push({ totalMs: Math.max(0, doneMs - eventMs), writeMs: last?.writeMs ?? Number.NaN });
    if (published(control).length !== before + 1)
      throw new Error("one change made more than one publication");
  }
  stop.abort();
  await watching;
  return changes;
}

async function raiseStorm(
  api: KubernetesApi,
): Promise<{ readonly changes: number; readonly last: ReadonlyMap<number, string> }> {
  const all = new Map<number, string>();
  const beganMs = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      while (performance.now() - beganMs < STORM_SECONDS * 1_000) {
        const turn = next++;
        const index = (turn * 13) % INGRESSES;
        const dueMs = beganMs + (turn / STORM_CHANGES_A_SECOND) * 1_000;
        if (dueMs > performance.now()) await wait(dueMs - performance.now());
        const address = addressOf(index, turn);
        await api.request({
          method: "PATCH",
          path: pathOf(sliceOf(index, 0)),
          contentType: "application/merge-patch+json",
          body: { endpoints: [{ addresses: [address], conditions: { ready: true } }] },
        });
        // No Service is changed twice at a time: as many turns lie between as there are Services.
        all.set(index, address);
      }
    }),
  );
  const step = Math.max(1, Math.floor(all.size / SAMPLES));
  return { changes: next, last: new Map([...all].filter((_, at) => at % step === 0)) };
}

async function settle(edge: LocalEdge, last: ReadonlyMap<number, string>): Promise<void> {
  for (const [index, address] of last) {
    await eventually(
      () => edge.get(hostName(index)),
      ({ pod }) => pod === address,
    ).catch(() => {}); // Counted as wrong.
  }
}

function published(control: ControlProcess): readonly { readonly writeMs: number }[] {
  return control.log
    .filter((line) => line.includes('"published"'))
    .map((line) => JSON.parse(line) as { readonly writeMs: number });
}

async function inParallel(count: number, action: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      while (next < count) await action(next++);
    }),
  );
}

async function timed(action: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await action();
  return performance.now() - beganMs;
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

/** The most that the process ever held (`VmHWM`). */
function highestResidentMiB(pid: number): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1_024;
}

async function versionOf(api: KubernetesApi): Promise<string> {
  const { gitVersion } = (await api.request({ path: "/version" })) as { readonly gitVersion: string };
  return gitVersion;
}
