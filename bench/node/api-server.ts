/**
 * An API server with a large cluster, for the namespace of the node under test: started by `ip netns exec`.
 *
 * Arguments: how many Services, endpoints each, and which Service may change. Prints the path of its kubeconfig.
 * Then each line on standard input is a list of addresses, the new endpoints of that Service; the answer is the moment at
 * which the change was sent, in nanoseconds of the machine's monotonic clock.
 */
import { createInterface } from "node:readline";
import { bulkService } from "../../tests/kernel/many-services.ts";
import type { Manifest } from "../../tests/kubernetes/support/api-server.ts";
import { StandInServer } from "../control/stand-in-server.ts";
import { bulkObjects, bulkServices } from "./cluster.ts";

const [count = 0, endpointsEach = 0, changing = 0] = process.argv.slice(2).map(Number);
const objects = bulkObjects(bulkServices(count, endpointsEach)) as readonly unknown[] as readonly Manifest[];
const server = await StandInServer.start(objects);
console.log(server.kubeconfig);

for await (const line of createInterface({ input: process.stdin })) {
  const [, slice] = bulkService(changing, line.split(" ")) as readonly unknown[] as readonly Manifest[];
  if (slice === undefined) throw new Error("a Service has a slice");
  const sentAt = process.hrtime.bigint();
  server.change(slice);
  console.log(String(sentAt));
}
await server.stop();
