/**
 * The edge: one for each isolate. `answer` is the path of a request, step by step.
 *
 * In: a request. Out: an answer, always; the one thing that throws is a bug. Not here: what filters do
 * (`filters/`), how the configuration arrives (`config-store.ts`), how pods are reached (`origin/`).
 */

import type { LimitEnforcementPolicy } from "../edge-config/features/rate-limit.ts";
import { BackendPools } from "./balance/backend-pools.ts";
import { ConfigStore, type HostAnswer } from "./config-store.ts";
import { type Environment, readSettings, type Settings } from "./environment.ts";
import { errorPage, redirectPage } from "./error-page.ts";
import { Exchange } from "./exchange.ts";
import type { HostTable } from "./host-table.ts";
import { createLimiter } from "./limits/create-limiter.ts";
import type { RequestLimiter } from "./limits/limiter.ts";
import { createTransport } from "./origin/create-transport.ts";
import { clientResponse, untouchedResponse } from "./origin/headers.ts";
import { forward } from "./origin/origin.ts";
import type { Transport } from "./origin/transport.ts";
import { encodePath, normalisePath } from "./path.ts";
import {
  buildDefaultPipeline,
  type HostPipeline,
  type RoutePipeline,
  runRequestHooks,
  runResponseHooks,
} from "./pipeline.ts";
import { type RequestTarget, readRequestTarget } from "./request-target.ts";
import { Visit } from "./visit.ts";

const DEFAULT_ENFORCEMENT: LimitEnforcementPolicy = { mode: "global", ipv6PrefixLength: 64, headers: false };

export class Edge {
  readonly settings: Settings;
  readonly store: ConfigStore;
  readonly transport: Transport;
  readonly #limiters: Environment["LIMITER"];
  #limiter: { readonly enforcement: LimitEnforcementPolicy; readonly limiter: RequestLimiter } | undefined;
  /** The first request of the isolate; before it the clock stands still. */
  readonly startedAt: number = Date.now();

  /** Throws `SettingError` where the environment cannot be used. */
  constructor(environment: Environment) {
    this.settings = readSettings(environment);
    this.transport = createTransport(this.settings.transport, environment.VPC);
    this.store = new ConfigStore(environment, this.settings, new BackendPools());
    this.#limiters = environment.LIMITER;
  }

  get limitEnforcement(): LimitEnforcementPolicy {
    return this.store.policies?.limitEnforcement ?? DEFAULT_ENFORCEMENT;
  }

  /** Made when the first route with a limit is asked for, and again when the mode changes. */
  get limiter(): RequestLimiter {
    const enforcement = this.limitEnforcement;
    if (this.#limiter?.enforcement.mode !== enforcement.mode) {
      this.#limiter = { enforcement, limiter: createLimiter(this.#limiters, enforcement) };
    }
    return this.#limiter.limiter;
  }

  /** Cloudflare writes `Server` and `Date` itself; elsewhere we do, as every server should (RFC 9110 §6.6.1, §10.2.4). */
  answer(request: Request, context: ExecutionContext): Promise<Response> {
    const answer = this.#route(request, context);
    const { serverHeader } = this.settings;
    return serverHeader === undefined
      ? answer
      : answer.then((response) => withServer(response, serverHeader));
  }

  /**
   * From the request to its host, path and route. What need not wait does not: a promise within a promise costs
   * every request, so these steps hand on the promise of the next.
   */
  #route(request: Request, context: ExecutionContext): Promise<Response> {
    const target = readRequestTarget(request.url);
    const path = target && normalisePath(target.rawPath);
    if (target === undefined || path === undefined) return Promise.resolve(errorPage(400));
    const host = this.store.host(target.host, context);
    return host instanceof Promise
      ? host.then((found) => this.#enter(request, target, path, found, context))
      : this.#enter(request, target, path, host, context);
  }

  /** From the host to its path, and through the host's hooks. */
  #enter(
    request: Request,
    target: RequestTarget,
    path: string,
    host: HostAnswer,
    context: ExecutionContext,
  ): Promise<Response> {
    if (host === "unavailable") return Promise.resolve(errorPage(503));
    if (host === undefined) return Promise.resolve(errorPage(404));
    if (host.config.denied !== undefined) return Promise.resolve(errorPage(403));
    const { pipeline } = host;
    return pipeline === undefined
      ? this.#match(request, target, path, host, context)
      : this.#filterHost(new Visit(request, target, path, host, this, context), pipeline);
  }

  async #filterHost(visit: Visit, pipeline: HostPipeline): Promise<Response> {
    const { request, target, path, host, context } = visit;
    const answer =
      (await runRequestHooks(pipeline, visit)) ?? (await this.#match(request, target, path, host, context));
    return runResponseHooks(pipeline, answer, visit);
  }

  /** From the path to its route, and through the route's filters. */
  #match(
    request: Request,
    target: RequestTarget,
    path: string,
    host: HostTable,
    context: ExecutionContext,
  ): Promise<Response> {
    const match = host.find(path);
    if (match === undefined) return Promise.resolve(errorPage(404));
    const { entry } = match;
    if (entry.route.denied !== undefined) return Promise.resolve(errorPage(503));
    if (match.kind === "trailingSlash") {
      const location = `${target.scheme}://${target.host}${encodePath(path)}/${target.query}`;
      return Promise.resolve(redirectPage(301, location));
    }
    const exchange = new Exchange(request, target, path, host, entry, this, context);
    const pipeline =
      entry.pipeline ?? (exchange.body === null ? undefined : buildDefaultPipeline(host, entry));
    return pipeline === undefined ? this.#pass(exchange) : this.#filter(exchange, pipeline);
  }

  /** A route that asks for nothing: the answer is as it came, unless the host has hooks that may change it. */
  async #pass(exchange: Exchange): Promise<Response> {
    const answer = await forward(exchange, this.transport);
    if (exchange.answeredBy !== "origin") return answer;
    return exchange.host.pipeline === undefined ? untouchedResponse(answer) : clientResponse(answer);
  }

  async #filter(exchange: Exchange, pipeline: RoutePipeline): Promise<Response> {
    let answer = await runRequestHooks(pipeline, exchange);
    if (answer === undefined) {
      answer = await forward(exchange, this.transport);
      if (exchange.answeredBy === "origin") answer = clientResponse(answer);
    } else {
      exchange.answeredBy = "filter";
    }
    return runResponseHooks(pipeline, answer, exchange);
  }
}

function withServer(response: Response, server: string): Response {
  if (response.status === 101) return response;
  const answer = new Response(response.body, response); // The pod's own cannot be changed.
  answer.headers.set("Server", server);
  answer.headers.set("Date", new Date().toUTCString());
  return answer;
}
