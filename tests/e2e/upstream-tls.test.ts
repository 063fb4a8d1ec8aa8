/** TLS towards pods, with a private authority: who shows what, who is believed, and what a wrong certificate costs. */

import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createAuthority } from "../gateway/certificates.ts";
import { serviceManifests } from "./support/backend.ts";
import { Edge, ingress } from "./support/edge.ts";

let edge: Edge;
const closing: (() => unknown)[] = [];

/** A pod that tells who its client is and which name the handshake had. */
async function pod(options: {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
  readonly asks?: true;
}) {
  const { asks, ...tls } = options;
  const server: Server = createServer(
    { ...tls, requestCert: asks === true, rejectUnauthorized: asks === true },
    (request, response) => {
      const socket = request.socket as TLSSocket;
      const subject = socket.getPeerCertificate()?.subject as { readonly CN?: string } | undefined;
      response.end(
        JSON.stringify({
          client: subject?.CN ?? null,
          sni: socket.servername || null,
          host: request.headers.host,
        }),
      );
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => server.close());
  return { port: (server.address() as AddressInfo).port };
}

beforeAll(async () => {
  const authority = await createAuthority();
  closing.push(() => authority.close());
  const own = await authority.issue("web.internal");
  const client = await authority.issue("the-gateway");
  const plain = await pod(own);
  const strict = await pod({ ...own, ca: authority.ca, asks: true });
  const secret = (name: string, data: Readonly<Record<string, string>>) =>
    JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name }, stringData: data });
  const site = (service: string, name: string, annotations: Readonly<Record<string, string>>) =>
    ingress(service, {
      name,
      host: `${name}.example.com`,
      annotations: { "backend-protocol": "HTTPS", ...annotations },
    });
  edge = await Edge.start({
    manifests: [
      serviceManifests("plain", [plain]),
      serviceManifests("strict", [strict]),
      secret("pods", { "ca.crt": authority.ca, "tls.crt": client.cert, "tls.key": client.key }),
      secret("authority", { "ca.crt": authority.ca }),
      site("plain", "unverified", {}),
      site("plain", "verified", {
        "proxy-ssl-secret": "default/authority",
        "proxy-ssl-verify": "on",
        "proxy-ssl-name": "web.internal",
      }),
      site("plain", "wrong-name", {
        "proxy-ssl-secret": "default/authority",
        "proxy-ssl-verify": "on",
        "proxy-ssl-name": "other.internal",
      }),
      site("plain", "named", { "proxy-ssl-secret": "default/authority", "proxy-ssl-server-name": "on" }),
      site("plain", "alone", { "proxy-ssl-verify": "on" }),
      site("strict", "certificate", { "proxy-ssl-secret": "default/pods" }),
      site("strict", "no-certificate", {}),
      site("plain", "missing", { "proxy-ssl-secret": "default/nowhere" }),
    ].join("\n---\n"),
  });
}, 60_000);

afterAll(async () => {
  await edge.stop();
  for (const close of closing) await close();
});

const ask = async (name: string) => {
  const reply = await edge.request({ host: `${name}.example.com` });
  return reply.status === 200 ? (JSON.parse(reply.text) as Readonly<Record<string, unknown>>) : reply.status;
};

test.each([
  ["unverified", { client: null, sni: null }],
  ["verified", { client: null, sni: "web.internal" }],
  ["wrong-name", 502],
  ["named", { client: null, sni: "named.example.com" }],
  ["alone", { client: null, sni: null }],
  ["certificate", { client: "the-gateway" }],
  ["no-certificate", 502],
  ["missing", 503],
] as const)("%s", async (name, want) => {
  const got = await ask(name);
  if (typeof want === "number") expect(got).toBe(want);
  else expect(got).toMatchObject({ host: `${name}.example.com`, ...want });
});
