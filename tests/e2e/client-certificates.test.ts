/** `auth-tls-*` in `fairlead dev --protocol https`: real handshakes, verified by the Secret's authority. */

import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Certificate, createAuthority } from "../gateway/certificates.ts";
import type { Echo } from "./support/backend.ts";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
const closing: (() => unknown)[] = [];
const clients = new Map<string, Certificate>();

beforeAll(async () => {
  const made = await createAuthority();
  const foreign = await createAuthority();
  closing.push(made.close, foreign.close);
  const below = await made.intermediate("Below");
  clients.set("alice", await made.issue("alice"));
  clients.set("bob", await made.issue("bob"));
  clients.set("expired", await made.issue("expired", -1));
  clients.set("chained", await below.issue("chained"));
  clients.set("foreign", await foreign.issue("alice"));
  const host = (name: string, annotations: Readonly<Record<string, string>>): string =>
    ingress("echo", {
      name,
      host: `${name}.example.com`,
      annotations: { "auth-tls-secret": "default/clients", ...annotations },
    });
  edge = await Edge.start({
    args: ["--protocol", "https"],
    backends: { echo: 1 },
    manifests: [
      JSON.stringify({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "clients" },
        stringData: { "ca.crt": made.ca },
      }),
      JSON.stringify({
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "others" },
        stringData: { "ca.crt": foreign.ca },
      }),
      host("on", {}),
      host("off", { "auth-tls-verify-client": "off" }),
      host("optional", { "auth-tls-verify-client": "optional" }),
      host("no-ca", { "auth-tls-verify-client": "optional_no_ca" }),
      host("depth", { "auth-tls-verify-depth": "0" }),
      host("page", { "auth-tls-error-page": "https://www.example.com/no-certificate" }),
      host("pass", { "auth-tls-pass-certificate-to-upstream": "true" }),
      host("cn", { "auth-tls-match-cn": "CN=al(ice|an)" }),
      host("others", { "auth-tls-secret": "default/others" }),
      host("missing", { "auth-tls-secret": "default/nowhere" }),
      ingress("echo", { host: "open.example.com" }),
    ].join("\n---\n"),
  });
}, 60_000);

afterAll(async () => {
  await edge?.stop();
  for (const close of closing) await close();
});

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
  readonly body: string;
  readonly echo: Echo;
}

/** `sni`: of the handshake, where it is not the host's own. */
async function ask(
  name: string,
  client?: string,
  {
    sni = name,
    headers = {},
    method = "GET",
  }: { sni?: string; headers?: Record<string, string>; method?: string } = {},
): Promise<Answer> {
  const { cert, key } = clients.get(client ?? "") ?? {};
  const request = httpsRequest({
    host: "127.0.0.1",
    port: edge.url.port,
    method,
    path: "/x?y=1",
    headers: { host: `${name}.example.com`, ...headers },
    servername: `${sni}.example.com`,
    rejectUnauthorized: false,
    agent: false,
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  }).end();
  const answer = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
    request.once("response", resolve);
    request.once("error", reject);
  });
  const body = await text(answer);
  return {
    status: answer.statusCode ?? 0,
    location: answer.headers.location,
    body,
    get echo() {
      return JSON.parse(body) as Echo;
    },
  };
}

const NOT_SENT = [400, /<title>400 No required SSL certificate was sent<\/title>/] as const;
const WRONG = [400, /<title>400 The SSL certificate error<\/title>/] as const;

describe("who may come in", () => {
  test.each([
    ["on", undefined, ...NOT_SENT],
    ["on", "alice", 200, /"x-request-id"/],
    ["on", "foreign", ...WRONG],
    ["on", "expired", ...WRONG],
    ["on", "chained", 200, /"x-request-id"/],
    ["off", undefined, 200, /"x-request-id"/],
    ["off", "alice", 200, /"x-request-id"/],
    ["optional", undefined, 200, /"x-request-id"/],
    ["optional", "alice", 200, /"x-request-id"/],
    ["optional", "foreign", ...WRONG],
    ["no-ca", "foreign", 200, /"x-request-id"/],
    ["no-ca", "expired", ...WRONG],
    ["no-ca", undefined, 200, /"x-request-id"/],
    ["depth", "alice", 200, /"x-request-id"/],
    ["depth", "chained", ...WRONG],
    ["cn", "alice", 200, /"x-request-id"/],
    ["cn", "bob", 403, /^client certificate unauthorized$/],
    ["cn", undefined, ...NOT_SENT],
    ["others", "foreign", 200, /"x-request-id"/],
    ["others", "alice", ...WRONG],
    ["missing", "alice", 403, /<title>403 Forbidden/],
    ["open", undefined, 200, /"x-request-id"/],
  ] as const)("%s with %s: %d", async (name, client, status, body) => {
    const answer = await ask(name, client);
    expect([answer.status, answer.body]).toEqual([status, expect.stringMatching(body)]);
  });

  test("who may not is sent to the error page, where there is one", async () => {
    for (const client of [undefined, "foreign"]) {
      const { status, location } = await ask("page", client);
      expect([status, location]).toEqual([302, "https://www.example.com/no-certificate"]);
    }
    expect((await ask("page", "alice")).status).toBe(200);
  });

  test("nothing of a host is told to who may not: preflights and unknown paths are 400 too", async () => {
    expect((await ask("on", undefined, { method: "OPTIONS" })).status).toBe(400);
  });

  test("a certificate counts for the host that it was verified for, whatever the handshake named", async () => {
    expect((await ask("on", "alice", { sni: "open" })).status).toBe(400);
    expect((await ask("on", "alice", { sni: "on" })).status).toBe(200);
    expect((await ask("on", "foreign", { sni: "others" })).status).toBe(400);
    expect((await ask("on", "foreign", { sni: "no-ca" })).status).toBe(400);
    expect((await ask("optional", "alice", { sni: "on" })).status).toBe(200);
  });

  test("what a client claims in headers counts for nothing", async () => {
    const auth = {
      certPresented: "1",
      certVerified: "SUCCESS",
      certRevoked: "0",
      certIssuerDNRFC2253: "CN=Test authority",
    };
    const headers = { "mf-cf-blob": JSON.stringify({ tlsClientAuth: auth }), "ssl-client-verify": "SUCCESS" };
    expect((await ask("on", undefined, { headers })).status).toBe(400);
  });
});

describe("what pods are told", () => {
  const told = ({ echo }: Answer): unknown => {
    const { headers } = echo;
    return ["verify", "subject-dn", "issuer-dn"].map((name) => headers[`ssl-client-${name}`]);
  };

  test("the verdict, subject and issuer", async () => {
    expect(told(await ask("on", "alice"))).toEqual(["SUCCESS", "CN=alice", "CN=Test authority"]);
    expect(told(await ask("on", "chained"))).toEqual(["SUCCESS", "CN=chained", "CN=Below"]);
    expect(told(await ask("optional"))).toEqual(["NONE", undefined, undefined]);
    expect(told(await ask("off", "alice"))).toEqual(["NONE", undefined, undefined]);
    expect(told(await ask("no-ca", "foreign"))).toEqual([
      expect.stringMatching(/^FAILED:unable to (get local issuer certificate|verify the first certificate)$/),
      "CN=alice",
      "CN=Test authority",
    ]);
  });

  test("the certificate itself where it is asked for, escaped as nginx does", async () => {
    const { headers } = (await ask("pass", "alice")).echo;
    const sent = String(headers["ssl-client-cert"]);
    expect(sent).toMatch(/^-----BEGIN%20CERTIFICATE-----%0A[A-Za-z0-9%]+-----END%20CERTIFICATE-----%0A$/);
    expect(decodeURIComponent(sent)).toBe(clients.get("alice")?.cert);
    expect((await ask("on", "alice")).echo.headers).not.toHaveProperty("ssl-client-cert");
  });

  test("nothing that a client says of itself", async () => {
    const headers = {
      "ssl-client-verify": "SUCCESS",
      "ssl-client-subject-dn": "CN=root",
      "ssl-client-issuer-dn": "CN=root",
      "ssl-client-cert": "x",
    };
    const { echo } = await ask("optional", undefined, { headers });
    expect(Object.keys(echo.headers).filter((name) => name.startsWith("ssl-"))).toEqual([
      "ssl-client-verify",
    ]);
    expect(echo.headers["ssl-client-verify"]).toBe("NONE");
    // Hosts without the annotation pass headers on as they come.
    expect((await ask("open", undefined, { headers })).echo.headers["ssl-client-verify"]).toBe("SUCCESS");
  });

  test("keep-alive connections keep their certificate", async () => {
    const { Agent } = await import("node:https");
    const agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      rejectUnauthorized: false,
      ...clients.get("alice"),
    });
    for (let i = 0; i < 3; i++) {
      const request = httpsRequest({
        host: "127.0.0.1",
        port: edge.url.port,
        headers: { host: "on.example.com" },
        servername: "on.example.com",
        agent,
      }).end();
      const status = await new Promise((resolve) => {
        request.once("response", (answer) => {
          answer.resume();
          answer.once("end", () => resolve(answer.statusCode));
        });
      });
      expect([status, request.reusedSocket]).toEqual([200, i > 0]);
    }
    agent.destroy();
  });
});
