/**
 * `fairlead gateway follow` as it runs in a Pod: the program and the real HAProxy beside each other, and manifests that
 * change under their clients.
 */

import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { Agent, type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createTokenSigner, parseTokenKeys, TOKEN_HEADER } from "../../edge-config/gateway-token.ts";
import { createHaproxyMaster, type HaproxyMaster } from "../../gateway/haproxy/master.ts";
import { FairleadProgram } from "../e2e/support/fairlead-program.ts";
import { freePorts } from "../free-ports.ts";
import { createAuthority } from "./certificates.ts";
import { haveHaproxy, type RunningHaproxy, startRendered } from "./haproxy.ts";

const WAIT = { timeout: 20_000, interval: 20 } as const;
const key = (id: string, fill: number): string => `${id}:${Buffer.alloc(32, fill).toString("base64")}`;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Pods share a port and differ in their address, as those of a Service do. */
class Pods {
  readonly #port: Promise<number>;

  constructor() {
    this.#port = freePorts(1).then(([port = 0]) => port);
  }

  get port(): Promise<number> {
    return this.#port;
  }

  /** Says its address, then echoes; in its own words "bye" when the client has ended. */
  async start(address: string): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => {});
      socket.write(`${address}:`);
      socket.on("data", (chunk) => socket.write(chunk));
      socket.on("end", () => socket.end(":bye"));
    });
    server.listen(await this.#port, address);
    await once(server, "listening");
    closing.push(() => server.close());
  }
}

interface Gateway {
  readonly folder: string;
  readonly out: string;
  readonly port: number;
  readonly healthPort: number;
  readonly statusPort: number;
  readonly program: FairleadProgram;
  readonly master: HaproxyMaster;
  readonly write: (file: string, ...objects: readonly unknown[]) => Promise<void>;
  readonly startProgram: () => Promise<FairleadProgram>;
  readonly startHaproxy: () => Promise<void>;
  readonly stopHaproxy: () => Promise<void>;
}

/** The gateway with what `manifests` holds at first: `name` → objects. */
async function startGateway(
  manifests: Readonly<Record<string, readonly unknown[]>>,
  flags: (folder: string) => readonly string[] | Promise<readonly string[]>,
): Promise<Gateway> {
  const folder = await mkdtemp(join(tmpdir(), "fairlead-follow-"));
  closing.push(() => rm(folder, { recursive: true, force: true }));
  const [port = 0, healthPort = 0, statusPort = 0] = await freePorts(3);
  const out = join(folder, "out");
  await mkdir(join(folder, "manifests"));
  await writeFile(join(folder, "keys"), key("k1", 1));
  const write = async (file: string, ...objects: readonly unknown[]): Promise<void> => {
    const path = join(folder, "manifests", file);
    const text = objects.map((object) => (typeof object === "string" ? object : JSON.stringify(object)));
    await writeFile(`${path}.new`, text.join("\n---\n"));
    await rename(`${path}.new`, path);
  };
  for (const [file, objects] of Object.entries(manifests)) await write(file, ...objects);
  const socket = join(folder, "master.sock");
  const moreFlags = await flags(folder);
  const startProgram = async (): Promise<FairleadProgram> => {
    const program = new FairleadProgram([
      ...["gateway", "follow", "--out", out, "--master-socket", socket, "-f", join(folder, "manifests")],
      ...["--keys-file", join(folder, "keys"), "--allow-loopback", "--drain", "20"],
      ...["--listen", `127.0.0.1:${port}`, "--health-listen", `127.0.0.1:${healthPort}`],
      ...["--status-listen", `127.0.0.1:${statusPort}`, "--tcp-services-address", "127.0.0.1"],
      ...["--max-connections", "500", "--reload-distance", "0.05"],
      ...moreFlags,
    ]);
    closing.push(() => program.end());
    await program.waitFor(program.stdout, /^ready$/);
    return program;
  };
  let haproxy: RunningHaproxy | undefined;
  const startHaproxy = async (): Promise<void> => {
    haproxy = await startRendered(join(out, "current"), "-S", socket);
  };
  const stopHaproxy = async (): Promise<void> => {
    await haproxy?.close();
    haproxy = undefined;
  };
  closing.push(stopHaproxy);
  const program = await startProgram();
  await startHaproxy();
  const gateway = {
    ...{ folder, out, port, healthPort, statusPort, program, write, startProgram, startHaproxy, stopHaproxy },
    master: createHaproxyMaster(socket),
  };
  await isReady(gateway);
  return gateway;
}

/** HAProxy has the newest configuration. */
async function isReady({ statusPort }: Gateway): Promise<void> {
  await vi.waitFor(async () => {
    const answer = await fetch(`http://127.0.0.1:${statusPort}/readyz`);
    expect(await answer.text()).toBe("ok\n");
  }, WAIT);
}

async function counted({ statusPort }: Gateway, by: "servers" | "reload"): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${statusPort}/metrics`)).text();
  return Number(
    new RegExp(`^fairlead_gateway_changes_total\\{by="${by}"\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0,
  );
}

function tcpServices(entries: Readonly<Record<string, string>>): unknown {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "tcp-services", namespace: "ingress-nginx" },
    data: entries,
  };
}

function service(name: string, port: number): unknown {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "shop" },
    spec: { clusterIP: "10.96.0.7", ports: [{ name: "main", port: 5432, targetPort: port }] },
  };
}

function slice(name: string, port: number, addresses: readonly string[]): unknown {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: `${name}-1`, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: [{ name: "main", port, protocol: "TCP" }],
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  };
}

function passthrough(name: string, host: string): unknown {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: {
      name,
      namespace: "shop",
      annotations: { "nginx.ingress.kubernetes.io/ssl-passthrough": "true" },
    },
    spec: {
      rules: [
        {
          host,
          http: {
            paths: [
              { path: "/", pathType: "Prefix", backend: { service: { name, port: { number: 5432 } } } },
            ],
          },
        },
      ],
    },
  };
}

/** Says `hello`, ends, and tells what came back. Rejects when it is refused or reset. */
async function talk(port: number): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.end("hello");
  return await readAll(socket);
}

async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Tokens for a pod on this machine, by one key. */
function signer(id: string, fill: number): (port: number) => Promise<string> {
  const { sign } = createTokenSigner(parseTokenKeys(key(id, fill)));
  return async (port) =>
    await sign({ address: "127.0.0.1", port, scheme: "http", host: "status.example" }, Date.now());
}

/** The status of a POST to `/healthz` of whatever the token names. */
async function post(port: number, token: string, agent: Agent): Promise<number> {
  const options = { port, host: "127.0.0.1", path: "/healthz", method: "POST", agent };
  const asked = request({ ...options, headers: { [TOKEN_HEADER]: token } });
  asked.end("body");
  const [answer] = (await once(asked, "response")) as [IncomingMessage];
  answer.resume();
  await once(answer, "end");
  return answer.statusCode ?? 0;
}

const [A, B, C] = ["127.0.1.1", "127.0.1.2", "127.0.1.3"];
const said = (address: string): string => `${address}:hello:bye`;
const TCP = (): readonly string[] => ["--tcp-services", "ingress-nginx/tcp-services", "--all-tcp-services"];

describe.skipIf(!haveHaproxy)("fairlead gateway follow", () => {
  /** Pods A, B and C, of which the first ones are endpoints of `shop/db` at a port of the gateway. */
  async function database(endpoints: readonly string[]) {
    const pods = new Pods();
    for (const address of [A, B, C]) await pods.start(address);
    const [dbPort = 0, otherPort = 0] = await freePorts(2);
    const podPort = await pods.port;
    const gateway = await startGateway(
      {
        "ports.yaml": [tcpServices({ [dbPort]: "shop/db:5432" })],
        "db.yaml": [service("db", podPort)],
        "db-slice.yaml": [slice("db", podPort, endpoints)],
      },
      TCP,
    );
    return { gateway, podPort, dbPort, otherPort };
  }

  test("an endpoint comes and leaves without a reload, and whoever is connected stays", async () => {
    const { gateway, podPort, dbPort } = await database([A]);
    expect(await talk(dbPort)).toBe(said(A));
    const { reloads, worker } = await gateway.master.processes();
    const held = connect({ port: dbPort, host: "127.0.0.1", allowHalfOpen: true });
    await once(held, "data");

    await gateway.write("db-slice.yaml", slice("db", podPort, [A, B]));
    await vi.waitFor(async () => expect(await counted(gateway, "servers")).toBe(1), WAIT);
    expect(new Set([await talk(dbPort), await talk(dbPort)])).toEqual(new Set([said(A), said(B)]));

    await gateway.write("db-slice.yaml", slice("db", podPort, [B]));
    await vi.waitFor(async () => expect(await counted(gateway, "servers")).toBe(2), WAIT);
    expect([await talk(dbPort), await talk(dbPort)]).toEqual([said(B), said(B)]);

    // It has been in maintenance since, with its connection.
    await gateway.write("db-slice.yaml", slice("db", podPort, [A]));
    await vi.waitFor(async () => expect(await counted(gateway, "servers")).toBe(3), WAIT);
    expect([await talk(dbPort), await talk(dbPort)]).toEqual([said(A), said(A)]);
    held.end("still here");
    expect(await readAll(held)).toBe("still here:bye");
    expect(await gateway.master.processes()).toMatchObject({ reloads, worker });
  });

  test("a service comes and leaves by a reload, and whoever is connected stays", async () => {
    const { gateway, dbPort, otherPort } = await database([A]);
    const held = connect({ port: dbPort, host: "127.0.0.1", allowHalfOpen: true });
    await once(held, "data");
    await gateway.write("ports.yaml", tcpServices({ [dbPort]: "shop/db:5432", [otherPort]: "shop/db:main" }));
    await vi.waitFor(async () => expect(await talk(otherPort)).toBe(said(A)), WAIT);
    await gateway.write("ports.yaml", tcpServices({ [otherPort]: "shop/db:main" }));
    await vi.waitFor(async () => await expect(talk(dbPort)).rejects.toThrow("ECONNREFUSED"), WAIT);
    expect(await talk(otherPort)).toBe(said(A));
    held.end("still here");
    expect(await readAll(held)).toBe("still here:bye");
  });

  test("20 changes, half of them reloads, while connections are opened without a pause: none is refused or broken", async () => {
    const { gateway, podPort, dbPort, otherPort } = await database([A]);
    let isOver = false;
    const answers = new Map<string, number>();
    const clients = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const answer = await talk(dbPort).catch((error: Error) => error.message);
        answers.set(answer, (answers.get(answer) ?? 0) + 1);
      }
    });
    // Requests over kept connections, which none may lose: a POST is never sent twice.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    closing.push(() => agent.destroy());
    const statuses = new Map<number | string, number>();
    const caller = (async () => {
      const sign = signer("k1", 1);
      while (!isOver) {
        const token = await sign(gateway.statusPort);
        const status = await post(gateway.port, token, agent).catch((error: Error) => error.message);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    })();
    for (let change = 0; change < 20; change += 2) {
      const [servers, reloads] = [await counted(gateway, "servers"), await counted(gateway, "reload")];
      await gateway.write("db-slice.yaml", slice("db", podPort, change % 4 === 0 ? [A, B] : [A, C]));
      await vi.waitFor(async () => expect(await counted(gateway, "servers")).toBe(servers + 1), WAIT);
      const extra = change % 4 === 0 ? { [otherPort]: "shop/db:5432" } : {};
      await gateway.write("ports.yaml", tcpServices({ [dbPort]: "shop/db:5432", ...extra }));
      await vi.waitFor(async () => expect(await counted(gateway, "reload")).toBe(reloads + 1), WAIT);
    }
    isOver = true;
    await Promise.all([...clients, caller]);
    expect([...answers.keys()].sort()).toEqual([A, B, C].map(said));
    expect([...statuses.keys()]).toEqual([200]);
  });

  test("a broken manifest costs nothing, and what is wrong is said in one sentence", async () => {
    const { gateway, podPort, dbPort } = await database([A]);
    await gateway.write("db-slice.yaml", "kind: EndpointSlice\nendpoints: [", service("db", podPort));
    await gateway.program.waitFor(gateway.program.stderr, /error: File .*db-slice\.yaml line \d+: /);
    expect(await talk(dbPort)).toBe(said(A));
    await gateway.write("db-slice.yaml", slice("db", podPort, [B]));
    await vi.waitFor(async () => expect(await talk(dbPort)).toBe(said(B)), WAIT);
  });

  test("a port that the gateway has itself, and one that somebody else has, cost their entries alone", async () => {
    const { gateway, dbPort, otherPort } = await database([A]);
    const [takenPort = 0] = await freePorts(1);
    const squatter = createServer().listen(takenPort, "127.0.0.1");
    await once(squatter, "listening");
    closing.push(() => squatter.close());
    await gateway.write(
      "ports.yaml",
      tcpServices({
        [dbPort]: "shop/db:5432",
        [gateway.port]: "shop/db:5432",
        [takenPort]: "shop/db:5432",
        [otherPort]: "shop/db:5432",
      }),
    );
    await vi.waitFor(async () => expect(await talk(otherPort)).toBe(said(A)), WAIT);
    expect(await talk(dbPort)).toBe(said(A));
    const { stderr } = gateway.program;
    await gateway.program.waitFor(stderr, new RegExp(`data\\[${gateway.port}\\]: .* gateway's --listen`));
    await gateway.program.waitFor(stderr, new RegExp(`data\\[${takenPort}\\]: .*EADDRINUSE`));
    squatter.close();
    await vi.waitFor(async () => expect(await talk(takenPort)).toBe(said(A)), WAIT);
  });

  test("what HAProxy refuses stays out: on disk and in memory the last good configuration stays", async () => {
    const authority = await createAuthority();
    closing.push(() => authority.close());
    const { cert, key: privateKey } = await authority.issue("gateway.example.com");
    const pods = new Pods();
    for (const address of [A, B]) await pods.start(address);
    const [dbPort = 0] = await freePorts(1);
    const podPort = await pods.port;
    const pem = `${cert}${privateKey}`;
    const database = (address: string): readonly unknown[] => [
      tcpServices({ [dbPort]: "shop/db:5432" }),
      service("db", podPort),
      slice("db", podPort, [address]),
    ];
    let certificateFile = "";
    const gateway = await startGateway(
      {
        "all.yaml": database(A),
      },
      async (folder) => {
        certificateFile = join(folder, "listen.pem");
        await writeFile(certificateFile, pem);
        return [...TCP(), "--listen-certificate", certificateFile];
      },
    );
    const before = await readFile(join(gateway.out, "current", "tls", "listen.pem"), "utf8");
    const { reloads } = await gateway.master.processes();

    await writeFile(certificateFile, "no certificate");
    const sentence = await gateway.program.waitFor(gateway.program.stderr, /refuses/);
    expect(sentence).toMatch(
      /^fairlead: HAProxy refuses the new configuration, and the last good one stays: .*listen\.pem.*\.$/,
    );
    expect(await readFile(join(gateway.out, "current", "tls", "listen.pem"), "utf8")).toBe(before);
    expect(await gateway.master.processes()).toMatchObject({ reloads });
    expect(await talk(dbPort)).toBe(said(A));
    expect(await (await fetch(`http://127.0.0.1:${gateway.statusPort}/readyz`)).text()).toContain(
      "is refused",
    );
    // Endpoints need no certificate.
    await gateway.write("all.yaml", ...database(B));
    await vi.waitFor(async () => expect(await talk(dbPort)).toBe(said(B)), WAIT);

    const renewed = await authority.issue("gateway.example.com");
    await writeFile(certificateFile, `${renewed.cert}${renewed.key}`);
    await vi.waitFor(async () => {
      const socket = connectTls({ port: gateway.port, host: "127.0.0.1", rejectUnauthorized: false });
      await once(socket, "secureConnect");
      const shown = socket.getPeerX509Certificate()?.serialNumber;
      socket.destroy();
      expect(shown).toBe(new X509Certificate(renewed.cert).serialNumber);
    }, WAIT);
    await isReady(gateway);
  });

  test("a key that is added to its file is accepted by the running HAProxy", async () => {
    const { gateway } = await database([A]);
    const sign = signer("k2", 2);
    const ask = async (): Promise<number> => {
      const token = await sign(gateway.statusPort);
      const url = `http://127.0.0.1:${gateway.port}/healthz`;
      return (await fetch(url, { headers: { [TOKEN_HEADER]: token } })).status;
    };
    expect(await ask()).toBe(403);
    await writeFile(join(gateway.folder, "keys"), `${key("k1", 1)}\n${key("k2", 2)}\n`);
    await vi.waitFor(async () => expect(await ask()).toBe(200), WAIT);
  });

  test("hosts with ssl-passthrough come with their first Ingress and leave with it", async () => {
    const authority = await createAuthority();
    closing.push(() => authority.close());
    const names = ["one.example.com", "two.example.com"] as const;
    const [listenPort = 0] = await freePorts(1);
    const objects = async (name: string): Promise<readonly unknown[]> => {
      const server = createTlsServer(await authority.issue(name), (socket) => {
        socket.on("error", () => {});
        socket.end(`this is ${name}`);
      });
      server.listen(0, A);
      await once(server, "listening");
      closing.push(() => server.close());
      const { port } = server.address() as AddressInfo;
      const label = name.slice(0, name.indexOf("."));
      return [service(label, port), slice(label, port, [A]), passthrough(label, name)];
    };
    const [one, two] = [await objects(names[0]), await objects(names[1])];
    const gateway = await startGateway({ "one.yaml": one }, () => [
      "--passthrough-listen",
      `127.0.0.1:${listenPort}`,
    ]);
    const ask = async (servername: string): Promise<string> =>
      await readAll(connectTls({ port: listenPort, host: "127.0.0.1", servername, ca: authority.ca }));
    expect(await ask(names[0])).toBe("this is one.example.com");
    expect(await ask(names[1]).catch(() => "")).toBe("");
    await gateway.write("two.yaml", ...two);
    await vi.waitFor(async () => expect(await ask(names[1])).toBe("this is two.example.com"), WAIT);
    await gateway.write("one.yaml", one[0]);
    await vi.waitFor(async () => expect(await ask(names[0]).catch(() => "")).toBe(""), WAIT);
    expect(await ask(names[1])).toBe("this is two.example.com");
  });

  test("either of them may start anew: the configuration stays, and changes go on", async () => {
    const { gateway, podPort, dbPort } = await database([A]);
    await gateway.program.end();
    expect(await talk(dbPort)).toBe(said(A));
    await gateway.write("db-slice.yaml", slice("db", podPort, [B]));
    await gateway.startProgram();
    await vi.waitFor(async () => expect(await talk(dbPort)).toBe(said(B)), WAIT);

    await gateway.stopHaproxy();
    await gateway.write("db-slice.yaml", slice("db", podPort, [C]));
    await gateway.startHaproxy();
    await vi.waitFor(async () => expect(await talk(dbPort)).toBe(said(C)), WAIT);
    await gateway.write("db-slice.yaml", slice("db", podPort, [A]));
    await vi.waitFor(async () => expect(await talk(dbPort)).toBe(said(A)), WAIT);
  });

  test("without a folder of manifests or a cluster it says what is missing", async () => {
    const flags = ["gateway", "follow", "--out", "x", "--master-socket", "/x", "--allow-loopback"];
    const program = new FairleadProgram([...flags, "--tcp-services", "a/b"], {
      FAIRLEAD_GATEWAY_KEYS: key("k", 1),
    });
    expect(await program.exit()).toBe(2);
    expect(program.stderr).toEqual([
      "fairlead: --tcp-services needs -f PATH or --kubernetes: the objects that it is about.",
    ]);
  });
});
