/**
 * The network is lost for a while, to the API server and then to KV: the edge goes on from what it has, the loss shows, and
 * what changed meanwhile arrives without help.
 *
 * In the suite the loss is as short as noticing it allows. `npm run test:loss` takes a minute of it each time.
 */

import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ApiServer } from "./support/api-server.ts";
import { ControlProcess } from "./support/control-process.ts";
import { eventually, LocalEdge } from "./support/local-edge.ts";
import { type Network, networkTo } from "./support/network.ts";
import { app, namespace, slice } from "./support/objects.ts";

/** `cluster/watch/pulse.ts` asks after ten seconds of silence and waits ten seconds for the answer. */
const NOTICED_WITHIN_SECONDS = 25;
const LOSS_SECONDS = Number(process.env.FAIRLEAD_TEST_LOSS_SECONDS ?? 0);
const TEST_MILLISECONDS = 120_000 + LOSS_SECONDS * 1_000;

let server: ApiServer;
let edge: LocalEdge;
let network: Network;
let control: ControlProcess;

beforeAll(async () => {
  [server, edge] = await Promise.all([ApiServer.start(), LocalEdge.start()]);
  await server.apply(namespace("fairlead"), ...app("web", "web.example.com", ["10.0.0.1"]));
  const way = await networkTo(server);
  network = way.network;
  control = await ControlProcess.start(way, edge, "--lease", "fairlead/control", "--lease-duration", "15");
  await answersFrom("10.0.0.1");
});

afterAll(async () => {
  await control?.end();
  await network?.close();
  await Promise.all([server?.remove(), edge?.stop()]);
});

const pod = async (): Promise<string | undefined> => (await edge.get("web.example.com")).pod;

async function answersFrom(address: string): Promise<void> {
  await eventually(pod, (one) => one === address, 60);
}

/** Every answer is from one of these, all the while. */
async function goesOn(seconds: number, ...addresses: readonly string[]): Promise<void> {
  const until = performance.now() + seconds * 1_000;
  do {
    expect(addresses).toContain(await pod());
    await wait(100);
  } while (performance.now() < until);
}

test.each(["go on", "are dead"] as const)(
  "the network to the API server is lost; when it is back, old connections %s",
  async (oldConnections) => {
    const before = (await pod()) ?? "";
    const after = oldConnections === "go on" ? "10.0.0.2" : "10.0.0.3";
    network.lose();
    await server.apply(slice("web", ["10.0.9.9"]));
    await eventually(
      async () => {
        expect(await pod()).toBe(before);
        return await control.metric("fairlead_kubernetes_watch_connected", 'kind="EndpointSlice"');
      },
      (connected) => connected === 0,
      NOTICED_WITHIN_SECONDS,
    );
    // Nobody renews the Lease, so this replica does not lead any more.
    await eventually(
      () => control.metric("fairlead_control_leading"),
      (leading) => leading === 0,
      NOTICED_WITHIN_SECONDS,
    );
    await goesOn(LOSS_SECONDS, before);
    await server.apply(slice("web", [after]));
    network.restore(oldConnections);
    await eventually(
      async () => {
        const one = await pod();
        // What stood there for a while only is passed over, or passed through; nothing older comes back.
        expect([before, "10.0.9.9", after]).toContain(one);
        return one;
      },
      (one) => one === after,
      60,
    );
    await eventually(
      () => control.metric("fairlead_kubernetes_watch_connected", 'kind="EndpointSlice"'),
      (connected) => connected === 1,
    );
    await goesOn(1, after);
  },
  TEST_MILLISECONDS,
);

test(
  "the network to KV is lost: changes wait, the newest one arrives",
  async () => {
    const before = (await pod()) ?? "";
    edge.kv.hardship = { kind: "lost" };
    await server.apply(slice("web", ["10.0.9.8"]));
    await eventually(
      () => control.metric("fairlead_control_pending"),
      (pending) => pending === 1,
    );
    await goesOn(Math.max(2, LOSS_SECONDS), before);
    await server.apply(slice("web", ["10.0.0.4"]));
    edge.kv.hardship = { kind: "none" };
    await answersFrom("10.0.0.4");
    await goesOn(1, "10.0.0.4");
  },
  TEST_MILLISECONDS,
);
