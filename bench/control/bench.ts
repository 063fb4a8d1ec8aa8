/**
 * The control service on a real API server that holds a large cluster: how soon a change is in KV, and what that costs.
 * Then the same cluster on a stand-in server (`stand-in-server.ts`), which can raise a storm of changes.
 *
 * Server, local KV (the explorer of the Worker's own runtime) and control service are processes of their own.
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
import { StandInServer } from "./stand-in-server.ts";

const INGRESSES = 10_000;
const ENDPOINTS_EACH = 5;
const NAMESPACES = 100;
/** Requests at a time while the cluster is filled. */
const CONCURRENCY = 24;
const CHANGES_A_ROUND = 40;
const WARM_UP_CHANGES = 10;
const STORM_SECONDS = 60;
const STORM_CHANGES_A_SECOND = 1_000;
/**
 * As `deploy/` runs it: without a bound, V8 lets garbage pile up for as long as the machine has memory. 60 % of the
 * Deployment's limit of 768 MiB.
 */
const NODE_FLAGS = ["--max-old-space-size=460", "--max-semi-space-size=16"];
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
    const {
      filledMs,
      firstMs,
      changes,
      edits,
      writes,
      rssMiB: calmRssMiB,
      kubernetes,
    } = await onRealServer(rounds, note);
    const storm = await inStorm(note);
    const totals = changes.map(({ totalMs }) => totalMs);
    const own = changes.map(({ totalMs, writeMs }) => totalMs - writeMs);
    const ownOfEdits = edits.map(({ totalMs, writeMs }) => totalMs - writeMs);
    const measures = {
      fillSeconds: filledMs / 1_000,
      firstPublicationSeconds: firstMs / 1_000,
      eventToKvP50Ms: quantile(totals, 0.5),
      eventToKvP99Ms: quantile(totals, 0.99),
      ownP50Ms: quantile(own, 0.5),
      ownP99Ms: quantile(own, 0.99),
      ingressOwnP50Ms: quantile(ownOfEdits, 0.5),
      ingressOwnP99Ms: quantile(ownOfEdits, 0.99),
      writesAChange: writes / changes.length,
      rssMiB: Math.max(calmRssMiB, storm.rssMiB),
      calmRssMiB,
      stormRssMiB: storm.rssMiB,
      stormChangesASecond: storm.changes / STORM_SECONDS,
      stormPublications: storm.publications,
      stormSettledSeconds: storm.settledMs / 1_000,
      wrongAfterStorm: storm.wrong,
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
        [
          "a changed Ingress: not the KV write, ms",
          measures.ingressOwnP50Ms.toFixed(1),
          measures.ingressOwnP99Ms.toFixed(1),
        ],
        ["start to first publication, s", measures.firstPublicationSeconds.toFixed(1), ""],
        ["storm: changes a second", measures.stormChangesASecond.toFixed(0), ""],
        [
          "resident memory, MiB: calm, storm",
          measures.calmRssMiB.toFixed(0),
          measures.stormRssMiB.toFixed(0),
        ],
        ["storm: publications", String(measures.stormPublications), ""],
        ["storm: last change to its state at the edge, s", measures.stormSettledSeconds.toFixed(2), ""],
      ],
      measures,
      versions: { node: process.version, kubernetes },
    };
  },
};

interface Calm {
  readonly filledMs: number;
  readonly firstMs: number;
  readonly changes: readonly Change[];
  /** Of Ingresses. */
  readonly edits: readonly Change[];
  /** Keys written by these changes. */
  readonly writes: number;
  readonly rssMiB: number;
  readonly kubernetes: string;
}

async function onRealServer(rounds: number, note: (line: string) => void): Promise<Calm> {
  const closing = new AsyncDisposableStack();
  try {
    const server = await ApiServer.start();
    closing.defer(() => server.remove());
    const edge = await LocalEdge.start();
    closing.defer(() => edge.stop());
    note(`filling the API server with ${INGRESSES * 3} objects`);
    const filledMs = await timed(() => fill(server.api));
    note("starting the control service");
    const { control, firstMs } = await startControl(server, edge);
    closing.defer(() => control.end());
    const count = CHANGES_A_ROUND * rounds;
    note(`${count} changes, one after the other`);
    const { changes, writes } = await measureChanges(server, control, edge, count, ENDPOINT);
    note(`${count} changed Ingresses`);
    const { changes: edits } = await measureChanges(server, control, edge, count, INGRESS);
    const kubernetes = await versionOf(server.api);
    return { filledMs, firstMs, changes, edits, writes, rssMiB: highestResidentMiB(control.pid), kubernetes };
  } finally {
    await closing.disposeAsync();
  }
}

interface Storm {
  readonly changes: number;
  readonly publications: number;
  /** From the last change until every sample is right. */
  readonly settledMs: number;
  readonly wrong: number;
  readonly rssMiB: number;
}

async function inStorm(note: (line: string) => void): Promise<Storm> {
  const closing = new AsyncDisposableStack();
  try {
    const server = await StandInServer.start(allObjects());
    closing.defer(() => server.stop());
    const edge = await LocalEdge.start();
    closing.defer(() => edge.stop());
    const { control } = await startControl(server, edge);
    closing.defer(() => control.end());
    note(`a storm of ${STORM_CHANGES_A_SECOND} changes a second for ${STORM_SECONDS} s`);
    const before = published(control).length;
    const { changes, last } = await raiseStorm(server);
    const publications = published(control).length - before;
    const settledMs = await timed(() => settle(edge, last));
    let wrong = 0;
    for (const [index, address] of last) if ((await edge.get(hostName(index))).pod !== address) wrong++;
    return { changes, publications, settledMs, wrong, rssMiB: highestResidentMiB(control.pid) };
  } finally {
    await closing.disposeAsync();
  }
}

/** Starts the service and returns once the edge answers for the last host. */
async function startControl(
  server: { readonly kubeconfig: string },
  edge: LocalEdge,
): Promise<{ readonly control: ControlProcess; readonly firstMs: number }> {
  const startedMs = performance.now();
  const control = await ControlProcess.startWith(NODE_FLAGS, server, edge);
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
  return { control, firstMs };
}

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
    for (const manifest of objectsOf(index)) await create(manifest);
  });
}

function objectsOf(index: number): readonly Manifest[] {
  const { name, namespace: inNamespace } = placeOf(index);
  const annotations = {
    "nginx.ingress.kubernetes.io/enable-cors": "true",
    "nginx.ingress.kubernetes.io/cors-allow-origin": "https://shop.example.com",
    "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
  };
  return [
    service(name, inNamespace),
    sliceOf(index, -1),
    ingress(name, hostName(index), { namespace: inNamespace, annotations }),
  ];
}

function* allObjects(): Iterable<Manifest> {
  for (let index = 0; index < INGRESSES; index++) yield* objectsOf(index);
}

interface Change {
  readonly totalMs: number;
  readonly writeMs: number;
}

interface KindOfChange {
  /** Where its events come from. */
  readonly path: string;
  readonly patch: (index: number, turn: number) => { readonly of: Manifest; readonly body: unknown };
}

const ENDPOINT: KindOfChange = {
  path: "/apis/discovery.k8s.io/v1/endpointslices",
  patch: (index, turn) => ({
    of: sliceOf(index, 0),
    body: { endpoints: [{ addresses: [addressOf(index, turn)], conditions: { ready: true } }] },
  }),
};

const INGRESS: KindOfChange = {
  path: "/apis/networking.k8s.io/v1/ingresses",
  patch: (index, turn) => {
    const { name, namespace: inNamespace } = placeOf(index);
    const annotations = { "nginx.ingress.kubernetes.io/proxy-body-size": `${9 + turn}m` };
    return {
      of: ingress(name, hostName(index), { namespace: inNamespace }),
      body: { metadata: { annotations } },
    };
  },
};

async function measureChanges(
  server: ApiServer,
  control: ControlProcess,
  edge: LocalEdge,
  count: number,
  { path, patch }: KindOfChange,
): Promise<Pick<Calm, "changes" | "writes">> {
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
  const changes: Change[] = [];
  // The first few are not counted: code is compiled as it becomes hot.
  let writesBefore = 0;
  for (let turn = 0; turn < count + WARM_UP_CHANGES; turn++) {
    if (turn === WARM_UP_CHANGES) writesBefore = edge.kv.writes.flat().length;
    arrived = Promise.withResolvers();
    const before = published(control).length;
    const line = control.nextLine((text) => text.includes('"published"'));
    const { of, body } = patch(turn * 7, turn);
    await server.api.request({
      method: "PATCH",
      path: pathOf(of),
      contentType: "application/merge-patch+json",
      body,
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
  return { changes, writes: edge.kv.writes.flat().length - writesBefore };
}

async function raiseStorm(
  server: StandInServer,
): Promise<{ readonly changes: number; readonly last: ReadonlyMap<number, string> }> {
  const all = new Map<number, string>();
  const beganMs = performance.now();
  const changes = STORM_CHANGES_A_SECOND * STORM_SECONDS;
  for (let turn = 0; turn < changes; ) {
    const due = Math.min(
      changes,
      Math.ceil(((performance.now() - beganMs) / 1_000) * STORM_CHANGES_A_SECOND),
    );
    for (; turn < due; turn++) {
      const index = (turn * 13) % INGRESSES;
      server.change(sliceOf(index, turn));
      all.set(index, addressOf(index, turn));
    }
    await wait(5);
  }
  const step = Math.max(1, Math.floor(all.size / SAMPLES));
  return { changes, last: new Map([...all].filter((_, at) => at % step === 0)) };
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
