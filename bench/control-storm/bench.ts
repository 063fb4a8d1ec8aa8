/**
 * The control service in a storm: a large cluster on a stand-in server (`../control/stand-in-server.ts`) that changes
 * endpoints faster than a real one could, and whether memory stays bounded and the right state is at the edge in the end.
 */

import { setTimeout as wait } from "node:timers/promises";
import type { Manifest } from "../../tests/kubernetes/support/api-server.ts";
import { eventually, LocalEdge } from "../../tests/kubernetes/support/local-edge.ts";
import type { Bench } from "../bench.ts";
import {
  addressOf,
  changedSlice,
  ENDPOINTS_EACH,
  hostName,
  INGRESSES,
  objectsOf,
} from "../control/cluster.ts";
import { highestResidentMiB, loadAverage, published, startControl, timed } from "../control/service.ts";
import { StandInServer } from "../control/stand-in-server.ts";

const SECONDS = 60;
const CHANGES_A_SECOND = 1_000;
/** Services whose last state is looked at after the storm. */
const SAMPLES = 100;

export const bench: Bench = {
  title: `the control service in a storm: ${CHANGES_A_SECOND} endpoint changes a second for ${SECONDS} s, ${INGRESSES} Ingresses, ${INGRESSES * ENDPOINTS_EACH} endpoints`,
  goals: [
    { what: "largest resident memory, in MiB", measure: "rssMiB", bound: { atMost: 500 } },
    { what: "states wrong after the storm", measure: "wrong", bound: { atMost: 0 } },
  ],
  async run({ note }) {
    const closing = new AsyncDisposableStack();
    try {
      const server = await StandInServer.start(allObjects());
      closing.defer(() => server.stop());
      const edge = await LocalEdge.start();
      closing.defer(() => edge.stop());
      note("starting the control service");
      const { control } = await startControl(server, edge);
      closing.defer(() => control.end());
      note("the storm");
      const before = published(control).length;
      const { changes, last } = await raiseStorm(server);
      const publications = published(control).length - before;
      const load = loadAverage();
      const settledMs = await timed(() => settle(edge, last));
      let wrong = 0;
      for (const [index, address] of last) if ((await edge.get(hostName(index))).pod !== address) wrong++;
      const measures = {
        changesASecond: changes / SECONDS,
        publications,
        settledSeconds: settledMs / 1_000,
        wrong,
        rssMiB: highestResidentMiB(control),
        loadAverage: load,
      };
      return {
        table: [
          ["", ""],
          ["changes a second", measures.changesASecond.toFixed(0)],
          ["publications", String(publications)],
          ["last change to every state at the edge, s", measures.settledSeconds.toFixed(2)],
          ["resident memory, MiB", measures.rssMiB.toFixed(0)],
          ["load average of the machine", load.toFixed(1)],
        ],
        measures,
        versions: { node: process.version },
      };
    } finally {
      await closing.disposeAsync();
    }
  },
};

function* allObjects(): Iterable<Manifest> {
  for (let index = 0; index < INGRESSES; index++) yield* objectsOf(index);
}

async function raiseStorm(
  server: StandInServer,
): Promise<{ readonly changes: number; readonly last: ReadonlyMap<number, string> }> {
  const all = new Map<number, string>();
  const beganMs = performance.now();
  const changes = CHANGES_A_SECOND * SECONDS;
  for (let turn = 0; turn < changes; ) {
    const due = Math.min(changes, Math.ceil(((performance.now() - beganMs) / 1_000) * CHANGES_A_SECOND));
    for (; turn < due; turn++) {
      const index = (turn * 13) % INGRESSES;
      server.change(changedSlice(index, turn));
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
