/**
 * A small client of Workers KV over HTTP: five calls, no SDK.
 *
 * The base URL already holds the account prefix, so Cloudflare's API
 * (`https://api.cloudflare.com/client/v4/accounts/ID`) and the local explorer of `wrangler dev`
 * (`http://127.0.0.1:8787/cdn-cgi/local/explorer/api`) are the same to it.
 *
 * Every call is one attempt with a time-out; a failure is a `KvError` that says whether and when another
 * attempt makes sense. Waiting and repeating belong to `publisher.ts`, in one place. Two exceptions belong
 * here, because only here is known what they mean: keys that a bulk call did not write are sent again, and
 * after a 429 no call leaves until the lock-out is over, as Cloudflare blocks the whole token for 5 minutes
 * and every further call would be wasted.
 */

import { z } from "zod";
import { KvError, type KvErrorKind } from "./kv-error.ts";

/** Limits of one bulk call (Cloudflare: 10 000 pairs and 100 MB); we stay far below the bytes to bound memory and time. */
const MAX_BULK_KEYS = 10_000;
const MAX_BULK_BYTES = 16 * 1024 * 1024;
const LIST_PAGE = 1_000;

/** How often the rest of a bulk call is sent as a bulk again before its keys are sent one by one. */
const BULK_ROUNDS = 2;

/** Cloudflare's lock-out, for a 429 that does not say how long (fundamentals/api/reference/limits). */
const DEFAULT_LOCK_OUT_MS = 5 * 60_000;

export interface KvClientOptions {
  /** Without trailing slash; see the module's header. */
  readonly baseUrl: string;
  readonly namespaceId: string;
  /** API token, sent as bearer token; the local explorer needs none. */
  readonly token?: string | undefined;
  /** For one call; 30 000 by default. */
  readonly timeoutMs?: number | undefined;
  /** Awaited before every call, to keep a budget; may throw a `KvError`. */
  readonly beforeCall?: ((call: KvCall) => Promise<void>) | undefined;
  /** Told after every call that left, for metrics. */
  readonly onCall?: ((call: KvCall, outcome: KvOutcome, durationMs: number) => void) | undefined;
  /** Milliseconds of a clock that only goes forward; `performance.now` by default. */
  readonly now?: (() => number) | undefined;
}

export interface KvCall {
  readonly kind: "get" | "put" | "bulk-put" | "bulk-delete" | "list";
  /** Keys that the call writes or deletes: what Cloudflare counts and bills. */
  readonly writes: number;
}

export type KvOutcome = "ok" | KvErrorKind;

/** All methods reject with `KvError` only. */
export interface KvClient {
  /** The value as text; `undefined` when there is none. */
  readonly get: (key: string) => Promise<string | undefined>;
  readonly put: (key: string, value: string) => Promise<void>;
  /** Writes all pairs or rejects; some may be written then. */
  readonly putAll: (pairs: ReadonlyMap<string, string>) => Promise<void>;
  /** Deletes all keys or rejects; missing ones count as deleted. */
  readonly deleteAll: (keys: readonly string[]) => Promise<void>;
  /** The names of all keys with the prefix. */
  readonly list: (prefix: string) => Promise<readonly string[]>;
}

const envelope = z.object({
  success: z.boolean(),
  errors: z.array(z.object({ code: z.number().optional(), message: z.string().optional() })).nullish(),
});
const bulkResult = z.object({
  result: z.object({ unsuccessful_keys: z.array(z.string()).nullish() }).nullish(),
});
const listResult = z.object({
  result: z.array(z.object({ name: z.string() })),
  result_info: z.object({ cursor: z.string().nullish() }).nullish(),
});

export function createKvClient(options: KvClientOptions): KvClient {
  const {
    namespaceId,
    token,
    timeoutMs = 30_000,
    beforeCall,
    onCall = () => {},
    now = () => performance.now(),
  } = options;
  const root = `${options.baseUrl.replace(/\/+$/, "")}/storage/kv/namespaces/${encodeURIComponent(namespaceId)}`;
  let lockedUntilMs = 0;

  const call = async (
    what: KvCall,
    method: string,
    path: string,
    body?: string,
  ): Promise<string | undefined> => {
    const waitMs = lockedUntilMs - now();
    if (waitMs > 0) {
      throw new KvError("rate-limited", `KV calls are locked out for another ${seconds(waitMs)}`, {
        retryAfterMs: waitMs,
      });
    }
    await beforeCall?.(what);
    const startedMs = performance.now();
    let outcome: KvOutcome = "ok";
    try {
      return await attempt(what, method, path, body);
    } catch (error) {
      outcome = error instanceof KvError ? error.kind : "network";
      throw error;
    } finally {
      onCall(what, outcome, performance.now() - startedMs);
    }
  };

  /** One attempt. The body is read here too, so that the time-out covers it. */
  const attempt = async (
    what: KvCall,
    method: string,
    path: string,
    body?: string,
  ): Promise<string | undefined> => {
    let status: number;
    let text: string;
    let headers: Headers;
    try {
      const response = await fetch(`${root}${path}`, {
        method,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined
            ? {}
            : { "content-type": what.kind === "put" ? "text/plain" : "application/json" }),
        },
        ...(body === undefined ? {} : { body }),
        signal: AbortSignal.timeout(timeoutMs),
        redirect: "error",
      });
      ({ status, headers } = response);
      text = await response.text();
    } catch (error) {
      throw transportError(error, method, path, timeoutMs);
    }
    if (status === 404 && what.kind === "get") return undefined;
    if (status === 429) {
      const retryAfterMs = retryAfter(headers) ?? DEFAULT_LOCK_OUT_MS;
      lockedUntilMs = now() + retryAfterMs;
      throw new KvError(
        "rate-limited",
        `KV answered 429 to ${method} ${path}; next attempt in ${seconds(retryAfterMs)}`,
        { status, retryAfterMs },
      );
    }
    if (status < 200 || status > 299) {
      const kind = status >= 500 || status === 408 ? "unavailable" : "refused";
      throw new KvError(kind, `KV answered ${status} to ${method} ${path}${errorsIn(text)}`, { status });
    }
    return text;
  };

  const callJson = async <T>(
    schema: z.ZodType<T>,
    what: KvCall,
    method: string,
    path: string,
    body?: string,
  ): Promise<T> => {
    const text = (await call(what, method, path, body)) ?? "";
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw new KvError(
        "unavailable",
        `KV answered ${method} ${path} with something that is no JSON: ${excerpt(text)}`,
      );
    }
    const checked = envelope.safeParse(value);
    if (!checked.success)
      throw new KvError(
        "unavailable",
        `KV answered ${method} ${path} without its envelope: ${excerpt(text)}`,
      );
    if (!checked.data.success) throw new KvError("refused", `KV refused ${method} ${path}${errorsIn(text)}`);
    const parsed = schema.safeParse(value);
    if (!parsed.success)
      throw new KvError(
        "unavailable",
        `KV answered ${method} ${path} with an unknown result: ${excerpt(text)}`,
      );
    return parsed.data;
  };

  const put = async (key: string, value: string): Promise<void> => {
    await callJson(envelope, { kind: "put", writes: 1 }, "PUT", `/values/${encodeURIComponent(key)}`, value);
  };

  /** One bulk call; the keys that it left undone. */
  const bulk = async (
    what: KvCall,
    method: string,
    path: string,
    body: unknown,
  ): Promise<readonly string[]> => {
    const { result } = await callJson(bulkResult, what, method, path, JSON.stringify(body));
    return result?.unsuccessful_keys ?? [];
  };

  const putBulk = async (pairs: ReadonlyMap<string, string>): Promise<void> => {
    let rest = pairs;
    for (let round = 0; round < BULK_ROUNDS && rest.size > 0; round++) {
      const body = [...rest].map(([key, value]) => ({ key, value }));
      const failed = new Set(await bulk({ kind: "bulk-put", writes: rest.size }, "PUT", "/bulk", body));
      rest = new Map([...rest].filter(([key]) => failed.has(key)));
    }
    for (const [key, value] of rest) await put(key, value);
  };

  return {
    put,
    get: (key) => call({ kind: "get", writes: 0 }, "GET", `/values/${encodeURIComponent(key)}`),
    putAll: async (pairs) => {
      for (const chunk of chunks(pairs)) await putBulk(chunk);
    },
    deleteAll: async (keys) => {
      for (let from = 0; from < keys.length; from += MAX_BULK_KEYS) {
        let rest = keys.slice(from, from + MAX_BULK_KEYS);
        for (let round = 0; rest.length > 0; round++) {
          const failed = new Set(
            await bulk({ kind: "bulk-delete", writes: rest.length }, "POST", "/bulk/delete", rest),
          );
          rest = rest.filter((key) => failed.has(key));
          if (rest.length > 0 && round >= BULK_ROUNDS) {
            throw new KvError("unavailable", `KV left ${rest.length} keys undeleted, ${rest[0]} among them`);
          }
        }
      }
    },
    list: async (prefix) => {
      const names: string[] = [];
      let cursor: string | undefined;
      do {
        const query = new URLSearchParams({
          prefix,
          limit: String(LIST_PAGE),
          ...(cursor === undefined ? {} : { cursor }),
        });
        const page = await callJson(listResult, { kind: "list", writes: 0 }, "GET", `/keys?${query}`);
        for (const { name } of page.result) names.push(name);
        const next: string | undefined = page.result_info?.cursor || undefined;
        if (next !== undefined && next === cursor)
          throw new KvError("unavailable", "KV answered a list with the same cursor twice");
        cursor = next;
      } while (cursor !== undefined);
      return names;
    },
  };
}

function* chunks(pairs: ReadonlyMap<string, string>): Generator<ReadonlyMap<string, string>> {
  let chunk = new Map<string, string>();
  let bytes = 0;
  for (const [key, value] of pairs) {
    if (chunk.size > 0 && (chunk.size === MAX_BULK_KEYS || bytes + value.length > MAX_BULK_BYTES)) {
      yield chunk;
      chunk = new Map();
      bytes = 0;
    }
    chunk.set(key, value);
    bytes += value.length;
  }
  if (chunk.size > 0) yield chunk;
}

function transportError(error: unknown, method: string, path: string, timeoutMs: number): KvError {
  const name = error instanceof Error ? error.name : "";
  if (name === "TimeoutError")
    return new KvError("timeout", `KV did not answer ${method} ${path} within ${seconds(timeoutMs)}`, {
      cause: error,
    });
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
  return new KvError("network", `KV was not reached for ${method} ${path}: ${cause}`, { cause: error });
}

/** RFC 9110 §10.2.3: seconds or a date. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after");
  if (value === null) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1_000;
  const dateMs = Date.parse(value);
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - Date.now());
}

function errorsIn(text: string): string {
  try {
    const checked = envelope.safeParse(JSON.parse(text));
    const errors = checked.success ? (checked.data.errors ?? []) : [];
    if (errors.length > 0)
      return `: ${errors.map(({ code, message }) => `${message ?? "no message"} (code ${code ?? "none"})`).join(", ")}`;
  } catch {
    // A proxy's HTML page, most likely; its beginning says enough.
  }
  return text === "" ? "" : `: ${excerpt(text)}`;
}

function excerpt(text: string): string {
  return JSON.stringify(text.slice(0, 120));
}

function seconds(ms: number): string {
  return `${Math.round(ms / 100) / 10} s`;
}
