/**
 * A real HTTP server that imitates the KV part of Cloudflare's API: five operations, its envelope, its
 * limits, and the ways in which it is documented to fail.
 *
 * A fault is chosen for each request by `server.fault`. Every fault can strike before the request had its
 * effect or after it, for a caller cannot tell the two apart.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Operation = "get" | "put" | "bulk-put" | "bulk-delete" | "list";

export type Fault =
  | {
      readonly kind: "status";
      readonly status: number;
      readonly applied?: boolean;
      readonly retryAfter?: string;
    }
  /** The connection is cut without an answer. */
  | { readonly kind: "cut"; readonly applied?: boolean }
  /** No answer ever comes. */
  | { readonly kind: "hang"; readonly applied?: boolean }
  | { readonly kind: "slow"; readonly ms: number }
  /** A value that is not the present one: reads are only eventually consistent. */
  | { readonly kind: "answer"; readonly body: string }
  /** Of a bulk call, keys at even places are left undone and named. */
  | { readonly kind: "partial" }
  /** 200 with something that is no JSON. */
  | { readonly kind: "nonsense"; readonly applied?: boolean };

export interface RequestSeen {
  readonly operation: Operation;
  /** Keys that the request names. */
  readonly keys: readonly string[];
}

export interface KvServer {
  readonly baseUrl: string;
  readonly namespaceId: string;
  readonly token: string;
  /** What stands in the namespace. */
  readonly store: Map<string, string>;
  /** Every request that came, in order. */
  readonly seen: RequestSeen[];
  /** Called for each request; `undefined` lets it pass. */
  fault: (request: RequestSeen) => Fault | undefined;
  readonly close: () => Promise<void>;
}

const MAX_BULK = 10_000;

export async function startKvServer(): Promise<KvServer> {
  const namespaceId = "0f2ac74b498b48028cb68387c421e279";
  const token = "test-token";
  const store = new Map<string, string>();
  const seen: RequestSeen[] = [];
  const prefix = `/client/v4/accounts/account/storage/kv/namespaces/${namespaceId}`;

  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await textOf(request);
    if (request.headers.authorization !== `Bearer ${token}`)
      return send(response, 403, failure(10000, "Authentication error"));
    const url = new URL(request.url ?? "/", "http://kv.invalid");
    if (!url.pathname.startsWith(prefix)) return send(response, 404, failure(10013, "namespace not found"));
    const path = url.pathname.slice(prefix.length);
    const effect = operationOf(request.method ?? "", path, url, body);
    if (effect === undefined) return send(response, 405, failure(10405, "method not allowed"));
    const what = { operation: effect.operation, keys: effect.keys };
    seen.push(what);
    const fault = kv.fault(what);
    switch (fault?.kind) {
      case undefined:
        return effect.apply(response);
      case "slow":
        await new Promise((resolve) => setTimeout(resolve, fault.ms));
        return effect.apply(response);
      case "partial":
        return effect.apply(response, (_, at) => at % 2 === 0);
      case "status":
        if (fault.applied) effect.apply(undefined);
        return send(response, fault.status, failure(10500, "injected"), fault.retryAfter);
      case "nonsense":
        if (fault.applied) effect.apply(undefined);
        response.end("<html>sorry</html>");
        return;
      case "answer":
        response.end(fault.body);
        return;
      case "cut":
        if (fault.applied) effect.apply(undefined);
        request.socket.destroy();
        return;
      case "hang":
        if (fault.applied) effect.apply(undefined);
        return;
    }
  };

  /** What a request asks for; applying it answers if there is somebody to answer. */
  interface Effect extends RequestSeen {
    readonly apply: (
      response: ServerResponse | undefined,
      fails?: (key: string, at: number) => boolean,
    ) => void;
  }

  const operationOf = (method: string, path: string, url: URL, body: string): Effect | undefined => {
    if (path.startsWith("/values/")) {
      const key = decodeURIComponent(path.slice("/values/".length));
      if (method === "GET") {
        return {
          operation: "get",
          keys: [key],
          apply: (response) => {
            const value = store.get(key);
            if (value === undefined) send(response, 404, failure(10009, "get: 'key not found'"));
            else response?.end(value);
          },
        };
      }
      if (method !== "PUT") return undefined;
      return {
        operation: "put",
        keys: [key],
        apply: (response) => {
          store.set(key, body);
          send(response, 200, success(null));
        },
      };
    }
    if (path === "/keys" && method === "GET") {
      const start = url.searchParams.get("prefix") ?? "";
      const limit = Number(url.searchParams.get("limit") ?? 1_000);
      const from = Number(url.searchParams.get("cursor") ?? 0);
      return {
        operation: "list",
        keys: [],
        apply: (response) => {
          const names = [...store.keys()].filter((name) => name.startsWith(start)).sort();
          const page = names.slice(from, from + limit).map((name) => ({ name }));
          const cursor = from + limit < names.length ? String(from + limit) : "";
          send(response, 200, { ...success(page), result_info: { count: page.length, cursor } });
        },
      };
    }
    if (path === "/bulk" && method === "PUT") {
      const pairs = JSON.parse(body) as { key: string; value: string }[];
      return bulk(
        "bulk-put",
        pairs.map(({ key }) => key),
        (at) => store.set(pairs[at]?.key ?? "", pairs[at]?.value ?? ""),
      );
    }
    if (path === "/bulk/delete" && method === "POST") {
      const keys = JSON.parse(body) as string[];
      return bulk("bulk-delete", keys, (at) => store.delete(keys[at] ?? ""));
    }
    return undefined;
  };

  const bulk = (operation: Operation, keys: readonly string[], one: (at: number) => void): Effect => ({
    operation,
    keys,
    apply: (response, fails = () => false) => {
      if (keys.length > MAX_BULK) return send(response, 400, failure(10015, "too many keys"));
      const unsuccessful_keys: string[] = [];
      keys.forEach((key, at) => {
        if (fails(key, at)) unsuccessful_keys.push(key);
        else one(at);
      });
      send(
        response,
        200,
        success({ successful_key_count: keys.length - unsuccessful_keys.length, unsuccessful_keys }),
      );
    },
  });

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const kv: KvServer = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/client/v4/accounts/account`,
    namespaceId,
    token,
    store,
    seen,
    fault: () => undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return kv;
}

function success(result: unknown): Record<string, unknown> {
  return { success: true, errors: [], messages: [], result };
}

function failure(code: number, message: string): Record<string, unknown> {
  return { success: false, errors: [{ code, message }], messages: [], result: null };
}

function send(
  response: ServerResponse | undefined,
  status: number,
  body: unknown,
  retryAfter?: string,
): void {
  response?.writeHead(status, {
    "content-type": "application/json",
    ...(retryAfter === undefined ? {} : { "retry-after": retryAfter }),
  });
  response?.end(JSON.stringify(body));
}

async function textOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
