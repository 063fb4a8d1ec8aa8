/**
 * The gateways under test. Each keeps the same contract (`gateway/README.md`), so `contract.test.ts` runs the
 * same tests against each of them.
 */

import { parseTokenKeys } from "../../edge-config/gateway-token.ts";
import type { TlsSecret } from "../../gateway/dial.ts";
import { startGateway } from "../../gateway/server.ts";
import { startHaproxy } from "./haproxy.ts";

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
  readonly start: (options: GatewayOptions) => Promise<RunningGateway>;
}

export const implementations: readonly GatewayImplementation[] = [
  {
    name: "embedded",
    keepsSpelling: true,
    start: ({ keys, tlsSecrets, ...options }) =>
      startGateway({ ...options, keys: parseTokenKeys(keys), tlsSecret: (name) => tlsSecrets.get(name) }),
  },
  { name: "HAProxy", keepsSpelling: false, start: startHaproxy },
];
