/** A stand-in for the two parts of Cloudflare's API that `fairlead tls apply` calls, with its envelopes, pages and refusals. */

import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

export interface ZoneServer {
  readonly url: string;
  readonly hostnames: { id: string; hostname: string; ssl: Record<string, unknown> }[];
  readonly certificates: {
    id: string;
    hosts: string[];
    expires_on: string;
    body: Record<string, unknown>;
  }[];
  /** `METHOD path` of every call that changes something. */
  readonly changes: string[];
  /** Host names that are refused, as one that another zone has. */
  readonly refused: Set<string>;
  readonly close: () => Promise<void>;
}

export const TOKEN = "token-of-the-test";
export const ZONE_ID = "0123456789abcdef0123456789abcdef";

export async function startZoneServer(
  describeCertificate: (pem: string) => { readonly hosts: string[]; readonly expires_on: string },
): Promise<ZoneServer> {
  const state: Omit<ZoneServer, "url" | "close"> = {
    hostnames: [],
    certificates: [],
    changes: [],
    refused: new Set(),
  };
  let serial = 0;
  const answer = async (request: IncomingMessage): Promise<[status: number, body: object]> => {
    const refuse = (status: number, code: number, message: string): [number, object] => [
      status,
      { success: false, errors: [{ code, message }], messages: [], result: null },
    ];
    const url = new URL(request.url ?? "", "http://api.test");
    if (request.headers.authorization !== `Bearer ${TOKEN}`)
      return refuse(403, 10_000, "Authentication error");
    const path = url.pathname.replace(`/client/v4/zones/${ZONE_ID}`, "");
    const page = (items: readonly object[]): [number, object] => {
      const size = 2; // Small, so that there are several.
      const at = Number(url.searchParams.get("page")) - 1;
      return [
        200,
        {
          success: true,
          errors: [],
          messages: [],
          result: items.slice(at * size, (at + 1) * size),
          result_info: {
            page: at + 1,
            per_page: size,
            total_pages: Math.max(1, Math.ceil(items.length / size)),
          },
        },
      ];
    };
    const done = (result: object): [number, object] => [
      200,
      { success: true, errors: [], messages: [], result },
    ];
    if (request.method === "GET" && path === "/custom_hostnames") return page(state.hostnames);
    if (request.method === "GET" && path === "/custom_certificates") return page(state.certificates);
    const body = (await json(request)) as Record<string, unknown>;
    state.changes.push(`${request.method} ${path}`);
    if (request.method === "POST" && path === "/custom_hostnames") {
      const hostname = String(body.hostname);
      if (state.refused.has(hostname)) return refuse(409, 1406, "Duplicate custom hostname found.");
      const made = {
        id: `h${serial++}`,
        hostname,
        ssl: { ...(body.ssl as object), status: "pending_validation" },
      };
      state.hostnames.push(made);
      return done(made);
    }
    const stored = (id: string): ZoneServer["certificates"][number] => ({
      id,
      ...describeCertificate(String(body.certificate)),
      body,
    });
    if (request.method === "POST" && path === "/custom_certificates") {
      const made = stored(`c${serial++}`);
      state.certificates.push(made);
      return done(made);
    }
    const id = /^\/custom_certificates\/(\w+)$/.exec(path)?.[1];
    const at = state.certificates.findIndex((one) => one.id === id);
    if (request.method === "PATCH" && id !== undefined && at !== -1) {
      state.certificates[at] = stored(id);
      return done(state.certificates[at] ?? {});
    }
    return refuse(404, 7003, "Could not route to the path");
  };
  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    ...state,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/client/v4`,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
