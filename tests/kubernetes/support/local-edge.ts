/** The edge on this machine: the real Worker in workerd over the real local KV, pods answered for by `PodNetwork`. */

import { request as httpRequest } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";
import { loadWorker } from "../../../cli/dev/worker-bundle.ts";
import { startWorkerRuntime, type WorkerRuntime } from "../../../cli/dev/worker-runtime.ts";
import { KvProxy } from "./kv-proxy.ts";
import { GATEWAY_KEYS, type PodAnswer, PodNetwork } from "./pod-network.ts";

export const CONFIG_KEY = "k".repeat(32);

export interface EdgeAnswer {
  readonly status: number;
  readonly text: string;
  /** The address of the pod that answered; `undefined`: the edge itself did. */
  readonly pod: string | undefined;
}

export class LocalEdge {
  readonly kv: KvProxy;
  readonly kvNamespaceId: string;
  readonly #runtime: WorkerRuntime;
  readonly #pods: PodNetwork;

  private constructor(runtime: WorkerRuntime, pods: PodNetwork, kv: KvProxy) {
    this.#runtime = runtime;
    this.#pods = pods;
    this.kv = kv;
    this.kvNamespaceId = runtime.kvNamespaceId;
  }

  static async start(): Promise<LocalEdge> {
    const pods = await PodNetwork.start();
    const runtime = await startWorkerRuntime({
      ...(await loadWorker()),
      absoluteTargets: false,
      variables: {
        // Every request looks for a newer configuration first.
        REFRESH_SECONDS: "0",
        MAX_STALE_SECONDS: "0",
        STATUS: "on",
        ORIGIN_TRANSPORT: "gateway",
        GATEWAY_URL: pods.url,
        FAIRLEAD_GATEWAY_KEYS: GATEWAY_KEYS,
        FAIRLEAD_CONFIG_KEY: CONFIG_KEY,
      },
      onLine: () => {},
    });
    return new LocalEdge(runtime, pods, await KvProxy.start(runtime.kvBaseUrl));
  }

  async get(host: string, path = "/", headers: Readonly<Record<string, string>> = {}): Promise<EdgeAnswer> {
    const answer = await new Promise<{ readonly status: number; readonly body: string }>(
      (resolve, reject) => {
        httpRequest(
          { host: "127.0.0.1", port: this.#runtime.port, path, headers: { ...headers, host } },
          (response) => {
            text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
          },
        )
          .on("error", reject)
          .end();
      },
    );
    return { status: answer.status, text: answer.body, pod: podOf(answer.body) };
  }

  /** Which pods answer, of enough requests to meet every one of a few. */
  async pods(host: string): Promise<readonly string[]> {
    const seen = new Set<string>();
    for (let request = 0; request < 12; request++) {
      const { pod } = await this.get(host);
      if (pod !== undefined) seen.add(pod);
    }
    return [...seen].sort();
  }

  async stop(): Promise<void> {
    await this.kv.stop();
    await this.#runtime.close();
    await this.#pods.stop();
  }
}

/** Asks until the answer is right; what came last is told when the test's time is over. */
export async function eventually<T>(
  ask: () => Promise<T>,
  isRight: (value: T) => boolean,
  seconds = 30,
): Promise<T> {
  const deadline = performance.now() + seconds * 1_000;
  for (;;) {
    let last: T | Error;
    try {
      last = await ask();
      if (isRight(last)) return last;
    } catch (error) {
      last = error as Error;
    }
    if (performance.now() > deadline)
      throw new Error(
        `not right after ${seconds} s: ${last instanceof Error ? last.message : JSON.stringify(last)}`,
      );
    await wait(25);
  }
}

function podOf(body: string): string | undefined {
  try {
    return (JSON.parse(body) as Partial<PodAnswer>).pod;
  } catch {
    return undefined;
  }
}
