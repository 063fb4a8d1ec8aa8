/**
 * The gateways under test. Each keeps the same contract (`gateway/README.md`), so `contract.test.ts` runs the
 * same tests against each of them.
 */

import { parseTokenKeys } from "../../edge-config/gateway-token.ts";
import type { TlsSecret } from "../../gateway/dial.ts";
import { startGateway } from "../../gateway/server.ts";
import { haveHaproxy, startHaproxy } from "./haproxy.ts";

export interface GatewayOptions {
  /** As `FAIRLEAD_GATEWAY_KEYS`. */
  readonly keys: string;
  readonly allowedCidrs: readonly string[];
  /** The pods of these tests are on loopback. */
  readonly allowLoopback: boolean;
  readonly connectTimeoutMs: number;
  /** By `namespace/name`. */
  readonly tlsSecrets: ReadonlyMap<string, TlsSecret>;
}

export interface RunningGateway {
  readonly url: string;
  readonly close: () => Promise<void>;
}

export interface GatewayImplementation {
  readonly name: string;
  /** Whether header names keep their spelling; values, repetitions and order always do. */
  readonly keepsSpelling: boolean;
  /** Whether a WebSocket handshake without `Sec-WebSocket-Key` ends at the gateway, with 400. */
  readonly checksWebSocketHandshakes: boolean;
  /** Otherwise its tests count as skipped, which fails `npm test`. */
  readonly isInstalled: boolean;
  readonly start: (options: GatewayOptions) => Promise<RunningGateway>;
}

export const implementations: readonly GatewayImplementation[] = [
  {
    name: "embedded",
    keepsSpelling: true,
    checksWebSocketHandshakes: false,
    isInstalled: true,
    start: ({ keys, tlsSecrets, ...options }) =>
      startGateway({ ...options, keys: parseTokenKeys(keys), tlsSecret: (name) => tlsSecrets.get(name) }),
  },
  {
    name: "HAProxy",
    keepsSpelling: false,
    checksWebSocketHandshakes: true,
    isInstalled: haveHaproxy,
    start: startHaproxy,
  },
];
