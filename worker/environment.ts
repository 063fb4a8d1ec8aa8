/**
 * What the Worker is given: bindings, variables and secrets, as `wrangler.toml` names them.
 *
 * In: the environment. Out: settings with defaults, or one sentence for the operator where a value cannot be
 * used. Read once for an isolate.
 */

import type { Limiter } from "./limits/limiter-object.ts";

export interface Environment {
  /** Immutable shards, by content hash. */
  readonly SHARDS: KVNamespace;
  /** The pointer; may be the same namespace. */
  readonly POINTER: KVNamespace;
  /** The Durable Objects that count for `global` limits; without them each isolate counts for itself. */
  readonly LIMITER?: DurableObjectNamespace<Limiter>;
  readonly ORIGIN_TRANSPORT?: string;
  readonly GATEWAY_URL?: string;
  readonly REFRESH_SECONDS?: string | number;
  readonly MAX_STALE_SECONDS?: string | number;
  /** `on` shows `/.fairlead/status`. */
  readonly STATUS?: string;
  /** `on` writes a line of JSON to the console for each answer. */
  readonly ACCESS_LOG?: string;
  /** The port on which clients reach this edge, for `X-Forwarded-Port`; absent: 443 or 80, by the scheme. */
  readonly LISTEN_PORT?: string | number;
  /**
   * The client's address where neither `CF-Connecting-IP` nor the platform tells one. Only for a socket that nobody but
   * this machine can reach.
   */
  readonly DEFAULT_CLIENT_ADDRESS?: string;
  /** Value of `Server`, where nobody in front writes one; `Date` is written with it. Absent on Cloudflare. */
  readonly SERVER_HEADER?: string;
  /** Opens sealed secrets and checks the pointer's signature. */
  readonly FAIRLEAD_CONFIG_KEY?: string;
  /** `kid:base64,…`: keys of the tokens for the gateway; the first one signs. */
  readonly FAIRLEAD_GATEWAY_KEYS?: string;
  /** A VPC Network binding; with it, `GATEWAY_URL` (or, for `direct`, an endpoint) is reached through the tunnel. */
  readonly VPC?: Fetcher;
}

export interface Settings {
  readonly transport: TransportSettings;
  readonly refreshSeconds: number;
  readonly maxStaleSeconds: number;
  readonly showsStatus: boolean;
  readonly logsAccess: boolean;
  readonly listenPort: string | undefined;
  readonly serverHeader: string | undefined;
  /** Empty: none. */
  readonly defaultClient: string;
}

export type TransportSettings =
  | { readonly kind: "gateway"; readonly url: string; readonly keys: string }
  | { readonly kind: "direct" };

/** A value that an operator must correct. The message is one sentence that names the variable. */
export class SettingError extends Error {
  override readonly name = "SettingError";
}

/** Throws `SettingError`. */
export function readSettings(environment: Environment): Settings {
  return {
    transport: readTransport(environment),
    refreshSeconds: readSeconds(environment, "REFRESH_SECONDS", 10),
    maxStaleSeconds: readSeconds(environment, "MAX_STALE_SECONDS", 300),
    showsStatus: environment.STATUS === "on",
    logsAccess: environment.ACCESS_LOG === "on",
    listenPort: environment.LISTEN_PORT === undefined ? undefined : String(environment.LISTEN_PORT),
    serverHeader: environment.SERVER_HEADER || undefined,
    defaultClient: environment.DEFAULT_CLIENT_ADDRESS ?? "",
  };
}

function readTransport({
  ORIGIN_TRANSPORT,
  GATEWAY_URL,
  FAIRLEAD_GATEWAY_KEYS,
}: Environment): TransportSettings {
  switch (ORIGIN_TRANSPORT ?? "gateway") {
    case "direct":
      return { kind: "direct" };
    case "gateway": {
      const url = GATEWAY_URL === undefined ? null : URL.parse(GATEWAY_URL);
      if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
        throw new SettingError(
          `GATEWAY_URL is ${quote(GATEWAY_URL)}, but with ORIGIN_TRANSPORT "gateway" it must be the URL of the gateway, such as "https://gateway.example.com".`,
        );
      }
      if (!FAIRLEAD_GATEWAY_KEYS) {
        throw new SettingError(
          'FAIRLEAD_GATEWAY_KEYS is not set, but with ORIGIN_TRANSPORT "gateway" it must hold the keys that the gateway knows.',
        );
      }
      return { kind: "gateway", url: url.origin, keys: FAIRLEAD_GATEWAY_KEYS };
    }
    default:
      throw new SettingError(
        `ORIGIN_TRANSPORT is ${quote(ORIGIN_TRANSPORT)}, but "gateway" or "direct" is expected.`,
      );
  }
}

function readSeconds(
  environment: Environment,
  name: "REFRESH_SECONDS" | "MAX_STALE_SECONDS",
  standard: number,
): number {
  const value = environment[name];
  if (value === undefined || value === "") return standard;
  const seconds = Number(value);
  if (!(seconds >= 0 && Number.isFinite(seconds))) {
    throw new SettingError(`${name} is ${quote(String(value))}, but a number of seconds is expected.`);
  }
  return seconds;
}

function quote(value: string | undefined): string {
  return value === undefined ? "not set" : JSON.stringify(value);
}
