import { once } from "node:events";
import { connect, createServer } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildClusterModel } from "../cluster/build.ts";
import { readManifestText } from "../cluster/files.ts";
import { freePorts } from "../tests/free-ports.ts";
import { ServiceHealthServers, serviceHealthPort } from "./service-health.ts";

let healthy = true;
let addresses: readonly string[];
const failures: string[] = [];
const servers = new ServiceHealthServers({
  addresses: () => addresses,
  isHealthy: () => healthy,
  onFailure: (service, message) => failures.push(`${service} ${message}`),
});
beforeEach(() => {
  addresses = ["127.0.0.1", "127.0.0.2"];
});
afterEach(async () => {
  await servers.close();
  healthy = true;
  failures.length = 0;
});

const both = (count: number) => ({ IPv4: count, IPv6: count });

test("status, headers and body, on every address and for any path", async () => {
  const [port = 0] = await freePorts(1);
  await servers.update([{ service: "shop/web", port, localEndpoints: both(2) }]);
  for (const url of [`http://127.0.0.1:${port}/`, `http://127.0.0.2:${port}/any/path?x`]) {
    const answer = await fetch(url);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("x-load-balancing-endpoint-weight")).toBe("2");
    expect(await answer.text()).toBe(
      '{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}',
    );
  }
});

test("no endpoint, or an agent behind the cluster: 503; without the Service: nobody listens", async () => {
  const [port = 0] = await freePorts(1);
  const url = `http://127.0.0.1:${port}/`;
  await servers.update([{ service: "shop/web", port, localEndpoints: both(0) }]);
  expect((await fetch(url)).status).toBe(503);
  await servers.update([{ service: "shop/web", port, localEndpoints: both(1) }]);
  expect((await fetch(url)).status).toBe(200);
  healthy = false;
  const answer = await fetch(url);
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ localEndpoints: 1, serviceProxyHealthy: false });
  await servers.update([]);
  await expect(fetch(url)).rejects.toThrow();
});

test("a port that changes is closed and opened", async () => {
  const [before = 0, after = 0] = await freePorts(2);
  await servers.update([{ service: "shop/web", port: before, localEndpoints: both(1) }]);
  await servers.update([{ service: "shop/web", port: after, localEndpoints: both(1) }]);
  await expect(fetch(`http://127.0.0.1:${before}/`)).rejects.toThrow();
  expect((await fetch(`http://127.0.0.1:${after}/`)).status).toBe(200);
});

test("an address that cannot be listened to costs itself only, is told once, and is tried until it can", async () => {
  const [port = 0, taken = 0] = await freePorts(2);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(taken, "127.0.0.2", resolve));
  const wanted = [
    { service: "shop/busy", port: taken, localEndpoints: both(1) },
    { service: "shop/web", port, localEndpoints: both(1) },
  ] as const;
  // Nobody has the last one.
  addresses = ["127.0.0.1", "127.0.0.2", "192.0.2.77"];
  await servers.update(wanted);
  const told = [
    `^shop/busy healthCheckNodePort ${taken} cannot be listened to at 127\\.0\\.0\\.2: .*EADDRINUSE`,
    `^shop/busy healthCheckNodePort ${taken} cannot be listened to at 192\\.0\\.2\\.77: .*EADDRNOTAVAIL`,
    `^shop/web healthCheckNodePort ${port} cannot be listened to at 192\\.0\\.2\\.77: .*EADDRNOTAVAIL`,
  ].map((text) => expect.stringMatching(text));
  expect(failures).toEqual(told);
  expect((await fetch(`http://127.0.0.1:${taken}/`)).status).toBe(200);
  for (const host of ["127.0.0.1", "127.0.0.2"])
    expect((await fetch(`http://${host}:${port}/`)).status).toBe(200);
  await servers.update(wanted);
  expect(failures).toEqual(told);

  await new Promise((resolve) => other.close(resolve));
  await servers.update(wanted);
  expect((await fetch(`http://127.0.0.2:${taken}/`)).status).toBe(200);

  // Gone and back: it is told anew.
  addresses = ["127.0.0.1"];
  await servers.update(wanted);
  addresses = ["127.0.0.1", "192.0.2.77"];
  await servers.update(wanted);
  expect(failures).toHaveLength(5);
});

test("servers follow the addresses of the node: none at first, others later; those that stay are left alone", async () => {
  const [port = 0] = await freePorts(1);
  const wanted = [{ service: "shop/web", port, localEndpoints: both(1) }] as const;
  addresses = [];
  await servers.update(wanted);
  await expect(fetch(`http://127.0.0.1:${port}/`)).rejects.toThrow();

  addresses = ["127.0.0.1", "127.0.0.2"];
  await servers.update(wanted);
  expect((await fetch(`http://127.0.0.2:${port}/`)).status).toBe(200);
  const connection = connect(port, "127.0.0.1");
  await once(connection, "connect");

  addresses = ["127.0.0.3", "127.0.0.1"];
  await servers.update(wanted);
  await expect(fetch(`http://127.0.0.2:${port}/`)).rejects.toThrow();
  expect((await fetch(`http://127.0.0.3:${port}/`)).status).toBe(200);
  connection.write("GET / HTTP/1.1\r\nHost: node\r\n\r\n");
  const [answer] = await once(connection, "data");
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
  connection.destroy();
  expect(failures).toEqual([]);
});

const MANIFEST = `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  externalTrafficPolicy: Local
  healthCheckNodePort: 31000
  ports: [{ name: a, port: 80 }, { name: b, port: 81 }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: a, port: 80 }, { name: b, port: 81 }]
endpoints:
- { addresses: [10.180.0.1], nodeName: n1 }
- { addresses: [10.180.0.2], nodeName: n1, conditions: { ready: false, serving: true, terminating: true } }
- { addresses: [10.180.0.3], nodeName: n2 }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-2, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv6
ports: [{ name: a, port: 80 }]
endpoints:
- { addresses: ["fd00::1"], nodeName: n1 }
- { addresses: ["fd00::4"], nodeName: n1 }
`;

test("ready endpoints on this node count in their family, once whatever their ports", () => {
  const { model } = buildClusterModel(readManifestText(MANIFEST, "test").objects);
  const service = model.services.get("shop/web");
  if (service === undefined) throw new Error("the manifest lacks shop/web");
  const slices = model.endpointSlices.get("shop/web") ?? [];
  expect(serviceHealthPort(service, slices, "n1")).toEqual({
    service: "shop/web",
    port: 31000,
    localEndpoints: { IPv4: 1, IPv6: 2 },
  });
  expect(serviceHealthPort(service, slices, "n9")?.localEndpoints).toEqual(both(0));
  expect(serviceHealthPort({ ...service, externalTrafficPolicy: "Cluster" }, slices, "n1")).toBeUndefined();
  expect(serviceHealthPort({ ...service, type: "NodePort" }, slices, "n1")).toBeUndefined();
});
