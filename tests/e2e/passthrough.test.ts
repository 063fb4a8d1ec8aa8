/** `ssl-passthrough` in `fairlead dev --protocol https`: TLS of a host ends at its pods, told apart by the server name. */

import { once } from "node:events";
import { type AddressInfo, connect as connectTcp } from "node:net";
import { type ConnectionOptions, connect, createServer, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Authority, createAuthority } from "../gateway/certificates.ts";
import { serviceManifests } from "./support/backend.ts";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
let authority: Authority;
const closing: (() => unknown)[] = [];

/** Ends TLS itself, wants a certificate of its clients, and speaks a protocol of its own. */
async function pod(name: string, asks = false): Promise<{ readonly port: number }> {
  const server = createServer(
    {
      ...(await authority.issue(name)),
      ca: authority.ca,
      requestCert: asks,
      rejectUnauthorized: asks,
      ALPNProtocols: ["mqtt"],
    },
    (socket) => {
      socket.on("error", () => {});
      const client = (socket.getPeerCertificate().subject as { readonly CN?: string } | undefined)?.CN;
      socket.write(`${name} ${socket.servername} ${socket.alpnProtocol} ${client}\n`);
      socket.pipe(socket);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  return { port: (server.address() as AddressInfo).port };
}

beforeAll(async () => {
  const made = await createAuthority();
  authority = made;
  closing.push(made.close);
  const passes = { "ssl-passthrough": "true" };
  edge = await Edge.start({
    args: ["--protocol", "https"],
    backends: { echo: 1 },
    manifests: [
      serviceManifests("one", [await pod("one.example.com")]),
      serviceManifests("two", [await pod("two.example.com", true)]),
      serviceManifests("none", []),
      // The manifest of the article: an old API version, and a path that is not written.
      JSON.stringify({
        apiVersion: "extensions/v1beta1",
        kind: "Ingress",
        metadata: { name: "one", annotations: { "nginx.ingress.kubernetes.io/ssl-passthrough": "true" } },
        spec: {
          tls: [{ hosts: ["one.example.com"] }],
          rules: [
            {
              host: "one.example.com",
              http: { paths: [{ backend: { serviceName: "one", servicePort: 80 } }] },
            },
          ],
        },
      }),
      ingress("two", { host: "*.two.example.com", annotations: passes }),
      ingress("echo", { host: "plain.two.example.com" }),
      ingress("none", { host: "none.example.com", annotations: passes }),
      ingress("echo", { host: "echo.example.com" }),
    ].join("\n---\n"),
  });
}, 60_000);

afterAll(async () => {
  await edge?.stop();
  for (const close of closing) await close();
});

async function open(servername: string, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ host: "127.0.0.1", port: Number(edge.url.port), servername, ...options });
  await once(socket, "secureConnect");
  return socket;
}

async function line(socket: TLSSocket): Promise<string> {
  const [data] = (await once(socket, "data")) as [Buffer];
  return data.toString().trim();
}

test("clients see the pod's own certificate and protocol, and bytes go both ways", async () => {
  const socket = await open("one.example.com", { ca: authority.ca, ALPNProtocols: ["h2", "mqtt"] });
  expect(await line(socket)).toBe("one.example.com one.example.com mqtt undefined");
  socket.write("hello");
  expect(await line(socket)).toBe("hello");
  socket.end();
  await once(socket, "close");
});

test("client certificates reach the pod, which refuses clients without one", async () => {
  const tls = { rejectUnauthorized: false, ALPNProtocols: ["mqtt"] };
  const socket = await open("a.two.example.com", { ...tls, ...(await authority.issue("the-client")) });
  expect(await line(socket)).toBe("two.example.com a.two.example.com mqtt the-client");
  socket.destroy();
  const bare = await open("b.two.example.com", tls);
  await expect(line(bare)).rejects.toThrow(/certificate required|ECONNRESET/i);
});

test("hosts without the annotation end their TLS here, an exact one under a wildcard too", async () => {
  for (const host of ["echo.example.com", "plain.two.example.com"]) {
    const reply = await edge.request({ host });
    expect(reply.echo.headers["x-forwarded-proto"]).toBe("https");
  }
});

test("an unknown name and a client that sends none get the edge", async () => {
  expect((await edge.request({ host: "unknown.example.com" })).status).toBe(404);
  const socket = await open("", { rejectUnauthorized: false });
  socket.write("GET / HTTP/1.1\r\nHost: echo.example.com\r\nConnection: close\r\n\r\n");
  expect(await line(socket)).toMatch(/^HTTP\/1.1 200 OK/);
});

test("a hello in many small pieces is put together", async () => {
  const raw = connectTcp(Number(edge.url.port), "127.0.0.1");
  raw.setNoDelay(true);
  const write = raw.write.bind(raw);
  raw.write = ((chunk: Buffer) => {
    for (let at = 0; at < chunk.length; at += 50) write(chunk.subarray(at, at + 50));
    return true;
  }) as typeof raw.write;
  const socket = await open("one.example.com", { socket: raw, ca: authority.ca });
  expect(await line(socket)).toMatch(/^one.example.com one.example.com/);
  socket.destroy();
});

test("a Service without endpoints refuses", async () => {
  const socket = connect({ host: "127.0.0.1", port: Number(edge.url.port), servername: "none.example.com" });
  await expect(once(socket, "secureConnect")).rejects.toThrow();
});

test("a change is live without a new start", async () => {
  await edge.apply({
    "changed.yaml": ingress("one", { host: "new.example.com", annotations: { "ssl-passthrough": "true" } }),
  });
  const socket = await open("new.example.com", { rejectUnauthorized: false });
  expect(await line(socket)).toMatch(/^one.example.com new.example.com/);
  socket.destroy();
  await edge.settled(() => edge.remove("changed.yaml"));
  expect((await edge.request({ host: "new.example.com" })).status).toBe(404);
});
