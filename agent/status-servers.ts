/**
 * The two servers that a node agent has for others: health (10256, for load balancers and probes) and metrics (10249, for
 * Prometheus on the node), at kube-proxy's ports and with its paths.
 *
 * A port that is taken (by a kube-proxy that still runs) is no reason not to program the node: it is told once and tried
 * again until it is free.
 */

import { backoffMs, pause } from "../cluster/watch/backoff.ts";
import type { BackendName } from "./backends/backend.ts";
import { type HttpAnswer, type HttpServer, NOT_FOUND, serveHttp } from "./http-server.ts";
import type { AgentMetrics } from "./metrics.ts";
import type { NodeHealth } from "./node-health.ts";

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface StatusServersOptions {
  readonly health: NodeHealth;
  readonly metrics: AgentMetrics;
  readonly backend: BackendName;
  /** Absent: no server. */
  readonly healthListen?: ListenAddress | undefined;
  readonly metricsListen?: ListenAddress | undefined;
  /** Brings what is only known when it is asked for. */
  readonly beforeMetrics: () => Promise<void>;
  /** For `/configz`. */
  readonly settings: unknown;
  readonly say: (line: string) => void;
}

export interface StatusServers {
  readonly close: () => Promise<void>;
}

const TEXT = { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" } as const;
const RETRY = { firstMs: 500, longestMs: 5_000 } as const;

/** Returns at once; the servers are there when their ports are free. */
export function startStatusServers(options: StatusServersOptions): StatusServers {
  const stop = new AbortController();
  const starts = [
    keepListening("health", options.healthListen, (path) => healthAnswer(path, options)),
    keepListening("metrics", options.metricsListen, (path) => metricsAnswer(path, options)),
  ];

  async function keepListening(
    what: string,
    address: ListenAddress | undefined,
    answer: (path: string) => HttpAnswer | Promise<HttpAnswer>,
  ): Promise<HttpServer | undefined> {
    for (let failures = 0; address !== undefined && !stop.signal.aborted; failures++) {
      try {
        return await serveHttp(address, answer);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (failures === 0)
          options.say(`${what} cannot be served at ${address.host}:${address.port} yet: ${reason}.`);
        await pause(backoffMs(failures, RETRY), stop.signal);
      }
    }
    return undefined;
  }

  return {
    close: async () => {
      stop.abort();
      await Promise.all(starts.map(async (start) => (await start)?.close()));
    },
  };
}

function healthAnswer(path: string, { health, metrics }: StatusServersOptions): HttpAnswer {
  const answer = health.answer(path);
  if (path === "/healthz" || path === "/livez") metrics.probed(path, answer.status);
  return answer;
}

async function metricsAnswer(
  path: string,
  { metrics, backend, beforeMetrics, settings }: StatusServersOptions,
): Promise<HttpAnswer> {
  switch (path) {
    case "/metrics":
      await beforeMetrics();
      return {
        status: 200,
        headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
        body: metrics.registry.text(),
      };
    case "/proxyMode":
      return { status: 200, headers: TEXT, body: backend };
    case "/healthz":
      return { status: 200, headers: TEXT, body: "ok" };
    case "/configz":
      return {
        status: 200,
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ "fairlead.dev": settings }),
      };
    default:
      return NOT_FOUND;
  }
}
