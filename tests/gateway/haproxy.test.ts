/**
 * What HAProxy alone has, beyond the contract: `fairlead gateway render` by its command line, the health page,
 * metrics, TLS towards the Worker, changes without a restart. The real `haproxy`, over sockets.
 */

import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { Agent, createServer, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createTokenSigner,
  GATEWAY_ERROR_HEADER,
  parseTokenKeys,
  TOKEN_HEADER,
} from "../../edge-config/gateway-token.ts";
import { freePorts } from "../free-ports.ts";
import { createAuthority } from "./certificates.ts";
import { haveHaproxy, startRendered } from "./haproxy.ts";

const KEY = `now:${"bm93".repeat(11)}`;
const NEXT_KEY = `next:${"bmV4".repeat(11)}`;

/** A database with TLS of its own: its pod of another network is not to be dialled. */
const PASSED_ON = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: vault, annotations: { nginx.ingress.kubernetes.io/ssl-passthrough: "true" } }
spec:
  rules: [{ host: vault.example.com, http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: db, port: { number: 5432 } } } }] } }]
---
apiVersion: v1
kind: Service
metadata: { name: db }
spec: { ports: [{ port: 5432 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: db-1, labels: { kubernetes.io/service-name: db } }
addressType: IPv4
ports: [{ port: 5432 }]
endpoints: [{ addresses: [10.180.0.1] }, { addresses: [10.190.0.1] }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: db-2, labels: { kubernetes.io/service-name: db } }
addressType: IPv6
ports: [{ port: 5432 }]
endpoints: [{ addresses: ["fd00::1"] }]
---
apiVersion: v1
kind: ConfigMap
metadata: { name: tcp-services }
data:
  "443": default/db:5432
  "9000": default/db:5432
  "9001": default/db:5432:PROXY:PROXY
  "9003": default/none:1::PROXY
`;

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

let folder: string;
beforeEach(async ({ skip }) => {
  skip(!haveHaproxy, "haproxy is not installed");
  folder = await mkdtemp(join(tmpdir(), "fairlead-gateway-"));
  cleanUps.push(() => rm(folder, { recursive: true, force: true }));
});

/** Runs `fairlead gateway render`. */
async function render(
  flags: readonly string[],
  environment: Readonly<Record<string, string>> = { FAIRLEAD_GATEWAY_KEYS: KEY },
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const main = join(import.meta.dirname, "../../cli/main.ts");
  try {
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [main, "gateway", "render", ...flags],
      { env: { PATH: process.env.PATH, ...environment } },
    );
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as { code: number; stdout: string; stderr: string };
  }
}

interface Started {
  readonly port: number;
  readonly healthPort: number;
  readonly adminSocket: string;
}

/** Renders by the command line and starts HAProxy with the result. */
async function startWith(...flags: readonly string[]): Promise<Started> {
  const [port = 0, healthPort = 0] = await freePorts(2);
  const adminSocket = join(folder, "admin.sock");
  const { code, stderr } = await render([
    ...["--out", folder, "--allow-loopback", "--admin-socket", adminSocket, "--max-connections", "200"],
    ...["--listen", `127.0.0.1:${port}`, "--health-listen", `127.0.0.1:${healthPort}`, "--drain", "1"],
    ...flags,
  ]);
  expect([code, stderr]).toEqual([0, ""]);
  const running = await startRendered(folder);
  cleanUps.push(() => running.close());
  return { port, healthPort, adminSocket };
}

/** A pod that answers with its name, and with the `Host` that it saw. */
async function pod(name: string): Promise<number> {
  const server = createServer((request, response) => response.end(`${name} ${request.headers.host}`));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

function sign(port: number, host = "shop.example", key = KEY): Promise<string> {
  const signer = createTokenSigner(parseTokenKeys(key));
  return Promise.resolve(signer.sign({ address: "127.0.0.1", port, scheme: "http", host }, Date.now()));
}

interface Answer {
  readonly status: number | undefined;
  readonly error: string | string[] | undefined;
  readonly body: string;
}

async function get(
  port: number,
  headers: Readonly<Record<string, string>> = {},
  options: { readonly path?: string; readonly agent?: Agent } = {},
): Promise<Answer> {
  const request = httpRequest({ host: "127.0.0.1", port, headers, ...options }).end();
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  return {
    status: answer.statusCode,
    error: answer.headers[GATEWAY_ERROR_HEADER],
    body: await text(answer),
  };
}

async function tellHaproxy(socketPath: string, command: string): Promise<string> {
  const socket = connect(socketPath);
  socket.end(`${command}\n`);
  return text(socket);
}

describe("fairlead gateway render", () => {
  test("writes what HAProxy finds no fault with, and keeps keys to their owner", async () => {
    const { code, stdout } = await render(["--out", folder, "--allowed-cidrs", "10.244.0.0/16,fd00::/8"]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toContain(join(folder, "haproxy.cfg"));
    const checked = await promisify(execFile)("haproxy", ["-c", "-f", join(folder, "haproxy.cfg")]);
    expect(`${checked.stdout}${checked.stderr}`).not.toMatch(/WARNING|ALERT/);
    expect((await stat(join(folder, "keys.map"))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(folder, "allowed-ipv4.acl"), "utf8")).toBe("10.244.0.0/16\n");
    expect(await readFile(join(folder, "allowed-ipv6.acl"), "utf8")).toBe("fd00::/8\n");
    expect(await readFile(join(folder, "haproxy.cfg"), "utf8")).not.toContain("bm93");
  });

  test("takes keys from a file, one a line", async () => {
    const file = join(folder, "keys");
    await writeFile(file, `${KEY}\n${NEXT_KEY}\n`);
    const flags = ["--out", folder, "--allowed-cidrs", "10.0.0.0/8", "--keys-file", file];
    expect((await render(flags, {})).code).toBe(0);
    expect(await readFile(join(folder, "keys.map"), "utf8")).toBe(
      `${KEY.replace(":", " ")}\n${NEXT_KEY.replace(":", " ")}\n`,
    );
  });

  test("reads from manifests what is passed on as TCP, and tells what cannot be", async () => {
    const manifests = join(folder, "manifests.yaml");
    await writeFile(manifests, PASSED_ON);
    const { code, stderr } = await render([
      ...["--out", folder, "--allowed-cidrs", "10.180.0.0/16,fd00::/8", "-f", manifests],
      ...[
        "--passthrough-listen",
        ":8443",
        "--passthrough-accept-proxy",
        "--passthrough-otherwise",
        "10.9.9.9:443",
      ],
      ...["--tcp-services", "default/tcp-services", "--proxy-protocol", "v2"],
    ]);
    expect([code, stderr.trim().split("\n").sort()]).toEqual([
      0,
      [
        "warning: ConfigMap default/tcp-services data[9003]: Service default/none does not exist; the port is closed until there is one.",
        "error: ConfigMap default/tcp-services data[443]: port 443 is reserved (HTTPS), as in ingress-nginx; the entry is ignored",
      ].sort(),
    ]);
    const checked = await promisify(execFile)("haproxy", ["-c", "-f", join(folder, "haproxy.cfg")]);
    expect(`${checked.stdout}${checked.stderr}`).not.toMatch(/WARNING|ALERT/);
    expect(await readFile(join(folder, "passthrough.map"), "utf8")).toBe(
      "vault.example.com tls:default:db:5432\n",
    );
    const written = (await readFile(join(folder, "haproxy.cfg"), "utf8")).split("\n");
    expect(written.filter((line) => /^ *(bind|server|frontend|backend) /.test(line)).slice(-12)).toEqual([
      "frontend passthrough",
      "    bind :8443 accept-proxy",
      "backend tls:default:db:5432",
      "    server 10.180.0.1:5432 10.180.0.1:5432",
      "    server fd00::1:5432 [fd00::1]:5432",
      "backend tls-otherwise",
      "    server 10.9.9.9:443 10.9.9.9:443",
      "frontend tcp:9001",
      "    bind :9001 accept-proxy",
      "backend tcp:9001",
      "    server 10.180.0.1:5432 10.180.0.1:5432 send-proxy-v2",
      "    server fd00::1:5432 [fd00::1]:5432 send-proxy-v2",
    ]);
  });

  test.each([
    ["no keys", ["--allowed-cidrs", "10.0.0.0/8"], {}, "FAIRLEAD_GATEWAY_KEYS"],
    ["a short key", ["--allowed-cidrs", "10.0.0.0/8"], { FAIRLEAD_GATEWAY_KEYS: "a:eA==" }, "32 bytes"],
    ["no CIDRs", [], undefined, "--allowed-cidrs"],
    ["a wrong CIDR", ["--allowed-cidrs", "10.0.0.0/33"], undefined, "10.0.0.0/33"],
    [
      "a line break in an address",
      ["--allowed-cidrs", "10.0.0.0/8", "--listen", ":1\nx"],
      undefined,
      "IP:PORT",
    ],
  ] as const)("says in one sentence what is wrong: %s", async (_, flags, environment, sentence) => {
    const { code, stderr } = await render(["--out", folder, ...flags], environment);
    expect([code, stderr.trim().split("\n").length]).toEqual([2, 1]);
    expect(stderr).toContain(sentence);
  });
});

describe("HAProxy, beyond the contract", () => {
  test("sends each of 10000 requests, many at once, to its own pod with its own Host", async () => {
    const { port } = await startWith();
    const pods = await Promise.all(["a", "b", "c"].map(async (name) => ({ name, port: await pod(name) })));
    const agent = new Agent({ keepAlive: true, maxSockets: 20 });
    cleanUps.push(async () => agent.destroy());
    const wrong: string[] = [];
    const signer = createTokenSigner(parseTokenKeys(KEY));
    await Promise.all(
      Array.from({ length: 10_000 }, async (_, n) => {
        const { name, port: podPort } = pods[n % 3] ?? { name: "", port: 0 };
        const host = `${n % 7}.example`;
        const token = await signer.sign(
          { address: "127.0.0.1", port: podPort, scheme: "http", host },
          Date.now(),
        );
        const { body } = await get(port, { [TOKEN_HEADER]: token }, { agent });
        if (body !== `${name} ${host}`) wrong.push(`${n}: ${body}`);
      }),
    );
    expect(wrong).toEqual([]);
  }, 120_000);

  test("has a health page and metrics, on a port of their own", async () => {
    const { port, healthPort } = await startWith();
    expect((await get(healthPort, {}, { path: "/healthz" })).status).toBe(200);
    expect((await get(healthPort, {}, { path: "/metrics" })).body).toContain("haproxy_process_");
    expect((await get(port, {}, { path: "/metrics" })).status).toBe(403);
  });

  test("takes new keys and networks, and forgets old ones, without a restart", async () => {
    const { port, adminSocket } = await startWith("--allowed-cidrs", "10.0.0.0/8");
    const podPort = await pod("a");
    const tokens = [await sign(podPort, "shop.example", KEY), await sign(podPort, "shop.example", NEXT_KEY)];
    const statuses = async (): Promise<readonly unknown[]> =>
      await Promise.all(tokens.map(async (token) => (await get(port, { [TOKEN_HEADER]: token })).status));
    expect(await statuses()).toEqual([200, 403]);
    await tellHaproxy(adminSocket, `add map keys.map ${NEXT_KEY.replace(":", " ")}`);
    expect(await statuses()).toEqual([200, 200]);
    // The token is known to be right; without its key it is not.
    await tellHaproxy(adminSocket, "del map keys.map now");
    expect(await statuses()).toEqual([403, 200]);
    await tellHaproxy(adminSocket, `add map keys.map now ${NEXT_KEY.slice(NEXT_KEY.indexOf(":") + 1)}`);
    expect(await statuses()).toEqual([403, 200]);
    await tellHaproxy(adminSocket, `set map keys.map now ${KEY.slice(KEY.indexOf(":") + 1)}`);
    expect(await statuses()).toEqual([200, 200]);

    const far = createTokenSigner(parseTokenKeys(NEXT_KEY)).sign(
      // With a Secret that is not there, it is not dialled even when it is allowed.
      { address: "192.0.2.1", port: 1, scheme: "https", host: "shop.example", tlsSecret: "shop/none" },
      Date.now(),
    );
    const toFar = async (): Promise<unknown> => (await get(port, { [TOKEN_HEADER]: await far })).error;
    expect(await toFar()).toBe("address");
    await tellHaproxy(adminSocket, "add acl allowed-ipv4.acl 192.0.2.0/24");
    expect(await toFar()).toBe("connect");
  });

  test.each([
    ["10.1.2.3", "connect"],
    ["10.2.0.1", "address"],
    ["2001:db8::1", "connect"],
    ["2001:db9::1", "address"],
    ["::ffff:10.1.2.3", "connect"], // Is 10.1.2.3.
    ["::ffff:a02:1", "address"],
    ["::ffff:169.254.169.254", "address"],
    ["2002:a01:203::1", "address"], // 6to4 of 10.1.2.3.
    ["0x0a010203", "connect"], // A name, which does not resolve.
  ])("says of %s, with networks of both families allowed: %s", async (address, error) => {
    const { port } = await startWith(
      ...["--allowed-cidrs", "10.1.0.0/16,2001:db8::/32", "--nameservers", "127.0.0.1:9"],
    );
    const token = createTokenSigner(parseTokenKeys(KEY)).sign(
      { address, port: 1, scheme: "https", host: "shop.example", tlsSecret: "shop/none" },
      Date.now(),
    );
    expect((await get(port, { [TOKEN_HEADER]: await token })).error).toBe(error);
  });

  test.each([
    ["no key id", { 0: "" }],
    ["an unknown key id", { 0: "other" }],
    ["no expiry", { 1: "" }],
    ["an expiry of words", { 1: "never" }],
    ["an unknown scheme", { 2: "ftp" }],
    ["a verify that is not `on`", { 2: "https", 3: "off" }],
    ["no address", { 5: "" }],
    ["port 0", { 6: "0" }],
    ["port 65536", { 6: "65536" }],
    ["no port", { 6: "" }],
    ["no host", { 7: "" }],
    ["a tab in its host", { 7: "a\tx:" }],
    ["a field too many", { 9: "1|" }],
  ] as const)("refuses a token with %s", async (_, changes) => {
    const { port } = await startWith();
    const exp = String(Math.floor(Date.now() / 1_000) + 100);
    const right = ["now", exp, "http", "", "", "127.0.0.1", String(await pod("a")), "shop.example", "", ""];
    const key = Buffer.from(KEY.slice(4), "base64");
    const ask = async (fields: readonly string[]): Promise<Answer> => {
      const signed = fields.join("|");
      const signature = createHmac("sha256", key).update(signed).digest("base64url");
      return await get(port, { [TOKEN_HEADER]: `${signature}|${signed}` });
    };
    const wrong = await ask(Object.assign([...right], changes));
    expect([wrong.status, wrong.error]).toEqual([403, "token"]);
    expect((await ask(right)).status).toBe(200);
  });

  test("takes 100 KB of headers when told to", async () => {
    const { port } = await startWith("--max-head", "128");
    const headers = Object.fromEntries(
      Array.from({ length: 10 }, (_, n) => [`x-large-${n}`, "x".repeat(10_000)]),
    );
    const server = createServer({ maxHeaderSize: 200_000 }, (request, response) =>
      response.end(String(request.rawHeaders.join("").length > 100_000)),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanUps.push(() => new Promise((resolve) => server.close(resolve)));
    cleanUps.push(async () => server.closeAllConnections());
    const token = await sign((server.address() as AddressInfo).port);
    expect((await get(port, { ...headers, [TOKEN_HEADER]: token })).body).toBe("true");
  });

  test("settles `Expect: 100-continue` itself", async () => {
    const { port } = await startWith();
    const server = createServer(async (request, response) =>
      response.end(JSON.stringify([request.headers.expect ?? null, await text(request)])),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanUps.push(() => new Promise((resolve) => server.close(resolve)));
    cleanUps.push(async () => server.closeAllConnections());
    const token = await sign((server.address() as AddressInfo).port);
    const request = httpRequest({
      ...{ host: "127.0.0.1", port, method: "POST" },
      headers: { [TOKEN_HEADER]: token, expect: "100-continue", "content-length": "5" },
    });
    request.flushHeaders();
    await once(request, "continue");
    request.end("hello");
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    expect(JSON.parse(await text(answer))).toEqual([null, "hello"]);
  });

  test("listens with TLS, and reads the Secrets of pods from a folder", async () => {
    const authority = await createAuthority();
    cleanUps.push(() => authority.close());
    const { cert, key } = await authority.issue("gateway.example");
    await writeFile(join(folder, "listen.pem"), cert + key);
    const secret = join(folder, "secrets", "shop", "backend");
    await mkdir(secret, { recursive: true });
    await Promise.all([
      writeFile(join(secret, "ca.crt"), authority.ca),
      writeFile(join(secret, "tls.crt"), cert),
      writeFile(join(secret, "tls.key"), key),
    ]);
    const { port } = await startWith(
      ...["--listen-certificate", join(folder, "listen.pem"), "--tls-secrets", join(folder, "secrets")],
    );
    expect(await readFile(join(folder, "backends.map"), "utf8")).toContain(
      "https|on|shop/backend|reuse https:verified:shop:backend\n",
    );
    const request = httpsRequest({
      ...{ host: "127.0.0.1", port, servername: "gateway.example", ca: authority.ca, agent: false },
      headers: { [TOKEN_HEADER]: await sign(await pod("a")) },
    }).end();
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    expect(await text(answer)).toBe("a shop.example");
  });
});
