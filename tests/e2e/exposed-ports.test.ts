/** TCP and UDP services of `fairlead dev`, with the manifests of the article that the project started from. */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readProxyHeader, writeProxyHeader } from "../../gateway/proxy-protocol.ts";
import { freePorts } from "../free-ports.ts";
import { Edge } from "./support/edge.ts";

let edge: Edge;
let ports: readonly number[];
const closing: (() => unknown)[] = [];

async function tcpPod(name: string): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.write(`${name}:`);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function udpPod(name: string): Promise<number> {
  const socket = createSocket("udp4");
  socket.on("message", (datagram, { port, address }) => socket.send(`${name}:${datagram}`, port, address));
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  closing.push(() => socket.close());
  return socket.address().port;
}

function service(name: string, port: number, protocol: "TCP" | "UDP", podPorts: readonly number[]): string {
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name },
      spec: { ports: [{ name: "main", port, protocol }] },
    },
    ...podPorts.map((podPort, index) => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: `${name}-${index}`, labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: [{ name: "main", port: podPort, protocol }],
      endpoints: [{ addresses: ["127.0.0.1"] }],
    })),
  ]
    .map((object) => JSON.stringify(object))
    .join("\n---\n");
}

function configMaps(extra = ""): string {
  const [plain, decoded, encoded, both, , udp] = ports;
  return `
apiVersion: v1
kind: ConfigMap
metadata:
  name: tcp-services
  namespace: default
data:
  ${plain}: "default/tcp-svc:27017"
  ${decoded}: "default/tcp-svc:main:PROXY"
  ${encoded}: "default/tcp-svc:27017::PROXY"
  ${both}: "default/tcp-svc:27017:PROXY:PROXY"
  443: "default/tcp-svc:27017"
  wrong: "default/tcp-svc:27017"
${extra}
---
apiVersion: flux.weave.works/v1beta1
kind: HelmRelease
metadata:
  name: nginx-ingress
  namespace: default
spec:
  releaseName: nginx-ingress
  values:
    tcp:
      27017: "default/tcp-svc:27017"
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: udp-services
  namespace: default
data:
  ${udp}: "default/udp-svc:53"
`;
}

beforeAll(async () => {
  ports = await freePorts(6);
  edge = await Edge.start({
    args: [
      "--tcp-services",
      "default/tcp-services",
      "--udp-services",
      "default/udp-services",
      "--proxy-protocol",
      "v2",
    ],
    manifests: {
      "maps.yaml": configMaps(),
      "tcp.yaml": service("tcp-svc", 27_017, "TCP", [await tcpPod("a"), await tcpPod("b")]),
      "udp.yaml": service("udp-svc", 53, "UDP", [await udpPod("a"), await udpPod("b")]),
    },
  });
}, 60_000);

afterAll(async () => {
  await edge?.stop();
  for (const close of closing) await close();
});

async function talk(port: number | undefined, text: string | Buffer): Promise<Buffer> {
  const socket = connect({ port: port ?? 0, host: "127.0.0.1", allowHalfOpen: true });
  socket.end(text);
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const NAMED = {
  source: { address: "203.0.113.7", port: 56_324 },
  destination: { address: "192.0.2.1", port: 27_017 },
};

test("a plain TCP port reaches every pod of its Service", async () => {
  const answers = new Set<string>();
  for (let i = 0; i < 4; i++) answers.add((await talk(ports[0], "hello")).toString());
  expect(answers).toEqual(new Set(["a:hello", "b:hello"]));
});

test("a port with PROXY takes the header off, and one with PROXY behind it adds one", async () => {
  const header = writeProxyHeader("v1", NAMED);
  expect((await talk(ports[1], Buffer.concat([header, Buffer.from("hello")]))).toString()).toMatch(
    /^[ab]:hello$/,
  );
  const seen = (await talk(ports[2], "hello")).subarray(2);
  expect(readProxyHeader(seen)).toMatchObject({
    ends: { source: { address: "127.0.0.1" }, destination: { address: "127.0.0.1", port: ports[2] } },
  });
  const both = (await talk(ports[3], Buffer.concat([header, Buffer.from("hello")]))).subarray(2);
  expect(readProxyHeader(both)).toMatchObject({ kind: "header", ends: NAMED });
  expect(both.toString("latin1").endsWith("hello")).toBe(true);
});

test("datagrams reach a pod, the same one for a client, and answers come back", async () => {
  const port = ports[5] ?? 0;
  const answers = new Set<string>();
  for (let client = 0; client < 4; client++) {
    const socket = createSocket("udp4");
    const own = new Set<string>();
    for (const text of ["1", "2", "3"]) {
      socket.send(text, port, "127.0.0.1");
      const [answer] = (await once(socket, "message")) as [Buffer];
      expect(answer.toString().slice(2)).toBe(text);
      own.add(answer.toString().slice(0, 1));
    }
    expect(own.size).toBe(1);
    for (const name of own) answers.add(name);
    socket.close();
  }
  expect(answers).toEqual(new Set(["a", "b"]));
});

test("entries that cannot be are told, and cost themselves only", async () => {
  await edge.dev.waitFor(
    edge.dev.stderr,
    /ConfigMap default\/tcp-services data\[443\]: port 443 is reserved/,
  );
  await edge.dev.waitFor(
    edge.dev.stderr,
    /data\[wrong\]: "wrong" came where a port from 1 to 65535 is expected/,
  );
});

test("ports come and go with the files", async () => {
  const more = ports[4] ?? 0;
  await expect(talk(more, "x")).rejects.toThrow(/ECONNREFUSED/);
  await edge.apply({ "maps.yaml": configMaps(`  ${more}: "default/late:1"`) });
  await edge.dev.waitFor(edge.dev.stderr, /Service default\/late does not exist; the port is closed/);
  await edge.apply({ "late.yaml": service("late", 1, "TCP", [await tcpPod("late")]) });
  expect((await talk(more, "x")).toString()).toBe("late:x");
  await edge.apply({ "maps.yaml": configMaps() });
  await expect(talk(more, "x")).rejects.toThrow(/ECONNREFUSED/);
  expect((await talk(ports[0], "hello")).toString()).toMatch(/^[ab]:hello$/);
});
