/** Two replicas, one Lease, one edge. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createKvClient } from "../../control/kv/client.ts";
import { deriveConfigKeys } from "../../edge-config/config-keys.ts";
import { decodePointer, POINTER_KEY, type Pointer } from "../../edge-config/pointer.ts";
import { ApiServer } from "./support/api-server.ts";
import { ControlProcess } from "./support/control-process.ts";
import { CONFIG_KEY, eventually, LocalEdge } from "./support/local-edge.ts";
import { app, namespace, slice } from "./support/objects.ts";

let server: ApiServer;
let edge: LocalEdge;
let replicas: ControlProcess[] = [];

beforeAll(async () => {
  [server, edge] = await Promise.all([ApiServer.start(), LocalEdge.start()]);
  await server.apply(namespace("fairlead"), ...app("web", "web.example.com", ["10.0.0.1"]));
});
afterEach(async () => {
  await Promise.all(replicas.map((replica) => replica.end("SIGKILL")));
  replicas = [];
});
afterAll(async () => {
  await Promise.all([server?.remove(), edge?.stop()]);
});

const LEASE_SECONDS = 3;
const LEASE_PATH = "/apis/coordination.k8s.io/v1/namespaces/fairlead/leases/control";

async function startReplica(): Promise<ControlProcess> {
  const replica = await ControlProcess.start(
    server,
    edge,
    ...["--lease", "fairlead/control", "--lease-duration", String(LEASE_SECONDS)],
    ...["--edge-address", "edge.example.net"],
  );
  replicas.push(replica);
  return replica;
}

async function leads(replica: ControlProcess): Promise<boolean> {
  return (await replica.metric("fairlead_control_leading")) === 1;
}

async function startPair(): Promise<{ readonly leader: ControlProcess; readonly follower: ControlProcess }> {
  const leader = await startReplica();
  await eventually(() => leads(leader), Boolean);
  const follower = await startReplica();
  await eventually(
    async () => (await fetch(`${follower.url}/readyz`)).status,
    (status) => status === 200,
  );
  return { leader, follower };
}

async function pointer(): Promise<Pointer> {
  const client = createKvClient({ baseUrl: edge.kv.baseUrl, namespaceId: edge.kvNamespaceId });
  const reading = await decodePointer(
    (await client.get(POINTER_KEY)) ?? "",
    await deriveConfigKeys(CONFIG_KEY),
  );
  if (reading.kind !== "pointer") throw new Error(`the pointer cannot be read: ${JSON.stringify(reading)}`);
  return reading.loaded.pointer;
}

async function holder(): Promise<string | undefined> {
  const { spec } = (await server.api.request({ path: LEASE_PATH })) as {
    readonly spec: { readonly holderIdentity?: string };
  };
  return spec.holderIdentity;
}

async function bring(address: string, seconds?: number): Promise<void> {
  await server.apply(slice("web", [address]));
  await eventually(
    () => edge.get("web.example.com"),
    ({ pod }) => pod === address,
    seconds,
  );
}

test("one of two leads; when it is killed the other publishes, under a higher epoch", async () => {
  const { leader, follower } = await startPair();
  await bring("10.0.0.2");
  expect(await leads(follower)).toBe(false);
  expect(await follower.metric("fairlead_control_publications_total")).toBeUndefined();
  // Only a leader talks back to the cluster.
  await eventually(
    () => leader.metric("fairlead_kubernetes_reports_total", 'kind="status"', 'result="ok"'),
    (count) => count === 1,
  );
  expect(await follower.metric("fairlead_kubernetes_reports_total")).toBeUndefined();
  const before = await pointer();

  await leader.end("SIGKILL");
  await server.apply(slice("web", ["10.0.0.3"]));
  // The edge goes on from the last state all the while.
  await eventually(
    async () => {
      const { pod } = await edge.get("web.example.com");
      expect(["10.0.0.2", "10.0.0.3"]).toContain(pod);
      return pod;
    },
    (pod) => pod === "10.0.0.3",
  );
  const after = await pointer();
  expect(after.epoch).toBeGreaterThan(before.epoch);
  expect(after.generation).toBeGreaterThan(before.generation);
});

test("a leader that ends gives the Lease back, and the other need not wait for it", async () => {
  const { leader, follower } = await startPair();
  const before = await holder();
  expect(before).toBeTruthy();
  await leader.end("SIGTERM");
  // Empty, or the other one has taken it already.
  expect(await holder()).not.toBe(before);
  await eventually(() => leads(follower), Boolean);
  await bring("10.0.1.1");
});

test("a leader that was frozen and comes back moves nothing any more", async () => {
  const { leader, follower } = await startPair();
  await bring("10.0.2.1");
  leader.freeze();
  await eventually(() => leads(follower), Boolean);
  await bring("10.0.2.2");
  const before = await pointer();
  const writes = edge.kv.writes.length;
  leader.thaw();
  await eventually(
    async () => leader.log.some((line) => line.includes("the Lease was lost")) && !(await leads(leader)),
    Boolean,
  );
  expect(await pointer()).toEqual(before);
  expect(
    edge.kv.writes
      .slice(writes)
      .flat()
      .filter((key) => key === POINTER_KEY),
  ).toEqual([]);
  await bring("10.0.2.3");
  expect((await pointer()).epoch).toBe(before.epoch);
});

test("a Lease that somebody deleted begins no epoch anew", async () => {
  const leader = await startReplica();
  await eventually(() => leads(leader), Boolean);
  await bring("10.0.3.1");
  const before = await pointer();
  await leader.end("SIGKILL");
  await server.api.request({ method: "DELETE", path: LEASE_PATH });
  const next = await startReplica();
  await eventually(() => leads(next), Boolean);
  await bring("10.0.3.2");
  expect((await pointer()).epoch).toBeGreaterThan(before.epoch);
});
