/** How `fairlead gateway follow` is: `/healthz` (there is a configuration), `/readyz` (it is the newest one), `/metrics`. */

import { isIP } from "node:net";
import { listen } from "../control/listen.ts";
import { createMetrics } from "../control/metrics.ts";
import type { FollowOutcome } from "../gateway/haproxy/follower.ts";

export interface GatewayStatus {
  /** A configuration is installed with which HAProxy can start. */
  readonly ready: () => void;
  readonly brought: (outcome: FollowOutcome) => void;
  readonly close: () => Promise<void>;
}

/** `address` as `:8082` or `IP:PORT`. `sourceProblem` is one sentence. Rejects when the address cannot be had. */
export async function createGatewayStatus(
  address: string,
  sourceProblem: () => string | undefined,
): Promise<GatewayStatus> {
  const metrics = createMetrics();
  let isReady = false;
  let last: FollowOutcome | undefined;
  let changedAtSeconds: number | undefined;
  const changes = metrics.counter(
    "fairlead_gateway_changes_total",
    "Changes that HAProxy has taken, by how: servers (in place), reload.",
  );
  const refusals = metrics.counter(
    "fairlead_gateway_refusals_total",
    "Configurations that HAProxy has refused; the last good one stayed.",
  );
  const gauge = (name: string, help: string, read: () => boolean): void =>
    metrics.gauge(name, help, () => [[{}, read() ? 1 : 0]]);
  gauge(
    "fairlead_gateway_refused",
    "1 while the newest configuration is refused.",
    () => last?.kind === "refused",
  );
  gauge(
    "fairlead_gateway_haproxy_connected",
    "1 while HAProxy's master answers.",
    () => last !== undefined && last.kind !== "installed",
  );
  gauge(
    "fairlead_gateway_source_connected",
    "1 while the cluster or its manifests can be followed.",
    () => sourceProblem() === undefined,
  );
  metrics.gauge(
    "fairlead_gateway_changed_timestamp_seconds",
    "When HAProxy has taken the last change.",
    () => (changedAtSeconds === undefined ? [] : [[{}, changedAtSeconds]]),
  );

  const problem = (): string | undefined => {
    if (!isReady) return "No configuration has been written yet.";
    if (last?.kind === "refused") return `The newest configuration is refused: ${last.reason}.`;
    if (last?.kind === "installed") return `HAProxy does not answer: ${last.reason}.`;
    return sourceProblem();
  };
  const page = (status: number, text: string): Response =>
    new Response(text, { status, headers: { "content-type": "text/plain; charset=utf-8" } });
  const { host, port } = placeOf(address);
  const listening = await listen(
    (request) => {
      switch (new URL(request.url).pathname) {
        case "/healthz":
          return isReady ? page(200, "ok\n") : page(503, `${problem()}\n`);
        case "/readyz": {
          const why = problem();
          return why === undefined ? page(200, "ok\n") : page(503, `${why}\n`);
        }
        case "/metrics":
          return page(200, metrics.text());
        default:
          return page(404, "Here are /healthz, /readyz and /metrics.\n");
      }
    },
    { host, port },
  );
  return {
    ready: () => {
      isReady = true;
    },
    brought: (outcome) => {
      if (outcome.kind === "servers" || outcome.kind === "reload") {
        changes.add(1, { by: outcome.kind });
        changedAtSeconds = Date.now() / 1_000;
      }
      if (outcome.kind === "refused" && last?.kind !== "refused") refusals.add(1);
      // That nothing was to be done, or not yet, says nothing new about how it is.
      if (outcome.kind !== "unchanged" || last?.kind === "refused") last = outcome;
    },
    close: () => listening.close(),
  };
}

function placeOf(address: string): { readonly host: string; readonly port: number } {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replaceAll(/[[\]]/g, "");
  return { host: isIP(host) === 0 ? "::" : host, port: Number(address.slice(at + 1)) };
}
