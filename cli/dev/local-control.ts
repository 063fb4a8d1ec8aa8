/**
 * The control API of `fairlead dev`: what this edge was made of, why a request goes where it goes, and earlier generations.
 *
 * The API is the control service's own; this is its view of one cluster that comes from files. Nothing can be pushed here.
 */

import { createControlApi, DEFAULT_MAX_BODY_BYTES } from "../../control/api.ts";
import type { Publisher } from "../../control/kv/publisher.ts";
import { type Listening, listen } from "../../control/listen.ts";
import type { CompiledManifests } from "./manifest-pipeline.ts";
import { portFailure } from "./ports.ts";

/** How the files' cluster is called in answers. */
export const CLUSTER = "local";

export interface LocalControlOptions {
  readonly host: string;
  readonly port: number;
  readonly publisher: Publisher;
  readonly current: () => CompiledManifests;
  /** False until the edge answers from the loaded configuration. */
  readonly isReady: () => boolean;
  readonly onBug: (error: unknown) => void;
}

export async function startLocalControl(options: LocalControlOptions): Promise<Listening> {
  const { host, port, publisher, current } = options;
  const api = createControlApi({
    view: {
      edge: () => {
        const { config, diagnostics } = current();
        return {
          config,
          hosts: new Map(Object.entries(config.hosts)),
          backends: new Map(Object.entries(config.backends)),
          clusters: [CLUSTER],
          diagnostics: diagnostics.map((diagnostic) => ({ ...diagnostic, cluster: CLUSTER })),
        };
      },
      clusters: () => [{ name: CLUSTER, receivedAtMs: current().readAtMs, model: current().model }],
      publisher,
      settled: () => publisher.settled(),
      notReady: () => (options.isReady() ? undefined : "The edge is starting."),
    },
    tokens: { clusters: new Map() },
    maxBodyBytes: DEFAULT_MAX_BODY_BYTES,
    loopbackOnly: true,
    onBug: options.onBug,
  });
  try {
    return await listen(api.fetch, { host, port });
  } catch (error) {
    throw portFailure(error as NodeJS.ErrnoException, host, port, "--control-port");
  }
}
