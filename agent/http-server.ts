/** A small HTTP server: one function answers every request. Health checkers and Prometheus are its clients. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface HttpServer {
  readonly port: number;
  readonly close: () => Promise<void>;
}

/** A checker that opens a connection and says nothing is not waited for. */
const REQUEST_TIMEOUT_MS = 5_000;

/** `::` is IPv4's addresses, too, unless IPv6 alone is meant. Port 0 means any free one. */
export interface HttpAddress {
  readonly host: string;
  readonly port: number;
  readonly ipv6Only?: boolean;
}

/** `path` is without the query. Rejects when the address cannot be had. */
export async function serveHttp(
  address: HttpAddress,
  answer: (path: string) => HttpAnswer | Promise<HttpAnswer>,
): Promise<HttpServer> {
  const server = createServer((request, response) => {
    request.resume();
    const [path = "/"] = (request.url ?? "/").split("?");
    const send = ({ status, headers, body }: HttpAnswer): void => {
      response.writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body) });
      response.end(request.method === "HEAD" ? undefined : body);
    };
    const answered = answer(path);
    if (answered instanceof Promise) answered.then(send, (error: unknown) => send(failed(error)));
    else send(answered);
  });
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(address, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function failed(error: unknown): HttpAnswer {
  return {
    status: 500,
    headers: { "Content-Type": "text/plain; charset=utf-8" },
    body: `${error instanceof Error ? error.message : String(error)}\n`,
  };
}

export const JSON_HEADERS = {
  "Content-Type": "application/json",
  "X-Content-Type-Options": "nosniff",
} as const;

export const NOT_FOUND: HttpAnswer = {
  status: 404,
  headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" },
  body: "404 page not found\n",
};
